"""What encoding a film shot by shot saves, and what windows foretell of a whole encode.

    python tools/vmaf-tune/dev/bench_encode.py [--target 90] [--encoder x264] [--picture FILE]

Joins the committed clips into three films of 40 seconds and makes each four ways: whole at one
value, by shots with the target in each, by shots with the target over the film, and at the values
around, so that bits are compared at equal mean VMAF (ln of the bytes between neighbouring values).
Prints four tables:

- bits, and how far the shots lie apart, against one value for the film;
- encodes that the search made for a minute of film, and those of rules that search each shot
  without a prior (peers.py), on the shots' own curves: eight values of each are measured for that;
- what windows foretold of the whole encode, and what all its frames have;
- windows encoded alone against the same frames of the whole encode, with and without frames around
  them that are encoded and not scored.

No figure depends on how busy the machine is. An idle one takes minutes.
"""

from __future__ import annotations

import argparse
import math
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import fmean, pstdev

import numpy as np
import peers
from vmaf_train.corpus.rows import CellRow
from vmaf_train.prior.process import interpolate
from vmaf_train.results.foretelling import Dense, Rule
from vmaftune import api
from vmaftune.asking import finding
from vmaftune.cell import Cell, Window
from vmaftune.engine.study import Study
from vmaftune.media.ffmpeg import find_ffmpeg
from vmaftune.questions.film import Made
from vmaftune.questions.find_request import cell_of
from vmaftune.request.cells import Plan
from vmaftune.request.flags import Texts

ROOT = Path(__file__).resolve().parents[3]
CLIPS = ROOT / "tests/media/clips"
RATE, CLIP_FRAMES, SHOTS = "24000/1001", 48, 20
FILMS = {
    "all five clips": ("bbb", "acrobat", "city_night", "vizdoom_game", "blender_screencast"),
    "calm": ("bbb", "blender_screencast", "city_night"),
    "lively": ("acrobat", "vizdoom_game", "bbb"),
}
PADS = (0, 12, 48)
MEASURED = 8
"""Quality values at which a shot's curve is measured, over the encoder's whole range."""
RULES: dict[str, Rule] = {
    "bisection": peers.bisection(),
    "ab-av1's rule": peers.ab_av1(peers.doubling),
    "Av1an's rule": peers.av1an(),
}
NEAR = 2
"""Distance of the quality values between which the bits of one value are interpolated."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Spread:
    """One way to make a film: mean VMAF, bytes, the lowest shot, how far the shots lie apart."""

    way: str
    mean: float
    size_bytes: float
    lowest: float
    apart: float


def main() -> None:
    """Make every film in every way, and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=_Raw)
    parser.add_argument("--target", type=float, default=90)
    parser.add_argument("--encoder", default="x264")
    parser.add_argument("--preset", default="veryfast")
    parser.add_argument("--picture", type=Path, help="draw quality over time of the first film")
    asked = parser.parse_args()
    ways, made, told, biases = [], [], [], []
    with tempfile.TemporaryDirectory(prefix="vmaf-tune-bench-") as place:
        for name, clips in FILMS.items():
            bench = Bench(Path(place), name, clips, asked)
            ways += bench.ways()
            made.append(bench.encodes())
            told.append(bench.foretold())
            biases += bench.biases()
            if asked.picture is not None and name == next(iter(FILMS)):
                bench.draw(asked.picture)
    print(f"\n{asked.encoder} {asked.preset}, target {asked.target:g}\n")
    show(("film", "way", "mean", "bits %", "lowest", "sd"), ways)
    show(("film", "shots a minute", "each shot", "over the film", *(f"{r}" for r in RULES)), made)
    show(("film", "quality", "foretold", "all frames", "off"), told)
    show(("film", "frames around", "windows", "off by", "sd", "most"), biases)


class _Raw(argparse.RawDescriptionHelpFormatter):
    pass


