"""A ladder as a picture: encodes of every size, their hull with its crossovers, rungs, and a fixed
ladder beside them. Drawn from what was told of it, so `ladder --plot` and `report --png` agree.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from vmaftune.engine.events import HullPoint, LadderEvent, LadderFixed, LadderRung

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#8C7A00")
_MARKERS = ("o", "s", "D", "^", "X", "*", "v", "P", "p", "h")
_GREY, _RED = "#777777", "#A83A00"
Marks = Sequence[HullPoint] | Sequence[LadderRung] | Sequence[LadderFixed]


def draw_ladder(told: LadderEvent, axes: Axes) -> None:
    """Draw a ladder into `axes`, with its axes and legend."""
    if told.curve:
        kbps, scores = zip(*told.curve, strict=True)
        axes.plot(kbps, scores, color="#bbbbbb", linewidth=6, label="cheapest size")
    sizes = sorted({(p.width, p.height) for p in told.points}, key=lambda s: -s[0] * s[1])
    for place, size in enumerate(sizes):
        mine = [p for p in told.points if (p.width, p.height) == size]
        x, y = _columns(sorted(mine, key=lambda p: p.kbps))
        marker, colour = _MARKERS[place % len(_MARKERS)], _COLOURS[place % len(_COLOURS)]
        label = f"{size[0]}x{size[1]}"
        axes.plot(x, y, marker=marker, markersize=4, linewidth=1, color=colour, label=label)
    for crossing in told.crossings:
        axes.axhline(crossing.score, color=_GREY, linewidth=0.7, linestyle=":")
    if told.rungs:
        axes.plot(*_columns(told.rungs), "o", color="black", mfc="none", ms=11, label="rungs")
    if told.fixed:
        axes.plot(*_columns(told.fixed), "x", color=_RED, ms=8, mew=2, label="fixed ladder")
    axes.set_xscale("log")
    axes.set(xlabel="kbit/s", ylabel=f"VMAF ({told.statistic})")
    axes.grid(alpha=0.3, which="both")
    if axes.get_legend_handles_labels()[1]:
        axes.legend(fontsize="small")


def write_picture(told: LadderEvent, place: Path) -> None:
    """A ladder as a picture file, whose name says its kind; PNG without a suffix."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 5), layout="constrained")
    axes = figure.subplots()
    draw_ladder(told, axes)
    name = f"{Path(told.film).name}, {told.encoder} {told.preset}"
    axes.set_title(name.replace("$", r"\$"), fontsize="medium")
    place.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(place, dpi=200, format=place.suffix.lstrip(".") or "png")


def _columns(marks: Marks) -> tuple[list[float], list[float]]:
    return [mark.kbps for mark in marks], [mark.score for mark in marks]
