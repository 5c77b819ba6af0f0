"""What a run folder holds, as numbers, and which of its cells can be believed.

    cells.jsonl --survey--> Marks --+
    frames      --blocks------------+--check--> Ledger(marks, damaged)

A finished cell is believed when its row has the right types and ranges, each of its `num_frames`
frames is there exactly once, their two scores agree, and poolings and features of the row are those
of the frames. What was checked once is remembered in the folder's file `.verified` (by its single
writer), so that only what was appended since is read again.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec
import numpy as np
from numpy.typing import NDArray

from vmaf_train import files
from vmaf_train.contract import FEATURES
from vmaf_train.corpus.frames import Floats, Frames, blocks, files_of, joined
from vmaf_train.corpus.rows import (
    CELLS,
    FRAMES,
    SCHEMA_VERSION,
    SWEEP,
    CellRow,
    bad_cell,
    bad_line,
    check_finished,
    lines,
    parse,
    typed,
)
from vmaf_train.errors import DatasetError

VERIFIED = ".verified"
TOLERANCE = 1e-6
_POOLED = ("vmaf_score", "vmaf_harmonic_mean", "vmaf_min", "vmaf_p5")
_READ_BYTES = 1 << 20
Unit = tuple[str, str]
"""Key and cell: one picture under two names has one key."""


class Mark(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """One line of cells.jsonl as numbers: `line` from 1, `offset` and `end` in bytes.

    `pooled` are the four poolings of a row, `features` its six means, NaN where it has none.
    `damage` is a sentence about a row that cannot be believed, whatever its frames say.
    """

    cell: str
    key: str
    line: int
    offset: int
    end: int
    is_ok: bool
    num_frames: int = 0
    pooled: tuple[float, ...] = ()
    features: tuple[float, ...] = ()
    cpu_s: float = 0.0
    finished_at: str = ""
    message: str = ""
    damage: str = ""

    @property
    def unit(self) -> Unit:
        """Key and cell."""
        return self.key, self.cell


class _Seen(msgspec.Struct, frozen=True, kw_only=True):
    """A file as it was when it was checked: all of it, or its first `size` bytes."""

    size: int
    mtime_ns: int
    digest: str = ""


class _Memory(msgspec.Struct, frozen=True, kw_only=True):
    """The file `.verified`: what was checked, and which cells failed and have no new row yet."""

    version: int = 1
    cells: _Seen
    frames: dict[str, _Seen]
    damaged: list[tuple[str, str, str]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Ledger:
    """A folder's cells. `last` is the last mark of every cell, `units` the last of every key and
    cell; `damaged` says of a unit why it cannot be believed, and has to be measured again. `strays`
    have frames and no row: measured again, they would have them twice.
    """

    folder: Path
    last: Mapping[str, Mark]
    units: Mapping[Unit, Mark]
    damaged: Mapping[Unit, str]
    strays: frozenset[Unit] = frozenset()

    def finished(self, cell: str, key: str) -> Mark | None:
        """The finished cell's mark, if its row and its frames are there and agree."""
        mark = self.units.get((key, cell))
        return mark if mark and mark.is_ok and mark.unit not in self.damaged else None

    def failed(self, cell: str, key: str) -> Mark | None:
        """The failed cell's mark."""
        mark = self.units.get((key, cell))
        return mark if mark and not mark.is_ok and mark.unit not in self.damaged else None

    def row(self, mark: Mark) -> CellRow:
        """The row of a mark, read from its place in the file."""
        file = self.folder / CELLS
        with file.open("rb") as opened:
            opened.seek(mark.offset)
            return typed(file, mark.line, parse(opened.read(mark.end - mark.offset)))

    def sentence(self, unit: Unit) -> str:
        """File, line, what is wrong with a damaged cell, and the command that measures it again."""
        mark = self.units[unit]
        return str(bad_cell(self.folder / CELLS, mark.line, self.damaged[unit]))


def read_ledger(folder: Path, *, everything: bool = False) -> Ledger:
    """What `folder` holds. `everything` checks all again, whatever is remembered.

    Raises DatasetError for a line of cells.jsonl or of the frame files that is not a row.
    """
    survey = survey_cells(folder)
    return check(folder, survey, None if everything else remembered(folder, survey))


