"""Ill-treat the tool for a while and count what it stood: `make soak`, an hour by default.

Each round picks one kind of ill-treatment. A small sweep is killed, interrupted, or starved of disk
at a random instant and run again until it is whole; a finished run folder or a registry is damaged;
sources have hostile names or are playlists in disguise. Whatever happens, the rows and frames at
the end are those of a sweep that nothing disturbed, no committed row is lost, nobody sees a
traceback, and no child lives on. Everything else is counted and makes the program fail.
"""

from __future__ import annotations

import argparse
import itertools
import os
import random
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import fuzz
from typed import Done, typed
from vmaftune.media.ffmpeg import find_ffmpeg

ROOT = Path(__file__).parents[2]
GRID = ("--encoders", "x264", "--presets", "ultrafast", "--quality", "28,33,38", "--jobs", "2")
NUM_CELLS, NUM_FRAMES = 3, 12
# What differs between two runs of one cell.
TIMES = ("encode_wall_s", "encode_cpu_s", "score_cpu_s", "finished_at")
REFUSED = (2, 3, 4)
PLAYLISTS = (
    "ffconcat version 1.0\nfile clip.mkv\n",
    "#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\nclip.mkv\n#EXT-X-ENDLIST\n",
    '<?xml version="1.0"?><MPD xmlns="urn:mpeg:dash:schema:mpd:2011" type="static"></MPD>',
    "v=0\nc=IN IP4 127.0.0.1\nm=video 9 RTP/AVP 96\n",
)
SIGNS = "aZ09 .-_'\"%{}[]()*?;|&$#!~\\,:=+@ü日\t\x7f\u202e"


@dataclass
class Tally:
    """What was survived, and sentences about what was not."""

    survived: Counter[str] = field(default_factory=Counter)
    problems: list[str] = field(default_factory=list)
    wrong_numbers: int = 0
    lost_rows: int = 0

    def report(self) -> str:
        """The counts, a line each; what must be 0 stands last."""
        lines = [f"{count:8,} {what}" for what, count in sorted(self.survived.items())]
        ends = (
            (self.wrong_numbers, "wrong numbers"),
            (self.lost_rows, "lost rows"),
            (len(self.problems), "problems in all"),
        )
        return "\n".join([*lines, *(f"{count:8,} {what}" for count, what in ends)])


