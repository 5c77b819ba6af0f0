"""A request and its windows -> the cells of a plan, and the folder they go to."""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import groupby, product
from pathlib import Path

from vmaftune.cell import Cell, Window, digest
from vmaftune.encoders import Encoder
from vmaftune.errors import UsageError
from vmaftune.metrics import check_size
from vmaftune.request.asked import Block, Request
from vmaftune.request.document import Document, plan_document
from vmaftune.request.sources import LEAST_SIDE


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
        return sum(cell.num_encoded for cell in self.cells)

    def document(self) -> Document:
        """The plan as sweep.json holds it."""
        return plan_document(self.cells, self.sources)


def matches(name: str, globs: Sequence[str]) -> bool:
    """True when one of the globs is or matches `name`: a name may itself hold brackets."""
    return any(name == glob or fnmatch.fnmatchcase(name, glob) for glob in globs)


def block_cells(
    block: Block, usable: Sequence[Encoder] | None, windows: Sequence[Window], request: Request
) -> tuple[list[Cell], list[str]]:
    """The cells of one block of the grid, and notices; `usable` None keeps every encoder. Raises
    UsageError for globs that match no source.
    """
    chosen = [w for w in windows if matches(w.name, block.sources)]
    if not chosen:
        raise UsageError(f"no source matches {', '.join(block.sources)} of a [[grid]] block")
    sizes = {w.name: _sizes(block, w) for w in chosen}
    cells = [
        Cell(
            window=window,
            setting=replace(setting, size=size),
            threads=request.threads,
            teacher=request.teacher,
            metrics=request.metrics,
        )
        for row, settings in groupby(block.settings, key=lambda setting: setting.encoder)
        if usable is None or row in usable
        for window, setting in product(chosen, list(settings))
        for size in sizes[window.name]
    ]
    return cells, _larger_notices(block, chosen)


def _sizes(block: Block, window: Window) -> list[tuple[int, int] | None]:
    """The sizes that a window is encoded at; None is its own. Sizes beyond it are left out."""
    if not block.sizes:
        return [None]
    own = (window.width, window.height)
    found = [size.of(*own) for size in block.sizes]
    kept = [size for size in found if size[0] <= own[0] and size[1] <= own[1]]
    for width, height in kept:
        if min(width, height) < LEAST_SIDE or width % 2 or height % 2:
            raise UsageError(
                f"--sizes: {window.name} would be encoded at {width}x{height}; encoders need even"
                f" sides of at least {LEAST_SIDE} pixels"
            )
    return [None if size == own else size for size in dict.fromkeys(kept)]


def _larger_notices(block: Block, windows: Sequence[Window]) -> list[str]:
    """A sentence for each of a block's sizes that some windows do not have."""
    notices = []
    for size in block.sizes:
        smaller = [w for w in windows if _is_larger(size.of(w.width, w.height), w)]
        if smaller:
            width, height = size.of(smaller[0].width, smaller[0].height)
            notices.append(
                f"--sizes: {width}x{height} would enlarge {smaller[0].name}"
                + (f" and {len(smaller) - 1} more" if len(smaller) > 1 else "")
                + "; it is left out there"
            )
    return notices


def _is_larger(size: tuple[int, int], window: Window) -> bool:
    return size[0] > window.width or size[1] > window.height


def plan_cells(
    request: Request,
    windows: Sequence[Window],
    usable: Sequence[Encoder] | None = None,
    *,
    select_globs: Sequence[str] = (),
    notices: Sequence[str] = (),
) -> Plan:
    """All cells of a request over its windows.

    `usable` leaves out encoders that cannot run here; None keeps all. `select_globs` keeps cells
    whose id matches one. Raises UsageError.
    """
    cells: dict[str, Cell] = {}
    said = list(notices)
    for window in windows:
        check_size(request.metrics, window.width, window.height, window.name)
    for block in request.blocks:
        of_block, more = block_cells(block, usable, windows, request)
        said += more
        for cell in of_block:
            if cells.setdefault(cell.id, cell) != cell:
                raise UsageError(f"two option sets of {cell.id} have one name; rename one of them")
    if not cells and any(block.sizes for block in request.blocks):
        raise UsageError("--sizes: every one of them would enlarge the sources; name smaller ones")
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
        sources=tuple(w for w in windows if w.name in used),
        name=request.name,
        notices=tuple(dict.fromkeys(said)),
    )


def default_folder(request: Request, plan: Plan) -> Path:
    """`runs/phase_a/<sweep>`, or `<source folder>-<8 hex of sources, preparation and grid>`; no
    versions in it.
    """
    root = Path("runs/phase_a")
    if request.name:
        return root / _short(request.name)
    folder = Path(plan.sources[0].path).resolve().parent.name or "sweep"
    readable = re.sub(r"[^A-Za-z0-9._-]+", "_", folder)
    return root / f"{_short(readable)}-{digest(plan.document().identity())[:8]}"


def _short(name: str) -> str:
    """A name that leaves room for what stands beside it: file systems take 255 bytes."""
    return name if len(name.encode()) <= 100 else name.encode()[:100].decode(errors="ignore")
