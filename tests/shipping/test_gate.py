"""Every check of the gate passes on a good run and holds on one that lacks just what it
asks for.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from projects import edit_sidecar
from vmaf_train.contract import VOCABULARY
from vmaf_train.model_file.graph import build_onnx, import_onnx
from vmaf_train.model_file.inspect import inspect
from vmaf_train.results.run_folder import load_run
from vmaf_train.results.tables import summary
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
    assert [c.name for c in held] == ["candidate keeps its contract", "candidate is of this run"]
    assert "libsvtav1" in held[0].note


def unclipped(p: Any) -> None:
    """The weights of the candidate in a graph that does not hold its answers in 0..100."""
    read = inspect(p.onnx, FR)
    p.onnx = build_onnx(
        model_id=FR,
        layers=read.layers,
        feature_mean=read.feature_mean,
        feature_std=read.feature_std,
        trained_encoders=read.trained_encoders,
    )
    p.sidecar["sha256"] = hashlib.sha256(p.onnx).hexdigest()


def few_rows(p: Any) -> None:
    rows = p.sidecar["self_test"]
    p.sidecar["self_test"] = {name: values[:15] for name, values in rows.items()}


def one_network_twice(p: Any) -> None:
    seeds = p.predictions["seed"]
    p.predictions.loc[seeds == 2, "y_model"] = p.predictions.loc[seeds == 1, "y_model"].to_numpy()


def worse_ridge(p: Any) -> None:
    p.predictions["y_ridge"] += 1.0


def other_teacher(p: Any) -> None:
    p.sidecar["teacher"] = "vmaf_v0.6.1neg"


def other_encoders(p: Any) -> None:
    """A claim of NVENC training: the corpus holds no such row."""
    model = import_onnx().load_model_from_string(p.onnx)
    trained = [*p.sidecar["trained_encoders"], "h264_nvenc"]
    p.sidecar["trained_encoders"] = [w for w in VOCABULARY if w in trained]
    for item in model.metadata_props:
        if item.key == "trained_encoders":
            item.value = json.dumps(p.sidecar["trained_encoders"])
    p.onnx = model.SerializeToString(deterministic=True)
    p.sidecar["sha256"] = hashlib.sha256(p.onnx).hexdigest()


def other_output(p: Any) -> None:
    p.sidecar["output"]["row"] = "frame"


def a_note_in_the_file(p: Any) -> None:
    model = import_onnx().load_model_from_string(p.onnx)
    model.doc_string = "hello"
    p.onnx = model.SerializeToString(deterministic=True)
    p.sidecar["sha256"] = hashlib.sha256(p.onnx).hexdigest()


@pytest.mark.parametrize(
    ("change", "check"),
    [
        (unclipped, "answers 0..100 on the corners of the input box"),
        (unclipped, "candidate is rebuilt from its weights"),
        (a_note_in_the_file, "candidate is rebuilt from its weights"),
        (few_rows, "real rows compared with torch"),
        (one_network_twice, "the seeds are different networks"),
        (worse_ridge, "baselines come out again"),
        (other_teacher, "candidate is of this run"),
        (other_encoders, "candidate is of this run"),
        (other_output, "candidate keeps its contract"),
    ],
)
def test_the_candidates_own_words_are_not_taken(
    project: Any, change: Callable[[Any], None], check: str
) -> None:
    parts = project.parts(FR)
    change(parts)
    assert check in [c.name for c in judge(project, project.write(parts)).held]


def test_a_corpus_with_edited_frames_is_no_evidence(project: Any) -> None:
    """Frames that windows are drawn from, and whose means are not the cells'."""
    corpus = project.root / "runs" / "phase_a" / "synthetic"
    with_sources(project)
    parts = project.parts(FR)
    parts.recipe = parts.sidecar["recipe"] = {"name": "test", "window_share": 1.0}
    parts.sidecar["corpus"]["frame_digest"] = project.corpus("fr_regressor_v1").frame_digest
    run = project.write(parts)
    lines = (corpus / "frames.jsonl").read_text().splitlines()
    first = json.loads(lines[0])
    lines[0] = json.dumps(first | {"adm2": first["adm2"] + 0.01})
    (corpus / "frames.jsonl").write_text("\n".join(lines) + "\n")
    held = {check.name: check.value for check in judge(project, run).held}
    assert held["corpus present with the recorded digest"] == "no"


NAME = "mean RMSE minus the incumbent's"


