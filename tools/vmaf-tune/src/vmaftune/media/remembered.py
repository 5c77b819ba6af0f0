"""What was found out by reading all of a large file, kept in the user's cache until it changes.

A file is the same while its path, size, time of change and inode are. What is kept can be made
again, so a cache that cannot be read or written is as good as none.
"""

from __future__ import annotations

import hashlib
import os
import time
from contextlib import suppress
from pathlib import Path
from typing import TypeVar

import msgspec
import platformdirs

LEAST_BYTES = 64 * 2**20
"""Smaller files are read faster than a user wonders, and often made anew under the same name."""
# A file that changed just now may change again within the clock's tick.
SETTLED_S = 3.0
T = TypeVar("T")


class Stat(msgspec.Struct, frozen=True, kw_only=True):
    """What tells that a file is still the one that was read."""

    path: str
    size_bytes: int
    mtime_ns: int
    inode: int


def cache_folder() -> Path:
    """Where this user's programs keep what can be made again."""
    return platformdirs.user_cache_path("vmaf-tune")


def stat_of(path: str | os.PathLike[str]) -> Stat:
    """What a file is now. Raises OSError."""
    real = os.path.realpath(path)
    found = os.stat(real)
    return Stat(path=real, size_bytes=found.st_size, mtime_ns=found.st_mtime_ns, inode=found.st_ino)


def recall(what: str, stat: Stat, kind: type[T]) -> T | None:
    """What was kept under the name `what` of exactly this file; None where nothing was."""
    with suppress(OSError, ValueError, TypeError):
        kept = msgspec.json.decode(_place(what, stat).read_bytes(), type=dict[str, msgspec.Raw])
        if msgspec.json.decode(kept["file"], type=Stat) == stat:
            return msgspec.json.decode(kept["value"], type=kind)
    return None


def keep(what: str, stat: Stat, value: object) -> None:
    """Keep `value` of a file, if the file is large and did not change just now."""
    if stat.size_bytes < LEAST_BYTES or time.time() - stat.mtime_ns / 1e9 <= SETTLED_S:
        return
    place = _place(what, stat)
    beside = place.with_suffix(f".{os.getpid()}.tmp")
    with suppress(OSError, ValueError):  # a path that is no UTF-8 is not remembered
        place.parent.mkdir(parents=True, exist_ok=True)
        beside.write_bytes(msgspec.json.encode({"file": stat, "value": value}))
        os.replace(beside, place)


def _place(what: str, stat: Stat) -> Path:
    name = hashlib.sha256(os.fsencode(stat.path)).hexdigest()[:32]
    return cache_folder() / what / f"{name}.json"
