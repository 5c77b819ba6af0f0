"""What a prior is worth on contents that it was not fitted on: errors, intervals, encodes.

known cells of a content --> errors after 0..3 probes, coverage of the intervals
dense curve of a content --> replay of a search: encodes, exact or not, bits lost, CPU seconds
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby

import numpy as np

from vmaf_train.prior import Z80, Belief, Foretold, Measured, Prior
from vmaf_train.prior.process import Floats, interpolate
from vmaf_train.search import CONFIDENT, PROVEN, Search

TARGETS = (80.0, 85.0, 90.0, 93.0, 95.0, 97.0)
CHEAP = ("libx264", "veryfast")
"""The setting whose one probe tells of the others: the cheapest that is scored as well as any."""
FEW = 4
"""A setting of so few contents is not judged by itself: there is no curve to hold out."""
Z95 = 1.959963984540054


@dataclass(frozen=True, slots=True, kw_only=True)
class Dense:
    """A content's curve at every integer quality value of one setting, measured or interpolated.

    `quality`, `score`, `bits_per_pixel`, `cpu_s` (encode and score) are (N,).
    """

    content: str
    encoder: str
    preset: str
    quality: Floats
    score: Floats
    bits_per_pixel: Floats
    cpu_s: Floats
    motion2: float | None

    def truth(self, target: float) -> int:
        """Position of the largest quality value that meets `target`; -1 for none."""
        met = np.flatnonzero(self.score >= target)
        return int(met[-1]) if len(met) else -1

    def is_normal(self, target: float) -> bool:
        """True for a target that is met somewhere and not everywhere."""
        return 0 <= self.truth(target) < len(self.quality) - 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Replay:
    """One search on a dense curve: what it cost and what it found. `bits_lost` is the share by
    which its answer is dearer than the right one.
    """

    content: str
    encoder: str
    target: float
    num_encodes: int
    exact: bool
    below: bool
    bits_lost: float
    cpu_s: float


Rule = Callable[[Dense, float], tuple[int, list[int]]]
"""A search rule: the position of its answer (-1: none) and of what it measured, in order."""


def settings_of(cells: Sequence[Measured]) -> Iterator[tuple[tuple[str, str], list[Measured]]]:
    """The cells of each encoder and preset, by rising quality value."""
    ordered = sorted(cells, key=lambda c: (c.encoder, c.preset, c.quality))
    for setting, group in groupby(ordered, key=lambda c: (c.encoder, c.preset)):
        yield setting, list(group)


def probes_of(count: int, num_cells: int) -> list[int]:
    """Which of a setting's cells are probed, by position: none, the middle, or evenly spread."""
    shares: dict[int, list[float]] = {0: [], 1: [0.4], 2: [0.2, 0.8], 3: [0.0, 0.4, 0.8]}
    return sorted({round(share * (num_cells - 1)) for share in shares[count]})


@dataclass(frozen=True, slots=True, kw_only=True)
class Errors:
    """Foretold against measured for N cells: `score` and `rate` are foretold less measured (VMAF
    points; ln(bits per pixel)), `z` and `rate_z` are the same in standard deviations of the belief.
    """

    measured: Floats
    score: Floats
    rate: Floats
    z: Floats
    rate_z: Floats

    def mae(self, least: float = 0.0) -> float:
        """Mean absolute error of the cells that score at least `least`, in VMAF points."""
        return float(np.abs(self.score[self.measured >= least]).mean())

    def coverage(self, width: float) -> float:
        """Share of the cells whose score lies within `width` standard deviations."""
        return float((np.abs(self.z) <= width).mean())


def join(parts: Sequence[Errors]) -> Errors:
    """Errors of several contents as one."""
    return Errors(
        **{name: np.concatenate([getattr(p, name) for p in parts]) for name in Errors.__slots__}
    )


def same_setting(
    prior: Prior, cells: Sequence[Measured], count: int, statistic: str = "mean"
) -> Errors:
    """Errors on the cells of each setting after `count` probes of the same setting."""
    parts = []
    for _, own in settings_of(cells):
        probes = probes_of(count, len(own))
        belief = Belief(prior, statistic)
        for i in probes:
            belief.observe_cell(own[i])
        rest = [cell for i, cell in enumerate(own) if i not in probes]
        parts.append(_errors(belief.predict, prior, rest, statistic))
    return join(parts)


def other_settings(
    prior: Prior,
    cells: Sequence[Measured],
    probed: tuple[str, str] = CHEAP,
    statistic: str = "mean",
) -> Errors | None:
    """Errors on the cells of all other settings after one probe of `probed`; None without one."""
    by_setting = dict(settings_of(cells))
    if probed not in by_setting:
        return None
    own = by_setting.pop(probed)
    belief = Belief(prior, statistic)
    belief.observe_cell(own[probes_of(1, len(own))[0]])
    return join([_errors(belief.predict, prior, rest, statistic) for rest in by_setting.values()])


def _errors(
    predict: Callable[..., Foretold], prior: Prior, cells: Sequence[Measured], statistic: str
) -> Errors:
    told = predict(cells[0].encoder, cells[0].preset, [c.quality for c in cells])
    scores = np.array([c.scores[statistic] for c in cells])
    z = np.array([prior.to_z(score) for score in scores])
    rate = np.log([c.bits_per_pixel or 1.0 for c in cells])
    foretold = np.log(told.bits_per_pixel)
    return Errors(
        measured=scores,
        score=told.score - scores,
        rate=foretold - rate,
        z=(told.z - z) / told.z_sd,
        rate_z=(foretold - rate) / told.ln_bpp_sd,
    )


