"""The one encoder table: what ffmpeg calls an encoder, how its quality and presets are set, what it
accepts.

Aliases, preset names, their ordinals and the quality maximum come from `vmaf_train.contract`,
because trained weights depend on them; an encoder outside the model vocabulary has them there as
well, or takes the one preset `default`. A fact that no trial encode can prove carries its origin in
`sources`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from vmaf_train.contract import ALIASES, PRESET_ORDINALS, QUALITY_MAX

from vmaftune.errors import UsageError

ONE_PRESET = "default"
_8BIT = ("yuv420p",)
_420 = ("yuv420p", "yuv420p10le")
_PLANAR = {"nv12": "yuv420p", "p010le": "yuv420p10le"}
_NV12 = ("nv12", "p010le")
SHORT = 60
"""Frames of a clip below which `Encoder.short_args` apply: above the 50 at which VVenC gives its
first packet.
"""
_ALL = ("yuv420p", "yuv422p", "yuv444p", "yuv420p10le", "yuv422p10le", "yuv444p10le")


@dataclass(frozen=True, slots=True, kw_only=True)
class Encoder:
    """One ffmpeg video encoder.

    `quality_args` holds `{q}` where the quality value goes; `thread_args` holds `{n}` for the
    number of threads. `preset_args` maps a preset name to its arguments; a name that is absent
    becomes `preset_flag NAME`. `refused_presets` are names ffmpeg accepts and we do not, each with
    the sentence that says why. `pix_fmts` are the formats we encode to, preferred first. `kind` is
    the lane: None for CPU, else the hardware. `quality_limit` is the largest quality value of an
    encoder that the model contract does not know.

    A hardware row may need a device: `device_args` stand before the inputs, `gpu_args` among the
    encoder's arguments; both hold `{device}`, the address that `gpus.Device` gives, and are left
    out when no device is chosen. A row with `upload_filter` takes frames in GPU memory: the filter
    ends the filter chain, after `format=` with the pixel format. `short_args` are for clips of
    fewer than SHORT frames.
    """

    name: str
    codec: str
    group: str
    rate_control: str
    quality_args: tuple[str, ...]
    quality_min: float
    integer_quality: bool
    default_quality: tuple[float, ...]
    default_preset: str
    preset_flag: str = "-preset"
    preset_args: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    refused_presets: Mapping[str, str] = field(default_factory=dict)
    extra_args: tuple[str, ...] = ()
    thread_args: tuple[str, ...] = ("-threads", "{n}")
    pix_fmts: tuple[str, ...] = _420
    kind: str | None = None
    quality_limit: float = 51
    device_args: tuple[str, ...] = ()
    gpu_args: tuple[str, ...] = ()
    upload_filter: str | None = None
    short_args: tuple[str, ...] = ()
    cost_ms: Mapping[str, float] = field(default_factory=dict)
    sources: Mapping[str, str] = field(default_factory=dict)

    @property
    def aliases(self) -> tuple[str, ...]:
        """Other names that the encoder goes by, the usual one first."""
        return tuple(alias for alias, name in ALIASES.items() if name == self.name)

    @property
    def quality_max(self) -> float:
        """Largest quality value of the encoder's own scale."""
        return QUALITY_MAX.get(self.name, self.quality_limit)

    @property
    def presets(self) -> tuple[str, ...]:
        """Preset names that a sweep may use, fastest first."""
        ordinals = PRESET_ORDINALS.get(self.name, {ONE_PRESET: 5})
        return tuple(
            p for p in sorted(ordinals, key=lambda p: ordinals[p]) if p not in self.refused_presets
        )

    def arguments(self, preset: str, quality: float, threads: int) -> list[str]:
        """Encoder arguments for one cell, from `-c:v` on. Takes values that were checked by the two
        below.
        """
        args = ["-c:v", self.name]
        if preset != ONE_PRESET:
            args += self.preset_args.get(preset, (self.preset_flag, preset))
        args += [a.replace("{q}", format_quality(quality)) for a in self.quality_args]
        args += self.extra_args
        args += [a.replace("{n}", str(threads)) for a in self.thread_args]
        return args

    def input_arguments(self, device: str | None) -> list[str]:
        """Arguments before the inputs that open `device`; none when the row needs none or no device
        is chosen.
        """
        return (
            [a.replace("{device}", device) for a in self.device_args] if device is not None else []
        )

    def gpu_arguments(self, device: str | None) -> list[str]:
        """Arguments after those of `arguments` that choose the GPU; none when the row needs none or
        none is chosen.
        """
        return [a.replace("{device}", device) for a in self.gpu_args] if device is not None else []

    def short_arguments(self, num_frames: int) -> list[str]:
        """Arguments after those of `arguments` that a clip of `num_frames` needs."""
        return list(self.short_args) if num_frames < SHORT else []

    def check_preset(self, preset: str) -> str:
        """`preset` if a sweep may use it. Raises UsageError that names the ones it may."""
        if preset in self.refused_presets:
            raise UsageError(
                f"{self.name}: preset {preset} is refused: {self.refused_presets[preset]}"
            )
        if preset not in self.presets:
            raise UsageError(
                f"{self.name} has no preset {preset!r}; use one of {', '.join(self.presets)}"
            )
        return preset

    def check_quality(self, quality: float) -> float:
        """`quality` as int when integral. Raises UsageError outside the range, and for a fraction
        if it takes none.
        """
        if not self.quality_min <= quality <= self.quality_max:
            low, high = format_quality(self.quality_min), format_quality(self.quality_max)
            raise UsageError(
                f"{self.name}: {self.rate_control} {format_quality(quality)} is out of range; use"
                f" {low}..{high}"
            )
        if self.integer_quality and quality != int(quality):
            raise UsageError(
                f"{self.name}: {self.rate_control} {quality} is a fraction, and it takes integers"
                " only"
            )
        return int(quality) if quality == int(quality) else quality

    def pix_fmt_for(self, source_format: str) -> str:
        """The format to encode a source of `source_format` to: the same, else 4:2:0 at its depth,
        else the first.
        """
        depth = "10le" if source_format.endswith(("10le", "12le", "16le")) else ""
        chroma = next((c for c in ("yuv444p", "yuv422p") if source_format.startswith(c)), "yuv420p")
        for wanted in (chroma + depth, "yuv420p" + depth):
            for own in self.pix_fmts:
                if planar(own) == wanted:
                    return own
        return self.pix_fmts[0]


