"""How good files are against their reference: pairs of files, and the numbers that sum up each.

files --plan_scores--> pairs (offset found, size, teacher) --study--> rows, frames --Scored
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path

from vmaf_train.corpus import pooling
from vmaf_train.corpus.pooling import WORST_WINDOW
from vmaf_train.corpus.rows import CellRow

from vmaftune.cell import Pair
from vmaftune.errors import SourceError, UsageError
from vmaftune.media import further
from vmaftune.media.failure import CellFailure
from vmaftune.media.ffmpeg import Ffmpeg
from vmaftune.media.model_file import read_model_file
from vmaftune.media.offset import find_offset
from vmaftune.metrics import METRICS, Columns, neg_of
from vmaftune.questions.pairs import FoundPair, PairPlan, plan_found, with_metrics
from vmaftune.request.values import Size

AUTO = "auto"
HD, UHD = "vmaf_v0.6.1", "vmaf_4k_v0.6.1"
HD_LINES = 1440
"""A reference of more lines than this is scored with the 4K model: that of HD is made for a screen
of 1080 lines seen from three times its height."""
SHOWN = ("mean", "harmonic", "median", "p1", "p5", "p10", "min", "std", WORST_WINDOW)
"""The statistics that are shown, in order."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ScoreRequest:
    """What is asked: files against one reference. `offset` None looks for it; `display` is the size
    to score at where it is not the reference's; `size`, `fps` and `pix_fmt` describe raw files.
    """

    reference: Path
    distorted: tuple[Path, ...]
    teacher: str = AUTO
    offset: int | None = None
    display: Size | None = None
    size: tuple[int, int] | None = None
    fps: str | None = None
    pix_fmt: str | None = None
    allow: tuple[str, ...] = ()
    metrics: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Scored:
    """A pair that was scored. `scores` is the VMAF of every frame in order, and empty where the row
    says why there is none; `values` are the columns of further metrics; `statistics` are VMAF
    points by name.
    """

    pair: Pair
    row: CellRow
    scores: tuple[float, ...]
    values: Columns = field(default_factory=dict)

    @property
    def statistics(self) -> dict[str, float]:
        """The statistics that are shown, by name; none of a pair that failed."""
        if not self.scores:
            return {}
        rate = float(self.pair.reference.frame_rate)
        return {
            name: pooling.statistic(name, self.scores, frames_per_second=rate) for name in SHOWN
        }

    def statistics_of(self, metric: str) -> dict[str, float | None]:
        """The statistics of a further metric, by name, from its worse end (`metrics.Metric.pool`);
        None: no error at all, or no such mean. None of a pair that failed.
        """
        if not self.scores or metric not in self.pair.metrics:
            return {}
        rate = float(self.pair.reference.frame_rate)
        kind = METRICS[metric]
        return {name: kind.statistic(name, self.values, rate) for name in SHOWN}

    def worst(self, count: int) -> tuple[int, ...]:
        """The `count` worst frames, the worst first, each at least a second from the others: the
        neighbours of a bad frame are the same picture.
        """
        apart = max(1, round(self.pair.reference.frame_rate))
        chosen: list[int] = []
        for frame in sorted(range(len(self.scores)), key=lambda i: self.scores[i]):
            if len(chosen) == count:
                break
            if all(abs(frame - other) >= apart for other in chosen):
                chosen.append(frame)
        return tuple(chosen)

    @property
    def worst_second(self) -> int:
        """The first frame of the second with the lowest mean."""
        width = min(len(self.scores), max(1, round(self.pair.reference.frame_rate)))
        starts = range(len(self.scores) - width + 1)
        return min(starts, key=lambda i: sum(self.scores[i : i + width]))


