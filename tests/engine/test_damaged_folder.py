"""A damaged run folder from end to end: train refuses it with the command that mends it, and that
command does.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from vmaf_train.corpus import dataset
from vmaf_train.errors import DatasetError


def spoil_frames(folder: Path) -> None:
    lines = (folder / "frames.jsonl").read_text().splitlines(keepends=True)
    (folder / "frames.jsonl").write_text("".join(lines[3:]))


def spoil_score(folder: Path) -> None:
    rows = [json.loads(line) for line in (folder / "cells.jsonl").read_text().splitlines()]
    rows[0]["vmaf_score"] = 20
    (folder / "cells.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))


@pytest.mark.parametrize("spoil", [spoil_frames, spoil_score])
def test_what_train_refuses_the_sweep_measures_again(
    swept: Callable[..., Any],
    clip: Callable[..., Path],
    without_times: Callable[[Any], Any],
    spoil: Callable[[Path], None],
) -> None:
    film = clip("spoilt.mkv")
    first = swept(film, quality="25,35")
    spoil(first.folder)
    for per_frame in (False, True):
        with pytest.raises(DatasetError, match=r"cells\.jsonl:\d: .*; run `vmaf-tune"):
            dataset.load(first.folder, per_frame=per_frame)
    again = swept(film, quality="25,35", out=first.folder)
    (told,) = [e["message"] for e in again.events if "damaged" in e.get("message", "")]
    assert told.startswith("1 finished cell is damaged and measured again, first spoilt/libx264/")
    assert sum(event["event"] == "cell" for event in again.events) == 1
    assert without_times(again) == without_times(first)
    assert len(dataset.load(first.folder, per_frame=True)) == 20


def test_frames_that_are_gone_altogether_are_noticed(
    swept: Callable[..., Any], clip: Callable[..., Path]
) -> None:
    film = clip("spoilt.mkv")
    first = swept(film, quality="25,35")
    (first.folder / "frames.jsonl").unlink()
    with pytest.raises(DatasetError, match="none of its frames.*2 cells are damaged"):
        dataset.load(first.folder, per_frame=False)
    again = swept(film, quality="25,35", out=first.folder)
    assert sum(event["event"] == "cell" for event in again.events) == 2


def test_a_row_that_lost_its_key_is_measured_again_and_has_its_frames_once(
    swept: Callable[..., Any], clip: Callable[..., Path]
) -> None:
    film = clip("spoilt.mkv")
    first = swept(film, quality="25,35")
    file = first.folder / "cells.jsonl"
    rows = [json.loads(line) for line in file.read_text().splitlines()]
    rows[0]["key"] = "f" * len(rows[0]["key"])
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    again = swept(film, quality="25,35", out=first.folder)
    assert any("frames without a finished cell" in e.get("message", "") for e in again.events)
    for cell in again.rows:
        assert len(again.frames_of(cell)) == len(first.frames_of(cell)) == 10
    assert len(dataset.load(first.folder, per_frame=True)) == 20


def test_two_scores_of_a_frame_that_do_not_agree(
    swept: Callable[..., Any], clip: Callable[..., Path]
) -> None:
    film = clip("spoilt.mkv")
    first = swept(film, quality="25,35")
    file = first.folder / "frames.jsonl"
    frames = [json.loads(line) for line in file.read_text().splitlines()]
    frames[3]["vmaf_unclipped"] += 5
    file.write_text("".join(json.dumps(frame) + "\n" for frame in frames))
    with pytest.raises(DatasetError, match="vmaf is not its vmaf_unclipped, cut to 0 to 100"):
        dataset.load(first.folder, per_frame=False)
    again = swept(film, quality="25,35", out=first.folder)
    assert sum(event["event"] == "cell" for event in again.events) == 1
