"""Sweeps on a cluster give the rows of one machine, whoever dies on the way."""

from __future__ import annotations

import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import vmaftune
from clusters import GRID, Processes, Sweep, children_of, settle
from vmaftune.engine import bench

Make = Callable[..., Path]


def test_worker_processes_here_give_the_rows_of_lanes(
    tool: Any,
    clips: list[Path],
    same: Callable[[Any], None],
    read_run: Callable[[Path], Any],
    tmp_path: Path,
) -> None:
    tool.process("corpus", *clips, *GRID, "--out", "run", "--workers", "2")
    run = read_run(tmp_path / "run")
    same(run)
    assert all(row["host"] for row in run.rows.values())
    started = json.loads((tmp_path / "run/runs.jsonl").read_text())
    assert {worker["name"] for worker in started["workers"]} == {"0", "1"}
    assert all(worker["host"] and worker["slots"] >= 1 for worker in started["workers"])


def test_workers_elsewhere_get_the_sources_from_the_client(
    cluster: Processes,
    clips: list[Path],
    tool: Any,
    same: Callable[[Any], None],
    read_run: Callable[[Path], Any],
    tmp_path: Path,
) -> None:
    """The client's folder goes by another name on the workers: nothing lies at its paths there.

    A source that is larger than their scratch budget is not sent.
    """
    (tmp_path / "there").mkdir()
    for clip in clips:
        shutil.copy(clip, tmp_path / "there" / clip.name)
    hide = "bench.BenchWorker._digest = lambda self, path, num_bytes: None"
    for name in ("a", "b"):
        cluster.start_worker(name, "--preload", preload(tmp_path, "hide", hide))
    argv = ("corpus", "there", *GRID, "--out", "run", "--cluster", cluster.address)
    tool.process(*argv, env=cluster.env)
    same(read_run(tmp_path / "run"))
    settle(lambda: not cluster.scratch(), 10)
    small = ("--frames", "4", "--scratch-budget", "50KiB", "--cluster", cluster.address)
    done = at_once(
        "corpus", "there", *GRID, "--out", "other", *small, cwd=tmp_path, env=cluster.env
    )
    assert done.returncode == 3, done.stderr
    assert "is larger than --scratch-budget (51,200 bytes)" in done.stderr
    assert "the same command goes on" in done.stderr and "Traceback" not in done.stderr


def preload(folder: Path, name: str, text: str) -> str:
    """A module that a worker loads first, which changes what its bench does."""
    path = folder / f"{name}.py"
    path.write_text(f"from vmaftune.engine import bench\n{text}\n")
    return str(path)


AT_ONCE = """
import sys
from vmaftune.cli import main
from vmaftune.engine.cluster import ClusterExecutor
ClusterExecutor.__init__.__kwdefaults__["nobody_s"] = 2.0
sys.argv = ["vmaf-tune", *sys.argv[1:]]
main()
"""


def at_once(
    *args: str | Path, cwd: Path, env: Mapping[str, str], program: str = AT_ONCE
) -> subprocess.CompletedProcess[str]:
    """Run the program, which waits two seconds for a worker instead of a minute."""
    return subprocess.run(
        [sys.executable, "-c", program, *map(str, args)],
        cwd=cwd,
        env={**os.environ, **env},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def test_a_storm_of_killed_workers_loses_nothing_and_does_nothing_twice(
    cluster: Processes,
    sweep: Callable[..., Sweep],
    same: Callable[[Any], None],
    read_run: Callable[[Path], Any],
    tmp_path: Path,
) -> None:
    chance = random.Random(3)
    names = iter("abcdefghij")
    for _ in range(3):
        cluster.start_worker(next(names))
    run = sweep()
    for done in (3, 8, 13, 18):
        run.cells(done)
        victim = chance.choice(sorted(cluster.workers))
        of_victim = children_of(cluster.workers[victim].pid)
        cluster.kill(victim)
        settle(lambda pids=of_victim: not any(Path(f"/proc/{p}/exe").exists() for p in pids), 2)
        cluster.start_worker(next(names))
    run.end()
    same(read_run(tmp_path / "run"))
    assert any("is gone; its" in text for text in run.notices)


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT])
def test_a_client_that_goes_away_takes_its_encodes_with_it(
    number: signal.Signals,
    cluster: Processes,
    sweep: Callable[..., Sweep],
    wrapper: Callable[..., str],
    same: Callable[[Any], None],
    read_run: Callable[[Path], Any],
    tmp_path: Path,
) -> None:
    slow = wrapper("if ENCODE and '34' in argv: time.sleep(float(os.environ.get('NAP', '0')))")
    args = ("--ffmpeg", slow)
    for name in ("a", "b"):
        cluster.start_worker(name, slots=2, env={"NAP": "60"})
    run = sweep(*args)
    run.cells(4)
    settle(lambda: len(cluster.encodes()) >= 3, 60)
    run.child.send_signal(number)
    if number == signal.SIGINT:
        assert "finished cells are kept" in run.end(130, 20)
    else:
        run.child.wait()
    settle(lambda: not cluster.encodes(), 2)
    settle(lambda: not cluster.scratch(), 5)
    num_done = (tmp_path / "run/cells.jsonl").read_bytes().count(b"\n")
    for name in ("a", "b"):
        cluster.kill(name)
        cluster.start_worker(name + "2", slots=2)
    again = sweep(*args)
    again.end()
    start = next(e for e in again.events if e["event"] == "start")
    assert start["num_done"] == num_done >= 4
    rows = read_run(tmp_path / "run")
    assert {r["status"] for r in rows.rows.values()} == {"ok"} and len(rows.rows) == 24
    assert (tmp_path / "run/cells.jsonl").read_bytes().count(b"\n") == 24


