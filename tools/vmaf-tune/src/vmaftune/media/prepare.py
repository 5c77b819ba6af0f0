"""Prepare the reference of a window: cut, crop, scale and decode it into headerless planar frames.

A window late in a file is reached by seeking. What comes out is what decoding from the start gives,
and is checked each time: every frame's stamp is the one that its packet has, and once per file the
frames are compared with those of an earlier seek point. A file that fails either is decoded from
its start. All that is believed comes from ffmpeg's own log: frames, sizes, formats, stamps.
"""

from __future__ import annotations

import hashlib
import os
import re
import threading
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from vmaf_train.corpus.rows import FailureKind

from vmaftune.cell import Window
from vmaftune.media.encode import COMMON, ONLY_FILES, check, fill, parse_frame_count
from vmaftune.media.failure import CellFailure
from vmaftune.media.ffmpeg import Ffmpeg
from vmaftune.media.graphs import Filter, chain, compiled, part, source
from vmaftune.media.process import Finished

# ffmpeg tells of every frame here, some 300 bytes each.
LOG_BYTES = 256_000_000
_SHOWN = re.compile(
    r"showinfo_\d+ @ [^\]]+\] n: *\d+ pts: *(\S+) .*? fmt:(\S+) .*? s:(\d+)x(\d+) i:(\S)"
)
_GRAPH = re.compile(r"input from stream \d+:\d+ @ [^\]]+\] w:(\d+) h:(\d+) pixfmt:(\S+)")
_WRITTEN = re.compile(
    r"^Output #0,.*?Stream #0:0[^\n]*?Video: rawvideo[^\n]*?, (yuvj?4\d\dp\w*)[^\n]*?, (\d+)x(\d+)",
    re.M | re.S,
)
_DECODED = re.compile(r"Input stream #0:\d+ \(video\): .*?; (\d+) frames decoded; (\d+) decode")


@dataclass(frozen=True, slots=True, kw_only=True)
class Prepared:
    """What ffmpeg's log says of a preparation: frames written, their size and planar format, the
    sizes and formats that came in, the frames that were decoded and those that do not decode.

    `stamps` are those of the window's frames, in ticks of the stream (None where one had none);
    `num_interlaced` of them are flagged as interlaced.
    """

    num_frames: int | None
    width: int
    height: int
    pix_fmt: str
    inputs: tuple[tuple[int, int, str], ...]
    num_decoded: int | None
    num_broken: int
    stamps: tuple[int | None, ...]
    num_interlaced: int


def parse_prepared(stderr: str) -> Prepared:
    """The facts in ffmpeg's `-v verbose` log. Raises CellFailure where it says no output size."""
    written = _WRITTEN.search(stderr)
    if written is None:
        raise CellFailure(FailureKind.SOURCE_FAILED, "ffmpeg's log does not say what it prepared")
    shown = _SHOWN.findall(stderr)
    decoded = _DECODED.search(stderr)
    # What a decoder conceals it does not call an error.
    concealed = stderr.count("corrupt decoded frame")
    return Prepared(
        num_frames=parse_frame_count(stderr),
        width=int(written[2]),
        height=int(written[3]),
        pix_fmt=written[1].replace("yuvj", "yuv"),
        inputs=tuple((int(w), int(h), f) for w, h, f in _GRAPH.findall(stderr)),
        num_decoded=int(decoded[1]) if decoded else None,
        num_broken=concealed + (int(decoded[2]) if decoded else 0),
        stamps=tuple(None if pts == "NOPTS" else int(pts) for pts, *_ in shown),
        num_interlaced=sum(kind in "TB" for *_, kind in shown),
    )


def filters(window: Window) -> list[Filter]:
    """What makes the prepared frames out of decoded ones, in order."""
    found = [_trim(window), part("showinfo", checksum=0)]
    if window.deinterlace:
        found.append(part("bwdif", mode="send_frame"))
    if window.every > 1:
        found.append(part("framestep", window.every))
    if window.crop:
        crop = window.crop
        found.append(part("crop", crop.width, crop.height, crop.x, crop.y, exact=1))
    if window.scale:
        found.append(part("scale", *window.scale, flags="bicubic"))
    # Either name of the same 8-bit planes, so that a full-range clip is never squeezed into limited
    # range.
    full = "" if window.pix_fmt.endswith("le") else f"|{window.pix_fmt.replace('yuv', 'yuvj')}"
    found.append(part("format", f"{window.pix_fmt}{full}"))
    return [step for step in found if step.name != "null"]


