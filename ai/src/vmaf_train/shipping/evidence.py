"""Checks 1 and 6 of the gate: what the verdict rests on, read again from the corpus.

Nothing that training wrote down is believed where the corpus can say it: rows, groups, scores,
scalers, frames and the baselines that cost nothing are computed anew.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import combinations
from typing import Any

import numpy as np
import pandas as pd

from vmaf_train.corpus import duplicates
from vmaf_train.corpus.dataset import Dataset, Floats
from vmaf_train.corpus.folds import loso_folds
from vmaf_train.results import tables
from vmaf_train.shipping.case import Case
from vmaf_train.shipping.verdict import Check, at_least, must
from vmaf_train.training.baselines import ridge
from vmaf_train.training.scaler import fit_scaler

MIN_GROUPS = 9
MIN_SEEDS = 3
SAME = 1e-3
"""VMAF points within which a figure that is computed again is the same."""
SAME_MEAN = 1e-6
"""Share within which a mean of frames is its cell's."""


def how_it_was_held_out(case: Case) -> Iterator[Check]:
    """Check 1, the part about how the predictions were made."""
    held_out = case.held_out
    few = "a gate needs nine sources: a corpus of fewer cannot show what a model does on a new one"
    groups, seeds = held_out["group"].nunique(), held_out["seed"].nunique()
    yield at_least(1, "LOSO groups", groups, MIN_GROUPS, few if groups < MIN_GROUPS else "")
    yield at_least(1, "LOSO seeds", seeds, MIN_SEEDS)
    yield must(1, "each fold holds out one whole group", _fold_problem(held_out))
    yield must(1, "the seeds are different networks", _seed_problem(held_out))
    rows: str | None = case.missing
    scalers = baselines = rows
    if case.data is not None:
        rows = _row_problem(held_out, case.data)
        scalers = _scaler_problem(case.run.metrics, case.data)
        baselines = _baseline_problem(case, case.data)
    yield must(1, "predictions are of the corpus", rows)
    yield must(1, "scaler fitted inside each fold", scalers)
    yield must(1, "baselines come out again", baselines)


def what_it_rests_on(case: Case) -> Iterator[Check]:
    """Check 6."""
    run, data = case.run, case.data
    smoke = run.smoke or run.sidecar.get("smoke") is not False
    made_up = "a smoke run learned from a synthetic corpus and is never shipped"
    yield must(6, "not a smoke run", made_up if smoke else None)
    missing = None if len(case.held_out) else "there are none; train with --loso"
    yield must(6, "out-of-fold predictions present", missing)
    digest = case.missing if data is None else _digest_problem(case, data)
    yield must(6, "corpus present with the recorded digest", digest)
    if data is None:
        return
    yield must(6, "features are the teacher's own", data.strange_features)
    yield must(6, "the frames' means are their cells'", _frame_problem(case))
    likeness = duplicates.find_in(data)
    twins = likeness.twins[0].sentence if likeness.twins else None
    yield must(6, "no two groups show the same pictures", twins, _judged(likeness))


def _judged(likeness: duplicates.Likeness) -> str:
    return f"yes, except {', '.join(likeness.unjudged)}" if likeness.unjudged else "yes"


def _fold_problem(held_out: pd.DataFrame) -> str | None:
    if not len(held_out):
        return "there are no leave-one-source-out predictions; train with --loso"
    pairs = held_out[["fold", "group"]].drop_duplicates()
    if pairs["fold"].duplicated().any() or pairs["group"].duplicated().any():
        return "a fold holds out more than one group, or a group is split over folds"
    if held_out.duplicated(["key", "frame_index", "seed"]).any():
        return "a row is predicted twice for one seed"
    if held_out.groupby("seed").size().nunique() > 1:
        return "the seeds do not predict the same rows"
    return None


def _seed_problem(held_out: pd.DataFrame) -> str | None:
    """Why the seeds say nothing about each other: two of them give the same answers."""
    order = held_out.sort_values(["key", "frame_index"], kind="stable")
    answers = {
        int(seed): part[tables.MODEL].to_numpy(dtype=np.float64)
        for seed, part in order.groupby("seed")
    }
    for a, b in combinations(sorted(answers), 2):
        if np.array_equal(answers[a], answers[b]):
            return f"seeds {a} and {b} give the same answer for every row: they are one network"
    return None


