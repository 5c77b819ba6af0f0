"""The files of a ladder: every rung encoded whole, scored inside its file, and packaged for HLS.

    rung --film_file--> mp4 in the run folder --packets--> keyframes as in every other rung
                          '--windows of both--> measured --package--> DIR --last of all--> main.m3u8

Encodes stay in the run folder until all of them are packaged, so a command that was killed goes on
where it ended. The playlist is what makes the ladder: it appears when everything it names is there.
"""

from __future__ import annotations

import math
import os
import re
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path

from vmaf_train.files import write_text
from vmaf_train.prior import Prior

from vmaftune.cell import Window
from vmaftune.engine.events import Event, NoticeEvent
from vmaftune.engine.films import (
    SHORTEST_TIMEOUT_S,
    Joined,
    film_file,
    forget,
    forget_joined,
    joined_place,
    read_joined,
    write_joined,
)
from vmaftune.engine.study import Study
from vmaftune.errors import ToolError, UsageError
from vmaftune.media.codecs import codec_word
from vmaftune.media.containers import Stream
from vmaftune.media.failure import CellFailure
from vmaftune.media.hls import MAIN, Rate, Sound, Variant, copy_stream, multivariant, package
from vmaftune.media.keyframes import keyframes
from vmaftune.media.whole import FilmEncode
from vmaftune.questions.film import EncodeRequest, measured, pairs_inside
from vmaftune.questions.find_request import Candidate, FindRequest, cell_of
from vmaftune.questions.hull import Size
from vmaftune.questions.ladder_values import APART, LadderFiles, Rung, RungFile
from vmaftune.questions.sample import pooled, standard_error, whole
from vmaftune.questions.shots import ShotEncoder
from vmaftune.request.film import Film

PART = ".part"
"""The folder in the ladder's own that holds what is not finished."""
GOPS_A_PIECE = 3
"""Groups of pictures in a piece of the playlist: pieces of 6 s at keyframes 2 s apart (HLS
Authoring Specification for Apple Devices, 7.5).
"""
PLAYABLE = frozenset({"aac", "ac3", "eac3", "mp3", "opus", "flac", "alac"})
"""Sound that a playlist may name, in an MP4; other sound is copied beside it."""
_OURS = re.compile(r"\d+x\d+_\d+k\.(mp4|m3u8)|audio-\d+\.(mp4|m3u8|mka)")


