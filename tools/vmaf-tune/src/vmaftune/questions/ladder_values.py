"""What a ladder is asked for, and what it is made of."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from vmaftune.cell import Setting
from vmaftune.encoders import Encoder, OptionSet
from vmaftune.media.hls import Rate
from vmaftune.questions.hull import Size
from vmaftune.questions.sample import Sample

APART = 1.3
"""Bitrates of neighbouring rungs are at least this factor apart."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LadderRequest:
    """What is asked. `sizes` are those of encodes, the largest first; `top` and `bottom` in VMAF
    points of `statistic`; rungs are `step` points apart, or as many as `num_rungs`. `template` is a
    fixed ladder to compare with: sizes with kbit/s. `gop` is the number of frames from keyframe to
    keyframe of every encode. Of the sizes in `halved` every second frame alone is encoded and
    scored: `half` is the film so.
    """

    sample: Sample
    encoder: Encoder
    preset: str
    sizes: tuple[Size, ...]
    top: float
    bottom: float
    step: float
    num_rungs: int | None
    min_kbps: float
    max_kbps: float
    statistic: str
    num_windows: int
    options: OptionSet | None
    threads: int
    teacher: str
    metrics: tuple[str, ...]
    template: tuple[tuple[Size, float], ...]
    gop: int
    half: Sample | None
    halved: frozenset[Size]

    def sample_of(self, size: Size) -> Sample:
        """The film's windows as encodes of a size have them."""
        if size in self.halved:
            assert self.half is not None
            return self.half
        return self.sample

    def gop_of(self, size: Size) -> int:
        """Frames from keyframe to keyframe, as encodes of a size have them."""
        return self.gop // 2 if size in self.halved else self.gop

    @property
    def display(self) -> Size:
        """The size that is scored."""
        return self.sample.film.width, self.sample.film.height


@dataclass(frozen=True, slots=True, kw_only=True)
class Rung:
    """A rung, measured as it ships: its setting, size, score (VMAF points) with its standard error,
    kbit/s, and frames per second. `metrics` are the means of what was measured beside VMAF.
    """

    setting: Setting
    size: Size
    score: float
    error: float
    kbps: float
    frame_rate: float
    metrics: Mapping[str, float | None] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Against:
    """A rung of the fixed ladder, measured at about its bitrate, and what this film's hull gives:
    `kbps` at the same score (None where the hull was not looked at, or does not reach it), `score`
    at the same bitrate.
    """

    fixed: Rung
    kbps: float | None
    score: float

    @property
    def saved(self) -> float | None:
        """The share of the bits that the hull saves at the same score."""
        return None if self.kbps is None else 1 - self.kbps / self.fixed.kbps


@dataclass(frozen=True, slots=True, kw_only=True)
class RungFile:
    """A rung as a file. `score` is measured inside it, VMAF points, with its standard error;
    `rate` in bits a second; `codec` is its CODECS word.
    """

    rung: Rung
    path: Path
    size_bytes: int
    score: float
    error: float
    rate: Rate
    codec: str | None
    num_keyframes: int

    @property
    def kbps(self) -> float:
        """The mean bitrate, kbit/s."""
        return self.rate.mean / 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class LadderFiles:
    """The finished ladder: its playlist, the rungs' files, those of the sound, and what is to be
    said of them.
    """

    playlist: Path
    files: tuple[RungFile, ...]
    sounds: tuple[Path, ...]
    sentences: tuple[str, ...]
