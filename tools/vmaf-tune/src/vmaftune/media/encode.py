"""Encode a prepared reference: argument builders (pure), the call, and the checks.

Built commands start after the program's name and hold `{src}`, `{ref}` and `{out}` where paths go,
so that the same text is the golden of a test, part of a cell's key, and what its row records.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

from vmaf_train.corpus.rows import FailureKind

from vmaftune.cell import Cell, Window
from vmaftune.encoders import Encoder
from vmaftune.media.failure import CellFailure
from vmaftune.media.ffmpeg import Ffmpeg
from vmaftune.media.process import Finished

COMMON = ("-nostdin", "-hide_banner", "-nostats")
# Playlists and concat scripts in disguise may open nothing but plain files.
ONLY_FILES = ("-protocol_whitelist", "file")
# Of commands that score: one thread for the filters, and no file.
FILTER_THREADS = ("-filter_threads", "1", "-filter_complex_threads", "1")
TO_NOWHERE = ("-fps_mode", "passthrough", "-f", "null", "-")
_ERROR = re.compile(r"error(?!s)|invalid|unable|cannot|could not|no such|not found", re.I)
# What ffmpeg says whether or not anything went wrong: threads starting, streams, its own end.
_PROGRESS = re.compile(
    r"Exiting with exit code|^\[(in|out|vf|vist|vost|vdec|enc|dec|af|graph|Parsed_\w+)[#:@ \d/]"
    r"|^(frame|size)=|^(Input|Output|Stream|Press|Metadata|Duration)\b"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Encode:
    """A finished encode: its file, wall and CPU seconds (None where the OS does not tell), and the
    encoder's version.

    `rate_control` is the mode that the log says ran, None where it says nothing (all but QSV).
    """

    path: Path
    wall_s: float | None
    cpu_s: float | None
    encoder_version: str | None
    rate_control: str | None = None


def fill(argv: Sequence[str], **paths: Path | str) -> list[str]:
    """Put paths in the place of `{src}`, `{ref}`, `{out}`; nothing else in the arguments is
    touched.
    """
    filled = []
    for arg in argv:
        for name, path in paths.items():
            if arg == f"file:{{{name}}}":
                arg = f"file:{path}"
        filled.append(arg)
    return filled


def reference_input(source: Window) -> list[str]:
    """Input arguments that read the prepared reference: headerless planar frames."""
    return [
        *ONLY_FILES,
        "-f",
        "rawvideo",
        "-pixel_format",
        source.pix_fmt,
        "-video_size",
        f"{source.width}x{source.height}",
        "-framerate",
        source.fps,
        "-threads",
        "1",
        "-i",
        "file:{ref}",
    ]


def encode_argv(cell: Cell, device: str | None = None) -> list[str]:
    """The command that encodes `{ref}` into `{out}`; the text without a `device` is in the cell's
    key and row.
    """
    source, row = cell.window, cell.encoder
    filters = [source.color.filter(), f"setsar={encode_sar(cell)}", f"format={cell.pix_fmt}"]
    if cell.setting.size:
        width, height = cell.setting.size
        filters.insert(1, f"scale={width}:{height}:flags=bicubic")
    if row.upload_filter:
        filters.append(row.upload_filter)
    return [
        *COMMON,
        "-v",
        row.log_level,
        "-y",
        "-filter_threads",
        "1",
        *row.input_arguments(device),
        *(source.hdr10.arguments() if source.hdr10 else ()),
        *reference_input(source),
        "-map",
        "0:v:0",
        "-vf",
        ",".join(filters),
        *cell.setting.arguments(cell.threads, cell.num_encoded),
        *row.gpu_arguments(device),
        "-fps_mode",
        "passthrough",
        "-fflags",
        "+bitexact",
        "-flags:v",
        "+bitexact",
        "-f",
        "matroska",
        "file:{out}",
    ]


def encode_sar(cell: Cell) -> str:
    """The sample aspect ratio of the encode: the window's, and at another shape the one that shows
    the same picture.
    """
    source = cell.window
    width, height = cell.encode_size
    stretch = Fraction(source.width * height, source.height * width)
    if abs(stretch - 1) < Fraction(1, 50):  # an even number of pixels is all that it is off by
        return source.sar
    return str((Fraction(source.sar) * stretch).limit_denominator(255))


def parse_encoder_version(encoder: Encoder, stderr: str) -> str | None:
    """The encoder's own version from its log; None where it prints none."""
    match = re.search(encoder.version_pattern, stderr) if encoder.version_pattern else None
    return match.group(1) if match else None


