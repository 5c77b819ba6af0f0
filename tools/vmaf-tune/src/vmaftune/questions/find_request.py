"""What a search for a quality value is asked, and the cells that it asks for."""

from __future__ import annotations

import math
from dataclasses import dataclass

from vmaftune.cell import TEACHER, Cell, Setting, Window
from vmaftune.encoders import Encoder, OptionSet
from vmaftune.metrics import VMAF, Goal, goal_of, ordered
from vmaftune.questions.sample import Sample


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """An encoder with a preset, and the quality values that a search may use."""

    encoder: Encoder
    preset: str
    low: float
    high: float
    step: float = 1

    @property
    def name(self) -> str:
        """Readable: `libsvtav1 5`."""
        return f"{self.encoder.name} {self.preset}"

    def values(self) -> list[float]:
        """All quality values that a search may use, finest first."""
        count = math.floor((self.high - self.low) / self.step + 1e-9) + 1
        return [self.low + i * self.step for i in range(count)]


@dataclass(frozen=True, slots=True, kw_only=True)
class FindRequest:
    """What is asked. `target` in VMAF points of `statistic`, or in units of `metric`; the answer
    also keeps the `guards`, and `metrics` are measured beside both. `within_points` is the standard
    error to reach, in the target's units; `max_kbps` bounds the bitrate of the answer, `max_cpu`
    the CPU seconds of encoding one second of film. `num_windows` fixes their number.
    `maxrate_kbps` (kbit/s) and `bufsize_kbps` (kbit) bound the bitrate of every encode.
    """

    sample: Sample
    candidates: tuple[Candidate, ...]
    target: float
    statistic: str = "mean"
    stop: str = "confident"
    within_points: float = 0.5
    num_windows: int | None = None
    max_kbps: float | None = None
    max_cpu: float | None = None
    size: tuple[int, int] | None = None
    options: OptionSet | None = None
    threads: int = 1
    teacher: str = TEACHER
    metric: str = VMAF
    guards: tuple[Goal, ...] = ()
    metrics: tuple[str, ...] = ()
    maxrate_kbps: int | None = None
    bufsize_kbps: int | None = None

    @property
    def goal(self) -> Goal:
        """The target as a limit."""
        return goal_of(self.metric, self.target, self.statistic)

    @property
    def measured(self) -> tuple[str, ...]:
        """All metrics that are measured beside VMAF."""
        return ordered((*self.metrics, self.metric, *(goal.metric for goal in self.guards)))

    def setting(self, candidate: Candidate, quality: float) -> Setting:
        """How a candidate is encoded at a quality value."""
        return Setting(
            encoder=candidate.encoder,
            preset=candidate.preset,
            quality=quality,
            size=self.size,
            options=self.options,
            maxrate_kbps=self.maxrate_kbps,
            bufsize_kbps=self.bufsize_kbps,
        )


def cell_of(request: FindRequest, candidate: Candidate, window: Window, quality: float) -> Cell:
    """The cell of a probe on one window."""
    return Cell(
        window=window,
        setting=request.setting(candidate, quality),
        threads=request.threads,
        teacher=request.teacher,
        metrics=request.measured,
    )