def show(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """A table in Markdown, as the docs have it."""
    print("| " + " | ".join(columns) + " |")
    print("|---" * len(columns) + "|")
    for row in rows:
        print("| " + " | ".join(row) + " |")
    print(flush=True)


class Bench:
    """One film in a folder of its own, and everything that is measured of it."""

    def __init__(
        self, place: Path, name: str, clips: Sequence[str], asked: argparse.Namespace
    ) -> None:
        self.name, self.asked = name, asked
        self.folder = place / name.replace(" ", "_")
        self.folder.mkdir()
        self.film = self.folder / "film.mkv"
        write_film(self.film, clips)
        self.question = finding.find_question(
            Texts(sources=(str(self.film),), encoders=asked.encoder, presets=asked.preset),
            api.Wanted(target=asked.target),
            api.Running(out=self.folder / "cells"),
        )
        self.cells: dict[float, tuple[CellRow, tuple[float, ...]]] = {}
        self.whole = self.make("whole")
        self.shots = self.make("shots")
        self.over = self.make("shots over the film")

    def make(self, way: str) -> Made:
        """The film made in one way, in a run folder of its own: no way profits from another."""
        print(f"{self.name}: {way}", file=sys.stderr, flush=True)
        return api.encode(
            self.film,
            self.folder / f"{way}.mkv",
            encoder=self.asked.encoder,
            preset=self.asked.preset,
            way=way.split()[0],
            over_film=way.endswith("film"),
            verify="full" if way == "whole" else "windows",
            wanted=api.Wanted(target=self.asked.target),
            running=api.Running(out=self.folder / f"run {way}"),
        )

    @property
    def minutes(self) -> float:
        """Length of the film."""
        return self.question.film.seconds / 60

    def ways(self) -> list[list[str]]:
        """Lines of the first table."""
        found = []
        for way, made in (("each shot", self.shots), ("over the film", self.over)):
            shots = [shot.score for shot in made.shots]
            frames = [shot.num_frames for shot in made.shots]
            mean = sum(s * n for s, n in zip(shots, frames, strict=True)) / sum(frames)
            size = sum(shot.size_bytes for shot in made.shots)
            one = self.one_value(mean)
            saved = 100 * (size / one.size_bytes - 1)
            found.append(
                [self.name, f"shots, target in {way}" if way == "each shot" else f"shots, {way}"]
                + [f"{mean:.2f}", f"{saved:+.1f}", f"{min(shots):.1f}", f"{pstdev(shots):.2f}"]
            )
            found.append(
                [self.name, f"{one.way}", f"{one.mean:.2f}", "0", f"{one.lowest:.1f}"]
                + [f"{one.apart:.2f}"]
            )
        return found

    def one_value(self, mean: float) -> Spread:
        """One value for the whole film with this mean VMAF: bytes between two neighbours, shots at
        the nearer one.
        """
        low = high = self.whole.attempts[-1].quality
        while self.mean_at(low) < mean:
            low -= NEAR
        while self.mean_at(high) >= mean:
            high += NEAR
        low = max(q for q in self.cells if self.mean_at(q) >= mean)
        high = min(q for q in self.cells if q > low)
        share = (self.mean_at(low) - mean) / (self.mean_at(low) - self.mean_at(high))
        sizes = [math.log(self.cells[q][0].size_bytes or 1) for q in (low, high)]
        nearer = low if share < 0.5 else high
        shots = self.shot_means(nearer)
        return Spread(
            way=f"one value, {low + share * (high - low):.1f}",
            mean=mean,
            size_bytes=math.exp(sizes[0] + share * (sizes[1] - sizes[0])),
            lowest=min(shots),
            apart=pstdev(shots),
        )

    def shot_means(self, quality: float) -> list[float]:
        """Mean VMAF of every shot within the whole encode."""
        scores = self.cells[quality][1]
        cuts = [(shot.start, shot.num_frames) for shot in self.shots.shots]
        return [fmean(scores[start : start + count]) for start, count in cuts]

    def mean_at(self, quality: float) -> float:
        """Mean VMAF of the whole film at a quality value."""
        if quality not in self.cells:
            (found,) = self.measure([self.question.film.whole], quality)
            self.cells[quality] = found
        return fmean(self.cells[quality][1])

    def measure(
        self, windows: Sequence[Window], quality: float
    ) -> list[tuple[CellRow, tuple[float, ...]]]:
        """Row and frame scores of each window at a quality value."""
        request = self.question.request
        cells: list[Cell] = [
            cell_of(request, request.candidates[0], window, quality) for window in windows
        ]
        with Study.open(
            self.question.folder,
            Plan(cells=(), sources=(), name=""),
            self.question.ffmpeg,
            self.question.options,
            open_plan=True,
        ) as study:
            study.submit(cells)
            for _ in study.events():
                pass
            rows = [study.result(cell) for cell in cells]
            assert all(row is not None and row.is_ok for row in rows), rows
            return [(row, study.scores(c)) for row, c in zip(rows, cells, strict=True) if row]

    def encodes(self) -> list[str]:
        """The line of the second table: encodes for a minute of film."""
        numbers = [len(self.shots.shots), self.shots.num_encodes, self.over.num_encodes]
        curves = self.curves()
        target = float(self.asked.target)
        numbers += [sum(len(rule(c, target)[1]) for c in curves) for rule in RULES.values()]
        return [self.name, *(f"{number / self.minutes:.0f}" for number in numbers)]

    def curves(self) -> list[Dense]:
        """The curve of every shot over the encoder's whole range, between measured values by a
        monotone cubic.
        """
        candidate = self.question.request.candidates[0]
        every = np.arange(candidate.low, candidate.high + 1)
        known = np.unique(np.round(np.linspace(candidate.low, candidate.high, MEASURED)))
        film = self.question.film
        windows = [film.cut(shot.start, shot.num_frames) for shot in self.shots.shots]
        means = [[fmean(s) for _, s in self.measure(windows, float(q))] for q in known]
        nothing = np.zeros(len(every))
        return [
            Dense(
                content=window.name,
                encoder=candidate.encoder.name,
                preset=candidate.preset,
                quality=every,
                score=interpolate(known, np.array([at[i] for at in means]), every),
                bits_per_pixel=nothing,
                cpu_s=nothing,
                motion2=None,
            )
            for i, window in enumerate(windows)
        ]

    def foretold(self) -> list[str]:
        """The line of the second table: the first encode, before anything was corrected."""
        first = self.whole.attempts[0]
        told = first.foretold or 0.0
        numbers = [f"{told:.2f}", f"{first.measured:.2f}", f"{first.measured - told:+.2f}"]
        return [self.name, f"{first.quality:g}", *numbers]

    def biases(self) -> list[list[str]]:
        """Lines of the third table."""
        quality, film = self.whole.attempts[0].quality, self.question.film
        self.mean_at(quality)
        whole = self.cells[quality][1]
        room = max(PADS)
        inside = [
            window
            for window in self.question.request.sample.windows
            if room <= window.start_frame - film.whole.start_frame
            and window.start_frame + window.expected_frames + room <= film.num_frames
        ][:8]
        found = []
        for pad in PADS:
            padded = [self.padded(window, pad) for window in inside]
            alone = [fmean(scores) for _, scores in self.measure(padded, quality)]
            within = []
            for window in inside:
                start = window.start_frame - film.whole.start_frame
                within.append(fmean(whole[start : start + window.expected_frames]))
            off = [a - w for a, w in zip(alone, within, strict=True)]
            most = max(off, key=abs)
            numbers = [f"{fmean(off):+.2f}", f"{pstdev(off):.2f}", f"{most:+.2f}"]
            found.append([self.name, str(pad), str(len(inside)), *numbers])
        return found

    def padded(self, window: Window, pad: int) -> Window:
        """The window with `pad` frames on either side that are encoded and not scored."""
        facts, count = self.question.film.facts, window.expected_frames
        return replace(
            window,
            name=f"{window.name}-{pad}",
            pad_before=pad,
            pad_after=pad,
            seek=facts.seek(window.start_frame - pad, count + 2 * pad),
        )

    def draw(self, file: Path) -> None:
        """Quality over time: mean VMAF of every shot at one value, and by shots."""
        from matplotlib.figure import Figure

        self.one_value(fmean(shot.score for shot in self.shots.shots))
        quality = self.whole.attempts[-1].quality
        rate = float(self.question.film.whole.frame_rate)
        edges = [shot.start / rate for shot in self.shots.shots]
        edges.append(self.question.film.seconds)
        figure = Figure(figsize=(9, 3.6), layout="constrained")
        axes = figure.subplots()
        lines = (
            (self.shot_means(quality), "#D55E00", f"one value for the film, {quality:g}"),
            ([s.score for s in self.shots.shots], "#0072B2", "a value for each shot"),
            ([s.score for s in self.over.shots], "#009E73", "by shots, the target over the film"),
        )
        for scores, colour, label in lines:
            axes.stairs(scores, edges, color=colour, linewidth=1.8, label=label, baseline=None)
        axes.axhline(self.asked.target, color="#777777", linestyle=":", linewidth=1)
        axes.set(xlabel="Seconds into the film", ylabel="VMAF, mean of a shot")
        axes.grid(True, color="#e4e4e4", linewidth=0.6)
        axes.spines[["top", "right"]].set_visible(False)
        axes.legend(frameon=False, fontsize=8, ncols=3, loc="lower center", bbox_to_anchor=(0.5, 1))
        file.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(file, dpi=110)


def write_film(path: Path, clips: Sequence[str]) -> None:
    """Join clips into a film of SHOTS shots, mirrored every other time round, with sound."""
    inputs, chains = [], []
    for shot in range(SHOTS):
        turns, clip = divmod(shot, len(clips))
        inputs += ["-i", str(CLIPS / f"{clips[clip]}.mp4")]
        look = "hflip," if turns % 2 else ""
        look += f"eq=brightness=-0.0{turns}," if turns else ""
        chains.append(f"[{shot}:v]{look}settb=1/24000,setpts=N*1001[v{shot}]")
    joined = "".join(f"[v{shot}]" for shot in range(SHOTS))
    graph = ";".join(
        [*chains, f"{joined}concat=n={SHOTS},settb=1/24000,setpts=N*1001,fps={RATE}[v]"]
    )
    tone = f"sine=330:sample_rate=48000:duration={SHOTS * CLIP_FRAMES * 1001 / 24000:.6f}"
    argv = [find_ffmpeg(), "-nostdin", "-v", "error", "-y", *inputs, "-f", "lavfi", "-i", tone]
    argv += ["-filter_complex", graph, "-map", "[v]", "-map", f"{SHOTS}:a", "-c:a", "aac"]
    argv += ["-c:v", "libx264", "-preset", "veryfast", "-qp", "8", str(path)]
    subprocess.run(argv, check=True, stdin=subprocess.DEVNULL)


if __name__ == "__main__":
    main()
