"""The user's file appears at its name whole, and takes the place of another only when asked to."""

from __future__ import annotations

import errno
import hashlib
import os
import tempfile
from pathlib import Path

from vmaftune.errors import ToolError, UsageError

_LONGEST_NAME = 255
"""Bytes of a file's name that every usual file system takes."""


def beside(out: Path, before: str = ".part-", after: str = "") -> Path:
    """Where something is written before `out` appears, on the same disk: `.part-NAME`, and with a
    digest in the name's place where that would be too long.
    """
    name = f"{before}{out.name}{after}"
    if len(os.fsencode(name)) > _LONGEST_NAME:
        short = hashlib.sha256(os.fsencode(out.name)).hexdigest()[:16]
        name = f"{before}{short}{out.suffix}{after}"
    return out.with_name(name)


def check_place(out: Path) -> None:
    """Raise UsageError for a name that no disk takes or a place below a file, and ToolError where
    nothing can be written. Leaves nothing behind.
    """
    try:
        os.lstat(out)
    except OSError as failure:
        if failure.errno == errno.ENAMETOOLONG:
            raise UsageError(f"{out} is too long a name for a file; choose a shorter one") from None
    folder = next(place for place in out.absolute().parents if os.path.lexists(place))
    if not folder.is_dir():
        raise UsageError(f"{out} cannot be made: {folder} is no folder; name another place with -o")
    try:
        with tempfile.TemporaryFile(dir=folder):
            return
    except OSError as failure:
        raise ToolError(
            f"{out} cannot be written ({failure.strerror}); name another place with -o"
        ) from failure


def check_free(out: Path) -> None:
    """Raise UsageError where something lies at `out`, a broken link included."""
    if os.path.lexists(out):
        raise UsageError(f"{out} exists; name another file, or take its place with --force")


def check_other(out: Path, film: Path) -> None:
    """Raise UsageError where `out` is the film itself: an encode of it must not take its place."""
    if out.exists() and film.exists() and out.samefile(film):
        raise UsageError(f"{out} is the film itself and would be lost; name another file with -o")


def appear(part: Path, out: Path, *, force: bool) -> None:
    """Give a finished `part` its name. Without `force` another file is never lost, even one that
    appeared a moment ago.

    Raises UsageError where there is one, OSError where the disk says no.
    """
    if force:
        os.replace(part, out)
        return
    try:
        os.link(part, out)  # fails where something is, in one step
    except FileExistsError as failure:
        raise UsageError(
            f"{out} appeared while it was made; name another file, or take its place with --force:"
            " the same command goes on from what is measured"
        ) from failure
    except OSError:  # a disk without links
        check_free(out)
        os.replace(part, out)
        return
    part.unlink()
