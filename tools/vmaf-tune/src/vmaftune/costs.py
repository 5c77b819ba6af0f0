"""What work is expected to cost: one model for plans, orders, time limits and the screen.

All are seconds of one core, from milliseconds a frame of 640x360. They order cells and begin the
ETA; nothing measured depends on them. From the software corpus: scoring took 5.6 ms at 8 bit (1,296
cells) and 9.9 ms at 10 bit (132 cells) on the machine that made it.
"""

from __future__ import annotations

PIXELS = 640 * 360
UNKNOWN_ENCODE_MS = 50.0
"""For an encoder or preset that the encoder table gives no cost."""
SCORE_MS, FULL_SCORE_MS = 8.0, 150.0
DEEP = 1.75
"""How much longer scoring takes at 10 bit."""
PREPARE_MS, SKIP_MS = 10.0, 50.0
"""A frame that is prepared, and at most one that is decoded on the way to it, of any size."""


def encode_s(ms: float | None, num_frames: int, width: int, height: int) -> float:
    """Seconds for an encode, from the encoder table's cost of its preset, None where unknown."""
    return (UNKNOWN_ENCODE_MS if ms is None else ms) / 1000 * num_frames * width * height / PIXELS


def score_s(
    num_frames: int, width: int, height: int, pix_fmt: str, *, is_full: bool = False
) -> float:
    """Seconds for a scoring at the size and depth of its reference; `is_full` with libvmaf's whole
    set of features.
    """
    ms = (FULL_SCORE_MS if is_full else SCORE_MS) * (DEEP if pix_fmt.endswith("le") else 1.0)
    return ms / 1000 * num_frames * width * height / PIXELS


def prepare_s(num_frames: int) -> float:
    """Seconds for a reference of `num_frames`."""
    return PREPARE_MS / 1000 * num_frames


def longest_prepare_s(num_frames: int) -> float:
    """Seconds for a reference when `num_frames` have to be decoded for it."""
    return SKIP_MS / 1000 * num_frames


def duration(seconds: float) -> str:
    """Seconds as people say them: `45 s`, `12 min`, `3 h 05 min`."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    if seconds < 5400:
        return f"{seconds / 60:.0f} min"
    return f"{int(seconds // 3600)} h {int(seconds % 3600 // 60):02d} min"


def counted(number: int, noun: str) -> str:
    """A number of things as people say it: `1 encode`, `2,000 encodes`."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"