@dataclass(frozen=True, slots=True, kw_only=True)
class Survey:
    """cells.jsonl as marks in the order of the file; `prefix` is the digest of its first bytes,
    as many as the memory says.
    """

    marks: Sequence[Mark]
    size: int
    digest: str
    prefix: str

    @property
    def keys(self) -> frozenset[str]:
        """The keys of the finished cells, believed or not."""
        return frozenset(mark.key for mark in self.marks if mark.is_ok)


_ROW = msgspec.json.Decoder(CellRow)


def survey_cells(folder: Path) -> Survey:
    """Read cells.jsonl once. Raises DatasetError for a line that is not a cell row, or that a newer
    version wrote.
    """
    file = folder / CELLS
    memory = _memory(folder)
    hashed, prefix = hashlib.blake2b(digest_size=16), ""
    until = memory.cells.size if memory else -1
    marks = []
    offset = 0
    for number, line in enumerate(_whole_lines(file), start=1):
        if offset == until:
            prefix = hashed.hexdigest()
        hashed.update(line)
        if line.strip():
            marks.append(_mark(file, number, offset, line))
        offset += len(line)
    if offset == until:
        prefix = hashed.hexdigest()
    return Survey(marks=marks, size=offset, digest=hashed.hexdigest(), prefix=prefix)


def _whole_lines(file: Path) -> Iterator[bytes]:
    """The lines that end; a torn last one was never committed."""
    if not file.is_file():
        return
    with file.open("rb", buffering=_READ_BYTES) as opened:
        for line in opened:
            if line.endswith(b"\n"):
                yield line


def _mark(file: Path, number: int, offset: int, line: bytes) -> Mark:
    end = offset + len(line)
    try:
        cell = _ROW.decode(line)
        if cell.schema_version != SCHEMA_VERSION:
            raise DatasetError("another version")
        if cell.is_ok:
            check_finished(cell)
    except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError, DatasetError):
        return _damaged_mark(file, number, offset, line)
    features = cell.per_frame_features or {}
    return Mark(
        cell=cell.cell,
        key=cell.key,
        line=number,
        offset=offset,
        end=end,
        is_ok=cell.is_ok,
        num_frames=cell.num_frames or 0,
        pooled=tuple(_or_nan(getattr(cell, name)) for name in _POOLED),
        features=tuple(_or_nan(features.get(name)) for name in FEATURES) if cell.is_ok else (),
        cpu_s=(cell.encode_cpu_s or 0.0) + (cell.score_cpu_s or 0.0),
        finished_at=cell.finished_at or "",
        message=cell.error.message if cell.error else "",
    )


def _or_nan(value: float | None) -> float:
    return np.nan if value is None else value


def _damaged_mark(file: Path, number: int, offset: int, line: bytes) -> Mark:
    """A line that names its cell and key, and says something impossible otherwise."""
    try:
        row = parse(line)
    except ValueError as failure:
        raise bad_line(file, number, str(failure)) from failure
    cell, key = row.get("cell"), row.get("key")
    if not isinstance(cell, str) or not isinstance(key, str):
        raise bad_line(file, number, "no cell row: it lacks cell or key")
    try:
        typed(file, number, {"schema_version": SCHEMA_VERSION, **row})
    except DatasetError as failure:
        if row.get("schema_version", SCHEMA_VERSION) != SCHEMA_VERSION:
            raise
        what = str(failure).removeprefix(f"{file}:{number}: ").rsplit("; ", 1)[0]
    else:
        what = "it cannot be read"
    return Mark(
        cell=cell,
        key=key,
        line=number,
        offset=offset,
        end=offset + len(line),
        is_ok=row.get("status") != "failed",
        damage=what,
    )


def _memory(folder: Path) -> _Memory | None:
    try:
        found = msgspec.json.decode((folder / VERIFIED).read_bytes(), type=_Memory)
    except (OSError, msgspec.MsgspecError, RecursionError, UnicodeDecodeError):
        return None
    return found if found.version == 1 else None


