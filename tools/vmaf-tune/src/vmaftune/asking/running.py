"""How a question runs: what no number depends on. Every question takes it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from vmaftune.engine.cluster import Target
from vmaftune.engine.events import Event
from vmaftune.media.process import Runner

OnEvent = Callable[[Event], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Running:
    """How a call runs; nothing here changes a number.

    `out` is the run folder (None: the command's own), `jobs` how many cells are worked on at a
    time, `timeout_s` when one process counts as stalled, `ffmpeg` the program, `model_dir` the
    folder of the prior that a search starts from, `target` the cluster that measures (None: this
    machine; `engine.cluster.check_target`).
    """

    out: Path | None = None
    jobs: int | None = None
    timeout_s: float | None = None
    retry_failed: bool = False
    ffmpeg: str | None = None
    model_dir: Path | None = None
    runner: Runner = field(default_factory=Runner)
    target: Target | None = None
