"""Frame rates, stamps, pixel formats and names, without a file."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import pytest
from vmaftune.errors import SourceError
from vmaftune.media.probe import COMMON_RATES, _planar, _timing, frame_rate, probe, raw_format


@pytest.mark.parametrize(
    ("text", "rate"),
    [
        ("25", "25"),
        ("23.976", "24000/1001"),
        ("29.97", "30000/1001"),
        ("59.94", "60000/1001"),
        ("24000/1001", "24000/1001"),
        ("12.5", "25/2"),
        ("30.0", "30"),
        ("1000", "1000"),
        ("0.5", "1/2"),
    ],
)
def test_frame_rates(text: str, rate: str) -> None:
    assert frame_rate(text) == rate


@pytest.mark.parametrize("text", ["", "x", "25/0", "0", "-25", "1001", "nan", "inf"])
def test_frame_rates_that_are_none(text: str) -> None:
    with pytest.raises(SourceError, match="--fps"):
        frame_rate(text)


@pytest.mark.parametrize("rate", COMMON_RATES, ids=str)
@pytest.mark.parametrize("count", [2, 24, 500])
def test_millisecond_stamps_keep_the_rate_that_the_header_names(rate: Fraction, count: int) -> None:
    stamps = [round(1000 * i / rate) for i in range(count)]
    assert _timing(stamps, Fraction(1, 1000), rate) == (str(rate), None)


def test_exact_stamps_win_over_a_wrong_header() -> None:
    stamps = [512 * i for i in range(250)]
    assert _timing(stamps, Fraction(1, 12800), Fraction(3012, 100)) == ("25", None)
    assert _timing(stamps, Fraction(1, 12800), Fraction(50)) == ("25", None)


def test_the_first_gap_is_found() -> None:
    stamps = [40 * i + (200 if i > 30 else 0) for i in range(100)]
    assert _timing(stamps, Fraction(1, 1000), Fraction(25))[1] == 31
    jitter = [40 * i + i % 2 for i in range(100)]
    assert _timing(jitter, Fraction(1, 1000), Fraction(25))[1] is None


def test_one_frame_has_the_rate_of_its_header() -> None:
    assert _timing([0], Fraction(1, 1000), Fraction(50)) == ("50", None)
    assert _timing([], None, None) == ("25", None)


@pytest.mark.parametrize(
    ("name", "planar", "full"),
    [
        ("yuv420p", "yuv420p", False),
        ("yuvj422p", "yuv422p", True),
        ("yuva444p", "yuv444p", False),
        ("yuv420p12le", "yuv420p10le", False),
        ("nv12", "yuv420p", False),
        ("p010le", "yuv420p10le", False),
        ("gray", "yuv420p", False),
        ("uyvy422", "yuv422p", False),
        ("rgb24", "yuv444p", False),
        ("gbrp10le", "yuv444p10le", False),
        ("bgr0", "yuv444p", False),
    ],
)
def test_pixel_formats(name: str, planar: str, full: bool) -> None:
    assert _planar(Path("a.mkv"), name) == (planar, full)


def test_a_pixel_format_that_is_none() -> None:
    with pytest.raises(SourceError, match="xyz12le is not supported"):
        _planar(Path("a.mkv"), "xyz12le")


def test_raw_names_and_flags() -> None:
    named = raw_format(Path("OldTownCross_25fps.yuv"), None, None, None)
    assert (named.width, named.height, named.fps, named.pix_fmt) == (1920, 1080, "25", "yuv420p")
    flagged = raw_format(Path("OldTownCross_25fps.yuv"), (640, 360), "30", "yuv422p")
    assert (flagged.width, flagged.height, flagged.fps, flagged.pix_fmt) == (
        640,
        360,
        "30",
        "yuv422p",
    )
    with pytest.raises(SourceError, match="has no header"):
        raw_format(Path("x.yuv"), (640, 360), None, None)


@pytest.mark.parametrize(
    ("head", "said"),
    [
        ("W30000 H30000 F25:1", "its width as 30000"),
        ("W64 H1000000 F25:1", "its height as 1000000"),
        ("W0 H64", "its width as 0"),
        ("W-5 H64", "its width as -5"),
        ("H64", "its width as none"),
        ("W64 Hmany", "its height as many"),
        ("W" + 99 * "9" + " H64", "its width as 99999999999999999999"),
    ],
)
def test_a_y4m_header_that_no_picture_can_have(head: str, said: str, tmp_path: Path) -> None:
    path = tmp_path / "odd header.y4m"
    path.write_bytes(f"YUV4MPEG2 {head}\nFRAME\n".encode() + bytes(6144))
    with pytest.raises(SourceError, match=f"{said}.*1 to 16384 pixels a side"):
        probe(path)
