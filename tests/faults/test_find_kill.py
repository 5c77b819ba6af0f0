"""A search that is killed goes on from what it had measured, and ends with the same answer."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from typed import typed

RANGE = ("--preset", "ultrafast", "--min-quality", "26", "--max-quality", "40", "--jobs", "2")
ASKED = (*RANGE, "--target", "86", "--stop", "proven", "--json")


@pytest.fixture(scope="module")
def short(film: Callable[..., Any]) -> Path:
    made: Path = film("four shots.mkv", shots=4, size="128x72").path
    return made


@pytest.fixture(scope="module")
def whole(short: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, Any], int]:
    """The answer of a search that nothing stopped, and the number of its cells."""
    place = tmp_path_factory.mktemp("whole")
    done = typed("find", short, *ASKED, "--out", "run", cwd=place)
    assert done.returncode == 0, done.stderr
    return told(done.stdout)[-1], num_lines(place / "run/cells.jsonl")


def told(text: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in text.splitlines()]


def num_lines(file: Path) -> int:
    return file.read_bytes().count(b"\n") if file.exists() else 0


@pytest.mark.parametrize("moment", ["first cells", "first probe"])
def test_kill_9_costs_no_finished_cell(
    moment: str,
    short: Path,
    whole: tuple[dict[str, Any], int],
    tool: Any,
    until: Callable[..., None],
    tmp_path: Path,
) -> None:
    answer, num_cells = whole
    run = tmp_path / "run"
    child = tool.start("find", short, *ASKED, "--out", run)
    file, count = {
        "first cells": (run / "cells.jsonl", 3),
        "first probe": (run / "questions.jsonl", 2),
    }[moment]
    until(lambda: num_lines(file) >= count, moment)
    child.kill()
    child.wait()
    before = (run / "cells.jsonl").read_bytes()
    kept = before[: before.rfind(b"\n") + 1]
    again = told(tool.run("find", short, *ASKED, "--out", run).stdout)
    assert (run / "cells.jsonl").read_bytes().startswith(kept)
    same = ("quality", "score", "kbps", "stop", "bracket")
    assert [again[-1][name] for name in same] == [answer[name] for name in same]
    assert num_lines(run / "cells.jsonl") == num_cells
    report = json.loads(tool.run("report", run, "--json").stdout)
    stopped, answered = report["questions"][0], report["questions"][-1]
    assert answered["answers"][0]["quality"] == answer["quality"]
    if moment == "first probe":
        assert stopped["answers"] == [] and len(stopped["probes"]) >= 1
