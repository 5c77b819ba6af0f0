"""A run folder's rows: write, read, repair. The only module that writes cells.jsonl and
frames.jsonl.

A cell's frames are one append, synced before its cell row; the cell row is the commit. One process
writes at a time.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

import msgspec
from vmaf_train.contract import FEATURES, Fields
from vmaf_train.corpus.pooling import pooled
from vmaf_train.corpus.rows import CELLS, FRAMES, QUESTIONS, RUNS, SHARDS, latest, to_lines
from vmaf_train.errors import DatasetError
from vmaf_train.files import sync_folder, whole, write_bytes

from vmaftune.costs import counted
from vmaftune.errors import ToolError
from vmaftune.media.libvmaf_log import Frame
from vmaftune.media.metrics import FULL

if TYPE_CHECKING:
    import pyarrow
    from vmaf_train.corpus.ledger import Ledger, Survey

TABLE = "features.parquet"
SEAL_BYTES = 64 << 20
_GROUP_ROWS = 1 << 16
_BACK_BYTES = 1 << 16
_HEAD = (
    "src",
    "group",
    "cell",
    "key",
    "dis_basename",
    "teacher",
    "frame_index",
    "vmaf",
    "vmaf_unclipped",
)


def now() -> str:
    """UTC time as ISO text with seconds."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def append_run(folder: Path, row: Fields) -> None:
    """Note one start of the command in runs.jsonl."""
    with (folder / RUNS).open("a", encoding="utf-8") as file:
        file.write(to_lines([row]).decode())


def amend_run(folder: Path, row: Fields) -> None:
    """Say more of the newest start: `row` takes the place of its line."""
    *before, _ = (folder / RUNS).read_bytes().splitlines(keepends=True)
    write_bytes(folder / RUNS, b"".join(before) + to_lines([row]))


def pool(frames: Sequence[Frame]) -> dict[str, object]:
    """Poolings of the clipped per-frame scores, VMAF points, and the arithmetic means of the six
    features.
    """
    return {
        **pooled(sorted(frame.vmaf for frame in frames)),
        "per_frame_features": {
            name: sum(f.features[i] for f in frames) / len(frames)
            for i, name in enumerate(FEATURES)
        },
    }


