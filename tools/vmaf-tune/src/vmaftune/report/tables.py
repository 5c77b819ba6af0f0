"""The report for a terminal and for spreadsheets: tables as rows of values, and one CSV line per
cell.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean

from vmaftune.encoders import format_quality
from vmaftune.metrics import label_of
from vmaftune.report.analysis import Analysis, for_share, gb_per_hour
from vmaftune.report.model_run import ModelRun
from vmaftune.report.sweep import Answered, FilmQuestion, Point, ToldLadder

CSV_COLUMNS = (
    "cell",
    "source",
    "encoder",
    "preset",
    "knob",
    "quality",
    "bitrate_kbps",
    "size_bytes",
    "num_frames",
    "vmaf_mean",
    "vmaf_unclipped_mean",
    "vmaf_harmonic_mean",
    "vmaf_p5",
    "vmaf_min",
    "encode_cpu_s_per_frame",
    "on_convex_hull",
    "command",
    "film_command",
)
MANY_SOURCES = 60
"""More sources than this are not listed one by one."""

Value = str | float | int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class TextTable:
    """A table to print: `rows` of texts and numbers under `columns`, the first `left` of them
    aligned left.
    """

    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[Value]]
    left: int = 1
    caption: str | None = None


def tables(analysis: Analysis, model: ModelRun | None) -> list[TextTable]:
    """The report's tables in reading order."""
    found = []
    for question in analysis.sweep.questions:
        found += [_probes(question), _answers(question)]
    for ladder in analysis.sweep.ladders:
        found += _of_ladder(ladder)
    if analysis.sweep.points:
        found += [_matrix(analysis), _targets(analysis), _costs(analysis)]
        if 1 < len(analysis.sweep.sources) <= MANY_SOURCES:
            found += [_by_source(analysis), _sizes(analysis)]
        found.append(_speed(analysis))
    if analysis.sweep.failures:
        found.append(_failures(analysis))
    if model is not None:
        found.append(_groups(model))
    if model is not None and model.gate:
        found.append(_gate(model))
    return found


def _probes(question: FilmQuestion) -> TextTable:
    asked = question.asked
    label = label_of(asked.metric)
    return TextTable(
        title=f"Measured for {asked.statistic} {label} {asked.target:g} on {question.film}",
        columns=("setting", "quality", label, "+-", "kbit/s", "windows", "meets", "misses"),
        rows=[
            [
                f"{p.encoder} {p.preset}",
                format_quality(p.quality),
                None if p.score is None else f"{p.score:.2f}",
                f"{p.standard_error:.2f}",
                round(p.kbps),
                p.num_windows,
                *(None if end is None else format_quality(end) for end in p.bracket),
            ]
            for p in question.probes
        ],
        caption="in order; +- is the standard error; the answer lies between the last two columns",
    )


def _answers(question: FilmQuestion) -> TextTable:
    label = label_of(question.asked.metric)
    return TextTable(
        title=f"Answers for {question.asked.statistic} {label} {question.asked.target:g}",
        columns=("setting", "quality", label, "kbit/s", "encodes", "ended"),
        rows=[_answer_row(answer) for answer in question.answers],
    )


def _answer_row(answer: Answered) -> list[Value]:
    told = answer.told
    return [
        answer.label,
        None if told.quality is None else format_quality(told.quality),
        None if told.score is None else f"{told.score:.2f}",
        None if told.kbps is None else round(told.kbps),
        told.num_encodes,
        told.stop or "foretold",
    ]


def _of_ladder(ladder: ToldLadder) -> list[TextTable]:
    """The rungs of a ladder, where sizes take over, and what a fixed ladder costs more."""
    told, name = ladder.told, f"{ladder.film}, {ladder.label}"
    files = ladder.files.files if ladder.files else []
    inside: list[Value] = [f"{file.score:.2f}" for file in files]
    inside = inside or [None] * len(told.rungs)
    found = [
        TextTable(
            title=f"Rungs of {name}",
            columns=("size", "quality", "VMAF", "in the file", "kbit/s", "bound"),
            rows=[
                [
                    f"{rung.width}x{rung.height}",
                    format_quality(rung.quality),
                    f"{rung.score:.2f}",
                    own,
                    round(rung.kbps),
                    rung.maxrate_kbps,
                ]
                for rung, own in zip(told.rungs, inside, strict=True)
            ],
            caption=f"scored at {told.width}x{told.height}",
        )
    ]
    if told.crossings:
        found.append(_crossings(ladder))
    if told.fixed:
        found.append(_fixed(ladder))
    return found


