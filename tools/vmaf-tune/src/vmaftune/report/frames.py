"""Scores of the frames of many cells: one array a cell, nothing a frame but its numbers."""

from __future__ import annotations

from collections.abc import Container
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from vmaf_train.corpus.frames import Frames, blocks, files_of

from vmaftune.report.sweep import Scores


@dataclass(frozen=True, slots=True, kw_only=True)
class FrameScores:
    """VMAF of one cell's frames. `unclipped_mean` is None where a frame has no unclipped score."""

    clipped: Scores
    unclipped_mean: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class _Part:
    """Frames of one block of a file, columns of equal length: number of the cell, number of the
    frame in it, and its scores.
    """

    cell: NDArray[np.int32]
    index: NDArray[np.int32]
    clipped: Scores
    unclipped: Scores


def read_frames(folder: Path, keys: Container[str]) -> dict[str, FrameScores]:
    """The frames of the cells in `keys` that the folder holds, by key.

    Of a frame that is there twice the last row counts. Raises DatasetError for a file that cannot
    be read.
    """
    number: dict[str, int] = {}
    parts = [
        _part(block, keys, number)
        for file in files_of(folder)
        for block in blocks(file)
        if len(block)
    ]
    if not number:
        return {}
    whole = _sorted(parts)
    starts = np.flatnonzero(np.diff(whole.cell, prepend=-1))
    ends = [*starts[1:], len(whole.cell)]
    names = list(number)
    return {
        names[whole.cell[start]]: _scores(whole, slice(start, end))
        for start, end in zip(starts, ends, strict=True)
    }


def _part(block: Frames, keys: Container[str], number: dict[str, int]) -> _Part:
    """The frames of `block` that are asked for; new cells get the next number."""
    column = block.texts["key"]
    cells = [number.setdefault(k, len(number)) if k in keys else -1 for k in column.values]
    cell = np.array(cells, dtype=np.int32)[column.codes]
    kept = cell >= 0
    return _Part(
        cell=cell[kept],
        index=block.numbers["frame_index"][kept].astype(np.int32),
        clipped=block.numbers["vmaf"][kept],
        unclipped=block.numbers["vmaf_unclipped"][kept],
    )


def _sorted(parts: list[_Part]) -> _Part:
    """All parts by cell and frame, each frame once."""
    cell = np.concatenate([part.cell for part in parts])
    index = np.concatenate([part.index for part in parts])
    # lexsort is stable: the last of two equal rows is the last of its run.
    order = np.lexsort((index, cell))
    cell, index = cell[order], index[order]
    last = np.append((np.diff(cell) != 0) | (np.diff(index) != 0), True)
    order = order[last]
    return _Part(
        cell=cell[last],
        index=index[last],
        clipped=np.concatenate([part.clipped for part in parts])[order],
        unclipped=np.concatenate([part.unclipped for part in parts])[order],
    )


def _scores(frames: _Part, of_cell: slice) -> FrameScores:
    mean = float(frames.unclipped[of_cell].mean())
    return FrameScores(
        clipped=frames.clipped[of_cell], unclipped_mean=None if np.isnan(mean) else mean
    )
