"""Shared by all tests: the real ffmpeg, tiny clips made with it, sweeps in this process, and the
tool as a child.

A stand-in for ffmpeg is an executable script that calls the real one, never a patched function.
"""

from __future__ import annotations

import json
import os
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from forged import latest_rows, read_jsonl
from hypothesis import HealthCheck, settings
from typed import Done, typed
from vmaftune.cell import Tools
from vmaftune.engine.events import to_json
from vmaftune.engine.options import Options
from vmaftune.engine.study import Study
from vmaftune.media.ffmpeg import Ffmpeg, find_ffmpeg, identify
from vmaftune.media.process import Runner
from vmaftune.questions import grid
from vmaftune.request.cells import Plan, plan_cells
from vmaftune.request.flags import Texts, parse_flags, request_from
from vmaftune.request.sources import resolve_sources

# A busy machine is no reason for a property to fail.
settings.register_profile(
    "suite", deadline=None, suppress_health_check=[HealthCheck.too_slow], database=None
)
settings.load_profile("suite")
pytest_plugins = ["corpora", "films", "projects"]
# What differs between two runs of the same cell.
TIMES = ("encode_wall_s", "encode_cpu_s", "score_cpu_s", "finished_at")


@dataclass(frozen=True, slots=True, kw_only=True)
class Swept:
    """A run folder after a sweep: its last row per cell, all frame rows, and the events
    of the run.
    """

    folder: Path
    rows: Mapping[str, Mapping[str, Any]]
    frames: Sequence[Mapping[str, Any]]
    events: Sequence[Mapping[str, Any]]

    @property
    def row(self) -> Mapping[str, Any]:
        """The only row."""
        (row,) = self.rows.values()
        return row

    def frames_of(self, cell: str) -> list[Mapping[str, Any]]:
        """Frame rows of one cell, as a reader takes them."""
        return [f for f in self.frames if f["key"] == self.rows[cell]["key"]]


def read_folder(folder: Path, events: Sequence[Mapping[str, Any]] = ()) -> Swept:
    return Swept(
        folder=folder,
        rows=latest_rows(folder),
        events=events,
        frames=read_jsonl(folder / "frames.jsonl"),
    )


# Fixtures that start ffmpeg, a command line or a training.
REAL = {"ffmpeg", "tool", "project", "shipped", "built", "home"}


# The modules that take longest, the longest first. A worker that took one of them last would keep
# the others waiting.
LONGEST = (
    "questions/test_encode.py",
    "faults/test_kills.py",
    "recipes/test_recipes.py",
    "faults/test_encode_kill.py",
    "commands/test_ship.py",
    "commands/test_prior_runs.py",
    "dev/test_reproduce.py",
    "test_wheel.py",
    "questions/test_rungs.py",
    "hardware/test_encoder_options.py",
    "faults/test_command.py",
    "questions/test_find.py",
    "questions/test_ladder.py",
    "report/test_report.py",
    "commands/test_doctor.py",
)


def _turn(item: pytest.Item) -> int:
    name = Path(os.path.relpath(item.path, Path(__file__).parent)).as_posix()
    return LONGEST.index(name) if name in LONGEST else len(LONGEST)


@pytest.hookimpl(tryfirst=True)  # `--random-order` shuffles what this has put in order
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The longest modules first. Mark `real` what starts ffmpeg or another program, so that
    `make test-fast` can leave it.
    """
    items.sort(key=_turn)
    for item in items:
        if not isinstance(item, pytest.Function):
            continue
        if REAL & set(item.fixturenames) or hasattr(item.module, "FFMPEG"):
            item.add_marker(pytest.mark.real)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Iterator[None]:
    """Let no test start ffmpeg unless it is marked `real`."""
    with pytest.MonkeyPatch.context() as patch:
        if item.get_closest_marker("real") is None:
            patch.setattr(subprocess.Popen, "__init__", _without_ffmpeg)
        return (yield)


_start = subprocess.Popen.__init__


def _without_ffmpeg(self: Any, args: Any, *more: Any, **how: Any) -> None:
    argv = [args] if isinstance(args, (str, bytes)) else list(args)
    names = [Path(os.fsdecode(arg)).name for arg in argv]
    # Before what was started once stand seven words: setpriv, a shell, and what it is to ask.
    program = names[7] if names[0] == "setpriv" and len(names) > 7 else names[0]
    assert not program.startswith("ffmpeg"), "mark this test `real`"
    _start(self, args, *more, **how)


@pytest.fixture(scope="session", autouse=True)
def heard() -> Iterator[None]:
    """What runs the tests may ignore signals (nohup, a script's `&`), and a child would inherit
    that.
    """
    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    ignored = [n for n in numbers if signal.getsignal(n) is signal.SIG_IGN]
    for number in ignored:
        is_ctrl_c = number == signal.SIGINT
        signal.signal(number, signal.default_int_handler if is_ctrl_c else signal.SIG_DFL)
    yield
    for number in ignored:
        signal.signal(number, signal.SIG_IGN)


@pytest.fixture(scope="session")
def shared_by_workers(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that all workers of one run of the tests have in common."""
    own = tmp_path_factory.getbasetemp()
    return own.parent if "PYTEST_XDIST_WORKER" in os.environ else own


@pytest.fixture(scope="session", autouse=True)
def own_cache(shared_by_workers: Path) -> Iterator[Path]:
    """What the tool remembers about files and tools stays in this session's folder: nothing of the
    user's is believed, and nothing is left there.
    """
    # The workers of one run remember together: an encoder is tried once, not once a worker.
    folder = shared_by_workers / "cache"
    folder.mkdir(exist_ok=True)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(folder))
        yield folder


