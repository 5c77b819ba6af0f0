"""The posterior: what it says before and after measured cells."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
from priors import ROOT, held, shipped
from vmaf_train.prior import Belief

X264 = ("libx264", "medium")
VALUES = list(range(0, 52))


@pytest.fixture
def belief() -> Belief:
    return Belief(shipped())


def test_a_fresh_belief_is_the_mean_curve_with_honest_width(belief: Belief) -> None:
    told = belief.predict(*X264, VALUES)
    assert (np.diff(told.score) <= 1e-9).all() and (np.diff(told.bits_per_pixel) < 0).all()
    assert ((told.low <= told.score) & (told.score <= told.high)).all()
    assert told.score[23] == pytest.approx(94, abs=2)
    wide = told.high - told.low
    assert wide[35] > 10 > wide[18]


def test_beyond_the_measured_values_it_stays_sane(belief: Belief) -> None:
    belief.observe(*X264, 26, 80.0, bits_per_pixel=0.05, motion2=4.0)
    told = belief.predict(*X264, np.arange(-5, 64))
    assert np.isfinite(told.score).all() and np.isfinite(told.bits_per_pixel).all()
    assert (told.score >= 0).all() and (told.score <= 100).all()
    assert told.score[0] > 95 and told.score[-1] < 20
    outside, inside = told.z_sd[[0, -1]], told.z_sd[31]
    assert (outside > 5 * inside).all()


def test_a_measured_cell_is_believed_and_its_neighbours_nearly(belief: Belief) -> None:
    before = belief.predict(*X264, [28]).z_sd[0]
    belief.observe(*X264, 28, 70.0)
    told = belief.predict(*X264, [28, 29])
    assert told.score[0] == pytest.approx(70, abs=0.2)
    assert told.z_sd[0] < 0.1 * before and told.z_sd[1] < 0.3 * before


def test_another_encoder_and_the_motion_tell_something(belief: Belief) -> None:
    start = belief.predict("libsvtav1", "8", [45])
    belief.observe("libx264", "veryfast", 26, 60.0, bits_per_pixel=0.08)
    one = belief.predict("libsvtav1", "8", [45])
    assert one.score[0] < start.score[0] - 3 and one.z_sd[0] < start.z_sd[0]
    assert one.ln_bpp_sd[0] < 0.7 * start.ln_bpp_sd[0]
    still, moving = belief.copy(), belief.copy()
    still.observe("libx264", "veryfast", 26, motion2=0.05)
    moving.observe("libx264", "veryfast", 26, motion2=15.0)
    assert (
        still.predict("libsvtav1", "8", [55]).score != moving.predict("libsvtav1", "8", [55]).score
    )
    assert belief.predict("libsvtav1", "8", [45]).score == one.score  # a copy goes its own way


def test_rank_one_updates_equal_the_textbook(belief: Belief) -> None:
    cells = [c for c in held()[0].cells if c.encoder == "libx264"][10:30:5]
    for cell in cells:
        belief.observe_cell(cell)
        belief.observe_cell(cell)  # the same fact counts once
    told = belief.predict(*X264, [20, 33])
    fresh = Belief(shipped())
    settings = [(*X264, [20.0, 33.0, *(c.quality for c in cells)])]
    means, covariance = fresh.joint(settings)
    n = 2 + len(cells)
    seen = [*range(2, n), *range(n + 2, 2 * n)]
    values = [shipped().to_z(c.scores["mean"]) for c in cells]
    values += [np.log(c.bits_per_pixel or 1) for c in cells]
    # the motion comes first in the belief; here it is left out of both
    bare = Belief(shipped())
    for cell in cells:
        bare.observe(*X264, cell.quality, cell.scores["mean"], bits_per_pixel=cell.bits_per_pixel)
    told = bare.predict(*X264, [20, 33])
    gain = np.linalg.solve(covariance[np.ix_(seen, seen)], covariance[seen, :2])
    expected = means[:2] + gain.T @ (np.array(values) - means[seen])
    variance = np.diag(covariance[:2, :2] - gain.T @ covariance[seen, :2])
    np.testing.assert_allclose(told.z, expected, rtol=1e-6)
    np.testing.assert_allclose(told.z_sd**2, variance, rtol=1e-4)


@pytest.mark.parametrize(
    ("encoder", "preset", "relative"),
    [
        ("libx264", "slower", "libx264 slow"),
        ("h264_nvenc", "p4", "libx264 medium"),
        ("av1_qsv", "medium", "libsvtav1"),
        ("hevc_vaapi", "default", "libx265"),
        ("prores_ks", "default", "libx264"),
    ],
)
def test_an_unknown_setting_borrows_the_nearest_curve_and_says_so(
    belief: Belief, encoder: str, preset: str, relative: str
) -> None:
    told = belief.predict(encoder, preset, range(10, 50))
    assert (np.diff(told.score) <= 1e-9).all()
    (note,) = belief.notes
    assert note.startswith(
        f"the prior has no {encoder} {preset}; it borrows the curve of {relative}"
    )
    own = shipped().curves[shipped().relative(encoder, preset).curve]
    assert told.z_sd[15] > belief.predict(own.encoder, own.preset, [25]).z_sd[0]
    belief.observe(encoder, preset, 30, 70.0)
    assert belief.predict(encoder, preset, [30]).score[0] == pytest.approx(70, abs=0.5)


def test_an_encoder_without_its_own_format_borrows_one_of_the_same_scale() -> None:
    prior = shipped()
    without = replace(
        prior, curves=tuple(c for c in prior.curves if c.encoder not in ("libvpx-vp9", "libx265"))
    )
    lent = {
        encoder: without.curves[without.relative(encoder, preset).curve].encoder
        for encoder, preset in (("libvpx-vp9", "realtime"), ("libx265", "fast"), ("x", "y"))
    }
    assert lent == {"libvpx-vp9": "libaom-av1", "libx265": "libx264", "x": "libx264"}


def test_statistics_without_curves_have_stand_ins_or_are_refused() -> None:
    prior = shipped()
    with pytest.raises(
        ValueError, match="no statistic 'median'; the prior knows harmonic, mean, min, p5,"
    ):
        Belief(prior, "median")


def test_it_answers_with_numpy_alone() -> None:
    code = (
        "import sys\nfrom vmaf_train import prior, search\n"
        "print(sorted({'torch','pandas','scipy','onnx','pyarrow'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert done.stdout.strip() == "[]", done.stderr
