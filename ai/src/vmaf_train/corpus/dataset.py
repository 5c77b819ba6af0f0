"""A corpus as arrays, and the folds that hold groups out.

path --rows.read_rows, frames--> rows --load--> Dataset(features (N,6), codec (N,14), y (N,), ...)
Dataset --*_folds--> Fold
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from vmaf_train.contract import (
    CODEC_DIM,
    DEFAULT_ORDINAL,
    NUM_FEATURES,
    ORDINARY_FEATURES,
    codec_block,
    feature_set,
    knows_preset,
)
from vmaf_train.corpus.digests import digest as digest_of
from vmaf_train.corpus.frames import Frames, digest_of_frames, files_of, read_frames
from vmaf_train.corpus.ledger import (
    NO_FRAMES,
    check,
    check_table,
    remembered,
    require_sound,
    survey_cells,
)
from vmaf_train.corpus.records import Record, cell_means, holds_frames, record
from vmaf_train.corpus.rows import (
    CELLS,
    EXTERNAL,
    SWEEP,
    Row,
    bad_cell,
    cell_name,
    last_of_each_cell,
    read_rows,
    typed,
)
from vmaf_train.errors import DatasetError

Table = list[tuple[int, Row]]
"""Rows of a file with their line numbers."""
Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Strings = NDArray[np.object_]
Mask = NDArray[np.bool_]
VARIANTS: Mapping[str, tuple[str, str]] = {
    "sizes": ("encode_width", "another size"),
    "options": ("options", "an option set"),
    "caps": ("maxrate_kbps", "a bound on the bitrate"),
}
"""Kinds of rows whose encode differs in something that no model's input tells: the field that marks
one, and what its encode has.
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class CorpusPart:
    """One of several corpora. `groups`: what each of its groups is called in the whole."""

    path: Path
    digest: str
    frame_digest: str | None
    groups: Mapping[str, str]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Dataset:
    """A corpus ready for training: N rows, each a cell or (`frame_index` is not None) a frame.

    `features` (N,6) float64 RAW canonical 6; `codec` (N,14) in [0,1]; `y` (N,) VMAF points.
    `group`, `src`, `encoder`, `preset`, `key` are (N,) str; `crf` (N,) float64 is the quality
    value, NaN where a scored pair has none. `digest` is the corpus digest, `frame_digest` that of
    the frame rows (None when they were not read). `features_of` names the feature set of all rows;
    `sources` are the sha256 of the source files of each group, as far as its rows tell them.
    `notes` are sentences about what was read and what was left out. Of several corpora `parts` are
    these, and `path` is the first; `digest` and `frame_digest` are made of theirs. `kinds` are the
    kinds of VARIANTS that were asked for.
    """

    features: Floats
    codec: Floats
    y: Floats
    group: Strings
    src: Strings
    encoder: Strings
    preset: Strings
    crf: Floats
    key: Strings
    frame_index: Ints | None
    digest: str
    frame_digest: str | None
    path: Path
    teacher: str | None
    features_of: str
    sources: Mapping[str, tuple[str, ...]]
    notes: tuple[str, ...]
    parts: tuple[CorpusPart, ...] = ()
    kinds: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.y)

    @property
    def paths(self) -> tuple[Path, ...]:
        """Where the rows lie: one corpus, or several."""
        return tuple(part.path for part in self.parts) or (self.path,)

    @property
    def name(self) -> str:
        """The paths as text."""
        return ", ".join(map(str, self.paths))

    @property
    def groups(self) -> list[str]:
        """Names of the groups, sorted."""
        return sorted(set(self.group))

    @property
    def strange_features(self) -> str | None:
        """Why the features are not what the scores are a function of; None where they are."""
        if self.teacher is None or feature_set(self.teacher) == self.features_of:
            return None
        return (
            f"the scores of {self.name} are those of {self.teacher}, and its features those of"
            f" {self.features_of}; sweep again with this release, which records the teacher's own"
        )