def _row_problem(held_out: pd.DataFrame, data: Dataset) -> str | None:
    """Why the predictions do not belong to the corpus: other rows, groups or scores."""
    both = _with_rows(held_out, data)
    strangers = int((both["_merge"] != "both").sum())
    if strangers or len(held_out) != len(data) * held_out["seed"].nunique():
        return "rows are predicted and not in the corpus, or in the corpus and not predicted"
    same_group = both["group"].astype(str) == both["true_group"].astype(str)
    if not same_group.all() or not np.allclose(both["y"], both["true_y"], rtol=0, atol=1e-3):
        return "a group or score in the predictions is not the corpus's"
    return None


def _with_rows(held_out: pd.DataFrame, data: Dataset) -> pd.DataFrame:
    """The predictions beside the rows of the corpus that they are of; `at` is the row's number."""
    frame = np.full(len(data), -1) if data.frame_index is None else data.frame_index
    rows = pd.DataFrame(
        {
            "key": data.key,
            "frame": frame,
            "true_group": data.group,
            "true_y": data.y,
            "at": np.arange(len(data)),
        }
    )
    one = held_out.assign(
        key=held_out["key"].astype(object),
        frame=held_out["frame_index"].fillna(-1).astype("int64"),
    )
    return one.merge(rows, on=["key", "frame"], how="outer", indicator=True)


def _scaler_problem(metrics: Any, data: Dataset) -> str | None:
    """Why the scalers that the folds recorded were not fitted on the fold's training rows alone."""
    recorded = metrics.get("scalers")
    if not isinstance(recorded, dict):
        return "the run did not record the scaler of each fold; train again"
    for group in data.groups:
        fold = recorded.get(group)
        if not isinstance(fold, dict):
            return f"the run did not record the scaler of the fold without {group}"
        fitted = fit_scaler(data.features[data.group != group])
        # A source moves these means by percents, a rounding to float32 by 1e-7.
        for name, values in zip(("mean", "std"), fitted, strict=True):
            if not np.allclose(fold.get(name, np.nan), values, rtol=1e-5, atol=1e-7):
                return (
                    f"the scaler of the fold without {group} is not the {name} of its training rows"
                )
    return None


def _baseline_problem(case: Case, data: Dataset) -> str | None:
    """Why a baseline that costs nothing to compute is not what the run holds for it."""
    both = _with_rows(case.held_out, data)
    if (both["_merge"] != "both").any():
        return "the predictions are not of the corpus"
    rows = both["at"].to_numpy(dtype=np.int64)
    again = {tables.RIDGE: _ridge(data)}
    teacher = case.teacher
    exact = teacher is not None and teacher.applies_to(data.teacher, data.features_of)
    if teacher is not None and exact and tables.has(case.held_out, tables.TEACHER):
        again[tables.TEACHER] = teacher.score(data.features)
    for column, values in again.items():
        told = both[column].to_numpy(dtype=np.float64)
        if not np.allclose(told, values[rows], rtol=0, atol=SAME):
            return f"{column} is not what comes out of the corpus again"
    return None


def _ridge(data: Dataset) -> Floats:
    found = np.full(len(data), np.nan)
    for fold in loso_folds(data):
        train = fold.train
        found[fold.test] = ridge(data.features[train], data.y[train], data.features[fold.test])
    return found


def _digest_problem(case: Case, data: Dataset) -> str | None:
    told = case.told
    if data.digest != told.digest:
        return f"the rows of {data.name} are not those that training recorded"
    if case.run.recipe.get("window_share") and told.frame_digest is None:
        return "it learned from frame rows, and training did not record their digest; train again"
    found = None if case.frames is None else case.frames.frame_digest
    if told.frame_digest is not None and told.frame_digest != found:
        return f"the frame rows beside {data.name} are not those that training recorded"
    return None


def _frame_problem(case: Case) -> str | None:
    """Why the frames that a model learned from are not those that the cells were pooled from."""
    cells, frames = case.cells, case.frames
    if cells is None or frames is None:
        return None
    keys, inverse = np.unique(frames.key.astype(str), return_inverse=True)
    count = np.bincount(inverse)
    values = np.column_stack([frames.features, frames.y])
    sums = np.column_stack([np.bincount(inverse, weights=column) for column in values.T])
    means = dict(zip(keys, sums / count[:, None], strict=True))
    for key, features, y in zip(cells.key, cells.features, cells.y, strict=True):
        pooled = means.get(str(key))
        if pooled is not None and not np.allclose(
            pooled, [*features, y], rtol=SAME_MEAN, atol=SAME_MEAN
        ):
            return f"the frames of the cell {key[:12]} have other means than its row"
    return None
