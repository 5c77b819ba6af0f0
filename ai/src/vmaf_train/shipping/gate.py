"""The gate of `ship`: judges a training run by its out-of-fold predictions and its candidate file.
Needs no torch.

    judge(run, model_dir) --> Verdict(checks)    each check: name, value, limit, pass | hold | n/a

Everything is computed here from predictions.parquet, the corpus and candidate.onnx; no figure that
training wrote down is believed. The limits are those of the project's SPEC, section 6.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from vmaf_train.contract import CODEC_DIM, MODELS, NUM_FEATURES, UNKNOWN, VOCABULARY, ModelContract
from vmaf_train.corpus import dataset
from vmaf_train.corpus.dataset import LOSO, Dataset
from vmaf_train.errors import DatasetError, ModelError
from vmaf_train.model_file.graph import PARITY_LIMIT
from vmaf_train.results import tables
from vmaf_train.results.run_folder import Run
from vmaf_train.results.tables import Spread
from vmaf_train.shipping import predictor, registry
from vmaf_train.shipping.candidate import Candidate
from vmaf_train.shipping.predictor import Predictor
from vmaf_train.shipping.verdict import Check, Verdict, at_least, at_most, must, told
from vmaf_train.training.scaler import fit_scaler

MIN_GROUPS = 9
MIN_SEEDS = 3
MIN_MEAN_PLCC = 0.95
MAX_SEED_SPREAD = 0.005
MIN_GROUP_PLCC = 0.90
MAX_GROUP_RMSE = 3.0
MAX_MEAN_RMSE = 1.5
MAX_RMSE_LOSS = 0.1
MAX_BLIND_MAE_LOSS = 1.0
CORNERS = ((0.0, 1.1),) * (NUM_FEATURES - 1) + ((0.0, 100.0),)
"""Input box in raw features: adm2 and vif_scale* 0..1.1, motion2 0..100."""


def judge(run: Run, model_dir: Path) -> Verdict:
    """Judge `run` against every check, with the registry under `model_dir` for the incumbent.

    Raises ModelError when that registry is not in order or the run's model id has no contract. A
    candidate, corpus or table that is missing or unfit is no error: it is a check that holds.
    """
    if run.model_id not in MODELS:
        raise ModelError(
            f"{run.path} is a run of {run.model_id!r}; known models are {', '.join(MODELS)}"
        )
    contract = MODELS[run.model_id]
    data, corpus_note = _corpus(run, contract)
    held_out = run.predictions[run.predictions["scheme"] == LOSO]
    checks = [*_held_out(run, held_out, data, corpus_note)]
    figures: dict[str, float] = {}
    if len(held_out):
        means = _Means(held_out)
        figures = means.figures()
        checks += [
            *_accuracy(means),
            _incumbent(run, model_dir, means),
            *_codec_checks(contract, means),
        ]
    checks += [
        *_artifact(run, contract, data, figures),
        *_evidence(run, data, corpus_note, len(held_out)),
    ]
    return Verdict(
        model_id=run.model_id,
        checks=tuple(sorted(checks, key=lambda c: c.section)),
        figures=figures,
    )


def candidate(run: Run, verdict: Verdict) -> Candidate:
    """What promoting `run` would ship. Raises DatasetError when its candidate.onnx is not there."""
    onnx = run.path / "candidate.onnx"
    try:
        data = onnx.read_bytes()
    except OSError as failure:
        raise DatasetError(f"{onnx} cannot be read: {failure.strerror or failure}") from failure
    entry = registry.new_entry(
        run.model_id, data, description=_description(run, verdict), notes=_notes(run)
    )
    sidecar = {**run.sidecar, "gate": verdict.to_json()}
    return Candidate(folder=run.path, entry=entry, data=data, sidecar=sidecar, verdict=verdict)


def _description(run: Run, verdict: Verdict) -> str:
    contract, figures = MODELS[run.model_id], verdict.figures
    inputs = "six libvmaf features" + (" and the codec block" if contract.has_codec else "")
    said = f"VMAF of one {contract.unit} from {inputs}"
    if not figures:
        return said
    held_out = run.predictions[run.predictions["scheme"] == LOSO]
    return (
        f"{said}. Leave-one-source-out over {held_out['group'].nunique()} sources x"
        f" {held_out['seed'].nunique()} seeds: PLCC {figures.get('plcc', 0):.4f}, SROCC"
        f" {figures.get('srocc', 0):.4f}, RMSE {figures['rmse']:.3f}, MAE {figures['mae']:.3f} VMAF"
        " points."
    )


def _notes(run: Run) -> str:
    corpus = run.sidecar.get("corpus") or {}
    trained = ", ".join(run.sidecar.get("trained_encoders") or ()) or "not an input"
    return (
        f"Teacher {run.sidecar.get('teacher')}; corpus {corpus.get('path')}, digest"
        f" {str(corpus.get('digest'))[:8]}; encoders seen in training: {trained}."
    )


class _Means:
    """Held-out metrics of each prediction column, computed once."""

    def __init__(self, held_out: pd.DataFrame) -> None:
        self._held_out = held_out
        self._tables: dict[str, pd.DataFrame] = {}

    def spread(self, column: str, metric: str) -> Spread | None:
        if column not in self._tables:
            self._tables[column] = tables.group_table(self._held_out, column)
        return tables.spread(self._tables[column], metric)

    def mean(self, column: str, metric: str) -> float | None:
        """None when the column is absent or has gaps."""
        try:
            found = self.spread(column, metric) if column in self._held_out else None
        except DatasetError:
            return None
        return found.mean if found else None

    def figures(self) -> dict[str, float]:
        found = {
            metric: self.mean(tables.MODEL, metric) for metric in ("plcc", "srocc", "rmse", "mae")
        }
        return {name: value for name, value in found.items() if value is not None}


def _held_out(
    run: Run, held_out: pd.DataFrame, data: Dataset | None, corpus_note: str
) -> Iterator[Check]:
    """Check 1, the part about how the predictions were made."""
    few = "a gate needs nine sources: a corpus of fewer cannot show what a model does on a new one"
    groups, seeds = held_out["group"].nunique(), held_out["seed"].nunique()
    yield at_least(1, "LOSO groups", groups, MIN_GROUPS, few if groups < MIN_GROUPS else "")
    yield at_least(1, "LOSO seeds", seeds, MIN_SEEDS)
    yield must(1, "each fold holds out one whole group", _fold_problem(held_out))
    if data is None:
        yield must(1, "predictions are of the corpus", corpus_note)
        yield must(1, "scaler fitted inside each fold", corpus_note)
    else:
        yield must(1, "predictions are of the corpus", _row_problem(held_out, data))
        yield must(1, "scaler fitted inside each fold", _scaler_problem(run, data))


def _fold_problem(held_out: pd.DataFrame) -> str | None:
    if not len(held_out):
        return "there are no leave-one-source-out predictions; train with --loso"
    pairs = held_out[["fold", "group"]].drop_duplicates()
    if pairs["fold"].duplicated().any() or pairs["group"].duplicated().any():
        return "a fold holds out more than one group, or a group is split over folds"
    if held_out.duplicated(["key", "frame_index", "seed"]).any():
        return "a row is predicted twice for one seed"
    if held_out.groupby("seed").size().nunique() > 1:
        return "the seeds do not predict the same rows"
    return None


def _row_problem(held_out: pd.DataFrame, data: Dataset) -> str | None:
    """Why the predictions do not belong to the corpus: other rows, groups or scores."""
    frame = np.full(len(data), -1) if data.frame_index is None else data.frame_index
    rows = pd.DataFrame(
        {"key": data.key, "frame": frame, "true_group": data.group, "true_y": data.y}
    )
    one = held_out.assign(frame=held_out["frame_index"].fillna(-1).astype("int64"))
    both = one.merge(rows, on=["key", "frame"], how="outer", indicator=True)
    strangers = int((both["_merge"] != "both").sum())
    if strangers or len(held_out) != len(data) * held_out["seed"].nunique():
        return "rows are predicted and not in the corpus, or in the corpus and not predicted"
    same_group = both["group"].astype(str) == both["true_group"].astype(str)
    if not same_group.all() or not np.allclose(both["y"], both["true_y"], rtol=0, atol=1e-3):
        return "a group or score in the predictions is not the corpus's"
    return None


def _scaler_problem(run: Run, data: Dataset) -> str | None:
    """Why the scalers that the folds recorded were not fitted on the fold's training rows alone."""
    recorded = run.metrics.get("scalers")
    if not isinstance(recorded, dict):
        return "the run did not record the scaler of each fold; train again"
    for group in data.groups:
        rows = data.features[data.group != group]
        fold = recorded.get(group)
        if not isinstance(fold, dict):
            return f"the run did not record the scaler of the fold without {group}"
        # A source moves these means by percents, a rounding to float32 by 1e-7.
        for name, values in zip(("mean", "std"), fit_scaler(rows), strict=True):
            if not np.allclose(fold.get(name, np.nan), values, rtol=1e-5, atol=1e-7):
                return (
                    f"the scaler of the fold without {group} is not the {name} of its training rows"
                )
    return None