def load(path: Path | str, *, per_frame: bool, kinds: Collection[str] = ()) -> Dataset:
    """The corpus at `path`: a run folder, its cells.jsonl, or a JSONL or parquet file of cells or
    of frames.

    `per_frame` asks for one row per frame, else one per cell (frames are then averaged over their
    cell). `kinds` of VARIANTS are taken as well. Failed cells, flagged rows, rows of other kinds
    and, for cells, rows without encoder or quality value are left out and counted in `notes`.
    Raises DatasetError for an unreadable file, rows of two teachers, a source in two groups, a row
    without all six features or a finite score (with its line number), or when nothing is left.
    """
    taken = _known_kinds(kinds)
    file, frame_files = _files(Path(path))
    table = read_rows(file)
    if not table:
        raise DatasetError(f"{file} holds no rows")
    if holds_frames(table[0][1]):
        return _load_bare_frames(file, table, per_frame=per_frame)
    notes: list[str] = []
    cells = _cells_of(file, table, taken, notes)
    del table  # ten times as large as what is kept of it
    frames = read_frames(frame_files, cells.keys) if per_frame and frame_files else None
    if cells.is_checked:
        _check_cells(file, cells.last, frame_files, frames)
    if not per_frame:
        rows = _of_records(cells.records)
        plain = _assemble(file, rows, cells.digest, None, notes, per_frame=False)
        return replace(plain, kinds=taken)
    if frames is None:
        raise DatasetError(
            f"{file} holds one row per cell and no frames lie beside it; this model learns from"
            " frames"
        )
    frame_digest = digest_of_frames(frames)
    rows = _of_frames(file, cells.records, cells.units, frames)
    del frames
    found = _assemble(file, rows, cells.digest, frame_digest, notes, per_frame=True)
    return replace(found, kinds=taken)


def _known_kinds(kinds: Collection[str]) -> tuple[str, ...]:
    unknown = sorted(set(kinds) - set(VARIANTS))
    if unknown:
        raise DatasetError(
            f"no kind of rows is called {', '.join(map(repr, unknown))}; there are"
            f" {', '.join(VARIANTS)}"
        )
    return tuple(name for name in VARIANTS if name in kinds)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Cells:
    """What is kept of a table of cells. `records` are those to learn from and `units` their key and
    cell; `keys` and `last` (key and cell) are those of all finished ones; `is_checked` is False for
    rows of before there were keys.
    """

    records: Sequence[Record]
    units: Sequence[tuple[str, str]]
    keys: frozenset[str]
    last: Sequence[tuple[str, str]]
    digest: str
    is_checked: bool


def _cells_of(file: Path, table: Table, kinds: tuple[str, ...], notes: list[str]) -> _Cells:
    for number, row in last_of_each_cell(table):
        if row.get("status") != "failed":
            _check_row(file, number, row)
    usable = _usable(table, kinds, notes)
    records = [record(file, number, row) for number, row in usable]
    finished = _ok(table)
    return _Cells(
        records=records,
        units=[(r.key, cell_name(row)) for r, (_, row) in zip(records, usable, strict=True)],
        keys=_keys(table),
        last=[(str(row.get("key")), str(row.get("cell"))) for _, row in finished],
        digest=_digest_of_cells(table),
        # One row of ours is enough: a damaged first line must not make the others an older corpus.
        is_checked=file.name == CELLS and any("schema_version" in row for _, row in table),
    )


def _load_bare_frames(file: Path, table: Table, *, per_frame: bool) -> Dataset:
    """A file of frame rows alone, as older programs wrote them."""
    notes: list[str] = []
    records = [record(file, number, row) for number, row in _unflagged(table, notes)]
    digest = digest_of((row for _, row in table), "src", "key", "frame_index")
    if per_frame:
        records.sort(key=lambda r: (r.key, -1 if r.frame_index is None else r.frame_index))
    else:
        records = cell_means(records)
    return _assemble(file, _of_records(records), digest, digest, notes, per_frame=per_frame)


def _check_row(file: Path, number: int, row: Row) -> None:
    """Raise DatasetError, naming the line, where types and ranges are not those of a row."""
    if "schema_version" in row:
        typed(file, number, row)
        return
    flags = row.get("flags") or []
    if not isinstance(flags, list) or not all(isinstance(flag, str) for flag in flags):
        what = f"flags is {flags!r:.40}; it must be a list of texts"
        raise bad_cell(file, number, what)