def planar(pix_fmt: str) -> str:
    """The planar format of the same samples: hardware takes NV12 and P010, decoders give yuv420p
    and yuv420p10le.
    """
    return _PLANAR.get(pix_fmt, pix_fmt)


def format_quality(value: float) -> str:
    """A quality value as text: `23`, not `23.0`, when integral."""
    return str(int(value)) if float(value).is_integer() else repr(float(value))


_SVT_REFUSED = "in SVT-AV1 4 it gives the bitstream of preset 11; use 11"
_AOM_REFUSED = "libaom's good-quality mode treats it as 6; use 6"
# Milliseconds of one core per 640x360 frame, one thread, mean of an easy and a detailed clip: only
# seeds the ETA and the order of cells until a run has measured its own (FIELD: 80-cell trial,
# ffmpeg 9.0.2, 2 cores).
_X264_MS = {
    "ultrafast": 3,
    "superfast": 5,
    "veryfast": 6.5,
    "faster": 11,
    "fast": 15,
    "medium": 20,
    "slow": 35,
    "slower": 70,
    "veryslow": 110,
    "placebo": 300,
}
_X265_MS = {
    "ultrafast": 12,
    "superfast": 18,
    "veryfast": 28,
    "faster": 32,
    "fast": 40,
    "medium": 55,
    "slow": 100,
    "slower": 260,
    "veryslow": 450,
    "placebo": 1200,
}
_SVT_MS = {
    "11": 11,
    "10": 12.5,
    "9": 16,
    "8": 20,
    "7": 28,
    "6": 42,
    "5": 70,
    "4": 120,
    "3": 220,
    "2": 420,
    "1": 800,
    "0": 1500,
}