def test_without_its_scheduler_it_ends_with_a_sentence_and_goes_on_later(
    cluster: Processes,
    sweep: Callable[..., Sweep],
    same: Callable[[Any], None],
    read_run: Callable[[Path], Any],
    tmp_path: Path,
) -> None:
    cluster.start_worker("a")
    cluster.start_worker("b")
    run = sweep()
    run.cells(6)
    assert cluster.scheduler is not None
    cluster.scheduler.kill()
    cluster.scheduler.wait()
    error = run.end(3, 40)
    assert "the cluster's scheduler is gone" in error and "the same command goes on" in error
    assert "Traceback" not in error
    settle(lambda: not cluster.encodes(), 30)
    for name in list(cluster.workers):
        cluster.kill(name)
    cluster.start_scheduler()
    cluster.start_worker("c", slots=2)
    sweep().end()
    same(read_run(tmp_path / "run"))


DIES = """
import os
from vmaftune.engine.cluster import ClusterExecutor
name = os.environ["DIES_AT"]
real = getattr(ClusterExecutor, name)
def dying(self, *args, **how):
    os.kill(int(os.environ["SCHEDULER"]), 9)
    return real(self, *args, **how)
setattr(ClusterExecutor, name, dying)
"""


@pytest.mark.parametrize("name", ["start", "_greet"])
def test_a_scheduler_that_dies_as_a_sweep_starts_is_said_in_a_sentence(
    name: str, cluster: Processes, clips: list[Path], tmp_path: Path
) -> None:
    """As the client joins, and as the first worker has said what it is."""
    if name == "_greet":
        cluster.start_worker("a")
    assert cluster.scheduler is not None
    env = {**cluster.env, "DIES_AT": name, "SCHEDULER": str(cluster.scheduler.pid)}
    argv = ("corpus", clips[0], *GRID, "--out", "run", "--cluster", cluster.address)
    done = at_once(*argv, cwd=tmp_path, env=env, program=DIES + AT_ONCE)
    assert done.returncode == 3, done.stderr
    assert "the cluster's scheduler is gone" in done.stderr and "Traceback" not in done.stderr


def test_a_worker_that_dies_as_it_hands_over_a_result_is_done_without(
    cluster: Processes,
    sweep: Callable[..., Sweep],
    same: Callable[[Any], None],
    read_run: Callable[[Path], Any],
    tmp_path: Path,
) -> None:
    """Its cell has ended, and what it measured is gone with it."""
    deadly = (
        "import os\nbench.Outcome.__reduce_ex__ = lambda self, protocol: os.kill(os.getpid(), 9)"
    )
    cluster.start_worker("deadly", "--preload", preload(tmp_path, "deadly", deadly))
    cluster.start_worker("fine", slots=2)
    run = sweep()
    run.end()
    same(read_run(tmp_path / "run"))
    assert any(text.startswith("worker deadly is gone; its ") for text in run.notices)


def test_a_worker_that_sleeps_past_its_time_is_done_without(
    cluster: Processes,
    sweep: Callable[..., Sweep],
    same: Callable[[Any], None],
    read_run: Callable[[Path], Any],
    tmp_path: Path,
) -> None:
    cluster.start_worker("a")
    sleeper = cluster.start_worker("b")
    run = sweep()
    run.cells(4)
    settle(lambda: bool(children_of(sleeper.pid)), 30)
    sleeper.send_signal(signal.SIGSTOP)
    run.end()
    sleeper.send_signal(signal.SIGCONT)
    settle(lambda: not children_of(sleeper.pid), 10)
    same(read_run(tmp_path / "run"))


