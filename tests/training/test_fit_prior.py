"""Fitting the prior: deterministic, honest on contents held out, and fed by any run folder."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from priors import SOFTWARE, held, known, shipped
from vmaf_train.corpus import contents
from vmaf_train.errors import DatasetError
from vmaf_train.prior import Z80, dump
from vmaf_train.prior.process import interpolate
from vmaf_train.results import foretelling
from vmaf_train.training import fit_prior


def test_the_same_rows_give_the_same_file() -> None:
    few = known()[:5]
    a = fit_prior.fit(few, statistics=["mean"], steps=5)
    assert dump(a) == dump(fit_prior.fit(few, statistics=["mean"], steps=5))


def test_mean_curves_fall_and_an_incomplete_setting_is_placed_by_its_relatives() -> None:
    for curve in shipped().curves:
        assert (np.diff(curve.z["mean"]) < 0).all() and (np.diff(curve.ln_bpp) < 0).all()
    curves = {(c.encoder, c.preset): c for c in shipped().curves}
    # VVenC fast has four of the eighteen contents; it is a little better than faster, everywhere
    gain = curves["libvvenc", "fast"].z["mean"] - curves["libvvenc", "faster"].z["mean"]
    assert (gain > -0.02).all() and gain.max() < 0.5


def test_errors_on_clips_never_seen() -> None:
    errors = {
        count: foretelling.join(
            [foretelling.same_setting(shipped(), c.cells, count) for c in held()]
        )
        for count in (1, 2, 3)
    }
    assert errors[1].mae(75) < 1.6 and errors[2].mae(75) < 1.0 and errors[3].mae(75) < 0.7
    for found in errors.values():
        assert found.coverage(Z80) >= 0.75 and found.coverage(foretelling.Z95) >= 0.9


def test_motion_narrows_what_is_known_after_one_probe() -> None:
    group = "sintel"
    rest = [c for c in known() if c.group != group]
    (out,) = [c for c in known() if c.group == group]
    with_motion = fit_prior.fit(rest, statistics=["mean"], steps=30)
    without = fit_prior.fit(rest, statistics=["mean"], steps=30, motion=False)
    maes = [foretelling.same_setting(p, out.cells, 1).mae() for p in (with_motion, without)]
    assert maes[0] < maes[1]


def test_dense_rows_are_learned_from_through_a_few_knots() -> None:
    prior = fit_prior.fit(
        [*known()[:6], *held()[:1]], statistics=["mean"], steps=5
    )  # a user's own folders may be dense
    assert max(len(c.quality) for c in prior.curves) <= fit_prior.MOST_KNOTS


def test_what_cannot_be_learned_from_is_a_sentence(tmp_path: Path) -> None:
    rows = [json.loads(line) for line in (SOFTWARE / "cells.jsonl").read_text().splitlines()[:3]]
    file = tmp_path / "cells.jsonl"

    def write(change: dict[str, object], last: dict[str, object]) -> None:
        changed = [row | change for row in rows]
        changed[-1] |= last
        file.write_text("".join(json.dumps(row) + "\n" for row in changed))

    write({"vmaf_p5": None}, {})
    with pytest.raises(DatasetError, match="has no cell with encoder"):
        contents.read([tmp_path])
    write({}, {"teacher": "other"})
    with pytest.raises(DatasetError, match="2 teachers"):
        contents.read([tmp_path])
    with pytest.raises(DatasetError, match="at least two contents"):
        fit_prior.fit(known()[:1])


def test_interpolation_keeps_the_knots_and_stays_between_them() -> None:
    knots, values = np.array([1.0, 2.0, 4.0, 8.0]), np.array([9.0, 5.0, 5.0, 1.0])
    assert interpolate(knots, values, knots) == pytest.approx(values)
    between = interpolate(knots, values, np.linspace(1, 8, 99))
    assert (np.diff(between) <= 1e-12).all()
    assert interpolate(knots, values, np.array([0.0, 9.0])) == pytest.approx([13.0, 0.0])
    assert interpolate(knots[:1], values[:1], np.array([0.0, 9.0])) == pytest.approx([9.0, 9.0])
