"""sweep.json: the plan of a run folder as a typed document, and whether two plans are the same.

A plan --plan_document--> Document --to_json--> sweep.json --read_document--> Document. `agreed`
says what a folder has to hold once another plan wants to go into it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from functools import cached_property
from pathlib import Path

import msgspec

from vmaftune.cell import SWEEP, Cell, Color, Pair, Raw, Setting, Window, parse_crop
from vmaftune.costs import counted
from vmaftune.encoders import ENCODERS, OptionSet, format_quality
from vmaftune.errors import FolderError, UsageError

SCHEMA_VERSION = 1
# What the same source has in common in two plans; the rest may differ (a path, a flag).
_IDENTITY = (
    "name",
    "group",
    "sha256",
    "start_frame",
    "num_frames",
    "crop",
    "scale",
    "deinterlace",
    "pix_fmt",
    "fps",
    "raw",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceEntry:
    """One window as sweep.json holds it: `cell.Window` with its crop as text. `pads` are the frames
    before and after it that are encoded and not scored; None, and not written, for none. Of
    `every` frames the first one is taken; None for all.
    """

    name: str
    group: str
    path: str
    size_bytes: int
    sha256: str
    start_frame: int
    num_frames: int | None
    crop: str | None
    scale: tuple[int, int] | None
    deinterlace: bool
    pix_fmt: str
    fps: str
    sar: str
    color: tuple[str, str, str, str]
    stream_index: int
    raw: tuple[int, int, str, str] | None
    width: int
    height: int
    expected_frames: int
    flags: tuple[str, ...]
    pads: tuple[int, int] | None = None
    every: int | None = None

    def identity(self) -> dict[str, object]:
        """What must be equal for two plans to mean the same source."""
        pads = {"pads": self.pads} if self.pads else {}
        every = {"every": self.every} if self.every else {}
        return {**{name: getattr(self, name) for name in _IDENTITY}, **pads, **every}


@dataclass(frozen=True, slots=True, kw_only=True)
class GridEntry:
    """A part of the grid: a setting without its quality value, the values, and the sources.

    The last four say what `cell.Setting` says; sweep.json leaves them out where they are None.
    """

    encoder: str
    preset: str
    quality: tuple[int | float, ...]
    sources: tuple[str, ...]
    size: tuple[int, int] | None = None
    options: OptionSet | None = None
    maxrate_kbps: int | None = None
    bufsize_kbps: int | None = None

    def kind(self) -> tuple[object, ...]:
        """What a block's cells share: everything but value and source."""
        return (
            self.encoder,
            self.preset,
            self.size,
            self.options,
            self.maxrate_kbps,
            self.bufsize_kbps,
        )

    def settings(self) -> list[Setting]:
        """The settings of its cells, one for each value. Raises KeyError for an encoder that the
        encoder table does not have.
        """
        return [
            Setting(
                encoder=ENCODERS[self.encoder],
                preset=self.preset,
                quality=quality,
                size=self.size,
                options=self.options,
                maxrate_kbps=self.maxrate_kbps,
                bufsize_kbps=self.bufsize_kbps,
            )
            for quality in self.quality
        ]

    def ids(self) -> Iterable[str]:
        """The ids of its cells."""
        variant = Setting.name_of(self.options, self.maxrate_kbps, self.bufsize_kbps)
        tail = (f"@{self.size[0]}x{self.size[1]}" if self.size else "") + (
            f"+{variant}" if variant else ""
        )
        for source in self.sources:
            for quality in self.quality:
                yield f"{source}/{self.encoder}/{self.preset}/{format_quality(quality)}{tail}"


@dataclass(frozen=True, slots=True, kw_only=True)
class PairEntry:
    """One scored pair: its id, the distorted file, and what decides its numbers."""

    cell: str
    distorted: str
    identity: Mapping[str, object]


