"""The rows of a run folder and of older corpora: their files, fields, types and ranges.

The only place that knows this format, with its neighbours: `ids` (readable cell ids), `pooling`
(statistics of scores), `digests`, `frames` (frame rows as columns) and `records` (what a model
learns from).

Which spellings are read: quality under `crf`, `cq` or `q`; encoders by name or alias; a missing
preset is `medium`; features under their bare names, with the `integer_` prefix, with the suffix
`_mean`, or inside `per_frame_features`. Nothing is ever filled in. A row is kept as it was read
beside its type, because digests are made of the former.
"""

from __future__ import annotations

import enum
import json
import math
import re
import shlex
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Annotated, Any, Literal, TypeGuard

import msgspec

from vmaf_train.contract import (
    ALIASES,
    DEFAULT_PRESET,
    FEATURES,
    SCORE_RANGE,
    Fields,
    check_settings,
    feature_value,
)
from vmaf_train.corpus.digests import plain_row
from vmaf_train.errors import DatasetError

Row = dict[str, Any]
"""A row as it was read, before it has a type."""

SWEEP, CELLS, FRAMES, RUNS = "sweep.json", "cells.jsonl", "frames.jsonl", "runs.jsonl"
PACKED, SHARDS = "frames.parquet", "frames"
QUESTIONS = "questions.jsonl"
SCHEMA_VERSION = 1
OK, FAILED = "ok", "failed"
EXTERNAL = "external"
"""Encoder name of scored pairs: nobody knows what made the distorted file."""

ROUNDING = 1e-6  # a mean of scores of 100 may end a little above

Score = Annotated[float, msgspec.Meta(ge=SCORE_RANGE[0] - ROUNDING, le=SCORE_RANGE[1] + ROUNDING)]
Seconds = Annotated[float, msgspec.Meta(ge=0)]
Count = Annotated[int, msgspec.Meta(ge=1)]
Rate = Annotated[float, msgspec.Meta(gt=0)]


class FailureKind(enum.StrEnum):
    """Why a cell has no score. A kind that another version wrote is read as `OTHER`."""

    ENCODE_FAILED = "encode_failed"
    SCORE_FAILED = "score_failed"
    SCORE_INCOMPLETE = "score_incomplete"
    SCORE_UNREADABLE = "score_unreadable"
    OPTION_IGNORED = "option_ignored"
    TIMEOUT = "timeout"
    WRONG_SIZE = "wrong_size"
    WRONG_FORMAT = "wrong_format"
    WRONG_FRAME_COUNT = "wrong_frame_count"
    WRONG_COLOR = "wrong_color"
    WRONG_SHAPE = "wrong_shape"
    DECODE_ERRORS = "decode_errors"
    SOURCE_FAILED = "source_failed"
    SOURCE_SHORT = "source_short"
    SOURCE_BROKEN = "source_broken"
    SOURCE_CHANGES = "source_changes"
    SOURCE_INTERLACED = "source_interlaced"
    WORKER_LOST = "worker_lost"
    JOIN_FAILED = "join_failed"
    """Of films that are made by shots; never written into a row."""
    PACKAGE_FAILED = "package_failed"
    """Of a ladder's files; never written into a row."""
    ENCODE_CHANGED = "encode_changed"
    """Of a kept encode that is scored again."""
    DISK_FULL = "disk_full"
    """Ends the sweep and is never written into a row."""
    OTHER = "other"

    @classmethod
    def _missing_(cls, value: object) -> FailureKind | None:
        return cls.OTHER if isinstance(value, str) else None


class Failure(msgspec.Struct, frozen=True, kw_only=True, rename={"kind": "class"}):
    """The `error` of a failed row. `stderr_tail` is the end of what the tool said; `command` can
    be pasted into a shell.
    """

    kind: FailureKind
    message: str = ""
    exit_code: int | None = None
    stderr_tail: str = ""
    command: str = ""


