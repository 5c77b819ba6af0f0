"""A run folder's rows: write, read, repair. The only module that writes cells.jsonl and
frames.jsonl.

A cell's frames are one append, synced before its cell row; the cell row is the commit. One process
writes at a time.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, Any

from vmaf_train.contract import FEATURES, feature_set

from vmaftune.cell import SCHEMA_VERSION, Cell, Tools
from vmaftune.cell import SWEEP as SWEEP
from vmaftune.errors import FolderError, ToolError, UsageError
from vmaftune.media.encode import CellFailure, Encode
from vmaftune.media.metrics import FULL
from vmaftune.media.score import Frame, Score

CELLS, FRAMES, RUNS, LOCK = "cells.jsonl", "frames.jsonl", "runs.jsonl", ".lock"
TABLE = "features.parquet"
_HEAD = (
    "src",
    "group",
    "cell",
    "key",
    "dis_basename",
    "teacher",
    "frame_index",
    "vmaf",
    "vmaf_unclipped",
)


def now() -> str:
    """UTC time as ISO text with seconds."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def number(value: float) -> float | int:
    """A quality value as a JSON number: 23, not 23.0, when integral."""
    return int(value) if float(value).is_integer() else value


def read_jsonl(path: Path) -> Iterator[dict[str, Any]]:
    """Rows of a JSONL file; a torn last line (no newline) is passed over, any other bad line is an
    error.

    Raises UsageError naming file and line.
    """
    if not path.exists():
        return
    with path.open("rb") as file:
        for i, line in enumerate(file, 1):
            if not line.endswith(b"\n"):
                return
            try:
                row = json.loads(line)
            except ValueError as failure:
                raise UsageError(
                    f"{path}, line {i} is not JSON: {failure}; restore the file or use --out"
                ) from failure
            if not isinstance(row, dict):
                raise UsageError(
                    f"{path}, line {i} is not an object; restore the file or use --out"
                )
            yield row


def cell_rows(folder: Path) -> Iterator[dict[str, Any]]:
    """All cell rows of a run folder. Raises UsageError naming file and line of one that is none of
    ours.
    """
    for i, row in enumerate(read_jsonl(folder / CELLS), 1):
        if not all(isinstance(row.get(name), str) for name in ("cell", "key", "status")):
            raise UsageError(
                f"{folder / CELLS}, line {i} is no cell row; restore the file or use --out"
            )
        yield row


def latest_rows(folder: Path) -> dict[str, dict[str, Any]]:
    """The last cell row of every cell in a run folder, by cell id. Raises UsageError as
    `cell_rows`.
    """
    return {row["cell"]: row for row in cell_rows(folder)}


def write_json(path: Path, value: Any) -> None:
    """Write a JSON document so that it appears whole or not at all."""
    beside = path.with_name(path.name + ".tmp")
    try:
        with beside.open("w", encoding="utf-8") as file:
            json.dump(value, file, ensure_ascii=False, allow_nan=False, indent=1)
            file.write("\n")
            file.flush()
            os.fsync(file.fileno())
        os.replace(beside, path)
    except BaseException:
        beside.unlink(missing_ok=True)
        raise


def append_run(folder: Path, row: Mapping[str, Any]) -> None:
    """Note one start of the command in runs.jsonl."""
    with (folder / RUNS).open("a", encoding="utf-8") as file:
        file.write(json.dumps(row, ensure_ascii=False, allow_nan=False) + "\n")


def lock(folder: Path) -> IO[str]:
    """Hold a run folder for this process; the lock ends with the process, however it ends.

    Raises FolderError when another process holds it.
    """
    file = (folder / LOCK).open("a+")
    try:
        if os.name == "posix":
            import fcntl

            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        else:
            import msvcrt

            msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)  # type: ignore[attr-defined]
    except OSError as failure:
        file.seek(0)
        holder = file.read().strip() or "another process"
        file.close()
        raise FolderError(
            f"{folder} is in use by {holder}; wait for it, stop it, or write elsewhere with --out"
        ) from failure
    file.truncate(0)
    file.write(f"process {os.getpid()}")
    file.flush()
    return file


