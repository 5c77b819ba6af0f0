"""A report of one sweep, and of a training on it: read, computed once, then written as a page,
tables, JSON or pictures.

run folder --report_data--> Sweep --report_analysis--> Analysis --+--> report_page     one HTML file
training run --report_model--> ModelRun --------------------------+--> report_text     tables, CSV
                                                                  +--> report_figures  PNG
"""

from __future__ import annotations

import os
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vmaftune.errors import ToolError, UsageError
from vmaftune.report import analysis as report_analysis
from vmaftune.report import model_run as report_model
from vmaftune.report.analysis import Analysis
from vmaftune.report.model_run import ModelRun
from vmaftune.report.read import read

PAGE = "report.html"


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """Everything that any form of the report shows."""

    analysis: Analysis
    model: ModelRun | None

    def document(self) -> dict[str, Any]:
        """The report as one JSON value."""
        model = report_model.document(self.model) if self.model else None
        return {**report_analysis.document(self.analysis), "model_run": model}


def build(folder: Path, model_run: Path | None = None) -> Report:
    """The report of the run in `folder` and of the training in `model_run`.

    Raises UsageError when `folder` is no corpus, DatasetError when its rows or the training run
    cannot be used.
    """
    analysis = report_analysis.analyse(read(folder))
    return Report(
        analysis=analysis, model=report_model.read(model_run, folder) if model_run else None
    )


def write_page(report: Report, file: Path) -> Path:
    """Write the HTML page so that it appears whole or not at all.

    Raises UsageError when `file` is a folder, ToolError when it cannot be written.
    """
    from vmaftune.report.page.render import render

    if file.is_dir():
        raise UsageError(f"{file} is a folder; name a file to write, such as -o {file / PAGE}")
    text = render(report.analysis, report.model)
    beside = file.with_name(file.name + ".tmp")
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        beside.write_text(text, encoding="utf-8")
        os.replace(beside, file)
    except OSError as failure:
        with suppress(OSError):
            beside.unlink()
        raise ToolError(
            f"{file} cannot be written ({failure.strerror}); name another file with -o"
        ) from failure
    return file
