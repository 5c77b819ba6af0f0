"""A sweep file (TOML) -> what it asks for, as typed values; every mistake names file and key."""

from __future__ import annotations

import os
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from vmaftune.cell import parse_crop, parse_size
from vmaftune.errors import UsageError
from vmaftune.media.probe import frame_rate
from vmaftune.metrics import parse_metrics
from vmaftune.request.asked import Clip, Preparation
from vmaftune.request.values import (
    Axis,
    OptionWish,
    Size,
    parse_kbps,
    parse_scale,
    parse_sizes,
    parse_time,
    read_axis,
    read_options,
    words,
)

ALLOW = ("vfr", "interlaced", "hdr")
MAX_FRAMES = 10**7
MAX_THREADS = 64
_AXES_KEYS = {"presets", "quality", "options", "sizes", "maxrate", "bufsize"}
_WINDOW_KEYS = {"start", "frames", "samples", "sample_seconds", "chunk"}
_PREPARATION_KEYS = _WINDOW_KEYS | {
    "crop",
    "scale",
    "size",
    "fps",
    "pix_fmt",
    "allow",
    "deinterlace",
}
_SWEEP_KEYS = (
    _PREPARATION_KEYS
    | _AXES_KEYS
    | {"encoders", "sources", "source", "grid", "threads_per_encode", "vmaf_model", "metrics"}
    | {"out"}
)
_SOURCE_KEYS = _PREPARATION_KEYS | {"path", "name", "group"}
_GRID_KEYS = _AXES_KEYS | {"encoders", "sources"}
Table = Mapping[str, object]


@dataclass(frozen=True, slots=True, kw_only=True)
class Axes:
    """What varies beside the encoder, as it was written. The bound on the bitrate does not vary."""

    presets: Axis[str] = field(default_factory=Axis)
    quality: Axis[str] = field(default_factory=Axis)
    options: Axis[OptionWish] = field(default_factory=Axis)
    sizes: tuple[Size, ...] = ()
    maxrate_kbps: int | None = None
    bufsize_kbps: int | None = None

    def over(self, other: Axes) -> Axes:
        """These axes where they say something, else those of `other`."""
        bound = self if self.maxrate_kbps is not None else other
        return Axes(
            presets=self.presets.over(other.presets),
            quality=self.quality.over(other.quality),
            options=self.options.over(other.options),
            sizes=self.sizes or other.sizes,
            maxrate_kbps=bound.maxrate_kbps,
            bufsize_kbps=self.bufsize_kbps or bound.bufsize_kbps,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """One block of the grid as it was written: words for encoders, axes, globs of sources."""

    words: tuple[str, ...]
    axes: Axes
    where: str
    sources: tuple[str, ...] = ("*",)


@dataclass(frozen=True, slots=True, kw_only=True)
class SweepFile:
    """All that a sweep file says. `places` are folders and files to search for clips."""

    name: str = ""
    clips: tuple[Clip, ...] = ()
    places: tuple[Path, ...] = ()
    parts: tuple[Part, ...] = ()
    axes: Axes = field(default_factory=Axes)
    preparation: Preparation = field(default_factory=Preparation)
    threads: int | None = None
    teacher: str | None = None
    metrics: tuple[str, ...] = ()
    out: Path | None = None


def read_sweep(path: Path) -> SweepFile:
    """Read a sweep file. Raises UsageError naming file and key."""
    table = _parse(path)
    where = str(path)
    _check_keys(table, _SWEEP_KEYS, where)
    out, teacher = (_text(table, name, where) for name in ("out", "vmaf_model"))
    for name, value in (("out", out), ("vmaf_model", teacher)):
        if value == "":
            raise UsageError(f"{where}: {name} is empty; leave it out, or give it a value")
    threads = _whole(table, "threads_per_encode", where, f"a whole number from 1 to {MAX_THREADS}")
    axes = read_axes(table, where)
    return SweepFile(
        name=path.stem,
        clips=tuple(
            _clip(entry, path.parent, f"{where}, source {i}")
            for i, entry in enumerate(_tables(table, "source", where), 1)
        ),
        places=tuple(
            Path(os.path.relpath(path.parent / place))
            for place in _names(table.get("sources", []), f"{where}: sources")
        ),
        parts=_parts(table, axes, where),
        axes=axes,
        preparation=_preparation(table, where),
        threads=threads,
        teacher=teacher,
        metrics=_metrics(table, where),
        out=Path(out) if out else None,
    )


def _parse(path: Path) -> Table:
    if path.exists() and not path.is_file():
        raise UsageError(f"the sweep file {path} is a folder or a device; give a TOML file")
    try:
        # Notepad begins a file with a byte order mark.
        return tomllib.loads(path.read_text(encoding="utf-8-sig"))
    except OSError as failure:
        raise UsageError(f"the sweep file {path} cannot be read: {failure.strerror}") from failure
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, RecursionError) as failure:
        what = "it is nested too deeply" if isinstance(failure, RecursionError) else failure
        raise UsageError(f"the sweep file {path} is not TOML: {what}") from failure


def _parts(table: Table, axes: Axes, where: str) -> tuple[Part, ...]:
    """The blocks of the file; what is at its top level holds for each of them."""
    parts = []
    if "encoders" in table:
        encoders = _names(table["encoders"], f"{where}: encoders")
        parts.append(Part(words=encoders, axes=axes, where=where))
    for i, entry in enumerate(_tables(table, "grid", where), 1):
        here = f"{where}, grid {i}"
        _check_keys(entry, _GRID_KEYS, here)
        encoders = _names(entry.get("encoders", []), f"{here}: encoders")
        if not encoders:
            raise UsageError(f'{here} names no encoders; write them like encoders = ["x264"]')
        parts.append(
            Part(
                words=encoders,
                axes=read_axes(entry, here).over(axes),
                where=here,
                sources=_names(entry.get("sources", ["*"]), f"{here}: sources"),
            )
        )
    return tuple(parts)


