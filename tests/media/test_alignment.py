"""Alignment of pairs: which frames count, what offsets say, and the logs of real filters."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from vmaftune.media.alignment import (
    NUM_FRAMES,
    OFFSETS,
    Alignment,
    choose,
    detail_ratio,
    graph,
    judge,
    log_name,
    parse_errors,
)

# Written by ffmpeg 9.0.2's psnr filter on gray frames.
PSNR_LOG = """n:1 mse_avg:55.67 mse_y:55.67 psnr_avg:30.67 psnr_y:30.67 
n:2 mse_avg:0.00 mse_y:0.00 psnr_avg:inf psnr_y:inf 
n:3 mse_avg:60.35 mse_y:60.35 psnr_avg:30.32 psnr_y:30.32 
"""  # noqa: W291


def errors_of(picture: list[float], shift: int = 0) -> dict[int, list[float]]:
    """Errors at every offset of a clip whose frames are single numbers and whose copy is `shift`
    frames late.
    """
    n = len(picture)
    late = [
        picture[max(0, i - shift)] if shift >= 0 else picture[min(n - 1, i - shift)]
        for i in range(n)
    ]
    return {
        o: [(picture[i] - late[i + o]) ** 2 + 1 for i in range(max(-o, 0), n - max(o, 0))]
        for o in OFFSETS
    }


def test_a_real_log_is_read() -> None:
    assert parse_errors(PSNR_LOG) == [55.67, 0.0, 60.35]


def test_detail_is_a_ratio_of_amplitudes() -> None:
    assert detail_ratio([4.0, 4.0], [16.0, 16.0]) == 0.5
    assert detail_ratio([4.0], [0.0]) is None
    assert detail_ratio([], []) is None


@given(st.lists(st.floats(0, 50), max_size=200))
def test_the_frame_that_moves_most_of_each_part_counts(motion: list[float]) -> None:
    chosen = choose(motion)
    assert len(chosen) == max(0, min(NUM_FRAMES, len(motion) - 4))
    assert chosen == sorted(set(chosen))
    assert all(2 <= i < len(motion) - 2 for i in chosen), (
        "every chosen frame exists at every offset"
    )
    if len(motion) > 4:
        assert max(motion[2:-2]) in [motion[i] for i in chosen]


@pytest.mark.parametrize("shift", OFFSETS)
def test_the_best_offset_is_the_shift(shift: int) -> None:
    picture = [40 * math.sin(i / 3) for i in range(60)]
    found = judge(errors_of(picture, shift), [1.0] * 60, 255, None)
    assert found.best == shift
    assert found.flags == (("suspect_alignment",) if shift else ())
    assert found.num_frames == NUM_FRAMES


@pytest.mark.parametrize(
    ("psnr", "flags"),
    [
        ({-2: 30.0, -1: 30.1, 0: 30.2, 1: 30.25, 2: 30.1}, ("alignment_unverifiable",)),
        ({-2: 20.0, -1: 30.1, 0: 30.0, 1: 30.29, 2: 30.1}, ()),
        ({-2: 20.0, -1: 30.1, 0: 30.0, 1: 30.31, 2: 30.1}, ("suspect_alignment",)),
        ({-2: 20.0, -1: 25.0, 0: 38.0, 1: 25.0, 2: 20.0}, ()),
        ({}, ("alignment_unverifiable",)),
    ],
)
def test_the_margin_is_three_tenths_of_a_decibel(
    psnr: dict[int, float], flags: tuple[str, ...]
) -> None:
    assert Alignment(num_frames=25, psnr_db=psnr, detail=None).flags == flags


def test_equal_frames_and_short_clips_have_a_finite_answer() -> None:
    still = judge({o: [0.0] * (30 - abs(o)) for o in OFFSETS}, [0.0] * 30, 255, 1.0)
    assert still.flags == ("alignment_unverifiable",)
    assert all(math.isfinite(v) for v in still.psnr_db.values())
    short = judge({o: [] for o in OFFSETS}, [0.0] * 4, 255, None)
    assert (short.num_frames, short.best, short.flags) == (0, 0, ("alignment_unverifiable",))
    assert short.row()["detail_ratio"] is None


def test_ten_bits_have_their_own_peak() -> None:
    same = {o: [16.0] * (30 - abs(o)) for o in OFFSETS}
    eight, ten = (judge(same, [1.0] * 30, peak, None).psnr_db[0] for peak in (255, 1023))
    assert ten - eight == pytest.approx(20 * math.log10(1023 / 255))


def test_more_detail_than_the_reference_is_a_hint() -> None:
    aligned = {-2: 20.0, -1: 25.0, 0: 38.0, 1: 25.0, 2: 20.0}
    assert Alignment(num_frames=25, psnr_db=aligned, detail=1.03).flags == ("possible_swap",)
    assert Alignment(num_frames=25, psnr_db=aligned, detail=1.01).flags == ()


def test_every_log_has_its_own_name_and_few_frames_are_blurred() -> None:
    text = graph("a", "b", 100)
    names = [log_name(o) for o in OFFSETS] + [log_name("distorted"), log_name("reference")]
    assert all(text.count(f"stats_file={name}") == 1 for name in names)
    assert text.count("not(mod(n,12))") == 2
    assert "not(mod(n,1))" in graph("a", "b", 3)
