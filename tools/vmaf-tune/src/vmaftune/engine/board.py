"""Which waiting stage a free slot takes: decisions alone, without threads."""

from __future__ import annotations

import heapq
import itertools
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from vmaftune.engine.executor import Stage, Task

# Results of other lanes that wait for a lane, per slot of it: beyond the first they go before new
# tasks, beyond the second nobody makes more.
MANY, TOO_MANY = (
    2,
    16,
)  # A lane's last slot that is refused waits for other programs to let go: this often, this long.
RETRIES, RETRY_S = 6, 10.0

_Kind = tuple[tuple[str, ...], bool, bool, str | None]


@dataclass(slots=True, eq=False)
class Job:
    """A task at one of its stages: waiting, or running on `lane`. The smallest `rank`
    goes first.
    """

    task: Task
    step: int
    value: Any
    rank: tuple[bool, float, int]
    lane: str = ""
    refusals: int = 0

    @property
    def stage(self) -> Stage:
        """The stage it is at."""
        return self.task.stages[self.step]

    @property
    def next_lane(self) -> str | None:
        """The lane that its result is handed over to; None where this lane goes on with it."""
        following = self.task.stages[self.step + 1 : self.step + 2]
        if not following or following[0].fits(self.stage.lane):
            return None
        return following[0].lane

    @property
    def kind(self) -> _Kind:
        """Jobs of one kind differ by rank alone: when one may start, all may."""
        handed_over = self.step > 0
        return (self.stage.lanes, handed_over, handed_over or self.task.first, self.next_lane)


@dataclass(slots=True, eq=False)
class _Heap:
    """Jobs of one kind, the best on top."""

    is_urgent: bool
    next_lane: str | None
    jobs: list[tuple[tuple[bool, float, int], Job]] = field(default_factory=list)


class Board:
    """What waits, what runs, and what may start next. Not thread-safe: its user holds a lock.

    `slots` is how many jobs each lane may run at once; `refuse` lowers it. A choice looks at one
    job per kind, never at all of them, and a task that ends touches only those that wait for it.
    """

    def __init__(self, tasks: Iterable[Task], lanes: Mapping[str, int]) -> None:
        self.slots = dict(lanes)
        self.running: Counter[str] = Counter()
        self._handed_over: Counter[str] = Counter()
        self._heaps: dict[_Kind, _Heap] = {}
        self._of_lane: dict[str, list[_Heap]] = {}
        self._unfinished: set[str] = set()
        self._waits: dict[str, tuple[Task, set[str]]] = {}
        self._wakes: dict[str, list[str]] = {}
        self._order = itertools.count()
        self.add(tasks)

    def add(self, tasks: Iterable[Task]) -> None:
        """Take more tasks. What is named in `after` and is not on the board has ended already."""
        tasks = list(tasks)
        self._unfinished.update(task.id for task in tasks)
        for task in tasks:
            awaited = {name for name in task.after if name in self._unfinished}
            if not awaited:
                self._put(self._job(task))
                continue
            self._waits[task.id] = (task, awaited)
            for name in awaited:
                self._wakes.setdefault(name, []).append(task.id)

    def clear(self) -> list[Task]:
        """Forget every task that no slot has begun; they are returned."""
        waiting = [task for task, _ in self._waits.values()]
        for heap in self._heaps.values():
            fresh = [job.task for _, job in heap.jobs if job.step == 0]
            waiting += fresh
            if fresh:
                heap.jobs.clear()
        self._unfinished.difference_update(task.id for task in waiting)
        self._waits.clear()
        self._wakes.clear()
        return waiting

    def _job(self, task: Task, step: int = 0, value: Any = None, lane: str = "") -> Job:
        """Ranked: what others wait for, then the longest work left, then the order of arrival."""
        left = sum(s.cost_s for s in task.stages[step:])
        return Job(task, step, value, (not task.first, -left, next(self._order)), lane)

    def _put(self, job: Job) -> None:
        kind = job.kind
        heap = self._heaps.get(kind)
        if heap is None:
            heap = self._heaps[kind] = _Heap(is_urgent=kind[2], next_lane=kind[3])
            for lane in kind[0]:
                self._of_lane.setdefault(lane, []).append(heap)
        heapq.heappush(heap.jobs, (job.rank, job))
        self._count(job, 1)

    def _count(self, job: Job, change: int) -> None:
        if job.step:
            for lane in job.stage.lanes:
                self._handed_over[lane] += change

    def _may_start(self, heap: _Heap) -> bool:
        """False when what its jobs hand over would only add to a pile."""
        lane = heap.next_lane
        return lane is None or self._handed_over[lane] < TOO_MANY * self.slots[lane]

    def take(self, lane: str) -> Job | None:
        """The best job for a free slot of `lane`; None when there is none, or all its slots are in
        use.
        """
        if self.running[lane] >= self.slots[lane]:
            return None
        crowded = self._handed_over[lane] > MANY * self.slots[lane]
        best: _Heap | None = None
        for heap in self._of_lane.get(lane, ()):
            if not heap.jobs or (crowded and not heap.is_urgent) or not self._may_start(heap):
                continue
            if best is None or heap.jobs[0][0] < best.jobs[0][0]:
                best = heap
        if best is None:
            return None
        _, job = heapq.heappop(best.jobs)
        self._count(job, -1)
        job.lane = lane
        self.running[lane] += 1
        return job

    def done(self, job: Job, value: Any) -> Job | None:
        """A stage has ended well. The next one, if the same slot goes on with it; else it waits, or
        the task has ended.
        """
        if job.step + 1 == len(job.task.stages):
            self.end(job)
            return None
        following = job.task.stages[job.step + 1]
        if following.fits(job.lane):
            return self._job(job.task, job.step + 1, value, job.lane)
        self.running[job.lane] -= 1
        self._put(self._job(job.task, job.step + 1, value))
        return None

    def end(self, job: Job) -> None:
        """A task has ended, well or not: whatever waited for it may start."""
        self.running[job.lane] -= 1
        self._unfinished.discard(job.task.id)
        for name in self._wakes.pop(job.task.id, ()):
            task, awaited = self._waits[name]
            awaited.discard(job.task.id)
            if not awaited:
                del self._waits[name]
                self._put(self._job(task))

    def refuse(self, job: Job) -> float | None:
        """A device had no session for a job: its lane keeps as many slots as run without it.

        Returns seconds to wait before `put_back`; None when the lane's last slot was refused too
        often.
        """
        others = self.running[job.lane] - 1
        self.slots[job.lane] = max(1, others)
        if others:
            return 0.0
        job.refusals += 1
        return RETRY_S if job.refusals <= RETRIES else None

    def put_back(self, job: Job) -> None:
        """A refused job waits again."""
        self.running[job.lane] -= 1
        self._put(job)
