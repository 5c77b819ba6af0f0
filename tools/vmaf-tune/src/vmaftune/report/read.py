"""What a report is about: one sweep's cells as points on curves, their frames, failures and tools.

    run folder --read--> Sweep(sources, curves, points, frames, failures, facts)

A curve is one encoder with one preset. Nothing is computed here but the mean of unclipped frame
scores.
"""

from __future__ import annotations

import json
import shlex
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from vmaf_train.contract import VOCABULARY, preset_ordinal
from vmaf_train.corpus import rows as corpus_rows
from vmaf_train.errors import DatasetError

from vmaftune.encoders import ENCODERS
from vmaftune.engine.folder import CELLS, FRAMES, RUNS, SWEEP, read_jsonl
from vmaftune.errors import UsageError

Row = Mapping[str, Any]

_NUMBERS = (
    "bitrate_kbps",
    "vmaf_score",
    "vmaf_harmonic_mean",
    "vmaf_min",
    "vmaf_p5",
    "num_frames",
    "size_bytes",
    "encode_cpu_s",
    "score_cpu_s",
)
_SAID = frozenset({"argv", "ffmpeg_version", "libvmaf_version"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Curve:
    """One encoder with one preset; `knob` names its quality value (crf, cq, qp, icq)."""

    encoder: str
    preset: str | None
    knob: str

    @property
    def label(self) -> str:
        """Encoder and preset as a reader sees them."""
        return f"{self.encoder} {self.preset}" if self.preset else self.encoder


@dataclass(frozen=True, slots=True, kw_only=True)
class Point:
    """One measured cell, `cell` its readable id. `source` and `curve` are indices into the Sweep.

    `vmaf` is the mean that the corpus holds (clipped to 0..100); `vmaf_unclipped` the mean without
    clipping where the frames have it, else the same number. `cpu_s` is CPU seconds of the encode
    per frame. None = not measured.
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


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """One cell that has no score, and why. `command` can be pasted."""

    cell: str
    kind: str
    message: str
    exit_code: int | None
    stderr: str
    command: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Sweep:
    """Everything read from one run folder.

    `frames` maps a cell's key to its per-frame VMAF, (num_frames,) float64. `facts` and
    `start_facts` are (name, value) lines about the tools and about the last start of the command,
    `grid` lines of encoder, preset, quality values and number of sources as planned, `source_facts`
    lines of name, group, window, picture, rate, frames and cells; `notes` are sentences about cells
    that are missing or stand out.
    """

    name: str
    folder: Path
    sources: tuple[str, ...]
    curves: tuple[Curve, ...]
    points: tuple[Point, ...]
    frames: Mapping[str, NDArray[np.float64]]
    failures: tuple[Failure, ...]
    facts: tuple[tuple[str, str], ...]
    start_facts: tuple[tuple[str, str], ...]
    grid: tuple[tuple[str, ...], ...]
    source_facts: tuple[tuple[str, ...], ...]
    notes: tuple[str, ...]
    cpu_s: float
    of_curve: Mapping[tuple[int, int], tuple[Point, ...]] = field(repr=False)

    def points_of(self, source: int, curve: int) -> tuple[Point, ...]:
        """The points of one curve on one source, by quality value."""
        return self.of_curve.get((source, curve), ())


def read(folder: Path) -> Sweep:
    """The sweep in `folder`, without points when every cell failed.

    Raises UsageError when it is no run folder, DatasetError when it has no rows or, with its line,
    when one is malformed.
    """
    file = folder / CELLS
    if not file.is_file():
        raise UsageError(
            f"{folder} is no corpus: it holds no cells.jsonl; name the folder that `vmaf-tune"
            " corpus` wrote"
        )
    table = corpus_rows.last_of_each_cell(corpus_rows.read(file))
    if not table:
        raise DatasetError(f"{file} holds no rows yet; let `vmaf-tune corpus` finish a cell first")
    rows = [_checked(file, number, row) for number, row in table]
    done = [row for row in rows if (row.get("status") or "ok") == "ok"]
    drawn = [row for row in done if _drawable(row)]
    plan = _plan(folder)
    clipped, unclipped = _frame_scores(folder, {str(row.get("key")) for row in drawn})
    sources = tuple(sorted({str(row["src"]) for row in drawn}))
    curves = tuple(sorted({_curve(row) for row in drawn}, key=_curve_order))
    points = sorted(
        (
            _point(row, sources.index(str(row["src"])), curves.index(_curve(row)), unclipped)
            for row in drawn
        ),
        key=lambda p: (p.source, p.curve, p.quality if p.quality is not None else p.kbps),
    )
    of_curve: dict[tuple[int, int], list[Point]] = {}
    for point in points:
        of_curve.setdefault((point.source, point.curve), []).append(point)
    return Sweep(
        name=folder.resolve().name,
        folder=folder,
        sources=sources,
        curves=curves,
        points=tuple(points),
        frames=clipped,
        failures=tuple(_failure(row) for row in rows if row.get("status") == "failed"),
        facts=_facts(plan, drawn or rows),
        start_facts=_start_facts(folder),
        grid=tuple(_grid_line(line) for line in _records(plan, "grid")),
        source_facts=_all_source_facts(plan, rows),
        notes=_notes(plan, rows, done, drawn),
        cpu_s=sum(row.get(name) or 0.0 for row in done for name in ("encode_cpu_s", "score_cpu_s")),
        of_curve={at: tuple(some) for at, some in of_curve.items()},
    )


def _checked(file: Path, number: int, row: Row) -> Row:
    """`row`, when the fields that are computed with are numbers and lists. Raises DatasetError with
    its line and field.
    """
    for name in _NUMBERS:
        value = row.get(name)
        if value is None:
            continue
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            raise DatasetError(
                f"{file}:{number}: {name} is {value!r:.40}; it must be a number, or null when not"
                " measured"
            )
        if name == "bitrate_kbps" and value <= 0:
            raise DatasetError(
                f"{file}:{number}: bitrate_kbps is {value}; a measured bitrate is more than 0"
            )
    for name in ("flags", "argv"):
        if not isinstance(row.get(name), list | None):
            raise DatasetError(
                f"{file}:{number}: {name} is {row[name]!r:.40}; it must be a list, or null"
            )
    return row


def _drawable(row: Row) -> bool:
    return (
        bool(row.get("src"))
        and row.get("bitrate_kbps") is not None
        and row.get("vmaf_score") is not None
    )


def _curve(row: Row) -> Curve:
    preset = row.get("preset")
    return Curve(
        encoder=str(row.get("encoder") or corpus_rows.EXTERNAL),
        preset=None if preset is None else str(preset),
        knob=str(row.get("rate_control") or "quality").lower(),
    )


def _curve_order(curve: Curve) -> tuple[int, str, int, str]:
    known = [*VOCABULARY, *ENCODERS]
    place = known.index(curve.encoder) if curve.encoder in known else len(known)
    return place, curve.encoder, preset_ordinal(curve.encoder, curve.preset), curve.preset or ""


def _point(row: Row, source: int, curve: int, unclipped: Mapping[str, float]) -> Point:
    num_frames, cpu_s = int(row.get("num_frames") or 0), row.get("encode_cpu_s")
    return Point(
        cell=corpus_rows.cell_name(row),
        source=source,
        curve=curve,
        quality=corpus_rows.quality(row),
        kbps=float(row["bitrate_kbps"]),
        vmaf=float(row["vmaf_score"]),
        vmaf_unclipped=unclipped.get(str(row.get("key")), float(row["vmaf_score"])),
        harmonic=row.get("vmaf_harmonic_mean"),
        lowest=row.get("vmaf_min"),
        p5=row.get("vmaf_p5"),
        cpu_s=cpu_s / num_frames if cpu_s and num_frames else None,
        size_bytes=row.get("size_bytes"),
        num_frames=num_frames,
        fps=_fps(row.get("fps")),
        command=command_text(row.get("argv") or ()),
        key=str(row.get("key")),
    )


def command_text(argv: Sequence[str]) -> str:
    """`argv` as one shell line; the placeholders {ref} and {out} stay bare, so that they are seen
    as such.
    """
    words = [
        a if a.removeprefix("file:") in ("{ref}", "{out}") else shlex.quote(a)
        for a in map(str, argv)
    ]
    return " ".join(["ffmpeg", *words] if words and words[0].startswith("-") else words)


def _fps(value: Any) -> float:
    try:
        return float(Fraction(str(value)))
    except (ValueError, ZeroDivisionError):
        return 0.0


def _failure(row: Row) -> Failure:
    error = row.get("error")
    facts: Mapping[str, Any] = (
        error if isinstance(error, Mapping) else {"class": str(error or "unknown")}
    )
    command = facts.get("command")
    tail = facts.get("stderr_tail") or ""
    return Failure(
        cell=str(row.get("cell") or corpus_rows.cell_name(row)),
        kind=str(facts.get("class") or "unknown"),
        message=str(facts.get("message") or ""),
        exit_code=facts.get("exit_code"),
        stderr="\n".join(tail) if isinstance(tail, list) else str(tail),
        command=command_text(command) if isinstance(command, list) else str(command or ""),
    )


def _frame_scores(
    folder: Path, keys: set[str]
) -> tuple[dict[str, NDArray[np.float64]], dict[str, float]]:
    """Per key the frame scores in order, and the mean of the unclipped ones where every frame has
    one.
    """
    table = _frame_table(folder)
    if table is None:
        return {}, {}
    rows = (
        table.to_pandas()
        .drop_duplicates(["key", "frame_index"], keep="last")
        .sort_values(["key", "frame_index"])
    )
    clipped: dict[str, NDArray[np.float64]] = {}
    unclipped: dict[str, float] = {}
    for key, part in rows.groupby("key", sort=False):
        if str(key) in keys:
            clipped[str(key)] = part["vmaf"].to_numpy(dtype=np.float64)
            if part["vmaf_unclipped"].notna().all():
                unclipped[str(key)] = float(part["vmaf_unclipped"].mean())
    return clipped, unclipped


def _frame_table(folder: Path) -> Any:
    """The columns key, frame_index, vmaf and vmaf_unclipped of the folder's frame rows, None
    without a frame file.
    """
    import pyarrow
    from pyarrow import json as arrow_json
    from pyarrow import parquet

    number = pyarrow.float64()
    schema = pyarrow.schema(
        [
            ("key", pyarrow.string()),
            ("frame_index", pyarrow.int64()),
            ("vmaf", number),
            ("vmaf_unclipped", number),
        ]
    )
    lines, packed = folder / FRAMES, folder / "frames.parquet"
    try:
        if packed.is_file() and not lines.is_file():
            have = set(parquet.read_schema(packed).names)
            table = parquet.read_table(
                packed, columns=[name for name in schema.names if name in have]
            )
            for name in set(schema.names) - have:
                table = table.append_column(
                    name, pyarrow.nulls(len(table), schema.field(name).type)
                )
            return table
        text = lines.read_bytes() if lines.is_file() else b""
        whole = text[: text.rfind(b"\n") + 1]  # a torn last line was never committed
        if not whole:
            return None
        only = arrow_json.ParseOptions(explicit_schema=schema, unexpected_field_behavior="ignore")
        return arrow_json.read_json(pyarrow.BufferReader(whole), parse_options=only)
    except pyarrow.ArrowException as failure:
        raise DatasetError(f"the frame rows in {folder} cannot be read: {failure}") from failure


def _facts(plan: Row, rows: Sequence[Row]) -> tuple[tuple[str, str], ...]:
    facts = [
        ("Command", command_text(plan.get("argv") or ())),
        ("ffmpeg", _all(row.get("ffmpeg_version") for row in rows)),
        ("libvmaf", _all(row.get("libvmaf_version") for row in rows)),
        ("VMAF model", _all(row.get("teacher") for row in rows)),
    ]
    for encoder in dict.fromkeys(
        _curve(row).encoder for row in sorted(rows, key=lambda r: _curve_order(_curve(r)))
    ):
        mine = [row for row in rows if _curve(row).encoder == encoder]
        facts.append(
            (encoder, _all(row.get("encoder_version") for row in mine) or "prints no version")
        )
    facts += [
        (
            "Picture formats",
            _all(
                f"{r['width']}x{r.get('height')} {r.get('pix_fmt')}" for r in rows if r.get("width")
            ),
        ),
        ("Threads per encode", _all(row.get("threads") for row in rows)),
        ("GPU and driver", _all(row.get("device") for row in rows)),
    ]
    return tuple((name, value) for name, value in facts if value)


def _plan(folder: Path) -> dict[str, Any]:
    file = folder / SWEEP
    try:
        plan = json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}
    except ValueError as failure:
        raise DatasetError(
            f"{file} is not JSON ({failure}); restore it, or move it away to report without it"
        ) from failure
    return plan if isinstance(plan, dict) else {}


def _start_facts(folder: Path) -> tuple[tuple[str, str], ...]:
    starts = list(read_jsonl(folder / RUNS))
    return (("starts so far", str(len(starts))), *_flat(starts[-1])) if starts else ()


def _records(plan: Row, name: str) -> list[Row]:
    """The records in a list of the plan."""
    part = plan.get(name)
    return [line for line in part if isinstance(line, Mapping)] if isinstance(part, list) else []


def _grid_line(line: Row) -> tuple[str, ...]:
    quality = ", ".join(map(str, line.get("quality") or ()))
    return (
        str(line.get("encoder")),
        str(line.get("preset") or "–"),
        quality,
        str(len(line.get("sources") or ())),
    )


def _all_source_facts(plan: Row, rows: Sequence[Row]) -> tuple[tuple[str, ...], ...]:
    windows = {str(source.get("name")): _window(source) for source in _records(plan, "sources")}
    names = sorted({str(row["src"]) for row in rows if row.get("src")})
    return tuple(
        _source_facts(name, windows.get(name, ""), [r for r in rows if str(r.get("src")) == name])
        for name in names
    )


def _window(source: Row) -> str:
    """Which part of a file was encoded: `from frame 286, crop 1920x800+0+140, scaled to
    640x360`.
    """
    scale = source.get("scale")
    parts = [
        f"from frame {source['start_frame']}" if source.get("start_frame") else "",
        f"crop {source['crop']}" if source.get("crop") else "",
        f"scaled to {'x'.join(map(str, scale))}" if isinstance(scale, list) else "",
    ]
    return ", ".join(filter(None, parts)) or "whole picture from the start"


def _source_facts(name: str, window: str, rows: Sequence[Row]) -> tuple[str, ...]:
    picture = _all(f"{r['width']}x{r.get('height')}" for r in rows if r.get("width"))
    counted = (_all(r.get(fact) for r in rows) for fact in ("fps", "num_frames"))
    return (
        name,
        _all(r.get("group") for r in rows),
        window,
        picture,
        *counted,
        str(sum(map(_drawable, rows))),
    )


def _all(values: Iterable[Any]) -> str:
    """The different values, most frequent first."""
    return ", ".join(
        value for value, _ in Counter(str(v) for v in values if v is not None).most_common()
    )


def _flat(value: Mapping[str, Any]) -> list[tuple[str, str]]:
    """A nested record as (readable name, text) lines; nulls and what the page says elsewhere are
    left out.
    """
    lines: list[tuple[str, str]] = []
    for name, part in value.items():
        label = name.replace("_", " ")
        if isinstance(part, Mapping):
            lines += _flat(part)
        elif name.endswith("_bytes") and isinstance(part, (int, float)):
            lines.append((label.removesuffix(" bytes"), f"{part / 2**30:.1f} GiB"))
        elif part is not None and name not in _SAID:
            lines.append((label, str(part)))
    return lines


def _notes(
    plan: Row, rows: Sequence[Row], done: Sequence[Row], drawn: Sequence[Row]
) -> tuple[str, ...]:
    notes = []
    planned = plan.get("num_cells") or 0
    if planned > len(rows):
        notes.append(
            f"The sweep is not finished: {len(rows):,} of {planned:,} planned cells have a row."
        )
    if len(done) > len(drawn):
        notes.append(
            f"{len(done) - len(drawn)} finished cells hold no bitrate or no score and are not"
            " drawn."
        )
    skipped = plan.get("skipped_encoders")
    if isinstance(skipped, list) and skipped:
        notes.append(
            "Left out of the sweep, as they cannot run on its machine:"
            f" {', '.join(map(str, skipped))}."
        )
    flags = Counter(str(flag) for row in drawn for flag in row.get("flags") or ())
    if flags:
        seen = ", ".join(f"{name} ({count})" for name, count in flags.most_common())
        notes.append(f"Some drawn cells carry flags: {seen}.")
    teachers = {str(row.get("teacher")) for row in drawn}
    if len(teachers) > 1:
        notes.append(
            "Scores of different VMAF models are mixed in this corpus: do not compare them."
        )
    return tuple(notes)
