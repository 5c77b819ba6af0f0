"""Pairs of a reference and an encode that exists already: found in a folder or a CSV, named, and
checked as a plan.

DIR/ref/<source>_<fps>fps.yuv + DIR/dis/<source>_<quality>_<height>_<kbps>.yuv
or FILE.csv: reference,distorted[,encoder,preset,crf][,group]

    folder or file --find--> FoundPair --plan_pairs--> PairPlan
"""

from __future__ import annotations

import csv
import os
import re
from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from vmaftune import encoders
from vmaftune.cell import Features, MadeBy, Pair, Raw, Window, check_utf8
from vmaftune.engine.events import EndEvent, Event
from vmaftune.engine.folder import write_table
from vmaftune.engine.study import Study
from vmaftune.errors import SourceError, UsageError
from vmaftune.media.metrics import LEAST_LONG, LEAST_SHORT
from vmaftune.media.probe import (
    HDR_TRANSFERS,
    NETFLIX_NAME,
    SUFFIXES,
    Facts,
    look,
    probe,
    raw_format,
)
from vmaftune.metrics import check_size
from vmaftune.questions.grid import measure
from vmaftune.request.cells import matches
from vmaftune.request.document import Document, pair_document
from vmaftune.request.sources import hashed

COLUMNS = ("reference", "distorted")
OPTIONAL = ("encoder", "preset", "crf", "group")
_DISTORTED_NAME = re.compile(
    r"(?P<stem>.+)_(?P<quality>[^_]+)_(?P<height>\d+)_(?P<kbps>\d+(?:\.\d+)?)$"
)
_FORMATS = tuple(
    f"yuv{chroma}p{depth}" for chroma in ("420", "422", "444") for depth in ("", "10le")
)


@dataclass(frozen=True, slots=True, kw_only=True)
class FoundPair:
    """A pair as it was asked for, before any file was opened. `where` says who asked for it."""

    reference: Path
    distorted: Path
    made: MadeBy | None = None
    group: str | None = None
    where: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class PairPlan:
    """All pairs of a run, in order, with what made them."""

    pairs: tuple[Pair, ...]
    name: str
    notices: tuple[str, ...] = ()

    def document(self) -> Document:
        """The plan as sweep.json holds it: no grid, but every pair by name and content."""
        return pair_document(self.pairs)


def run(plan: PairPlan, study: Study) -> Generator[Event]:
    """Score the pairs of a plan that its folder does not answer, and make the table of the full set
    where it was asked for. Yields events, from the notices and `start` to `end`.
    """
    is_full = any(pair.features == "full" for pair in plan.pairs)
    for event in measure(plan.pairs, plan.notices, study):
        if isinstance(event, EndEvent) and is_full:
            write_table(study.folder)
        yield event


def source_stem(path: Path) -> str:
    """A reference's name without `_<fps>fps`: the source, and by default the group."""
    match = NETFLIX_NAME.fullmatch(path.stem)
    return match["stem"] if match else path.stem


def find(place: Path) -> tuple[list[FoundPair], list[str]]:
    """The pairs of a folder or a CSV file, and notices. Raises UsageError or SourceError."""
    if place.is_dir():
        return _find_in_folder(place)
    if not place.is_file():
        raise SourceError(
            f"there is no {place}; --pairs takes a folder with ref/ and dis/, or a CSV file"
        )
    return _find_in_csv(place)


def _videos(folder: Path) -> list[Path]:
    if not folder.is_dir():
        raise SourceError(
            f"there is no {folder}; --pairs DIR takes references in DIR/ref and encodes in DIR/dis"
        )
    return sorted(
        p
        for p in folder.iterdir()
        if p.is_file() and p.suffix.lower() in SUFFIXES and not p.name.startswith(".")
    )


def _find_in_folder(place: Path) -> tuple[list[FoundPair], list[str]]:
    references: dict[str, Path] = {}
    for path in _videos(place / "ref"):
        other = references.setdefault(source_stem(path), path)
        if other != path:
            raise SourceError(
                f"{other} and {path.name} are both references of {source_stem(path)}; keep one of"
                " them"
            )
    found, used, strange = [], set(), []
    for path in _videos(place / "dis"):
        match = _DISTORTED_NAME.fullmatch(path.stem)
        if match is None or match["stem"] not in references:
            strange.append(path)
            continue
        used.add(match["stem"])
        found.append(
            FoundPair(reference=references[match["stem"]], distorted=path, where=str(place))
        )
    if strange:
        known = ", ".join(references) or "none"
        raise SourceError(
            f"{strange[0]} matches no reference"
            + (f" (nor do {len(strange) - 1} more)" if len(strange) > 1 else "")
            + f": it should be called <source>_<quality>_<height>_<kbps>, and {place / 'ref'} holds"
            f" the sources {known}; rename it, or list the pairs in a CSV file"
        )
    if not found:
        raise SourceError(
            f"{place} holds no pair: {len(references)} references in ref/ and no encode in dis/"
        )
    alone = [str(path) for stem, path in references.items() if stem not in used]
    return found, [
        f"{path} is a reference without distorted files and is not used" for path in alone
    ]


