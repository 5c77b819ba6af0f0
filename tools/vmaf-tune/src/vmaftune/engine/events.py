"""What a run tells while it works: one frozen type per event, `--json` prints each as a line.

docs/events.md is their contract: keys may be added, and keep name, type and unit. Seconds are wall
seconds unless the name says `cpu`.
"""

from __future__ import annotations

from typing import Any, Literal

import msgspec


class NoticeEvent(msgspec.Struct, frozen=True, kw_only=True, tag_field="event", tag="notice"):
    """Something was repaired, left out or assumed."""

    message: str


class StartEvent(msgspec.Struct, frozen=True, kw_only=True, tag_field="event", tag="start"):
    """Once, before any work."""

    folder: str
    num_cells: int
    num_done: int
    num_failed: int
    num_left: int
    jobs: int
    expected_s: float


class PrepareEvent(msgspec.Struct, frozen=True, kw_only=True, tag_field="event", tag="prepare"):
    """A window is cut, cropped, scaled."""

    src: str


class StageEvent(
    msgspec.Struct, frozen=True, kw_only=True, tag_field="event", tag="stage", omit_defaults=True
):
    """A cell begins a stage: `encode` or `score`, on a cluster at `worker`."""

    cell: str
    stage: str
    worker: str | None = None


class CellEvent(
    msgspec.Struct, frozen=True, kw_only=True, tag_field="event", tag="cell", omit_defaults=True
):
    """A cell's row is on the disk. `expected_s` is what it was expected to take, of one core;
    `error` a sentence, None when all went well; `worker` who made it on a cluster.
    """

    cell: str
    status: Literal["ok", "failed"]
    vmaf_score: float | None
    bitrate_kbps: float | None
    num_frames: int | None
    encode_cpu_s: float | None
    score_cpu_s: float | None
    encode_wall_s: float | None
    expected_s: float
    error: str | None
    worker: str | None = None


class EndEvent(msgspec.Struct, frozen=True, kw_only=True, tag_field="event", tag="end"):
    """Once, when nothing is left. `num_failed` counts earlier failures that were not retried."""

    num_ok: int
    num_failed: int
    num_done: int
    num_cells: int


class ProbeEvent(msgspec.Struct, frozen=True, kw_only=True, tag_field="event", tag="probe"):
    """A question measured a setting on a film's windows. `score` is their `statistic` of `metric`,
    VMAF points (null where there is no error at all), `standard_error` what it may be off by;
    `meets` the target. `metrics` are the means of what was measured beside VMAF, `guards` the
    values of what guards bound.
    """

    encoder: str
    preset: str
    quality: float
    statistic: str
    score: float | None
    standard_error: float
    kbps: float
    num_windows: int
    num_frames: int
    encode_cpu_s: float | None
    meets: bool
    bracket: tuple[float | None, float | None]
    metric: str = "vmaf"
    metrics: dict[str, float | None] = {}
    guards: dict[str, float | None] = {}


class QuestionEvent(msgspec.Struct, frozen=True, kw_only=True, tag_field="event", tag="question"):
    """A question about a film begins. `encoders` are encoder and preset: `libsvtav1 5`."""

    film: str
    target: float
    statistic: str
    stop: str
    encoders: list[str]
    asked_at: str
    metric: str = "vmaf"
    guards: list[str] = []


class ForetoldCurve(msgspec.Struct, frozen=True, kw_only=True):
    """What is foretold at each quality value: the score and its 80% interval, VMAF points."""

    quality: list[float]
    score: list[float]
    low: list[float]
    high: list[float]


class AnswerEvent(msgspec.Struct, frozen=True, kw_only=True, tag_field="event", tag="answer"):
    """A question's answer for one encoder. `interval` is the score's 95% interval over the film,
    `kbps_interval` the 80% one of a bitrate that is foretold; `stop` says why the search ended.
    `measured` is all that is known on these windows, from earlier questions too: quality value,
    score, standard error. `cells` are those that a file was joined from, in its order; each has its
    own quality value then.
    """

    film: str
    encoder: str
    preset: str
    target: float
    statistic: str
    is_met: bool
    is_measured: bool
    quality: float | None
    score: float | None
    interval: tuple[float, float] | None
    kbps: float | None
    kbps_interval: tuple[float, float] | None
    size_bytes: int | None
    stop: str | None
    bracket: tuple[float | None, float | None]
    confidence: float | None
    num_encodes: int
    num_windows: int
    encode_cpu_s: float | None
    sentences: tuple[str, ...]
    command: str | None
    curve: ForetoldCurve | None
    measured: list[tuple[float, float, float]] = []
    cells: list[str] = []
    metric: str = "vmaf"
    metrics: dict[str, float | None] = {}


class ProgressEvent(msgspec.Struct, frozen=True, kw_only=True, tag_field="event", tag="progress"):
    """How far a film's encode is: `frames` of `num_frames` are done with a `step`: `shots` (search
    and encode), `encode` or `score`. `attempt` counts encodes of the whole film. `expected_s` are
    wall seconds until the file is there: of this step at its pace so far, and of scoring behind it;
    None until there is a pace. That a whole encode may be made again is not in it.
    """

    step: Literal["shots", "encode", "score"]
    frames: int
    num_frames: int
    attempt: int
    expected_s: float | None


