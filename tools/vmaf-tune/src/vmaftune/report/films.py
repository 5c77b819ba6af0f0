"""Windows of one film read as one source: their frames side by side, pooled exactly.

A window is named `film@00:12:30.000`. A setting counts only where every window of its film has it:
a mean over some of them would say more about those windows than about the setting.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from vmaf_train.corpus import pooling

from vmaftune.report.cells import MeasuredCell
from vmaftune.report.frames import FrameScores
from vmaftune.report.sweep import Curve

_WINDOW = re.compile(r"(?P<film>.+)@\d{2,}:\d{2}:\d{2}\.\d{3}(?:\+\d+(?:p\d+)?)?")


@dataclass(frozen=True, slots=True, kw_only=True)
class PooledCell:
    """One setting on one source: a single cell, or all windows of a film. `key` is the first's."""

    source: str
    cells: tuple[MeasuredCell, ...]
    frames: FrameScores | None

    @property
    def first(self) -> MeasuredCell:
        """The cell that names what all of them share."""
        return self.cells[0]

    @property
    def num_frames(self) -> int:
        """Frames of all windows."""
        return sum(cell.num_frames for cell in self.cells)

    def mean(self, values: Sequence[float | None]) -> float | None:
        """Mean over frames of one value per cell; None where a cell has none."""
        known = [value for value in values if value is not None]
        if len(known) < len(self.cells):
            return None
        if len(known) == 1:
            return known[0]
        return float(np.average(known, weights=[cell.num_frames for cell in self.cells]))

    def total(self, values: Sequence[float | None]) -> float | None:
        """Sum of one value per cell; None where a cell has none."""
        known = [value for value in values if value is not None]
        return sum(known) if len(known) == len(self.cells) else None


def film_of(cells: Sequence[MeasuredCell]) -> dict[str, str]:
    """Film by window, for the films that have more than one window among `cells`."""
    windows: dict[tuple[str, str], set[str]] = defaultdict(set)
    for cell in cells:
        match = _WINDOW.fullmatch(cell.src)
        if match:
            windows[match["film"], cell.row.group].add(cell.src)
    taken = {cell.src for cell in cells}
    found = {}
    for (film, _), names in windows.items():
        if len(names) > 1:
            name = f"{film}, {len(names)} windows" if film in taken else film
            found.update(dict.fromkeys(names, name))
    return found


def pool_windows(
    cells: Sequence[MeasuredCell], frames: Mapping[str, FrameScores]
) -> tuple[list[PooledCell], int]:
    """`cells` with the windows of a film put together, and how many settings lack a window."""
    film = film_of(cells)
    windows: dict[str, set[str]] = defaultdict(set)
    for window, name in film.items():
        windows[name].add(window)
    settings: dict[tuple[str, Curve, float | str], list[MeasuredCell]] = defaultdict(list)
    pooled = []
    for cell in cells:
        if cell.src in film:
            at = film[cell.src], cell.curve, _which(cell)
            settings[at].append(cell)
        else:
            own = frames.get(cell.row.key)
            pooled.append(PooledCell(source=cell.src, cells=(cell,), frames=own))
    lacking = 0
    for (name, _, _), parts in settings.items():
        if {cell.src for cell in parts} == windows[name]:
            pooled.append(_joined(name, parts, frames))
        else:
            lacking += 1
    return pooled, lacking


def _which(cell: MeasuredCell) -> float | str:
    return cell.row.cell if cell.quality is None else cell.quality


def _joined(
    name: str, parts: Sequence[MeasuredCell], frames: Mapping[str, FrameScores]
) -> PooledCell:
    cells = tuple(sorted(parts, key=lambda cell: cell.src))
    scores = [frames[cell.row.key] for cell in cells if cell.row.key in frames]
    joined = None
    if len(scores) == len(cells):
        sums = [
            part.unclipped_mean * len(part.clipped)
            for part in scores
            if part.unclipped_mean is not None
        ]
        clipped = np.concatenate([part.clipped for part in scores])
        whole = len(sums) == len(cells)
        joined = FrameScores(
            clipped=clipped, unclipped_mean=sum(sums) / len(clipped) if whole else None
        )
    return PooledCell(source=name, cells=cells, frames=joined)


def score(cell: PooledCell, row_value: float | None, statistic: str) -> float | None:
    """A statistic of a pooled cell: the row's own for one cell, of all frames for a film."""
    if len(cell.cells) == 1:
        return row_value
    if cell.frames is None:
        return None
    return float(pooling.STATISTICS[statistic](cell.frames.clipped.tolist()))
