"""A run folder is one process's at a time: its lock, and giving it back."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vmaf_train.corpus.rows import RUNS, SWEEP

from vmaftune.cell import TMP
from vmaftune.errors import FolderError, ToolError, UsageError

if TYPE_CHECKING:
    import filelock

LOCK, HOLDER = ".lock", ".lock.pid"


class Held:
    """A run folder that this process holds; it is free again when this is closed, or the process
    ends, however it ends.
    """

    def __init__(self, folder: Path, held: filelock.BaseFileLock) -> None:
        self._note, self._held = folder / HOLDER, held

    def __enter__(self) -> Held:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Free the folder."""
        if self._held.is_locked:
            with suppress(OSError):
                self._note.unlink(missing_ok=True)
            self._held.release()


def lock(folder: Path) -> Held:
    """Hold a run folder for this process. Raises FolderError when another process holds it, and
    OSError for one that cannot be written.
    """
    import filelock

    held = filelock.FileLock(folder / LOCK, timeout=0, thread_local=False)
    try:
        held.acquire()
    except filelock.Timeout as failure:
        holder = "another process"
        with suppress(OSError, UnicodeDecodeError):
            holder = (folder / HOLDER).read_text(encoding="utf-8").strip() or holder
        raise FolderError(
            f"{folder} is in use by {holder}; wait for it, stop it, or write elsewhere with --out"
        ) from failure
    (folder / HOLDER).write_text(f"process {os.getpid()}", encoding="utf-8")
    return Held(folder, held)


class Hold:
    """Gives a folder back: its lock, and what opening it left if nothing was measured."""

    def __init__(self, folder: Path, holder: Any, *, is_made: bool, is_fresh: bool) -> None:
        self._folder, self._holder = folder, holder
        self._is_made, self._is_fresh = is_made, is_fresh
        self._is_done = False

    @classmethod
    def take(cls, folder: Path) -> Hold:
        """Lock `folder`, made if need be."""
        if folder.exists() and not folder.is_dir():
            raise UsageError(f"{folder} is a file; give a folder with --out")
        is_made, is_fresh = not folder.exists(), not (folder / SWEEP).exists()
        try:
            folder.mkdir(parents=True, exist_ok=True)
            holder = lock(folder)
        except OSError as failure:
            raise ToolError(
                f"{folder} cannot be written ({failure.strerror}); write elsewhere with --out"
            ) from failure
        return cls(folder, holder, is_made=is_made, is_fresh=is_fresh)

    def __call__(self) -> None:
        if self._is_done:
            return
        self._is_done = True
        if self._is_fresh and not (self._folder / RUNS).exists():
            (self._folder / SWEEP).unlink(missing_ok=True)
        self._holder.close()
        if self._is_made and not (self._folder / SWEEP).exists():
            (self._folder / LOCK).unlink(missing_ok=True)
            with suppress(OSError):  # so that nothing hides why we are here
                self._folder.rmdir()


def stale(folder: Path) -> list[Path]:
    """Temporary folders of runs that ended without removing them. The caller holds the folder's
    lock.
    """
    tmp = folder / TMP
    return sorted(p for p in tmp.iterdir()) if tmp.is_dir() else []