def _accuracy(means: _Means) -> Iterator[Check]:
    """Check 1, the part about PLCC, and check 2."""
    plcc, rmse = means.spread(tables.MODEL, "plcc"), means.spread(tables.MODEL, "rmse")
    undefined = f"{plcc.undefined} undefined" if plcc and plcc.undefined else ""
    yield at_least(
        1, "mean PLCC, lowest seed", min(plcc.seed_means) if plcc else None, MIN_MEAN_PLCC
    )
    yield at_most(
        1, "deviation of mean PLCC between seeds", plcc.std_seeds if plcc else None, MAX_SEED_SPREAD
    )
    if undefined:
        yield must(
            2,
            "PLCC defined in every group",
            f"{undefined}: constant scores or predictions in a group",
        )
    yield at_least(
        2,
        "worst group PLCC",
        plcc.worst_mean if plcc else None,
        MIN_GROUP_PLCC,
        plcc.worst_group if plcc else "",
    )
    yield at_most(
        2,
        "worst group RMSE",
        rmse.worst_mean if rmse else None,
        MAX_GROUP_RMSE,
        rmse.worst_group if rmse else "",
    )
    yield at_most(2, "mean RMSE", rmse.mean if rmse else None, MAX_MEAN_RMSE)


def _incumbent(run: Run, model_dir: Path, means: _Means) -> Check:
    """Check 3a: not worse than what is shipped, when both were judged on one corpus."""
    name, limit = "mean RMSE minus the incumbent's", f"<= {MAX_RMSE_LOSS:g}"
    shipped = registry.load(model_dir)
    entry = shipped.find(run.model_id)
    if entry is None:
        return told(3, name, None, limit=limit, note="no model of this id is shipped yet")
    sidecar = json.loads(registry.read_pair(shipped.folder, entry).sidecar)
    theirs = ((sidecar.get("gate") or {}).get("figures") or {}).get("rmse")
    if (sidecar.get("corpus") or {}).get("digest") != (run.sidecar.get("corpus") or {}).get(
        "digest"
    ):
        return told(
            3,
            name,
            None,
            limit=limit,
            note=f"not comparable: {entry.file} was trained on another corpus",
        )
    ours = means.mean(tables.MODEL, "rmse")
    if theirs is None or ours is None:
        return told(
            3,
            name,
            None,
            limit=limit,
            note=f"not comparable: {entry.file} has no recorded held-out RMSE",
        )
    return at_most(3, name, ours - theirs, MAX_RMSE_LOSS, f"{entry.file}: {theirs:.4f}")


