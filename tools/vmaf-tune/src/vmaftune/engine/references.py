"""Prepared references on one machine's disk: made when first needed, shared, dropped when there is
no room or nobody needs them.
"""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from vmaftune.cell import Window, digest
from vmaftune.media.failure import CellFailure


def reference_id(window: Window) -> str:
    """What two windows share when one prepared file serves both."""
    return digest(window.identity())


def reference_bytes(window: Window) -> int:
    """Bytes of a window's prepared reference, as far as the plan knows."""
    return window.frame_bytes * (window.num_prepared or window.expected_frames)


@dataclass(frozen=True, slots=True, kw_only=True)
class Reference:
    """A prepared window: headerless planar frames, and how many."""

    path: Path
    num_frames: int


@dataclass(slots=True)
class _Entry:
    path: Path
    num_bytes: int
    users: int = 0
    last_use: int = 0
    making: bool = True
    unwanted: bool = False
    num_frames: int = 0
    failure: CellFailure | None = None


class References:
    """The references of one machine, at most `budget_bytes` of them. Safe to use from any thread.

    `make(window, path)` writes one and returns its number of frames.
    """

    def __init__(
        self, folder: Path, budget_bytes: int, make: Callable[[Window, Path], int]
    ) -> None:
        self.budget_bytes = budget_bytes
        self._folder, self._make = folder, make
        self._changed = threading.Condition()
        self._entries: dict[str, _Entry] = {}
        self._numbers = itertools.count()
        self._uses = itertools.count(1)

    def has(self, window: Window) -> bool:
        """True when the window is prepared, or was tried to be."""
        with self._changed:
            entry = self._entries.get(reference_id(window))
            return entry is not None and not entry.making

    @contextmanager
    def hold(self, window: Window) -> Iterator[Reference]:
        """The window's reference, which stays as long as it is held. Waits for one that is being
        made, and for room.

        Raises CellFailure when it cannot be prepared; the same again for whoever asks later.
        """
        entry, is_new = self._enter(window)
        try:
            if is_new:
                self._fill(window, entry)
            if entry.failure is not None:
                raise entry.failure
            yield Reference(path=entry.path, num_frames=entry.num_frames)
        finally:
            self._leave(window, entry)

    def drop(self, window: Window) -> None:
        """Delete the window's reference now, or when the last one who holds it is done."""
        with self._changed:
            name = reference_id(window)
            entry = self._entries.get(name)
            if entry is None:
                return
            entry.unwanted = True
            if not entry.users:
                self._remove(name, entry)

    def _enter(self, window: Window) -> tuple[_Entry, bool]:
        name, size = reference_id(window), reference_bytes(window)
        with self._changed:
            while True:
                entry = self._entries.get(name)
                if entry is None and self._has_room(size):
                    path = self._folder / f"ref{next(self._numbers)}.yuv"
                    entry = self._entries[name] = _Entry(path=path, num_bytes=size, users=1)
                    return entry, True
                if entry is not None and not entry.making:
                    entry.users += 1
                    entry.unwanted = False
                    return entry, False
                self._changed.wait()

    def _fill(self, window: Window, entry: _Entry) -> None:
        try:
            entry.num_frames = self._make(window, entry.path)
            entry.num_bytes = entry.path.stat().st_size
        except CellFailure as failure:
            entry.failure, entry.num_bytes = failure, 0
            entry.path.unlink(missing_ok=True)
        except BaseException:
            with self._changed:
                self._remove(reference_id(window), entry)
            raise
        finally:
            with self._changed:
                entry.making = False
                self._changed.notify_all()

    def _leave(self, window: Window, entry: _Entry) -> None:
        with self._changed:
            entry.users -= 1
            entry.last_use = next(self._uses)
            if entry.unwanted and not entry.users:
                self._remove(reference_id(window), entry)
            self._changed.notify_all()

    def _has_room(self, num_bytes: int) -> bool:
        """True once `num_bytes` more fit: what nobody holds goes, the longest unused first."""
        used = sum(entry.num_bytes for entry in self._entries.values())
        idle = [name for name, entry in self._entries.items() if not entry.users]
        idle.sort(key=lambda name: self._entries[name].last_use)
        for name in idle:
            if used + num_bytes <= self.budget_bytes:
                break
            used -= self._entries[name].num_bytes
            self._remove(name, self._entries[name])
        # Alone it may be longer than the budget: a study refuses such a window before it starts.
        return used + num_bytes <= self.budget_bytes or not self._entries

    def _remove(self, name: str, entry: _Entry) -> None:
        if self._entries.get(name) is entry:
            del self._entries[name]
        entry.path.unlink(missing_ok=True)
        self._changed.notify_all()
