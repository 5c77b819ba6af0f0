"""The policy of `find`: it ends, its answers were measured, and it needs few encodes."""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np
import pytest
from priors import held, shipped
from vmaf_train.prior import Measured
from vmaf_train.results import foretelling
from vmaf_train.search import MOST
from vmaftune.questions.find import Answer, Search

Curve = Callable[[float], float]


def run(curve: Curve, *, target: float = 90, stop: str = "confident", **kw: object) -> Answer:
    """Search a made curve; every answer is checked against what was measured."""
    settings = {"encoder": "libx264", "preset": "medium", "low": 10, "high": 50} | kw
    search = Search(shipped(), target=target, stop=stop, **settings)  # type: ignore[arg-type]
    made: dict[float, float] = {}
    while (quality := search.ask()) is not None:
        assert quality not in made and len(made) < MOST
        made[quality] = curve(quality)
        search.tell(quality, made[quality])
    answer = search.answer
    assert answer.num_encodes == len(made)
    if answer.kind == "met":
        assert answer.quality is not None and made[answer.quality] == answer.score >= target
        assert not [q for q, score in made.items() if q > answer.quality and score >= target]
    else:
        assert answer.kind == "unreachable" and max(made.values()) == answer.score < target
    return answer


def logistic(middle: float, slope: float = 3.0) -> Curve:
    return lambda q: float(100 / (1 + np.exp((q - middle) / slope)))


@pytest.mark.parametrize("stop", ["confident", "proven", "tolerance=0.5"])
@pytest.mark.parametrize("middle", [18, 25, 33, 41])
def test_a_plain_curve(stop: str, middle: float) -> None:
    curve = logistic(middle)
    answer = run(curve, stop=stop)
    right = max(q for q in range(10, 51) if curve(q) >= 90)
    assert answer.kind == "met"
    if not stop.startswith("tolerance"):
        assert answer.quality == right
    if answer.stop == "proven":
        assert answer.bracket == (right, right + 1) and answer.confidence == 1.0


STRANGE: dict[str, Curve] = {
    "flat above": lambda q: 96.0,
    "flat below": lambda q: 70.0,
    "all 100": lambda q: 100.0,
    "all 0": lambda q: 0.0,
    "cliff": lambda q: 99.0 if q < 37 else 10.0,
    "early cliff": lambda q: 99.0 if q < 11 else 10.0,
    "late cliff": lambda q: 99.0 if q < 50 else 10.0,
    "saturated": lambda q: 100.0 if q < 36 else 100 - 3 * (q - 35),
    "rising": lambda q: min(50.0 + q, 100.0),
    "saw": lambda q: 95.0 if q % 2 else 85.0,
    "bump": lambda q: float(100 - q / 2 + (6 if 30 <= q <= 34 else 0)),
    "noise": lambda q: float(90 + 8 * np.sin(7919 * q)),
}


@pytest.mark.parametrize("stop", ["confident", "proven", "tolerance=1"])
@pytest.mark.parametrize("name", STRANGE)
def test_strange_curves_end_with_the_right_kind_of_answer(name: str, stop: str) -> None:
    for encoder, high, step in (("libx264", 51, 1), ("libsvtav1", 63, 0.25), ("odd", 63, 1)):
        answer = run(
            STRANGE[name], stop=stop, encoder=encoder, preset="8", low=0, high=high, step=step
        )
        assert answer.sentences
        if name in ("flat above", "all 100"):
            assert answer.quality == high and "coarsest value allowed" in answer.sentences[0]
        if name in ("flat below", "all 0"):
            assert answer.kind == "unreachable" and "the best is" in answer.sentences[0]
        if name.endswith("cliff") and stop == "proven":  # no content falls so: confident may be off
            edge = {"cliff": 37, "early cliff": 11, "late cliff": 50}[name]
            assert answer.quality == edge - step


def test_a_range_of_one_value() -> None:
    assert run(logistic(30), low=20, high=20).quality == 20
    assert run(logistic(15), low=20, high=20).kind == "unreachable"


