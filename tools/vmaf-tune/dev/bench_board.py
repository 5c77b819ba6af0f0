"""What choosing costs: CPU milliseconds a cell for cells that do nothing (`make bench-scale`).

The board alone chooses and ends them; the executor runs them on the threads of 16 slots, with ten
cells to a window. Neither may cost more for a cell where there are more cells.
"""

from __future__ import annotations

import argparse
import random
import sys
import time
from collections import deque
from collections.abc import Sequence
from types import SimpleNamespace
from typing import cast

from made_up import window_of_film
from vmaftune.engine.board import Board, Job
from vmaftune.engine.executor import CPU, Stage, Task
from vmaftune.engine.lanes import LaneExecutor
from vmaftune.engine.stages import Worker

NUM_FRAMES = 45
MOST_MS = 0.05
"""For a cell of the board, at any number of them."""


def no_op_tasks(count: int) -> list[Task]:
    """Cells of two stages that do nothing, ten to a window."""
    generator = random.Random(7)
    tasks = []
    for number in range(count):
        if number % 10 == 0:
            film = window_of_film(number, NUM_FRAMES)
        stages = tuple(
            Stage(name=name, lane=CPU, cost_s=generator.random(), run=_nothing)
            for name in ("encode", "score")
        )
        tasks.append(Task(id=str(number), stages=stages, window=film))
    return tasks


def _nothing(_: object, value: object) -> object:
    return value


def board_ms(tasks: Sequence[Task]) -> float:
    """CPU milliseconds a cell of the board alone."""
    begin = time.process_time()
    board = Board(tasks, {CPU: 16})
    running: deque[Job] = deque()
    while True:
        while job := board.take(CPU):
            running.append(job)
        if not running:
            return 1000 * (time.process_time() - begin) / len(tasks)
        job = running.popleft()
        if following := board.done(job, None):
            running.append(following)


def executor_ms(tasks: Sequence[Task]) -> float:
    """CPU milliseconds a cell of the executor, from its submission to the event of its end."""
    references = SimpleNamespace(budget_bytes=2**33, has=_is_there, drop=_is_there)
    executor = LaneExecutor({CPU: 16})
    executor.start(cast(Worker, SimpleNamespace(references=references)))
    begin = time.process_time()
    executor.submit(tasks)
    for _ in executor.events():
        pass
    executor.close()
    return 1000 * (time.process_time() - begin) / len(tasks)


def _is_there(_: object) -> bool:
    return True


def main() -> int:
    """Measure and print; 1 when the board took longer than it may."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cells", type=int, nargs="+", default=[1_000, 10_000, 100_000])
    args = parser.parse_args()
    slowest = 0.0
    for count in args.cells:
        tasks = no_op_tasks(count)
        board = board_ms(tasks)
        slowest = max(slowest, board)
        print(
            f"{count:>9,} cells that do nothing: board {board:.4f} ms a cell, executor"
            f" {executor_ms(tasks):.4f} ms a cell",
            flush=True,
        )
    return int(slowest > MOST_MS)


if __name__ == "__main__":
    sys.exit(main())
