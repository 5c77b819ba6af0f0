"""A report of sweeps, and of a training on them: read, computed once, then written in any form.

run folders --read--> Sweep --analysis--> Analysis --+--> page      one HTML file
training run --model_run--> ModelRun ----------------+--> tables, document, CSV
                                                     +--> figures   PNG
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from vmaf_train.files import write_text

from vmaftune.errors import ToolError, UsageError
from vmaftune.metrics import VMAF, scale_of
from vmaftune.report import model_run
from vmaftune.report.analysis import Analysis, analyse
from vmaftune.report.document import Json, document
from vmaftune.report.model_run import ModelRun
from vmaftune.report.page.render import render
from vmaftune.report.read import read
from vmaftune.report.sweep import Sweep

PAGE = "report.html"


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """Everything that any form of the report shows."""

    analysis: Analysis
    model: ModelRun | None

    def document(self) -> Json:
        """The report as one JSON value."""
        return document(self.analysis, self.model)


def build(
    *folders: Path,
    training: Path | None = None,
    target: float | None = None,
    metric: str = VMAF,
) -> Report:
    """The report of the runs in `folders` and of the training run in `training`, on VMAF or on
    another metric that the rows hold.

    `target` None is that of the newest question, and the metric's usual one where nothing was
    asked. Raises UsageError when one is not a corpus, or for a target that is out of the metric's
    range, DatasetError when rows or the training run cannot be used.
    """
    scale = scale_of(metric)
    low, high = scale.targets[0], scale.targets[-1]
    if target is not None and not low <= target <= high:
        raise UsageError(f"--target {target:g}: {scale.label} takes {low:g} to {high:g} here")
    if target is not None and metric in (VMAF, "neg") and target != round(target):
        raise UsageError(f"--target {target:g}: {scale.label} is looked up for whole points")
    sweep = read(*folders, scale=scale)
    analysis = analyse(sweep, _usual_target(sweep) if target is None else target)
    model = model_run.read(training, *folders) if training else None
    return Report(analysis=analysis, model=model)


def _usual_target(sweep: Sweep) -> float | None:
    """The target of the newest question on the sweep's scale, as one of its targets."""
    scale = sweep.scale
    questions = [q.asked for q in sweep.questions]
    asked = [q for q in questions if q.statistic == "mean" and q.metric == scale.name]
    if not asked:
        return None
    newest = max(asked, key=lambda question: question.asked_at)
    return min(scale.targets, key=lambda target: abs(target - newest.target))


def page_of(folders: Sequence[Path]) -> Path:
    """Where the page goes when nobody says: into the folder of one sweep, else the current one."""
    return folders[0] / PAGE if len(folders) == 1 else Path(PAGE)


def write_page(report: Report, file: Path) -> Path:
    """Write the HTML page so that it appears whole or not at all.

    Raises UsageError when `file` is a folder, ToolError when it cannot be written.
    """
    if file.is_dir():
        raise UsageError(f"{file} is a folder; name a file to write, such as -o {file / PAGE}")
    text = render(report.analysis, report.model)
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        write_text(file, text)
    except OSError as failure:
        raise ToolError(
            f"{file} cannot be written ({failure.strerror}); name another file with -o"
        ) from failure
    return file
