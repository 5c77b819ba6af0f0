"""The gate of `quality_prior`: the candidate is fitted again, and so is every prior that held a
group out.

    judge(run, progress) --> Candidate with its Verdict

No figure that training wrote down is believed: fits are deterministic and take a second or two, so
the gate makes its own from the rows, and the candidate must foretell what the gate's own prior
does. Needs torch.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from vmaf_train.corpus import duplicates
from vmaf_train.corpus.dataset import corpus_digest
from vmaf_train.errors import TrainError
from vmaf_train.prior import ID, STATISTICS, Belief, Prior, dump, parse
from vmaf_train.results import foretelling
from vmaf_train.results.foretelling import Figures
from vmaf_train.results.prior_run import PriorRun
from vmaf_train.shipping import registry
from vmaf_train.shipping.candidate import JudgedRun
from vmaf_train.shipping.verdict import Check, Verdict, at_least, at_most, must
from vmaf_train.training import prior_experiment
from vmaf_train.training.prior_experiment import PriorExperiment, Progress

MIN_GROUPS = 9
LIMITS = {
    "mae_1_probes": 3.3,
    "mae_2_probes": 1.6,
    "mae_3_probes": 1.7,
    "mae_other_encoder": 3.4,
    "encodes_proven": 3.45,
    "encodes_confident": 3.05,
}
"""Largest figures of the mean on held-out groups: VMAF points, and encodes for a target."""
NAMES = {
    "mae_1_probes": "MAE after 1 probe",
    "mae_2_probes": "MAE after 2 probes",
    "mae_3_probes": "MAE after 3 probes",
    "mae_other_encoder": "MAE of other encoders after 1 probe",
    "encodes_proven": "encodes until proven",
    "encodes_confident": "encodes until confident",
}
MIN_WITHIN_95 = 0.92
MIN_EXACT = 0.98
SAME = 0.05
"""VMAF points by which the candidate may differ from a prior fitted again: another
processor's sums end a line search a little elsewhere."""


def judge(run: PriorRun, progress: Progress) -> JudgedRun:
    """Judge `run` and say what promoting it would ship. A corpus that is gone or changed is no
    error: it is a check that holds.
    """
    checks: list[Check] = []
    figures: Figures = {}
    problem, experiment = _corpus(run)
    checks.append(must(1, "corpus is there and unchanged", problem))
    if experiment is not None:
        checks.append(at_least(1, "groups held out", len(experiment.groups), MIN_GROUPS))
        checks.append(must(1, "no two groups show the same pictures", _twins(experiment)))
        if len(experiment.groups) >= 3:
            held_out = prior_experiment.hold_out(experiment, "mean", progress)
            figures = foretelling.figures(held_out, "mean")
            checks += _accuracy(figures)
        checks.append(must(3, "the candidate is what the rows give", _fitted(run, experiment)))
    verdict = Verdict(model_id=ID, checks=tuple(checks), figures=figures)
    return JudgedRun(
        folder=run.path,
        entry=registry.new_entry(
            ID, run.data, description=_description(figures), notes=_notes(run)
        ),
        data=run.data,
        sidecar=_sidecar(run, verdict),
        verdict=verdict,
    )


def _corpus(run: PriorRun) -> tuple[str | None, PriorExperiment | None]:
    """A sentence when the rows are not those of training, and the experiment when they are."""
    try:
        experiment = prior_experiment.plan([Path(c.path) for c in run.metrics.corpora])
    except (TrainError, OSError) as failure:
        return str(failure), None
    for corpus in run.metrics.corpora:
        if corpus_digest(corpus.path) != corpus.digest:
            return f"{corpus.path} has other rows than training recorded; train again", None
    return None, experiment


def _twins(experiment: PriorExperiment) -> str | None:
    for path in experiment.paths:
        twins = duplicates.find(path).twins
        if twins:
            return twins[0].sentence
    return None


def _accuracy(figures: Figures) -> list[Check]:
    checks = [at_most(2, NAMES[name], figures.get(name), most) for name, most in LIMITS.items()]
    checks.append(at_least(2, "95% intervals hold", figures.get("within_95"), MIN_WITHIN_95))
    checks.append(at_least(2, "confident answers exact", figures.get("exact_confident"), MIN_EXACT))
    below = figures.get("below_confident", 1) + figures.get("below_proven", 1)
    checks.append(at_most(2, "answers below the target", below, 0))
    return checks


