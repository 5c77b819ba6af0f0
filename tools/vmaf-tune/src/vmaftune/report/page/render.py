"""The report as one HTML file that loads nothing: styles, plotly.js, the data and the page's own
scripts are inside.

Text from a corpus (source names, commands, stderr) reaches the page in two ways only: escaped by
the templates, or as JSON that the scripts put into text nodes.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, astuple
from importlib import resources
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np
from vmaf_train.results.metrics import METRICS

from vmaftune.encoders import ENCODERS
from vmaftune.engine.events import to_json
from vmaftune.errors import ToolError
from vmaftune.metrics import VMAF_SCALE, label_of
from vmaftune.report.analysis import KBPS_DIGITS, Analysis, score_digits
from vmaftune.report.bdrate import BdRate
from vmaftune.report.document import Json
from vmaftune.report.hulls import bd_rate, hull_of
from vmaftune.report.model_run import Band, ModelRun
from vmaftune.report.summary import commands, summary
from vmaftune.report.sweep import Answered, FilmQuestion, Scores, ToldLadder

if TYPE_CHECKING:
    from jinja2 import Environment

MAX_FRAMES = 900_000
"""Frame scores embedded at full rate, 2.7 bytes each; beyond this a block of frames is shown by its
lowest.
"""


def render(analysis: Analysis, model: ModelRun | None) -> str:
    """The whole page. Raises ToolError when plotly or jinja2 is not installed."""
    templates = _templates()
    from markupsafe import Markup  # comes with jinja2

    sweep = analysis.sweep
    names = ["report.js", "report_charts.js"]
    names += ["report_questions.js"] if sweep.questions else []
    names += ["report_ladder.js"] if sweep.ladders else []
    names += ["report_model.js"] if model else []
    scripts = [_plotly(), *map(_part, names), _part("report_frames.js")]
    return templates.get_template("page.html").render(
        sweep=sweep,
        model=model,
        style=Markup(_part("report.css")),
        scripts=[Markup(script) for script in scripts],
        data=Markup(_embedded(page_data(analysis, model))),
        sentences=[*summary(analysis), *sweep.notes],
        commands=commands(analysis),
        tiles=_tiles(analysis),
        links=_links(analysis, model),
        target=analysis.target,
        targets=analysis.targets,
        scale=sweep.scale,
        score_step=min(b - a for a, b in pairwise(sweep.scale.targets)),
        grid=[astuple(line) for line in sweep.grid],
        source_lines=[astuple(line) for line in sweep.source_lines],
        **(_model_tables(model) if model else {}),
    )


def _templates() -> Environment:
    try:
        from jinja2 import Environment, FunctionLoader, StrictUndefined
    except ModuleNotFoundError as failure:
        raise _missing("jinja2") from failure
    return Environment(loader=FunctionLoader(_part), autoescape=True, undefined=StrictUndefined)


def _part(name: str) -> str:
    return (resources.files("vmaftune.report.page") / name).read_text(encoding="utf-8")


def _plotly() -> str:
    try:
        from plotly.offline import get_plotlyjs
    except ModuleNotFoundError as failure:
        raise _missing("plotly") from failure
    text: str = get_plotlyjs()
    return text


def _missing(package: str) -> ToolError:
    return ToolError(
        f"the report page needs {package}; install it with: pip install 'vmaf-tune[report]'"
    )


def _embedded(value: Json) -> str:
    """JSON that cannot end its script element, whatever the strings in it are."""
    text = json.dumps(value, ensure_ascii=True, allow_nan=False, separators=(",", ":"))
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def _tiles(analysis: Analysis) -> list[tuple[str, int, str]]:
    sweep = analysis.sweep
    return [
        ("sources", len(sweep.sources), ""),
        ("encoders", len({c.encoder for c in sweep.curves}), ""),
        ("encoder presets", len(sweep.curves), ""),
        ("measured cells", len(sweep.points), ""),
        ("failed cells", len(sweep.failures), "bad" if sweep.failures else ""),
        ("frames scored", sum(p.num_frames for p in sweep.points), ""),
    ]


def _links(analysis: Analysis, model: ModelRun | None) -> list[tuple[str, str]]:
    figures = [
        ("rd", "Rate and quality"),
        ("bd", "BD-rate"),
        ("quality", "Quality values"),
        ("speed", "Speed"),
        ("frames", "Frames"),
    ]
    shown = figures if analysis.sweep.points else []
    return [
        *([("questions", "What was asked")] if analysis.sweep.questions else []),
        *([("ladders", "The ladder")] if analysis.sweep.ladders else []),
        *shown,
        *([("model", "Model")] if model else []),
        ("failed", "Failed cells"),
        ("tools", "Versions"),
    ]


def _model_tables(run: ModelRun) -> dict[str, object]:
    """What the model's section shows besides the run itself, as texts."""
    explained = any(line.reason for line in run.groups)
    head = ["Group", "Rows", "PLCC", "SROCC", "RMSE", "MAE"]
    rows = [
        [line.group, str(line.n), *map(number, (line.plcc, line.srocc, line.rmse, line.mae))]
        for line in run.groups
    ]
    if explained:
        head.append("No correlation because")
        for row, line in zip(rows, run.groups, strict=True):
            row.append(line.reason or "")
    over = {
        "mean over groups": [run.overall[name].mean for name in METRICS],
        "standard deviation": [run.overall[name].std for name in METRICS],
        "worst group": [run.overall[name].worst for name in METRICS],
    }
    rows += [
        [label, "", *map(number, values), *([""] if explained else [])]
        for label, values in over.items()
    ]
    drawn = len(run.scatter.y)
    few = f" {drawn:,} of the {run.num_rows:,} rows are drawn, evenly picked."
    return {
        "baselines": "; ".join(f"{name} {number(value)}" for name, value in run.baselines.items()),
        "group_head": head,
        "group_rows": rows,
        "band_rows": [_band_row(band) for band in run.bands],
        "thinned": few if drawn < run.num_rows else "",
    }


