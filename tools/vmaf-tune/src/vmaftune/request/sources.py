"""Clips -> windows: found, named, probed, cut, prepared on paper, hashed; and the sentences that
refuse a clip.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path

from vmaftune.cell import ENCODES, SWEEP, TMP, Crop, Window, check_utf8, digest
from vmaftune.errors import SourceError, UsageError
from vmaftune.media.content import content_sha256
from vmaftune.media.probe import HDR_TRANSFERS, SUFFIXES, Facts, look, probe, raw_format
from vmaftune.media.windows import Span, chunks, samples, timecode
from vmaftune.request.asked import Clip, Preparation, Request
from vmaftune.request.film import Film

LEAST_SIDE = 64  # pixels; less is too small for libvmaf's pyramid and some encoders


def _files_in(place: Path) -> Iterator[Path]:
    """Files in a folder and in all folders below it, without hidden ones and what runs wrote (their
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


@dataclass(frozen=True, slots=True, kw_only=True)
class ResolvedClip:
    """The windows of one clip, what its file is, and what there is to say of it."""

    windows: tuple[Window, ...]
    facts: Facts
    notices: tuple[str, ...] = ()


def resolve_clip(clip: Clip, name: str) -> ResolvedClip:
    """Probe one clip and fix its windows and their preparation; digests come later.

    Raises SourceError with all that is unfit and the way out of each: interlaced, VFR and HDR
    clips, odd sizes, windows outside the clip.
    """
    wanted = clip.preparation
    check_utf8(os.path.relpath(clip.path))
    raw = None
    if clip.path.suffix.lower() == ".yuv":
        raw = raw_format(clip.path, wanted.size, wanted.fps, wanted.pix_fmt)
    facts = probe(clip.path, raw)
    notices = []
    if facts.num_streams > 1:
        notices.append(f"{clip.path} has {facts.num_streams} video streams; the first is used")
    notices += [f"{clip.path} {note}" for note in facts.notes]
    spans = _spans(clip.path, facts, wanted)
    if facts.unsought and any(span.start for span in spans):
        notices.append(decoded_from_start(clip.path, facts))
    # A few frames tell an interlaced clip; who waives the refusal gets the whole window read.
    thorough = wanted.deinterlace or "interlaced" in wanted.allow
    problems: dict[str, None] = {}
    windows = []
    for span in spans:
        end = span.start + span.num_frames
        cut = look(clip.path, facts.window(span.start, end), span.start, end, every=thorough)
        unfit, flags = _unfit(clip.path, facts, cut, span, wanted)
        problems |= dict.fromkeys(unfit)
        window = _window(clip, name, facts, cut, span)
        windows.append(replace(window, raw=raw, flags=flags))
    if problems:
        raise SourceError("; ".join(problems))
    return ResolvedClip(windows=tuple(windows), facts=facts, notices=tuple(notices))


def decoded_from_start(path: Path, facts: Facts) -> str:
    """A word on a file whose windows cannot be reached by seeking."""
    return (
        f"{path}: {facts.unsought}, so that no seek into it is exact; each of its windows is"
        " decoded from the file's start, which takes longer the later it begins"
    )


def _window(clip: Clip, name: str, facts: Facts, cut: Facts, span: Span) -> Window:
    """The window of a clip at `span`, where its facts are `cut`; one of several is named by its
    time.
    """
    wanted = clip.preparation
    shape = _shape(clip.path, facts, wanted)
    sampled = wanted.samples is not None or wanted.chunk is not None
    at = timecode(Fraction(span.start) / Fraction(cut.fps))
    num_frames = span.num_frames if sampled else wanted.frames
    return Window(
        name=f"{name}@{at}" if sampled else name,
        group=clip.group or name,
        path=os.path.relpath(clip.path),
        sha256="",
        size_bytes=clip.path.stat().st_size,
        start_frame=span.start,
        num_frames=num_frames,
        expected_frames=span.num_frames,
        crop=wanted.crop,
        scale=shape.scale,
        deinterlace=wanted.deinterlace and cut.interlaced,
        width=shape.width,
        height=shape.height,
        pix_fmt=facts.pix_fmt,
        fps=cut.fps,
        sar=facts.sar,
        color=facts.color,
        stream_index=facts.stream_index,
        raw=None,
        seek=facts.seek(span.start, num_frames),
    )


def _spans(where: Path, facts: Facts, wanted: Preparation) -> list[Span]:
    """The runs of frames that are asked for. Raises SourceError for one outside the clip."""
    start = facts.first_frame(wanted.start or Fraction(0))
    frames = facts.num_packets - start if wanted.frames is None else wanted.frames
    if start + frames > facts.num_packets or start >= facts.num_packets:
        asked = (
            f"asks for frames {start} to {start + frames - 1}"
            if wanted.frames is not None
            else f"begins at frame {start}"
        )
        raise SourceError(
            f"{where} has {facts.num_packets} frames, counted from 0; the window {asked}"
        )
    rate = Fraction(facts.fps)
    if wanted.chunk is not None:
        return chunks(facts.num_packets, max(1, round(wanted.chunk * rate)), first=start)
    if wanted.samples is not None:
        seconds = wanted.sample_seconds or SAMPLE_SECONDS
        length = max(1, round(seconds * rate))
        return samples(facts.num_packets, wanted.samples, length, first=start)
    return [Span(start=start, num_frames=frames)]


SAMPLE_SECONDS = Fraction(4)  # of a window, where --sample-seconds does not say


def _unfit(
    where: Path, facts: Facts, cut: Facts, span: Span, wanted: Preparation
) -> tuple[list[str], tuple[str, ...]]:
    """Why a window is refused, each with its way out; and the flags of what was allowed."""
    problems, flags = [], []
    if cut.interlaced and wanted.deinterlace:
        flags.append("deinterlaced")
    elif cut.interlaced:
        flags.append("interlaced")
        if "interlaced" not in wanted.allow:
            problems.append(
                f"{where} is interlaced: VMAF compares progressive frames; convert it with"
                " --deinterlace, or take the woven frames as they are with --allow interlaced"
            )
    if cut.vfr_at is not None:
        flags.append("vfr")
        if "vfr" not in wanted.allow:
            problems.append(
                f"{where} has a variable frame rate (frame {cut.vfr_at});"
                f" {_constant_part(facts, span)}convert it to a constant rate first, or pair its"
                f" frames by index at {cut.fps} fps with --allow vfr"
            )
    if facts.color.transfer in HDR_TRANSFERS:
        flags.append("hdr")
        if "hdr" not in wanted.allow:
            problems.append(
                f"{where} is HDR ({HDR_TRANSFERS[facts.color.transfer]}): no public VMAF model is"
                " made for it; measure it all the same, with marked rows, with --allow hdr"
            )
    return problems, tuple(flags)


LEAST_PART = 8  # frames; a shorter run of constant rate is not worth naming


def _constant_part(facts: Facts, span: Span) -> str:
    """The longest run of frames inside a window whose rate is constant, as the flags that cut it;
    empty where there is none worth naming.
    """
    stamps = facts.stamps
    best = Span(start=0, num_frames=0)
    first = span.start
    for i in range(span.start + 1, min(span.start + span.num_frames, len(stamps))):
        gap, before = stamps[i] - stamps[i - 1], stamps[min(first + 1, i)] - stamps[first]
        if abs(gap - before) > max(1, 0.01 * before):
            first = i - 1
        if i - first + 1 > best.num_frames:
            best = Span(start=first, num_frames=i - first + 1)
    end = best.start + best.num_frames
    if best.num_frames < LEAST_PART or facts.window(best.start, end).vfr_at is not None:
        return ""
    seconds = float((stamps[best.start] - stamps[0]) * facts.time_base)
    return (
        f"frames {best.start} to {end - 1} are constant: --start {seconds:.6g} --frames"
        f" {best.num_frames} takes them; else "
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Shape:
    """Size of a prepared reference, and what it is scaled to where it is."""

    width: int
    height: int
    scale: tuple[int, int] | None


def _shape(where: Path, facts: Facts, wanted: Preparation) -> _Shape:
    """The size after cropping and scaling. Raises SourceError for one that cannot be encoded."""
    width, height = facts.width, facts.height
    if wanted.crop:
        width, height = _cropped(where, width, height, wanted.crop)
    scale = wanted.scale.of(width, height) if wanted.scale else None
    if scale == (width, height):
        scale = None
    if scale:
        width, height = scale
    halved = facts.pix_fmt.startswith("yuv420p") and height % 2
    if halved or not facts.pix_fmt.startswith("yuv444p") and width % 2:
        raise SourceError(
            f"{where} would be {width}x{height}, and encoders with subsampled chroma need even"
            f" sizes; cut it with --crop {width - width % 2}x{height - height % 2}+0+0 or resize it"
            " with --scale"
        )
    if width < LEAST_SIDE or height < LEAST_SIDE:
        raise SourceError(
            f"{where} would be {width}x{height}; encoders and libvmaf need at least"
            f" {LEAST_SIDE}x{LEAST_SIDE}"
        )
    return _Shape(width=width, height=height, scale=scale)


def _cropped(where: Path, width: int, height: int, crop: Crop) -> tuple[int, int]:
    if crop.x + crop.width > width or crop.y + crop.height > height:
        raise SourceError(f"{where} is {width}x{height}; the crop {crop} does not fit inside")
    return crop.width, crop.height


def hashed(source: Window, cache: dict[tuple[str, int], str]) -> Window:
    """`source` with the sha256 of its file; `cache` keeps digests by (path, size), so that a file
    of several windows is read once.
    """
    key = (source.path, source.size_bytes)
    if key not in cache:
        cache[key] = content_sha256(source.path)
    return replace(source, sha256=cache[key])


def resolve_sources(request: Request) -> tuple[tuple[Window, ...], tuple[str, ...]]:
    """The windows of a request, probed and hashed, and notices about them.

    Raises UsageError, and SourceError that names every clip that is refused, unless unfit clips
    are to be left out.
    """
    # The usual folder is looked for only now, after what this machine can do is known.
    clips = request.clips or tuple(
        replace(clip, preparation=request.preparation) for clip in find_clips([Path("sources")])
    )
    _check_raw_flags(clips)
    windows: list[Window] = []
    notices: list[str] = []
    refused: list[str] = []
    for clip, name in zip(clips, name_clips(clips), strict=True):
        try:
            found = resolve_clip(clip, name)
        except SourceError as failure:
            refused.append(str(failure))
            continue
        windows += found.windows
        notices += found.notices
    if refused and (not request.skip_unfit or not windows):
        raise SourceError(_all_refused(refused, len(clips)))
    notices += [f"left out: {sentence}" for sentence in refused]
    cache: dict[tuple[str, int], str] = {}
    hashed_windows = tuple(hashed(window, cache) for window in windows)
    _check_twins(hashed_windows)
    return hashed_windows, tuple(notices)


def _check_raw_flags(clips: Sequence[Clip]) -> None:
    flags = ("size", "fps", "pix_fmt")
    given = [name for name in flags if any(getattr(c.preparation, name) for c in clips)]
    if given and not any(clip.path.suffix.lower() == ".yuv" for clip in clips):
        raise UsageError(
            f"--{given[0].replace('_', '-')} describes raw .yuv sources, and there are none;"
            " --scale changes a size"
        )


def _all_refused(sentences: Sequence[str], num_clips: int) -> str:
    """One message for every clip that is refused."""
    if len(sentences) == 1 == num_clips:
        return sentences[0]
    lines = "\n".join(f"- {sentence}" for sentence in sentences)
    return (
        f"{len(sentences)} of {num_clips} clips are refused; mend them, or leave them out with"
        f" --skip-unfit:\n{lines}"
    )


def _check_twins(windows: Sequence[Window]) -> None:
    """Raises SourceError for two names of the same pictures: the keys of their cells would be the
    same.
    """
    names: dict[str, Window] = {}
    for window in windows:
        twin = names.setdefault(digest(window.identity()), window)
        if twin is not window:
            raise SourceError(
                f"{twin.name} and {window.name} are the same clip and window: {window.path}; leave"
                " one of them out"
            )


def resolve_film(request: Request) -> tuple[Film, tuple[str, ...]]:
    """The one film of a request, probed and hashed, and notices about it.

    Raises UsageError for several films, SourceError for one that is refused.
    """
    if len(request.clips) != 1:
        raise UsageError(f"this takes one film at a time, and these are {len(request.clips)}")
    clip = request.clips[0]
    found = resolve_clip(clip, name_clips([clip])[0])
    (window,) = found.windows
    notices = found.notices
    if found.facts.unsought and not window.start_frame:  # else it was said already
        notices = (*notices, decoded_from_start(clip.path, found.facts))
    return Film(whole=hashed(window, {}), facts=found.facts), notices
