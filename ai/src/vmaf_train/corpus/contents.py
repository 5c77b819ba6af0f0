"""The measured cells of each source, from run folders: what a prior is fitted on and judged by."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from vmaf_train.corpus import dataset
from vmaf_train.corpus.rows import Row, last_of_each_cell, read_rows
from vmaf_train.errors import DatasetError
from vmaf_train.prior import STATISTICS, Measured, measured


@dataclass(frozen=True, slots=True, kw_only=True)
class Content:
    """The measured cells of one source, in the order of encoder, preset and quality value."""

    name: str
    group: str
    cells: tuple[Measured, ...]

    @property
    def motion2(self) -> float | None:
        """libvmaf's motion2 of the reference; None where no row holds it."""
        return next((c.motion2 for c in self.cells if c.motion2 is not None), None)


def read(paths: Sequence[Path | str]) -> list[Content]:
    """The contents of run folders, sorted by name; cells without a score of every statistic, failed
    and flagged ones are left out.

    Raises DatasetError for an unreadable folder, rows of two teachers, or when nothing is left.
    """
    found: dict[tuple[str, ...], dict[tuple[str, str, float], Measured]] = {}
    teachers = set()
    for row in _rows(paths):
        cell = measured(row)
        if cell is None or set(cell.scores) != set(STATISTICS) or not cell.bits_per_pixel:
            continue
        teachers.add(row.get("teacher"))
        src = str(row["src"])
        name = (src, str(row.get("group") or src), str(row.get("src_sha256")))
        found.setdefault(name, {})[cell.encoder, cell.preset, cell.quality] = cell
    if len(teachers) > 1:
        raise DatasetError(f"the rows hold scores of {len(teachers)} teachers; train on one")
    if not found:
        raise DatasetError(
            f"{', '.join(map(str, paths))} has no cell with encoder, quality value, bitrate and the"
            f" scores {', '.join(STATISTICS.values())}; a sweep of this project has them"
        )
    return [
        Content(name=name, group=group, cells=tuple(cells[k] for k in sorted(cells)))
        for (name, group, _), cells in sorted(found.items())
    ]


def teacher(paths: Sequence[Path | str]) -> str | None:
    """The libvmaf model that scored the rows of run folders."""
    return next((row["teacher"] for row in _rows(paths) if row.get("teacher")), None)


def _rows(paths: Sequence[Path | str]) -> list[Row]:
    rows: list[Row] = []
    for path in map(Path, paths):
        file = path / "cells.jsonl" if path.is_dir() else path
        rows += [row for _, row in last_of_each_cell(read_rows(file))]
    return rows


def facts(paths: Sequence[Path | str], known: Sequence[Content]) -> dict[str, object]:
    """What the model file says of its corpora: digests, contents and groups."""
    return {
        "corpora": [{"path": str(path), "digest": dataset.corpus_digest(path)} for path in paths],
        "contents": [content.name for content in known],
        "groups": sorted({content.group for content in known}),
    }
