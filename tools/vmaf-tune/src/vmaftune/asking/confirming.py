"""`doctor --confirm`: a short real sweep of made-up clips per hardware encoder, and what must hold.

No hardware was at hand when its rows of the encoder table were written; this is how a machine that
has it says whether they are right.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from vmaf_train.corpus.rows import CELLS, CellRow, latest

from vmaftune import console
from vmaftune.encoders import ENCODERS, Encoder, planar
from vmaftune.engine.events import CellEvent
from vmaftune.engine.options import Options
from vmaftune.engine.study import Study
from vmaftune.errors import ToolError
from vmaftune.hardware.selection import Resolved, Trial
from vmaftune.media.ffmpeg import Ffmpeg, usable_cores
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


@dataclass(frozen=True, slots=True, kw_only=True)
class EncoderCheck:
    """One thing that must hold for an encoder. `detail` is what was found."""

    encoder: str
    name: str
    passed: bool
    detail: str


def trials_at(trials: Sequence[Trial], source_format: str) -> list[Trial]:
    """The trials at the format that sources of `source_format` are encoded to."""
    return [t for t in trials if t.pix_fmt == ENCODERS[t.encoder].pix_fmt_for(source_format)]


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


def sweep(ffmpeg: Ffmpeg, resolved: Resolved, trials: Sequence[Trial]) -> list[CellRow]:
    """Sweep the made-up clips with every encoder's defaults: the rows of all cells.

    The 10-bit clip is for encoders that a trial proved at 10 bit.
    """
    rows = resolved.encoders
    with tempfile.TemporaryDirectory(prefix="vmaf-tune-confirm-") as name:
        folder = Path(name)
        clips = tuple(make_clip(ffmpeg, folder, clip) for clip in CLIPS)
        request = request_from(Flags(places=clips, encoders=tuple(row.name for row in rows)))
        sources, _ = resolve_sources(request)
        plan = plan_cells(request, sources, rows, select_globs=_globs(rows, trials))
        out = folder / "run"
        options = Options(jobs=usable_cores())
        study = Study.open(out, plan, ffmpeg, options, hardware=resolved)
        with study, console.Steps("confirming", len(plan.cells)) as steps:
            done = 0
            for event in grid.run(plan, study):
                if isinstance(event, CellEvent):
                    done += 1
                    steps.update(done, event.cell)
        return list(latest(out / CELLS).values())


def _globs(rows: Sequence[Encoder], trials: Sequence[Trial]) -> list[str]:
    deep = {t.encoder for t in trials if t.usable and planar(t.pix_fmt) == CLIPS["ten_bit"]}
    at_eight = [f"eight_bit/{row.name}/*" for row in rows]
    return at_eight + [f"ten_bit/{row.name}/*" for row in rows if row.name in deep]


def check_encoder(row: Encoder, cells: Sequence[CellRow]) -> list[EncoderCheck]:
    """Everything that must hold of one encoder's cells."""
    own = [cell for cell in cells if cell.encoder == row.name]
    finished = [cell for cell in own if cell.is_ok]
    errors = [cell.error for cell in own if cell.error is not None]
    more = f"; {errors[0].message}" if errors else ""
    every = EncoderCheck(
        encoder=row.name,
        name="every cell encodes and scores",
        passed=not errors and bool(finished),
        detail=f"{len(finished)} of {len(own)}{more}",
    )
    if not finished:
        return [every]
    return [every, _mode(row, finished), _best(row, finished), *_falls(row, finished)]


def _mode(row: Encoder, cells: Sequence[CellRow]) -> EncoderCheck:
    modes = sorted({str(cell.rate_control) for cell in cells})
    return EncoderCheck(
        encoder=row.name,
        name="the rate control that was asked for ran",
        passed=modes == [row.rate_control],
        detail=", ".join(modes),
    )


def _best(row: Encoder, cells: Sequence[CellRow]) -> EncoderCheck:
    best = max(cell.vmaf_score or 0.0 for cell in cells)
    return EncoderCheck(
        encoder=row.name,
        name=f"best score at least {LEAST_VMAF:g}",
        passed=best >= LEAST_VMAF,
        detail=f"{best:.2f}",
    )


def _falls(row: Encoder, cells: Sequence[CellRow]) -> Iterator[EncoderCheck]:
    """Score and bitrate of each clip, from the best to the worst quality value: downward where a
    larger number is better (VideoToolbox).
    """
    upward = row.default_quality[0] < row.default_quality[-1]
    ordered = sorted(cells, key=lambda cell: cell.crf or 0, reverse=not upward)
    for src in dict.fromkeys(cell.src for cell in cells):
        line = [cell for cell in ordered if cell.src == src]
        scores = [cell.vmaf_score or 0.0 for cell in line]
        rates = [cell.bitrate_kbps or 0.0 for cell in line]
        for what, values, places in (("vmaf_score", scores, 2), ("bitrate_kbps", rates, 0)):
            yield EncoderCheck(
                encoder=row.name,
                name=f"{what} falls with the quality ({src})",
                passed=all(a > b for a, b in zip(values, values[1:], strict=False)),
                detail=" ".join(f"{value:.{places}f}" for value in values),
            )
