"""Which encoder needs the fewest bits for a target, from two cheap probes: the choice, replayed.

The belief about a content foretells every candidate's quality value and bits at the target; the
lowest expected ln(bits) wins, or the best two are searched and the cheaper answer is taken.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

import numpy as np

from vmaf_train.prior import Belief, Prior
from vmaf_train.prior.process import Floats
from vmaf_train.results.foretelling import Dense, search_rule

PROBES = (("libx264", "veryfast"), ("libsvtav1", "10"))
"""The two cheapest settings of different generations; one alone ranks no better than none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EncoderChoice:
    """`bits_lost`: the chosen setting's bits over the true best's, less 1."""

    num_candidates: int
    right: bool
    bits_lost: float


def ln_bits_at(
    belief: Belief, encoder: str, preset: str, qualities: Floats, target: float
) -> float:
    """Expected ln(bits per pixel) at the largest quality value that meets `target`, over draws of
    the score's curve; the curve moves as a whole, so a draw is its median moved by so many
    standard deviations.
    """
    told = belief.predict(encoder, preset, qualities)
    wanted = belief.prior.to_z(target)
    standard = np.linspace(-2, 2, 41)
    weights = np.exp(-0.5 * standard**2)
    rates = []
    for s in standard:
        meets = np.flatnonzero(told.z + s * told.z_sd >= wanted)
        i = int(meets[-1]) if len(meets) else 0
        rates.append(np.log(told.bits_per_pixel[i]))
    return float(np.average(rates, weights=weights))


def choose(
    prior: Prior,
    curves: Sequence[Dense],
    target: float,
    probes: Sequence[tuple[str, str]] = PROBES,
    *,
    num_searched: int = 0,
    only: Collection[tuple[str, str]] | None = None,
) -> EncoderChoice | None:
    """Choose among a content's settings at `target` after one probe of each of `probes`; None when
    fewer than two settings reach it.
    """
    by_setting = {(c.encoder, c.preset): c for c in curves}
    candidates = {s: c for s, c in by_setting.items() if only is None or s in only}
    true = {s: _ln_bits(c, target) for s, c in candidates.items() if c.truth(target) >= 0}
    if len(true) < 2 or not set(probes) <= set(by_setting):
        return None
    belief = Belief(prior)
    for setting in probes:
        _probe(belief, by_setting[setting], target)
    told = {s: ln_bits_at(belief, *s, candidates[s].quality, target) for s in true}
    ranked = sorted(told, key=lambda s: told[s])
    best = ranked[0]
    if num_searched:
        rule = search_rule(prior, "confident")
        found = {
            s: _searched(rule(candidates[s], target)[0], candidates[s])
            for s in ranked[:num_searched]
        }
        best = min(found, key=lambda s: found[s])
    cheapest = min(true.values())
    return EncoderChoice(
        num_candidates=len(true),
        right=true[best] <= cheapest + 1e-12,
        bits_lost=float(np.exp(true[best] - cheapest) - 1),
    )


def _probe(belief: Belief, curve: Dense, target: float) -> None:
    """Measure one setting where the target is most likely met."""
    told = belief.predict(curve.encoder, curve.preset, curve.quality)
    meets = np.flatnonzero(told.z >= belief.prior.to_z(target))
    i = int(meets[-1]) if len(meets) else 0
    belief.observe(
        curve.encoder,
        curve.preset,
        float(curve.quality[i]),
        float(curve.score[i]),
        bits_per_pixel=float(curve.bits_per_pixel[i]),
        motion2=curve.motion2,
    )


def _ln_bits(curve: Dense, target: float) -> float:
    return float(np.log(curve.bits_per_pixel[curve.truth(target)]))


def _searched(position: int, curve: Dense) -> float:
    return float(np.log(curve.bits_per_pixel[position])) if position >= 0 else np.inf