def _band_row(band: Band) -> list[str]:
    return [band.band, f"{band.n:,}", *(f"{q:.2f}" for q in band.quantiles), number(band.rmse)]


def number(value: float | None) -> str:
    """A figure of a model table: four decimals, a dash for a missing one."""
    return "–" if value is None else f"{value:.4f}"


def page_data(analysis: Analysis, model: ModelRun | None) -> Json:
    """What report.js draws from: one array per column of the cells, indices in place of names,
    rounded numbers.
    """
    sweep = analysis.sweep
    texts = list(dict.fromkeys(p.command for p in sweep.points))
    return {
        "sources": sweep.sources,
        "groups": sweep.groups,
        "curves": [_curve(analysis, c) for c in range(len(sweep.curves))],
        "defaults": analysis.defaults,
        "anchor": analysis.anchor,
        "targets": analysis.targets,
        "scale": {
            "name": sweep.scale.name,
            "label": sweep.scale.label,
            "digits": sweep.scale.digits,
            "sign": sweep.scale.sign,
            "meets": sweep.scale.at_least,
        },
        "target": analysis.target,
        "commands": texts,
        "cells": _cells(analysis, {text: i for i, text in enumerate(texts)}),
        "frames": _frames(analysis),
        "bd": _comparisons(analysis),
        "quality": {f"{s}:{c}": values for (s, c), values in analysis.quality.items()},
        "questions": [_question(question) for question in sweep.questions],
        "ladders": [_ladder(ladder) for ladder in sweep.ladders],
        "ladder_bd": _hull_rates(sweep.ladders),
        "model": _model(model) if model else None,
    }


def _ladder(ladder: ToldLadder) -> Json:
    files = to_json(ladder.files) if ladder.files else None
    return {**to_json(ladder.told), "film": ladder.film, "files": files}


def _hull_rates(ladders: Sequence[ToldLadder]) -> list[list[float | None]]:
    """BD-rate of each ladder's hull against each other one, as a share."""
    hulls = [hull_of(ladder.points) for ladder in ladders]
    return [[_rounded(bd_rate(test, anchor), 4) for anchor in hulls] for test in hulls]


def _question(question: FilmQuestion) -> Json:
    return {
        **to_json(question.asked),
        "film": question.film,
        "label": label_of(question.asked.metric),
        "probes": [to_json(probe) for probe in question.probes],
        "answers": [_answer(answer) for answer in question.answers],
    }