def test_a_worker_that_comes_late_works_too_and_who_watches_sees_both(
    cluster: Processes,
    sweep: Callable[..., Sweep],
    tool: Any,
    wrapper: Callable[..., str],
    tmp_path: Path,
) -> None:
    """Also the address of the scheduler's page is told."""
    go = tmp_path / "go"
    slow = wrapper(
        "while ENCODE and os.environ.get('GO') and not os.path.exists(os.environ['GO']):\n"
        "    time.sleep(0.1)"
    )
    cluster.start_worker("early", slots=2, env={"GO": str(go)})
    run = sweep("--ffmpeg", slow)
    settle(lambda: bool(cluster.encodes()), 60)
    cluster.start_worker("late")
    run.cells(2)
    assert {e["worker"] for e in run.events if e["event"] == "cell"} == {"late"}
    watching = tool.start("status", "run", "--watch", "--json")
    workers: list[dict[str, Any]] = []
    while len(workers) < 2:
        workers = json.loads(watching.stdout.readline())["workers"]
    slowest, fastest = workers
    assert (slowest["name"], fastest["name"]) == ("early", "late")
    assert slowest["frames_per_s"] == 0 < fastest["frames_per_s"] and fastest["cells"] >= 1
    go.touch()
    run.end()
    assert (tmp_path / "run/cells.jsonl").read_bytes().count(b"\n") == 24
    out, _ = watching.communicate(timeout=60)
    assert json.loads(out.splitlines()[-1])["num_left"] == 0
    assert not (tmp_path / "run/.workers.json").exists()
    assert any(text.startswith("the cluster's page: http://127.0.0.1:") for text in run.notices)


def test_workers_that_would_measure_something_else_are_refused_by_name(
    cluster: Processes,
    sweep: Callable[..., Sweep],
    tool: Any,
    wrapper: Callable[..., str],
    same: Callable[[Any], None],
    read_run: Callable[[Path], Any],
    tmp_path: Path,
) -> None:
    other = tmp_path / "other"
    for package in ("vmaftune", "vmaf_train"):
        module = __import__(package)
        shutil.copytree(Path(module.__path__[0]), other / package)
    changed = other / "vmaftune/errors.py"
    changed.write_text(changed.read_text() + "\n# another program\n")
    cluster.start_worker("fine")
    cluster.start_worker("ffmpeg", env={"VMAF_TUNE_FFMPEG": wrapper("pass")})
    cluster.start_worker("program", env={"PYTHONPATH": str(other)})
    broken = {"VMAF_TUNE_FFMPEG": wrapper("sys.exit(3)", "broken ffmpeg")}
    cluster.start_worker("nothing", env=broken)
    # A preload is run in more than one process, and twice in one.
    bits = (
        "real = bench.__dict__.setdefault('real_canaries', bench.canaries)\n"
        "bench.canaries = lambda *a: real(*a) | {'libx265': 'SHA256=00ff'}"
    )
    cluster.start_worker("bits", "--preload", preload(tmp_path, "bits", bits))
    settle(lambda: len(json.loads(_doctor(tool, cluster))) == 5, 200)
    shown = {entry["worker"]: entry for entry in json.loads(_doctor(tool, cluster))}
    assert shown["fine"]["usable"] and "libx264" in shown["fine"]["encoders"]
    assert "its ffmpeg is another one (sha256 " in shown["ffmpeg"]["problem"]
    assert "has other files (digest " in shown["program"]["problem"]
    assert "is not an ffmpeg" in shown["nothing"]["problem"]
    assert re.search(
        r"libx265 gives other bits .* sha256 00ff, here sha256 [0-9a-f]{12}$",
        shown["bits"]["problem"],
    )
    run = sweep()
    run.end()
    for name in ("ffmpeg", "program", "nothing", "bits"):
        assert any(text.startswith(f"worker {name} is left out: ") for text in run.notices)
    same(read_run(tmp_path / "run"))


def _doctor(tool: Any, cluster: Processes) -> str:
    done = tool.start(
        "doctor", "--cluster", cluster.address, "--json", env=cluster.env
    ).communicate(timeout=180)
    return str(done[0]) or "[]"


