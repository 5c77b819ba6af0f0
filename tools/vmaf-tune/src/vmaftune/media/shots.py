"""Where a film's shots begin, by how much each frame differs from the one before; and shots of a
length that can be encoded apart.

ffmpeg's `scdet` filter measures the difference. Its own threshold misses weak cuts, or takes a
flash, a shaken camera and fast movement for cuts. A cut stands alone: the difference is large
beside those of the frames around it, however small it is (`make bench-shots`).
"""

from __future__ import annotations

import os
import re
from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

from vmaf_train.corpus.rows import FailureKind

from vmaftune.media.encode import COMMON, ONLY_FILES, check, fill
from vmaftune.media.ffmpeg import Ffmpeg
from vmaftune.media.graphs import chain, compiled, part, source
from vmaftune.media.probe import Facts
from vmaftune.media.windows import Span

# A cut differs by at least so much, in percent of the largest difference there can be...
LEAST_CHANGE = 1.0
# ...and by so many times the largest difference of the frames around it, so many on either side.
TIMES, AROUND = 1.8, 4
# A shot shorter than the first is hardly worth a keyframe, one longer than the second hardly worth
# waiting for.
LEAST_S, MOST_S = Fraction(1), Fraction(20)
# Cuts show at any size, and small frames compare faster than they decode.
WIDTH = 320
_FRAME = re.compile(r"^frame:(\d+) +pts:\S+ +pts_time:(\S+)\nlavfi\.scd\.mafd=(\S+)", re.M)


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """How much a decoded frame differs from the one before, in percent; `number` counts decoded
    frames, `seconds` is the file's own time.
    """

    number: int
    seconds: float
    percent: float


def detect_argv(stream_index: int) -> list[str]:
    """The command that prints the change of every frame of `{src}`, at the file's own times."""
    steps = [
        part("scale", WIDTH, -2, flags="fast_bilinear"),
        part("scdet", threshold=100),
        part("metadata", "print", key="lavfi.scd.mafd", file="-"),
    ]
    graph = compiled(chain(source(0, str(stream_index)), steps))
    reading = [*ONLY_FILES, "-copyts", "-i", "file:{src}"]
    filtering = ["-lavfi", graph.text, "-map", graph.link]
    return [*COMMON, "-v", "info", *reading, *filtering, "-f", "null", "-"]


def parse_changes(stdout: str) -> list[Change]:
    """The lines that ffmpeg's metadata filter prints, in the order of frames."""
    return [
        Change(number=int(number), seconds=float(seconds), percent=float(percent))
        for number, seconds, percent in _FRAME.findall(stdout)
    ]


def cuts(percent: Sequence[float]) -> list[int]:
    """Positions of the first frames of new shots, from the change of every frame."""
    found = []
    for i in range(1, len(percent)):
        around = [*percent[max(1, i - AROUND) : i], *percent[i + 1 : i + 1 + AROUND]]
        if percent[i] >= max(LEAST_CHANGE, TIMES * max(around, default=0.0)):
            found.append(i)
    return found


def detect(path: Path, facts: Facts, ffmpeg: Ffmpeg, timeout_s: float) -> tuple[int, ...]:
    """The first frame of every shot but the first one, counted as windows count frames.

    Decodes the whole film once. Raises CellFailure when it does not decode.
    """
    argv = fill(detect_argv(facts.stream_index), src=os.path.abspath(path))
    what = f"the shots of {path}"
    done = check(ffmpeg.run(argv, timeout_s=timeout_s, what=what), what, FailureKind.SOURCE_FAILED)
    changes = parse_changes(done.stdout.decode("ascii", "replace"))
    found = {frame_of(facts, changes[i]) for i in cuts([change.percent for change in changes])}
    return tuple(sorted(found - {0}))


def frame_of(facts: Facts, change: Change) -> int:
    """The frame that changed: the one whose time is nearest, by its number where the file's times
    are not known.
    """
    if not facts.shown:
        return change.number
    ticks = Fraction(change.seconds) / facts.time_base
    after = bisect_left(facts.shown, ticks)
    near = [i for i in (after - 1, after) if 0 <= i < len(facts.shown)]
    return min(near, key=lambda i: abs(facts.shown[i] - ticks))


def bounded(
    starts_at: Sequence[int],
    num_frames: int,
    fps: Fraction,
    *,
    least_s: Fraction = LEAST_S,
    most_s: Fraction = MOST_S,
) -> list[Span]:
    """Shots that cover all of `num_frames`, new ones at `starts_at`: one that is shorter than
    `least_s` joins the one before it (the first one the next), one longer than `most_s` is split
    into equal parts.
    """
    least, most = max(1, round(least_s * fps)), max(1, int(most_s * fps))
    starts = [0]
    for cut in sorted(set(starts_at)):
        if cut - starts[-1] >= least and num_frames - cut >= least:
            starts.append(cut)
    ends = [*starts[1:], num_frames]
    spans: list[Span] = []
    for start, end in zip(starts, ends, strict=True):
        parts = -(-(end - start) // most)
        edges = [start + (end - start) * i // parts for i in range(parts + 1)]
        spans += [Span(start=a, num_frames=b - a) for a, b in zip(edges, edges[1:], strict=False)]
    return spans


def shots(path: Path, facts: Facts, ffmpeg: Ffmpeg, timeout_s: float) -> list[Span]:
    """The film's shots, each between 1 and 20 s long (but a film shorter than that)."""
    found = detect(path, facts, ffmpeg, timeout_s)
    return bounded(found, facts.num_packets, Fraction(facts.fps))