def dense_curves(
    name: str, cells: Sequence[Measured], statistic: str = "mean", cpu_s: Sequence[float] = ()
) -> list[Dense]:
    """Curves at every integer quality value through a content's measured cells (monotone cubic).

    `cpu_s` are the CPU seconds of the cells, in their order; without them every encode costs 1.
    """
    seconds = {id(c): s for c, s in zip(cells, cpu_s, strict=False)}
    curves = []
    for (encoder, preset), own in settings_of(cells):
        knots = np.array([c.quality for c in own])
        at = np.arange(np.ceil(knots[0]), np.floor(knots[-1]) + 1)
        score = np.array([c.scores[statistic] for c in own])
        rate = np.log([c.bits_per_pixel or 1.0 for c in own])
        cost = np.array([seconds.get(id(c), 1.0) for c in own])
        curves.append(
            Dense(
                content=name,
                encoder=encoder,
                preset=preset,
                quality=at,
                score=np.clip(interpolate(knots, score, at), 0, 100),
                bits_per_pixel=np.exp(interpolate(knots, rate, at)),
                cpu_s=interpolate(knots, cost, at),
                motion2=own[0].motion2,
            )
        )
    return curves


def search_rule(prior: Prior, stop: str, statistic: str = "mean") -> Rule:
    """The search of this project as a rule to replay."""

    def rule(curve: Dense, target: float) -> tuple[int, list[int]]:
        search = Search(
            prior,
            encoder=curve.encoder,
            preset=curve.preset,
            target=target,
            low=float(curve.quality[0]),
            high=float(curve.quality[-1]),
            statistic=statistic,
            stop=stop,
        )
        made = []
        while (quality := search.ask()) is not None:
            i = int(quality - curve.quality[0])
            made.append(i)
            search.tell(
                quality,
                float(curve.score[i]),
                bits_per_pixel=float(curve.bits_per_pixel[i]),
                motion2=curve.motion2,
            )
        answer = search.answer
        met = answer.kind == "met" and answer.quality is not None
        return (int(answer.quality - curve.quality[0]) if met and answer.quality else -1), made

    return rule


def replay(rule: Rule, curve: Dense, target: float) -> Replay:
    """One search by `rule`, judged by the curve."""
    found, made = rule(curve, target)
    right = curve.truth(target)
    lost = 0.0
    if found >= 0 and right >= 0:
        lost = float(curve.bits_per_pixel[found] / curve.bits_per_pixel[right] - 1)
    return Replay(
        content=curve.content,
        encoder=f"{curve.encoder} {curve.preset}",
        target=target,
        num_encodes=len(made),
        exact=found == right,
        below=found >= 0 and bool(curve.score[found] < target),
        bits_lost=lost,
        cpu_s=float(curve.cpu_s[made].sum()),
    )


def usual_settings(contents: Sequence[Sequence[Measured]]) -> set[tuple[str, str]]:
    """The settings (encoder, preset) that more than FEW contents have."""
    found = Counter(s for cells in contents for s in {(c.encoder, c.preset) for c in cells})
    return {setting for setting, count in found.items() if count > FEW}


@dataclass(frozen=True, slots=True, kw_only=True)
class HeldOut:
    """A content, the prior that was fitted without its group, and its cells of usual settings."""

    name: str
    group: str
    prior: Prior
    cells: tuple[Measured, ...]


def figures(held_out: Sequence[HeldOut], statistic: str, *, searches: bool = True) -> Figures:
    """What priors are worth on contents that they were not fitted on; see `Figures`."""
    found: dict[str, float] = {}
    inside = []
    for count in range(4):
        errors = join([same_setting(h.prior, h.cells, count, statistic) for h in held_out])
        found |= _figures_of(f"{count}_probes", errors)
        inside += [errors.coverage(Z95)] if count else []
    parts = [other_settings(h.prior, h.cells, statistic=statistic) for h in held_out]
    others = [part for part in parts if part is not None]
    if others:
        errors = join(others)
        found |= _figures_of("other_encoder", errors)
        inside.append(errors.coverage(Z95))
    found["within_95"] = min(inside)
    if searches:
        found |= _search_figures(held_out, statistic)
    return found


Figures = dict[str, float]
"""By name. `mae_K_probes` (K = 0..3 of the same setting) and `mae_other_encoder` (after one cheap
probe) in VMAF points; `mae75_` those of cells that score 75 and more (left out where none does);
`rate_` of ln(bits per pixel); `within_80_` and `within_95_` shares of cells inside the intervals,
`within_95` the smallest after a probe; `encodes_`, `exact_` and `below_` of the searches,
`num_targets` how many each.
"""


def _figures_of(name: str, errors: Errors) -> Figures:
    high = {f"mae75_{name}": errors.mae(75)} if (errors.measured >= 75).any() else {}
    return high | {
        f"mae_{name}": errors.mae(),
        f"rate_{name}": float(np.abs(errors.rate).mean()),
        f"within_80_{name}": errors.coverage(Z80),
        f"within_95_{name}": errors.coverage(Z95),
    }


def _search_figures(held_out: Sequence[HeldOut], statistic: str) -> Figures:
    found: Figures = {}
    for stop in (PROVEN, CONFIDENT):
        done = []
        for one in held_out:
            rule = search_rule(one.prior, stop, statistic)
            for curve in dense_curves(one.name, one.cells, statistic):
                wanted = [t for t in TARGETS if curve.is_normal(t)]
                done += [replay(rule, curve, target) for target in wanted]
        if done:
            found[f"encodes_{stop}"] = float(np.mean([r.num_encodes for r in done]))
            found[f"exact_{stop}"] = float(np.mean([r.exact for r in done]))
            found[f"below_{stop}"] = float(sum(r.below for r in done))
        found["num_targets"] = float(len(done))
    return found
