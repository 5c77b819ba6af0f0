"""Rows of a corpus file, whatever its age: JSONL or parquet lines in, `Record`s and digests out.

Which spellings are read: quality under `crf`, `cq` or `q`; encoders by name or alias; a missing
preset is `medium`; features under their bare names, with the `integer_` prefix, with the suffix
`_mean`, or inside `per_frame_features`. Nothing is ever filled in.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from vmaf_train.contract import (
    ALIASES,
    DEFAULT_PRESET,
    FEATURES,
    SCORE_RANGE,
    check_settings,
    feature_value,
)
from vmaf_train.errors import DatasetError

Row = dict[str, Any]
EXTERNAL = "external"
"""Encoder name of scored pairs: nobody knows what made the distorted file."""

_MACHINE_FACTS = frozenset({"device", "machine", "host", "hostname"})
_ROUNDING = 1e-6  # a mean of scores of 100 may end a little above
_TIMES = ("_at", "_wall_s", "_cpu_s")


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
    src_sha256: str | None = None
    frame_index: int | None = None


def read(path: Path) -> list[tuple[int, Row]]:
    """(line number from 1, row) of a JSONL or parquet file. A torn last line of a JSONL file is
    passed over.

    Raises DatasetError for a file that cannot be read or a bad line, with its number.
    """
    if not path.is_file():
        raise DatasetError(
            f"{path} does not exist; name a run folder, cells.jsonl, a JSONL or a parquet file"
        )
    if path.suffix == ".parquet":
        return list(enumerate(_parquet(path), start=1))
    return list(_lines(path))


def _parquet(path: Path) -> list[Row]:
    import pyarrow
    from pyarrow import compute, parquet

    try:
        table = parquet.read_table(path)
        for i, field in enumerate(table.schema):  # pandas writes a missing number as NaN
            if pyarrow.types.is_floating(field.type):
                column = table.column(i)
                nothing = pyarrow.scalar(None, field.type)
                table = table.set_column(
                    i, field, compute.if_else(compute.is_nan(column), nothing, column)
                )
        # pandas may have stored its row labels: they are no field of the rows.
        rows: list[Row] = table.select(
            [n for n in table.column_names if not n.startswith("__index_")]
        ).to_pylist()
    except (pyarrow.ArrowException, OSError) as failure:
        raise DatasetError(f"{path} is not a readable parquet file: {failure}") from failure
    return rows


def _lines(path: Path) -> Iterator[tuple[int, Row]]:
    with path.open("rb") as file:
        for number, line in enumerate(file, start=1):
            if not line.strip():
                continue
            try:
                row = parse(line)
            except ValueError as failure:
                if not line.endswith(b"\n"):
                    # the writer was stopped inside its last append: the row was never committed
                    return
                raise DatasetError(f"{path}:{number}: {failure}") from failure
            yield number, row


def parse(line: str | bytes) -> Row:
    """The row in one line of JSONL. Raises ValueError for anything but a JSON object of finite
    numbers.
    """
    try:
        row = json.loads(line, parse_float=_finite, parse_constant=_finite)
    except ValueError as failure:
        raise ValueError(f"not a JSON line: {failure}") from failure
    if not isinstance(row, dict):
        raise ValueError("a row must be a JSON object")
    return row


def _finite(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(f"{text} is not a finite number; what is missing is null")
    return value


def holds_frames(row: Mapping[str, Any]) -> bool:
    """True when `row` describes one frame, False when it describes a whole cell."""
    if "frame_index" in row:
        return True
    if isinstance(row.get("per_frame_features"), dict) or "vmaf_score" in row or "status" in row:
        return False
    return feature_value(row, FEATURES[0], only_means=True) is None


def settings(row: Mapping[str, Any]) -> tuple[str | None, str | None, float | None]:
    """Encoder (its full name), preset and quality value of a row; None = not known, as of a pair
    that was scored.

    Raises DatasetError, naming the field, for one of another type or a quality value that is no
    number >= 0.
    """
    encoder: Any = row.get("encoder")
    preset: Any = row.get("preset")
    value = _quality(row)
    if isinstance(preset, (int, float)) and not isinstance(preset, bool):
        preset = f"{preset:g}"  # the presets of some encoders are numbers
    try:
        check_settings(encoder, preset, value)
    except ValueError as failure:
        raise DatasetError(str(failure)) from failure
    if encoder in (None, EXTERNAL):
        return (None if value is None else encoder), preset, value
    return ALIASES.get(encoder, encoder), preset or DEFAULT_PRESET, value


def quality(row: Mapping[str, Any]) -> float | None:
    """The encoder's quality value under any of its names; None when the row has none. Raises as
    `settings`.
    """
    return settings(row)[2]


def _quality(row: Mapping[str, Any]) -> Any:
    value = next((row[name] for name in ("crf", "cq", "q") if row.get(name) is not None), None)
    return float(value) if isinstance(value, int) and not isinstance(value, bool) else value


def cell_name(row: Mapping[str, Any]) -> str:
    """What makes rows belong to one cell: its readable id, else source, encoder, preset and
    quality.
    """
    if row.get("cell"):
        return str(row["cell"])
    parts = (_source(row), row.get("dis_basename"), row.get("encoder"), _preset(row), _quality(row))
    return "/".join(
        "" if p is None else f"{p:g}" if isinstance(p, float) else str(p) for p in parts
    )


def last_of_each_cell(rows: Iterable[tuple[int, Row]]) -> list[tuple[int, Row]]:
    """Per cell the last row, in the order of the file."""
    latest = {cell_name(row): (number, row) for number, row in rows}
    return sorted(latest.values(), key=lambda item: item[0])


def record(path: Path, line: int, row: Mapping[str, Any]) -> Record:
    """`row` as a Record. Raises DatasetError with the line for a missing source, feature or score,
    or bad settings.
    """
    source = _source(row)
    if not source:
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
        src=source,
        group=str(row.get("group") or source),
        encoder=encoder,
        preset=preset,
        quality=quality_value,
        features=tuple(value for value in values.values() if value is not None),
        score=_score(path, line, row),
        teacher=row.get("teacher"),
        src_sha256=row.get("src_sha256"),
        frame_index=row.get("frame_index"),
    )


def cell_means(frames: Iterable[Record]) -> list[Record]:
    """One Record per cell: arithmetic means of features and score over its frames, as Research-0067
    aggregates.
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