class Pooled(msgspec.Struct, frozen=True, kw_only=True):
    """A metric over the frames of a cell. None: no error at all (the pictures are equal), where the
    metric is a ratio that has no end. The percentiles are linear between frames.
    """

    mean: float | None
    min: float | None
    p5: float | None
    p95: float | None
    max: float | None


class Metrics(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Metrics beside VMAF that were asked for; None, and not written, for those that were not."""

    neg: Pooled | None = None
    xpsnr: Pooled | None = None
    psnr: Pooled | None = None
    ssim: Pooled | None = None
    ms_ssim: Pooled | None = None
    cambi: Pooled | None = None
    ciede2000: Pooled | None = None


class CellRow(msgspec.Struct, frozen=True, kw_only=True):
    """One line of cells.jsonl. None = missing, or not known. docs/rows.md has units and ranges.

    `encode_width` and `encode_height` are the encode's size where it is not the window's;
    `reference` to `alignment` belong to scored pairs. `features_of` names the feature set (None:
    vmaf_v0.6.1's). `extra` holds the fields that this version does not know.
    """

    schema_version: int = SCHEMA_VERSION
    cell: str
    key: str
    status: Literal["ok", "failed"] = "ok"
    flags: tuple[str, ...] = ()
    src: str = ""
    group: str = ""
    src_sha256: str | None = None
    width: Count | None = None
    height: Count | None = None
    pix_fmt: str | None = None
    fps: str | None = None
    num_frames: Count | None = None
    encoder: str | None = None
    encoder_version: str | None = None
    preset: str | None = None
    crf: int | float | None = None
    rate_control: str | None = None
    argv: tuple[str, ...] | None = None
    threads: Count | None = None
    size_bytes: Count | None = None
    bitrate_kbps: Rate | None = None
    encode_wall_s: Seconds | None = None
    encode_cpu_s: Seconds | None = None
    score_cpu_s: Seconds | None = None
    vmaf_score: Score | None = None
    vmaf_harmonic_mean: Score | None = None
    vmaf_min: Score | None = None
    vmaf_p5: Score | None = None
    per_frame_features: dict[str, float | None] | None = None
    scorer: str | None = None
    scorer_difference: float | None = None
    teacher: str | None = None
    ffmpeg_version: str | None = None
    libvmaf_version: str | None = None
    device: str | None = None
    finished_at: str | None = None
    error: Failure | None = None
    # Of rows that need them; a row without them is written as it was before they were known.
    encode_width: Count | None = None
    encode_height: Count | None = None
    options: str | None = None
    maxrate_kbps: Rate | None = None
    bufsize_kbps: Rate | None = None
    host: str | None = None
    metrics: Metrics | None = None
    encode_sha256: str | None = None
    encode_ffmpeg_version: str | None = None
    features_of: str | None = None
    reference: str | None = None
    distorted: str | None = None
    distorted_sha256: str | None = None
    distorted_width: Count | None = None
    distorted_height: Count | None = None
    distorted_pix_fmt: str | None = None
    alignment: dict[str, object] | None = None
    extra: Row = msgspec.field(default_factory=dict)

    @property
    def is_ok(self) -> bool:
        """True for a finished cell, False for a failed one."""
        return self.status == OK


_FIELDS = frozenset(CellRow.__struct_fields__) - {"extra"}
_FIRST_LATER = CellRow.__struct_fields__.index("encode_width")
_LATER = frozenset(CellRow.__struct_fields__[_FIRST_LATER:])
_NEEDED_OF_OK = ("num_frames", "encoder", "vmaf_score", "per_frame_features")


def to_row(cell: CellRow) -> Row:
    """`cell` as a line of cells.jsonl holds it: fields that it always has, null where missing, and
    of the others those that are known.
    """
    row: Row = msgspec.to_builtins(cell)
    extra = row.pop("extra")
    known = {k: v for k, v in row.items() if v is not None or k not in _LATER}
    return {**known, **extra}


def to_lines(rows: Iterable[Fields]) -> bytes:
    """Rows as lines of JSON. Raises ValueError for a number that is not finite."""
    texts = (json.dumps(row, ensure_ascii=False, allow_nan=False) for row in rows)
    return "".join(f"{text}\n" for text in texts).encode()


def read_rows(path: Path) -> list[tuple[int, Row]]:
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
    return list(lines(path))


def _parquet(path: Path) -> list[Row]:
    import pyarrow
    from pyarrow import compute, parquet

    try:
        table = parquet.read_table(path)
        for i, field in enumerate(table.schema):  # pandas writes a missing number as NaN
            if pyarrow.types.is_floating(field.type):
                column = table.column(i)
                nothing = pyarrow.scalar(None, field.type)
                known = compute.if_else(compute.is_nan(column), nothing, column)
                table = table.set_column(i, field, known)
        # pandas may have stored its row labels: they are no field of the rows.
        names = [name for name in table.column_names if not name.startswith("__index_")]
        rows: list[Row] = table.select(names).to_pylist()
    except (pyarrow.ArrowException, OSError) as failure:
        raise DatasetError(f"{path} is not a readable parquet file: {failure}") from failure
    return rows


def lines(path: Path) -> Iterator[tuple[int, Row]]:
    """(line number from 1, row) of a JSONL file, one at a time; as `read`. No file has no rows."""
    if not path.exists():
        return
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
                raise bad_line(path, number, str(failure)) from failure
            yield number, row


def bad_line(path: Path, number: int, what: str) -> DatasetError:
    """The error for a line that is not a row: file, line, what is wrong, and the way out."""
    out = "correct or delete that line"
    if path.name in (CELLS, FRAMES) and (path.parent / SWEEP).exists():
        out = f"delete that line and {again(path.parent)}, which measures again what is missing"
    return DatasetError(f"{path}:{number}: {what}; {out}")


def bad_cell(path: Path, number: int, what: str) -> DatasetError:
    """The error for a cell row, or its frames, that cannot be what was measured."""
    out = "correct or delete that line"
    if path.name == CELLS and (path.parent / SWEEP).exists():
        out = f"{again(path.parent)}, which measures that cell again"
    return DatasetError(f"{path}:{number}: {what}; {out}")


def again(folder: Path) -> str:
    """Which command goes on in `folder`, as the end of a sentence."""
    try:
        argv = msgspec.json.decode((folder / SWEEP).read_bytes())["argv"]
        return f"run `{shlex.join(['vmaf-tune', *map(str, argv[1:])])}`"
    except (OSError, msgspec.MsgspecError, RecursionError, LookupError, TypeError, ValueError):
        return "run its sweep again"


def parse(line: str | bytes) -> Row:
    """The row in one line of JSONL. Raises ValueError for anything but a JSON object of finite
    numbers.
    """
    try:
        row = msgspec.json.decode(line)
    except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError) as failure:
        raise ValueError(f"not a JSON line: {_why(line, failure)}") from failure
    if not isinstance(row, dict):
        raise ValueError("a row must be a JSON object")
    return row


def _why(line: str | bytes, failure: Exception) -> str:
    """What a reader of the file would look for; json says it better than msgspec where it can."""
    try:
        json.loads(line, parse_float=_finite, parse_constant=_finite)
    except RecursionError:
        return "it is nested too deeply"
    except ValueError as better:
        return str(better)
    return str(failure)


def _finite(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(f"{text} is not a finite number; what is missing is null")
    return value


def settings(row: Fields) -> tuple[str | None, str | None, float | None]:
    """Encoder (its full name), preset and quality value of a row; None = not known, as of a pair
    that was scored.

    Raises DatasetError, naming the field, for one of another type or a quality value that is no
    number >= 0.
    """
    encoder = row.get("encoder")
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


def quality(row: Fields) -> float | None:
    """The encoder's quality value under any of its names; None when the row has none. Raises as
    `settings`.
    """
    return settings(row)[2]


def _quality(row: Fields) -> Any:
    value = next((row[name] for name in ("crf", "cq", "q") if row.get(name) is not None), None)
    return float(value) if isinstance(value, int) and not isinstance(value, bool) else value


def cell_name(row: Fields) -> str:
    """What makes rows belong to one cell: its readable id, else source, encoder, preset and
    quality.
    """
    if row.get("cell"):
        return str(row["cell"])
    parts = (source(row), row.get("dis_basename"), row.get("encoder"), _preset(row), _quality(row))
    return "/".join(_part(part) for part in parts)


def _part(value: object) -> str:
    if value is None:
        return ""
    return f"{value:g}" if isinstance(value, float) else str(value)


def source(row: Fields) -> str:
    """The clip window that a row names, under either of its names; empty when it names none."""
    return str(row.get("src") or row.get("source") or "")


def _preset(row: Fields) -> str | None:
    if row.get("preset") is not None:
        return str(row["preset"])
    return None if row.get("encoder") in (None, EXTERNAL) else DEFAULT_PRESET


def last_of_each_cell(rows: Iterable[tuple[int, Row]]) -> list[tuple[int, Row]]:
    """Per cell the last row, in the order of the file."""
    latest_of = {cell_name(row): (number, row) for number, row in rows}
    return sorted(latest_of.values(), key=lambda item: item[0])


def typed(path: Path, number: int, row: Row) -> CellRow:
    """`row`, line `number` of `path`, with types and checked ranges.

    Raises DatasetError for a field of another type or out of its range, an unknown status, a
    schema_version of a newer program, or a finished cell without its score, frames or features.
    """
    if row.get("schema_version", SCHEMA_VERSION) != SCHEMA_VERSION:
        raise DatasetError(
            f"{path}:{number}: schema_version is {row['schema_version']!r:.40}, and this vmaf-tune"
            f" knows {SCHEMA_VERSION}; read the corpus with the version that wrote it"
        )
    try:
        cell = checked(row)
    except DatasetError as failure:
        raise bad_cell(path, number, str(failure)) from failure
    return cell


def checked(row: Row) -> CellRow:
    """As `typed`, for a row whose file nobody needs to hear of. The error names the field only."""
    known = row if "schema_version" in row else _modern(row)
    fields = {name: value for name, value in known.items() if name in _FIELDS}
    extra = {name: value for name, value in row.items() if name not in _FIELDS}
    try:
        cell = _converted(fields, extra)
    except msgspec.ValidationError as failure:
        raise DatasetError(_sentence(fields, str(failure))) from failure
    if "schema_version" in row and cell.is_ok:
        check_finished(cell)
    return cell


def _converted(fields: Row, extra: Row) -> CellRow:
    try:
        return msgspec.convert({**fields, "extra": extra}, CellRow)
    except msgspec.ValidationError as failure:
        # parquet has no whole numbers where one is missing
        try:
            return msgspec.convert({**plain_row(fields), "extra": extra}, CellRow)
        except msgspec.ValidationError:
            raise failure from None


def check_finished(cell: CellRow) -> None:
    """Raise DatasetError, naming the field, for a finished cell that lacks what one has."""
    for name in _NEEDED_OF_OK:
        if getattr(cell, name) is None:
            raise DatasetError(f"the row is ok and has no {name}")
    features = cell.per_frame_features or {}
    missing = [name for name in FEATURES if features.get(name) is None]
    if missing:
        raise DatasetError(f"no finite value of {', '.join(missing)}; a row needs all six features")


def _modern(row: Row) -> Row:
    """An older row under today's names. Fields that it has not stay away."""
    encoder, preset, value = settings(row)
    name = cell_name(row)
    src = source(row)
    measured = row.get("per_frame_features")
    places = measured if isinstance(measured, dict) else row
    features = {feature: feature_value(places, feature) for feature in FEATURES}
    score = next((row[n] for n in SCORE_NAMES if row.get(n) is not None), None)
    return plain_row(row) | {
        "cell": name,
        "key": str(row.get("key") or name),
        "src": src,
        "group": str(row.get("group") or src),
        "encoder": encoder or row.get("encoder"),
        "preset": preset,
        "crf": value,
        "vmaf_score": score,
        "per_frame_features": features if any(v is not None for v in features.values()) else None,
    }


SCORE_NAMES = ("vmaf_score", "vmaf", "vmaf_mean")
"""Under which names a row's score is found, newest first."""

_KINDS = {
    "float": "a number",
    "int": "a whole number",
    "str": "a text",
    "array": "a list",
    "object": "an object",
    "bool": "true or false",
    "null": "null",
}
_SCORE_SENTENCE = "a VMAF score is 0..100, as the teacher clips it"
_RANGES = {
    "vmaf_score": _SCORE_SENTENCE,
    "vmaf_harmonic_mean": _SCORE_SENTENCE,
    "vmaf_min": _SCORE_SENTENCE,
    "vmaf_p5": _SCORE_SENTENCE,
    "num_frames": "a cell has at least one frame",
    "bitrate_kbps": "a measured bitrate is more than 0",
    "size_bytes": "a measured size is more than 0",
    "status": "a row is ok or failed",
}


def _sentence(row: Fields, failure: str) -> str:
    """msgspec's `Expected `float | null`, got `str` - at `$.fps`` as a sentence about the row."""
    lacks = re.match(r"Object missing required field `(\w+)`(?: - at `\$\.(\w+)`)?", failure)
    if lacks:
        return f"the row has no {lacks[2] + '.' if lacks[2] else ''}{lacks[1]}"
    where = re.search(r" - at `\$\.(\w+)([^`]*)`$", failure)
    if where is None:
        return failure
    name = where[1]
    value = row.get(name)
    wanted = re.match(r"Expected `([^`]+)`, got", failure)
    if wanted is None:
        bound = failure.removesuffix(where[0]).replace("`", "").replace("Expected", "it must be")
        return f"{name} is {value!r:.40}; {_RANGES.get(name, bound)}"
    kinds = (_KINDS.get(kind, kind) for kind in wanted[1].split(" | "))
    within = f" (at {where[2]})" if where[2] else ""
    return f"{name}{within} is {value!r:.40}; it must be {' or '.join(kinds)}"


def latest(file: Path) -> dict[str, CellRow]:
    """The last row of every cell of a corpus file, typed and checked, by cell id.

    Raises DatasetError as `read` and `typed`.
    """
    jsonl = file.is_file() and file.suffix != ".parquet"
    # A row with a type takes a third of one without, and a fifth of it is its own: a large file is
    # never held as it was read.
    found: dict[str, CellRow | DatasetError] = {}
    known: dict[str, str] = {}
    for number, row in lines(file) if jsonl else read_rows(file):
        name = cell_name(row)
        found.pop(name, None)
        try:
            found[name] = typed(file, number, _sharing(row, known))
        except DatasetError as failure:  # counts only where no later row takes its place
            found[name] = failure
    return {cell.cell: cell for cell in found.values() if _is_row(cell)}


_OWN = ("cell", "key", "finished_at")


def _sharing(row: Row, known: dict[str, str]) -> Row:
    """`row` with the texts of `known` that say the same; what is new is added to them."""
    for name, value in row.items():
        if type(value) is str and name not in _OWN:
            row[name] = known.setdefault(value, value)
    argv = row.get("argv")
    if isinstance(argv, list):
        row["argv"] = [known.setdefault(a, a) if type(a) is str else a for a in argv]
    return row


def _is_row(found: CellRow | DatasetError) -> TypeGuard[CellRow]:
    """True for a row; raises what was found instead of one."""
    if isinstance(found, DatasetError):
        raise found
    return True