@dataclass(frozen=True, kw_only=True)
class Document:
    """A run folder's plan. `open` is true where a question adds cells as it goes.

    `extra` holds fields that this version does not know; they are written back.
    """

    sources: tuple[SourceEntry, ...]
    grid: tuple[GridEntry, ...]
    teacher: tuple[str, ...]
    threads_per_encode: tuple[int, ...]
    num_cells: int
    pairs: tuple[PairEntry, ...] = ()
    open: bool = False
    skipped_encoders: tuple[str, ...] = ()
    argv: tuple[str, ...] = ()
    created_at: str = ""
    schema_version: int = SCHEMA_VERSION
    extra: Mapping[str, object] = field(default_factory=dict)

    @cached_property
    def cell_ids(self) -> frozenset[str]:
        """Ids of all cells: those of the grid, and scored pairs."""
        of_pairs = {pair.cell for pair in self.pairs}
        return frozenset(of_pairs.union(*(block.ids() for block in self.grid)))

    @cached_property
    def source_identities(self) -> Mapping[str, Mapping[str, object]]:
        """What decides the sources, by name."""
        return {source.name: source.identity() for source in self.sources}

    @cached_property
    def pair_identities(self) -> Mapping[str, Mapping[str, object]]:
        """What decides the scored pairs, by id."""
        return {pair.cell: pair.identity for pair in self.pairs}

    def identity(self) -> dict[str, object]:
        """What two plans share when they are the same: sources by content and preparation, cells,
        teacher, threads.
        """
        return {
            "sources": self.source_identities,
            "cells": sorted(self.cell_ids),
            "pairs": self.pair_identities,
            "teacher": self.teacher,
            "threads_per_encode": self.threads_per_encode,
        }

    def to_json(self) -> dict[str, object]:
        """The plan as sweep.json holds it."""
        written: dict[str, object] = {
            "schema_version": self.schema_version,
            "argv": list(self.argv),
            "created_at": self.created_at,
            "sources": [_source(source) for source in self.sources],
            "teacher": list(self.teacher),
            "threads_per_encode": list(self.threads_per_encode),
            "num_cells": self.num_cells,
            "grid": [_plain(block, leave_out_none=True) for block in self.grid],
        }
        if self.pairs:
            written["pairs"] = [_plain(pair) for pair in self.pairs]
        if self.open:
            written["open"] = True
        return {**written, "skipped_encoders": list(self.skipped_encoders), **self.extra}


def _source(entry: SourceEntry) -> dict[str, object]:
    """A window's entry; plans without padding are written as they were before it was known."""
    found = _plain(entry)
    absent = {name for name in ("pads", "every") if found[name] is None}
    return {name: value for name, value in found.items() if name not in absent}


def _plain(value: object, *, leave_out_none: bool = False) -> dict[str, object]:
    """A dataclass as the plain values of JSON; the optional fields at the end may be left out."""
    found: dict[str, object] = msgspec.to_builtins(value)
    if not leave_out_none:
        return found
    return {name: entry for name, entry in found.items() if entry is not None}


def source_entry(window: Window) -> SourceEntry:
    """A window as sweep.json holds it."""
    raw = window.raw
    color = window.color
    return SourceEntry(
        name=window.name,
        group=window.group,
        path=window.path,
        size_bytes=window.size_bytes,
        sha256=window.sha256,
        start_frame=window.start_frame,
        num_frames=window.num_frames,
        crop=str(window.crop) if window.crop else None,
        scale=window.scale,
        deinterlace=window.deinterlace,
        pix_fmt=window.pix_fmt,
        fps=window.fps,
        sar=window.sar,
        color=(color.primaries, color.transfer, color.matrix, color.range),
        stream_index=window.stream_index,
        raw=(raw.width, raw.height, raw.fps, raw.pix_fmt) if raw else None,
        width=window.width,
        height=window.height,
        expected_frames=window.expected_frames,
        flags=window.flags,
        pads=(window.pad_before, window.pad_after)
        if window.pad_before or window.pad_after
        else None,
        every=window.every if window.every > 1 else None,
    )


