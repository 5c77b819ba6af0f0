"""Rows: poolings against numpy, repair of files, canonical numbers."""

from __future__ import annotations

import json
import os
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from forged import failed, latest_rows, measured, read_jsonl, write_folder, write_jsonl
from hypothesis import given
from hypothesis import strategies as st
from vmaf_train.contract import FEATURES
from vmaf_train.corpus.digests import digest
from vmaf_train.corpus.frames import digest_of_frames, files_of, read_frames, units_in_shard
from vmaf_train.corpus.ids import number
from vmaf_train.corpus.ledger import read_ledger
from vmaf_train.errors import DatasetError
from vmaf_train.files import write_json
from vmaftune.engine.folder import Writer, pool
from vmaftune.media.libvmaf_log import Frame

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


def test_frames_come_before_their_row_and_survive_a_reopening(tmp_path: Path) -> None:
    writer = Writer(tmp_path)
    writer.append(*measured("a/libx264/fast/1"))
    writer.append(*failed("a/libx264/fast/2"))
    again = Writer(tmp_path)
    assert (again.notices, dict(again.damaged)) == ([], {})
    assert len(list(read_jsonl(tmp_path / "frames.jsonl"))) == 2
    assert [r["status"] for r in latest_rows(tmp_path).values()] == ["ok", "failed"]


def test_every_cut_of_a_run_is_repaired(tmp_path: Path) -> None:
    """The frames file, cut at each of its bytes while the last cell has no row, opens to the frames
    of the cells that have.
    """
    Writer(tmp_path).append(*measured("a/libx264/fast/1"))
    kept = (tmp_path / "frames.jsonl").read_bytes()
    _, more = measured("a/libx264/fast/2")
    whole = kept + "".join(json.dumps(frame) + "\n" for frame in more).encode()
    for end in (*range(len(kept), len(whole), 13), len(whole) - 1, len(whole)):
        (tmp_path / "frames.jsonl").write_bytes(whole[:end])
        assert bool(Writer(tmp_path).notices) == (end > len(kept))
        assert (tmp_path / "frames.jsonl").read_bytes() == kept
    row = (tmp_path / "cells.jsonl").read_bytes()
    for end in range(0, len(row), 61):
        (tmp_path / "cells.jsonl").write_bytes(row[:end])
        (tmp_path / "frames.jsonl").write_bytes(kept)
        Writer(tmp_path)
        assert (tmp_path / "cells.jsonl").read_bytes() == b""
        assert (tmp_path / "frames.jsonl").read_bytes() == b""


def test_a_long_torn_line_is_found(tmp_path: Path) -> None:
    row, frames = measured()
    write_folder(tmp_path, [(row, frames)])
    with (tmp_path / "cells.jsonl").open("ab") as file:
        file.write(b"x" * 200_000)
    assert len(Writer(tmp_path).notices) == 1
    assert list(latest_rows(tmp_path)) == [row["cell"]]


@pytest.mark.parametrize("line", ["[]", "3", '{"cell": 1}', "{", "\0"])
def test_a_line_that_is_no_row_is_named(line: str, tmp_path: Path) -> None:
    row, _ = measured()
    text = json.dumps(row)
    (tmp_path / "cells.jsonl").write_text(f"{text}\n{line}\n{text}\n")
    with pytest.raises(DatasetError, match=r"cells\.jsonl:2: .*; correct or delete that line"):
        Writer(tmp_path)


CELLS = [measured(f"a/libx264/fast/{q}", [90.0 - q, 80.0 + q / 7, 70.5]) for q in range(6)]


def spoil(folder: Path, name: str, change: Callable[[list[Any]], None]) -> None:
    """Change the rows of a file."""
    table = [json.loads(line) for line in (folder / name).read_text().splitlines()]
    change(table)
    write_jsonl(folder / name, table)


def lose_frame(frames: list[Any]) -> None:
    del frames[4]


def lose_cell(frames: list[Any]) -> None:
    del frames[3:6]


def double_cell(frames: list[Any]) -> None:
    frames[6:6] = frames[3:6]


def change_score(frames: list[Any]) -> None:
    frames[4]["vmaf"] += 0.01


def change_feature(frames: list[Any]) -> None:
    frames[4]["motion2"] += 1


def change_index(frames: list[Any]) -> None:
    frames[4]["frame_index"] = 2


def change_row(rows: list[Any]) -> None:
    rows[1]["vmaf_score"] = 20


