"""`vmaf-tune doctor --confirm`: a short real sweep per hardware encoder, checked, as a report to
paste into an issue.

No hardware was at hand when its rows were written; this is how a machine that has it says whether
they are right.
"""

from __future__ import annotations

import platform
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vmaftune import console
from vmaftune.cell import Tools
from vmaftune.encoders import ENCODERS, Encoder, Selection, planar
from vmaftune.engine.events import CellEvent
from vmaftune.engine.folder import latest_rows
from vmaftune.engine.study import Options, Study
from vmaftune.errors import SweepFailed, ToolError
from vmaftune.hardware import selection as usable
from vmaftune.hardware.gpus import Gpus
from vmaftune.media.ffmpeg import Ffmpeg, packages, usable_cores
from vmaftune.questions import grid
from vmaftune.request.cells import plan_cells
from vmaftune.request.flags import Flags, request_from
from vmaftune.request.sources import resolve_sources

NUM_FRAMES = 40
# Moving shapes, text and noise: the score falls with every step of quality, and the top is not
# clipped to 100.
PICTURE = "testsrc2=size=640x360:rate=24,noise=alls=8:allf=t:all_seed=7"
CLIPS = {"eight_bit": "yuv420p", "ten_bit": "yuv420p10le"}
# Below this the best quality value of any row of the table has gone wrong.
LEAST_VMAF = 70.0
ISSUES = "an issue of the project"


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """One thing that must hold for an encoder. `detail` is what was found."""

    encoder: str
    name: str
    passed: bool
    detail: str


def run(
    ffmpeg: Ffmpeg,
    gpus: Gpus,
    asked: Selection | None,
    wanted: Sequence[str],
    *,
    as_json: bool = False,
) -> None:
    """Confirm the hardware encoders that a trial proves usable, or those of `asked`, whatever they
    are.

    Prints a report in Markdown (or JSON). Raises ToolError when what was asked for cannot run,
    SweepFailed when a check does not hold.
    """
    cache = usable.Cache(ffmpeg.identity, gpus)
    hardware = tuple(row for row in ENCODERS.values() if row.kind)
    selection = asked or Selection(encoders=hardware, named=frozenset(), auto=True)
    trials = usable.prove(selection.encoders, ffmpeg, gpus=gpus, wanted_gpus=wanted, cache=cache)
    if asked is None and not usable.split(selection, trials_at(trials, "yuv420p"))[0]:
        nothing(as_json=as_json)
        return
    resolved = usable.choose_encoders(selection, ffmpeg, wanted_gpus=wanted, gpus=gpus, cache=cache)
    rows = resolved.encoders
    cells, failures = sweep(ffmpeg, resolved, trials)
    checks = [check for row in rows for check in check_encoder(row, cells, failures)]
    if as_json:
        console.json_document({"cells": cells + failures, "checks": [_as_dict(c) for c in checks]})
    else:
        console.out(markdown(ffmpeg.identity, gpus, trials, cells, failures, checks))
        console.say(f"paste the lines above into {ISSUES}", "cyan")
    broken = [c for c in checks if not c.passed]
    if broken:
        raise SweepFailed(
            f"{len(broken)} of {len(checks)} checks do not hold; the first: {broken[0].encoder},"
            f" {broken[0].name}"
        )


def trials_at(trials: Sequence[usable.Trial], source_format: str) -> list[usable.Trial]:
    """The trials at the format that sources of `source_format` are encoded to."""
    return [t for t in trials if t.pix_fmt == ENCODERS[t.encoder].pix_fmt_for(source_format)]


def nothing(*, as_json: bool) -> None:
    """Say that no hardware works here, and what would run where it does."""
    kinds = [row.name for row in ENCODERS.values() if row.group in ("nvenc", "qsv")]
    message = (
        "nothing to confirm: no hardware encoder works on this machine (vmaf-tune doctor says"
        f" why).\nWhere one does, this command encodes {NUM_FRAMES} frames at 640x360, 8 and 10"
        " bit, with each of the four default quality values of every one that works"
        f" ({', '.join(kinds)}, AMF, VAAPI, VideoToolbox), scores them on the CPU, and checks frame"
        " counts, sizes, formats, ignored options, the rate control that ran, and that VMAF and"
        " bitrate fall with the quality.\nTo see it at work without hardware: vmaf-tune doctor"
        " --confirm --encoders x264"
    )
    if as_json:
        console.json_document({"cells": [], "checks": [], "message": message})
    else:
        console.out(message)


def make_clip(ffmpeg: Ffmpeg, folder: Path, name: str) -> Path:
    """The made-up source clip `name`, lossless. Raises ToolError when this ffmpeg
    cannot make it.
    """
    path = folder / f"{name}.mkv"
    argv = [
        "-nostdin",
        "-hide_banner",
        "-v",
        "error",
        "-f",
        "lavfi",
        "-i",
        PICTURE,
        "-frames:v",
        str(NUM_FRAMES),
        "-vf",
        f"format={CLIPS[name]}",
        "-c:v",
        "ffv1",
        f"file:{path}",
    ]
    done = ffmpeg.run(argv, timeout_s=300)
    if done.returncode:
        raise ToolError(
            f"{ffmpeg.path} cannot make the test clip:"
            f" {done.tail.splitlines()[-1:] or 'it said nothing'}"
        )
    return path


