"""By how many frames two clips of the same pictures are apart: found on tiny pictures of both.

The first seconds of either clip are scaled down to 32x18 grey pixels, where coding noise is gone
and what is left is what the frame shows. At each offset the pictures are compared; the offset of
the smallest difference is believed where it is far smaller than the difference at 0.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING

from vmaftune.cell import Window
from vmaftune.media.encode import COMMON, ONLY_FILES, check, fill
from vmaftune.media.ffmpeg import Ffmpeg

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Pictures = NDArray[np.float32]

MOST_S = 2.0
"""Offsets up to this are looked for, seconds either way."""
LOOKED_S = 20.0
"""Seconds from the start of either clip that are compared."""
WIDTH, HEIGHT = 32, 18
SHARE = 0.6
"""Another offset than 0 is believed where its difference is at most this share of that at 0."""
LEAST = 0.25
"""And where it is smaller by at least this, grey levels of 256: a still shows no offset."""
FEWEST = 8
"""Frames in common below which an offset is not looked at."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Offset:
    """What was found: frame i of the reference shows frame i + `frames` of the distorted clip.

    `difference` and `at_zero` are mean differences in grey levels of 256, at that offset and at 0.
    """

    frames: int
    difference: float
    at_zero: float


def thumbnails_argv(window: Window, num_frames: int) -> list[str]:
    """The command that writes tiny grey pictures of the first frames of `{src}` to stdout."""
    raw = window.raw
    layout: list[str] = []
    if raw is not None:
        size = f"{raw.width}x{raw.height}"
        layout = ["-f", "rawvideo", "-pixel_format", raw.pix_fmt, "-video_size", size]
        layout += ["-framerate", window.fps]
    return [
        *COMMON,
        "-v",
        "error",
        *ONLY_FILES,
        *layout,
        "-i",
        "file:{src}",
        "-map",
        f"0:{window.stream_index}",
        "-vf",
        f"scale={WIDTH}:{HEIGHT}:flags=area,format=gray",
        "-frames:v",
        str(num_frames),
        "-fps_mode",
        "passthrough",
        "-f",
        "rawvideo",
        "-",
    ]


def find_offset(
    reference: Window, distorted: Window, ffmpeg: Ffmpeg, timeout_s: float = 600.0
) -> Offset:
    """The offset of two clips, up to 2 seconds either way; 0 where nothing tells it.

    Raises CellFailure when one does not decode.
    """
    num_frames = round(LOOKED_S * reference.frame_rate)
    most = round(MOST_S * reference.frame_rate)
    first = _pictures(reference, ffmpeg, num_frames, timeout_s)
    second = _pictures(distorted, ffmpeg, num_frames, timeout_s)
    return judge(first, second, most)


def judge(reference: Pictures, distorted: Pictures, most: int) -> Offset:
    """The offset of two series of pictures (N, pixels), at most `most` frames either way."""
    found = {}
    for offset in sorted(range(-most, most + 1), key=abs):
        difference = _difference(reference, distorted, offset)
        if difference is not None:
            found[offset] = difference
    if 0 not in found:
        return Offset(frames=0, difference=0.0, at_zero=0.0)
    best = min(found, key=lambda offset: found[offset])
    is_clear = found[best] <= SHARE * found[0] and found[0] - found[best] >= LEAST
    frames = best if is_clear else 0
    return Offset(frames=frames, difference=found[frames], at_zero=found[0])


def _difference(reference: Pictures, distorted: Pictures, offset: int) -> float | None:
    """Mean difference at an offset; None where too few frames are in common."""
    ours, theirs = reference[max(0, -offset) :], distorted[max(0, offset) :]
    count = min(len(ours), len(theirs))
    if count < max(FEWEST, min(len(reference), len(distorted)) // 3):
        return None
    return float(abs(ours[:count] - theirs[:count]).mean())


def _pictures(window: Window, ffmpeg: Ffmpeg, num_frames: int, timeout_s: float) -> Pictures:
    import numpy as np

    argv = fill(thumbnails_argv(window, num_frames), src=os.path.abspath(window.path))
    done = check(ffmpeg.run(argv, timeout_s=timeout_s), "looking for the offset", "source_failed")
    pixels = np.frombuffer(done.stdout, np.uint8)
    pictures = pixels[: len(pixels) // (WIDTH * HEIGHT) * WIDTH * HEIGHT]
    rows = pictures.reshape(-1, WIDTH * HEIGHT).astype(np.float32)
    # Without its mean, so that another brightness is no other picture.
    means: Pictures = rows - rows.mean(axis=1, keepdims=True)
    return means
