"""The report as one JSON value, names in place of indices: what `--json` prints."""

from __future__ import annotations

from statistics import fmean, median

import msgspec

from vmaftune.report.analysis import Analysis, for_share
from vmaftune.report.model_run import ModelRun
from vmaftune.report.outline import (
    Command,
    Corner,
    Cost,
    CurveName,
    CurveTargets,
    ModelPart,
    Outline,
    PairRates,
    SpeedLine,
    TargetValues,
    WholeLadder,
    WholeQuestion,
    WindowedAnswer,
)
from vmaftune.report.summary import commands, summary
from vmaftune.report.sweep import Answered, FilmQuestion, Point, ToldLadder

Json = dict[str, object]
"""A JSON object on its way out. Nothing reads it again."""


def document(analysis: Analysis, model: ModelRun | None = None) -> Json:
    """Every figure of the report as JSON values."""
    found: Json = msgspec.to_builtins(outline(analysis, model), enc_hook=float)
    return found


def outline(analysis: Analysis, model: ModelRun | None = None) -> Outline:
    """Every figure of the report."""
    sweep = analysis.sweep
    labels = [curve.label for curve in sweep.curves]
    curves = range(len(labels))
    pairs = [(test, anchor) for test in curves for anchor in curves if test != anchor]
    return Outline(
        name=sweep.name,
        folders=[str(folder) for folder in sweep.folders],
        summary=summary(analysis),
        metric=sweep.scale.name,
        target=analysis.target,
        commands=[Command(reason=reason, command=line) for reason, line in commands(analysis)],
        notes=list(sweep.notes),
        facts=dict(sweep.facts),
        last_start=dict(sweep.start_facts),
        num_cells=len(sweep.points),
        sources=list(sweep.sources),
        curves=[CurveName(encoder=c.encoder, preset=c.preset, knob=c.knob) for c in sweep.curves],
        anchor=labels[analysis.anchor] if labels else None,
        grid=list(sweep.grid),
        bd_rate=[_pair(analysis, test, anchor) for test, anchor in pairs],
        quality_for=[_targets(analysis, curve) for curve in curves],
        speed=[_speed(analysis, curve) for curve in curves],
        convex_hull={
            name: [_corner(analysis, point) for point in analysis.hulls[s]]
            for s, name in enumerate(sweep.sources)
        },
        questions=[_question(question) for question in sweep.questions],
        ladders=[_ladder(ladder) for ladder in sweep.ladders],
        failed=list(sweep.failures),
        model_run=_model(model) if model else None,
    )


def _pair(analysis: Analysis, test: int, anchor: int) -> PairRates:
    rates = analysis.bd_rates(test, anchor)
    names = analysis.sweep.sources
    reasons = {name: analysis.bd_rate(s, test, anchor).reason for s, name in enumerate(names)}
    return PairRates(
        test=analysis.sweep.curves[test].label,
        anchor=analysis.sweep.curves[anchor].label,
        mean=fmean(rates.values()) if rates else None,
        median=median(rates.values()) if rates else None,
        per_source={name: rates.get(s) for s, name in enumerate(names)},
        reasons={name: reason for name, reason in reasons.items() if reason},
    )


def _speed(analysis: Analysis, curve: int) -> SpeedLine:
    speed = analysis.speed(curve)
    return SpeedLine(
        curve=analysis.sweep.curves[curve].label,
        cpu_s_per_frame=speed.cpu_s,
        mean_bd_rate=speed.percent,
        num_sources=speed.num_sources,
    )


def _targets(analysis: Analysis, curve: int) -> CurveTargets:
    return CurveTargets(
        curve=analysis.sweep.curves[curve].label,
        targets={str(target): _target(analysis, curve, target) for target in analysis.targets},
    )


def _target(analysis: Analysis, curve: int, target: float) -> TargetValues:
    values = analysis.quality_for(curve, target)
    found = TargetValues(
        median=for_share(values.values(), 0.5),
        for_90_percent=for_share(values.values(), 0.9),
        for_all=for_share(values.values(), 1.0),
        num_sources=len(values),
        out_of_reach=sum(value is None for value in values.values()),
    )
    if target == analysis.target:
        names = analysis.sweep.sources
        found.per_source = {names[s]: value for s, value in values.items()}
        found.cost = _cost(analysis, curve)
    return found


def _cost(analysis: Analysis, curve: int) -> Cost | None:
    choice = analysis.choice(curve)
    if choice is None:
        return None
    return Cost(
        quality=choice.quality,
        bitrate_kbps=choice.kbps,
        gb_per_hour=choice.gb_per_hour,
        vmaf=choice.vmaf,
        num_sources=choice.num_sources,
        command=analysis.command(curve, choice.quality),
    )


def _corner(analysis: Analysis, point: Point) -> Corner:
    known = point.quality is not None
    return Corner(
        curve=analysis.sweep.curves[point.curve].label,
        quality=point.quality,
        bitrate_kbps=point.kbps,
        vmaf=point.vmaf,
        command=analysis.command(point.curve, point.quality or 0.0) if known else None,
    )


def _question(question: FilmQuestion) -> WholeQuestion:
    return WholeQuestion(
        **msgspec.structs.asdict(question.asked),
        probes=list(question.probes),
        answers=[_answer(answer) for answer in question.answers],
    )


def _answer(answer: Answered) -> WindowedAnswer:
    return WindowedAnswer(**msgspec.structs.asdict(answer.told), windows=list(answer.windows))


def _ladder(ladder: ToldLadder) -> WholeLadder:
    return WholeLadder(**msgspec.structs.asdict(ladder.told), files=ladder.files)


def _model(run: ModelRun) -> ModelPart:
    return ModelPart(
        model=run.model_id,
        run=str(run.folder),
        scheme=run.scheme,
        smoke=run.smoke,
        num_rows=run.num_rows,
        num_seeds=run.num_seeds,
        groups=list(run.groups),
        overall=dict(run.overall),
        baseline_rmse=dict(run.baselines),
        residual_bands=list(run.bands),
        gate=list(run.gate),
        verdict=run.verdict,
        recipe=run.recipe,
        corpus=run.corpus,
        corpus_digest=run.digest,
        same_corpus=run.same_corpus,
    )