def _codec_checks(contract: ModelContract, means: _Means) -> Iterator[Check]:
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
            yield told(
                section, name, None, limit=f"<= {limit:g}", note=f"{contract.id} takes no codec"
            )
            continue
        ours, theirs = means.mean(column, metric), means.mean(tables.CODEC_BLIND, metric)
        value = ours - theirs if ours is not None and theirs is not None else None
        note = (
            "the run has no such predictions"
            if value is None
            else f"codec-blind network: {theirs:.4f}"
        )
        yield at_most(section, name, value, limit, note)


def _artifact(
    run: Run, contract: ModelContract, data: Dataset | None, figures: Mapping[str, float]
) -> Iterator[Check]:
    """Check 5: the file keeps its contract, answers as torch did, and is the one whose training was
    held out.
    """
    try:
        onnx = (run.path / "candidate.onnx").read_bytes()
        candidate = predictor.from_pair(contract.id, onnx, run.sidecar, "cpu")
        difference = candidate.self_test()
    except (OSError, ModelError) as failure:
        yield must(5, "candidate keeps its contract", str(failure))
        return
    widths = candidate.artifact.widths
    problem = None
    if widths != (*contract.hidden, 1):
        problem = f"its layers are {widths}, the contract's are {(*contract.hidden, 1)}"
    yield must(5, "candidate keeps its contract", problem or _column_problem(candidate))
    rows = len(run.sidecar["self_test"]["score"])
    yield at_most(
        5, "ONNX against torch, VMAF points", difference, PARITY_LIMIT, f"on {rows} real rows"
    )
    worst = candidate.predict(*_corner_rows(contract))
    broken = int((~np.isfinite(worst)).sum())
    yield must(
        5,
        "finite on the corners of the input box",
        f"{broken} corners are not finite" if broken else None,
    )
    yield must(5, "candidate is of this run", _stranger_problem(run, data, figures))
    if data is not None and figures:
        # It has seen every source, so it must not do worse on them than the networks that had not.
        answers = candidate.predict(data.features, data.codec if contract.has_codec else None)
        value = None
        if np.isfinite(answers).all():
            table = tables.group_table(
                tables.score_table(data, answers), tables.MODEL, tables.CORPUS
            )
            value = float(table["rmse"].mean()) - figures["rmse"]
        yield at_most(
            5,
            "candidate's mean RMSE on its corpus minus the held-out one",
            value,
            MAX_RMSE_LOSS,
            f"held out: {figures['rmse']:.4f}",
        )


