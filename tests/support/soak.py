"""Ill-treat the tool for a while and count what it stood: `make soak`, an hour by default.

Each round picks one kind of ill-treatment. A small sweep is killed, interrupted, or starved of disk
at a random instant and run again until it is whole; a finished run folder or a registry is damaged;
sources have hostile names or are playlists in disguise; a search and the encode of a film are ended
and asked again. Whatever happens, the rows, frames and answers at the end are those of a run that
nothing disturbed, no committed row is lost, nobody sees a traceback, and no child lives on.
Everything else is counted and makes the program fail.
"""

from __future__ import annotations

import argparse
import itertools
import json
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
from vmaf_train.contract import FEATURES
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
# What is asked of the clip, and what its answer must be whatever happened on the way.
ASKED = {
    "find": ("quality", "score", "kbps", "stop", "bracket"),
    "encode": ("num_frames", "score", "size_bytes", "is_met"),
}
# What a reader computes with, of a row and of a frame.
ROW_NUMBERS = (
    "status",
    "num_frames",
    "vmaf_score",
    "vmaf_harmonic_mean",
    "vmaf_min",
    "vmaf_p5",
    "per_frame_features",
)
FRAME_NUMBERS = ("frame_index", "vmaf", "vmaf_unclipped", *FEATURES)
SIGNS = "aZ09 .-_'\"%{}[]()*?;|&$#!~\\,:=+@ü日\t\x7f\u202e"


@dataclass(frozen=True)
class Measured:
    """A row without its times, and its frames in turn."""

    row: Mapping[str, Any]
    frames: list[dict[str, Any]]

    def measured(self) -> Measured:
        """Scores, features and counts alone."""
        row = {name: self.row.get(name) for name in ROW_NUMBERS}
        return Measured(row, [{n: frame.get(n) for n in FRAME_NUMBERS} for frame in self.frames])


@dataclass
class Tally:
    """What was survived, and sentences about what was not."""

    survived: Counter[str] = field(default_factory=Counter)
    problems: list[str] = field(default_factory=list)
    wrong_numbers: int = 0
    lost_rows: int = 0

    def report(self) -> str:
        """The counts as a table of Markdown; what must be 0 stands last."""
        ends = (
            ("wrong numbers", self.wrong_numbers),
            ("lost rows", self.lost_rows),
            ("problems in all", len(self.problems)),
        )
        rows = [*sorted(self.survived.items()), *ends]
        head = ["| what was survived | times |", "|---|---:|"]
        return "\n".join([*head, *(f"| {what} | {count:,} |" for what, count in rows)])


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
            self.search,
            self.film,
        )
        self.answers = {kind: self.answer(kind, place / kind) for kind in ASKED}

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

    def compare(self, out: Path, *, damaged: bool = False) -> None:
        """Count what differs from the undisturbed sweep. Of a folder that was `damaged` only the
        scores, features and counts can be known again, and what its sweep does not ask for is left.
        """
        found = rows_of(out)
        for cell, wanted in self.truth.items():
            if cell not in found:
                self.tally.lost_rows += 1
                self.problem(f"{cell} is gone")
                continue
            told = differences(*((c.measured() if damaged else c) for c in (wanted, found[cell])))
            if told:
                self.tally.wrong_numbers += 1
                self.problem(f"{cell} has other numbers: {told}")
        if found.keys() - self.truth.keys() and not damaged:
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
            self.tally.survived["kills (-9) of a sweep at random instants"] += 1
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
        self.tally.survived["Ctrl-C, SIGTERM and SIGHUP at random instants"] += 1
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
        self.tally.survived["disks that fill up at a random size"] += 1
        if child.returncode in (3, 5):
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
        before = (out / "cells.jsonl").read_bytes()
        done = self.sweep(out)
        if done.returncode == 0:
            self.compare(out, damaged=True)
        elif done.returncode not in REFUSED:
            self.problem(f"a damaged {name} ended the sweep with {done.returncode}")
        elif not before.startswith((out / "cells.jsonl").read_bytes()):
            self.problem(f"a damaged {name} was refused, and cells.jsonl is another one")
        self.tally.survived["files of a run folder mutated"] += 1

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
        self.tally.survived["files of the models mutated"] += 1

    def hostile_name(self, folder: Path) -> None:
        """A clip under a name that nobody would choose: measured, or refused before anything."""
        name = "".join(self.random.choice(SIGNS) for _ in range(self.random.choice((1, 8, 120))))
        clip, out = folder / f"{name}.mkv", folder / "run"
        shutil.copy(self.clip, clip)
        done = self.sweep(out, clip)
        if done.returncode == 0:
            frames = [cell.frames for cell in rows_of(out).values()]
            if frames != [cell.frames for cell in self.truth.values()]:
                self.tally.wrong_numbers += 1
                self.problem(f"other scores of a clip called {name!r}")
        elif done.returncode != 2 or out.exists():
            self.problem(f"a clip called {name!r}: exit {done.returncode}, {done.stderr[-300:]}")
        self.tally.survived["hostile names of clips"] += 1

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

    def search(self, folder: Path) -> None:
        """A search for a quality value is killed or interrupted: the answer is the same."""
        self.question("find", folder, "searches ended at random, and asked again")

    def film(self, folder: Path) -> None:
        """An encode of the film likewise; its file is there whole or not at all."""
        self.question("encode", folder, "encodes of a film ended at random, and asked again")

    def question(self, kind: str, folder: Path, what: str) -> None:
        """End a question at a random instant, then ask it again."""
        child = self.start(*self.question_argv(kind, folder), preexec_fn=hears)
        time.sleep(self.random.uniform(0, 1.2 * self.seconds))
        child.send_signal(self.random.choice((signal.SIGKILL, signal.SIGINT, signal.SIGTERM)))
        child.communicate(timeout=60)
        self.no_child_lives(folder)
        out = folder / "out.mkv"
        if out.exists():
            self.whole_film(out)
            out.unlink()
        self.tally.survived[what] += 1
        found = self.answer(kind, folder)
        if found != self.answers[kind]:
            self.tally.wrong_numbers += 1
            self.problem(f"{kind} answers {found}, not {self.answers[kind]}")
        if out.exists():
            self.whole_film(out)
        if left := sorted(file.name for file in folder.glob(".*")):
            self.problem(f"{kind} left {left} behind")

    def question_argv(self, kind: str, folder: Path) -> list[str]:
        """The command of a question."""
        words = [kind, str(self.clip), "--preset", "ultrafast", "--target", "86", "--json"]
        places = {
            "find": ["--stop", "proven", "--out", str(folder / "run")],
            "encode": ["--run-dir", str(folder / "run"), "-o", str(folder / "out.mkv")],
        }
        return [*words, *places[kind]]

    def answer(self, kind: str, folder: Path) -> dict[str, Any]:
        """What a question answers in the end."""
        done = self.checked(typed(*self.question_argv(kind, folder), cwd=self.place))
        assert done.returncode == 0, done.stderr
        last = json.loads(done.stdout.splitlines()[-1])
        return {name: last[name] for name in ASKED[kind]}

    def whole_film(self, out: Path) -> None:
        """Note a problem unless the file decodes to all frames of the clip."""
        argv = [find_ffmpeg(), "-nostdin", "-v", "error", "-i", str(out), "-f", "framecrc", "-"]
        done = subprocess.run(argv, capture_output=True, text=True, check=False)
        lines = [line for line in done.stdout.splitlines() if line.startswith("0,")]
        if len(lines) != NUM_FRAMES or done.stderr:
            self.problem(f"{out.name} has {len(lines)} frames: {done.stderr[-300:]}")

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


