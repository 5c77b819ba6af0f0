"""What a sweep shows before it starts and when it has ended."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from vmaf_train.corpus.rows import CELLS, CellRow, latest

from vmaftune import console
from vmaftune.cell import Cell
from vmaftune.costs import counted, duration
from vmaftune.engine.answers import State
from vmaftune.engine.options import Options
from vmaftune.engine.room import need_bytes, too_long
from vmaftune.engine.rows import Item
from vmaftune.engine.standing import expected_seconds
from vmaftune.request.cells import Plan

HOURS = 3600  # seconds from which a sweep is long enough for a word on how to shorten it


def show_plan(
    plan: Plan, folder: Path, state: State[Item], options: Options, *, as_json: bool
) -> None:
    """The plan of a sweep: cells, what is done, predicted minutes and disk."""
    seconds = expected_seconds(state.left, options.jobs)
    windows = [item.window for item in state.left if isinstance(item, Cell)]
    need = need_bytes(windows, options.budget_bytes, options.jobs)
    for notice in plan.notices:
        console.warn(notice)
    longest = too_long(windows, options.budget_bytes)
    if longest:
        console.warn(f"it will be refused: {longest}")
    if as_json:
        console.json_document(
            {
                "folder": str(folder),
                "num_cells": len(plan.cells),
                "num_frames": plan.num_frames,
                "num_done": len(state.done),
                "num_failed": len(state.failed),
                "num_left": len(state.left),
                "expected_s": round(seconds, 1),
                "disk_bytes": need,
                "cells": [cell.id for cell in plan.cells],
            }
        )
        return
    console.table(
        "",
        ("encoder", "preset", "quality", "sources", "cells", "done", "CPU"),
        [_plan_line(cells, state) for cells in _by_kind(plan)],
        left=3,
    )
    console.say(
        f"{folder}: {counted(len(plan.cells), 'cell')}, {counted(plan.num_frames, 'frame')};"
        f" {len(state.done)} done,"
        f" {len(state.failed)} failed, {len(state.left)} to do: about {duration(seconds)}"
        f" on {counted(options.jobs, 'slot')}, up to {need / 2**30:.2f} GiB of disk"
    )
    say_if_long(state.left, options.jobs)


def say_if_long(left: Sequence[Item], jobs: int) -> None:
    """A word before a sweep of hours: how long, and the flags that shorten it."""
    seconds = expected_seconds(left, jobs)
    if seconds < HOURS:
        return
    console.warn(
        f"{len(left)} cells take about {duration(seconds)} on {counted(jobs, 'slot')}; for less:"
        " --quick, --samples 4 or --frames 100, a smaller --scale, fewer --encoders or --quality"
        " values. Ctrl-C stops it at any time, and the same command goes on"
    )


def note_twins(folder: Path) -> None:
    """Say where two groups show the same pictures: no model can be judged on such a corpus."""
    from vmaf_train.corpus import duplicates  # numpy

    for twins in duplicates.find(folder).twins:
        console.warn(twins.sentence)


def _by_kind(plan: Plan) -> list[list[Cell]]:
    """The plan's cells in groups of one encoder and preset."""
    groups: dict[tuple[str, str], list[Cell]] = {}
    for cell in plan.cells:
        groups.setdefault((cell.encoder.name, cell.preset), []).append(cell)
    return list(groups.values())


def _plan_line(cells: Sequence[Cell], state: State[Item]) -> tuple[object, ...]:
    first = cells[0]
    values = dict.fromkeys(cell.setting.id.split("/", 2)[2] for cell in cells)
    return (
        first.encoder.name,
        first.preset,
        ",".join(values),
        len({cell.window.name for cell in cells}),
        len(cells),
        sum(cell.id in state.done for cell in cells),
        duration(expected_seconds(cells, 1)),
    )


def summary(plan: Plan, folder: Path) -> None:
    """A table of the plan's finished cells per encoder and preset."""
    found = latest(folder / CELLS)
    lines = []
    for cells in _by_kind(plan):
        rows = [found[cell.id] for cell in cells if cell.id in found]
        if rows:
            lines.append((cells[0].encoder.name, cells[0].preset, *_measured(rows)))
    columns = ("ok", "failed", "VMAF", "kbit/s", "encode ms/frame", "score ms/frame")
    console.table("", ("encoder", "preset", *columns), lines, left=2)


def _measured(rows: Sequence[CellRow]) -> tuple[object, ...]:
    """Counts, spans and milliseconds of one core per frame."""
    good = [row for row in rows if row.is_ok]
    return (
        len(good),
        len(rows) - len(good),
        _span([row.vmaf_score for row in good], 1),
        _span([row.bitrate_kbps for row in good], 0),
        _ms_per_frame([(row.encode_cpu_s, row.num_frames) for row in good]),
        _ms_per_frame([(row.score_cpu_s, row.num_frames) for row in good]),
    )


def _span(values: Sequence[float | None], digits: int) -> str | None:
    known = [value for value in values if value is not None]
    return f"{min(known):.{digits}f}–{max(known):.{digits}f}" if known else None


def _ms_per_frame(spent: Sequence[tuple[float | None, int | None]]) -> str | None:
    """The mean over cells of (seconds, frames)."""
    known = [1000 * seconds / frames for seconds, frames in spent if seconds is not None and frames]
    return f"{sum(known) / len(known):.1f}" if known else None
