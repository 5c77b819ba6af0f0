"""Where a file came from: command, arguments, inputs with their digests, outputs, versions
(`ai-run-provenance-v1`).
"""

from __future__ import annotations

import platform
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

from vmaf_train.errors import DatasetError
from vmaf_train.files import sha256_file

SCHEMA = "ai-run-provenance-v1"
PACKAGES = (
    "vmaf-tune",
    "numpy",
    "scipy",
    "pandas",
    "pyarrow",
    "torch",
    "onnx",
    "onnxruntime",
    "onnxruntime-gpu",
)
"""Packages that shape the weights or the file."""


def run_provenance(
    *,
    entry_point: str,
    argv: Sequence[str],
    args: Mapping[str, Any],
    inputs: Iterable[Path],
    outputs: Iterable[Path],
) -> dict[str, Any]:
    """The provenance record of one run, ready for JSON.

    `argv` is the command as typed, `args` the options as resolved. Each of `inputs` is a file,
    stored with its size and sha256; a synthetic corpus has none. `outputs` need not exist yet.
    Paths inside the working directory are stored relative to it. Raises DatasetError for an input
    that cannot be read.
    """
    return {
        "schema": SCHEMA,
        "entry_point": entry_point,
        "argv": list(argv),
        "args": {key: _plain(value) for key, value in args.items()},
        "inputs": [_input(path) for path in inputs],
        "outputs": [_short(path) for path in outputs],
        "versions": versions(),
        "created_at": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def versions() -> dict[str, str | None]:
    """Version of Python and of each of `PACKAGES`; None for one that is not installed."""
    found: dict[str, str | None] = {"python": platform.python_version()}
    for name in PACKAGES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            found[name] = None
    return found


def _input(path: Path) -> dict[str, Any]:
    try:
        return {"path": _short(path), "bytes": path.stat().st_size, "sha256": sha256_file(path)}
    except OSError as failure:
        raise DatasetError(f"{path} cannot be read: {failure.strerror or failure}") from failure


def _short(path: Path) -> str:
    """`path` relative to the working directory where it lies inside, else as given; always with
    forward slashes.
    """
    try:
        return path.resolve().relative_to(Path.cwd().resolve()).as_posix()
    except ValueError:
        return path.as_posix()


def _plain(value: Any) -> Any:
    if isinstance(value, Path):
        return _short(value)
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    return value if value is None or isinstance(value, (bool, int, float, str)) else str(value)
