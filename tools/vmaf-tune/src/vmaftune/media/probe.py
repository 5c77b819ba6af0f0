"""Facts of a clip, read with PyAV (the ffmpeg wheel has no ffprobe), and the sentences that refuse
one.
"""

from __future__ import annotations

import os
import re
import struct
import threading
from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, BinaryIO

import msgspec

from vmaftune import console
from vmaftune.cell import Color, Hdr10, Raw, Seek, frame_bytes
from vmaftune.errors import SourceError
from vmaftune.media import remembered
from vmaftune.media.hdr10 import dynamic_of, hdr10_of
from vmaftune.media.remembered import stat_of

if TYPE_CHECKING:
    from av import VideoCodecContext, VideoFrame, VideoStream
    from av.container import InputContainer

MAX_SIDE = 16384  # of a picture, in pixels: more than any of the encoders takes
SUFFIXES = (".mp4", ".mkv", ".mov", ".webm", ".avi", ".mpg", ".ts", ".m2ts", ".y4m", ".yuv")
# Demuxers whose pictures lie in the file itself. A playlist or concat script names other files,
# which the source's digest would not cover, and the protocol whitelist lets a plain relative name
# pass.
DEMUXERS = {
    "mov",
    "matroska",
    "avi",
    "mpeg",
    "mpegts",
    "mpegvideo",
    "yuv4mpegpipe",
    "ivf",
    "flv",
    "asf",
    "mxf",
    "nut",
    "ogg",
    "h264",
    "hevc",
    "obu",
    "m4v",
}
NETFLIX_NAME = re.compile(r"(?P<stem>.+)_(?P<fps>\d+(?:\.\d+)?)fps$")
HDR_TRANSFERS = {"smpte2084": "PQ", "arib-std-b67": "HLG"}
# ITU-T H.273 code points -> names that ffmpeg's setparams takes.
PRIMARIES = {
    1: "bt709",
    4: "bt470m",
    5: "bt470bg",
    6: "smpte170m",
    7: "smpte240m",
    8: "film",
    9: "bt2020",
    10: "smpte428",
    11: "smpte431",
    12: "smpte432",
}
TRANSFERS = {
    1: "bt709",
    4: "bt470m",
    5: "bt470bg",
    6: "smpte170m",
    7: "smpte240m",
    8: "linear",
    9: "log100",
    10: "log316",
    11: "iec61966-2-4",
    13: "iec61966-2-1",
    14: "bt2020-10",
    15: "bt2020-12",
    16: "smpte2084",
    18: "arib-std-b67",
}
MATRICES = {
    0: "gbr",
    1: "bt709",
    4: "fcc",
    5: "bt470bg",
    6: "smpte170m",
    7: "smpte240m",
    8: "ycgco",
    9: "bt2020nc",
    10: "bt2020c",
}
RANGES = {1: "tv", 2: "pc"}
# Streams without a container: their times are made up by whoever reads them.
RAW_STREAMS = {"h264", "hevc", "obu", "m4v", "mpegvideo", "ivf", "yuv4mpegpipe"}
# Codecs that know no fields.
PROGRESSIVE = {"av1", "vp9", "vp8", "gif", "png"}
NUM_LOOKED_AT, PLACES = 8, 5
# Raised when the pass over a file's packets finds something else in the same file.
LISTING = 1
CHUNK_BYTES = 8 * 2**20
ALPHA = "has an alpha channel, which no score looks at"
# av's log level is one for the whole process.
_DESCRIBING = threading.Lock()
COMMON_RATES = (
    *(Fraction(n * 1000, 1001) for n in (24, 30, 48, 60, 120)),
    *(Fraction(n) for n in (10, 12, 15, 20, 24, 25, 30, 35, 48, 50, 60, 90, 100, 120)),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """What a clip is, before any preparation. Sizes are those after the rotation that ffmpeg
    applies on decoding.

    `num_packets` counts packets that will be shown. `vfr_at` is the first shown frame whose
    interval is off, or None. `stamps` are the frames' times in units of `time_base` where the rate
    varies and every frame has one, else empty. `notes` are what a user should know of the clip, as
    the ends of sentences.

    `shown` are the times of all frames that decode, empty where they are not known; `keys` those of
    the ones a decoder can start at, empty where seeking cannot be exact, and `unsought` says why.
    `start_s` is the container's own start, `codec` the name of its decoder. `hdr10` is the first
    frame's, and `dynamic` names what frames say of their light each for itself (HDR10+, Dolby
    Vision).
    """

    width: int
    height: int
    pix_fmt: str
    fps: str
    sar: str
    color: Color
    num_packets: int
    stream_index: int
    num_streams: int
    interlaced: bool
    vfr_at: int | None
    stamps: tuple[int, ...] = ()
    time_base: Fraction = Fraction(1)
    nominal: Fraction | None = None
    notes: tuple[str, ...] = ()
    shown: tuple[int, ...] = ()
    keys: tuple[int, ...] = ()
    unsought: str = ""
    start_s: Fraction = Fraction(0)
    codec: str = ""
    hdr10: Hdr10 | None = None
    dynamic: tuple[str, ...] = ()

    def seek(self, first: int, num_frames: int | None) -> Seek | None:
        """The way to frames `first` up to `first + num_frames`; None where decoding from the start
        is as near, or the only exact way.

        The keyframe before the last one at or before the window: a decoder that starts at the last
        one lacks what the window's first frames refer to (open GOPs), and demuxers land late.
        """
        if num_frames is None or not self.keys or first + num_frames > len(self.shown):
            return None
        stamps = self.shown[first : first + num_frames]
        last = bisect_right(self.keys, stamps[0]) - 1
        if last < 2:  # the file's first keyframe, or near it
            return None
        tick = (stamps[-1] - stamps[0]) // max(1, num_frames - 1) or 1
        return Seek(
            at_s=self._seconds(self.keys[last - 1], tick),
            earlier_s=self._seconds(self.keys[last - 2], tick) if last > 2 else None,
            start_pts=stamps[0],
            end_pts=stamps[-1] + 1,
            stamps=stamps,
        )

    def _seconds(self, key: int, tick: int) -> float:
        """Half a frame behind a keyframe, from the container's start."""
        return float((key + Fraction(tick, 2)) * self.time_base - self.start_s)

    def first_frame(self, start_s: Fraction) -> int:
        """The frame shown `start_s` seconds after the first one; that of a constant rate where that
        is what there is.
        """
        if not self.stamps:
            return round(start_s * Fraction(self.fps))
        half = median(b - a for a, b in pairwise(self.stamps)) / 2
        return bisect_left(self.stamps, self.stamps[0] + start_s / self.time_base - Fraction(half))

    def window(self, start: int, end: int) -> Facts:
        """These facts for frames `start` up to `end`: their own rate if it is constant there while
        the whole clip's is not.
        """
        if not self.stamps:
            return replace(
                self,
                vfr_at=(
                    self.vfr_at if self.vfr_at is not None and start < self.vfr_at < end else None
                ),
            )
        fps, vfr_at = _timing(self.stamps[start:end], self.time_base, self.nominal)
        return (
            replace(self, fps=fps, vfr_at=None)
            if vfr_at is None
            else replace(self, vfr_at=start + vfr_at)
        )


def raw_format(
    path: Path, size: tuple[int, int] | None, fps: str | None, pix_fmt: str | None
) -> Raw:
    """How to read a .yuv: from the flags, else from a name like the Netflix Public set's (`_25fps`,
    1920x1080 yuv420p).

    Raises SourceError when the name says nothing and flags are missing.
    """
    match = NETFLIX_NAME.fullmatch(path.stem)
    if match is None and (size is None or fps is None):
        raise SourceError(
            f"{path}: a raw .yuv has no header; give --size WIDTHxHEIGHT --fps RATE --pix-fmt"
            " FORMAT, or name it <source>_<fps>fps.yuv (then 1920x1080 yuv420p is taken)"
        )
    width, height = size or (1920, 1080)
    return Raw(
        width=width,
        height=height,
        fps=fps or (match["fps"] if match else ""),
        pix_fmt=pix_fmt or "yuv420p",
    )


def frame_rate(text: str, what: str = "--fps") -> str:
    """A frame rate such as `25`, `23.976` or `24000/1001` as an exact fraction's text. Raises
    SourceError.
    """
    try:
        rate = Fraction(text)
    except (ValueError, ZeroDivisionError) as failure:
        raise SourceError(
            f"{what} takes a rate such as 25 or 24000/1001, not {text!r}"
        ) from failure
    if rate.denominator not in (1, 1001):
        ntsc = Fraction(round(rate * 1001 / 1000) * 1000, 1001)
        rate = ntsc if abs(ntsc - rate) < Fraction(1, 100) else rate
    if not 0 < rate <= 1000:
        raise SourceError(f"{what} {text} is out of range; use a rate above 0 and up to 1000")
    return str(rate)


def probe(path: Path, raw: Raw | None = None) -> Facts:
    """Read a clip's facts: one pass over its packets, a few decoded frames.

    Raises SourceError when the file is missing, empty, not a video, or holds no frame that decodes.
    """
    if not path.is_file():
        raise SourceError(f"{path} is not a file")
    if path.stat().st_size == 0:
        raise SourceError(f"{path} is empty (0 bytes)")
    if raw is not None:
        return _raw_facts(path, raw)
    _check_y4m(path)
    import av

    try:
        # The whitelist keeps playlists and concat scripts in disguise from opening other files.
        with av.open(os.path.abspath(path), options={"protocol_whitelist": "file"}) as box:
            if box.format.name.split(",")[0] not in DEMUXERS:
                raise SourceError(
                    f"{path} is a {box.format.name} file, which is not a clip; give the clip itself"
                )
            return _container_facts(path, box)
    except av.error.FFmpegError as failure:
        raise SourceError(f"{path} cannot be read as a video: {failure.strerror}") from failure


def _check_y4m(path: Path) -> None:
    """Raise SourceError for a y4m file whose first line gives no size that a picture can have:
    ffmpeg's words for it are "Device or resource busy".
    """
    with path.open("rb") as opened:
        head = opened.read(256).partition(b"\n")[0].decode("ascii", errors="replace")
    words = head.split(" ")
    if words[0] != "YUV4MPEG2":
        return
    sides = {word[0]: word[1:] for word in words[1:] if word[:1] in ("W", "H")}
    for side, name in (("W", "width"), ("H", "height")):
        text = sides.get(side, "none")
        if not (text.isdecimal() and len(text) < 9 and 1 <= int(text) <= MAX_SIDE):
            raise SourceError(
                f"{path} gives its {name} as {text:.20} in its first line, and a picture has 1 to"
                f" {MAX_SIDE} pixels a side; the header is damaged: make the file again"
            )


def _raw_facts(path: Path, raw: Raw) -> Facts:
    try:
        one = frame_bytes(raw.width, raw.height, raw.pix_fmt)
    except KeyError as failure:
        known = "yuv420p, yuv422p, yuv444p, or one of them with 10le"
        raise SourceError(
            f"{path}: --pix-fmt {raw.pix_fmt} is not supported; it is one of {known}"
        ) from failure
    count, rest = divmod(path.stat().st_size, one)
    if rest or not count:
        raise SourceError(
            f"{path} is {path.stat().st_size} bytes, which is not a whole number of"
            f" {raw.width}x{raw.height} {raw.pix_fmt} frames ({one} bytes each); check --size and"
            " --pix-fmt, or the file is truncated"
        )
    return Facts(
        width=raw.width,
        height=raw.height,
        pix_fmt=raw.pix_fmt,
        fps=frame_rate(raw.fps),
        sar="1/1",
        color=Color(),
        num_packets=count,
        stream_index=0,
        num_streams=1,
        interlaced=False,
        vfr_at=None,
        unsought="raw frames have no times",
    )


class _Packets(msgspec.Struct, kw_only=True):
    """What one pass over a stream's packets tells: those that will be shown, where the last one
    ends, and the times of all and of keyframes.
    """

    num: int = 0
    end: int = 0
    stamps: list[int] = []
    keys: list[int] = []


def _videos(path: Path, box: InputContainer) -> list[VideoStream]:
    """The video streams that are no cover. Raises SourceError where there is none."""
    from av.stream import Disposition

    videos = [s for s in box.streams.video if not s.disposition & Disposition.attached_pic]
    if not videos:
        raise SourceError(f"{path} holds no video stream")
    return videos


def _read_whole(
    path: Path, box: InputContainer, stream: VideoStream
) -> tuple[_Packets, list[VideoFrame]]:
    """What the packets tell, and the first frames. Raises SourceError where none decodes, and for
    a file that is not whole.
    """
    read, frames = _read_packets(path, box, stream)
    if not frames or not read.num:
        raise SourceError(f"{path} holds no frame that decodes")
    _check_whole(path, box, stream, read)
    return read, frames


def _container_facts(path: Path, box: InputContainer) -> Facts:
    stream, *others = _videos(path, box)
    read, frames = _read_whole(path, box, stream)
    first = frames[0]
    width, height = _shown_size(path, box, stream, first)
    context = stream.codec_context
    stamps = sorted(read.stamps)
    nominal = stream.guessed_rate or stream.average_rate
    fps, vfr_at = _timing(stamps, stream.time_base, nominal)
    pix_fmt, full = _planar(path, first.format.name)
    untimed = _untimed(box, stream, read, first)
    # What lies before the first frame that decodes is never shown.
    shown = () if untimed else tuple(pts for pts in stamps if pts >= first.pts)
    unsought = untimed or _undecoded(read, shown)
    return Facts(
        width=width,
        height=height,
        pix_fmt=pix_fmt,
        fps=fps,
        sar=_pixel_shape(stream, first),
        color=_color(context, rgb=first.format.is_rgb, full=full),
        num_packets=read.num,
        stream_index=stream.index,
        num_streams=1 + len(others),
        interlaced=any(frame.interlaced_frame for frame in frames),
        vfr_at=vfr_at,
        stamps=tuple(stamps) if vfr_at is not None and len(stamps) == read.num else (),
        time_base=stream.time_base or Fraction(1),
        nominal=nominal,
        notes=(ALPHA,) if any(c.is_alpha for c in first.format.components) else (),
        shown=shown,
        keys=() if unsought else tuple(sorted(read.keys)),
        unsought=unsought,
        start_s=Fraction(box.start_time or 0, 1_000_000),
        codec=context.name,
        hdr10=hdr10_of(first),
        dynamic=dynamic_of(first),
    )


def _pixel_shape(stream: VideoStream, first: VideoFrame) -> str:
    """Width by height of a pixel as it is shown, as a fraction's text."""
    stored = stream.codec_context.sample_aspect_ratio
    sar = stream.sample_aspect_ratio or stored or Fraction(1)
    if sar <= 0:
        return "1"
    return str(1 / sar if first.rotation % 180 else sar)


def _color(context: VideoCodecContext, *, rgb: bool, full: bool) -> Color:
    """Tags of the frames as they are measured. RGB is converted to limited-range yuv with ffmpeg's
    default matrix; `full` is what the pixel format says of the range.
    """
    matrix, levels = MATRICES.get(int(context.colorspace)), RANGES.get(int(context.color_range))
    if full:
        levels = "pc"
    if rgb:
        matrix, levels = None, "tv"
    return Color(
        primaries=PRIMARIES.get(int(context.color_primaries), "unknown"),
        transfer=TRANSFERS.get(int(context.color_trc), "unknown"),
        matrix=matrix or "unknown",
        range=levels or "unknown",
    )


def _read_packets(
    path: Path, box: InputContainer, stream: VideoStream
) -> tuple[_Packets, list[VideoFrame]]:
    """The packets of `stream`, and its first frames decoded.

    One pass over the file. That of a large one shows how far it is, and what it found is
    remembered: then only the beginning is read.
    """
    stat = stat_of(path)
    what = f"packets-{LISTING}-{stream.index}"
    large = stat.size_bytes >= remembered.LEAST_BYTES
    known = remembered.recall(what, stat, _Packets) if large else None
    if known is not None:
        return known, _pass_over(path, box, stream, _Packets(), is_short=True)
    read = _Packets()
    if not large:
        return read, _pass_over(path, box, stream, read)
    title = f"listing the frames of {path.name} (MB)"
    with console.Steps(title, stat.size_bytes // 10**6) as steps:
        frames = _pass_over(path, box, stream, read, steps)
    remembered.keep(what, stat, read)
    return read, frames


def _pass_over(
    path: Path,
    box: InputContainer,
    stream: VideoStream,
    read: _Packets,
    steps: console.Steps | None = None,
    *,
    is_short: bool = False,
) -> list[VideoFrame]:
    """Put what the packets tell into `read`; the first frames. `is_short` ends behind these."""
    import av

    frames: list[VideoFrame] = []
    told = 0
    for packet in box.demux(stream):
        read.end = (packet.pos or 0) + packet.size or read.end
        if packet.size and not packet.is_discard:
            read.num += 1
            if packet.pts is not None:
                read.stamps.append(packet.pts)
                if packet.is_keyframe:
                    read.keys.append(packet.pts)
        if len(frames) < NUM_LOOKED_AT:
            try:
                frames += packet.decode()
            except av.error.FFmpegError as failure:
                if not frames and read.num > 50:
                    raise SourceError(
                        f"{path}: the first frames do not decode: {failure.strerror}"
                    ) from failure
        elif is_short:
            break
        if steps and read.end - told >= CHUNK_BYTES:
            told = read.end
            steps.update(told // 10**6)
    return frames


def _check_whole(path: Path, box: InputContainer, stream: VideoStream, read: _Packets) -> None:
    """Raises SourceError for a file that says of itself that it is longer.

    The index at the front of a whole mov points inside the file, a whole y4m ends with a frame, an
    AVI's chunks and the segment of an mkv or webm say how long they are, a transport stream has
    packets of one size.
    """
    kind, size = box.format.name, path.stat().st_size
    indexed = max((e.pos + e.size for e in stream.index_entries), default=0)
    short = indexed > size
    if kind == "yuv4mpegpipe":
        short = short or read.end != size
    elif kind == "avi":
        short = short or _riff_bytes(path) > size
    elif kind == "matroska,webm":
        short = short or _segment_end(path) > size
    elif kind == "mpegts":
        short = short or bool(size % _ts_packet_bytes(path))
    if short:
        raise SourceError(
            f"{path} is truncated: {read.num} frames or fewer are whole; copy or download it again"
        )


def _riff_bytes(path: Path) -> int:
    """How long the RIFF chunks of an AVI say that the file is; 0 where they do not."""
    end, size = 0, path.stat().st_size
    with path.open("rb") as file:
        while end + 8 <= size:
            file.seek(end)
            name, length = struct.unpack("<4sI", file.read(8))
            if name != b"RIFF" or not length:
                break
            end += 8 + length + length % 2
    return end


def _segment_end(path: Path) -> int:
    """Where the segment of a Matroska or WebM file ends; 0 where it does not say, as in a live
    recording.

    An element is its id, its length and its content (RFC 8794); the segment (RFC 9559) follows the
    element that begins the file.
    """
    with path.open("rb") as file:
        file.seek(4)  # the id of the first element
        file.seek(_ebml_length(file) or 0, os.SEEK_CUR)
        is_segment = file.read(4) == b"\x18\x53\x80\x67"
        length = _ebml_length(file) if is_segment else None
        return 0 if length is None else file.tell() + length


def _ebml_length(file: BinaryIO) -> int | None:
    """The length of an element, which stands where `file` is read next; None where it is not known.

    The leading zeros of its first byte count the bytes that follow; all other bits set mean that
    it is not known.
    """
    first = file.read(1)
    if not first or not first[0]:
        return None
    more = 8 - first[0].bit_length()
    value = int.from_bytes(first + file.read(more)) - (1 << 7 * (more + 1))
    return None if value == (1 << 7 * (more + 1)) - 1 else value


def _ts_packet_bytes(path: Path) -> int:
    """188, or 192 for the transport streams of discs and cameras."""
    with path.open("rb") as file:
        head = file.read(4 + 192 + 1)
    return 192 if head[4:5] == b"G" and head[196:197] == b"G" else 188


def _shown_size(
    path: Path, box: InputContainer, stream: VideoStream, first: VideoFrame
) -> tuple[int, int]:
    """Width and height as ffmpeg decodes it: the container's cropping taken off, then turned."""
    left, right, top, bottom = _cropping(box, stream)
    width, height = first.width - left - right, first.height - top - bottom
    if first.rotation % 90:
        raise SourceError(
            f"{path} is to be shown turned by {first.rotation % 360} degrees, and only multiples of"
            " 90 can be measured; turn it first, or remove the rotation (ffmpeg -display_rotation 0"
            " -i FILE -c copy NEW)"
        )
    return (height, width) if first.rotation % 180 else (width, height)


def _cropping(box: InputContainer, stream: VideoStream) -> tuple[int, int, int, int]:
    """Pixels that the container crops: left, right, top, bottom (a clean aperture in mov, PixelCrop
    in mkv). PyAV tells of it only in the text that describes a file.
    """
    import av.logging

    with _DESCRIBING:
        level = av.logging.get_level()
        av.logging.set_level(av.logging.INFO)
        try:
            text = box.dumps_format()  # type: ignore[attr-defined]  # not in PyAV's stubs
        finally:
            av.logging.set_level(level)
    own = re.search(rf"Stream #0:{stream.index}\b.*?(?=\n  Stream #|\Z)", text, re.S)
    found = re.search(r"Frame Cropping: (\d+)/(\d+)/(\d+)/(\d+)", own[0]) if own else None
    if found is None:
        return 0, 0, 0, 0
    left, right, top, bottom = (int(n) for n in found.groups())
    return left, right, top, bottom


def _undecoded(read: _Packets, shown: Sequence[int]) -> str:
    """Why frames are not where the packets say; empty where each packet is a frame."""
    missing = read.num - len(shown)
    return f"{missing} of its packets lie before the first frame that decodes" if missing else ""


def _untimed(box: InputContainer, stream: VideoStream, read: _Packets, first: VideoFrame) -> str:
    """Why the packets' times are not those of the frames; empty where every packet has one of its
    own that is not guessed.
    """
    if box.format.name in RAW_STREAMS:
        return "its frames have no times"
    if box.format.name == "avi" and stream.codec_context.has_b_frames:
        return "its frames' times are guessed (B-frames in avi)"
    if len(set(read.stamps)) < read.num or first.pts is None:
        return "not every frame has a time of its own"
    return ""


def look(path: Path, facts: Facts, start: int, end: int, *, every: bool = False) -> Facts:
    """`facts` with `interlaced` as frames `start` up to `end` say: those at some places of it, or
    with `every` all of them. Preparing the window looks at each of its frames in any case.
    """
    import av

    if facts.interlaced or not facts.shown:
        return facts
    num_frames = min(end, len(facts.shown)) - start
    if num_frames <= 0 or facts.codec in PROGRESSIVE:
        return facts
    times = [facts.shown[start]] if every else places(facts, start, start + num_frames)
    if not times:
        return facts
    with av.open(os.path.abspath(path), options={"protocol_whitelist": "file"}) as box:
        stream = box.streams[facts.stream_index]
        for at in times:
            box.seek(at, stream=stream)
            if _any_interlaced(box, stream, at, num_frames if every else NUM_LOOKED_AT):
                return replace(facts, interlaced=True)
    return facts


def places(facts: Facts, start: int, end: int) -> Sequence[int]:
    """Times in a window to look at frames from: keyframes, as nothing before one has to be decoded
    for it; the window's first frame where it has none. The file's own was looked at before.
    """
    first, last = facts.shown[start], facts.shown[end - 1]
    keys = facts.keys[bisect_left(facts.keys, first) : bisect_right(facts.keys, last)]
    found = [keys[i * len(keys) // PLACES] for i in range(PLACES)] if keys else [first]
    return [at for at in dict.fromkeys(found) if at != facts.shown[0]]


def _any_interlaced(box: InputContainer, stream: VideoStream, at: int, count: int) -> bool:
    """Whether one of `count` frames from time `at` on is interlaced."""
    import av

    left = count
    try:
        for frame in box.decode(stream):
            if frame.pts is not None and frame.pts < at:
                continue
            if frame.interlaced_frame:
                return True
            left -= 1
            if left <= 0:
                break
    except av.error.FFmpegError:
        return False  # preparing it says so, with its own words
    return False


def _planar(path: Path, name: str) -> tuple[str, bool]:
    """The planar yuv format a clip's frames are kept in, and whether its name says full range."""
    if name.startswith("yuvj"):
        return name.replace("yuvj", "yuv"), True
    match = re.fullmatch(r"yuva?(420|422|444)p(9|10|12|14|16)?(?:le)?", name)
    if match:
        return f"yuv{match[1]}p" + ("10le" if match[2] else ""), False
    if name.startswith(("gbr", "rgb", "bgr", "0rgb", "argb", "pal8")):
        return "yuv444p10le" if re.search(r"(9|1[0246]|48|64)(le)?$", name) else "yuv444p", False
    if name in (
        "nv12",
        "nv21",
        "yuv410p",
        "yuv411p",
        "yuv440p",
        "gray",
        "uyvy422",
        "yuyv422",
        "monow",
        "monob",
    ):
        return ("yuv422p" if "422" in name else "yuv420p"), False
    if name.startswith(("p010", "gray10", "gray12", "gray16", "p210", "v210")):
        return ("yuv422p10le" if "21" in name else "yuv420p10le"), False
    raise SourceError(
        f"{path}: pixel format {name} is not supported; convert it to a yuv format first"
    )


def _timing(
    stamps: Sequence[int], time_base: Fraction | None, nominal: Fraction | None
) -> tuple[str, int | None]:
    """Frame rate as a fraction's text, and the first frame whose interval is off.

    VFR = an interval off the median by more than 2 ticks and 2% (average against nominal rate is no
    test).
    """
    if len(stamps) < 2 or not time_base:
        return str(nominal or Fraction(25)), None
    gaps = [b - a for a, b in zip(stamps, stamps[1:], strict=False)]
    middle = median(gaps)
    vfr_at = next(
        (i + 1 for i, gap in enumerate(gaps) if abs(gap - middle) > max(2, 0.02 * middle)), None
    )
    if stamps[-1] == stamps[0]:
        return str(nominal or Fraction(25)), vfr_at
    span = stamps[-1] - stamps[0]
    mean = len(gaps) / (span * time_base)
    # What the header says, where the stamps cannot tell it from what they say: a second of mkv does
    # not know 29.97 from 30.
    if nominal in COMMON_RATES and abs(nominal / mean - 1) * span <= Fraction(3, 2):
        return str(nominal), vfr_at
    # Stamps are rounded to ticks (milliseconds in mkv), so a rate within 0.2% of a common one is
    # that one.
    close = min(COMMON_RATES, key=lambda rate: abs(rate - mean))
    if abs(close / mean - 1) < Fraction(2, 1000):
        return str(close), vfr_at
    return (
        str(
            (
                nominal if nominal and abs(nominal / mean - 1) < Fraction(1, 100) else mean
            ).limit_denominator(1001)
        ),
        vfr_at,
    )
