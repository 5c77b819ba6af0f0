"""Every check of the gate passes on a good run and holds on one that lacks just what it
asks for.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from vmaf_train.model_file.graph import import_onnx
from vmaf_train.results.run_folder import load_run
from vmaf_train.shipping import gate, promotion, registry

FR = "fr_regressor_v2"


def judge(project: Any, folder: Any) -> gate.Verdict:
    return gate.judge(load_run(folder), project.model_dir)


@pytest.mark.parametrize("model_id", ["fr_regressor_v2", "fr_regressor_v1", "vmaf_tiny_v2"])
def test_a_good_run_passes_and_codec_checks_are_only_for_models_with_a_codec(
    project: Any, model_id: str
) -> None:
    verdict = judge(project, project.run(model_id))
    assert verdict.passed, verdict.held
    not_applicable = {c.name for c in verdict.checks if c.verdict == "n/a"}
    codec = {c.name for c in verdict.checks if "codec-blind" in c.name}
    assert len(codec) == 2
    assert codec <= not_applicable if model_id != FR else not codec & not_applicable
    assert set(verdict.figures) == {"plcc", "srocc", "rmse", "mae"}
    assert verdict.figures["rmse"] == pytest.approx(0.3, rel=0.1)
    json.dumps(verdict.to_json(), allow_nan=False)


def few_groups(p: Any) -> None:
    p.predictions = p.predictions[
        p.predictions["group"].isin(sorted(set(p.predictions["group"]))[:8])
    ]


def few_seeds(p: Any) -> None:
    p.predictions = p.predictions[p.predictions["seed"] < 2]


def no_loso(p: Any) -> None:
    p.predictions["scheme"] = "kfold5"


def mixed_folds(p: Any) -> None:
    p.predictions.loc[p.predictions["group"] == "smoke01", "fold"] = "smoke00"


def row_twice(p: Any) -> None:
    p.predictions = p.predictions.iloc[[0, *range(len(p.predictions))]]


def other_scores(p: Any) -> None:
    p.predictions["y"] = p.predictions["y"] + 0.01


def other_rows(p: Any) -> None:
    p.predictions["key"] = p.predictions["key"] + "x"


def leaked_scaler(p: Any) -> None:
    p.metrics["scalers"]["smoke03"] = p.metrics["scalers"]["smoke04"]


def no_scaler(p: Any) -> None:
    del p.metrics["scalers"]


def noisy(p: Any, points: float, where: Any = slice(None), column: str = "y_model") -> None:
    rng, rows = np.random.default_rng(5), p.predictions.index[where]
    p.predictions.loc[rows, column] = p.predictions.loc[rows, "y"] + rng.normal(
        0, points, len(rows)
    )


def unrelated(p: Any) -> None:
    p.predictions["y_model"] = p.predictions["y_model"].to_numpy()[::-1]


def one_bad_seed(p: Any) -> None:
    noisy(p, 5.0, p.predictions["seed"] == 1)


def constant_group(p: Any) -> None:
    p.predictions.loc[p.predictions["group"] == "smoke02", "y_model"] = 80.0


def one_unrelated_group(p: Any) -> None:
    rows = p.predictions.index[p.predictions["group"] == "smoke02"]
    p.predictions.loc[rows, "y_model"] = p.predictions.loc[rows, "y"].to_numpy()[::-1]


def one_shifted_group(p: Any) -> None:
    p.predictions.loc[p.predictions["group"] == "smoke02", "y_model"] += 4.0


def all_shifted(p: Any) -> None:
    p.predictions["y_model"] += 2.0


def better_baseline(p: Any) -> None:
    noisy(p, 0.1, column="y_codec_blind")


def bad_blind_input(p: Any) -> None:
    p.predictions["y_blind_input"] += 3.0


def no_blind_input(p: Any) -> None:
    p.predictions["y_blind_input"] = np.nan


def broken_file(p: Any) -> None:
    p.onnx = p.onnx[:100]


def other_sidecar(p: Any) -> None:
    p.sidecar["feature_mean"][0] += 1e-9


def other_answers(p: Any) -> None:
    p.sidecar["self_test"]["score"][3] += 2e-4


def later_seed_told_its_own_answers(p: Any) -> None:
    rows = p.predictions["seed"] == 2
    p.predictions.loc[rows, "y"] = p.predictions.loc[rows, "y_model"]


def later_seed_of_fewer_rows(p: Any) -> None:
    p.predictions = p.predictions[
        (p.predictions["seed"] < 2) | (p.predictions["group"] != "smoke01")
    ]


def other_recipe(p: Any) -> None:
    p.sidecar["recipe"] = {"name": "test", "epochs": 1}


def no_table(p: Any) -> None:
    p.sidecar["loso"] = None


def made_up_rows(p: Any) -> None:
    p.sidecar["self_test"]["features"][2][1] += 0.01


def windows_without_digest(p: Any) -> None:
    p.recipe = p.sidecar["recipe"] = {"name": "test", "window_share": 1.0}


def smoke_run(p: Any) -> None:
    p.metrics["smoke"] = True


def smoke_sidecar(p: Any) -> None:
    p.sidecar["smoke"] = True


def other_digest(p: Any) -> None:
    p.sidecar["corpus"]["digest"] = "0" * 64


def other_frames(p: Any) -> None:
    p.sidecar["corpus"]["frame_digest"] = "0" * 64


def lost_corpus(p: Any) -> None:
    p.sidecar["corpus"]["path"] = "runs/phase_a/gone/cells.jsonl"


@pytest.mark.parametrize(
    ("change", "check"),
    [
        (few_groups, "LOSO groups"),
        (few_groups, "predictions are of the corpus"),
        (few_seeds, "LOSO seeds"),
        (no_loso, "LOSO groups"),
        (no_loso, "out-of-fold predictions present"),
        (mixed_folds, "each fold holds out one whole group"),
        (row_twice, "each fold holds out one whole group"),
        (other_scores, "predictions are of the corpus"),
        (other_rows, "predictions are of the corpus"),
        (leaked_scaler, "scaler fitted inside each fold"),
        (no_scaler, "scaler fitted inside each fold"),
        (unrelated, "mean PLCC, lowest seed"),
        (one_bad_seed, "deviation of mean PLCC between seeds"),
        (constant_group, "PLCC defined in every group"),
        (one_unrelated_group, "worst group PLCC"),
        (one_shifted_group, "worst group RMSE"),
        (all_shifted, "mean RMSE"),
        (better_baseline, "mean RMSE minus the codec-blind network's"),
        (bad_blind_input, "codec-blind input: MAE minus the codec-blind network's"),
        (no_blind_input, "codec-blind input: MAE minus the codec-blind network's"),
        (broken_file, "candidate keeps its contract"),
        (other_sidecar, "candidate keeps its contract"),
        (other_answers, "ONNX against torch, VMAF points"),
        (later_seed_told_its_own_answers, "predictions are of the corpus"),
        (later_seed_of_fewer_rows, "predictions are of the corpus"),
        (other_recipe, "candidate is of this run"),
        (no_table, "candidate is of this run"),
        (made_up_rows, "candidate is of this run"),
        (windows_without_digest, "corpus present with the recorded digest"),
        (smoke_run, "not a smoke run"),
        (smoke_sidecar, "not a smoke run"),
        (other_digest, "corpus present with the recorded digest"),
        (other_frames, "corpus present with the recorded digest"),
        (lost_corpus, "corpus present with the recorded digest"),
        (lost_corpus, "scaler fitted inside each fold"),
    ],
)
def test_each_check_can_hold(project: Any, change: Callable[[Any], None], check: str) -> None:
    parts = project.parts(FR)
    change(parts)
    verdict = judge(project, project.write(parts))
    assert check in [c.name for c in verdict.held]
    json.dumps(verdict.to_json(), allow_nan=False)


def test_a_lost_corpus_folder_holds_and_is_no_error(project: Any) -> None:
    folder = project.run(FR)
    (project.root / "runs" / "phase_a" / "synthetic").unlink()
    assert "corpus present with the recorded digest" in [
        c.name for c in judge(project, folder).held
    ]


def test_a_candidate_of_another_width_is_held(project: Any) -> None:
    verdict = judge(project, project.run(FR, hidden=(16, 16, 16)))
    assert [c.name for c in verdict.held] == ["candidate keeps its contract"]


def test_an_untrained_slot_must_answer_as_unknown(project: Any) -> None:
    parts = project.parts(FR)
    trained = [
        w for w in parts.sidecar["trained_encoders"] if w != "libsvtav1"
    ]  # its column is its own
    model = import_onnx().load_model_from_string(parts.onnx)
    for item in model.metadata_props:
        if item.key == "trained_encoders":
            item.value = json.dumps(trained)
    parts.onnx = model.SerializeToString(deterministic=True)
    parts.sidecar |= {"sha256": registry.new_entry(FR, parts.onnx, description="", notes="").sha256}
    parts.sidecar["trained_encoders"] = trained
    held = judge(project, project.write(parts)).held
    assert [c.name for c in held] == ["candidate keeps its contract"]
    assert "libsvtav1" in held[0].note


def test_answers_that_overflow_at_a_corner_are_held(project: Any) -> None:
    parts = project.parts("vmaf_tiny_v2")
    model = import_onnx().load_model_from_string(parts.onnx)
    numpy_helper = import_onnx().numpy_helper
    for tensor in model.graph.initializer:
        if tensor.name.endswith("weight"):
            tensor.CopyFrom(
                numpy_helper.from_array(
                    numpy_helper.to_array(tensor) * np.float32(1e18), tensor.name
                )
            )
    parts.onnx = model.SerializeToString(deterministic=True)
    parts.sidecar["sha256"] = registry.new_entry(
        "vmaf_tiny_v2", parts.onnx, description="", notes=""
    ).sha256
    held = [c.name for c in judge(project, project.write(parts)).held]
    assert "finite on the corners of the input box" in held


def test_the_incumbent_counts_only_on_the_same_corpus(project: Any) -> None:
    name = "mean RMSE minus the incumbent's"
    good, worse = project.run(FR, "a", error=0.3), project.run(FR, "b", error=0.45, seed=1)
    first = judge(project, good)
    assert next(c for c in first.checks if c.name == name).verdict == "n/a"
    data, sidecar = (
        (good / "candidate.onnx").read_bytes(),
        json.loads((good / "candidate.json").read_text()),
    )

    def promote(digest: str) -> None:
        corpus = {**sidecar["corpus"], "digest": digest}
        project.registry.write_text('{"schema_version": 1, "entries": []}')
        entry = registry.new_entry(FR, data, description="", notes="")
        promotion.promote(
            project.model_dir, entry, data, {**sidecar, "corpus": corpus, "gate": first.to_json()}
        )

    promote("f" * 64)
    check = next(c for c in judge(project, worse).checks if c.name == name)
    assert check.verdict == "n/a" and "not comparable" in check.note
    promote(sidecar["corpus"]["digest"])
    check = next(c for c in judge(project, worse).checks if c.name == name)
    assert check.verdict == "hold" and check.value == pytest.approx(0.15, abs=0.05)
    assert next(c for c in judge(project, good).checks if c.name == name).verdict == "pass"


def test_a_worse_network_than_the_one_that_was_held_out_is_held(project: Any) -> None:
    """Here a network that fits its own contract, corpus and recipe, and answers at random."""
    parts = project.parts(FR)
    model = import_onnx().load_model_from_string(parts.onnx)
    numpy_helper = import_onnx().numpy_helper
    bias = next(
        t for t in model.graph.initializer if t.name.endswith("bias") and list(t.dims) == [1]
    )
    bias.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(bias) + np.float32(3), bias.name))
    parts.onnx = model.SerializeToString(deterministic=True)
    parts.sidecar["sha256"] = registry.new_entry(FR, parts.onnx, description="", notes="").sha256
    parts.sidecar["self_test"]["score"] = [s + 3 for s in parts.sidecar["self_test"]["score"]]
    held = judge(project, project.write(parts)).held
    assert [c.name for c in held] == ["candidate's mean RMSE on its corpus minus the held-out one"]
    assert held[0].value == pytest.approx(2.7, abs=0.3)


def test_the_frames_of_a_recipe_with_windows_are_evidence(project: Any) -> None:
    parts = project.parts(FR)
    parts.recipe = parts.sidecar["recipe"] = {"name": "test", "window_share": 1.0}
    parts.sidecar["corpus"]["frame_digest"] = project.corpus("fr_regressor_v1").frame_digest
    folder = project.write(parts)
    assert judge(project, folder).passed
    corpus = project.root / "runs" / "phase_a" / "synthetic"
    cells = (corpus / "cells.jsonl").read_bytes()
    corpus.unlink()
    corpus.mkdir()
    (corpus / "cells.jsonl").write_bytes(cells)
    assert [c.name for c in judge(project, folder).held] == [
        "corpus present with the recorded digest"
    ]
