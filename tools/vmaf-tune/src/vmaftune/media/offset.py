"""By how many frames two clips of the same pictures are apart: found on tiny pictures of both.

The first seconds of either clip are scaled down to 64x36 grey pixels. What stands still in them is
taken away, because coding blurs it the same in every frame; what moves is correlated at each
offset. An offset is believed where it fits far better than 0 and than all others, or where it fits
as well as the best and makes both clips end together.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING

from vmaf_train.corpus.rows import FailureKind

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
WIDTH, HEIGHT = 64, 36
SHARE = 0.7
"""Another offset than 0 is looked at where it misses at most this share of what 0 misses."""
NEAR = 1.1
"""Offsets that miss at most this factor more than the best cannot be told from it."""
FEWEST = 8
"""Frames in common below which an offset is not looked at."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Offset:
    """What was found: frame i of the reference shows frame i + `frames` of the distorted clip.

    `unclear` is an offset that fits better than 0, where several do and none was taken.
    """

    frames: int
    unclear: int | None = None


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
    missing = reference.expected_frames - distorted.expected_frames
    return judge(first, second, most, ends=-missing)


def judge(reference: Pictures, distorted: Pictures, most: int, *, ends: int = 0) -> Offset:
    """The offset of two series of pictures (N, pixels), at most `most` frames either way; at `ends`
    the clips end together.
    """
    found = {}
    for offset in range(-most, most + 1):
        missed = _missed(reference, distorted, offset)
        if missed is not None:
            found[offset] = missed
    if 0 not in found:
        return Offset(frames=0)
    best = min(found, key=lambda offset: (found[offset], abs(offset)))
    near = [offset for offset in found if found[offset] <= NEAR * found[best]]
    if 0 in near or found[best] > SHARE * found[0]:
        return Offset(frames=0)
    if len(near) == 1:
        return Offset(frames=best)
    return Offset(frames=ends) if ends in near else Offset(frames=0, unclear=best)


def _missed(reference: Pictures, distorted: Pictures, offset: int) -> float | None:
    """1 - the correlation of what moves, at an offset; None where too few frames are in common, or
    nothing moves.
    """
    ours, theirs = reference[max(0, -offset) :], distorted[max(0, offset) :]
    count = min(len(ours), len(theirs))
    if count < max(FEWEST, min(len(reference), len(distorted)) // 3):
        return None
    ours, theirs = ours[:count], theirs[:count]
    ours, theirs = ours - ours.mean(axis=0), theirs - theirs.mean(axis=0)
    power = float((ours * ours).sum()) * float((theirs * theirs).sum())
    return 1 - float((ours * theirs).sum()) / power**0.5 if power > 0 else None


def _pictures(window: Window, ffmpeg: Ffmpeg, num_frames: int, timeout_s: float) -> Pictures:
    import numpy as np

    argv = fill(thumbnails_argv(window, num_frames), src=os.path.abspath(window.path))
    done = check(
        ffmpeg.run(argv, timeout_s=timeout_s), "looking for the offset", FailureKind.SOURCE_FAILED
    )
    pixels = np.frombuffer(done.stdout, np.uint8)
    pictures = pixels[: len(pixels) // (WIDTH * HEIGHT) * WIDTH * HEIGHT]
    rows = pictures.reshape(-1, WIDTH * HEIGHT).astype(np.float32)
    # Without its mean, so that a change of brightness does not count as another picture.
    means: Pictures = rows - rows.mean(axis=1, keepdims=True)
    return means
