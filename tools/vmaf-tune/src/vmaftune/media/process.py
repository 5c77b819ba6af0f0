"""The only module that starts a child process.

Every child has no stdin, its own process group, a timeout, and a stderr that is kept. On Linux the
kernel kills it when the thread that waits for it dies (PR_SET_PDEATHSIG), so kill -9 of this
program leaves nothing encoding: the thread that starts a child is the one that waits for it, and
outlives it. setpriv asks the kernel for that where it is installed, and Python in the child where
not.
"""

from __future__ import annotations

import ctypes
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import IO, Any

from vmaftune.errors import Interrupted, ToolError

STDERR_LIMIT_BYTES = 4_000_000
# No child runs longer: a timer takes no infinite time, and nobody waits for a month.
LONGEST_S = 30 * 24 * 3600.0
# What a signal means to whoever can do something about it.
_CAUSES = {
    "SIGXFSZ": "a file grew beyond the limit of this shell, ulimit -f",
    "SIGKILL": "by hand, or because the machine ran out of memory",
    "SIGXCPU": "the limit of this shell for CPU time, ulimit -t",
}
# Whoever waits longer than this is told for what.
SLOW_S = 5.0
_PR_SET_PDEATHSIG = 1
# A group of its own, so that Ctrl-C reaches only us; the same session, so that `nice vmaf-tune` is
# felt: Linux weighs the processes of different sessions by session first (autogroup), whatever
# their nice value.
_OWN_GROUP: dict[str, Any] = {"process_group": 0} if os.name == "posix" else {}


@dataclass(frozen=True, slots=True, kw_only=True)
class Finished:
    """A child that has ended. `returncode` is negative for a signal; `cpu_s` (user + system) is
    None where the OS does not tell.
    """

    argv: tuple[str, ...]
    returncode: int
    timed_out: bool
    wall_s: float
    cpu_s: float | None
    stdout: bytes
    stderr: str

    @property
    def ended(self) -> str:
        """How it ended, as a sentence's verb: `ended with 3`, `was killed by SIGSEGV`."""
        if self.returncode >= 0:
            return f"ended with {self.returncode}"
        try:
            name = signal.Signals(-self.returncode).name
        except ValueError:
            name = f"signal {-self.returncode}"
        cause = _CAUSES.get(name)
        return f"was killed by {name}" + (f" ({cause})" if cause else "")

    @property
    def tail(self) -> str:
        """The last lines of stderr, at most 2,000 characters."""
        return self.stderr.strip()[-2000:]


def _die_with_parent() -> Callable[[], None] | None:
    """A function for the child, between fork and exec, that ties its life to ours; None where the
    OS cannot.
    """
    if sys.platform != "linux":
        return None
    prctl = ctypes.CDLL(None).prctl
    parent = os.getpid()

    def tie() -> None:
        prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:  # the parent died before the request was made
            os._exit(1)

    return tie


@cache
def _launcher() -> tuple[str, ...]:
    """Programs that do the same after exec, and then become what follows them and our process id;
    empty where they are not installed.

    To run Python in a child, the whole process is copied: 2 ms for a command line, 20 ms beside
    PyTorch, and the child's half of it counts as CPU of its program. Without that, the child is
    started by vfork, in a tenth of a millisecond.
    """
    setpriv, shell = shutil.which("setpriv"), shutil.which("sh")
    if sys.platform != "linux" or not setpriv or not shell:
        return ()
    tied = (setpriv, "--pdeathsig", "KILL", shell, "-c")
    asked = subprocess.run(
        [*tied, "exit 0"],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        check=False,
    )
    if asked.returncode:  # busybox has a setpriv without a death signal
        return ()
    return (*tied, '[ "$PPID" = "$0" ] && exec "$@"')


# What was started before. A shell takes any text for a script of its own, and says itself what it
# cannot start: so the first start is ours.
_STARTED: set[str] = set()


