"""What each worker of a cluster has done in a run, for the screen and for `status --watch`.

The client, which hears of every cell, counts; now and then it writes the counts beside the rows, in
a file that is gone when the run ends.
"""

from __future__ import annotations

import time
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec
from vmaf_train.files import write_bytes

FILE = ".workers.json"
EVERY_S = 2.0


class Pace(msgspec.Struct, frozen=True, kw_only=True):
    """A worker that is there: finished cells and their frames since its first, `seconds` ago."""

    name: str
    host: str | None
    cells: int
    frames: int
    seconds: float

    @property
    def frames_per_s(self) -> float:
        """Frames per second of wall time."""
        return self.frames / max(self.seconds, 1.0)


@dataclass(slots=True)
class _Worker:
    since: float
    host: str | None = None
    cells: int = 0
    frames: int = 0


class Crew:
    """Counts what the workers of one run do. Ask it from any thread, tell it from one."""

    def __init__(self, folder: Path) -> None:
        self._file = folder / FILE
        self._workers: dict[str, _Worker] = {}
        self._written = 0.0

    def began(self, name: str) -> None:
        """A worker has something to do."""
        self._workers.setdefault(name, _Worker(time.monotonic()))

    def ended(self, name: str, host: str | None, num_frames: int) -> None:
        """A worker has done a cell; `num_frames` is 0 where it failed."""
        self.began(name)
        worker = self._workers[name]
        worker.host = host
        worker.cells += 1
        worker.frames += num_frames

    def paces(self, there: Collection[str]) -> list[Pace]:
        """What those that are `there` have done, the slowest first."""
        now = time.monotonic()
        found = [
            Pace(
                name=name,
                host=worker.host,
                cells=worker.cells,
                frames=worker.frames,
                seconds=round(now - worker.since, 3),
            )
            for name, worker in list(self._workers.items())
            if name in there
        ]
        return sorted(found, key=lambda pace: pace.frames_per_s)

    def write(self, there: Collection[str]) -> None:
        """Note the paces for whoever watches the folder, at most every two seconds."""
        now = time.monotonic()
        if self._workers and now - self._written >= EVERY_S:
            self._written = now
            try:
                write_bytes(self._file, msgspec.json.encode(self.paces(there)))
            except OSError:  # nobody's result depends on it
                return

    def close(self) -> None:
        """The run has ended."""
        self._file.unlink(missing_ok=True)


def read_paces(folder: Path) -> Sequence[Pace]:
    """The workers of the run that is measuring into `folder`, the slowest first; none where no
    cluster does.
    """
    try:
        return msgspec.json.decode((folder / FILE).read_bytes(), type=list[Pace])
    except (OSError, msgspec.MsgspecError):
        return ()


def names_there(workers: Sequence[Mapping[str, object]]) -> frozenset[str]:
    """Of an executor's workers the names of those that are not left out."""
    return frozenset(str(worker["name"]) for worker in workers if not worker.get("problem"))