def _find_in_csv(file: Path) -> tuple[list[FoundPair], list[str]]:
    try:
        with file.open(encoding="utf-8-sig", newline="") as lines:
            reader = csv.DictReader(lines, skipinitialspace=True, strict=True)
            columns = [(name or "").strip() for name in reader.fieldnames or ()]
            missing = [name for name in COLUMNS if name not in columns]
            if missing or len(set(columns)) < len(columns):
                what = (
                    f"no column {' and no column '.join(missing)}"
                    if missing
                    else "two columns of one name"
                )
                raise UsageError(
                    f"{file} has {what}; its first line names {', '.join(COLUMNS)} and may name"
                    f" {', '.join(OPTIONAL)}"
                )
            reader.fieldnames = columns
            found = [_csv_pair(file, reader.line_num, row) for row in reader if any(row.values())]
    except (OSError, UnicodeDecodeError, csv.Error) as failure:
        raise UsageError(f"{file} is not a readable CSV file: {failure}") from failure
    if not found:
        raise UsageError(f"{file} lists no pair: it has a first line only")
    extra = [name for name in columns if name not in (*COLUMNS, *OPTIONAL)]
    return found, [f"{file}: the columns {', '.join(extra)} are not used"] if extra else []


def _csv_pair(file: Path, line: int, row: Mapping[str | None, object]) -> FoundPair:
    where = f"{file}, line {line}"
    if None in row or None in row.values():
        raise UsageError(
            f"{where} has not as many values as the first line names; put quotes around a name with"
            " a comma"
        )
    value = {str(k): str(v).strip() for k, v in row.items()}
    for name in COLUMNS:
        if not value[name]:
            raise UsageError(f"{where} names no {name} file")
    paths = {name: file.parent / value[name] for name in COLUMNS}
    for path in paths.values():
        if not path.is_file():
            raise SourceError(f"{where}: there is no {path}; paths are relative to the CSV file")
    return FoundPair(
        **paths, made=_made(where, value), group=value.get("group") or None, where=where
    )


def _made(where: str, value: Mapping[str, str]) -> MadeBy | None:
    texts = {name: value.get(name, "") for name in ("encoder", "preset", "crf")}
    if not any(texts.values()):
        return None
    if not all(texts.values()):
        gone = ", ".join(name for name, text in texts.items() if not text)
        raise UsageError(
            f"{where} has no {gone}: give encoder, preset and crf together, or none of them"
        )
    try:
        quality = float(texts["crf"])
        if not 0 <= quality < 1e4:
            raise ValueError
    except ValueError as failure:
        raise UsageError(
            f"{where}: crf {texts['crf']!r} is not a quality value such as 23"
        ) from failure
    try:
        row = encoders.find(texts["encoder"])
    # made with something that this tool cannot drive: its slot in a model is `unknown`
    except UsageError as failure:
        if not re.fullmatch(r"[\w.+-]+", texts["encoder"]):
            raise UsageError(f"{where}: {failure}") from failure
        return MadeBy(encoder=texts["encoder"], preset=texts["preset"], quality=quality)
    try:
        return MadeBy(
            encoder=row.name,
            preset=row.check_preset(texts["preset"]),
            quality=row.check_quality(quality),
        )
    except UsageError as failure:
        raise UsageError(f"{where}: {failure}") from failure


def plan_pairs(
    place: Path,
    *,
    size: tuple[int, int] | None,
    fps: str | None,
    pix_fmt: str | None,
    allow: Sequence[str],
    teacher: str,
    features: Features,
    select_globs: Sequence[str] = (),
) -> PairPlan:
    """All pairs of a folder or CSV file, probed and with the digests of their files.

    `size`, `fps`, `pix_fmt` describe raw files; `select_globs` keeps pairs whose id matches one.
    Raises UsageError, SourceError.
    """
    found, notices = find(place)
    pairs = plan_found(
        found,
        size=size,
        fps=fps,
        pix_fmt=pix_fmt,
        allow=allow,
        teacher=teacher,
        features=features,
        select_globs=select_globs,
    )
    return PairPlan(pairs=pairs, name=place.resolve().stem, notices=tuple(notices))