def change_pooling(rows: list[Any]) -> None:
    rows[1]["vmaf_p5"] -= 0.5


def spoil_count(rows: list[Any]) -> None:
    rows[1]["num_frames"] = 0


def spoil_score(rows: list[Any]) -> None:
    rows[1]["vmaf_score"] = "high"


def spoil_status(rows: list[Any]) -> None:
    rows[1]["status"] = "done"


DAMAGE = [
    ("frames.jsonl", lose_frame, "the cell has 2 of its 3 frames"),
    ("frames.jsonl", lose_cell, "the cell has none of its frames"),
    ("frames.jsonl", double_cell, "the cell has 6 frames, and its row says num_frames 3"),
    ("frames.jsonl", change_score, "vmaf_score is .*, and its frames give"),
    ("frames.jsonl", change_feature, "motion2 is .*, and its frames give"),
    ("frames.jsonl", change_index, "the cell has 3 frames, and its row says num_frames 3, each"),
    ("cells.jsonl", change_row, "vmaf_score is 20.000000, and its frames give"),
    ("cells.jsonl", change_pooling, "vmaf_p5 is .*, and its frames give"),
    ("cells.jsonl", spoil_count, "num_frames is 0; a cell has at least one frame"),
    ("cells.jsonl", spoil_score, "vmaf_score is 'high'; it must be a number"),
    ("cells.jsonl", spoil_status, "status is 'done'; a row is ok or failed"),
]


@pytest.mark.parametrize("is_remembered", [True, False])
@pytest.mark.parametrize(("name", "change", "what"), DAMAGE)
def test_a_damaged_cell_is_given_up_and_measured_again(
    tmp_path: Path, name: str, change: Callable[[list[Any]], None], what: str, is_remembered: bool
) -> None:
    write_folder(tmp_path, CELLS)
    if is_remembered:
        Writer(tmp_path).close()
    spoil(tmp_path, name, change)
    row, frames = CELLS[1]
    unit = (row["key"], row["cell"])
    for _ in range(2):  # it stays damaged until it is measured again
        writer = Writer(tmp_path)
        assert list(writer.damaged) == [unit]
        assert re.search("1 finished cell is damaged and measured again, first", writer.notices[0])
        assert read_ledger(tmp_path).finished(row["cell"], row["key"]) is None
        what_now = what if "row" in what or name == "cells.jsonl" else ""
        if what_now and not writer.notices[0].endswith("none of its frames"):
            assert re.search(what, writer.notices[0])
    writer.append(row, frames)
    writer.close()
    assert not Writer(tmp_path).notices
    found = read_ledger(tmp_path, everything=True)
    assert not found.damaged and len(found.units) == 6
    assert found.finished(row["cell"], row["key"])


def test_what_was_checked_is_not_read_again(tmp_path: Path) -> None:
    write_folder(tmp_path, CELLS[:5])
    Writer(tmp_path).close()
    frames = tmp_path / "frames.jsonl"
    times = frames.stat()
    spoil(tmp_path, "frames.jsonl", lambda rows: rows[0].update(vmaf=rows[0]["vmaf"] - 1))
    os.utime(frames, ns=(times.st_atime_ns, times.st_mtime_ns))
    if frames.stat().st_size == times.st_size:
        assert not read_ledger(tmp_path).damaged
    assert read_ledger(tmp_path, everything=True).damaged


def test_a_bad_line_of_frames_costs_its_cell_and_nothing_else(tmp_path: Path) -> None:
    write_folder(tmp_path, CELLS)
    lines = (tmp_path / "frames.jsonl").read_text().splitlines(keepends=True)
    lines[4] = '{"key": 3}\n'
    (tmp_path / "frames.jsonl").write_text("".join(lines))
    with pytest.raises(DatasetError, match=r"frames\.jsonl:5: no frame row"):
        read_ledger(tmp_path)
    writer = Writer(tmp_path)
    assert "frames.jsonl: 1 lines that are not frames were removed" in writer.notices
    assert [cell for _, cell in writer.damaged] == ["a/libx264/fast/1"]


def test_a_row_that_is_written_again_keeps_its_frames(tmp_path: Path) -> None:
    """The same key counts again when the tools come back that made it; its frames are there."""
    row, frames = CELLS[0]
    other, other_frames = measured(row["cell"], [50.0], key="other")
    writer = Writer(tmp_path)
    writer.append_many([(row, frames), (other, other_frames)])
    writer.close()
    Writer(tmp_path).append(row)
    assert not Writer(tmp_path).damaged
    assert not read_ledger(tmp_path, everything=True).damaged