@pytest.fixture(scope="session")
def ffmpeg() -> str:
    return find_ffmpeg()


@pytest.fixture(scope="session")
def tools(ffmpeg: str) -> Tools:
    return identify(Runner(), ffmpeg).identity


@pytest.fixture(scope="session")
def run_ffmpeg(ffmpeg: str) -> Callable[..., str]:
    """Run the real ffmpeg with some arguments; its stderr. Fails the test when it fails."""

    def run(*args: str | Path, cwd: Path | None = None) -> str:
        argv = [ffmpeg, "-nostdin", "-hide_banner", "-nostats", "-y", *map(str, args)]
        done = subprocess.run(
            argv, stdin=subprocess.DEVNULL, capture_output=True, text=True, cwd=cwd, check=False
        )
        assert done.returncode == 0, done.stderr
        return done.stderr

    return run


@pytest.fixture(scope="session")
def clip(
    run_ffmpeg: Callable[..., str], tmp_path_factory: pytest.TempPathFactory
) -> Callable[..., Path]:
    """A tiny clip, made once per session: `clip("a.mp4", frames=12, size="96x64", rate="25",
    args=(...))`.

    A moving test picture with noise, so that every encoder has something to lose.
    """
    folder = tmp_path_factory.mktemp("clips")
    made: dict[str, tuple[object, ...]] = {}

    def make(
        name: str,
        *,
        frames: int = 10,
        size: str = "96x64",
        rate: str = "25",
        vf: str = "null",
        args: Sequence[str] = ("-c:v", "ffv1", "-pix_fmt", "yuv420p"),
        before: Sequence[str] = (),
        maps: Sequence[str] = (),
    ) -> Path:
        recipe = (frames, size, rate, vf, tuple(args), tuple(before), tuple(maps))
        path = folder / name
        if name not in made:
            path.parent.mkdir(parents=True, exist_ok=True)
            source = f"testsrc2=size={size}:rate={rate},noise=alls=14:allf=t,{vf}"
            run_ffmpeg(
                "-f", "lavfi", "-i", source, *before, *maps, "-frames:v", str(frames), *args, path
            )
            made[name] = recipe
        assert made[name] == recipe, f"two clips are called {name}"
        return path

    return make


@pytest.fixture
def wrapper(ffmpeg: str, tmp_path: Path) -> Callable[..., str]:
    """An ffmpeg that meddles: Python text that may change `argv` before the real one takes over;
    its path. With `only`, it sees no commands but those that hold these words: to start Python
    costs as much as a small encode.
    """

    def make(body: str, name: str = "meddling ffmpeg", only: str | None = None) -> str:
        path = tmp_path / name
        lines = [
            f"#!{sys.executable} -IS",
            "import os, sys, time",
            f"REAL = {ffmpeg!r}",
            "argv = sys.argv[1:]",
            (
                "ENCODE, SCORE = '-c:v' in argv and argv[-1].startswith('file:'), any('libvmaf' in"
                " a for a in argv)"
            ),
            "PREPARE = not SCORE and argv[-3:-1] == ['-f', 'rawvideo']",
            body,
            "os.execv(REAL, [REAL, *argv])",
        ]
        script(path if only is None else path.with_name(f"{name}.py"), lines)
        if only is not None:
            meddling, real = shlex.quote(f"{path}.py"), shlex.quote(ffmpeg)
            chosen = f'case "$*" in *{shlex.quote(only)}*) exec {meddling} "$@";; esac'
            script(path, ["#!/bin/sh", chosen, f'exec {real} "$@"'])
        return str(path)

    def script(path: Path, lines: Sequence[str]) -> None:
        path.write_text("\n".join(lines) + "\n")
        path.chmod(0o755)

    return make


