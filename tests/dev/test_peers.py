"""The yardsticks: rules without a tolerance are exact on a falling curve, and none cheats."""

from __future__ import annotations

import numpy as np
import peers
import pytest
from priors import held, shipped
from vmaf_train.results import choosing, foretelling
from vmaf_train.results.foretelling import Dense, Rule

CURVE = Dense(
    content="made",
    encoder="libx264",
    preset="medium",
    quality=np.arange(10.0, 51.0),
    score=100 / (1 + np.exp((np.arange(10.0, 51.0) - 34) / 3)),
    bits_per_pixel=np.exp(-np.arange(41) / 8),
    cpu_s=np.ones(41),
    motion2=1.0,
)
PROVEN = {
    "bisection": peers.bisection(),
    "ab-av1": peers.ab_av1(peers.never),
    "plain": peers.plain_prior(shipped()),
    "find": foretelling.search_rule(shipped(), "proven"),
}


@pytest.mark.parametrize("name", PROVEN)
@pytest.mark.parametrize("target", [15.0, 50.0, 80.0, 93.0, 97.0, 99.0, 99.9])
def test_a_proven_answer_is_the_right_one(name: str, target: float) -> None:
    replay = foretelling.replay(PROVEN[name], CURVE, target)
    assert replay.exact and not replay.below and replay.bits_lost == 0
    assert replay.num_encodes == replay.cpu_s <= 9


@pytest.mark.parametrize("rule", [peers.bisection(0.5), peers.ab_av1(peers.doubling)])
def test_a_tolerance_saves_encodes_and_never_goes_below(rule: Rule) -> None:
    replay = foretelling.replay(rule, CURVE, 90.0)
    assert not replay.below and replay.num_encodes <= 5


def test_av1an_stops_after_four_probes() -> None:
    assert all(foretelling.replay(peers.av1an(), CURVE, t).num_encodes <= 4 for t in range(20, 99))


def test_two_probes_choose_an_encoder_on_clips_never_seen() -> None:
    losses = []
    for content in held():
        curves = foretelling.dense_curves(content.name, content.cells)
        for target in (85.0, 93.0):
            probes = (("libx264", "medium"), ("libsvtav1", "8"))
            found = choosing.choose(shipped(), curves, target, probes, num_searched=2)
            assert found is not None and found.num_candidates >= 3
            losses.append(found.bits_lost)
    assert np.mean(losses) <= 0.01
