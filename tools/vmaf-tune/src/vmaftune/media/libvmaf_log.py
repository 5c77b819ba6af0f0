"""libvmaf's log: what it says of each frame, checked."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import msgspec
from vmaf_train.contract import FEATURES, NEG_FEATURES, feature_set, neg_feature, spelling
from vmaf_train.corpus.rows import FailureKind

from vmaftune.media.failure import CellFailure

LOG = "vmaf.json"
SCORES = ("vmaf", "vmaf_unclipped")


@dataclass(frozen=True, slots=True, kw_only=True)
class Frame:
    """Scores and features of one frame pair: VMAF points (clipped to 0..100, and unclipped),
    canonical 6 in order.
    """

    index: int
    vmaf: float
    vmaf_unclipped: float
    features: tuple[float, ...]


def parse_log(text: str, teacher: str) -> tuple[str, tuple[Frame, ...]]:
    """libvmaf's version and the frames of its JSON log, with the features of `teacher`.

    Raises CellFailure when it is cut off or of another shape, or a score or one of the six features
    is missing or not finite: never filled in.
    """
    log = read_log(text)
    return log.version, tuple(_frame(entry, i, teacher) for i, entry in enumerate(log.frames))


def _frame(entry: LogFrame, number: int, teacher: str) -> Frame:
    metrics = entry.metrics
    names = _names(tuple(metrics), teacher)
    found = [_finite(metrics.get(name)) for name in names]
    values = [value for value in found if value is not None]
    if len(values) < len(found) or entry.index != number:
        columns = zip((*SCORES, *FEATURES), found, strict=True)
        missing = [column for column, value in columns if value is None]
        raise CellFailure(
            FailureKind.SCORE_INCOMPLETE,
            f"libvmaf's log lacks {', '.join(missing) or 'a frame'} at frame {number}",
        )
    vmaf, unclipped, *features = values
    return Frame(index=number, vmaf=vmaf, vmaf_unclipped=unclipped, features=tuple(features))


@lru_cache
def _names(there: tuple[str, ...], teacher: str) -> tuple[str, ...]:
    """What a frame with these names calls the two scores and the teacher's own six features.

    Remembered, because all frames of a log have the same names.
    """
    if feature_set(teacher) == NEG_FEATURES:
        return (*SCORES, *map(neg_feature, FEATURES))
    return (*SCORES, *(spelling(there, name) or name for name in FEATURES))


class LogFrame(msgspec.Struct, frozen=True, kw_only=True, rename={"index": "frameNum"}):
    """One frame of libvmaf's log: its number, and numbers by name (None where it wrote null)."""

    index: int
    metrics: dict[str, float | None]


class Log(msgspec.Struct, frozen=True, kw_only=True):
    """libvmaf's JSON log: its version, and what it says of each frame."""

    version: str
    frames: tuple[LogFrame, ...]


def log_text(path: Path) -> str:
    """The text of a log; bytes that are not UTF-8 are replaced, and so no number."""
    return path.read_text(encoding="utf-8", errors="replace")


def read_log(text: str) -> Log:
    """libvmaf's JSON log, with every number a number.

    Raises CellFailure `score_unreadable` when it is cut off, or of another shape.
    """
    try:  # not msgspec's own parser, as the standard library's knows NaN
        log = msgspec.convert(json.loads(text), Log)
        log.version.encode()  # half a character could not be written into a row
        return log
    except json.JSONDecodeError as failure:  # libvmaf does not notice a full disk
        raise CellFailure(
            FailureKind.SCORE_UNREADABLE, f"libvmaf's log is not JSON: {failure}"
        ) from failure
    except (msgspec.ValidationError, RecursionError, ValueError) as failure:
        raise CellFailure(
            FailureKind.SCORE_UNREADABLE,
            f"libvmaf's log is of another shape than expected ({failure})",
        ) from failure


def _finite(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) else None
