"""Ctrl-C and its like: the children are killed, and the command ends as Interrupted."""

from __future__ import annotations

import os
import signal
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from vmaftune.errors import Interrupted
from vmaftune.media.process import Runner


@contextmanager
def interruptible(runner: Runner) -> Iterator[None]:
    """Ctrl-C, SIGTERM and SIGHUP kill the children and end as Interrupted; a second one leaves at
    once.

    A signal that is ignored when we start, as under nohup, stays ignored.
    """
    seen: list[int] = []

    def handle(number: int, _: object) -> None:
        if seen:
            # The kernel kills the children with us; the next run removes what is left.
            os._exit(130)
        seen.append(number)
        raise KeyboardInterrupt

    ours = [getattr(signal, n) for n in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, n)]
    taken = [n for n in ours if signal.getsignal(n) is not signal.SIG_IGN]
    with _woken(runner):
        before = {n: signal.signal(n, handle) for n in taken}
        try:
            yield
        except (KeyboardInterrupt, Interrupted) as stop:
            runner.stop()
            raise Interrupted(
                "stopped; finished cells are kept, and the same command goes on from here"
            ) from stop
        finally:
            for n, handler in before.items():
                signal.signal(n, handler)


@contextmanager
def _woken(runner: Runner) -> Iterator[None]:
    """Kill the children as soon as a signal comes.

    Python runs a handler in the main thread, which learns of a signal late when it was just about
    to wait for the slots: those wait for the children. So the children are killed by a thread that
    the C handler wakes through a socket.
    """
    told, tell = socket.socketpair()
    tell.setblocking(False)

    def watch() -> None:
        if told.recv(1):
            runner.stop()

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    waker = signal.set_wakeup_fd(tell.fileno(), warn_on_full_buffer=False)
    try:
        yield
    finally:
        signal.set_wakeup_fd(waker)
        tell.close()
        watcher.join()
        told.close()
