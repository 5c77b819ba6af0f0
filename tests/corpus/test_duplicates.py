"""Groups that show the same pictures are found, and unrelated ones are not."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from corpora import doubled
from vmaf_train.corpus import duplicates
from vmaf_train.corpus.synthetic import write_corpus

ROOT = Path(__file__).parents[2]
CORPUS = ROOT / "runs/phase_a/software"


@pytest.fixture(scope="module")
def motion() -> dict[str, Any]:
    """motion2 of each window of the committed corpus."""
    found: dict[str, Any] = {}
    real = duplicates.compare
    with pytest.MonkeyPatch.context() as patch:

        def keep(series: Any, groups: Any) -> Any:
            found.update(series)
            return real(series, groups)

        patch.setattr(duplicates, "compare", keep)
        assert duplicates.find(CORPUS) == duplicates.Likeness(twins=(), unjudged=())
    return found


def test_the_committed_corpus_has_18_windows_that_differ(motion: dict[str, Any]) -> None:
    assert len(motion) == 18 and all(len(series) in (60, 100) for series in motion.values())
    sets = {name: duplicates._distinct(series) for name, series in motion.items()}
    shared = [
        len(sets[a] & sets[b]) / min(len(sets[a]), len(sets[b]))
        for a in sets
        for b in sets
        if a < b
    ]
    assert max(shared) < 0.03


CHANGES: dict[str, Callable[[Any], Any]] = {
    "remuxed": lambda series: series,
    "cut elsewhere": lambda series: series[17:],
    "a part": lambda series: series[20:70],
    "encoded again": lambda series: series * (1.01 + 0.01 * np.sin(np.arange(len(series)))),
}


@pytest.mark.parametrize("change", CHANGES)
def test_one_clip_in_two_groups_is_found(motion: dict[str, Any], change: str) -> None:
    # The others are one group: that no two of them are twins, `motion` has found once.
    others = dict.fromkeys(motion, "others")
    for name, series in motion.items():
        moved = {**motion, "copy": CHANGES[change](series)}
        found = duplicates.compare(moved, {**others, name: name, "copy": "copy"})
        assert [{pair.first, pair.second} for pair in found.twins] == [{"copy", name}], change
        assert "give both the same group" in found.twins[0].sentence
        same = duplicates.compare(moved, {**others, name: name, "copy": name})
        assert not same.twins


def test_a_window_without_motion_is_not_judged_and_that_is_said() -> None:
    still, moving = np.zeros(50), np.sin(np.arange(50.0)) + 2
    groups = {name: name for name in "abc"}
    found = duplicates.compare({"a": still, "b": still, "c": moving}, groups)
    assert not found.twins and found.unjudged == ("a", "b")
    assert "a, b: fewer than 10 different values of motion2" in str(found.note)


@pytest.mark.parametrize("kept", ["frames", "frames alone", "cells alone"])
def test_rows_of_one_source_under_two_names_are_found(tmp_path: Path, kept: str) -> None:
    folder = doubled(write_corpus(tmp_path / "corpus", num_sources=3, num_frames=14))
    if kept == "cells alone":
        (folder / "frames.jsonl").unlink()
    path = folder / "frames.jsonl" if kept == "frames alone" else folder
    if kept == "frames alone":
        (folder / "cells.jsonl").unlink()
    (pair,) = duplicates.find(path).twins
    assert {pair.first, pair.second} == {"copy", "smoke00"}


def test_frames_in_several_files_are_all_compared(tmp_path: Path) -> None:
    folder = doubled(write_corpus(tmp_path / "corpus", num_sources=3, num_frames=14))
    lines = (folder / "frames.jsonl").read_text().splitlines(keepends=True)
    rows = pd.DataFrame([json.loads(line) for line in lines])
    (folder / "frames").mkdir()
    # The copy, which comes last, lies in the growing end; one cell of a shard lies there as well.
    shard = rows[rows["src"] != "copy"]
    shard.to_parquet(folder / "frames/000001.parquet")
    rest = [line for line in lines if '"copy"' in line or f'"{shard["key"].min()}"' in line]
    (folder / "frames.jsonl").write_text("".join(rest))
    (pair,) = duplicates.find(folder).twins
    assert {pair.first, pair.second} == {"copy", "smoke00"}
    (folder / "frames.jsonl").unlink()
    assert "copy" in duplicates.find(folder).unjudged