def _check_cells(
    file: Path,
    last: Sequence[tuple[str, str]],
    frame_files: Sequence[Path],
    frames: Frames | None,
) -> None:
    """Raise DatasetError, naming the line, for a finished cell whose row and frames do not agree.

    `last` are key and cell of the finished cells; `frames` are those of `frame_files`, None when
    they were not read.
    """
    if not frame_files and not (file.parent / SWEEP).is_file():
        return
    survey = survey_cells(file.parent)
    memory = remembered(file.parent, survey)
    if memory is None and frames is not None:
        ledger = check_table(file.parent, survey, frames)
    else:
        ledger = check(file.parent, survey, memory)
    require_sound(ledger, last)


def corpus_digest(path: Path | str) -> str:
    """sha256 of the ok cell rows of a corpus without times and machine facts (its frame rows if it
    has no cells).

    The same for JSONL and parquet. Raises DatasetError for an unreadable corpus.
    """
    file, _ = _files(Path(path))
    table = read_rows(file)
    if table and holds_frames(table[0][1]):
        return digest_of((row for _, row in table), "src", "key", "frame_index")
    return _digest_of_cells(table)


def frame_digest(path: Path | str) -> str | None:
    """sha256 of the frame rows that belong to ok cells, whatever their order and file; None without
    frames.
    """
    file, frame_files = _files(Path(path))
    table = read_rows(file)
    if table and holds_frames(table[0][1]):
        return digest_of((row for _, row in table), "src", "key", "frame_index")
    if not frame_files:
        return None
    return digest_of_frames(read_frames(frame_files, _keys(table)))


def has_frames(path: Path | str) -> bool:
    """True when the corpus at `path` has a row for every frame."""
    file, frame_files = _files(Path(path))
    return bool(frame_files) or any(holds_frames(row) for _, row in read_rows(file)[:1])


def corpus_files(path: Path | str) -> list[Path]:
    """The files that `load` reads: the rows, and the frame rows that lie beside them."""
    file, frame_files = _files(Path(path))
    return [file, *frame_files]


def _files(path: Path) -> tuple[Path, list[Path]]:
    """(file of cell rows or the table itself, files of frame rows beside it)."""
    cells = (CELLS, "cells.parquet")
    if path.is_dir():
        found = [path / name for name in cells if (path / name).is_file()]
        if not found:
            raise DatasetError(
                f"{path} holds no cells.jsonl; name the folder of a sweep or a corpus file"
            )
        path = found[0]
    elif path.stem == "frames" and (path.parent / CELLS).is_file():
        path = path.parent / CELLS
    return path, files_of(path.parent) if path.stem == "cells" else []


def _ok(table: Table) -> Table:
    latest = last_of_each_cell(table)
    return [(n, row) for n, row in latest if (row.get("status") or "ok") == "ok"]


def _usable(table: Table, kinds: Collection[str], notes: list[str]) -> Table:
    ok = _ok(table)
    failed = len(last_of_each_cell(table)) - len(ok)
    if failed:
        notes.append(f"left out {failed} failed cells")
    return _unflagged(_asked_for(ok, kinds, notes), notes)


def _kinds_of(row: Row) -> list[str]:
    """What in its encode the codec block (encoder, preset and quality value) does not tell."""
    return [kind for kind, (field, _) in VARIANTS.items() if row.get(field)]


def _asked_for(table: Table, kinds: Collection[str], notes: list[str]) -> Table:
    """Rows whose encode is what the codec block says of it, and those of the kinds asked for."""
    kept: Table = []
    left: Counter[str] = Counter()
    num_taken = 0
    for number, row in table:
        found = _kinds_of(row)
        missing = [kind for kind in found if kind not in kinds]
        left.update(missing)
        if not missing:
            kept.append((number, row))
            num_taken += bool(found)
    if num_taken:
        notes.append(f"took {num_taken} rows with {_listed(kinds)}, which the model is not told")
    if len(kept) < len(table):
        counted = ", ".join(f"{left[k]} of {VARIANTS[k][1]}" for k in VARIANTS if left[k])
        wanted = ",".join(kind for kind in VARIANTS if kind in kinds or left[kind])
        notes.append(
            f"left out {len(table) - len(kept)} rows that the model could not tell from others"
            f" ({counted}); `train --with {wanted}` takes them"
        )
    return kept


