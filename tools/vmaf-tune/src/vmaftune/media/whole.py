"""Encode a whole film into the file that a person keeps: all cores, its sound and its own times.

The pictures go through the same crop, scale and format as the windows that were measured, so that
frame N here is frame N there; nothing else about them is changed.
"""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from vmaf_train.corpus.rows import FailureKind

from vmaftune.cell import Setting, Window
from vmaftune.media.containers import Stream, carried, container_of
from vmaftune.media.encode import COMMON, ONLY_FILES, check, fill, parse_frame_count
from vmaftune.media.failure import CellFailure
from vmaftune.media.ffmpeg import Ffmpeg

_TAIL_BYTES = 4096
_FRAME = re.compile(rb"^frame=(\d+)", re.M)


@dataclass(frozen=True, slots=True, kw_only=True)
class FilmEncode:
    """One encode of a whole film: `film` as a window from its first frame to its last."""

    film: Window
    setting: Setting
    streams: tuple[Stream, ...]
    out: Path


@dataclass(frozen=True, slots=True, kw_only=True)
class FilmMade:
    """A finished film: its file, its frames, wall and CPU seconds (None where the OS is silent)."""

    path: Path
    num_frames: int
    wall_s: float
    cpu_s: float | None


def film_argv(wanted: FilmEncode) -> list[str]:
    """The command that encodes `{film}` into `{out}`."""
    film, container = wanted.film, container_of(wanted.out)
    maps = ["-map", f"0:{film.stream_index}"]
    for stream in carried(wanted.streams):
        maps += ["-map", f"0:{stream.index}"]
    return [
        *COMMON,
        "-v",
        "info",
        "-y",
        *ONLY_FILES,
        "-i",
        "file:{film}",
        *maps,
        "-map_metadata",
        "0",
        "-map_chapters",
        "0",
        "-c",
        "copy",
        "-filter:v:0",
        ",".join(_filters(wanted)),
        *_on_first_video(wanted.setting.arguments(None, film.expected_frames)),
        "-fps_mode",
        "passthrough",
        "-max_muxing_queue_size",
        "4096",
        "-f",
        container.muxer,
        "file:{out}",
    ]


def _filters(wanted: FilmEncode) -> list[str]:
    """The window's preparation, then the setting's size, then tags and format."""
    film, setting = wanted.film, wanted.setting
    chain = ["bwdif=mode=send_frame"] if film.deinterlace else []
    if film.every > 1:
        chain.append(f"framestep={film.every}")
    if film.crop:
        crop = film.crop
        chain.append(f"crop={crop.width}:{crop.height}:{crop.x}:{crop.y}:exact=1")
    if film.scale:
        chain.append(f"scale={film.scale[0]}:{film.scale[1]}:flags=bicubic")
    if setting.size:
        chain.append(f"scale={setting.size[0]}:{setting.size[1]}:flags=bicubic")
    pix_fmt = setting.encoder.pix_fmt_for(film.pix_fmt)
    return [*chain, film.color.filter(), f"format={pix_fmt}"]


def _on_first_video(arguments: Sequence[str]) -> list[str]:
    """`-c:v` would also mean a cover picture; `-c:v:0` is the film alone."""
    return ["-c:v:0" if argument == "-c:v" else argument for argument in arguments]


def progress_of(out: Path) -> Path:
    """Where ffmpeg tells how far the encode of `out` is, while it lasts."""
    return out.with_name(f".progress-{out.name}")


def frames_done(out: Path) -> int:
    """Frames of `out` that are encoded; 0 where nothing is told."""
    try:
        with progress_of(out).open("rb") as file:
            file.seek(max(0, file.seek(0, os.SEEK_END) - _TAIL_BYTES))
            found = _FRAME.findall(file.read())
    except OSError:
        return 0
    return int(found[-1]) if found else 0


def encode_film(wanted: FilmEncode, ffmpeg: Ffmpeg, timeout_s: float) -> FilmMade:
    """Encode a film into `wanted.out`, which appears whole or not at all. `frames_done` tells how
    far it is.

    Raises CellFailure when ffmpeg fails, or writes another number of frames than the film has.
    """
    beside, progress = wanted.out.with_name(f".part-{wanted.out.name}"), progress_of(wanted.out)
    telling = ["-stats_period", "0.5", "-progress", f"file:{progress.absolute()}"]
    argv = fill(film_argv(wanted), film=os.path.abspath(wanted.film.path), out=beside.absolute())
    try:
        done = check(
            ffmpeg.run([*telling, *argv], timeout_s=timeout_s, cwd=beside.parent),
            "encoding the film",
            FailureKind.ENCODE_FAILED,
        )
        written = parse_frame_count(done.stderr)
        if written != wanted.film.expected_frames:
            raise CellFailure(
                FailureKind.WRONG_FRAME_COUNT,
                f"the film has {wanted.film.expected_frames} frames and the encode {written}",
                done,
            )
        os.replace(beside, wanted.out)
    finally:
        beside.unlink(missing_ok=True)
        progress.unlink(missing_ok=True)
    return FilmMade(path=wanted.out, num_frames=written, wall_s=done.wall_s, cpu_s=done.cpu_s)
