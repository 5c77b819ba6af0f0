"""The command that a person types to encode a whole file with a setting that was measured.

A cell's own command reads headerless frames, uses one thread and writes no sound: it is exact, and
nobody can use it on a film. This one takes the film and keeps its sound. Pure: nothing runs here.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Sequence
from pathlib import Path

from vmaftune.cell import Crop, Raw, Setting, Window
from vmaftune.encoders import Encoder, planar

FILM, OUT = "film.mkv", "out.mkv"
"""Names that stand for the user's own files where no file is known."""
GPU = "/dev/dri/renderD128"
"""The first GPU of most machines, for encoders that need one named."""


def film_command(film: Window, setting: Setting, *, out: Path | str = OUT) -> str:
    """One shell line that encodes the file of `film`, a film as one window, as its windows were
    measured: deinterlaced, cropped, scaled and converted as they were, with all of `setting`.
    """
    wanted = setting.encoder.pix_fmt_for(film.pix_fmt)
    return user_command(
        setting.encoder,
        setting.preset,
        setting.quality,
        source=film.path,
        out=out,
        size=setting.size or film.scale,
        pix_fmt=wanted if planar(wanted) != film.pix_fmt else None,
        options=setting.extra,
        crop=film.crop,
        deinterlace=film.deinterlace,
        every=film.every,
        raw=film.raw,
    )


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
    crop: Crop | None = None,
    deinterlace: bool = False,
    every: int = 1,
    raw: Raw | None = None,
) -> str:
    """One shell line that encodes all of `source` into `out`, its sound copied.

    `size` is width and height in pixels where the encode is smaller than the film, `pix_fmt` the
    format to convert to where it is not the film's own, `options` more arguments of the encoder,
    such as a bound on the bitrate. The film is deinterlaced and cut to `crop` before it is scaled;
    of `every` frames the first one is taken; `raw` says how to read one without a header.
    """
    filters = ["bwdif=mode=send_frame"] if deinterlace else []
    if every > 1:
        filters.append(f"framestep={every}")
    if crop:
        filters.append(f"crop={crop.width}:{crop.height}:{crop.x}:{crop.y}:exact=1")
    if size:
        filters.append(f"scale={size[0]}:{size[1]}:flags=bicubic")
    converted = ["-pix_fmt", pix_fmt] if pix_fmt else []
    opened: list[str] = []
    if encoder.upload_filter:  # it takes frames that lie in the GPU's memory
        opened = encoder.input_arguments(GPU)
        filters += [f"format={pix_fmt or encoder.pix_fmts[0]}", encoder.upload_filter]
        converted = []
    return shlex.join(
        [
            "ffmpeg",
            *opened,
            *(_raw_input(raw) if raw else []),
            "-i",
            _path(source),
            *(["-vf", ",".join(filters)] if filters else []),
            *converted,
            *encoder.arguments(preset, quality, None, extra=options),
            "-c:a",
            "copy",
            _path(out),
        ]
    )


def _raw_input(raw: Raw) -> list[str]:
    size, rate = f"{raw.width}x{raw.height}", raw.fps
    layout = ["-f", "rawvideo", "-pixel_format", raw.pix_fmt]
    return [*layout, "-video_size", size, "-framerate", rate]


def _path(path: Path | str) -> str:
    """`path` as ffmpeg takes it for a file: it reads `a:b` as a protocol and `-a` as an option."""
    text = str(path)
    if re.match(r"[A-Za-z]:[\\/]", text):
        return text  # a drive letter of Windows
    return f"file:{text}" if ":" in text or text.startswith("-") else text
