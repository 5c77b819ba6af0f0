"""The board before it had heaps: every choice by looking at every job. Slow, short, and the model
that the real one is compared with on random tasks.
"""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from vmaftune.engine.board import MANY, RETRIES, RETRY_S, TOO_MANY, Job
from vmaftune.engine.executor import Task


class BruteBoard:
    """What waits, what runs, and what may start next. Not thread-safe: its user holds a lock.

    `slots` is how many jobs each lane may run at once; `refuse` lowers it.
    """

    def __init__(self, tasks: Sequence[Task], lanes: Mapping[str, int]) -> None:
        self.slots = dict(lanes)
        self.running: Counter[str] = Counter()
        self._ready: list[Job] = []
        self._handed_over: Counter[str] = Counter()
        self._waiting: dict[str, tuple[Task, set[str]]] = {}
        self._unfinished: set[str] = set()
        self._order = itertools.count()
        self.add(tasks)

    def add(self, tasks: Sequence[Task]) -> None:
        """Take more tasks. What is named in `after` and is not on the board has ended already."""
        self._unfinished |= {task.id for task in tasks}
        for task in tasks:
            if awaited := task.after & self._unfinished:
                self._waiting[task.id] = (task, set(awaited))
            else:
                self._put(self._job(task))

    def _job(self, task: Task, step: int = 0, value: Any = None, lane: str = "") -> Job:
        """Ranked: what others wait for, then the longest work left, then the order of arrival."""
        left = sum(s.cost_s for s in task.stages[step:])
        return Job(task, step, value, (not task.first, -left, next(self._order)), lane)

    def _put(self, job: Job, change: int = 1) -> None:
        (self._ready.append if change > 0 else self._ready.remove)(job)
        if job.step:
            for lane in (job.stage.lane, *job.stage.others):
                self._handed_over[lane] += change

    def _may_start(self, job: Job) -> bool:
        """False when what the job hands over would only add to a heap."""
        following = job.task.stages[job.step + 1 : job.step + 2]
        if not following or following[0].fits(job.stage.lane):
            return True
        lane = following[0].lane
        return self._handed_over[lane] < TOO_MANY * self.slots[lane]

    def take(self, lane: str) -> Job | None:
        """The best job for a free slot of `lane`; None when there is none, or all its slots are in
        use.
        """
        if self.running[lane] >= self.slots[lane]:
            return None
        crowded = self._handed_over[lane] > MANY * self.slots[lane]
        choice = (
            j for j in self._ready if j.stage.fits(lane) and (j.step or j.task.first or not crowded)
        )
        best = min(
            (job for job in choice if self._may_start(job)), key=lambda job: job.rank, default=None
        )
        if best:
            self._put(best, -1)
            best.lane = lane
            self.running[lane] += 1
        return best

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
        for task, others in list(self._waiting.values()):
            others.discard(job.task.id)
            if not others:
                del self._waiting[task.id]
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
