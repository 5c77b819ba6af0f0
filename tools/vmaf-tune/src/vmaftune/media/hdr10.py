"""HDR10 metadata of a decoded frame: what the mastering display could show, and how bright the film
is (SMPTE ST 2086, CTA-861.3).
"""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from typing import Any

from vmaftune.cell import Hdr10

# AVMasteringDisplayMetadata: ten fractions of two 32-bit integers each, then two flags.
_NUM_FRACTIONS = 10
_STRUCT_BYTES = 88
DYNAMIC = {
    "DYNAMIC_HDR_PLUS": "HDR10+",
    "DOVI_METADATA": "Dolby Vision",
    "DOVI_RPU_BUFFER": "Dolby Vision",
}


def hdr10_of(frame: Any) -> Hdr10 | None:
    """The metadata of a decoded PyAV frame; None where it has none that is whole."""
    mastering: tuple[int, ...] = ()
    light: tuple[int, int] | None = None
    for data in frame.side_data:
        if data.type.name == "MASTERING_DISPLAY_METADATA":
            mastering = _mastering(bytes(data))
        elif data.type.name == "CONTENT_LIGHT_LEVEL":
            numbers = memoryview(bytes(data)).cast("I")
            light = (numbers[0], numbers[1])
    if not mastering and light is None:
        return None
    return Hdr10(mastering=mastering, light=light)


def dynamic_of(frame: Any) -> tuple[str, ...]:
    """Names of metadata that a frame has of its own: HDR10+, Dolby Vision."""
    names = (DYNAMIC.get(data.type.name) for data in frame.side_data)
    return tuple(dict.fromkeys(name for name in names if name))


def _mastering(data: bytes) -> tuple[int, ...]:
    """Red, green, blue and white (x, y; in 1/50000), least and most light (in 1/10000 cd/m2);
    empty where one is missing.
    """
    if len(data) < _STRUCT_BYTES:
        return ()
    numbers = memoryview(data[:_STRUCT_BYTES]).cast("i")
    if not all(numbers[2 * i + 1] for i in range(_NUM_FRACTIONS)) or not (
        numbers[2 * _NUM_FRACTIONS] and numbers[2 * _NUM_FRACTIONS + 1]
    ):
        return ()
    parts = [Fraction(numbers[2 * i], numbers[2 * i + 1]) for i in range(_NUM_FRACTIONS)]
    scale = [50000] * 8 + [10000] * 2
    return tuple(round(part * unit) for part, unit in zip(parts, scale, strict=True))


def hdr10_of_file(path: Path) -> Hdr10 | None:
    """The metadata of a video file's first frame."""
    import av

    with av.open(str(path)) as opened:
        return hdr10_of(next(opened.decode(video=0)))
