"""What a sweep and scored pairs share as commands: a run's folder, locked, its screen, and the end
by a signal.
"""

from __future__ import annotations

import os
import shlex
import signal
import socket
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vmaftune import console
from vmaftune.errors import FolderError, Interrupted, ToolError, UsageError

if TYPE_CHECKING:
    from vmaftune.engine.study import Planned, Run
    from vmaftune.media.process import Runner


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
    from vmaftune.cell import check_utf8
    from vmaftune.engine.folder import LOCK, RUNS, SWEEP, lock
    from vmaftune.engine.study import open_folder

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
    from vmaftune.engine.folder import CELLS
    from vmaftune.request.document import agreed

    has_rows = (folder / CELLS).exists()
    try:
        agreed(folder, plan.document(), extend=extend, part=part, has_rows=has_rows)
    except FolderError as failure:
        console.warn(f"without --dry-run this would be refused: {failure}")


def next_report(folder: Path) -> None:
    """The command after a run, with the folder as a shell takes it."""
    console.next_command(f"vmaf-tune report {shlex.quote(str(folder))}")


@contextmanager
def interruptible(runner: Runner) -> Iterator[None]:
    """Ctrl-C, SIGTERM and SIGHUP kill the children and end as Interrupted; a second one leaves at
    once.

    A signal that is ignored when we start, as under nohup, stays ignored.
    """
    seen: list[int] = []

    def handle(number: int, _: object) -> None:
        if seen:
            os._exit(
                130
            )  # the kernel kills the children with us; the next run removes what is left
        seen.append(number)
        raise KeyboardInterrupt

    # Python runs `handle` in this thread, which learns of a signal late when it was just about to
    # wait for the slots: those wait for the children. So the children are killed by a thread that
    # the C handler wakes through a socket.
    told, tell = socket.socketpair()
    tell.setblocking(False)

    def watch() -> None:
        if told.recv(1):
            runner.stop()

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    ours = [getattr(signal, n) for n in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, n)]
    before = {
        n: signal.signal(n, handle) for n in ours if signal.getsignal(n) is not signal.SIG_IGN
    }
    waker = signal.set_wakeup_fd(tell.fileno(), warn_on_full_buffer=False)
    try:
        yield
    except (KeyboardInterrupt, Interrupted) as stop:
        runner.stop()
        raise Interrupted(
            "stopped; finished cells are kept, and the same command goes on from here"
        ) from stop
    finally:
        signal.set_wakeup_fd(waker)
        for n, handler in before.items():
            signal.signal(n, handler)
        tell.close()
        watcher.join()
        told.close()
