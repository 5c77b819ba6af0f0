"""A sweep as the command line runs it: made ready, shown or measured."""

from __future__ import annotations

import sys
from pathlib import Path

from vmaftune.asking.grid_question import GridQuestion
from vmaftune.asking.sweeping import failed_sentence, grid_question
from vmaftune.commands.running import drive, foresee, next_report
from vmaftune.commands.sweep_screen import note_twins, say_if_long, show_plan, summary
from vmaftune.engine.standing import standing
from vmaftune.errors import SweepFailed
from vmaftune.media.process import Runner
from vmaftune.questions import grid
from vmaftune.request.asked import Request
from vmaftune.request.flags import Flags, RunFlags


def run_sweep(request: Request, runner: Runner, flags: RunFlags) -> None:
    """Measure what a request asks for. Raises SweepFailed when cells failed."""
    question = grid_question(request, flags, runner)
    if flags.dry_run:
        _show(question, flags)
    else:
        _measure(question, flags)


def run_rescore(folder: Path, flags: Flags, runner: Runner, run: RunFlags) -> None:
    """Score the kept encodes of a folder again. Raises SweepFailed when cells failed."""
    from vmaftune.asking.rescoring import rescore_question

    question = rescore_question(folder, flags, run, runner)
    if run.dry_run:
        _show(question, run)
    else:
        _measure(question, run)


def _show(question: GridQuestion, flags: RunFlags) -> None:
    plan, folder = question.plan, question.folder
    foresee(folder, question.whole, extend=flags.extend, part=question.is_part)
    state = standing(plan.cells, folder, question.ffmpeg, retry_failed=flags.retry_failed)
    show_plan(plan, folder, state, question.options, as_json=flags.as_json)


def _measure(question: GridQuestion, flags: RunFlags) -> None:
    plan, folder = question.plan, question.folder
    study = question.study(sys.argv)
    if not flags.as_json:
        say_if_long(study.state(plan.cells).left, study.options.jobs)
    num_failed = drive(
        study, plan.cells, lambda opened: grid.run(plan, opened), as_json=flags.as_json
    )
    if not flags.as_json:
        summary(plan, folder)
    if num_failed < len(plan.cells):
        note_twins(folder)
        next_report(folder)
    if num_failed:
        raise SweepFailed(failed_sentence(num_failed, len(plan.cells), folder))