class Writer:
    """The single writer of a run folder. Open it only under `lock`.

    Opening repairs what a killed run left: a torn last line of either file, and frames after the
    last one whose key has an ok cell row. It then checks what was written since the folder was
    checked last; a cell whose row and frames do not agree is `damaged`: its frames are removed, so
    that it is measured again, and so are frames of which no row speaks. `notices` says all of it.
    Past `seal_bytes` of frames.jsonl they are sealed into frames/NNNNNN.parquet. `verify` checks
    all, whatever is remembered.
    """

    def __init__(self, folder: Path, *, verify: bool = False, seal_bytes: int = SEAL_BYTES) -> None:
        from vmaf_train.corpus.ledger import remember, survey_cells

        self.notices: list[str] = []
        self._written: set[tuple[str, str]] = set()
        self._folder, self._seal_bytes = folder, seal_bytes
        self._cells, self._frames = folder / CELLS, folder / FRAMES
        self._repair_tail(self._cells)
        self._repair_tail(self._frames)
        self._repair_tail(folder / QUESTIONS)
        survey = survey_cells(folder)
        self._finish_seal()
        self._cut(survey.keys)
        self.ledger = self._checked(survey, verify=verify)
        self._give_up_damaged()
        self._drop_strays()
        remember(self.ledger)

    @property
    def damaged(self) -> Mapping[tuple[str, str], str]:
        """Why a finished cell cannot be believed, by (key, cell id), as it was at opening."""
        return self.ledger.damaged

    def append(self, row: Fields, frames: Sequence[Fields] = ()) -> None:
        """Write one cell; see `append_many`."""
        self.append_many([(row, frames)])

    def append_many(self, batch: Sequence[tuple[Fields, Sequence[Fields]]]) -> None:
        """Write the frames of some cells, then their rows, each as one append that reaches the disk
        before this returns.

        A kill in between loses cells of this batch only. Raises ToolError when the disk is full;
        what was written before stays whole.
        """
        frames = to_lines(frame for _, of_cell in batch for frame in of_cell)
        rows = to_lines(row for row, _ in batch)
        if frames:
            self._write(self._frames, frames)
        self._write(self._cells, rows)
        self._written.update((str(row["key"]), str(row["cell"])) for row, _ in batch)
        if frames and self._frames.stat().st_size >= self._seal_bytes:
            self._seal()

    def note(self, told: Sequence[Fields]) -> None:
        """Keep what a question asked or found, in one append that reaches the disk before this
        returns. Raises ToolError as `append_many`.
        """
        self._write(self._folder / QUESTIONS, to_lines(told))

    def close(self) -> None:
        """Remember that all is as this writer wrote it, so that nothing is checked again."""
        from vmaf_train.corpus.ledger import remember

        left = {unit: why for unit, why in self.damaged.items() if unit not in self._written}
        remember(replace(self.ledger, damaged=left))

    def _write(self, path: Path, text: bytes) -> None:

        size = path.stat().st_size if path.exists() else 0
        try:
            with path.open("ab", buffering=0) as file:
                written = 0
                while written < len(text):
                    written += file.write(text[written:]) or 0
                os.fsync(file.fileno())
        except OSError as failure:
            with suppress(OSError):
                os.truncate(path, size)
            raise ToolError(
                f"{path} cannot be written ({failure.strerror}); make room and run the same command"
                " again: finished cells are kept"
            ) from failure

    def _repair_tail(self, path: Path) -> None:
        size = path.stat().st_size if path.exists() else 0
        if not size:
            return
        with path.open("rb+") as file:
            end = _end_of_lines(file, size)
            if end < size:
                file.truncate(end)
                self.notices.append(
                    f"{path.name}: a torn last line was removed (the run before was killed)"
                )

    def _cut(self, keys: frozenset[str]) -> None:
        """Remove the frames after the last one whose key has an ok cell row."""
        if not self._frames.exists():
            return
        dropped = 0
        end = self._frames.stat().st_size
        for line in _lines_backwards(self._frames):
            if _key_of(line) in keys:
                break
            end -= len(line)
            dropped += 1
        if dropped:
            os.truncate(self._frames, end)
            self._tell_of_removed(dropped)

    def _checked(self, survey: Survey, *, verify: bool) -> Ledger:
        """The ledger; frame files that cannot be read are repaired first."""
        from vmaf_train.corpus.ledger import check, remembered

        memory = None if verify else remembered(self._folder, survey)
        try:
            return check(self._folder, survey, memory)
        except DatasetError:
            self._repair_frame_files()
            return check(self._folder, survey, None)

    def _repair_frame_files(self) -> None:
        """Remove lines that are not frames, and put aside shards that cannot be read."""
        from vmaf_train.corpus.frames import blocks, files_of

        for file in files_of(self._folder):
            try:
                for _ in blocks(file):
                    pass
            except DatasetError as failure:
                if file.suffix == ".parquet":
                    aside = file.with_name(file.name + ".damaged")
                    os.replace(file, aside)
                    self.notices.append(f"{failure}; it was renamed {aside.name}")
                else:
                    count = _rewrite(file, _is_frame)
                    self.notices.append(
                        f"{file.name}: {count} lines that are not frames were removed"
                    )

    def _give_up_damaged(self) -> None:
        """Remove the frames of damaged cells, and say that they are measured again."""
        from vmaf_train.corpus.frames import files_of

        damaged = self.damaged
        if not damaged:
            return
        unit, why = next(iter(damaged.items()))
        count = "1 finished cell is" if len(damaged) == 1 else f"{len(damaged)} finished cells are"
        self.notices.append(
            f"{count} damaged and measured again, first {unit[1]} ({CELLS}, line"
            f" {self.ledger.units[unit].line}): {why}"
        )
        for file in files_of(self._folder):
            if file.suffix == ".parquet":
                _drop_from_shard(file, set(damaged))
            else:
                _rewrite(file, lambda line: _unit_of(line) not in damaged)

    def _drop_strays(self) -> None:
        """Remove the frames of which no row speaks: their row was lost, or names another key."""
        strays = self.ledger.strays
        if not strays or not self._frames.exists():
            return
        count = _rewrite(self._frames, lambda line: _unit_of(line) not in strays)
        if count:
            self._tell_of_removed(count)

    def _tell_of_removed(self, number: int) -> None:
        verb = "was" if number == 1 else "were"
        frames = f"{counted(number, 'frame')} without a finished cell"
        self.notices.append(f"{FRAMES}: {frames} {verb} removed")

    def _finish_seal(self) -> None:
        """A run that was killed while it sealed left its frames in the newest shard as well."""
        shards = sorted((self._folder / SHARDS).glob("*.parquet"))
        if not shards or not self._frames.exists():
            return
        with self._frames.open("rb") as file:
            first = file.readline()
        if not first:
            return
        try:
            sealed = _units_in(shards[-1])
        except DatasetError:  # it is put aside when the frames are checked
            return
        if _unit_of(first) in sealed:
            _rewrite(self._frames, lambda line: _unit_of(line) not in sealed)

    def _seal(self) -> None:
        """Move the committed frames, which are all of frames.jsonl now, into a new shard."""
        from pyarrow import parquet
        from vmaf_train.corpus.frames import digest_of_frames, read_frames, to_table

        frames = read_frames([self._frames])
        try:
            table = to_table(frames)
        except ValueError:  # a column that a shard cannot hold: the lines stay
            return
        place = self._folder / SHARDS
        place.mkdir(exist_ok=True)
        sync_folder(self._folder)
        number = 1 + max((int(p.stem) for p in place.glob("[0-9]*.parquet")), default=0)
        shard = place / f"{number:06d}.parquet"
        with whole(shard) as file:
            parquet.write_table(table, file, compression="zstd", row_group_size=_GROUP_ROWS)
        if digest_of_frames(read_frames([shard])) != digest_of_frames(frames):
            shard.unlink()
            return
        write_bytes(self._frames, b"")


