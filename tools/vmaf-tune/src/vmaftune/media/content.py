"""The digest of a file's content. It needs all of the file, so it shows how far it is, and is
remembered.
"""

from __future__ import annotations

import hashlib
import os

from vmaf_train.files import sha256_file

from vmaftune import console
from vmaftune.media import remembered
from vmaftune.media.remembered import Stat, stat_of

WHAT = "content"
CHUNK_BYTES = 8 * 2**20


def content_sha256(path: str | os.PathLike[str], *, shown: bool = True) -> str:
    """Hex sha256 of a file's bytes; that of a large file is remembered, and reading it is `shown`.
    Raises OSError.
    """
    stat = stat_of(path)
    large = stat.size_bytes >= remembered.LEAST_BYTES
    known = remembered.recall(WHAT, stat, str) if large else None
    if known:
        return known
    sha256 = _read(stat, shown=shown and large)
    remembered.keep(WHAT, stat, sha256)
    return sha256


def _read(stat: Stat, *, shown: bool) -> str:
    if not shown:
        return sha256_file(stat.path)
    digest = hashlib.sha256()
    done = 0
    with open(stat.path, "rb") as file:
        title = f"reading {os.path.basename(stat.path)} (MB)"
        with console.Steps(title, stat.size_bytes // 10**6) as steps:
            while chunk := file.read(CHUNK_BYTES):
                digest.update(chunk)
                done += len(chunk)
                steps.update(done // 10**6)
    return digest.hexdigest()