def remembered(folder: Path, survey: Survey) -> _Memory | None:
    """What was checked before, if the files begin with what they held then."""
    memory = _memory(folder)
    if memory is None or survey.size < memory.cells.size:
        return None
    if survey.prefix != memory.cells.digest:
        return None
    now = {file.name: file for file in files_of(folder)}
    if set(memory.frames) - set(now) or set(now) - set(memory.frames) - {FRAMES}:
        return None
    same = all(_begins_as(now[name], seen) for name, seen in memory.frames.items())
    return memory if same else None


def _begins_as(file: Path, seen: _Seen) -> bool:
    found = file.stat()
    if (found.st_size, found.st_mtime_ns) == (seen.size, seen.mtime_ns):
        return True
    if found.st_size < seen.size or (file.name != FRAMES and found.st_size != seen.size):
        return False
    return _digest_of(file, seen.size) == seen.digest


def _digest_of(file: Path, size: int) -> str:
    hashed = hashlib.blake2b(digest_size=16)
    with file.open("rb") as opened:
        while size > 0 and (part := opened.read(min(_READ_BYTES, size))):
            hashed.update(part)
            size -= len(part)
    return hashed.hexdigest()


def remember(ledger: Ledger) -> None:
    """Write `.verified`: all that the folder holds now has been checked. Only the folder's single
    writer may call this. What cannot be written is checked again the next time.
    """
    folder = ledger.folder
    cells = folder / CELLS
    if not cells.is_file():
        return
    damaged = [(key, cell, why) for (key, cell), why in ledger.damaged.items()]
    before = _memory(folder)
    known = {**before.frames, CELLS: before.cells} if before else {}
    seen = {file.name: _seen(file, known) for file in files_of(folder)}
    memory = _Memory(cells=_seen(cells, known), frames=seen, damaged=damaged)
    if memory == before:
        return
    try:
        files.write_bytes(folder / VERIFIED, msgspec.json.encode(memory))
    except OSError:
        return


def _seen(file: Path, known: Mapping[str, _Seen]) -> _Seen:
    found = file.stat()
    before = known.get(file.name)
    if before and (before.size, before.mtime_ns) == (found.st_size, found.st_mtime_ns):
        return before
    digest = _digest_of(file, found.st_size)
    return _Seen(size=found.st_size, mtime_ns=found.st_mtime_ns, digest=digest)


def check(folder: Path, survey: Survey, memory: _Memory | None) -> Ledger:
    """The ledger of a survey; of the frames only what the memory does not cover is read."""
    last = {mark.cell: mark for mark in survey.marks}
    units = {mark.unit: mark for mark in survey.marks}
    damaged = {mark.unit: mark.damage for mark in units.values() if mark.damage}
    covered = memory.cells.size if memory else 0
    again = {(key, cell) for key, cell, _ in memory.damaged} if memory else set()
    believable = {unit: m for unit, m in units.items() if m.is_ok and unit not in damaged}
    to_check = {u: m for u, m in believable.items() if m.offset >= covered or u in again}
    found, others = _of_frames(folder, to_check, frozenset(survey.keys), memory)
    if memory:
        known = [m for m in survey.marks if m.offset < covered and m.unit not in again]
        found = _without_repeated(found, known, units)
    strays = frozenset(others - set(units))
    return Ledger(
        folder=folder, last=last, units=units, damaged={**damaged, **found}, strays=strays
    )


def check_table(folder: Path, survey: Survey, frames: Frames) -> Ledger:
    """The ledger of a survey and all frames of its finished cells, which were read already."""
    last = {mark.cell: mark for mark in survey.marks}
    units = {mark.unit: mark for mark in survey.marks}
    damaged = {mark.unit: mark.damage for mark in units.values() if mark.damage}
    to_check = {unit: m for unit, m in units.items() if m.is_ok and unit not in damaged}
    found: dict[Unit, str] = dict.fromkeys(to_check, NO_FRAMES)
    named, codes = _named_units(frames, _by_key(to_check))
    everything = np.ones(len(named), dtype=bool)
    told = _of_units(frames, named, codes, everything, to_check, set())
    found.update((unit, why) for unit, why in told if unit in to_check)
    wrong = {unit: why for unit, why in found.items() if why}
    return Ledger(folder=folder, last=last, units=units, damaged={**damaged, **wrong})


NO_FRAMES = "the cell has none of its frames"


