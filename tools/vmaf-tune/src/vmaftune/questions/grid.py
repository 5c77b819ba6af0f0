"""A run that prepares references, encodes the cells of a plan and scores each of them."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from vmaftune.cell import ENCODES, Cell, Tools, Window
from vmaftune.engine.folder import cell_facts, failed_row, frame_rows, ok_row
from vmaftune.engine.lanes import CPU, Ended, Executor, LaneExecutor, Stage, Task
from vmaftune.engine.study import Event, Options, Run, State, standing
from vmaftune.errors import ToolError
from vmaftune.hardware.diagnosis import Reason, classify
from vmaftune.hardware.gpus import Device
from vmaftune.hardware.selection import Resolved, lane_name, slots
from vmaftune.media.encode import (
    CellFailure,
    Encode,
    encode,
    encode_argv,
    paste,
    prepare,
    prepare_argv,
)
from vmaftune.media.ffmpeg import Ffmpeg
from vmaftune.media.score import Score, score, score_argv
from vmaftune.media.score_cuda import LANE, SLOTS, GpuScorer, eligible
from vmaftune.request.cells import Plan

REFERENCE_BUDGET_BYTES = 8 * 2**30


def state(plan: Plan, folder: Path, tools: Tools, *, retry_failed: bool = False) -> State[Cell]:
    """Compare a plan with the rows of its folder; see `standing`."""
    keys = {cell.id: cell.key(encode_argv(cell), tools) for cell in plan.cells}
    return standing(plan.cells, keys, folder, retry_failed=retry_failed)


def need_bytes(cells: Sequence[Cell]) -> int:
    """Largest disk space a sweep takes at one time: its references (bounded by the budget) and
    encodes in flight.
    """
    sizes = {c.window.name: c.window.frame_bytes * c.num_frames for c in cells}
    if not sizes:
        return 0
    references = max(max(sizes.values()), min(sum(sizes.values()), REFERENCE_BUDGET_BYTES))
    return references + 2 * max(sizes.values()) // 4 + 64 * 2**20


def check_disk(folder: Path, cells: Sequence[Cell]) -> None:
    """Raises ToolError when the folder's disk has less room than the sweep takes at one time."""
    need, free = need_bytes(cells), shutil.disk_usage(folder).free
    if free < need:
        raise ToolError(
            f"{folder} has {free / 2**30:.1f} GiB free and this sweep takes up to"
            f" {need / 2**30:.1f} GiB at a time; make room, or use shorter windows (--frames) or a"
            " smaller --scale"
        )


@dataclass(slots=True)
class _Reference:
    """The shared, prepared reference of one source."""

    path: Path
    num_frames: int = 0
    failure: CellFailure | None = None
    left: set[str] = field(default_factory=set)


def _session_refused(error: Exception) -> bool:
    """True when the driver had no NVENC session left: the cell is done again on fewer."""
    return isinstance(error, CellFailure) and classify(error.stderr_tail).reason is Reason.SESSIONS


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """One cell's result on its way to the writer."""

    made: Encode
    score: Score


