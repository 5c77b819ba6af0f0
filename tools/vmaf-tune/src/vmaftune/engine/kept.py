"""Encodes that a run folder keeps: what they are called, and the digests that tell whether they are
still what was measured.

`encodes.sha256` has a line for each, as `sha256sum -c` reads it in the folder; of two lines for one
file the last counts.
"""

from __future__ import annotations

import os
import re
from pathlib import Path

from vmaf_train.files import sha256_file

from vmaftune.cell import ENCODES

SUMS = "encodes.sha256"
# Room for the key and the suffix within the 255 bytes of a file's name.
LONGEST_NAME = 200
_LINE = re.compile(rf"([0-9a-f]{{64}}) [ *]{ENCODES}/(.+)")


def kept_file(folder: Path, cell: str, key: str) -> Path:
    """Where the encode of a cell is kept. The key tells apart ids that look the same once no sign
    is left that a shell or a file system minds.
    """
    name = re.sub(r"[^A-Za-z0-9._+-]+", "_", cell)[:LONGEST_NAME]
    return folder / ENCODES / f"{name}-{key[:8]}.mkv"


def keep(made: Path, place: Path) -> None:
    """Move an encode to its place, its digest noted first."""
    place.parent.mkdir(exist_ok=True)
    sha256 = sha256_file(made)
    with (place.parent.parent / SUMS).open("a", encoding="utf-8") as sums:
        sums.write(f"{sha256}  {ENCODES}/{place.name}\n")
        sums.flush()
        os.fsync(sums.fileno())
    os.replace(made, place)


def digests_of(folder: Path) -> dict[str, str]:
    """The noted digest of every kept encode, by file name; none where nothing was kept."""
    file = folder / SUMS
    if not file.is_file():
        return {}
    lines = map(_LINE.fullmatch, file.read_text(encoding="utf-8", errors="replace").splitlines())
    return {line[2]: line[1] for line in lines if line}