def _without_repeated(
    found: Mapping[Unit, str], known: Sequence[Mark], units: Mapping[Unit, Mark]
) -> dict[Unit, str]:
    """Rows that were written a second time, because the tools came back that made them, have their
    frames in the part that was checked: `known` are its rows.
    """
    believed = {
        mark.unit
        for mark in known
        if found.get(mark.unit) == NO_FRAMES
        and (mark.pooled, mark.features) == (units[mark.unit].pooled, units[mark.unit].features)
    }
    return {unit: why for unit, why in found.items() if unit not in believed}


def _of_frames(
    folder: Path,
    to_check: Mapping[Unit, Mark],
    committed: frozenset[str],
    memory: _Memory | None,
) -> tuple[dict[Unit, str], set[Unit]]:
    """What is wrong with the frames of `to_check` and with other finished cells that have frames
    in the part that was not checked before; and all other units that have frames there.
    """
    start = memory.frames[FRAMES].size if memory and FRAMES in memory.frames else 0
    sources = files_of(folder)
    if memory:
        sources = [file for file in sources if file.name == FRAMES]
        sources = [file for file in sources if file.stat().st_size > start]
    by_key = _by_key(to_check)
    found: dict[Unit, str] = dict.fromkeys(to_check, NO_FRAMES)
    others: set[Unit] = set()
    for file in sources:
        for unit, why in _of_file(file, start if file.name == FRAMES else 0, to_check, by_key):
            if unit in to_check:
                found[unit] = why
                continue
            others.add(unit)
            if memory and unit[0] in committed:
                found[unit] = "its frames are there twice"
    return {unit: why for unit, why in found.items() if why}, others


def _by_key(units: Iterable[Unit]) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for key, cell in units:
        found.setdefault(key, []).append(cell)
    return found


def _of_file(
    file: Path, start: int, to_check: Mapping[Unit, Mark], by_key: Mapping[str, list[str]]
) -> Iterator[tuple[Unit, str]]:
    """(unit, what is wrong with its frames or nothing) for every unit of a file."""
    waiting: list[Frames] = []
    ended: set[Unit] = set()
    for block in blocks(file, start):
        table = joined([*waiting, block])
        units, codes = _named_units(table, by_key)
        counts = np.bincount(codes, minlength=len(units))
        wanted = [to_check[unit].num_frames if unit in to_check else 0 for unit in units]
        complete = counts >= np.array(wanted)
        yield from _of_units(table, units, codes, complete, to_check, ended)
        rest = ~complete[codes]
        waiting = [table.take(rest)] if rest.any() else []
    if waiting:
        units, codes = _named_units(waiting[0], by_key)
        everything = np.ones(len(units), dtype=bool)
        yield from _of_units(waiting[0], units, codes, everything, to_check, ended)


def _named_units(
    table: Frames, by_key: Mapping[str, list[str]]
) -> tuple[list[Unit], NDArray[np.int32]]:
    """The units of a table. Frames of old files name no cell: theirs is the only one of the key."""
    pairs, codes = table.units()
    named = [(key, _only(by_key.get(key, ())) if cell is None else cell) for key, cell in pairs]
    return named, codes


def _only(cells: Sequence[str]) -> str:
    return cells[0] if cells else ""


def _of_units(
    table: Frames,
    units: Sequence[Unit],
    codes: NDArray[np.int32],
    which: NDArray[np.bool_],
    to_check: Mapping[Unit, Mark],
    ended: set[Unit],
) -> Iterator[tuple[Unit, str]]:
    known = np.array([unit in to_check for unit in units], dtype=bool)
    rows = np.flatnonzero((which & known)[codes])
    if len(rows):
        yield from _compared(table.take(rows), units, codes[rows], to_check, ended)
    for i in np.flatnonzero(which & ~known).tolist():
        yield units[i], ""


