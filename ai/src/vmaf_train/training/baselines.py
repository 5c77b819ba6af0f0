"""What stands beside a model on the same folds: ridge regression on the six features, and the
teacher's own function, untrained. (The codec-blind network is a job.) Needs no torch.
"""

from __future__ import annotations

import numpy as np

from vmaf_train.contract import SCORE_RANGE
from vmaf_train.corpus.dataset import Dataset, Floats
from vmaf_train.teacher import Teacher
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


def teacher_scores(teacher: Teacher | None, data: Dataset) -> Floats:
    """The teacher's own function on every row (N,); NaN where there is none or it is another's."""
    if teacher is None or not teacher.applies_to(data.teacher, data.features_of):
        return np.full(len(data), np.nan)
    return teacher.score(data.features)
