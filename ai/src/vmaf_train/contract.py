"""The input contract of the models: canonical 6 features, encoder vocabulary v2, codec block.

Everything here is load-bearing: order and numbers are baked into shipped weights. A change of any
constant needs a new model id. Pure data and arithmetic; imports nothing heavy.
"""

from __future__ import annotations

import math
from collections.abc import Container, Mapping
from dataclasses import dataclass
from typing import Any, Literal, SupportsFloat

FEATURES: tuple[str, ...] = (
    "adm2",
    "vif_scale0",
    "vif_scale1",
    "vif_scale2",
    "vif_scale3",
    "motion2",
)
"""Canonical 6, in model order. adm2 and vif_scale* are ratios near 0..1; motion2 is >= 0 in
libvmaf's units.
"""

Fields = Mapping[str, Any]
"""A row or document of JSON as it was read, to be looked at."""

SCORE_RANGE = (0.0, 100.0)
FEATURE_BOX = ((0.0, 1.1),) * 5 + ((0.0, 100.0),)
"""Where the raw features of encodes lie: adm2 and vif_scale* 0..1.1, motion2 0..100."""
"""VMAF points of the teacher, which clips its answers; ours are held in the same range."""

UNKNOWN = "unknown"
VOCABULARY: tuple[str, ...] = (
    "libx264",
    "libx265",
    "libsvtav1",
    "libvvenc",
    "libvpx-vp9",
    "h264_nvenc",
    "hevc_nvenc",
    "av1_nvenc",
    "h264_qsv",
    "hevc_qsv",
    "av1_qsv",
    UNKNOWN,
)
"""Encoder vocabulary v2: closed and ordered; the index is the one-hot
position.
"""

ALIASES: Mapping[str, str] = {
    "x264": "libx264",
    "x265": "libx265",
    "svtav1": "libsvtav1",
    "svt": "libsvtav1",
    "vvenc": "libvvenc",
    "vp9": "libvpx-vp9",
    "vpx-vp9": "libvpx-vp9",
    "aom": "libaom-av1",
    "aom-av1": "libaom-av1",
}
"""Other names of encoders, on the command line and in rows."""

NUM_FEATURES = len(FEATURES)
CODEC_BLOCK = (*(f"encoder_onehot[{name}]" for name in VOCABULARY), "preset_norm", "crf_norm")
CODEC_DIM = len(CODEC_BLOCK)  # 14
PRESET_SCALE = 9.0
QUALITY_SCALE = 63.0
DEFAULT_PRESET = "medium"
DEFAULT_ORDINAL = 5

_X26X = (
    "ultrafast",
    "superfast",
    "veryfast",
    "faster",
    "fast",
    "medium",
    "slow",
    "slower",
    "veryslow",
    "placebo",
)
_NVENC = {"p1": 0, "p2": 2, "p3": 3, "p4": 5, "p5": 6, "p6": 7, "p7": 9}
_QSV = {"veryfast": 2, "faster": 3, "fast": 4, "medium": 5, "slow": 6, "slower": 7, "veryslow": 8}
# SVT-AV1's 11 (fastest usable) .. 0 on the 13..0 scale, squashed to 0..9. 12 and 13 give the
# bitstream of 11.
_SVTAV1 = {str(p): round((13 - p) / 13 * 9) for p in range(13, -1, -1)}

PRESET_ORDINALS: Mapping[str, Mapping[str, int]] = {
    "libx264": {name: i for i, name in enumerate(_X26X)},
    "libx265": {name: i for i, name in enumerate(_X26X)},
    "libsvtav1": _SVTAV1,
    "libvvenc": {"faster": 1, "fast": 3, "medium": 5, "slow": 7, "slower": 8},
    "libvpx-vp9": {"realtime": 0, "good": 5, "best": 9},
    "libaom-av1": {"rt8": 1, "6": 3, "5": 4, "4": 5, "3": 6, "2": 7, "1": 8, "0": 9},
    "h264_nvenc": _NVENC,
    "hevc_nvenc": _NVENC,
    "av1_nvenc": _NVENC,
    "h264_qsv": _QSV,
    "hevc_qsv": _QSV,
    "av1_qsv": _QSV,
}
"""0 = fastest .. 9 = slowest, the same direction for every encoder."""

QUALITY_MAX: Mapping[str, float] = {
    "libx264": 51,
    "libx265": 51,
    "libsvtav1": 63,
    "libvvenc": 63,
    "libvpx-vp9": 63,
    "libaom-av1": 63,
    "h264_nvenc": 51,
    "hevc_nvenc": 51,
    "av1_nvenc": 63,
    "h264_qsv": 51,
    "hevc_qsv": 51,
    "av1_qsv": 51,
}
"""Largest quality value (CRF, CQ, QP, ICQ) of each encoder; larger ones are clipped when a corpus
is read.
"""


def slot(encoder: str | None) -> str:
    """The vocabulary word for `encoder`: itself, or `unknown` when it is outside the vocabulary."""
    return encoder if encoder in VOCABULARY else UNKNOWN


def preset_ordinal(encoder: str | None, preset: str | None) -> int:
    """Ordinal 0..9 of a preset read from a corpus; `medium` when missing, 5 when not in
    the table.
    """
    table = PRESET_ORDINALS.get(encoder or "", {})
    return table.get(preset if preset is not None else DEFAULT_PRESET, DEFAULT_ORDINAL)


