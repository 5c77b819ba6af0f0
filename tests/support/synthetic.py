"""A Phase A corpus made of formulas: the files of docs/rows.md, the same bytes on every call."""

from __future__ import annotations

import json
import math
import random
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from vmaf_train.contract import FEATURES
from vmaf_train.corpus.pooling import pooled

# encoder: rate-control knob, quality values, {preset: (bits against x264 medium, CPU ms per frame)}
ENCODERS: dict[str, tuple[str, tuple[int, ...], dict[str, tuple[float, float]]]] = {
    "libx264": (
        "crf",
        (18, 22, 26, 30, 35, 40),
        {"veryfast": (1.30, 6), "medium": (1.0, 20), "slow": (0.95, 36)},
    ),
    "libx265": (
        "crf",
        (18, 22, 26, 30, 35, 40),
        {"veryfast": (0.92, 28), "medium": (0.75, 56), "slow": (0.70, 100)},
    ),
    "libsvtav1": (
        "crf",
        (20, 28, 36, 44, 52, 60),
        {"10": (0.72, 12), "8": (0.62, 20), "5": (0.55, 70)},
    ),
    "libvvenc": ("qp", (20, 24, 28, 32, 37, 42), {"faster": (0.58, 90), "fast": (0.5, 290)}),
    "libvpx-vp9": ("crf", (20, 28, 36, 44, 52, 60), {"realtime": (1.05, 23), "good": (0.74, 95)}),
    "libaom-av1": (
        "crf",
        (20, 28, 36, 44, 52, 60),
        {"rt8": (0.85, 25), "6": (0.57, 90), "4": (0.53, 240)},
    ),
}
HOSTILE = (
    "</script><script>alert(1)</script>",
    "a \"quoted\" & <b>bold</b> 'name'",
    "C:\\odd\\back`tick${1}",
)


def sources(count: int) -> list[str]:
    """Names, the first of them hostile to careless HTML."""
    return [*HOSTILE, *(f"clip_{i:02d}_1080p" for i in range(count))][:count]


def write(
    folder: Path,
    *,
    names: Sequence[str] | None = None,
    encoders: Sequence[str] = tuple(ENCODERS),
    num_frames: int = 60,
    failed: int = 3,
) -> Path:
    """A finished sweep in `folder`: cells.jsonl, frames.jsonl, sweep.json and runs.jsonl."""
    folder.mkdir(parents=True, exist_ok=True)
    names = list(names if names is not None else sources(16))
    cells, frames = [], list[str]()
    for number, row in enumerate(_cells(names, encoders, num_frames)):
        scores = row.pop("scores")
        if number % 97 == 11 and failed > 0:
            failed -= 1
            row = _as_failed(row)
        else:
            frames.append(_frames(row, scores))
        cells.append(row)
    _jsonl(folder / "cells.jsonl", cells)
    (folder / "frames.jsonl").write_text("".join(frames), encoding="utf-8")
    started = {
        "started_at": "2026-11-21T04:00:00Z",
        "vmaf_tune": "0.1.0",
        "python": "3.11.7",
        "cores": 2,
    }
    _jsonl(folder / "runs.jsonl", [started])
    plan = {
        "schema_version": 1,
        "argv": ["vmaf-tune", "corpus", "clips"],
        "sources": [_source(n, s, num_frames) for s, n in enumerate(names)],
        "teacher": ["vmaf_v0.6.1"],
        "threads_per_encode": [1],
        "num_cells": len(cells),
        "grid": [],
        "skipped_encoders": [],
    }
    (folder / "sweep.json").write_text(json.dumps(plan), encoding="utf-8")
    return folder


def _source(name: str, number: int, num_frames: int) -> dict[str, Any]:
    return {
        "name": name,
        "group": name,
        "path": f"clips/{number}.mkv",
        "size_bytes": 1000,
        "sha256": f"{number:064x}",
        "start_frame": 0,
        "num_frames": num_frames,
        "crop": None,
        "scale": None,
        "deinterlace": False,
        "pix_fmt": "yuv420p",
        "fps": "30000/1001",
        "sar": "1",
        "color": ["unknown"] * 4,
        "stream_index": 0,
        "raw": None,
        "width": 1920,
        "height": 1080,
        "expected_frames": num_frames,
        "flags": [],
    }


