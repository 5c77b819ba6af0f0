"""Flags over a sweep file -> one request, checked against the encoder table before any clip is
opened.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, fields, replace
from fractions import Fraction
from itertools import product
from pathlib import Path

from vmaftune.cell import TEACHER, Features, Setting, parse_crop, parse_size
from vmaftune.encoders import Encoder, OptionSet, Selection, select
from vmaftune.errors import UsageError
from vmaftune.metrics import parse_metrics
from vmaftune.request.asked import Block, Preparation, Request
from vmaftune.request.sources import find_clips
from vmaftune.request.sweep_file import (
    MAX_THREADS,
    Axes,
    Part,
    SweepFile,
    check_preparation,
    read_sweep,
)
from vmaftune.request.values import (
    Axis,
    OptionWish,
    parse_kbps,
    parse_scale,
    parse_sizes,
    parse_time,
    read_axis,
    read_options,
    refuse_empty,
    words,
)

COMMAND_LINE = "the command line"
# What --quick stands for where nothing else is said.
QUICK_ENCODERS = ("x264", "svtav1")
QUICK_QUALITY = "x264=18:42:6;svtav1=20:60:10"
QUICK_SECONDS = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Flags:
    """The flags of the command line that say what to measure, as typed values. `given` are the
    names of those that were given.
    """

    places: tuple[Path, ...] = ()
    sweep: Path | None = None
    encoders: tuple[str, ...] | None = None
    axes: Axes = field(default_factory=Axes)
    preparation: Preparation = field(default_factory=Preparation)
    threads: int | None = None
    teacher: str | None = None
    metrics: tuple[str, ...] | None = None
    out: Path | None = None
    quick: bool = False
    skip_unfit: bool = False
    given: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True, kw_only=True)
class Texts:
    """The same flags as they were typed, under the names of the command line."""

    sources: Sequence[str] = ()
    sweep: str | None = None
    encoders: str | None = None
    presets: str | None = None
    quality: str | None = None
    options: str | None = None
    sizes: str | None = None
    maxrate: str | None = None
    bufsize: str | None = None
    start: str | None = None
    frames: int | None = None
    samples: int | None = None
    sample_seconds: str | None = None
    chunk: str | None = None
    crop: str | None = None
    scale: str | None = None
    size: str | None = None
    fps: str | None = None
    pix_fmt: str | None = None
    allow: str | None = None
    deinterlace: bool = False
    threads_per_encode: int | None = None
    vmaf_model: str | None = None
    metrics: str | None = None
    out: str | None = None
    quick: bool = False
    skip_unfit: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class RunFlags:
    """The flags that say how a run goes. None of them changes a number of a cell, but `features`,
    the set that is kept of scored pairs.
    """

    select: tuple[str, ...] = ()
    features: Features = "six"
    extend: bool = False
    jobs: int | None = None
    keep_encodes: bool = False
    timeout: float | None = None
    scratch_budget: int | None = None
    cluster: str | None = None
    workers: int | None = None
    insecure: bool = False
    shard: str | None = None
    gpu: tuple[str, ...] = ()
    scorer: str = "auto"
    skip_unusable: bool = False
    retry_failed: bool = False
    verify: bool = False
    dry_run: bool = False
    ffmpeg: str | None = None
    as_json: bool = False

    def given(self) -> frozenset[str]:
        """The names of those that are not what they are by default."""
        usual = RunFlags()
        return frozenset(
            f.name for f in fields(self) if getattr(self, f.name) != getattr(usual, f.name)
        )


def parse_run_flags(
    *, select: Sequence[str], features: str, gpu: str | None, scorer: str, pairs: bool
) -> RunFlags:
    """The flags of a run that are words, checked; the rest is put in by `dataclasses.replace`.
    Raises UsageError.
    """
    refuse_empty({"gpu": gpu, "select": list(select)})
    if scorer not in ("auto", "cpu", "cuda"):
        raise UsageError(f"--scorer is auto, cpu or cuda, not {scorer!r}")
    if features not in ("six", "full") or features == "full" and not pairs:
        raise UsageError(
            f"--features {features}: with --pairs it is six or full, a sweep of encodes keeps the"
            " six"
        )
    return RunFlags(
        select=tuple(select),
        features="full" if features == "full" else "six",
        gpu=words(gpu),
        scorer=scorer,
    )


def parse_flags(texts: Texts) -> Flags:
    """The flags as typed values. Raises UsageError for one that makes no sense by itself."""
    typed = {f.name: getattr(texts, f.name) for f in fields(texts)}
    refuse_empty({**typed, "sources": list(texts.sources)})
    threads = texts.threads_per_encode
    if threads is not None and not 1 <= threads <= MAX_THREADS:
        raise UsageError(f"--threads-per-encode is {threads}; use 1 to {MAX_THREADS}")
    return Flags(
        places=tuple(Path(place) for place in texts.sources),
        sweep=Path(texts.sweep) if texts.sweep else None,
        encoders=None if texts.encoders is None else words(texts.encoders),
        axes=_axes(texts),
        preparation=_preparation(texts),
        threads=threads,
        teacher=texts.vmaf_model,
        metrics=None if texts.metrics is None else parse_metrics(texts.metrics),
        out=Path(texts.out) if texts.out else None,
        quick=texts.quick,
        skip_unfit=texts.skip_unfit,
        given=frozenset(name for name, value in typed.items() if value not in (None, False, ())),
    )


def _axes(texts: Texts) -> Axes:
    bufsize = parse_kbps(texts.bufsize, "--bufsize") if texts.bufsize else None
    return Axes(
        presets=read_axis(texts.presets, "--presets"),
        quality=read_axis(texts.quality, "--quality"),
        options=read_options(texts.options, "--options"),
        sizes=parse_sizes(texts.sizes),
        maxrate_kbps=parse_kbps(texts.maxrate, "--maxrate") if texts.maxrate else None,
        bufsize_kbps=bufsize,
    )


def _preparation(texts: Texts) -> Preparation:
    start, seconds, chunk = texts.start, texts.sample_seconds, texts.chunk
    return check_preparation(
        Preparation(
            start=None if start is None else parse_time(start),
            frames=texts.frames,
            samples=texts.samples,
            sample_seconds=None if seconds is None else parse_time(seconds, "--sample-seconds"),
            chunk=None if chunk is None else parse_time(chunk, "--chunk"),
            crop=parse_crop(texts.crop) if texts.crop else None,
            scale=parse_scale(texts.scale) if texts.scale else None,
            size=parse_size(texts.size, "--size") if texts.size else None,
            fps=texts.fps,
            pix_fmt=texts.pix_fmt,
            allow=words(texts.allow),
            deinterlace=texts.deinterlace,
        ),
        COMMAND_LINE,
    )


def request_from(flags: Flags) -> Request:
    """The flags over their sweep file: every encoder, preset, value and option is checked first,
    and folders are searched for clips then. Raises UsageError, SourceError.
    """
    file = read_sweep(flags.sweep) if flags.sweep else SweepFile()
    if flags.quick:
        flags = _quick(flags, file)
    threads = flags.threads if flags.threads is not None else file.threads or 1
    if not 1 <= threads <= MAX_THREADS:
        raise UsageError(f"{flags.sweep}: threads_per_encode is {threads}; use 1 to {MAX_THREADS}")
    blocks = _blocks(flags, file)
    common = flags.preparation.over(file.preparation)
    check_preparation(common, COMMAND_LINE)
    if flags.places:
        clips = tuple(find_clips(flags.places))
    else:
        clips = (*file.clips, *find_clips(file.places))
    # A flag wins over a source's own entry, which wins over the file's top level.
    clips = tuple(
        replace(
            clip,
            preparation=check_preparation(
                flags.preparation.over(clip.preparation.over(common)), str(clip.path)
            ),
        )
        for clip in clips
    )
    return Request(
        clips=clips,
        blocks=blocks,
        preparation=common,
        threads=threads,
        teacher=flags.teacher or file.teacher or TEACHER,
        metrics=file.metrics if flags.metrics is None else flags.metrics,
        name=file.name,
        out=flags.out or file.out,
        skip_unfit=flags.skip_unfit,
    )


def _quick(flags: Flags, file: SweepFile) -> Flags:
    """The flags with what --quick stands for where neither they nor the file say otherwise."""
    if flags.encoders is None and not file.parts:
        flags = replace(flags, encoders=QUICK_ENCODERS)
        usual = Axes(quality=read_axis(QUICK_QUALITY, "--quick"))
        flags = replace(flags, axes=flags.axes.over(file.axes.over(usual)))
    own = flags.preparation.over(file.preparation)
    if own.frames is None and own.samples is None and own.chunk is None:
        window = replace(flags.preparation, samples=1, sample_seconds=Fraction(QUICK_SECONDS))
        flags = replace(flags, preparation=window)
    return flags


def _blocks(flags: Flags, file: SweepFile) -> tuple[Block, ...]:
    """The blocks of the file with the flags over them; --encoders narrows them, and an encoder that
    is in none of them gets a block of its own.
    """
    listed = {row.name for part in file.parts for row in select(part.words).encoders}
    for part in file.parts:
        for axis, name in _named_axes(part.axes):
            axis.check_among(listed, f"{part.where}: {name}")
    parts = list(file.parts)
    asked = None
    if flags.encoders is not None:
        asked = select(flags.encoders)
        new = tuple(
            word
            for word in flags.encoders
            if not {row.name for row in select([word]).encoders} <= listed
        )
        if new:
            parts.append(Part(words=new, axes=file.axes, where=COMMAND_LINE))
    if not parts:
        parts.append(Part(words=("software",), axes=file.axes, where=COMMAND_LINE))
    selections = [_narrowed(select(part.words), asked) for part in parts]
    chosen = {row.name for one in selections for row in one.encoders}
    for axis, name in _named_axes(flags.axes):
        axis.check_among(chosen, f"--{name}")
    return tuple(
        _block(part, flags.axes.over(part.axes), selection)
        for part, selection in zip(parts, selections, strict=True)
    )


def _named_axes(axes: Axes) -> list[tuple[Axis[str] | Axis[OptionWish], str]]:
    return [(axes.presets, "presets"), (axes.quality, "quality"), (axes.options, "options")]


def _narrowed(selection: Selection, asked: Selection | None) -> Selection:
    """A block's encoders that --encoders asks for too; all of them without it."""
    if asked is None:
        return selection
    wanted = {row.name for row in asked.encoders}
    rows = tuple(row for row in selection.encoders if row.name in wanted)
    return Selection(encoders=rows, named=asked.named & {row.name for row in rows}, auto=asked.auto)


