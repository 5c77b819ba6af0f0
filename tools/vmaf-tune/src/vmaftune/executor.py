"""A small scheduler of stages over lanes; joblib runs the lanes' slots as threads (the work is in child processes).

A lane is a resource with a number of slots: `cpu`, the sessions of one GPU's encoder, a QSV device. A task is a chain
of stages, each on one lane. A slot that finishes a stage goes straight on with the next one if it is on the same lane;
otherwise the next stage waits for its own lane, ahead of tasks that have not begun. Waiting tasks start with the one
that has the longest expected work left. The sweep knows nothing else of all this.
"""

from __future__ import annotations

import heapq
import itertools
import queue
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from vmaftune.errors import Interrupted

CPU = "cpu"


@dataclass(frozen=True, slots=True, kw_only=True)
class Stage:
    """One step of a task: `run` gets what the step before it returned (None for the first). `cost_s` is expected seconds."""

    name: str
    lane: str
    cost_s: float
    run: Callable[[Any], Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """A chain of stages that starts once the tasks named in `after` have ended, well or not."""

    id: str
    stages: tuple[Stage, ...]
    after: frozenset[str] = frozenset()
    first: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Started:
    """A stage has begun."""

    task: Task
    stage: Stage


@dataclass(frozen=True, slots=True, kw_only=True)
class Ended:
    """A task has ended: with the last stage's value, or with the error of the stage that failed."""

    task: Task
    value: Any = None
    error: Exception | None = None


class Executor(Protocol):
    """The seam between a sweep and whatever runs it."""

    def run(self, tasks: Sequence[Task]) -> Iterator[Started | Ended]:
        """Run all tasks; yield what happens as it happens. Closing the iterator stops new stages from starting."""


class LaneExecutor:
    """Runs tasks on this machine: `lanes` maps a lane's name to its number of slots."""

    def __init__(self, lanes: Mapping[str, int]) -> None:
        self._lanes = dict(lanes)

    def run(self, tasks: Sequence[Task]) -> Iterator[Started | Ended]:
        """See Executor.run. Raises ValueError for a stage on a lane that does not exist."""
        from joblib import Parallel, delayed

        unknown = {s.lane for t in tasks for s in t.stages} - set(self._lanes)
        if unknown:
            raise ValueError(f"no lane is called {', '.join(sorted(unknown))}")
        board = _Board(tasks)
        slots = [lane for lane, count in self._lanes.items() for _ in range(count)]
        pool = Parallel(n_jobs=len(slots), backend="threading", batch_size=1, pre_dispatch="all",
                        return_as="generator_unordered")  # fmt: skip
        ended = pool(delayed(board.work)(lane) for lane in slots)
        try:
            left = len(tasks)
            while left:
                event = board.events.get()
                left -= isinstance(event, Ended)
                yield event
        finally:
            board.close()
            for _ in ended:  # every slot has returned before the iterator ends
                pass


class _Board:
    """What waits, what may start, and what has happened; shared by the slots."""

    def __init__(self, tasks: Sequence[Task]) -> None:
        self.events: queue.SimpleQueue[Started | Ended] = queue.SimpleQueue()
        self._changed = threading.Condition()
        self._ready: dict[str, list[tuple[tuple[int, float, int], Task, int, Any]]] = {}
        self._waiting = {t.id: (t, set(t.after)) for t in tasks if t.after}
        self._order = itertools.count()
        self._closed = False
        for task in tasks:
            if not task.after:
                self._push(task, 0, None)

    def _push(self, task: Task, step: int, value: Any) -> None:
        left = sum(s.cost_s for s in task.stages[step:])
        rank = (0 if task.first else 1 if step else 2, -left, next(self._order))
        heapq.heappush(self._ready.setdefault(task.stages[step].lane, []), (rank, task, step, value))

    def close(self) -> None:
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    def work(self, lane: str) -> None:
        """One slot's life: take the best stage of the lane, run it, go on."""
        while True:
            with self._changed:
                while not self._closed and not self._ready.get(lane):
                    self._changed.wait()
                if self._closed:
                    return
                _, task, step, value = heapq.heappop(self._ready[lane])
            self._chain(lane, task, step, value)

    def _chain(self, lane: str, task: Task, step: int, value: Any) -> None:
        for i in range(step, len(task.stages)):
            stage = task.stages[i]
            if stage.lane != lane:
                with self._changed:
                    self._push(task, i, value)
                    self._changed.notify_all()
                return
            self.events.put(Started(task=task, stage=stage))
            try:
                if self._closed:
                    raise Interrupted("stopped")
                value = stage.run(value)
            except Exception as error:
                self._end(Ended(task=task, error=error))
                return
        self._end(Ended(task=task, value=value))

    def _end(self, ended: Ended) -> None:
        self.events.put(ended)
        with self._changed:
            for waiting in [w for w in self._waiting.values() if ended.task.id in w[1]]:
                waiting[1].discard(ended.task.id)
                if not waiting[1]:
                    del self._waiting[waiting[0].id]
                    self._push(waiting[0], 0, None)
            self._changed.notify_all()
