"""What standardises raw features, fitted on the training rows of one fold."""

from __future__ import annotations

import numpy as np

from vmaf_train.corpus.dataset import Floats


def fit_scaler(features: Floats) -> tuple[Floats, Floats]:
    """Mean and population deviation (6,) of raw features (N,6), the training rows of a fold; a
    constant gets 1.

    Constant = a spread that is only rounding: motion2 depends on the source alone, so a fold of one
    source has that.
    """
    mean, std = features.mean(axis=0), features.std(axis=0)
    return mean, np.where(std > 1e-9 * (1 + np.abs(mean)), std, 1.0)