def test_steps_of_a_quarter_are_used() -> None:
    answer = run(logistic(30, 2.5), encoder="libsvtav1", preset="8", step=0.25, stop="proven")
    right = max(q for q in np.arange(10, 50.1, 0.25) if logistic(30, 2.5)(q) >= 90)
    assert answer.quality == right and answer.bracket[1] == right + 0.25


def test_stored_cells_cost_nothing_and_a_larger_one_that_meets_the_target_is_the_answer() -> None:
    curve = logistic(33)
    search = Search(
        shipped(), encoder="libx264", preset="medium", target=90, low=10, high=50, stop="proven"
    )
    for quality in (25.5, 26, 27, 9, 60):  # between the grid's, on it, and outside the range
        search.tell(quality, curve(quality))
    search.know(
        Measured(
            encoder="libx265",
            preset="slow",
            quality=30,
            scores={"mean": 80.0},
            bits_per_pixel=0.02,
            motion2=2.0,
        )
    )
    assert search.ask() is None
    answer = search.answer
    assert answer.quality == 26 and answer.num_encodes == 0 and answer.bracket == (26, 27)
    search.tell(26.25, curve(26.25))
    assert search.answer.quality == 26.25 and search.answer.bracket == (26.25, 27)
    search.tell(40, 91.0)  # a curve with a bump: someone measured beyond it
    assert search.answer.quality == 40


def test_a_probability_is_never_said_to_be_certain() -> None:
    answer = run(logistic(30))
    assert answer.stop == "confident" and answer.confidence is not None
    told = "more than 99%" if answer.confidence > 0.99 else f"{answer.confidence:.0%}"
    assert answer.sentences[0].endswith(f"misses it with a probability of {told}")
    assert "100%" not in answer.sentences[0]


def test_an_answer_at_the_finest_value_names_the_ceiling() -> None:
    answer = run(logistic(10), target=99)
    assert answer.sentences[0].endswith("the ceiling of this film") and answer.quality == 10


def test_the_answer_has_the_curve_with_its_band_and_a_confidence() -> None:
    answer = run(logistic(30))
    assert len(answer.curve.quality) == 41
    assert (answer.curve.low <= answer.curve.high).all()
    assert answer.confidence is not None and answer.confidence >= 0.95


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"target": 0}, "target is more than 0"),
        ({"target": 101}, "target is more than 0"),
        ({"low": 30, "high": 20}, "are not a range"),
        ({"step": 0}, "step"),
        ({"stop": "tolerance=x"}, "use confident, proven or tolerance=0.5"),
        ({"stop": "soon"}, "use confident, proven or tolerance=0.5"),
        ({"statistic": "median"}, "no statistic"),
    ],
)
def test_what_makes_no_sense_is_refused(change: dict[str, object], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        run(logistic(30), **change)  # type: ignore[arg-type]
    search = Search(shipped(), encoder="a", preset="b", target=9, low=1, high=2)
    with pytest.raises(ValueError, match=r"0\.\.100"):
        search.tell(1, float("nan"))


def test_a_step_takes_milliseconds() -> None:
    search = Search(
        shipped(), encoder="libsvtav1", preset="8", target=93, low=0, high=63, stop="proven"
    )
    began = time.process_time()
    steps = 0
    while (quality := search.ask()) is not None:
        search.tell(quality, logistic(50, 6)(quality))
        steps += 1
    assert (time.process_time() - began) / steps < 0.05


def test_the_dense_curves_need_few_encodes() -> None:
    """The figures that this project promises, on clips that the prior was not fitted on."""
    replays: dict[str, list[foretelling.Replay]] = {"confident": [], "proven": []}
    for content in held():
        for curve in foretelling.dense_curves(content.name, content.cells):
            for target in foretelling.TARGETS:
                if not curve.is_normal(target):
                    continue
                for stop, done in replays.items():
                    rule = foretelling.search_rule(shipped(), stop)
                    done.append(foretelling.replay(rule, curve, target))
    encodes = {stop: np.mean([r.num_encodes for r in done]) for stop, done in replays.items()}
    assert len(replays["proven"]) == 141
    assert encodes["proven"] <= 3.3 and encodes["confident"] <= 2.9, encodes
    assert np.mean([r.exact for r in replays["confident"]]) >= 0.98
    assert not any(r.below for done in replays.values() for r in done)
