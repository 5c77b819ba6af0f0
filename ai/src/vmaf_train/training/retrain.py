"""Train a run's folds again and compare: what `reproduce` does whole, and `ship` for a few folds.

Another processor rounds otherwise, and training amplifies that. The limits rest on the shipped
models trained again on an Intel processor after an AMD had shipped them: mean RMSE +2.5%, -0.2% and
+3.8%, the worst source's +0.4%, -0.9% and +16.2% (fr_regressor_v2, fr_regressor_v1, vmaf_tiny_v2);
PLCC within 1e-5 of the mean and 1.8e-4 of the worst source, SROCC within 8e-5 and 1.1e-3.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd

from vmaf_train.corpus import several
from vmaf_train.corpus.dataset import Dataset
from vmaf_train.corpus.folds import LOSO
from vmaf_train.errors import DatasetError, ModelError
from vmaf_train.results import tables
from vmaf_train.training.experiment import Experiment, held_out, plan, train_all
from vmaf_train.training.recipes import Recipe
from vmaf_train.training.train import choose_device

CORRELATION_TOLERANCE: Mapping[str, tuple[float, float]] = {
    "plcc": (0.0005, 0.002),
    "srocc": (0.001, 0.005),
}
"""Largest difference of the mean over sources, and of the worst source."""
ERROR_TOLERANCE = (0.1, 0.25)
"""The same for RMSE and MAE, as shares of the shipped figure."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """One figure as it was shipped and as it came out again."""

    model_id: str
    name: str
    shipped: float
    again: float
    tolerance: float

    @property
    def difference(self) -> float:
        """Its absolute value."""
        return abs(self.again - self.shipped)

    @property
    def holds(self) -> bool:
        """Within the tolerance; NaN is not."""
        return self.difference <= self.tolerance


def tolerance(metric: str, shipped: float, i: int) -> float:
    """Largest difference from `shipped` on another machine: of the mean (`i` 0) or of the worst
    source (`i` 1).
    """
    if metric in CORRELATION_TOLERANCE:
        return CORRELATION_TOLERANCE[metric][i]
    return ERROR_TOLERANCE[i] * shipped


def recipe_of(told: Mapping[str, Any]) -> Recipe:
    """The recipe that recipe.json or a sidecar holds. Raises ModelError for another form."""
    try:
        return Recipe(**{**told, "hidden": tuple(told["hidden"])})
    except (KeyError, TypeError) as failure:
        raise ModelError(f"the recipe is not one of this release: {failure}") from failure


def experiment_of(recipe: Recipe, data: Dataset, *, loso: bool, num_seeds: int) -> Experiment:
    """The experiment on the CPU that `recipe` was, with the frames that it learned from."""
    windows = recipe.window_share and not recipe.per_frame
    frames = several.load(data.paths, per_frame=True, kinds=data.kinds) if windows else None
    device = choose_device("cpu")
    return plan(recipe, data, frames, loso=loso, num_seeds=num_seeds, device=device, smoke=False)


def folds_again(
    told: Mapping[str, Any], data: Dataset, predictions: pd.DataFrame, num_folds: int
) -> list[Figure]:
    """Train `num_folds` random folds of a run again, all their seeds, and compare each with it.

    `told` is the run's recipe, `predictions` its table. For each fold the RMSE over its rows, seeds
    averaged. Raises DatasetError for more folds than there are.
    """
    recipe = replace(recipe_of(told), kfold=0)
    part = predictions[predictions["scheme"] == LOSO]
    names = sorted(part["fold"].astype(str).unique())
    if not 1 <= num_folds <= len(names):
        raise DatasetError(f"--retrain-folds {num_folds}: the run has {len(names)} folds")
    chosen = random.SystemRandom().sample(names, num_folds)
    whole = experiment_of(recipe, data, loso=True, num_seeds=int(part["seed"].nunique()))
    folds = tuple(f for f in whole.folds if f.scheme == LOSO and f.name in chosen)
    some = replace(whole, folds=folds)
    again = held_out(some, train_all(some))
    return [_fold_figure(recipe.model_id, fold.name, part, again) for fold in folds]


def _fold_figure(model_id: str, fold: str, told: pd.DataFrame, again: pd.DataFrame) -> Figure:
    before, after = _rmse(told, fold), _rmse(again, fold)
    return Figure(
        model_id=model_id,
        name=f"rmse without {fold}",
        shipped=before,
        again=after,
        tolerance=tolerance("rmse", before, 1),
    )


def _rmse(predictions: pd.DataFrame, fold: str) -> float:
    part = predictions[predictions["fold"].astype(str) == fold]
    table = tables.group_table(part, tables.MODEL)
    return float(np.mean(table["rmse"])) if len(table) else float("nan")


def as_sentences(figures: Sequence[Figure]) -> list[str]:
    """One sentence for each figure that did not come out again."""
    return [
        f"{figure.name}: {figure.shipped:.4f} was told, {figure.again:.4f} came out again"
        for figure in figures
        if not figure.holds
    ]
