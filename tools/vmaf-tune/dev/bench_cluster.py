"""What a cluster costs, and how far it goes.

    python tools/vmaf-tune/dev/bench_cluster.py [--rounds 2] [--cells 10000] [--only PART]

1. `lanes`: sweeps of the project's own clips on this machine's lanes and on two worker processes,
   A B A B: wall and CPU seconds. Goal: from the first finished cell on, 1.05 times the lanes' wall
   at most. What starting the processes takes is told beside it, as it is paid once a sweep. One
   sweep has the presets and values of the software corpus for three encoders, the other few and
   quick cells: what a cell costs a cluster shows there.
2. `writer`: cells that were measured already, through a study: wall milliseconds of a commit, and
   of each cell in it (its row, its 45 frames, JSON, both files, two fsync).
3. `cells`: cells that do nothing, through the project's own executor, a scheduler and two workers:
   CPU milliseconds of the client and of the scheduler for each.
4. Discrete events: 10, 100 and 1,000 workers of 16 slots, cell times drawn from the software
   corpus, writer, client and scheduler as slow as 2 and 3 measured them. Busy slots in the steady
   state, in percent, and cells per second. Goal: 100 workers at 1920x1080 at least 95% busy.
   `simulate` does this alone, with the figures of the last full run on an idle machine.

Run it on an otherwise idle machine. The figures for docs/cluster.md come from here.
"""

from __future__ import annotations

import argparse
import heapq
import json
import os
import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from made_up import window
from vmaf_train.contract import FEATURES
from vmaftune.cell import Cell, Setting, Window
from vmaftune.encoders import ENCODERS
from vmaftune.engine.cluster import ClusterExecutor
from vmaftune.engine.connection import connect
from vmaftune.engine.executor import CPU, Ended, Happening, Stage, Task
from vmaftune.engine.limits import Limits
from vmaftune.engine.options import Options
from vmaftune.engine.stages import MeasuredEncode
from vmaftune.engine.study import Study
from vmaftune.engine.target import Target
from vmaftune.media.encode import Encode
from vmaftune.media.ffmpeg import find_ffmpeg, identify
from vmaftune.media.libvmaf_log import Frame
from vmaftune.media.process import Runner
from vmaftune.media.score import Decoded, Score
from vmaftune.request.cells import Plan

ROOT = Path(__file__).resolve().parents[3]
CLIPS = ROOT / "tests/media/clips"
CORPUS = ROOT / "runs/phase_a/software/cells.jsonl"
SLOTS = 16
PER_SOURCE, NUM_FRAMES = 192, 45
GOAL_RATIO, GOAL_BUSY = 1.05, 0.95


@dataclass(frozen=True, slots=True, kw_only=True)
class Costs:
    """Milliseconds: of a commit whatever is in it, of each cell in it (wall), and of a cell for the
    client and for the scheduler (CPU).
    """

    commit: float
    row: float
    client: float
    scheduler: float


LAST = Costs(commit=0.98, row=0.82, client=1.29, scheduler=1.70)
"""For `--only simulate`: as measured on two idle cores."""


def children_cpu_s() -> float:
    """CPU seconds of all children that have ended."""
    used = os.times()
    return used.children_user + used.children_system


@dataclass(frozen=True, slots=True, kw_only=True)
class Sweep:
    """Seconds of a sweep: all of it, what came before its first finished cell, and CPU with its
    children's.
    """

    wall: float
    start: float
    cpu: float

    @property
    def work(self) -> float:
        """From the first finished cell to the end."""
        return self.wall - self.start


QUICK = (
    *("--presets", "x264=medium;x265=veryfast;svtav1=8"),
    *("--quality", "x264=20:35:5;x265=20:35:5;svtav1=25:55:10"),
)
USUAL = (
    *("--presets", "x264=medium,slow;x265=veryfast,slow;svtav1=8,5"),
    "--quality",
    "x264=14:44:6;x265=14,20,27,34,40,46;svtav1=12,25,38,48,56,63",
)


