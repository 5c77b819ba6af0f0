"""Run a plan through an executor into a run folder: resume, write, and say what happens as events.

`run` is the single writer of its folder. Events are plain dicts (docs/events.md), so that one command can drive
another without its screen.
"""

from __future__ import annotations

import json
import os
import re
import shutil
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Generic, Protocol, TypeVar

from vmaftune import corpus
from vmaftune.cell import Cell, Source
from vmaftune.diagnosis import Reason, classify
from vmaftune.encode import CellFailure, Encode, encode, encode_argv, paste, prepare, prepare_argv
from vmaftune.errors import FolderError, ToolError
from vmaftune.executor import CPU, Ended, Executor, LaneExecutor, Stage, Started, Task
from vmaftune.gpu_score import LANE, SLOTS, GpuScorer, eligible
from vmaftune.gpus import Device
from vmaftune.plan import Plan, difference, grid_ids, is_part
from vmaftune.process import Runner
from vmaftune.score import Score, score, score_argv
from vmaftune.usable import Resolved, lane_name, slots
from vmaftune.versions import Tools, machine, packages

Event = dict[str, Any]
TMP, ENCODES = "tmp", "encodes"
MIN_TIMEOUT_S = 600.0
# A stall is told from slowness by this factor over the expected time of one process.
TIMEOUT_FACTOR = 60.0
REFERENCE_BUDGET_BYTES = 8 * 2**30


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """How a sweep runs; nothing here changes a result. `timeout_s` None derives one from the expected cost."""

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
    def expected_encode_s(self) -> float:
        """Seconds of one core."""

    @property
    def expected_score_s(self) -> float:
        """Seconds of one core."""


W = TypeVar("W", bound=Work)


class Planned(Protocol):
    """What a folder is opened for: a plan of cells or of scored pairs."""

    def document(self) -> dict[str, Any]:
        """The plan as sweep.json holds it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class State(Generic[W]):
    """Where a plan stands in its folder: rows that still count, by cell id, and the cells left to do.

    `hidden` are rows that count but are not the last of their cell: other tools were used since.
    """

    keys: Mapping[str, str]
    done: Mapping[str, Mapping[str, Any]]
    failed: Mapping[str, Mapping[str, Any]]
    left: tuple[W, ...]
    hidden: tuple[Mapping[str, Any], ...] = ()


def state(plan: Plan, folder: Path, tools: Tools, *, retry_failed: bool = False) -> State[Cell]:
    """Compare a plan with the rows of its folder; see `standing`."""
    keys = {cell.id: cell.key(encode_argv(cell), tools) for cell in plan.cells}
    return standing(plan.cells, keys, folder, retry_failed=retry_failed)


def standing(cells: Sequence[W], keys: Mapping[str, str], folder: Path, *, retry_failed: bool) -> State[W]:
    """Compare cells with a folder's rows by key: a row made with other tools or content does not count."""
    last: dict[str, Mapping[str, Any]] = {}
    rows: dict[str, Mapping[str, Any]] = {}
    for row in corpus.cell_rows(folder):
        last[row["cell"]] = row
        if keys.get(row["cell"]) == row["key"]:
            rows[row["cell"]] = row
    done = {i: row for i, row in rows.items() if row["status"] == "ok"}
    failed = {i: row for i, row in rows.items() if row["status"] != "ok"}
    settled = done if retry_failed else rows
    return State(
        keys=keys, done=done, failed=failed, left=tuple(c for c in cells if c.id not in settled),
        hidden=tuple(row for i, row in settled.items() if last[i] is not row),
    )  # fmt: skip


def open_folder(
    folder: Path, plan: Planned, argv: Sequence[str], *, extend: bool, part: bool = False, skipped: Sequence[str] = ()
) -> Mapping[str, Any]:
    """Write sweep.json once; later runs must hold the same plan, a `part` of it, or add cells to it with `extend`.

    Raises FolderError naming the first difference, and the way out.
    """
    path = folder / corpus.SWEEP
    document: dict[str, Any] = {
        "schema_version": 1, "argv": list(argv), "created_at": corpus.now(), **plan.document(),
        "skipped_encoders": list(skipped),
    }  # fmt: skip
    if path.exists():
        try:
            old: Mapping[str, Any] = json.loads(path.read_text(encoding="utf-8"))
            change = difference(old, document)
        except (ValueError, KeyError, TypeError) as failure:
            raise FolderError(f"{path} is no sweep of ours ({failure!r}); write elsewhere with --out") from failure
        if change is None:
            return old
        fewer = grid_ids(old) - grid_ids(document)
        if part and is_part(old, document):
            return old
        if not extend:
            raise FolderError(
                f"{folder} holds another plan: {change}; write elsewhere with --out, or add the cells with --extend"
            )
        if fewer:
            document = _merge(old, document)
    elif (folder / corpus.CELLS).exists():
        raise FolderError(f"{folder} holds rows but no {corpus.SWEEP}; write elsewhere with --out")
    corpus.write_json(path, document)
    return document


