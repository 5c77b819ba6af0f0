"""The report's figures as PNG files for slides and print: matplotlib, the page's colours, 200 dots
per inch.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING, Any

from vmaftune.errors import ToolError
from vmaftune.report.analysis import Analysis
from vmaftune.report.ladder_figure import write_picture
from vmaftune.report.model_run import Band, ModelRun
from vmaftune.report.sweep import ToldLadder

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# Okabe and Ito's palette; marker and dash repeat what the colour says, for readers who cannot tell
# colours apart.
_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#8C7A00")
_MARKERS = ("o", "s", "D", "^", "X", "*", "v", "P", "p", "h")
_DASHES = ("-", "--", ":", "-.", (0, (8, 2)), (0, (8, 2, 1, 2)))
_DPI = 200


@dataclass(frozen=True, slots=True, kw_only=True)
class _Look:
    """How a curve is drawn, in matplotlib's words."""

    color: str
    marker: str
    linestyle: Any
    label: str


@dataclass(frozen=True, slots=True, kw_only=True)
class _Mark:
    """One preset of an encoder in the figure of speed: CPU ms per frame, BD-rate in percent."""

    ms: float
    percent: float
    curve: int
    covered: str | None


def write(analysis: Analysis, model: ModelRun | None, folder: Path) -> list[Path]:
    """Write every figure into `folder`, made when missing. Raises ToolError without matplotlib or a
    writable folder.
    """
    try:
        import matplotlib

        matplotlib.use("Agg")
    except ModuleNotFoundError as failure:
        raise ToolError(
            "--png needs matplotlib; install it with: pip install 'vmaf-tune[report]'"
        ) from failure
    try:
        folder.mkdir(parents=True, exist_ok=True)
        written = [_rate(analysis, s, folder) for s in range(len(analysis.sweep.sources))]
        if analysis.sweep.points:
            written += [figure(analysis, folder) for figure in (_matrix, _reach, _speed)]
        written += [_ladder(ladder, folder) for ladder in analysis.sweep.ladders]
        if model is not None:
            written += [_scatter(analysis, model, folder), _residuals(model, folder)]
    except OSError as failure:
        raise ToolError(
            f"{folder} cannot be written ({failure.strerror}); name another folder with --png"
        ) from failure
    return written


@contextmanager
def _axes(file: Path, width: float = 6.4, height: float = 4.2) -> Iterator[Axes]:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    axes = figure.subplots()
    axes.grid(True, color="#e4e4e4", linewidth=0.6)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    yield axes
    figure.savefig(file, dpi=_DPI)


def _legend(axes: Axes, **look: Any) -> None:
    """A legend, where there is anything to name."""
    if axes.get_legend_handles_labels()[1]:
        axes.legend(frameon=False, **look)


def _log_scale(axes: Axes) -> None:
    """A logarithmic horizontal axis with 1, 2 and 5 of each decade written out."""
    from matplotlib.ticker import LogLocator, NullFormatter, StrMethodFormatter

    axes.set_xscale("log")
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.xaxis.set_major_formatter(StrMethodFormatter("{x:,.10g}"))
    axes.xaxis.set_minor_formatter(NullFormatter())


def _look(analysis: Analysis, curve: int) -> _Look:
    curves = analysis.sweep.curves
    names = list(dict.fromkeys(c.encoder for c in curves))
    place = names.index(curves[curve].encoder)
    mine = [i for i, c in enumerate(curves) if c.encoder == curves[curve].encoder]
    ranks = sorted(mine, key=lambda i: i not in analysis.defaults)
    return _Look(
        color=_COLOURS[place % len(_COLOURS)],
        marker=_MARKERS[place % len(_MARKERS)],
        linestyle=_DASHES[ranks.index(curve) % len(_DASHES)],
        label=_plain(curves[curve].label),
    )


def _plain(text: str) -> str:
    """`text` with no part of it read as a formula."""
    return text.replace("$", r"\$")


def _file(folder: Path, stem: str) -> Path:
    return folder / (re.sub(r"[^\w.-]+", "_", stem).strip("._") + ".png")


