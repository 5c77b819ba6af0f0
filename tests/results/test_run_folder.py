from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from vmaf_train.corpus.dataset import Dataset
from vmaf_train.errors import DatasetError
from vmaf_train.results import card, run_folder, tables
from vmaf_train.training import experiment
from vmaf_train.training.recipes import recipe

torch.set_num_threads(1)
Make = Callable[..., pd.DataFrame]


@pytest.fixture(scope="module")
def run_dir(tmp_path_factory: pytest.TempPathFactory, cells: Dataset, frames: Dataset) -> Path:
    how = replace(recipe("fr_regressor_v2"), epochs=3)
    plan = experiment.plan(
        how, cells, frames, loso=True, num_seeds=2, device=torch.device("cpu"), smoke=True
    )
    folder = tmp_path_factory.mktemp("runs") / "fr_regressor_v2" / "20260101T000000Z-smoke"
    experiment.run(plan, folder, {"schema": "test", "argv": ["vmaf-tune", "train"]})
    return folder


@pytest.fixture
def predictions() -> pd.DataFrame:
    """Two groups, two seeds, three rows each. Errors of the model: a: 1 and 3, b: 2 and 2; of the
    baseline: a 4, b 3.
    """
    rows = []
    for group, scores, errors, worse in (
        ("a", (90, 80, 70), (1, 3), 4),
        ("b", (60, 50, 40), (2, 2), 3),
    ):
        for seed, error in enumerate(errors):
            for i, y in enumerate(scores):
                sign = -1 if i == 1 else 1
                rows.append(
                    {
                        "key": f"{group}{i}",
                        "frame_index": None,
                        "group": group,
                        "encoder": "libx264",
                        "preset": "fast",
                        "crf": 20.0 + 10 * i,
                        "scheme": "loso",
                        "fold": group,
                        "seed": seed,
                        "y": float(y),
                        "y_model": y + sign * error,
                        "y_blind_input": float(y),
                        "y_codec_blind": float(y + worse),
                        "y_ridge": 50.0,
                    }
                )
    return pd.DataFrame(rows)


def test_group_table_by_hand(predictions: pd.DataFrame) -> None:
    table = tables.group_table(predictions, "y_model")
    assert table["group"].tolist() == ["a", "a", "b", "b"] and table["seed"].tolist() == [
        0,
        1,
        0,
        1,
    ]
    assert table["n"].tolist() == [3] * 4
    assert table["rmse"].tolist() == pytest.approx([1, 3, 2, 2]) and table[
        "mae"
    ].tolist() == pytest.approx([1, 3, 2, 2])


def test_spread_by_hand(predictions: pd.DataFrame) -> None:
    found = tables.spread(tables.group_table(predictions, "y_model"), "rmse")
    assert found is not None
    assert found.mean == pytest.approx(2) and found.seed_means == pytest.approx((1.5, 2.5))
    assert found.std_seeds == pytest.approx(0.5) and found.std_groups == pytest.approx(0)
    assert found.worst == pytest.approx(3) and found.worst_mean == pytest.approx(2)
    assert (found.num_groups, found.num_seeds, found.undefined) == (2, 2, 0)


def test_the_seeds_spread_is_the_population_deviation() -> None:
    """The hardware study's nine PLCCs give its 0.9681 and 0.0207."""
    plcc = [0.9652, 0.9937, 0.9715, 0.9815, 0.9745, 0.9521, 0.9183, 0.9778, 0.9787]
    table = pd.DataFrame({"group": list("abcdefghi"), "seed": 0, "plcc": plcc})
    found = tables.spread(table, "plcc")
    assert found is not None and found.worst_group == "g"
    assert (round(found.mean, 4), round(found.std_groups, 4)) == (0.9681, 0.0207)


def test_a_constant_prediction_has_no_correlation_and_a_reason(predictions: pd.DataFrame) -> None:
    table = tables.group_table(predictions, "y_ridge")
    assert table["plcc"].isna().all() and set(table["reason"]) == {"the predictions are constant"}
    assert tables.spread(table, "plcc") is None
    row = tables.records(tables.over_seeds(table))[0]
    assert row["plcc"] is None and row["reason"] == "the predictions are constant"
    summary = tables.summary(predictions)["loso"]
    assert (
        summary["metrics"]["y_ridge"]["plcc"] is None
        and summary["metrics"]["y_ridge"]["rmse"]["mean"] > 0
    )


def test_one_undefined_group_is_counted_and_left_out_of_the_mean(predictions: pd.DataFrame) -> None:
    predictions.loc[predictions["group"] == "b", "y_model"] = 5.0
    found = tables.spread(tables.group_table(predictions, "y_model"), "plcc")
    assert found is not None and found.undefined == 2 and found.num_groups == 1


def test_paired_lift_by_hand(predictions: pd.DataFrame) -> None:
    lift = tables.paired_lift(predictions)
    assert lift.by_group == pytest.approx({"a": 2.0, "b": 1.0}) and lift.mean == pytest.approx(1.5)
    assert (lift.low, lift.high) == pytest.approx((1.0, 2.0))


def test_the_bootstrap_covers_what_it_should() -> None:
    rng = np.random.default_rng(5)
    values = rng.normal(0.3, 1.0, 40)
    low, high = tables.bootstrap(values)
    half = 1.96 * values.std() / np.sqrt(40)
    assert (low, high) == pytest.approx((values.mean() - half, values.mean() + half), abs=0.05)
    assert tables.bootstrap(values) == (low, high)


