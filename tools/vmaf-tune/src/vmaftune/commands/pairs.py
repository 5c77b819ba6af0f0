"""The `--pairs` half of `vmaf-tune corpus`: score encodes that exist already."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from vmaftune import console
from vmaftune.cell import TEACHER, Tools, check_utf8
from vmaftune.commands.running import drive, foresee, next_report
from vmaftune.engine import study
from vmaftune.engine.folder import latest_rows
from vmaftune.engine.study import Options
from vmaftune.errors import SweepFailed, UsageError
from vmaftune.media.ffmpeg import find_ffmpeg, identify, usable_cores
from vmaftune.media.process import Runner
from vmaftune.questions.pair_run import PairRun, state
from vmaftune.questions.pairs import PairPlan, plan_pairs
from vmaftune.request.flags import Preparation, check_preparation, words

# What describes an encode to make, or a window to cut: pairs are scored as they are, whole.
NOT_WITH_PAIRS = (
    "sources",
    "encoders",
    "presets",
    "quality",
    "sweep",
    "start",
    "frames",
    "crop",
    "scale",
    "deinterlace",
    "threads_per_encode",
    "keep_encodes",
    "gpu",
    "skip_unusable",
)


def score_pairs(place: Path, runner: Runner, given: Mapping[str, Any]) -> None:
    """`vmaf-tune corpus --pairs PLACE` with the options of the command line, by name.

    Raises UsageError for an option that pairs have no use for, SweepFailed when pairs failed.
    """

    useless = [f"--{name.replace('_', '-')}" for name in NOT_WITH_PAIRS if given[name]]
    if useless:
        raise UsageError(
            f"{useless[0].replace('--sources', 'a list of sources')} does not go with --pairs: its"
            " files are scored as they are, from the first frame to the last"
        )
    if given["scorer"] == "cuda":
        raise UsageError(
            "--scorer cuda does not go with --pairs: they are scored on the CPU; leave it out"
        )
    allow = words(given["allow"])
    check_preparation(Preparation(allow=allow), "the command line")
    teacher = given["vmaf_model"] or TEACHER
    plan = plan_pairs(
        place,
        size=given["size"],
        fps=given["fps"],
        pix_fmt=given["pix_fmt"],
        allow=allow,
        teacher=teacher,
        features="full" if given["features"] == "full" else "six",
        select_globs=given["select"] or [],
    )
    raw = [name for name in ("size", "fps", "pix_fmt") if given[name]]
    if raw and not any(
        clip.raw for pair in plan.pairs for clip in (pair.reference, pair.distorted)
    ):
        raise UsageError(
            f"--{raw[0].replace('_', '-')} describes raw .yuv files, and none of these pairs has"
            " one; leave it out"
        )
    ffmpeg = identify(runner, find_ffmpeg(given["ffmpeg"]), teacher)
    folder = (
        Path(given["out"])
        if given["out"]
        else Path("runs/phase_a") / re.sub(r"[^A-Za-z0-9._-]+", "_", plan.name)
    )
    check_utf8(folder)
    options = study.Options(
        jobs=given["jobs"] or usable_cores(),
        timeout_s=given["timeout"],
        retry_failed=given["retry_failed"],
    )
    if given["dry_run"]:
        foresee(folder, plan, extend=given["extend"], part=bool(given["select"]))
        _show_plan(plan, folder, ffmpeg.identity, options, as_json=given["as_json"])
        return
    num_failed = drive(
        folder,
        plan,
        lambda: PairRun(plan, folder, ffmpeg, options),
        jobs=options.jobs,
        extend=given["extend"],
        part=bool(given["select"]),
        as_json=given["as_json"],
    )
    if not given["as_json"]:
        _summary(plan, folder)
    if num_failed < len(plan.pairs):
        next_report(folder)
    if num_failed:
        raise SweepFailed(
            f"{num_failed} of {len(plan.pairs)} pairs failed; their rows in {folder}/cells.jsonl"
            " say why and give a command to paste; try them again with --retry-failed"
        )


def _show_plan(
    plan: PairPlan, folder: Path, tools: Tools, options: Options, *, as_json: bool
) -> None:

    found = state(plan, folder, tools, retry_failed=options.retry_failed)
    seconds = study.expected_seconds(found.left, options.jobs)
    if as_json:
        console.json_document(
            {
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
        )
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
        f"{folder}: {len(left)} of {len(plan.pairs)} to do, about {console.duration(seconds)} on"
        f" {options.jobs} slots"
    )


def _summary(plan: PairPlan, folder: Path) -> None:
    """A table of the plan's finished pairs per source."""

    found = latest_rows(folder)
    sources: dict[str, list[dict[str, Any]]] = {}
    for pair in plan.pairs:
        if pair.id in found:
            sources.setdefault(pair.reference.name, []).append(found[pair.id])
    lines = []
    for name, members in sources.items():
        scores = [r["vmaf_score"] for r in members if r["status"] == "ok"]
        flags = sorted({flag for r in members if r["status"] == "ok" for flag in r["flags"]})
        span = f"{min(scores):.1f}–{max(scores):.1f}" if scores else None
        lines.append(
            (name, len(scores), len(members) - len(scores), span, ", ".join(flags) or None)
        )
    console.table("", ("source", "ok", "failed", "VMAF", "flags"), lines)
