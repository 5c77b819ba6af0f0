"""Sources, cells and their identities. Pure: no file is opened here.

A cell is source x encoder x preset x quality value. Its `id` is for people and globs, its `key`
says exactly what was measured with which tools; a finished row is reused only when the key is the
same.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, Literal

from vmaf_train.contract import ORDINARY_FEATURES, feature_set

from vmaftune.costs import encode_s, score_s
from vmaftune.encoders import Encoder, OptionSet, format_quality, planar
from vmaftune.errors import UsageError
from vmaftune.metrics import cost_of

TEACHER = "vmaf_v0.6.1"
SCHEMA_VERSION = 1
# What a run's folder holds besides its rows, by which it is told from a folder of clips.
SWEEP, TMP, ENCODES = "sweep.json", "tmp", "encodes"
# One entry per thing that changes numbers in the scoring command; bump when score.py changes what
# it asks for.
SCORING = "pair-by-index,6 features,clipped+unclipped,v1"
# Part of the key of a cell whose encode has another size; bump when its scaling back changes.
SCALED_BACK = "encode scaled to the window by bicubic,v1"
# Part of the key where the teacher has features of its own; bump when what is read of them changes.
OWN_FEATURES = "the teacher's own features,v1"
# Part of the key where metrics beside VMAF are measured; bump when what is asked of one changes.
FURTHER = "further metrics,v1"
# One entry per thing that changes a pair's numbers or flags beyond its command; part of every
# pair's key.
JUDGING = "aligned by 25 frames at 5 offsets,v1"
EXTERNAL = "external"
Features = Literal["six", "full"]
# A chroma sample stands for this many pixels across and down.
_CHROMA = {"yuv420p": (2, 2), "yuv422p": (2, 1), "yuv444p": (1, 1)}


def canonical(value: Any) -> str:
    """The one JSON text of a value: sorted keys, no spaces. Raises ValueError for NaN."""
    return json.dumps(
        value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False
    )


def check_utf8(*texts: object) -> None:
    """Raises UsageError for a path or argument with bytes that are not UTF-8, which no JSON file
    can keep.
    """
    for text in map(str, texts):
        if re.search(r"[\ud800-\udfff]", text):
            raise UsageError(f"{text!r} holds bytes that are not UTF-8; rename that file or folder")


def digest(value: Any) -> str:
    """Hex sha256 of the canonical JSON of a value."""
    return hashlib.sha256(canonical(value).encode()).hexdigest()


def chroma_of(pix_fmt: str) -> tuple[int, int]:
    """Pixels across and down that a chroma sample of a planar format stands for."""
    return _CHROMA[pix_fmt.removesuffix("10le")]


def frame_bytes(width: int, height: int, pix_fmt: str) -> int:
    """Bytes of one frame of planar yuv, 8 or 10 bit. Raises KeyError for any other format."""
    across, down = chroma_of(pix_fmt)
    return (width * height + 2 * -(-width // across) * -(-height // down)) * (
        2 if pix_fmt.endswith("10le") else 1
    )


def scoring(teacher: str, *, scaled: bool = False, metrics: Sequence[str] = ()) -> str:
    """How frames are scored, as part of a key; that of vmaf_v0.6.1 has been the same since 0.1."""
    parts = [SCORING]
    if scaled:
        parts.append(SCALED_BACK)
    if feature_set(teacher) != ORDINARY_FEATURES:
        parts.append(OWN_FEATURES)
    if metrics:
        parts.append(f"{FURTHER}:{','.join(metrics)}")
    return ";".join(parts)


def scoring_format(first: str, second: str) -> str:
    """The deeper and the wider of two planar formats: what both pads are converted to."""
    chroma = max((f[:7] for f in (first, second)), key=("yuv420p", "yuv422p", "yuv444p").index)
    return chroma + ("10le" if first.endswith("10le") or second.endswith("10le") else "")


@dataclass(frozen=True, slots=True, kw_only=True)
class Tools:
    """One ffmpeg binary: absolute path, the first line of `-version`, and the sha256 of
    the file.
    """

    ffmpeg: str
    ffmpeg_version: str
    ffmpeg_sha256: str
    libvmaf_version: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Color:
    """Colour tags of a clip as ffmpeg's setparams names them; `unknown` where the clip says
    nothing.
    """

    primaries: str = "unknown"
    transfer: str = "unknown"
    matrix: str = "unknown"
    range: str = "unknown"

    def tags(self) -> dict[str, str]:
        """These tags by the names that ffmpeg's setparams filter has for them."""
        return {
            "range": self.range,
            "color_primaries": self.primaries,
            "color_trc": self.transfer,
            "colorspace": self.matrix,
        }

    def filter(self) -> str:
        """The setparams filter that puts exactly these tags on frames (tags only; no picture is
        converted).
        """
        return "setparams=" + ":".join(f"{name}={value}" for name, value in self.tags().items())


