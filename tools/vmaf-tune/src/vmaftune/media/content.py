"""The digest of a file's content: the one step of a film's work that reads all of it, so it shows
how far it is, and is remembered.
"""

from __future__ import annotations

import hashlib
import json
import os
import time
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path

import platformdirs

from vmaftune import console

# Smaller files are read faster than a user wonders, and often made anew under the same name.
REMEMBERED_BYTES = 64 * 2**20
CHUNK_BYTES = 8 * 2**20
# A file that changed just now may change again within the clock's tick.
SETTLED_S = 3.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Stat:
    """What tells that a file is still the one that was read."""

    path: str
    size_bytes: int
    mtime_ns: int
    inode: int


def cache_folder() -> Path:
    """Where this user's programs keep what can be made again."""
    return platformdirs.user_cache_path("vmaf-tune")


def content_sha256(path: str | os.PathLike[str], *, least_bytes: int = REMEMBERED_BYTES) -> str:
    """Hex sha256 of a file's bytes; that of a file of `least_bytes` or more is remembered by path,
    size, time of change and inode. Raises OSError.
    """
    real = os.path.realpath(path)
    found = os.stat(real)
    stat = Stat(path=real, size_bytes=found.st_size, mtime_ns=found.st_mtime_ns, inode=found.st_ino)
    large = stat.size_bytes >= least_bytes
    known = _known(stat) if large else None
    if known:
        return known
    sha256 = _read(stat, shown=large)
    if large and time.time() - stat.mtime_ns / 1e9 > SETTLED_S:
        _remember(stat, sha256)
    return sha256


def _read(stat: Stat, *, shown: bool) -> str:
    digest = hashlib.sha256()
    done = 0
    with open(stat.path, "rb") as file:
        if not shown:
            return hashlib.file_digest(file, "sha256").hexdigest()
        title = f"reading {os.path.basename(stat.path)} (MB)"
        with console.Steps(title, stat.size_bytes // 10**6) as steps:
            while chunk := file.read(CHUNK_BYTES):
                digest.update(chunk)
                done += len(chunk)
                steps.update(done // 10**6)
    return digest.hexdigest()


def _place(stat: Stat) -> Path:
    name = hashlib.sha256(os.fsencode(stat.path)).hexdigest()[:32]
    return cache_folder() / "content" / f"{name}.json"


def _known(stat: Stat) -> str | None:
    """The digest that was remembered of exactly this file; a cache that cannot be read is none."""
    with suppress(OSError, ValueError, TypeError, KeyError, AttributeError):
        kept = json.loads(_place(stat).read_text(encoding="utf-8"))
        if kept["file"] == asdict(stat) and len(kept["sha256"]) == 64:
            return str(kept["sha256"])
    return None


def _remember(stat: Stat, sha256: str) -> None:
    place = _place(stat)
    beside = place.with_suffix(f".{os.getpid()}.tmp")
    with suppress(OSError, ValueError):  # a path that is not UTF-8 is not remembered
        place.parent.mkdir(parents=True, exist_ok=True)
        text = json.dumps({"file": asdict(stat), "sha256": sha256}, indent=1)
        beside.write_text(text, encoding="utf-8")
        os.replace(beside, place)
