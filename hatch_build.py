"""What the wheel carries besides code: the models that registry.json names, sweeps and schemas;
and the README as a package index shows it.

The places of these files at the top of the repository stay; an editable install finds them there.
"""

from __future__ import annotations

import json
import os
import re
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface
from hatchling.metadata.plugin.interface import MetadataHookInterface

# The page of the repository, such as https://github.com/OWNER/vmaf-tune; `make release` sets it.
REPOSITORY = "VMAF_TUNE_REPOSITORY"
MODELS, SWEEPS, SCHEMAS = "vmaf_train/shipped/tiny", "vmaftune/sweeps", "vmaftune/schemas"


def package_data(root: Path) -> dict[Path, str]:
    """Files of the checkout at `root`, each with its place in the wheel."""
    tiny = root / "model" / "tiny"
    entries = json.loads((tiny / "registry.json").read_text(encoding="utf-8"))["entries"]
    named = {"registry.json", "registry.schema.json"}
    for entry in entries:
        model = Path(entry.get("onnx") or entry["file"])
        named |= {model.name, *(f.name for f in tiny.glob(f"{model.stem}-*.json"))}
    found = {tiny / name: f"{MODELS}/{name}" for name in named}
    for folder, place in (("tools/vmaf-tune/sweeps", SWEEPS), ("schemas", SCHEMAS)):
        files = [f for f in (root / folder).glob("*") if f.suffix in (".toml", ".json")]
        found |= {file: f"{place}/{file.name}" for file in files}
    return found


class CustomBuildHook(BuildHookInterface):
    """Adds the files to a wheel; an editable one needs none."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Called by hatchling before it builds; `version` is "standard" or "editable"."""
        if version != "editable":
            found = package_data(Path(self.root))
            build_data["force_include"] |= {str(file): place for file, place in found.items()}


def absolute(text: str, repository: str) -> str:
    """A page of the repository with whole addresses where its links and pictures name files."""
    text = re.sub(r"(!\[[^]]*]\()(?!\w+:|#)", rf"\1{repository}/raw/main/", text)
    return re.sub(r"(?<!!)(\[[^]!]*]\()(?!\w+:|#)", rf"\1{repository}/blob/main/", text)


class CustomMetadataHook(MetadataHookInterface):
    """Sets the README; an index can follow its links where the repository's address is given."""

    def update(self, metadata: dict[str, Any]) -> None:
        """Called by hatchling when it makes the metadata of a wheel or of the sources."""
        text = (Path(self.root) / "README.md").read_text(encoding="utf-8")
        repository = os.environ.get(REPOSITORY, "").rstrip("/")
        if repository:
            text = absolute(text, repository)
            metadata["urls"] = {"Source": repository}
        metadata["readme"] = {"content-type": "text/markdown", "text": text}
