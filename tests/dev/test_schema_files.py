"""The schemas are what the types say, and real files hold to them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import schema_files
from forged import failed, measured

from schemas import validator

ROOT = Path(__file__).parents[2]
PHASE_A = ROOT / "runs/phase_a"


def test_the_files_are_what_the_types_say() -> None:
    for path, text in schema_files.files().items():
        assert path.read_text(encoding="utf-8") == text, "run tools/vmaf-tune/dev/schema_files.py"


@pytest.mark.parametrize("name", ["software", "dense"])
def test_committed_corpora_hold_to_them(name: str) -> None:
    rows = [json.loads(t) for t in (PHASE_A / name / "cells.jsonl").read_text().splitlines()]
    cell_row = validator("cell-row")
    for row in rows[::40]:
        cell_row.validate(row)
    validator("sweep").validate(json.loads((PHASE_A / name / "sweep.json").read_text()))


def test_a_fresh_sweep_holds_to_them(sweep: Any) -> None:
    assert sweep.rows and sweep.frames and sweep.events
    for name, table in (("cell-row", sweep.rows.values()), ("frame-row", sweep.frames)):
        check = validator(name)
        for row in table:
            check.validate(row)
    events = validator("event")
    for event in sweep.events:
        events.validate(event)
    validator("sweep").validate(json.loads((sweep.folder / "sweep.json").read_text()))


def test_shipped_verdicts_hold_to_them() -> None:
    files = (ROOT / "model/tiny").glob("*-*-*.json")
    gates = [json.loads(file.read_text(encoding="utf-8"))["gate"] for file in files]
    assert len(gates) >= 4
    for gate in gates:
        validator("verdict").validate(gate)
    assert not validator("verdict").is_valid(gates[0] | {"verdict": "perhaps"})


@pytest.fixture
def sweep(swept: Any, clip: Any) -> Any:
    """A sweep of two cells."""
    return swept(clip("schemas.mkv"), quality="30,40")


@pytest.mark.parametrize("change", [{"vmaf_score": 150}, {"num_frames": 0}, {"status": "done"}])
def test_damage_does_not(change: dict[str, Any]) -> None:
    row, _ = measured()
    assert validator("cell-row").is_valid(row) and validator("cell-row").is_valid(failed()[0])
    assert not validator("cell-row").is_valid(row | change)