def sweep(
    ffmpeg: Ffmpeg, resolved: usable.Resolved, trials: Sequence[usable.Trial]
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Sweep the made-up clips with every encoder's defaults: rows of the cells that worked, and of
    those that failed.

    The 10-bit clip is for encoders that a trial proved at 10 bit.
    """

    rows = resolved.encoders
    deep = {t.encoder for t in trials if t.usable and planar(t.pix_fmt) == CLIPS["ten_bit"]}
    globs = [f"eight_bit/{row.name}/*" for row in rows] + [
        f"ten_bit/{row.name}/*" for row in rows if row.name in deep
    ]
    with tempfile.TemporaryDirectory(prefix="vmaf-tune-confirm-") as name:
        folder = Path(name)
        clips = [make_clip(ffmpeg, folder, clip) for clip in CLIPS]
        names = tuple(row.name for row in rows)
        request = request_from(Flags(places=tuple(clips), encoders=names))
        sources, _ = resolve_sources(request)
        plan = plan_cells(request, sources, rows, select_globs=globs)
        out = folder / "run"
        study = Study.open(out, plan, ffmpeg, Options(jobs=usable_cores()), hardware=resolved)
        with study, console.Steps("confirming", len(plan.cells)) as steps:
            done = 0
            for event in grid.run(plan, study):
                if isinstance(event, CellEvent):
                    done += 1
                    steps.update(done, event.cell)
        found = list(latest_rows(out).values())
    return [r for r in found if r["status"] == "ok"], [r for r in found if r["status"] != "ok"]


def check_encoder(
    row: Encoder, cells: Sequence[Mapping[str, Any]], failures: Sequence[Mapping[str, Any]]
) -> list[Check]:
    """Everything that must hold of one encoder's cells."""
    own = [c for c in cells if c["encoder"] == row.name]
    bad = [c for c in failures if c["encoder"] == row.name]
    checks = [
        Check(
            encoder=row.name,
            name="every cell encodes and scores",
            passed=not bad and bool(own),
            detail=f"{len(own)} of {len(own) + len(bad)}"
            + (f"; {bad[0]['error']['message']}" if bad else ""),
        )
    ]
    if not own:
        return checks
    modes = sorted({str(c["rate_control"]) for c in own})
    checks.append(
        Check(
            encoder=row.name,
            name="the rate control that was asked for ran",
            passed=modes == [row.rate_control],
            detail=", ".join(modes),
        )
    )
    best = max(c["vmaf_score"] for c in own)
    checks.append(
        Check(
            encoder=row.name,
            name=f"best score at least {LEAST_VMAF:g}",
            passed=best >= LEAST_VMAF,
            detail=f"{best:.2f}",
        )
    )
    # From the best to the worst value: downward where a larger number is better (VideoToolbox).
    upward = row.default_quality[0] < row.default_quality[-1]
    for src in dict.fromkeys(c["src"] for c in own):
        line = sorted(
            (c for c in own if c["src"] == src), key=lambda c: c["crf"], reverse=not upward
        )
        for what, places in (("vmaf_score", 2), ("bitrate_kbps", 0)):
            values = [c[what] for c in line]
            falls = all(a > b for a, b in zip(values, values[1:], strict=False))
            checks.append(
                Check(
                    encoder=row.name,
                    name=f"{what} falls with the quality ({src})",
                    passed=falls,
                    detail=" ".join(f"{v:.{places}f}" for v in values),
                )
            )
    return checks


def markdown(
    tools: Tools,
    gpus: Gpus,
    trials: Sequence[usable.Trial],
    cells: Sequence[Mapping[str, Any]],
    failures: Sequence[Mapping[str, Any]],
    checks: Sequence[Check],
) -> str:
    """The report: versions and GPUs, checks, cells, and the end of the log of what failed."""
    nodes = [f"{n.vendor} {n.path} ({n.driver})" for n in gpus.nodes]
    names = [f"{g.name} (driver {gpus.nvidia.driver})" for g in gpus.nvidia.gpus]
    lines = [
        "### vmaf-tune doctor --confirm",
        "",
        (
            f"- vmaf-tune {packages()['vmaf-tune']}, ffmpeg {tools.ffmpeg_version}"
            f" ({tools.ffmpeg_sha256[:12]}), libvmaf {tools.libvmaf_version}"
        ),
        f"- {platform.platform()}, GPUs: {'; '.join(names + nodes) or 'none'}",
        "",
        "| encoder | check | held | found |",
        "|---|---|---|---|",
        *(
            f"| {c.encoder} | {c.name} | {'yes' if c.passed else '**no**'} | {c.detail} |"
            for c in checks
        ),
        "",
        "| cell | format | VMAF | kbit/s | encode s | rate control | device |",
        "|---|---|---|---|---|---|---|",
        *(
            f"| {c['cell']} | {c['pix_fmt']} | {c['vmaf_score']:.2f} | {c['bitrate_kbps']:.0f} |"
            f" {c['encode_wall_s']:.2f} | {c['rate_control']} | {c['device'] or 'CPU'} |"
            for c in cells
        ),
    ]
    lost = [t for t in trials if not t.usable]
    if lost:
        lines += ["", "Could not run:", *(f"- {t.encoder} {t.pix_fmt}: {t.why}" for t in lost)]
    for row in failures:
        lines += [
            "",
            f"{row['cell']}: {row['error']['message']}",
            "```",
            row["error"]["stderr_tail"],
            "```",
        ]
    return "\n".join(lines)


def _as_dict(check: Check) -> dict[str, Any]:
    return {
        "encoder": check.encoder,
        "name": check.name,
        "passed": check.passed,
        "detail": check.detail,
    }
