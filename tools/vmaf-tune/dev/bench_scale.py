"""How time and memory of a run folder grow: `make bench-scale` (1,000, 10,000 and 100,000 cells).

The folders are written by the program's own writer, with rows and frames as long as real ones (45
frames a cell). Every figure is of a process of its own: CPU seconds, and the peak of its memory
less that of a process that only imports. The exponent is fitted between the two largest folders.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import random
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from vmaf_train.contract import FEATURES
from vmaf_train.corpus.pooling import pooled
from vmaf_train.corpus.rows import CELLS, Row, read
from vmaftune.engine.folder import Writer

ROOT = Path(__file__).parents[3]
SOFTWARE = ROOT / "runs/phase_a/software"
NUM_FRAMES = 45
QUALITIES = 192
_MEASURE = """
import json, os, sys
from pathlib import Path
folder = Path(sys.argv[1])
{setup}
before = os.times()
if os.environ.get("RUN"):
    {code}
after = os.times()
status = Path("/proc/self/status").read_text()  # getrusage would count the parent's peak
peak = int(status.split("VmHWM:")[1].split()[0]) / 1024
print(json.dumps([after.user - before.user + after.system - before.system, peak]))
"""
OPERATIONS = {
    "read cells.jsonl": (
        "from vmaf_train.corpus.ledger import survey_cells",
        "survey_cells(folder)",
    ),
    "open to write, checked before": (
        "from vmaftune.engine.folder import Writer",
        "Writer(folder)",
    ),
    "check everything": (
        "from vmaf_train.corpus.ledger import read_ledger",
        "read_ledger(folder, everything=True)",
    ),
    "status": ("from vmaftune.commands import status", "status.read(folder)"),
    "load per cell": (
        "from vmaf_train.corpus import dataset",
        "dataset.load(folder, per_frame=False)",
    ),
    "load per frame": (
        "from vmaf_train.corpus import dataset",
        "dataset.load(folder, per_frame=True)",
    ),
}


def write_folder(folder: Path, num_cells: int) -> None:
    """A run folder of `num_cells` made-up cells, with its plan."""
    folder.mkdir(parents=True)
    _, model = read(SOFTWARE / CELLS)[0]
    plan = json.loads((SOFTWARE / "sweep.json").read_text(encoding="utf-8"))
    names = [f"clip{i:04d}" for i in range(math.ceil(num_cells / QUALITIES))]
    block = {"encoder": "libx264", "preset": "fast", "quality": list(range(QUALITIES))}
    plan["sources"] = [plan["sources"][0] | {"name": name, "group": name} for name in names]
    plan |= {"grid": [block | {"sources": names}], "num_cells": len(names) * QUALITIES}
    (folder / "sweep.json").write_text(json.dumps(plan), encoding="utf-8")
    writer = Writer(folder)
    batch = []
    for cell in _cells(model, names, num_cells):
        batch.append(cell)
        if len(batch) == 200:
            writer.append_many(batch)
            batch = []
    writer.append_many(batch)
    writer.close()


def _cells(model: Row, names: Sequence[str], count: int) -> Iterator[tuple[Row, list[Row]]]:
    generator = random.Random(0)
    for number in range(count):
        source, quality = names[number // QUALITIES], number % QUALITIES
        head = {
            "key": f"{generator.getrandbits(256):064x}",
            "cell": f"{source}/libx264/fast/{quality}",
            "src": source,
            "encoder": "libx264",
            "preset": "fast",
            "crf": quality,
        }
        frames = [_frame(head, i, generator) for i in range(NUM_FRAMES)]
        features = {name: math.fsum(f[name] for f in frames) / NUM_FRAMES for name in FEATURES}
        made = {"group": source, "src_sha256": f"{hash(source) & 0xFFFF:064x}"}
        numbers = {"num_frames": NUM_FRAMES, "per_frame_features": features}
        scores = pooled(sorted(f["vmaf"] for f in frames))
        yield model | head | made | numbers | scores, frames


def _frame(head: Row, index: int, generator: random.Random) -> dict[str, Any]:
    score = round(generator.uniform(40, 99), 6)
    values = {name: round(generator.random(), 6) for name in FEATURES}
    return {**head, "frame_index": index, "vmaf": score, "vmaf_unclipped": score, **values}


def measure(operation: str, folder: Path) -> tuple[float, float]:
    """CPU seconds and MiB of an operation, beyond what a process takes that only imports."""
    setup, code = OPERATIONS[operation]
    found = []
    for run in ("", "1"):
        done = subprocess.run(
            [sys.executable, "-c", _MEASURE.format(setup=setup, code=code), str(folder)],
            capture_output=True,
            text=True,
            check=True,
            env={**os.environ, "RUN": run},
        )
        found.append(json.loads(done.stdout))
    (_, base), (seconds, peak) = found
    return seconds, peak - base


def main() -> int:
    """Measure and print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cells", type=int, nargs="+", default=[1_000, 10_000, 100_000])
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as place:
        folders = {count: Path(place) / str(count) for count in args.cells}
        for count, folder in folders.items():
            write_folder(folder, count)
            size = sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())
            print(f"{count:,} cells: {size / 2**20:,.0f} MiB", file=sys.stderr)
        print(f"{'':32}" + "".join(f"{count:>20,}" for count in folders) + "   exponent")
        for operation in OPERATIONS:
            found = [measure(operation, folder) for folder in folders.values()]
            cells = "".join(f"{s:>9.2f} s {m:>5.0f} MiB" for s, m in found)
            print(f"{operation:<32}{cells}{_exponent(args.cells, found):>11}", flush=True)
    return 0


def _exponent(counts: Sequence[int], found: Sequence[tuple[float, float]]) -> str:
    if len(counts) < 2 or min(found[-1][0], found[-2][0]) < 0.02:
        return "-"
    growth = math.log(found[-1][0] / found[-2][0])
    return f"{growth / math.log(counts[-1] / counts[-2]):.2f}"


if __name__ == "__main__":
    sys.exit(main())
