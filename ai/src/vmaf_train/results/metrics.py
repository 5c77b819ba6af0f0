"""Agreement of predictions with the teacher's scores: PLCC, SROCC, RMSE, MAE.

A correlation of a constant is undefined: it is `None` with a reason here, never NaN and never 0.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]
METRICS = ("plcc", "srocc", "rmse", "mae")


@dataclass(frozen=True, slots=True, kw_only=True)
class Agreement:
    """How well `n` predictions agree with the scores. `rmse` and `mae` are in VMAF points,
    correlations in -1..1.

    `plcc` and `srocc` are None when undefined, and `reason` then says why.
    """

    n: int
    plcc: float | None
    srocc: float | None
    rmse: float
    mae: float
    reason: str | None = None


def undefined(y: Floats, p: Floats) -> str | None:
    """Why a correlation of `y` (scores) and `p` (predictions), both (N,), has no value; None when
    it has one.
    """
    if len(y) < 2:
        return "fewer than two rows"
    for name, values in (("scores", y), ("predictions", p)):
        # Rounding leaves a spread of some ulps on a constant: correlating that would be a
        # correlation of noise.
        if np.ptp(values) <= 1e-12 * max(1.0, float(np.abs(values).max())):
            return f"the {name} are constant"
    return None


def plcc(y: Floats, p: Floats) -> float | None:
    """Pearson's linear correlation of (N,) and (N,); None when one of them is constant or N < 2."""
    y, p = _checked(y, p)
    return None if undefined(y, p) else _pearson(y, p)


def srocc(y: Floats, p: Floats) -> float | None:
    """Spearman's rank correlation (ties share their mean rank) of (N,) and (N,); None
    as in `plcc`.
    """
    y, p = _checked(y, p)
    return None if undefined(y, p) else _pearson(_ranks(y), _ranks(p))


def rmse(y: Floats, p: Floats) -> float:
    """Root of the mean squared difference, in VMAF points."""
    y, p = _checked(y, p)
    return float(np.sqrt(np.mean((y - p) ** 2)))


def mae(y: Floats, p: Floats) -> float:
    """Mean absolute difference, in VMAF points."""
    y, p = _checked(y, p)
    return float(np.mean(np.abs(y - p)))


def agreement(y: Floats, p: Floats) -> Agreement:
    """All metrics of scores `y` (N,) and predictions `p` (N,). Raises ValueError for no rows or a
    value not finite.
    """
    y, p = _checked(y, p)
    return Agreement(
        n=len(y),
        plcc=plcc(y, p),
        srocc=srocc(y, p),
        rmse=rmse(y, p),
        mae=mae(y, p),
        reason=undefined(y, p),
    )


def _checked(y: ArrayLike, p: ArrayLike) -> tuple[Floats, Floats]:
    y, p = np.asarray(y, dtype=np.float64), np.asarray(p, dtype=np.float64)
    if y.shape != p.shape or y.ndim != 1 or not len(y):
        raise ValueError(
            f"scores of shape {y.shape} and predictions of shape {p.shape} cannot be compared"
        )
    if not (np.isfinite(y).all() and np.isfinite(p).all()):
        raise ValueError("a score or prediction is not finite")
    return y, p


def _ranks(values: Floats) -> Floats:
    """The rank of each value, 1 for the lowest; ties share their mean rank."""
    # Not by scipy.stats, which takes longer to import than most commands do.
    ranks: Floats = pd.Series(values).rank().to_numpy()
    return ranks


def _pearson(y: Floats, p: Floats) -> float:
    y, p = y - y.mean(), p - p.mean()
    # Scaled by their largest deviation first: squares of tiny spreads would underflow.
    y, p = y / np.abs(y).max(), p / np.abs(p).max()
    return float(np.clip(y @ p / np.sqrt((y @ y) * (p @ p)), -1.0, 1.0))
