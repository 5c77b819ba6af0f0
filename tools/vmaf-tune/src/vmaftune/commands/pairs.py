"""The `--pairs` half of `vmaf-tune corpus`: score encodes that exist already."""

from __future__ import annotations

import re
import sys
from dataclasses import replace
from pathlib import Path

from vmaf_train.corpus.rows import CELLS, CellRow, latest

from vmaftune import console
from vmaftune.cell import TEACHER, Cell, Pair, check_utf8
from vmaftune.commands.running import drive, foresee, next_report
from vmaftune.costs import counted, duration
from vmaftune.engine.answers import State
from vmaftune.engine.options import Options
from vmaftune.engine.standing import expected_seconds, standing
from vmaftune.engine.study import Study
from vmaftune.errors import SweepFailed, UsageError
from vmaftune.media import further
from vmaftune.media.ffmpeg import Ffmpeg, find_ffmpeg, identify, usable_cores
from vmaftune.media.process import Runner
from vmaftune.questions import pairs
from vmaftune.questions.pairs import PairPlan, plan_pairs, with_metrics
from vmaftune.request.flags import Flags, RunFlags

# What describes an encode to make, or a window to cut: pairs are scored as they are, whole.
NOT_WITH_PAIRS = (
    "sources",
    "encoders",
    "presets",
    "quality",
    "options",
    "sizes",
    "maxrate",
    "bufsize",
    "quick",
    "skip_unfit",
    "sweep",
    "start",
    "frames",
    "samples",
    "sample_seconds",
    "chunk",
    "crop",
    "scale",
    "deinterlace",
    "threads_per_encode",
    "keep_encodes",
    "scratch_budget",
    "cluster",
    "workers",
    "insecure",
    "shard",
    "gpu",
    "skip_unusable",
)


def score_pairs(place: Path, runner: Runner, flags: Flags, run: RunFlags) -> None:
    """`vmaf-tune corpus --pairs PLACE`.

    Raises UsageError for an option that pairs have no use for, SweepFailed when pairs failed.
    """

    check_useless(flags, run)
    teacher = flags.teacher or TEACHER
    plan = _plan(place, flags, run, teacher)
    ffmpeg = identify(runner, find_ffmpeg(run.ffmpeg), teacher)
    further.require(ffmpeg, flags.metrics or ())
    folder = flags.out or Path("runs/phase_a") / re.sub(r"[^A-Za-z0-9._-]+", "_", plan.name)
    check_utf8(folder)
    options = Options(
        jobs=run.jobs or usable_cores(),
        timeout_s=run.timeout,
        retry_failed=run.retry_failed,
        verify=run.verify,
    )
    if run.dry_run:
        foresee(folder, plan, extend=run.extend, part=bool(run.select))
        _show_plan(plan, folder, ffmpeg, options, as_json=run.as_json)
        return
    part = bool(run.select)
    study = Study.open(folder, plan, ffmpeg, options, argv=sys.argv, extend=run.extend, part=part)
    num_failed = drive(study, plan.pairs, lambda study: pairs.run(plan, study), as_json=run.as_json)
    if not run.as_json:
        _summary(plan, folder)
    if num_failed < len(plan.pairs):
        next_report(folder)
    if num_failed:
        raise SweepFailed(
            f"{num_failed} of {len(plan.pairs)} pairs failed; their rows in {folder}/cells.jsonl"
            " say why and give a command to paste; try them again with --retry-failed"
        )


def _plan(place: Path, flags: Flags, run: RunFlags, teacher: str) -> PairPlan:
    """The pairs of a place. Raises UsageError for a description of raw files where none is."""
    raw = flags.preparation
    plan = plan_pairs(
        place,
        size=raw.size,
        fps=raw.fps,
        pix_fmt=raw.pix_fmt,
        allow=raw.allow,
        teacher=teacher,
        features=run.features,
        select_globs=run.select,
    )
    plan = replace(plan, pairs=with_metrics(plan.pairs, flags.metrics or ()))
    described = [name for name in ("size", "fps", "pix_fmt") if name in flags.given]
    if described and not any(
        clip.raw for pair in plan.pairs for clip in (pair.reference, pair.distorted)
    ):
        raise UsageError(
            f"--{described[0].replace('_', '-')} describes raw .yuv files, and none of these pairs"
            " has one; leave it out"
        )
    return plan


def check_useless(flags: Flags, run: RunFlags) -> None:
    """Raises UsageError for an option that makes no sense for files that are scored as they are."""
    given = flags.given | run.given()
    useless = [f"--{name.replace('_', '-')}" for name in NOT_WITH_PAIRS if name in given]
    if useless:
        raise UsageError(
            f"{useless[0].replace('--sources', 'a list of sources')} does not go with --pairs: its"
            " files are scored as they are, from the first frame to the last"
        )
    if run.scorer == "cuda":
        raise UsageError(
            "--scorer cuda does not go with --pairs: they are scored on the CPU; leave it out"
        )


def _show_plan(
    plan: PairPlan, folder: Path, ffmpeg: Ffmpeg, options: Options, *, as_json: bool
) -> None:

    found = standing(plan.pairs, folder, ffmpeg, retry_failed=options.retry_failed)
    seconds = expected_seconds(found.left, options.jobs)
    if as_json:
        console.json_document(_plan_document(plan, folder, found, seconds))
        return
    for notice in plan.notices:
        console.warn(notice)
    left = {p.id for p in found.left}
    console.table(
        f"{len(plan.pairs)} pairs",
        ("pair", "frames", "size", "scored as", "to do"),
        [
            (
                p.id,
                p.reference.expected_frames,
                f"{p.distorted.width}x{p.distorted.height}",
                f"{p.reference.width}x{p.reference.height} {p.pix_fmt}",
                p.id in left,
            )
            for p in plan.pairs
        ],
    )
    console.say(
        f"{folder}: {len(left)} of {len(plan.pairs)} to do, about {duration(seconds)} on"
        f" {counted(options.jobs, 'slot')}"
    )


def _plan_document(
    plan: PairPlan, folder: Path, found: State[Cell | Pair], seconds: float
) -> dict[str, object]:
    """The plan as `--dry-run --json` prints it."""
    return {
        "folder": str(folder),
        "num_cells": len(plan.pairs),
        "num_frames": sum(p.reference.expected_frames for p in plan.pairs),
        "num_done": len(found.done),
        "num_failed": len(found.failed),
        "num_left": len(found.left),
        "expected_s": round(seconds, 1),
        "disk_bytes": 0,
        "cells": [p.id for p in plan.pairs],
    }


def _summary(plan: PairPlan, folder: Path) -> None:
    """A table of the plan's finished pairs per source."""

    found = latest(folder / CELLS)
    sources: dict[str, list[CellRow]] = {}
    for pair in plan.pairs:
        if pair.id in found:
            sources.setdefault(pair.reference.name, []).append(found[pair.id])
    lines = []
    for name, members in sources.items():
        finished = [row for row in members if row.is_ok]
        scores = [row.vmaf_score or 0.0 for row in finished]
        flags = sorted({flag for row in finished for flag in row.flags})
        span = f"{min(scores):.1f}–{max(scores):.1f}" if scores else None
        lines.append(
            (name, len(scores), len(members) - len(scores), span, ", ".join(flags) or None)
        )
    console.table("", ("source", "ok", "failed", "VMAF", "flags"), lines)