def cell_facts(
    cell: Cell, key: str, argv: Sequence[str], tools: Tools, device: str | None = None
) -> dict[str, Any]:
    """The part of a cell row that is known before anything runs; `device` names GPU and driver,
    None for the CPU.
    """
    source = cell.window
    return {
        "schema_version": SCHEMA_VERSION,
        "cell": cell.id,
        "key": key,
        "status": "ok",
        "flags": list(source.flags),
        "src": source.name,
        "group": source.group,
        "src_sha256": source.sha256,
        "width": source.width,
        "height": source.height,
        "pix_fmt": cell.pix_fmt,
        "fps": source.fps,
        "num_frames": None,
        "encoder": cell.encoder.name,
        "encoder_version": None,
        "preset": cell.preset,
        "crf": number(cell.quality),
        "rate_control": cell.encoder.rate_control,
        "argv": list(argv),
        "threads": cell.threads,
        "size_bytes": None,
        "bitrate_kbps": None,
        "encode_wall_s": None,
        "encode_cpu_s": None,
        "score_cpu_s": None,
        "vmaf_score": None,
        "vmaf_harmonic_mean": None,
        "vmaf_min": None,
        "vmaf_p5": None,
        "per_frame_features": None,
        "scorer": None,
        "scorer_difference": None,
        "teacher": cell.teacher,
        "features_of": feature_set(cell.teacher),
        "ffmpeg_version": tools.ffmpeg_version,
        "libvmaf_version": tools.libvmaf_version,
        "device": device,
        "finished_at": None,
        "error": None,
    }


def pool(frames: Sequence[Frame]) -> dict[str, Any]:
    """Poolings of the clipped per-frame scores, VMAF points, and the arithmetic means of the six
    features.

    Harmonic mean as libvmaf defines it, n / sum(1 / (x + 1)) - 1, so that a frame at 0 counts; p5
    is the 5th percentile with linear interpolation between frames.
    """
    scores = sorted(f.vmaf for f in frames)
    n = len(scores)
    place = 0.05 * (n - 1)
    low = int(place)
    high = min(low + 1, n - 1)
    return {
        "vmaf_score": sum(scores) / n,
        "vmaf_harmonic_mean": n / sum(1 / (s + 1) for s in scores) - 1,
        "vmaf_min": scores[0],
        "vmaf_p5": scores[low] + (scores[high] - scores[low]) * (place - low),
        "per_frame_features": {
            name: sum(f.features[i] for f in frames) / n for i, name in enumerate(FEATURES)
        },
    }


def ok_row(facts: Mapping[str, Any], cell: Cell, made: Encode, score: Score) -> dict[str, Any]:
    """A finished cell's row. `size_bytes` is the video stream's packets; kbps from those, the
    frames and their rate.
    """
    num_frames = len(score.frames)
    seconds = num_frames / cell.window.frame_rate
    changed = made.rate_control is not None and made.rate_control.lower() != facts["rate_control"]
    return {
        **facts,
        **pool(score.frames),
        "num_frames": num_frames,
        "encoder_version": made.encoder_version,
        "rate_control": made.rate_control.lower() if made.rate_control else facts["rate_control"],
        "flags": [*facts["flags"], "rate_control_changed"] if changed else facts["flags"],
        "size_bytes": score.distorted.num_bytes,
        "bitrate_kbps": float(score.distorted.num_bytes * 8 / 1000 / seconds),
        "encode_wall_s": round(made.wall_s, 4),
        "encode_cpu_s": _seconds(made.cpu_s),
        "score_cpu_s": _seconds(score.cpu_s),
        "scorer": score.scorer,
        "scorer_difference": score.difference,
        "finished_at": now(),
    }


def failed_row(facts: Mapping[str, Any], failure: CellFailure, command: str) -> dict[str, Any]:
    """A failed cell's row: why, the exit code, the end of stderr, and commands that can
    be pasted.
    """
    return {
        **facts,
        "status": "failed",
        "finished_at": now(),
        "error": {
            "class": failure.kind,
            "message": str(failure),
            "exit_code": failure.exit_code,
            "stderr_tail": failure.stderr_tail,
            "command": command,
        },
    }


def frame_rows(facts: Mapping[str, Any], frames: Sequence[Frame]) -> list[dict[str, Any]]:
    """The frame rows of one cell."""
    head = {name: facts[name] for name in ("key", "cell", "src", "encoder", "preset", "crf")}
    return [
        {
            **head,
            "frame_index": f.index,
            "vmaf": f.vmaf,
            "vmaf_unclipped": f.vmaf_unclipped,
            **dict(zip(FEATURES, f.features, strict=True)),
        }
        for f in frames
    ]


def _seconds(value: float | None) -> float | None:
    return None if value is None else round(value, 4)