class Runner:
    """Starts children and can stop all of them at once, from any thread.

    No child runs longer than `most_s` seconds, whatever its own limit says. A child that is
    awaited under a name and takes long is told of by `tell`.
    """

    def __init__(
        self, *, most_s: float | None = None, tell: Callable[[str], None] | None = None
    ) -> None:
        self._most_s = min(LONGEST_S, most_s or LONGEST_S)
        self._tell = tell
        self._lock = threading.Lock()
        self._children: set[subprocess.Popen[bytes]] = set()
        self._branches: list[Runner] = []
        self._stopped = threading.Event()
        self._tie = _die_with_parent()

    def __reduce__(self) -> tuple[Callable[[float], Runner], tuple[float]]:
        return _another, (self._most_s,)

    def tell(self, sentence: str) -> None:
        """Say something to the user, where anybody listens."""
        if self._tell:
            self._tell(sentence)

    @property
    def stopped(self) -> bool:
        """True once `stop` was called."""
        return self._stopped.is_set()

    def stop(self) -> None:
        """Kill every running child and refuse to start another. Safe to call twice and from a
        signal handler's thread.
        """
        self._stopped.set()
        with self._lock:
            for child in self._children:
                self._kill(child)
            branches = list(self._branches)
        for branch in branches:
            branch.stop()

    def branch(self) -> Runner:
        """A runner that can be stopped by itself, and is stopped with this one."""
        branch = Runner(most_s=self._most_s, tell=self._tell)
        with self._lock:
            self._branches.append(branch)
        if self.stopped:
            branch.stop()
        return branch

    def run(
        self,
        argv: Sequence[str],
        *,
        timeout_s: float,
        cwd: Path | None = None,
        what: str | None = None,
        keep_bytes: int = STDERR_LIMIT_BYTES,
    ) -> Finished:
        """Run `argv` to its end in `cwd`; `what` names it to a user who has to wait for it. Of
        stderr the two ends are kept where it is longer than `keep_bytes`.

        Raises ToolError when the program cannot be started, Interrupted when `stop` was called. A
        child that outlives `timeout_s` seconds is killed and comes back with `timed_out` set. Any
        exit code comes back as it is.
        """
        with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
            begin = time.monotonic()
            child = self._start(argv, cwd, out.fileno(), err.fileno())
            expired = threading.Event()
            limit_s = min(timeout_s, self._most_s)
            timers = self._timers(child, expired, limit_s, what)
            try:
                returncode, cpu_s = self._wait(child)
            finally:
                for timer in timers:
                    timer.cancel()
            wall_s = time.monotonic() - begin
            if self.stopped:
                raise Interrupted("stopped")
            out.seek(0)
            return Finished(
                argv=tuple(argv),
                returncode=returncode,
                timed_out=expired.is_set(),
                wall_s=wall_s,
                cpu_s=cpu_s,
                stdout=out.read(),
                stderr=_read_ends(err, keep_bytes),
            )

    def _timers(
        self,
        child: subprocess.Popen[bytes],
        expired: threading.Event,
        limit_s: float,
        what: str | None,
    ) -> list[threading.Timer]:
        """Started timers: one kills the child, one tells of `what` when it takes its time."""
        timers = [threading.Timer(limit_s, self._expire, (child, expired))]
        if what and self._tell:
            said = f"waiting for {what} (at most {limit_s:.0f} s)"
            timers.append(threading.Timer(min(SLOW_S, limit_s / 2), self._tell, (said,)))
        for timer in timers:
            timer.daemon = True
            timer.start()
        return timers

    def _start(
        self, argv: Sequence[str], cwd: Path | None, out: int, err: int
    ) -> subprocess.Popen[bytes]:
        is_known = argv[0] in _STARTED and shutil.which(argv[0]) is not None
        launcher = _launcher() if is_known else ()
        before = [*launcher, str(os.getpid())] if launcher else []
        with self._lock:  # so that `stop` sees either no child or a registered one
            if self.stopped:
                raise Interrupted("stopped")
            try:
                child = subprocess.Popen(
                    [*before, *argv],
                    stdin=subprocess.DEVNULL,
                    stdout=out,
                    stderr=err,
                    cwd=cwd,
                    env=_environment(),
                    preexec_fn=None if launcher else self._tie,
                    **_OWN_GROUP,
                )
            except OSError as failure:
                raise ToolError(
                    f"{argv[0]} cannot be started: {failure.strerror or failure}"
                ) from failure
            self._children.add(child)
            _STARTED.add(argv[0])
            return child

    def _wait(self, child: subprocess.Popen[bytes]) -> tuple[int, float | None]:
        if not hasattr(os, "wait4"):  # Windows: no CPU time
            code = child.wait()
            with self._lock:
                self._children.discard(child)
            return code, None
        if hasattr(
            os, "waitid"
        ):  # wait without reaping, so that no signal can reach a reused process id
            os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
        with self._lock:
            _, status, usage = os.wait4(child.pid, 0)
            child.returncode = os.waitstatus_to_exitcode(status)
            self._children.discard(child)
        return child.returncode, usage.ru_utime + usage.ru_stime

    def _expire(self, child: subprocess.Popen[bytes], expired: threading.Event) -> None:
        with self._lock:
            if child in self._children:
                expired.set()
                self._kill(child)

    @staticmethod
    def _kill(child: subprocess.Popen[bytes]) -> None:
        try:
            if os.name == "posix":
                os.killpg(child.pid, signal.SIGKILL)
            else:
                child.kill()
        except ProcessLookupError:
            pass


def _environment() -> dict[str, str]:
    """This process's environment without what Dask sets for the C library of its workers: under it
    ffmpeg gives memory back and asks for it again all the time, and a score takes a tenth more CPU.
    """
    return {name: value for name, value in os.environ.items() if name != "MALLOC_TRIM_THRESHOLD_"}


def _another(most_s: float) -> Runner:
    """The runner of another process, in place of one that was pickled here."""
    return Runner(most_s=most_s)


def _read_ends(file: IO[bytes], limit: int) -> str:
    """All of a stderr, or its two ends when a broken input made it enormous."""
    size = file.seek(0, os.SEEK_END)
    file.seek(0)
    if size <= limit:
        return file.read().decode("utf-8", "replace")
    head = file.read(limit // 2)
    file.seek(size - limit // 2)
    return (head + b"\n...\n" + file.read()).decode("utf-8", "replace")
