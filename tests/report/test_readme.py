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


def test_the_models_table_is_that_of_the_sidecars() -> None:
    shelf = registry.load(ROOT / "model")
    told = dict(re.findall(r"^\| `(\w+)` \| a \w+ \| (.+) \|$", README, re.M))
    assert set(told) == {entry.id for entry in shelf.entries}
    for entry in shelf.entries:
        loso = json.loads(registry.read_pair(shelf.folder, entry).sidecar)["loso"]["metrics"]
        plcc, rmse = (loso["y_model"][name] for name in ("plcc", "rmse"))
        shown = (
            f"{plcc['mean']:.4f} | {plcc['worst_mean']:.4f} | {rmse['mean']:.3f} |"
            f" {rmse['worst_mean']:.3f}"
        )
        assert told[entry.id] == shown
        if entry.id == "fr_regressor_v2":
            ridge = loso["y_ridge"]
            shown = " | ".join(f"{ridge['plcc'][p]:.4f}" for p in ("mean", "worst_mean"))
            shown += "".join(f" | {ridge['rmse'][p]:.3f}" for p in ("mean", "worst_mean"))
            assert f"same folds | a cell | {shown} |" in README
            lift = loso["y_codec_blind"]["rmse"]["mean"] - rmse["mean"]
            assert f"larger by {lift:.3f} on average" in README


def test_the_savings_are_those_of_the_report(figures: Any) -> None:
    line = re.search(r"--text`\): (.+?) \(with its", README.replace("\n", " "))
    assert line
    told = {name: int(percent) for name, percent in re.findall(r"([\w-]+ \w+) (-\d+)%", line[1])}
    assert len(told) == 6, line[1]
    means = {row["curve"]: row["mean_bd_rate"] for row in figures["speed"]}
    assert told == {name: round(means[name]) for name in told}
