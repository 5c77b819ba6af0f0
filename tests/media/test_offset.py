"""The offset of two clips, from tiny pictures of both."""

from __future__ import annotations

import numpy as np
import pytest
from vmaftune.media.offset import HEIGHT, WIDTH, judge

RNG = np.random.default_rng(7)


def moving(count: int) -> np.ndarray:
    """Pictures that change from frame to frame, as a camera's do."""
    steps = RNG.normal(0, 4, (count, WIDTH * HEIGHT))
    return np.cumsum(steps, axis=0).astype(np.float32)


@pytest.mark.parametrize("offset", [-48, -7, -1, 0, 1, 12, 48])
def test_a_shifted_clip_is_found(offset: int) -> None:
    shown = moving(300)
    noise = RNG.normal(0, 1, (200, WIDTH * HEIGHT)).astype(np.float32)
    reference, distorted = shown[50:250], shown[50 - offset : 250 - offset] + noise
    assert judge(reference, distorted[:200], 48).frames == offset


def test_a_still_shows_no_offset() -> None:
    still = np.repeat(moving(1), 100, axis=0)
    noise = RNG.normal(0, 1, still.shape).astype(np.float32)
    assert judge(still, still + noise, 48).frames == 0


def test_other_pictures_show_no_offset() -> None:
    assert judge(moving(100), moving(100), 48).frames == 0


def test_clips_without_enough_frames_are_taken_as_they_are() -> None:
    assert judge(moving(3), moving(3), 48).frames == 0
    assert judge(moving(0), moving(3), 48).frames == 0
