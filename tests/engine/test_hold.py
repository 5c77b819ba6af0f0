"""A run folder is one process's at a time."""

from __future__ import annotations

from pathlib import Path

import pytest
from vmaftune.engine.hold import lock
from vmaftune.errors import FolderError


def test_the_lock_names_its_holder_and_ends_with_it(tmp_path: Path) -> None:
    holder = lock(tmp_path)
    with pytest.raises(FolderError, match="is in use by process"):
        lock(tmp_path)
    holder.close()
    lock(tmp_path).close()
