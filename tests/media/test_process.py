"""Children: output, limits, stop from another thread, and nothing that outlives its parent."""

from __future__ import annotations

import os
import pickle
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest
from processes import alive
from vmaftune.errors import Interrupted, ToolError
from vmaftune.media.process import STDERR_LIMIT_BYTES, Runner, _launcher

SLEEP = "import time; time.sleep(600)"


def python(text: str) -> list[str]:
    return [sys.executable, "-c", text]


def test_what_a_child_says_and_costs(tmp_path: Path) -> None:
    done = Runner().run(
        python(
            "import os, sys; print(os.getcwd()); print('no\\xff', file=sys.stderr); sys.exit(7)"
        ),
        timeout_s=60,
        cwd=tmp_path,
    )
    assert (done.returncode, done.timed_out, done.stdout.decode().strip()) == (
        7,
        False,
        str(tmp_path),
    )
    assert done.stderr.startswith("no")
    assert done.cpu_s is not None
    assert 0 < done.cpu_s < 60


def test_a_child_has_no_stdin_and_a_process_group_of_its_own() -> None:
    done = Runner().run(
        python("import os, sys; print(repr(sys.stdin.read()), os.getpgid(0) == os.getpid())"),
        timeout_s=60,
    )
    assert done.stdout.decode().split() == ["''", "True"]


