"""Forged rows for tests: the one place that makes up a cell row and its frames, in the tool's own
types, so that what tests read is what the tool writes.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

from vmaf_train.contract import FEATURES
from vmaf_train.corpus.ids import parse_id
from vmaf_train.corpus.pooling import pooled
from vmaf_train.corpus.rows import CellRow, Failure, FailureKind, Row, lines, to_row

Written = tuple[Row, list[Row]]
"""A cell row and its frames, as `Writer.append_many` takes them."""


def measured(
    cell: str = "clip/libx264/fast/30", scores: Sequence[float] = (90.0, 80.5), **changes: Any
) -> Written:
    """A finished cell with these frame scores; `changes` are made to its row only."""
    name = parse_id(cell)
    assert name is not None
    key = str(changes.pop("key", hashlib.sha256(cell.encode()).hexdigest()))
    head = {
        "key": key,
        "cell": cell,
        "src": name.source,
        "encoder": name.encoder,
        "preset": name.preset,
        "crf": int(name.quality) if name.quality == int(name.quality) else name.quality,
    }
    frames = [_frame(head, i, score) for i, score in enumerate(scores)]
    row = CellRow(
        **head,
        group=name.source,
        width=64,
        height=48,
        pix_fmt="yuv420p",
        fps="25",
        num_frames=len(scores),
        rate_control="crf",
        argv=("-i", "file:{ref}", "file:{out}"),
        threads=1,
        size_bytes=1000 * len(scores),
        bitrate_kbps=200.0,
        encode_wall_s=0.5,
        encode_cpu_s=0.5,
        score_cpu_s=0.25,
        per_frame_features={n: sum(f[n] for f in frames) / len(frames) for n in FEATURES},
        teacher="vmaf_v0.6.1",
        ffmpeg_version="9",
        libvmaf_version="3",
        finished_at="2026-11-21T00:00:00Z",
        **pooled(sorted(scores)),
    )
    return _plain(to_row(row)) | changes, frames


def failed(
    cell: str = "clip/libx264/fast/30",
    kind: FailureKind = FailureKind.ENCODE_FAILED,
    **changes: Any,
) -> Written:
    """A failed cell."""
    row, _ = measured(cell)
    nothing = dict.fromkeys(("num_frames", "size_bytes", "bitrate_kbps", "per_frame_features"))
    scores = dict.fromkeys(name for name in row if name.startswith("vmaf_"))
    error = Failure(kind=kind, message="it broke", exit_code=1, stderr_tail="Error", command="x")
    told = {f: getattr(error, f) for f in ("message", "exit_code", "stderr_tail", "command")}
    why = {"status": "failed", "error": {"class": str(kind), **told}}
    return row | nothing | scores | why | changes, []


def _frame(head: Row, index: int, score: float) -> Row:
    features = {name: round(score / (100 + i), 6) for i, name in enumerate(FEATURES)}
    return {**head, "frame_index": index, "vmaf": score, "vmaf_unclipped": score, **features}


def _plain(row: Row) -> Row:
    found: Row = json.loads(json.dumps(row))
    return found


def write_jsonl(path: Path, rows: Iterable[Row]) -> Path:
    """Write rows as a JSONL file."""
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def write_folder(folder: Path, cells: Sequence[Written]) -> Path:
    """cells.jsonl and frames.jsonl of these cells."""
    folder.mkdir(parents=True, exist_ok=True)
    write_jsonl(folder / "frames.jsonl", (frame for _, frames in cells for frame in frames))
    write_jsonl(folder / "cells.jsonl", (row for row, _ in cells))
    return folder


def edit_folder(folder: Path, edit: Callable[[Row], Row | None]) -> Path:
    """The folder after `edit` has been at its cell rows (None = without the row). Frames go with
    their row, whatever key and id it has then.
    """
    old = read_jsonl(folder / "cells.jsonl")
    names = [(row["key"], row["cell"]) for row in old]
    new = [edit(row) for row in old]
    now = {name: row for name, row in zip(names, new, strict=True) if row}
    frames = read_jsonl(folder / "frames.jsonl")
    write_jsonl(folder / "cells.jsonl", (row for row in new if row))
    kept = ((frame, now.get((frame["key"], frame["cell"]))) for frame in frames)
    write_jsonl(
        folder / "frames.jsonl",
        (frame | {"key": row["key"], "cell": row["cell"]} for frame, row in kept if row),
    )
    return folder


def latest_rows(folder: Path) -> dict[str, Row]:
    """The last row of every cell of a run folder, by cell id."""
    return {row["cell"]: row for _, row in lines(folder / "cells.jsonl")}


def read_jsonl(path: Path) -> list[Row]:
    """The rows of a JSONL file; none where there is no file."""
    return [row for _, row in lines(path)]
