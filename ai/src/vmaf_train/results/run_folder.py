"""The folder of a training run, as it lies on disk. Needs no torch: `eval`, the gate and the cards
read through here.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from vmaf_train.contract import MODELS
from vmaf_train.errors import DatasetError

PREDICTIONS, METRICS_FILE = "predictions.parquet", "metrics.json"
CANDIDATE, RECIPE = "candidate.onnx", "recipe.json"
PROVENANCE, VERDICT = "provenance.json", "verdict.json"
COLUMNS = (
    "key",
    "frame_index",
    "group",
    "encoder",
    "scheme",
    "fold",
    "seed",
    "y",
    "y_model",
    "y_blind_input",
    "y_codec_blind",
    "y_ridge",
)
"""Columns of predictions.parquet that every run has; y_teacher (since 0.2.0), `preset` and `crf`
come after them.
"""
SMOKE_SUFFIX = "-smoke"


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Run:
    """A complete training run, as it lies on disk. `predictions` has the columns of
    docs/predictions.md.
    """

    path: Path
    model_id: str
    predictions: pd.DataFrame
    metrics: Mapping[str, Any]
    recipe: Mapping[str, Any]
    provenance: Mapping[str, Any]
    sidecar: Mapping[str, Any]
    smoke: bool


def newest_run(runs_dir: Path | str, model_id: str) -> Path:
    """The newest complete run folder of `model_id`; smoke runs are passed over. Raises DatasetError
    without one.
    """
    folders = [f.parent for f in Path(runs_dir).glob(f"{model_id}/*/{METRICS_FILE}")]
    real = sorted(f for f in folders if not f.name.endswith(SMOKE_SUFFIX))
    if not real:
        raise DatasetError(
            f"no complete run of {model_id} under {runs_dir}; try `vmaf-tune train {model_id}"
            " --loso`"
        )
    return real[-1]


def load_run(path: Path | str) -> Run:
    """The run in folder `path`. Raises DatasetError when it is incomplete, or a file is missing or
    has another form.
    """
    folder = Path(path)
    if not folder.is_dir():
        raise DatasetError(
            f"{folder} does not exist, or is not a folder; name the folder of a training run"
        )
    if not (folder / METRICS_FILE).is_file():
        raise DatasetError(f"{folder} is not a complete run: it has no {METRICS_FILE}; train again")
    metrics = _json(folder / METRICS_FILE)
    if metrics.get("model_id") not in tuple(MODELS):  # it may be no string
        raise DatasetError(
            f"{folder / METRICS_FILE} names no model of ours: model_id is"
            f" {metrics.get('model_id')!r}, known are {', '.join(MODELS)}; train again"
        )
    predictions = load_predictions(folder / PREDICTIONS)
    return Run(
        path=folder,
        model_id=metrics["model_id"],
        predictions=predictions,
        metrics=metrics,
        recipe=_json(folder / "recipe.json"),
        provenance=_json(folder / "provenance.json"),
        sidecar=_json(folder / "candidate.json"),
        smoke=bool(metrics.get("smoke", True)),
    )


def require_facts(run: Run) -> None:
    """Raise DatasetError unless `run` says what it learned from and how: facts that `eval` and the
    model card tell.
    """
    corpus = run.metrics.get("corpus")
    facts = corpus if isinstance(corpus, dict) else {}
    wanted = ("path", "digest", "num_rows", "num_groups", "groups", "encoders", "teacher")
    missing = [f"corpus.{name}" for name in wanted if name not in facts]
    missing += [name for name in ("smoke", "num_seeds") if name not in run.metrics]
    if missing:
        raise DatasetError(
            f"{run.path / METRICS_FILE} does not say {', '.join(missing)}; train again"
        )
    if "name" not in run.recipe:
        raise DatasetError(
            f"{run.path / 'recipe.json'} does not say the recipe's name; train again"
        )


def load_predictions(file: Path) -> pd.DataFrame:
    """The table of out-of-fold predictions. Raises DatasetError when unreadable, or a column is
    missing or has gaps.
    """
    try:
        table = pd.read_parquet(file)
    except (OSError, ValueError) as failure:
        raise DatasetError(f"{file} is not a readable table: {failure}") from failure
    missing = [name for name in COLUMNS if name not in table.columns]
    if missing:
        raise DatasetError(f"{file} lacks the columns {', '.join(missing)}; train again")
    for name in ("y", "y_model"):
        if not np.isfinite(table[name].to_numpy(dtype=np.float64)).all():
            raise DatasetError(f"{file}: column {name} holds a value that is not finite")
    return table


def _json(file: Path) -> dict[str, Any]:
    try:
        value = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as failure:
        raise DatasetError(f"{file} is not readable JSON: {failure}") from failure
    if not isinstance(value, dict):
        raise DatasetError(f"{file} must hold a JSON object")
    return value