def _merge(old: Mapping[str, Any], new: dict[str, Any]) -> dict[str, Any]:
    """The union of two plans; raises FolderError where a source of one name is not the same in both."""
    names = {s["name"]: s for s in new["sources"]}
    for source in old["sources"]:
        same = names.get(source["name"])
        if same is not None and any(same[k] != source[k] for k in source if k not in ("path", "flags")):
            raise FolderError(f"--extend: source {source['name']} is not the one that this folder holds; use --out")
    for key in ("teacher", "threads_per_encode"):
        if old[key] != new[key]:
            raise FolderError(f"--extend: {key} differs from the folder's {old[key]}; use --out")
    ids = grid_ids(old) | grid_ids(new)
    blocks: dict[tuple[str, str], dict[str, list[float]]] = {}
    for block in (*old["grid"], *new["grid"]):
        for source in block["sources"]:
            values = blocks.setdefault((block["encoder"], block["preset"]), {}).setdefault(source, [])
            values += [q for q in block["quality"] if q not in values]
    grid = [
        {"encoder": encoder, "preset": preset, "quality": values, "sources": [source]}
        for (encoder, preset), by_source in blocks.items()
        for source, values in by_source.items()
    ]
    sources = {s["name"]: s for s in (*old["sources"], *new["sources"])}
    pairs = {p["cell"]: p for p in (*old.get("pairs", ()), *new.get("pairs", ()))}
    new = {**new, "pairs": list(pairs.values())} if pairs else new
    return {**new, "sources": list(sources.values()), "grid": grid, "num_cells": len(ids)}


def need_bytes(cells: Sequence[Cell]) -> int:
    """Largest disk space a sweep takes at one time: its references (bounded by the budget) and encodes in flight."""
    sizes = {c.source.name: c.source.frame_bytes * c.num_frames for c in cells}
    if not sizes:
        return 0
    references = max(max(sizes.values()), min(sum(sizes.values()), REFERENCE_BUDGET_BYTES))
    return references + 2 * max(sizes.values()) // 4 + 64 * 2**20


def check_disk(folder: Path, cells: Sequence[Cell]) -> None:
    """Raises ToolError when the folder's disk has less room than the sweep takes at one time."""
    need, free = need_bytes(cells), shutil.disk_usage(folder).free
    if free < need:
        raise ToolError(
            f"{folder} has {free / 2**30:.1f} GiB free and this sweep takes up to {need / 2**30:.1f} GiB at a time; "
            "make room, or use shorter windows (--frames) or a smaller --scale"
        )


def expected_seconds(cells: Sequence[Work], jobs: int, pace: float = 1.0) -> float:
    """Wall seconds for `cells` on `jobs` slots; `pace` is measured over expected so far."""
    return pace * sum(c.expected_encode_s + c.expected_score_s for c in cells) / max(1, jobs)


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


