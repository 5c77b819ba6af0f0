"""Storms over a cluster: workers, client and scheduler are killed at random instants, many times.

    PYTHONPATH=tests/support python tests/support/storms.py [--rounds 20] [--seed 1] [--blows 12]
        [--every 3]

Every round is a sweep of 48 cells over TLS with three workers. Every three seconds on average, up
to twelve times, something is killed with -9 (a worker, the client, the scheduler) or stopped,
perhaps past its time to live; what is gone is started again. Then the sweep may end. Rows and
frames must be those of one machine but for times and host, no cell may be done twice, and nothing
may be left running or lying in a scratch folder. A cell that lost three workers is given up, as it
should be, and tried again with --retry-failed. Prints what was done in each round, and how long the
encodes of a killed client lived.
"""

from __future__ import annotations

import argparse
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from clusters import TTL_S, Processes, make_authority, settle
from vmaf_train.corpus.dataset import corpus_digest, frame_digest
from vmaf_train.corpus.rows import CELLS, FailureKind, Row, read_rows
from vmaftune.media.ffmpeg import find_ffmpeg

GRID = ("--encoders", "x264,x265", "--presets", "ultrafast", "--quality", "24:38:2")
NUM_CELLS = 48
NUM_WORKERS = 3
ROUND_S = 1200.0
LOOK_S = 2.0
"""How often what has ended by itself is started again once nothing more is killed."""
LEFT, FAILED = 3, 5
"""Exit codes of a client whose cluster went away, and of one with failed rows."""
KINDS = ("worker", "worker", "worker", "client", "scheduler", "stop")
"""What may happen; workers die more often than the rest."""


def make_clips(folder: Path) -> list[Path]:
    """Three clips of 16 frames."""
    clips = []
    for i in range(3):
        path = folder / f"storm{i}.mkv"
        made = f"testsrc2=size=192x108:rate=25,hue=h={40 * i}"
        argv = [find_ffmpeg(), "-v", "error", "-y", "-f", "lavfi", "-i", made, "-frames:v", "16"]
        subprocess.run([*argv, "-c:v", "ffv1", str(path)], check=True, stdin=subprocess.DEVNULL)
        clips.append(path)
    return clips


def sweep_argv(clips: list[Path], out: Path, *more: str) -> list[str]:
    """The command of every sweep here."""
    argv = [sys.executable, "-m", "vmaftune", "corpus", *map(str, clips), *GRID]
    return [*argv, "--out", str(out), *more]