@dataclass(frozen=True, slots=True, kw_only=True)
class RungsRequest:
    """The files to make. `rungs` are measured ones, the best first; `windows` are scored inside
    each file; keyframes are `gop` frames apart; `streams` are the film's sounds. With `shots` each
    of them is encoded apart, at values that give the rung's score over the film. Rungs of a size in
    `halved` have every second frame.
    """

    film: Film
    out: Path
    rungs: tuple[Rung, ...]
    windows: tuple[Window, ...]
    gop: int
    streams: tuple[Stream, ...]
    statistic: str
    teacher: str
    shots: tuple[Window, ...] = ()
    threads: int = 1
    halved: frozenset[Size] = frozenset()

    def film_of(self, rung: Rung) -> Film:
        """The film as a rung has it."""
        return self.film.halved() if rung.size in self.halved else self.film

    def windows_of(self, rung: Rung) -> tuple[Window, ...]:
        """The windows that are scored inside a rung's file: the same seconds of every rung's."""
        if rung.size not in self.halved:
            return self.windows
        half, first = self.film.halved(), self.film.whole.start_frame
        return tuple(
            half.cut((window.start_frame - first) // 2, window.expected_frames // 2)
            for window in self.windows
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Made:
    """A rung's encode before it is packaged; `wanted` is what the run folder knows it by, None of
    one that was made by shots.
    """

    wanted: FilmEncode | None
    path: Path
    score: float
    error: float
    num_keyframes: int


def check_folder(out: Path, *, force: bool) -> None:
    """Raise UsageError for a folder that a ladder may not be written into."""
    if out.exists() and not out.is_dir():
        raise UsageError(f"--encode {out}: that is a file; name a folder")
    held = sorted(entry.name for entry in out.iterdir()) if out.is_dir() else []
    others = [name for name in held if name != PART]
    if others and not force:
        raise UsageError(
            f"--encode {out}: the folder holds {others[0]} already; name an empty one, or take the"
            " place of a ladder in it with --force"
        )


class RungsMaker:
    """Makes the files of one ladder. `run` yields events; then `made` holds the result."""

    def __init__(self, request: RungsRequest, study: Study, prior: Prior) -> None:
        self.request, self._study, self._prior = request, study, prior
        self.made: LadderFiles | None = None
        self._sentences: list[str] = []

    def run(self) -> Iterator[Event]:
        """Encode, score, package. Raises ToolError when a step cannot be done."""
        done: list[_Made] = []
        for rung in self.request.rungs:
            place = f"{name_of(rung)}, {len(done) + 1} of {len(self.request.rungs)}"
            yield NoticeEvent(message=f"encoding {place}")
            yield from (
                self._by_shots(rung, done) if self.request.shots else self._encode(rung, done)
            )
        try:
            self.made = self._deliver(done)
        except OSError as failure:
            raise ToolError(
                f"{self.request.out} cannot be written ({failure.strerror}); the encodes are kept,"
                " and the same command goes on from there"
            ) from failure
        for one in done:
            if one.wanted is not None:
                forget(self._study, one.wanted)
            else:
                forget_joined(one.path)
        self._study.finish()
        yield NoticeEvent(message=f"{self.made.playlist} is made")

    def _encode(self, rung: Rung, done: list[_Made]) -> Iterator[Event]:
        request, study = self.request, self._study
        name = name_of(rung)
        film = request.film_of(rung)
        wanted = FilmEncode(
            film=film.whole, setting=rung.setting, streams=(), out=Path(f"{name}.mp4")
        )
        file = film_file(study, wanted)
        found = keyframes(file.path)
        self._check_keyframes(name, found, each=2 if rung.size in request.halved else 1)
        pairs = pairs_inside(film, request.windows_of(rung), file.path, request.teacher)
        yield from measured(study, pairs, f"scoring {name}")
        scores = [study.scores(pair) for pair in pairs]
        rate = float(film.whole.frame_rate)
        share = sum(map(len, scores)) / film.num_frames
        score = pooled(request.statistic, scores, rate)
        error = standard_error(request.statistic, scores, rate, share=share)
        done.append(
            _Made(
                wanted=wanted,
                path=file.path,
                score=score,
                error=error,
                num_keyframes=len(found),
            )
        )
        yield NoticeEvent(
            message=f"{name} has VMAF {score:.2f} (+-{error:.2f}) inside its file, and"
            f" {rung.score:.2f} on windows alone"
        )

    def _by_shots(self, rung: Rung, done: list[_Made]) -> Iterator[Event]:
        """Encode each shot at the values that give the rung's score over the film, and join them.
        Every frame is scored on the way.
        """
        find = self._find(rung)
        encode = EncodeRequest(
            film=self.request.film,
            out=self._joined_place(rung, find),
            find=find,
            streams=(),
            quality=rung.setting.quality,
            shots=self.request.shots,
            over_film=True,
            force=True,  # what a kill left there without a record
        )
        known = read_joined(encode.out)
        if known is None:
            encode.out.parent.mkdir(exist_ok=True)
            maker = ShotEncoder(encode, self._study, self._prior)
            # Notices would tell of a file that nobody asked for.
            yield from (event for event in maker.run() if not isinstance(event, NoticeEvent))
            assert maker.made is not None
            known = Joined(size_bytes=maker.made.size_bytes, score=maker.made.score)
            write_joined(encode.out, known)
        name = name_of(rung)
        found = keyframes(encode.out)
        self._check_keyframes(name, found)
        done.append(
            _Made(
                wanted=None,
                path=encode.out,
                score=known.score,
                error=0.0,
                num_keyframes=len(found),
            )
        )
        yield NoticeEvent(
            message=f"{name} has VMAF {known.score:.2f} over the film, by shots, and"
            f" {rung.score:.2f} at one value on windows"
        )

    def _joined_place(self, rung: Rung, find: FindRequest) -> Path:
        """The joined file in the run folder, named by what decides its bytes."""
        quality = rung.setting.quality
        cells = [cell_of(find, find.candidates[0], s, quality) for s in self.request.shots]
        return joined_place(self._study, cells, f"{rung.score:.6f}")

    def _find(self, rung: Rung) -> FindRequest:
        """A rung as a search: its score is the target of all shots together."""
        request, setting = self.request, rung.setting
        row = setting.encoder
        return FindRequest(
            sample=whole(request.film),
            candidates=(
                Candidate(
                    encoder=row,
                    preset=setting.preset,
                    low=math.ceil(row.quality_min),
                    high=math.floor(row.quality_max),
                ),
            ),
            target=rung.score,
            size=setting.size,
            options=setting.options,
            threads=request.threads,
            teacher=request.teacher,
            maxrate_kbps=setting.maxrate_kbps,
            bufsize_kbps=setting.bufsize_kbps,
        )

    def _keyframes_wanted(self) -> list[int]:
        """Where every rung must have its keyframes: every `gop` frames, from each shot's first."""
        film, gop = self.request.film, self.request.gop
        if not self.request.shots:
            return list(range(0, film.num_frames, gop))
        places: list[int] = []
        for shot in self.request.shots:
            start = shot.start_frame - film.whole.start_frame
            places += range(start, start + shot.expected_frames, gop)
        return places

    def _check_keyframes(self, name: str, found: Sequence[int], *, each: int = 1) -> None:
        """Raise ToolError unless keyframes are where every rung must have them. A frame of this one
        stands for `each` of the film.
        """
        wanted, places = self._keyframes_wanted(), [place * each for place in found]
        if places == wanted:
            return
        wrong = min(set(places) ^ set(wanted))
        raise ToolError(
            f"{name}: frame {wrong} is {'a' if wrong in places else 'no'} keyframe, unlike in every"
            " other rung, and players could not switch there; use another encoder"
        )

    def _deliver(self, done: Sequence[_Made]) -> LadderFiles:
        """Package everything in a folder of its own, then move it to where the user wants it."""
        out = self.request.out
        part = out / PART
        shutil.rmtree(part, ignore_errors=True)
        part.mkdir(parents=True)
        files = tuple(
            self._package(rung, one, part)
            for rung, one in zip(self.request.rungs, done, strict=True)
        )
        sounds = self._package_sounds(part)
        write_text(part / MAIN, multivariant([_variant(file) for file in files], sounds))
        self._move(part)
        files = tuple(replace(file, path=out / file.path.name) for file in files)
        heard = sorted(path for path in out.glob("audio-*") if path.suffix != ".m3u8")
        self._sentences += _rules(files)
        return LadderFiles(
            playlist=out / MAIN,
            files=files,
            sounds=tuple(heard),
            sentences=tuple(self._sentences),
        )

    def _package(self, rung: Rung, made: _Made, part: Path) -> RungFile:
        path = part / f"{name_of(rung)}.mp4"
        rate = self._packaged(made.path, "0:v:0", rung.setting.encoder.codec, path)
        return RungFile(
            rung=rung,
            path=path,
            size_bytes=path.stat().st_size,
            score=made.score,
            error=made.error,
            rate=rate,
            codec=codec_word(path),
            num_keyframes=made.num_keyframes,
        )

    def _package_sounds(self, part: Path) -> list[Sound]:
        """The film's sounds apart from its pictures; those that a playlist may name."""
        film = Path(self.request.film.whole.path)
        sounds = []
        for number, stream in enumerate(self.request.streams, start=1):
            if stream.codec not in PLAYABLE:
                self._copy_sound(film, stream, part / f"audio-{number}.mka")
                continue
            path = part / f"audio-{number}.mp4"
            rate = self._packaged(film, f"0:{stream.index}", stream.codec, path)
            sounds.append(
                Sound(
                    playlist=path.with_suffix(".m3u8").name,
                    name=f"{number} {stream.language}" if stream.language else str(number),
                    language=stream.language,
                    rate=rate,
                    codec=codec_word(path),
                )
            )
        return sounds

    def _copy_sound(self, film: Path, stream: Stream, path: Path) -> None:
        try:
            copy_stream(film, stream.index, path, self._study.ffmpeg, self._timeout_s)
        except CellFailure as failure:
            raise ToolError(f"{film}: {failure}") from failure
        self._sentences.append(
            f"{path.name} is {stream.codec}, which HLS does not play: the playlist does not name it"
        )

    def _packaged(self, film: Path, stream: str, codec: str, path: Path) -> Rate:
        try:
            return package(
                film, stream, codec, path, self._piece_s, self._study.ffmpeg, self._timeout_s
            )
        except CellFailure as failure:
            raise ToolError(f"{path.name}: {failure}") from failure

    @property
    def _piece_s(self) -> float:
        """Seconds of a piece; half a frame less, so that rounding never costs a keyframe."""
        frames = Fraction(GOPS_A_PIECE * self.request.gop) - Fraction(1, 2)
        return float(frames / self.request.film.whole.frame_rate)

    @property
    def _timeout_s(self) -> float:
        return self._study.options.timeout_s or SHORTEST_TIMEOUT_S

    def _move(self, part: Path) -> None:
        """Put what is finished into the ladder's folder, its playlist last."""
        out = self.request.out
        names = sorted(path.name for path in part.iterdir())
        (out / MAIN).unlink(missing_ok=True)
        old = [path for path in out.iterdir() if _OURS.fullmatch(path.name)]
        for path in old:
            path.unlink()
        for name in (*(name for name in names if name != MAIN), MAIN):
            os.replace(part / name, out / name)
        part.rmdir()


def name_of(rung: Rung) -> str:
    """What a rung's file is called: `1280x720_2400k`."""
    return f"{rung.size[0]}x{rung.size[1]}_{rung.kbps:.0f}k"


def _variant(file: RungFile) -> Variant:
    rung = file.rung
    return Variant(
        playlist=file.path.with_suffix(".m3u8").name,
        width=rung.size[0],
        height=rung.size[1],
        frame_rate=rung.frame_rate,
        rate=file.rate,
        codec=file.codec,
    )


def _rules(files: Sequence[RungFile]) -> list[str]:
    """Where the whole film breaks a rule that its windows kept."""
    return [
        f"over the whole film {above.path.stem} and {below.path.stem} are a factor"
        f" {above.rate.mean / below.rate.mean:.2f} apart, and not {APART}"
        for above, below in zip(files, files[1:], strict=False)
        if above.rate.mean < APART * below.rate.mean
    ]