class Sweep(Run[Cell]):
    """A run that encodes a plan's cells and scores each of them."""

    def __init__(
        self,
        plan: Plan,
        folder: Path,
        ffmpeg: Ffmpeg,
        options: Options,
        hardware: Resolved | None = None,
        executor: Executor | None = None,
        scorer: GpuScorer | None = None,
    ) -> None:
        lanes = (
            {CPU: options.jobs}
            | (slots(hardware) if hardware else {})
            | ({LANE: SLOTS} if scorer else {})
        )
        found = state(plan, folder, ffmpeg.identity, retry_failed=options.retry_failed)
        kept = (
            f"--keep-encodes: {len(found.done)} finished cells are not encoded again, and no encode"
            " of them is kept now"
        )
        notices = (*plan.notices, kept) if options.keep_encodes and found.done else plan.notices
        super().__init__(
            plan.cells,
            found,
            notices,
            folder,
            ffmpeg,
            options,
            executor or LaneExecutor(lanes),
        )
        self._able = hardware.devices if hardware else {}
        self._devices: dict[str, Device] = {}  # where each hardware cell was encoded
        self._scorer = scorer
        self._references: dict[str, _Reference] = {}

    def _check_room(self, left: Sequence[Cell]) -> None:
        check_disk(self._folder, left)

    def _tasks(self, left: Sequence[Cell]) -> list[Task]:
        """A preparation per source, then its cells; where not all references fit the budget, a
        source waits for an earlier one.
        """
        by_source: dict[str, list[Cell]] = {}
        for cell in left:
            by_source.setdefault(cell.window.name, []).append(cell)
        # The source with the longest single cell first: what is left for the end is small.
        order = sorted(
            by_source.values(),
            key=lambda cs: -max(c.expected_encode_s + c.expected_score_s for c in cs),
        )
        tasks: list[Task] = []
        open_bytes, oldest = 0, 0
        sizes = [cs[0].window.frame_bytes * cs[0].num_frames for cs in order]
        for i, cells in enumerate(order):
            source = cells[0].window
            open_bytes += sizes[i]
            after: set[str] = set()
            while open_bytes > REFERENCE_BUDGET_BYTES and oldest < i:
                after |= {c.id for c in order[oldest]}
                open_bytes -= sizes[oldest]
                oldest += 1
            name = f"prepare {source.name}"
            self._references[source.name] = _Reference(
                path=self._tmp / f"ref{i}.yuv", left={c.id for c in cells}
            )
            seconds = 0.01 * cells[0].num_frames
            tasks.append(
                Task(
                    id=name,
                    after=frozenset(after),
                    first=True,
                    stages=(
                        Stage(
                            name="prepare",
                            lane=CPU,
                            cost_s=seconds,
                            run=partial(self._prepare, source),
                        ),
                    ),
                )
            )
            tasks += [self._task(cell, name) for cell in cells]
        return tasks

    def _task(self, cell: Cell, after: str) -> Task:
        kind = cell.encoder.kind
        devices = self._able.get(cell.encoder.name) or (None,)
        runs = {
            lane_name(kind, d) if kind else CPU: partial(self._encode, cell, d) for d in devices
        }
        first, *others = runs
        on_gpu = self._scorer is not None and eligible(cell)
        return Task(
            id=cell.id,
            after=frozenset({after}),
            stages=(
                Stage(
                    name="encode",
                    lane=first,
                    cost_s=cell.expected_encode_s,
                    run=runs[first],
                    others={lane: runs[lane] for lane in others},
                    refused=_session_refused if kind == "nvenc" else None,
                ),
                Stage(
                    name="score",
                    lane=LANE if on_gpu else CPU,
                    cost_s=cell.expected_score_s,
                    run=partial(self._score, cell),
                ),
            ),
        )

    def _prepare(self, source: Window, _: None = None) -> None:
        reference = self._references[source.name]
        expected_s = 0.05 * (source.start_frame + source.expected_frames)
        try:
            reference.num_frames = prepare(
                source, self._ffmpeg, reference.path, self._timeout(expected_s)
            )
        except CellFailure as failure:
            reference.failure = failure

    def _encode(self, cell: Cell, device: Device | None, _: None = None) -> Encode:
        reference = self._references[cell.window.name]
        if reference.failure:
            raise reference.failure
        place = self._place(cell)
        place.mkdir(exist_ok=True)  # it exists when a session was refused before
        if device:
            self._devices[cell.id] = device
        return encode(
            cell,
            self._ffmpeg,
            reference.path,
            place / "out.mkv",
            reference.num_frames,
            self._timeout(cell.expected_encode_s),
            device.address if device else None,
        )

    def _score(self, cell: Cell, made: Encode) -> Measured:
        reference = self._references[cell.window.name]
        measured = (self._scorer.score if self._scorer else score)(
            cell,
            self._ffmpeg,
            reference.path,
            made.path,
            reference.num_frames,
            self._timeout(cell.expected_score_s),
        )
        return Measured(made=made, score=measured)

    def _finish(self, cell: Cell, ended: Ended) -> Event:
        """Write a cell's row, free its temporary space, and tell of it."""
        failure = self._failure(ended)
        device = self._devices.get(cell.id)
        name = f"{device.name} {device.driver or ''}".strip() if device else None
        facts = cell_facts(
            cell, self.state.keys[cell.id], encode_argv(cell), self._ffmpeg.identity, name
        )
        if failure is None:
            measured: Measured = ended.value
            row = ok_row(facts, cell, measured.made, measured.score)
            if self._options.keep_encodes:  # before the row, which is the commit
                self._keep(cell, measured.made.path)
            self._writer.append(row, frame_rows(facts, measured.score.frames))
        else:
            row = failed_row(facts, failure, self._command(cell))
            self._writer.append(row)
        shutil.rmtree(self._place(cell), ignore_errors=True)
        reference = self._references[cell.window.name]
        reference.left.discard(cell.id)
        if not reference.left:
            reference.path.unlink(missing_ok=True)
        return self._told(cell, row)

    def _keep(self, cell: Cell, made: Path) -> None:
        folder = self._folder / ENCODES
        folder.mkdir(exist_ok=True)
        # The key tells apart ids that look the same once no sign is left that a shell or a file
        # system minds.
        name = re.sub(r"[^A-Za-z0-9._+-]+", "_", cell.id)
        os.replace(made, folder / f"{name}-{self.state.keys[cell.id][:8]}.mkv")

    def _command(self, cell: Cell) -> str:
        device = self._devices.get(cell.id)
        return paste(
            self._ffmpeg.path,
            prepare_argv(cell.window),
            encode_argv(cell, device.address if device else None),
            score_argv(cell),
            src=cell.window.path,
            ref="reference.yuv",
            out="encode.mkv",
        )
