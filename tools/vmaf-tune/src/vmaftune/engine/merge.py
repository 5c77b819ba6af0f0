"""Join run folders that hold parts of one plan: rows by cell and key, frames with them, provenance
kept. The merged folder holds what a single run would have written.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from vmaf_train.corpus.digests import canonical
from vmaf_train.corpus.rows import CELLS, QUESTIONS, RUNS, SWEEP, Row, lines, parse
from vmaf_train.files import write_json

from vmaftune.engine.folder import Writer, append_run
from vmaftune.engine.hold import lock
from vmaftune.errors import FolderError, UsageError
from vmaftune.request.document import Document, conflict, require_plan
from vmaftune.request.document import merge as merge_plans

if TYPE_CHECKING:
    from vmaf_train.corpus.ledger import Ledger, Mark

FROM = "merged_from"
"""The field of sweep.json that names the folders that were joined, and of a line of runs.jsonl that
names its own.
"""
_BATCH = 200


@dataclass(frozen=True, slots=True, kw_only=True)
class Merged:
    """What a merge wrote: cells of the joined plan, cells with a row, and of these the failed."""

    folder: Path
    num_cells: int
    num_rows: int
    num_failed: int


@dataclass(frozen=True, slots=True, kw_only=True)
class _Chosen:
    """A cell's row, and the folder that it is taken from."""

    ledger: Ledger
    mark: Mark


def merge_folders(folders: Sequence[Path], out: Path) -> Merged:
    """Write the cells of `folders` into the new folder `out`.

    Raises UsageError for one that is not a run folder or a folder `out` that holds something,
    FolderError naming the first cell or source on which two do not agree, DatasetError for a
    damaged cell.
    """
    from vmaf_train.corpus.ledger import read_ledger, require_sound

    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise UsageError(f"{out} is there already; name a folder that is not")
    document = _joined_plan(folders)
    ledgers = [read_ledger(folder) for folder in folders]
    for ledger in ledgers:
        require_sound(ledger, (mark.unit for mark in ledger.last.values()))
    chosen = _chosen(ledgers)
    out.mkdir(parents=True, exist_ok=True)
    with lock(out):
        write_json(out / SWEEP, document.to_json())
        writer = Writer(out)
        for ledger in ledgers:
            mine = [c.mark for c in chosen.values() if c.ledger is ledger]
            for batch in _batches(ledger, mine):
                writer.append_many(batch)
        _join_runs(folders, out)
        told = [row for folder in folders for _, row in lines(folder / QUESTIONS)]
        if told:
            writer.note(told)
        writer.close()
    failed = sum(not c.mark.is_ok for c in chosen.values())
    return Merged(
        folder=out, num_cells=len(document.cell_ids), num_rows=len(chosen), num_failed=failed
    )


def _joined_plan(folders: Sequence[Path]) -> Document:
    plans = [require_plan(folder) for folder in folders]
    whole = plans[0]
    for folder, plan in zip(folders[1:], plans[1:], strict=True):
        clash = conflict(whole, plan)
        if clash is not None:
            raise FolderError(f"{folder} does not go with {folders[0]}: {clash}")
        # What is said once, as the command and the time, is the first folder's.
        both = merge_plans(whole, plan)
        whole = replace(both, argv=whole.argv, created_at=whole.created_at)
    extra = {**whole.extra, FROM: [str(folder) for folder in folders]}
    return replace(whole, extra=extra)


def _chosen(ledgers: Sequence[Ledger]) -> dict[str, _Chosen]:
    """For every cell the row to keep: a finished one before a failed one, of two equal ones the
    first.
    """
    found: dict[str, _Chosen] = {}
    for ledger in ledgers:
        for mark in ledger.last.values():
            before = found.get(mark.cell)
            new = _Chosen(ledger=ledger, mark=mark)
            if before is None or _agree(before, new) is new:
                found[mark.cell] = new
    return found


def _agree(old: _Chosen, new: _Chosen) -> _Chosen:
    if old.mark.key != new.mark.key:
        raise FolderError(
            f"{old.ledger.folder} and {new.ledger.folder} measured {new.mark.cell} with other tools"
            " or content (its key differs); sweep one of them again with the same ffmpeg"
        )
    if old.mark.is_ok != new.mark.is_ok:
        return new if new.mark.is_ok else old
    if old.mark.is_ok and canonical(_raw(old)) != canonical(_raw(new)):
        raise FolderError(
            f"{old.ledger.folder} and {new.ledger.folder} hold different numbers for"
            f" {new.mark.cell}; sweep one of them again"
        )
    return old


def _raw(chosen: _Chosen) -> Row:
    mark = chosen.mark
    with (chosen.ledger.folder / CELLS).open("rb") as file:
        file.seek(mark.offset)
        return parse(file.read(mark.end - mark.offset))


def _batches(ledger: Ledger, marks: Sequence[Mark]) -> Iterator[list[tuple[Row, list[Row]]]]:
    """Rows with their frames, some at a time, in the order of the folder's file."""
    from vmaf_train.corpus.frames import files_of, read_frames, to_rows

    ordered = sorted(marks, key=lambda mark: mark.line)
    for start in range(0, len(ordered), _BATCH):
        part = ordered[start : start + _BATCH]
        units = {mark.unit: list[Row]() for mark in part}
        keys = frozenset(mark.key for mark in part if mark.is_ok)
        for frame in to_rows(read_frames(files_of(ledger.folder), keys)):
            if (frame["key"], frame["cell"]) in units:
                units[frame["key"], frame["cell"]].append(frame)
        yield [(_raw(_Chosen(ledger=ledger, mark=mark)), units[mark.unit]) for mark in part]


def _join_runs(folders: Sequence[Path], out: Path) -> None:
    """Every start of every folder, by time, with the folder's name."""
    starts = [{**row, FROM: str(folder)} for folder in folders for _, row in lines(folder / RUNS)]
    for row in sorted(starts, key=lambda row: str(row.get("started_at"))):
        append_run(out, row)
