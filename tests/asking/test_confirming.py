"""The checks of `doctor --confirm` on made-up cells: each one must be able to fail."""

from __future__ import annotations

from typing import Any

import pytest
from vmaf_train.corpus.rows import CellRow, Failure, FailureKind
from vmaftune.asking.confirming import check_encoder
from vmaftune.encoders import ENCODERS
from vmaftune.hardware.checkup import ask_python, known_fault
from vmaftune.media.process import Runner


def cells(encoder: str, scores: list[float], rates: list[float], **more: Any) -> list[CellRow]:
    row = ENCODERS[encoder]
    known: dict[str, Any] = {
        "key": "0",
        "src": "eight_bit",
        "encoder": encoder,
        "rate_control": row.rate_control,
        **more,
    }
    return [
        CellRow(
            cell=f"eight_bit/{encoder}/{row.default_preset}/{q}",
            crf=q,
            vmaf_score=score,
            bitrate_kbps=rate,
            **known,
        )
        for q, score, rate in zip(row.default_quality, scores, rates, strict=True)
    ]


def lost(encoder: str) -> list[CellRow]:
    error = Failure(kind=FailureKind.ENCODE_FAILED, message="the encode ended with 1")
    return [CellRow(cell="0", key="0", encoder=encoder, status="failed", error=error)]


GOOD = ([97.0, 93.0, 85.0, 70.0], [4000.0, 2000.0, 1000.0, 400.0])


def broken(encoder: str, found: list[CellRow]) -> list[str]:
    return [c.name for c in check_encoder(ENCODERS[encoder], found) if not c.passed]


@pytest.mark.parametrize("encoder", ["h264_nvenc", "av1_qsv", "hevc_videotoolbox"])
def test_a_good_encoder_passes(encoder: str) -> None:
    assert broken(encoder, cells(encoder, *GOOD)) == []


def test_every_check_can_fail() -> None:
    assert broken("h264_qsv", cells("h264_qsv", *GOOD, rate_control="cqp")) == [
        "the rate control that was asked for ran"
    ]
    assert broken("h264_qsv", cells("h264_qsv", [90.0, 93.0, 85.0, 70.0], GOOD[1])) == [
        "vmaf_score falls with the quality (eight_bit)"
    ]
    # A driver that ignores the quality value (intel, Ice Lake HEVC) gives one size for all of them.
    assert broken("hevc_qsv", cells("hevc_qsv", GOOD[0], [900.0] * 4)) == [
        "bitrate_kbps falls with the quality (eight_bit)"
    ]
    assert broken("hevc_qsv", cells("hevc_qsv", [40.0, 30.0, 20.0, 10.0], GOOD[1])) == [
        "best score at least 70"
    ]
    some = [*cells("hevc_qsv", *GOOD), *lost("hevc_qsv")]
    assert broken("hevc_qsv", some) == ["every cell encodes and scores"]
    assert broken("hevc_qsv", lost("hevc_qsv")) == ["every cell encodes and scores"]


@pytest.mark.parametrize(
    ("version", "bad"),
    [("3.2.0", True), ("v3.2.0-12-gabc", True), ("3.1.0", False), ("86da14d", False)],
)
def test_known_bad_versions_of_libvmaf(version: str, bad: bool) -> None:
    assert bool(known_fault(version)) is bad


def test_a_python_that_fails_or_says_nothing_is_no_answer() -> None:
    assert ask_python(Runner(), "print('noise'); print('{\"a\": 1}')", dict) == {"a": 1}
    assert ask_python(Runner(), "import no_such_package", dict) is None
    assert ask_python(Runner(), "pass", dict) is None