def read_axes(table: Table, where: str) -> Axes:
    """The axes of a table, each under its name. Raises UsageError."""
    rates = {
        name: None if table.get(name) is None else parse_kbps(table[name], f"{where}: {name}")
        for name in ("maxrate", "bufsize")
    }
    return Axes(
        presets=read_axis(table.get("presets"), f"{where}: presets"),
        quality=read_axis(table.get("quality"), f"{where}: quality"),
        options=read_options(table.get("options"), f"{where}: options"),
        sizes=parse_sizes(table.get("sizes"), f"{where}: sizes"),
        maxrate_kbps=rates["maxrate"],
        bufsize_kbps=rates["bufsize"],
    )


def _clip(entry: Table, folder: Path, where: str) -> Clip:
    _check_keys(entry, _SOURCE_KEYS, where)
    place = _text(entry, "path", where)
    if not place:
        raise UsageError(f"{where} has no path")
    return Clip(
        path=Path(os.path.relpath(folder / place)),
        name=_text(entry, "name", where),
        group=_text(entry, "group", where),
        preparation=_preparation(entry, where),
    )


def _preparation(table: Table, where: str) -> Preparation:
    crop, scale, size = (_text(table, name, where) for name in ("crop", "scale", "size"))
    times = {
        name: None if table.get(name) is None else parse_time(table[name], f"{where}: {name}")
        for name in ("start", "sample_seconds", "chunk")
    }
    fps = table.get("fps")
    return check_preparation(
        Preparation(
            start=times["start"],
            frames=_whole(table, "frames", where, "a number of frames"),
            samples=_whole(table, "samples", where, "a number of windows"),
            sample_seconds=times["sample_seconds"],
            chunk=times["chunk"],
            crop=parse_crop(crop) if crop else None,
            scale=parse_scale(scale, f"{where}: scale") if scale else None,
            size=parse_size(size, f"{where}: size") if size else None,
            fps=None if fps is None else str(fps),
            pix_fmt=_text(table, "pix_fmt", where),
            allow=_names(table.get("allow", []), f"{where}: allow"),
            deinterlace=_switch(table, "deinterlace", where),
        ),
        where,
    )


def check_preparation(wanted: Preparation, where: str) -> Preparation:
    """`wanted` if every value makes sense beside the others. Raises UsageError."""
    if wanted.frames is not None and not 1 <= wanted.frames <= MAX_FRAMES:
        raise UsageError(
            f"{where}: frames is {wanted.frames}; a window has at least 1 frame and at most"
            f" {MAX_FRAMES}"
        )
    if wanted.samples is not None and not 1 <= wanted.samples <= 1000:
        raise UsageError(f"{where}: samples is {wanted.samples}; use 1 to 1000")
    for name, seconds in (("sample_seconds", wanted.sample_seconds), ("chunk", wanted.chunk)):
        if seconds is not None and not 0 < seconds <= 3600:
            raise UsageError(f"{where}: {name} is {float(seconds)}; use seconds up to 3600")
    lengths = [name for name in ("frames", "samples", "chunk") if getattr(wanted, name) is not None]
    if len(lengths) > 1:
        raise UsageError(
            f"{where}: {' and '.join(lengths)} both say how a clip is cut; keep one of them"
        )
    if wanted.sample_seconds is not None and wanted.samples is None:
        raise UsageError(f"{where}: sample_seconds needs samples, the number of windows")
    if wanted.fps is not None:
        frame_rate(wanted.fps, f"{where}: fps")
    unknown = [word for word in wanted.allow if word not in ALLOW]
    if unknown:
        raise UsageError(f"{where}: --allow takes {', '.join(ALLOW)}, not {unknown[0]}")
    return wanted


def _text(table: Table, name: str, where: str) -> str | None:
    value = table.get(name)
    if value is not None and not isinstance(value, str):
        raise UsageError(f"{where}: {name} takes a text, not {value!r}")
    return value


def _whole(table: Table, name: str, where: str, what: str) -> int | None:
    value = table.get(name)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int):
        raise UsageError(f"{where}: {name} takes {what}, not {value!r}")
    return value


def _switch(table: Table, name: str, where: str) -> bool:
    value = table.get(name, False)
    if not isinstance(value, bool):
        raise UsageError(f"{where}: {name} takes true or false, not {value!r}")
    return value


def _names(value: object, what: str) -> tuple[str, ...]:
    if isinstance(value, str):
        return words(value)
    if isinstance(value, list) and all(isinstance(v, str) for v in value):
        return tuple(value)
    raise UsageError(f"{what} takes a list of names, not {value!r}")


def _metrics(table: Table, where: str) -> tuple[str, ...]:
    named = _names(table.get("metrics", []), f"{where}: metrics")
    return parse_metrics(",".join(named), f"{where}: metrics") if named else ()


def _tables(table: Table, name: str, where: str) -> list[Table]:
    value = table.get(name, [])
    if not isinstance(value, list) or not all(isinstance(entry, dict) for entry in value):
        raise UsageError(f"{where}: {name} stands above a block of its own, written [[{name}]]")
    return value


def _check_keys(table: Table, known: set[str], where: str) -> None:
    extra = sorted(set(table) - known)
    if extra:
        raise UsageError(
            f"{where} holds {', '.join(extra)}, which no sweep knows; known are"
            f" {', '.join(sorted(known))}"
        )