def _rate(analysis: Analysis, source: int, folder: Path) -> Path:
    name = analysis.sweep.sources[source]
    file = _file(folder, f"rate_{source:02d}_{name}")
    with _axes(file, 7.2, 4.6) as axes:
        hull = analysis.hulls[source]
        x, y = [p.kbps for p in hull], [p.vmaf for p in hull]
        axes.plot(x, y, color="#bbbbbb", linewidth=6, label="convex hull")
        for c in range(len(analysis.sweep.curves)):
            points = sorted(analysis.sweep.points_of(source, c), key=lambda p: p.kbps)
            if points:
                x, y = [p.kbps for p in points], [p.vmaf for p in points]
                axes.plot(x, y, markersize=4, linewidth=1.3, **asdict(_look(analysis, c)))
        _log_scale(axes)
        axes.set(
            xlabel="Bitrate, kbit/s",
            ylabel=f"{analysis.label} (mean over frames)",
            title=_plain(name),
        )
        _legend(axes, fontsize=6.5, ncols=2)
    return file


def _ladder(ladder: ToldLadder, folder: Path) -> Path:
    file = _file(folder, f"ladder_{ladder.film}_{ladder.label}")
    write_picture(ladder.told, file)
    return file


def _matrix(analysis: Analysis, folder: Path) -> Path:
    shown, curves = analysis.defaults, analysis.sweep.curves
    file = _file(folder, "bd_rate")
    with _axes(file, 1.6 + 1.0 * len(shown), 1.2 + 0.55 * len(shown)) as axes:
        axes.grid(False)
        for row, test in enumerate(shown):
            for column, anchor in enumerate(shown):
                _matrix_cell(axes, analysis, (row, column), (test, anchor))
        labels = [_plain(curves[c].label) for c in shown]
        ticks = [i + 0.5 for i in range(len(shown))]
        axes.set_xticks(ticks, labels, rotation=25, ha="right", fontsize=7.5)
        axes.set_yticks(ticks, labels, fontsize=7.5)
        axes.set(xlim=(0, len(shown)), ylim=(len(shown), 0))
        axes.set_title("BD-rate: bits of the row against the column", fontsize=9)
    return file


def _matrix_cell(
    axes: Axes, analysis: Analysis, place: tuple[int, int], pair: tuple[int, int]
) -> None:
    row, column = place
    rates = analysis.bd_rates(*pair)
    same = pair[0] == pair[1]
    value = fmean(rates.values()) if rates and not same else None
    text = "–" if same else _signed(value)
    if value is not None and len(rates) < len(analysis.sweep.sources):
        text += f"\n{len(rates)} of {len(analysis.sweep.sources)}"
    across = [column, column + 1, column + 1, column]
    down = [row, row, row + 1, row + 1]
    shade = _COLOURS[0] if (value or 0) < 0 else _COLOURS[1]
    strength = 0.55 * min(abs(value or 0) / 60, 1)
    axes.fill(across, down, color=shade, alpha=strength)
    axes.text(column + 0.5, row + 0.5, text, ha="center", va="center", fontsize=8)


def _signed(value: float | None) -> str:
    return "none" if value is None else f"{value:+.1f}%".replace("-", "−")


def _reach(analysis: Analysis, folder: Path) -> Path:
    target = analysis.target
    file = _file(folder, f"quality_for_{analysis.sweep.scale.name}_{target:g}")
    with _axes(file) as axes:
        for c in analysis.defaults:
            values = list(analysis.quality_for(c, target).values())
            swept = analysis.swept(c)
            if not values or not swept:
                continue
            reached = sorted(v for v in values if v is not None)
            steps = sorted({*swept, *reached})
            shares = [100 * sum(v >= q for v in reached) / len(values) for q in steps]
            look = asdict(_look(analysis, c))
            axes.plot(steps, shares, drawstyle="steps-pre", linewidth=1.6, markersize=4, **look)
        axes.set_xlabel("Quality value (each encoder's own scale)")
        sign = analysis.sweep.scale.at_least
        axes.set_ylabel(f"Sources with {analysis.label} {sign} {target:g}, %")
        _legend(axes, fontsize=7.5)
    return file


