"""Which windows are open: within the budget, not far ahead of the work, and never none."""

from __future__ import annotations

import random
import time
from collections import Counter
from types import SimpleNamespace
from typing import Any

import pytest
from made_up import window_of_film
from vmaftune.cell import Window
from vmaftune.engine.executor import CPU, Ended, Stage, Task
from vmaftune.engine.lanes import LaneExecutor
from vmaftune.engine.references import reference_bytes
from vmaftune.engine.room import need_bytes
from vmaftune.engine.windows import AHEAD_BYTES, Windows

FRAME = 640 * 360 * 3 // 2


def nothing(_: Any, value: Any) -> Any:
    return value


def cells(of: Window, count: int, lane: str = CPU, cost_s: float = 1.0) -> list[Task]:
    stage = Stage(name="encode", lane=lane, cost_s=cost_s, run=nothing)
    return [Task(id=f"{of.name}/{lane}/{i}", stages=(stage,), window=of) for i in range(count)]


def opened(windows: Windows) -> list[str]:
    return [window.name for window, _ in windows.ready()]


def test_windows_are_not_prepared_far_ahead_of_the_work() -> None:
    """Twelve windows of 4 s of 1080p are 3.6 GB, and two slots need two of them."""
    frames = AHEAD_BYTES // FRAME // 3
    size = reference_bytes(window_of_film(0, frames))
    film = [window_of_film(i, frames) for i in range(12)]
    windows = Windows(8 * AHEAD_BYTES, {CPU: 2})
    tasks = [task for one in film for task in cells(one, 4)]
    windows.add(tasks)
    assert opened(windows) == ["film@0", "film@1", "film@2"]
    begun = [windows.began(task) for task in tasks[:12]]
    assert begun == [False] * 10 + [True] * 2, "with one task left for two slots"
    assert opened(windows) == ["film@3"]
    assert [windows.ended(film[0]) for _ in range(4)] == [False, False, False, True]
    assert opened(windows) == [], "four tasks are not begun"
    need = need_bytes(film, 8 * AHEAD_BYTES, 2)
    assert need < 12 * size and need_bytes(film, 8 * AHEAD_BYTES) > 12 * size
    assert need_bytes(film[:1], 8 * AHEAD_BYTES, 2) < 2 * size


def test_a_lane_without_tasks_opens_windows_up_to_the_budget() -> None:
    frames = AHEAD_BYTES // FRAME
    windows = Windows(3 * AHEAD_BYTES, {CPU: 1, "nvenc:0": 1})
    windows.add([t for i in range(3) for t in cells(window_of_film(i, frames), 9)])
    windows.add([t for i in range(3, 6) for t in cells(window_of_film(i, frames), 9, "nvenc:0")])
    assert opened(windows) == ["film@0", "film@3"], "one for each lane"
    for task in cells(window_of_film(3, frames), 9, "nvenc:0"):
        windows.began(task)
    assert opened(windows) == ["film@4"]
    for task in cells(window_of_film(4, frames), 9, "nvenc:0"):
        windows.began(task)
    assert opened(windows) == [], "the budget is a limit for every lane"


def test_new_tasks_of_an_open_window_start_at_once() -> None:
    windows = Windows(1, {CPU: 1})
    one, other = window_of_film(0), window_of_film(1)
    windows.add([*cells(one, 1), *cells(other, 1)])
    assert opened(windows) == ["film@0"], "alone it may be longer than the budget"
    windows.add([Task(id="more", stages=cells(one, 1)[0].stages, window=one)])
    assert opened(windows) == ["film@0"]
    assert [windows.ended(one), windows.ended(one)] == [False, True]
    assert opened(windows) == ["film@1"]


@pytest.mark.parametrize("seed", range(20))
def test_any_windows_stay_within_the_budget_and_all_get_their_turn(seed: int) -> None:
    chance = random.Random(seed)
    budget = chance.randint(1, 60) * FRAME
    slots = {CPU: chance.randint(1, 3), "nvenc:0": chance.randint(1, 3)}
    windows = Windows(budget, slots)
    left: Counter[str] = Counter()
    used: dict[str, Window] = {}
    begun: list[Task] = []
    waiting = [window_of_film(i, chance.randint(1, 40)) for i in range(30)]
    num_ended = 0
    num_asked = 0
    while waiting or num_ended < num_asked:
        for one in [waiting.pop() for _ in range(min(len(waiting), chance.randint(0, 4)))]:
            lane = chance.choice([CPU, "nvenc:0"])
            more = cells(one, chance.randint(1, 5), lane, chance.random())
            num_asked += len(more)
            windows.add(more)
        for one, tasks in windows.ready():
            used[one.name] = one
            left[one.name] += len(tasks)
            begun += tasks
        total = sum(reference_bytes(one) for one in used.values())
        assert total <= budget or len(used) == 1
        if not begun:
            assert waiting, "nothing is open, and nothing opens"
            continue
        task = begun.pop(chance.randrange(len(begun)))
        assert task.window is not None
        windows.began(task)
        left[task.window.name] -= 1
        last = windows.ended(task.window)
        assert last == (left[task.window.name] == 0)
        if last:
            del left[task.window.name], used[task.window.name]
        num_ended += 1
    assert not left and not windows.ready()


def executor_ms(count: int) -> float:
    """CPU milliseconds that the executor takes for a cell that does nothing; ten to a window."""
    tasks = [task for n in range(count // 10) for task in cells(window_of_film(n), 10)]
    references = SimpleNamespace(
        budget_bytes=2**33, has=lambda window: True, drop=lambda window: None
    )
    executor = LaneExecutor({CPU: 4})
    executor.start(SimpleNamespace(references=references))  # type: ignore[arg-type]
    begin = time.process_time()
    try:
        executor.submit(tasks)
        ended = sum(isinstance(event, Ended) for batch in executor.events() for event in batch)
    finally:
        executor.close()
    assert ended == len(tasks)
    return 1000 * (time.process_time() - begin) / count


def test_the_cost_of_a_cell_does_not_grow_with_the_number_of_windows() -> None:
    small = min(executor_ms(2_000) for _ in range(3))
    large = min(executor_ms(8_000) for _ in range(3))
    assert large < 2.5 * small, f"{small:.4f} ms a cell of 2,000, {large:.4f} of 8,000"
