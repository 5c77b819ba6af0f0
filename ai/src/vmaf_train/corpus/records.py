"""What a model can learn from: one `Record` per row of a corpus file, whatever its age."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path

from vmaf_train.contract import FEATURES, ORDINARY_FEATURES, SCORE_RANGE, Fields, feature_value
from vmaf_train.corpus.rows import ROUNDING, SCORE_NAMES, cell_name, settings, source
from vmaf_train.errors import DatasetError


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """One row that a model can learn from. `features` are the canonical 6, raw; `score` is in VMAF
    points.

    `encoder` None, `preset` None or `quality` None = not known. `frame_index` is None for a row of
    a whole cell.
    """

    line: int
    key: str
    src: str
    group: str
    encoder: str | None
    preset: str | None
    quality: float | None
    features: tuple[float, ...]
    score: float
    teacher: str | None
    features_of: str = ORDINARY_FEATURES
    src_sha256: str | None = None
    frame_index: int | None = None


def holds_frames(row: Fields) -> bool:
    """True when `row` describes one frame, False when it describes a whole cell."""
    if "frame_index" in row:
        return True
    if isinstance(row.get("per_frame_features"), dict) or "vmaf_score" in row or "status" in row:
        return False
    return feature_value(row, FEATURES[0], only_means=True) is None


def record(path: Path, line: int, row: Fields) -> Record:
    """`row` as a Record. Raises DatasetError with the line for a missing source, feature or score,
    or bad settings.
    """
    src = source(row)
    if not src:
        raise DatasetError(f"{path}:{line}: the row names no source (src)")
    measured = row.get("per_frame_features")
    values = {
        name: feature_value(measured if isinstance(measured, dict) else row, name)
        for name in FEATURES
    }
    missing = [name for name, value in values.items() if value is None]
    if missing:
        raise DatasetError(
            f"{path}:{line}: no finite value of {', '.join(missing)}; a row needs all six features"
        )
    try:
        encoder, preset, quality_value = settings(row)
    except DatasetError as failure:
        raise DatasetError(f"{path}:{line}: {failure}") from failure
    return Record(
        line=line,
        key=str(row.get("key") or cell_name(row)),
        src=src,
        group=str(row.get("group") or src),
        encoder=encoder,
        preset=preset,
        quality=quality_value,
        features=tuple(value for value in values.values() if value is not None),
        score=_score(path, line, row),
        teacher=row.get("teacher"),
        features_of=row.get("features_of") or ORDINARY_FEATURES,
        src_sha256=row.get("src_sha256"),
        frame_index=row.get("frame_index"),
    )


def cell_means(frames: Iterable[Record]) -> list[Record]:
    """One Record per cell: arithmetic means of features and score over its frames, as the
    hardware study aggregates.
    """
    cells: dict[str, list[Record]] = {}
    for frame in frames:
        cells.setdefault(frame.key, []).append(frame)
    return [_mean_of(rows) for rows in cells.values()]


def _mean_of(rows: list[Record]) -> Record:
    features = tuple(
        math.fsum(r.features[i] for r in rows) / len(rows) for i in range(len(FEATURES))
    )
    return replace(
        rows[0],
        features=features,
        score=math.fsum(r.score for r in rows) / len(rows),
        frame_index=None,
    )


def _score(path: Path, line: int, row: Fields) -> float:
    low, high = SCORE_RANGE
    for name in SCORE_NAMES:
        value = row.get(name)
        if isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value):
            if not low - ROUNDING <= value <= high + ROUNDING:
                raise DatasetError(
                    f"{path}:{line}: {name} is {value}; a VMAF score is {low:g}..{high:g}, as the"
                    " teacher clips it"
                )
            return float(value)
    raise DatasetError(
        f"{path}:{line}: no finite VMAF score; a row without one cannot be learned from"
    )