def _speed(analysis: Analysis, folder: Path) -> Path:
    file = _file(folder, "speed_against_efficiency")
    curves = analysis.sweep.curves
    with _axes(file) as axes:
        for encoder in dict.fromkeys(c.encoder for c in curves):
            mine = [i for i, curve in enumerate(curves) if curve.encoder == encoder]
            marks = [mark for mark in (_mark(analysis, c) for c in mine) if mark]
            for mark in marks:
                _name(axes, mark, curves[mark.curve].preset or "")
            _draw_marks(axes, analysis, marks, _plain(encoder))
        _log_scale(axes)
        axes.set_xlabel("CPU time of the encode, ms per frame")
        axes.set_ylabel(f"Bits against {_plain(curves[analysis.anchor].label)}, %")
        _legend(axes, fontsize=7.5)
    return file


def _mark(analysis: Analysis, curve: int) -> _Mark | None:
    speed = analysis.speed(curve)
    if speed.cpu_s is None or speed.percent is None:
        return None
    covered = analysis.coverage(speed.num_sources)
    return _Mark(ms=1000 * speed.cpu_s, percent=speed.percent, curve=curve, covered=covered)


def _name(axes: Axes, mark: _Mark, preset: str) -> None:
    text = f"{_plain(preset)} ({mark.covered})".strip() if mark.covered else _plain(preset)
    axes.annotate(
        text,
        (mark.ms, mark.percent),
        xytext=(0, 6),
        textcoords="offset points",
        fontsize=6.5,
        ha="center",
    )


def _draw_marks(axes: Axes, analysis: Analysis, marks: Sequence[_Mark], encoder: str) -> None:
    """What covers fewer sources than the anchor is open, and no line joins it to the others."""
    full = sorted((m for m in marks if not m.covered), key=lambda m: m.ms)
    few = [m for m in marks if m.covered]
    label: str | None = encoder
    for shown, style in ((full, {"linestyle": "-"}), (few, {"linestyle": "", "fillstyle": "none"})):
        if shown:
            look = {**asdict(_look(analysis, shown[0].curve)), **style, "label": label}
            x, y = [m.ms for m in shown], [m.percent for m in shown]
            axes.plot(x, y, linewidth=1.3, **look)
            label = None


def _scatter(analysis: Analysis, model: ModelRun, folder: Path) -> Path:
    known = list(dict.fromkeys([*(c.encoder for c in analysis.sweep.curves), *model.encoder_names]))
    file = _file(folder, "model_predicted_against_measured")
    y, p = model.scatter.y, model.scatter.p
    with _axes(file, 5.2, 5.0) as axes:
        ends = [min(y + p), max(y + p)]
        axes.plot(ends, ends, color="#999999", linestyle=":", linewidth=1)
        for e, name in enumerate(model.encoder_names):
            mine = [i for i, at in enumerate(model.scatter.encoder) if at == e]
            place = known.index(name)
            axes.scatter(
                [y[i] for i in mine],
                [p[i] for i in mine],
                s=9,
                alpha=0.7,
                label=_plain(name),
                color=_COLOURS[place % len(_COLOURS)],
                marker=_MARKERS[place % len(_MARKERS)],
            )
        few = f": {len(y):,} of {model.num_rows:,} rows" if len(y) < model.num_rows else ""
        axes.set(xlabel="Measured VMAF", ylabel="Predicted VMAF")
        axes.set_title(f"{_plain(model.model_id)}, held out{few}")
        _legend(axes, fontsize=7)
    return file


def _residuals(model: ModelRun, folder: Path) -> Path:
    file = _file(folder, "model_residuals")
    with _axes(file) as axes:
        boxes = [_box(band) for band in model.bands]
        axes.bxp(boxes, showfliers=False, medianprops={"color": _COLOURS[1], "linewidth": 1.6})
        axes.axhline(0, color="#999999", linewidth=0.8)
        axes.set(xlabel="Measured VMAF", ylabel="Predicted − measured")
        axes.tick_params(axis="x", labelsize=7.5)
    return file


def _box(band: Band) -> dict[str, float | str]:
    names = ("whislo", "q1", "med", "q3", "whishi")
    return {"label": f"{band.band}\nn={band.n}", **dict(zip(names, band.quantiles, strict=True))}
