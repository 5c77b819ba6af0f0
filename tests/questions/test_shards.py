"""Parts of a sweep for machines that know nothing of each other."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from vmaftune.errors import UsageError
from vmaftune.questions.shards import Shard, parse_shard, part_of
from vmaftune.request.cells import Plan


@pytest.fixture
def plan(clip: Callable[..., Path], planned: Callable[..., Plan]) -> Plan:
    """Eleven sources of different length, four cells each."""
    one = planned(clip("asked.mkv"), quality="30:36:2")
    windows = [
        replace(one.sources[0], name=f"film{i}", expected_frames=10 + 7 * i) for i in range(11)
    ]
    cells = tuple(replace(c, window=w) for w in windows for c in one.cells)
    return replace(one, cells=cells, sources=tuple(windows))


@pytest.mark.parametrize("count", [1, 2, 3, 8, 11])
def test_the_parts_are_the_whole_and_no_source_is_divided(count: int, plan: Plan) -> None:
    parts = [part_of(plan, Shard(number=n, count=count)) for n in range(1, count + 1)]
    ids = [cell.id for part in parts for cell in part.cells]
    assert sorted(ids) == sorted(cell.id for cell in plan.cells)
    names = [window.name for part in parts for window in part.sources]
    assert len(names) == len(set(names)) == 11
    again = part_of(plan, Shard(number=1, count=count))
    assert [c.id for c in again.cells] == [c.id for c in parts[0].cells]


def test_parts_cost_about_the_same(plan: Plan) -> None:
    costs = [
        sum(c.expected_encode_s + c.expected_score_s for c in part.cells)
        for part in (part_of(plan, Shard(number=n, count=3)) for n in (1, 2, 3))
    ]
    assert max(costs) <= 1.15 * min(costs)


def test_more_parts_than_sources_are_refused(plan: Plan) -> None:
    with pytest.raises(UsageError, match="11 sources, which are not divided; use fewer parts"):
        part_of(plan, Shard(number=12, count=12))


@pytest.mark.parametrize("text", ["0/3", "4/3", "3", "a/b", "1/0", "-1/3", "1/2/3"])
def test_what_is_no_part_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="--shard takes NUMBER/COUNT such as 3/8"):
        parse_shard(text)


def test_a_part_has_a_folder_of_its_own(clip: Callable[..., Path], tool: Any) -> None:
    places = [clip(f"part {i}.mkv", frames=4 + i) for i in range(2)]
    args = ("corpus", *places, "--encoders", "x264", "--quality", "30", "--dry-run", "--json")
    folders = [
        json.loads(tool.run(*args, *more).stdout)
        for more in ((), ("--shard", "1/2"), ("--shard", "2/2"))
    ]
    whole = folders[0]["folder"]
    assert [f["folder"] for f in folders] == [whole, f"{whole}-1of2", f"{whole}-2of2"]
    assert [f["num_cells"] for f in folders] == [2, 1, 1]
