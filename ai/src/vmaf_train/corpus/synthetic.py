"""A synthetic corpus in the form of a real one, for `train --smoke` and tests. Its numbers mean
nothing.
"""

from __future__ import annotations

import hashlib
import math
from pathlib import Path

import numpy as np

from vmaf_train.contract import FEATURES, QUALITY_MAX
from vmaf_train.corpus.rows import CELLS, FRAMES, SWEEP, Row, to_lines
from vmaf_train.files import write_bytes, write_json

TEACHER = "synthetic-smoke"
ENCODERS = {"libx264": ("veryfast", "slow"), "libsvtav1": ("10", "5"), "libaom-av1": ("rt8", "5")}
_QUALITY_SHARES = (0.25, 0.45, 0.65, 0.85)
_EFFICIENCY = {"libx264": 1.0, "libsvtav1": 0.75, "libaom-av1": 0.7}


def write_corpus(
    folder: Path, *, num_sources: int = 4, num_frames: int = 12, seed: int = 0
) -> Path:
    """A run folder with `sweep.json`, `frames.jsonl` and `cells.jsonl` of `num_sources` x 24
    made-up cells.
    """
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(seed)
    cells: list[Row] = []
    frames: list[Row] = []
    for i in range(num_sources):
        source = {
            "name": f"smoke{i:02d}",
            "detail": rng.uniform(0.3, 1.0),
            "motion": rng.uniform(0.5, 15.0),
        }
        for encoder, presets in ENCODERS.items():
            for speed, preset in enumerate(presets):
                for share in _QUALITY_SHARES:
                    rows = _frames(rng, source, encoder, preset, share, speed, num_frames)
                    frames += rows
                    cells.append(_cell(rows))
    plan = {"sweep": "smoke", "num_cells": len(cells)}
    write_json(folder / SWEEP, plan)
    for name, table in ((FRAMES, frames), (CELLS, cells)):
        write_bytes(folder / name, to_lines(table))
    return folder


def _frames(
    rng: np.random.Generator,
    source: Row,
    encoder: str,
    preset: str,
    share: float,
    speed: int,
    count: int,
) -> list[Row]:
    quality = round(share * QUALITY_MAX[encoder])
    cell = f"{source['name']}/{encoder}/{preset}/{quality}"
    loss = 2.2 * share**2 * source["detail"] * _EFFICIENCY[encoder] * (1 - 0.1 * speed)
    rows = []
    for index in range(count):
        d = loss * float(np.exp(rng.normal(0, 0.08)))
        motion = 0.0 if index == 0 else source["motion"] * float(np.exp(rng.normal(0, 0.15)))
        vif = [math.exp(-d * k) for k in (1.4, 0.8, 0.5, 0.35)]
        adm = 1 - 0.25 * d**1.3
        score = 100 * (0.55 * adm**2 + 0.45 * sum(vif) / 4) + 1.5 * math.log1p(motion) - 2.0
        values = dict(zip(FEATURES, [adm, *vif, motion], strict=True))
        rows.append(
            {
                "key": hashlib.sha256(cell.encode()).hexdigest()[:32],
                "cell": cell,
                "src": source["name"],
                "encoder": encoder,
                "preset": preset,
                "crf": quality,
                "frame_index": index,
                "vmaf": min(max(score, 0.0), 100.0),
                "vmaf_unclipped": score,
                **values,
            }
        )
    return rows


def _cell(rows: list[Row]) -> Row:
    first = rows[0]
    return {
        "schema_version": 1,
        "cell": first["cell"],
        "key": first["key"],
        "status": "ok",
        "flags": [],
        "src": first["src"],
        "group": first["src"],
        "encoder": first["encoder"],
        "preset": first["preset"],
        "crf": first["crf"],
        "num_frames": len(rows),
        "vmaf_score": float(np.mean([r["vmaf"] for r in rows])),
        "per_frame_features": {name: float(np.mean([r[name] for r in rows])) for name in FEATURES},
        "teacher": TEACHER,
        "finished_at": "2000-01-01T00:00:00Z",
    }
