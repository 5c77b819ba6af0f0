"""`train`, `eval`, `ship` and `predict` of `quality_prior`, on a small corpus made of curves."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from projects import Project
from vmaf_train.prior import load
from vmaf_train.shipping import registry
from vmaf_train.training import fit_prior

ID = "quality_prior"
VALUES = {("libx264", "veryfast"): range(18, 43, 8), ("libsvtav1", "10"): range(21, 61, 13)}


def write_curves(
    folder: Path, names: Sequence[str], *, seed: int = 0, is_lawless: bool = False
) -> Path:
    """A run folder whose contents fall along one curve, harder and easier ones; `is_lawless`: their
    scores are drawn by lot, so that no content tells of another.
    """
    folder.mkdir(parents=True)
    rng = np.random.default_rng(seed)
    rows = []
    for name in names:
        hard, rich = rng.normal(0, 0.4, 2)
        for (encoder, preset), values in VALUES.items():
            own = hard + rng.normal(0, 0.1)
            for quality in values:
                share = quality / values[-1]
                z = 7.5 - 7 * share - own + rng.normal(0, 0.03)
                score = float(rng.uniform(5, 99)) if is_lawless else 100 / (1 + math.exp(-z))
                rows.append(_row(name, encoder, preset, quality, score, rich - 5 * share))
    (folder / "cells.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (folder / "sweep.json").write_text(json.dumps({"sweep": folder.name, "num_cells": len(rows)}))
    return folder


def _row(
    name: str, encoder: str, preset: str, quality: int, score: float, ln_bits: float
) -> dict[str, Any]:
    motion = 1 + sum(map(ord, name)) % 97 / 10
    features = dict.fromkeys(("adm2", "vif_scale0", "vif_scale1", "vif_scale2", "vif_scale3"), 0.9)
    return {
        "schema_version": 1,
        "cell": f"{name}/{encoder}/{preset}/{quality}",
        "key": f"{name}-{encoder}-{preset}-{quality}",
        "status": "ok",
        "flags": [],
        "src": name,
        "group": name,
        "src_sha256": name,
        "width": 640,
        "height": 360,
        "fps": "25",
        "num_frames": 10,
        "encoder": encoder,
        "preset": preset,
        "crf": quality,
        "bitrate_kbps": 640 * 360 * 25 / 1000 * math.exp(ln_bits),
        "vmaf_score": score,
        "vmaf_harmonic_mean": 0.99 * score,
        "vmaf_p5": 0.9 * score,
        "vmaf_min": 0.8 * score,
        "per_frame_features": features | {"motion2": motion},
        "teacher": "vmaf_v0.6.1",
        "finished_at": "2026-01-01T00:00:00Z",
    }


def names_of(letter: str, count: int) -> list[str]:
    """Names of clips whose motions differ."""
    return [f"{letter}{'x' * i}{i}" for i in range(count)]


def trained(root: Path, *corpora: str, loso: bool = False) -> Path:
    """The folder of a fresh run on corpora of the project `root`."""
    before = set((root / "runs" / ID).glob("*"))
    flags = [word for corpus in corpora for word in ("--corpus", f"runs/phase_a/{corpus}")]
    done = Project(root).cli("train", ID, *(["--loso"] if loso else []), *flags)
    assert done.returncode == 0, done.stderr
    (made,) = set((root / "runs" / ID).glob("*")) - before
    return made.relative_to(root)


@pytest.fixture(scope="module", autouse=True)
def few_steps() -> Iterator[None]:
    """Fits end halfway here, in training and in the gate: how well a full one foretells is measured
    on real rows in tests/training/test_fit_prior.py.
    """
    assert fit_prior.fit.__kwdefaults__ is not None
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(fit_prior.fit.__kwdefaults__, "steps", 30)
        yield


@pytest.fixture(scope="module")
def home(few_steps: None, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project with corpora and three runs: of one corpus, of two, and of a lawless one."""
    root = tmp_path_factory.mktemp("priors")
    (root / "model/tiny").mkdir(parents=True)
    (root / "model/tiny/registry.json").write_text('{"schema_version": 1, "entries": []}')
    corpora = root / "runs/phase_a"
    write_curves(corpora / "first", names_of("a", 9), seed=2)
    write_curves(corpora / "second", names_of("b", 1), seed=1)
    write_curves(corpora / "lawless", names_of("c", 9), is_lawless=True)
    (root / "one").write_text(str(trained(root, "first", loso=True)))
    (root / "two").write_text(str(trained(root, "first", "second")))
    (root / "bad").write_text(str(trained(root, "lawless")))
    return root


