"""Files that appear whole: written beside their place, flushed to the disk, then renamed into it.

A reader, or a machine that loses power, sees the old file or the new one and never a part.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO


@contextmanager
def whole(path: Path, *, check: Callable[[Path], None] | None = None) -> Iterator[BinaryIO]:
    """A binary file to write, which becomes `path` when the block ends well.

    `check` may look at what was written before it does. An error inside the block, or of `check`,
    leaves `path` as it was, and nothing beside it. Two writers of one
    path must not meet: the caller holds a lock where that can happen.
    """
    beside = path.with_name(path.name + ".tmp")
    try:
        with beside.open("wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        if check is not None:
            check(beside)
        os.replace(beside, path)
    except BaseException:
        beside.unlink(missing_ok=True)
        raise
    sync_folder(path.parent)


def write_bytes(path: Path, data: bytes) -> None:
    """Put `data` at `path`, whole or not at all. Raises OSError."""
    with whole(path) as file:
        file.write(data)


def write_text(path: Path, text: str) -> None:
    """Put `text` at `path` as UTF-8, line ends as they are, whole or not at all. Raises OSError."""
    write_bytes(path, text.encode())


def write_json(path: Path, value: object) -> None:
    """Put `value` at `path` as `json_bytes`, whole or not at all.

    Raises ValueError for NaN or infinity, OSError as `write_bytes`.
    """
    write_bytes(path, json_bytes(value))


def sha256_file(path: str | os.PathLike[str]) -> str:
    """Hex sha256 of a file's bytes. Raises OSError."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def json_bytes(value: object) -> bytes:
    """Readable JSON with a final newline. Raises ValueError for NaN or infinity."""
    return (json.dumps(value, indent=1, ensure_ascii=False, allow_nan=False) + "\n").encode()


def sync_folder(folder: Path) -> None:
    """Make renames in `folder` durable, where the platform can (Windows cannot open a folder)."""
    if os.name != "posix":
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
