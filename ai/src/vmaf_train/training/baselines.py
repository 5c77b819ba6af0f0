"""What a model must beat on the same folds: ridge regression on the six features. (The codec-blind
network is a job.)
"""

from __future__ import annotations

import numpy as np

from vmaf_train.contract import SCORE_RANGE
from vmaf_train.corpus.dataset import Floats
from vmaf_train.training.scaler import fit_scaler

RIDGE_ALPHA = 1.0


def ridge(train_x: Floats, train_y: Floats, test_x: Floats, alpha: float = RIDGE_ALPHA) -> Floats:
    """Predictions (M,), VMAF points in 0..100, of ridge regression fitted on raw features (N,6) and
    scores (N,).

    Features are standardised with the training rows' mean and deviation; the intercept is not
    penalised.
    """
    mean, std = fit_scaler(train_x)
    x = (train_x - mean) / std
    weights = np.linalg.solve(
        x.T @ x + alpha * np.eye(x.shape[1]), x.T @ (train_y - train_y.mean())
    )
    predictions: Floats = np.clip((test_x - mean) / std @ weights + train_y.mean(), *SCORE_RANGE)
    return predictions