def sweep(folder: Path, axes: Sequence[str], *more: str) -> Sweep:
    """What one sweep took."""
    argv = [
        *(sys.executable, "-m", "vmaftune", "corpus", *map(str, sorted(CLIPS.glob("*.mp4")))),
        *("--encoders", "x264,x265,svtav1", *axes, "--frames", "44"),
        *("--json", "--out", str(folder), *more),
    ]
    before, begin = children_cpu_s(), time.monotonic()
    first: float | None = None
    with subprocess.Popen(
        argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ) as child:
        assert child.stdout is not None
        for line in child.stdout:
            if first is None and json.loads(line)["event"] == "cell":
                first = time.monotonic() - begin
    if child.returncode or first is None:
        sys.exit(f"{' '.join(argv)} ended with {child.returncode}")
    return Sweep(wall=time.monotonic() - begin, start=first, cpu=children_cpu_s() - before)


def compare(rounds: int, axes: Sequence[str]) -> None:
    """Lanes against two worker processes, A B A B."""
    print(f"cells of {' '.join(axes)}:", flush=True)
    pairs = []
    with tempfile.TemporaryDirectory(prefix="vmaf-tune-bench-") as place:
        for i in range(rounds):
            lanes = sweep(Path(place, f"a{i}"), axes)
            cluster = sweep(Path(place, f"b{i}"), axes, "--workers", "2")
            pairs.append((lanes, cluster))
            print(f"round {i + 1}: lanes {_told(lanes)}, two workers {_told(cluster)}", flush=True)
    work = statistics.median(cluster.work / lanes.work for lanes, cluster in pairs)
    cpu = statistics.median(cluster.cpu - lanes.cpu for lanes, cluster in pairs)
    start = statistics.median(cluster.start - lanes.start for lanes, cluster in pairs)
    verdict = "met" if work <= GOAL_RATIO else "MISSED"
    print(
        f"median: {work:.3f} x the lanes' wall from the first cell on, goal {GOAL_RATIO} x:"
        f" {verdict}; a start takes {start:.1f} s longer, and all of it {cpu:.1f} s more CPU",
        flush=True,
    )


def _told(took: Sweep) -> str:
    return f"{took.wall:.1f} s ({took.start:.1f} to the first cell, {took.cpu:.1f} CPU)"