def with_metrics(pairs: Sequence[Pair], metrics: tuple[str, ...]) -> tuple[Pair, ...]:
    """The pairs, with metrics to measure beside VMAF. Raises UsageError for pictures too small."""
    for pair in pairs:
        check_size(metrics, *pair.size, pair.id)
    return tuple(replace(pair, metrics=metrics) for pair in pairs)


def plan_found(
    found: Sequence[FoundPair],
    *,
    size: tuple[int, int] | None,
    fps: str | None,
    pix_fmt: str | None,
    allow: Sequence[str],
    teacher: str,
    features: Features,
    select_globs: Sequence[str] = (),
) -> tuple[Pair, ...]:
    """Pairs that were asked for, probed and with the digests of their files. As `plan_pairs`."""
    if pix_fmt is not None and pix_fmt not in _FORMATS:
        raise UsageError(f"--pix-fmt {pix_fmt}: raw pairs are one of {', '.join(_FORMATS)}")
    clips = _Clips(found, size, fps, pix_fmt, allow)
    pairs: dict[str, Pair] = {}
    for one in found:
        reference = clips.reference(one)
        pair = Pair(
            reference=reference,
            distorted=clips.distorted(one, reference),
            made=one.made,
            teacher=teacher,
            features=features,
            kbps=_kbps_of(one.distorted),
        )
        if pairs.setdefault(pair.id, pair) is not pair:
            raise UsageError(
                f"{one.where} names the pair {one.reference} and {one.distorted} twice"
            )
        _check_size(pair)
    kept = {i: p for i, p in pairs.items() if not select_globs or matches(i, select_globs)}
    if not kept:
        raise UsageError(
            f"no pair matches --select {' '.join(select_globs)}; see the ids with --dry-run --json"
        )
    _check_groups(tuple(kept.values()))
    return _with_digests(kept.values())


class _Clips:
    """The files of pairs as clips from end to end. A reference of several pairs is opened once.

    `size`, `fps` and `pix_fmt` describe raw files; `allow` is what is taken all the same.
    """

    def __init__(
        self,
        found: Sequence[FoundPair],
        size: tuple[int, int] | None,
        fps: str | None,
        pix_fmt: str | None,
        allow: Sequence[str],
    ) -> None:
        self._size, self._fps, self._pix_fmt, self._allow = size, fps, pix_fmt, allow
        self._names = _names([one.reference for one in found], source_stem)
        encodes: dict[Path, list[Path]] = {}
        for one in found:
            encodes.setdefault(one.reference, []).append(one.distorted)
        self._encodes = {
            reference: _names(paths, lambda path: path.stem) for reference, paths in encodes.items()
        }
        self._opened: dict[Path, Window] = {}

    def reference(self, one: FoundPair) -> Window:
        """The reference of a pair. Raises SourceError."""
        path = one.reference
        if path not in self._opened:
            raw = None
            if _is_raw(path):
                raw = raw_format(path, self._size, self._fps, self._pix_fmt)
            group = source_stem(path)
            self._opened[path] = _clip(path, self._names[path], raw, self._allow, group)
        known = self._opened[path]
        return replace(known, group=one.group) if one.group else known

    def distorted(self, one: FoundPair, reference: Window) -> Window:
        """The distorted file of a pair. Raises SourceError."""
        raw = None
        if _is_raw(one.distorted):
            raw = _raw_like(reference, self._size, self._fps, self._pix_fmt)
        name = self._encodes[one.reference][one.distorted]
        return _clip(one.distorted, name, raw, self._allow, reference.group)


def _kbps_of(path: Path) -> float | None:
    """The bitrate in the name of a raw file; None of another."""
    named = _DISTORTED_NAME.fullmatch(path.stem) if _is_raw(path) else None
    return float(named["kbps"]) if named else None


def _with_digests(pairs: Iterable[Pair]) -> tuple[Pair, ...]:
    """The pairs with sha256 of both files; a file that stands in several pairs is read once."""
    cache: dict[tuple[str, int], str] = {}

    return tuple(
        replace(p, reference=hashed(p.reference, cache), distorted=hashed(p.distorted, cache))
        for p in pairs
    )