@dataclass(frozen=True, slots=True, kw_only=True)
class Hdr10:
    """HDR10 metadata of a film (SMPTE ST 2086, CTA-861.3).

    `mastering` is the display it was made on: x and y of red, green, blue and white in 1/50000,
    then its least and most light in 1/10000 cd/m2; empty where not known. `light` is the brightest
    pixel and the brightest frame's mean in cd/m2, None where not known.
    """

    mastering: tuple[int, ...] = ()
    light: tuple[int, int] | None = None

    def arguments(self) -> list[str]:
        """ffmpeg's arguments that say so of the input that follows."""
        found = []
        if self.mastering:
            red, green, blue, white = (
                f"({self.mastering[i]},{self.mastering[i + 1]})" for i in (0, 2, 4, 6)
            )
            least, most = self.mastering[8:]
            text = f"G{green}B{blue}R{red}WP{white}L({most},{least})"
            found += ["-mastering_display:v:0", text]
        if self.light is not None:
            found += ["-content_light:v:0", f"{self.light[0]},{self.light[1]}"]
        return found

    def is_near(self, other: Hdr10) -> bool:
        """Equal except for the rounding of a codec's own units."""
        pairs = zip(self.mastering, other.mastering, strict=False)
        same = len(self.mastering) == len(other.mastering)
        return same and self.light == other.light and all(abs(a - b) <= 1 for a, b in pairs)