def _fitted(run: PriorRun, experiment: PriorExperiment) -> str | None:
    """A sentence when the candidate does not foretell what a prior fitted again does."""
    try:
        found = parse(run.data)
    except TrainError as failure:
        return str(failure)
    own = prior_experiment.candidate(experiment)
    if dump(own) == run.data:
        return None
    if set(found.hyper) != set(STATISTICS) or dict(found.facts) != dict(own.facts):
        return "candidate.json names other statistics or corpora than the rows; train again"
    away = max(_away(found, own, experiment, statistic) for statistic in STATISTICS)
    if away <= SAME:
        return None
    return (
        f"candidate.json differs by up to {away:.2f} VMAF points from a fit of the same"
        " rows; train again"
    )


def _away(a: Prior, b: Prior, experiment: PriorExperiment, statistic: str) -> float:
    """Largest difference of what two priors foretell after one probe, in VMAF points."""
    worst = 0.0
    for content in experiment.known:
        for _, cells in foretelling.settings_of(content.cells):
            told = []
            for prior in (a, b):
                belief = Belief(prior, statistic)
                belief.observe_cell(cells[len(cells) // 2])
                seen = belief.predict(cells[0].encoder, cells[0].preset, [c.quality for c in cells])
                told.append(np.concatenate([seen.low, seen.score, seen.high]))
            worst = max(worst, float(np.abs(told[0] - told[1]).max()))
    return worst


def _description(figures: Figures) -> str:
    said = "VMAF and bits per pixel of encodes that were not made, from those that were."
    if "encodes_proven" not in figures:
        return said
    return (
        f"{said} Leave-one-source-out: MAE {figures['mae_1_probes']:.2f} / "
        f"{figures['mae_2_probes']:.2f} / {figures['mae_3_probes']:.2f} VMAF points after 1 / 2 / 3"
        f" probes; {figures['encodes_proven']:.2f} encodes for a proven target,"
        f" {figures['encodes_confident']:.2f} for a confident one."
    )


def _notes(run: PriorRun) -> str:
    metrics = run.metrics
    digests = ", ".join(f"{c.path} ({c.digest[:8]})" for c in metrics.corpora)
    return (
        f"Teacher {metrics.teacher}; corpus {digests}; {metrics.num_contents} windows of"
        f" {len(metrics.groups)} sources."
    )


def _sidecar(run: PriorRun, verdict: Verdict) -> dict[str, object]:
    return {
        "id": ID,
        "sha256": hashlib.sha256(run.data).hexdigest(),
        "teacher": run.metrics.teacher,
        "corpora": [{"path": c.path, "digest": c.digest} for c in run.metrics.corpora],
        "loso": run.metrics.loso,
        "self_test": self_test_cases(run.data),
        "run_provenance": dict(run.provenance),
        "gate": verdict.to_json(),
    }


# -- the stored questions ----------------------------------------------------------------------

_PROBE = {"score": 85.0, "bits_per_pixel": 0.08, "motion2": 2.0}
_QUALITIES = (15.0, 30.0, 45.0)


def self_test_cases(data: bytes) -> list[dict[str, object]]:
    """Questions with this prior's answers, which a reader must give again."""
    try:
        prior = parse(data)
    except TrainError:
        return []
    return [
        {"statistic": statistic, "encoder": c.encoder, "preset": c.preset, "scores": scores}
        for statistic in prior.hyper
        for c in prior.curves
        for scores in [_answers(prior, statistic, c.encoder, c.preset)]
    ]


def _answers(prior: Prior, statistic: str, encoder: str, preset: str) -> list[float]:
    belief = Belief(prior, statistic)
    belief.observe(encoder, preset, _QUALITIES[1], **_PROBE)
    told = belief.predict(encoder, preset, _QUALITIES)
    return [float(score) for score in told.score]


def self_test(data: bytes, cases: Sequence[dict[str, object]]) -> float:
    """Largest difference between stored and fresh answers, in VMAF points."""
    prior = parse(data)
    worst = 0.0
    for case in cases:
        names = (str(case["statistic"]), str(case["encoder"]), str(case["preset"]))
        stored = case["scores"]
        assert isinstance(stored, list)
        fresh = _answers(prior, *names)
        worst = max(worst, *(abs(a - float(b)) for a, b in zip(fresh, stored, strict=True)))
    return worst
