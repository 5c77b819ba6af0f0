"""What a run folder has measured already, by cell and key: numbers of bytes, not rows.

100,000 rows are 175 MB of text and ten times that as objects; where each row begins is enough.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, Protocol, TypeVar

import msgspec

from vmaftune.engine.folder import CELLS, cell_rows
from vmaftune.errors import UsageError


class Wanted(Protocol):
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


T = TypeVar("T", bound=Wanted)


class _Mark(msgspec.Struct):
    cell: str
    key: str
    status: str


@dataclass(frozen=True, slots=True)
class Answer:
    """Where the row of a cell with this key begins in cells.jsonl, and whether it is an ok one."""

    key: str
    is_ok: bool
    offset: int


@dataclass(frozen=True, slots=True, kw_only=True)
class State(Generic[T]):
    """Where a plan stands in its folder: ids of cells that are done or have failed, and the cells
    left to do.
    """

    done: frozenset[str]
    failed: frozenset[str]
    left: Sequence[T]


class Answers:
    """The rows of a folder by cell and key. A row made with other tools or content has another key
    and does not count.

    Raises UsageError naming the line of a row that is none.
    """

    def __init__(self, folder: Path) -> None:
        self._folder, self._path = folder, folder / CELLS
        self._found: dict[str, tuple[Answer, ...]] = {}
        self._end = 0
        self._decoder = msgspec.json.Decoder(_Mark)
        self.read_more()

    def read_more(self) -> None:
        """Take in the rows that were written since the last call."""
        if not self._path.exists():
            return
        with self._path.open("rb") as file:
            file.seek(self._end)
            for line in file:
                if not line.endswith(b"\n"):
                    return
                self._note(line)
                self._end += len(line)

    def _note(self, line: bytes) -> None:
        try:
            mark = self._decoder.decode(line)
        except (msgspec.MsgspecError, UnicodeDecodeError) as failure:
            for _ in cell_rows(self._folder):  # knows the number of the line and what to say
                pass
            raise UsageError(f"{self._path} holds a line that is not a cell row: {failure}") from (
                failure
            )
        answer = Answer(key=mark.key, is_ok=mark.status == "ok", offset=self._end)
        before = (a for a in self._found.get(mark.cell, ()) if a.key != mark.key)
        self._found[mark.cell] = (*before, answer)

    def find(self, cell: str, key: str) -> Answer | None:
        """The answer for a cell with this key; None when it was never measured."""
        return next((a for a in self._found.get(cell, ()) if a.key == key), None)

    def is_last(self, cell: str, answer: Answer) -> bool:
        """True when this is what readers take for the cell: its last row."""
        return self._found[cell][-1] is answer

    def row(self, answer: Answer) -> dict[str, Any]:
        """The row itself."""
        with self._path.open("rb") as file:
            file.seek(answer.offset)
            found: dict[str, Any] = json.loads(file.readline())
        return found

    def state(self, items: Iterable[T], keys: Mapping[str, str], *, retry_failed: bool) -> State[T]:
        """Where `items` stand, by their `keys`."""
        done: set[str] = set()
        failed: set[str] = set()
        left: list[T] = []
        for item in items:
            answer = self.find(item.id, keys[item.id])
            if answer is not None:
                (done if answer.is_ok else failed).add(item.id)
            if answer is None or (retry_failed and not answer.is_ok):
                left.append(item)
        return State(done=frozenset(done), failed=frozenset(failed), left=tuple(left))