def _answer(answer: Answered) -> Json:
    windows = answer.windows
    return {
        **to_json(answer.told),
        "windows": [[round(w.start_s, 3), round(w.mean, 3), round(w.lowest, 2)] for w in windows],
    }


def _curve(analysis: Analysis, index: int) -> Json:
    """A curve; `film` is the command for a whole file around the place of the quality value,
    and `whole` tells that it is another one for a fraction.
    """
    curve = analysis.sweep.curves[index]
    film = analysis.command(index, _PLACE)
    return {
        "encoder": curve.encoder,
        "preset": curve.preset,
        "knob": curve.knob,
        "label": curve.label,
        "film": film.split(str(_PLACE)) if film else None,
        "whole": curve.encoder in ENCODERS and bool(ENCODERS[curve.encoder].fraction_args),
    }


_PLACE = 987654321
"""A quality value that no command holds otherwise: where the page puts the reader's own."""


def _cells(analysis: Analysis, command: Mapping[str, int]) -> Json:
    points = analysis.sweep.points
    return {
        "s": [p.source for p in points],
        "c": [p.curve for p in points],
        "q": [p.quality for p in points],
        "id": [p.cell if p.quality is None else None for p in points],
        "kbps": [_rounded(p.kbps, KBPS_DIGITS) for p in points],
        "vmaf": [_rounded(p.vmaf, score_digits(analysis.sweep.scale)) for p in points],
        "hm": [_rounded(p.harmonic, 2) for p in points],
        "min": [_rounded(p.lowest, analysis.digits) for p in points],
        "p5": [_rounded(p.p5, analysis.digits) for p in points],
        "cpu": [_rounded(None if p.cpu_s is None else 1000 * p.cpu_s, 2) for p in points],
        "fps": [_rounded(p.fps, 3) for p in points],
        "cmd": [command[p.command] for p in points],
    }


def _rounded(value: float | None, digits: int) -> float | None:
    return None if value is None else round(value, digits)


def _frames(analysis: Analysis) -> Json:
    """Per-frame VMAF of all cells, in the order of the points: hundredths of a point as
    little-endian uint16, base64.
    """
    empty = np.zeros(0)
    scores = [analysis.sweep.frames.get(p.key, empty) for p in analysis.sweep.points]
    block = max(1, -(-sum(map(len, scores)) // MAX_FRAMES))
    if block > 1:
        scores = [_lowest(cell, block) for cell in scores]
    joined = np.round(100 * np.concatenate([*scores, empty])).astype("<u2")
    text = base64.b64encode(joined.tobytes()).decode("ascii")
    return {"block": block, "count": [len(s) for s in scores], "scores": text}


def _lowest(scores: Scores, block: int) -> Scores:
    """The lowest of each `block` frames."""
    if not len(scores):
        return scores
    lowest: Scores = np.minimum.reduceat(scores, np.arange(0, len(scores), block))
    return lowest


def _comparisons(analysis: Analysis) -> Json:
    """ln(test / anchor) by source for test > anchor, row by row; a missing one has its reason under
    its position.
    """
    places = 1 if analysis.digits == VMAF_SCALE.digits else analysis.digits
    ratios: list[float | None] = []
    common: list[float] = []
    reasons: dict[str, int] = {}
    why: dict[int, int] = {}
    for found in _lower_triangle(analysis):
        if found.reason is not None:
            why[len(ratios)] = reasons.setdefault(found.reason, len(reasons))
        ratios.append(_rounded(found.log_ratio, 5))
        common.append(round(found.common, places))
    return {"ratio": ratios, "common": common, "reasons": list(reasons), "why": why}


def _lower_triangle(analysis: Analysis) -> Iterable[BdRate]:
    for source in range(len(analysis.sweep.sources)):
        for test in range(len(analysis.sweep.curves)):
            for anchor in range(test):
                yield analysis.comparisons[source, test, anchor]


def _model(run: ModelRun) -> Json:
    return {
        "id": run.model_id,
        "groups": run.group_names,
        "encoders": run.encoder_names,
        "scatter": asdict(run.scatter),
        "bands": [asdict(band) for band in run.bands],
    }