@dataclass(slots=True)
class Storm:
    """One round: a cluster, a client, and what has happened to them."""

    folder: Path
    clips: list[Path]
    cluster: Processes
    chance: random.Random
    counts: Counter[str] = field(default_factory=Counter)
    longest_s: float = 0.0
    client: subprocess.Popen[bytes] | None = None

    @property
    def run(self) -> Path:
        """The run folder."""
        return self.folder / "run"

    def start_client(self, *more: str) -> None:
        """Start the sweep, or go on with it."""
        self.counts["client starts"] += 1
        argv = sweep_argv(self.clips, self.run, "--cluster", self.cluster.address, *more)
        with (self.folder / "client.log").open("ab") as log:
            self.client = subprocess.Popen(
                argv,
                env={**os.environ, **self.cluster.env},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )

    def start_worker(self) -> None:
        """A fresh worker."""
        self.counts["worker starts"] += 1
        self.cluster.start_worker(f"w{self.counts['worker starts']}")

    def weather(self, kind: str) -> None:
        """Let one thing happen, and put right what it broke."""
        self.counts[kind] += 1
        if kind == "worker":
            self.cluster.kill(self.chance.choice(sorted(self.cluster.workers)))
            self.start_worker()
        elif kind == "client":
            self._kill_client()
        elif kind == "scheduler":
            self._kill_scheduler()
        else:
            self._stop_worker()

    def _kill_client(self) -> None:
        assert self.client is not None
        self.client.kill()
        self.client.wait()
        self.longest_s = max(self.longest_s, settle(lambda: not self.cluster.encodes(), 30))
        self.start_client()

    def _kill_scheduler(self) -> None:
        assert self.cluster.scheduler is not None and self.client is not None
        self.cluster.scheduler.kill()
        self.cluster.scheduler.wait()
        code = self.client.wait(timeout=90)
        assert code in (0, LEFT), f"without its scheduler the client left with {code}"
        for name in list(self.cluster.workers):
            self.cluster.kill(name)
        self.cluster.start_scheduler()
        for _ in range(NUM_WORKERS):
            self.start_worker()
        self.start_client()

    def _stop_worker(self) -> None:
        victim = self.cluster.workers[self.chance.choice(sorted(self.cluster.workers))]
        victim.send_signal(signal.SIGSTOP)
        time.sleep(self.chance.uniform(0.2, 2 * TTL_S))
        victim.send_signal(signal.SIGCONT)

    def blow(self, blows: int, every_s: float) -> None:
        """Let so many things happen, and the sweep end. Raises AssertionError when it fails."""
        self.cluster.start_scheduler()
        for _ in range(NUM_WORKERS):
            self.start_worker()
        self.start_client()
        end = time.monotonic() + ROUND_S
        while True:
            assert self.client is not None and time.monotonic() < end, "the round takes too long"
            seconds = self.chance.expovariate(1 / every_s) if blows else LOOK_S
            try:
                code = self.client.wait(timeout=seconds)
            except subprocess.TimeoutExpired:
                self._replace()
                if blows:
                    blows -= 1
                    self.weather(self.chance.choice(KINDS))
                continue
            if code == 0:
                return
            self._go_on(code)

    def _replace(self) -> None:
        """Start a worker for each that left by itself: the scheduler had given it up."""
        for name, worker in list(self.cluster.workers.items()):
            if worker.poll() is not None:
                self.counts["worker left"] += 1
                del self.cluster.workers[name]
                self.start_worker()

    def _go_on(self, code: int) -> None:
        """The client has left; it goes on, and tries again what it gave up."""
        assert code in (LEFT, FAILED), f"the client left with {code}"
        if code == LEFT:
            self.counts["client left"] += 1
            self._replace()
            self.start_client()
            return
        failed = [row for row in self._rows() if row["status"] != "ok"]
        lost = [r for r in failed if r["error"]["class"] == FailureKind.WORKER_LOST]
        assert lost == failed, f"cells failed: {failed}"
        self.counts["cell given up"] += len(lost)
        self.start_client("--retry-failed")

    def _rows(self) -> list[Row]:
        return [row for _, row in read_rows(self.run / CELLS)]

    def check(self, alone: Path) -> None:
        """Compare with the sweep of one machine. Raises AssertionError."""
        assert corpus_digest(self.run) == corpus_digest(alone), "other rows"
        assert frame_digest(self.run) == frame_digest(alone), "other frames"
        done = Counter(row["cell"] for row in self._rows() if row["status"] == "ok")
        assert len(done) == NUM_CELLS, f"{len(done)} cells of {NUM_CELLS}"
        assert max(done.values()) == 1, f"done twice: {done.most_common(3)}"
        settle(lambda: not self.cluster.encodes(), 10)
        settle(lambda: not self.cluster.scratch(of=list(self.cluster.workers)), 20)


def main() -> int:
    """Blow, check and count."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--every", type=float, default=3.0, help="seconds between two blows")
    parser.add_argument("--blows", type=int, default=12, help="what happens in a round, at most")
    options = parser.parse_args()
    chance = random.Random(options.seed)
    total: Counter[str] = Counter()
    longest_s = 0.0
    with tempfile.TemporaryDirectory(prefix="vmaf-tune-soak-") as place:
        top = Path(place)
        clips, tls = make_clips(top), make_authority(top, "ours")
        subprocess.run(
            sweep_argv(clips, top / "alone"),
            check=True,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        for number in range(1, options.rounds + 1):
            folder = top / str(number)
            (folder / "cluster").mkdir(parents=True)
            cluster = Processes(folder / "cluster", tls)
            storm = Storm(folder=folder, clips=clips, cluster=cluster, chance=chance)
            begin = time.monotonic()
            try:
                storm.blow(options.blows, options.every)
                storm.check(top / "alone")
            except BaseException:
                print((folder / "client.log").read_text()[-3000:], file=sys.stderr)
                raise
            finally:
                if storm.client is not None:
                    storm.client.kill()
                    storm.client.wait()
                cluster.end()
            told = ", ".join(f"{count} {name}" for name, count in sorted(storm.counts.items()))
            print(f"round {number}: {time.monotonic() - begin:.0f} s, {told}: equal", flush=True)
            total += storm.counts
            longest_s = max(longest_s, storm.longest_s)
    told = ", ".join(f"{count} {name}" for name, count in sorted(total.items()))
    print(f"{options.rounds} rounds: {told}; all rows and frames equal, none twice")
    print(f"encodes of a killed client lived {longest_s:.2f} s at most")
    return 0


if __name__ == "__main__":
    sys.exit(main())
