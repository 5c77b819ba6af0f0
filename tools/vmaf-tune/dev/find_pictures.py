"""The picture of docs/find.md: how a search closes in on its answer.

    python tools/vmaf-tune/dev/find_pictures.py [--out docs/img/find_search.png]

Replays searches with the shipped prior on measured curves of runs/phase_a/dense, which the prior
was not fitted on: nothing is encoded, and the same picture comes out everywhere. A panel for each
encode: what the search expects before it, with the band that holds four of five, the range in
which the answer may still lie, and every value as it was measured.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from vmaf_train.corpus import contents
from vmaf_train.prior import load
from vmaf_train.results import foretelling
from vmaf_train.results.foretelling import Dense
from vmaf_train.search import Answer, Search

if TYPE_CHECKING:
    from matplotlib.axes import Axes

ROOT = Path(__file__).resolve().parents[3]
DENSE = ROOT / "runs/phase_a/dense"
SHOWN = (("face", "libsvtav1", 93.0), ("diver", "libvpx-vp9", 95.0))
"""Clip, encoder and target of each row of panels."""
BLUE, ORANGE, GREY = "#0072B2", "#D55E00", "#777777"


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """What a search believed, and the quality value that it asked for next; None at its end."""

    answer: Answer
    asked: float | None


def main() -> None:
    """Write the picture."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=_Raw)
    parser.add_argument("--out", type=Path, default=ROOT / "docs/img/find_search.png")
    asked = parser.parse_args()
    known = {content.name: content for content in contents.read([DENSE])}
    rows = []
    for name, encoder, target in SHOWN:
        curves = foretelling.dense_curves(name, known[name].cells, "mean")
        curve = next(c for c in curves if c.encoder == encoder)
        rows.append((curve, target, steps(curve, target)))
    draw(rows, asked.out)
    print(asked.out)


class _Raw(argparse.RawDescriptionHelpFormatter):
    pass


def steps(curve: Dense, target: float) -> list[Step]:
    """A proven search on a measured curve, before each of its encodes and at its end."""
    search = Search(
        load(),
        encoder=curve.encoder,
        preset=curve.preset,
        target=target,
        low=float(curve.quality[0]),
        high=float(curve.quality[-1]),
        stop="proven",
    )
    score = dict(zip(curve.quality.tolist(), curve.score.tolist(), strict=True))
    bits = dict(zip(curve.quality.tolist(), curve.bits_per_pixel.tolist(), strict=True))
    found = []
    while True:
        answer, quality = search.answer, search.ask()
        found.append(Step(answer=answer, asked=quality))
        if quality is None:
            return found
        search.tell(quality, score[quality], bits_per_pixel=bits[quality], motion2=curve.motion2)


def draw(rows: Sequence[tuple[Dense, float, list[Step]]], file: Path) -> None:
    """A row of panels for each search."""
    from matplotlib.figure import Figure

    columns = max(len(found) for _, _, found in rows)
    figure = Figure(figsize=(2.9 * columns, 2.9 * len(rows)), layout="constrained")
    grid = figure.subplots(len(rows), columns, squeeze=False, sharey=True)
    for axes, (curve, target, found) in zip(grid, rows, strict=True):
        for place, panel in enumerate(axes):
            if place >= len(found):
                panel.set_visible(False)
                continue
            told = [step.asked for step in found[:place] if step.asked is not None]
            _panel(panel, curve, target, found[place], told)
        axes[0].set_ylabel(f"{curve.encoder} {curve.preset} on `{curve.content}`\nVMAF", fontsize=8)
    file.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(file, dpi=100)


def _panel(axes: Axes, curve: Dense, target: float, step: Step, told: Sequence[float]) -> None:
    foretold = step.answer.curve
    low, high = step.answer.bracket
    score = dict(zip(curve.quality.tolist(), curve.score.tolist(), strict=True))
    ends = (curve.quality[0] if low is None else low, curve.quality[-1] if high is None else high)
    axes.axvspan(*ends, color="#f1f1f1", zorder=0)
    axes.plot(curve.quality, curve.score, ".", color="#b0b0b0", markersize=3, label="every value")
    axes.fill_between(foretold.quality, foretold.low, foretold.high, color=BLUE, alpha=0.22)
    axes.plot(foretold.quality, foretold.score, color=BLUE, linewidth=1.4, label="foretold")
    axes.plot(told, [score[q] for q in told], "o", color=BLUE, markersize=6, label="measured")
    axes.axhline(target, color=GREY, linestyle=":", linewidth=1)
    if step.asked is None:
        axes.set_title(f"{len(told)} encodes: the answer is {step.answer.quality:g}", fontsize=9)
    else:
        axes.axvline(step.asked, color=ORANGE, linewidth=1.4)
        axes.set_title(f"encode {len(told) + 1}: at {step.asked:g}", fontsize=9, color=ORANGE)
    axes.set(ylim=(70, 100.5), xlim=(curve.quality[0], curve.quality[-1]))
    axes.set_xlabel("quality value", fontsize=8)
    axes.tick_params(labelsize=7)
    axes.spines[["top", "right"]].set_visible(False)


if __name__ == "__main__":
    main()
