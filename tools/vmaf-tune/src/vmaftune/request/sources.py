"""Clips -> sources: names, windows, preparation, content digests, and the sentences that refuse a
clip.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

from vmaftune.cell import Window, check_utf8, digest, parse_crop, parse_size
from vmaftune.errors import SourceError, UsageError
from vmaftune.media.ffmpeg import sha256_file
from vmaftune.media.probe import HDR_TRANSFERS, Facts, probe, raw_format
from vmaftune.request.flags import Clip, Preparation, Request, find_clips


def name_clips(clips: Sequence[Clip]) -> list[str]:
    """A name for every clip: the one given, else the file's stem, with folder and suffix added
    where two would be equal.

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
            + (
                " (name is given twice)"
                if twice[0] in given
                else "; give each a name in a sweep file"
            )
        )
    bad = [
        n
        for n in names
        if "/" in n or n != n.strip() or not n or re.search(r"[\x00-\x1f\x7f\ud800-\udfff]", n)
    ]
    if bad:
        raise UsageError(
            f"{bad[0]!r} cannot be a source's name: no slash, control character, broken UTF-8 or"
            " space at the ends; rename the file, or give it a name in a sweep file"
        )
    return names


def resolve_source(clip: Clip, name: str, common: Preparation) -> tuple[Window, list[str]]:
    """Probe one clip and fix its window and preparation; also gives notices.

    Raises SourceError with the way out for interlaced, VFR and HDR clips, odd sizes, and windows
    outside the clip.
    """
    wanted = clip.preparation.over(common)
    check_utf8(os.path.relpath(clip.path))
    raw = None
    if clip.path.suffix.lower() == ".yuv":
        raw = raw_format(clip.path, wanted.size, wanted.fps, wanted.pix_fmt)
    facts = probe(clip.path, raw)
    where, notices, flags = str(clip.path), [], []
    if facts.num_streams > 1:
        notices.append(f"{where} has {facts.num_streams} video streams; the first is used")
    if facts.interlaced and not wanted.deinterlace:
        if "interlaced" not in wanted.allow:
            raise SourceError(
                f"{where} is interlaced: VMAF compares progressive frames; convert it with"
                " --deinterlace, or take the woven frames as they are with --allow interlaced"
            )
        flags.append("interlaced")
    if wanted.deinterlace and facts.interlaced:
        flags.append("deinterlaced")
    start = facts.first_frame(Fraction(wanted.start or 0).limit_denominator(10**6))
    end = start + wanted.frames if wanted.frames is not None else facts.num_packets
    if end > facts.num_packets or start >= facts.num_packets:
        asked = (
            f"asks for frames {start} to {end - 1}"
            if wanted.frames is not None
            else f"begins at frame {start}"
        )
        raise SourceError(
            f"{where} has {facts.num_packets} frames, counted from 0; the window {asked}"
        )
    facts = facts.window(start, end)
    if facts.vfr_at is not None:
        if "vfr" not in wanted.allow:
            raise SourceError(
                f"{where} has a variable frame rate (frame {facts.vfr_at}); cut a window without"
                " it, convert it to a constant rate first, or pair its frames by index at"
                f" {facts.fps} fps with --allow vfr"
            )
        flags.append("vfr")
    if facts.color.transfer in HDR_TRANSFERS:
        if "hdr" not in wanted.allow:
            raise SourceError(
                f"{where} is HDR ({HDR_TRANSFERS[facts.color.transfer]}): no public VMAF model is"
                " made for it; measure it all the same, with marked rows, with --allow hdr"
            )
        flags.append("hdr")
    width, height, crop, scale = _geometry(where, facts, wanted)
    source = Window(
        name=name,
        group=clip.group or name,
        path=os.path.relpath(clip.path),
        sha256="",
        size_bytes=clip.path.stat().st_size,
        start_frame=start,
        num_frames=wanted.frames,
        expected_frames=facts.num_packets - start if wanted.frames is None else wanted.frames,
        crop=crop,
        scale=scale,
        deinterlace=wanted.deinterlace and facts.interlaced,
        width=width,
        height=height,
        pix_fmt=facts.pix_fmt,
        fps=facts.fps,
        sar=facts.sar,
        color=facts.color,
        stream_index=facts.stream_index,
        raw=raw,
        flags=tuple(flags),
    )
    return source, notices


def _geometry(where: str, facts: Facts, wanted: Preparation) -> tuple[int, int, Any, Any]:
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
    if (
        facts.pix_fmt.startswith("yuv420p")
        and height % 2
        or not facts.pix_fmt.startswith("yuv444p")
        and width % 2
    ):
        raise SourceError(
            f"{where} would be {width}x{height}, and encoders with subsampled chroma need even"
            f" sizes; cut it with --crop {width - width % 2}x{height - height % 2}+0+0 or resize it"
            " with --scale"
        )
    if width < 64 or height < 64:
        raise SourceError(
            f"{where} would be {width}x{height}; encoders and libvmaf need at least 64x64"
        )
    return width, height, crop, scale


def hashed(source: Window, cache: Mapping[tuple[str, int], str]) -> Window:
    """`source` with the sha256 of its file; `cache` holds digests known by (path, size) in this
    process.
    """
    known = cache.get((source.path, source.size_bytes))
    return replace(source, sha256=known or sha256_file(source.path))


def resolve_sources(request: Request) -> tuple[tuple[Window, ...], tuple[str, ...]]:
    """The sources of a request, probed and hashed, and notices about them. Raises UsageError,
    SourceError.
    """
    clips = request.clips or tuple(find_clips([Path("sources")]))
    raw = [
        n
        for n in ("size", "fps", "pix_fmt")
        if any(getattr(c.preparation.over(request.preparation), n) for c in clips)
    ]
    if raw and not any(clip.path.suffix.lower() == ".yuv" for clip in clips):
        raise UsageError(
            f"--{raw[0].replace('_', '-')} describes raw .yuv sources, and there are none; --scale"
            " changes a size"
        )
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
            raise SourceError(
                f"{twin} and {name} are the same clip and window: {clip.path}; leave one of"
                " them out"
            )
        sources.append(source)
        notices += said
    return tuple(sources), tuple(notices)
