"""The one encoder table: what ffmpeg calls an encoder, how its quality and presets are set, what it
accepts.

Aliases, preset names, their ordinals and the quality maximum come from `vmaf_train.contract`,
because trained weights depend on them; an encoder outside the model vocabulary has them there as
well, or takes the one preset `default`. A fact that no trial encode can prove carries its origin in
`sources`.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from vmaf_train.contract import ALIASES, PRESET_ORDINALS, QUALITY_MAX
from vmaf_train.errors import did_you_mean

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
class OptionSet:
    """Extra arguments of an encoder, under a name that stands in the ids of its cells."""

    name: str
    args: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Encoder:
    """One ffmpeg video encoder.

    `quality_args` holds `{q}` where the quality value goes; `thread_args` holds `{n}` for the
    number of threads. `quality_step` is the least step between two quality values, None where any
    fraction is taken; values between integers go into `fraction_args`, where the row has them.
    `preset_args` maps a preset name to its arguments; a name that is absent becomes `preset_flag
    NAME`. `refused_presets` are names ffmpeg accepts and we do not, each with the sentence that
    says why. `pix_fmts` are the formats we encode to, preferred first. `kind` is the lane: None for
    CPU, else the hardware. `quality_limit` is the largest quality value of an encoder that the
    model contract does not know.

    A hardware row may need a device: `device_args` stand before the inputs, `gpu_args` among the
    encoder's arguments; both hold `{device}`, the address that `gpus.Device` gives, and are left
    out when no device is chosen. A row with `upload_filter` takes frames in GPU memory: the filter
    ends the filter chain, after `format=` with the pixel format. `short_args` are for clips of
    fewer than SHORT frames.

    `cap_args` bound the bitrate of an encode at constant quality: `{r}` is the largest rate and
    `{b}` the buffer, both in kbit/s; empty where the encoder takes no bound. `gop_args` put a
    keyframe at every `{n}`th frame and nowhere else, so that all rungs of a ladder have theirs at
    the same frames; empty where no way is known. `options` are the
    ffmpeg options that an option set may hold, without their dash; `params` is the option that
    takes a dictionary, and `params_keys` the keys of it that may be set. `version_pattern` finds
    the encoder's own version in ffmpeg's log, which is read at `log_level`.
    """

    name: str
    codec: str
    group: str
    rate_control: str
    quality_args: tuple[str, ...]
    quality_min: float
    quality_step: float | None
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
    fraction_args: tuple[str, ...] = ()
    cap_args: tuple[str, ...] = ()
    gop_args: tuple[str, ...] = ()
    options: frozenset[str] = frozenset()
    params: str | None = None
    params_keys: frozenset[str] = frozenset()
    version_pattern: str | None = None
    log_level: str = "info"
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

    def arguments(
        self,
        preset: str,
        quality: float,
        threads: int | None,
        *,
        extra: Sequence[str] = (),
        num_frames: int | None = None,
    ) -> list[str]:
        """Encoder arguments for one cell, from `-c:v` on, with `extra` ones after its own.

        Takes values that the checks below have passed. `threads` None leaves their number to the
        encoder. A clip of fewer than SHORT frames gets what
        it needs where `num_frames` is given.
        """
        whole = not self.fraction_args or float(quality).is_integer()
        args = ["-c:v", self.name]
        if preset != ONE_PRESET:
            args += self.preset_args.get(preset, (self.preset_flag, preset))
        if whole:
            args += _filled(self.quality_args, q=format_quality(quality))
        args += self.extra_args
        if threads is not None:
            args += _filled(self.thread_args, n=str(threads))
        if not whole:
            args += _filled(self.fraction_args, q=format_quality(quality))
        if num_frames is not None and num_frames < SHORT:
            args += self.short_args
        return self._with_one_dictionary([*args, *extra])

    def cap_arguments(self, maxrate_kbps: int, bufsize_kbps: int) -> list[str]:
        """Arguments that bound the bitrate, in kbit/s and kbit. Raises UsageError where the encoder
        takes no bound.
        """
        if not self.cap_args:
            raise UsageError(
                f"{self.name} takes no --maxrate beside its constant quality; leave the bound out,"
                f" or use one of {', '.join(_capped())}"
            )
        return _filled(self.cap_args, r=str(maxrate_kbps), b=str(bufsize_kbps))

    def with_gop(self, options: OptionSet | None, num_frames: int) -> OptionSet | None:
        """`options` with a keyframe at every `num_frames`th frame and nowhere else; as they are
        where no way to that is known.
        """
        if not self.gop_args:
            return options
        name = f"{options.name},gop={num_frames}" if options else f"gop={num_frames}"
        own = options.args if options else ()
        return OptionSet(name=name, args=(*own, *_filled(self.gop_args, n=str(num_frames))))

    def _with_one_dictionary(self, args: list[str]) -> list[str]:
        """`args` with one `params` option: ffmpeg keeps the last of several, and none of the
        others.
        """
        places = [i for i, arg in enumerate(args) if arg == self.params]
        if len(places) < 2:
            return args
        joined = ":".join(args[i + 1] for i in places)
        gone = {i + offset for i in places[1:] for offset in (0, 1)}
        kept = [arg for i, arg in enumerate(args) if i not in gone]
        kept[places[0] + 1] = joined
        return kept

    def input_arguments(self, device: str | None) -> list[str]:
        """Arguments before the inputs that open `device`; none when the row needs none or no device
        is chosen.
        """

        return _filled(self.device_args, device=device) if device is not None else []

    def gpu_arguments(self, device: str | None) -> list[str]:
        """Arguments after those of `arguments` that choose the GPU; none when the row needs none or
        none is chosen.
        """
        return _filled(self.gpu_args, device=device) if device is not None else []

    def check_preset(self, preset: str) -> str:
        """`preset` if a sweep may use it. Raises UsageError that names the ones it may."""
        if preset in self.refused_presets:
            raise UsageError(
                f"{self.name}: preset {preset} is refused: {self.refused_presets[preset]}"
            )
        if preset.lower() not in self.presets:
            guess = did_you_mean(preset.lower(), self.presets)
            raise UsageError(
                f"{self.name} has no preset {preset!r}{guess}; use one of {', '.join(self.presets)}"
            )
        return preset.lower()

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
        if self.quality_step is not None and quality % self.quality_step:
            steps = "integers" if self.quality_step == 1 else f"steps of {self.quality_step}"
            raise UsageError(
                f"{self.name}: {self.rate_control} {quality} is a fraction, and it takes {steps}"
                " only"
            )
        return int(quality) if quality == int(quality) else quality

    def check_options(self, text: str, name: str | None = None) -> OptionSet:
        """The option set that `text` writes, such as `-tune film -bf 3`, under `name` or one made
        of its keys and values.

        Raises UsageError for a key that is not in the row: one that would change rate control,
        threads, size or format would make the row say what is not so.
        """
        try:
            args = shlex.split(text)
        except ValueError as failure:
            raise UsageError(f"options of {self.name}: {text!r} has an open quote") from failure
        if not args or len(args) % 2:
            raise UsageError(
                f"options of {self.name}: {text!r} is not understood; write pairs such as"
                " -tune film, and -tune film|-tune animation for two sets"
            )
        parts: list[str] = []
        for flag, value in zip(args[::2], args[1::2], strict=True):
            parts += self._checked_option(flag, value)
        return OptionSet(name=_checked_name(name or ",".join(parts)), args=tuple(args))

    def _checked_option(self, flag: str, value: str) -> list[str]:
        """`key=value` for the name of an option set: one, or those of a dictionary."""
        if not _OPTION_VALUE.fullmatch(value):
            raise UsageError(
                f"options of {self.name}: {value!r} holds signs that no option needs; use letters,"
                " digits and ._:,=-"
            )
        if flag == self.params:
            entries = [entry.partition("=") for entry in value.split(":")]
            for key, _, setting in entries:
                self._check_option_key(key, self.params_keys, f"{flag} ", complete=bool(setting))
            return [f"{key}={setting}" for key, _, setting in entries]
        key = flag.removeprefix("-")
        self._check_option_key(key, self.options, "", complete=flag.startswith("-"))
        if (key, value) in REFUSED_VALUES.get(self.name, ()):
            raise UsageError(f"options of {self.name}: -{key} {value} changes its threads")
        return [f"{key}={value}"]

    def _check_option_key(
        self, key: str, known: frozenset[str], where: str, *, complete: bool
    ) -> None:
        if key not in known:
            raise UsageError(
                f"options of {self.name}: {where}{key} cannot be varied: it is unknown, or would"
                " change rate control, threads, size or format behind the row's back; known are"
                f" {', '.join(sorted(known)) or 'none'}"
            )
        if not complete:
            raise UsageError(f"options of {self.name}: {where}{key} has no value, or no dash")

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


def _filled(args: Sequence[str], **values: str) -> list[str]:
    """`args` with every `{name}` replaced."""
    filled = list(args)
    for name, value in values.items():
        filled = [arg.replace(f"{{{name}}}", value) for arg in filled]
    return filled


def _capped() -> list[str]:
    return [row.name for row in ENCODERS.values() if row.cap_args]


def _checked_name(name: str) -> str:
    if not _OPTION_VALUE.fullmatch(name) or len(name) > 80:
        raise UsageError(
            f"{name!r} cannot be the name of an option set: use up to 80 letters, digits and ._:,=-"
        )
    return name


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


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


# A scene cut would put a keyframe of its own into one size and not into another.
_GOP_BY_KEYINT_MIN = ("-g", "{n}", "-keyint_min", "{n}")
_CAP = ("-maxrate", "{r}k", "-bufsize", "{b}k")
# What an option set may hold: ffmpeg's names, and keys of the encoders' own dictionaries. Left out
# is what sets or bounds the rate (crf, qp, qmin, qcomp, vbv, pass), threads and slices, size, pixel
# format, colour, what goes to files, and what a row tells elsewhere.
_GOP = _words("bf g keyint_min refs")
_X264_OPTIONS = _GOP | _words(
    """
    8x8dct aq-mode aq-strength b-bias b-pyramid b_strategy chromaoffset coder deblock
    direct-pred fast-pskip mbtree me_range mixed-refs motion-est partitions profile psy
    psy-rd rc-lookahead sc_threshold subq trellis tune weightb weightp
    """
)
_X264_PARAMS = _words(
    """
    8x8dct aq-mode aq-strength b-adapt b-bias b-pyramid bframes cabac chroma-qp-offset
    deadzone-inter deadzone-intra deblock direct keyint mbtree me merange min-keyint
    mixed-refs no-chroma-me no-dct-decimate no-fast-pskip no-mbtree open-gop partitions psy
    psy-rd rc-lookahead ref scenecut subme trellis weightb weightp
    """
)
_X265_OPTIONS = _GOP | _words("profile tune")
_X265_PARAMS = _words(
    """
    amp analyze-src-pics aq-mode aq-motion aq-strength b-adapt b-intra b-pyramid bframe-bias
    bframes cbqpoffs constrained-intra crqpoffs ctu cutree deblock early-skip fades
    fast-intra hevc-aq hist-scenecut keyint limit-modes limit-refs limit-sao limit-tu
    max-merge mcstf me merange min-cu-size min-keyint no-open-gop no-sao nr-inter nr-intra
    open-gop psy-rd psy-rdoq qg-size rc-lookahead rd rdoq-level rect ref rskip sao scenecut
    selective-sao signhide strong-intra-smoothing subme temporal-mvp tskip tu-inter-depth
    tu-intra-depth weightb weightp
    """
)
_SVT_OPTIONS = _words("g")
_SVT_PARAMS = _words(
    """
    ac-bias chroma-qm-max chroma-qm-min enable-cdef enable-dlf enable-mfmv enable-overlays
    enable-qm enable-restoration enable-tf enable-variance-boost fast-decode
    film-grain film-grain-denoise hierarchical-levels irefresh-type keyint lookahead
    luminance-qp-bias qm-max qm-min qp-scale-compress-strength scd scm sharpness tf-strength
    tile-columns tile-rows tune variance-boost-curve variance-boost-strength variance-octile
    """
)
_VVENC_OPTIONS = _words("g period qpa")
_VVENC_PARAMS = _words(
    """
    ALF Affine CCALF DecodingRefreshType GOPSize ISP IntraPeriod MCTF MIP PerceptQPA RDOQ
    RefreshSec SAO
    """
)
_VP9_OPTIONS = _words(
    """
    aq-mode arnr-maxframes arnr-strength arnr-type auto-alt-ref enable-tpl frame-parallel g
    keyint_min lag-in-frames min-gf-interval noise-sensitivity sharpness static-thresh
    tile-columns tile-rows tune-content
    """
)
_AOM_OPTIONS = _words(
    """
    aq-mode arnr-max-frames arnr-strength auto-alt-ref denoise-block-size
    denoise-noise-level enable-1to4-partitions enable-ab-partitions enable-cdef
    enable-global-motion enable-intrabc enable-obmc enable-palette enable-rect-partitions
    enable-restoration enable-tx64 frame-parallel g keyint_min lag-in-frames
    reduced-tx-type-set tile-columns tile-rows tune
    """
)
_AOM_PARAMS = _words(
    """
    deltaq-mode disable-trellis-quant enable-chroma-deltaq enable-keyframe-filtering
    enable-qm enable-tpl-model film-grain-test gf-max-pyr-height gf-min-pyr-height
    min-gf-interval qm-max qm-min sb-size sharpness tune-content
    """
)
_NVENC_OPTIONS = _GOP | _words(
    """
    aq-strength b_adapt b_ref_mode multipass no-scenecut nonref_p rc-lookahead spatial-aq
    temporal-aq tune weighted_pred
    """
)
_QSV_OPTIONS = _GOP | _words("adaptive_b adaptive_i b_strategy")
# Values that an option may not take although others of it are fine.
REFUSED_VALUES: Mapping[str, frozenset[tuple[str, str]]] = {
    "libx264": frozenset({("tune", "zerolatency")}),  # cuts pictures into slices, one per thread
}
_OPTION_VALUE = re.compile(r"[A-Za-z0-9._:,=-]+")
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
    "gop": "ffmpeg -h encoder: no-scenecut and forced-idr; every ladder reads its files' packets",
    "device": "`-gpu` counts CUDA devices; gpus.py makes CUDA count in PCI order, as NVML does",
}
_QSV_SOURCES = {
    "quality": (
        "ffmpeg libavcodec/qsvenc.c: global_quality without qscale, look-ahead or maxrate selects"
        " ICQ and is clipped to 1..51 (mfxInfoMFX.ICQQuality)"
    ),
    "gop": "ffmpeg -h encoder: adaptive_i, idr_interval 0; every ladder reads its files' packets",
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
        quality_step=None,
        default_quality=_HARDWARE_QUALITY,
        default_preset="p4",
        extra_args=("-tune", "hq"),
        thread_args=(),
        pix_fmts=pix_fmts,
        gpu_args=("-gpu", "{device}"),
        gop_args=("-g", "{n}", "-no-scenecut", "1", "-forced-idr", "1"),
        options=_NVENC_OPTIONS,
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
        quality_step=1,
        default_quality=_HARDWARE_QUALITY,
        default_preset="medium",
        thread_args=(),
        pix_fmts=pix_fmts,
        device_args=("-init_hw_device", "qsv=gpu:hw_any,{device}"),
        log_level="verbose",  # only there does QSV say which rate control ran
        gop_args=("-g", "{n}", "-adaptive_i", "0"),
        options=_QSV_OPTIONS,
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
        quality_step=1,
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
        quality_step=1,
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
        quality_step=1,
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
        quality_step=None,
        default_quality=(20, 26, 32, 38),
        default_preset="medium",
        pix_fmts=_ALL,
        cap_args=_CAP,
        gop_args=("-g", "{n}", "-sc_threshold", "0"),
        options=_X264_OPTIONS,
        params="-x264-params",
        params_keys=_X264_PARAMS,
        cost_ms=_X264_MS,
    ),
    Encoder(
        name="libx265",
        codec="hevc",
        group="software",
        rate_control="crf",
        quality_args=("-crf", "{q}"),
        quality_min=0,
        quality_step=None,
        default_quality=(20, 26, 32, 38),
        default_preset="medium",
        pix_fmts=_ALL,
        cap_args=_CAP,
        gop_args=("-x265-params", "keyint={n}:min-keyint={n}:scenecut=0:open-gop=0"),
        options=_X265_OPTIONS,
        params="-x265-params",
        params_keys=_X265_PARAMS,
        version_pattern=r"HEVC encoder version (\S+)",
        cost_ms=_X265_MS,
        thread_args=("-x265-params", "pools={n}:frame-threads=1"),
    ),
    Encoder(
        name="libsvtav1",
        codec="av1",
        group="software",
        rate_control="crf",
        quality_args=("-crf", "{q}"),
        # `-crf` takes integers and drops a fraction without a word; SVT-AV1's own key takes
        # quarters.
        quality_min=1,
        quality_step=0.25,
        fraction_args=("-svtav1-params", "crf={q}"),
        default_quality=(20, 32, 44, 56),
        default_preset="8",
        refused_presets={"12": _SVT_REFUSED, "13": _SVT_REFUSED},
        # Without the last one the bound is passed by up to half, SVT-AV1's own default; it heeds no
        # buffer.
        cap_args=(*_CAP, "-svtav1-params", "mbr-overshoot-pct=0"),
        gop_args=("-g", "{n}", "-svtav1-params", "scd=0"),
        options=_SVT_OPTIONS,
        params="-svtav1-params",
        params_keys=_SVT_PARAMS,
        version_pattern=r"SVT-AV1 Encoder Lib (\S+)",
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
        quality_step=1,
        default_quality=(22, 29, 36, 43),
        default_preset="faster",
        pix_fmts=("yuv420p10le",),
        # This build loses a stream whose first packet comes only at its end (46 to 49 frames): an
        # empty answer while frames are still encoded side by side is taken for the last one. The
        # same bits come out without that.
        short_args=("-vvenc-params", "maxparallelframes=0"),
        options=_VVENC_OPTIONS,
        params="-vvenc-params",
        params_keys=_VVENC_PARAMS,
        version_pattern=r"libvvenc version: (\S+)",
        cost_ms={"faster": 90, "fast": 290, "medium": 800, "slow": 2000, "slower": 5000},
    ),
    Encoder(
        name="libvpx-vp9",
        codec="vp9",
        group="software",
        rate_control="crf",
        quality_args=("-crf", "{q}", "-b:v", "0"),
        quality_min=0,
        quality_step=1,
        default_quality=(20, 32, 44, 56),
        default_preset="good",
        pix_fmts=_ALL,
        preset_args={
            "realtime": ("-deadline", "realtime", "-cpu-used", "5"),
            "good": ("-deadline", "good", "-cpu-used", "3"),
            "best": ("-deadline", "best"),
        },
        thread_args=("-threads", "{n}", "-row-mt", "0"),
        gop_args=_GOP_BY_KEYINT_MIN,
        options=_VP9_OPTIONS,
        version_pattern=r"\[libvpx-vp9 @ [^\]]+\] (v\S+)",
        cost_ms={"realtime": 24, "good": 95, "best": 1300},
    ),
    Encoder(
        name="libaom-av1",
        codec="av1",
        group="software",
        rate_control="crf",
        quality_args=("-crf", "{q}", "-b:v", "0"),
        quality_min=0,
        quality_step=1,
        default_quality=(20, 32, 44, 56),
        default_preset="6",
        pix_fmts=_ALL,
        preset_args={
            "rt8": ("-usage", "realtime", "-cpu-used", "8"),
            **{str(n): ("-usage", "good", "-cpu-used", str(n)) for n in range(7)},
        },
        refused_presets={"7": _AOM_REFUSED, "8": _AOM_REFUSED},
        thread_args=("-threads", "{n}", "-row-mt", "0"),
        gop_args=_GOP_BY_KEYINT_MIN,
        options=_AOM_OPTIONS,
        params="-aom-params",
        params_keys=_AOM_PARAMS,
        version_pattern=r"\[libaom-av1 @ [^\]]+\] (v?\d\S+)",
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
    """The encoder of a full name or alias, in upper or lower case. Raises UsageError that says what
    was meant, or lists what there is.
    """
    wanted = word.lower()
    for row in ENCODERS.values():
        if wanted == row.name or wanted in row.aliases:
            return row
    of_codec = [_usual_name(row) for row in ENCODERS.values() if wanted in _codec_names(row)]
    if of_codec:
        raise UsageError(
            f"{word} is a codec, and it has several encoders; name one of {', '.join(of_codec)}"
        )
    of_group = [_usual_name(row) for row in ENCODERS.values() if wanted in (row.group, AUTO)]
    if of_group:
        # `select` takes groups before it comes here: whoever asks for one encoder does not.
        raise UsageError(f"{word} is a group, and this takes one encoder: {', '.join(of_group)}")
    usual = [_usual_name(row) for row in ENCODERS.values()]
    aliases = [alias for row in ENCODERS.values() for alias in row.aliases]
    guess = did_you_mean(wanted, [*GROUPS, AUTO, *aliases, *ENCODERS])
    known = ", ".join((*GROUPS, AUTO, *usual))
    raise UsageError(
        f"no encoder is called {word!r}{guess}; known are {known}, and ffmpeg's own names such as"
        " libx264"
    )


def _usual_name(row: Encoder) -> str:
    return row.aliases[0] if row.aliases else row.name


def _codec_names(row: Encoder) -> tuple[str, ...]:
    others = {"h264": ("avc", "h.264"), "hevc": ("h265", "h.265"), "vvc": ("h266", "h.266")}
    return (row.codec, *others.get(row.codec, ()))


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
        group = word.lower()
        members = [row for row in ENCODERS.values() if group == row.group or group == AUTO]
        if not members:
            members = [find(word)]
            named.add(members[0].name)
        chosen.update({row.name: row for row in members})
    if not chosen:
        raise UsageError(
            "no encoder was named; try --encoders software, or a list such as x264,svtav1"
        )
    return Selection(
        encoders=tuple(chosen.values()),
        named=frozenset(named),
        auto=AUTO in [w.strip().lower() for w in words],
    )