def _compared(
    table: Frames,
    units: Sequence[Unit],
    codes: NDArray[np.int32],
    to_check: Mapping[Unit, Mark],
    ended: set[Unit],
) -> Iterator[tuple[Unit, str]]:
    """Compare units, whose frames are all in `table`, with their rows; N frames, U units."""
    index = table.numbers["frame_index"]
    order = np.lexsort((index, codes))
    codes, index = codes[order], index[order]
    starts = np.flatnonzero(np.diff(codes, prepend=-1))  # (U,)
    counts = np.diff(starts, append=len(codes))
    in_turn = index == np.arange(len(index)) - np.repeat(starts, counts)
    complete = np.logical_and.reduceat(in_turn, starts)
    vmaf = table.numbers["vmaf"][order]
    pooled = _pooled(vmaf, codes, starts, counts)  # (U, 4)
    clipped = _is_clipped(vmaf, table.numbers["vmaf_unclipped"][order])
    scores_agree = np.logical_and.reduceat(clipped, starts)
    with np.errstate(over="ignore"):  # a damaged number may be too large to add to
        features = np.add.reduceat(table.features()[order], starts) / counts[:, None]  # (U, 6)
    for place, start in enumerate(starts.tolist()):
        unit = units[codes[start]]
        mark = to_check[unit]
        if unit in ended:
            yield unit, "its frames are there twice"
            continue
        ended.add(unit)
        if not complete[place] or counts[place] != mark.num_frames:
            yield unit, _count_sentence(int(counts[place]), mark.num_frames)
        elif not scores_agree[place]:
            yield unit, "a frame's vmaf is not its vmaf_unclipped, cut to 0 to 100"
        else:
            yield unit, _difference(mark, pooled[place], features[place])


def _pooled(
    vmaf: Floats, codes: NDArray[np.int32], starts: NDArray[np.int64], counts: NDArray[np.int64]
) -> Floats:
    """Mean, harmonic mean, minimum and 5th percentile of each unit's frames, (U, 4)."""
    ordered = vmaf[np.lexsort((vmaf, codes))]
    place = 0.05 * (counts - 1)
    low = place.astype(np.int64)
    high = np.minimum(low + 1, counts - 1)
    below, above = ordered[starts + low], ordered[starts + high]
    return np.column_stack(
        [
            np.add.reduceat(vmaf, starts) / counts,
            counts / np.add.reduceat(1 / (vmaf + 1), starts) - 1,
            ordered[starts],
            below + (above - below) * (place - low),
        ]
    )


def _is_clipped(vmaf: Floats, unclipped: Floats) -> NDArray[np.bool_]:
    """(N,) True where a frame's two scores agree, or it has only the one."""
    apart = np.abs(vmaf - np.clip(unclipped, 0, 100))
    agree: NDArray[np.bool_] = (apart <= TOLERANCE) | (vmaf == unclipped) | np.isnan(unclipped)
    return agree


def _count_sentence(there: int, wanted: int) -> str:
    if there < wanted:
        return f"the cell has {there} of its {wanted} frames"
    return f"the cell has {there} frames, and its row says num_frames {wanted}, each once"


def _difference(mark: Mark, pooled: Floats, features: Floats) -> str:
    names = (*_POOLED, *FEATURES)
    said = np.array([*mark.pooled, *mark.features])
    found = np.concatenate([pooled, features])
    apart = ~(np.abs(said - found) <= TOLERANCE) & ~np.isnan(said)
    if not apart.any():
        return ""
    first = int(np.flatnonzero(apart)[0])
    return f"{names[first]} is {said[first]:.6f}, and its frames give {found[first]:.6f}"


def require_sound(ledger: Ledger, cells: Iterable[Unit]) -> None:
    """Raise DatasetError for the first damaged one of `cells`, saying how many are."""
    damaged = [unit for unit in cells if unit in ledger.damaged]
    if not damaged:
        return
    more = f" ({len(damaged)} cells are damaged, this is the first)" if len(damaged) > 1 else ""
    raise DatasetError(ledger.sentence(damaged[0]) + more)


def require_sound_folder(folder: Path) -> None:
    """Raise DatasetError for the first finished cell of a run folder that cannot be believed. A
    corpus without frames, or of before there were keys, has nothing to compare its rows with.
    """
    if not (files_of(folder) or (folder / SWEEP).is_file()):
        return
    # One row of ours is enough: a damaged first line must not make the others an older corpus.
    if not any("schema_version" in row for _, row in lines(folder / CELLS)):
        return
    ledger = read_ledger(folder)
    require_sound(ledger, (mark.unit for mark in ledger.last.values()))
