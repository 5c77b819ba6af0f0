"""The sweep in plain sentences: its size, the fewest bits, the least time, the settings to use."""

from __future__ import annotations

from statistics import fmean

from vmaftune.costs import counted
from vmaftune.encoders import format_quality
from vmaftune.metrics import Scale, label_of
from vmaftune.report.analysis import Analysis, Choice
from vmaftune.report.sweep import FilmQuestion, ToldLadder


def summary(analysis: Analysis) -> list[str]:
    """What a reader in a hurry should know, best first; one sentence where nothing was measured."""
    sweep = analysis.sweep
    if not sweep.points:
        failed = len(sweep.failures)
        return [f"No cell was measured: {failed} failed. There is nothing to draw or to compare."]
    found: list[str | None] = [*map(answered, sweep.questions), *map(laddered, sweep.ladders)]
    found += [_extent(analysis), _fewest_bits(analysis), _fastest(analysis), _settings(analysis)]
    return [sentence for sentence in found if sentence]


def answered(question: FilmQuestion) -> str:
    """A question and its best answer as a sentence."""
    asked = question.asked
    what = f"{asked.statistic} {label_of(asked.metric)} {asked.target:g} on {question.film}"
    if not question.answers:
        return f"Asked for {what}; stopped before there was an answer."
    best = question.answers[0]
    if best.told.quality is None or best.told.score is None:
        return f"Asked for {what}: {'; '.join(best.told.sentences)}."
    how = best.told.stop or "foretold"
    met = "" if best.told.is_met else "not met; nearest is "
    return (
        f"Asked for {what}: {met}{best.label} at {best.told.quality:g} with"
        f" {best.told.score:.2f}, {best.told.kbps or 0:,.0f} kbit/s ({how})."
    )


def laddered(ladder: ToldLadder) -> str:
    """A ladder as a sentence."""
    told, rungs = ladder.told, ladder.told.rungs
    if not rungs:
        return f"A ladder for {ladder.film} with {ladder.label}: {'; '.join(told.sentences)}."
    first, last = rungs[0], rungs[-1]
    return (
        f"A ladder for {ladder.film} with {ladder.label}: {counted(len(rungs), 'rung')} from"
        f" {first.width}x{first.height} at {first.kbps:,.0f} kbit/s (VMAF {first.score:.1f}) to"
        f" {last.width}x{last.height} at {last.kbps:,.0f} (VMAF {last.score:.1f}), from"
        f" {counted(told.num_encodes + told.num_rung_encodes, 'encode')} of its windows."
    )


def _extent(analysis: Analysis) -> str:
    sweep = analysis.sweep
    parts = [
        counted(len(sweep.sources), "source"),
        counted(len({curve.encoder for curve in sweep.curves}), "encoder"),
        counted(len(sweep.curves), "encoder and preset pair"),
    ]
    failed = f"{len(sweep.failures)} failed" if sweep.failures else "none failed"
    return (
        f"{', '.join(parts)}: {counted(len(sweep.points), 'measured cell')}, {failed}."
        f" Encoding and scoring took {_hours(sweep.cpu_s)} of CPU time."
    )


def _fewest_bits(analysis: Analysis) -> str | None:
    best = analysis.fewest_bits()
    if best is None:
        return None
    sweep = analysis.sweep
    found = analysis.bd_rates(best, analysis.anchor)
    anchor = sweep.curves[analysis.anchor].label
    mean = fmean(found.values())
    if mean >= 0:
        return f"No other setting needs fewer bits than {anchor} for the same {analysis.label}."
    return (
        f"Fewest bits for the same {analysis.label}: {sweep.curves[best].label},"
        f" {signed(mean)} against {anchor} on average over {counted(len(found), 'source')}"
        f"{_spread(analysis, found)}."
    )


def _spread(analysis: Analysis, found: dict[int, float]) -> str:
    """The best and the worst source, where there are several."""
    if len(found) < 2:
        return ""
    names = analysis.sweep.sources
    low, high = min(found, key=lambda s: found[s]), max(found, key=lambda s: found[s])
    return f", from {signed(found[low])} on {names[low]} to {signed(found[high])} on {names[high]}"


def _fastest(analysis: Analysis) -> str | None:
    best = analysis.fastest()
    if best is None:
        return None
    curves, speed = analysis.sweep.curves, analysis.speed(best)
    price = ""
    if speed.percent is not None and best != analysis.anchor:
        price = f", at {signed(speed.percent)} bits against {curves[analysis.anchor].label}"
    milliseconds = 1000 * (speed.cpu_s or 0.0)
    return f"Least CPU time: {curves[best].label}, {milliseconds:.1f} ms per frame{price}."


def _settings(analysis: Analysis) -> str | None:
    choices = [analysis.choice(curve) for curve in analysis.defaults]
    parts = [_setting(analysis, choice) for choice in choices if choice]
    if not parts:
        return None
    return (
        f"{analysis.label} {analysis.target:g} on at least 90% of the sources: {', '.join(parts)}."
    )


def _setting(analysis: Analysis, choice: Choice) -> str:
    curve = analysis.sweep.curves[choice.curve]
    return f"{curve.label} {curve.knob.upper()} {format_quality(choice.quality)}"


def commands(analysis: Analysis) -> list[tuple[str, str]]:
    """(what it is for, what one types for a whole file): the winners at the target."""
    wanted = (
        ("fewest bits", analysis.fewest_bits()),
        ("least CPU time", analysis.fastest()),
        ("compared with", analysis.anchor if analysis.sweep.curves else None),
    )
    found: dict[str, str] = {}
    for words, curve in wanted:
        choice = None if curve is None else analysis.choice(curve)
        command = analysis.command(choice.curve, choice.quality) if choice else None
        if choice and command:
            reason = f"{words}, {cost(choice, analysis.sweep.scale)}"
            found.setdefault(command, reason)
    return [(reason, command) for command, reason in found.items()]


def cost(choice: Choice, scale: Scale) -> str:
    """`VMAF 94.1, 1,234 kbit/s, 0.56 GB an hour`."""
    score = f"{scale.label} {choice.vmaf:.{scale.digits - 1}f}"
    return f"{score}, {choice.kbps:,.0f} kbit/s, {choice.gb_per_hour:.2f} GB an hour"


def signed(percent: float) -> str:
    """A percentage with its sign, and a real minus: −38%."""
    return f"{percent:+.0f}%".replace("-", "−")


def _hours(seconds: float) -> str:
    if seconds < 120:
        return counted(round(seconds), "second")
    return f"{seconds / 60:.0f} minutes" if seconds < 7200 else f"{seconds / 3600:.1f} hours"
