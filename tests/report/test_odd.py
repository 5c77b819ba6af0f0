"""Folders and surroundings that nobody should have: one sentence, never a traceback."""

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

DEEP = "[" * 100_000 + "]" * 100_000


@pytest.mark.parametrize(("form", "closed"), [("--text", ">&-"), ("-o page.html", ">&- 2>&- <&-")])
def test_closed_streams(small: Path, tmp_path: Path, form: str, closed: str) -> None:
    program = f"'{sys.executable}' -m vmaftune report \"$FOLDER\" {form} {closed}"
    environment = os.environ | {"FOLDER": str(small)}
    done = subprocess.run(
        ["sh", "-c", program], cwd=tmp_path, env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0 and "Traceback" not in done.stderr
    assert (tmp_path / "page.html").is_file() == form.startswith("-o")


@pytest.mark.parametrize(
    "plan",
    ["[]", "null", '{"sources": [{}]}', "not JSON", DEEP, '{"num_cells": "many"}', ""],
    ids=["list", "null", "empty source", "text", "deep", "number", "empty"],
)
def test_an_odd_plan(run: Callable[..., Any], small: Path, tmp_path: Path, plan: str) -> None:
    folder = shutil.copytree(small, tmp_path / "c")
    (folder / "sweep.json").write_text(plan, encoding="utf-8")
    done = run(folder, "--text")
    assert done.code == 2 and "sweep.json is not the plan of a run" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("num_frames", 0),
        ("num_frames", "x"),
        ("schema_version", 99),
        ("encoder", None),
        ("bitrate_kbps", -5),
        ("vmaf_score", 150),
        ("vmaf_score", None),
        ("status", "perhaps"),
        ("error", 5),
        ("argv", {"a": 1}),
        ("options", 7),
    ],
)
def test_an_odd_value(
    run: Callable[..., Any], small: Path, tmp_path: Path, field: str, value: object
) -> None:
    folder = shutil.copytree(small, tmp_path / "c")
    lines = (folder / "cells.jsonl").read_text(encoding="utf-8").splitlines()
    lines[2] = json.dumps(json.loads(lines[2]) | {field: value})
    (folder / "cells.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
    done = run(folder, "--text")
    assert done.code == 4 and "cells.jsonl:3: " in done.stderr and field in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("target", ["59", "100", "nan", "93.5", "x"])
def test_an_odd_target(run: Callable[..., Any], small: Path, target: str) -> None:
    done = run(small, "--text", "--target", target)
    assert done.code == 2 and "--target" in done.stderr


@pytest.mark.parametrize("package", ["jinja2", "plotly.offline"])
def test_a_missing_package_is_named(
    run: Callable[..., Any],
    small: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    package: str,
) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    done = run(small, "-o", tmp_path / "page.html")
    assert done.code == 3 and "pip install 'vmaf-tune[report]'" in done.stderr
    assert run(small, "--text").code == 0, "the tables do without it"


def test_the_page_of_a_committed_corpus_is_ignored_by_git() -> None:
    root = Path(__file__).parents[2]
    page = "runs/phase_a/software/report.html"
    assert subprocess.run(["git", "check-ignore", "-q", page], cwd=root).returncode == 0
