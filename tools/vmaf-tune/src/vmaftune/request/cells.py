"""A request and its sources -> cells, each checked against the encoder table; what makes two plans
the same sweep.
"""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from vmaftune.cell import Cell, Setting, Window, digest
from vmaftune.encoders import Encoder, select
from vmaftune.errors import UsageError
from vmaftune.request.document import Document, plan_document
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

    def document(self) -> Document:
        """The plan as sweep.json holds it."""
        return plan_document(self.cells, self.sources)


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
        / f"{re.sub(r'[^A-Za-z0-9._-]+', '_', folder)}-{digest(plan.document().identity())[:8]}"
    )
