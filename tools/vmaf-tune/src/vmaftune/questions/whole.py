"""Encode a film whole: search on windows, encode, score inside the encode, and once more if it is
off.

    find --quality--> film_file --windows of both--> measured --offset--> another quality? --> OUT

Windows that are encoded alone score differently from the same frames of a whole encode, by up to a
point or so. So the film is scored inside the encode, and the curve that was foretold is moved by
what it was off.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

from vmaf_train.prior import Prior

from vmaftune.cell import Pair, Window
from vmaftune.costs import counted, duration
from vmaftune.engine.events import CellEvent, Event, NoticeEvent
from vmaftune.engine.films import FilmFile, film_file, forget, making
from vmaftune.engine.study import Study
from vmaftune.errors import ToolError
from vmaftune.media.output import appear, beside
from vmaftune.media.whole import FilmEncode
from vmaftune.questions.film import (
    EncodeRequest,
    FilmAttempt,
    Made,
    measured,
    pairs_inside,
    stretches,
)
from vmaftune.questions.find import Finder
from vmaftune.questions.find_request import cell_of
from vmaftune.questions.progress import Progress
from vmaftune.questions.sample import pooled, standard_error
from vmaftune.questions.told import told_answers


@dataclass(slots=True)
class _Curve:
    """Foretold scores by quality value, finest first, and what they were found to be off: on the
    prior's scale, where a curve that is off keeps its shape also near 100.
    """

    prior: Prior
    scores: dict[float, float]
    offset: float = 0.0

    def at(self, quality: float) -> float | None:
        """The score that is expected at a quality value; None where nothing was foretold."""
        import numpy as np

        score = self.scores.get(quality)
        if score is None or not self.offset:
            return score
        return float(self.prior.to_score(np.array(self._z(score))))

    def best(self, target: float) -> float | None:
        """The largest quality value that is expected to meet the target."""
        wanted = self.prior.to_z(target)
        meets = [q for q, score in self.scores.items() if self._z(score) >= wanted]
        return max(meets, default=None)

    def learn(self, foretold: float, measured: float) -> None:
        """Move the curve by what an encode was off."""
        self.offset += self.prior.to_z(measured) - self.prior.to_z(foretold)

    def _z(self, score: float) -> float:
        return self.prior.to_z(score) + self.offset


class WholeEncoder:
    """Makes the file of one film. `run` yields events; then `made` holds the result."""

    def __init__(self, request: EncodeRequest, study: Study, prior: Prior) -> None:
        self.request, self._study, self._prior = request, study, prior
        self.made: Made | None = None
        self._files: dict[float, FilmFile] = {}
        self._attempts: list[FilmAttempt] = []
        self._windows: tuple[Window, ...] = ()
        self._num_probes = 0

    def run(self) -> Iterator[Event]:
        """Search, encode, score. Raises ToolError when a step cannot be done."""
        curve = _Curve(prior=self._prior, scores={})
        quality = self.request.quality
        if quality is None:
            finder = Finder(self.request.find, self._study, self._prior)
            yield from finder.run()
            yield from told_answers(finder)
            quality = self._take(finder, curve)
        self._windows = self._chosen_windows(self._windows)
        yield from self._attempt(quality, curve)
        again = self._again(curve)
        if again is not None:
            yield from self._attempt(again, curve)
        yield from self._deliver()

    def _take(self, finder: Finder, curve: _Curve) -> float:
        """The quality value to begin with, and the foretold curve. The finest where none meets."""
        found = finder.found[0]
        if found.quality is None or found.answer is None:
            raise ToolError("the search gave no quality value; see its folder with report")
        told = found.answer.curve
        assert told is not None  # only a search with the prior is asked for an encode
        pairs = zip(told.quality, told.score, strict=True)
        curve.scores = {float(q): float(score) for q, score in pairs}
        # The folder may hold probes of other encoders and presets, whose scores are not this one's.
        own = [p for p in finder.probes if p.candidate.name == found.candidate.name]
        curve.scores |= {p.quality: p.score for p in own}
        self._num_probes = len(own)
        used = found.probe.num_windows if found.probe else len(finder.request.sample.windows)
        self._windows = finder.request.sample.windows[:used]
        return found.quality

    def _chosen_windows(self, searched: tuple[Window, ...]) -> tuple[Window, ...]:
        """The windows that are scored inside the encode."""
        film, sample = self.request.film, self.request.find.sample
        if self.request.verify_all or sample.is_whole:
            return stretches(film)
        return searched or sample.windows[:8]

    def _attempt(self, quality: float, curve: _Curve) -> Iterator[Event]:
        wanted = self._encode_of(quality)
        cell = cell_of(self.request.find, self.request.find.candidates[0], wanted.film, quality)
        cores = max(1, self._study.options.jobs)
        yield NoticeEvent(
            message=f"encoding the whole film at {quality:g}, about"
            f" {duration(cell.expected_encode_s / cores)}"
        )
        file = yield from self._encoded(wanted)
        self._files[quality] = file
        film, teacher = self.request.film, self.request.find.teacher
        pairs = pairs_inside(film, self._windows, file.path, teacher)
        yield from self._scored(pairs)
        scores = [self._study.scores(pair) for pair in pairs]
        fps = float(film.whole.frame_rate)
        share = sum(len(s) for s in scores) / film.num_frames
        name = self.request.find.statistic
        attempt = FilmAttempt(
            quality=quality,
            foretold=curve.at(quality),
            measured=pooled(name, scores, fps),
            error=standard_error(name, scores, fps, share=share),
            size_bytes=file.size_bytes,
            cpu_s=file.cpu_s,
            num_windows=len(pairs),
        )
        self._attempts.append(attempt)
        yield NoticeEvent(message=_said(attempt))

    def _encoded(self, wanted: FilmEncode) -> Generator[Event, None, FilmFile]:
        """The encode of the film, and how far it is."""
        number, total = len(self._attempts) + 1, self.request.film.num_frames
        progress = Progress(
            "encode",
            total,
            attempt=number,
            after_s=self._expected_scoring_s(wanted.setting.quality),
        )
        for frames in chain(making(self._study, wanted), [total]):
            told = progress.at(frames)
            if told is not None:
                yield told
        return film_file(self._study, wanted)

    def _expected_scoring_s(self, quality: float) -> float:
        find = self.request.find
        cells = (cell_of(find, find.candidates[0], w, quality) for w in self._windows)
        return sum(c.expected_score_s for c in cells) / max(1, self._study.options.jobs)

    def _scored(self, pairs: Sequence[Pair]) -> Iterator[Event]:
        """Score windows of the encode, and tell how far that is."""
        number = len(self._attempts) + 1
        frames = {pair.id: pair.num_frames for pair in pairs}
        progress = Progress("score", sum(frames.values()), attempt=number)
        done = 0
        for event in measured(self._study, pairs, "scoring the encode"):
            yield event
            if isinstance(event, CellEvent) and event.cell in frames:
                done += frames[event.cell]
                told = progress.at(done)
                if told is not None:
                    yield told

    def _encode_of(self, quality: float) -> FilmEncode:
        find, film = self.request.find, self.request.film
        return FilmEncode(
            film=film.whole,
            setting=find.setting(find.candidates[0], quality),
            streams=self.request.streams,
            out=self.request.out,
        )

    def _again(self, curve: _Curve) -> float | None:
        """Another quality value, when the encode is off by more than a step; None when it is not.

        An encode that misses the target is always worth another one.
        """
        last, find = self._attempts[-1], self.request.find
        if self.request.quality is not None or last.foretold is None:
            return None
        curve.learn(last.foretold, last.measured)
        better = curve.best(find.target)
        step = find.candidates[0].step
        if last.measured < find.target:
            finest = min(curve.scores)
            wanted = min(better if better is not None else finest, last.quality - step)
            return wanted if wanted >= finest else None
        return better if better is not None and better > last.quality + step else None

    def _deliver(self) -> Iterator[Event]:
        """Put the best encode where the user wants it, and say what it is."""
        best = self._best()
        request = self.request
        _move(self._files[best.quality].path, request.out, force=request.force)
        for attempt in self._attempts:
            forget(self._study, self._encode_of(attempt.quality))
        self._study.finish()
        asked = self.request.quality is not None
        self.made = Made(
            out=self.request.out,
            size_bytes=best.size_bytes,
            num_frames=self.request.film.num_frames,
            score=best.measured,
            error=best.error,
            is_met=asked or best.measured >= self.request.find.target,
            attempts=tuple(self._attempts),
            num_encodes=self._num_probes + len(self._attempts),
        )
        yield NoticeEvent(message=f"{self.request.out} is made")

    def _best(self) -> FilmAttempt:
        """The smallest encode that meets the target, else the one that comes nearest."""
        target = self.request.find.target
        meets = [a for a in self._attempts if a.measured >= target]
        if meets:
            return min(meets, key=lambda a: a.size_bytes)
        return max(self._attempts, key=lambda a: a.measured)


def _said(attempt: FilmAttempt) -> str:
    told = "" if attempt.foretold is None else f", foretold {attempt.foretold:.2f}"
    return (
        f"at {attempt.quality:g} the encode has VMAF {attempt.measured:.2f}"
        f" (+-{attempt.error:.2f} over {counted(attempt.num_windows, 'window')}{told})"
    )


def _move(file: Path, out: Path, *, force: bool) -> None:
    """Bring a file to where the user wants it, so that it appears whole, also on another disk.

    The one in the run folder stays until the caller removes it.
    """
    part = beside(out)
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        part.unlink(missing_ok=True)
        _copy(file, part)
        appear(part, out, force=force)
    except OSError as failure:
        raise ToolError(
            f"{out} cannot be written ({failure.strerror}); name another place with -o"
        ) from failure
    finally:
        part.unlink(missing_ok=True)


def _copy(file: Path, part: Path) -> None:
    """The same file under another name where the disk can do that, else a copy."""
    try:
        os.link(file, part)
    except OSError:
        shutil.copyfile(file, part)