class Run(ABC, Generic[W]):
    """One run of cells in a folder that this process holds the lock of: what sweeps and scored pairs share."""

    def __init__(
        self, cells: Sequence[W], state: State[W], notices: Sequence[str], folder: Path, tools: Tools, runner: Runner,
        options: Options, executor: Executor,
    ) -> None:
        self._cells, self.state, self._notices = cells, state, notices
        self._folder, self._tools, self._runner, self._options = folder, tools, runner, options
        self._executor = executor
        self._tmp = folder.absolute() / TMP / str(os.getpid())  # children run inside it
        self._writer = corpus.Writer(folder)
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

    def run(self, argv: Sequence[str]) -> Iterator[Event]:
        """Do what is left. Yields events; ends with `end`. Raises ToolError when the disk is full or too small."""
        for notice in (*self._notices, *self._writer.notices):
            yield {"event": "notice", "message": notice}
        left = self.state.left
        yield {
            "event": "start", "folder": str(self._folder), "num_cells": len(self._cells),
            "num_done": len(self.state.done), "num_failed": len(self.state.failed),
            "num_left": len(left), "jobs": self._options.jobs,
            "expected_s": round(expected_seconds(left, self._options.jobs), 1),
        }  # fmt: skip
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
            "event": "end", "num_ok": counts["ok"], "num_failed": counts["failed"] + carried,
            "num_done": len(self.state.done) + counts["ok"], "num_cells": len(self._cells),
        }  # fmt: skip

    def _note_run(self, argv: Sequence[str]) -> None:
        row = {
            "started_at": corpus.now(), "argv": list(argv), "jobs": self._options.jobs,
            "ffmpeg_version": self._tools.ffmpeg_version, "ffmpeg_sha256": self._tools.ffmpeg_sha256,
            "libvmaf_version": self._tools.libvmaf_version, "packages": packages(), "machine": machine(),
        }  # fmt: skip
        corpus.append_run(self._folder, row)

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
            self._runner.stop()  # kills what is running, so that the slots return at once
            raise
        finally:
            happening.close()  # type: ignore[attr-defined]

    def _timeout(self, expected_s: float) -> float:
        return self._options.timeout_s or max(MIN_TIMEOUT_S, TIMEOUT_FACTOR * expected_s)

    def _place(self, cell: W) -> Path:
        return self._tmp / self.state.keys[cell.id][:24]

    def _failure(self, ended: Ended) -> CellFailure | None:
        """Why a task failed, if that is its cell's matter: a full disk or an interrupt is raised, not written."""
        failure = ended.error
        if failure is not None and not isinstance(failure, CellFailure):
            raise failure
        if failure is not None and failure.kind == "disk_full":
            raise ToolError(
                f"the disk of {self._folder} is full; make room and run the same command again: finished cells are kept"
            ) from failure
        return failure

    @staticmethod
    def _told(cell: W, row: Mapping[str, Any]) -> Event:
        """A written row as an event."""
        return {
            "event": "cell", "cell": cell.id, "status": row["status"], "vmaf_score": row["vmaf_score"],
            "bitrate_kbps": row["bitrate_kbps"], "num_frames": row["num_frames"], "encode_cpu_s": row["encode_cpu_s"],
            "score_cpu_s": row["score_cpu_s"], "encode_wall_s": row["encode_wall_s"],
            "error": row["error"] and row["error"]["message"],
            "expected_s": round(cell.expected_encode_s + cell.expected_score_s, 3),
        }  # fmt: skip


