"""The prior itself: mean curves of every setting that it knows, and the relatives of the others."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from vmaf_train.contract import ALIASES, QUALITY_MAX, QUALITY_SCALE, preset_ordinal
from vmaf_train.prior.process import Floats, Hyper


@dataclass(frozen=True, slots=True, kw_only=True)
class MeanCurve:
    """The corpus' mean curves of one encoder and preset at its `quality` knots, rising."""

    encoder: str
    preset: str
    quality: Floats
    ln_bpp: Floats
    z: Mapping[str, Floats]

    @property
    def spacing(self) -> float:
        """Mean distance between knots, in quality values."""
        return float(np.ptp(self.quality) / max(len(self.quality) - 1, 1))


@dataclass(frozen=True, slots=True, kw_only=True)
class Relative:
    """Which mean curve stands for a setting: `curve`, whether encoder and preset are known, the
    factor on quality values, and a sentence where it is another's curve.
    """

    curve: int
    knows_encoder: bool
    knows_preset: bool
    factor: float
    note: str | None


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Prior:
    """What is known of any content before its first encode. Made by `load` or `parse`."""

    softness: float
    teacher: str | None
    num_contents: int
    motion_mean: float
    motion_sd: float
    curves: tuple[MeanCurve, ...]
    hyper: Mapping[str, Hyper]
    facts: Mapping[str, object]

    def to_z(self, score: float) -> float:
        """VMAF points 0..100 on the scale where the process is normal."""
        return math.log((score + 2) / (100 + self.softness - score))

    def to_score(self, z: Floats) -> Floats:
        """VMAF points of z, held in 0..100."""
        grown = np.exp(np.clip(z, -50, 50))
        score: Floats = np.clip(((100 + self.softness) * grown - 2) / (1 + grown), 0, 100)
        return score

    def relative(self, encoder: str, preset: str) -> Relative:
        """The mean curve for a setting: its own, else that of the nearest relative."""
        encoder = ALIASES.get(encoder, encoder)
        known = {curve.encoder for curve in self.curves}
        family = encoder if encoder in known else _family(encoder, known)
        place = preset_ordinal(encoder, preset)
        chosen = min(
            (i for i, c in enumerate(self.curves) if c.encoder == family),
            key=lambda i: _distance(self.curves[i], preset, place),
        )
        curve = self.curves[chosen]
        knows_encoder = encoder == family
        knows_preset = knows_encoder and curve.preset == preset
        note = None
        if not knows_preset:
            note = (
                f"the prior has no {encoder} {preset}; it borrows the curve of {curve.encoder}"
                f" {curve.preset} with wider intervals"
            )
        return Relative(
            curve=chosen,
            knows_encoder=knows_encoder,
            knows_preset=knows_preset,
            factor=quality_max(family) / quality_max(encoder),
            note=note,
        )


def quality_max(encoder: str) -> float:
    """Largest quality value of an encoder's scale, guessed for one outside the contract."""
    return QUALITY_MAX.get(encoder, QUALITY_SCALE if "av1" in encoder else 51.0)


_RELATIVES: tuple[tuple[tuple[str, ...], tuple[str, ...]], ...] = (
    (("264", "avc"), ("libx264", "libx265")),
    (("265", "hevc"), ("libx265", "libx264")),
    (("av1",), ("libsvtav1", "libaom-av1", "libvpx-vp9")),
    (("vvc", "266", "vvenc"), ("libvvenc", "libx265")),
    (("vp9", "vp8"), ("libvpx-vp9", "libaom-av1", "libsvtav1")),
)
"""Words in an encoder's name, and whose curves stand for it, the nearest first: the same format,
then a format of the same lineage, whose quality values mean the same."""


def _family(encoder: str, known: set[str]) -> str:
    """The encoder whose curves stand for one that the prior does not know."""
    for words, relatives in _RELATIVES:
        if any(word in encoder for word in words):
            for relative in relatives:
                if relative in known:
                    return relative
    return "libx264" if "libx264" in known else min(known)


def _distance(curve: MeanCurve, preset: str, place: int) -> tuple[bool, float, str]:
    """Order of relatives: the preset itself, then by distance of the ordinals."""
    away = abs(preset_ordinal(curve.encoder, curve.preset) - place)
    return curve.preset != preset, away, curve.preset
