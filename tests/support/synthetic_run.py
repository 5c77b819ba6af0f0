"""A finished training run made of formulas: the folder of docs/predictions.md as `vmaf-tune train`
leaves it.
"""

from __future__ import annotations

import json
import math
import random
from pathlib import Path

import pandas as pd

GROUPS = (
    "crowd",
    "</script><script>alert(2)</script>",
    "news",
    "snow",
    "trees",
    "water",
    "city",
    "street",
    "interview",
)
ENCODERS = ("libx264", "libsvtav1", "libvvenc")


def write(
    folder: Path, *, judged: bool = True, num_seeds: int = 3, corpus_digest: str = "0" * 64
) -> Path:
    """A complete run with a known error: predictions are 0.5 VMAF points above the score, and a
    little noise.
    """
    folder.mkdir(parents=True, exist_ok=True)
    rows = []
    for g, group in enumerate(GROUPS):
        for e, encoder in enumerate(ENCODERS):
            for quality in range(12):
                y = 99 - quality * (4 + g / 3) + e
                for seed in range(num_seeds):
                    noise = random.Random(f"{group}{encoder}{quality}{seed}").gauss(0, 0.3)
                    rows.append(
                        {
                            "key": f"{g}-{e}-{quality}",
                            "frame_index": None,
                            "group": group,
                            "encoder": encoder,
                            "scheme": "loso",
                            "fold": group,
                            "seed": seed,
                            "y": y,
                            "y_model": y + 0.5 + noise,
                            "y_blind_input": y + 1.0,
                            "y_codec_blind": y - 0.8 + noise,
                            "y_ridge": y + 2 * math.sin(quality),
                            "y_teacher": y + 0.25,
                            "preset": "medium",
                            "crf": float(quality),
                        }
                    )
    pd.DataFrame(rows).to_parquet(folder / "predictions.parquet")
    corpus = {"path": "runs/phase_a/other/cells.jsonl", "digest": corpus_digest}
    metrics = {"model_id": "fr_regressor_v2", "smoke": False, "corpus": corpus}
    documents = {
        "metrics": metrics,
        "recipe": {"name": "default"},
        "provenance": {},
        "candidate": {},
    }
    if judged:
        checks = [
            {
                "section": 1,
                "name": "groups",
                "value": 9,
                "limit": ">= 9",
                "verdict": "pass",
                "note": "",
            },
            {
                "section": 2,
                "name": "worst RMSE",
                "value": 3.25,
                "limit": "<= 3",
                "verdict": "hold",
                "note": "group <crowd>",
            },
            {
                "section": 3,
                "name": "incumbent",
                "value": None,
                "limit": "+ 0.1",
                "verdict": "n/a",
                "note": "none",
            },
        ]
        documents["verdict"] = {
            "model_id": "fr_regressor_v2",
            "verdict": "hold",
            "figures": {},
            "checks": checks,
        }
    for name, value in documents.items():
        (folder / f"{name}.json").write_text(json.dumps(value), encoding="utf-8")
    return folder
