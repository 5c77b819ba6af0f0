"""What was measured of a content, as the prior takes it: a cell's scores, bits and motion."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction

from vmaf_train.contract import ALIASES, DEFAULT_PRESET, Fields, feature_value

STATISTICS: Mapping[str, str] = {
    "mean": "vmaf_score",
    "harmonic": "vmaf_harmonic_mean",
    "p5": "vmaf_p5",
    "min": "vmaf_min",
}
"""The statistics that are trained, each with the field of a cell row that holds it."""
STAND_INS: Mapping[str, str] = {"p1": "min", "p10": "p5", "worst-window": "harmonic"}
"""Statistics that are not trained, each with the trained one whose curves are nearest: the lowest
frame of a hundred is nearly the lowest, and a worst window is like a content that takes many bits.
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """One measured cell of a content. `scores` by statistic in VMAF points; `bits_per_pixel` of the
    window's own size; `motion2` is libvmaf's, of the reference.
    """

    encoder: str
    preset: str
    quality: float
    scores: Mapping[str, float]
    bits_per_pixel: float | None
    motion2: float | None


def measured(row: Fields) -> Measured | None:
    """An ok cell row as a measurement of its content; None for one without encoder or quality value
    or with another size than its window's, options or a capped rate. A missing statistic is left
    out.
    """
    encoder, quality = row.get("encoder"), row.get("crf")
    if row.get("status", "ok") != "ok" or encoder in (None, "external") or quality is None:
        return None
    if any(row.get(name) for name in ("flags", "encode_width", "options", "maxrate_kbps")):
        return None
    found = {name: row.get(field) for name, field in STATISTICS.items()}
    means = row.get("per_frame_features")
    return Measured(
        encoder=ALIASES.get(encoder, encoder),
        preset=str(row.get("preset") or DEFAULT_PRESET),
        quality=float(quality),
        scores={name: float(value) for name, value in found.items() if value is not None},
        bits_per_pixel=_bits_per_pixel(row),
        motion2=feature_value(means, "motion2") if isinstance(means, dict) else None,
    )


def _bits_per_pixel(row: Fields) -> float | None:
    kbps, fps = row.get("bitrate_kbps"), row.get("fps")
    if not kbps or not fps or not row.get("width") or not row.get("height"):
        return None
    return float(kbps) * 1000 / float(Fraction(str(fps)) * row["width"] * row["height"])