def rate_control_that_ran(stderr: str) -> str | None:
    """The mode a QSV encode ran in (`ICQ`, `CQP`, `VBR`, ...), from ffmpeg's `-v verbose` log; None
    where it says none.

    libavcodec/qsvenc.c prints `RateControlMethod` from the parameters that the driver gave back,
    after it was opened.
    """
    modes = re.findall(r"RateControlMethod: (\w+)", stderr)
    return modes[-1] if modes else None


def parse_frame_count(stderr: str) -> int | None:
    """Frames that ffmpeg says it wrote, in the last line of its report; None where it
    does not say.
    """
    counts = re.findall(r"^frame=\s*(\d+) ", stderr.replace("\r", "\n"), re.M)
    return int(counts[-1]) if counts else None


def check(finished: Finished, step: str, kind: FailureKind) -> Finished:
    """`finished` if it ended with 0. Raises CellFailure: timeout, disk_full, or `kind`."""
    if finished.timed_out:
        raise CellFailure(
            FailureKind.TIMEOUT,
            f"{step} was stopped after {finished.wall_s:.0f} s; raise --timeout",
            finished,
        )
    if finished.returncode:
        if "No space left on device" in finished.stderr:
            raise CellFailure(FailureKind.DISK_FULL, f"{step}: no space left on the disk", finished)
        raise CellFailure(kind, f"{step} {finished.ended}: {telling_line(finished)}", finished)
    return finished


def telling_line(finished: Finished) -> str:
    """The line of stderr that says most: the first that names an error (the rest follow from it),
    else the last one that is more than progress.
    """
    lines = [line.strip() for line in finished.stderr.splitlines()]
    telling = next((line for line in lines if _ERROR.search(line)), None)
    if telling:
        return telling
    words = [line for line in lines if line and not _PROGRESS.search(line)]
    # A process that a signal ended had no time for a last word about it.
    if finished.returncode < 0 or not words:
        return "it said nothing of an error" if any(lines) else "it said nothing"
    return words[-1]


def encode(
    cell: Cell,
    ffmpeg: Ffmpeg,
    ref: Path,
    out: Path,
    num_frames: int,
    timeout_s: float,
    device: str | None = None,
) -> Encode:
    """Encode one cell on `device` (hardware only).

    Raises CellFailure when it fails, stalls, ignores an option, or does not write the reference's
    `num_frames`.
    """
    argv = fill(encode_argv(cell, device), ref=ref, out=out)
    done = ffmpeg.run(argv, timeout_s=timeout_s, cwd=out.parent)
    check(done, "the encode", FailureKind.ENCODE_FAILED)
    if not out.is_file():
        raise CellFailure(FailureKind.ENCODE_FAILED, "the encode wrote no file", done)
    if "has not been used for any stream" in done.stderr:
        raise CellFailure(
            FailureKind.OPTION_IGNORED, "ffmpeg did not use one of the encoder's options", done
        )
    # Here, because scoring stops with the shorter of the two and may never see that the encode is
    # longer.
    written = parse_frame_count(done.stderr)
    if written is not None and written != num_frames:
        raise CellFailure(
            FailureKind.WRONG_FRAME_COUNT,
            f"the reference has {num_frames} frames and the encode {written}",
            done,
        )
    return Encode(
        path=out,
        wall_s=done.wall_s,
        cpu_s=done.cpu_s,
        encoder_version=parse_encoder_version(cell.encoder, done.stderr),
        rate_control=rate_control_that_ran(done.stderr) if cell.encoder.kind else None,
    )


def paste(ffmpeg: str, *steps: Sequence[str], **paths: Path | str) -> str:
    """Commands that can be pasted into a shell to see the same again."""
    return " && ".join(shlex.join([ffmpeg, *fill(step, **paths)]) for step in steps)