def test_what_dask_sets_for_its_workers_does_not_reach_a_child(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("MALLOC_TRIM_THRESHOLD_", "65536")
    monkeypatch.setenv("SOMETHING_ELSE", "stays")
    told = Runner().run(["env"], timeout_s=60).stdout.decode()
    assert "MALLOC_TRIM_THRESHOLD_" not in told
    assert "SOMETHING_ELSE=stays" in told


def test_a_program_that_is_none_is_named() -> None:
    with pytest.raises(ToolError, match="/no/such/program cannot be started"):
        Runner().run(["/no/such/program"], timeout_s=1)


def test_a_stall_is_killed_with_its_own_children(
    until: Callable[..., None], tmp_path: Path
) -> None:
    # A shell, because it starts at once: on a busy machine Python may take these seconds.
    done = Runner().run(["sh", "-c", "sleep 600 & echo $!; wait"], timeout_s=3)
    assert done.timed_out
    assert done.returncode == -signal.SIGKILL
    until(lambda: not alive(int(done.stdout)), "the end of the grandchild")


def test_an_enormous_stderr_keeps_both_ends() -> None:
    done = Runner().run(
        python(f"import sys; sys.stderr.write('first' + 'x' * {2 * STDERR_LIMIT_BYTES} + 'last')"),
        timeout_s=60,
    )
    assert len(done.stderr) < STDERR_LIMIT_BYTES + 100
    assert done.stderr.startswith("first")
    assert done.tail.endswith("last")
    assert len(done.tail) <= 2000


def test_stop_ends_what_runs_and_lets_nothing_start(until: Callable[..., None]) -> None:
    runner, seen = Runner(), []

    def work() -> None:
        try:
            runner.run(python(SLEEP), timeout_s=600)
        except Interrupted as stopped:
            seen.append(str(stopped))

    threads = [threading.Thread(target=work) for _ in range(3)]
    for thread in threads:
        thread.start()
    until(lambda: len(runner._children) == 3, "three children")
    runner.stop()
    runner.stop()
    for thread in threads:
        thread.join(60)
    assert seen == ["stopped"] * 3
    with pytest.raises(Interrupted):
        runner.run(python("print()"), timeout_s=60)


@pytest.mark.parametrize("starts_before", [0, 1])
def test_a_killed_parent_takes_its_children_along(
    starts_before: int, until: Callable[..., None], tmp_path: Path
) -> None:
    """The first start of a program is another than those after it."""
    note = tmp_path / "pid"
    inner = f"import os; open({str(note)!r}, 'w').write(str(os.getpid())); {SLEEP}"
    text = (
        "import sys, threading\nfrom vmaftune.media.process import Runner\n"
        f"for _ in range({starts_before}): Runner().run([sys.executable, '-c', ''], timeout_s=60)\n"
        f"argv = [sys.executable, '-c', {inner!r}]\n"
        "thread = threading.Thread(target=Runner().run, args=(argv,),"
        " kwargs={'timeout_s': 600})\nthread.start()\nthread.join()\n"
    )
    parent = subprocess.Popen(python(text))
    try:
        until(lambda: note.exists() and note.read_text() != "", "the child's start")
        assert alive(int(note.read_text()))
    finally:
        parent.kill()
        parent.wait()
    until(lambda: not alive(int(note.read_text())), "the end of the child")


@pytest.mark.parametrize("delay_s", [0.0, 0.001, 0.002, 0.005, 0.01, 0.02])
def test_a_parent_that_is_killed_while_it_starts_children_leaves_none(
    delay_s: float, until: Callable[..., None]
) -> None:
    """Each child's command line holds a number that no other process has."""
    mark = f"{600 + delay_s + os.getpid() / 1e9:.9f}"
    text = (
        "import threading\nfrom vmaftune.media.process import Runner\n"
        "runner = Runner()\nrunner.run(['sleep', '0'], timeout_s=60)\nprint(flush=True)\n"
        f"for _ in range(20): threading.Thread(target=runner.run, args=(['sleep', '{mark}'],),"
        " kwargs={'timeout_s': 600}).start()\n"
    )
    parent = subprocess.Popen(python(text), stdout=subprocess.PIPE)
    assert parent.stdout is not None
    parent.stdout.readline()
    time.sleep(delay_s)
    parent.kill()
    parent.communicate()
    until(lambda: not running(mark), "the end of all children")


def running(mark: str) -> list[str]:
    """Processes that have `mark` for an argument."""
    found = []
    for file in Path("/proc").glob("[0-9]*/cmdline"):
        with suppress(OSError):
            if mark.encode() in file.read_bytes().split(b"\0"):
                found.append(file.parent.name)
    return found


def test_nothing_is_started_for_a_parent_that_is_gone(tmp_path: Path) -> None:
    """Whoever stands before the program asks whether its parent is the one that wanted it."""
    launcher = _launcher()
    if not launcher:
        pytest.skip("no setpriv with a death signal is installed here")
    made = tmp_path / "made"
    for parent, is_made in ((os.getpid() + 1, False), (os.getpid(), True)):
        subprocess.run([*launcher, str(parent), "touch", str(made)], check=False)
        assert made.exists() is is_made


def test_a_program_that_goes_after_its_first_start_is_named(tmp_path: Path) -> None:
    program = tmp_path / "program"
    program.write_text("#!/bin/sh\nexit 5\n")
    program.chmod(0o755)
    for _ in range(3):
        assert Runner().run([str(program)], timeout_s=60).returncode == 5
    program.chmod(0o644)
    with pytest.raises(ToolError, match="program cannot be started: Permission denied"):
        Runner().run([str(program)], timeout_s=60)
    program.unlink()
    with pytest.raises(ToolError, match="program cannot be started: No such file"):
        Runner().run([str(program)], timeout_s=60)


def test_arguments_reach_a_program_as_they_are() -> None:
    """Also those that mean something to a shell."""
    odd = ["a b", "$HOME", "`id`", "x'y", 'q"q', "*", "", "-n", "é\n", "\\"]
    for _ in range(2):
        done = Runner().run(
            [*python("import sys; print(eval(sys.argv.pop()) == sys.argv[1:])"), *odd, repr(odd)],
            timeout_s=60,
        )
        assert done.stdout.split() == [b"True"], done.stderr


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("import sys; sys.exit(3)", "ended with 3"),
        ("import os, signal; os.kill(os.getpid(), signal.SIGSEGV)", "was killed by SIGSEGV"),
        (
            "import os, signal; os.kill(os.getpid(), signal.SIGXCPU)",
            "was killed by SIGXCPU (the limit of this shell for CPU time, ulimit -t)",
        ),
        ("import os; os.kill(os.getpid(), 40)", "was killed by signal 40"),
    ],
)
def test_how_a_child_ended_is_said_with_the_name_of_the_signal(text: str, said: str) -> None:
    assert Runner().run(python(text), timeout_s=60).ended == said


@pytest.mark.parametrize("limit", [float("inf"), 1e300, 1e9])
def test_no_limit_is_too_long_for_a_timer(limit: float) -> None:
    done = Runner(most_s=limit).run(python("print(1)"), timeout_s=limit)
    assert (done.returncode, done.timed_out) == (0, False)


def test_the_users_limit_goes_for_every_child_and_the_wait_is_told_of() -> None:
    told: list[str] = []
    done = Runner(most_s=1, tell=told.append).run(python(SLEEP), timeout_s=120, what="a trial")
    assert done.timed_out and done.wall_s < 60
    assert told == ["waiting for a trial (at most 1 s)"]
    Runner(tell=told.append).run(python("print(1)"), timeout_s=60, what="a quick one")
    assert len(told) == 1


def test_a_runner_that_travels_is_a_fresh_one_with_the_same_limit() -> None:
    stopped = Runner(most_s=1)
    stopped.stop()
    other = pickle.loads(pickle.dumps(stopped))
    assert not other.stopped
    assert other.run(python(SLEEP), timeout_s=120).timed_out
