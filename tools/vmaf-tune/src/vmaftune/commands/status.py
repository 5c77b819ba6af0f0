"""`vmaf-tune status`: how far a sweep is."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from vmaftune import console
from vmaftune.encoders import ENCODERS
from vmaftune.engine import folder as rows
from vmaftune.errors import UsageError
from vmaftune.request.document import read_document


def read(folder: Path) -> dict[str, Any]:
    """Counts of a run folder: cells planned, done, failed, left, and expected seconds left by what
    the done ones took.

    Raises UsageError when the folder holds no sweep.
    """

    try:
        document = read_document(folder / rows.SWEEP)
    except FileNotFoundError as failure:
        raise UsageError(f"{folder} holds no sweep ({rows.SWEEP} is missing)") from failure
    ids = document.cell_ids
    found = {i: r for i, r in rows.latest_rows(folder).items() if i in ids}
    done = {i: r for i, r in found.items() if r["status"] == "ok"}
    frames = {s.name: s.num_frames or s.expected_frames for s in document.sources}
    pixels = {s.name: s.width * s.height / 230400 for s in document.sources}

    def guess(cell_id: str) -> float:
        src, encoder, preset, *_ = cell_id.split(
            "/"
        )  # a scored pair is src/encoder/distorted: no cost is known
        row = ENCODERS.get(encoder)
        ms = (row.cost_ms.get(preset, 50.0) if row else 50.0) + 8.0
        return ms / 1000 * float(frames[src]) * float(pixels[src])

    took = sum((r["encode_cpu_s"] or 0) + (r["score_cpu_s"] or 0) for r in done.values())
    pace = took / sum(guess(i) for i in done) if done else 1.0
    jobs = next((r["jobs"] for r in reversed(list(rows.read_jsonl(folder / rows.RUNS)))), 1)
    left = ids - set(found)
    return {
        "folder": str(folder),
        "num_cells": len(ids),
        "num_done": len(done),
        "num_failed": len(found) - len(done),
        "num_left": len(left),
        "expected_s": round(pace * sum(guess(i) for i in left) / jobs, 1),
        "finished_at": max((r["finished_at"] for r in found.values()), default=None),
        "failed": {i: r["error"]["message"] for i, r in found.items() if r["status"] != "ok"},
    }


def status(
    folder: Annotated[
        Path, typer.Argument(help="A run folder, such as runs/phase_a/software.", metavar="DIR")
    ],
    as_json: Annotated[bool, typer.Option("--json", help="One JSON document on stdout.")] = False,
) -> None:
    """Show how far a sweep is. It counts the cells that are done, failed and left, and says about
    how long the rest takes.

    Example: vmaf-tune status runs/phase_a/demo
    """
    found = read(folder)
    if as_json:
        console.json_document(found)
        return
    names = ("num_cells", "num_done", "num_failed", "num_left")
    rows = [
        tuple(found[n] for n in names)
        + (console.duration(found["expected_s"]), found["finished_at"])
    ]
    console.table("", ("cells", "done", "failed", "left", "ETA", "last row"), rows, left=0)
    if found["failed"]:
        console.table("failed", ("cell", "why"), list(found["failed"].items()), left=2)