@pytest.fixture
def planned() -> Callable[..., Plan]:
    """A plan from places and the flags of the command line, without the command line."""

    def make(
        *places: Path,
        encoders: str | None = "x264",
        presets: str | None = "ultrafast",
        quality: str | None = "30",
        sweep: Path | None = None,
        select: Sequence[str] = (),
        threads: int | None = None,
        teacher: str | None = None,
        **more: Any,
    ) -> Plan:
        texts = Texts(
            sources=tuple(map(str, places)),
            encoders=encoders,
            presets=presets,
            quality=quality,
            sweep=str(sweep) if sweep else None,
            threads_per_encode=threads,
            vmaf_model=teacher,
            **more,
        )
        request = request_from(parse_flags(texts))
        sources, notices = resolve_sources(request)
        return plan_cells(request, sources, select_globs=select, notices=notices)

    return make


@pytest.fixture
def swept(planned: Callable[..., Plan], tools: Tools, tmp_path: Path) -> Callable[..., Swept]:
    """Run a sweep in this process and read its folder."""

    def run(
        *places: Path,
        out: Path | None = None,
        jobs: int = 2,
        ffmpeg: str | None = None,
        timeout_s: float | None = None,
        keep_encodes: bool = False,
        retry_failed: bool = False,
        version: str | None = None,
        extend: bool = False,
        **flags: Any,
    ) -> Swept:
        folder = out or tmp_path / "run"
        used = replace(
            tools, ffmpeg=ffmpeg or tools.ffmpeg, ffmpeg_version=version or tools.ffmpeg_version
        )
        plan = planned(*places, **flags)
        whole = planned(*places, **{**flags, "select": ()})
        options = Options(
            jobs=jobs, timeout_s=timeout_s, keep_encodes=keep_encodes, retry_failed=retry_failed
        )
        with Study.open(
            folder,
            whole,
            Ffmpeg(identity=used, runner=Runner()),
            options,
            argv=["vmaf-tune"],
            extend=extend,
            part=bool(flags.get("select")),
        ) as study:
            events = [to_json(event) for event in grid.run(plan, study)]
        return read_folder(folder, events)

    return run


@pytest.fixture
def real(tools: Tools) -> Ffmpeg:
    """The real ffmpeg with a runner of the test's own."""
    return Ffmpeg(identity=tools, runner=Runner())


class Tool:
    """`vmaf-tune` as a child process; every one it started is gone when the test ends."""

    def __init__(self, cwd: Path) -> None:
        self.cwd = cwd
        self._children: list[subprocess.Popen[str]] = []

    def start(self, *args: str | Path, **more: Any) -> subprocess.Popen[str]:
        argv = [sys.executable, "-m", "vmaftune", *map(str, args)]
        env = {**os.environ, "PYTHONWARNINGS": "error", **more.pop("env", {})}
        settings: dict[str, Any] = {
            "stdin": subprocess.DEVNULL,
            "stdout": subprocess.PIPE,
            "stderr": subprocess.PIPE,
            "text": True,
            "cwd": self.cwd,
        } | more
        child = subprocess.Popen(argv, env=env, **settings)
        self._children.append(child)
        return child

    def run(self, *args: str | Path, code: int = 0, **more: Any) -> Done:
        """Run to the end in this process; the exit code must be `code`."""
        done = typed(*args, **{"cwd": self.cwd, **more})
        assert done.returncode == code, f"exit {done.returncode}\n{done.stdout}\n{done.stderr}"
        return done

    def process(self, *args: str | Path, code: int = 0, **more: Any) -> Done:
        """Run to the end as a process of its own; the exit code must be `code`."""
        child = self.start(*args, **more)
        out, err = child.communicate(timeout=300)
        assert child.returncode == code, f"exit {child.returncode}\n{out}\n{err}"
        return Done(child.returncode, out, err)

    def events(self, *args: str | Path, code: int = 0, **more: Any) -> list[dict[str, Any]]:
        return [
            json.loads(line)
            for line in self.run("corpus", *args, "--json", code=code, **more).stdout.splitlines()
        ]

    def end(self) -> None:
        for child in self._children:
            if child.poll() is None:
                child.kill()
            child.communicate()


@pytest.fixture
def tool(tmp_path: Path) -> Iterator[Tool]:
    used = Tool(tmp_path)
    yield used
    used.end()


@pytest.fixture(scope="session")
def read_run() -> Callable[[Path], Swept]:
    """A run folder as `Swept`."""
    return read_folder


@pytest.fixture(scope="session")
def without_times() -> Callable[[Swept], Any]:
    """What two runs of the same plan share: rows and frames per cell, without times."""

    def strip(run: Swept) -> Any:
        return {
            cell: ({k: v for k, v in row.items() if k not in TIMES}, run.frames_of(cell))
            for cell, row in run.rows.items()
        }

    return strip


@pytest.fixture(scope="session")
def until() -> Callable[..., None]:
    """Wait for something to become true; fail with a word on what never did."""

    def wait(condition: Callable[[], bool], what: str, seconds: float = 60.0) -> None:
        end = time.monotonic() + seconds
        while not condition():
            assert time.monotonic() < end, f"{what} did not happen within {seconds:.0f} s"
            time.sleep(0.02)

    return wait
