"""How a question runs: what no number depends on. Every question takes it."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

from vmaftune.encoders import Selection
from vmaftune.engine.events import Event
from vmaftune.engine.limits import Limits
from vmaftune.engine.options import Options
from vmaftune.engine.study import Study
from vmaftune.engine.target import Target
from vmaftune.hardware.selection import choose_encoders
from vmaftune.media.ffmpeg import Ffmpeg
from vmaftune.media.process import Runner
from vmaftune.request.cells import Plan

OnEvent = Callable[[Event], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Running:
    """How a call runs; nothing here changes a number.

    `out` is the run folder (None: the command's own), `jobs` how many cells are worked on at a
    time, `timeout_s` when one process counts as stalled, `ffmpeg` the program, `model_dir` the
    folder of the prior that a search starts from, `target` the cluster that measures (None: this
    machine; `engine.target.check_target`).
    """

    out: Path | None = None
    jobs: int | None = None
    timeout_s: float | None = None
    retry_failed: bool = False
    ffmpeg: str | None = None
    model_dir: Path | None = None
    runner: Runner = field(default_factory=Runner)
    target: Target | None = None


def open_folder(
    folder: Path,
    ffmpeg: Ffmpeg,
    options: Options,
    encoders: Selection,
    *,
    teacher: str,
    target: Target | None,
) -> Study:
    """A question's folder, opened to measure into: here, or on a cluster, whose workers say for
    themselves what they can run. Raises FolderError and ToolError.
    """
    executor, hardware = None, None
    if target is not None:
        from vmaftune.engine.cluster import join  # asyncio, and nothing here needs it

        limits = Limits(timeout_s=options.timeout_s)
        executor = join(target, ffmpeg, teacher, budget_bytes=options.budget_bytes, limits=limits)
        options = replace(options, jobs=executor.num_slots)
    else:
        hardware = choose_encoders(encoders, ffmpeg)
    return Study.open(
        folder,
        Plan(cells=(), sources=(), name=""),
        ffmpeg,
        options,
        argv=sys.argv,
        hardware=hardware,
        executor=executor,
        open_plan=True,
    )
