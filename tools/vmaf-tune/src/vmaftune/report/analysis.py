"""What a report says about a sweep: BD-rates, quality values for targets, speed, convex hulls."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean, geometric_mean

from vmaftune.cell import parse_crop
from vmaftune.encoders import ENCODERS
from vmaftune.media.paste import FILM, user_command
from vmaftune.metrics import VMAF_SCALE, Scale
from vmaftune.report import bdrate
from vmaftune.report.bdrate import BdRate, RateCurve
from vmaftune.report.sweep import Curve, Point, Sweep
from vmaftune.request.document import SourceEntry

TARGETS = VMAF_SCALE.targets
"""VMAF targets for which the quality value is looked up."""

DEFAULT_TARGET = 93
"""The target of a fresh page: about where viewers stop seeing a difference on the default model."""

MOST = 0.9
"""Share of the sources that a value must be enough for to be recommended."""

KBPS_DIGITS, VMAF_DIGITS = 2, 3
"""Decimals that are drawn."""

_GB_PER_HOUR = 3600 / 8 / 1e6
"""10^9 bytes in an hour, per kbit/s."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Speed:
    """CPU seconds of the encode per frame (geometric mean over cells) and mean BD-rate in percent
    of one curve.

    Both are over the same sources: the `num_sources` that have a BD-rate, or, without any, all that
    have the curve.
    """

    cpu_s: float | None
    percent: float | None
    num_sources: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """A curve with the quality value that meets the target on most sources, and what that costs.

    `coarsest` tells that no coarser value was swept. `kbps` and `vmaf` are means over the
    `num_sources` on which the value lies within what was swept.
    """

    curve: int
    quality: float
    coarsest: bool
    kbps: float
    vmaf: float
    num_sources: int

    @property
    def gb_per_hour(self) -> float:
        """Size of an hour of video without its sound, in 10^9 bytes."""
        return gb_per_hour(self.kbps)