def _block(part: Part, axes: Axes, selection: Selection) -> Block:
    settings: list[Setting] = []
    for row in selection.encoders:
        settings += _settings(row, axes)
    return Block(
        selection=selection, settings=tuple(settings), sizes=axes.sizes, sources=part.sources
    )


def _settings(row: Encoder, axes: Axes) -> list[Setting]:
    """Every setting of one encoder. Raises UsageError for what the encoder does not know."""
    presets = [row.check_preset(text) for text in axes.presets.of(row.name)]
    values = [_quality(row, text) for text in axes.quality.of(row.name)]
    sets = [_option_set(row, wish) for wish in axes.options.of(row.name)]
    maxrate, bufsize = axes.maxrate_kbps, axes.bufsize_kbps
    if maxrate is None and bufsize is not None:
        raise UsageError("--bufsize needs --maxrate: it is the buffer of that bound")
    if maxrate is not None:
        bufsize = bufsize or 2 * maxrate
        row.cap_arguments(maxrate, bufsize)
    return [
        Setting(
            encoder=row,
            preset=preset,
            quality=quality,
            options=options,
            maxrate_kbps=maxrate,
            bufsize_kbps=bufsize,
        )
        for preset, quality, options in product(
            presets or [row.default_preset], values or row.default_quality, sets or [None]
        )
    ]


def _quality(row: Encoder, text: str) -> float:
    try:
        value = float(text)
    except ValueError as failure:
        raise UsageError(
            f"--quality of {row.name}: {text!r} is not a number; a list is 20,25,30, and a range"
            " 20:30:5 with its end and step"
        ) from failure
    return row.check_quality(value)


def _option_set(row: Encoder, wish: OptionWish) -> OptionSet | None:
    return row.check_options(wish.text, wish.name) if wish.text else None