_HARDWARE_QUALITY = (19, 25, 31, 37)
# AV1 rows whose knob is the quantiser index 0..255 of the bitstream, not a 0..51 or 0..63 scale.
_QINDEX_QUALITY = (80, 110, 140, 170)
_NVENC_SOURCES = {
    "quality": (
        "ffmpeg -h encoder: `-cq` 0 means automatic, so 1 is the first value; HandBrake issue 2392:"
        " without `-b:v 0` older builds cap at 2 Mb/s"
    ),
    "presets": (
        "NVIDIA Video Codec SDK 10 and later: p1 fastest .. p7 slowest, the older names mean other"
        " things"
    ),
    "device": "`-gpu` counts CUDA devices; gpus.py makes CUDA count in PCI order, as NVML does",
}
_QSV_SOURCES = {
    "quality": (
        "ffmpeg libavcodec/qsvenc.c: global_quality without qscale, look-ahead or maxrate selects"
        " ICQ and is clipped to 1..51 (mfxInfoMFX.ICQQuality)"
    ),
    "presets": "ffmpeg libavcodec/qsvenc.h: veryfast is TargetUsage 7, veryslow TargetUsage 1",
    "rate_control": (
        "intel/media-driver issue 1597: a driver without ICQ for a codec refuses it; the mode that"
        " ran is RateControlMethod in the verbose log"
    ),
}
_AMF_SOURCES = {"quality": "ffmpeg -h encoder: qp_i, qp_p, qp_b 0..51, for AV1 0..255"}
_VAAPI_SOURCES = {
    "quality": (
        "ffmpeg -h encoder: qp up to 52; AV1 has global_quality alone, which vaapi_encode_av1.c"
        " takes as the quantiser index 0..255"
    ),
}
_VT_SOURCES = {
    "quality": (
        "ffmpeg libavcodec/videotoolboxenc.c: q:v 1..100 is kVTCompressionPropertyKey_Quality, 100"
        " the best; Apple silicon only"
    ),
}


def _nvenc(codec: str, *pix_fmts: str) -> Encoder:
    return Encoder(
        name=f"{codec}_nvenc",
        codec=codec,
        group="nvenc",
        kind="nvenc",
        rate_control="cq",
        quality_args=("-rc", "vbr", "-cq", "{q}", "-b:v", "0"),
        quality_min=1,
        integer_quality=False,
        default_quality=_HARDWARE_QUALITY,
        default_preset="p4",
        extra_args=("-tune", "hq"),
        thread_args=(),
        pix_fmts=pix_fmts,
        gpu_args=("-gpu", "{device}"),
        sources=_NVENC_SOURCES,
    )


def _qsv(codec: str, *pix_fmts: str) -> Encoder:
    return Encoder(
        name=f"{codec}_qsv",
        codec=codec,
        group="qsv",
        kind="qsv",
        rate_control="icq",
        quality_args=("-global_quality", "{q}"),
        quality_min=1,
        integer_quality=True,
        default_quality=_HARDWARE_QUALITY,
        default_preset="medium",
        thread_args=(),
        pix_fmts=pix_fmts,
        device_args=("-init_hw_device", "qsv=gpu:hw_any,{device}"),
        sources=_QSV_SOURCES,
    )


