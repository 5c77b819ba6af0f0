"""What is read from libvmaf's log and ffmpeg's; the formats in which pairs are compared."""

from __future__ import annotations

import json
from typing import Any

import pytest
from vmaftune.media.failure import CellFailure
from vmaftune.media.libvmaf_log import parse_log
from vmaftune.media.score import libvmaf_filter, parse_inputs, scoring_format

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
# From ffmpeg 9.0.2, -v verbose.
STDERR = """
[graph 0 input from stream 0:0 @ 0x55] w:96 h:64 pixfmt:yuv420p tb:1/1000 fr:25/1 sar:1/1 csp:unknown range:unknown
[graph 0 input from stream 1:0 @ 0x56] w:96 h:64 pixfmt:yuvj420p tb:1/25 fr:25/1 sar:0/1 csp:unknown range:unknown
[in#0/matroska,webm @ 0x1]   Input stream #0:0 (video): 10 packets read (4123 bytes); 9 frames decoded; 1 decode errors;
[in#1/rawvideo @ 0x2]   Input stream #1:0 (video): 10 packets read (92160 bytes); 10 frames decoded; 0 decode errors;
"""  # noqa: E501


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


def test_inputs_of_a_scoring() -> None:
    inputs = parse_inputs(STDERR)
    assert (
        inputs[0].num_packets,
        inputs[0].num_bytes,
        inputs[0].num_frames,
        inputs[0].num_errors,
    ) == (10, 4123, 9, 1)
    assert (inputs[1].width, inputs[1].height, inputs[1].pix_fmt) == (96, 64, "yuvj420p")
    assert parse_inputs("nothing of the kind") == {}


@pytest.mark.parametrize(
    ("first", "second", "both"),
    [
        ("yuv420p", "yuv420p", "yuv420p"),
        ("yuv420p", "yuv420p10le", "yuv420p10le"),
        ("yuv422p", "yuv420p10le", "yuv422p10le"),
        ("yuv444p10le", "yuv420p", "yuv444p10le"),
        ("yuv420p", "yuv444p", "yuv444p"),
    ],
)
def test_the_deeper_and_the_wider(first: str, second: str, both: str) -> None:
    assert scoring_format(first, second) == scoring_format(second, first) == both


def test_the_six_features_are_asked_for_whatever_the_teacher() -> None:
    text = libvmaf_filter("version=vmaf_v0.6.1neg")
    for part in (
        "name=adm",
        "name=vif",
        "name=motion",
        "disable_clip=true",
        "version=vmaf_v0.6.1neg",
        "repeatlast=0",
    ):
        assert part in text


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