def _crossings(ladder: ToldLadder) -> TextTable:
    return TextTable(
        title=f"Where sizes take over: {ladder.film}, {ladder.label}",
        columns=("size", "from", "VMAF", "kbit/s"),
        rows=[
            [
                f"{c.width}x{c.height}",
                f"{c.below_width}x{c.below_height}",
                f"{c.score:.1f}",
                round(c.kbps),
            ]
            for c in ladder.told.crossings
        ],
        left=2,
    )


def _fixed(ladder: ToldLadder) -> TextTable:
    return TextTable(
        title=f"A fixed ladder at equal VMAF: {ladder.film}, {ladder.label}",
        columns=("fixed rung", "kbit/s", "VMAF", "hull kbit/s", "saved"),
        rows=[
            [
                f"{one.width}x{one.height}",
                round(one.kbps),
                f"{one.score:.2f}",
                None if one.hull_kbps is None else round(one.hull_kbps),
                None if one.saved is None else f"{one.saved:+.0%}",
            ]
            for one in ladder.told.fixed
        ],
    )


def _matrix(analysis: Analysis) -> TextTable:
    curves, shown = analysis.sweep.curves, analysis.defaults
    return TextTable(
        title=f"BD-rate: bits of the row against the column for the same {analysis.label}",
        columns=("", *(curves[c].label for c in shown)),
        rows=[
            [curves[test].label, *(_bd_text(analysis, test, anchor) for anchor in shown)]
            for test in shown
        ],
        caption=(
            f"mean over {len(analysis.sweep.sources)} sources, or over (n) where both curves"
            " overlap; negative = fewer bits"
        ),
    )


def _bd_text(analysis: Analysis, test: int, anchor: int) -> str:
    if test == anchor:
        return "·"
    rates = analysis.bd_rates(test, anchor)
    if not rates:
        return "none"
    few = f" ({len(rates)})" if len(rates) < len(analysis.sweep.sources) else ""
    return f"{fmean(rates.values()):+.1f}%{few}"


def _targets(analysis: Analysis) -> TextTable:
    curves = range(len(analysis.sweep.curves))
    columns = ("encoder and preset", "knob", "for half", "for 90%", "for all", "out of reach")
    return TextTable(
        title=f"Coarsest quality value that still gives {analysis.goal}",
        columns=(*columns, "sources"),
        rows=[_target_row(analysis, c) for c in curves if analysis.swept(c)],
        left=2,
        caption=(
            "of its sources; interpolated between measured values, never beyond them (≥ = the"
            " coarsest one swept)"
        ),
    )


def _target_row(analysis: Analysis, index: int) -> list[Value]:
    curve = analysis.sweep.curves[index]
    values = list(analysis.quality_for(index, analysis.target).values())
    missed = sum(value is None for value in values)
    enough = [_value_text(analysis, index, for_share(values, part)) for part in (0.5, 0.9, 1.0)]
    return [curve.label, curve.knob, *enough, missed, len(values)]


def _value_text(analysis: Analysis, curve: int, value: float | None) -> str | None:
    """A quality value, marked where no coarser one was swept."""
    swept = analysis.swept(curve)
    if value is None or swept is None:
        return None
    return ("≥ " if value == swept[1] else "") + format_quality(value)


def _costs(analysis: Analysis) -> TextTable:
    """What the value for 90% of the sources gives and costs."""
    rows: list[list[Value]] = []
    for index, curve in enumerate(analysis.sweep.curves):
        choice = analysis.choice(index)
        if choice:
            value = _value_text(analysis, index, choice.quality)
            size = f"{choice.gb_per_hour:.2f}"
            cost: list[Value] = [
                f"{choice.vmaf:.{analysis.digits - 1}f}",
                f"{choice.kbps:,.0f}",
                size,
            ]
            rows.append([curve.label, value, *cost, choice.num_sources])
    return TextTable(
        title=f"What the value for 90% costs ({analysis.goal})",
        columns=("encoder and preset", "value", analysis.label, "kbit/s", "GB an hour", "sources"),
        rows=rows,
        caption="means over the sources, at the size that was measured; an hour without its sound",
    )


def _by_source(analysis: Analysis) -> TextTable:
    sweep, shown = analysis.sweep, analysis.defaults
    return TextTable(
        title=f"Coarsest quality value for {analysis.goal} by source",
        columns=("source", *(sweep.curves[c].label for c in shown)),
        rows=[
            [name, *(_source_value(analysis, source, c) for c in shown)]
            for source, name in enumerate(sweep.sources)
        ],
        caption="< = even the finest value swept falls short; – = not measured",
    )


def _source_value(analysis: Analysis, source: int, curve: int) -> str | None:
    found = analysis.quality_for(curve, analysis.target)
    swept = analysis.swept(curve)
    if source not in found or swept is None:
        return None
    if found[source] is None:
        return f"< {format_quality(swept[0])}"
    return _value_text(analysis, curve, found[source])


