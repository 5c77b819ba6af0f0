"""The hull of a ladder against the full grid: what its few encodes lose.

    python tools/vmaf-tune/dev/bench_ladder.py [--grid RUN]

The grid is every second quality value at four sizes, all scored at the largest: 80 encodes a clip,
on the committed clips. It is measured into `--grid` (runs/bench/ladder) unless that folder has it.
The search is replayed on it, so it may ask only for what the grid holds. Both hulls are made by one
rule: each size's curve is PCHIP of ln(kbit/s) over VMAF through its measured points, and the hull
takes the cheapest size at each score from 50 to 95. A line a clip: encodes of both, mean difference
of the bitrate at equal VMAF (BD-rate), the largest at one score, and the share of the scores that
the search's points cover.
"""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

import numpy as np
import vmaftune
from numpy.typing import NDArray
from vmaf_train import prior
from vmaftune.questions.hull import HullSearch, SizePoint
from vmaftune.report.hulls import SizedPoint, hull_at
from vmaftune.request.flags import Texts

ROOT = Path(__file__).resolve().parents[3]
CLIPS = ROOT / "tests/media/clips"
QUALITY, SIZES = "12:50:2", "360,272,204,136"
LOW, HIGH = 50.0, 95.0


def main() -> None:
    """Print a line for each clip, and the mean and worst of them."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--grid", type=Path, default=ROOT / "runs/bench/ladder")
    parser.add_argument("--preset", default="veryfast")
    asked = parser.parse_args()
    if not (asked.grid / "cells.jsonl").exists():
        measure(asked.grid, asked.preset)
    losses = [show(name, rows) for name, rows in read(asked.grid).items()]
    sizes = [abs(loss) for loss in losses]
    print(f"mean {sum(sizes) / len(sizes):.2%}, worst {max(sizes):.2%} (limits 0.5% and 1.5%)")


def measure(folder: Path, preset: str) -> None:
    """Encode and score the grid."""
    vmaftune.sweep(
        CLIPS,
        encoders="x264",
        presets=preset,
        quality=QUALITY,
        texts=Texts(sizes=SIZES),
        running=vmaftune.Running(out=folder),
    )


def read(folder: Path) -> dict[str, list[dict[str, object]]]:
    """The rows of each clip."""
    found: dict[str, list[dict[str, object]]] = {}
    for line in (folder / "cells.jsonl").read_text(encoding="utf-8").splitlines():
        row = json.loads(line)
        if row["status"] == "ok":
            found.setdefault(row["src"], []).append(row)
    return found


def show(name: str, rows: Sequence[dict[str, object]]) -> float:
    """Replay the search on one clip's grid, print its line, and return its BD-rate."""
    grid = {(p.size, p.quality): p for p in map(point_of, rows)}
    sizes = sorted({size for size, _ in grid}, reverse=True)
    first = rows[0]
    search = HullSearch(
        prior.load(ROOT / "model"),
        encoder=str(first["encoder"]),
        preset=str(first["preset"]),
        display=sizes[0],
        sizes=sizes,
        frame_rates=dict.fromkeys(sizes, float(Fraction(str(first["fps"])))),
        qualities=sorted({quality for _, quality in grid}),
        low=LOW,
        high=HIGH,
    )
    while (wanted := search.ask()) is not None:
        search.tell(grid[wanted])
    scores = np.linspace(LOW, HIGH, 181)
    whole, mine = ln_kbps(list(grid.values()), scores), ln_kbps(search.points, scores)
    both = np.isfinite(whole) & np.isfinite(mine)
    lost = mine[both] - whole[both]
    loss = math.expm1(float(lost.mean()))
    print(
        f"{name:20} grid {len(grid)}, search {len(search.points)} encodes: BD-rate {loss:+.2%},"
        f" at most {math.expm1(float(lost.max())):+.2%} at one score, covers"
        f" {both.sum() / np.isfinite(whole).sum():.0%}"
    )
    return loss


def ln_kbps(points: Sequence[SizePoint], scores: NDArray[np.float64]) -> NDArray[np.float64]:
    """ln(kbit/s) of the hull at each score; infinite where no size has it."""
    sized = [SizedPoint(size=p.size, kbps=p.kbps, score=p.score) for p in points]
    return hull_at(sized, scores).ln_kbps


def point_of(row: dict[str, object]) -> SizePoint:
    """A row of the grid as a point of the search."""
    size = (row.get("encode_width") or row["width"], row.get("encode_height") or row["height"])
    features = row["per_frame_features"]
    assert isinstance(features, dict)
    return SizePoint(
        size=(int(str(size[0])), int(str(size[1]))),
        quality=float(str(row["crf"])),
        score=float(str(row["vmaf_score"])),
        kbps=float(str(row["bitrate_kbps"])),
        motion2=features["motion2"],
    )


if __name__ == "__main__":
    main()
