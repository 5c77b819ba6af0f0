"""Folds that are trained again give the errors that were told, or are found out."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from vmaf_train.corpus import dataset
from vmaf_train.errors import DatasetError
from vmaf_train.results.run_folder import Run, load_run
from vmaf_train.shipping import gate
from vmaf_train.training import experiment, retrain
from vmaf_train.training.recipes import recipe

torch.set_num_threads(1)


@pytest.fixture(scope="module")
def run(corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A short run on the synthetic corpus."""
    data = dataset.load(corpus, per_frame=False)
    how = recipe("fr_regressor_v2", "seed", epochs=3)
    plan = experiment.plan(
        how, data, None, loso=True, num_seeds=2, device=torch.device("cpu"), smoke=False
    )
    folder = tmp_path_factory.mktemp("runs") / "run"
    experiment.run(plan, folder, {"schema": "test", "argv": []})
    return load_run(folder)


def test_folds_come_out_again(run: Run, corpus: Path) -> None:
    data = dataset.load(corpus, per_frame=False)
    figures = retrain.folds_again(run.recipe, data, run.predictions, 2)
    assert len(figures) == 2 and all(figure.holds for figure in figures)
    assert max(figure.difference for figure in figures) < 1e-3
    assert gate.trained_again(run, 1).verdict == "pass"
    with pytest.raises(DatasetError, match="the run has 4 folds"):
        retrain.folds_again(run.recipe, data, run.predictions, 5)


def test_invented_predictions_are_found(run: Run, corpus: Path) -> None:
    """Scores with a little noise pass every check that reads; no network gives them."""
    data = dataset.load(corpus, per_frame=False)
    invented = run.predictions.assign(y_model=run.predictions["y"] + 0.1)
    figures = retrain.folds_again(run.recipe, data, invented, 1)
    (sentence,) = retrain.as_sentences(figures)
    assert "0.1000 was told" in sentence