def plan_scores(request: ScoreRequest, ffmpeg: Ffmpeg | None) -> PairPlan:
    """The pairs of a request, probed, with the offsets that were asked for or found.

    Without `ffmpeg` no offset is looked for. Raises UsageError and SourceError.
    """
    for path in (request.reference, *request.distorted):
        if not path.is_file():
            raise SourceError(f"there is no file {path}; `score` takes a reference and files")
    found = [
        FoundPair(reference=request.reference, distorted=path, where="the command line")
        for path in request.distorted
    ]
    pairs = plan_found(
        found,
        size=request.size,
        fps=request.fps,
        pix_fmt=request.pix_fmt,
        allow=request.allow,
        teacher=request.teacher,
        features="six",
    )
    notices: list[str] = []
    framed = with_metrics([_framed(pair, request) for pair in pairs], request.metrics)
    if "neg" in request.metrics:
        neg_of(framed[0].teacher)
    if ffmpeg is not None:
        further.require(ffmpeg, request.metrics)
    shifted = [_shifted(pair, request, ffmpeg, notices) for pair in framed]
    notices += [sentence for pair in framed for sentence in _differences(pair)]
    return PairPlan(
        pairs=tuple(shifted), name=request.reference.resolve().stem, notices=tuple(notices)
    )


def _differences(pair: Pair) -> list[str]:
    """What is odd about two files that are paired all the same."""
    ours, theirs = pair.reference, pair.distorted
    told = []
    if ours.frame_rate != theirs.frame_rate:
        told.append(
            f"{theirs.path} has {float(theirs.frame_rate):g} frames a second and the reference"
            f" {float(ours.frame_rate):g}: frame {pair.starts[1]} is held against frame"
            f" {pair.starts[0]}, the next against the next"
        )
    if ours.sha256 == theirs.sha256:
        told.append(f"{theirs.path} is the reference itself, byte for byte")
    return told


def with_teacher(plan: PairPlan, teacher: str) -> PairPlan:
    """The same pairs for another model, and for nothing beside it."""
    pairs = tuple(replace(pair, teacher=teacher, metrics=()) for pair in plan.pairs)
    return replace(plan, pairs=pairs, notices=())


def _framed(pair: Pair, request: ScoreRequest) -> Pair:
    """The pair at its display size, with the model for that."""
    reference = pair.reference
    display = request.display.of(reference.width, reference.height) if request.display else None
    if display == (reference.width, reference.height):
        display = None
    framed = replace(pair, display=display)
    if min(framed.size) < 64:
        raise UsageError(f"--display {request.display}: libvmaf needs at least 64x64")
    model = read_model_file(request.teacher)
    if model is not None:
        framed = replace(framed, teacher=model.id, model_file=str(model.path))
    if request.teacher == AUTO:
        framed = replace(framed, teacher=UHD if framed.size[1] > HD_LINES else HD)
    return framed


def _shifted(pair: Pair, request: ScoreRequest, ffmpeg: Ffmpeg | None, notices: list[str]) -> Pair:
    """The pair at its offset; what is found is said in `notices`."""
    offset = request.offset
    if offset is None:
        offset = _looked_for(pair, ffmpeg, notices) if ffmpeg else 0
    shifted = replace(pair, offset=offset)
    if shifted.num_frames < 1:
        raise UsageError(
            f"{pair.distorted.path}: at an offset of {offset} no frame is in both files"
        )
    return shifted


def _looked_for(pair: Pair, ffmpeg: Ffmpeg, notices: list[str]) -> int:
    try:
        found = find_offset(pair.reference, pair.distorted, ffmpeg)
    except CellFailure:
        return 0  # scoring says what is wrong with the file
    if found.frames:
        pair = replace(pair, offset=found.frames)
        seconds = found.frames / float(pair.reference.frame_rate)
        notices.append(
            f"{pair.distorted.path} is offset by {found.frames:+d} frames ({seconds:+.3f} s): its"
            f" frame {pair.starts[1]} shows what frame {pair.starts[0]} of the reference shows;"
            f" {pair.num_frames} common frames are scored (--offset 0 takes them as they are)"
        )
    if found.unclear is not None:
        notices.append(
            f"{pair.distorted.path} may be offset by about {found.unclear:+d} frames: that fits"
            " better than none, and the pictures move too little to say which; give it with"
            " --offset"
        )
    return found.frames