def test_two_cells_of_one_key_have_their_own_frames(tmp_path: Path) -> None:
    """One picture under two names has one key."""
    write_folder(tmp_path, [measured(f"{n}/libx264/fast/1", key="same") for n in "ab"])
    assert not Writer(tmp_path).damaged


def test_a_kill_at_any_step_of_sealing_loses_nothing(tmp_path: Path) -> None:
    steps = 0
    for stop in range(1, 40):
        folder = tmp_path / str(stop)
        code = killed_after(stop, folder)
        if code == 0:
            break
        steps += 1
        assert code == 9
        before = len(latest_rows(folder))
        writer = Writer(folder, seal_bytes=2000)
        assert not writer.damaged and len(read_ledger(folder, everything=True).units) == before
        writer.append_many(CELLS[before:])
        assert not read_ledger(folder, everything=True).damaged
        table = read_frames(files_of(folder))
        assert len(table) == 18
        assert digest_of_frames(table) == digest(
            (f for _, c in CELLS for f in c), "key", "frame_index"
        )
        assert sum(len(read_frames([file])) for file in files_of(folder)) == 18
    assert steps > 12


def killed_after(count: int, folder: Path) -> int:
    """Write CELLS in a child that dies at its `count`th flush or rename; its exit code."""
    folder.mkdir()
    child = os.fork()
    if child:
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    try:
        left = [count]

        def dying(step: Callable[..., Any]) -> Callable[..., Any]:
            def run(*args: Any) -> Any:
                left[0] -= 1
                if not left[0]:
                    os._exit(9)
                return step(*args)

            return run

        os.fsync, os.replace = dying(os.fsync), dying(os.replace)
        writer = Writer(folder, seal_bytes=2000)
        for cells in (CELLS[:1], CELLS[1:4], CELLS[4:]):
            writer.append_many(cells)
    finally:
        os._exit(0 if sys.exc_info()[0] is None else 1)


def test_sealed_frames_are_read_and_damage_in_them_is_mended(tmp_path: Path) -> None:
    writer = Writer(tmp_path, seal_bytes=2000)
    for cell in CELLS:
        writer.append(*cell)
    writer.close()
    shards = sorted((tmp_path / "frames").glob("*.parquet"))
    assert len(shards) >= 2
    spoil(tmp_path, "cells.jsonl", change_row)
    again = Writer(tmp_path, seal_bytes=2000)
    assert [cell for _, cell in again.damaged] == ["a/libx264/fast/1"]
    assert len(read_frames(files_of(tmp_path))) == 15
    again.append(*CELLS[1])
    shards[0].write_bytes(b"PAR1 nonsense")
    third = Writer(tmp_path)
    assert third.damaged and "was renamed 000001.parquet.damaged" in third.notices[0]


def test_a_newest_shard_that_cannot_be_read_is_put_aside(tmp_path: Path) -> None:
    writer = Writer(tmp_path, seal_bytes=2000)
    for cell in CELLS:
        writer.append(*cell)
    writer.append(*measured("b/libx264/fast/1"))
    writer.close()
    assert (tmp_path / "frames.jsonl").stat().st_size
    newest = max((tmp_path / "frames").glob("*.parquet"))
    assert units_in_shard(newest) == set(read_frames([newest]).units()[0])
    newest.write_bytes(newest.read_bytes()[:200])
    again = Writer(tmp_path, seal_bytes=2000)
    assert again.damaged and f"was renamed {newest.name}.damaged" in again.notices[0]


def test_nan_never_reaches_a_file(tmp_path: Path) -> None:
    row, frames = measured()
    with pytest.raises(ValueError, match="JSON"):
        Writer(tmp_path).append(row | {"vmaf_score": float("nan")}, frames)
    assert not (tmp_path / "cells.jsonl").exists() and not (tmp_path / "frames.jsonl").exists()


def test_documents_appear_whole(tmp_path: Path) -> None:
    write_json(tmp_path / "a.json", {"ü": 1})
    with pytest.raises(ValueError, match="JSON"):
        write_json(tmp_path / "a.json", {"x": float("inf")})
    assert json.loads((tmp_path / "a.json").read_text()) == {"ü": 1}


@pytest.mark.parametrize(("value", "text"), [(23.0, "23"), (23, "23"), (22.5, "22.5")])
def test_quality_values_are_json_numbers(value: float, text: str) -> None:
    assert json.dumps(number(value)) == text