def _cells(
    names: Sequence[str], encoders: Sequence[str], num_frames: int
) -> Iterator[dict[str, Any]]:
    for s, name in enumerate(names):
        hard = 0.6 + 1.2 * random.Random(name).random()
        for encoder in encoders:
            knob, values, presets = ENCODERS[encoder]
            for preset, (bits, cpu_ms) in presets.items():
                for quality in values:
                    wobble = random.Random(f"{name}{encoder}{preset}{quality}")
                    yield _cell(
                        name,
                        s,
                        encoder,
                        preset,
                        knob,
                        quality,
                        values,
                        bits,
                        cpu_ms,
                        hard,
                        num_frames,
                        wobble,
                    )


def _cell(
    name: str,
    s: int,
    encoder: str,
    preset: str,
    knob: str,
    quality: int,
    values: tuple[int, ...],
    bits: float,
    cpu_ms: float,
    hard: float,
    num_frames: int,
    wobble: random.Random,
) -> dict[str, Any]:
    coarse = (quality - values[0]) / (values[-1] - values[0])
    mean = 98.5 - 16 * coarse * hard - 34 * coarse**2.2 * hard
    # bits that buy this VMAF on this source, the same for every encoder but for its factor
    kbps = 14000 * hard * bits * math.exp(-3.6 * coarse) * (1 + 0.02 * wobble.uniform(-1, 1))
    shape = [
        math.sin(i / 7 + s) * 1.5 - (9 if i % 41 == 17 else 0) + wobble.uniform(-0.5, 0.5)
        for i in range(num_frames)
    ]
    scores = [min(100.0, max(0.0, mean + x - sum(shape) / num_frames)) for x in shape]
    cell = f"{name}/{encoder}/{preset}/{quality}"
    argv = [
        "ffmpeg",
        "-i",
        "{ref}",
        "-c:v",
        encoder,
        "-preset",
        preset,
        f"-{knob}",
        str(quality),
        "-threads",
        "1",
        "{out}",
    ]
    return {
        "schema_version": 1,
        "cell": cell,
        "key": f"{abs(hash_of(cell)):064x}",
        "status": "ok",
        "flags": [],
        "src": name,
        "group": name,
        "src_sha256": f"{s:064x}",
        "width": 1920,
        "height": 1080,
        "pix_fmt": "yuv420p",
        "fps": "30000/1001",
        "num_frames": num_frames,
        "encoder": encoder,
        "encoder_version": "9.9",
        "preset": preset,
        "crf": quality,
        "rate_control": knob,
        "argv": argv,
        "threads": 1,
        "size_bytes": int(kbps * 125 * num_frames / 30),
        "bitrate_kbps": kbps,
        "encode_wall_s": cpu_ms * num_frames / 950,
        "encode_cpu_s": cpu_ms * num_frames / 1000,
        "score_cpu_s": 0.08 * num_frames,
        **pooled(scores),
        "per_frame_features": dict.fromkeys(FEATURES, 0.9),
        "teacher": "vmaf_v0.6.1",
        "ffmpeg_version": "9.0.2",
        "libvmaf_version": "3.1.0",
        "device": None,
        "finished_at": "2026-11-21T04:10:00Z",
        "error": None,
        "scores": scores,
    }


def hash_of(text: str) -> int:
    """A digest of `text` that, unlike hash(), is the same in every process."""
    return random.Random(text).getrandbits(200)


def _frames(row: dict[str, Any], scores: Sequence[float]) -> str:
    """The lines of a cell's frames: JSON whose ends are the same for all of them."""
    same = {k: row[k] for k in ("key", "cell", "src", "encoder", "preset", "crf")}
    head = json.dumps(same).removesuffix("}")
    tail = json.dumps(dict.fromkeys(FEATURES, 0.9)).removeprefix("{")
    told = [json.dumps(score, allow_nan=False) for score in scores]
    return "".join(
        f'{head}, "frame_index": {i}, "vmaf": {score}, "vmaf_unclipped": {score}, {tail}\n'
        for i, score in enumerate(told)
    )


def _as_failed(row: dict[str, Any]) -> dict[str, Any]:
    measured = (
        "size_bytes",
        "bitrate_kbps",
        "vmaf_score",
        "vmaf_harmonic_mean",
        "vmaf_min",
        "vmaf_p5",
        "per_frame_features",
    )
    error = {
        "class": "encode_failed",
        "exit_code": 187,
        "stderr_tail": "Error opening <encoder>\nConversion failed!",
        "command": "ffmpeg -i ref.mkv -c:v " + row["encoder"] + " out.mkv",
    }
    return {**row, **dict.fromkeys(measured), "status": "failed", "error": error}


def _jsonl(path: Path, rows: Sequence[dict[str, Any]]) -> None:
    path.write_text("".join(json.dumps(r, allow_nan=False) + "\n" for r in rows), encoding="utf-8")