def cpu_of(pid: int) -> float:
    """CPU seconds of a process (Linux)."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def made_up(count: int) -> list[Cell]:
    """So many cells of windows with 192 cells each."""
    settings = [
        Setting(encoder=ENCODERS["libx264"], preset="fast", quality=q / 4)
        for q in range(PER_SOURCE)
    ]
    windows = [_window(f"clip{i:04d}") for i in range(-(-count // PER_SOURCE))]
    return [Cell(window=w, setting=setting) for w in windows for setting in settings][:count]


def _window(name: str) -> Window:
    return window(
        name,
        group=name,
        path=f"{name}.mkv",
        sha256=f"{random.Random(name).getrandbits(256):064x}",
        num_frames=NUM_FRAMES,
        start=0,
    )


def measured(place: Path) -> MeasuredEncode:
    """What a worker would send of a cell: a score with its frames."""
    chance = random.Random(1)
    frames = []
    for i in range(NUM_FRAMES):
        vmaf = round(chance.uniform(40, 99), 6)
        features = tuple(round(chance.random(), 6) for _ in FEATURES)
        frames.append(Frame(index=i, vmaf=vmaf, vmaf_unclipped=vmaf, features=features))
    decoded = Decoded(
        width=640,
        height=360,
        pix_fmt="yuv420p",
        num_packets=NUM_FRAMES,
        num_bytes=99_000,
        num_frames=NUM_FRAMES,
        num_errors=0,
    )
    score = Score(frames=tuple(frames), distorted=decoded, cpu_s=1.0, libvmaf_version="3")
    made = Encode(path=place, wall_s=1.0, cpu_s=1.0, encoder_version="1")
    return MeasuredEncode(made=made, device=None, score=score)


class Instant:
    """An executor whose tasks have been done already; `at_once` end together. See Executor."""

    is_here = False

    def __init__(self, value: MeasuredEncode, at_once: int) -> None:
        self._value, self._at_once = value, at_once
        self._tasks: list[Task] = []

    def workers(self) -> list[dict[str, object]]:
        """See Executor.workers."""
        return [{"name": "one", "problem": None}]

    def start(self, worker: object, *, keep_references: bool) -> None:
        """See Executor.start."""

    def submit(self, tasks: Sequence[Task]) -> None:
        """See Executor.submit."""
        self._tasks += tasks

    def events(self) -> Iterator[list[Happening]]:
        """See Executor.events."""
        for start in range(0, len(self._tasks), self._at_once):
            part = self._tasks[start : start + self._at_once]
            yield [Ended(task=t, value=self._value, host="one", worker="one") for t in part]

    def close(self) -> None:
        """See Executor.close."""


def writer(count: int) -> tuple[float, float]:
    """Wall ms of a commit, and of each cell in it, from commits of one and of 32 cells."""
    ffmpeg = identify(Runner(), find_ffmpeg())
    spent = {}
    for at_once in (1, 32):
        cells = tuple(made_up(count))
        windows = tuple(dict.fromkeys(cell.window for cell in cells))
        with tempfile.TemporaryDirectory(prefix="vmaf-tune-bench-", dir=".") as place:
            executor = Instant(measured(Path(place)), at_once)
            plan = Plan(cells=cells, sources=windows, name="")
            with Study.open(
                Path(place, "run"), plan, ffmpeg, Options(jobs=1), executor=executor
            ) as study:
                study.submit(cells)
                begin = time.monotonic()
                for _ in study.events():
                    pass
                spent[at_once] = 1000 * (time.monotonic() - begin) / count
    commit = (spent[1] - spent[32]) / (1 - 1 / 32)
    return commit, spent[1] - commit


def nothing(cell: Cell, worker: object, value: object) -> bytes:
    """A cell of no work, with a result of the usual size."""
    return bytes(4200)


def no_ops(count: int) -> tuple[float, float]:
    """(client ms, scheduler ms) of CPU a cell, through the project's own executor."""
    with tempfile.TemporaryDirectory(prefix="vmaf-tune-bench-") as place:
        file = Path(place, "scheduler.json")
        here = os.pathsep.join([str(Path(__file__).parent), *sys.path[1:]])
        quiet: dict[str, Any] = {
            "stdout": subprocess.DEVNULL,
            "stderr": subprocess.DEVNULL,
            "env": {**os.environ, "PYTHONPATH": here},
        }
        dask = (sys.executable, "-m", "dask")
        where = ("--scheduler-file", str(file))
        scheduler = subprocess.Popen(
            [*dask, "scheduler", *where, "--host", "127.0.0.1", "--port", "0"], **quiet
        )
        more = ("--nthreads", "8", "--no-nanny", "--local-directory", place)
        children = [subprocess.Popen([*dask, "worker", *where, *more], **quiet) for _ in range(2)]
        try:
            while not file.exists():
                time.sleep(0.1)
            own, theirs = _through(str(file), made_up(count), scheduler.pid)
        finally:
            for child in (*children, scheduler):
                child.kill()
                child.wait()
    return 1000 * own / count, 1000 * theirs / count


def _through(address: str, cells: Sequence[Cell], pid: int) -> tuple[float, float]:
    """CPU seconds of this process and of `pid` for all cells."""
    # By its name in a module that the workers import, not in this script.
    from bench_cluster import nothing as no_work

    executor = ClusterExecutor(connect(Target(address=address)))
    ffmpeg = identify(Runner(), find_ffmpeg())
    executor.prepare(ffmpeg, cells[0].teacher, budget_bytes=8 << 30, limits=Limits())
    while sum(bool(m.facts) for m in executor.survey()) < 2:
        time.sleep(0.2)
    tasks = [
        Task(
            id=cell.id,
            stages=(Stage(name="nothing", lane=CPU, cost_s=1.0, run=partial(no_work, cell)),),
            window=cell.window,
            place=cell.id,
            uses=cell.encoder.name,
        )
        for cell in cells
    ]
    before, own = cpu_of(pid), time.process_time()
    executor.submit(tasks)
    ended = sum(isinstance(h, Ended) for batch in executor.events() for h in batch)
    spent = time.process_time() - own, cpu_of(pid) - before
    executor.close()
    assert ended == len(cells)
    return spent