def _amf(
    codec: str, *pix_fmts: str, qp: tuple[str, ...] = ("i", "p", "b"), limit: float = 51
) -> Encoder:
    return Encoder(
        name=f"{codec}_amf",
        codec=codec,
        group="amf",
        kind="amf",
        rate_control="qp",
        quality_args=("-rc", "cqp", *(a for frame in qp for a in (f"-qp_{frame}", "{q}"))),
        quality_min=1,
        quality_limit=limit,
        integer_quality=True,
        default_preset=ONE_PRESET,
        thread_args=(),
        default_quality=_HARDWARE_QUALITY if limit == 51 else _QINDEX_QUALITY,
        pix_fmts=pix_fmts,
        sources=_AMF_SOURCES,
    )


def _vaapi(codec: str, *pix_fmts: str, knob: str = "-qp", limit: float = 51) -> Encoder:
    return Encoder(
        name=f"{codec}_vaapi",
        codec=codec,
        group="vaapi",
        kind="vaapi",
        rate_control="qp",
        quality_args=("-rc_mode", "CQP", knob, "{q}"),
        quality_min=1,
        quality_limit=limit,
        integer_quality=True,
        default_quality=_HARDWARE_QUALITY if limit == 51 else _QINDEX_QUALITY,
        default_preset=ONE_PRESET,
        thread_args=(),
        pix_fmts=pix_fmts,
        device_args=("-vaapi_device", "{device}"),
        upload_filter="hwupload",
        sources=_VAAPI_SOURCES,
    )


def _videotoolbox(codec: str, *pix_fmts: str) -> Encoder:
    return Encoder(
        name=f"{codec}_videotoolbox",
        codec=codec,
        group="videotoolbox",
        kind="videotoolbox",
        rate_control="q",
        quality_args=("-q:v", "{q}"),
        quality_min=1,
        quality_limit=100,
        integer_quality=True,
        default_quality=(75, 60, 45, 30),
        default_preset=ONE_PRESET,
        thread_args=(),
        pix_fmts=pix_fmts,
        sources=_VT_SOURCES,
    )


