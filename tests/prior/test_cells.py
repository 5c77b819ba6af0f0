"""Which rows say something of their content."""

from __future__ import annotations

import pytest
from vmaf_train.prior import measured


def test_rows_that_say_nothing_of_the_window_are_left_out() -> None:
    row = {
        "status": "ok",
        "encoder": "x264",
        "preset": "fast",
        "crf": 23,
        "vmaf_score": 90.0,
        "vmaf_min": 80.0,
        "bitrate_kbps": 576.0,
        "fps": "25",
        "width": 640,
        "height": 360,
        "per_frame_features": {"motion2": 2.0},
    }
    cell = measured(row)
    assert cell is not None and cell.encoder == "libx264"
    assert cell.scores == {"mean": 90.0, "min": 80.0} and cell.motion2 == 2.0
    assert cell.bits_per_pixel == pytest.approx(0.1)
    changes: tuple[dict[str, object], ...] = (
        {"status": "failed"},
        {"encoder": "external"},
        {"encode_width": 320},
        {"options": "grain"},
        {"flags": ["suspect"]},
        {"crf": None},
    )
    for change in changes:
        assert measured(row | change) is None