def _stranger_problem(run: Run, data: Dataset | None, figures: Mapping[str, float]) -> str | None:
    """Why the candidate's sidecar does not belong to the run's recipe, predictions and corpus."""
    if run.sidecar.get("recipe") != run.recipe:
        return "its recipe is not the run's"
    told = ((run.sidecar.get("loso") or {}).get("metrics") or {}).get(tables.MODEL) or {}
    for name, value in figures.items():
        if not np.isclose((told.get(name) or {}).get("mean", np.nan), value, rtol=0, atol=1e-6):
            return f"its held-out mean {name} is not that of the run's predictions"
    if data is not None:
        for row in run.sidecar["self_test"]["features"]:
            if not (data.features == row).all(axis=1).any():
                return "it was compared with torch on rows that are not the corpus's"
    return None


def _column_problem(candidate: Predictor) -> str | None:
    """Why a slot without training rows would not answer as `unknown` does."""
    if not candidate.contract.has_codec:
        return None
    columns = candidate.artifact.first_weight[:, NUM_FEATURES : NUM_FEATURES + len(VOCABULARY)]
    unknown = columns[:, VOCABULARY.index(UNKNOWN)]
    for i, name in enumerate(VOCABULARY):
        if name not in candidate.artifact.trained_encoders and not np.array_equal(
            columns[:, i], unknown
        ):
            return f"{name} was never trained, and its weights are not those of an unknown encoder"
    return None


def _corner_rows(contract: ModelContract) -> tuple[Any, Any]:
    """Every corner of the feature box, each with every slot and every corner of preset and quality
    (if a codec).
    """
    corners = np.array(list(itertools.product(*CORNERS)))
    if not contract.has_codec:
        return corners, None
    blocks = np.zeros((len(VOCABULARY) * 4, CODEC_DIM))
    for row, (slot, *knobs) in zip(
        blocks, itertools.product(range(len(VOCABULARY)), (0, 1), (0, 1)), strict=True
    ):
        row[slot], row[-2:] = 1.0, knobs
    return np.repeat(corners, len(blocks), axis=0), np.tile(blocks, (len(corners), 1))


def _evidence(run: Run, data: Dataset | None, corpus_note: str, num_rows: int) -> Iterator[Check]:
    """Check 6: what the verdict rests on."""
    smoke = run.smoke or run.sidecar.get("smoke") is not False
    yield must(
        6,
        "not a smoke run",
        "a smoke run learned from a synthetic corpus and is never shipped" if smoke else None,
    )
    missing = None if num_rows else "there are none; train with --loso"
    yield must(6, "out-of-fold predictions present", missing)
    yield must(
        6,
        "corpus present with the recorded digest",
        corpus_note if data is None else _digest_problem(run, data),
    )


def _digest_problem(run: Run, data: Dataset) -> str | None:
    recorded = run.sidecar.get("corpus") or {}
    frames = recorded.get("frame_digest")
    if data.digest != recorded.get("digest"):
        return f"the rows of {data.path} are not those that training recorded"
    if run.recipe.get("window_share") and frames is None:
        return "it learned from frame rows, and training did not record their digest; train again"
    try:
        found = data.frame_digest or (dataset.frame_digest(data.path) if frames else None)
    except DatasetError as failure:
        return str(failure)
    if frames is not None and frames != found:
        return f"the frame rows beside {data.path} are not those that training recorded"
    return None


def _corpus(run: Run, contract: ModelContract) -> tuple[Dataset | None, str]:
    """The corpus that the run was trained on, or why there is none."""
    named = str((run.sidecar.get("corpus") or {}).get("path") or "")
    if not named:
        return None, "the run does not say which corpus it learned from"
    # The path is relative to where training was started, which is above the run's folder unless
    # --runs-dir moved it.
    roots = [Path(), *run.path.resolve().parents]
    path = next((root / named for root in roots if (root / named).exists()), None)
    if path is None:
        return None, f"the corpus {named} is not here"
    try:
        return dataset.load(path, per_frame=contract.unit == "frame"), ""
    except DatasetError as failure:
        return None, str(failure)
