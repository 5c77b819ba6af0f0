"""Whole films that a question asks for: encoded once into the run folder, and found there again.

A film's file is named by a digest of everything that decides its bytes. Its record, written after
it, says that it is whole; a kill in between costs the encode and never leaves half a film.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path

import msgspec
from vmaf_train.files import write_bytes

from vmaftune.cell import ENCODES, Cell, Window, digest
from vmaftune.engine.study import Study
from vmaftune.errors import ToolError
from vmaftune.media.containers import Stream
from vmaftune.media.failure import CellFailure
from vmaftune.media.join import join
from vmaftune.media.whole import FilmEncode, encode_film, film_argv, frames_done

STALL_FACTOR = 60.0
"""A stall is told from slowness by this factor over the expected time."""
SHORTEST_TIMEOUT_S = 3600.0
LOOK_S = 0.5
"""Seconds between two looks at how far an encode is."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FilmFile:
    """A film in the run folder: its file, bytes, frames, and the seconds that encoding it took."""

    path: Path
    size_bytes: int
    num_frames: int
    wall_s: float
    cpu_s: float | None


class _Record(msgspec.Struct, frozen=True, kw_only=True):
    size_bytes: int
    num_frames: int
    wall_s: float
    cpu_s: float | None


def film_file(study: Study, wanted: FilmEncode) -> FilmFile:
    """The encode of a whole film, made unless the folder has it. `wanted.out` gives the suffix.

    Raises ToolError when it cannot be made.
    """
    for _ in making(study, wanted):
        pass
    file = known_film(study, wanted)
    assert file is not None
    return file


def making(study: Study, wanted: FilmEncode) -> Iterator[int]:
    """Make the encode of a whole film, unless the folder has it: the number of frames that are
    done, twice a second. Raises as `film_file`.
    """
    if known_film(study, wanted) is not None:
        return
    place = _place(study, wanted)
    with ThreadPoolExecutor(1, thread_name_prefix="film") as thread:
        encode = thread.submit(_make, study, wanted, place)
        try:
            while wait([encode], timeout=LOOK_S).not_done:
                yield frames_done(place)
        except BaseException:
            study.ffmpeg.runner.stop()  # leaving waits for the thread, and that for ffmpeg
            raise
    encode.result()


def known_film(study: Study, wanted: FilmEncode) -> FilmFile | None:
    """The encode of a whole film that the folder has; None when it has none that is whole."""
    return _read(_place(study, wanted))


def _make(study: Study, wanted: FilmEncode, place: Path) -> None:
    place.parent.mkdir(exist_ok=True)
    expected_s = Cell(window=wanted.film, setting=wanted.setting).expected_encode_s
    timeout_s = study.options.timeout_s or max(SHORTEST_TIMEOUT_S, STALL_FACTOR * expected_s)
    try:
        made = encode_film(replace(wanted, out=place), study.ffmpeg, timeout_s)
    except CellFailure as failure:
        raise ToolError(f"{wanted.film.path}: {failure}") from failure
    record = _Record(
        size_bytes=place.stat().st_size,
        num_frames=made.num_frames,
        wall_s=round(made.wall_s, 3),
        cpu_s=made.cpu_s,
    )
    write_bytes(_record_of(place), msgspec.json.encode(record))


def forget(study: Study, wanted: FilmEncode) -> None:
    """Remove a film's file from the run folder: it was moved to where the user wants it."""
    place = _place(study, wanted)
    _record_of(place).unlink(missing_ok=True)
    place.unlink(missing_ok=True)


def _place(study: Study, wanted: FilmEncode) -> Path:
    tools = study.ffmpeg.identity
    made_of = {
        "film": wanted.film.identity(),
        "argv": film_argv(wanted),
        "ffmpeg": [tools.ffmpeg_version, tools.ffmpeg_sha256],
    }
    return study.folder / ENCODES / f"film-{digest(made_of)[:16]}{wanted.out.suffix.lower()}"


def _record_of(place: Path) -> Path:
    return place.with_name(place.name + ".json")


def _read(place: Path) -> FilmFile | None:
    """The film as its record has it; None without a record, or where the file is another one."""
    try:
        record = msgspec.json.decode(_record_of(place).read_bytes(), type=_Record)
        is_whole = place.stat().st_size == record.size_bytes
    except (OSError, msgspec.MsgspecError):
        return None
    return _file(place, record) if is_whole else None


def _file(place: Path, record: _Record) -> FilmFile:
    return FilmFile(
        path=place,
        size_bytes=record.size_bytes,
        num_frames=record.num_frames,
        wall_s=record.wall_s,
        cpu_s=record.cpu_s,
    )


def join_film(study: Study, cells: Sequence[Cell], film: Window, wanted: FilmJoin) -> int:
    """Join the kept encodes of consecutive windows into the user's file; its bytes.

    Raises ToolError when they do not join, or the file's frames are not theirs.
    """
    encodes = [(study.kept(cell), cell.num_frames) for cell in cells]
    timeout_s = study.options.timeout_s or SHORTEST_TIMEOUT_S
    try:
        join(
            encodes,
            film.frame_rate,
            wanted.out,
            study.ffmpeg,
            timeout_s,
            film=Path(film.path),
            streams=wanted.streams,
            start=wanted.start,
            force=wanted.force,
        )
    except CellFailure as failure:
        raise ToolError(f"{wanted.out}: {failure}") from failure
    return wanted.out.stat().st_size


@dataclass(frozen=True, slots=True, kw_only=True)
class FilmJoin:
    """The file to join into, what is copied beside the pictures, and when the first is shown.
    `force` lets it take the place of another file.
    """

    out: Path
    streams: tuple[Stream, ...]
    start: Fraction
    force: bool = False


class Joined(msgspec.Struct, frozen=True, kw_only=True):
    """A film that was joined of its shots, as its record has it: bytes, and the mean score of all
    its frames, VMAF points.
    """

    size_bytes: int
    score: float


def joined_place(study: Study, cells: Sequence[Cell], target: str) -> Path:
    """Where the film of these cells' windows is kept, each at a value of its own for `target`."""
    made_of = [target, *(study.kept(cell).name for cell in cells)]
    return study.folder / ENCODES / f"shots-{digest(made_of)[:16]}.mp4"


def read_joined(place: Path) -> Joined | None:
    """The record of a joined film; None without one, or where the file is another one."""
    try:
        record = msgspec.json.decode(_record_of(place).read_bytes(), type=Joined)
        is_whole = place.stat().st_size == record.size_bytes
    except (OSError, msgspec.MsgspecError):
        return None
    return record if is_whole else None


def write_joined(place: Path, record: Joined) -> None:
    """Note that a joined film is whole."""
    write_bytes(_record_of(place), msgspec.json.encode(record))


def forget_joined(place: Path) -> None:
    """Remove a joined film from the run folder."""
    _record_of(place).unlink(missing_ok=True)
    place.unlink(missing_ok=True)