@dataclass(frozen=True, slots=True, kw_only=True)
class Raw:
    """How to read a headerless .yuv file."""

    width: int
    height: int
    fps: str
    pix_fmt: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Seek:
    """How a window late in a file is reached: seconds after the file's start to seek to, and where
    an `earlier_s` point lies (None where there is none).

    Frames whose stamps lie in `start_pts` up to `end_pts`, in ticks of the stream, are those of the
    window; they must have `stamps`.
    """

    at_s: float
    earlier_s: float | None
    start_pts: int
    end_pts: int
    stamps: tuple[int, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Crop:
    """A rectangle in pixels: width, height, left, top."""

    width: int
    height: int
    x: int
    y: int

    def __str__(self) -> str:
        return f"{self.width}x{self.height}+{self.x}+{self.y}"


def parse_size(text: str, what: str = "--scale") -> tuple[int, int]:
    """`640x360` as (640, 360). Raises UsageError."""
    match = re.fullmatch(r"(\d+)x(\d+)", text.strip())
    if not match or not int(match[1]) or not int(match[2]):
        raise UsageError(f"{what} takes WIDTHxHEIGHT such as 640x360, not {text!r}")
    return int(match[1]), int(match[2])


def parse_crop(text: str) -> Crop:
    """`968x544+156+88` as a Crop. Raises UsageError."""
    match = re.fullmatch(r"(\d+)x(\d+)\+(\d+)\+(\d+)", text.strip())
    if not match or not int(match[1]) or not int(match[2]):
        raise UsageError(f"crop takes WIDTHxHEIGHT+LEFT+TOP such as 968x544+156+88, not {text!r}")
    return Crop(width=int(match[1]), height=int(match[2]), x=int(match[3]), y=int(match[4]))


@dataclass(frozen=True, slots=True, kw_only=True)
class Window:
    """One clip window, prepared in one way: what every one of its cells encodes and is scored
    against.

    `start_frame` and `num_frames` count decoded frames; `num_frames` None means to the end, and
    `expected_frames` is then the demuxer's count. `width`, `height`, `pix_fmt` are those of the
    prepared reference. `fps` is a fraction as text. `pad_before` and `pad_after` frames around the
    window are prepared and encoded as well, and not scored. `seek` is a way to the first of them.
    Of every `every` decoded frames the first one is taken: all but `start_frame` counts those, and
    `fps` is theirs.
    `hdr10` is what the encode is told of the film's light; only encodes that a person keeps are.
    """

    name: str
    group: str
    path: str
    sha256: str
    size_bytes: int
    start_frame: int
    num_frames: int | None
    expected_frames: int
    crop: Crop | None
    scale: tuple[int, int] | None
    deinterlace: bool
    width: int
    height: int
    pix_fmt: str
    fps: str
    sar: str
    color: Color
    stream_index: int
    raw: Raw | None
    flags: tuple[str, ...] = ()
    pad_before: int = 0
    pad_after: int = 0
    every: int = 1
    seek: Seek | None = None
    hdr10: Hdr10 | None = None

    @property
    def first_frame(self) -> int:
        """The first frame that is prepared, as the file counts."""
        return self.start_frame - self.pad_before * self.every

    @property
    def num_prepared(self) -> int | None:
        """Frames that are prepared; None for all there are."""
        if self.num_frames is None:
            return None
        return self.pad_before + self.num_frames + self.pad_after

    @property
    def frame_bytes(self) -> int:
        """Bytes of one frame of the prepared reference."""
        return frame_bytes(self.width, self.height, self.pix_fmt)

    def identity(self) -> dict[str, Any]:
        """What decides the prepared pixels and their rate: part of every key of this source's
        cells.
        """
        pads = [self.pad_before, self.pad_after]
        return {
            **({"pads": pads} if any(pads) else {}),
            **({"every": self.every} if self.every > 1 else {}),
            **({"hdr10": self.hdr10.arguments()} if self.hdr10 else {}),
            "sha256": self.sha256,
            "start_frame": self.start_frame,
            "num_frames": self.num_frames,
            "crop": str(self.crop) if self.crop else None,
            "scale": list(self.scale) if self.scale else None,
            "deinterlace": self.deinterlace,
            "pix_fmt": self.pix_fmt,
            "fps": self.fps,
            "sar": self.sar,
            "color": [
                self.color.primaries,
                self.color.transfer,
                self.color.matrix,
                self.color.range,
            ],
            "stream_index": self.stream_index,
            "raw": (
                [self.raw.width, self.raw.height, self.raw.fps, self.raw.pix_fmt]
                if self.raw
                else None
            ),
        }

    @property
    def frame_rate(self) -> Fraction:
        """Frames per second, exact."""
        return Fraction(self.fps)


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """How a window is encoded: encoder, preset and quality value.

    `size` is the encode's width and height where it is not the window's, `options` a set of extra
    encoder arguments. `maxrate_kbps` (kbit/s) and `bufsize_kbps` (kbit) bound the bitrate; both are
    given or none.
    """

    encoder: Encoder
    preset: str
    quality: float
    size: tuple[int, int] | None = None
    options: OptionSet | None = None
    maxrate_kbps: int | None = None
    bufsize_kbps: int | None = None

    @property
    def id(self) -> str:
        """Readable identity, the end of a cell's id:
        `encoder/preset/quality[@WIDTHxHEIGHT][+name]`, the name being that of the option set, of
        the bound, or of both with a comma.
        """
        base = f"{self.encoder.name}/{self.preset}/{format_quality(self.quality)}"
        size = f"@{self.size[0]}x{self.size[1]}" if self.size else ""
        return base + size + (f"+{self.variant}" if self.variant else "")

    @property
    def variant(self) -> str | None:
        """The name of what is asked beside preset, quality value and size; None for nothing."""
        return self.name_of(self.options, self.maxrate_kbps, self.bufsize_kbps)

    @staticmethod
    def name_of(
        options: OptionSet | None, maxrate_kbps: int | None, bufsize_kbps: int | None
    ) -> str | None:
        """The name that an option set and a bound on the bitrate give a setting; None for none."""
        parts = [options.name] if options else []
        if maxrate_kbps is not None:
            parts.append(f"maxrate={maxrate_kbps}k:{bufsize_kbps}k")
        return ",".join(parts) or None

    @property
    def extra(self) -> list[str]:
        """The encoder's arguments beside preset and quality value: option set and bound."""
        extra = list(self.options.args) if self.options else []
        if self.maxrate_kbps is not None and self.bufsize_kbps is not None:
            extra += self.encoder.cap_arguments(self.maxrate_kbps, self.bufsize_kbps)
        return extra

    def arguments(self, threads: int | None, num_frames: int) -> list[str]:
        """The encoder's arguments, from `-c:v` on, for a window of `num_frames`; `threads` None
        leaves their number to the encoder.
        """
        return self.encoder.arguments(
            self.preset, self.quality, threads, extra=self.extra, num_frames=num_frames
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class KeptEncode:
    """An encode that was made before and kept: its file, the digest it must have, and what its row
    said of its making.
    """

    path: str
    sha256: str
    argv: tuple[str, ...]
    ffmpeg_version: str | None
    encoder_version: str | None
    rate_control: str | None
    wall_s: float | None
    cpu_s: float | None
    device: str | None
    host: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Cell:
    """One encode to make and score: a window with a setting. Where it was `kept` it is only scored.

    `threads` is the encoder's number of threads. `teacher` is the libvmaf model whose score is the
    target; `metrics` are measured beside it, in the order of `metrics.METRICS`.
    """

    window: Window
    setting: Setting
    threads: int = 1
    teacher: str = TEACHER
    metrics: tuple[str, ...] = ()
    kept: KeptEncode | None = None

    @property
    def encoder(self) -> Encoder:
        """The setting's encoder."""
        return self.setting.encoder

    @property
    def preset(self) -> str:
        """The setting's preset."""
        return self.setting.preset

    @property
    def quality(self) -> float:
        """The setting's quality value."""
        return self.setting.quality

    @property
    def id(self) -> str:
        """Readable identity: the window's name, then the setting's id."""
        return f"{self.window.name}/{self.setting.id}"

    @property
    def kind(self) -> str:
        """What its cost goes by, besides the source."""
        return f"{self.encoder.name}/{self.preset}"

    @property
    def encode_size(self) -> tuple[int, int]:
        """Width and height of the encode: the setting's, else the window's."""
        return self.setting.size or (self.window.width, self.window.height)

    @property
    def pix_fmt(self) -> str:
        """The format asked of the encoder; scoring runs at its depth."""
        return self.encoder.pix_fmt_for(self.window.pix_fmt)

    @property
    def decoded_format(self) -> str:
        """What a decoder gives of an encode in `pix_fmt`."""
        return planar(self.pix_fmt)

    def key(self, argv: Sequence[str], tools: Tools) -> str:
        """Digest of everything that decides this cell's numbers.

        `argv` is the encode command with paths replaced by `{ref}` and `{out}`.
        """
        return digest(
            {
                **({"encode": self.kept.sha256} if self.kept else {}),
                "source": self.window.identity(),
                "argv": list(argv),
                "threads": self.threads,
                "teacher": self.teacher,
                "scoring": scoring(
                    self.teacher, scaled=self.setting.size is not None, metrics=self.metrics
                ),
                "ffmpeg": [tools.ffmpeg_version, tools.ffmpeg_sha256],
                "libvmaf": tools.libvmaf_version,
            }
        )

    @property
    def num_frames(self) -> int:
        """Frames this cell should have, as far as the plan knows."""
        return self.window.num_frames or self.window.expected_frames

    @property
    def num_encoded(self) -> int:
        """Frames that are encoded and scored: those around the window as well."""
        return self.window.num_prepared or self.window.expected_frames

    @property
    def expected_encode_s(self) -> float:
        """Seconds of one core (costs.py)."""
        if self.kept is not None:
            return 0.0
        ms = self.encoder.cost_ms.get(self.preset)
        return encode_s(ms, self.num_encoded, *self.encode_size)

    @property
    def expected_score_s(self) -> float:
        """Seconds of one core (costs.py)."""
        plain = score_s(self.num_encoded, self.window.width, self.window.height, self.pix_fmt)
        return plain * cost_of(self.metrics)


@dataclass(frozen=True, slots=True, kw_only=True)
class MadeBy:
    """What made a distorted file, where its CSV says so: ffmpeg's encoder name, preset, quality
    value.
    """

    encoder: str
    preset: str
    quality: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Pair:
    """One distorted file to score against its reference: both as decoded clips, from the first
    frame to the last.

    `kbps` is the bitrate that the name of a raw file tells; None where it tells none. Frame i of
    the reference meets frame i + `offset` of the distorted clip, and what only one of them has is
    not scored. `display` is the size that both are scored at where it is not the reference's;
    `metrics` are measured beside the teacher's score. `model_file` is where the teacher is read,
    None for one that is built in.
    """

    reference: Window
    distorted: Window
    made: MadeBy | None
    teacher: str
    features: Features
    kbps: float | None
    offset: int = 0
    display: tuple[int, int] | None = None
    metrics: tuple[str, ...] = ()
    model_file: str | None = None

    @property
    def id(self) -> str:
        """Readable identity: `source/encoder/distorted`, the encoder being `external` unless it is
        known.
        """
        encoder = self.made.encoder if self.made else EXTERNAL
        return f"{self.reference.name}/{encoder}/{self.distorted.name}"

    @property
    def pix_fmt(self) -> str:
        """The deeper and the wider of the two formats: what is scored."""
        return scoring_format(self.distorted.pix_fmt, self.reference.pix_fmt)

    @property
    def scale(self) -> tuple[int, int] | None:
        """The size that the distorted clip is brought to; None where it has it."""
        size = (self.distorted.width, self.distorted.height)
        return None if size == self.size else self.size

    @property
    def reference_scale(self) -> tuple[int, int] | None:
        """The size that the reference is brought to; None where it has it."""
        size = (self.reference.width, self.reference.height)
        return None if size == self.size else self.size

    @property
    def size(self) -> tuple[int, int]:
        """Width and height that are scored."""
        return self.display or (self.reference.width, self.reference.height)

    @property
    def starts(self) -> tuple[int, int]:
        """The first frame that is scored: of the reference, and of the distorted clip."""
        return max(0, -self.offset), max(0, self.offset)

    @property
    def num_frames(self) -> int:
        """Frames that are scored, as far as the plan knows."""
        if not self.offset:
            return self.reference.expected_frames
        first, second = self.starts
        return min(self.reference.expected_frames - first, self.distorted.expected_frames - second)

    @property
    def flags(self) -> tuple[str, ...]:
        """What is known before scoring: policies that were waived, a change of size, a change of
        chroma or depth.
        """
        found = dict.fromkeys((*self.reference.flags, *self.distorted.flags))
        formats = {self.reference.pix_fmt, self.distorted.pix_fmt}
        return (
            *found,
            *(["scaled"] if self.scale or self.reference_scale else []),
            *(["shifted"] if self.offset else []),
            *(["converted"] if len(formats) > 1 else []),
        )

    @property
    def color(self) -> Color:
        """The tags that both clips get: those of the one that has any."""
        pairs = {
            n: (getattr(self.reference.color, n), getattr(self.distorted.color, n))
            for n in Color.__dataclass_fields__
        }
        return Color(**{name: a if a != "unknown" else b for name, (a, b) in pairs.items()})

    def identity(self) -> dict[str, Any]:
        """What decides this pair's pixels and what its row says of their making."""
        made = self.made
        return {
            "reference": self.reference.identity(),
            "distorted": self.distorted.identity(),
            "setting": [made.encoder, made.preset, made.quality] if made else None,
            "group": self.reference.group,
            "features": self.features,
            **({"offset": self.offset} if self.offset else {}),
            **({"display": list(self.display)} if self.display else {}),
        }

    def key(self, argv: Sequence[str], tools: Tools) -> str:
        """Digest of everything that decides this pair's numbers. `argv` is the scoring command with
        paths replaced.
        """
        return digest(
            {
                "pair": self.identity(),
                "argv": list(argv),
                "teacher": self.teacher,
                "scoring": scoring(self.teacher, metrics=self.metrics),
                "judging": JUDGING,
                "ffmpeg": [tools.ffmpeg_version, tools.ffmpeg_sha256],
                "libvmaf": tools.libvmaf_version,
            }
        )

    @property
    def kind(self) -> str:
        """What its cost goes by, besides the source."""
        return self.features

    @property
    def expected_encode_s(self) -> float:
        """Nothing is encoded."""
        return 0.0

    @property
    def expected_score_s(self) -> float:
        """Seconds of one core (costs.py)."""
        is_full = self.features == "full"
        plain = score_s(self.num_frames, *self.size, self.pix_fmt, is_full=is_full)
        return plain * cost_of(self.metrics)
