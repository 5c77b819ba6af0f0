"""A sweep made ready: the encoders that run here, the clips probed, the cells planned.

The command `corpus` and the call `sweep` both start here.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path

from vmaftune.asking.grid_question import GridQuestion
from vmaftune.asking.running import Running
from vmaftune.cell import check_utf8
from vmaftune.encoders import Encoder
from vmaftune.engine.events import EndEvent, Event
from vmaftune.engine.options import Options
from vmaftune.engine.room import BUDGET_BYTES
from vmaftune.engine.target import check_target
from vmaftune.hardware.cuda import choose_scorer
from vmaftune.hardware.selection import Resolved, choose_encoders
from vmaftune.media import further
from vmaftune.media.ffmpeg import Ffmpeg, find_ffmpeg, identify, usable_cores
from vmaftune.media.process import Runner
from vmaftune.questions import grid
from vmaftune.questions.shards import parse_shard, part_of
from vmaftune.request.asked import Request
from vmaftune.request.cells import default_folder, plan_cells
from vmaftune.request.flags import RunFlags
from vmaftune.request.sources import resolve_sources

USUAL = ("yuv420p",)
"""The pixel format that encoders are tried with before the clips are opened."""


def grid_question(request: Request, run: RunFlags, runner: Runner) -> GridQuestion:
    """Everything that a sweep needs. Raises UsageError, SourceError and ToolError."""
    target = check_target(run.cluster, run.workers, insecure=run.insecure)
    shard = parse_shard(run.shard) if run.shard is not None else None
    ffmpeg = identify(runner, find_ffmpeg(run.ffmpeg), request.teacher)
    further.require(ffmpeg, request.metrics)
    hardware, scorer = None, None
    # First of all, so that a machine without the hardware says so before any clip is opened.
    # The workers of a cluster say for themselves.
    if not run.dry_run and target is None:
        hardware = _hardware(request, run, ffmpeg)
        scorer = choose_scorer(run.scorer, ffmpeg, hardware.gpus)
    clips, notices = resolve_sources(request)
    formats = tuple(dict.fromkeys(clip.pix_fmt for clip in clips))
    if hardware and formats != USUAL:
        hardware = _hardware(request, run, ffmpeg, formats)
    usable: tuple[Encoder, ...] | None = hardware.encoders if hardware else None
    notices = (*notices, *(hardware.notices if hardware else _unproven(request)))
    whole = plan_cells(request, clips, usable, notices=notices)
    plan = whole
    if run.select:
        plan = plan_cells(request, clips, usable, select_globs=run.select, notices=notices)
    folder = request.out or default_folder(request, whole)
    if shard is not None:
        folder = request.out or folder.with_name(folder.name + shard.suffix)
        whole, plan = part_of(whole, shard), part_of(plan, shard)
    check_utf8(folder)
    return GridQuestion(
        plan=plan,
        whole=whole,
        folder=folder,
        ffmpeg=ffmpeg,
        options=_options(request, run),
        hardware=hardware,
        scorer=scorer,
        extend=run.extend,
        target=target,
    )


def _options(request: Request, run: RunFlags) -> Options:
    return Options(
        jobs=run.jobs or max(1, usable_cores() // request.threads),
        timeout_s=run.timeout,
        keep_encodes=run.keep_encodes,
        retry_failed=run.retry_failed,
        verify=run.verify,
        budget_bytes=run.scratch_budget or BUDGET_BYTES,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class SweepFlags:
    """What only a sweep takes, as on the command line of `corpus`.

    `select` are globs over cell ids; `extend` adds the cells to the plan that the folder holds;
    `gpu` is as typed (`0,1`); `scratch_bytes` bounds what prepared references take of the disk;
    `verify` compares all rows of the folder with their frames first.
    """

    select: Sequence[str] = ()
    extend: bool = False
    keep_encodes: bool = False
    skip_unusable: bool = False
    gpu: str | None = None
    scorer: str = "auto"
    scratch_bytes: int | None = None
    verify: bool = False


def run_flags(words: RunFlags, only: SweepFlags, how: Running) -> RunFlags:
    return replace(
        words,
        extend=only.extend,
        keep_encodes=only.keep_encodes,
        skip_unusable=only.skip_unusable,
        scratch_budget=only.scratch_bytes,
        verify=only.verify,
        jobs=how.jobs,
        timeout=how.timeout_s,
        retry_failed=how.retry_failed,
        ffmpeg=how.ffmpeg,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class SweepResult:
    """What a sweep did. `num_done` cells of `num_cells` have a score, `num_ok` of them made now;
    `num_failed` have an error in their row. `read(folder)` has the rows.
    """

    folder: Path
    num_cells: int
    num_done: int
    num_ok: int
    num_failed: int


def measure(
    question: GridQuestion, argv: Sequence[str], on_event: Callable[[Event], None]
) -> SweepResult:
    """Measure what the folder does not answer. Raises FolderError, ToolError and DatasetError."""
    end: EndEvent | None = None
    with question.study(argv) as study, closing(grid.run(question.plan, study)) as events:
        for event in events:
            on_event(event)
            if isinstance(event, EndEvent):
                end = event
    assert end is not None
    return SweepResult(
        folder=question.folder,
        num_cells=end.num_cells,
        num_done=end.num_done,
        num_ok=end.num_ok,
        num_failed=end.num_failed,
    )


def _hardware(
    request: Request, run: RunFlags, ffmpeg: Ffmpeg, pix_fmts: tuple[str, ...] = USUAL
) -> Resolved:
    """The encoders of the request that run here, for clips of these pixel formats."""
    return choose_encoders(
        request.selection(),
        ffmpeg,
        skip_unusable=run.skip_unusable,
        wanted_gpus=run.gpu,
        pix_fmts=pix_fmts,
    )


def _unproven(request: Request) -> tuple[str, ...]:
    """What a dry run cannot tell of the encoders asked for."""
    if not request.selection().auto:
        return ()
    return (
        "a dry run tries no encoder: auto stands for all there are, and `vmaf-tune doctor` tells"
        " which of them run here",
    )


def failed_sentence(num_failed: int, num_cells: int, folder: Path) -> str:
    """What to do about cells that failed."""
    return (
        f"{num_failed} of {num_cells} cells failed; their rows in {folder}/cells.jsonl say why and"
        " give a command to paste; try them again with --retry-failed"
    )
