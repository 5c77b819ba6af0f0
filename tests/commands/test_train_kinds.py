"""Rows with sizes, options and capped rates, measured by the real ffmpeg, are learned from only
when asked; `eval` and `ship` then read the same rows again.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from corpora import RunCli
from projects import Project, edit_sidecar
from vmaf_train.corpus import dataset, several
from vmaf_train.errors import DatasetError

FAST = ("--epochs", "2", "--seeds", "2")
SWEEP = """
encoders = ["x264"]
presets = ["ultrafast"]
quality = [20, 40]
sources = ["."]
[[grid]]
encoders = ["x264"]
sizes = ["160x120", 96]
[[grid]]
encoders = ["x264"]
options = ["-tune grain"]
[[grid]]
encoders = ["x264"]
sizes = [96]
maxrate = "200k"
"""
NUM_PLAIN, NUM_SIZES, NUM_OPTIONS, NUM_CAPS = 4, 4, 4, 4


@pytest.fixture(scope="module")
def variants(clip: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two clips at two quality values: as they are, smaller, tuned, and smaller with a cap."""
    folder = tmp_path_factory.mktemp("variants")
    for i, vf in enumerate(("hue=h=40", "hflip")):
        made = clip(f"kind {i}.mkv", frames=6, size="160x120", vf=vf)
        (folder / made.name).write_bytes(made.read_bytes())
    (folder / "kinds.toml").write_text(SWEEP)
    argv = [sys.executable, "-m", "vmaftune", "corpus", "--sweep", "kinds.toml", "--out", "run"]
    done = subprocess.run(argv, cwd=folder, env=os.environ, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return folder / "run"


def test_they_are_left_out_and_counted_unless_asked_for(variants: Path) -> None:
    plain = dataset.load(variants, per_frame=False)
    assert len(plain) == NUM_PLAIN and plain.kinds == ()
    assert plain.notes == (
        "left out 12 rows that the model could not tell from others (8 of another size, 4 of an"
        " option set, 4 of a bound on the bitrate); `train --with sizes,options,caps` takes them",
    )
    sized = dataset.load(variants, per_frame=False, kinds=["sizes"])
    assert len(sized) == NUM_PLAIN + NUM_SIZES, "a smaller encode with a cap is of two kinds"
    assert any("left out 8 rows" in note and "sizes,options,caps" in note for note in sized.notes)
    frames = several.load([variants], per_frame=True, kinds=("caps", "sizes", "options"))
    assert len(frames) == 6 * (NUM_PLAIN + NUM_SIZES + NUM_OPTIONS + NUM_CAPS)
    assert frames.kinds == ("sizes", "options", "caps")
    assert frames.digest == plain.digest, "the digest is the corpus's, whatever is learned from"
    with pytest.raises(DatasetError, match="no kind of rows is called 'tune'"):
        dataset.load(variants, per_frame=False, kinds=["tune"])


def test_a_run_says_which_rows_it_took_and_every_reader_takes_the_same(
    cli: RunCli, variants: Path, tmp_path: Path
) -> None:
    corpus = ("--corpus", variants)
    done = cli("train", "--loso", *FAST, *corpus, "--with", "options, sizes", "--out", "run")
    assert done.returncode == 0, done.stderr
    assert "12 cells of 2 groups" in done.stderr
    assert "took 8 rows with another size or an option set" in done.stderr
    assert "left out 4 rows" in done.stderr
    sidecar = json.loads((tmp_path / "run/candidate.json").read_text())
    metrics = json.loads((tmp_path / "run/metrics.json").read_text())
    provenance = json.loads((tmp_path / "run/provenance.json").read_text())
    assert sidecar["corpus"]["kinds"] == metrics["corpus"]["kinds"] == ["sizes", "options"]
    assert provenance["args"]["with"] == ["sizes", "options"]
    facts = json.loads(cli("eval", "run", "--json").stdout)
    assert facts["summary"]["loso"]["metrics"]["y_model"]["rmse"]["num_seeds"] == 2
    judged = cli(
        "ship", "fr_regressor_v2", "--run", "run", "--dry-run", "--retrain-folds", "1", "--json"
    )
    checks = {check["name"]: check for check in verdict(judged)["checks"]}
    for name in (
        "predictions are of the corpus",
        "corpus present with the recorded digest",
        "scaler fitted inside each fold",
        "the frames' means are their cells'",
        "folds trained again give the same errors",
    ):
        assert checks[name]["verdict"] == "pass", checks[name]


def verdict(done: subprocess.CompletedProcess[str]) -> dict[str, Any]:
    """What `ship --json` judged; two sources hold, whatever else is right."""
    assert done.returncode == 6, done.stderr
    return json.loads(done.stdout)  # type: ignore[no-any-return]


@pytest.mark.parametrize(
    ("args", "says"),
    [
        (("--with", "tunes"), "--with takes sizes, options, caps, not 'tunes'"),
        (("--with", ""), "--with takes sizes, options, caps, not ''"),
        (("quality_prior", "--with", "sizes"), "has no network and no seeds"),
    ],
)
def test_what_is_no_kind_gets_a_sentence(cli: RunCli, args: tuple[str, ...], says: str) -> None:
    done = cli("train", *args)
    assert done.returncode == 2 and says in done.stderr, done.stderr


def test_a_shipped_model_is_judged_on_the_kinds_of_rows_that_it_learned_from(
    project: Project, corpus_folder: Path, tmp_path: Path
) -> None:
    project.run()
    assert project.cli("ship", "fr_regressor_v2").returncode == 0
    other = Path(shutil.copytree(corpus_folder, tmp_path / "other"))
    rows = [json.loads(line) for line in (other / "cells.jsonl").read_text().splitlines()]
    rows[0] |= {"options": "film"}
    rows[1] |= {"maxrate_kbps": 9}
    (other / "cells.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    command = ("eval", "fr_regressor_v2", "--corpus", str(other), "--json")
    notes = json.loads(project.cli(*command).stdout)["notes"]
    assert any(note.startswith("left out 2 rows") for note in notes)

    def with_options(sidecar: dict[str, Any]) -> None:
        sidecar["corpus"]["kinds"] = ["options"]

    edit_sidecar(project.model_dir, "fr_regressor_v2", with_options)
    notes = json.loads(project.cli(*command).stdout)["notes"]
    assert any(note.startswith("took 1 rows with an option set") for note in notes)
    assert any(note.startswith("left out 1 rows") for note in notes)
