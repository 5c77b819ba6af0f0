"""`vmaf-tune status`: how far a sweep is, or all sweeps here."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import msgspec
import typer
from vmaf_train.corpus.ids import parse_id
from vmaf_train.corpus.rows import QUESTIONS, RUNS, SWEEP, lines
from vmaf_train.errors import DatasetError

from vmaftune import console
from vmaftune.commands.options import JsonDocument
from vmaftune.costs import duration, encode_s, score_s
from vmaftune.encoders import ENCODERS
from vmaftune.engine.crew import Pace, read_paces
from vmaftune.errors import UsageError, VmafTuneError
from vmaftune.request.document import Document, require_plan

if TYPE_CHECKING:
    from vmaf_train.corpus.ledger import Mark

HERE = Path("runs")
LOOK_S, RATE_S = 2.0, 60.0
"""Seconds between two looks of --watch, and over which it takes the rate."""


@dataclass(frozen=True, kw_only=True, slots=True)
class AskedQuestion:
    """A question that a folder was measured for, and how it ended: `is_met` is None where it was
    stopped before it had an answer.
    """

    film: str
    target: float
    statistic: str
    asked_at: str
    is_met: bool | None


@dataclass(frozen=True, kw_only=True, slots=True)
class RunProgress:
    """How far a run folder is.

    `expected_s` are the seconds until its end, by what the finished cells took; `failed` gives
    the message of every failed cell by its id. `damaged` cells are finished ones whose
    row and frames do not agree: they are among those left, and measured again. `questions` are what
    `find` and `encode` asked, oldest first.
    """

    folder: str
    num_cells: int
    num_done: int
    num_failed: int
    num_left: int
    num_damaged: int
    expected_s: float
    finished_at: str | None
    failed: Mapping[str, str]
    damaged: Mapping[str, str]
    questions: Sequence[AskedQuestion] = ()


def read(folder: Path, *, verify: bool = False) -> RunProgress:
    """Count the cells of a run folder. `verify` checks all rows against their frames again, also
    what is remembered to be sound.

    Raises UsageError when it holds no sweep, DatasetError naming a line that is not a row.
    """
    from vmaf_train.corpus.ledger import read_ledger

    plan = require_plan(folder)
    ledger = read_ledger(folder, everything=verify)
    ids = _ids(plan, ledger.last)
    known = {cell: mark for cell, mark in ledger.last.items() if cell in ids}
    damaged = [mark for mark in known.values() if mark.unit in ledger.damaged]
    sound = {cell: mark for cell, mark in known.items() if mark.unit not in ledger.damaged}
    sentences = {mark.cell: ledger.sentence(mark.unit) for mark in damaged}
    return _progress(folder, plan, ids, sound, sentences)


def _ids(plan: Document, last: Mapping[str, Mark]) -> frozenset[str]:
    """All cells that the folder is about."""
    return plan.cell_ids | last.keys() if plan.open else plan.cell_ids


def _progress(
    folder: Path,
    plan: Document,
    ids: frozenset[str],
    found: Mapping[str, Mark],
    damaged: Mapping[str, str],
) -> RunProgress:
    """Count `found`, the cells of `ids` that are not damaged."""
    failed = {cell: mark.message for cell, mark in found.items() if not mark.is_ok}
    left = ids - found.keys()
    return RunProgress(
        folder=str(folder),
        num_cells=len(ids),
        num_done=len(found) - len(failed),
        num_failed=len(failed),
        num_left=len(left),
        num_damaged=len(damaged),
        expected_s=round(_seconds_left(folder, plan, found, left), 1) if left else 0.0,
        finished_at=max((mark.finished_at for mark in found.values()), default="") or None,
        failed=failed,
        damaged=damaged,
        questions=_questions(folder),
    )


def _questions(folder: Path) -> tuple[AskedQuestion, ...]:
    """What was asked of a folder. Raises DatasetError naming a line that is not ours."""
    if not (folder / QUESTIONS).is_file():  # the report takes as long to load as all the rest
        return ()
    from vmaftune.report.questions import read_groups

    return tuple(
        AskedQuestion(
            film=group.asked.film,
            target=group.asked.target,
            statistic=group.asked.statistic,
            asked_at=group.asked.asked_at,
            is_met=any(told.is_met for told in group.answers) if group.answers else None,
        )
        for group in read_groups(folder)
    )


@dataclass(frozen=True, kw_only=True, slots=True)
class Glance:
    """A run folder as it is measured into: counts without a look at the frames. `frames_per_s` is
    that of the last minute, by the times of the rows; `workers` those of a cluster, the slowest
    first.
    """

    progress: RunProgress
    frames_per_s: float
    workers: Sequence[Pace]

    def to_json(self) -> dict[str, object]:
        """As `--watch --json` prints it."""
        workers = [
            {**msgspec.to_builtins(pace), "frames_per_s": round(pace.frames_per_s, 3)}
            for pace in self.workers
        ]
        speed = {"frames_per_s": round(self.frames_per_s, 3)}
        return {**asdict(self.progress), **speed, "workers": workers}

    def line(self) -> str:
        """What a screen without a live panel shows."""
        run = self.progress
        line = (
            f"{run.num_done + run.num_failed}/{run.num_cells} cells, {run.num_failed} failed,"
            f" {self.frames_per_s:.0f} frames/s"
        )
        return f"{line}, {duration(run.expected_s)} left" if run.num_left else line


def glance(folder: Path) -> Glance:
    """What is done now. Its cost does not grow with the frames that were written since the run
    began. Raises as `read`.
    """
    from vmaf_train.corpus.ledger import survey_cells

    plan = require_plan(folder)
    last = {mark.cell: mark for mark in survey_cells(folder).marks}
    ids = _ids(plan, last)
    found = {cell: mark for cell, mark in last.items() if cell in ids}
    since = (datetime.now(UTC) - timedelta(seconds=RATE_S)).strftime("%Y-%m-%dT%H:%M:%SZ")
    frames = sum(mark.num_frames for mark in found.values() if mark.finished_at >= since)
    return Glance(
        progress=_progress(folder, plan, ids, found, {}),
        frames_per_s=frames / RATE_S,
        workers=read_paces(folder),
    )


def read_all(top: Path) -> tuple[list[RunProgress], list[str]]:
    """All run folders below `top`, the newest first, and a sentence on each that cannot be read."""
    found: list[RunProgress] = []
    problems: list[str] = []
    for plan in top.rglob(SWEEP):
        try:
            found.append(read(plan.parent))
        except (VmafTuneError, DatasetError) as failure:
            problems.append(str(failure))
    found.sort(key=lambda run: run.finished_at or "", reverse=True)
    return found, sorted(problems)


def _seconds_left(
    folder: Path, plan: Document, found: Mapping[str, Mark], left: frozenset[str]
) -> float:
    """Seconds of wall time for the cells of `left`: the table's costs, corrected by what the
    finished cells took.
    """
    guess = _cost(plan)
    done = [mark for mark in found.values() if mark.is_ok]
    took = sum(mark.cpu_s for mark in done)
    expected = sum(guess(mark.cell) for mark in done)
    pace = took / expected if expected else 1.0
    jobs = _jobs(folder)
    return pace * sum(map(guess, left)) / float(jobs)


def _jobs(folder: Path) -> int:
    """Slots of the latest start; 1 where the folder does not say."""
    starts = [row for _, row in lines(folder / RUNS)]
    jobs = starts[-1].get("jobs") if starts else None
    return jobs if isinstance(jobs, int) and jobs > 0 else 1


def _cost(plan: Document) -> Callable[[str], float]:
    """Seconds of processor time that a cell id should take, by the encoder table."""
    sources = {source.name: source for source in plan.sources}

    def seconds(cell: str) -> float:
        # A scored pair is source/external/name: no cost is known.
        name, encoder, preset, *_ = [*cell.split("/"), "", ""]
        source, row = sources.get(name), ENCODERS.get(encoder)
        if source is None:  # a plan that was edited by hand
            return 0.0
        pix_fmt = row.pix_fmt_for(source.pix_fmt) if row else source.pix_fmt
        num_frames = (source.num_frames or source.expected_frames) + sum(source.pads or ())
        known = parse_id(cell)
        own = (source.width, source.height)
        size = (known.size if known else None) or own
        ms = row.cost_ms.get(preset) if row else 0.0
        return encode_s(ms, num_frames, *size) + score_s(num_frames, *own, pix_fmt)

    return seconds


def status(
    folder: Annotated[
        Path | None,
        typer.Argument(
            help="A run folder, such as runs/phase_a/software; all below runs/ when not given.",
            metavar="[DIR]",
        ),
    ] = None,
    verify: Annotated[
        bool,
        typer.Option(
            "--verify", help="Compare every row with its frames, also what was checked before."
        ),
    ] = False,
    watch: Annotated[
        bool,
        typer.Option(
            "--watch",
            help="Look again and again until nothing is left; shows the workers of a cluster.",
        ),
    ] = False,
    as_json: JsonDocument = False,
) -> None:
    """Show how far a sweep is. It counts the cells that are done, failed and left, and says about
    how long the rest takes. Without a folder it lists the sweeps below runs/, the newest first.

    Example: vmaf-tune status runs/phase_a/demo
    """
    if watch and (folder is None or verify):
        raise UsageError("--watch looks at one folder, without --verify: name the folder of a run")
    if folder is None:
        _show_all(as_json)
        return
    if watch:
        watch_folder(folder, as_json=as_json)
        return
    found = read(folder, verify=verify)
    if as_json:
        console.json_document(asdict(found))
        return
    _table([found], named=False)
    _show_questions(found.questions)
    for sentence in found.damaged.values():
        console.warn(sentence)
    if found.failed:
        console.out("")
        console.table("failed", ("cell", "why"), list(found.failed.items()), left=2)


def _show_questions(questions: Sequence[AskedQuestion]) -> None:
    """What was asked, and how it ended."""
    if not questions:
        return
    words = {None: "stopped before an answer", True: "met", False: "not met"}
    lines = [
        (Path(q.film).name, f"{q.statistic} {q.target:g}", q.asked_at[:16], words[q.is_met])
        for q in questions
    ]
    console.out("")
    console.table("questions", ("film", "VMAF", "asked", "ended"), lines, left=4)


def watch_folder(folder: Path, *, as_json: bool) -> None:
    """Show a run folder as it fills, until nothing is left or Ctrl-C. Raises as `read`."""
    with console.Changing() as screen, suppress(KeyboardInterrupt):
        while True:
            begin = time.monotonic()
            seen = glance(folder)
            if as_json:
                console.json_line(seen.to_json())
            else:
                screen.show([seen.line(), *console.worker_lines(seen.workers)])
            if not seen.progress.num_left:
                return
            # Large folders take longer to read: no more than a tenth of the time goes into that.
            time.sleep(max(LOOK_S, 9 * (time.monotonic() - begin)))


def _show_all(as_json: bool) -> None:
    runs, problems = read_all(HERE)
    for problem in problems:
        console.warn(problem)
    if as_json:
        console.json_document({"runs": [asdict(run) for run in runs]})
    elif runs:
        _table(runs, named=True)
    else:
        console.say(f"no sweep lies below {HERE}/; `vmaf-tune corpus` begins one")


def _table(runs: Sequence[RunProgress], *, named: bool) -> None:
    columns = ("cells", "done", "failed", "left", "ETA", "last row")
    rows = [
        (
            run.num_cells,
            run.num_done,
            run.num_failed,
            run.num_left,
            duration(run.expected_s) if run.num_left else None,
            run.finished_at[:16] if run.finished_at else None,
        )
        for run in runs
    ]
    if not named:
        console.table("", columns, rows, left=0)
        return
    lines = [(run.folder, *row) for run, row in zip(runs, rows, strict=True)]
    console.table("", ("folder", *columns), lines, left=1)
