"""The board against its model that looks at every job, and what a choice costs."""

from __future__ import annotations

import random
from typing import Any

import pytest
from bench_board import board_ms
from brute_board import BruteBoard
from vmaftune.engine.board import Board, Job
from vmaftune.engine.executor import CPU, Stage, Task

LANES = ("nvenc:0", "nvenc:1", "qsv:0", "score:cuda")


def nothing(_: Any, value: Any) -> Any:
    return value


def random_stage(chance: random.Random, name: str, lanes: list[str]) -> Stage:
    lane, *others = chance.sample(lanes, chance.randint(1, min(2, len(lanes))))
    return Stage(
        name=name,
        lane=lane,
        cost_s=chance.choice([0.0, 1.0, chance.random()]),
        run=nothing,
        others=dict.fromkeys(others, nothing),
    )


def random_tasks(chance: random.Random, first: int, count: int, lanes: list[str]) -> list[Task]:
    """Tasks that wait for any of the tasks before them, ended or not."""
    tasks = []
    for number in range(first, first + count):
        earlier = [str(n) for n in range(number)]
        after = chance.sample(earlier, min(len(earlier), chance.choice([0, 0, 0, 1, 3])))
        stages = [random_stage(chance, str(i), lanes) for i in range(chance.randint(1, 3))]
        is_first = chance.random() < 0.1
        tasks.append(
            Task(id=str(number), stages=tuple(stages), after=frozenset(after), first=is_first)
        )
    return tasks


class Both:
    """The board and its model, asked the same."""

    def __init__(self, tasks: list[Task], lanes: dict[str, int]) -> None:
        self.board, self.model = Board(tasks, lanes), BruteBoard(tasks, lanes)
        self.running: list[tuple[Job, Job]] = []
        self.num_ended = 0

    def take(self, lane: str) -> bool:
        ours, theirs = self.board.take(lane), self.model.take(lane)
        assert bool(ours) == bool(theirs)
        if ours is None or theirs is None:
            return False
        self._run(ours, theirs)
        return True

    def _run(self, ours: Job, theirs: Job) -> None:
        assert (ours.task.id, ours.step, ours.rank) == (theirs.task.id, theirs.step, theirs.rank)
        self.running.append((ours, theirs))

    def go_on(self, chance: random.Random) -> None:
        """One running stage ends: well, with an error, or refused."""
        ours, theirs = self.running.pop(chance.randrange(len(self.running)))
        what = chance.random()
        if what < 0.1:
            assert self.board.refuse(ours) == self.model.refuse(theirs)
            self.board.put_back(ours)
            self.model.put_back(theirs)
        elif what < 0.2:
            self.board.end(ours)
            self.model.end(theirs)
            self.num_ended += 1
        else:
            self.num_ended += ours.step + 1 == len(ours.task.stages)
            after, expected = self.board.done(ours, None), self.model.done(theirs, None)
            assert bool(after) == bool(expected)
            if after and expected:
                self._run(after, expected)


@pytest.mark.parametrize("seed", range(60))
def test_every_choice_is_the_one_of_the_model(seed: int) -> None:
    chance = random.Random(seed)
    lanes = [CPU, *chance.sample(LANES, chance.randint(0, len(LANES)))]
    slots = {lane: chance.randint(1, 4) for lane in lanes}
    count = chance.randint(1, 60)
    both = Both(random_tasks(chance, 0, count, lanes), slots)
    later = chance.randint(0, 40)
    while both.num_ended < count:
        while any([both.take(lane) for lane in chance.sample(lanes, len(lanes))]):
            pass
        if not both.running:
            pytest.fail("nothing runs and nothing may start")
        both.go_on(chance)
        if later and chance.random() < 0.2:
            more = random_tasks(chance, count, min(later, 7), lanes)
            both.board.add(more)
            both.model.add(more)
            count, later = count + len(more), later - len(more)
    assert both.board.slots == both.model.slots


def no_op_cells(count: int) -> list[Task]:
    """Cells of 50 windows, and the preparations that they wait for."""
    chance = random.Random(7)
    stages = [
        tuple(
            Stage(name=name, lane=CPU, cost_s=chance.random(), run=nothing)
            for name in ("encode", "score")
        )
        for _ in range(997)
    ]
    after = [frozenset({f"prepare {n}"}) for n in range(50)]
    tasks = [Task(id=str(n), stages=stages[n % 997], after=after[n % 50]) for n in range(count)]
    prepare = tasks[0].stages[:1]
    return [*(Task(id=f"prepare {n}", first=True, stages=prepare) for n in range(50)), *tasks]


def test_the_cost_of_a_cell_does_not_grow_with_their_number() -> None:
    """Ten times the cells: a board that looks at all of them takes ten times as long for each. The
    exact figure is that of `make bench-scale`; the best of some tries leaves out most of what other
    programs do meanwhile.
    """
    few, many = no_op_cells(10_000), no_op_cells(100_000)
    small = min(board_ms(few) for _ in range(3))
    large = board_ms(many)
    if large > 4 * small:
        large = min(large, board_ms(many))
    assert large < 4 * small, f"{small:.4f} ms a cell of 10,000, {large:.4f} of 100,000"