_ROWS: tuple[Encoder, ...] = (
    Encoder(
        name="libx264",
        codec="h264",
        group="software",
        rate_control="crf",
        quality_args=("-crf", "{q}"),
        quality_min=0,
        integer_quality=False,
        default_quality=(20, 26, 32, 38),
        default_preset="medium",
        pix_fmts=_ALL,
        cost_ms=_X264_MS,
    ),
    Encoder(
        name="libx265",
        codec="hevc",
        group="software",
        rate_control="crf",
        quality_args=("-crf", "{q}"),
        quality_min=0,
        integer_quality=False,
        default_quality=(20, 26, 32, 38),
        default_preset="medium",
        pix_fmts=_ALL,
        cost_ms=_X265_MS,
        thread_args=("-x265-params", "pools={n}:frame-threads=1"),
    ),
    Encoder(
        name="libsvtav1",
        codec="av1",
        group="software",
        rate_control="crf",
        quality_args=("-crf", "{q}"),
        quality_min=1,
        integer_quality=True,
        default_quality=(20, 32, 44, 56),
        default_preset="8",
        refused_presets={"12": _SVT_REFUSED, "13": _SVT_REFUSED},
        cost_ms=_SVT_MS,
        thread_args=("-svtav1-params", "lp={n}"),
    ),
    Encoder(
        name="libvvenc",
        codec="vvc",
        group="software",
        rate_control="qp",
        quality_args=("-qp", "{q}"),
        quality_min=0,
        integer_quality=True,
        default_quality=(22, 29, 36, 43),
        default_preset="faster",
        pix_fmts=("yuv420p10le",),
        # This build loses a stream whose first packet comes only at its end (46 to 49 frames): an
        # empty answer while frames are still encoded side by side is taken for the last one. The
        # same bits come out without that.
        short_args=("-vvenc-params", "maxparallelframes=0"),
        cost_ms={"faster": 90, "fast": 290, "medium": 800, "slow": 2000, "slower": 5000},
    ),
    Encoder(
        name="libvpx-vp9",
        codec="vp9",
        group="software",
        rate_control="crf",
        quality_args=("-crf", "{q}", "-b:v", "0"),
        quality_min=0,
        integer_quality=True,
        default_quality=(20, 32, 44, 56),
        default_preset="good",
        pix_fmts=_ALL,
        preset_args={
            "realtime": ("-deadline", "realtime", "-cpu-used", "5"),
            "good": ("-deadline", "good", "-cpu-used", "3"),
            "best": ("-deadline", "best"),
        },
        thread_args=("-threads", "{n}", "-row-mt", "0"),
        cost_ms={"realtime": 24, "good": 95, "best": 1300},
    ),
    Encoder(
        name="libaom-av1",
        codec="av1",
        group="software",
        rate_control="crf",
        quality_args=("-crf", "{q}", "-b:v", "0"),
        quality_min=0,
        integer_quality=True,
        default_quality=(20, 32, 44, 56),
        default_preset="6",
        pix_fmts=_ALL,
        preset_args={
            "rt8": ("-usage", "realtime", "-cpu-used", "8"),
            **{str(n): ("-usage", "good", "-cpu-used", str(n)) for n in range(7)},
        },
        refused_presets={"7": _AOM_REFUSED, "8": _AOM_REFUSED},
        thread_args=("-threads", "{n}", "-row-mt", "0"),
        cost_ms={"rt8": 30, "6": 90, "5": 150, "4": 250, "3": 450, "2": 900, "1": 1800, "0": 4000},
    ),
    _nvenc("h264", "yuv420p"),  # 10-bit H.264 needs a GPU newer than most
    _nvenc("hevc", "yuv420p", "p010le"),
    _nvenc("av1", "yuv420p", "p010le"),
    _qsv("h264", "nv12"),
    _qsv("hevc", *_NV12),
    _qsv("av1", *_NV12),
    _amf("h264", "nv12"),
    _amf("hevc", *_NV12, qp=("i", "p")),
    _amf("av1", *_NV12, limit=255),
    _vaapi("h264", "nv12"),
    _vaapi("hevc", *_NV12),
    _vaapi("av1", *_NV12, knob="-global_quality", limit=255),
    _videotoolbox("h264", "nv12"),
    _videotoolbox("hevc", *_NV12),
)

ENCODERS: Mapping[str, Encoder] = {row.name: row for row in _ROWS}
GROUPS: tuple[str, ...] = ("software", "nvenc", "qsv", "amf", "vaapi", "videotoolbox")
AUTO = "auto"


def find(word: str) -> Encoder:
    """The encoder of a full name or alias. Raises UsageError that lists what there is."""
    for row in ENCODERS.values():
        if word == row.name or word in row.aliases:
            return row
    known = ", ".join(
        (*GROUPS, AUTO, *(row.aliases[0] if row.aliases else row.name for row in ENCODERS.values()))
    )
    raise UsageError(f"no encoder is called {word!r}; known are {known}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Selection:
    """Encoders asked for on the command line; `named` ones were asked for in full, the others came
    from a group.
    """

    encoders: tuple[Encoder, ...]
    named: frozenset[str]
    auto: bool


def select(words: Sequence[str]) -> Selection:
    """Resolve names, aliases and groups, in the order given, each encoder once. Raises UsageError
    for a new word.
    """
    chosen: dict[str, Encoder] = {}
    named: set[str] = set()
    for word in (w.strip() for w in words):
        if not word:
            continue
        members = [row for row in ENCODERS.values() if row.group == word or word == AUTO]
        if not members:
            members = [find(word)]
            named.add(members[0].name)
        chosen.update({row.name: row for row in members})
    if not chosen:
        raise UsageError(
            "no encoder was named; try --encoders software, or a list such as x264,svtav1"
        )
    return Selection(encoders=tuple(chosen.values()), named=frozenset(named), auto=AUTO in words)
