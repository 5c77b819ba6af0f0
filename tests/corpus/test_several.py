"""Several corpora as one: films are told by content, cells count once, teachers do not mix;
training and the gate read them alike.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from corpora import RunCli
from vmaf_train.corpus import dataset, duplicates, several
from vmaf_train.corpus.folds import loso_folds
from vmaf_train.errors import DatasetError
from vmaf_train.results.run_folder import load_run
from vmaf_train.shipping.case import open_case
from vmaf_train.shipping.evidence import how_it_was_held_out, what_it_rests_on

Row = dict[str, Any]
ROOT = Path(__file__).parents[2]
SHA = {f"smoke{i:02d}": f"{i}" * 64 for i in range(4)}


def part(
    corpus: Path, out: Path, names: Mapping[str, str], keep: Callable[[Row], bool], **more: object
) -> Path:
    """The rows of some sources of a corpus, under other names, with the digests of their films."""
    out.mkdir(parents=True)
    for file in ("cells.jsonl", "frames.jsonl"):
        lines = []
        for row in map(json.loads, (corpus / file).read_text().splitlines()):
            src = row["src"]
            if src not in names or not keep(row):
                continue
            row["cell"] = row["cell"].replace(src, names[src])
            row["src"] = names[src]
            if file == "cells.jsonl":
                row |= {"group": names[src], "src_sha256": SHA[src], **more}
            lines.append(json.dumps(row) + "\n")
        (out / file).write_text("".join(lines))
    return out


def without_libaom(row: Row) -> bool:
    return bool(row["encoder"] != "libaom-av1")


@pytest.fixture(scope="module")
def two(corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Corpus a has three films, without libaom-av1; corpus b one of them under another name, with
    all encoders, and a film that has the name of another one of a.
    """
    base = tmp_path_factory.mktemp("several")
    same = {name: name for name in ("smoke00", "smoke01", "smoke02")}
    a = part(corpus, base / "a", same, without_libaom)
    b = part(corpus, base / "b", {"smoke02": "other", "smoke03": "smoke00"}, lambda row: True)
    return [a, b]


def test_one_film_is_one_group_and_one_name_may_be_two_films(two: list[Path]) -> None:
    data = several.load(two, per_frame=False)
    assert data.groups == ["smoke00", "smoke00@b", "smoke01", "smoke02"]
    assert data.sources == {
        "smoke00": (SHA["smoke00"],),
        "smoke00@b": (SHA["smoke03"],),
        "smoke01": (SHA["smoke01"],),
        "smoke02": (SHA["smoke02"],),
    }
    (fold,) = [f for f in loso_folds(data) if f.name == "smoke02"]
    assert set(data.src[fold.test]) == {"smoke02", "other"}


def test_a_cell_that_both_hold_counts_once(two: list[Path]) -> None:
    one, other = (dataset.load(path, per_frame=False) for path in two)
    data = several.load(two, per_frame=False)
    shared = len(set(one.key) & set(other.key))
    assert shared > 0
    assert len(data) == len(one) + len(other) - shared == len(set(data.key))
    assert f"left out {shared} rows of {two[1]}/cells.jsonl: a corpus before has them" in data.notes
    frames = several.load(two, per_frame=True)
    assert set(frames.key) == set(data.key)
    assert len(frames) == 12 * len(data)


def test_digests_are_made_of_the_parts(two: list[Path]) -> None:
    data = several.load(two, per_frame=True)
    assert [part.digest for part in data.parts] == [dataset.corpus_digest(path) for path in two]
    alone = several.load(two[:1], per_frame=True)
    assert alone.digest == dataset.corpus_digest(two[0])
    assert alone.parts == ()
    assert len({data.digest, alone.digest, data.parts[1].digest}) == 3
    assert data.frame_digest != alone.frame_digest


