"""What a report says about the ladders that a folder was measured for, and the rule of hulls."""

from __future__ import annotations

import json
import math
from pathlib import Path

import laddered
import numpy as np
import pytest
from vmaftune.report.build import Report, build
from vmaftune.report.figures import write
from vmaftune.report.hulls import SizedPoint, bd_rate, crossings, hull_at, hull_of
from vmaftune.report.summary import summary
from vmaftune.report.tables import tables

from schemas import validator

SMALL, LARGE = (640, 360), (1280, 720)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Report:
    return build(laddered.write(tmp_path_factory.mktemp("runs") / "ladder"))


def test_the_last_ladder_of_each_encoder_is_kept_with_its_files(made: Report) -> None:
    first, second = made.analysis.sweep.ladders
    assert (first.label, second.label) == ("libx264 slow", "libsvtav1 5")
    assert first.files is None and second.files is not None and len(second.told.rungs) == 3


def test_it_is_told_in_words_tables_and_json(made: Report) -> None:
    said = " ".join(summary(made.analysis))
    assert "with libsvtav1 5: 3 rungs from 1920x1080 at 2,800 kbit/s (VMAF 96.0)" in said
    found = {
        table.title.split(":")[0].split(" of ")[0]: table for table in tables(made.analysis, None)
    }
    assert {"Rungs", "Where sizes take over", "A fixed ladder at equal VMAF"} <= set(found)
    document = json.loads(json.dumps(made.document(), allow_nan=False))
    validator("report").validate(document)
    assert [one["encoder"] for one in document["ladders"]] == ["libx264", "libsvtav1"]
    assert document["ladders"][0]["files"] is None
    assert document["ladders"][1]["files"]["files"][0]["codec"] == "av01.0.08M.08"


def test_it_is_drawn(made: Report, tmp_path: Path) -> None:
    names = [path.name for path in write(made.analysis, None, tmp_path) if "ladder" in path.name]
    assert len(names) == 2
    assert (tmp_path / names[0]).read_bytes().startswith(b"\x89PNG")


def points(size: tuple[int, int], *pairs: tuple[float, float]) -> list[SizedPoint]:
    return [SizedPoint(size=size, kbps=kbps, score=score) for kbps, score in pairs]


def test_the_hull_takes_the_cheapest_size_at_each_score() -> None:
    small = points(SMALL, (100, 50), (200, 60), (800, 66))
    large = points(LARGE, (250, 55), (400, 70), (800, 80))
    scores = np.array([40.0, 50.0, 58.0, 65.0, 80.0, 90.0])
    hull = hull_at([*small, *large], scores)
    assert np.isinf(hull.ln_kbps[[0, 5]]).all()
    assert hull.sizes[1:5] == (SMALL, SMALL, LARGE, LARGE)
    assert math.exp(hull.ln_kbps[1]) == pytest.approx(100)
    (crossing,) = crossings(hull_of([*small, *large]))
    assert (crossing.below, crossing.above) == (SMALL, LARGE)
    assert 60 < crossing.score < 66


def test_more_score_for_fewer_bits_is_taken() -> None:
    """Where a large size begins to be measured, a small one may cost more at a lower score."""
    hull = hull_of([*points(SMALL, (100, 50), (500, 60)), *points(LARGE, (300, 59.5), (600, 80))])
    assert (np.diff(hull.ln_kbps) >= 0).all()
    assert hull.sizes[0] == SMALL and hull.sizes[-1] == LARGE


def test_bd_rate_of_hulls() -> None:
    one = points(LARGE, (100, 50), (200, 60), (400, 70))
    half = points(LARGE, (50, 50), (100, 60), (200, 70))
    assert bd_rate(hull_of(half), hull_of(one)) == pytest.approx(-0.5)
    assert bd_rate(hull_of(one), hull_of(one)) == 0
    assert bd_rate(hull_of(points(LARGE, (10, 80), (20, 90))), hull_of(one)) is None
    assert bd_rate(hull_of([]), hull_of(one)) is None
    assert hull_of(points(SMALL, (10, 80))).sizes == ()