def window_of(entry: SourceEntry) -> Window:
    """The window that `source_entry` wrote. It is reached from the beginning of its file: where to
    seek to is not kept.
    """
    primaries, transfer, matrix, span = entry.color
    raw = entry.raw
    before, after = entry.pads or (0, 0)
    return Window(
        name=entry.name,
        group=entry.group,
        path=entry.path,
        sha256=entry.sha256,
        size_bytes=entry.size_bytes,
        start_frame=entry.start_frame,
        num_frames=entry.num_frames,
        expected_frames=entry.expected_frames,
        crop=parse_crop(entry.crop) if entry.crop else None,
        scale=entry.scale,
        deinterlace=entry.deinterlace,
        width=entry.width,
        height=entry.height,
        pix_fmt=entry.pix_fmt,
        fps=entry.fps,
        sar=entry.sar,
        color=Color(primaries=primaries, transfer=transfer, matrix=matrix, range=span),
        stream_index=entry.stream_index,
        raw=Raw(width=raw[0], height=raw[1], fps=raw[2], pix_fmt=raw[3]) if raw else None,
        flags=entry.flags,
        pad_before=before,
        pad_after=after,
        every=entry.every or 1,
    )


def plan_document(cells: Sequence[Cell], windows: Sequence[Window]) -> Document:
    """The document of a plan of cells over windows."""
    return Document(
        sources=tuple(source_entry(window) for window in windows),
        grid=_grid(cells),
        teacher=tuple(sorted({cell.teacher for cell in cells})),
        threads_per_encode=tuple(sorted({cell.threads for cell in cells})),
        num_cells=len(cells),
    )


def pair_document(pairs: Sequence[Pair]) -> Document:
    """The document of a plan of scored pairs: no grid, but every pair by name and content."""
    references = {pair.reference.name: pair.reference for pair in pairs}
    return Document(
        sources=tuple(source_entry(window) for window in references.values()),
        grid=(),
        teacher=tuple(sorted({pair.teacher for pair in pairs})),
        threads_per_encode=(),
        num_cells=len(pairs),
        pairs=tuple(
            PairEntry(cell=pair.id, distorted=pair.distorted.path, identity=pair.identity())
            for pair in pairs
        ),
    )


def _grid(cells: Iterable[Cell]) -> tuple[GridEntry, ...]:
    """Cells folded into blocks: values of one setting on one source, then sources of equal
    values.
    """
    blocks: dict[tuple[object, ...], GridEntry] = {}
    for cell in cells:
        setting = cell.setting
        one = GridEntry(
            encoder=cell.encoder.name,
            preset=cell.preset,
            quality=(cell.quality,),
            sources=(cell.window.name,),
            size=setting.size,
            options=setting.options,
            maxrate_kbps=setting.maxrate_kbps,
            bufsize_kbps=setting.bufsize_kbps,
        )
        known = blocks.get((cell.window.name, *one.kind()))
        values = (*known.quality, cell.quality) if known else one.quality
        blocks[(cell.window.name, *one.kind())] = replace(one, quality=values)
    return _joined(blocks.values())


def _joined(blocks: Iterable[GridEntry]) -> tuple[GridEntry, ...]:
    """Blocks of equal values joined into one for all their sources."""
    found: dict[tuple[object, ...], GridEntry] = {}
    for block in blocks:
        key = (block.quality, *block.kind())
        known = found.get(key)
        sources = (*known.sources, *block.sources) if known else block.sources
        found[key] = replace(block, sources=sources)
    return tuple(found.values())


def read_document(path: Path) -> Document:
    """The sweep.json at `path`. Raises FolderError for a file that is not a plan, and
    FileNotFoundError.
    """
    names = {f.name for f in fields(Document)} - {"extra"}
    try:
        found = msgspec.json.decode(path.read_bytes(), type=dict[str, object])
        extra = {name: value for name, value in found.items() if name not in names}
        known = {name: value for name, value in found.items() if name in names}
        document = msgspec.convert({**known, "extra": extra}, Document)
    except FileNotFoundError:
        raise
    except OSError as failure:
        raise FolderError(f"{path} cannot be read: {failure.strerror}") from failure
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as failure:
        raise FolderError(
            f"{path} is not the plan of a run ({_short(failure)}); restore it, or measure into"
            " another folder"
        ) from failure
    if document.schema_version != SCHEMA_VERSION:
        raise FolderError(
            f"{path} has schema_version {document.schema_version}, and this version reads"
            f" {SCHEMA_VERSION}; update vmaf-tune, or measure into another folder"
        )
    return document


def require_plan(folder: Path) -> Document:
    """The plan of the run in `folder`. Raises UsageError where it holds none, and FolderError where
    its sweep.json is not a plan.
    """
    try:
        return read_document(folder / SWEEP)
    except FileNotFoundError as failure:
        raise UsageError(f"{folder} holds no sweep ({SWEEP} is missing)") from failure


