"""The user's file appears at its name whole, and takes the place of another only when asked to."""

from __future__ import annotations

import os
from pathlib import Path

from vmaftune.errors import UsageError


def beside(out: Path) -> Path:
    """Where a file is written before it appears at `out`, on the same disk."""
    return out.with_name(f".part-{out.name}")


def check_free(out: Path) -> None:
    """Raise UsageError where something lies at `out`, a broken link included."""
    if os.path.lexists(out):
        raise UsageError(f"{out} exists; name another file, or take its place with --force")


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
