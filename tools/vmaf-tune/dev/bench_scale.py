"""How time and memory of a run folder grow: `make bench-scale` (1,000, 10,000 and 100,000 cells).

The folders are written by the program's own writer, with rows and frames as long as real ones (45
frames a cell). Every figure is of a process of its own: CPU seconds of the work without imports,
and the peak of the whole process's memory. Exponents of the time are fitted between the two largest
folders: 1 is proportional to their size. `--keep DIR` writes the folders there, and uses those that
are there already. The table is the one in docs/rows.md.
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
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from vmaf_train.contract import FEATURES
from vmaf_train.corpus.pooling import pooled
from vmaf_train.corpus.rows import CELLS, Row, read_rows
from vmaftune.cell import Cell, Tools
from vmaftune.engine.folder import Writer
from vmaftune.request.document import read_document, window_of

ROOT = Path(__file__).parents[3]
SOFTWARE = ROOT / "runs/phase_a/software"
NUM_FRAMES = 45
QUALITIES = 192
BATCH = 170  # so that some frames are in no shard yet
_MEASURE = """
import json, os, sys
from pathlib import Path
folder = Path(sys.argv[1])
{setup}
before = os.times()
{code}
after = os.times()
status = Path("/proc/self/status").read_text()  # getrusage would count the parent's peak
peak = int(status.split("VmHWM:")[1].split()[0]) * 1024 / 1e6
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
    "corpus --dry-run": ("from bench_scale import dry_run", "dry_run(folder)"),
    "report --text": ("from bench_scale import report", "report(folder)"),
    "load per cell": (
        "from vmaf_train.corpus import dataset",
        "dataset.load(folder, per_frame=False)",
    ),
    "load per frame": (
        "from vmaf_train.corpus import dataset",
        "dataset.load(folder, per_frame=True)",
    ),
}


GOALS = {
    (10_000, "load per frame"): (4.0, 500),
    (100_000, "status"): (math.inf, 250),
    (100_000, "corpus --dry-run"): (math.inf, 250),
    (100_000, "report --text"): (math.inf, 1000),
}
"""CPU seconds and MB that an operation may take at a size."""
OPENING = ("open to write, checked before", "read cells.jsonl", 1.0)
"""The first may take so many seconds longer than the second, at any size."""


def write_folder(folder: Path, num_cells: int) -> None:
    """A run folder of `num_cells` made-up cells, with its plan."""
    folder.mkdir(parents=True)
    _, model = read_rows(SOFTWARE / CELLS)[0]
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
        if len(batch) == BATCH:
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
        made = {"group": source, "src_sha256": f"{hash(source) & 0xFFFFFFFFFFFF:064x}"}
        numbers = {"num_frames": NUM_FRAMES, "per_frame_features": features}
        scores = pooled(sorted(f["vmaf"] for f in frames))
        yield model | head | made | numbers | scores, frames


def _frame(head: Row, index: int, generator: random.Random) -> dict[str, Any]:
    score = round(generator.uniform(40, 99), 6)
    values = {name: round(generator.random(), 6) for name in FEATURES}
    return {**head, "frame_index": index, "vmaf": score, "vmaf_unclipped": score, **values}


def dry_run(folder: Path) -> None:
    """What `corpus --dry-run --json` does once its clips are opened."""
    from vmaftune import console
    from vmaftune.commands.sweep_screen import show_plan
    from vmaftune.engine.options import Options
    from vmaftune.engine.standing import standing
    from vmaftune.request.cells import Plan

    console.json_document = lambda value: json.dumps(value)  # type: ignore[assignment]
    cells = _planned(folder)
    windows = tuple(dict.fromkeys(cell.window for cell in cells))
    plan = Plan(cells=cells, sources=windows, name="made-up")
    state = standing(cells, folder, _NoFfmpeg())  # type: ignore[arg-type]
    show_plan(plan, folder, state, Options(jobs=2), as_json=True)


class _NoFfmpeg:
    """What a key needs of an ffmpeg."""

    identity = Tools(
        ffmpeg="ffmpeg", ffmpeg_version="7", ffmpeg_sha256="0" * 64, libvmaf_version="3"
    )


def _planned(folder: Path) -> tuple[Cell, ...]:
    document = read_document(folder / "sweep.json")
    windows = [window_of(source) for source in document.sources]
    settings = [setting for block in document.grid for setting in block.settings()]
    return tuple(Cell(window=w, setting=setting) for w in windows for setting in settings)


def report(folder: Path) -> None:
    """What `report --text` does."""
    from vmaftune.report.build import build
    from vmaftune.report.summary import summary
    from vmaftune.report.tables import tables

    made = build(folder)
    print([*summary(made.analysis), *tables(made.analysis, made.model)], file=sys.stderr)


def measure(operation: str, folder: Path) -> tuple[float, float]:
    """CPU seconds of an operation, and the peak of its process's memory in MB."""
    setup, code = OPERATIONS[operation]
    here = str(Path(__file__).parent)
    done = subprocess.run(
        [sys.executable, "-c", _MEASURE.format(setup=setup, code=code), str(folder)],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join([here, *sys.path[1:]])},
    )
    seconds, peak = json.loads(done.stdout)
    return seconds, peak


def verdicts(found: Mapping[tuple[int, str], tuple[float, float]]) -> Iterator[str]:
    """A line for every goal that was measured."""
    for (count, operation), (most_s, most_mb) in GOALS.items():
        if (count, operation) not in found:
            continue
        seconds, megabytes = found[count, operation]
        verdict = "met" if seconds <= most_s and megabytes <= most_mb else "MISSED"
        time = "" if math.isinf(most_s) else f"{seconds:.2f} s of {most_s:g} s, "
        yield f"{operation} at {count:,}: {time}{megabytes:.0f} MB of {most_mb} MB: {verdict}"
    opening, reading, most = OPENING
    for count in sorted({count for count, _ in found}):
        more = found[count, opening][0] - found[count, reading][0]
        verdict = "met" if more <= most else "MISSED"
        yield f"opening at {count:,}: {more:.2f} s beyond reading, of {most:g} s: {verdict}"


def main() -> int:
    """Measure and print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cells", type=int, nargs="+", default=[1_000, 10_000, 100_000])
    parser.add_argument("--keep", type=Path, help="where the folders are, or are to be")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as place:
        top = args.keep or Path(place)
        folders = {count: top / str(count) for count in args.cells}
        for count, folder in folders.items():
            if not folder.exists():
                write_folder(folder, count)
            size = sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())
            print(f"{count:,} cells: {size / 1e6:,.0f} MB on the disk", file=sys.stderr)
        print(f"| work | {' | '.join(f'{count:,} cells' for count in folders)} | exponent |")
        print("|---" * (len(folders) + 2) + "|")
        found = {}
        for operation in OPERATIONS:
            for count, folder in folders.items():
                found[count, operation] = measure(operation, folder)
            row = [found[count, operation] for count in folders]
            cells = " | ".join(f"{seconds:.2f} s, {peak:.0f} MB" for seconds, peak in row)
            print(f"| {operation} | {cells} | {_exponent(args.cells, row)} |", flush=True)
        print("", *verdicts(found), sep="\n")
    return 0


def _exponent(counts: Sequence[int], found: Sequence[tuple[float, float]]) -> str:
    if len(counts) < 2 or min(found[-1][0], found[-2][0]) < 0.02:
        return "-"
    growth = math.log(found[-1][0] / found[-2][0])
    return f"{growth / math.log(counts[-1] / counts[-2]):.2f}"


if __name__ == "__main__":
    sys.exit(main())
