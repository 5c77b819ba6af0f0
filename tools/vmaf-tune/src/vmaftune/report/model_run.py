"""What a report says about a training run: held-out tables, predictions against scores, residuals,
the gate's verdict.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from vmaf_train.corpus.dataset import corpus_digest
from vmaf_train.corpus.folds import LOSO
from vmaf_train.errors import DatasetError
from vmaf_train.results import run_folder, tables
from vmaf_train.results.metrics import METRICS

if TYPE_CHECKING:
    import pandas as pd

MAX_DRAWN = 4000
"""Points of the scatter plot; a run with more rows is thinned evenly, its tables are not."""

_BASELINES = {
    tables.CODEC_BLIND: "codec-blind network",
    tables.RIDGE: "ridge on the six features",
    tables.TEACHER: "the teacher's own function, untrained",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class GroupLine:
    """Agreement on one held-out group, means over seeds. None = not defined, and `reason` why."""

    group: str
    n: int
    plcc: float | None
    srocc: float | None
    rmse: float | None
    mae: float | None
    reason: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class OverGroups:
    """One metric over the groups: its mean, population standard deviation, and worst group."""

    mean: float | None = None
    std: float | None = None
    worst: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Scatter:
    """Held-out rows, lists of equal length: score `y`, prediction `p` (VMAF points, mean over
    seeds), and indices into the names of groups and encoders.
    """

    y: tuple[float, ...]
    p: tuple[float, ...]
    group: tuple[int, ...]
    encoder: tuple[int, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Band:
    """Residuals p - y of one band of y: their 5, 25, 50, 75 and 95% quantiles, mean and RMSE."""

    band: str
    n: int
    quantiles: tuple[float, ...]
    bias: float
    rmse: float


@dataclass(frozen=True, slots=True, kw_only=True)
class GateLine:
    """One check of the gate, as texts."""

    name: str
    value: str
    limit: str
    verdict: str
    note: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelRun:
    """A training run as the report shows it.

    `corpus` is the file it learned from and `digest` its digest; `same_corpus` tells whether that
    is the corpus shown beside it.
    """

    model_id: str
    folder: Path
    scheme: str
    smoke: bool
    num_rows: int
    num_seeds: int
    groups: tuple[GroupLine, ...]
    overall: Mapping[str, OverGroups]
    baselines: Mapping[str, float]
    group_names: tuple[str, ...]
    encoder_names: tuple[str, ...]
    scatter: Scatter
    bands: tuple[Band, ...]
    gate: tuple[GateLine, ...]
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
        if self.same_corpus:
            return None
        return (
            "Trained on another corpus than the one of this report: their figures do not belong"
            " together."
        )

    @property
    def held_out(self) -> str:
        """What one fold holds out, in words."""
        return {"loso": "one source group", "loeo": "one encoder"}.get(
            self.scheme, "whole source groups"
        )


def read(folder: Path, *corpora: Path) -> ModelRun:
    """The training run in `folder`, beside the sweeps in `corpora`.

    Raises DatasetError when it is incomplete or holds no out-of-fold prediction.
    """
    run = run_folder.load_run(folder)
    schemes = tables.schemes(run.predictions)
    if not schemes:
        raise DatasetError(f"{folder} holds no out-of-fold predictions; train with --loso")
    scheme = LOSO if LOSO in schemes else schemes[0]
    rows = run.predictions[run.predictions["scheme"] == scheme]
    table = tables.group_table(run.predictions, tables.MODEL, scheme)
    means = _seed_means(rows)
    verdict = _verdict(folder)
    learned = run.metrics.get("corpus") or {}
    groups = tuple(sorted(set(means["group"].astype(str))))
    encoders = tuple(sorted(set(means["encoder"].astype(str))))
    return ModelRun(
        model_id=run.model_id,
        folder=folder,
        scheme=scheme,
        smoke=run.smoke,
        num_rows=len(means),
        num_seeds=int(rows["seed"].nunique()),
        groups=_groups(tables.over_seeds(table)),
        overall={name: _overall(tables.spread(table, name)) for name in METRICS},
        baselines=_baselines(run.predictions, scheme),
        group_names=groups,
        encoder_names=encoders,
        scatter=_scatter(means, groups, encoders),
        bands=tuple(_bands(means)),
        gate=tuple(_check(check) for check in verdict.get("checks", ())),
        verdict=verdict.get("verdict"),
        recipe=str(run.recipe.get("name", "unknown")),
        corpus=str(learned.get("path", "an unknown corpus")),
        digest=str(learned.get("digest", "unknown")),
        same_corpus=learned.get("digest") in [corpus_digest(corpus) for corpus in corpora],
    )


def _groups(lines: pd.DataFrame) -> tuple[GroupLine, ...]:
    return tuple(
        GroupLine(
            group=str(line["group"]),
            n=int(line["n"]),
            plcc=_finite(line["plcc"]),
            srocc=_finite(line["srocc"]),
            rmse=_finite(line["rmse"]),
            mae=_finite(line["mae"]),
            reason=line["reason"] or None,
        )
        for line in lines.to_dict("records")
    )


def _scatter(means: pd.DataFrame, groups: Sequence[str], encoders: Sequence[str]) -> Scatter:
    drawn = means.iloc[:: math.ceil(len(means) / MAX_DRAWN)]
    return Scatter(
        y=tuple(round(float(v), 2) for v in drawn["y"]),
        p=tuple(round(float(v), 2) for v in drawn[tables.MODEL]),
        group=tuple(groups.index(str(v)) for v in drawn["group"]),
        encoder=tuple(encoders.index(str(v)) for v in drawn["encoder"]),
    )


def _seed_means(rows: pd.DataFrame) -> pd.DataFrame:
    """One line per held-out row: score and prediction averaged over seeds."""
    index = ["key"] + (["frame_index"] if rows["frame_index"].notna().any() else [])
    kept = {"group": "first", "encoder": "first", "y": "first", tables.MODEL: "mean"}
    return rows.groupby(index, sort=True).agg(kept).reset_index()


def _overall(spread: tables.Spread | None) -> OverGroups:
    if spread is None:
        return OverGroups()
    return OverGroups(mean=spread.mean, std=spread.std_groups, worst=spread.worst_mean)


def _baselines(predictions: pd.DataFrame, scheme: str) -> dict[str, float]:
    """Mean RMSE over groups of every baseline on the same folds."""
    found = {}
    for column, name in _BASELINES.items():
        if tables.has(predictions, column):
            spread = tables.spread(tables.group_table(predictions, column, scheme), "rmse")
            if spread is not None:
                found[name] = spread.mean
    return found


def _bands(means: pd.DataFrame) -> Iterator[Band]:
    y = means["y"].to_numpy(dtype=float)
    residual = means[tables.MODEL].to_numpy(dtype=float) - y
    edges = tables.SCORE_BANDS
    for low, high in zip(edges, edges[1:], strict=False):
        inside = residual[(y >= low) & ((y < high) | (high == edges[-1]))]
        if len(inside):
            quantiles = np.quantile(inside, (0.05, 0.25, 0.5, 0.75, 0.95))
            yield Band(
                band=f"{low:g}-{high:g}",
                n=len(inside),
                quantiles=tuple(round(float(q), 3) for q in quantiles),
                bias=float(inside.mean()),
                rmse=float(np.sqrt(np.mean(inside**2))),
            )


def _verdict(folder: Path) -> Mapping[str, Any]:
    file = folder / "verdict.json"
    try:
        value = json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}
    except (ValueError, RecursionError) as failure:
        raise DatasetError(
            f"{file} is not JSON ({failure}); run `vmaf-tune ship --dry-run` to write it anew"
        ) from failure
    return value if isinstance(value, dict) else {}


def _check(check: Mapping[str, object]) -> GateLine:
    return GateLine(
        name=_text(check.get("name")),
        value=_text(check.get("value")),
        limit=_text(check.get("limit")),
        verdict=_text(check.get("verdict")),
        note=_text(check.get("note")),
    )


def _text(value: object) -> str:
    if value is None:
        return "–"
    return f"{value:.4f}" if isinstance(value, float) else str(value)


def _finite(value: float | None) -> float | None:
    return None if value is None or not math.isfinite(value) else float(value)
