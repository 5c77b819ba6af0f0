"""libvmaf's log: what it says of each frame, checked."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from vmaf_train.contract import FEATURES, NEG_FEATURES, feature_set, feature_value, neg_feature
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


def feature_of(metrics: Mapping[str, float | None], name: str, teacher: str) -> float | None:
    """The teacher's own value of feature `name` in a frame of libvmaf's log; None when absent."""
    if feature_set(teacher) == NEG_FEATURES:
        return feature_value({name: metrics.get(neg_feature(name))}, name)
    return feature_value(metrics, name)


def parse_log(text: str, teacher: str) -> tuple[str, tuple[Frame, ...]]:
    """libvmaf's version and the frames of its JSON log, with the features of `teacher`.

    Raises CellFailure when it is cut off or of another shape, or a score or one of the six features
    is missing or not finite: never filled in.
    """
    log = read_log(text)
    frames = []
    for i, entry in enumerate(log.frames):
        metrics = entry.metrics
        values = [feature_of(metrics, name, teacher) for name in FEATURES]
        missing = [n for n, v in zip(FEATURES, values, strict=True) if v is None]
        vmaf, unclipped = (_finite(metrics.get(n)) for n in SCORES)
        missing += [n for n in SCORES if _finite(metrics.get(n)) is None]
        if vmaf is None or unclipped is None or missing or entry.index != i:
            raise CellFailure(
                FailureKind.SCORE_INCOMPLETE,
                f"libvmaf's log lacks {', '.join(missing) or 'a frame'} at frame {i}",
            )
        frames.append(
            Frame(
                index=i,
                vmaf=vmaf,
                vmaf_unclipped=unclipped,
                features=tuple(v for v in values if v is not None),
            )
        )
    return log.version, tuple(frames)


@dataclass(frozen=True, slots=True, kw_only=True)
class LogFrame:
    """One frame of libvmaf's log: its number, and numbers by name (None where it wrote null)."""

    index: int
    metrics: Mapping[str, float | None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Log:
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
    try:
        log = json.loads(text)
        version, entries = log["version"], log["frames"]
        frames = tuple(
            LogFrame(index=_whole(e["frameNum"]), metrics=_numbers(e["metrics"])) for e in entries
        )
        if not isinstance(version, str):
            raise TypeError("its version is not a text")
    except json.JSONDecodeError as failure:  # libvmaf does not notice a full disk
        raise CellFailure(
            FailureKind.SCORE_UNREADABLE, f"libvmaf's log is not JSON: {failure}"
        ) from failure
    except (KeyError, TypeError, AttributeError, RecursionError) as failure:
        raise CellFailure(
            FailureKind.SCORE_UNREADABLE,
            f"libvmaf's log is of another shape than expected ({failure!r})",
        ) from failure
    return Log(version=version, frames=frames)


def _finite(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) else None


def _whole(value: object) -> int:
    if not isinstance(value, int):
        raise TypeError("a frame's number is not a number")
    return value


def _numbers(metrics: Mapping[str, object]) -> dict[str, float | None]:
    found: dict[str, float | None] = {}
    for name, value in metrics.items():
        if value is not None and (isinstance(value, bool) or not isinstance(value, int | float)):
            raise TypeError(f"{name} is not a number")
        found[name] = value
    return found