class Soak:
    """One small clip, its undisturbed sweep, and the ways to ill-treat it."""

    def __init__(self, place: Path, seed: int) -> None:
        self.place, self.random = place, random.Random(seed)
        self.tally = Tally()
        self.mutator = fuzz.Mutator(seed)
        self.clip = place / "clip.mkv"
        picture = f"testsrc2=size=96x64:rate=25,noise=alls=14:allf=t:all_seed={seed}"
        made = ("-f", "lavfi", "-i", picture, "-frames:v", str(NUM_FRAMES), "-c:v", "ffv1")
        quiet = ("-nostdin", "-v", "error", "-y")
        subprocess.run([find_ffmpeg(), *quiet, *made, str(self.clip)], check=True)
        begin = time.monotonic()
        done = self.sweep(place / "whole")
        assert done.returncode == 0, done.stderr
        self.seconds = time.monotonic() - begin
        self.truth = rows_of(place / "whole")
        self.models = Path(shutil.copytree(ROOT / "model", place / "model"))
        self.kinds: tuple[Callable[[Path], None], ...] = (
            self.kill,
            self.signals,
            self.full_disk,
            self.damaged_folder,
            self.damaged_registry,
            self.hostile_name,
            self.playlist,
            self.no_home,
            self.no_place,
        )

    def run(self, seconds: float, rounds: float) -> Tally:
        """Rounds of every kind in turn, their chances drawn, until time or number is over."""
        end = time.monotonic() + seconds
        for number, kind in enumerate(itertools.cycle(self.kinds)):
            if time.monotonic() > end or number >= rounds:
                return self.tally
            folder = self.place / f"round {number}"
            folder.mkdir()
            before = len(self.tally.problems)
            try:
                kind(folder)
            except (AssertionError, OSError, ValueError, KeyError, RuntimeError) as failure:
                self.problem(f"{kind.__name__}: {failure!r:.500}")
            if len(self.tally.problems) == before:
                shutil.rmtree(folder)
        raise AssertionError("the kinds never end")

    def problem(self, what: str) -> None:
        """Keep a sentence about something that should not be."""
        self.tally.problems.append(what)
        print(f"PROBLEM {what}", file=sys.stderr)

    # -- the tool -------------------------------------------------------------------------------

    def argv(self, out: Path, clip: Path | None = None) -> list[str]:
        """The command of the sweep."""
        return ["corpus", *GRID, "--out", str(out), "--", str(clip or self.clip)]

    def start(self, *words: str, **more: Any) -> subprocess.Popen[str]:
        """The command as a process of its own."""
        return subprocess.Popen(
            [sys.executable, "-m", "vmaftune", *words],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            cwd=self.place,
            **more,
        )

    def sweep(self, out: Path, clip: Path | None = None) -> Done:
        """The sweep to its end, in this process."""
        return self.checked(typed(*self.argv(out, clip), cwd=self.place))

    def checked(self, done: Done) -> Done:
        """`done`, after a look for what nobody should see."""
        if "Traceback" in done.stderr or done.returncode == 1:
            self.problem(f"a traceback of {' '.join(done.args)}: {done.stderr[-800:]}")
        if done.returncode in REFUSED and not done.stderr.splitlines()[-1].startswith("error: "):
            self.problem(f"no sentence at exit code {done.returncode}: {done.stderr[-300:]}")
        return done

    def finish(self, out: Path, committed: bytes) -> None:
        """Run the sweep to its end, and compare with the one that nothing disturbed."""
        done = self.sweep(out)
        if done.returncode != 0:
            self.problem(f"the sweep did not go on: exit {done.returncode}, {done.stderr[-300:]}")
            return
        if not (out / "cells.jsonl").read_bytes().startswith(committed):
            self.tally.lost_rows += 1
            self.problem("rows that were committed are gone")
        self.compare(out)

    def compare(self, out: Path) -> None:
        """Count what differs from the undisturbed sweep."""
        found = rows_of(out)
        for cell, numbers in self.truth.items():
            if cell not in found:
                self.tally.lost_rows += 1
                self.problem(f"{cell} is gone")
            elif found[cell] != numbers:
                self.tally.wrong_numbers += 1
                self.problem(f"{cell} has other numbers")
        if found.keys() - self.truth.keys():
            self.problem(f"cells that nobody asked for: {found.keys() - self.truth.keys()}")

    # -- ill-treatment --------------------------------------------------------------------------

    def kill(self, folder: Path) -> None:
        """kill -9 at random instants, until the sweep is whole."""
        out = folder / "run"
        for _ in range(self.random.randint(1, 3)):
            child = self.start(*self.argv(out))
            time.sleep(self.random.uniform(0, 1.2 * self.seconds))
            child.kill()
            child.communicate()
            self.no_child_lives(out)
            self.tally.survived["kills"] += 1
        self.finish(out, committed_of(out))

    def signals(self, folder: Path) -> None:
        """Ctrl-C and its like at a random instant: exit code 130, or it had just finished."""
        out = folder / "run"
        number = self.random.choice((signal.SIGINT, signal.SIGTERM, signal.SIGHUP))
        child = self.start(*self.argv(out), preexec_fn=hears)
        time.sleep(self.random.uniform(0, 1.2 * self.seconds))
        child.send_signal(number)
        _, err = child.communicate(timeout=60)
        early = child.returncode == -number or "KeyboardInterrupt" in err
        if not early and child.returncode not in (0, 130):
            self.problem(f"{number.name} ended it with {child.returncode}: {err[-500:]}")
        self.no_child_lives(out)
        self.tally.survived["signals"] += 1
        self.finish(out, committed_of(out))

    def full_disk(self, folder: Path) -> None:
        """No file may grow beyond a random size, as on a disk that fills up."""
        out, size = folder / "run", self.random.randint(0, 150_000)

        def limit() -> None:
            resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))

        child = self.start(*self.argv(out), preexec_fn=limit)
        _, err = child.communicate(timeout=120)
        if child.returncode not in (0, 3, 5) or "Traceback" in err:
            self.problem(f"a full disk ended it with {child.returncode}: {err[-500:]}")
        self.no_child_lives(out)
        self.tally.survived["full disks"] += 1
        if child.returncode == 5:
            # Encodes that could not be written are failed cells, which only a wish runs again.
            typed(*self.argv(out)[:1], "--retry-failed", *self.argv(out)[1:], cwd=self.place)
        self.finish(out, committed_of(out))

    def damaged_folder(self, folder: Path) -> None:
        """A file of a finished run folder is damaged: every reader refuses it or is right, and the
        sweep mends it or refuses it without a change.
        """
        out = Path(shutil.copytree(self.place / "whole", folder / "run"))
        name = self.random.choice(("cells.jsonl", "frames.jsonl", "sweep.json", "runs.jsonl"))
        (out / name).write_bytes(self.mutator.damaged((out / name).read_bytes()))
        for words in (("status", out, "--json"), ("report", out, "--json")):
            self.checked(typed(*words, cwd=self.place))
        before = {file.name: file.read_bytes() for file in out.glob("*.json*")}
        done = self.sweep(out)
        if done.returncode == 0:
            self.compare(out)
        elif done.returncode not in REFUSED:
            self.problem(f"a damaged {name} ended the sweep with {done.returncode}")
        elif before["cells.jsonl"] != (out / "cells.jsonl").read_bytes():
            self.problem(f"a damaged {name} was refused, and cells.jsonl is another one")
        self.tally.survived["damaged files"] += 1

    def damaged_registry(self, folder: Path) -> None:
        """registry.json or a model's file is damaged: a sentence, or the model as it was."""
        models = Path(shutil.copytree(self.models, folder / "model"))
        files = [f for f in (models / "tiny").iterdir() if f.suffix in (".json", ".onnx")]
        file = self.random.choice([models / "tiny/registry.json", *sorted(files)])
        file.write_bytes(self.mutator.damaged(file.read_bytes()))
        for model in ("fr_regressor_v2", "quality_prior"):
            for words in (("predict", model, "--self-test"), ("eval", model)):
                done = typed(*words, "--model-dir", models, cwd=folder)
                self.checked(done)
                if done.returncode not in (0, 4):
                    self.problem(f"a damaged {file.name}: exit {done.returncode} of {words}")
        self.tally.survived["damaged registries"] += 1

    def hostile_name(self, folder: Path) -> None:
        """A clip under a name that nobody would choose: measured, or refused before anything."""
        name = "".join(self.random.choice(SIGNS) for _ in range(self.random.choice((1, 8, 120))))
        clip, out = folder / f"{name}.mkv", folder / "run"
        shutil.copy(self.clip, clip)
        done = self.sweep(out, clip)
        if done.returncode == 0:
            numbers = [value[1] for value in rows_of(out).values()]
            if numbers != [value[1] for value in self.truth.values()]:
                self.tally.wrong_numbers += 1
                self.problem(f"other scores of a clip called {name!r}")
        elif done.returncode != 2 or out.exists():
            self.problem(f"a clip called {name!r}: exit {done.returncode}, {done.stderr[-300:]}")
        self.tally.survived["hostile names"] += 1

    def playlist(self, folder: Path) -> None:
        """A text that names other files, called a video: refused, and the other file not read."""
        clip = folder / f"film.{self.random.choice(('mkv', 'mp4', 'ts', 'm3u8'))}"
        clip.write_text(self.random.choice(PLAYLISTS))
        shutil.copy(self.clip, folder / "clip.mkv")
        done = self.sweep(folder / "run", clip)
        if done.returncode != 2 or (folder / "run").exists():
            self.problem(f"a playlist in disguise: exit {done.returncode}, {done.stderr[-300:]}")
        self.tally.survived["playlists in disguise"] += 1

    def no_home(self, folder: Path) -> None:
        """Neither HOME nor a cache folder, or ones that cannot be written."""
        gone = {k: v for k, v in os.environ.items() if k not in ("HOME", "XDG_CACHE_HOME")}
        unfit = {**gone, "HOME": "/proc/none", "XDG_CACHE_HOME": "/proc/none"}
        out = folder / "run"
        child = self.start(*self.argv(out), env=self.random.choice((gone, unfit)))
        _, err = child.communicate(timeout=120)
        if child.returncode != 0:
            self.problem(f"without a home: exit {child.returncode}, {err[-500:]}")
        self.compare(out)
        self.tally.survived["sweeps without a home"] += 1

    def no_place(self, folder: Path) -> None:
        """A run folder that nobody can write, or that is none."""
        (folder / "file").touch()
        place = self.random.choice(("/proc/none", "/sys/none", str(folder / "file/run")))
        done = self.sweep(Path(place))
        if done.returncode not in (2, 3):
            self.problem(f"a sweep into {place}: exit {done.returncode}")
        self.tally.survived["places that cannot be written"] += 1

    def no_child_lives(self, out: Path) -> None:
        """Encodes of a process that has gone are gone within 10 seconds."""
        end = time.monotonic() + 10
        while left := processes_in(out):
            if time.monotonic() > end:
                self.problem(f"processes {left} live on")
                return
            time.sleep(0.05)


