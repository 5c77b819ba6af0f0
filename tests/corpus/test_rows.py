"""Types and ranges of rows: committed corpora keep every field, damage is named with its line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from vmaf_train.corpus import rows
from vmaf_train.corpus.digests import digest
from vmaf_train.errors import DatasetError

PHASE_A = Path(__file__).parents[2] / "runs/phase_a"


def committed() -> dict[str, Any]:
    """The first row of the committed corpus."""
    return rows.read_rows(PHASE_A / "software/cells.jsonl")[0][1]


@pytest.mark.parametrize("name", ["software", "dense"])
def test_a_row_written_from_its_type_is_the_row_that_was_read(name: str) -> None:
    file = PHASE_A / name / "cells.jsonl"
    table = rows.read_rows(file)
    for number, row in table:
        again = json.loads(json.dumps(rows.to_row(rows.typed(file, number, row))))
        assert {k: v for k, v in again.items() if v is not None or k in row} == row
        assert json.dumps(again["crf"]) == json.dumps(row["crf"])
    written = [rows.to_row(rows.typed(file, number, row)) for number, row in table]
    assert digest(written, "key") == digest((row for _, row in table), "key")


def test_fields_of_a_later_version_are_kept() -> None:
    row = committed() | {"colour_of_the_sky": {"blue": [1, 2]}, "host": "a", "crf": 23.5}
    cell = rows.checked(row)
    assert cell.extra == {"colour_of_the_sky": {"blue": [1, 2]}}
    assert (cell.host, cell.crf) == ("a", 23.5)
    assert json.loads(json.dumps(rows.to_row(cell) | row)) == json.loads(
        json.dumps(rows.to_row(cell))
    )


@pytest.mark.parametrize(
    ("change", "what"),
    [
        ({"vmaf_score": 150}, "vmaf_score is 150; a VMAF score is 0..100"),
        ({"vmaf_score": "91"}, "vmaf_score is '91'; it must be a number or null"),
        ({"vmaf_score": None}, "the row is ok and has no vmaf_score"),
        ({"vmaf_min": -1}, "vmaf_min is -1; a VMAF score is 0..100"),
        ({"num_frames": 0}, "num_frames is 0; a cell has at least one frame"),
        ({"num_frames": 2.5}, "num_frames is 2.5; it must be a whole number or null"),
        ({"bitrate_kbps": -5}, "bitrate_kbps is -5; a measured bitrate is more than 0"),
        ({"encoder": None}, "the row is ok and has no encoder"),
        ({"status": "done"}, "status is 'done'; a row is ok or failed"),
        ({"flags": "vfr"}, "flags is 'vfr'; it must be a list"),
        ({"flags": [1]}, r"flags \(at \[0\]\) is \[1\]; it must be a text"),
        ({"crf": True}, "crf is True; it must be a whole number or a number or null"),
        ({"schema_version": 99}, "schema_version is 99, and this vmaf-tune knows 1"),
        ({"per_frame_features": {}}, "no finite value of adm2, .*motion2; a row needs all six"),
        ({"key": None}, "key is None; it must be a text"),
    ],
)
def test_damage_is_named_with_file_line_and_field(change: dict[str, Any], what: str) -> None:
    with pytest.raises(DatasetError, match=rf"^a/cells.jsonl:3: {what}"):
        rows.typed(Path("a/cells.jsonl"), 3, committed() | change)


def test_the_way_out_of_a_damaged_row_is_the_command_of_its_sweep(tmp_path: Path) -> None:
    (tmp_path / "sweep.json").write_text(json.dumps({"argv": ["/x/vmaf-tune", "corpus", "a b"]}))
    with pytest.raises(DatasetError, match="; run `vmaf-tune corpus 'a b'`, which measures that"):
        rows.typed(tmp_path / "cells.jsonl", 3, committed() | {"num_frames": 0})


@pytest.mark.parametrize(
    "line", ["[" * 100_000, '{"a":' * 100_000, "1e999", '{"a": NaN}', "[]", "3", "\0", '"\udcff"']
)
def test_a_line_that_is_no_row_is_a_value_error(line: str) -> None:
    with pytest.raises(ValueError, match=r"not a JSON line|must be a JSON object"):
        rows.parse(line.encode(errors="surrogateescape"))


def test_kinds_of_failures_that_another_version_wrote_are_read() -> None:
    error = {"class": "eaten_by_a_dog", "message": "woof", "exit_code": 1}
    cell = rows.checked(committed() | {"status": "failed", "error": error})
    assert cell.error is not None
    assert (cell.error.kind, cell.error.message) == (rows.FailureKind.OTHER, "woof")