class Sweep(Run[Cell]):
    """A run that encodes a plan's cells and scores each of them."""

    def __init__(
        self, plan: Plan, folder: Path, tools: Tools, runner: Runner, options: Options, hardware: Resolved | None = None,
        executor: Executor | None = None, scorer: GpuScorer | None = None,
    ) -> None:
        lanes = {CPU: options.jobs} | (slots(hardware) if hardware else {}) | ({LANE: SLOTS} if scorer else {})
        super().__init__(
            plan.cells, state(plan, folder, tools, retry_failed=options.retry_failed), plan.notices, folder, tools, runner,
            options, executor or LaneExecutor(lanes),
        )  # fmt: skip
        self._able = hardware.devices if hardware else {}
        self._devices: dict[str, Device] = {}  # where each hardware cell was encoded
        self._scorer = scorer
        self._references: dict[str, _Reference] = {}

    def _check_room(self, left: Sequence[Cell]) -> None:
        check_disk(self._folder, left)

    def _tasks(self, left: Sequence[Cell]) -> list[Task]:
        """A preparation per source, then its cells; where not all references fit the budget, a source waits for an earlier one."""
        by_source: dict[str, list[Cell]] = {}
        for cell in left:
            by_source.setdefault(cell.source.name, []).append(cell)
        # The source with the longest single cell first: what is left for the end is small.
        order = sorted(by_source.values(), key=lambda cs: -max(c.expected_encode_s + c.expected_score_s for c in cs))
        tasks: list[Task] = []
        open_bytes, oldest = 0, 0
        sizes = [cs[0].source.frame_bytes * cs[0].num_frames for cs in order]
        for i, cells in enumerate(order):
            source = cells[0].source
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
            tasks.append(Task(
                id=name, after=frozenset(after), first=True,
                stages=(Stage(name="prepare", lane=CPU, cost_s=seconds, run=partial(self._prepare, source)),),
            ))  # fmt: skip
            tasks += [self._task(cell, name) for cell in cells]
        return tasks

    def _task(self, cell: Cell, after: str) -> Task:
        kind = cell.encoder.kind
        devices = self._able.get(cell.encoder.name) or (None,)
        runs = {lane_name(kind, d) if kind else CPU: partial(self._encode, cell, d) for d in devices}
        first, *others = runs
        on_gpu = self._scorer is not None and eligible(cell)
        return Task(
            id=cell.id, after=frozenset({after}),
            stages=(
                Stage(
                    name="encode", lane=first, cost_s=cell.expected_encode_s, run=runs[first],
                    others={lane: runs[lane] for lane in others}, refused=_session_refused if kind == "nvenc" else None,
                ),
                Stage(
                    name="score", lane=LANE if on_gpu else CPU, cost_s=cell.expected_score_s, run=partial(self._score, cell),
                ),
            ),
        )  # fmt: skip

    def _prepare(self, source: Source, _: None = None) -> None:
        reference = self._references[source.name]
        expected_s = 0.05 * (source.start_frame + source.expected_frames)
        try:
            reference.num_frames = prepare(
                source, self._tools.ffmpeg, reference.path, self._runner, self._timeout(expected_s)
            )
        except CellFailure as failure:
            reference.failure = failure

    def _encode(self, cell: Cell, device: Device | None, _: None = None) -> Encode:
        reference = self._references[cell.source.name]
        if reference.failure:
            raise reference.failure
        place = self._place(cell)
        place.mkdir(exist_ok=True)  # it exists when a session was refused before
        if device:
            self._devices[cell.id] = device
        return encode(
            cell, self._tools.ffmpeg, reference.path, place / "out.mkv", reference.num_frames, self._runner,
            self._timeout(cell.expected_encode_s), device.address if device else None,
        )  # fmt: skip

    def _score(self, cell: Cell, made: Encode) -> Measured:
        reference = self._references[cell.source.name]
        measured = (self._scorer.score if self._scorer else score)(
            cell, self._tools.ffmpeg, reference.path, made.path, reference.num_frames, self._runner,
            self._timeout(cell.expected_score_s),
        )  # fmt: skip
        return Measured(made=made, score=measured)

    def _finish(self, cell: Cell, ended: Ended) -> Event:
        """Write a cell's row, free its temporary space, and tell of it."""
        failure = self._failure(ended)
        device = self._devices.get(cell.id)
        name = f"{device.name} {device.driver or ''}".strip() if device else None
        facts = corpus.cell_facts(cell, self.state.keys[cell.id], encode_argv(cell), self._tools, name)
        if failure is None:
            measured: Measured = ended.value
            row = corpus.ok_row(facts, cell, measured.made, measured.score)
            if self._options.keep_encodes:  # before the row, which is the commit
                self._keep(cell, measured.made.path)
            self._writer.append(row, corpus.frame_rows(facts, measured.score.frames))
        else:
            row = corpus.failed_row(facts, failure, self._command(cell))
            self._writer.append(row)
        shutil.rmtree(self._place(cell), ignore_errors=True)
        reference = self._references[cell.source.name]
        reference.left.discard(cell.id)
        if not reference.left:
            reference.path.unlink(missing_ok=True)
        return self._told(cell, row)

    def _keep(self, cell: Cell, made: Path) -> None:
        folder = self._folder / ENCODES
        folder.mkdir(exist_ok=True)
        # The key tells apart ids that look the same once no sign is left that a shell or a file system minds.
        name = re.sub(r"[^A-Za-z0-9._+-]+", "_", cell.id)
        os.replace(made, folder / f"{name}-{self.state.keys[cell.id][:8]}.mkv")

    def _command(self, cell: Cell) -> str:
        return paste(
            self._tools.ffmpeg, prepare_argv(cell.source), encode_argv(cell), score_argv(cell),
            src=cell.source.path, ref="reference.yuv", out="encode.mkv",
        )  # fmt: skip


def stale(folder: Path) -> list[Path]:
    """Temporary folders of runs that ended without removing them. The caller holds the folder's lock."""
    tmp = folder / TMP
    return sorted(p for p in tmp.iterdir()) if tmp.is_dir() else []