@dataclass(frozen=True, slots=True, kw_only=True)
class Analysis:
    """Figures of one Sweep, keyed by its indices.

    `comparisons[source, test, anchor]` holds test > anchor only (the other way is the negative log
    ratio); `quality[source, curve]` one value or None per entry of `targets`; `hulls[source]` the
    points of the convex hull, cheapest first; `defaults` the curves shown where all are too many;
    `anchor` the curve others are compared with; `target` the VMAF, or the value of the sweep's
    scale, that quality values are looked up for.
    """

    sweep: Sweep
    comparisons: Mapping[tuple[int, int, int], BdRate]
    quality: Mapping[tuple[int, int], Sequence[float | None]]
    hulls: Mapping[int, tuple[Point, ...]]
    defaults: tuple[int, ...]
    anchor: int
    target: float
    targets: tuple[float, ...] = TARGETS

    @property
    def label(self) -> str:
        """What points are measured in: VMAF, or another metric."""
        return self.sweep.scale.label

    @property
    def goal(self) -> str:
        """The target with what it is of: `VMAF 93`."""
        return f"{self.label} {self.target:g}"

    @property
    def digits(self) -> int:
        """Decimals of a score that readers see."""
        return self.sweep.scale.digits

    def bd_rate(self, source: int, test: int, anchor: int) -> BdRate:
        """BD-rate of curve `test` against curve `anchor` on one source, either way round."""
        if test == anchor and self.sweep.points_of(source, test):
            return BdRate(log_ratio=0.0, common=100.0)
        if test == anchor:
            return _not_measured(self.sweep, [test])
        if test > anchor:
            return self.comparisons[source, test, anchor]
        other = self.comparisons[source, anchor, test]
        ratio = None if other.log_ratio is None else -other.log_ratio
        return BdRate(log_ratio=ratio, common=other.common, reason=other.reason)

    def bd_rates(self, test: int, anchor: int) -> dict[int, float]:
        """BD-rate in percent per source, for the sources that have one."""
        found = ((s, self.bd_rate(s, test, anchor).percent) for s in range(len(self.sweep.sources)))
        return {source: percent for source, percent in found if percent is not None}

    def speed(self, curve: int) -> Speed:
        """What a curve costs and saves against the anchor."""
        rates = self.bd_rates(curve, self.anchor)
        times = [
            point.cpu_s
            for point in self._points(curve)
            if point.cpu_s and (not rates or point.source in rates)
        ]
        return Speed(
            cpu_s=geometric_mean(times) if times else None,
            percent=fmean(rates.values()) if rates else None,
            num_sources=len(rates),
        )

    def coverage(self, num_sources: int) -> str | None:
        """`4 of 18 sources` for a comparison over fewer sources than the anchor has, else None."""
        most = len(self.bd_rates(self.anchor, self.anchor))
        return f"{num_sources} of {most} sources" if num_sources < most else None

    def quality_for(self, curve: int, target: float) -> dict[int, float | None]:
        """Per source that has the curve, the coarsest quality value which reaches `target`; None =
        out of reach.
        """
        column = self.targets.index(target)
        swept = range(len(self.sweep.sources))
        return {s: self.quality[s, curve][column] for s in swept if (s, curve) in self.quality}

    def swept(self, curve: int) -> tuple[float, float] | None:
        """Finest and coarsest quality value of a curve; None where none is known."""
        values = [p.quality for p in self._points(curve) if p.quality is not None]
        return (min(values), max(values)) if values else None

    def choice(self, curve: int, share: float = MOST) -> Choice | None:
        """What to use of a curve to meet the target on `share` of its sources; None = nothing."""
        quality = for_share(self.quality_for(curve, self.target).values(), share)
        swept = self.swept(curve)
        if quality is None or swept is None:
            return None
        at = [self.at(source, curve, quality) for source in range(len(self.sweep.sources))]
        known = [cost for cost in at if cost is not None]
        if not known:
            return None
        return Choice(
            curve=curve,
            quality=quality,
            coarsest=quality == swept[1],
            kbps=fmean(kbps for kbps, _ in known),
            vmaf=fmean(vmaf for _, vmaf in known),
            num_sources=len(known),
        )

    def at(self, source: int, curve: int, quality: float) -> tuple[float, float] | None:
        """kbit/s and VMAF at a quality value on one source, between measured ones; None outside."""
        points = [p for p in self.sweep.points_of(source, curve) if p.quality is not None]
        logs = bdrate.between([(p.quality or 0.0, math.log(p.kbps)) for p in points], quality)
        vmaf = bdrate.between([(p.quality or 0.0, p.vmaf) for p in points], quality)
        return None if logs is None or vmaf is None else (math.exp(logs), vmaf)

    def command(self, curve: int, quality: float, source: str = FILM) -> str | None:
        """What one types to encode a whole file so; None for an encoder that is not known."""
        return film_command(self.sweep.curves[curve], quality, source, self.sweep.film)

    def fewest_bits(self) -> int | None:
        """The curve with the lowest mean BD-rate against the anchor, over as many sources as any.

        None where nothing can be compared.
        """
        others = [c for c in range(len(self.sweep.curves)) if c != self.anchor]
        rates = {c: self.bd_rates(c, self.anchor) for c in others}
        most = max((len(found) for found in rates.values()), default=0)
        full = {c: fmean(found.values()) for c, found in rates.items() if found}
        full = {c: mean for c, mean in full.items() if len(rates[c]) == most}
        return min(full, key=lambda c: full[c]) if full else None

    def fastest(self) -> int | None:
        """The curve with the least CPU time, over as many sources as any; None without times."""
        speeds = {c: self.speed(c) for c in range(len(self.sweep.curves))}
        most = max((speed.num_sources for speed in speeds.values()), default=0)
        known = {c: s.cpu_s for c, s in speeds.items() if s.cpu_s and s.num_sources == most}
        return min(known, key=lambda c: known[c]) if known else None

    def _points(self, curve: int) -> Iterable[Point]:
        return (point for point in self.sweep.points if point.curve == curve)


def analyse(sweep: Sweep, target: float | None = None) -> Analysis:
    """Every figure of the report from the measured points; `target` None is the scale's own."""
    wanted = sweep.scale.usual if target is None else target
    targets = tuple(sorted({*sweep.scale.targets, wanted}))
    sources = range(len(sweep.sources))
    defaults = _default_curves(sweep.curves)
    return Analysis(
        sweep=sweep,
        comparisons=_comparisons(sweep),
        quality=_qualities(sweep, targets),
        targets=targets,
        hulls={s: _hull([p for p in sweep.points if p.source == s], sweep.scale) for s in sources},
        defaults=defaults,
        anchor=defaults[0] if defaults else 0,
        target=wanted,
    )


def score_digits(scale: Scale) -> int:
    """Decimals of a score that are drawn."""
    return VMAF_DIGITS + scale.digits - VMAF_SCALE.digits


