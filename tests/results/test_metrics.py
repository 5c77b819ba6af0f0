from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy import stats
from vmaf_train.results import metrics

SCORES = st.integers(0, 400).map(lambda n: n / 4)


def test_hand_worked_numbers() -> None:
    y, p = np.array([1.0, 2.0, 3.0, 4.0]), np.array([2.0, 2.0, 4.0, 4.0])
    found = metrics.agreement(y, p)
    assert found.n == 4
    assert found.rmse == pytest.approx(np.sqrt(2 / 4))
    assert found.mae == pytest.approx(0.5)
    # deviations -1.5 -.5 .5 1.5 and -1 -1 1 1: sum of products 4, norms sqrt(5) and 2
    assert found.plcc == pytest.approx(4 / (2 * np.sqrt(5)))
    # tied ranks 1.5 1.5 3.5 3.5 against 1 2 3 4: the same figures
    assert found.srocc == pytest.approx(4 / (2 * np.sqrt(5)))
    assert found.reason is None


@settings(deadline=None)
@given(st.integers(3, 40).flatmap(lambda n: st.tuples(*[arrays(float, n, elements=SCORES)] * 2)))
def test_as_scipy_says(pair: tuple[metrics.Floats, metrics.Floats]) -> None:
    y, p = pair
    if np.ptp(y) == 0 or np.ptp(p) == 0:
        assert metrics.plcc(y, p) is None and metrics.srocc(y, p) is None
        return
    assert metrics.plcc(y, p) == pytest.approx(stats.pearsonr(y, p).statistic, abs=1e-9)
    assert metrics.srocc(y, p) == pytest.approx(stats.spearmanr(y, p).statistic, abs=1e-9)


@pytest.mark.parametrize(
    ("y", "p", "reason"),
    [
        ([5.0, 5.0, 5.0], [1.0, 2.0, 3.0], "the scores are constant"),
        ([1.0, 2.0, 3.0], [97.3, 97.3, np.nextafter(97.3, 98)], "the predictions are constant"),
        ([1.0], [1.0], "fewer than two rows"),
    ],
)
def test_undefined_correlation_is_none_with_a_reason(
    y: list[float], p: list[float], reason: str
) -> None:
    found = metrics.agreement(np.array(y), np.array(p))
    assert (found.plcc, found.srocc, found.reason) == (None, None, reason)
    assert np.isfinite(found.rmse)


def test_small_spreads_keep_their_correlation() -> None:
    y = 96 + np.arange(10) * 1e-7
    assert metrics.plcc(y, 3 * y) == pytest.approx(1.0)


@pytest.mark.parametrize(
    ("y", "p"), [([], []), ([1.0], [1.0, 2.0]), ([1.0, np.nan], [1.0, 2.0]), ([1.0], [np.inf])]
)
def test_refuses_what_cannot_be_compared(y: list[float], p: list[float]) -> None:
    with pytest.raises(ValueError):
        metrics.agreement(np.array(y), np.array(p))
