"""The README's figures are those of the committed corpus and the shipped models."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from vmaf_train.shipping import registry

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def figures() -> Any:
    argv = [sys.executable, "-m", "vmaftune", "report", "runs/phase_a/software", "--json"]
    return json.loads(subprocess.run(argv, cwd=ROOT, capture_output=True, check=True).stdout)


def shown(metrics: Any) -> str:
    """The four figures of a predictor as the table has them."""
    rmse, plcc = metrics["rmse"], metrics["plcc"]
    parts = ("mean", "worst_mean")
    figures = [f"{rmse[p]:.3f}" for p in parts] + [f"{1 - plcc[p]:.1e}" for p in parts]
    return " | ".join(figures)


def test_the_models_table_is_that_of_the_sidecars() -> None:
    shelf = registry.load(ROOT / "model")
    told = dict(re.findall(r"^\| `(\w+)` \| a \w+ \| (.+) \|$", README, re.M))
    networks = {e.id: e for e in shelf.entries if e.kind is registry.FR}
    assert set(told) == set(networks)
    for entry in networks.values():
        loso = json.loads(registry.read_pair(shelf.folder, entry).sidecar)["loso"]["metrics"]
        assert told[entry.id] == shown(loso["y_model"])
        if entry.id == "fr_regressor_v2":
            assert f"same folds | a cell | {shown(loso['y_ridge'])} |" in README
            assert f"untrained, same sources | a cell | {shown(loso['y_teacher'])} |" in README
            lift = loso["y_codec_blind"]["rmse"]["mean"] - loso["y_model"]["rmse"]["mean"]
            assert f"larger by {lift:.3f} on average" in README


def test_the_savings_are_those_of_the_report(figures: Any) -> None:
    line = re.search(r"--text`\): (.+?) \(with its", README.replace("\n", " "))
    assert line
    told = {name: int(percent) for name, percent in re.findall(r"([\w-]+ \w+) (-\d+)%", line[1])}
    assert len(told) == 6, line[1]
    means = {row["curve"]: row["mean_bd_rate"] for row in figures["speed"]}
    assert told == {name: round(means[name]) for name in told}