def _sizes(analysis: Analysis) -> TextTable:
    sweep, shown = analysis.sweep, analysis.defaults
    return TextTable(
        title=f"kbit/s at that value by source, and GB for an hour ({analysis.goal})",
        columns=("source", *(sweep.curves[c].label for c in shown)),
        rows=[
            [name, *(_source_size(analysis, source, c) for c in shown)]
            for source, name in enumerate(sweep.sources)
        ],
    )


def _source_size(analysis: Analysis, source: int, curve: int) -> str | None:
    value = analysis.quality_for(curve, analysis.target).get(source)
    cost = None if value is None else analysis.at(source, curve, value)
    return None if cost is None else f"{cost[0]:,.0f} ({gb_per_hour(cost[0]):.2f})"


def _speed(analysis: Analysis) -> TextTable:
    anchor = analysis.sweep.curves[analysis.anchor].label
    return TextTable(
        title="Speed against efficiency",
        columns=("encoder and preset", "ms CPU per frame", f"bits against {anchor}", "sources"),
        rows=[_speed_row(analysis, c) for c in range(len(analysis.sweep.curves))],
        caption=(
            "time and bits of a row are over the same sources; rows over different sources do not"
            " compare"
        ),
    )


def _speed_row(analysis: Analysis, curve: int) -> list[Value]:
    speed = analysis.speed(curve)
    return [
        analysis.sweep.curves[curve].label,
        None if speed.cpu_s is None else f"{1000 * speed.cpu_s:.1f}",
        "none" if speed.percent is None else f"{speed.percent:+.1f}%",
        analysis.coverage(speed.num_sources) or str(speed.num_sources),
    ]


def _failures(analysis: Analysis) -> TextTable:
    rows = [[f.cell, f.kind, f.exit_code, f.message or f.stderr] for f in analysis.sweep.failures]
    return TextTable(
        title="Failed cells", columns=("cell", "reason", "exit code", "message"), rows=rows, left=2
    )


def _groups(model: ModelRun) -> TextTable:
    rows: list[list[Value]] = [
        [line.group, line.n, line.plcc, line.srocc, line.rmse, line.mae] for line in model.groups
    ]
    over = [model.overall[name] for name in ("plcc", "srocc", "rmse", "mae")]
    rows.append(["mean", None, *(metric.mean for metric in over)])
    rows.append(["std over groups", None, *(metric.std for metric in over)])
    rows.append(["worst group", None, *(metric.worst for metric in over)])
    smoke = " (SMOKE RUN: made-up data)" if model.smoke else ""
    return TextTable(
        title=f"{model.model_id}, held out {model.held_out}{smoke}",
        columns=("group", "n", "PLCC", "SROCC", "RMSE", "MAE"),
        rows=rows,
        caption=_origin(model),
    )


def _origin(model: ModelRun) -> str:
    baselines = "; ".join(f"{name} {rmse:.3f}" for name, rmse in model.baselines.items())
    seeds = f"mean over {model.num_seeds} seeds"
    if baselines:
        seeds += f"; RMSE of the baselines: {baselines}"
    return ". ".join(filter(None, (seeds, model.origin, model.warning)))


def _gate(model: ModelRun) -> TextTable:
    return TextTable(
        title="Gate",
        columns=("name", "value", "limit", "verdict", "note"),
        rows=[[c.name, c.value, c.limit, c.verdict, c.note] for c in model.gate],
    )


def cells_csv(analysis: Analysis) -> str:
    """One line per measured cell under `CSV_COLUMNS`; an empty field is a missing value."""
    on_hull = {point.key for points in analysis.hulls.values() for point in points}
    text = io.StringIO()
    lines = csv.writer(text, lineterminator="\n")
    name = analysis.sweep.scale.name
    lines.writerow([column.replace("vmaf_", f"{name}_") for column in CSV_COLUMNS])
    for point in analysis.sweep.points:
        lines.writerow(_csv_row(analysis, point, point.key in on_hull))
    return text.getvalue().rstrip("\n")


def _csv_row(analysis: Analysis, point: Point, on_hull: bool) -> list[Value]:
    sweep = analysis.sweep
    curve = sweep.curves[point.curve]
    known = point.quality is not None
    return [
        point.cell,
        sweep.sources[point.source],
        curve.encoder,
        curve.preset,
        curve.knob,
        format_quality(point.quality or 0.0) if known else None,
        point.kbps,
        point.size_bytes,
        point.num_frames,
        point.vmaf,
        point.vmaf_unclipped,
        point.harmonic,
        point.p5,
        point.lowest,
        point.cpu_s,
        int(on_hull),
        point.command,
        analysis.command(point.curve, point.quality or 0.0) if known else None,
    ]
