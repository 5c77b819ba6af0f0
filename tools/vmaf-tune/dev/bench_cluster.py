"""What a cluster costs, and how far it goes.

    python tools/vmaf-tune/dev/bench_cluster.py [--rounds 2] [--cells 10000] [--simulate-only]

1. A sweep of the project's own clips on this machine's lanes and on two worker processes, A B A B:
   wall and CPU seconds.
2. Cells that do nothing, through a scheduler and two workers: milliseconds of the client and of
   the scheduler for each.
3. Discrete events: 10, 100 and 1,000 workers of 16 slots, cell times drawn from the software
   corpus, a client and a scheduler as slow as measured, a writer that commits in groups. Busy slots
   in the steady state, in percent, and cells per second.

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
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[3]
CLIPS = ROOT / "tests/media/clips"
CORPUS = ROOT / "runs/phase_a/software/cells.jsonl"
SLOTS = 16
# Wall ms of a commit: what it costs whatever is in it, and a cell's share. From two runs of fsync.
COMMIT_MS, ROW_MS = 6.4, 0.2
# Measured where no scheduler is at hand (--simulate-only): a trial on two shared cores.
CLIENT_MS, SCHEDULER_MS = 2.9, 2.5


def children_cpu_s() -> float:
    """CPU seconds of all children that have ended."""
    used = os.times()
    return used.children_user + used.children_system


def sweep(folder: Path, *more: str) -> tuple[float, float]:
    """Wall and CPU seconds of one sweep, its children's included."""
    argv = [
        *(sys.executable, "-m", "vmaftune", "corpus", *map(str, sorted(CLIPS.glob("*.mp4")))),
        *("--encoders", "x264,x265,svtav1", "--quality", "x264=24,32;x265=24,32;svtav1=30,45"),
        *("--presets", "x264=medium;x265=veryfast;svtav1=8", "--frames", "44"),
        *("--out", str(folder), *more),
    ]
    before, begin = children_cpu_s(), time.monotonic()
    done = subprocess.run(
        argv, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False
    )
    if done.returncode:
        sys.exit(done.stderr)
    return time.monotonic() - begin, children_cpu_s() - before


def compare(rounds: int) -> None:
    """Lanes against two worker processes, A B A B."""
    ratios = []
    with tempfile.TemporaryDirectory(prefix="vmaf-tune-bench-") as place:
        for i in range(rounds):
            lanes = sweep(Path(place, f"a{i}"))
            cluster = sweep(Path(place, f"b{i}"), "--workers", "2")
            ratios.append((cluster[0] / lanes[0], cluster[1] / lanes[1]))
            print(
                f"round {i + 1}: lanes {lanes[0]:.1f} s ({lanes[1]:.1f} CPU), two workers"
                f" {cluster[0]:.1f} s ({cluster[1]:.1f} CPU): {ratios[-1][0]:.3f} x wall,"
                f" {ratios[-1][1]:.3f} x CPU",
                flush=True,
            )
    wall, cpu = (statistics.median(column) for column in zip(*ratios, strict=True))
    print(f"median: {wall:.3f} x wall, {cpu:.3f} x CPU of the lanes")


def cpu_of(pid: int) -> float:
    """CPU seconds of a process (Linux)."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def no_ops(cells: int) -> tuple[float, float]:
    """(client ms, scheduler ms) of CPU a cell, pinned and one by one, as the executor submits."""
    from distributed import Client

    with tempfile.TemporaryDirectory(prefix="vmaf-tune-bench-") as place:
        file = Path(place, "scheduler.json")
        quiet: dict[str, Any] = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        dask = (sys.executable, "-m", "dask")
        where = ("--scheduler-file", str(file))
        scheduler = subprocess.Popen(
            [*dask, "scheduler", *where, "--host", "127.0.0.1", "--port", "0"], **quiet
        )
        more = ("--nthreads", "8", "--no-nanny", "--local-directory", place)
        children = [subprocess.Popen([*dask, "worker", *where, *more], **quiet) for _ in range(2)]
        try:
            client = Client(scheduler_file=str(file))
            client.wait_for_workers(2)
            addresses = list(client.scheduler_info()["workers"])
            before, own = cpu_of(scheduler.pid), time.process_time()
            submit(client, addresses, cells)
            own = time.process_time() - own
            theirs = cpu_of(scheduler.pid) - before
            client.close()
        finally:
            for child in (*children, scheduler):
                child.kill()
                child.wait()
    return 1000 * own / cells, 1000 * theirs / cells


def submit(client: Any, addresses: Sequence[str], cells: int) -> None:
    """So many cells of no work, 64 at a time."""
    free = threading.Semaphore(64)
    for i in range(cells):
        free.acquire()
        # `bytes` is a cell of no work with a result of the usual size.
        where = [addresses[i % 2]]
        future = client.submit(bytes, 4200, key=f"no-op-{i}", workers=where, pure=False)
        future.add_done_callback(lambda done: (done.result(), free.release()))
    for _ in range(64):
        free.acquire()


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
    workers: int, cells: Sequence[float], client_ms: float, scheduler_ms: float, scale: float
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
        sent = client.serve(at, client_ms / 2000)
        there = scheduler.serve(sent, scheduler_ms / 1000)
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
            committed = client.serve(now, (COMMIT_MS + ROW_MS * waiting) / 1000)
            waiting = 0
        start(client.serve(now, client_ms / 2000))
    span = now - warm_at
    return (busy - warm_busy) / (span * slots), (num_cells - warm) / span


def table(client_ms: float, scheduler_ms: float) -> None:
    """The simulator's table, as docs/cluster.md has it."""
    cells = cell_seconds()
    mean = statistics.mean(cells)
    print(f"client {client_ms:.2f} ms, scheduler {scheduler_ms:.2f} ms a cell; slots busy, cells/s")
    print(f"| cells | mean | {' | '.join(f'{n} workers' for n in (10, 100, 1000))} |")
    print("|---|---|---|---|---|")
    for name, scale in (("640x360", 1.0), ("1920x1080", 9.0)):
        found = [simulate(n, cells, client_ms, scheduler_ms, scale) for n in (10, 100, 1000)]
        columns = " | ".join(f"{100 * share:.0f}% ({rate:.0f})" for share, rate in found)
        print(f"| {name} | {scale * mean:.1f} s | {columns} |")


def main() -> None:
    """Measure, then simulate."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--cells", type=int, default=10_000)
    parser.add_argument("--simulate-only", action="store_true")
    options = parser.parse_args()
    costs: Any = (CLIENT_MS, SCHEDULER_MS)
    if not options.simulate_only:
        compare(options.rounds)
        costs = no_ops(options.cells)
        print(f"no-op cells: client {costs[0]:.2f} ms, scheduler {costs[1]:.2f} ms of CPU each")
    table(*costs)


if __name__ == "__main__":
    main()