class MadeEvent(msgspec.Struct, frozen=True, kw_only=True, tag_field="event", tag="made"):
    """A film was made. `score` is measured over it, VMAF points, `standard_error` 0 where every
    frame was scored; `attempts` are quality value, foretold and measured score.
    """

    out: str
    size_bytes: int
    num_frames: int
    score: float
    standard_error: float
    is_met: bool
    num_encodes: int
    num_shots: int
    attempts: list[tuple[float, float | None, float]]


class PointEvent(msgspec.Struct, frozen=True, kw_only=True, tag_field="event", tag="point"):
    """A ladder measured an encode on the film's windows: `width` and `height` are the encode's, the
    score that of the display size. `is_rung` tells a rung, with its bound, from one of the hull.
    """

    encoder: str
    preset: str
    quality: float
    width: int
    height: int
    maxrate_kbps: int | None
    bufsize_kbps: int | None
    statistic: str
    score: float
    standard_error: float
    kbps: float
    num_windows: int
    is_rung: bool


class HullPoint(msgspec.Struct, frozen=True, kw_only=True):
    """A measured encode on the hull of a ladder."""

    width: int
    height: int
    quality: float
    score: float
    kbps: float


class LadderRung(msgspec.Struct, frozen=True, kw_only=True):
    """A rung as it was measured, with the command that makes it of the whole film and its line of
    an HLS multivariant playlist.
    """

    width: int
    height: int
    frame_rate: float
    quality: float
    score: float
    standard_error: float
    kbps: float
    maxrate_kbps: int | None
    bufsize_kbps: int | None
    command: str
    playlist: str
    metrics: dict[str, float | None] = {}


class LadderCrossing(msgspec.Struct, frozen=True, kw_only=True):
    """Where a size takes over from a smaller or larger one on the hull, on the way up."""

    width: int
    height: int
    below_width: int
    below_height: int
    score: float
    kbps: float


class LadderFixed(msgspec.Struct, frozen=True, kw_only=True):
    """A rung of the fixed ladder, measured; what the hull needs for its score (None where it does
    not reach it), and the share of the bits that this saves.
    """

    width: int
    height: int
    quality: float
    score: float
    kbps: float
    hull_kbps: float | None
    saved: float | None


class LadderEvent(msgspec.Struct, frozen=True, kw_only=True, tag_field="event", tag="ladder"):
    """A film's ladder with one encoder: the rungs, the best first, and the hull they were chosen
    from, the cheapest first. `width` and `height` are the size that was scored, `points` all
    encodes of the hull as they were made, `curve` the cheapest bitrate at each score (kbit/s and
    VMAF, from the lowest up), `fixed` the ladder that it is held against.
    """

    film: str
    encoder: str
    preset: str
    statistic: str
    width: int
    height: int
    num_windows: int
    num_encodes: int
    num_rung_encodes: int
    num_fixed_encodes: int
    rungs: list[LadderRung]
    hull: list[HullPoint]
    sentences: list[str]
    asked_at: str
    points: list[HullPoint]
    curve: list[tuple[float, float]]
    crossings: list[LadderCrossing]
    fixed: list[LadderFixed]


class LadderEncoder(msgspec.Struct, frozen=True, kw_only=True):
    """One of several encoders: its BD-rate against each of them, itself included (a share of the
    bits, below zero for fewer; None where hulls do not overlap), and its points on the joint hull.
    """

    encoder: str
    preset: str
    bd_rates: list[float | None]
    num_joint: int


class LaddersEvent(msgspec.Struct, frozen=True, kw_only=True, tag_field="event", tag="ladders"):
    """Several encoders' ladders of one film, after all of them. `joint` is the hull of all their
    encodes, the cheapest first, and `joint_encoders` the encoder of each of its points.
    """

    film: str
    encoders: list[LadderEncoder]
    joint: list[HullPoint]
    joint_encoders: list[int]


class LadderFile(msgspec.Struct, frozen=True, kw_only=True):
    """A rung of the whole film. `score` was measured inside the file, `foretold` on windows alone;
    `peak_kbps` is that of the pieces of its playlist, `codec` its CODECS word.
    """

    path: str
    width: int
    height: int
    frame_rate: float
    size_bytes: int
    kbps: float
    peak_kbps: float
    score: float
    standard_error: float
    foretold: float
    codec: str | None
    num_keyframes: int


class LadderFilesEvent(
    msgspec.Struct, frozen=True, kw_only=True, tag_field="event", tag="ladder_files"
):
    """The files of a ladder are there: its multivariant playlist, the rungs, the best first, and
    the sounds.
    """

    film: str
    encoder: str
    preset: str
    playlist: str
    files: list[LadderFile]
    sounds: list[str]
    sentences: list[str]


Asked = QuestionEvent | ProbeEvent | AnswerEvent | LadderEvent | LadderFilesEvent
"""What a run folder keeps of its questions, a line each."""

Event = (
    NoticeEvent
    | StartEvent
    | PrepareEvent
    | StageEvent
    | CellEvent
    | EndEvent
    | QuestionEvent
    | ProbeEvent
    | AnswerEvent
    | MadeEvent
    | ProgressEvent
    | PointEvent
    | LadderEvent
    | LadderFilesEvent
    | LaddersEvent
)


def to_json(event: msgspec.Struct) -> dict[str, Any]:
    """An event as `--json` prints it: `event` names its kind."""
    found: dict[str, Any] = msgspec.to_builtins(event)
    return found
