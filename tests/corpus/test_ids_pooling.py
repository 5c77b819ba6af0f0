"""Readable ids survive a round trip; statistics are numpy's."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from vmaf_train.corpus import pooling
from vmaf_train.corpus.ids import CellId, number, number_text, parse_id

SCORES = st.lists(st.floats(0, 100, allow_nan=False), min_size=1, max_size=60)


@pytest.mark.parametrize(
    ("text", "size", "options"),
    [
        ("film@0001/libx264/slow/23", None, None),
        ("film/libx264/slow/23.5@1280x720", (1280, 720), None),
        ("film+x/libvpx-vp9/good/31+film@2", None, "film@2"),
        ("a b/libsvtav1/8/0@640x360+grain", (640, 360), "grain"),
    ],
)
def test_ids_round_trip(text: str, size: tuple[int, int] | None, options: str | None) -> None:
    found = parse_id(text)
    assert found is not None and str(found) == text
    assert (found.size, found.options) == (size, options)


def test_the_parts_of_an_id() -> None:
    assert parse_id("a/libx264/slow/23") == CellId(
        source="a", encoder="libx264", preset="slow", quality=23.0
    )


@pytest.mark.parametrize("text", ["", "a/b/c", "film/external/copy", "a/b/c/x", "a/b/c/1.2.3"])
def test_other_ids_are_none(text: str) -> None:
    assert parse_id(text) is None


@pytest.mark.parametrize(("value", "text"), [(23.0, "23"), (23, "23"), (22.5, "22.5")])
def test_quality_values_are_json_numbers(value: float, text: str) -> None:
    assert repr(number(value)) == number_text(value) == text


@given(SCORES)
def test_statistics_are_numpys(scores: list[float]) -> None:
    values = np.array(scores)
    for name, share in (("min", 0), ("p1", 1), ("p5", 5), ("p10", 10), ("median", 50)):
        found = pooling.STATISTICS[name](scores)
        assert found == pytest.approx(np.percentile(values, share), abs=1e-9)
    assert pooling.mean(scores) == pytest.approx(values.mean(), abs=1e-9)
    assert pooling.deviation(scores) == pytest.approx(values.std(), abs=1e-9)
    harmonic = 1 / np.mean(1 / (values + 1)) - 1
    assert pooling.harmonic(scores) == pytest.approx(harmonic, abs=1e-7)


@given(SCORES, st.integers(1, 70))
def test_the_worst_window_is_the_lowest_mean_of_neighbours(scores: list[float], width: int) -> None:
    width_there = min(width, len(scores))
    means = [np.mean(scores[i : i + width_there]) for i in range(len(scores) - width_there + 1)]
    assert pooling.worst_window(scores, width) == pytest.approx(min(means), abs=1e-9)


def test_the_worst_window_lasts_one_second() -> None:
    scores = [90.0, 80.0, 70.0, 100.0]
    assert pooling.statistic("worst-window", scores, frames_per_second=2.4) == 75
    assert pooling.statistic("p1", scores, frames_per_second=2.4) == pytest.approx(70.3)