def _listed(kinds: Collection[str]) -> str:
    return " or ".join(VARIANTS[kind][1] for kind in VARIANTS if kind in kinds)


def _unflagged(table: Table, notes: list[str]) -> Table:
    flags = Counter(flag for _, row in table for flag in row.get("flags") or ())
    if not flags:
        return table
    clean = [(n, row) for n, row in table if not row.get("flags")]
    seen = ", ".join(f"{name} {count}" for name, count in sorted(flags.items()))
    notes.append(f"left out {len(table) - len(clean)} flagged rows ({seen})")
    return clean


def _keys(table: Table) -> frozenset[str]:
    return frozenset(str(row.get("key") or cell_name(row)) for _, row in _ok(table))


def _digest_of_cells(table: Table) -> str:
    return digest_of((row for _, row in _ok(table)), "key")


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Rows:
    """N rows of R records: row i is of `records[of[i]]`. `features` (N,6), `y` and `frame_index`
    (N,); `frame_index` counts from 0 within a record's key where the file does not say.
    """

    records: Sequence[Record]
    of: Ints
    features: Floats
    y: Floats
    frame_index: Ints

    def take(self, keep: NDArray[np.bool_]) -> _Rows:
        """The rows of the records that are kept, (R,) of bool."""
        where = keep[self.of]
        number = np.cumsum(keep) - 1
        return _Rows(
            records=[r for r, kept in zip(self.records, keep, strict=True) if kept],
            of=number[self.of[where]],
            features=self.features[where],
            y=self.y[where],
            frame_index=self.frame_index[where],
        )


def _of_records(records: Sequence[Record]) -> _Rows:
    """A row for every record."""
    position: Counter[str] = Counter()  # numbers the frames of old files, which have no frame_index
    index = []
    for r in records:
        index.append(position[r.key] if r.frame_index is None else int(r.frame_index))
        position[r.key] += 1
    features = np.array([r.features for r in records], dtype=np.float64)
    return _Rows(
        records=records,
        of=np.arange(len(records)),
        features=features.reshape(-1, NUM_FEATURES),
        y=np.array([r.score for r in records], dtype=np.float64),
        frame_index=np.array(index, dtype=np.int64),
    )


def _of_frames(
    file: Path, records: Sequence[Record], units: Sequence[tuple[str, str]], frames: Frames
) -> _Rows:
    """A row for every frame of the records, by key and frame number; `units` are key and cell of
    each record. Raises DatasetError for a record without frames.
    """
    number_of = {unit: i for i, unit in enumerate(units)}
    only = {key: i for i, (key, _) in enumerate(units)}  # older frames name no cell
    pairs, codes = frames.units()
    numbers = [only.get(k, -1) if c is None else number_of.get((k, c), -1) for k, c in pairs]
    of = np.array(numbers, dtype=np.int64)[codes] if pairs else np.empty(0, dtype=np.int64)
    rank = np.argsort(np.argsort(np.array([key for key, _ in units]), kind="stable"))
    kept = np.flatnonzero(of >= 0)
    index = frames.numbers["frame_index"]
    order = kept[np.lexsort((index[kept], rank[of[kept]]))]
    lacking = np.flatnonzero(np.bincount(of[kept], minlength=len(records)) == 0)
    if len(lacking):
        line = records[int(lacking[0])].line
        raise bad_cell(file, line, NO_FRAMES)
    return _Rows(
        records=records,
        of=of[order],
        features=frames.features()[order],
        y=frames.numbers["vmaf"][order],
        frame_index=index[order].astype(np.int64),
    )


