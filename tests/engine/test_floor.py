"""Who does what on several machines: no Dask, no ffmpeg."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from vmaftune.cell import Window
from vmaftune.engine.attempts import Attempt
from vmaftune.engine.executor import CPU, Stage, Task
from vmaftune.engine.floor import MOST_LOSSES, TOO_MANY, Floor, Place, slots_of
from vmaftune.engine.references import reference_bytes
from vmaftune.request.cells import Plan


def nothing(_: Any, value: Any) -> Any:
    return value


@pytest.fixture
def windows(clip: Callable[..., Path], planned: Callable[..., Plan]) -> list[Window]:
    (window,) = planned(clip("asked.mkv")).sources
    return [replace(window, name=str(i), sha256=str(i)) for i in range(4)]


def task(name: str, window: Window | None, lane: str = CPU, cost: float = 1.0) -> Task:
    stages = (
        Stage(name="encode", lane=lane, cost_s=cost, run=nothing),
        Stage(name="score", lane=CPU, cost_s=1.0, run=nothing),
    )
    return Task(id=name, stages=stages, window=window, uses="x")


def place(name: str, able: frozenset[str] | None = None, **slots: int) -> Place:
    return Place(name=name, slots=slots or {CPU: 1}, able=able, budget_bytes=10**9)


def test_a_place_stays_with_its_windows_and_opens_what_the_fewest_have(
    windows: list[Window],
) -> None:
    floor = Floor()
    floor.add(task(f"{w.name}/{i}", w, cost=i) for w in windows[:2] for i in range(3))
    for name in ("a", "b", "c"):
        floor.join(place(name))
    begun = [floor.take(name) for name in ("a", "b", "c")]
    assert [b and b.task.id for b in begun] == ["0/2", "1/2", "0/1"]
    for attempt in begun:
        assert attempt is not None and floor.done(attempt, None)
    again = floor.take("b")
    assert again is not None and again.task.id == "1/1", "the window that it has"


def test_hardware_goes_where_its_lane_is_and_hands_over_to_a_core_of_the_same_place(
    windows: list[Window],
) -> None:
    floor = Floor()
    floor.add([task("hard", windows[0], "nvenc"), task("soft", windows[0])])
    floor.join(place("cpu"))
    floor.join(place("gpu", cpu=1, nvenc=1))
    soft = floor.take("cpu")
    assert soft is not None and soft.task.id == "soft" and (soft.step, soft.end) == (0, 2)
    hard = floor.take("gpu")
    assert hard is not None and (hard.lane, hard.step, hard.end) == ("nvenc", 0, 1)
    assert not floor.done(hard, "encoded")
    scoring = floor.take("gpu")
    assert scoring is not None
    assert (scoring.lane, scoring.step, scoring.value) == (CPU, 1, "encoded")
    assert floor.done(scoring, None)


def test_hardware_pauses_when_the_cores_cannot_follow(windows: list[Window]) -> None:
    floor = Floor()
    floor.add(task(str(i), windows[0], "nvenc") for i in range(2 * TOO_MANY))
    floor.join(place("gpu", cpu=1, nvenc=1))
    while (attempt := floor.take("gpu")) and attempt.lane == "nvenc":
        floor.places["gpu"].busy[CPU] = 1  # the one core is at work
        assert not floor.done(attempt, None)
    assert len(floor.places["gpu"].handed_over) == TOO_MANY


def test_what_is_lost_three_times_is_given_up(windows: list[Window]) -> None:
    floor = Floor()
    floor.add([task("fatal", windows[0], cost=9), task("other", windows[0])])
    for number in range(MOST_LOSSES):
        floor.join(place(str(number)))
        attempt = floor.take(str(number))
        assert attempt is not None and attempt.task.id == "fatal"
        given_up = floor.leave(str(number))
        assert [t.id for t in given_up] == (["fatal"] if number == MOST_LOSSES - 1 else [])
    assert floor.leave("nobody") == []
    floor.join(place("last"))
    left = floor.take("last")
    assert left is not None and left.task.id == "other"


def test_a_place_without_an_encoder_gets_no_cell_of_it(windows: list[Window]) -> None:
    floor = Floor()
    floor.add([task("a", windows[0])])
    floor.join(place("old", able=frozenset({"y"})))
    assert floor.take("old") is None
    assert floor.wanted() == {"x"}
    floor.join(place("new", able=frozenset({"x"})))
    assert floor.take("new") is not None


def test_no_more_windows_are_in_use_than_have_room(windows: list[Window]) -> None:
    floor = Floor()
    floor.add(task(w.name, w) for w in windows)
    one = place("one", cpu=4)
    one.budget_bytes = 2 * reference_bytes(windows[0])
    floor.join(one)
    first, second = floor.take("one"), floor.take("one")
    assert first and second and floor.take("one") is None
    floor.done(first, None)
    assert floor.take("one") is not None


@pytest.mark.parametrize("seed", range(20))
def test_every_task_ends_once_whatever_happens(seed: int, windows: list[Window]) -> None:
    chance = random.Random(seed)
    floor = Floor()
    tasks = [
        task(str(i), chance.choice([*windows, None]), chance.choice([CPU, "nvenc"]))
        for i in range(60)
    ]
    floor.add(tasks)
    ended: list[str] = []
    running: dict[int, Attempt] = {}
    names = iter(range(10**6))
    floor.join(place("gpu", cpu=1, nvenc=2))
    while len(ended) < len(tasks):
        if chance.random() < 0.1 or not floor.places:
            kinds = chance.choice([{"cpu": 2}, {"cpu": 1, "nvenc": 2}])
            floor.join(place(str(next(names)), **kinds))
        for name in list(floor.places):
            while attempt := floor.take(name):
                running[attempt.number] = attempt
        running = {n: a for n, a in running.items() if n in floor.running}
        if chance.random() < 0.1 and floor.places:
            ended += [t.id for t in floor.leave(chance.choice(sorted(floor.places)))]
        elif running:
            attempt = running.pop(chance.choice(sorted(running)))
            what = chance.random()
            if what < 0.1:
                floor.again(attempt)
            elif what < 0.2:
                floor.end(attempt)
                ended.append(attempt.task.id)
            elif floor.done(attempt, None):
                ended.append(attempt.task.id)
    assert sorted(ended) == sorted(t.id for t in tasks)
    assert not floor.running


def test_slots_of_a_worker() -> None:
    assert slots_of(20, {"nvenc": 4}) == {CPU: 16, "nvenc": 4}
    assert slots_of(2, {"nvenc": 4.0, "memory": 0}) == {CPU: 1, "nvenc": 4}
