"""The report as `--json` prints it: names in place of indices. schemas/report.schema.json is made
from these types.
"""

from __future__ import annotations

import msgspec

from vmaftune.engine.events import (
    AnswerEvent,
    LadderEvent,
    LadderFilesEvent,
    ProbeEvent,
    QuestionEvent,
)
from vmaftune.report.model_run import Band, GateLine, GroupLine, OverGroups
from vmaftune.report.sweep import FailedCell, GridLine, WindowScore


class Command(msgspec.Struct, kw_only=True, rename={"reason": "for"}):
    """A command to paste, and what it is for."""

    reason: str
    command: str


class CurveName(msgspec.Struct, kw_only=True):
    """What is compared; `knob` names the quality value."""

    encoder: str
    preset: str | None
    knob: str


class PairRates(msgspec.Struct, kw_only=True):
    """BD-rate of a curve against another, percent of bits at equal VMAF, and why a source has
    none.
    """

    test: str
    anchor: str
    mean: float | None
    median: float | None
    per_source: dict[str, float | None]
    reasons: dict[str, str]


class Cost(msgspec.Struct, kw_only=True):
    """The quality value for 90% of the sources, what it costs, and the command for a whole file."""

    quality: float
    bitrate_kbps: float
    gb_per_hour: float
    vmaf: float
    num_sources: int
    command: str | None


class TargetValues(msgspec.Struct, kw_only=True):
    """Quality values that meet a target on half, nine in ten, and all of the sources. `per_source`
    and `cost` belong to the report's own target alone.
    """

    median: float | None
    for_90_percent: float | None
    for_all: float | None
    num_sources: int
    out_of_reach: int
    per_source: dict[str, float | None] | msgspec.UnsetType = msgspec.UNSET
    cost: Cost | None | msgspec.UnsetType = msgspec.UNSET


class CurveTargets(msgspec.Struct, kw_only=True):
    """A curve's quality values by target, VMAF points."""

    curve: str
    targets: dict[str, TargetValues]


class SpeedLine(msgspec.Struct, kw_only=True):
    """What a curve costs in time and in bits."""

    curve: str
    cpu_s_per_frame: float | None
    mean_bd_rate: float | None
    num_sources: int


class Corner(msgspec.Struct, kw_only=True):
    """A point of a source's convex hull."""

    curve: str
    quality: float | None
    bitrate_kbps: float
    vmaf: float
    command: str | None


class WindowedAnswer(AnswerEvent, kw_only=True, frozen=True, tag_field="event", tag="answer"):
    """An answer with the film's windows at its quality value."""

    windows: list[WindowScore]


class WholeQuestion(QuestionEvent, kw_only=True, frozen=True, tag_field="event", tag="question"):
    """A question, the cells that it had measured, and its answers, best first."""

    probes: list[ProbeEvent]
    answers: list[WindowedAnswer]


class WholeLadder(LadderEvent, kw_only=True, frozen=True, tag_field="event", tag="ladder"):
    """A ladder, and its files where they were made."""

    files: LadderFilesEvent | None


class ModelPart(msgspec.Struct, kw_only=True):
    """A training run that stands beside the sweep."""

    model: str
    run: str
    scheme: str
    smoke: bool
    num_rows: int
    num_seeds: int
    groups: list[GroupLine]
    overall: dict[str, OverGroups]
    baseline_rmse: dict[str, float]
    residual_bands: list[Band]
    gate: list[GateLine]
    verdict: str | None
    recipe: str
    corpus: str
    corpus_digest: str
    same_corpus: bool


class Outline(msgspec.Struct, kw_only=True):
    """Every figure of the report. What is called `vmaf` is a value of `metric`."""

    name: str
    folders: list[str]
    summary: list[str]
    target: float
    commands: list[Command]
    notes: list[str]
    facts: dict[str, str]
    last_start: dict[str, str]
    num_cells: int
    sources: list[str]
    curves: list[CurveName]
    anchor: str | None
    grid: list[GridLine]
    bd_rate: list[PairRates]
    quality_for: list[CurveTargets]
    speed: list[SpeedLine]
    convex_hull: dict[str, list[Corner]]
    questions: list[WholeQuestion]
    ladders: list[WholeLadder]
    failed: list[FailedCell]
    model_run: ModelPart | None
    metric: str = "vmaf"