def _trim(window: Window) -> Filter:
    if window.seek:
        return part("trim", start_pts=window.seek.start_pts, end_pts=window.seek.end_pts)
    first, count = window.first_frame, window.num_prepared
    if count is not None:
        return part("trim", start_frame=first, end_frame=first + count * window.every)
    return part("trim", start_frame=first) if first else part("null")


def prepare_argv(window: Window) -> list[str]:
    """The command that cuts, crops, scales and decodes a window into `{ref}`, frame by frame."""
    count = window.num_prepared
    limit = ["-frames:v", str(count)] if count is not None else []
    return [*_decoding(window), *limit, "-fps_mode", "passthrough", "-f", "rawvideo", "file:{ref}"]


def digest_argv(window: Window) -> list[str]:
    """The command that writes one md5 per prepared frame to stdout."""
    return [*_decoding(window), "-fps_mode", "passthrough", "-f", "framemd5", "-"]


def _decoding(window: Window) -> list[str]:
    stream = source(0, str(window.stream_index))
    graph = compiled(chain(stream, filters(window)))
    return [
        *COMMON,
        "-v",
        "verbose",
        "-y",
        *ONLY_FILES,
        *_raw_input(window),
        *_seek_input(window),
        "-i",
        "file:{src}",
        "-lavfi",
        graph.text,
        "-map",
        graph.link,
        # A change of size shows in the bytes, and is not scaled away.
        "-noautoscale",
    ]


def _raw_input(window: Window) -> list[str]:
    raw = window.raw
    if raw is None:
        return []
    size = f"{raw.width}x{raw.height}"
    layout = ["-f", "rawvideo", "-pixel_format", raw.pix_fmt, "-video_size", size]
    return [*layout, "-framerate", window.fps]


def _seek_input(window: Window) -> list[str]:
    """Seconds from the file's start, negative for a point before its first frame."""
    if window.seek is None:
        return []
    return ["-copyts", "-noaccurate_seek", "-ss", f"{window.seek.at_s:.6f}"]


def check_prepared(window: Window, found: Prepared, num_bytes: int, done: Finished) -> int:
    """The number of frames, once bytes, log and plan agree.

    Raises CellFailure where a count, size or format differs, or changed on the way; where frames do
    not decode; and where frames are interlaced though the window is not marked so.
    """
    where = window.path
    if found.num_broken:
        raise CellFailure(
            FailureKind.SOURCE_BROKEN,
            f"{where}: {found.num_broken} frames do not decode; repair the file",
            done,
        )
    if len(set(found.inputs)) > 1:
        both = " to ".join(f"{w}x{h} {f}" for w, h, f in dict.fromkeys(found.inputs))
        raise CellFailure(
            FailureKind.SOURCE_CHANGES,
            f"{where} changes in its middle from {both}; cut it there, and measure the parts",
            done,
        )
    size = (found.width, found.height)
    if size != (window.width, window.height) or found.pix_fmt != window.pix_fmt:
        raise CellFailure(
            FailureKind.SOURCE_FAILED,
            f"{where} was prepared as {size[0]}x{size[1]} {found.pix_fmt}, not"
            f" {window.width}x{window.height} {window.pix_fmt}",
            done,
        )
    count = _count(window, found, num_bytes, done)
    if found.num_interlaced and not {"interlaced", "deinterlaced"} & set(window.flags):
        raise CellFailure(
            FailureKind.SOURCE_INTERLACED,
            f"{where}: {found.num_interlaced} of the {count} frames of the window are interlaced,"
            " though its first ones are not; cut a window without them, or take the woven frames"
            " as they are with --allow interlaced",
            done,
        )
    return count


