"""What a sweep and scored pairs share as commands: a study with its screen."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Generator, Sequence
from contextlib import closing
from pathlib import Path

from vmaf_train.corpus.rows import CELLS

from vmaftune import console
from vmaftune.engine.events import EndEvent, Event, to_json
from vmaftune.engine.plan_file import Planned
from vmaftune.engine.rows import Item
from vmaftune.engine.standing import expected_seconds
from vmaftune.engine.study import Study
from vmaftune.errors import FolderError, Interrupted
from vmaftune.request.document import agreed


def drive(
    study: Study,
    items: Sequence[Item],
    question: Callable[[Study], Generator[Event]],
    *,
    as_json: bool,
) -> int:
    """Ask `question` of a study and show what happens; `items` are the cells it will ask for.

    Returns the number of failed cells. Closes the study.
    """
    num_failed = 0
    try:
        with study:
            costs = {i.id: (i.kind, expected_seconds([i], 1)) for i in study.state(items).left}
            with (
                console.SweepView(
                    costs, study.options.jobs, as_json=as_json, paces=study.paces
                ) as view,
                closing(question(study)) as events,
            ):
                for event in events:
                    view.feed(to_json(event))
                    if isinstance(event, EndEvent):
                        num_failed = event.num_failed
        return num_failed
    except (BrokenPipeError, SystemExit) as failure:
        if not console.reader_left(failure):
            raise
        raise Interrupted("nobody reads the output any more") from failure


def foresee(folder: Path, plan: Planned, *, extend: bool, part: bool) -> None:
    """Note on the screen that a run of `plan` in `folder` would be refused, if so;
    writes nothing.
    """

    has_rows = (folder / CELLS).exists()
    try:
        agreed(folder, plan.document(), extend=extend, part=part, has_rows=has_rows)
    except FolderError as failure:
        console.warn(f"without --dry-run this would be refused: {failure}")


def next_report(folder: Path) -> None:
    """The command after a run, with the folder as a shell takes it."""
    console.next_command(f"vmaf-tune report {shlex.quote(str(folder))}")
