"""Check 5 of the gate: the candidate's file is what its weights give, and answers as it must."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping

import numpy as np

from vmaf_train.contract import (
    CODEC_DIM,
    FEATURE_BOX,
    NUM_FEATURES,
    SCORE_RANGE,
    UNKNOWN,
    VOCABULARY,
    ModelContract,
)
from vmaf_train.corpus.dataset import Dataset, Floats
from vmaf_train.errors import ModelError
from vmaf_train.model_file.graph import PARITY_LIMIT, build_onnx
from vmaf_train.model_file.inspect import Artifact
from vmaf_train.model_file.sidecar import contract_fields
from vmaf_train.results import tables
from vmaf_train.results.run_folder import CANDIDATE
from vmaf_train.shipping import predictor
from vmaf_train.shipping.case import Case
from vmaf_train.shipping.predictor import Predictor
from vmaf_train.shipping.verdict import Check, at_least, at_most, must

MIN_SELF_TEST_ROWS = 16
MAX_RMSE_LOSS = 0.1
IN_RANGE = 1e-3  # VMAF points: float32 near 100


def what_the_file_is(case: Case, figures: Mapping[str, float]) -> Iterator[Check]:
    """The file keeps its contract, is made of nothing but its weights, answers as torch did, and is
    the one whose training was held out.
    """
    try:
        data = (case.run.path / CANDIDATE).read_bytes()
        candidate = predictor.from_pair(case.contract.id, data, case.run.sidecar, "cpu")
        difference = candidate.self_test()
    except (OSError, ModelError) as failure:
        yield must(5, "candidate keeps its contract", str(failure))
        return
    yield must(5, "candidate keeps its contract", _contract_problem(candidate))
    yield must(5, "candidate is rebuilt from its weights", _rebuild_problem(candidate, data))
    rows = len(case.run.sidecar["self_test"]["score"])
    yield at_least(5, "real rows compared with torch", rows, MIN_SELF_TEST_ROWS)
    yield at_most(5, "ONNX against torch, VMAF points", difference, PARITY_LIMIT)
    worst = candidate.predict(*_corner_rows(case.contract))
    yield must(5, "answers 0..100 on the corners of the input box", _corner_problem(worst))
    yield must(5, "candidate is of this run", _stranger_problem(case, candidate, figures))
    if case.data is not None and figures:
        yield _in_sample(candidate, case.data, figures["rmse"])


def _in_sample(candidate: Predictor, data: Dataset, held_out: float) -> Check:
    """It has seen every source, so it must not do worse on them than the networks that had not."""
    answers = candidate.predict(data.features, data.codec if candidate.contract.has_codec else None)
    value = None
    if np.isfinite(answers).all():
        table = tables.group_table(tables.score_table(data, answers), tables.MODEL, tables.CORPUS)
        value = float(table["rmse"].mean()) - held_out
    name = "candidate's mean RMSE on its corpus minus the held-out one"
    return at_most(5, name, value, MAX_RMSE_LOSS, f"held out: {held_out:.4f}")


def _contract_problem(candidate: Predictor) -> str | None:
    """Why the network is not the contract's."""
    widths, wanted = candidate.artifact.widths, (*candidate.contract.hidden, 1)
    if widths != wanted:
        return f"its layers are {widths}, the contract's are {wanted}"
    fields = contract_fields(candidate.contract, clip=True)
    for name, value in fields.items():
        if candidate.sidecar.get(name) != value:
            return f"the sidecar's {name} is not the contract's"
    return _column_problem(candidate.artifact)


def _column_problem(artifact: Artifact) -> str | None:
    """Why a slot without training rows would not answer as `unknown` does."""
    if not artifact.contract.has_codec:
        return None
    columns = artifact.layers[0][0][:, NUM_FEATURES : NUM_FEATURES + len(VOCABULARY)]
    unknown = columns[:, VOCABULARY.index(UNKNOWN)]
    for i, name in enumerate(VOCABULARY):
        trained = name in artifact.trained_encoders
        if not trained and not np.array_equal(columns[:, i], unknown):
            return f"{name} was never trained, and its weights are not those of an unknown encoder"
    return None


def _rebuild_problem(candidate: Predictor, data: bytes) -> str | None:
    """Why the file is more than its weights: another graph, a branch, a constant, a field."""
    artifact = candidate.artifact
    try:
        again = build_onnx(
            model_id=artifact.contract.id,
            layers=artifact.layers,
            feature_mean=artifact.feature_mean,
            feature_std=artifact.feature_std,
            trained_encoders=artifact.trained_encoders,
            clip=True,
            smoke=artifact.smoke,
        )
    except ValueError as failure:
        return str(failure)
    if again != data:
        return "the file that its weights give has other bytes: it holds something besides them"
    return None


def _corner_rows(contract: ModelContract) -> tuple[Floats, Floats | None]:
    """Every corner of the feature box, each with every slot and every corner of preset and quality
    (if a codec).
    """
    corners = np.array(list(itertools.product(*FEATURE_BOX)))
    if not contract.has_codec:
        return corners, None
    knobs = list(itertools.product(range(len(VOCABULARY)), (0, 1), (0, 1)))
    blocks = np.zeros((len(knobs), CODEC_DIM))
    for row, (slot, preset, quality) in zip(blocks, knobs, strict=True):
        row[slot] = 1.0
        row[-2:] = preset, quality
    return np.repeat(corners, len(blocks), axis=0), np.tile(blocks, (len(corners), 1))


def _corner_problem(answers: Floats) -> str | None:
    low, high = SCORE_RANGE
    broken = int((~np.isfinite(answers)).sum())
    if broken:
        return f"{broken} corners are not finite"
    outside = answers[(answers < low - IN_RANGE) | (answers > high + IN_RANGE)]
    if len(outside):
        return f"{len(outside)} corners are outside, such as {outside[0]:.1f}"
    return None


def _stranger_problem(case: Case, candidate: Predictor, figures: Mapping[str, float]) -> str | None:
    """Why the candidate's sidecar does not belong to the run's recipe, predictions and corpus."""
    sidecar = case.run.sidecar
    if sidecar.get("recipe") != case.run.recipe:
        return "its recipe is not the run's"
    told = ((sidecar.get("loso") or {}).get("metrics") or {}).get(tables.MODEL) or {}
    for name, value in figures.items():
        if not np.isclose((told.get(name) or {}).get("mean", np.nan), value, rtol=0, atol=1e-6):
            return f"its held-out mean {name} is not that of the run's predictions"
    return None if case.data is None else _corpus_problem(case, candidate, case.data)


def _corpus_problem(case: Case, candidate: Predictor, data: Dataset) -> str | None:
    """Why what the sidecar says about its corpus is not what the corpus says."""
    if case.run.sidecar.get("teacher") != data.teacher:
        return f"its teacher is not the corpus's, {data.teacher}"
    counts = data.codec[:, : len(VOCABULARY)].sum(axis=0)
    used = tuple(word for word, count in zip(VOCABULARY, counts, strict=True) if count > 0)
    trained = used if case.contract.has_codec else ()
    if candidate.artifact.trained_encoders != trained:
        return f"its trained_encoders are not those of the corpus: {', '.join(used)}"
    told = case.told
    if (told.num_rows, told.num_groups) != (len(data), len(data.groups)):
        return "its numbers of rows and groups are not the corpus's"
    if told.sources is not None and told.sources != dict(data.sources):
        return "its source digests are not the corpus's"
    for row in case.run.sidecar["self_test"]["features"]:
        if not (data.features == row).all(axis=1).any():
            return "it was compared with torch on rows that are not the corpus's"
    return None
