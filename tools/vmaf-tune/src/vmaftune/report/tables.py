"""The report for a terminal and for spreadsheets: tables as rows of values, and one CSV line per
cell.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any

from vmaftune.encoders import format_quality
from vmaftune.report.analysis import DEFAULT_TARGET, Analysis, for_share
from vmaftune.report.model_run import ModelRun

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
)


@dataclass(frozen=True, slots=True, kw_only=True)
class TextTable:
    """A table to print: `rows` of texts and numbers under `columns`, the first `left` of them
    aligned left.
    """

    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[Any]]
    left: int = 1
    caption: str | None = None


def tables(analysis: Analysis, model: ModelRun | None) -> list[TextTable]:
    """The report's tables in reading order."""
    found = (
        [_matrix(analysis), _targets(analysis), _speed(analysis)] if analysis.sweep.points else []
    )
    if analysis.sweep.failures:
        found.append(_failures(analysis))
    if model is not None:
        found.append(_groups(model))
    if model is not None and model.gate:
        columns = ("name", "value", "limit", "verdict", "note")
        found.append(
            TextTable(
                title="Gate",
                columns=columns,
                rows=[[c[name] for name in columns] for c in model.gate],
            )
        )
    return found


def _matrix(analysis: Analysis) -> TextTable:
    curves, shown = analysis.sweep.curves, analysis.defaults

    def figure(test: int, anchor: int) -> str:
        rates = analysis.bd_rates(test, anchor)
        few = f" ({len(rates)})" if len(rates) < len(analysis.sweep.sources) else ""
        return "·" if test == anchor else f"{fmean(rates.values()):+.1f}%{few}" if rates else "none"

    return TextTable(
        title="BD-rate: bits of the row against the column for the same VMAF",
        columns=("", *(curves[c].label for c in shown)),
        rows=[[curves[test].label, *(figure(test, anchor) for anchor in shown)] for test in shown],
        caption=(
            f"mean over {len(analysis.sweep.sources)} sources, or over (n) where both curves"
            " overlap; negative = fewer bits"
        ),
    )


def _targets(analysis: Analysis) -> TextTable:
    rows = []
    for c, curve in enumerate(analysis.sweep.curves):
        values = list(analysis.quality_for(c, DEFAULT_TARGET).values())
        coarsest = max(
            (p.quality for p in analysis.sweep.points if p.curve == c and p.quality is not None),
            default=None,
        )
        enough = [for_share(values, share) for share in (0.5, 0.9, 1.0)]
        shown = [
            None if v is None else ("≥ " if v == coarsest else "") + format_quality(v)
            for v in enough
        ]
        missed = sum(value is None for value in values)
        if values:
            rows.append([curve.label, curve.knob, *shown, missed, len(values)])
    return TextTable(
        title=f"Coarsest quality value that still gives VMAF {DEFAULT_TARGET}",
        columns=(
            "encoder and preset",
            "knob",
            "for half",
            "for 90%",
            "for all",
            "out of reach",
            "sources",
        ),
        rows=rows,
        left=2,
        caption=(
            "of its sources; interpolated between measured values, never beyond them (≥ = the"
            " coarsest one swept)"
        ),
    )


def _speed(analysis: Analysis) -> TextTable:
    anchor = analysis.sweep.curves[analysis.anchor].label
    rows = []
    for c, curve in enumerate(analysis.sweep.curves):
        speed = analysis.speed(c)
        bits = "none" if speed.percent is None else f"{speed.percent:+.1f}%"
        covered = analysis.coverage(speed.num_sources) or str(speed.num_sources)
        rows.append(
            [
                curve.label,
                None if speed.cpu_s is None else f"{1000 * speed.cpu_s:.1f}",
                bits,
                covered,
            ]
        )
    columns = ("encoder and preset", "ms CPU per frame", f"bits against {anchor}", "sources")
    caption = (
        "time and bits of a row are over the same sources; rows over different sources do not"
        " compare"
    )
    return TextTable(title="Speed against efficiency", columns=columns, rows=rows, caption=caption)


def _failures(analysis: Analysis) -> TextTable:
    rows = [[f.cell, f.kind, f.exit_code, f.message or f.stderr] for f in analysis.sweep.failures]
    return TextTable(
        title="Failed cells", columns=("cell", "reason", "exit code", "message"), rows=rows, left=2
    )


def _groups(model: ModelRun) -> TextTable:
    names = ("plcc", "srocc", "rmse", "mae")
    rows = [[g["group"], g["n"], *(g[name] for name in names)] for g in model.groups]
    for part, label in (("mean", "mean"), ("std", "std over groups"), ("worst", "worst group")):
        rows.append([label, None, *(model.overall[name][part] for name in names)])
    baselines = "; ".join(f"{name} {rmse:.3f}" for name, rmse in model.baselines.items())
    return TextTable(
        title=f"{model.model_id}, held out {model.held_out}"
        + (" (SMOKE RUN: made-up data)" if model.smoke else ""),
        columns=("group", "n", "PLCC", "SROCC", "RMSE", "MAE"),
        rows=rows,
        caption=". ".join(
            filter(
                None,
                (
                    f"mean over {model.num_seeds} seeds"
                    + (f"; RMSE of the baselines: {baselines}" if baselines else ""),
                    model.origin,
                    model.warning,
                ),
            )
        ),
    )


def cells_csv(analysis: Analysis) -> str:
    """One line per measured cell under `CSV_COLUMNS`; an empty field is a missing value."""
    sweep = analysis.sweep
    on_hull = {point.key for points in analysis.hulls.values() for point in points}
    text = io.StringIO()
    lines = csv.writer(text, lineterminator="\n")
    lines.writerow(CSV_COLUMNS)
    for p in sweep.points:
        curve = sweep.curves[p.curve]
        quality = None if p.quality is None else format_quality(p.quality)
        lines.writerow(
            (
                p.cell,
                sweep.sources[p.source],
                curve.encoder,
                curve.preset,
                curve.knob,
                quality,
                p.kbps,
                p.size_bytes,
                p.num_frames,
                p.vmaf,
                p.vmaf_unclipped,
                p.harmonic,
                p.p5,
                p.lowest,
                p.cpu_s,
                int(p.key in on_hull),
                p.command,
            )
        )
    return text.getvalue().rstrip("\n")
