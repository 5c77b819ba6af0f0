"""What is read from ffmpeg's log of a scoring; the formats in which pairs are compared."""

from __future__ import annotations

import pytest
from vmaftune.media.score import libvmaf_filter, parse_inputs, scoring_format

# From ffmpeg 9.0.2, -v verbose.
STDERR = """
[graph 0 input from stream 0:0 @ 0x55] w:96 h:64 pixfmt:yuv420p tb:1/1000 fr:25/1 sar:1/1 csp:unknown range:unknown
[graph 0 input from stream 1:0 @ 0x56] w:96 h:64 pixfmt:yuvj420p tb:1/25 fr:25/1 sar:0/1 csp:unknown range:unknown
[in#0/matroska,webm @ 0x1]   Input stream #0:0 (video): 10 packets read (4123 bytes); 9 frames decoded; 1 decode errors;
[in#1/rawvideo @ 0x2]   Input stream #1:0 (video): 10 packets read (92160 bytes); 10 frames decoded; 0 decode errors;
"""  # noqa: E501


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
