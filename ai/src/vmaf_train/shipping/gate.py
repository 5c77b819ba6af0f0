"""The gate of `ship`: judges a training run by its out-of-fold predictions and its candidate file.
Needs no torch.

    judge(run, model_dir) --> Verdict(checks)    each check: name, value, limit, pass | hold | n/a

Everything is computed here from predictions.parquet, the corpus and candidate.onnx; no figure that
training wrote down is believed. What is left to believe are the predictions themselves: a run whose
rows were invented to fit the corpus is found by training its folds again alone
(`ship --retrain-folds`).
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from vmaf_train.contract import MODELS, ModelContract
from vmaf_train.corpus import several
from vmaf_train.errors import ModelError
from vmaf_train.results import tables
from vmaf_train.results.run_folder import CANDIDATE, Run
from vmaf_train.results.tables import Spread
from vmaf_train.shipping import artifact, evidence, incumbent, registry
from vmaf_train.shipping.candidate import JudgedRun
from vmaf_train.shipping.case import Case, Means, facts_of, find_corpus, open_case
from vmaf_train.shipping.verdict import Check, Verdict, at_least, at_most, must, told
from vmaf_train.teacher import Teacher

MIN_MEAN_PLCC = 0.95
MAX_SEED_SPREAD = 0.005
MIN_GROUP_PLCC = 0.90
MAX_GROUP_RMSE = 3.0
MAX_MEAN_RMSE = 1.5
MAX_RMSE_LOSS = 0.1
MAX_BLIND_MAE_LOSS = 1.0


def judge(
    run: Run, model_dir: Path, *, teacher: Teacher | None = None, accepted: str | None = None
) -> Verdict:
    """Judge `run` against every check, with the registry under `model_dir` for the incumbent.

    `teacher` is the teacher's own function, printed beside the model. `accepted` is the reason to
    ship although nothing can be compared with the incumbent. Raises ModelError when the registry is
    not in order or the run's model id has no contract. A candidate, corpus or table that is missing
    or unfit is no error: it is a check that holds.
    """
    if run.model_id not in MODELS:
        raise ModelError(
            f"{run.path} is a run of {run.model_id!r}; known models are {', '.join(MODELS)}"
        )
    case = open_case(run, teacher)
    checks = [*evidence.how_it_was_held_out(case)]
    figures: dict[str, float] = {}
    if len(case.held_out):
        means = Means(case.held_out)
        figures = means.figures()
        checks += [
            *_accuracy(means),
            *incumbent.against(case, model_dir, means, accepted),
            *_codec_checks(case.contract, means),
            *_teacher_line(case, means),
        ]
    checks += [*artifact.what_the_file_is(case, figures), *evidence.what_it_rests_on(case)]
    return Verdict(
        model_id=run.model_id,
        checks=tuple(sorted(checks, key=lambda c: c.section)),
        figures=figures,
    )


def candidate(run: Run, verdict: Verdict, accepted: str | None = None) -> JudgedRun:
    """What promoting `run` would ship. `accepted` is written into the sidecar."""
    onnx = run.path / CANDIDATE
    data = onnx.read_bytes() if onnx.is_file() else b""
    entry = registry.new_entry(
        run.model_id, data, description=_description(run, verdict), notes=_notes(run)
    )
    sidecar: dict[str, object] = {**run.sidecar, "gate": verdict.to_json()}
    if accepted:
        sidecar["accepted_incomparable"] = accepted
    return JudgedRun(folder=run.path, entry=entry, data=data, sidecar=sidecar, verdict=verdict)


def trained_again(run: Run, num_folds: int) -> Check:
    """Check 6, on demand: some folds of the run, chosen at random, trained again. Needs torch.

    Raises DatasetError when the corpus is not here, or the run has fewer folds.
    """
    from vmaf_train.training import retrain

    contract = MODELS[run.model_id]
    told = facts_of(run.sidecar)
    paths = [find_corpus(path, run.path) for path in told.paths]
    data = several.load(paths, per_frame=contract.unit == "frame", kinds=told.kinds)
    figures = retrain.folds_again(run.recipe, data, run.predictions, num_folds)
    problem = "; ".join(retrain.as_sentences(figures))
    name = "folds trained again give the same errors"
    return must(6, name, problem or None, f"{num_folds} folds")


def _description(run: Run, verdict: Verdict) -> str:
    contract, figures = MODELS[run.model_id], verdict.figures
    inputs = "six libvmaf features" + (" and the codec block" if contract.has_codec else "")
    said = f"VMAF of one {contract.unit} from {inputs}"
    if not figures:
        return said
    held_out = run.predictions[run.predictions["scheme"] == "loso"]
    return (
        f"{said}. Leave-one-source-out over {held_out['group'].nunique()} sources x"
        f" {held_out['seed'].nunique()} seeds: RMSE {figures['rmse']:.3f}, MAE"
        f" {figures['mae']:.3f} VMAF points, 1 - PLCC {1 - figures.get('plcc', 0):.1e}, SROCC"
        f" {figures.get('srocc', 0):.4f}."
    )


def _notes(run: Run) -> str:
    corpus = run.sidecar.get("corpus") or {}
    trained = ", ".join(run.sidecar.get("trained_encoders") or ()) or "not an input"
    return (
        f"Teacher {run.sidecar.get('teacher')}; corpus {corpus.get('path')}, digest"
        f" {str(corpus.get('digest'))[:8]}; encoders seen in training: {trained}."
    )


def _accuracy(means: Means) -> Iterator[Check]:
    """Check 1, the part about PLCC, and check 2."""
    plcc, rmse = means.spread(tables.MODEL, "plcc"), means.spread(tables.MODEL, "rmse")
    lowest = min(plcc.seed_means) if plcc else None
    apart = plcc.std_seeds if plcc else None
    yield at_least(1, "mean PLCC, lowest seed", lowest, MIN_MEAN_PLCC)
    yield at_most(1, "deviation of mean PLCC between seeds", apart, MAX_SEED_SPREAD)
    if plcc and plcc.undefined:
        why = f"{plcc.undefined} undefined: constant scores or predictions in a group"
        yield must(2, "PLCC defined in every group", why)
    worst_plcc, worst_rmse = _worst(plcc), _worst(rmse)
    yield at_least(2, "worst group PLCC", worst_plcc[0], MIN_GROUP_PLCC, worst_plcc[1])
    yield at_most(2, "worst group RMSE", worst_rmse[0], MAX_GROUP_RMSE, worst_rmse[1])
    yield at_most(2, "mean RMSE", rmse.mean if rmse else None, MAX_MEAN_RMSE)


def _worst(spread: Spread | None) -> tuple[float | None, str]:
    return (spread.worst_mean, spread.worst_group) if spread else (None, "")


def _codec_checks(contract: ModelContract, means: Means) -> Iterator[Check]:
    """Checks 3b and 4: what the codec block may cost."""
    rows = (
        (3, "mean RMSE minus the codec-blind network's", "rmse", tables.MODEL, MAX_RMSE_LOSS),
        (
            4,
            "codec-blind input: MAE minus the codec-blind network's",
            "mae",
            tables.BLIND_INPUT,
            MAX_BLIND_MAE_LOSS,
        ),
    )
    for section, name, metric, column, limit in rows:
        if not contract.has_codec:
            yield told(section, name, None, f"{contract.id} takes no codec", f"<= {limit:g}")
            continue
        ours, theirs = means.mean(column, metric), means.mean(tables.CODEC_BLIND, metric)
        if ours is None or theirs is None:
            yield at_most(section, name, None, limit, "the run has no such predictions")
            continue
        yield at_most(section, name, ours - theirs, limit, f"codec-blind network: {theirs:.4f}")


def _teacher_line(case: Case, means: Means) -> Iterator[Check]:
    """Printed, and no limit: what the teacher's own function on the same features is worth."""
    theirs, ours = means.mean(tables.TEACHER, "rmse"), means.mean(tables.MODEL, "rmse")
    name = "mean RMSE minus that of the teacher's own function"
    if theirs is None or ours is None:
        yield told(3, name, None, "the run holds no y_teacher, or it is of another teacher")
        return
    exact = " (exact on frames)" if case.contract.unit == "frame" else ""
    yield told(3, name, ours - theirs, f"untrained, on the same features{exact}: {theirs:.4f}")