def _assemble(
    path: Path,
    rows: _Rows,
    digest: str,
    frame_digest: str | None,
    notes: list[str],
    *,
    per_frame: bool,
) -> Dataset:
    teacher, features_of = _one_teacher(path, rows, notes)
    _check_groups(path, rows.records)
    if not per_frame:
        rows = _with_settings(rows, notes)
    _note_odd_presets(rows, notes)
    if not rows.records:
        raise DatasetError(f"{path} holds no usable row" + "".join(f"; {note}" for note in notes))
    records = rows.records
    strings = partial(_strings, rows)
    blocks = [codec_block(r.encoder, r.preset, r.quality) for r in records]
    quality = [np.nan if r.quality is None else r.quality for r in records]
    return Dataset(
        features=rows.features,
        codec=np.array(blocks, dtype=np.float64).reshape(-1, CODEC_DIM)[rows.of],
        y=rows.y,
        group=strings(lambda r: r.group),
        src=strings(lambda r: r.src),
        encoder=strings(lambda r: r.encoder or EXTERNAL),
        preset=strings(lambda r: r.preset or ""),
        crf=np.array(quality, dtype=np.float64)[rows.of],
        key=strings(lambda r: r.key),
        frame_index=rows.frame_index if per_frame else None,
        digest=digest,
        frame_digest=frame_digest,
        path=path,
        teacher=teacher,
        features_of=features_of,
        sources=_sources(records),
        notes=tuple(notes),
    )


def _with_settings(rows: _Rows, notes: list[str]) -> _Rows:
    """The rows that name encoder and quality value."""
    known = np.array([r.encoder is not None and r.quality is not None for r in rows.records])
    if known.all():
        return rows
    notes.append(f"left out {(~known).sum()} rows without encoder and quality value")
    return rows.take(known)


def _strings(rows: _Rows, pick: Callable[[Record], str]) -> Strings:
    """A text of each record, (N,) by row."""
    return np.array([pick(record) for record in rows.records], dtype=object)[rows.of]


def _one_teacher(path: Path, rows: _Rows, notes: list[str]) -> tuple[str | None, str]:
    """The teacher and the feature set of all rows. Raises DatasetError for two of either."""
    teachers = sorted({r.teacher for r in rows.records if r.teacher is not None})
    if len(teachers) > 1:
        raise DatasetError(
            f"{path} holds scores of {len(teachers)} teachers ({', '.join(teachers)}); train on one"
        )
    sets = sorted({r.features_of for r in rows.records})
    if len(sets) > 1:
        raise DatasetError(
            f"{path} holds {len(sets)} feature sets ({', '.join(sets)}); train on one"
        )
    counts = np.bincount(rows.of, minlength=len(rows.records))
    nameless = sum(int(n) for n, r in zip(counts, rows.records, strict=True) if r.teacher is None)
    if teachers and nameless:
        notes.append(
            f"{nameless} rows name no teacher: they are taken for scores of {teachers[0]}, which"
            " the others name"
        )
    return (teachers[0] if teachers else None), (sets[0] if sets else ORDINARY_FEATURES)


def _note_odd_presets(rows: _Rows, notes: list[str]) -> None:
    counts = np.bincount(rows.of, minlength=len(rows.records))
    odd: Counter[str] = Counter()
    for count, r in zip(counts.tolist(), rows.records, strict=True):
        if not knows_preset(r.encoder, r.preset):
            odd[f"{r.encoder} {r.preset}"] += count
    if odd:
        seen = ", ".join(f"{name} {count}" for name, count in sorted(odd.items()))
        notes.append(
            f"read {odd.total()} rows with an unknown preset as one of ordinal {DEFAULT_ORDINAL}"
            f" ({seen})"
        )


def _sources(records: Sequence[Record]) -> dict[str, tuple[str, ...]]:
    digests: dict[str, set[str]] = {}
    for r in records:
        digests.setdefault(r.group, set()).update([r.src_sha256] if r.src_sha256 else [])
    return {group: tuple(sorted(found)) for group, found in sorted(digests.items())}


def _check_groups(path: Path, records: Sequence[Record]) -> None:
    """Raise DatasetError for a source, or a file that sources were cut from, in two groups: a fold
    would hold out half of it.
    """
    group_of: dict[tuple[str, str], str] = {}
    for r in records:
        for what, name in (("source", r.src), ("source file with sha256", r.src_sha256)):
            if name and group_of.setdefault((what, name), r.group) != r.group:
                raise DatasetError(
                    f"{path}:{r.line}: the {what} {name} is in the groups {group_of[what, name]}"
                    f" and {r.group}, so a fold that holds one out would train on the other; give"
                    " both the same group"
                )
