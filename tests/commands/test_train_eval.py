"""`vmaf-tune train` and `vmaf-tune eval` as a user runs them: files, first and last lines, exit
codes.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from corpora import doubled
from vmaf_train.corpus.synthetic import write_corpus

FAST = ("--epochs", "2", "--seeds", "2")


@pytest.mark.real
def test_train_then_eval(cli, corpus: Path, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    shutil.copytree(corpus, tmp_path / "runs" / "phase_a" / "made")
    done = cli("train", "--loso", *FAST)
    assert done.returncode == 0, done.stderr
    first, *_, last = done.stderr.splitlines()
    assert first.startswith(
        "corpus: runs/phase_a/made/cells.jsonl (the newest complete one in runs): 96 cells of 4"
        " groups"
    )
    assert last == "next: vmaf-tune ship fr_regressor_v2"
    assert (
        "`ship` will hold this run: it asks for 9 groups and 3 seeds or more, and this has 4 and 2"
        in done.stderr.partition("training:")[0]
    ), "said before the work"
    assert (
        "leave one source out" in done.stdout and "smoke03" in done.stdout and "left" in done.stderr
    )
    (folder,) = (tmp_path / "runs" / "fr_regressor_v2").iterdir()
    assert {f.name for f in folder.iterdir()} == {
        "predictions.parquet",
        "candidate.onnx",
        "candidate.json",
        "recipe.json",
        "provenance.json",
        "metrics.json",
    }
    assert not (tmp_path / "model").exists()
    provenance = json.loads((folder / "provenance.json").read_text())
    assert provenance["schema"] == "ai-run-provenance-v1" and len(provenance["inputs"]) == 2

    # eval must not need torch: a folder with a broken one comes first on the path
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "torch.py").write_text("raise ImportError('eval imported torch')")
    path = os.pathsep.join([str(tmp_path / "broken"), os.environ.get("PYTHONPATH", "")])
    shown = subprocess.run(
        [sys.executable, "-m", "vmaftune", "eval", "--card", "cards/v2.md"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": path},
        capture_output=True,
        text=True,
    )
    assert shown.returncode == 0, shown.stderr
    titles = [
        line for line in shown.stdout.splitlines() if line.startswith(("loso", "loeo", "kfold"))
    ]
    assert titles[-1].startswith("loso: one group held out at a time") and len(titles) > 6
    for needed in (
        "codec-blind network",
        "ridge on the six features",
        "loeo",
        "score_band",
        "95% interval",
    ):
        assert needed in shown.stdout
    assert (tmp_path / "cards" / "v2.md").exists() and (
        tmp_path / "cards" / "v2-residuals.png"
    ).exists()
    facts = json.loads(cli("eval", folder, "--json").stdout)
    assert facts["summary"]["loso"]["metrics"]["y_model"]["plcc"]["num_seeds"] == 2
    assert cli("train", "--out", folder).returncode == 2
    (folder / "metrics.json").write_text('{"model_id": "fr_regressor_v2"}')
    untold = cli("eval", folder)
    assert untold.returncode == 4 and "does not say corpus.path" in untold.stderr


@pytest.mark.real
def test_smoke_is_marked_everywhere(cli, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    done = cli("train", "vmaf_tiny_v2", "--smoke", "--loso", *FAST, "--corpus", "nowhere", "--json")
    assert done.returncode == 0, done.stderr
    facts = json.loads(done.stdout)
    assert facts["smoke"] is True and facts["run"].endswith("-smoke")
    assert (
        "--corpus nowhere is ignored" in done.stderr
        and "synthetic: this is a smoke run" in done.stderr
    )
    assert json.loads((tmp_path / facts["run"] / "candidate.json").read_text())["smoke"] is True
    assert "no training run of vmaf_tiny_v2" in cli("eval", "vmaf_tiny_v2").stderr
    assert "SMOKE RUN" in cli("eval", facts["run"]).stderr


@pytest.mark.real
def test_without_loso_there_is_a_candidate_and_no_evidence(
    cli, corpus: Path, tmp_path: Path
) -> None:  # type: ignore[no-untyped-def]
    done = cli("train", "--corpus", corpus, "--out", "run", "--epochs", "1")
    assert done.returncode == 0, done.stderr
    assert done.stderr.splitlines()[-1] == "next: vmaf-tune train fr_regressor_v2 --loso"
    shown = cli("eval", "run")
    assert shown.returncode == 0 and "nothing was held out" in shown.stderr


@pytest.mark.parametrize(
    "out", ["../model/tiny/x", "../model/x", "../model", "../elsewhere/tiny/x"]
)
def test_no_run_is_put_among_shipped_models(cli, tmp_path: Path, out: str) -> None:  # type: ignore[no-untyped-def]
    (tmp_path / "sub").mkdir()
    for name in ("model/tiny", "elsewhere/tiny"):
        (tmp_path / name).mkdir(parents=True)
        (tmp_path / name / "registry.json").write_text("{}")
    before = sorted(tmp_path.rglob("*"))
    done = cli("train", "--smoke", "--out", out, cwd=tmp_path / "sub")
    assert done.returncode == 2 and "folder of shipped models" in done.stderr
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.real
def test_a_corpus_without_frames(cli, corpus: Path, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    shutil.copy(corpus / "cells.jsonl", tmp_path / "per_frame_canonical6.jsonl")
    done = cli("train", "--loso", "--corpus", "per_frame_canonical6.jsonl", *FAST)
    assert done.returncode == 0, done.stderr
    assert "frame windows are ignored" in done.stderr
    refused = cli("train", "vmaf_tiny_v2", "--corpus", "per_frame_canonical6.jsonl")
    assert refused.returncode == 4 and "learns from frames" in refused.stderr


def test_one_clip_in_two_groups_cannot_be_held_out(cli, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    folder = doubled(write_corpus(tmp_path / "twice", num_sources=3, num_frames=14))
    refused = cli("train", "--loso", "--corpus", folder, *FAST)
    assert refused.returncode == 4
    assert "the groups copy and smoke00 show the same pictures" in refused.stderr


@pytest.mark.real
def test_features_that_are_not_the_teachers_own_are_refused(
    cli, corpus: Path, tmp_path: Path
) -> None:  # type: ignore[no-untyped-def]
    """As rows of a NEG sweep of release 0.1.0 hold them."""
    folder = shutil.copytree(corpus, tmp_path / "neg")
    rows = [json.loads(line) for line in (folder / "cells.jsonl").read_text().splitlines()]
    text = "".join(json.dumps(row | {"teacher": "vmaf_v0.6.1neg"}) + "\n" for row in rows)
    (folder / "cells.jsonl").write_text(text)
    refused = cli("train", "--corpus", folder, "--epochs", "1")
    assert refused.returncode == 4
    assert "its features those of vmaf_v0.6.1; sweep again" in refused.stderr


@pytest.mark.parametrize("model", ["fr_regressor_v2", "vmaf_tiny_v2", "quality_prior"])
def test_a_fresh_clone_shows_what_was_shipped(cli, model: str) -> None:  # type: ignore[no-untyped-def]
    shown = cli("eval", model)
    assert shown.returncode == 0, shown.stderr
    assert f"no training run of {model} lies under runs; this is what was shipped" in shown.stderr
    told = json.loads(cli("eval", model, "--json").stdout)
    assert told["model_id"] == model and told["shipped"].startswith(model)
    assert "one source held out" in shown.stdout or "one group held out" in shown.stdout
    if model != "quality_prior":
        assert f"{told['loso']['metrics']['y_model']['rmse']['mean']:.4f}" in shown.stdout


@pytest.mark.real
@pytest.mark.parametrize(
    ("args", "code", "says"),
    [
        (("train", "fr_regressor_v9", "--smoke"), 2, "no model is called 'fr_regressor_v9'"),
        (("train", "fr_regresor_v2", "--loso"), 2, "did you mean fr_regressor_v2"),
        (("eval", "vmaf_tiny"), 2, "did you mean vmaf_tiny_v2"),
        (("ship", "quality_prio"), 2, "did you mean quality_prior"),
        (("ship", "fr_regresor_v2", "--rollback"), 2, "did you mean fr_regressor_v2"),
        (("predict", "fr_regresor_v2"), 2, "did you mean fr_regressor_v2"),
        (("predict", "nomodel"), 2, "no model is called 'nomodel'; known are fr_regressor_v2"),
        (("train", "--recipe", "best", "--smoke"), 2, "no recipe is called 'best'"),
        (("train", "--epochs", "0", "--smoke"), 2, "--epochs 0"),
        (("train", "--smoke", "--out", "model/tiny/x"), 2, "lies under a folder of shipped models"),
        (("train", "--kfold", "5", "--corpus", "gone.jsonl"), 2, "add --loso"),
        (("train", "--seeds", "5", "--corpus", "gone.jsonl"), 2, "add --loso"),
        (("train", "--corpus", "a", "--corpus", "b"), 4, "a does not exist"),
        (("train", "--device", "gpu", "--corpus", "gone.jsonl"), 2, "no device is called 'gpu'"),
        (("train", "--smoke", "--device", "cuda:77"), 3, "cuda:77"),
        (("train",), 4, "no corpus under"),
        (("train", "--corpus", "gone.jsonl"), 4, "gone.jsonl does not exist"),
        (("train", "--smoke", "--loso", "--kfold", "9"), 4, "9 folds of whole groups"),
        (("eval", "--card", "y"), 4, "no complete run of fr_regressor_v2"),
        (("eval", "--model-dir", "none"), 4, "no complete run of fr_regressor_v2"),
        (("eval", "gone"), 2, "there is no run's folder gone, and no model is called 'gone'"),
        (("eval", "vmaf_tiny_v2", "--corpus", "gone.jsonl"), 4, "gone.jsonl does not exist"),
        (("eval", "--corpus", "x", "--card", "y"), 2, "--card"),
    ],
)
def test_exit_codes(cli, args: tuple[str, ...], code: int, says: str) -> None:  # type: ignore[no-untyped-def]
    done = cli(*args)
    assert done.returncode == code, done.stderr
    assert (
        says in done.stderr
        and "Traceback" not in done.stderr
        and done.stderr.splitlines()[-1].startswith("error: ")
    )