def _short(failure: Exception) -> str:
    if isinstance(failure, RecursionError):
        return "it is nested too deeply"
    return str(failure)


def conflict(old: Document, new: Document) -> str | None:
    """What the second plan says otherwise of what both have, in a sentence's part; None when
    nothing.
    """
    for name, before in old.source_identities.items():
        after = new.source_identities.get(name)
        if after is not None and after != before:
            key = next(k for k in before if before[k] != after[k])
            return f"source {name} has {key} {after[key]} instead of {before[key]}"
    for cell, identity in old.pair_identities.items():
        if new.pair_identities.get(cell, identity) != identity:
            return f"the files or settings of {cell} are not the same"
    if old.teacher != new.teacher:
        return f"teacher is {_listed(new.teacher)} instead of {_listed(old.teacher)}"
    if old.threads_per_encode != new.threads_per_encode:
        is_now, was = _listed(new.threads_per_encode), _listed(old.threads_per_encode)
        return f"threads_per_encode is {is_now} instead of {was}"
    return None


def _listed(values: Sequence[object]) -> str:
    return ", ".join(map(str, values)) or "none"


def difference(old: Document, new: Document) -> str | None:
    """What the second plan changes or leaves out, in a sentence's part; None when nothing."""
    clash = conflict(old, new)
    if clash is not None:
        return clash
    added = sorted(new.cell_ids - old.cell_ids)
    gone = sorted(old.cell_ids - new.cell_ids)
    parts = [
        f"{counted(len(ids), 'cell')} {word}, {ids[0]} for one"
        for ids, word in ((added, "more"), (gone, "fewer"))
        if ids
    ]
    return " and ".join(parts) or None


def is_part(old: Document, new: Document) -> bool:
    """True when every source and cell of the second plan stands in the first, with the same
    settings.
    """
    sources, pairs = old.source_identities, old.pair_identities
    return (
        all(sources.get(name) == source for name, source in new.source_identities.items())
        and all(pairs.get(cell) == pair for cell, pair in new.pair_identities.items())
        and old.teacher == new.teacher
        and old.threads_per_encode == new.threads_per_encode
        and new.cell_ids <= old.cell_ids
    )


def merge(old: Document, new: Document) -> Document:
    """The union of two plans that do not contradict each other (`conflict` is None); what is not
    cells or sources comes from the second.
    """
    values: dict[tuple[object, ...], GridEntry] = {}
    for block in (*old.grid, *new.grid):
        for source in block.sources:
            key = (*block.kind(), source)
            known = values[key].quality if key in values else ()
            more = tuple(q for q in block.quality if q not in known)
            values[key] = replace(block, sources=(source,), quality=(*known, *more))
    return replace(
        new,
        sources=tuple({s.name: s for s in (*old.sources, *new.sources)}.values()),
        grid=tuple(values.values()),
        pairs=tuple({p.cell: p for p in (*old.pairs, *new.pairs)}.values()),
        num_cells=len(old.cell_ids | new.cell_ids),
        extra={**old.extra, **new.extra},
    )


def agreed(
    folder: Path, new: Document, *, extend: bool, part: bool, has_rows: bool = False
) -> Document:
    """What sweep.json of `folder` has to hold for the plan `new`: what is there, `new`, or both
    together. `has_rows` says that the folder holds rows already.

    Raises FolderError naming the first difference, and the way out.
    """
    try:
        old = read_document(folder / SWEEP)
    except FileNotFoundError:
        if has_rows:
            raise FolderError(
                f"{folder} holds rows but no {SWEEP}; write elsewhere with --out"
            ) from None
        return new
    change = difference(old, new)
    if change is None or part and is_part(old, new):
        return old
    clash = conflict(old, new)
    if not extend:
        hint = "" if clash else ", or add the cells with --extend"
        raise FolderError(
            f"{folder} holds another plan: {change}; write elsewhere with --out{hint}"
        )
    if clash is not None:
        raise FolderError(
            f"--extend adds cells to {folder} and changes none: {clash}; write elsewhere with --out"
        )
    return merge(old, new)
