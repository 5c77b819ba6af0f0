"""Facts of a clip, read with PyAV (the ffmpeg wheel has no ffprobe), and the sentences that refuse
one.
"""

from __future__ import annotations

import os
import re
from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from statistics import median

from vmaftune.cell import Color, Raw, frame_bytes
from vmaftune.errors import SourceError

SUFFIXES = (".mp4", ".mkv", ".mov", ".webm", ".avi", ".mpg", ".y4m", ".yuv")
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
    varies and every frame has one, else empty.
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
    import av

    try:
        # The whitelist keeps playlists and concat scripts in disguise from opening other files.
        with av.open(os.path.abspath(path), options={"protocol_whitelist": "file"}) as box:
            if box.format.name.split(",")[0] not in DEMUXERS:
                raise SourceError(
                    f"{path} is a {box.format.name} file, which is no clip; give the clip itself"
                )
            return _container_facts(path, box)
    except av.error.FFmpegError as failure:
        raise SourceError(f"{path} cannot be read as a video: {failure.strerror}") from failure


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
            f"{path} is {path.stat().st_size} bytes, which is no whole number of"
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
    )


def _container_facts(path: Path, box: object) -> Facts:
    import av
    from av.stream import Disposition

    videos = [s for s in box.streams.video if not s.disposition & Disposition.attached_pic]  # type: ignore[attr-defined]
    if not videos:
        raise SourceError(f"{path} holds no video stream")
    stream = videos[0]
    stamps: list[int] = []
    num_packets, first = 0, None
    end = frames = 0
    interlaced = False
    for packet in box.demux(stream):  # type: ignore[attr-defined]
        end = (packet.pos or 0) + packet.size or end
        if packet.size and not packet.is_discard:
            num_packets += 1
            if packet.pts is not None:
                stamps.append(packet.pts)
        if frames < 8:
            try:
                for frame in packet.decode():
                    frames += 1
                    first = first or frame
                    interlaced = interlaced or bool(frame.interlaced_frame)
            except av.error.FFmpegError as failure:
                if first is None and num_packets > 50:
                    raise SourceError(
                        f"{path}: the first frames do not decode: {failure.strerror}"
                    ) from failure
    if first is None or not num_packets:
        raise SourceError(f"{path} holds no frame that decodes")
    # The index at the front of a whole mov points inside the file; a whole y4m ends with a frame.
    # (A short mkv shows when it is prepared.)
    kind, size = box.format.name, path.stat().st_size  # type: ignore[attr-defined]
    if (
        max((e.pos + e.size for e in stream.index_entries), default=0) > size
        or kind == "yuv4mpegpipe"
        and end != size
    ):
        raise SourceError(
            f"{path} is truncated: {num_packets} frames or fewer are whole; copy or download it"
            " again"
        )
    width, height = first.width, first.height
    if first.rotation % 180:
        width, height = height, width
    context = stream.codec_context
    stamps.sort()
    nominal = stream.guessed_rate or stream.average_rate
    fps, vfr_at = _timing(stamps, stream.time_base, nominal)
    sar = stream.sample_aspect_ratio or context.sample_aspect_ratio or Fraction(1)
    pix_fmt, full = _planar(path, first.format.name)
    rgb = first.format.is_rgb  # converted to limited-range yuv with ffmpeg's default matrix
    return Facts(
        width=width,
        height=height,
        pix_fmt=pix_fmt,
        fps=fps,
        sar=str(1 / sar if first.rotation % 180 else sar) if sar > 0 else "1",
        color=Color(
            primaries=PRIMARIES.get(int(context.color_primaries), "unknown"),
            transfer=TRANSFERS.get(int(context.color_trc), "unknown"),
            matrix="unknown" if rgb else MATRICES.get(int(context.colorspace), "unknown"),
            range=(
                "tv" if rgb else "pc" if full else RANGES.get(int(context.color_range), "unknown")
            ),
        ),
        num_packets=num_packets,
        stream_index=stream.index,
        num_streams=len(videos),
        interlaced=interlaced,
        vfr_at=vfr_at,
        stamps=tuple(stamps) if vfr_at is not None and len(stamps) == num_packets else (),
        time_base=stream.time_base or Fraction(1),
        nominal=nominal,
    )


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
