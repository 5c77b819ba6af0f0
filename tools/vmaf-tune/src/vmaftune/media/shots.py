"""Where a film's shots begin, by ffmpeg's `scdet` filter; and shots of a length that can be encoded
apart.
"""

from __future__ import annotations

import os
import re
from bisect import bisect_left
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

from vmaf_train.corpus.rows import FailureKind

from vmaftune.media.encode import COMMON, ONLY_FILES, check, fill
from vmaftune.media.ffmpeg import Ffmpeg
from vmaftune.media.graphs import chain, compiled, part, source
from vmaftune.media.probe import Facts
from vmaftune.media.windows import Span

# Percent of the largest change from one frame to the next; ffmpeg's own default.
THRESHOLD = 10
# A shot shorter than the first is hardly worth a keyframe, one longer than the second hardly worth
# waiting for.
LEAST_S, MOST_S = Fraction(1), Fraction(20)
# Cuts show at any size, and small frames compare faster than they decode.
WIDTH = 320
_CUT = re.compile(r"lavfi\.scd\.score: *(\S+), lavfi\.scd\.time: *(\S+)")


def detect_argv(stream_index: int, threshold: float = THRESHOLD) -> list[str]:
    """The command that tells in its log of every cut in `{src}`, at the file's own times."""
    small = part("scale", WIDTH, -2, flags="fast_bilinear")
    steps = [small, part("scdet", threshold=threshold)]
    graph = compiled(chain(source(0, str(stream_index)), steps))
    reading = [*ONLY_FILES, "-copyts", "-i", "file:{src}"]
    filtering = ["-lavfi", graph.text, "-map", graph.link]
    return [*COMMON, "-v", "info", *reading, *filtering, "-f", "null", "-"]


def parse_cuts(stderr: str) -> list[float]:
    """Times in seconds of the first frames of new shots, from scdet's lines."""
    return [float(match[2]) for match in _CUT.finditer(stderr)]


def detect(path: Path, facts: Facts, ffmpeg: Ffmpeg, timeout_s: float) -> tuple[int, ...]:
    """The first frame of every shot but the first one, counted as windows count frames.

    Decodes the whole film once. Raises CellFailure when it does not decode.
    """
    argv = fill(detect_argv(facts.stream_index), src=os.path.abspath(path))
    what = f"the shots of {path}"
    done = check(ffmpeg.run(argv, timeout_s=timeout_s, what=what), what, FailureKind.SOURCE_FAILED)
    found = {frame_at(facts, seconds) for seconds in parse_cuts(done.stderr)}
    return tuple(sorted(found - {0}))


def frame_at(facts: Facts, seconds: float) -> int:
    """The frame whose time is nearest to `seconds` of the file's own clock."""
    if not facts.shown:
        return round(Fraction(seconds) * Fraction(facts.fps))
    ticks = Fraction(seconds) / facts.time_base
    after = bisect_left(facts.shown, ticks)
    near = [i for i in (after - 1, after) if 0 <= i < len(facts.shown)]
    return min(near, key=lambda i: abs(facts.shown[i] - ticks))


def bounded(
    cuts: Sequence[int],
    num_frames: int,
    fps: Fraction,
    *,
    least_s: Fraction = LEAST_S,
    most_s: Fraction = MOST_S,
) -> list[Span]:
    """Shots that cover all of `num_frames`: one shorter than `least_s` joins the one before it (the
    first one the next), one longer than `most_s` is split into equal parts.
    """
    least, most = max(1, round(least_s * fps)), max(1, int(most_s * fps))
    starts = [0]
    for cut in sorted(set(cuts)):
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
    cuts = detect(path, facts, ffmpeg, timeout_s)
    return bounded(cuts, facts.num_packets, Fraction(facts.fps))
