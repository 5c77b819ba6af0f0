"""A corpus as arrays, and the folds that hold groups out.

path --rows.read--> rows --load--> Dataset(features (N,6), codec (N,14), y (N,), group (N,) ...) --*_folds--> Fold
"""  # noqa: E501

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from vmaf_train.contract import (
    CODEC_DIM,
    DEFAULT_ORDINAL,
    NUM_FEATURES,
    codec_block,
    feature_set,
    knows_preset,
)
from vmaf_train.corpus import rows as corpus_rows
from vmaf_train.corpus.digests import digest as digest_of
from vmaf_train.corpus.records import Record, cell_means, holds_frames, record
from vmaf_train.errors import DatasetError

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Strings = NDArray[np.object_]
LOSO, LOEO = "loso", "loeo"
NEVER_CHOSEN = ("demo", "dense")
"""Folders of runs/phase_a that are used only when they are named: the demo's own, and the curves
that no model may learn from.
"""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Dataset:
    """A corpus ready for training: N rows, each a cell or (`frame_index` is not None) a frame.

    `features` (N,6) float64 RAW canonical 6; `codec` (N,14) in [0,1]; `y` (N,) VMAF points.
    `group`, `src`, `encoder`, `preset`, `key` are (N,) str; `crf` (N,) float64 is the quality
    value, NaN where a scored pair has none. `digest` is the corpus digest, `frame_digest` that of
    the frame rows (None when they were not read). `features_of` names the feature set of all rows;
    `sources` are the sha256 of the source files of each group, as far as its rows tell them.
    `notes` are sentences about what was read and what was left out.
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

    def __len__(self) -> int:
        return len(self.y)

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
            f"the scores of {self.path} are those of {self.teacher}, and its features those of"
            f" {self.features_of}; sweep again with this release, which records the teacher's own"
        )


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Fold:
    """Row numbers to train on and row numbers held out; `name` says what is held out."""

    scheme: str
    name: str
    train: Ints
    test: Ints


def load(path: Path | str, *, per_frame: bool) -> Dataset:
    """The corpus at `path`: a run folder, its cells.jsonl, or a JSONL or parquet file of cells or
    of frames.

    `per_frame` asks for one row per frame, else one per cell (frames are then averaged over their
    cell). Failed cells, flagged rows and, for cells, rows without encoder or quality value are left
    out and counted in `notes`. Raises DatasetError for an unreadable file, rows of two teachers, a
    source in two groups, a row without all six features or a finite score (with its line number),
    or when nothing is left.
    """
    file, frames_file = _files(Path(path))
    table = corpus_rows.read(file)
    if not table:
        raise DatasetError(f"{file} holds no rows")
    notes: list[str] = []
    if holds_frames(table[0][1]):
        records = [record(file, number, row) for number, row in _unflagged(table, notes)]
        digest = digest_of((row for _, row in table), "src", "key", "frame_index")
        return _assemble(
            file,
            records if per_frame else cell_means(records),
            digest,
            digest,
            notes,
            per_frame,
        )
    records = [record(file, number, row) for number, row in _usable(table, notes)]
    digest = _digest_of_cells(table)
    if not per_frame:
        return _assemble(file, records, digest, None, notes, per_frame)
    if frames_file is None:
        raise DatasetError(
            f"{file} holds one row per cell and no frames lie beside it; this model learns from"
            " frames"
        )
    frames, frame_digest = _frames_of(frames_file, table, {r.key: r for r in records})
    return _assemble(file, frames, digest, frame_digest, notes, per_frame)


def corpus_digest(path: Path | str) -> str:
    """sha256 of the ok cell rows of a corpus without times and machine facts (its frame rows if it
    has no cells).

    The same for JSONL and parquet. Raises DatasetError for an unreadable corpus.
    """
    file, _ = _files(Path(path))
    table = corpus_rows.read(file)
    if table and holds_frames(table[0][1]):
        return digest_of((row for _, row in table), "src", "key", "frame_index")
    return _digest_of_cells(table)


def frame_digest(path: Path | str) -> str | None:
    """sha256 of the frame rows that belong to ok cells, whatever their order and file; None without
    frames.
    """
    file, frames_file = _files(Path(path))
    table = corpus_rows.read(file)
    if table and holds_frames(table[0][1]):
        return digest_of((row for _, row in table), "src", "key", "frame_index")
    return _digest_of_frames(_frame_rows(frames_file, _keys(table))) if frames_file else None


def has_frames(path: Path | str) -> bool:
    """True when the corpus at `path` has a row for every frame."""
    file, frames_file = _files(Path(path))
    return frames_file is not None or any(
        holds_frames(row) for _, row in corpus_rows.read(file)[:1]
    )


def corpus_files(path: Path | str) -> list[Path]:
    """The files that `load` reads: the rows, and the frame rows that lie beside them."""
    return [file for file in _files(Path(path)) if file is not None]


def newest_corpus(runs_dir: Path | str) -> Path:
    """The folder of the newest complete corpus, as `complete_corpora` says. Raises DatasetError
    when there is none.
    """
    return complete_corpora(runs_dir)[0][0]


def newest_usable(runs_dir: Path | str, *, per_frame: bool) -> tuple[Dataset, list[str]]:
    """The newest complete corpus that `load` accepts, and sentences on the folders that were passed
    over for it.

    Raises DatasetError, with those sentences, when there is none.
    """
    folders, notes = complete_corpora(runs_dir)
    for folder in folders:
        try:
            return load(folder, per_frame=per_frame), notes
        except (DatasetError, OSError) as failure:
            notes.append(f"passed over {folder}: {failure}")
    raise DatasetError(
        f"no corpus under {Path(runs_dir)} can be used: {'; '.join(notes)}; name one with --corpus"
    )


def complete_corpora(runs_dir: Path | str) -> tuple[list[Path], list[str]]:
    """The folders under `runs_dir`/phase_a whose sweep is complete, and sentences on those which
    are broken or are not.

    The first is the newest: its newest row has the greatest `finished_at`. Complete = every cell of
    the plan in `sweep.json` has a row. The folders of NEVER_CHOSEN are never among them. Raises
    DatasetError when there is none.
    """
    complete: list[tuple[str, Path]] = []
    notes: list[str] = []
    for plan_file in sorted(Path(runs_dir).glob("phase_a/*/sweep.json")):
        folder = plan_file.parent
        if folder.name in NEVER_CHOSEN or not (folder / "cells.jsonl").is_file():
            continue
        try:
            rows = [row for _, row in corpus_rows.read(folder / "cells.jsonl")]
            num_done, planned = _progress(plan_file, rows)
        except (DatasetError, OSError) as failure:
            notes.append(f"passed over {folder}: {failure}")
            continue
        if num_done == planned:
            complete.append(
                (max((str(row.get("finished_at") or "") for row in rows), default=""), folder)
            )
        else:
            notes.append(f"passed over {folder} ({num_done} of {planned} cells)")
    where = Path(runs_dir) / "phase_a"
    if not complete and notes:
        raise DatasetError(
            f"no complete corpus under {where}: {'; '.join(notes)}; finish the sweep, or name one"
            " with --corpus"
        )
    if not complete:
        raise DatasetError(
            f"no corpus under {where}; run `vmaf-tune corpus`, or name one with --corpus"
        )
    return [folder for _, folder in sorted(complete, reverse=True)], notes


def _progress(plan_file: Path, rows: Sequence[corpus_rows.Row]) -> tuple[int, int]:
    """How many cells of a sweep's plan have a row, and how many there are; a plan without a grid
    tells only the number.
    """
    done = {corpus_rows.cell_name(row) for row in rows}
    try:
        plan = json.loads(plan_file.read_text(encoding="utf-8"))
        if "grid" not in plan:
            return min(len(done), int(plan["num_cells"])), int(plan["num_cells"])
        planned = {str(pair["cell"]) for pair in plan.get("pairs", ())} | {
            f"{source}/{block['encoder']}/{block['preset']}/{int(quality) if int(quality) == quality else quality}"  # noqa: E501
            for block in plan["grid"]
            for source in block["sources"]
            for quality in block["quality"]
        }
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as failure:
        raise DatasetError(
            f"{plan_file} is not a readable plan ({type(failure).__name__}: {failure})"
        ) from failure
    return len(planned & done), len(planned)


def loso_folds(data: Dataset) -> list[Fold]:
    """One fold per group, holding exactly that group out. Raises DatasetError for fewer than two
    groups.
    """
    if len(data.groups) < 2:
        raise DatasetError(
            f"{data.path} has one group only; holding a group out needs at least two sources"
        )
    return [_fold(LOSO, name, data.group == name) for name in data.groups]


def loeo_folds(data: Dataset) -> list[Fold]:
    """One fold per encoder, holding exactly its rows out; none for a corpus of one encoder. The
    sources are shared.
    """
    names = sorted(set(data.encoder))
    return [_fold(LOEO, name, data.encoder == name) for name in names] if len(names) > 1 else []


def kfold_folds(data: Dataset, k: int) -> list[Fold]:
    """`k` folds of whole groups, dealt by size so that folds are even. Raises DatasetError for k >
    groups.
    """
    sizes = Counter(data.group)
    if not 2 <= k <= len(sizes):
        raise DatasetError(
            f"{k} folds of whole groups need 2..{len(sizes)} folds: {data.path} has {len(sizes)}"
            " groups"
        )
    load_of = [0] * k
    fold_of: dict[str, int] = {}
    for name in sorted(sizes, key=lambda g: (-sizes[g], g)):
        fold_of[name] = load_of.index(min(load_of))
        load_of[fold_of[name]] += sizes[name]
    where = np.array([fold_of[g] for g in data.group])
    return [_fold(f"kfold{k}", f"fold{i}", where == i) for i in range(k)]


def _fold(scheme: str, name: str, held_out: NDArray[np.bool_]) -> Fold:
    return Fold(
        scheme=scheme, name=name, train=np.flatnonzero(~held_out), test=np.flatnonzero(held_out)
    )


def _files(path: Path) -> tuple[Path, Path | None]:
    """(file of cell rows or the table itself, file of frame rows beside it)."""
    if path.is_dir():
        found = [
            path / name for name in ("cells.jsonl", "cells.parquet") if (path / name).is_file()
        ]
        if not found:
            raise DatasetError(
                f"{path} holds no cells.jsonl; name the folder of a sweep or a corpus file"
            )
        path = found[0]
    elif path.stem == "frames" and (path.parent / "cells.jsonl").is_file():
        path = path.parent / "cells.jsonl"
    if path.stem != "cells":
        return path, None
    beside = [path.parent / name for name in ("frames.jsonl", "frames.parquet")]
    return path, next((file for file in beside if file.is_file()), None)


def _ok(table: list[tuple[int, corpus_rows.Row]]) -> list[tuple[int, corpus_rows.Row]]:
    latest = corpus_rows.last_of_each_cell(table)
    return [(n, row) for n, row in latest if (row.get("status") or "ok") == "ok"]


def _usable(
    table: list[tuple[int, corpus_rows.Row]], notes: list[str]
) -> list[tuple[int, corpus_rows.Row]]:
    ok = _ok(table)
    failed = len(corpus_rows.last_of_each_cell(table)) - len(ok)
    if failed:
        notes.append(f"left out {failed} failed cells")
    return _unflagged(ok, notes)


def _unflagged(
    table: list[tuple[int, corpus_rows.Row]], notes: list[str]
) -> list[tuple[int, corpus_rows.Row]]:
    flags = Counter(flag for _, row in table for flag in row.get("flags") or ())
    if not flags:
        return table
    clean = [(n, row) for n, row in table if not row.get("flags")]
    seen = ", ".join(f"{name} {count}" for name, count in sorted(flags.items()))
    notes.append(f"left out {len(table) - len(clean)} flagged rows ({seen})")
    return clean


def _keys(table: list[tuple[int, corpus_rows.Row]]) -> set[str]:
    return {str(row.get("key") or corpus_rows.cell_name(row)) for _, row in _ok(table)}


def _digest_of_cells(table: list[tuple[int, corpus_rows.Row]]) -> str:
    return digest_of((row for _, row in _ok(table)), "key")


def _digest_of_frames(table: list[tuple[int, corpus_rows.Row]]) -> str:
    return digest_of((row for _, row in table), "key", "frame_index")


def _frame_rows(file: Path, keys: set[str]) -> list[tuple[int, corpus_rows.Row]]:
    return [
        (n, row)
        for n, row in corpus_rows.read(file)
        if str(row.get("key") or corpus_rows.cell_name(row)) in keys
    ]


def _frames_of(
    file: Path, cells: list[tuple[int, corpus_rows.Row]], kept: dict[str, Record]
) -> tuple[list[Record], str]:
    """Frame records of the kept cells (which give group, preset, quality and teacher), and the
    frame digest.
    """
    table = _frame_rows(file, _keys(cells))
    frames = []
    for number, row in table:
        frame = record(file, number, row)
        cell = kept.get(frame.key)
        if cell is not None:
            frames.append(
                replace(
                    cell,
                    line=number,
                    features=frame.features,
                    score=frame.score,
                    frame_index=frame.frame_index,
                )
            )
    expected = {str(row.get("key")): row.get("num_frames") for _, row in cells}
    found = Counter(frame.key for frame in frames)
    for key, cell in kept.items():
        wanted = expected.get(key) or max(found[key], 1)
        if found[key] != wanted:
            raise DatasetError(
                f"{file} holds {found[key]} of {wanted} frames of the cell in line {cell.line} of"
                " the cell rows; the corpus is damaged: run its sweep again"
            )
    return frames, _digest_of_frames(table)


def _assemble(
    path: Path,
    records: Sequence[Record],
    digest: str,
    frame_digest: str | None,
    notes: list[str],
    per_frame: bool,
) -> Dataset:
    teachers = sorted({r.teacher for r in records if r.teacher is not None})
    if len(teachers) > 1:
        raise DatasetError(
            f"{path} holds scores of {len(teachers)} teachers ({', '.join(teachers)}); train on one"
        )
    sets = sorted({r.features_of for r in records})
    if len(sets) > 1:
        raise DatasetError(
            f"{path} holds {len(sets)} feature sets ({', '.join(sets)}); train on one"
        )
    nameless = sum(r.teacher is None for r in records)
    if teachers and nameless:
        notes.append(
            f"{nameless} rows name no teacher: they are taken for scores of {teachers[0]}, which"
            " the others name"
        )
    _check_groups(path, records)
    if not per_frame:
        known = [r for r in records if r.encoder is not None and r.quality is not None]
        if len(known) < len(records):
            notes.append(
                f"left out {len(records) - len(known)} rows without encoder and quality value"
            )
        records = known
    odd = Counter(
        f"{r.encoder} {r.preset}" for r in records if not knows_preset(r.encoder, r.preset)
    )
    if odd:
        seen = ", ".join(f"{name} {count}" for name, count in sorted(odd.items()))
        notes.append(
            f"read {odd.total()} rows with an unknown preset as one of ordinal {DEFAULT_ORDINAL}"
            f" ({seen})"
        )
    if not records:
        raise DatasetError(f"{path} holds no usable row" + "".join(f"; {note}" for note in notes))

    def strings(pick: Callable[[Record], str]) -> Strings:
        return np.array([pick(r) for r in records], dtype=object)

    if per_frame:
        records = sorted(
            records, key=lambda r: (r.key, -1 if r.frame_index is None else r.frame_index)
        )
    position: Counter[str] = Counter()  # numbers the frames of old files, which have no frame_index
    frames = []
    for r in records:
        frames.append(position[r.key] if r.frame_index is None else int(r.frame_index))
        position[r.key] += 1
    return Dataset(
        features=np.array([r.features for r in records], dtype=np.float64).reshape(
            -1, NUM_FEATURES
        ),
        codec=np.array(
            [codec_block(r.encoder, r.preset, r.quality) for r in records], dtype=np.float64
        ).reshape(-1, CODEC_DIM),
        y=np.array([r.score for r in records], dtype=np.float64),
        group=strings(lambda r: r.group),
        src=strings(lambda r: r.src),
        encoder=strings(lambda r: r.encoder or corpus_rows.EXTERNAL),
        preset=strings(lambda r: r.preset or ""),
        crf=np.array(
            [np.nan if r.quality is None else r.quality for r in records], dtype=np.float64
        ),
        key=strings(lambda r: r.key),
        frame_index=np.array(frames, dtype=np.int64) if per_frame else None,
        digest=digest,
        frame_digest=frame_digest,
        path=path,
        teacher=teachers[0] if teachers else None,
        features_of=sets[0],
        sources=_sources(records),
        notes=tuple(notes),
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
