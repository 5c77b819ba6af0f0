"""The prior's file: the same bytes for the same prior, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from priors import shipped
from vmaf_train import prior
from vmaf_train.errors import ModelError
from vmaf_train.prior import Belief, dump, parse

X264 = ("libx264", "medium")
VALUES = list(range(0, 52))


def test_the_file_gives_the_same_prior_and_the_same_bytes() -> None:
    data = dump(shipped())
    again = parse(data)
    assert dump(again) == data and len(data) < 16_000
    a, b = Belief(shipped()), Belief(again)
    np.testing.assert_allclose(
        a.predict(*X264, VALUES).score, b.predict(*X264, VALUES).score, atol=1e-3
    )


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda d: d.update(format=9), "not a quality_prior of format 1"),
        (lambda d: d.pop("curves"), "no quality_prior"),
        (lambda d: d.update(curves=[]), "has no curves"),
        (lambda d: d["curves"][0]["quality"].reverse(), "not whole"),
        (lambda d: d["statistics"]["mean"]["content"][0].__setitem__(0, -5.0), "covariance"),
    ],
)
def test_a_damaged_file_is_refused(change: object, said: str) -> None:
    document = json.loads(dump(shipped()))
    assert callable(change)
    change(document)
    with pytest.raises(ModelError, match=said):
        parse(json.dumps(document))


def test_a_registry_without_a_prior_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="no quality_prior"):
        prior.load(tmp_path)
