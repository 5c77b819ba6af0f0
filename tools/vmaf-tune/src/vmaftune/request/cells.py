"""A request and its sources -> cells, each checked against the encoder table; what makes two plans
the same sweep.
"""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vmaftune.cell import Cell, Setting, Window, digest
from vmaftune.encoders import Encoder, format_quality, select
from vmaftune.errors import UsageError
from vmaftune.request.flags import Block, Request, per_encoder


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """All cells of a sweep, in order, with what made them."""

    cells: tuple[Cell, ...]
    sources: tuple[Window, ...]
    name: str
    notices: tuple[str, ...] = ()

    @property
    def num_frames(self) -> int:
        """Frames to encode over all cells."""
        return sum(cell.num_frames for cell in self.cells)

    def document(self) -> dict[str, Any]:
        """The plan as sweep.json holds it."""
        return {
            "sources": [
                {
                    "name": s.name,
                    "group": s.group,
                    "path": s.path,
                    "size_bytes": s.size_bytes,
                    **s.identity(),
                    "width": s.width,
                    "height": s.height,
                    "expected_frames": s.expected_frames,
                    "flags": list(s.flags),
                }
                for s in self.sources
            ],
            "teacher": sorted({c.teacher for c in self.cells}),
            "threads_per_encode": sorted({c.threads for c in self.cells}),
            "num_cells": len(self.cells),
            "grid": _grid(self.cells),
        }


def _grid(cells: Sequence[Cell]) -> list[dict[str, Any]]:
    """Cells folded into blocks of source x encoder x preset -> quality values."""
    blocks: dict[tuple[str, str, str], list[float]] = {}
    for cell in cells:
        blocks.setdefault((cell.window.name, cell.encoder.name, cell.preset), []).append(
            cell.quality
        )
    by_values: dict[tuple[str, str, tuple[float, ...]], list[str]] = {}
    for (source, encoder, preset), values in blocks.items():
        by_values.setdefault((encoder, preset, tuple(values)), []).append(source)
    return [
        {"encoder": encoder, "preset": preset, "quality": list(values), "sources": sources}
        for (encoder, preset, values), sources in by_values.items()
    ]


def grid_ids(document: Mapping[str, Any]) -> set[str]:
    """Cell ids of a sweep.json: those of its grid, and of its scored pairs."""
    return {pair["cell"] for pair in document.get("pairs", ())} | {
        f"{source}/{block['encoder']}/{block['preset']}/{format_quality(q)}"
        for block in document["grid"]
        for source in block["sources"]
        for q in block["quality"]
    }


def matches(name: str, globs: Sequence[str]) -> bool:
    """True when one of the globs is or matches `name`: a name may itself hold brackets."""
    return any(name == glob or fnmatch.fnmatchcase(name, glob) for glob in globs)


def _number(text: str, row: Encoder, what: str) -> float:
    try:
        return row.check_quality(float(text))
    except ValueError as failure:
        raise UsageError(f"{what} of {row.name}: {text!r} is not a number") from failure


def block_cells(
    block: Block, usable: Sequence[Encoder] | None, sources: Sequence[Window], request: Request
) -> list[Cell]:
    """The cells of one block of the grid, each checked against the encoder table; `usable` None
    keeps every encoder.
    """
    encoders = select(block.encoders).encoders
    others = select([word for other in request.blocks for word in other.encoders]).encoders
    presets = per_encoder(block.presets, encoders, "--presets", others)
    quality = per_encoder(block.quality, encoders, "--quality", others)
    chosen = [s for s in sources if matches(s.name, block.sources)]
    if not chosen:
        raise UsageError(f"no source matches {', '.join(block.sources)} of a [[grid]] block")
    cells = []
    for row in encoders:
        if (
            usable is not None
            and row not in usable
            or block.only is not None
            and row.name not in block.only
        ):
            continue
        names = [row.check_preset(p) for p in presets.get(row.name, [row.default_preset])]
        texts = quality.get(row.name)
        values = (
            [_number(t, row, "--quality") for t in texts] if texts else list(row.default_quality)
        )
        cells += [
            Cell(
                window=s,
                setting=Setting(encoder=row, preset=p, quality=q),
                threads=request.threads,
                teacher=request.teacher,
            )
            for s in chosen
            for p in names
            for q in values
        ]
    return cells


