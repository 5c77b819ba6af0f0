"""One run of cells in a folder: what is done already, what the executor does of the rest, the
single writer, the events.

Sweeps and scored pairs share it. Events are plain dicts (docs/events.md), so that one command can
drive another without its screen.
"""

from __future__ import annotations

import os
import shutil
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Generic, Protocol, TypeVar

from vmaftune.cell import TMP as TMP
from vmaftune.engine.folder import CELLS, SWEEP, Writer, append_run, cell_rows, now, write_json
from vmaftune.engine.lanes import Ended, Executor, Started, Task
from vmaftune.errors import ToolError
from vmaftune.media.encode import CellFailure
from vmaftune.media.ffmpeg import Ffmpeg, machine, packages
from vmaftune.request.document import Document, agreed, read_document

Event = dict[str, Any]
MIN_TIMEOUT_S = 600.0
# A stall is told from slowness by this factor over the expected time of one process.
TIMEOUT_FACTOR = 60.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """How a sweep runs; nothing here changes a result. `timeout_s` None derives one from the
    expected cost.
    """

    jobs: int
    timeout_s: float | None = None
    keep_encodes: bool = False
    retry_failed: bool = False


class Work(Protocol):
    """What a run asks of a cell, or of a scored pair."""

    @property
    def id(self) -> str:
        """Readable, unique in the folder."""

    @property
    def kind(self) -> str:
        """What its cost goes by: encoder and preset, or the set of features."""

    @property
    def expected_encode_s(self) -> float:
        """Seconds of one core."""

    @property
    def expected_score_s(self) -> float:
        """Seconds of one core."""


W = TypeVar("W", bound=Work)


