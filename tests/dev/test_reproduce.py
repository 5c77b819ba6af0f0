"""Shipped models come out again from the corpus they were trained on; what is not the
same is told.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import reproduce
import torch
from projects import edit_sidecar
from vmaf_train.corpus import dataset
from vmaf_train.files import json_bytes
from vmaf_train.shipping import promotion, registry
from vmaf_train.shipping.provenance import run_provenance
from vmaf_train.training import experiment, recipes

ROOT = Path(__file__).parents[2]
SHIPPED = reproduce.networks(ROOT / "model")


@pytest.fixture
def shipped(corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project in the working directory whose registry holds a quickly trained vmaf_tiny_v2; its
    model folder.
    """
    monkeypatch.chdir(tmp_path)
    shutil.copytree(corpus, tmp_path / "corpus")
    model_dir = tmp_path / "model"
    (model_dir / "tiny").mkdir(parents=True)
    (model_dir / "tiny" / "registry.json").write_bytes(
        json_bytes({"schema_version": 1, "entries": []})
    )
    recipe = recipes.recipe("vmaf_tiny_v2", epochs=2, kfold=0)
    data = dataset.load(tmp_path / "corpus", per_frame=True)
    plan = experiment.plan(
        recipe, data, None, loso=True, num_seeds=2, device=torch.device("cpu"), smoke=False
    )
    experiment.run(
        plan,
        tmp_path / "run",
        run_provenance(entry_point="test", argv=[], args={}, inputs=[], outputs=[]),
    )
    onnx = (tmp_path / "run" / "candidate.onnx").read_bytes()
    sidecar = json.loads((tmp_path / "run" / "candidate.json").read_text())
    promotion.promote(
        model_dir, registry.new_entry("vmaf_tiny_v2", onnx, description="", notes=""), onnx, sidecar
    )
    return model_dir


def change_sidecar(model_dir: Path, change: dict[str, object]) -> None:
    edit_sidecar(model_dir, "vmaf_tiny_v2", lambda sidecar: sidecar.update(change))


def sidecar_of(model_dir: Path) -> Any:
    (file,) = (model_dir / "tiny").glob("vmaf_tiny_v2-*.json")
    return json.loads(file.read_text())


def test_the_same_figures_come_out_again(shipped: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert reproduce.main(["--exact"]) == 0
    told = [
        line.split(": ")[0].removeprefix("vmaf_tiny_v2 ")
        for line in capsys.readouterr().out.splitlines()
    ]
    metrics = ("plcc", "srocc", "rmse", "mae")
    model = [f"model {metric}{of}" for metric in metrics for of in ("", " of the worst source")]
    assert told == [
        *model,
        "ridge on the six features rmse",
        "ridge on the six features rmse of the worst source",
    ]
    assert reproduce.main(["--candidate", "vmaf_tiny_v2"]) == 0


def test_other_figures_are_told(shipped: Path, capsys: pytest.CaptureFixture[str]) -> None:
    loso = sidecar_of(shipped)["loso"]
    loso["metrics"]["y_model"]["rmse"]["mean"] *= 0.75
    change_sidecar(shipped, {"loso": loso})
    assert reproduce.main([]) == 1
    assert capsys.readouterr().out.count("NOT THE SAME") == 1


def test_changed_frames_are_refused(shipped: Path, capsys: pytest.CaptureFixture[str]) -> None:
    change_sidecar(shipped, {"corpus": {**sidecar_of(shipped)["corpus"], "frame_digest": "0" * 64}})
    assert reproduce.main([]) == 1
    assert "other rows" in capsys.readouterr().err


def test_a_changed_corpus_is_refused(shipped: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = (Path("corpus") / "cells.jsonl").read_text().splitlines()
    Path("corpus", "cells.jsonl").write_text("\n".join(rows[:-1]) + "\n")
    assert reproduce.main([]) == 1
    assert "other rows" in capsys.readouterr().err


def test_an_empty_registry_is_told(shipped: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (shipped / "tiny" / "registry.json").write_bytes(
        json_bytes({"schema_version": 1, "entries": []})
    )
    assert reproduce.main([]) == 1
    assert "holds no model yet" in capsys.readouterr().err


@pytest.mark.real
@pytest.mark.parametrize("model_id", SHIPPED)
def test_the_shipped_network_comes_out_again(
    model_id: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(ROOT)
    assert reproduce.main(["--candidate", model_id]) == 0
