"""`score` made ready and done: files paired with their reference, a folder for each model."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from vmaftune.asking.running import OnEvent, Running
from vmaftune.cell import digest
from vmaftune.engine.options import Options
from vmaftune.engine.study import Study
from vmaftune.errors import UsageError
from vmaftune.media.ffmpeg import Ffmpeg, find_ffmpeg, identify, usable_cores
from vmaftune.media.model_file import read_model_file
from vmaftune.metrics import neg_of
from vmaftune.questions import pairs
from vmaftune.questions.pairs import PairPlan
from vmaftune.questions.score import Scored, ScoreRequest, plan_scores, with_teacher

SCORES = Path("runs/score")


@dataclass(frozen=True, slots=True, kw_only=True)
class ScoreJob:
    """Files that are ready to be scored with one model."""

    plan: PairPlan
    folder: Path
    ffmpeg: Ffmpeg
    options: Options


def score_jobs(request: ScoreRequest, running: Running, *, neg: bool) -> tuple[ScoreJob, ...]:
    """The pairs of a request as a job, and with `neg` once more for the NEG model.

    Raises as `score`.
    """
    path = find_ffmpeg(running.ffmpeg)
    if neg and read_model_file(request.teacher) is not None:
        raise UsageError("--neg goes with libvmaf's own models; leave it out beside a model file")
    plan = plan_scores(request, identify(running.runner, path))
    teachers = {pair.teacher for pair in plan.pairs}
    assert len(teachers) == 1  # all pairs have one reference and one display size
    plans = [plan]
    if neg:
        plans.append(with_teacher(plan, neg_of(plan.pairs[0].teacher)))
    slots = running.jobs or usable_cores()
    options = Options(
        jobs=slots,
        pair_threads=max(1, slots // len(plan.pairs)),
        timeout_s=running.timeout_s,
        retry_failed=running.retry_failed,
    )
    return tuple(
        ScoreJob(
            plan=one,
            folder=_score_folder(one, running.out),
            ffmpeg=_ffmpeg(running, path, one),
            options=options,
        )
        for one in plans
    )


def _ffmpeg(running: Running, path: str, plan: PairPlan) -> Ffmpeg:
    """The ffmpeg, once it has scored with the plan's model. Raises ToolError."""
    pair = plan.pairs[0]
    file = Path(pair.model_file) if pair.model_file is not None else None
    return identify(running.runner, path, pair.teacher, file)


def score_files(job: ScoreJob, on_event: OnEvent | None = None) -> tuple[Scored, ...]:
    """Score what the job's folder does not answer. Raises as `score`."""
    told = on_event or (lambda event: None)
    with Study.open(job.folder, job.plan, job.ffmpeg, job.options, argv=sys.argv) as study:
        with closing(pairs.run(job.plan, study)) as events:
            for event in events:
                told(event)
        return tuple(_scored(study, job.plan))


def _scored(study: Study, plan: PairPlan) -> Iterator[Scored]:
    for pair in plan.pairs:
        row = study.result(pair)
        assert row is not None  # every pair of the plan was measured, or failed
        if not row.is_ok:
            yield Scored(pair=pair, row=row, scores=())
            continue
        yield Scored(pair=pair, row=row, scores=study.scores(pair), values=study.values(pair))


def _score_folder(plan: PairPlan, out: Path | None) -> Path:
    """`runs/score/<reference>-<8 hex of the pairs, their names and the model>`, or `out`, with the
    model's name where it is NEG.
    """
    teacher = plan.pairs[0].teacher
    if out is not None:
        return out / teacher if teacher.endswith("neg") else out
    stem = re.sub(r"[^A-Za-z0-9._-]+", "_", plan.name)[:100]
    made_of = [teacher, *([pair.id, pair.identity()] for pair in plan.pairs)]
    return SCORES / f"{stem}-{digest(made_of)[:8]}"
