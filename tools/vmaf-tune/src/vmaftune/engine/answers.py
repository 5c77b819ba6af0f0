"""What a run folder has measured already, by cell and key: marks of where rows are, not rows.

100,000 rows are 175 MB of text and ten times that as objects.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Generic, Protocol, TypeVar

import msgspec
from vmaf_train.corpus.rows import CELLS, CellRow

if TYPE_CHECKING:
    from vmaf_train.corpus.ledger import Ledger, Mark, Unit


class Answerable(Protocol):
    """What can be answered: a cell or a scored pair."""

    @property
    def id(self) -> str:
        """Readable, unique in the folder."""

    @property
    def kind(self) -> str:
        """What its cost goes by: encoder and preset, or the set of features."""

    @property
    def expected_encode_s(self) -> float:
        """Seconds of one core."""

    @property
    def expected_score_s(self) -> float:
        """Seconds of one core."""


T = TypeVar("T", bound=Answerable)


@dataclass(frozen=True, slots=True, kw_only=True)
class State(Generic[T]):
    """Where a plan stands in its folder: ids of cells that are done or have failed, and the cells
    left to do.
    """

    done: frozenset[str]
    failed: frozenset[str]
    left: Sequence[T]


class _Outline(msgspec.Struct):
    cell: str
    key: str
    status: str


class Answers:
    """The rows of a folder by cell and key: what its ledger believes, and what was written since.

    A row made with other tools or content has another key and does not count.
    """

    def __init__(self, ledger: Ledger) -> None:
        self._ledger, self._path = ledger, ledger.folder / CELLS
        self._new: dict[Unit, Mark] = {}
        self._last: dict[str, Mark] = {}
        self._old: dict[str, list[Mark]] | None = None
        self._end = self._path.stat().st_size if self._path.exists() else 0
        self._num_lines = max((mark.line for mark in ledger.units.values()), default=0)

    def read_more(self) -> None:
        """Take in the rows that were written since the last call."""
        from vmaf_train.corpus.ledger import Mark

        with self._path.open("rb") as file:
            file.seek(self._end)
            for line in file:
                named = msgspec.json.decode(line, type=_Outline)
                self._num_lines += 1
                mark = Mark(
                    cell=named.cell,
                    key=named.key,
                    line=self._num_lines,
                    offset=self._end,
                    end=self._end + len(line),
                    is_ok=named.status == "ok",
                )
                self._end = mark.end
                self._new[mark.unit] = self._last[mark.cell] = mark

    def find(self, cell: str, key: str) -> Mark | None:
        """The mark of a cell's row with this key; None when it was never measured, or cannot be
        believed.
        """
        new = self._new.get((key, cell))
        return new or self._ledger.finished(cell, key) or self._ledger.failed(cell, key)

    def finished(self, cell: str) -> Iterator[Mark]:
        """The marks of a cell's rows that are finished and can be believed, whatever their key, the
        row that readers take first.
        """
        if self._old is None:
            self._old = defaultdict(list)
            for mark in self._ledger.units.values():
                self._old[mark.cell].append(mark)
        marks = {m.unit: m for m in self._old.get(cell, ())}
        marks |= {unit: mark for unit, mark in self._new.items() if unit[1] == cell}
        for mark in sorted(marks.values(), key=lambda m: m.line, reverse=True):
            if mark.is_ok and self.find(cell, mark.key) == mark:
                yield mark

    def ids(self) -> tuple[str, ...]:
        """Ids of all cells that have a row."""
        return tuple({**self._ledger.last, **self._last})

    def is_last(self, mark: Mark) -> bool:
        """True when this is what readers take for the cell: its last row."""
        return (self._last.get(mark.cell) or self._ledger.last.get(mark.cell)) == mark

    def row(self, mark: Mark) -> CellRow:
        """The row itself."""
        return self._ledger.row(mark)

    def state(self, items: Iterable[T], keys: Mapping[str, str], *, retry_failed: bool) -> State[T]:
        """Where `items` stand, by their `keys`."""
        done: set[str] = set()
        failed: set[str] = set()
        left: list[T] = []
        for item in items:
            mark = self.find(item.id, keys[item.id])
            if mark is not None:
                (done if mark.is_ok else failed).add(item.id)
            if mark is None or (retry_failed and not mark.is_ok):
                left.append(item)
        return State(done=frozenset(done), failed=frozenset(failed), left=tuple(left))


def answers_of(folder: Path) -> Answers:
    """What a folder that nobody writes into answers; it may not exist."""
    from vmaf_train.corpus.ledger import read_ledger

    return Answers(read_ledger(folder))


FrameValues = Mapping[str, tuple[float | None, ...]]
"""Values of every frame of a cell in order, by column; None where a frame has none."""


def stored_values(
    folder: Path, keys: frozenset[str], columns: Sequence[str]
) -> dict[str, FrameValues]:
    """The columns of every stored frame of the cells with these keys, in order; without those that
    no frame in the folder has.
    """
    from vmaf_train.corpus.frames import files_of, read_frames

    files = files_of(folder)
    if not files or not keys:
        return {}
    table = read_frames(files, keys)
    key_column, index = table.texts["key"], table.numbers["frame_index"]
    order = index.argsort(kind="stable").tolist()
    places: dict[str, list[int]] = {}
    for place in order:
        places.setdefault(key_column.values[key_column.codes[place]], []).append(place)
    stored = {name: table.numbers[name].tolist() for name in columns if name in table.numbers}
    return {
        key: {name: tuple(_known(values[i]) for i in of_key) for name, values in stored.items()}
        for key, of_key in places.items()
    }


def _known(value: float) -> float | None:
    """A table's number; it has NaN where there is none."""
    return None if math.isnan(value) else value
