"""Pictures of what a corpus holds: `python ai/dev/plots.py RUN_FOLDER` writes PNG files into
RUN_FOLDER/plots.

vmaf_by_encoder.png   how many cells lie where on the VMAF scale, for each encoder
bitrate_vmaf.png      bitrate against VMAF, one line per source and preset, one panel per encoder
features_vmaf.png     each of the six features against VMAF, coloured by encoder
"""

from __future__ import annotations

import argparse
import sys
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np
from vmaf_train.contract import FEATURES
from vmaf_train.corpus.rows import Row, last_of_each_cell, read_rows
from vmaf_train.errors import DatasetError, DependencyError, TrainError

_COLORS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#7f7f7f")
_DPI = 80


def read_cells(folder: Path) -> list[Row]:
    """The ok cells of a run folder, each its last row. Raises DatasetError when there is none."""
    latest = [row for _, row in last_of_each_cell(read_rows(folder / "cells.jsonl"))]
    found = [row for row in latest if row["status"] == "ok"]
    if not found:
        raise DatasetError(
            f"{folder / 'cells.jsonl'} holds no finished cell; there is nothing to draw"
        )
    return found


def draw(folder: Path) -> list[Path]:
    """Write the pictures of the corpus in `folder` and return their paths.

    Raises DatasetError for an unusable corpus, DependencyError without matplotlib.
    """
    try:
        import matplotlib  # noqa: F401
    except ImportError as failure:
        raise DependencyError(
            "matplotlib is not installed; pip install 'vmaf-tune[report]'"
        ) from failure
    cells = read_cells(folder)
    encoders = sorted({row["encoder"] for row in cells})
    target = folder / "plots"
    target.mkdir(exist_ok=True)
    figures = {
        "vmaf_by_encoder.png": _histograms(cells, encoders),
        "bitrate_vmaf.png": _rate_curves(cells, encoders),
        "features_vmaf.png": _features(cells, encoders),
    }
    for name, figure in figures.items():
        _save(figure, target / name)
    return [target / name for name in figures]


def _save(figure: Any, path: Path) -> None:
    """A PNG of 128 colours without date or library name: a third of the size, and the same corpus
    gives the same bytes.
    """
    from PIL import Image  # matplotlib brings it

    figure.canvas.draw()
    picture = Image.fromarray(np.asarray(figure.canvas.buffer_rgba())).convert("RGB")
    picture.quantize(128, dither=Image.Dither.NONE).save(path, optimize=True)


def _panels(count: int, **shared: Any) -> tuple[Any, list[Any]]:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    columns = min(3, count)
    lines = -(-count // columns)
    figure = Figure(figsize=(4 * columns, 2.9 * lines), dpi=_DPI, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(lines, columns, squeeze=False, **shared).flatten().tolist()
    for unused in axes[count:]:
        unused.set_axis_off()
    return figure, axes


def _histograms(cells: list[Row], encoders: list[str]) -> Any:
    figure, axes = _panels(len(encoders), sharex=True, sharey=True)
    for i, (axis, encoder) in enumerate(zip(axes, encoders, strict=False)):
        scores = [row["vmaf_score"] for row in cells if row["encoder"] == encoder]
        axis.hist(scores, bins=20, range=(0, 100), color=_COLORS[i % len(_COLORS)])
        axis.set(title=f"{encoder}: {len(scores)} cells", xlabel="VMAF", ylabel="cells")
    return figure


def _rate_curves(cells: list[Row], encoders: list[str]) -> Any:
    figure, axes = _panels(len(encoders), sharex=True, sharey=True)
    for i, (axis, encoder) in enumerate(zip(axes, encoders, strict=False)):
        curves: dict[tuple[str, str], list[tuple[float, float]]] = defaultdict(list)
        for row in cells:
            if row["encoder"] == encoder:
                curves[row["src"], row["preset"]].append((row["bitrate_kbps"], row["vmaf_score"]))
        for points in curves.values():
            axis.plot(
                *zip(*sorted(points), strict=True),
                color=_COLORS[i % len(_COLORS)],
                alpha=0.5,
                linewidth=0.8,
            )
        axis.set(
            title=f"{encoder}: {len(curves)} curves", xlabel="kbit/s", ylabel="VMAF", xscale="log"
        )
    return figure


def _features(cells: list[Row], encoders: list[str]) -> Any:
    figure, axes = _panels(len(FEATURES), sharey=True)
    for axis, feature in zip(axes, FEATURES, strict=True):
        for i, encoder in enumerate(encoders):
            points = [
                (r["per_frame_features"][feature], r["vmaf_score"])
                for r in cells
                if r["encoder"] == encoder
            ]
            axis.plot(
                *zip(*points, strict=True),
                ".",
                color=_COLORS[i % len(_COLORS)],
                markersize=2,
                label=encoder,
            )
        axis.set(xlabel=f"{feature} (mean over the frames)", ylabel="VMAF")
    axes[0].legend(fontsize="x-small", markerscale=4)
    return figure


def main() -> int:
    """Draw the corpus in the folder named on the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "folder", type=Path, help="the folder of a sweep, such as runs/phase_a/software"
    )
    try:
        for path in draw(parser.parse_args().folder):
            print(f"{path} {path.stat().st_size:,} bytes")
    except TrainError as failure:
        print(f"error: {failure}", file=sys.stderr)
        return 4
    return 0


if __name__ == "__main__":
    sys.exit(main())
