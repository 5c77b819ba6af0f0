"""Per-frame scores of many cells as columns: one array a cell, nothing a frame but numbers."""

from __future__ import annotations

from collections.abc import Container
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from vmaf_train.corpus.rows import FRAMES, PACKED
from vmaf_train.errors import DatasetError

from vmaftune.report.sweep import Scores

if TYPE_CHECKING:
    from pyarrow import Schema, Table


@dataclass(frozen=True, slots=True, kw_only=True)
class FrameScores:
    """VMAF of one cell's frames. `unclipped_mean` is None where a frame has no unclipped score."""

    clipped: Scores
    unclipped_mean: float | None


def read_frames(folder: Path, keys: Container[str]) -> dict[str, FrameScores]:
    """The frames of the cells in `keys` that the folder holds, by key.

    Of a frame that is there twice the last row counts. Raises DatasetError for a file that cannot
    be read.
    """
    table = _table(folder)
    if table is None or not len(table):
        return {}
    coded = table["key"].combine_chunks().dictionary_encode()
    cells = coded.indices.to_numpy(zero_copy_only=False)
    index = table["frame_index"].to_numpy()
    # By cell and frame; lexsort is stable, so the last of two equal rows is the last of its run.
    order = np.lexsort((index, cells))
    cells, index = cells[order], index[order]
    last = np.append((np.diff(cells) != 0) | (np.diff(index) != 0), True)
    order, cells = order[last], cells[last]
    clipped = table["vmaf"].to_numpy()[order]
    unclipped = table["vmaf_unclipped"].to_numpy()[order]
    starts = np.flatnonzero(np.diff(cells, prepend=-1))
    ends = np.append(starts[1:], len(cells))
    found = {}
    for start, end in zip(starts, ends, strict=True):
        key = coded.dictionary[int(cells[start])].as_py()
        if key in keys:
            mean = float(unclipped[start:end].mean())
            found[key] = FrameScores(
                clipped=clipped[start:end], unclipped_mean=None if np.isnan(mean) else mean
            )
    return found


def _table(folder: Path) -> Table | None:
    """The columns of the folder's frame rows that are used, None without a frame file."""
    import pyarrow

    schema = pyarrow.schema(
        [
            ("key", pyarrow.string()),
            ("frame_index", pyarrow.int64()),
            ("vmaf", pyarrow.float64()),
            ("vmaf_unclipped", pyarrow.float64()),
        ]
    )
    lines, packed = folder / FRAMES, folder / PACKED
    try:
        if packed.is_file() and not lines.is_file():
            return _packed(packed, schema)
        return _lines(lines, schema) if lines.is_file() else None
    except pyarrow.ArrowException as failure:
        raise DatasetError(f"the frame rows in {folder} cannot be read: {failure}") from failure


def _packed(file: Path, schema: Schema) -> Table:
    import pyarrow
    from pyarrow import parquet

    have = set(parquet.read_schema(file).names)
    table = parquet.read_table(file, columns=[name for name in schema.names if name in have])
    for name in set(schema.names) - have:
        nothing = pyarrow.nulls(len(table), schema.field(name).type)
        table = table.append_column(name, nothing)
    return table


def _lines(file: Path, schema: Schema) -> Table | None:
    import pyarrow
    from pyarrow import json as arrow_json

    text = file.read_bytes()
    whole = text[: text.rfind(b"\n") + 1]  # a torn last line was never committed
    if not whole:
        return None
    only = arrow_json.ParseOptions(explicit_schema=schema, unexpected_field_behavior="ignore")
    return arrow_json.read_json(pyarrow.BufferReader(whole), parse_options=only)