def plan_cells(
    request: Request,
    sources: Sequence[Window],
    usable: Sequence[Encoder] | None = None,
    *,
    select_globs: Sequence[str] = (),
    notices: Sequence[str] = (),
) -> Plan:
    """All cells of a request over its sources.

    `usable` leaves out encoders that cannot run here; None keeps all. `select_globs` keeps cells
    whose id matches one. Raises UsageError.
    """
    cells: dict[str, Cell] = {}
    for block in request.blocks:
        for cell in block_cells(block, usable, sources, request):
            cells.setdefault(cell.id, cell)
    if select_globs:
        cells = {i: c for i, c in cells.items() if matches(i, select_globs)}
        if not cells:
            raise UsageError(
                f"no cell matches --select {' '.join(select_globs)}; see the ids with --dry-run"
                " --json"
            )
    used = {cell.window.name for cell in cells.values()}
    return Plan(
        cells=tuple(cells.values()),
        sources=tuple(s for s in sources if s.name in used),
        name=request.name,
        notices=tuple(notices),
    )


def default_folder(request: Request, plan: Plan) -> Path:
    """`runs/phase_a/<sweep>`, or `<source folder>-<8 hex of sources, preparation and grid>`; no
    versions in it.
    """
    root = Path("runs/phase_a")
    if request.name:
        return root / request.name
    folder = Path(plan.sources[0].path).resolve().parent.name or "sweep"
    return (
        root
        / f"{re.sub(r'[^A-Za-z0-9._-]+', '_', folder)}-{digest(plan_identity(plan.document()))[:8]}"
    )


def plan_identity(document: Mapping[str, Any]) -> dict[str, Any]:
    """What two plans must share to be the same sweep: sources by content and preparation, cells,
    teacher, threads.
    """
    source_keys = (
        "name",
        "group",
        "sha256",
        "start_frame",
        "num_frames",
        "crop",
        "scale",
        "deinterlace",
        "pix_fmt",
        "fps",
        "raw",
    )
    return {
        "sources": {s["name"]: {k: s[k] for k in source_keys} for s in document["sources"]},
        "cells": sorted(grid_ids(document)),
        "pairs": {pair["cell"]: pair["identity"] for pair in document.get("pairs", ())},
        "teacher": document["teacher"],
        "threads_per_encode": document["threads_per_encode"],
    }


def conflict(old: Mapping[str, Any], new: Mapping[str, Any]) -> str | None:
    """What the second of two sweep.json documents says otherwise of what both have, in a sentence's
    part; None when nothing.
    """
    a, b = plan_identity(old), plan_identity(new)
    for name, before in a["sources"].items():
        after = b["sources"].get(name)
        if after is not None and after != before:
            key = next(k for k in before if before[k] != after[k])
            return f"source {name} has {key} {after[key]} instead of {before[key]}"
    for cell, before in a["pairs"].items():
        if b["pairs"].get(cell, before) != before:
            return f"the files or settings of {cell} are not the same"
    for key in ("teacher", "threads_per_encode"):
        if a[key] != b[key]:
            return (
                f"{key} is {', '.join(map(str, b[key])) or 'none'} instead of"
                f" {', '.join(map(str, a[key])) or 'none'}"
            )
    return None


def difference(old: Mapping[str, Any], new: Mapping[str, Any]) -> str | None:
    """What the second of two sweep.json documents changes or leaves out, in a sentence's part; None
    when nothing.
    """
    clash = conflict(old, new)
    if clash is not None:
        return clash
    a, b = plan_identity(old), plan_identity(new)
    added = sorted(set(b["cells"]) - set(a["cells"]))
    gone = sorted(set(a["cells"]) - set(b["cells"]))
    if added or gone:
        parts = [
            f"{len(ids)} cells {word}, {ids[0]} for one"
            for ids, word in ((added, "more"), (gone, "fewer"))
            if ids
        ]
        return " and ".join(parts)
    return None


def is_part(old: Mapping[str, Any], new: Mapping[str, Any]) -> bool:
    """True when every source and cell of the second sweep.json document stands in the first, with
    the same settings.
    """
    a, b = plan_identity(old), plan_identity(new)
    same = all(a["sources"].get(name) == source for name, source in b["sources"].items())
    same = same and all(a["pairs"].get(cell) == pair for cell, pair in b["pairs"].items())
    rest = all(a[key] == b[key] for key in ("teacher", "threads_per_encode"))
    return same and rest and set(b["cells"]) <= set(a["cells"])
