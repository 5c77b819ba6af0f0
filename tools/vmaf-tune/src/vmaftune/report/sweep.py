"""What a report is about: cells as points on curves, their frames, failures and tools. Values only.

A curve is one encoder with one preset, and with one size and option set where cells have them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import msgspec
import numpy as np
from numpy.typing import NDArray

from vmaftune.engine.events import (
    AnswerEvent,
    LadderEvent,
    LadderFilesEvent,
    ProbeEvent,
    QuestionEvent,
)
from vmaftune.metrics import VMAF_SCALE, Scale
from vmaftune.report.hulls import SizedPoint
from vmaftune.request.document import SourceEntry

Scores = NDArray[np.float64]
"""VMAF of the frames of one cell in their order, (num_frames,)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Curve:
    """What is compared: an encoder with a preset, and whatever else tells two of them apart.

    `knob` names the quality value (crf, cq, qp, icq). `size` is width and height of the encode
    where it is not the source's, `options` names its option set and `arguments` are those, `origin`
    the folder it comes from where several hold the same setting from different tools.
    """

    encoder: str
    preset: str | None
    knob: str
    size: tuple[int, int] | None = None
    options: str | None = None
    arguments: tuple[str, ...] = ()
    origin: str | None = None

    @property
    def label(self) -> str:
        """The curve as a reader sees it: `libx264 medium 1280x720 +film (runs/b)`."""
        words = [self.encoder, self.preset]
        words.append(f"{self.size[0]}x{self.size[1]}" if self.size else None)
        words.append(f"+{self.options}" if self.options else None)
        words.append(f"({self.origin})" if self.origin else None)
        return " ".join(word for word in words if word)


@dataclass(frozen=True, slots=True, kw_only=True)
class Point:
    """One measured cell, or the cells of all windows of one film. None = not measured.

    `cell` is its readable id; `source` and `curve` are indices into the Sweep. `vmaf` is the mean
    that the corpus holds (clipped to 0..100), or that of the sweep's `scale`; `vmaf_unclipped` the
    mean without clipping where the frames have it, else the same number. `cpu_s` is CPU seconds of
    the encode per frame.
    """

    cell: str
    source: int
    curve: int
    quality: float | None
    kbps: float
    vmaf: float
    vmaf_unclipped: float
    harmonic: float | None
    lowest: float | None
    p5: float | None
    cpu_s: float | None
    size_bytes: int | None
    num_frames: int
    fps: float
    command: str
    key: str


class FailedCell(msgspec.Struct, frozen=True, kw_only=True, rename={"kind": "class"}):
    """A cell that has no score, and why. `command` can be pasted."""

    cell: str
    kind: str
    message: str
    exit_code: int | None
    stderr: str
    command: str


@dataclass(frozen=True, slots=True, kw_only=True)
class GridLine:
    """A line of the plan, as texts."""

    encoder: str
    preset: str
    quality: str
    num_sources: str


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceLine:
    """A source as it was encoded, as texts."""

    name: str
    group: str
    window: str
    picture: str
    fps: str
    num_frames: str
    num_cells: str


@dataclass(frozen=True, slots=True, kw_only=True)
class WindowScore:
    """A stretch of a film: where it begins, in seconds, and the mean and lowest VMAF of its
    frames.
    """

    start_s: float
    mean: float
    lowest: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Answered:
    """An answer, and the film's windows at its quality value in their order; none where it was
    foretold.
    """

    told: AnswerEvent
    windows: tuple[WindowScore, ...]

    @property
    def label(self) -> str:
        """Encoder and preset: `libsvtav1 5`."""
        return f"{self.told.encoder} {self.told.preset}"


@dataclass(frozen=True, slots=True, kw_only=True)
class FilmQuestion:
    """A question about a film: the settings it had measured, in order, and its answers, best
    first. No answer: it was stopped before its end.
    """

    asked: QuestionEvent
    probes: tuple[ProbeEvent, ...]
    answers: tuple[Answered, ...]

    @property
    def film(self) -> str:
        """The film's file name."""
        return Path(self.asked.film).name


@dataclass(frozen=True, slots=True, kw_only=True)
class ToldLadder:
    """A film's ladder with one encoder, and its files where they were made."""

    told: LadderEvent
    files: LadderFilesEvent | None = None

    @property
    def film(self) -> str:
        """The film's file name."""
        return Path(self.told.film).name

    @property
    def label(self) -> str:
        """Encoder and preset: `libsvtav1 5`."""
        return f"{self.told.encoder} {self.told.preset}"

    @property
    def points(self) -> list[SizedPoint]:
        """The encodes that the hull was made from."""
        return [
            SizedPoint(size=(p.width, p.height), kbps=p.kbps, score=p.score)
            for p in self.told.points
        ]


Fact = tuple[str, str]
"""Name and value of one fact, both to be read."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sweep:
    """Everything read from one or more run folders.

    `sources` are names of clips, or of films whose windows are pooled; `frames` maps the key of a
    point to its scores. `facts` and `start_facts` are about the tools and the last start of the
    command; `notes` are sentences about cells that are missing or stand out. `cpu_s` is what
    encoding and scoring took. `scale` is what points hold as `vmaf`. `questions` are those that had
    cells measured, and `ladders` the last one of each encoder and preset, oldest first. `film` is
    a window of the one file that all cells are of, prepared alike; None where there are several.
    """

    name: str
    folders: tuple[Path, ...]
    sources: tuple[str, ...]
    groups: tuple[str, ...]
    curves: tuple[Curve, ...]
    points: tuple[Point, ...]
    frames: Mapping[str, Scores]
    failures: tuple[FailedCell, ...]
    facts: tuple[Fact, ...]
    start_facts: tuple[Fact, ...]
    grid: tuple[GridLine, ...]
    source_lines: tuple[SourceLine, ...]
    notes: tuple[str, ...]
    cpu_s: float
    of_curve: Mapping[tuple[int, int], tuple[Point, ...]] = field(repr=False)
    questions: tuple[FilmQuestion, ...] = ()
    scale: Scale = VMAF_SCALE
    ladders: tuple[ToldLadder, ...] = ()
    film: SourceEntry | None = None

    def points_of(self, source: int, curve: int) -> tuple[Point, ...]:
        """The points of one curve on one source, by quality value."""
        return self.of_curve.get((source, curve), ())