def test_two_teachers_or_feature_sets_are_refused(
    corpus: Path, two: list[Path], tmp_path: Path
) -> None:
    names = {"smoke03": "smoke03"}
    neg = part(corpus, tmp_path / "n", names, lambda row: True, teacher="vmaf_v0.6.1neg")
    with pytest.raises(DatasetError, match="scores of 2 teachers"):
        several.load([two[0], neg], per_frame=False)
    sets = part(corpus, tmp_path / "s", names, lambda row: True, features_of="vmaf_v0.6.1neg")
    with pytest.raises(DatasetError, match="2 feature sets"):
        several.load([two[0], sets], per_frame=False)


def test_a_group_over_two_groups_is_refused(corpus: Path, two: list[Path], tmp_path: Path) -> None:
    names = {"smoke00": "x", "smoke01": "y"}
    both = part(corpus, tmp_path / "g", names, lambda row: True, group="one")
    with pytest.raises(DatasetError, match="films of the groups smoke00 and smoke01"):
        several.load([two[0], both], per_frame=False)


def test_twins_are_found_over_corpora(corpus: Path, two: list[Path], tmp_path: Path) -> None:
    assert duplicates.find_in(several.load(two, per_frame=False)).twins == ()
    names = {"smoke01": "copy"}
    copy = part(corpus, tmp_path / "t", names, without_libaom, src_sha256="c" * 64)
    (twins,) = duplicates.find_in(several.load([two[0], copy], per_frame=False)).twins
    assert {twins.first, twins.second} == {"smoke01", "copy"}


@pytest.mark.real
def test_training_keeps_all_corpora_and_the_gate_reads_them(
    two: list[Path], cli: RunCli, tmp_path: Path
) -> None:
    named = ["--corpus", two[0], "--corpus", two[1]]
    done = cli("train", "--loso", *named, "--epochs", "2", "--seeds", "2", "--out", "runs/r")
    assert done.returncode == 0, done.stderr
    run = load_run(tmp_path / "runs/r")
    told = run.metrics["corpus"]
    assert [part["path"] for part in told["corpora"]] == [
        (path / "cells.jsonl").as_posix() for path in two
    ]
    assert run.sidecar["corpus"] == told
    inputs = [entry["path"] for entry in run.provenance["inputs"]]
    assert all(any(str(path) in name for name in inputs) for path in two)
    case = open_case(run, None)
    assert case.data is not None, case.missing
    checks = {c.name: c for c in (*how_it_was_held_out(case), *what_it_rests_on(case))}
    few = {"LOSO groups", "LOSO seeds"}
    assert {name for name, check in checks.items() if check.verdict == "hold"} == few
    assert np.isclose(len(case.held_out), 2 * len(case.data))


@pytest.mark.real
def test_the_gate_notices_that_one_of_several_has_changed(
    corpus: Path, two: list[Path], cli: RunCli, tmp_path: Path
) -> None:
    names = {"smoke02": "other", "smoke03": "smoke00"}
    changed = part(corpus, tmp_path / "b", names, lambda row: True)
    named = ["--corpus", two[0], "--corpus", changed]
    done = cli("train", "--loso", *named, "--epochs", "1", "--seeds", "1", "--out", "runs/r")
    assert done.returncode == 0, done.stderr
    file = changed / "cells.jsonl"
    lines = file.read_text().splitlines(keepends=True)
    file.write_text("".join(lines[:-1]))
    case = open_case(load_run(tmp_path / "runs/r"), None)
    checks = {check.name: check for check in what_it_rests_on(case)}
    assert checks["corpus present with the recorded digest"].verdict == "hold"


@pytest.mark.real
def test_a_shipped_model_is_scored_on_several(corpus: Path, cli: RunCli, tmp_path: Path) -> None:
    teacher = {"teacher": "vmaf_v0.6.1"}
    parts = [
        part(corpus, tmp_path / name, {src: src}, lambda row: True, **teacher)
        for name, src in (("a", "smoke00"), ("b", "smoke01"))
    ]
    named = ["--corpus", parts[0], "--corpus", parts[1]]
    done = cli("eval", "fr_regressor_v2", *named, "--model-dir", ROOT / "model", "--json")
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert told["corpus"] == ", ".join(str(path / "cells.jsonl") for path in parts)
    assert told["in_sample"] is False