def knows_preset(encoder: str | None, preset: str | None) -> bool:
    """False for a preset that is read as 5 because it is not in the encoder's table.

    True where there is nothing to know: for `medium`, which stands for a missing preset, and an
    encoder without a table.
    """
    table = PRESET_ORDINALS.get(encoder or "")
    return not table or preset in table or preset in (None, DEFAULT_PRESET)


def check_settings(encoder: object, preset: object, quality: object) -> None:
    """Raise ValueError, naming the field, unless encoder and preset are names and quality is a
    number >= 0; or None.
    """
    for name, value in (("encoder", encoder), ("preset", preset)):
        if value is not None and (not isinstance(value, str) or not value):
            raise ValueError(f"{name} is {value!r}; it must be a name, or null")
    if quality is None:
        return
    if (
        isinstance(quality, bool)
        or not isinstance(quality, SupportsFloat)
        or not 0 <= float(quality) < math.inf
    ):
        raise ValueError(
            f"the quality value (crf) is {quality!r}; it must be a number >= 0, or null"
        )


def clip_quality(encoder: str | None, quality: float) -> float:
    """`quality` clipped to the encoder's own maximum (63 for an encoder without an entry)."""
    return min(quality, QUALITY_MAX.get(encoder or "", QUALITY_SCALE))


def codec_block(encoder: str | None, preset: str | None, quality: float | None) -> list[float]:
    """The 14 numbers of the codec block, each in [0, 1].

    `encoder` None, or a missing quality value, gives the codec-blind input: unknown = 1,
    preset_norm = crf_norm = 0.5. Raises ValueError for settings of another type, or a quality value
    that is negative or not finite.
    """
    check_settings(encoder, preset, quality)
    encoder = ALIASES.get(encoder or "", encoder)
    if encoder is None or quality is None:
        return blind_block()
    block = [0.0] * CODEC_DIM
    block[VOCABULARY.index(slot(encoder))] = 1.0
    block[-2] = preset_ordinal(encoder, preset) / PRESET_SCALE
    block[-1] = min(clip_quality(encoder, quality) / QUALITY_SCALE, 1.0)
    return block


def blind_block() -> list[float]:
    """The codec-blind input: one-hot `unknown`, preset_norm = crf_norm = 0.5."""
    block = [0.0] * CODEC_DIM
    block[VOCABULARY.index(UNKNOWN)] = 1.0
    block[-2] = block[-1] = 0.5
    return block


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelContract:
    """What a caller of one model id may rely on: ONNX names, where features are standardised, the
    network.

    ONNX input `features` is (N, 6) float32, standardised by the caller or raw (`scaler` = "graph":
    Sub and Div are in the graph); `codec` is (N, 14) float32 when `has_codec`. The output is (N,)
    float32 in VMAF points. `unit` is what one row stands for. `hidden` are the widths of the hidden
    layers; one linear output unit follows.
    """

    id: str
    output: str
    has_codec: bool
    scaler: Literal["caller", "graph"]
    unit: Literal["cell", "frame"]
    hidden: tuple[int, ...]
    activation: Literal["gelu", "relu"]


MODELS: Mapping[str, ModelContract] = {
    model.id: model
    for model in (
        ModelContract(
            id="fr_regressor_v2",
            output="score",
            has_codec=True,
            scaler="caller",
            unit="cell",
            hidden=(32, 32, 32),
            activation="gelu",
        ),
        ModelContract(
            id="fr_regressor_v1",
            output="score",
            has_codec=False,
            scaler="caller",
            unit="frame",
            hidden=(64, 64),
            activation="gelu",
        ),
        ModelContract(
            id="vmaf_tiny_v2",
            output="vmaf",
            has_codec=False,
            scaler="graph",
            unit="frame",
            hidden=(16, 8),
            activation="relu",
        ),
    )
}
"""The three models of this project by id."""


ORDINARY_FEATURES, NEG_FEATURES = "vmaf_v0.6.1", "vmaf_v0.6.1neg"
"""The two feature sets there are, each named by the model that measures it."""


def feature_set(teacher: str) -> str:
    """The feature set that a teacher's score is a function of.

    A model without enhancement gain (NEG) limits the gain that adm and vif may see; all others
    share the ordinary features.
    """
    return NEG_FEATURES if teacher.endswith("neg") else ORDINARY_FEATURES


def neg_feature(name: str) -> str:
    """What libvmaf's log calls feature `name` of the NEG set, beside the ordinary one."""
    return "integer_motion2" if name == "motion2" else f"integer_{name}_egl_1"


_MEANS = {name: (f"{name}_mean", f"integer_{name}_mean") for name in FEATURES}
_SPELLINGS = {name: (name, f"integer_{name}", *_MEANS[name]) for name in FEATURES}


def spelling(there: Container[str], name: str) -> str | None:
    """The first known spelling of feature `name` that is `there`; None when there is none."""
    return next((known for known in _SPELLINGS[name] if known in there), None)


def feature_value(
    row: Mapping[str, object], name: str, *, only_means: bool = False
) -> float | None:
    """The finite value of feature `name` in `row` under any of its known spellings; None when
    absent.

    Spellings: the bare name, with the prefix `integer_`, and each of them with the suffix `_mean`
    (`only_means`: these alone).
    """
    for spelling in (_MEANS if only_means else _SPELLINGS)[name]:
        value = row.get(spelling)
        if isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value):
            return float(value)
    return None
