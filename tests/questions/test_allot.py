"""One slope over many curves: the target is met, and no other choice of points takes fewer bits."""

from __future__ import annotations

import itertools
import random

import pytest
from vmaftune.questions.allot import ShotCurve, ShotPoint, allot, mean_score


def curve(num_frames: int, hardness: float) -> ShotCurve:
    """Scores that fall and bits that shrink with the quality value, as real ones do."""
    points = tuple(
        ShotPoint(quality=q, score=100 - hardness * q**1.2, bits=num_frames * 9000 * 0.87**q)
        for q in range(1, 12)
    )
    return ShotCurve(num_frames=num_frames, points=points)


def test_the_choice_is_near_the_best_of_all() -> None:
    rng = random.Random(4)
    for _ in range(20):
        curves = [curve(rng.randint(24, 200), rng.uniform(0.3, 2.5)) for _ in range(3)]
        target = rng.uniform(85, 98)
        chosen = allot(curves, target)
        assert mean_score(curves, chosen) >= target
        every = itertools.product(*(c.points for c in curves))
        fits = [p for p in every if mean_score(curves, p) >= target]
        best = min(sum(p.bits for p in points) for points in fits)
        assert sum(p.bits for p in chosen) <= 1.03 * best


def test_an_easy_shot_gives_bits_to_a_hard_one() -> None:
    easy, hard = allot([curve(100, 0.3), curve(100, 2.0)], 90)
    assert easy.score > hard.score


def test_what_nothing_meets_gets_the_best_there_is() -> None:
    chosen = allot([curve(10, 1), curve(20, 2)], 99.9)
    assert [p.quality for p in chosen] == [1, 1]


@pytest.mark.parametrize("target", [0, 50, 99])
def test_a_single_point_is_the_answer(target: float) -> None:
    only = ShotPoint(quality=20, score=70, bits=100)
    assert allot([ShotCurve(num_frames=5, points=(only,))], target) == [only]