def ship_as(project: Any, folder: Any, corpus: dict[str, Any], loso: Any = None) -> None:
    """Make the candidate of a run the only shipped model, with another word on its corpus."""
    data = (folder / "candidate.onnx").read_bytes()
    sidecar = json.loads((folder / "candidate.json").read_text())
    verdict = judge(project, folder).to_json()
    project.registry.write_text('{"schema_version": 2, "entries": []}')
    told = {**sidecar, "corpus": sidecar["corpus"] | corpus, "gate": verdict}
    told |= {"loso": loso} if loso else {}
    entry = registry.new_entry(FR, data, description="", notes="")
    promotion.promote(project.model_dir, entry, data, told)


def incumbent_checks(verdict: gate.Verdict) -> list[Any]:
    return [c for c in verdict.checks if c.name.startswith(NAME)]


def test_on_one_corpus_the_incumbents_recorded_error_counts(project: Any) -> None:
    good, worse = project.run(FR, "a", error=0.3), project.run(FR, "b", error=0.45, seed=1)
    (first,) = incumbent_checks(judge(project, good))
    assert first.verdict == "n/a"
    ship_as(project, good, {})
    (check,) = incumbent_checks(judge(project, worse))
    assert check.verdict == "hold" and check.value == pytest.approx(0.15, abs=0.05)
    assert incumbent_checks(judge(project, good))[0].verdict == "pass"


def test_an_incumbent_of_another_corpus_is_never_passed_over(project: Any) -> None:
    """No group that only one of the two has seen: nothing can be compared, and that holds."""
    folder = project.run(FR, "a")
    ship_as(project, folder, {"digest": "f" * 64, "sources": {"smoke00": ["a" * 64]}})
    verdict = judge(project, folder)
    (check,) = incumbent_checks(verdict)
    assert check.verdict == "hold" and "--accept-incomparable" in check.note
    accepted = gate.judge(load_run(folder), project.model_dir, accepted="another machine")
    (check,) = incumbent_checks(accepted)
    assert check.verdict == "n/a" and "accepted: another machine" in check.note
    candidate = gate.candidate(load_run(folder), accepted, "another machine")
    assert candidate.sidecar["accepted_incomparable"] == "another machine"


def with_sources(project: Any) -> None:
    """A corpus of the project's own whose rows name the digests of their source files."""
    folder = project.root / "runs" / "phase_a" / "synthetic"
    rows = [json.loads(line) for line in (folder / "cells.jsonl").read_text().splitlines()]
    frames = (folder / "frames.jsonl").read_bytes()
    folder.unlink()
    folder.mkdir()
    for row in rows:
        row["src_sha256"] = hashlib.sha256(row["src"].encode()).hexdigest()
    (folder / "cells.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (folder / "frames.jsonl").write_bytes(frames)


@pytest.mark.parametrize(("shift", "verdict"), [(0.0, "pass"), (3.0, "hold")])
def test_the_incumbent_is_scored_on_groups_it_was_not_trained_on(
    project: Any, shift: float, verdict: str
) -> None:
    """It answers as the run's network does; the run's own held-out error is `shift` larger."""
    with_sources(project)
    good = project.run(FR, "a")
    names = [f"smoke{i:02d}" for i in range(6)]
    seen = {name: [hashlib.sha256(name.encode()).hexdigest()] for name in names}
    ship_as(project, good, {"digest": "f" * 64, "sources": seen})
    parts = project.parts(FR, seed=1, error=0.05)
    new = parts.predictions["group"].isin([f"smoke{i:02d}" for i in range(6, 10)])
    parts.predictions.loc[new, "y_model"] += shift
    parts.sidecar["loso"] = json.loads(json.dumps(summary(parts.predictions)["loso"]))
    (check,) = incumbent_checks(judge(project, project.write(parts, "b")))
    assert check.verdict == verdict, check
    assert "4 groups that only one has seen: smoke06, smoke07, smoke08, smoke09" in check.note


def test_a_model_of_another_teacher_does_not_replace_it(project: Any) -> None:
    folder = project.run(FR, "a")
    ship_as(project, folder, {})
    value = json.loads(project.registry.read_text())
    assert value["entries"]
    edit_sidecar(project.model_dir, FR, lambda sidecar: sidecar.update(teacher="vmaf_v0.6.1neg"))
    held = [c.name for c in judge(project, folder).held]
    assert held == ["the incumbent's teacher"]


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
    parts.sidecar["self_test"]["score"] = [
        min(s + 3, 100.0) for s in parts.sidecar["self_test"]["score"]
    ]
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
    assert "corpus present with the recorded digest" in [
        c.name for c in judge(project, folder).held
    ]
