"""What each training holds out: one group, one encoder, or a share of the groups."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from vmaf_train.corpus.dataset import Dataset, Ints
from vmaf_train.errors import DatasetError

LOSO, LOEO = "loso", "loeo"


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Fold:
    """Row numbers to train on and row numbers held out; `name` says what is held out."""

    scheme: str
    name: str
    train: Ints
    test: Ints


def loso_folds(data: Dataset) -> list[Fold]:
    """One fold per group, holding exactly that group out. Raises DatasetError for fewer than two
    groups.
    """
    if len(data.groups) < 2:
        raise DatasetError(
            f"{data.name} has one group only; holding a group out needs at least two sources"
        )
    return [_fold(LOSO, name, data.group == name) for name in data.groups]


def loeo_folds(data: Dataset) -> list[Fold]:
    """One fold per encoder, holding exactly its rows out; none for a corpus of one encoder. The
    sources are shared.
    """
    names = sorted(set(data.encoder))
    return [_fold(LOEO, name, data.encoder == name) for name in names] if len(names) > 1 else []


def kfold_folds(data: Dataset, k: int) -> list[Fold]:
    """`k` folds of whole groups, dealt by size so that folds are even. Raises DatasetError for k >
    groups.
    """
    sizes = Counter(data.group)
    if not 2 <= k <= len(sizes):
        raise DatasetError(
            f"{k} folds of whole groups need 2..{len(sizes)} folds: {data.name} has {len(sizes)}"
            " groups"
        )
    load_of = [0] * k
    fold_of: dict[str, int] = {}
    for name in sorted(sizes, key=lambda g: (-sizes[g], g)):
        fold_of[name] = load_of.index(min(load_of))
        load_of[fold_of[name]] += sizes[name]
    where = np.array([fold_of[g] for g in data.group])
    return [_fold(f"kfold{k}", f"fold{i}", where == i) for i in range(k)]


def _fold(scheme: str, name: str, held_out: NDArray[np.bool_]) -> Fold:
    return Fold(
        scheme=scheme, name=name, train=np.flatnonzero(~held_out), test=np.flatnonzero(held_out)
    )