class Planned(Protocol):
    """What a folder is opened for: a plan of cells or of scored pairs."""

    def document(self) -> Document:
        """The plan as sweep.json holds it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class State(Generic[W]):
    """Where a plan stands in its folder: rows that still count, by cell id, and the cells left to
    do.

    `hidden` are rows that count but are not the last of their cell: other tools were used since.
    """

    keys: Mapping[str, str]
    done: Mapping[str, Mapping[str, Any]]
    failed: Mapping[str, Mapping[str, Any]]
    left: tuple[W, ...]
    hidden: tuple[Mapping[str, Any], ...] = ()


def standing(
    cells: Sequence[W], keys: Mapping[str, str], folder: Path, *, retry_failed: bool
) -> State[W]:
    """Compare cells with a folder's rows by key: a row made with other tools or content does not
    count.
    """
    last: dict[str, Mapping[str, Any]] = {}
    rows: dict[str, Mapping[str, Any]] = {}
    for row in cell_rows(folder):
        last[row["cell"]] = row
        if keys.get(row["cell"]) == row["key"]:
            rows[row["cell"]] = row
    done = {i: row for i, row in rows.items() if row["status"] == "ok"}
    failed = {i: row for i, row in rows.items() if row["status"] != "ok"}
    settled = done if retry_failed else rows
    return State(
        keys=keys,
        done=done,
        failed=failed,
        left=tuple(c for c in cells if c.id not in settled),
        hidden=tuple(row for i, row in settled.items() if last[i] is not row),
    )


def open_folder(
    folder: Path,
    plan: Planned,
    argv: Sequence[str],
    *,
    extend: bool,
    part: bool = False,
    skipped: Sequence[str] = (),
) -> Document:
    """Write sweep.json once; later runs must hold the same plan, a `part` of it, or add cells to it
    with `extend`.

    The encoders that the latest run left out are noted in it. Raises FolderError as `agreed`.
    """
    new = replace(
        plan.document(),
        argv=tuple(argv),
        created_at=now(),
        skipped_encoders=tuple(skipped),
    )
    path = folder / SWEEP
    document = agreed(folder, new, extend=extend, part=part, has_rows=(folder / CELLS).exists())
    if skipped:
        document = replace(document, skipped_encoders=tuple(skipped))
    if not path.exists() or document != read_document(path):
        write_json(path, document.to_json())
    return document


def expected_seconds(cells: Sequence[Work], jobs: int, pace: float = 1.0) -> float:
    """Wall seconds for `cells` on `jobs` slots; `pace` is measured over expected so far."""
    return pace * sum(c.expected_encode_s + c.expected_score_s for c in cells) / max(1, jobs)


class Run(ABC, Generic[W]):
    """One run of cells in a folder that this process holds the lock of: what sweeps and scored
    pairs share.
    """

    def __init__(
        self,
        cells: Sequence[W],
        state: State[W],
        notices: Sequence[str],
        folder: Path,
        ffmpeg: Ffmpeg,
        options: Options,
        executor: Executor,
    ) -> None:
        self._cells, self.state, self._notices = cells, state, notices
        self._folder, self._ffmpeg, self._options = folder, ffmpeg, options
        self._executor = executor
        self._tmp = folder.absolute() / TMP / str(os.getpid())  # children run inside it
        self._writer = Writer(folder)
        for row in state.hidden:  # their frames are there already
            self._writer.append(row)

    @abstractmethod
    def _check_room(self, left: Sequence[W]) -> None:
        """Raise ToolError when the disk is too small for what is left."""

    @abstractmethod
    def _tasks(self, left: Sequence[W]) -> list[Task]:
        """What to do, for the executor; the last stage of a cell's task has the cell's id."""

    @abstractmethod
    def _finish(self, cell: W, ended: Ended) -> Event:
        """Write a cell's row and tell of it."""

    def run(self, argv: Sequence[str]) -> Generator[Event, None, None]:
        """Do what is left. Yields events; ends with `end`. Raises ToolError when the disk is full
        or too small.
        """
        for notice in (*self._notices, *self._writer.notices):
            yield {"event": "notice", "message": notice}
        left = self.state.left
        yield {
            "event": "start",
            "folder": str(self._folder),
            "num_cells": len(self._cells),
            "num_done": len(self.state.done),
            "num_failed": len(self.state.failed),
            "num_left": len(left),
            "jobs": self._options.jobs,
            "expected_s": round(expected_seconds(left, self._options.jobs), 1),
        }
        shutil.rmtree(self._folder / TMP, ignore_errors=True)
        counts = Counter(ok=0, failed=0)
        if left:
            self._check_room(left)
            self._note_run(argv)
            self._tmp.mkdir(parents=True)
            try:
                for event in self._drive(left):
                    counts[event.get("status", "")] += 1
                    yield event
            finally:
                shutil.rmtree(self._folder / TMP, ignore_errors=True)
        carried = 0 if self._options.retry_failed else len(self.state.failed)
        yield {
            "event": "end",
            "num_ok": counts["ok"],
            "num_failed": counts["failed"] + carried,
            "num_done": len(self.state.done) + counts["ok"],
            "num_cells": len(self._cells),
        }

    def _note_run(self, argv: Sequence[str]) -> None:
        row = {
            "started_at": now(),
            "argv": list(argv),
            "jobs": self._options.jobs,
            "ffmpeg_version": self._ffmpeg.identity.ffmpeg_version,
            "ffmpeg_sha256": self._ffmpeg.identity.ffmpeg_sha256,
            "libvmaf_version": self._ffmpeg.identity.libvmaf_version,
            "packages": packages(),
            "machine": machine(),
        }
        append_run(self._folder, row)

    def _drive(self, left: Sequence[W]) -> Iterator[Event]:
        cells = {cell.id: cell for cell in left}
        happening = self._executor.run(self._tasks(left))
        try:
            for event in happening:
                cell = cells.get(event.task.id)
                if isinstance(event, Started):
                    if cell is not None:
                        yield {"event": "stage", "cell": cell.id, "stage": event.stage.name}
                    else:
                        yield {"event": "prepare", "src": event.task.id.removeprefix("prepare ")}
                elif cell is None:
                    if event.error is not None:
                        raise event.error
                else:
                    yield self._finish(cell, event)
        except BaseException:
            self._ffmpeg.runner.stop()  # kills what is running, so that the slots return at once
            raise
        finally:
            happening.close()  # type: ignore[attr-defined]

    def _timeout(self, expected_s: float) -> float:
        return self._options.timeout_s or max(MIN_TIMEOUT_S, TIMEOUT_FACTOR * expected_s)

    def _place(self, cell: W) -> Path:
        return self._tmp / self.state.keys[cell.id][:24]

    def _failure(self, ended: Ended) -> CellFailure | None:
        """Why a task failed, if that is its cell's matter: a full disk or an interrupt is raised,
        not written.
        """
        failure = ended.error
        if failure is not None and not isinstance(failure, CellFailure):
            raise failure
        if failure is not None and failure.kind == "disk_full":
            raise ToolError(
                f"the disk of {self._folder} is full; make room and run the same command again:"
                " finished cells are kept"
            ) from failure
        return failure

    @staticmethod
    def _told(cell: W, row: Mapping[str, Any]) -> Event:
        """A written row as an event."""
        return {
            "event": "cell",
            "cell": cell.id,
            "status": row["status"],
            "vmaf_score": row["vmaf_score"],
            "bitrate_kbps": row["bitrate_kbps"],
            "num_frames": row["num_frames"],
            "encode_cpu_s": row["encode_cpu_s"],
            "score_cpu_s": row["score_cpu_s"],
            "encode_wall_s": row["encode_wall_s"],
            "error": row["error"] and row["error"]["message"],
            "expected_s": round(cell.expected_encode_s + cell.expected_score_s, 3),
        }


def stale(folder: Path) -> list[Path]:
    """Temporary folders of runs that ended without removing them. The caller holds the folder's
    lock.
    """
    tmp = folder / TMP
    return sorted(p for p in tmp.iterdir()) if tmp.is_dir() else []
