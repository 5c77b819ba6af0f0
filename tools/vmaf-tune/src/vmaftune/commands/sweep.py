"""A sweep as the command line runs it: what this machine can do, the windows, the plan, the
study.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path

from vmaftune.cell import Window, check_utf8
from vmaftune.commands.running import drive, foresee, next_report
from vmaftune.commands.sweep_screen import note_twins, say_if_long, show_plan, summary
from vmaftune.engine.study import BUDGET_BYTES, Options, Study, standing
from vmaftune.errors import SweepFailed
from vmaftune.hardware.cuda import choose_scorer
from vmaftune.hardware.selection import Resolved, choose_encoders
from vmaftune.media.ffmpeg import Ffmpeg, find_ffmpeg, identify, usable_cores
from vmaftune.media.process import Runner
from vmaftune.media.score_cuda import GpuScorer
from vmaftune.questions import grid
from vmaftune.request.asked import Request
from vmaftune.request.cells import Plan, default_folder, plan_cells
from vmaftune.request.flags import RunFlags
from vmaftune.request.sources import resolve_sources


@dataclass(frozen=True, slots=True, kw_only=True)
class Machine:
    """What a sweep uses of this machine. A dry run tries no hardware."""

    ffmpeg: Ffmpeg
    hardware: Resolved | None = None
    scorer: GpuScorer | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Planned:
    """The `whole` plan, the `part` of it that is asked for now, and the folder."""

    whole: Plan
    part: Plan
    folder: Path


def run_sweep(request: Request, runner: Runner, flags: RunFlags) -> None:
    """Measure what a request asks for. Raises SweepFailed when cells failed."""
    # First of all, so that a machine without the hardware says so before anything else.
    machine = _machine(request, runner, flags)
    windows, notices = resolve_sources(request)
    machine = _for_formats(machine, request, windows, flags)
    planned = _plan(request, windows, notices, machine, flags)
    options = Options(
        jobs=flags.jobs or max(1, usable_cores() // request.threads),
        timeout_s=flags.timeout,
        keep_encodes=flags.keep_encodes,
        retry_failed=flags.retry_failed,
        verify=flags.verify,
        budget_bytes=flags.scratch_budget or BUDGET_BYTES,
    )
    if flags.dry_run:
        _show(planned, machine, options, flags)
    else:
        _measure(planned, machine, options, flags)


def _machine(request: Request, runner: Runner, flags: RunFlags) -> Machine:
    ffmpeg = identify(runner, find_ffmpeg(flags.ffmpeg), request.teacher)
    if flags.dry_run:
        return Machine(ffmpeg=ffmpeg)
    hardware = choose_encoders(
        request.selection(), ffmpeg, skip_unusable=flags.skip_unusable, wanted_gpus=flags.gpu
    )
    scorer = choose_scorer(flags.scorer, ffmpeg, hardware.gpus)
    return Machine(ffmpeg=ffmpeg, hardware=hardware, scorer=scorer)


def _for_formats(
    machine: Machine, request: Request, windows: tuple[Window, ...], flags: RunFlags
) -> Machine:
    """The machine tried again with the pixel formats of the windows, where they are not usual."""
    formats = tuple(dict.fromkeys(window.pix_fmt for window in windows))
    if machine.hardware is None or formats == ("yuv420p",):
        return machine
    hardware = choose_encoders(
        request.selection(),
        machine.ffmpeg,
        skip_unusable=flags.skip_unusable,
        wanted_gpus=flags.gpu,
        pix_fmts=formats,
    )
    return Machine(ffmpeg=machine.ffmpeg, hardware=hardware, scorer=machine.scorer)


def _plan(
    request: Request,
    windows: tuple[Window, ...],
    notices: tuple[str, ...],
    machine: Machine,
    flags: RunFlags,
) -> Planned:
    usable = machine.hardware.encoders if machine.hardware else None
    said = machine.hardware.notices if machine.hardware else _unproven(request)
    whole = plan_cells(request, windows, usable, notices=(*notices, *said))
    part = whole
    if flags.select:
        part = plan_cells(
            request, windows, usable, select_globs=flags.select, notices=(*notices, *said)
        )
    folder = request.out or default_folder(request, whole)
    check_utf8(folder)
    return Planned(whole=whole, part=part, folder=folder)


def _unproven(request: Request) -> tuple[str, ...]:
    """What a dry run cannot tell of the encoders asked for."""
    if not request.selection().auto:
        return ()
    return (
        "a dry run tries no encoder: auto stands for all there are, and `vmaf-tune doctor` tells"
        " which of them run here",
    )


def _show(planned: Planned, machine: Machine, options: Options, flags: RunFlags) -> None:
    foresee(planned.folder, planned.whole, extend=flags.extend, part=bool(flags.select))
    state = standing(
        planned.part.cells, planned.folder, machine.ffmpeg, retry_failed=flags.retry_failed
    )
    show_plan(planned.part, planned.folder, state, options, as_json=flags.as_json)


def _measure(planned: Planned, machine: Machine, options: Options, flags: RunFlags) -> None:
    plan, folder = planned.part, planned.folder
    study = Study.open(
        folder,
        planned.whole,
        machine.ffmpeg,
        options,
        argv=sys.argv,
        hardware=machine.hardware,
        scorer=machine.scorer,
        extend=flags.extend,
        part=bool(flags.select),
        skipped=machine.hardware.skipped if machine.hardware else (),
    )
    if not flags.as_json:
        say_if_long(study.state(plan.cells).left, options.jobs)
    num_failed = drive(
        study, plan.cells, lambda opened: grid.run(plan, opened), as_json=flags.as_json
    )
    if not flags.as_json:
        summary(plan, folder)
    if num_failed < len(plan.cells):
        note_twins(folder)
        next_report(folder)
    if num_failed:
        raise SweepFailed(
            f"{num_failed} of {len(plan.cells)} cells failed; their rows in {folder}/cells.jsonl"
            " say why and give a command to paste; try them again with --retry-failed"
        )