def _comparisons(sweep: Sweep) -> dict[tuple[int, int, int], BdRate]:
    curves = range(len(sweep.curves))
    found = {}
    for source in range(len(sweep.sources)):
        lines = [_rate_curve(sweep, source, curve) for curve in curves]
        for test in curves:
            for anchor in range(test):
                found[source, test, anchor] = _compare(sweep, lines, source, test, anchor)
    return found


def _rate_curve(sweep: Sweep, source: int, curve: int) -> RateCurve | None:
    points = sweep.points_of(source, curve)
    sign = sweep.scale.sign
    return bdrate.rate_curve((p.kbps, sign * p.vmaf_unclipped) for p in points)


def _compare(
    sweep: Sweep, lines: Sequence[RateCurve | None], source: int, test: int, anchor: int
) -> BdRate:
    missing = [c for c in (test, anchor) if not sweep.points_of(source, c)]
    if missing:
        return _not_measured(sweep, missing)
    return bdrate.compare(lines[test], lines[anchor], sweep.scale)


def _not_measured(sweep: Sweep, curves: Sequence[int]) -> BdRate:
    names = " and ".join(sweep.curves[c].label for c in curves)
    return BdRate(log_ratio=None, common=0.0, reason=f"{names} not measured on this source")


def _qualities(
    sweep: Sweep, targets: Sequence[float]
) -> dict[tuple[int, int], Sequence[float | None]]:
    sign = sweep.scale.sign
    wanted = [sign * target for target in targets]
    found: dict[tuple[int, int], Sequence[float | None]] = {}
    for at, points in sweep.of_curve.items():
        measured = [(p.quality, sign * p.vmaf) for p in points if p.quality is not None]
        if measured:
            step = _step(sweep.curves[at[1]].encoder)
            found[at] = bdrate.quality_for(wanted, measured, step)
    return found


def _step(encoder: str) -> float:
    """How finely a quality value can be set, as far as the report cares."""
    return 1.0 if encoder in ENCODERS and ENCODERS[encoder].quality_step is not None else 0.1


def _hull(points: Sequence[Point], scale: Scale) -> tuple[Point, ...]:
    # As rounded as the page has them, where the hull follows the filters: a gain of 0.0001 VMAF is
    # no corner of either.
    digits = score_digits(scale)
    rounded = [(round(p.kbps, KBPS_DIGITS), scale.sign * round(p.vmaf, digits)) for p in points]
    return tuple(points[i] for i in bdrate.convex_hull(rounded))


def _default_curves(curves: Sequence[Curve]) -> tuple[int, ...]:
    """One curve per encoder (and folder, and option set): its default preset where swept, else the
    middle one; the source's own size where swept. A bound on the bitrate is a curve of one point,
    and left out where the encoder has others.
    """
    kinds: dict[tuple[str, str | None, str | None], list[int]] = {}
    for i, curve in enumerate(curves):
        kinds.setdefault((curve.encoder, curve.origin, curve.options), []).append(i)
    chosen = []
    for (encoder, *_), mine in kinds.items():
        own_size = [i for i in mine if curves[i].size is None] or mine
        usual = ENCODERS[encoder].default_preset if encoder in ENCODERS else None
        middle = own_size[len(own_size) // 2]
        chosen.append(next((i for i in own_size if curves[i].preset == usual), middle))
    free = [i for i in chosen if "maxrate=" not in (curves[i].options or "")]
    known = {curves[i].encoder for i in free}
    return tuple(i for i in chosen if i in free or curves[i].encoder not in known)


def for_share(values: Iterable[float | None], share: float) -> float | None:
    """The coarsest quality value that reaches the target on `share` (0..1) of the sources; None
    when none does.
    """
    known = list(values)
    reached = sorted((v for v in known if v is not None), reverse=True)
    needed = max(1, -int(-share * len(known) // 1))
    return reached[needed - 1] if len(reached) >= needed else None


def film_command(
    curve: Curve, quality: float, source: str = FILM, film: SourceEntry | None = None
) -> str | None:
    """What one types to encode a whole file with a setting, cut and scaled as `film` was; None for
    an unknown encoder.
    """
    if curve.encoder not in ENCODERS or curve.preset is None:
        return None
    return user_command(
        ENCODERS[curve.encoder],
        curve.preset,
        quality,
        source=source,
        size=curve.size or (film.scale if film else None),
        options=curve.arguments,
        crop=parse_crop(film.crop) if film and film.crop else None,
        deinterlace=film is not None and film.deinterlace,
    )


def gb_per_hour(kbps: float) -> float:
    """Size in 10^9 bytes of an hour at a bitrate."""
    return kbps * _GB_PER_HOUR
