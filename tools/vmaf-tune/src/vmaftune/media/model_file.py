"""A libvmaf model that came as a JSON file, instead of one that is built in."""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import dataclass
from pathlib import Path

from vmaftune.errors import UsageError

NAME = "model.json"
"""What the file is called in the folder that libvmaf works in: its options take no odd names."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelFile:
    """The file, the digest of its bytes, and the `id` that rows name it by."""

    path: Path
    sha256: str

    @property
    def id(self) -> str:
        """Its name with the beginning of its digest: two files of one name are two teachers."""
        stem = re.sub(r"[^A-Za-z0-9._-]+", "_", self.path.stem)[:60]
        return f"{stem}-{self.sha256[:8]}"


def read_model_file(text: str) -> ModelFile | None:
    """The model file that `text` names; None for the name of a built-in model.

    Raises UsageError for a file that is not there, or holds no model.
    """
    if not text.lower().endswith(".json"):
        return None
    path = Path(text)
    try:
        data = path.read_bytes()
    except OSError as failure:
        raise UsageError(
            f"--vmaf-model {text} cannot be read ({failure.strerror}); name a file of libvmaf's, or"
            " a model that is built in, such as vmaf_v0.6.1"
        ) from failure
    try:
        is_model = "model_dict" in json.loads(data)
    except (ValueError, RecursionError, TypeError):
        is_model = False
    if not is_model:
        raise UsageError(f"--vmaf-model {text} is not a libvmaf model: it has no model_dict")
    return ModelFile(path=path, sha256=hashlib.sha256(data).hexdigest())
