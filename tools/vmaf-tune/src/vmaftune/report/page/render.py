"""The report as one HTML file that loads nothing: styles, plotly.js, the data and the page's own
scripts are inside.

Text from a corpus (source names, commands, stderr) reaches the page in two ways only: escaped here,
or as JSON that the scripts put into text nodes.
"""

from __future__ import annotations

import base64
import html
import json
from collections.abc import Iterable, Sequence
from importlib import resources
from typing import Any

import numpy as np

from vmaftune.errors import ToolError
from vmaftune.report.analysis import (
    DEFAULT_TARGET,
    KBPS_DIGITS,
    TARGETS,
    VMAF_DIGITS,
    Analysis,
    summary,
)
from vmaftune.report.model_run import ModelRun
from vmaftune.report.sections import (
    failed_section,
    header,
    model_section,
    sweep_sections,
    tools_section,
)

MAX_FRAMES = 900_000
"""Frame scores embedded at full rate, 2.7 bytes each; beyond this a block of frames is shown by its
lowest.
"""

# Nothing may be fetched, whatever a corpus holds; scripts and styles are those inside the file.
_POLICY = (
    "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; img-src data: blob:"
)


def render(analysis: Analysis, model: ModelRun | None) -> str:
    """The whole page. Raises ToolError when plotly is not installed."""
    title = html.escape(f"{analysis.sweep.name}: encoder sweep")
    scripts = [_plotly(), *(_part(name) for name in ("report.js", "report_charts.js"))]
    scripts += [_part("report_model.js")] if model else []
    scripts.append(_part("report_frames.js"))
    body = "".join(
        (
            header(analysis, summary(analysis), model),
            (
                '<div class="layout">' + _FILTERS
                if analysis.sweep.points
                else '<div class="layout unfiltered">'
            ),
            '<main id="main">',
            sweep_sections(analysis),
            model_section(model) if model else "",
            failed_section(analysis.sweep),
            tools_section(analysis.sweep),
            "</main></div>",
            _FOOTER,
        )
    )
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{title}</title><style>{_part('report.css')}</style></head>\n<body>{body}\n"
        '<script type="application/json"'
        f' id="data">{_embedded(page_data(analysis, model))}</script>\n'
        + "".join(f"<script>{script}</script>\n" for script in scripts)
        + "</body></html>\n"
    )


def _part(name: str) -> str:
    return (resources.files("vmaftune.report.page") / name).read_text(encoding="utf-8")


def _plotly() -> str:
    try:
        from plotly.offline import get_plotlyjs
    except ModuleNotFoundError as failure:
        raise ToolError(
            "the report page needs plotly; install it with: pip install 'vmaf-tune[report]'"
        ) from failure
    text: str = get_plotlyjs()
    return text


def _embedded(value: Any) -> str:
    """JSON that cannot end its script element, whatever the strings in it are."""
    text = json.dumps(value, ensure_ascii=True, allow_nan=False, separators=(",", ":"))
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def page_data(analysis: Analysis, model: ModelRun | None) -> dict[str, Any]:
    """What report.js draws from: one array per column of the cells, indices in place of names,
    rounded numbers.
    """
    sweep = analysis.sweep
    commands = list(dict.fromkeys(p.command for p in sweep.points))
    place = {command: i for i, command in enumerate(commands)}
    points = sweep.points
    return {
        "sources": sweep.sources,
        "groups": [
            next(group for name, group, *_ in sweep.source_facts if name == source)
            for source in sweep.sources
        ],
        "curves": [
            {"encoder": c.encoder, "preset": c.preset, "knob": c.knob, "label": c.label}
            for c in sweep.curves
        ],
        "defaults": analysis.defaults,
        "anchor": analysis.anchor,
        "targets": TARGETS,
        "target": DEFAULT_TARGET,
        "commands": commands,
        "cells": {
            "s": [p.source for p in points],
            "c": [p.curve for p in points],
            "q": [p.quality for p in points],
            "id": [p.cell if p.quality is None else None for p in points],
            "kbps": [_rounded(p.kbps, KBPS_DIGITS) for p in points],
            "vmaf": [_rounded(p.vmaf, VMAF_DIGITS) for p in points],
            "hm": [_rounded(p.harmonic, 2) for p in points],
            "min": [_rounded(p.lowest, 2) for p in points],
            "p5": [_rounded(p.p5, 2) for p in points],
            "cpu": [_rounded(None if p.cpu_s is None else 1000 * p.cpu_s, 2) for p in points],
            "fps": [_rounded(p.fps, 3) for p in points],
            "cmd": [place[p.command] for p in points],
        },
        "frames": _frames(analysis),
        "bd": _comparisons(analysis),
        "quality": {f"{s}:{c}": values for (s, c), values in analysis.quality.items()},
        "model": _model(model) if model else None,
    }


def _rounded(value: float | None, digits: int) -> float | None:
    return None if value is None else round(value, digits)


def _frames(analysis: Analysis) -> dict[str, Any]:
    """Per-frame VMAF of all cells, in the order of the points: hundredths of a point as
    little-endian uint16, base64.
    """
    empty = np.zeros(0)
    scores: Sequence[Any] = [analysis.sweep.frames.get(p.key, empty) for p in analysis.sweep.points]
    block = max(1, -(-sum(len(s) for s in scores) // MAX_FRAMES))
    if block > 1:
        scores = [
            np.minimum.reduceat(s, np.arange(0, len(s), block)) if len(s) else s for s in scores
        ]
    joined = np.round(100 * np.concatenate([*scores, empty])).astype("<u2")
    text = base64.b64encode(joined.tobytes()).decode("ascii")
    return {"block": block, "count": [len(s) for s in scores], "scores": text}


def _comparisons(analysis: Analysis) -> dict[str, Any]:
    """ln(test / anchor) by source for test > anchor, row by row; a missing one has its reason under
    its position.
    """
    ratios: list[float | None] = []
    common: list[float] = []
    reasons: dict[str, int] = {}
    why: dict[int, int] = {}
    curves = range(len(analysis.sweep.curves))
    for found in _lower_triangle(analysis, curves):
        if found.reason is not None:
            why[len(ratios)] = reasons.setdefault(found.reason, len(reasons))
        ratios.append(_rounded(found.log_ratio, 5))
        common.append(round(found.common, 1))
    return {"ratio": ratios, "common": common, "reasons": list(reasons), "why": why}


def _lower_triangle(analysis: Analysis, curves: Iterable[int]) -> Iterable[Any]:
    for source in range(len(analysis.sweep.sources)):
        for test in curves:
            for anchor in range(test):
                yield analysis.comparisons[source, test, anchor]


def _model(run: ModelRun) -> dict[str, Any]:
    return {
        "id": run.model_id,
        "groups": run.group_names,
        "encoders": run.encoder_names,
        "scatter": run.scatter,
        "bands": run.bands,
    }


_FILTERS = """
<aside id="filters" aria-label="Filters">
<details id="filter-box" open><summary>Filters</summary>
<p id="status" role="status" aria-live="polite"></p>
<fieldset id="filter-encoders"></fieldset>
<fieldset id="filter-sources"></fieldset>
</details></aside>
"""

_FOOTER = """
<footer><p class="printed" id="printed"></p>
<p>Written by <code>vmaf-tune report</code>. The page is one file and loads nothing; the same figures as tables, CSV, JSON
and PNG: <code>vmaf-tune report --text | --csv | --json | --png DIR</code>.</p></footer>
"""  # noqa: E501