def hears() -> None:
    """In a child: take the signals again that whoever started us may ignore."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.default_int_handler)


def rows_of(out: Path) -> Mapping[str, tuple[Mapping[str, Any], list[Any]]]:
    """Per cell its last row without times, and the scores and features of its frames."""
    last = {row["cell"]: row for row in fuzz.jsonl((out / "cells.jsonl").read_bytes())}
    frames: dict[str, list[Any]] = {}
    for frame in fuzz.jsonl((out / "frames.jsonl").read_bytes()):
        numbers = {k: v for k, v in frame.items() if k not in ("cell", "src", "key")}
        frames.setdefault(frame["cell"], []).append(numbers)
    return {
        cell: ({k: v for k, v in row.items() if k not in TIMES}, frames.get(cell, []))
        for cell, row in sorted(last.items())
    }


def committed_of(out: Path) -> bytes:
    """The whole lines of cells.jsonl."""
    file = out / "cells.jsonl"
    text = file.read_bytes() if file.exists() else b""
    return text[: text.rfind(b"\n") + 1]


def processes_in(folder: Path) -> list[int]:
    """Living processes that work in a folder or name it."""
    found = []
    for place in Path("/proc").iterdir():
        if not place.name.isdigit() or int(place.name) == os.getpid():
            continue
        try:
            words = (place / "cmdline").read_bytes()
            cwd = os.readlink(place / "cwd")
            state = (place / "stat").read_text().rpartition(")")[2].split()[0]
        except OSError:
            continue
        if state != "Z" and (str(folder) in cwd or os.fsencode(folder) in words):
            found.append(int(place.name))
    return found


def soak(*, seconds: float, rounds: float = float("inf"), seed: int = 0) -> Tally:
    """Ill-treat the tool; what was survived and what was not."""
    with tempfile.TemporaryDirectory() as place:
        return Soak(Path(place), seed).run(seconds, rounds)


def main(words: Sequence[str] | None = None) -> int:
    """Soak and print the counts; 1 where anything went wrong."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=3600)
    parser.add_argument("--seed", type=int, default=None, help="default: another one each time")
    args = parser.parse_args(words)
    seed = random.randrange(2**31) if args.seed is None else args.seed
    print(f"seed {seed}", file=sys.stderr)
    tally = soak(seconds=args.seconds, seed=seed)
    print(tally.report())
    return 1 if tally.problems else 0


if __name__ == "__main__":
    sys.exit(main())