@pytest.fixture
def project(home: Path) -> Project:
    """The project with an empty registry."""
    tiny = home / "model/tiny"
    for file in tiny.iterdir():
        file.unlink()
    (tiny / "registry.json").write_text('{"schema_version": 1, "entries": []}')
    return Project(home)


def run_of(project: Project, name: str) -> str:
    return (project.root / name).read_text()


def test_a_run_is_shown_shipped_asked_and_rolled_back(project: Project) -> None:
    one, two = run_of(project, "one"), run_of(project, "two")
    shown = project.cli("eval", one, "--card", "card.md")
    assert shown.returncode == 0, shown.stderr
    assert "leave one source out: mean" in shown.stdout
    card = (project.root / "card.md").read_text()
    assert "72 cells of 9 windows of 9 sources" in card and "encodes until it is" in card
    shipped = project.cli("ship", ID, "--run", one)
    assert shipped.returncode == 0, shipped.stdout + shipped.stderr
    assert load(project.model_dir).num_contents == 9
    asked = project.cli("predict", ID, "--self-test")
    assert asked.returncode == 0 and "stored questions answered again" in asked.stdout
    before = project.registry.read_bytes()
    again = json.loads(project.cli("ship", ID, "--run", two, "--json").stdout)
    assert {check["verdict"] for check in again["checks"]} == {"pass"}
    assert load(project.model_dir).num_contents == 10
    back = project.cli("ship", ID, "--rollback")
    assert back.returncode == 0, back.stderr
    assert project.registry.read_bytes() == before and load(project.model_dir).num_contents == 9
    nothing = project.cli("ship", ID, "--rollback")
    assert nothing.returncode == 4 and "nothing to roll back to" in nothing.stderr


def held(project: Project, run: str) -> dict[str, str]:
    """The checks that hold, with the run's verdict.json; `model/` must stay as it is."""
    before = project.snapshot()
    done = project.cli("ship", ID, "--run", run)
    assert done.returncode == 6, done.stdout + done.stderr
    assert "Traceback" not in done.stderr and project.snapshot() == before
    verdict = json.loads((project.root / run / "verdict.json").read_text())
    assert verdict["verdict"] == "hold"
    return {c["name"]: str(c["value"]) for c in verdict["checks"] if c["verdict"] == "hold"}


def test_a_prior_that_foretells_nothing_is_held(project: Project) -> None:
    found = held(project, run_of(project, "bad"))
    assert {"MAE after 1 probe", "MAE after 2 probes", "MAE after 3 probes"} <= set(found)
    assert registry.load(project.model_dir).entries == ()


def test_a_candidate_that_is_not_of_the_rows_is_held(project: Project) -> None:
    run = run_of(project, "one")
    file = project.root / run / "candidate.json"
    honest = file.read_bytes()
    document = json.loads(honest)
    for curve in document["curves"]:
        curve["z"]["mean"] = [value - 0.3 for value in curve["z"]["mean"]]
    file.write_text(json.dumps(document))
    try:
        assert set(held(project, run)) == {"the candidate is what the rows give"}
        file.write_text("{}")
        assert "the candidate is what the rows give" in held(project, run)
    finally:
        file.write_bytes(honest)


def test_rows_that_changed_since_training_hold(project: Project) -> None:
    run, cells = run_of(project, "two"), project.root / "runs/phase_a/second/cells.jsonl"
    honest = cells.read_text()
    cells.write_text(honest.replace('"vmaf_min": ', '"vmaf_min": 1'))
    try:
        assert list(held(project, run)) == ["corpus is there and unchanged"]
    finally:
        cells.write_text(honest)


def test_what_cannot_be_trained_on_is_a_sentence(project: Project) -> None:
    corpora = ("--corpus", "runs/phase_a/second")
    done = project.cli("train", ID, "--loso", *corpora)
    assert done.returncode == 4 and "at least two contents" in done.stderr
    missing = project.cli("ship", ID, "--run", "runs/nothing")
    assert missing.returncode == 4 and "Traceback" not in missing.stderr