def test_a_full_scratch_leaves_out_that_worker_alone(
    cluster: Processes,
    sweep: Callable[..., Sweep],
    wrapper: Callable[..., str],
    read_run: Callable[[Path], Any],
    tmp_path: Path,
) -> None:
    full = wrapper("if ENCODE and os.environ.get('FULL'): argv[-1] = 'file:/dev/full'")
    cluster.start_worker("full", env={"FULL": "1"})
    cluster.start_worker("fine")
    run = sweep("--ffmpeg", full)
    run.end()
    assert "worker full is left out: the disk of its scratch folder is full" in run.notices
    assert {row["status"] for row in read_run(tmp_path / "run").rows.values()} == {"ok"}


# One NVENC session at a time on the whole worker; the encode itself is x264's.
PRETEND = """
import fcntl
if 'h264_nvenc' in argv:
    if not os.environ.get('GPU'):
        sys.exit(1)
    if ENCODE:
        session = os.open(os.environ['GPU'], os.O_RDWR | os.O_CREAT)
        os.set_inheritable(session, True)
        try:
            fcntl.flock(session, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            sys.stderr.write('[h264_nvenc @ 0x1] OpenEncodeSessionEx failed: out of memory (10): (no details)\\n')
            sys.exit(1)
        time.sleep(0.3)
    if '-gpu' in argv:
        del argv[argv.index('-gpu') : argv.index('-gpu') + 2]
    begin, end = argv.index('-c:v'), argv.index('-tune') + 2
    argv[begin:end] = ['-c:v', 'libx264', '-preset', 'ultrafast', '-crf', argv[argv.index('-cq') + 1]]
"""  # noqa: E501


PRETEND_GPU = """
gpu = bench.Device(kind='nvenc', address='0', name='Pretended 1', driver='590.1')
bench.devices_of = lambda kinds: {'nvenc': gpu}
"""


def test_hardware_cells_go_to_workers_with_the_resource_and_a_refused_session_shrinks_its_lane(
    cluster: Processes,
    tool: Any,
    clips: list[Path],
    wrapper: Callable[..., str],
    read_run: Callable[[Path], Any],
    tmp_path: Path,
) -> None:
    pretending = wrapper(PRETEND)
    gpu = {"GPU": str(tmp_path / "session")}
    told = preload(tmp_path, "gpus", PRETEND_GPU)
    more = ("--resources", "nvenc=2", "--preload", told)
    cluster.start_worker("gpu", *more, slots=3, env=gpu)
    cluster.start_worker("cpu")
    grid = ("--encoders", "h264_nvenc,x264", "--presets", "h264_nvenc=p4;x264=ultrafast")
    values = ("--quality", "30,34", "--ffmpeg", pretending)
    argv = ("corpus", *clips, *grid, *values, "--out", "run", "--cluster", cluster.address)
    tool.process(*argv, env=cluster.env)
    rows = read_run(tmp_path / "run").rows.values()
    assert [row["status"] for row in rows] == ["ok"] * 12
    devices = {(row["encoder"], row["device"]) for row in rows}
    assert devices == {("h264_nvenc", "Pretended 1 590.1"), ("libx264", None)}
    (start,) = [json.loads(line) for line in (tmp_path / "run/runs.jsonl").read_text().splitlines()]
    gpus = {worker["name"]: worker["gpus"] for worker in start["workers"]}
    assert gpus == {"gpu": ["Pretended 1 590.1"], "cpu": []}


def test_nobody_without_a_certificate_of_ours_gets_in(
    cluster: Processes,
    tool: Any,
    clips: list[Path],
    authority: Callable[[str], Mapping[str, str]],
    tmp_path: Path,
) -> None:
    argv = ("corpus", clips[0], "--encoders", "x264", "--out", "run", "--cluster", cluster.address)
    for env in ({}, authority("another")):
        done = tool.process(*argv, env=env, code=3)
        assert "no scheduler answers at" in done.stderr
        assert "certificates" in done.stderr
        assert "Traceback" not in done.stderr
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (("--cluster", "tcp://10.1.2.3:8786"), "runs code on every worker; use tls://"),
        (("--cluster", "10.1.2.3:8786"), "--cluster takes tls://HOST:PORT"),
        (("--cluster", "tls://host"), "an address is tls://HOST:PORT"),
        (("--cluster", "tls://h:1", "--workers", "3"), "--workers starts processes here"),
        (("--shard", "4/3"), "--shard takes NUMBER/COUNT"),
    ],
)
def test_what_is_no_cluster_is_refused(
    args: tuple[str, ...], words: str, tool: Any, clips: list[Path], tmp_path: Path
) -> None:
    done = tool.process("corpus", clips[0], *args, code=2)
    assert words in done.stderr
    assert not list(tmp_path.iterdir())


