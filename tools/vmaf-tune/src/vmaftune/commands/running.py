"""What a sweep and scored pairs share as commands: a run's folder, locked, and its screen."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Callable, Sequence
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

from vmaftune import console
from vmaftune.cell import check_utf8
from vmaftune.engine.folder import CELLS, LOCK, RUNS, SWEEP, lock
from vmaftune.engine.study import Planned, Run, open_folder
from vmaftune.errors import FolderError, Interrupted, ToolError, UsageError
from vmaftune.request.document import agreed


def drive(
    folder: Path,
    plan: Planned,
    make: Callable[[], Run[Any]],
    *,
    jobs: int,
    extend: bool,
    part: bool,
    as_json: bool,
    skipped: Sequence[str] = (),
) -> int:
    """Open `folder` for `plan`, or with `part` for some of it, run what `make` gives then, and show
    it.

    Returns the number of failed cells. Raises UsageError and ToolError for a folder that cannot be
    one, FolderError for one that is in use or holds another plan. Of a run that did not begin
    neither plan nor folder are left.
    """

    check_utf8(*sys.argv)
    if folder.exists() and not folder.is_dir():
        raise UsageError(f"{folder} is a file; give a folder with --out")
    made, fresh = not folder.exists(), not (folder / SWEEP).exists()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        holder = lock(folder)
    except OSError as failure:
        raise ToolError(
            f"{folder} cannot be written ({failure.strerror}); write elsewhere with --out"
        ) from failure
    try:
        open_folder(folder, plan, sys.argv, extend=extend, part=part, skipped=skipped)
        run = make()
        costs = {c.id: (c.kind, c.expected_encode_s + c.expected_score_s) for c in run.state.left}
        last: dict[str, Any] = {}
        with (
            console.SweepView(costs, jobs, as_json=as_json) as view,
            closing(run.run(sys.argv)) as events,
        ):
            for event in events:
                view.feed(event)
                last = event
        return int(last["num_failed"])
    except (BrokenPipeError, SystemExit) as failure:
        if not console.reader_left(failure):
            raise
        raise Interrupted("nobody reads the output any more") from failure
    finally:
        if fresh and not (folder / RUNS).exists():
            (folder / SWEEP).unlink(missing_ok=True)
        holder.close()
        if made and not (folder / SWEEP).exists():
            (folder / LOCK).unlink(missing_ok=True)
            with suppress(OSError):  # so that nothing hides why we are here
                folder.rmdir()


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