class Writer:
    """The single writer of a run folder. Open it only under `lock`.

    Opening repairs what a killed run left: a torn last line of either file, and frames after the
    last one whose key has an ok cell row. `notices` says what was cut.
    """

    def __init__(self, folder: Path) -> None:
        self.notices: list[str] = []
        self._cells = folder / CELLS
        self._frames = folder / FRAMES
        self._repair_tail(self._cells)
        self._repair_frames({row["key"] for row in cell_rows(folder) if row["status"] == "ok"})

    def append(self, row: Mapping[str, Any], frames: Sequence[Mapping[str, Any]] = ()) -> None:
        """Write a cell's frames, then its row, each as one append that reaches the disk before this
        returns.

        Raises ToolError when the disk is full; what was written before stays whole.
        """
        if frames:
            self._write(self._frames, frames)
        self._write(self._cells, [row])

    def _write(self, path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
        text = "".join(
            json.dumps(row, ensure_ascii=False, allow_nan=False) + "\n" for row in rows
        ).encode()
        size = path.stat().st_size if path.exists() else 0
        try:
            with path.open("ab", buffering=0) as file:
                written = 0
                while written < len(text):
                    written += file.write(text[written:]) or 0
                os.fsync(file.fileno())
        except OSError as failure:
            with suppress(OSError):
                os.truncate(path, size)
            raise ToolError(
                f"{path} cannot be written ({failure.strerror}); make room and run the same command"
                " again: finished cells are kept"
            ) from failure

    def _repair_tail(self, path: Path) -> None:
        size = path.stat().st_size if path.exists() else 0
        if not size:
            return
        with path.open("rb+") as file:
            end = size
            while end:
                begin = max(0, end - 65536)
                file.seek(begin)
                newline = file.read(end - begin).rfind(b"\n")
                if newline >= 0:
                    end = begin + newline + 1
                    break
                end = begin
            if end < size:
                file.truncate(end)
                self.notices.append(
                    f"{path.name}: a torn last line was removed (the run before was killed)"
                )

    def _repair_frames(self, keys: set[str]) -> None:
        if not self._frames.exists():
            return
        self._repair_tail(self._frames)
        keep = position = dropped = 0
        with self._frames.open("rb") as file:
            for i, line in enumerate(file, 1):
                position += len(line)
                try:
                    known = json.loads(line)["key"] in keys
                except (ValueError, KeyError, TypeError) as failure:
                    raise UsageError(
                        f"{self._frames}, line {i} is no frame row; restore the file or use --out"
                    ) from failure
                if known:
                    keep, dropped = position, 0
                else:
                    dropped += 1
        if dropped:
            os.truncate(self._frames, keep)
            self.notices.append(f"{FRAMES}: {dropped} frames without a finished cell were removed")


def write_table(folder: Path) -> int:
    """Make features.parquet (zstd) of a run folder from its rows, whole or not at all; returns its
    number of frames.

    One row per frame of every ok cell, in the order of their ids, with the cell's flags.
    """
    import pyarrow
    from pyarrow import parquet

    ok = sorted(
        (row for row in latest_rows(folder).values() if row["status"] == "ok"),
        key=lambda row: row["cell"],
    )
    cells = {row["key"]: row for row in ok}
    frames: dict[str, list[Mapping[str, Any]]] = {key: [] for key in cells}
    for frame in read_jsonl(folder / FRAMES):
        if frame["key"] in frames:
            frames[frame["key"]].append(frame)
    rows = [
        {
            **frame,
            **{n: cells[key][n] for n in ("group", "teacher", "flags")},
            "dis_basename": cells[key]["distorted"],
        }
        for key, of_cell in frames.items()
        for frame in of_cell
    ]
    number, text = pyarrow.float64(), pyarrow.string()
    kinds = {"frame_index": pyarrow.int64(), "vmaf": number, "vmaf_unclipped": number}
    schema = pyarrow.schema(
        [
            *((name, kinds.get(name, text)) for name in _HEAD),
            *((name, number) for name in FULL),
            ("flags", pyarrow.list_(text)),
        ]
    )
    beside = folder / f"{TABLE}.tmp"
    with beside.open("wb") as file:
        parquet.write_table(
            pyarrow.Table.from_pylist(rows, schema=schema), file, compression="zstd"
        )
        file.flush()
        os.fsync(file.fileno())
    os.replace(beside, folder / TABLE)
    return len(rows)