def test_kept_encodes_and_further_metrics_come_back_to_the_client(
    cluster: Processes,
    tool: Any,
    clips: list[Path],
    without_times: Callable[[Any], Any],
    read_run: Callable[[Path], Any],
    tmp_path: Path,
) -> None:
    cluster.start_worker("a")
    few = ("--encoders", "x264", "--presets", "ultrafast", "--quality", "30")
    argv = ("corpus", clips[0], *few, "--keep-encodes", "--metrics", "psnr,xpsnr")
    tool.process(*argv, "--out", "run", "--cluster", cluster.address, env=cluster.env)
    tool.process(*argv, "--out", "alone")
    ((row, frames),) = without_times(read_run(tmp_path / "run")).values()
    ((expected, others),) = without_times(read_run(tmp_path / "alone")).values()
    assert list(row["metrics"]) == ["xpsnr", "psnr"]
    assert (row, frames) == (expected | {"host": row["host"]}, others)
    (kept,) = (tmp_path / "run/encodes").iterdir()
    assert kept.read_bytes() == (tmp_path / "alone/encodes" / kept.name).read_bytes()
    assert vmaftune.__name__ == "vmaftune"


def test_a_search_a_ladder_and_shots_are_measured_on_a_cluster_too(
    tool: Any, clips: list[Path], tmp_path: Path
) -> None:
    how = ("--encoder", "x264", "--preset", "ultrafast", "--target", "80")
    found = tool.process("find", clips[0], *how, "--out", "run", "--workers", "2")
    assert "libx264" in found.stdout
    rows = [json.loads(line) for line in (tmp_path / "run/cells.jsonl").read_text().splitlines()]
    assert rows and all(row["host"] for row in rows)
    tool.process("encode", clips[0], "-o", "o.mkv", "--shots", *how, "--workers", "2")
    assert (tmp_path / "o.mkv").is_file()
    few = ("--sizes", "64", "--rungs", "2", "--samples", "2", "--sample-seconds", "0.3")
    made = tool.process("ladder", clips[0], *how[:4], *few, "--out", "ladder", "--cluster", "local")
    assert "x64" in made.stdout
    rows = [json.loads(line) for line in (tmp_path / "ladder/cells.jsonl").read_text().splitlines()]
    assert rows and all(row["host"] for row in rows)
    refused = tool.process("encode", clips[0], "-o", "p.mkv", *how, "--workers", "2", code=2)
    assert "--cluster goes with --shots" in refused.stderr


def test_a_cell_that_lost_three_workers_is_a_failed_row(
    cluster: Processes, tool: Any, clips: list[Path], wrapper: Callable[..., str], tmp_path: Path
) -> None:
    deadly = wrapper("if ENCODE and '34' in argv: os.kill(os.getppid(), 9)")
    for name in "abcd":
        cluster.start_worker(name)
    grid = ("--encoders", "x264", "--presets", "ultrafast", "--quality", "28,34")
    argv = ("corpus", clips[0], *grid, "--ffmpeg", deadly, "--out", "run")
    done = tool.process(*argv, "--cluster", cluster.address, env=cluster.env, code=5)
    assert "1 of 2 cells failed" in done.stderr
    rows = [json.loads(line) for line in (tmp_path / "run/cells.jsonl").read_text().splitlines()]
    assert {row["crf"]: row["status"] for row in rows} == {28: "ok", 34: "failed"}
    (lost,) = [row for row in rows if row["status"] == "failed"]
    assert lost["error"]["class"] == "worker_lost"
    start = json.loads((tmp_path / "run/runs.jsonl").read_text())
    assert sum(worker["problem"] == "it is gone" for worker in start["workers"]) == 3


def test_without_a_worker_that_can_be_used_it_ends_with_the_reasons(
    cluster: Processes, clips: list[Path], tmp_path: Path
) -> None:
    """After a minute; here after two seconds."""
    old = preload(tmp_path, "old", "bench.version = lambda: '0.0.9'")
    cluster.start_worker("old", "--preload", old)
    argv = ("corpus", clips[0], *GRID, "--out", "run", "--cluster", cluster.address)
    done = at_once(*argv, cwd=tmp_path, env=cluster.env)
    assert done.returncode == 3, done.stderr
    why = f"old: it has vmaf-tune 0.0.9, and this is {bench.version()}"
    assert f"the cluster has had no usable worker for 2 s ({why})" in done.stderr
    assert "the same command goes on" in done.stderr and "Traceback" not in done.stderr
