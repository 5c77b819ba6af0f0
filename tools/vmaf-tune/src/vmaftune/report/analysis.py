"""What a report says about a sweep: BD-rates, quality values for targets, speed, convex hulls, a
summary in words.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean, geometric_mean, median
from typing import Any

from vmaftune.encoders import ENCODERS, format_quality
from vmaftune.report import bdrate
from vmaftune.report.bdrate import Comparison
from vmaftune.report.read import Curve, Point, Sweep

TARGETS: tuple[int, ...] = tuple(range(60, 100))
"""VMAF targets for which the quality value is looked up."""

DEFAULT_TARGET = 93
"""The selected target of a fresh page: about where viewers stop seeing a difference on the default
model.
"""


KBPS_DIGITS, VMAF_DIGITS = 2, 3
"""Decimals that are drawn."""


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
class Analysis:
    """Figures of one Sweep, keyed by its indices.

    `comparisons[source, test, anchor]` holds test > anchor only (the other way is the negative log
    ratio); `quality[source, curve]` one value or None per entry of `TARGETS`; `hulls[source]` the
    points of the convex hull, cheapest first; `defaults` the curve shown for each encoder; `anchor`
    the curve others are compared with.
    """

    sweep: Sweep
    comparisons: Mapping[tuple[int, int, int], Comparison]
    quality: Mapping[tuple[int, int], Sequence[float | None]]
    hulls: Mapping[int, tuple[Point, ...]]
    defaults: tuple[int, ...]
    anchor: int

    def bd_rate(self, source: int, test: int, anchor: int) -> Comparison:
        """BD-rate of curve `test` against curve `anchor` on one source, either way round."""
        if test == anchor:
            measured = bool(self.sweep.points_of(source, test))
            return (
                Comparison(log_ratio=0.0, common=100.0)
                if measured
                else _not_measured(self.sweep, [test])
            )
        if test > anchor:
            return self.comparisons[source, test, anchor]
        other = self.comparisons[source, anchor, test]
        ratio = None if other.log_ratio is None else -other.log_ratio
        return Comparison(log_ratio=ratio, common=other.common, reason=other.reason)

    def bd_rates(self, test: int, anchor: int) -> dict[int, float]:
        """BD-rate in percent per source, for the sources that have one."""
        found = ((s, self.bd_rate(s, test, anchor).percent) for s in range(len(self.sweep.sources)))
        return {source: percent for source, percent in found if percent is not None}

    def speed(self, curve: int) -> Speed:
        """What a curve costs and saves against the anchor."""
        rates = self.bd_rates(curve, self.anchor)
        times = [
            p.cpu_s
            for p in self.sweep.points
            if p.curve == curve and p.cpu_s and (not rates or p.source in rates)
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

    def quality_for(self, curve: int, target: int) -> dict[int, float | None]:
        """Per source that has the curve, the coarsest quality value which reaches `target`; None =
        out of reach.
        """
        column = TARGETS.index(target)
        swept = range(len(self.sweep.sources))
        return {s: self.quality[s, curve][column] for s in swept if (s, curve) in self.quality}


def analyse(sweep: Sweep) -> Analysis:
    """Every figure of the report from the measured points."""
    sources, curves = range(len(sweep.sources)), range(len(sweep.curves))
    lines = {
        (s, c): bdrate.rate_curve((p.kbps, p.vmaf_unclipped) for p in sweep.points_of(s, c))
        for s in sources
        for c in curves
    }
    comparisons = {
        (s, t, a): _compare(sweep, lines, s, t, a)
        for s in sources
        for t in curves
        for a in range(t)
    }
    quality = {}
    for (s, c), points in sweep.of_curve.items():
        measured = [(p.quality, p.vmaf) for p in points if p.quality is not None]
        if measured:
            quality[s, c] = bdrate.quality_for(TARGETS, measured, _step(sweep.curves[c].encoder))
    hulls = {s: _hull([p for p in sweep.points if p.source == s]) for s in sources}
    defaults = _default_curves(sweep.curves)
    return Analysis(
        sweep=sweep,
        comparisons=comparisons,
        quality=quality,
        hulls=hulls,
        defaults=defaults,
        anchor=defaults[0] if defaults else 0,
    )


def _step(encoder: str) -> float:
    """How finely a quality value can be set, as far as the report cares."""
    step = ENCODERS[encoder].quality_step if encoder in ENCODERS else None
    return step or 0.1


def _compare(
    sweep: Sweep, lines: Mapping[tuple[int, int], Any], source: int, test: int, anchor: int
) -> Comparison:
    missing = [c for c in (test, anchor) if not sweep.points_of(source, c)]
    if missing:
        return _not_measured(sweep, missing)
    return bdrate.compare(lines[source, test], lines[source, anchor])


def _not_measured(sweep: Sweep, curves: Sequence[int]) -> Comparison:
    names = " and ".join(sweep.curves[c].label for c in curves)
    return Comparison(log_ratio=None, common=0.0, reason=f"{names} not measured on this source")


def _hull(points: Sequence[Point]) -> tuple[Point, ...]:
    # As rounded as the page has them, where the hull follows the filters: a gain of 0.0001 VMAF is
    # no corner of either.
    rounded = [(round(p.kbps, KBPS_DIGITS), round(p.vmaf, VMAF_DIGITS)) for p in points]
    return tuple(points[i] for i in bdrate.convex_hull(rounded))


def _default_curves(curves: Sequence[Curve]) -> tuple[int, ...]:
    """One curve per encoder: its default preset where swept, else the middle one of those swept."""
    chosen = []
    for encoder in dict.fromkeys(curve.encoder for curve in curves):
        mine = [i for i, curve in enumerate(curves) if curve.encoder == encoder]
        usual = ENCODERS[encoder].default_preset if encoder in ENCODERS else None
        chosen.append(next((i for i in mine if curves[i].preset == usual), mine[len(mine) // 2]))
    return tuple(chosen)


def summary(analysis: Analysis) -> list[str]:
    """The sweep in plain sentences: its size, the curve with the fewest bits, the fastest, the
    settings for a target.
    """
    sweep = analysis.sweep
    if not sweep.points:
        return [
            f"No cell was measured: {len(sweep.failures)} failed. There is nothing to draw or to"
            " compare."
        ]
    encoders = len({curve.encoder for curve in sweep.curves})
    failed = f"{len(sweep.failures)} failed" if sweep.failures else "none failed"
    sentences = [
        f"{_count(len(sweep.sources), 'source')}, {_count(encoders, 'encoder')},"
        f" {_count(len(sweep.curves), 'encoder and preset pair')}:"
        f" {_count(len(sweep.points), 'measured cell')}, {failed}. Encoding and scoring took"
        f" {_hours(sweep.cpu_s)} of CPU time."
    ]
    sentences += filter(None, (_fewest_bits(analysis), _fastest(analysis), _settings(analysis)))
    return sentences


def _fewest_bits(analysis: Analysis) -> str | None:
    rates = {
        c: analysis.bd_rates(c, analysis.anchor)
        for c in range(len(analysis.sweep.curves))
        if c != analysis.anchor
    }
    most = max((len(found) for found in rates.values()), default=0)
    full = {c: found for c, found in rates.items() if found and len(found) == most}
    if not full:
        return None
    best = min(full, key=lambda c: fmean(full[c].values()))
    found, names = full[best], analysis.sweep.sources
    low, high = min(found, key=lambda s: found[s]), max(found, key=lambda s: found[s])
    label, anchor = analysis.sweep.curves[best].label, analysis.sweep.curves[analysis.anchor].label
    spread = (
        f", from {signed(found[low])} on {names[low]} to {signed(found[high])} on {names[high]}"
        if most > 1
        else ""
    )
    if fmean(found.values()) >= 0:
        return f"No other setting needs fewer bits than {anchor} for the same VMAF."
    return (
        f"Fewest bits for the same VMAF: {label}, {signed(fmean(found.values()))} against {anchor} "
        f"on average over {_count(most, 'source')}{spread}."
    )


def _fastest(analysis: Analysis) -> str | None:
    speeds = {c: analysis.speed(c) for c in range(len(analysis.sweep.curves))}
    most = max((speed.num_sources for speed in speeds.values()), default=0)
    known = {c: s.cpu_s for c, s in speeds.items() if s.cpu_s and s.num_sources == most}
    if not known:
        return None
    best = min(known, key=lambda c: known[c])
    percent, price = speeds[best].percent, ""
    if percent is not None and best != analysis.anchor:
        price = (
            f", at {signed(percent)} bits against {analysis.sweep.curves[analysis.anchor].label}"
        )
    return (
        f"Least CPU time: {analysis.sweep.curves[best].label}, {1000 * known[best]:.1f} ms per"
        f" frame{price}."
    )


def _settings(analysis: Analysis, target: int = DEFAULT_TARGET) -> str | None:
    parts = []
    for curve in analysis.defaults:
        enough = for_share(analysis.quality_for(curve, target).values(), 0.9)
        if enough is not None:
            shown = analysis.sweep.curves[curve]
            parts.append(f"{shown.label} {shown.knob.upper()} {format_quality(enough)}")
    return f"VMAF {target} on at least 90% of the sources: {', '.join(parts)}." if parts else None


def for_share(values: Iterable[float | None], share: float) -> float | None:
    """The coarsest quality value that reaches the target on `share` (0..1) of the sources; None
    when none does.
    """
    known = list(values)
    reached = sorted((v for v in known if v is not None), reverse=True)
    needed = max(1, -int(-share * len(known) // 1))
    return reached[needed - 1] if len(reached) >= needed else None


def document(analysis: Analysis) -> dict[str, Any]:
    """The report as one JSON value, names in place of indices; the `--json` of the command."""
    sweep = analysis.sweep
    labels = [curve.label for curve in sweep.curves]
    return {
        "name": sweep.name,
        "summary": summary(analysis),
        "notes": list(sweep.notes),
        "facts": dict(sweep.facts),
        "last_start": dict(sweep.start_facts),
        "num_cells": len(sweep.points),
        "sources": list(sweep.sources),
        "curves": [
            {"encoder": c.encoder, "preset": c.preset, "knob": c.knob} for c in sweep.curves
        ],
        "anchor": labels[analysis.anchor] if labels else None,
        "grid": [
            dict(zip(("encoder", "preset", "quality", "num_sources"), line, strict=True))
            for line in sweep.grid
        ],
        "bd_rate": [
            _pair(analysis, t, a) for t in range(len(labels)) for a in range(len(labels)) if t != a
        ],
        "quality_for": [_targets(analysis, c) for c in range(len(labels))],
        "speed": [_speed(analysis, c) for c in range(len(labels))],
        "convex_hull": {
            name: [
                {
                    "curve": labels[p.curve],
                    "quality": p.quality,
                    "bitrate_kbps": p.kbps,
                    "vmaf": p.vmaf,
                }
                for p in analysis.hulls[s]
            ]
            for s, name in enumerate(sweep.sources)
        },
        "failed": [
            {
                "cell": f.cell,
                "class": f.kind,
                "message": f.message,
                "exit_code": f.exit_code,
                "stderr": f.stderr,
                "command": f.command,
            }
            for f in sweep.failures
        ],
    }


def _pair(analysis: Analysis, test: int, anchor: int) -> dict[str, Any]:
    rates = analysis.bd_rates(test, anchor)
    names = analysis.sweep.sources
    reasons = {name: analysis.bd_rate(s, test, anchor).reason for s, name in enumerate(names)}
    return {
        "test": analysis.sweep.curves[test].label,
        "anchor": analysis.sweep.curves[anchor].label,
        "mean": fmean(rates.values()) if rates else None,
        "median": median(rates.values()) if rates else None,
        "per_source": {names[s]: rates.get(s) for s in range(len(names))},
        "reasons": {name: reason for name, reason in reasons.items() if reason},
    }


def _speed(analysis: Analysis, curve: int) -> dict[str, Any]:
    speed = analysis.speed(curve)
    return {
        "curve": analysis.sweep.curves[curve].label,
        "cpu_s_per_frame": speed.cpu_s,
        "mean_bd_rate": speed.percent,
        "num_sources": speed.num_sources,
    }


def _targets(analysis: Analysis, curve: int) -> dict[str, Any]:
    found = {target: analysis.quality_for(curve, target) for target in TARGETS}
    shares = {"median": 0.5, "for_90_percent": 0.9, "for_all": 1.0}
    return {
        "curve": analysis.sweep.curves[curve].label,
        "targets": {
            str(target): {
                **{name: for_share(values.values(), share) for name, share in shares.items()},
                "num_sources": len(values),
                "out_of_reach": sum(v is None for v in values.values()),
            }
            for target, values in found.items()
        },
    }


def signed(percent: float) -> str:
    """A percentage with its sign, and a real minus: −38%."""
    return f"{percent:+.0f}%".replace("-", "−")


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def _hours(seconds: float) -> str:
    if seconds < 120:
        return _count(round(seconds), "second")
    return f"{seconds / 60:.0f} minutes" if seconds < 7200 else f"{seconds / 3600:.1f} hours"
