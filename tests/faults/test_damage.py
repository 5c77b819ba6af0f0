"""Damage that `make fuzz` found to be believed or to end in a traceback, each by itself."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import fuzz
import pytest
from typed import typed
from vmaf_train.corpus import dataset
from vmaf_train.corpus.ledger import read_ledger
from vmaf_train.errors import DatasetError
from vmaftune.commands import status
from vmaftune.report.read import read as read_report


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A run folder of three finished cells of three frames, and a failed one."""
    return fuzz.Targets(tmp_path).folder


def change(file: Path, edit: Callable[[list[Any]], None]) -> None:
    """Edit the rows of a JSONL file."""
    rows = fuzz.jsonl(file.read_bytes())
    edit(rows)
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))


def change_plan(folder: Path, edit: Callable[[dict[str, Any]], object]) -> None:
    plan = json.loads((folder / "sweep.json").read_text())
    edit(plan)
    (folder / "sweep.json").write_text(json.dumps(plan))


def test_a_grid_over_a_source_that_the_plan_does_not_list(folder: Path) -> None:
    change(folder / "cells.jsonl", lambda rows: rows.pop())
    change_plan(folder, lambda plan: plan["sources"][0].update(name="other"))
    assert status.read(folder).num_left == 1


def test_an_open_plan_whose_row_names_its_cell_in_no_form_of_ours(folder: Path) -> None:
    change_plan(folder, lambda plan: plan.update(open=True))
    change(folder / "cells.jsonl", lambda rows: rows[0].update(cell="odd"))
    found = status.read(folder)
    assert (found.num_damaged, found.num_left) == (1, 2)


@pytest.mark.parametrize("value", [1e308, -1e308, 1.7e308])
def test_numbers_whose_sum_is_beyond_all_numbers(folder: Path, value: float) -> None:
    change(folder / "frames.jsonl", lambda rows: [row.update(motion2=value) for row in rows[:3]])
    assert len(read_ledger(folder).damaged) == 1
    for per_frame in (False, True):
        with pytest.raises(DatasetError, match=r"cells\.jsonl:1: "):
            dataset.load(folder, per_frame=per_frame)
    with pytest.raises(DatasetError, match=r"cells\.jsonl:1: "):
        read_report(folder)


def test_two_frames_on_one_line(folder: Path) -> None:
    lines = (folder / "frames.jsonl").read_text().splitlines(keepends=True)
    (folder / "frames.jsonl").write_text("".join([lines[0].rstrip("\n"), *lines[1:]]))
    for read in (read_ledger, read_report):
        with pytest.raises(DatasetError, match=r"frames\.jsonl:1: no frame row"):
            read(folder)


def test_a_first_row_that_says_nothing_hides_no_damage(folder: Path) -> None:
    def spoil(rows: list[Any]) -> None:
        rows[0] = {}
        rows[2]["key"] = rows[2]["key"][:-1]

    change(folder / "cells.jsonl", spoil)
    with pytest.raises(DatasetError):
        read_report(folder)
    with pytest.raises(DatasetError):
        dataset.load(folder, per_frame=False)


@pytest.mark.parametrize("flags", [[[]], [{}], "suspect", 3, [1]])
def test_flags_of_an_older_row_that_are_no_list_of_texts(folder: Path, flags: object) -> None:
    def spoil(rows: list[Any]) -> None:
        del rows[1]["schema_version"]
        rows[1]["flags"] = flags

    change(folder / "cells.jsonl", spoil)
    with pytest.raises(DatasetError, match=r"cells\.jsonl:2: flags is .*a list of texts"):
        dataset.load(folder, per_frame=False)


ODD = [
    ("vmaf_score", 20.0),
    ("vmaf_score", 150),
    ("vmaf_score", None),
    ("vmaf_score", "x"),
    ("num_frames", 0),
    ("schema_version", 99),
    ("encoder", None),
    ("bitrate_kbps", 0),
    ("bitrate_kbps", -5),
    ("status", "perhaps"),
]


@pytest.mark.parametrize(("field", "value"), ODD)
def test_every_reader_says_the_same_of_a_damaged_row(
    folder: Path, field: str, value: object
) -> None:
    change(folder / "cells.jsonl", lambda rows: rows[1].update({field: value}))
    commands = (
        ("report", folder, "--text"),
        ("train", "--corpus", folder, "--epochs", "1"),
        ("predict", "fr_regressor_v2", "--jsonl", folder / "cells.jsonl"),
    )
    said = []
    for command in commands:
        done = typed(*command, cwd=folder.parent)
        assert done.returncode == 4 and "Traceback" not in done.stderr, done.stderr
        said.append(done.stderr.splitlines()[-1])
    assert len(set(said)) == 1, said
    assert said[0].startswith(f"error: {folder}/cells.jsonl:2: ") and field in said[0]


@pytest.mark.parametrize("plan", ["[]", "null", "{", '{"sources": [{}]}'])
def test_every_reader_says_the_same_of_a_damaged_plan(folder: Path, plan: str) -> None:
    (folder / "sweep.json").write_text(plan)
    said = []
    for command in (("status",), ("clean",), ("report",), ("merge", "--out", "both")):
        done = typed(*command, folder, cwd=folder.parent)
        assert done.returncode == 2 and "Traceback" not in done.stderr, done.stderr
        said.append(done.stderr.splitlines()[-1])
    assert len(set(said)) == 1, said
    assert "restore it, or measure into another folder" in said[0]


def test_predict_leaves_failed_cells_out(folder: Path) -> None:
    rows = folder / "cells.jsonl"
    done = typed("predict", "fr_regressor_v2", "--jsonl", rows, "--json", cwd=folder.parent)
    assert done.returncode == 0, done.stderr
    assert len(done.stdout.splitlines()) == 3 and "left out 1 failed cells" in done.stderr
