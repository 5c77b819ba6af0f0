from __future__ import annotations

import numpy as np
import pytest
from vmaf_train.training.baselines import ridge
from vmaf_train.training.scaler import fit_scaler


def test_ridge_minimises_its_own_objective() -> None:
    rng = np.random.default_rng(0)
    x, y = rng.normal(3, 2, (40, 6)), rng.normal(70, 10, 40)
    predictions = ridge(x, y, x, alpha=2.0)
    z = (x - x.mean(axis=0)) / x.std(axis=0)
    # At the minimum of sum (y - c - zw)^2 + alpha w^2: z' residual = alpha w, and the residuals sum
    # to 0.
    w = np.linalg.lstsq(z, predictions - y.mean(), rcond=None)[0]
    assert z.T @ (y - predictions) == pytest.approx(2.0 * w, abs=1e-8)
    assert (y - predictions).sum() == pytest.approx(0, abs=1e-8)


def test_ridge_finds_a_plane() -> None:
    rng = np.random.default_rng(1)
    x, other = rng.normal(size=(200, 6)), rng.normal(size=(5, 6))
    w = np.arange(6.0)
    assert ridge(x, x @ w + 50, other, alpha=1e-9) == pytest.approx(other @ w + 50)


def test_a_feature_of_one_source_is_a_constant() -> None:
    motion = np.full((77, 6), 0.1) + np.arange(77)[:, None] % 2 * 1e-17
    mean, std = fit_scaler(motion)
    assert mean == pytest.approx(0.1) and std.tolist() == [1.0] * 6
    assert np.isfinite(ridge(motion, np.arange(77.0), motion)).all()
