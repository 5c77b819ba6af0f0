"""Alignment of pairs: which frames count, what offsets say, and the logs of real filters."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from vmaftune.alignment import NUM_FRAMES, OFFSETS, Alignment, choose, graph, judge, parse_detail, parse_errors

# Written by ffmpeg 9.0.2's psnr filter on gray frames, and by siti at the end of a run.
PSNR_LOG = """n:1 mse_avg:55.67 mse_y:55.67 psnr_avg:30.67 psnr_y:30.67 
n:2 mse_avg:0.00 mse_y:0.00 psnr_avg:inf psnr_y:inf 
n:3 mse_avg:60.35 mse_y:60.35 psnr_avg:30.32 psnr_y:30.32 
"""  # noqa: W291
SITI_LOG = """[siti@reference @ 0x55d8] SITI Summary:
Total frames: 0

Spatial Information:
Average: -nan
[siti@reference @ 0x7faa] SITI Summary:
Total frames: 4

Spatial Information:
Average: 97.117249
Max: 97.5
[siti@distorted @ 0x7faa] SITI Summary:
Total frames: 4

Spatial Information:
Average: 93.717392
Max: 94.1
"""


def errors_of(picture: list[float], shift: int = 0) -> dict[int, list[float]]:
    """Errors at every offset of a clip whose frames are single numbers and whose copy is `shift` frames late."""
    n = len(picture)
    late = [picture[max(0, i - shift)] if shift >= 0 else picture[min(n - 1, i - shift)] for i in range(n)]
    return {o: [(picture[i] - late[i + o]) ** 2 + 1 for i in range(max(-o, 0), n - max(o, 0))] for o in OFFSETS}


def test_real_logs_are_read() -> None:
    assert parse_errors(PSNR_LOG) == [55.67, 0.0, 60.35]
    assert parse_detail(SITI_LOG) == pytest.approx(93.717392 / 97.117249)
    assert parse_detail(SITI_LOG.split("[siti@distorted")[0]) is None
    assert parse_detail(SITI_LOG.replace("93.717392", "-nan")) is None


@given(st.lists(st.floats(0, 50), max_size=200))
def test_the_frame_that_moves_most_of_each_part_counts(motion: list[float]) -> None:
    chosen = choose(motion)
    assert len(chosen) == max(0, min(NUM_FRAMES, len(motion) - 4))
    assert chosen == sorted(set(chosen))
    assert all(2 <= i < len(motion) - 2 for i in chosen), "every chosen frame exists at every offset"
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
        ({-2: 20.0, -1: 30.1, 0: 30.0, 1: 30.3, 2: 30.1}, ()),
        ({-2: 20.0, -1: 30.1, 0: 30.0, 1: 30.31, 2: 30.1}, ("suspect_alignment",)),
        ({-2: 20.0, -1: 25.0, 0: 38.0, 1: 25.0, 2: 20.0}, ()),
        ({}, ("alignment_unverifiable",)),
    ],
)
def test_the_margin_is_three_tenths_of_a_decibel(psnr: dict[int, float], flags: tuple[str, ...]) -> None:
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


def test_the_graph_takes_a_look_at_25_frames_of_detail_and_all_of_luma() -> None:
    text = graph("a", "b", 100)
    assert text.count("psnr=") == len(OFFSETS) and text.count("siti@") == 2
    assert "not(mod(n,4))" in text and "not(mod(n,1))" in graph("a", "b", 3)