def _count(window: Window, found: Prepared, num_bytes: int, done: Finished) -> int:
    count, rest = divmod(num_bytes, window.frame_bytes)
    if rest or not count:
        raise CellFailure(
            FailureKind.SOURCE_FAILED,
            f"the reference is not a whole number of frames ({num_bytes} bytes)",
            done,
        )
    asked = window.num_prepared
    if asked is not None and count != asked:
        raise CellFailure(
            FailureKind.SOURCE_SHORT,
            f"{window.path} has {count} of the {asked} frames asked for from frame"
            f" {window.first_frame} on",
            done,
        )
    if found.num_frames is not None and found.num_frames != count:
        raise CellFailure(
            FailureKind.SOURCE_FAILED,
            f"ffmpeg prepared {found.num_frames} frames of {window.path}, and the bytes are {count}"
            " frames",
            done,
        )
    if asked is None and count > window.expected_frames:
        raise CellFailure(
            FailureKind.SOURCE_FAILED,
            f"{window.path} decodes to {count} frames, and its packets are"
            f" {window.expected_frames}",
            done,
        )
    decoded = found.num_decoded
    of_file = -(-((decoded or 0) - window.first_frame) // window.every)
    if asked is None and decoded is not None and of_file != count:
        raise CellFailure(
            FailureKind.SOURCE_FAILED,
            f"{window.path}: {decoded} frames were decoded, and {count} prepared",
            done,
        )
    return count


class _Known:
    """Files whose seek points were proven, and those that are decoded from the start; in this
    process.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._files: dict[tuple[str, int], bool] = {}

    def get(self, window: Window) -> bool | None:
        with self._lock:
            return self._files.get((window.path, window.size_bytes))

    def set(self, window: Window, *, exact: bool) -> None:
        with self._lock:
            self._files[window.path, window.size_bytes] = exact


_KNOWN = _Known()


def prepare(window: Window, ffmpeg: Ffmpeg, out: Path, timeout_s: float) -> int:
    """Write the reference of `window` to `out`; returns its number of frames.

    Raises CellFailure when the window is short, frames do not decode, or bytes, log and plan do not
    agree.
    """
    if window.seek is not None and _KNOWN.get(window) is not False:
        try:
            count = _prepared(window, ffmpeg, out, timeout_s)
            if _KNOWN.get(window) or _same_from_earlier(window, ffmpeg, out, timeout_s):
                return count
        except CellFailure as failure:
            if failure.kind in (FailureKind.TIMEOUT, FailureKind.DISK_FULL):
                raise
        _KNOWN.set(window, exact=False)
        ffmpeg.runner.tell(
            f"{window.path} cannot be sought exactly; its windows are decoded from its start"
        )
    return _prepared(replace(window, seek=None), ffmpeg, out, timeout_s)


def _prepared(window: Window, ffmpeg: Ffmpeg, out: Path, timeout_s: float) -> int:
    argv = fill(prepare_argv(window), src=os.path.abspath(window.path), ref=out)
    done = check(
        ffmpeg.run(argv, timeout_s=timeout_s, cwd=out.parent, keep_bytes=LOG_BYTES),
        "preparing the reference",
        FailureKind.SOURCE_FAILED,
    )
    if "File ended prematurely" in done.stderr:
        raise CellFailure(
            FailureKind.SOURCE_BROKEN,
            f"{window.path} is truncated; copy or download it again",
            done,
        )
    if not out.is_file():
        raise CellFailure(FailureKind.SOURCE_FAILED, "preparing the reference wrote no file", done)
    found = parse_prepared(done.stderr)
    if window.seek and found.stamps != window.seek.stamps:
        raise CellFailure(
            FailureKind.SOURCE_FAILED, f"{window.path}: other frames came than asked for", done
        )
    return check_prepared(window, found, out.stat().st_size, done)


def _same_from_earlier(window: Window, ffmpeg: Ffmpeg, out: Path, timeout_s: float) -> bool:
    """Whether an earlier seek point gives the same frames; remembered for the whole file. True,
    and not remembered, where the window has none.
    """
    assert window.seek is not None
    if window.seek.earlier_s is None:
        return True
    earlier = replace(window, seek=replace(window.seek, at_s=window.seek.earlier_s))
    argv = fill(digest_argv(earlier), src=os.path.abspath(window.path))
    done = check(
        ffmpeg.run(argv, timeout_s=timeout_s, cwd=out.parent, keep_bytes=LOG_BYTES),
        "the comparison with an earlier seek point",
        FailureKind.SOURCE_FAILED,
    )
    lines = done.stdout.decode("ascii", "replace").splitlines()
    theirs = [line.split(",")[-1].strip() for line in lines if not line.startswith("#")]
    same = theirs == frame_digests(out, window.frame_bytes)
    if same:
        _KNOWN.set(window, exact=True)
    return same


def frame_digests(path: Path, frame_bytes: int) -> Sequence[str]:
    """md5 of each frame of a prepared reference, as ffmpeg's framemd5 writes it."""
    found = []
    with path.open("rb") as file:
        while frame := file.read(frame_bytes):
            found.append(hashlib.md5(frame, usedforsecurity=False).hexdigest())
    return found
