"""Where in a film its windows lie: runs of frames, spread over the film or covering it. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction


@dataclass(frozen=True, slots=True, kw_only=True)
class Span:
    """A run of frames: the first one, counted from 0, and how many."""

    start: int
    num_frames: int


def samples(num_frames: int, count: int, length: int, *, first: int = 0) -> list[Span]:
    """`count` windows of `length` frames spread evenly over the frames from `first` up to
    `num_frames`: each lies in the middle of one of as many equal parts.

    Where they would overlap, windows that cover all of it come back, each at most `length` long.
    """
    total = num_frames - first
    if count * length >= total:
        return chunks(num_frames, length, first=first)
    parts = [Fraction(total * (2 * i + 1), 2 * count) for i in range(count)]
    return [Span(start=first + round(middle - length / 2), num_frames=length) for middle in parts]


def chunks(num_frames: int, length: int, *, first: int = 0) -> list[Span]:
    """Windows of `length` frames from `first` on that cover all of it; the last one may be
    shorter, and takes what is left where that is less than half a window.
    """
    starts = list(range(first, num_frames, length))
    if len(starts) > 1 and 2 * (num_frames - starts[-1]) < length:
        starts.pop()
    ends = [*starts[1:], num_frames]
    return [Span(start=a, num_frames=b - a) for a, b in zip(starts, ends, strict=True) if b > a]


def timecode(seconds: Fraction) -> str:
    """`HH:MM:SS.mmm`, as ids of windows and ffmpeg's `-ss` write it."""
    ms = round(seconds * 1000)
    return f"{ms // 3600000:02}:{ms // 60000 % 60:02}:{ms // 1000 % 60:02}.{ms % 1000:03}"
