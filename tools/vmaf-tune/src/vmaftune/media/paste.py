"""The command that a person types to encode a whole file with a setting that was measured.

A cell's own command reads headerless frames, uses one thread and writes no sound: it is exact, and
nobody can use it on a film. This one takes the film and keeps its sound. Pure: nothing runs here.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Sequence
from pathlib import Path

from vmaftune.encoders import Encoder

FILM, OUT = "film.mkv", "out.mkv"
"""Names that stand for the user's own files where no file is known."""


def user_command(
    encoder: Encoder,
    preset: str,
    quality: float,
    *,
    source: Path | str = FILM,
    out: Path | str = OUT,
    size: tuple[int, int] | None = None,
    pix_fmt: str | None = None,
    options: Sequence[str] = (),
) -> str:
    """One shell line that encodes all of `source` into `out`, its sound copied.

    `size` is width and height in pixels where the encode is smaller than the film, `pix_fmt` the
    format to convert to where it is not the film's own, `options` more arguments of the encoder.
    """
    return shlex.join(
        [
            "ffmpeg",
            "-i",
            _path(source),
            *_picture(size, pix_fmt),
            *encoder.arguments(preset, quality, None, extra=options),
            "-c:a",
            "copy",
            _path(out),
        ]
    )


def _picture(size: tuple[int, int] | None, pix_fmt: str | None) -> list[str]:
    scaled = ["-vf", f"scale={size[0]}:{size[1]}:flags=bicubic"] if size else []
    converted = ["-pix_fmt", pix_fmt] if pix_fmt else []
    return scaled + converted


def _path(path: Path | str) -> str:
    """`path` as ffmpeg takes it for a file: it reads `a:b` as a protocol and `-a` as an option."""
    text = str(path)
    if re.match(r"[A-Za-z]:[\\/]", text):
        return text  # a drive letter of Windows
    return f"file:{text}" if ":" in text or text.startswith("-") else text