def rows_of(out: Path) -> dict[str, Measured]:
    """Per cell its last row without times, and the frames of that row in turn, as a reader takes
    them.
    """
    last = {row["cell"]: row for row in fuzz.jsonl((out / "cells.jsonl").read_bytes())}
    frames: dict[tuple[object, object], list[dict[str, Any]]] = {}
    for frame in fuzz.jsonl((out / "frames.jsonl").read_bytes()):
        frames.setdefault((frame.get("cell"), frame.get("key")), []).append(frame)
    found = {}
    for cell, row in sorted(last.items()):
        own = sorted(frames.get((cell, row.get("key")), []), key=lambda f: f["frame_index"])
        kept = {k: v for k, v in row.items() if k not in TIMES}
        found[cell] = Measured(kept, [without(frame, "cell", "src", "key") for frame in own])
    return found


def without(row: Mapping[str, Any], *names: str) -> dict[str, Any]:
    """`row` without some fields."""
    return {name: value for name, value in row.items() if name not in names}


def differences(wanted: Measured, found: Measured) -> str:
    """What two cells differ in, for a person; nothing where they are one."""
    said = [
        f"{name} is {found.row.get(name)!r:.80}, not {wanted.row.get(name)!r:.80}"
        for name in {**wanted.row, **found.row}
        if not is_near(found.row.get(name), wanted.row.get(name))
    ]
    if len(found.frames) != len(wanted.frames):
        said.append(f"{len(found.frames)} frames, not {len(wanted.frames)}")
    pairs = zip(found.frames, wanted.frames, strict=False)
    said += [f"{a} is not {b}" for a, b in pairs if not is_near(a, b, NUM_FRAMES)]
    return "; ".join(said[:3])


def is_near(one: object, other: object, frames: int = 1) -> bool:
    """True for equal values, and for numbers that no reader of a mean can tell apart: 1e-6 of a
    mean is `frames` times as much of one frame.
    """
    if isinstance(one, dict) and isinstance(other, dict):
        names = one.keys() | other.keys()
        return all(is_near(one.get(name), other.get(name), frames) for name in names)
    if isinstance(one, int | float) and isinstance(other, int | float):
        return abs(one - other) <= 2e-6 * frames
    return one == other


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
    print(f"`make soak` for {args.seconds:.0f} seconds with seed {seed}:\n\n{tally.report()}")
    return 1 if tally.problems else 0


if __name__ == "__main__":
    sys.exit(main())
