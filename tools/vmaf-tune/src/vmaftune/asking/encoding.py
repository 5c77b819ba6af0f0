"""`encode` made ready and done: what cannot be held is refused before anything is encoded."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from vmaf_train.prior import load as load_prior

from vmaftune.asking.finding import Question, Wanted, drive, find_question, open_study
from vmaftune.asking.joins import check_joins, shot_windows
from vmaftune.asking.running import OnEvent, Running
from vmaftune.cell import Window
from vmaftune.errors import UsageError
from vmaftune.media.containers import (
    Stream,
    check_streams,
    companions,
    container_of,
    fitting,
)
from vmaftune.media.output import check_free, check_other, check_place
from vmaftune.metrics import VMAF
from vmaftune.questions.film import EncodeRequest, Made
from vmaftune.questions.kept import check_depth, lost
from vmaftune.questions.shots import ShotEncoder
from vmaftune.questions.whole import WholeEncoder
from vmaftune.request.flags import Texts


@dataclass(frozen=True, slots=True, kw_only=True)
class Keep:
    """What of a film is copied beside its pictures."""

    audio: bool = True
    subtitles: bool = True
    attachments: bool = True

    def of(self, streams: Sequence[Stream]) -> tuple[Stream, ...]:
        """The streams that are kept."""
        wanted = {
            "audio": self.audio,
            "subtitle": self.subtitles,
            "attachment": self.attachments,
            "cover": self.attachments,
        }
        return tuple(s for s in streams if wanted.get(s.kind, False))


@dataclass(frozen=True, slots=True, kw_only=True)
class EncodeJob:
    """The file to make and how; see `encode`."""

    out: Path
    quality: float | None = None
    way: str = "whole"
    over_film: bool = False
    verify: str = "windows"
    keep: Keep = field(default_factory=Keep)
    force: bool = False


def encode_question(
    texts: Texts, job: EncodeJob, wanted: Wanted, running: Running
) -> tuple[Question, EncodeRequest]:
    """Everything that an encode needs; refuses what cannot be held before anything is encoded.

    Raises as `encode`.
    """
    _check_job(job, wanted, running)
    question = find_question(texts, wanted, running)
    if len(question.request.candidates) != 1:
        raise UsageError("encode takes one encoder with one preset; `find` compares several")
    check_other(job.out, Path(question.film.whole.path))
    candidate = question.request.candidates[0]
    if job.quality is not None:
        candidate.encoder.check_quality(job.quality)
    every = companions(Path(question.film.whole.path))
    streams = fitting(job.out, job.keep.of(every))
    check_streams(job.out, candidate.encoder.codec, streams)
    check_depth(question.film.whole, candidate.encoder)
    windows = _shot_windows(question, job) if job.way == "shots" else ()
    request = EncodeRequest(
        film=question.film,
        out=job.out,
        find=question.request,
        streams=streams,
        quality=job.quality,
        shots=windows,
        over_film=job.over_film,
        verify_all=job.verify == "full",
        force=job.force,
    )
    left_out = [s for s in every if s.kind in ("cover", "data", "video") and s not in streams]
    said = [f"stream {s.index} ({s.kind}, {s.codec}) is left out of {job.out}" for s in left_out]
    notices = (*question.notices, *said, *lost(request, question.ffmpeg))
    options = replace(question.options, retry_failed=True)
    return replace(question, notices=notices, options=options), request


def _check_job(job: EncodeJob, wanted: Wanted, running: Running) -> None:
    """Raise UsageError for what makes no sense, and for a file that exists."""
    if running.target is not None and job.way != "shots":
        raise UsageError(
            "--cluster goes with --shots: one long encode is the work of one machine; leave one out"
        )
    if job.way not in ("whole", "shots") or job.verify not in ("windows", "full"):
        raise UsageError("an encode is whole or by shots, and verified by windows or in full")
    container_of(job.out)
    check_place(job.out)
    if not job.force:
        check_free(job.out)
    if wanted.metric != VMAF or wanted.guards:
        raise UsageError("encode takes a VMAF target and no guards; `find` takes both")


def _shot_windows(question: Question, job: EncodeJob) -> tuple[Window, ...]:
    """A window for each shot of the film. Raises UsageError for what cannot be joined."""
    film, candidate = question.film, question.request.candidates[0]
    if job.quality is not None:
        raise UsageError("--shots searches a quality value for each shot; leave out --quality")
    check_joins(film, candidate.encoder)
    timeout_s = question.options.timeout_s or max(3600.0, film.seconds * 10)
    return shot_windows(film, question.ffmpeg, timeout_s)


def make_film(
    question: Question,
    request: EncodeRequest,
    *,
    model_dir: Path | None = None,
    on_event: OnEvent | None = None,
) -> Made:
    """Encode. Probes and finished encodes are kept in the question's folder until the file is
    there. Raises as `encode`.
    """
    prior = load_prior(model_dir)
    with open_study(question) as study:
        maker: WholeEncoder | ShotEncoder
        if request.shots:
            maker = ShotEncoder(request, study, prior)
        else:
            maker = WholeEncoder(request, study, prior)
        drive(question, maker.run(), on_event)
    assert maker.made is not None
    return maker.made
