"""Rows: poolings against numpy, repair of files, canonical numbers."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from vmaf_train.contract import FEATURES
from vmaftune.engine.folder import Writer, latest_rows, lock, number, pool, read_jsonl, write_json
from vmaftune.errors import FolderError, UsageError
from vmaftune.media.score import Frame

SCORE = st.floats(0, 100, allow_nan=False)


def frames(scores: list[float]) -> list[Frame]:
    return [
        Frame(index=i, vmaf=s, vmaf_unclipped=s, features=tuple(s / (n + 1) for n in range(6)))
        for i, s in enumerate(scores)
    ]


@given(st.lists(SCORE, min_size=1, max_size=60))
def test_poolings_are_numpys(scores: list[float]) -> None:
    found = pool(frames(scores))
    values = np.array(scores)
    assert found["vmaf_score"] == pytest.approx(values.mean(), abs=1e-9)
    assert found["vmaf_min"] == values.min()
    assert found["vmaf_p5"] == pytest.approx(np.percentile(values, 5), abs=1e-9)
    assert found["vmaf_harmonic_mean"] == pytest.approx(1 / np.mean(1 / (values + 1)) - 1, abs=1e-7)
    assert list(found["per_frame_features"]) == list(FEATURES)
    assert found["per_frame_features"]["motion2"] == pytest.approx((values / 6).mean(), abs=1e-9)


def ok(key: str, cell: str = "a/b/c/1") -> dict[str, object]:
    return {"cell": cell, "key": key, "status": "ok"}


def test_frames_come_before_their_row_and_survive_a_reopening(tmp_path: Path) -> None:
    writer = Writer(tmp_path)
    writer.append(ok("k1"), [{"key": "k1", "frame_index": 0}, {"key": "k1", "frame_index": 1}])
    writer.append({**ok("k2", "a/b/c/2"), "status": "failed"})
    again = Writer(tmp_path)
    assert again.notices == []
    assert len(list(read_jsonl(tmp_path / "frames.jsonl"))) == 2
    assert [r["key"] for r in latest_rows(tmp_path).values()] == ["k1", "k2"]


def test_every_cut_of_a_run_is_repaired(tmp_path: Path) -> None:
    """The frames file, cut at each of its bytes while the last cell has no row, opens to the frames
    of the cells that have.
    """
    writer = Writer(tmp_path)
    writer.append(ok("k1"), [{"key": "k1", "frame_index": i} for i in range(2)])
    kept = (tmp_path / "frames.jsonl").read_bytes()
    whole = kept + b'{"key": "k2", "frame_index": 0}\n{"key": "k2", "frame_index": 1}\n'
    for end in range(len(kept), len(whole) + 1):
        (tmp_path / "frames.jsonl").write_bytes(whole[:end])
        assert bool(Writer(tmp_path).notices) == (end > len(kept))
        assert (tmp_path / "frames.jsonl").read_bytes() == kept
    row = (tmp_path / "cells.jsonl").read_bytes()
    for end in range(len(row)):
        (tmp_path / "cells.jsonl").write_bytes(row[:end])
        (tmp_path / "frames.jsonl").write_bytes(kept)
        Writer(tmp_path)
        assert (tmp_path / "cells.jsonl").read_bytes() == b""
        assert (tmp_path / "frames.jsonl").read_bytes() == b""


def test_a_long_torn_line_is_found(tmp_path: Path) -> None:
    (tmp_path / "cells.jsonl").write_bytes(json.dumps(ok("k")).encode() + b"\n" + b"x" * 200_000)
    assert len(Writer(tmp_path).notices) == 1
    assert list(latest_rows(tmp_path)) == ["a/b/c/1"]


@pytest.mark.parametrize("line", ["[]", "3", '{"cell": 1}', "{", "\0"])
def test_a_line_that_is_no_row_is_named(line: str, tmp_path: Path) -> None:
    text = json.dumps(ok("k"))
    (tmp_path / "cells.jsonl").write_text(f"{text}\n{line}\n{text}\n")
    with pytest.raises(UsageError, match=r"cells\.jsonl, line 2 "):
        Writer(tmp_path)


def test_nan_never_reaches_a_file(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="JSON"):
        Writer(tmp_path).append({**ok("k"), "vmaf_score": float("nan")})
    assert not (tmp_path / "cells.jsonl").exists()


def test_the_lock_names_its_holder_and_ends_with_it(tmp_path: Path) -> None:
    holder = lock(tmp_path)
    with pytest.raises(FolderError, match="is in use by process"):
        lock(tmp_path)
    holder.close()
    lock(tmp_path).close()


def test_documents_appear_whole(tmp_path: Path) -> None:
    write_json(tmp_path / "a.json", {"ü": 1})
    with pytest.raises(ValueError, match="JSON"):
        write_json(tmp_path / "a.json", {"x": float("inf")})
    assert json.loads((tmp_path / "a.json").read_text()) == {"ü": 1}


@pytest.mark.parametrize(("value", "text"), [(23.0, "23"), (23, "23"), (22.5, "22.5")])
def test_quality_values_are_json_numbers(value: float, text: str) -> None:
    assert json.dumps(number(value)) == text
