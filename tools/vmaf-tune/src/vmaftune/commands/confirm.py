"""What `vmaf-tune doctor --confirm` shows: a report to paste into an issue."""

from __future__ import annotations

import platform
from collections.abc import Sequence
from dataclasses import asdict

from vmaf_train.corpus.rows import CellRow, to_row

from vmaftune import console
from vmaftune.asking.confirming import NUM_FRAMES, EncoderCheck, check_encoder, sweep, trials_at
from vmaftune.cell import Tools
from vmaftune.encoders import ENCODERS, Selection
from vmaftune.errors import SweepFailed
from vmaftune.hardware.gpus import Gpus
from vmaftune.hardware.selection import Cache, Trial, choose_encoders, prove, split
from vmaftune.media.ffmpeg import Ffmpeg, packages

ISSUES = "an issue of the project"


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
    cache = Cache(ffmpeg.identity, gpus)
    hardware = tuple(row for row in ENCODERS.values() if row.kind)
    selection = asked or Selection(encoders=hardware, named=frozenset(), auto=True)
    trials = prove(selection.encoders, ffmpeg, gpus=gpus, wanted_gpus=wanted, cache=cache)
    if asked is None and not split(selection, trials_at(trials, "yuv420p"))[0]:
        nothing(as_json=as_json)
        return
    resolved = choose_encoders(selection, ffmpeg, wanted_gpus=wanted, gpus=gpus, cache=cache)
    cells = sweep(ffmpeg, resolved, trials)
    checks = [check for row in resolved.encoders for check in check_encoder(row, cells)]
    if as_json:
        ordered = sorted(cells, key=lambda cell: not cell.is_ok)
        shown = [to_row(cell) for cell in ordered]
        console.json_document({"cells": shown, "checks": [asdict(check) for check in checks]})
    else:
        console.out(markdown(ffmpeg.identity, gpus, trials, cells, checks))
        console.say(f"paste the lines above into {ISSUES}", "cyan")
    broken = [check for check in checks if not check.passed]
    if broken:
        raise SweepFailed(
            f"{len(broken)} of {len(checks)} checks do not hold; the first: {broken[0].encoder},"
            f" {broken[0].name}"
        )


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


def markdown(
    tools: Tools,
    gpus: Gpus,
    trials: Sequence[Trial],
    cells: Sequence[CellRow],
    checks: Sequence[EncoderCheck],
) -> str:
    """The report: versions and GPUs, checks, cells, and the end of the log of what failed."""
    lines = [*_machine(tools, gpus), "", *_table_of_checks(checks), "", *_table_of_cells(cells)]
    lost = [t for t in trials if not t.usable]
    if lost:
        lines += ["", "Could not run:", *(f"- {t.encoder} {t.pix_fmt}: {t.why}" for t in lost)]
    for cell in cells:
        if cell.error is not None:
            lines += ["", f"{cell.cell}: {cell.error.message}"]
            lines += ["```", cell.error.stderr_tail, "```"]
    return "\n".join(lines)


def _machine(tools: Tools, gpus: Gpus) -> list[str]:
    nodes = [f"{n.vendor} {n.path} ({n.driver})" for n in gpus.nodes]
    names = [f"{g.name} (driver {gpus.nvidia.driver})" for g in gpus.nvidia.gpus]
    return [
        "### vmaf-tune doctor --confirm",
        "",
        f"- vmaf-tune {packages()['vmaf-tune']}, ffmpeg {tools.ffmpeg_version}"
        f" ({tools.ffmpeg_sha256[:12]}), libvmaf {tools.libvmaf_version}",
        f"- {platform.platform()}, GPUs: {'; '.join(names + nodes) or 'none'}",
    ]


def _table_of_checks(checks: Sequence[EncoderCheck]) -> list[str]:
    lines = ["| encoder | check | held | found |", "|---|---|---|---|"]
    for check in checks:
        held = "yes" if check.passed else "**no**"
        lines.append(f"| {check.encoder} | {check.name} | {held} | {check.detail} |")
    return lines


def _table_of_cells(cells: Sequence[CellRow]) -> list[str]:
    lines = [
        "| cell | format | VMAF | kbit/s | encode s | rate control | device |",
        "|---|---|---|---|---|---|---|",
    ]
    for cell in cells:
        if cell.is_ok:
            numbers = (
                f"{cell.vmaf_score:.2f} | {cell.bitrate_kbps or 0:.0f} |"
                f" {cell.encode_wall_s or 0:.2f}"
            )
            how = f"{cell.rate_control} | {cell.device or 'CPU'}"
            lines.append(f"| {cell.cell} | {cell.pix_fmt} | {numbers} | {how} |")
    return lines