def _end_of_lines(file: BinaryIO, size: int) -> int:
    """Where the last whole line of a file of `size` bytes ends."""
    end = size
    while end:
        begin = max(0, end - _BACK_BYTES)
        file.seek(begin)
        newline = file.read(end - begin).rfind(b"\n")
        if newline >= 0:
            return begin + newline + 1
        end = begin
    return 0


def _lines_backwards(path: Path) -> Iterator[bytes]:
    """The lines of a file that ends with one, the last one first."""
    with path.open("rb") as file:
        position, rest = path.stat().st_size, b""
        while position:
            begin = max(0, position - _BACK_BYTES)
            file.seek(begin)
            text = file.read(position - begin) + rest
            position = begin
            lines = text.splitlines(keepends=True)
            rest = lines.pop(0) if begin else b""
            yield from reversed(lines)


class _Named(msgspec.Struct):
    key: str
    cell: str = ""


_NAMED = msgspec.json.Decoder(_Named)


def _unit_of(line: bytes) -> tuple[str, str]:
    """Key and cell of a frame row; empty for any other line."""
    try:
        named = _NAMED.decode(line)
    except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError):
        return "", ""
    return named.key, named.cell


def _key_of(line: bytes) -> str:
    return _unit_of(line)[0]


def _is_frame(line: bytes) -> bool:
    from vmaf_train.corpus.frames import from_lines

    try:
        from_lines(line, Path(FRAMES))
    except DatasetError:
        return False
    return True


def _rewrite(file: Path, keep: Callable[[bytes], bool]) -> int:
    """Put the lines of `file` that are to be kept in its place, and count the others."""
    removed = 0
    with file.open("rb") as old, whole(file) as new:
        for line in old:
            if keep(line):
                new.write(line)
            else:
                removed += 1
    return removed


def _units_in(shard: Path) -> set[tuple[str, str]]:
    from vmaf_train.corpus.frames import units_in_shard

    return {(key, cell or "") for key, cell in units_in_shard(shard)}


def _drop_from_shard(shard: Path, units: set[tuple[str, str]]) -> None:
    """Write `shard` without the frames of `units`, if it has any."""
    import numpy as np
    from pyarrow import parquet
    from vmaf_train.corpus.frames import read_frames, to_table

    if not units & _units_in(shard):
        return
    frames = read_frames([shard])
    pairs, codes = frames.units()
    keep = np.array([(key, cell or "") not in units for key, cell in pairs], dtype=bool)
    rest = frames.take(keep[codes])
    if not len(rest):
        shard.unlink()
        return
    with whole(shard) as file:
        parquet.write_table(to_table(rest), file, compression="zstd", row_group_size=_GROUP_ROWS)


def write_table(folder: Path) -> int:
    """Make features.parquet (zstd) of a run folder from its rows, whole or not at all; returns its
    number of frames.

    One row per frame of every ok cell, in the order of their ids, with the cell's flags.
    """
    import pyarrow
    from pyarrow import parquet
    from vmaf_train.corpus.frames import files_of, read_frames, to_rows

    finished = [cell for cell in latest(folder / CELLS).values() if cell.is_ok]
    cells = {cell.key: cell for cell in sorted(finished, key=lambda cell: cell.cell)}
    frames: dict[str, list[Fields]] = {key: [] for key in cells}
    for frame in to_rows(read_frames(files_of(folder), frozenset(cells))):
        frames[frame["key"]].append(frame)
    rows = [
        {
            **frame,
            "group": cells[key].group,
            "teacher": cells[key].teacher,
            "flags": cells[key].flags,
            "dis_basename": cells[key].distorted,
        }
        for key, of_cell in frames.items()
        for frame in of_cell
    ]
    table = pyarrow.Table.from_pylist(rows, schema=_table_schema())
    with whole(folder / TABLE) as file:
        parquet.write_table(table, file, compression="zstd")
    return len(rows)


def _table_schema() -> pyarrow.Schema:
    import pyarrow

    number, text = pyarrow.float64(), pyarrow.string()
    kinds = {"frame_index": pyarrow.int64(), "vmaf": number, "vmaf_unclipped": number}
    return pyarrow.schema(
        [
            *((name, kinds.get(name, text)) for name in _HEAD),
            *((name, number) for name in FULL),
            ("flags", pyarrow.list_(text)),
        ]
    )