def _source(row: Mapping[str, Any]) -> str:
    return str(row.get("src") or row.get("source") or "")


def _preset(row: Mapping[str, Any]) -> str | None:
    if row.get("preset") is not None:
        return str(row["preset"])
    return None if row.get("encoder") in (None, EXTERNAL) else DEFAULT_PRESET


def _score(path: Path, line: int, row: Mapping[str, Any]) -> float:
    low, high = SCORE_RANGE
    for name in ("vmaf_score", "vmaf", "vmaf_mean"):
        value = row.get(name)
        if isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value):
            if not low - _ROUNDING <= value <= high + _ROUNDING:
                raise DatasetError(
                    f"{path}:{line}: {name} is {value}; a VMAF score is {low:g}..{high:g}, as the"
                    " teacher clips it"
                )
            return float(value)
    raise DatasetError(
        f"{path}:{line}: no finite VMAF score; a row without one cannot be learned from"
    )


def digest(rows: Iterable[Mapping[str, Any]], *order: str) -> str:
    """sha256 of the canonical JSON of `rows` sorted by the fields `order`, without times and
    machine facts.

    Missing and null fields are the same, and 23.0 is 23: so JSONL and parquet of one corpus have
    one digest.
    """
    lines = []
    for row in rows:
        facts = {k: v for k, v in row.items() if k not in _MACHINE_FACTS and not k.endswith(_TIMES)}
        try:
            text = json.dumps(
                _plain(facts),
                sort_keys=True,
                separators=(",", ":"),
                ensure_ascii=False,
                allow_nan=False,
            )
        except ValueError as failure:
            raise DatasetError(
                f"the row of {row.get('cell') or row.get('src')} holds a number that is not finite"
            ) from failure
        lines.append((tuple(_sortable(row.get(name)) for name in order), text))
    total = hashlib.sha256()
    for _, text in sorted(lines):
        total.update(text.encode() + b"\n")
    return total.hexdigest()


def _sortable(value: Any) -> tuple[float, str]:
    return (
        (float(value), "")
        if isinstance(value, (int, float))
        else (-1.0, "" if value is None else str(value))
    )


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {k: _plain(v) for k, v in value.items() if v is not None}
    if isinstance(value, (list, tuple)):
        return [_plain(v) for v in value]
    return int(value) if isinstance(value, float) and value.is_integer() else value
