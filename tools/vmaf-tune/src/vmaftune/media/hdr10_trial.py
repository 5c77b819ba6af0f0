"""Whether an encode keeps a film's HDR10 metadata: a trial of a few frames tells, before hours of
work.

A whole encode gets the metadata from the frames that it decodes. The frames of a cell are
headerless, so ffmpeg is told of it (`-mastering_display`, from ffmpeg 8.1 on) and hands it to the
encoder and the container in the way that each of them has.
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from vmaftune.cell import Cell, Setting, Window
from vmaftune.media.encode import encode_argv, fill
from vmaftune.media.ffmpeg import Ffmpeg
from vmaftune.media.hdr10 import hdr10_of_file
from vmaftune.media.whole import FilmEncode, film_argv

_FRAMES = 3
_TIMEOUT_S = 300.0


def kept_whole(wanted: FilmEncode, ffmpeg: Ffmpeg) -> bool:
    """Whether the encode of a whole film keeps its metadata: its first frames are encoded."""
    argv = film_argv(replace(wanted, streams=()))
    short = [*argv[:-3], "-frames:v", str(_FRAMES), *argv[-3:]]
    return _is_kept(short, wanted.film, ffmpeg, wanted.out.suffix.lower())


def kept_by_cells(window: Window, setting: Setting, ffmpeg: Ffmpeg) -> bool:
    """Whether the encode of a window keeps its metadata: black frames are encoded."""
    few = replace(
        window, num_frames=_FRAMES, expected_frames=_FRAMES, pad_before=0, pad_after=0, seek=None
    )
    return _is_kept(encode_argv(Cell(window=few, setting=setting)), few, ffmpeg, ".mkv")


def _is_kept(argv: Sequence[str], window: Window, ffmpeg: Ffmpeg, suffix: str) -> bool:
    """Run a short encode of `{film}` or `{ref}`, and look at the first frame of what it wrote."""
    import av

    assert window.hdr10 is not None
    with tempfile.TemporaryDirectory(prefix="vmaf-tune-") as name:
        folder = Path(name)
        ref, out = folder / "ref.yuv", folder / f"out{suffix}"
        if "file:{ref}" in argv:
            ref.write_bytes(bytes(window.frame_bytes * _FRAMES))
        filled = fill(argv, film=Path(window.path).absolute(), ref=ref, out=out)
        done = ffmpeg.run(filled, timeout_s=_TIMEOUT_S, cwd=folder, what="a trial of HDR10 tags")
        try:
            found = None if done.returncode else hdr10_of_file(out)
        except (OSError, StopIteration, av.error.FFmpegError):
            return False
    return found is not None and found.is_near(window.hdr10)