def cell_seconds() -> list[float]:
    """CPU seconds of every cell of the software corpus, encode and score."""
    rows = (json.loads(line) for line in CORPUS.read_text().splitlines())
    return [row["encode_cpu_s"] + row["score_cpu_s"] for row in rows if row["status"] == "ok"]


@dataclass(slots=True)
class Server:
    """Something that does one thing at a time."""

    free_at: float = 0.0

    def serve(self, now: float, seconds: float) -> float:
        """When a request of `seconds` that comes at `now` is done."""
        self.free_at = max(self.free_at, now) + seconds
        return self.free_at


def simulate(
    workers: int, cells: Sequence[float], costs: Costs, scale: float
) -> tuple[float, float]:
    """(share of busy slots, cells per second) in the steady state.

    A slot that is free asks the client; the cell goes through the scheduler to it and back, and its
    row waits for the writer, who takes all that waits at once, on the client's thread.
    """
    chance = random.Random(1)
    client, scheduler = Server(), Server()
    slots = workers * SLOTS
    num_cells = min(30 * slots, 400_000)
    events: list[tuple[float, int, float]] = []
    now = 0.0

    def start(at: float) -> None:
        seconds = scale * chance.choice(cells)
        sent = client.serve(at, costs.client / 2000)
        there = scheduler.serve(sent, costs.scheduler / 1000)
        heapq.heappush(events, (there + seconds, len(events), seconds))

    for _ in range(slots):
        start(0.0)
    finished, busy, waiting, committed = 0, 0.0, 0, 0.0
    warm, warm_at, warm_busy = num_cells // 3, 0.0, 0.0
    while finished < num_cells:
        now, _, seconds = heapq.heappop(events)
        finished, busy, waiting = finished + 1, busy + seconds, waiting + 1
        if finished == warm:
            warm_at, warm_busy = now, busy
        if now >= committed:  # the writer is idle: it takes what waits
            committed = client.serve(now, (costs.commit + costs.row * waiting) / 1000)
            waiting = 0
        start(client.serve(now, costs.client / 2000))
    span = now - warm_at
    return (busy - warm_busy) / (span * slots), (num_cells - warm) / span


def table(costs: Costs) -> None:
    """The simulator's table, as docs/cluster.md has it."""
    cells = cell_seconds()
    mean = statistics.mean(cells)
    print(
        f"a commit {costs.commit:.2f} ms and {costs.row:.2f} ms a cell in it; client"
        f" {costs.client:.2f} ms, scheduler {costs.scheduler:.2f} ms a cell; slots busy, cells/s"
    )
    print(f"| cells | mean | {' | '.join(f'{n:,} workers' for n in (10, 100, 1000))} |")
    print("|---|---|---|---|---|")
    for name, scale in (("640x360", 1.0), ("1920x1080", 9.0)):
        found = [simulate(n, cells, costs, scale) for n in (10, 100, 1000)]
        columns = " | ".join(f"{100 * share:.0f}% ({rate:.0f})" for share, rate in found)
        print(f"| {name} | {scale * mean:.1f} s | {columns} |", flush=True)
    verdict = "met" if found[1][0] >= GOAL_BUSY else "MISSED"
    print(f"100 workers at 1920x1080: {found[1][0]:.1%} busy, goal {GOAL_BUSY:.0%}: {verdict}")


def main() -> None:
    """Measure, then simulate."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--cells", type=int, default=10_000)
    parser.add_argument("--only", choices=("lanes", "writer", "cells", "simulate"))
    options = parser.parse_args()
    only, costs = options.only, LAST
    if only in (None, "lanes"):
        compare(options.rounds, USUAL)
        compare(options.rounds, QUICK)
    if only in (None, "writer"):
        commit, row = writer(min(options.cells, 1000))
        costs = replace(costs, commit=commit, row=row)
        print(f"writer: {commit:.2f} ms a commit and {row:.2f} ms a cell in it", flush=True)
    if only in (None, "cells"):
        client, scheduler = no_ops(options.cells)
        costs = replace(costs, client=client, scheduler=scheduler)
        print(
            f"{options.cells:,} no-op cells: client {client:.2f} ms, scheduler {scheduler:.2f} ms"
            " of CPU each",
            flush=True,
        )
    if only in (None, "simulate"):
        table(costs)


if __name__ == "__main__":
    main()
