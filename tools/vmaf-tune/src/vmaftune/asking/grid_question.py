"""A sweep that is ready to run, and how its folder is opened."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from vmaftune.engine.limits import Limits
from vmaftune.engine.options import Options
from vmaftune.engine.study import Study
from vmaftune.engine.target import Target
from vmaftune.hardware.selection import Resolved
from vmaftune.media.ffmpeg import Ffmpeg
from vmaftune.media.score_cuda import GpuScorer
from vmaftune.request.cells import Plan


@dataclass(frozen=True, slots=True, kw_only=True)
class GridQuestion:
    """A sweep that is ready to run: nothing was measured for it yet.

    `whole` is the plan of the folder, `plan` the part of it that `--select` keeps. `hardware` is
    None for a dry run, which tries no encoder.
    """

    plan: Plan
    whole: Plan
    folder: Path
    ffmpeg: Ffmpeg
    options: Options
    hardware: Resolved | None
    scorer: GpuScorer | None
    extend: bool
    target: Target | None = None

    @property
    def is_part(self) -> bool:
        """True when only a part of the folder's plan is asked for."""
        return self.plan.cells != self.whole.cells

    def study(self, argv: Sequence[str]) -> Study:
        """The folder, opened to measure into, on the cluster if one was asked for.

        Raises FolderError for one of another plan, ToolError when no cluster answers.
        """
        executor, options = None, self.options
        if self.target is not None:
            from vmaftune.engine.cluster import join  # asyncio, and nothing here needs it

            teacher = self.whole.cells[0].teacher
            executor = join(
                self.target,
                self.ffmpeg,
                teacher,
                budget_bytes=options.budget_bytes,
                limits=Limits(timeout_s=options.timeout_s),
            )
            options = replace(options, jobs=executor.num_slots)
        return Study.open(
            self.folder,
            self.whole,
            self.ffmpeg,
            options,
            argv=argv,
            hardware=self.hardware,
            scorer=self.scorer,
            executor=executor,
            extend=self.extend,
            part=self.is_part,
            skipped=self.hardware.skipped if self.hardware else (),
        )
