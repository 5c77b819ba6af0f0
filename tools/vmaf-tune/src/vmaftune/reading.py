"""A run folder as tables."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from vmaf_train.corpus import rows

from vmaftune.errors import UsageError

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True, kw_only=True)  # no slots: the tables are read once, when asked for
class Corpus:
    """The rows of a run folder. Both tables are read when they are asked for, and kept.

    docs/rows.md says what the columns mean.
    """

    folder: Path

    @cached_property
    def cells(self) -> pd.DataFrame:
        """The last row of every cell, failed ones too: one line each, in the order of the file.

        Columns are the fields of a cell's row, with `per_frame_features` spread over six columns
        (`adm2` to `motion2`, means of the cell). A value that a row does not have is missing (NaN
        or None), never 0; `error` holds a `vmaf_train.corpus.rows.Failure`. Raises DatasetError,
        with its line, for a malformed row.
        """
        import msgspec
        import pandas as pd

        found = []
        for cell in rows.latest(_cells_file(self.folder)).values():
            row = msgspec.structs.asdict(cell)
            row |= row.pop("per_frame_features") or {}
            row |= row.pop("extra", None) or {}
            found.append(row)
        return pd.DataFrame(found)

    @cached_property
    def frames(self) -> pd.DataFrame:
        """One line per decoded frame of every finished cell, sorted by cell and frame number.

        Columns: `key`, `cell`, `src`, `encoder`, `preset`, `crf`, `frame_index`, `vmaf`,
        `vmaf_unclipped`, the six features, and what else the rows hold. Raises DatasetError for a
        malformed or missing frame.
        """
        import pandas as pd
        from vmaf_train.corpus.frames import files_of, read_frames
        from vmaf_train.corpus.ledger import require_sound_folder

        file = _cells_file(self.folder)
        require_sound_folder(self.folder)
        keys = frozenset(cell.key for cell in rows.latest(file).values() if cell.is_ok)
        frames = read_frames(files_of(self.folder), keys)
        columns = {}
        for name in frames.order:
            if name in frames.numbers:
                columns[name] = frames.numbers[name]
            else:
                texts = frames.texts[name]
                columns[name] = pd.Categorical.from_codes(texts.codes, list(texts.values))
        table = pd.DataFrame(columns)
        table["frame_index"] = table["frame_index"].astype(int)
        return table.sort_values(["cell", "frame_index"], kind="stable", ignore_index=True)


def read(folder: str | Path) -> Corpus:
    """The run folder at `folder`, to be looked at with pandas. Writes nothing.

    Raises UsageError when it is not a run folder.
    """
    found = Path(folder)
    _cells_file(found)
    return Corpus(folder=found)


def _cells_file(folder: Path) -> Path:
    """The file of cell rows. Raises UsageError where there is none."""
    for name in (rows.CELLS, "cells.parquet"):
        if (folder / name).is_file():
            return folder / name
    raise UsageError(
        f"{folder} is not a corpus: it holds no {rows.CELLS}; name the folder that"
        " `vmaf-tune corpus` or `vmaftune.sweep` wrote"
    )