def test_slices(predictions: pd.DataFrame) -> None:
    bands = tables.slice_table(predictions, "y_model", "score_band")
    assert dict(zip(bands["group"], bands["n"], strict=True)) == {
        "30-50": 1,
        "50-70": 2,
        "70-80": 1,
        "80-90": 1,
        "90-95": 1,
    }
    quality = tables.slice_table(predictions, "y_model", "quality_band")
    assert dict(zip(quality["group"], quality["n"], strict=True)) == {
        "0.25-0.5": 2,
        "0.5-0.75": 2,
        "0.75-1": 2,
    }
    assert tables.slice_table(predictions, "y_model", "preset")["group"].tolist() == [
        "libx264 fast"
    ]
    lifts = tables.lift_slices(predictions, "score_band")
    assert (
        lifts[0]["slice"] == "30-50"
        and lifts[0]["groups"] == 1
        and lifts[0]["lift"] == pytest.approx(1.0)
    )


def test_a_gap_in_the_predictions_is_refused(predictions: pd.DataFrame) -> None:
    predictions.loc[3, "y_codec_blind"] = np.nan
    with pytest.raises(DatasetError, match="y_codec_blind lacks predictions for rows of a, seed 1"):
        tables.group_table(predictions, "y_codec_blind")


def test_a_run_reads_back(run_dir: Path) -> None:
    run = run_folder.load_run(run_dir)
    assert run.model_id == "fr_regressor_v2" and run.smoke and run.recipe["name"] == "default"
    assert run.sidecar["sha256"] and set(run_folder.COLUMNS) <= set(run.predictions.columns)
    again = tables.summary(run.predictions)
    assert again["loso"]["metrics"]["y_model"]["rmse"]["mean"] == pytest.approx(
        run.metrics["summary"]["loso"]["metrics"]["y_model"]["rmse"]["mean"], abs=1e-12
    )


@pytest.mark.parametrize(
    "file", ["metrics.json", "predictions.parquet", "recipe.json", "candidate.json"]
)
def test_a_run_without_a_file_is_refused(run_dir: Path, tmp_path: Path, file: str) -> None:
    shutil.copytree(run_dir, tmp_path / "run")
    (tmp_path / "run" / file).unlink()
    with pytest.raises(DatasetError, match=file):
        run_folder.load_run(tmp_path / "run")


def test_metrics_that_do_not_tell_enough_are_refused(run_dir: Path, tmp_path: Path) -> None:
    shutil.copytree(run_dir, tmp_path / "run")
    metrics = json.loads((run_dir / "metrics.json").read_text())
    for changed, what in (
        ({}, "model_id is None, known are fr_regressor_v2"),
        (metrics | {"model_id": ["a"]}, r"model_id is \['a'\]"),
        ({k: v for k, v in metrics.items() if k != "corpus"}, r"does not say corpus\.path"),
        (metrics | {"corpus": {"path": "x"}}, r"does not say corpus\.digest"),
        ({k: v for k, v in metrics.items() if k != "num_seeds"}, "does not say num_seeds"),
    ):
        (tmp_path / "run" / "metrics.json").write_text(json.dumps(changed))
        with pytest.raises(DatasetError, match=what):
            run_folder.require_facts(run_folder.load_run(tmp_path / "run"))
    (tmp_path / "run" / "metrics.json").write_text(json.dumps(metrics))
    run_folder.require_facts(run_folder.load_run(tmp_path / "run"))
    (tmp_path / "run" / "recipe.json").write_text("{}")
    with pytest.raises(DatasetError, match="does not say the recipe's name"):
        run_folder.require_facts(run_folder.load_run(tmp_path / "run"))
    with pytest.raises(DatasetError, match="nowhere does not exist"):
        run_folder.load_run(tmp_path / "nowhere")


def test_a_table_of_another_form_is_refused(run_dir: Path, tmp_path: Path) -> None:
    table = pd.read_parquet(run_dir / "predictions.parquet")
    table.drop(columns="y_ridge").to_parquet(tmp_path / "a.parquet")
    table.assign(y_model=np.nan).to_parquet(tmp_path / "b.parquet")
    (tmp_path / "c.parquet").write_bytes(b"no")
    for name, what in (("a", "y_ridge"), ("b", "not finite"), ("c", "not a readable table")):
        with pytest.raises(DatasetError, match=what):
            run_folder.load_predictions(tmp_path / f"{name}.parquet")


def test_newest_run_passes_over_smoke_and_incomplete_runs(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="vmaf-tune train fr_regressor_v2 --loso"):
        run_folder.newest_run(tmp_path, "fr_regressor_v2")
    for name, complete in (
        ("20260101T000000Z", 1),
        ("20260102T000000Z", 1),
        ("20260103T000000Z", 0),
        ("20260104T000000Z-smoke", 1),
    ):
        folder = tmp_path / "fr_regressor_v2" / name
        folder.mkdir(parents=True)
        if complete:
            (folder / "metrics.json").write_text("{}")
    assert run_folder.newest_run(tmp_path, "fr_regressor_v2").name == "20260102T000000Z"


def test_the_card_tells_it_all(run_dir: Path, tmp_path: Path) -> None:
    run = run_folder.load_run(run_dir)
    result = tables.evaluation(run.predictions)
    card.residual_plot(run.predictions, "loso", tmp_path / "r.png")
    assert (tmp_path / "r.png").read_bytes().startswith(b"\x89PNG")
    text = card.markdown(run, result, "r.png")
    for needed in (
        "Smoke run",
        "smoke03",
        "ridge on the six features",
        "codec-blind network",
        "95% interval",
        "(LOEO)",
        "libsvtav1 10",
        "not for",
        run.metrics["corpus"]["digest"],
        "![residuals](r.png)",
    ):
        assert needed in text
    assert "nan" not in text.lower().split()
