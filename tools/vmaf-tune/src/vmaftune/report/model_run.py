"""What a report says about a training run: held-out tables, predictions against scores, residuals,
the gate's verdict.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from vmaf_train.corpus.dataset import LOSO, corpus_digest
from vmaf_train.errors import DatasetError
from vmaf_train.results import run_folder
from vmaf_train.results.metrics import METRICS

MAX_DRAWN = 4000
"""Points of the scatter plot; a run with more rows is thinned evenly, its tables are not."""

_BASELINES = {
    run_folder.CODEC_BLIND: "codec-blind network",
    run_folder.RIDGE: "ridge on the six features",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelRun:
    """A training run as the report shows it. `groups` holds one line per held-out group, means over
    seeds.

    `scatter` has lists of equal length: y, p (VMAF points, mean over seeds), group and encoder
    (indices into `group_names` and `encoder_names`). `bands` are quantiles of the residual p - y by
    band of y. `corpus` is the file it learned from and `digest` its digest; `same_corpus` tells
    whether that is the corpus shown beside it.
    """

    model_id: str
    folder: Path
    scheme: str
    smoke: bool
    num_rows: int
    num_seeds: int
    groups: tuple[Mapping[str, Any], ...]
    overall: Mapping[str, Mapping[str, float | None]]
    baselines: Mapping[str, float]
    group_names: tuple[str, ...]
    encoder_names: tuple[str, ...]
    scatter: Mapping[str, Sequence[float]]
    bands: tuple[Mapping[str, Any], ...]
    gate: tuple[Mapping[str, str], ...]
    verdict: str | None
    recipe: str
    corpus: str
    digest: str
    same_corpus: bool

    @property
    def origin(self) -> str:
        """Recipe and corpus in words."""
        return f"Recipe {self.recipe}, trained on {self.corpus} (digest {self.digest[:12]})"

    @property
    def warning(self) -> str | None:
        """A sentence when the model was trained on rows other than those shown."""
        return (
            None
            if self.same_corpus
            else (
                "Trained on another corpus than the one of this report: their figures do not belong"
                " together."
            )
        )

    @property
    def held_out(self) -> str:
        """What one fold holds out, in words."""
        return {"loso": "one source group", "loeo": "one encoder"}.get(
            self.scheme, "whole source groups"
        )


def read(folder: Path, corpus: Path) -> ModelRun:
    """The training run in `folder`, beside the sweep in `corpus`.

    Raises DatasetError when it is incomplete or holds no out-of-fold prediction.
    """
    run = run_folder.load_run(folder)
    schemes = run_folder.schemes(run.predictions)
    if not schemes:
        raise DatasetError(f"{folder} holds no out-of-fold predictions; train with --loso")
    scheme = LOSO if LOSO in schemes else schemes[0]
    rows = run.predictions[run.predictions["scheme"] == scheme]
    table = run_folder.group_table(run.predictions, run_folder.MODEL, scheme)
    lines = run_folder.over_seeds(table).to_dict("records")
    means = _seed_means(rows)
    verdict = _verdict(folder)
    learned = run.metrics.get("corpus") or {}
    group_names, encoder_names = (
        tuple(sorted(set(means[name].astype(str)))) for name in ("group", "encoder")
    )
    drawn = means.iloc[:: math.ceil(len(means) / MAX_DRAWN)]
    return ModelRun(
        model_id=run.model_id,
        folder=folder,
        scheme=scheme,
        smoke=run.smoke,
        num_rows=len(means),
        num_seeds=int(rows["seed"].nunique()),
        groups=tuple({k: _finite(v) for k, v in line.items()} for line in lines),
        overall={name: _overall(run_folder.spread(table, name)) for name in METRICS},
        baselines=_baselines(run.predictions, scheme),
        group_names=group_names,
        encoder_names=encoder_names,
        scatter={
            "y": [round(float(v), 2) for v in drawn["y"]],
            "p": [round(float(v), 2) for v in drawn[run_folder.MODEL]],
            "group": [group_names.index(str(v)) for v in drawn["group"]],
            "encoder": [encoder_names.index(str(v)) for v in drawn["encoder"]],
        },
        bands=tuple(_bands(means)),
        gate=tuple(_check(check) for check in verdict.get("checks", ())),
        verdict=verdict.get("verdict"),
        recipe=str(run.recipe.get("name", "unknown")),
        corpus=str(learned.get("path", "an unknown corpus")),
        digest=str(learned.get("digest", "unknown")),
        same_corpus=learned.get("digest") == corpus_digest(corpus),
    )


def _seed_means(rows: Any) -> Any:
    """One line per held-out row: score and prediction averaged over seeds."""
    index = ["key"] + (["frame_index"] if rows["frame_index"].notna().any() else [])
    kept = {"group": "first", "encoder": "first", "y": "first", run_folder.MODEL: "mean"}
    return rows.groupby(index, sort=True).agg(kept).reset_index()


def _overall(spread: run_folder.Spread | None) -> dict[str, float | None]:
    if spread is None:
        return {"mean": None, "std": None, "worst": None}
    return {"mean": spread.mean, "std": spread.std_groups, "worst": spread.worst_mean}


def _baselines(predictions: Any, scheme: str) -> dict[str, float]:
    """Mean RMSE over groups of every baseline that was trained on the same folds."""
    found = {}
    for column, name in _BASELINES.items():
        if run_folder.has(predictions, column):
            spread = run_folder.spread(run_folder.group_table(predictions, column, scheme), "rmse")
            if spread is not None:
                found[name] = spread.mean
    return found


def _bands(means: Any) -> list[dict[str, Any]]:
    y, residual = (
        means["y"].to_numpy(dtype=float),
        (means[run_folder.MODEL] - means["y"]).to_numpy(dtype=float),
    )
    bands = []
    edges = run_folder.SCORE_BANDS
    for low, high in zip(edges, edges[1:], strict=False):
        inside = residual[(y >= low) & ((y < high) | (high == edges[-1]))]
        if len(inside):
            quantiles = [
                round(float(q), 3) for q in np.quantile(inside, (0.05, 0.25, 0.5, 0.75, 0.95))
            ]
            rmse = float(np.sqrt(np.mean(inside**2)))
            bands.append(
                {
                    "band": f"{low:g}-{high:g}",
                    "n": len(inside),
                    "quantiles": quantiles,
                    "bias": float(inside.mean()),
                    "rmse": rmse,
                }
            )
    return bands


def _verdict(folder: Path) -> dict[str, Any]:
    file = folder / "verdict.json"
    try:
        value = json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}
    except ValueError as failure:
        raise DatasetError(
            f"{file} is not JSON ({failure}); run `vmaf-tune ship --dry-run` to write it anew"
        ) from failure
    return value if isinstance(value, dict) else {}


def _check(check: Mapping[str, Any]) -> dict[str, str]:
    def text(name: str) -> str:
        value = check.get(name)
        return "–" if value is None else f"{value:.4f}" if isinstance(value, float) else str(value)

    return {name: text(name) for name in ("name", "value", "limit", "verdict", "note")}


def _finite(value: Any) -> Any:
    return None if isinstance(value, float) and not math.isfinite(value) else value


def document(run: ModelRun) -> dict[str, Any]:
    """The training run as one JSON value; part of the `--json` of the command."""
    return {
        "model": run.model_id,
        "run": str(run.folder),
        "scheme": run.scheme,
        "smoke": run.smoke,
        "num_rows": run.num_rows,
        "num_seeds": run.num_seeds,
        "groups": [dict(line) for line in run.groups],
        "overall": {name: dict(values) for name, values in run.overall.items()},
        "baseline_rmse": dict(run.baselines),
        "residual_bands": [dict(band) for band in run.bands],
        "gate": [dict(check) for check in run.gate],
        "verdict": run.verdict,
        "recipe": run.recipe,
        "corpus": run.corpus,
        "corpus_digest": run.digest,
        "same_corpus": run.same_corpus,
    }
