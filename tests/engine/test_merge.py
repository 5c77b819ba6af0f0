"""Merging folders: equal to the folder of a single run, and the first conflict is named."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from asked import question
from forged import Written, edit_folder, failed, measured, write_folder
from vmaf_train.corpus import dataset
from vmaf_train.corpus.ledger import read_ledger
from vmaf_train.errors import DatasetError
from vmaftune.engine.events import to_json
from vmaftune.engine.merge import merge_folders
from vmaftune.errors import FolderError, UsageError
from vmaftune.report.read import read

SOFTWARE = Path(__file__).parents[2] / "runs/phase_a/software"
CELLS = [measured(f"clip/libx264/fast/{q}", [90.0 - q, 80.0 + q / 7]) for q in range(6)]


def folder_of(place: Path, cells: list[Written], quality: list[int]) -> Path:
    """A run folder of `cells` whose plan has these quality values."""
    write_folder(place, cells)
    plan = json.loads((SOFTWARE / "sweep.json").read_text())
    source = plan["sources"][0] | {"name": "clip", "group": "clip"}
    block = {"encoder": "libx264", "preset": "fast", "quality": quality, "sources": ["clip"]}
    plan |= {"sources": [source], "grid": [block], "num_cells": len(quality)}
    (place / "sweep.json").write_text(json.dumps(plan))
    (place / "runs.jsonl").write_text(json.dumps({"started_at": f"2026-11-2{len(cells)}"}) + "\n")
    return place


@pytest.fixture
def parts(tmp_path: Path) -> tuple[Path, Path, Path]:
    """Two halves of a sweep, and the whole."""
    return (
        folder_of(tmp_path / "a", CELLS[:3], [0, 1, 2]),
        folder_of(tmp_path / "b", CELLS[3:], [3, 4, 5]),
        folder_of(tmp_path / "whole", CELLS, [0, 1, 2, 3, 4, 5]),
    )


def test_the_merged_folder_is_that_of_a_single_run(parts: tuple[Path, ...], tmp_path: Path) -> None:
    a, b, whole = parts
    done = merge_folders([a, b], tmp_path / "out")
    assert (done.num_cells, done.num_rows, done.num_failed) == (6, 6, 0)
    out = tmp_path / "out"
    assert dataset.corpus_digest(out) == dataset.corpus_digest(whole)
    assert dataset.frame_digest(out) == dataset.frame_digest(whole)
    for name in ("cells.jsonl", "frames.jsonl"):
        assert (out / name).read_bytes() == (whole / name).read_bytes()
    assert not read_ledger(out, everything=True).damaged
    plan = json.loads((out / "sweep.json").read_text())
    assert plan["merged_from"] == [str(a), str(b)] and plan["num_cells"] == 6
    starts = [json.loads(line) for line in (out / "runs.jsonl").read_text().splitlines()]
    assert [start["merged_from"] for start in starts] == [str(a), str(b)]


def test_what_two_folders_share_is_there_once(parts: tuple[Path, ...], tmp_path: Path) -> None:
    a, _, whole = parts
    assert merge_folders([a, whole], tmp_path / "out").num_rows == 6
    assert len(read_ledger(tmp_path / "out", everything=True).units) == 6


def test_what_was_asked_is_kept(parts: tuple[Path, ...], tmp_path: Path) -> None:
    a, b, _ = parts
    for folder, target in ((a, 90), (b, 93)):
        line = to_json(question(target=target))
        (folder / "questions.jsonl").write_text(json.dumps(line) + "\n")
    merge_folders([a, b], tmp_path / "out")
    assert [q.asked.target for q in read(tmp_path / "out").questions] == [90, 93]


def test_a_finished_cell_stands_before_a_failed_one(tmp_path: Path) -> None:
    broken = failed("clip/libx264/fast/0")
    a, b = (folder_of(tmp_path / n, [cell], [0]) for n, cell in (("a", broken), ("b", CELLS[0])))
    for order in ([a, b], [b, a]):
        done = merge_folders(order, tmp_path / f"out {order[0].name}")
        assert (done.num_rows, done.num_failed) == (1, 0)


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"key": "other"}, r"a and .*b measured clip/libx264/fast/0 with other tools"),
        ({"size_bytes": 7}, r"a and .*b hold different numbers for clip/libx264/fast/0"),
    ],
)
def test_the_first_conflict_is_named(tmp_path: Path, change: dict[str, Any], match: str) -> None:
    a, b = (folder_of(tmp_path / name, CELLS[:2], [0, 1]) for name in "ab")
    edit_folder(b, lambda row: row | change)
    with pytest.raises(FolderError, match=match):
        merge_folders([a, b], tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_other_mistakes_are_refused(parts: tuple[Path, ...], tmp_path: Path) -> None:
    a, b, _ = parts
    with pytest.raises(UsageError, match="is there already"):
        merge_folders([a, b], b)
    with pytest.raises(UsageError, match="holds no sweep"):
        merge_folders([a, tmp_path], tmp_path / "out")
    edit_folder(b, lambda row: row | {"vmaf_min": 1.0})
    with pytest.raises(DatasetError, match=r"b/cells.jsonl:1: vmaf_min is 1.*3 cells are damaged"):
        merge_folders([a, b], tmp_path / "out")


def test_the_command(parts: tuple[Path, ...], tool: Callable[..., Any], tmp_path: Path) -> None:
    a, b, _ = parts
    done = tool.run("merge", a, b, "--out", tmp_path / "out", "--json")  # type: ignore[attr-defined]
    assert json.loads(done.stdout)["num_rows"] == 6
