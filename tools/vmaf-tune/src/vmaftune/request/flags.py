"""What was asked for: a sweep file and the flags over it, read and checked before any clip is
opened.
"""

from __future__ import annotations

import os
import tomllib
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from fractions import Fraction
from pathlib import Path
from typing import Any

from vmaftune.cell import ENCODES, SWEEP, TEACHER, TMP, parse_crop, parse_size
from vmaftune.encoders import ENCODERS, Encoder, Selection, format_quality, select
from vmaftune.errors import SourceError, UsageError
from vmaftune.media.probe import SUFFIXES

ALLOW = ("vfr", "interlaced", "hdr")
MAX_VALUES = 1000
_SWEEP_KEYS = {
    "encoders",
    "presets",
    "quality",
    "sources",
    "source",
    "grid",
    "start",
    "frames",
    "crop",
    "scale",
    "size",
    "fps",
    "pix_fmt",
    "threads_per_encode",
    "vmaf_model",
    "allow",
    "deinterlace",
    "out",
}
_SOURCE_KEYS = {
    "path",
    "name",
    "group",
    "start",
    "frames",
    "crop",
    "scale",
    "size",
    "fps",
    "pix_fmt",
    "allow",
    "deinterlace",
}
_GRID_KEYS = {"encoders", "presets", "quality", "sources"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Preparation:
    """How a source becomes a reference. `start` is in seconds; None or empty means as
    the clip is.
    """

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
        return Preparation(
            **{
                name: (
                    getattr(self, name)
                    if getattr(self, name) not in (None, (), False)
                    else getattr(other, name)
                )
                for name in Preparation.__dataclass_fields__
            }
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Clip:
    """A source as it was asked for."""

    path: Path
    name: str | None = None
    group: str | None = None
    preparation: Preparation = field(default_factory=Preparation)


@dataclass(frozen=True, slots=True, kw_only=True)
class Block:
    """A part of the grid: encoders with presets and quality values, for the sources that match the
    globs.

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


def parse_values(text: str, what: str) -> list[str]:
    """A list (`19,25`) or a range with its end (`19:37:6`) as the texts of its values. Raises
    UsageError.
    """
    values: list[str] = []
    for part in (p.strip() for p in text.split(",")):
        if not part:
            raise UsageError(
                f"{what}: {text!r} holds an empty value; write it like 19,25 or 19:37:6"
            )
        if ":" not in part:
            values.append(part)
            continue
        try:
            low, high, step = (Fraction(p) for p in part.split(":"))
        except (ValueError, ZeroDivisionError) as failure:
            raise UsageError(
                f"{what}: a range is START:END:STEP such as 19:37:6, not {part!r}"
            ) from failure
        if step <= 0 or high < low or (high - low) / step > MAX_VALUES:
            raise UsageError(
                f"{what}: the range {part} is empty or longer than {MAX_VALUES}; START:END:STEP"
                " goes upward"
            )
        count = int((high - low) / step) + 1
        values += [format_quality(float(low + i * step)) for i in range(count)]
    if len(set(values)) != len(values):
        raise UsageError(f"{what}: {text!r} names a value twice")
    return values


def words(text: str | None) -> tuple[str, ...]:
    """The words of a list with commas, `nvenc, qsv`; none for None."""
    return tuple(part.strip() for part in (text or "").split(",") if part.strip())


def refuse_empty(given: Mapping[str, object]) -> None:
    """Raises UsageError for a flag, by its name, whose value is empty (think of --quality "$Q")."""
    for name, value in given.items():
        if value == "" or isinstance(value, list) and "" in value:
            what = "a source" if name == "sources" else f"--{name.replace('_', '-')}"
            raise UsageError(f"{what} is empty; leave it out, or give it a value")


def per_encoder(
    text: str | None, encoders: Sequence[Encoder], what: str, others: Collection[Encoder] = ()
) -> dict[str, list[str]]:
    """`--quality` and `--presets`: a bare list for every encoder, or `x264=fast,slow;svtav1=10,5`
    per encoder.

    Returns encoder name -> texts; an encoder that is not named has no entry, and one of `others` is
    passed over. Raises UsageError.
    """
    if text is None:
        return {}
    parts = [p.strip() for p in text.split(";") if p.strip()]
    if not parts:
        raise UsageError(f"{what} is empty")
    if "=" not in text:
        if len(parts) > 1:
            raise UsageError(
                f"{what}: {text!r} has several lists; name the encoder of each, like"
                " x264=20,26;svtav1=30"
            )
        return {row.name: parse_values(parts[0], what) for row in encoders}
    chosen: dict[str, list[str]] = {}
    present = {row.name for row in encoders}
    for part in parts:
        word, separator, values = part.partition("=")
        if not separator:
            raise UsageError(f"{what}: {part!r} names no encoder; write it like x264={part}")
        named = select([word.strip()]).encoders
        rows = [row for row in named if row.name in present]
        if not rows and not any(row in others for row in named):
            raise UsageError(
                f"{what} names {word.strip()}, which is not among the encoders of this sweep"
            )
        for row in rows:
            if row.name in chosen:
                raise UsageError(f"{what} names {row.name} twice")
            chosen[row.name] = parse_values(values, f"{what} of {row.name}")
    return chosen


def _written(values: Mapping[str, Sequence[str]]) -> str | None:
    """What `per_encoder` reads as `values`; None for nothing."""
    return ";".join(f"{name}={','.join(texts)}" for name, texts in values.items()) or None


def _strings(value: Any, what: str) -> tuple[str, ...]:
    if isinstance(value, str):
        return words(value)
    if isinstance(value, list) and all(isinstance(v, str) for v in value):
        return tuple(value)
    raise UsageError(f"{what} takes a list of names, not {value!r}")


def _grammar(value: Any, what: str) -> str | None:
    """A TOML value for presets or quality as the grammar's text: a text, a list, or a table per
    encoder.
    """
    if value is None or isinstance(value, str):
        return value
    if isinstance(value, list):
        return ",".join(str(v) for v in value)
    if isinstance(value, dict):
        return ";".join(f"{name}={_grammar(v, what)}" for name, v in value.items())
    if isinstance(value, int | float):
        return str(value)
    raise UsageError(
        f"{what}: {value!r} is not understood; use a text, a list, or a table per encoder"
    )


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
        raise UsageError(
            f"{where} holds {', '.join(extra)}, which no sweep knows; known are"
            f" {', '.join(sorted(known))}"
        )


def _preparation(table: Mapping[str, Any], where: str) -> Preparation:
    def take(name: str, kinds: tuple[type, ...], hint: str) -> Any:
        value = table.get(name)
        if value is not None and (
            not isinstance(value, kinds) or isinstance(value, bool) != (bool in kinds)
        ):
            raise UsageError(f"{where}: {name} takes {hint}, not {value!r}")
        return value

    fps = table.get("fps")
    return check_preparation(
        Preparation(
            start=take("start", (int, float), "seconds"),
            frames=take("frames", (int,), "a number of frames"),
            crop=take("crop", (str,), "a text such as 968x544+156+88"),
            scale=take("scale", (str,), "a text such as 640x360"),
            size=take("size", (str,), "a text such as 1920x1080"),
            fps=None if fps is None else str(fps),
            pix_fmt=take("pix_fmt", (str,), "a text such as yuv420p"),
            allow=_strings(table.get("allow", []), f"{where}: allow"),
            deinterlace=bool(take("deinterlace", (bool,), "true or false")),
        ),
        where,
    )


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
    """A sweep file: its top-level table, its clips and its grid blocks. Raises UsageError naming
    file and key.
    """
    try:
        table = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as failure:
        raise UsageError(f"the sweep file {path} cannot be read: {failure.strerror}") from failure
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as failure:
        raise UsageError(f"the sweep file {path} is not TOML: {failure}") from failure
    _known(table, _SWEEP_KEYS, str(path))
    for name in ("out", "vmaf_model"):
        if _text(table, name, str(path)) == "":
            raise UsageError(f"{path}: {name} is empty; leave it out, or give it a value")
    clips = []
    for i, entry in enumerate(_tables(table, "source", str(path)), 1):
        where = f"{path}, source {i}"
        _known(entry, _SOURCE_KEYS, where)
        if not isinstance(entry.get("path"), str):
            raise UsageError(f"{where} has no path")
        clips.append(
            Clip(
                path=Path(os.path.relpath(path.parent / entry["path"])),
                name=_text(entry, "name", where),
                group=_text(entry, "group", where),
                preparation=_preparation(entry, where),
            )
        )
    for place in _strings(table.get("sources", []), f"{path}: sources"):
        clips += find_clips([Path(os.path.relpath(path.parent / place))])
    blocks = []
    for i, entry in enumerate(_tables(table, "grid", str(path)), 1):
        where = f"{path}, grid {i}"
        _known(entry, _GRID_KEYS, where)
        if not _strings(entry.get("encoders", []), f"{where}: encoders"):
            raise UsageError(f'{where} names no encoders; write them like encoders = ["x264"]')
        blocks.append(
            Block(
                encoders=_strings(entry["encoders"], f"{where}: encoders"),
                presets=_grammar(entry.get("presets", table.get("presets")), f"{where}: presets"),
                quality=_grammar(entry.get("quality", table.get("quality")), f"{where}: quality"),
                sources=_strings(entry.get("sources", ["*"]), f"{where}: sources"),
            )
        )
    if "encoders" in table:
        blocks.insert(
            0,
            Block(
                encoders=_strings(table["encoders"], f"{path}: encoders"),
                presets=_grammar(table.get("presets"), f"{path}: presets"),
                quality=_grammar(table.get("quality"), f"{path}: quality"),
            ),
        )
    return table, tuple(clips), tuple(blocks)


def _files_in(place: Path) -> Iterator[Path]:
    """Files directly or deeper inside a folder, but for hidden ones and for what runs wrote (their
    folders hold sweep.json).
    """
    for root, folders, names in os.walk(place):
        ours = SWEEP in names
        if ours and Path(root) != place:
            folders.clear()
            continue
        # `place` itself may be a run's folder, with clips of the user beside what the run wrote.
        folders[:] = [
            n for n in folders if not n.startswith(".") and not (ours and n in (TMP, ENCODES))
        ]
        yield from (Path(root, n) for n in names if not n.startswith("."))


def find_clips(places: Sequence[Path]) -> list[Clip]:
    """Video files named, and those directly or deeper inside folders named, in name order; not the
    encodes of runs.

    Raises SourceError for a place that does not exist or a folder without a video.
    """
    clips: list[Clip] = []
    for place in places:
        if place.is_dir():
            inside = sorted(
                p for p in _files_in(place) if p.suffix.lower() in SUFFIXES and p.is_file()
            )
            if not inside:
                known = " ".join(SUFFIXES)
                raise SourceError(
                    f"{place} holds no video; put clips into it, or name other files or folders"
                    f" (known: {known})"
                )
            clips += [Clip(path=p) for p in inside]
        elif place.is_file():
            if place.suffix.lower() not in SUFFIXES:
                raise SourceError(f"{place}: a source is one of {' '.join(SUFFIXES)}")
            clips.append(Clip(path=place))
        else:
            raise SourceError(
                f"there is no {place}; name files or folders of clips, or put some into sources/"
            )
    return clips


def _for_encoders(block: Block, words: tuple[str, ...]) -> Block:
    """The block for other encoders: its texts may speak of ones that are not among them."""
    rows, known = select(words).encoders, tuple(ENCODERS.values())
    return replace(
        block,
        encoders=words,
        presets=_written(per_encoder(block.presets, rows, "presets", known)),
        quality=_written(per_encoder(block.quality, rows, "quality", known)),
    )


def _flags_over(
    blocks: Sequence[Block], presets: str | None, quality: str | None
) -> tuple[Block, ...]:
    """The blocks with `--presets` and `--quality` over their own; where a flag names encoders, the
    others keep theirs.
    """
    rows = [select(block.encoders).encoders for block in blocks]
    every = {row.name: row for own in rows for row in own}.values()
    chosen = [row for row in every if any(b.only is None or row.name in b.only for b in blocks)]

    def over(
        flag: str | None, own: str | None, members: Sequence[Encoder], what: str
    ) -> str | None:
        if flag is None:
            return own
        wanted = per_encoder(flag, chosen, what)
        return _written(
            per_encoder(own, members, what, every)
            | {r.name: wanted[r.name] for r in members if r.name in wanted}
        )

    return tuple(
        replace(
            b,
            presets=over(presets, b.presets, own, "--presets"),
            quality=over(quality, b.quality, own, "--quality"),
        )
        for b, own in zip(blocks, rows, strict=True)
    )


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
    """Flags over a sweep file. Raises UsageError; the second value is the file's top-level table
    (empty without one).
    """
    table, clips, blocks = read_sweep(sweep) if sweep else ({}, (), ())
    common = preparation.over(_preparation(table, str(sweep)))
    if places:
        clips = tuple(find_clips(places))
    # A flag wins over a source's own entry, which wins over the file's top level.
    clips = tuple(
        replace(c, preparation=preparation.over(c.preparation.over(common))) for c in clips
    )
    defaults = Block(
        encoders=("software",),
        presets=_grammar(table.get("presets"), f"{sweep}: presets"),
        quality=_grammar(table.get("quality"), f"{sweep}: quality"),
    )
    if encoders is not None:
        # A flag narrows the file's blocks; an encoder that is in none of them gets a block of its
        # own.
        asked = words(encoders)
        names = frozenset(row.name for row in select(asked).encoders)
        listed = {row.name for b in blocks for row in select(b.encoders).encoders}
        blocks = tuple(replace(b, only=names) for b in blocks)
        new = tuple(w for w in asked if not {row.name for row in select([w]).encoders} <= listed)
        blocks += (_for_encoders(defaults, new),) if new else ()
    if not blocks:
        blocks = (defaults,)
    blocks = _flags_over(blocks, presets, quality)
    count = threads if threads is not None else table.get("threads_per_encode", 1)
    if not isinstance(count, int) or isinstance(count, bool) or not 1 <= count <= 64:
        raise UsageError(f"--threads-per-encode is {count}; use 1 to 64")
    return (
        Request(
            clips=clips,
            blocks=blocks,
            preparation=common,
            threads=count,
            teacher=teacher if teacher is not None else table.get("vmaf_model", TEACHER),
            name=sweep.stem if sweep else "",
        ),
        table,
    )
