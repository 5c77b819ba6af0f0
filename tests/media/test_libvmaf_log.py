"""What is read from libvmaf's log, and what is refused."""

from __future__ import annotations

import json
from typing import Any

import pytest
from vmaftune.media.failure import CellFailure
from vmaftune.media.libvmaf_log import parse_log

TEACHER, NEG = "vmaf_v0.6.1", "vmaf_v0.6.1neg"
METRICS = {
    "integer_adm2": 0.9,
    "integer_vif_scale0": 0.5,
    "integer_vif_scale1": 0.6,
    "integer_vif_scale2": 0.7,
    "integer_vif_scale3": 0.8,
    "integer_motion2": 3.5,
    "vmaf": 71.5,
    "vmaf_unclipped": 71.5,
}


def log(*frames: dict[str, Any]) -> str:
    return json.dumps(
        {
            "version": "3.0.0",
            "frames": [{"frameNum": i, "metrics": m} for i, m in enumerate(frames)],
        }
    )


def test_a_neg_model_has_features_of_its_own() -> None:
    """The ordinary ones lie beside them in the log; the score is not a function of those."""
    own = {
        "integer_adm2_egl_1": 0.8,
        **{f"integer_vif_scale{i}_egl_1": 0.4 + i / 100 for i in range(4)},
    }
    _, frames = parse_log(log(METRICS | own), NEG)
    assert frames[0].features == pytest.approx((0.8, 0.4, 0.41, 0.42, 0.43, 3.5))
    with pytest.raises(CellFailure, match="lacks adm2, vif_scale0"):
        parse_log(log(METRICS), NEG)


def test_frames_of_a_log_under_both_spellings() -> None:
    bare = {name.removeprefix("integer_"): value for name, value in METRICS.items()}
    version, frames = parse_log(log(METRICS, bare), TEACHER)
    assert version == "3.0.0"
    assert [f.index for f in frames] == [0, 1]
    assert frames[0].features == frames[1].features == (0.9, 0.5, 0.6, 0.7, 0.8, 3.5)


@pytest.mark.parametrize("name", METRICS)
@pytest.mark.parametrize("value", ["absent", None, float("nan"), float("inf")])
def test_a_value_that_is_missing_is_never_filled_in(name: str, value: Any) -> None:
    broken = (
        {k: v for k, v in METRICS.items() if k != name}
        if value == "absent"
        else {**METRICS, name: value}
    )
    with pytest.raises(CellFailure, match="at frame 1") as caught:
        parse_log(log(METRICS, broken), TEACHER)
    assert caught.value.kind == "score_incomplete"


def test_a_frame_that_is_missing_is_an_error() -> None:
    text = log(METRICS, METRICS, METRICS).replace('"frameNum": 1', '"frameNum": 7')
    with pytest.raises(CellFailure, match="a frame at frame 1"):
        parse_log(text, TEACHER)


def test_a_log_that_is_cut_off_is_an_error() -> None:
    with pytest.raises(CellFailure) as caught:
        parse_log(log(METRICS)[:-9], TEACHER)
    assert caught.value.kind == "score_unreadable"


@pytest.mark.parametrize(
    "text",
    [
        "[]",
        "{}",
        '"a"',
        "null",
        "3",
        '{"version": "3", "frames": null}',
        '{"version": "3", "frames": [1]}',
        '{"version": "3", "frames": {"a": 1}}',
        '{"version": "3", "frames": [{}]}',
        '{"version": "3", "frames": [{"frameNum": 0}]}',
        '{"version": "3", "frames": [{"frameNum": 0, "metrics": []}]}',
        '{"version": "3", "frames": [{"frameNum": "0", "metrics": {}}]}',
        '{"version": "3", "frames": [{"frameNum": 0, "metrics": {"vmaf": "93"}}]}',
        '{"version": "3", "frames": [{"frameNum": 0, "metrics": {"vmaf": true}}]}',
        '{"version": null, "frames": []}',
        '{"frames": []}',
        "[" * 100_000,
    ],
)
def test_a_log_of_another_shape_fails_its_cell_and_nothing_else(text: str) -> None:
    with pytest.raises(CellFailure, match="libvmaf's log is") as caught:
        parse_log(text, "vmaf_v0.6.1")
    assert caught.value.kind == "score_unreadable"