def _is_raw(path: Path) -> bool:
    return path.suffix.lower() == ".yuv"


def _raw_like(
    reference: Window, size: tuple[int, int] | None, fps: str | None, pix_fmt: str | None
) -> Raw:
    """A raw distorted file is as the flags say, else as its reference is."""
    width, height = size or (reference.width, reference.height)
    return Raw(
        width=width, height=height, fps=fps or reference.fps, pix_fmt=pix_fmt or reference.pix_fmt
    )


def _names(paths: Sequence[Path], short: Callable[[Path], str]) -> dict[Path, str]:
    """A name for every path: its short one, with folder and suffix added where two
    would be equal.
    """
    unique = list(dict.fromkeys(paths))
    forms: tuple[Callable[[Path], str], ...] = (
        short,
        lambda p: p.stem,
        lambda p: f"{p.resolve().parent.name}_{p.stem}",
        lambda p: f"{p.resolve().parent.name}_{p.name}",
    )
    for form in forms:
        names = {path: form(path) for path in unique}
        if len(set(names.values())) == len(names):
            return names
    raise UsageError(
        f"two files would be called {names[unique[0]]!r}; rename one of them or its folder"
    )


def _clip(path: Path, name: str, raw: Raw | None, allow: Sequence[str], group: str) -> Window:
    """One file as a clip from end to end; its digest comes later. Raises SourceError for what is
    refused.
    """
    check_utf8(os.path.relpath(path))
    if name != name.strip() or not name or re.search(r"[\x00-\x1f]", name):
        raise SourceError(
            f"{path}: {name!r} cannot be a name: no control character, no space at the ends; rename"
            " the file"
        )
    facts = probe(path, raw)
    facts = look(path, facts, 0, facts.num_packets)
    return Window(
        name=name,
        group=group,
        path=os.path.relpath(path),
        sha256="",
        size_bytes=path.stat().st_size,
        start_frame=0,
        num_frames=None,
        expected_frames=facts.num_packets,
        crop=None,
        scale=None,
        deinterlace=False,
        width=facts.width,
        height=facts.height,
        pix_fmt=facts.pix_fmt,
        fps=facts.fps,
        sar=facts.sar,
        color=facts.color,
        stream_index=facts.stream_index,
        raw=raw,
        flags=_flags(path, facts, allow),
    )


def _flags(path: Path, facts: Facts, allow: Sequence[str]) -> tuple[str, ...]:
    """What a file is that was allowed. Raises SourceError for what was not."""
    flags = []
    if facts.interlaced:
        if "interlaced" not in allow:
            raise SourceError(
                f"{path} is interlaced: VMAF compares progressive frames; deinterlace it first, or"
                " take the woven frames as they are with --allow interlaced"
            )
        flags.append("interlaced")
    if facts.vfr_at is not None:
        if "vfr" not in allow:
            raise SourceError(
                f"{path} has a variable frame rate (frame {facts.vfr_at}); convert both files of"
                " the pair to one constant rate first, or pair their frames by index with"
                " --allow vfr"
            )
        flags.append("vfr")
    if facts.color.transfer in HDR_TRANSFERS:
        if "hdr" not in allow:
            raise SourceError(
                f"{path} is HDR ({HDR_TRANSFERS[facts.color.transfer]}): no public VMAF model is"
                " made for it; measure it all the same, with marked rows, with --allow hdr"
            )
        flags.append("hdr")
    return tuple(flags)


def _check_size(pair: Pair) -> None:
    width, height = pair.reference.width, pair.reference.height
    if min(width, height) < 64:
        raise SourceError(
            f"{pair.reference.path} is {width}x{height}; libvmaf needs at least 64x64"
        )
    if pair.features == "full" and (
        max(width, height) < LEAST_LONG or min(width, height) < LEAST_SHORT
    ):
        raise SourceError(
            f"{pair.reference.path} is {width}x{height}; CAMBI and MS-SSIM of --features full need"
            f" at least {LEAST_LONG}x{LEAST_SHORT}; leave it out, or take --features six"
        )


def _check_groups(pairs: Sequence[Pair]) -> None:
    groups: dict[str, str] = {}
    for pair in pairs:
        name, group = pair.reference.name, pair.reference.group
        if groups.setdefault(name, group) != group:
            raise UsageError(
                f"the pairs of {name} stand in two groups, {groups[name]} and {group}; a source"
                " has one"
            )
