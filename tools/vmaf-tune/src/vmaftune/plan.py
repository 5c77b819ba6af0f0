"""Sweep file and flags -> sources and cells. Everything is checked here, before anything runs."""

from __future__ import annotations

import fnmatch
import os
import re
import tomllib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from fractions import Fraction
from pathlib import Path
from typing import Any, TypeVar

from vmaftune import probe as probing
from vmaftune.cell import TEACHER, Cell, Source, digest, parse_crop, parse_size
from vmaftune.encoders import Encoder, Selection, format_quality, select
from vmaftune.errors import SourceError, UsageError
from vmaftune.versions import sha256_file

T = TypeVar("T")
ALLOW = ("vfr", "interlaced", "hdr")
MAX_VALUES = 1000
_SWEEP_KEYS = {
    "encoders", "presets", "quality", "sources", "source", "grid", "start", "frames", "crop", "scale", "size", "fps",
    "pix_fmt", "threads_per_encode", "vmaf_model", "allow", "deinterlace", "out",
}  # fmt: skip
_SOURCE_KEYS = {"path", "name", "group", "start", "frames", "crop", "scale", "size", "fps", "pix_fmt", "allow",
                "deinterlace"}  # fmt: skip
_GRID_KEYS = {"encoders", "presets", "quality", "sources"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Preparation:
    """How a source becomes a reference. `start` is in seconds; None or empty means as the clip is."""

    start: float | None = None
    frames: int | None = None
    crop: str | None = None
    scale: str | None = None
    size: str | None = None
    fps: str | None = None
    pix_fmt: str | None = None
    allow: tuple[str, ...] = ()
    deinterlace: bool = False

    def over(self, other: Preparation) -> Preparation:
        """This preparation where it says something, else `other`."""
        return Preparation(**{
            name: getattr(self, name) if getattr(self, name) not in (None, (), False) else getattr(other, name)
            for name in Preparation.__dataclass_fields__
        })  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Clip:
    """A source as it was asked for."""

    path: Path
    name: str | None = None
    group: str | None = None
    preparation: Preparation = field(default_factory=Preparation)


@dataclass(frozen=True, slots=True, kw_only=True)
class Block:
    """A part of the grid: encoders with presets and quality values, for the sources that match the globs.

    `only` narrows it to some of its encoders; the texts may still speak of the others.
    """

    encoders: tuple[str, ...]
    presets: str | None = None
    quality: str | None = None
    sources: tuple[str, ...] = ("*",)
    only: frozenset[str] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """A sweep file and the flags over it, before any file of the sources was opened."""

    clips: tuple[Clip, ...]
    blocks: tuple[Block, ...]
    preparation: Preparation
    teacher: str
    threads: int
    name: str

    def selection(self) -> Selection:
        """All encoders that the blocks ask for, with which of them were named in full."""
        words = [word for block in self.blocks for word in block.encoders]
        found = select(words)
        only = [block.only for block in self.blocks if block.only is not None]
        keep = frozenset().union(*only) if only else {row.name for row in found.encoders}
        return replace(found, encoders=tuple(row for row in found.encoders if row.name in keep))


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """All cells of a sweep, in order, with what made them."""

    cells: tuple[Cell, ...]
    sources: tuple[Source, ...]
    name: str
    notices: tuple[str, ...] = ()

    @property
    def num_frames(self) -> int:
        """Frames to encode over all cells."""
        return sum(cell.num_frames for cell in self.cells)

    def document(self) -> dict[str, Any]:
        """The plan as sweep.json holds it."""
        return {
            "sources": [
                {
                    "name": s.name, "group": s.group, "path": s.path, "size_bytes": s.size_bytes, **s.identity(),
                    "width": s.width, "height": s.height, "expected_frames": s.expected_frames, "flags": list(s.flags),
                }
                for s in self.sources
            ],
            "teacher": sorted({c.teacher for c in self.cells}),
            "threads_per_encode": sorted({c.threads for c in self.cells}),
            "num_cells": len(self.cells),
            "grid": _grid(self.cells),
        }  # fmt: skip


def _grid(cells: Sequence[Cell]) -> list[dict[str, Any]]:
    """Cells folded into blocks of source x encoder x preset -> quality values."""
    blocks: dict[tuple[str, str, str], list[float]] = {}
    for cell in cells:
        blocks.setdefault((cell.source.name, cell.encoder.name, cell.preset), []).append(cell.quality)
    by_values: dict[tuple[str, str, tuple[float, ...]], list[str]] = {}
    for (source, encoder, preset), values in blocks.items():
        by_values.setdefault((encoder, preset, tuple(values)), []).append(source)
    return [
        {"encoder": encoder, "preset": preset, "quality": list(values), "sources": sources}
        for (encoder, preset, values), sources in by_values.items()
    ]


def grid_ids(document: Mapping[str, Any]) -> set[str]:
    """Cell ids of a sweep.json: those of its grid, and of its scored pairs."""
    return {pair["cell"] for pair in document.get("pairs", ())} | {
        f"{source}/{block['encoder']}/{block['preset']}/{format_quality(q)}"
        for block in document["grid"]
        for source in block["sources"]
        for q in block["quality"]
    }


def parse_values(text: str, what: str) -> list[str]:
    """A list (`19,25`) or a range with its end (`19:37:6`) as the texts of its values. Raises UsageError."""
    values: list[str] = []
    for part in (p.strip() for p in text.split(",")):
        if not part:
            raise UsageError(f"{what}: {text!r} holds an empty value; write it like 19,25 or 19:37:6")
        if ":" not in part:
            values.append(part)
            continue
        try:
            low, high, step = (Fraction(p) for p in part.split(":"))
        except (ValueError, ZeroDivisionError) as failure:
            raise UsageError(f"{what}: a range is START:END:STEP such as 19:37:6, not {part!r}") from failure
        if step <= 0 or high < low or (high - low) / step > MAX_VALUES:
            raise UsageError(f"{what}: the range {part} is empty or longer than {MAX_VALUES}; START:END:STEP goes upward")
        count = int((high - low) / step) + 1
        values += [format_quality(float(low + i * step)) for i in range(count)]
    if len(set(values)) != len(values):
        raise UsageError(f"{what}: {text!r} names a value twice")
    return values


def per_encoder(text: str | None, encoders: Sequence[Encoder], what: str) -> dict[str, list[str]]:
    """`--quality` and `--presets`: a bare list for every encoder, or `x264=fast,slow;svtav1=10,5` per encoder.

    Returns encoder name -> texts; an encoder that is not named has no entry. Raises UsageError.
    """
    if text is None:
        return {}
    parts = [p.strip() for p in text.split(";") if p.strip()]
    if not parts:
        raise UsageError(f"{what} is empty")
    if "=" not in text:
        if len(parts) > 1:
            raise UsageError(f"{what}: {text!r} has several lists; name the encoder of each, like x264=20,26;svtav1=30")
        return {row.name: parse_values(parts[0], what) for row in encoders}
    chosen: dict[str, list[str]] = {}
    present = {row.name for row in encoders}
    for part in parts:
        word, separator, values = part.partition("=")
        if not separator:
            raise UsageError(f"{what}: {part!r} names no encoder; write it like x264={part}")
        rows = [row for row in select([word.strip()]).encoders if row.name in present]
        if not rows:
            raise UsageError(f"{what} names {word.strip()}, which is not among the encoders of this sweep")
        for row in rows:
            if row.name in chosen:
                raise UsageError(f"{what} names {row.name} twice")
            chosen[row.name] = parse_values(values, f"{what} of {row.name}")
    return chosen


def _number(text: str, row: Encoder, what: str) -> float:
    try:
        return row.check_quality(float(text))
    except ValueError as failure:
        raise UsageError(f"{what} of {row.name}: {text!r} is not a number") from failure


def block_cells(
    block: Block, usable: Sequence[Encoder] | None, sources: Sequence[Source], request: Request
) -> list[Cell]:
    """The cells of one block of the grid, each checked against the encoder table; `usable` None keeps every encoder."""
    encoders = select(block.encoders).encoders
    presets = per_encoder(block.presets, encoders, "--presets")
    quality = per_encoder(block.quality, encoders, "--quality")
    chosen = [s for s in sources if any(fnmatch.fnmatchcase(s.name, glob) for glob in block.sources)]
    if not chosen:
        raise UsageError(f"no source matches {', '.join(block.sources)} of a [[grid]] block")
    cells = []
    for row in encoders:
        if usable is not None and row not in usable or block.only is not None and row.name not in block.only:
            continue
        names = [row.check_preset(p) for p in presets.get(row.name, [row.default_preset])]
        texts = quality.get(row.name)
        values = [_number(t, row, "--quality") for t in texts] if texts else list(row.default_quality)
        cells += [
            Cell(source=s, encoder=row, preset=p, quality=q, threads=request.threads, teacher=request.teacher)
            for s in chosen for p in names for q in values
        ]  # fmt: skip
    return cells


def _strings(value: Any, what: str) -> tuple[str, ...]:
    if isinstance(value, str):
        return tuple(part.strip() for part in value.split(",") if part.strip())
    if isinstance(value, list) and all(isinstance(v, str) for v in value):
        return tuple(value)
    raise UsageError(f"{what} takes a list of names, not {value!r}")


def _grammar(value: Any, what: str) -> str | None:
    """A TOML value for presets or quality as the grammar's text: a text, a list, or a table per encoder."""
    if value is None or isinstance(value, str):
        return value
    if isinstance(value, list):
        return ",".join(str(v) for v in value)
    if isinstance(value, dict):
        return ";".join(f"{name}={_grammar(v, what)}" for name, v in value.items())
    if isinstance(value, int | float):
        return str(value)
    raise UsageError(f"{what}: {value!r} is not understood; use a text, a list, or a table per encoder")


def _text(table: Mapping[str, Any], name: str, where: str) -> str | None:
    value = table.get(name)
    if value is not None and not isinstance(value, str):
        raise UsageError(f"{where}: {name} takes a text, not {value!r}")
    return value


def _tables(table: Mapping[str, Any], name: str, where: str) -> list[dict[str, Any]]:
    value = table.get(name, [])
    if not isinstance(value, list) or not all(isinstance(entry, dict) for entry in value):
        raise UsageError(f"{where}: {name} stands above a block of its own, written [[{name}]]")
    return value


def _known(table: Mapping[str, Any], known: set[str], where: str) -> None:
    extra = sorted(set(table) - known)
    if extra:
        raise UsageError(f"{where} holds {', '.join(extra)}, which no sweep knows; known are {', '.join(sorted(known))}")


def _preparation(table: Mapping[str, Any], where: str) -> Preparation:
    def take(name: str, kinds: tuple[type, ...], hint: str) -> Any:
        value = table.get(name)
        if value is not None and (not isinstance(value, kinds) or isinstance(value, bool) != (bool in kinds)):
            raise UsageError(f"{where}: {name} takes {hint}, not {value!r}")
        return value

    fps = table.get("fps")
    return check_preparation(Preparation(
        start=take("start", (int, float), "seconds"), frames=take("frames", (int,), "a number of frames"),
        crop=take("crop", (str,), "a text such as 968x544+156+88"), scale=take("scale", (str,), "a text such as 640x360"),
        size=take("size", (str,), "a text such as 1920x1080"), fps=None if fps is None else str(fps),
        pix_fmt=take("pix_fmt", (str,), "a text such as yuv420p"),
        allow=_strings(table.get("allow", []), f"{where}: allow"),
        deinterlace=bool(take("deinterlace", (bool,), "true or false")),
    ), where)  # fmt: skip


def check_preparation(wanted: Preparation, where: str) -> Preparation:
    """`wanted` if every value makes sense. Raises UsageError."""
    if wanted.start is not None and not 0 <= wanted.start < 1e7:
        raise UsageError(f"{where}: start is {wanted.start}; it takes seconds from 0 on")
    if wanted.frames is not None and not 1 <= wanted.frames <= 10**7:
        raise UsageError(f"{where}: frames is {wanted.frames}; a window has at least 1 frame")
    if wanted.crop:
        parse_crop(wanted.crop)
    if wanted.scale:
        parse_size(wanted.scale)
    unknown = [word for word in wanted.allow if word not in ALLOW]
    if unknown:
        raise UsageError(f"{where}: --allow takes {', '.join(ALLOW)}, not {unknown[0]}")
    return wanted


def read_sweep(path: Path) -> tuple[dict[str, Any], tuple[Clip, ...], tuple[Block, ...]]:
    """A sweep file: its top-level table, its clips and its grid blocks. Raises UsageError naming file and key."""
    try:
        table = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as failure:
        raise UsageError(f"the sweep file {path} cannot be read: {failure.strerror}") from failure
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as failure:
        raise UsageError(f"the sweep file {path} is not TOML: {failure}") from failure
    _known(table, _SWEEP_KEYS, str(path))
    for name in ("out", "vmaf_model"):
        _text(table, name, str(path))
    clips = []
    for i, entry in enumerate(_tables(table, "source", str(path)), 1):
        where = f"{path}, source {i}"
        _known(entry, _SOURCE_KEYS, where)
        if not isinstance(entry.get("path"), str):
            raise UsageError(f"{where} has no path")
        clips.append(
            Clip(
                path=path.parent / entry["path"], name=_text(entry, "name", where), group=_text(entry, "group", where),
                preparation=_preparation(entry, where),
            )
        )  # fmt: skip
    for place in _strings(table.get("sources", []), f"{path}: sources"):
        clips += find_clips([path.parent / place])
    blocks = []
    for i, entry in enumerate(_tables(table, "grid", str(path)), 1):
        where = f"{path}, grid {i}"
        _known(entry, _GRID_KEYS, where)
        blocks.append(
            Block(
                encoders=_strings(entry.get("encoders", []), f"{where}: encoders"),
                presets=_grammar(entry.get("presets"), f"{where}: presets"),
                quality=_grammar(entry.get("quality"), f"{where}: quality"),
                sources=_strings(entry.get("sources", ["*"]), f"{where}: sources"),
            )
        )  # fmt: skip
    if "encoders" in table:
        blocks.insert(0, Block(
            encoders=_strings(table["encoders"], f"{path}: encoders"),
            presets=_grammar(table.get("presets"), f"{path}: presets"),
            quality=_grammar(table.get("quality"), f"{path}: quality"),
        ))  # fmt: skip
    return table, tuple(clips), tuple(blocks)


def find_clips(places: Sequence[Path]) -> list[Clip]:
    """Video files named, and those directly or deeper inside folders named, in name order.

    Raises SourceError for a place that does not exist or a folder without a video.
    """
    clips: list[Clip] = []
    for place in places:
        if place.is_dir():
            inside = sorted(
                p for p in place.rglob("*") if p.is_file() and p.suffix.lower() in probing.SUFFIXES
                and not any(part.startswith(".") for part in p.relative_to(place).parts)
            )  # fmt: skip
            if not inside:
                raise SourceError(f"{place} holds no video; known are {' '.join(probing.SUFFIXES)}")
            clips += [Clip(path=p) for p in inside]
        elif place.is_file():
            if place.suffix.lower() not in probing.SUFFIXES:
                raise SourceError(f"{place}: a source is one of {' '.join(probing.SUFFIXES)}")
            clips.append(Clip(path=place))
        else:
            raise SourceError(f"there is no {place}; name files or folders of clips, or put some into sources/")
    return clips


def name_clips(clips: Sequence[Clip]) -> list[str]:
    """A name for every clip: the one given, else the file's stem, with folder and suffix added where two would be equal.

    Raises UsageError for names given twice and for names that cannot stand in an id.
    """
    forms: tuple[Callable[[Clip], str], ...] = (
        lambda c: c.path.stem,
        lambda c: f"{c.path.resolve().parent.name}_{c.path.stem}",
        lambda c: f"{c.path.resolve().parent.name}_{c.path.name}",
    )
    given = [c.name for c in clips if c.name]
    for form in forms:
        names = [c.name or form(c) for c in clips]
        if len(set(names)) == len(names):
            break
    else:
        twice = sorted({n for n in names if names.count(n) > 1})
        raise UsageError(
            f"{len(names) - len(set(names)) + 1} sources would be called {twice[0]!r}"
            + (" (name is given twice)" if twice[0] in given else "; give each a name in a sweep file")
        )
    bad = [n for n in names if "/" in n or n != n.strip() or not n or re.search(r"[\x00-\x1f\x7f\ud800-\udfff]", n)]
    if bad:
        raise UsageError(
            f"{bad[0]!r} cannot be a source's name: no slash, control character, broken UTF-8 or space at the ends; "
            "rename the file, or give it a name in a sweep file"
        )
    return names


def resolve_source(clip: Clip, name: str, common: Preparation) -> tuple[Source, list[str]]:
    """Probe one clip and fix its window and preparation; also gives notices.

    Raises SourceError with the way out for interlaced, VFR and HDR clips, odd sizes, and windows outside the clip.
    """
    wanted = clip.preparation.over(common)
    raw = None
    if clip.path.suffix.lower() == ".yuv":
        raw = probing.raw_format(clip.path, wanted.size, wanted.fps, wanted.pix_fmt)
    facts = probing.probe(clip.path, raw)
    where, notices, flags = str(clip.path), [], []
    if facts.num_streams > 1:
        notices.append(f"{where} has {facts.num_streams} video streams; the first is used")
    if facts.interlaced and not wanted.deinterlace:
        if "interlaced" not in wanted.allow:
            raise SourceError(
                f"{where} is interlaced: VMAF compares progressive frames; convert it with --deinterlace, "
                "or take the woven frames as they are with --allow interlaced"
            )
        flags.append("interlaced")
    if wanted.deinterlace and facts.interlaced:
        flags.append("deinterlaced")
    rate = Fraction(facts.fps)
    start = round(Fraction(wanted.start or 0).limit_denominator(10**6) * rate)
    end = start + wanted.frames if wanted.frames is not None else facts.num_packets
    if facts.vfr_at is not None and start < facts.vfr_at < end:
        if "vfr" not in wanted.allow:
            raise SourceError(
                f"{where} has a variable frame rate (frame {facts.vfr_at}); cut a window without it, convert it to a "
                f"constant rate first, or pair its frames by index at {facts.fps} fps with --allow vfr"
            )
        flags.append("vfr")
    if facts.color.transfer in probing.HDR_TRANSFERS:
        if "hdr" not in wanted.allow:
            raise SourceError(
                f"{where} is HDR ({probing.HDR_TRANSFERS[facts.color.transfer]}): no public VMAF model is made for it; "
                "measure it all the same, with marked rows, with --allow hdr"
            )
        flags.append("hdr")
    if end > facts.num_packets or start >= facts.num_packets:
        raise SourceError(
            f"{where} has {facts.num_packets} frames; the window asks for frames {start} to {end - 1}"
        )
    width, height, crop, scale = _geometry(where, facts, wanted)
    source = Source(
        name=name, group=clip.group or name, path=os.path.relpath(clip.path), sha256="",
        size_bytes=clip.path.stat().st_size, start_frame=start, num_frames=wanted.frames,
        expected_frames=facts.num_packets - start if wanted.frames is None else wanted.frames, crop=crop, scale=scale,
        deinterlace=wanted.deinterlace and facts.interlaced, width=width, height=height, pix_fmt=facts.pix_fmt,
        fps=facts.fps, sar=facts.sar, color=facts.color, stream_index=facts.stream_index, raw=raw, flags=tuple(flags),
    )  # fmt: skip
    return source, notices


def _geometry(where: str, facts: probing.Facts, wanted: Preparation) -> tuple[int, int, Any, Any]:
    width, height = facts.width, facts.height
    crop = parse_crop(wanted.crop) if wanted.crop else None
    if crop:
        if crop.x + crop.width > width or crop.y + crop.height > height:
            raise SourceError(f"{where} is {width}x{height}; the crop {crop} does not fit inside")
        width, height = crop.width, crop.height
    scale = parse_size(wanted.scale) if wanted.scale else None
    if scale == (width, height):
        scale = None
    if scale:
        width, height = scale
    if facts.pix_fmt.startswith("yuv420p") and height % 2 or not facts.pix_fmt.startswith("yuv444p") and width % 2:
        raise SourceError(
            f"{where} would be {width}x{height}, and encoders with subsampled chroma need even sizes; cut it with "
            f"--crop {width - width % 2}x{height - height % 2}+0+0 or resize it with --scale"
        )
    if width < 64 or height < 64:
        raise SourceError(f"{where} would be {width}x{height}; encoders and libvmaf need at least 64x64")
    return width, height, crop, scale


def hashed(source: Source, cache: Mapping[tuple[str, int], str]) -> Source:
    """`source` with the sha256 of its file; `cache` holds digests known by (path, size) in this process."""
    known = cache.get((source.path, source.size_bytes))
    return replace(source, sha256=known or sha256_file(source.path))


def resolve_sources(request: Request) -> tuple[tuple[Source, ...], tuple[str, ...]]:
    """The sources of a request, probed and hashed, and notices about them. Raises UsageError, SourceError."""
    clips = request.clips or tuple(find_clips([Path("sources")]))
    names = name_clips(clips)
    sources, notices = [], []
    digests: dict[tuple[str, int], str] = {}
    twins: dict[str, str] = {}  # the keys of their cells would be the same
    for clip, name in zip(clips, names, strict=True):
        source, said = resolve_source(clip, name, request.preparation)
        source = hashed(source, digests)
        digests[source.path, source.size_bytes] = source.sha256
        twin = twins.setdefault(digest(source.identity()), name)
        if twin != name:
            raise SourceError(f"{twin} and {name} are the same clip and window: {clip.path}; leave one of them out")
        sources.append(source)
        notices += said
    return tuple(sources), tuple(notices)


def resolve(
    request: Request,
    sources: Sequence[Source],
    usable: Sequence[Encoder] | None = None,
    *,
    select_globs: Sequence[str] = (),
    notices: Sequence[str] = (),
) -> Plan:
    """All cells of a request over its sources.

    `usable` leaves out encoders that cannot run here; None keeps all. `select_globs` keeps cells whose id matches one.
    Raises UsageError.
    """
    cells: dict[str, Cell] = {}
    for block in request.blocks:
        for cell in block_cells(block, usable, sources, request):
            cells.setdefault(cell.id, cell)
    if select_globs:
        cells = {i: c for i, c in cells.items() if any(fnmatch.fnmatchcase(i, g) for g in select_globs)}
        if not cells:
            raise UsageError(f"no cell matches --select {' '.join(select_globs)}; see the ids with --dry-run --json")
    used = {cell.source.name for cell in cells.values()}
    return Plan(
        cells=tuple(cells.values()), sources=tuple(s for s in sources if s.name in used), name=request.name,
        notices=tuple(notices),
    )  # fmt: skip


def default_folder(request: Request, plan: Plan) -> Path:
    """`runs/phase_a/<sweep>`, or `<source folder>-<8 hex of sources, preparation and grid>`; no versions in it."""
    root = Path("runs/phase_a")
    if request.name:
        return root / request.name
    folder = Path(plan.sources[0].path).resolve().parent.name or "sweep"
    return root / f"{re.sub(r'[^A-Za-z0-9._-]+', '_', folder)}-{digest(plan_identity(plan.document()))[:8]}"


def plan_identity(document: Mapping[str, Any]) -> dict[str, Any]:
    """What two plans must share to be the same sweep: sources by content and preparation, cells, teacher, threads."""
    source_keys = ("name", "group", "sha256", "start_frame", "num_frames", "crop", "scale", "deinterlace", "pix_fmt",
                   "fps", "raw")  # fmt: skip
    return {
        "sources": {s["name"]: {k: s[k] for k in source_keys} for s in document["sources"]},
        "cells": sorted(grid_ids(document)),
        "pairs": {pair["cell"]: pair["identity"] for pair in document.get("pairs", ())},
        "teacher": document["teacher"],
        "threads_per_encode": document["threads_per_encode"],
    }


def difference(old: Mapping[str, Any], new: Mapping[str, Any]) -> str | None:
    """What the second of two sweep.json documents changes in a sentence's part; None when nothing."""
    a, b = plan_identity(old), plan_identity(new)
    for name, before in a["sources"].items():
        after = b["sources"].get(name)
        if after is not None and after != before:
            key = next(k for k in before if before[k] != after[k])
            return f"source {name} has {key} {after[key]} instead of {before[key]}"
    for cell, before in a["pairs"].items():
        if b["pairs"].get(cell, before) != before:
            return f"the files or settings of {cell} are not the same"
    for key in ("teacher", "threads_per_encode"):
        if a[key] != b[key]:
            return f"{key} is {', '.join(map(str, b[key]))} instead of {', '.join(map(str, a[key]))}"
    added = sorted(set(b["cells"]) - set(a["cells"]))
    gone = sorted(set(a["cells"]) - set(b["cells"]))
    if added or gone:
        parts = [f"{len(ids)} cells {word}, {ids[0]} for one" for ids, word in ((added, "more"), (gone, "fewer")) if ids]
        return " and ".join(parts)
    return None


def is_part(old: Mapping[str, Any], new: Mapping[str, Any]) -> bool:
    """True when every source and cell of the second sweep.json document stands in the first, with the same settings."""
    a, b = plan_identity(old), plan_identity(new)
    same = all(a["sources"].get(name) == source for name, source in b["sources"].items())
    same = same and all(a["pairs"].get(cell) == pair for cell, pair in b["pairs"].items())
    rest = all(a[key] == b[key] for key in ("teacher", "threads_per_encode"))
    return same and rest and set(b["cells"]) <= set(a["cells"])


def request_from(
    *,
    sweep: Path | None,
    places: Sequence[Path],
    encoders: str | None,
    presets: str | None,
    quality: str | None,
    preparation: Preparation,
    threads: int | None,
    teacher: str | None,
) -> tuple[Request, Mapping[str, Any]]:
    """Flags over a sweep file. Raises UsageError; the second value is the file's top-level table (empty without one)."""
    table, clips, blocks = read_sweep(sweep) if sweep else ({}, (), ())
    common = preparation.over(_preparation(table, str(sweep)))
    if places:
        clips = tuple(find_clips(places))
    # A flag wins over a source's own entry, which wins over the file's top level.
    clips = tuple(replace(c, preparation=preparation.over(c.preparation.over(common))) for c in clips)
    if encoders:
        # A flag narrows the file's blocks; an encoder that is in none of them gets a block of its own.
        words = tuple(w for w in encoders.split(",") if w.strip())
        names = frozenset(row.name for row in select(words).encoders)
        listed = {row.name for b in blocks for row in select(b.encoders).encoders}
        blocks = tuple(replace(b, only=names) for b in blocks)
        new = tuple(w for w in words if not {row.name for row in select([w]).encoders} <= listed)
        blocks += (Block(encoders=new),) if new else ()
    if not blocks:
        blocks = (Block(encoders=("software",)),)
    if presets or quality:
        blocks = tuple(replace(b, presets=presets or b.presets, quality=quality or b.quality) for b in blocks)
    count = threads if threads is not None else table.get("threads_per_encode", 1)
    if not isinstance(count, int) or isinstance(count, bool) or not 1 <= count <= 64:
        raise UsageError(f"--threads-per-encode is {count}; use 1 to 64")
    return Request(
        clips=clips, blocks=blocks, preparation=common, teacher=teacher or table.get("vmaf_model", TEACHER), threads=count,
        name=sweep.stem if sweep else "",
    ), table  # fmt: skip
