"""A study: a run folder that is being measured into.

Give it cells, or pairs of files, at any time. What the folder holds under the same key is answered
from there; the rest is measured, written by this process alone, and reported as events. A study
never knows why a cell was asked for; a question (questions/) never starts a process.

    with Study.open(folder, plan, ffmpeg, options) as study:
        study.submit(cells)                 # any time, also from inside the loop
        for event in study.events():        # ends when nothing that was submitted is unfinished
            ...
        study.result(cells[0])              # its row; None when it was not asked for

Events are typed (engine/events.py), so that one command can drive another without its screen.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import asdict, replace
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from vmaf_train.corpus.rows import SWEEP, CellRow, FailureKind, Row, to_row
from vmaf_train.files import write_json

from vmaftune.cell import TMP, Cell, Pair, Window, check_utf8
from vmaftune.engine.answers import (
    Answers,
    FrameValues,
    State,
    stored_values,
)
from vmaftune.engine.crew import Crew, Pace, names_there
from vmaftune.engine.events import (
    Asked,
    CellEvent,
    Event,
    NoticeEvent,
    PrepareEvent,
    StageEvent,
    to_json,
)
from vmaftune.engine.executor import (
    CPU,
    Ended,
    Executor,
    Happening,
    Noticed,
    Preparing,
    Started,
    Task,
)
from vmaftune.engine.folder import Writer, amend_run, append_run, now
from vmaftune.engine.hold import Hold
from vmaftune.engine.kept import keep, kept_file
from vmaftune.engine.lanes import LaneExecutor
from vmaftune.engine.limits import Limits
from vmaftune.engine.options import Options
from vmaftune.engine.plan_file import ENDED, Planned, grown, open_folder
from vmaftune.engine.references import reference_id
from vmaftune.engine.room import need_bytes, too_long
from vmaftune.engine.rows import (
    Item,
    answered_key,
    command_of,
    facts,
    failed_row,
    frame_rows,
    frame_values,
    ok_row,
)
from vmaftune.engine.stages import Encoded, MeasuredEncode, Worker, cell_task, lanes_of, pair_task
from vmaftune.errors import ToolError, UsageError
from vmaftune.hardware.gpus import Device
from vmaftune.hardware.selection import Resolved, slots
from vmaftune.media.failure import CellFailure
from vmaftune.media.ffmpeg import Ffmpeg, machine, packages, usable_cores
from vmaftune.media.score_cuda import LANE, SLOTS, GpuScorer
from vmaftune.media.score_pair import PairScore
from vmaftune.metrics import COLUMNS, VMAF
from vmaftune.request.document import Document, pair_document, plan_document


class Study:
    """A run folder that this process holds the lock of. Use it with `with`; see the module.

    `hardware` and `scorer` say which GPUs encode and score; `executor` None runs on this machine.
    """

    def __init__(
        self,
        folder: Path,
        document: Document,
        ffmpeg: Ffmpeg,
        options: Options,
        *,
        argv: Sequence[str] = (),
        hardware: Resolved | None = None,
        scorer: GpuScorer | None = None,
        executor: Executor | None = None,
        release: Hold,
    ) -> None:
        self.folder, self.options = folder, options
        # A branch: what a question no longer wants is killed without ending the command.
        self.ffmpeg = replace(ffmpeg, runner=ffmpeg.runner.branch())
        self._document, self._argv, self._release = document, list(argv), release
        self._devices = hardware.devices if hardware else {}
        self._hardware, self._scorer, self._executor = hardware, scorer, executor
        self._tmp = folder.absolute() / TMP / str(os.getpid())  # children run inside it
        self._writer = Writer(folder, verify=options.verify)
        self.notices: tuple[str, ...] = tuple(self._writer.notices)
        self._answers = Answers(self._writer.ledger)
        self._items: dict[str, Item] = {}
        self._keys: dict[str, str] = {}
        self._values: dict[str, FrameValues] = {}
        self._keep: set[str] = set()
        self._planned = set(document.cell_ids)
        self._roomy: set[str] = set()
        self._crew = Crew(folder)
        self._start: dict[str, Any] = {}
        self._has_begun = False

    @classmethod
    def open(
        cls,
        folder: Path,
        plan: Planned,
        ffmpeg: Ffmpeg,
        options: Options,
        *,
        argv: Sequence[str] = (),
        hardware: Resolved | None = None,
        scorer: GpuScorer | None = None,
        executor: Executor | None = None,
        open_plan: bool = False,
        extend: bool = False,
        part: bool = False,
        skipped: Sequence[str] = (),
    ) -> Study:
        """Lock `folder`, made if need be, and hold it to `plan` (see `open_folder`).

        Raises UsageError and ToolError for a folder that cannot be one, FolderError for one that is
        in use or holds another plan. Of a study that never measured anything neither plan nor
        folder are left.
        """
        with ExitStack() as undo:
            if executor is not None:
                undo.callback(executor.close)
            check_utf8(*argv)
            release = Hold.take(folder)
            undo.callback(release)
            document = open_folder(
                folder,
                plan,
                argv,
                extend=extend,
                part=part,
                skipped=skipped,
                open_plan=open_plan,
            )
            study = cls(
                folder,
                document,
                ffmpeg,
                options,
                argv=argv,
                hardware=hardware,
                scorer=scorer,
                executor=executor,
                release=release,
            )
            undo.pop_all()
            return study

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    @property
    def is_open(self) -> bool:
        """True when the plan takes cells as they are asked for."""
        return self._document.open

    def close(self) -> None:
        """Kill what still runs, so that the slots return at once, and give the folder back."""
        self.ffmpeg.runner.stop()
        try:
            if self._executor is not None:
                self._note_workers(self._executor)
                self._executor.close()
        finally:
            if self._has_begun:
                shutil.rmtree(self.folder / TMP, ignore_errors=True)
                self._crew.close()
                self._writer.close()
            self._release()

    def paces(self) -> Sequence[Pace]:
        """The workers of the cluster that measures, the slowest first; none on this machine."""
        return self._crew.paces(self._there())

    def _there(self) -> frozenset[str]:
        return names_there(self._executor.workers()) if self._executor else frozenset()

    def state(self, items: Sequence[Item]) -> State[Item]:
        """Where `items` stand in the folder, before they are submitted."""
        for item in items:
            self._key(item)
        return self._answers.state(items, self._keys, retry_failed=self.options.retry_failed)

    def result(self, item: Item) -> CellRow | None:
        """The row of a cell, ok or failed; None when the folder has none under its key."""
        mark = self._answers.find(item.id, self._key(item))
        return self._answers.row(mark) if mark else None

    def ids(self) -> tuple[str, ...]:
        """Ids of all cells that the folder has a row of, made with whatever tools."""
        return self._answers.ids()

    def scores(self, item: Item) -> tuple[float, ...]:
        """The clipped VMAF of every frame of a measured cell, in order, VMAF points.

        Raises KeyError when the folder has no frames of it.
        """
        return tuple(score for score in self.values(item)[VMAF] if score is not None)

    def values(self, item: Item) -> FrameValues:
        """What the frames of a measured cell hold, in order, by column: `vmaf`, and the columns of
        the metrics beside it.

        Raises KeyError when the folder has no frames of it.
        """
        key = self._key(item)
        if key not in self._values:
            unread = frozenset(self._keys.values()) - self._values.keys()
            self._values |= stored_values(self.folder, unread, COLUMNS)
        return self._values[key]

    def kept(self, cell: Cell) -> Path:
        """Where a cell's encode is, once it was measured with `keep`."""
        return kept_file(self.folder, cell.id, self._key(cell))

    def note(self, told: Sequence[Asked]) -> None:
        """Keep what a question asked or found in the folder, for a report to show."""
        self._writer.note([to_json(event) for event in told])

    def finish(self) -> None:
        """Note in an open plan that its question has ended: the folder is complete."""
        extra = {**self._document.extra, ENDED: now()}
        self._document = replace(self._document, extra=extra)
        write_json(self.folder / SWEEP, self._document.to_json())

    def submit(self, items: Sequence[Item], *, keep: bool | None = None) -> None:
        """Measure what the folder does not answer. `keep` keeps the encodes; None is as the options
        say. What was submitted before is not measured again.

        Raises UsageError for a window that is longer than the budget, ToolError when the disk is
        too small.
        """
        keep = self.options.keep_encodes if keep is None else keep
        if self.is_open:
            self._grow(items)
        new = [item for item in items if not self._is_settled(item, keep=keep)]
        if not new:
            return
        self._check_room(new)
        if keep:
            self._keep.update(item.id for item in new)
        self._items.update((item.id, item) for item in new)
        self._begin(len(new)).submit([self._task(item) for item in new])

    def events(self) -> Iterator[Event]:
        """What happens to what was submitted, until nothing is unfinished.

        Raises ToolError when the disk is full, and what broke a stage other than its cell.
        """
        if self._executor is None or not self._has_begun:
            return
        for batch in self._executor.events():
            yield from self._settle(batch)
            self._crew.write(self._there())

    def _key(self, item: Item) -> str:
        key = self._keys.get(item.id)
        if key is None:
            key = answered_key(item, self._answers, self.ffmpeg.identity)
            self._keys[item.id] = key
        return key

    def _is_settled(self, item: Item, *, keep: bool) -> bool:
        """True when the folder answers for `item`, or it was submitted before."""
        if item.id in self._items:
            return True
        mark = self._answers.find(item.id, self._key(item))
        if mark is None or (self.options.retry_failed and not mark.is_ok):
            return False
        if keep and self.is_open and isinstance(item, Cell) and not self.kept(item).exists():
            return False
        if not self._answers.is_last(mark):  # its frames are there already
            self._writer.append(to_row(self._answers.row(mark)))
            self._answers.read_more()
        return True

    def _grow(self, items: Sequence[Item]) -> None:
        """Note cells and pairs in an open plan that were not in it."""
        new = [item for item in items if item.id not in self._planned]
        if not new:
            return
        cells = tuple(item for item in new if isinstance(item, Cell))
        windows = {cell.window.name: cell.window for cell in cells}
        pairs = tuple(item for item in new if isinstance(item, Pair))
        parts = [plan_document(cells, tuple(windows.values()))] if cells else []
        parts += [pair_document(pairs)] if pairs else []
        for part in parts:
            self._document = grown(self.folder, self._document, replace(part, open=True))
        write_json(self.folder / SWEEP, self._document.to_json())
        self._planned.update(item.id for item in new)

    def _check_room(self, items: Sequence[Item]) -> None:
        windows = {reference_id(i.window): i.window for i in items if isinstance(i, Cell)}
        new = [window for name, window in windows.items() if name not in self._roomy]
        is_here = self._executor is None or self._executor.is_here
        need, free = self._need(new), shutil.disk_usage(self.folder).free
        if is_here and free < need:
            raise ToolError(
                f"{self.folder} has {free / 2**30:.1f} GiB free and this sweep takes up to"
                f" {need / 2**30:.1f} GiB at a time; make room, or use shorter windows (--frames)"
                " or a smaller --scale"
            )
        longest = too_long(new, self.options.budget_bytes)
        if longest:
            raise UsageError(longest)
        self._roomy.update(windows)

    def _need(self, windows: Sequence[Window]) -> int:
        num_slots = None if self.is_open else sum(self._lanes(self.options.jobs).values())
        return need_bytes(windows, self.options.budget_bytes, num_slots)

    def _begin(self, num_items: int) -> Executor:
        """The executor, started with the first cells that have to be measured."""
        if self._executor is None:
            self._executor = LaneExecutor(self._lanes(num_items))
        if not self._has_begun:
            shutil.rmtree(self.folder / TMP, ignore_errors=True)
            self._tmp.mkdir(parents=True)
            self._has_begun = True
            worker = Worker(
                self._tmp,
                self.ffmpeg,
                budget_bytes=self.options.budget_bytes,
                limits=Limits(timeout_s=self.options.timeout_s),
                scorer=self._scorer,
            )
            self._executor.start(worker, keep_references=self.is_open)
            self._note_run()
        return self._executor

    def _lanes(self, num_items: int) -> Mapping[str, int]:
        """Slots by lane. No more of the CPU than cells are left: a slot is a thread. A question may
        ask for more cells later.
        """
        most = max(num_items, 4 * usable_cores()) if self.is_open else num_items
        found = {CPU: max(1, min(self.options.jobs, most))}
        if self._hardware:
            found |= slots(self._hardware)
        if self._scorer:
            found[LANE] = SLOTS
        return found

    def _note_run(self) -> None:
        used = self.ffmpeg.identity
        row = {
            "started_at": now(),
            "argv": self._argv,
            "jobs": self.options.jobs,
            "ffmpeg_version": used.ffmpeg_version,
            "ffmpeg_sha256": used.ffmpeg_sha256,
            "libvmaf_version": used.libvmaf_version,
            "packages": packages(),
            "machine": asdict(machine()),
        }
        workers = self._executor.workers() if self._executor else []
        if workers:
            row["workers"] = workers
        append_run(self.folder, row)
        self._start = row

    def _note_workers(self, executor: Executor) -> None:
        """Those that came since the start belong to it as well."""
        workers = executor.workers()
        if "workers" in self._start and workers != self._start["workers"]:
            self._start = {**self._start, "workers": workers}
            with suppress(OSError):  # so that nothing hides why we are here
                amend_run(self.folder, self._start)

    def _devices_of(self, cell: Cell) -> tuple[Device | None, ...]:
        return tuple(self._devices.get(cell.encoder.name) or (None,))

    def _task(self, item: Item) -> Task:
        place = self._key(item)[:24]
        if isinstance(item, Pair):
            return pair_task(item, place, self.options.pair_threads)
        devices = self._devices_of(item)
        return cell_task(
            item,
            place,
            devices,
            gpu_scores=self._scorer is not None,
            keep=item.id in self._keep,
        )

    def _settle(self, batch: Sequence[Happening]) -> list[Event]:
        """Write what ended, all in one append, and tell of everything in order. What was measured
        before an error is written first.
        """
        told: list[Event] = []
        rows: list[tuple[CellRow, list[Row]]] = []
        try:
            for happening in batch:
                if isinstance(happening, Ended):
                    row, frames = self._row(happening)
                    if not self._has_ok(row):  # encoded again to be kept: its frames are there
                        rows.append((row, frames))
                    item = self._items[happening.task.id]
                    if happening.worker is not None:
                        frames_of = row.num_frames or 0 if row.is_ok else 0
                        self._crew.ended(happening.worker, happening.host, frames_of)
                    told.append(self._told(item, row, happening.worker))
                else:
                    if isinstance(happening, Started) and happening.worker is not None:
                        self._crew.began(happening.worker)
                    told.append(_event(happening))
        finally:
            if rows:
                self._writer.append_many([(to_row(row), frames) for row, frames in rows])
                self._answers.read_more()
        for happening in batch:
            if isinstance(happening, Ended):
                shutil.rmtree(self._tmp / self._place(happening), ignore_errors=True)
        return told

    def _has_ok(self, row: CellRow) -> bool:
        mark = self._answers.find(row.cell, row.key)
        return mark is not None and mark.is_ok

    def _place(self, ended: Ended) -> str:
        return self._keys[ended.task.id][:24]

    def _row(self, ended: Ended) -> tuple[CellRow, list[Row]]:
        """The rows of a task that ended. Its encode is kept before its row, which is the commit."""
        item = self._items[ended.task.id]
        failure = self._failure(ended)
        device = self._device(item, ended)
        name = f"{device.name} {device.driver or ''}".strip() if device else None
        known = facts(item, self._key(item), self.ffmpeg.identity, device=name, host=ended.host)
        if failure is not None:
            address = device.address if device else None
            return failed_row(known, failure, command_of(item, self.ffmpeg.path, address)), []
        found: MeasuredEncode | PairScore = ended.value
        row = ok_row(known, item, found)
        if self.is_open:
            self._values[row.key] = frame_values(found)
        if isinstance(found, MeasuredEncode) and isinstance(item, Cell) and item.id in self._keep:
            keep(found.made.path, self.kept(item))
        return row, frame_rows(known, found)

    def _device(self, item: Item, ended: Ended) -> Device | None:
        """The GPU that encoded a cell, or tried to."""
        if isinstance(ended.value, (MeasuredEncode, Encoded)):
            return ended.value.device
        if isinstance(item, Pair):
            return None
        return ended.device or lanes_of(item, self._devices_of(item)).get(ended.lane)

    def _failure(self, ended: Ended) -> CellFailure | None:
        """Why a task failed, if that is its cell's matter: a full disk or an interrupt is raised,
        not written.
        """
        failure = ended.error
        if failure is not None and not isinstance(failure, CellFailure):
            raise failure
        if failure is not None and failure.kind == FailureKind.DISK_FULL:
            raise ToolError(
                f"the disk of {self.folder} is full; make room and run the same command again:"
                " finished cells are kept"
            ) from failure
        return failure

    @staticmethod
    def _told(item: Item, row: CellRow, worker: str | None) -> CellEvent:
        """A written row as an event."""
        return CellEvent(
            cell=item.id,
            status=row.status,
            vmaf_score=row.vmaf_score,
            bitrate_kbps=row.bitrate_kbps,
            num_frames=row.num_frames,
            encode_cpu_s=row.encode_cpu_s,
            score_cpu_s=row.score_cpu_s,
            encode_wall_s=row.encode_wall_s,
            expected_s=round(item.expected_encode_s + item.expected_score_s, 3),
            error=row.error.message if row.error else None,
            worker=worker,
        )


def _event(happening: Started | Preparing | Noticed) -> Event:
    if isinstance(happening, Noticed):
        return NoticeEvent(message=happening.message)
    if isinstance(happening, Preparing):
        return PrepareEvent(src=happening.window.name)
    return StageEvent(cell=happening.task.id, stage=happening.stage.name, worker=happening.worker)
