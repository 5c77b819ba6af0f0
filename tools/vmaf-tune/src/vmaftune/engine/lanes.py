"""A small scheduler of stages over lanes; joblib runs the lanes' slots as threads (the work is in
child processes).

A lane is a resource with a number of slots: `cpu`, the sessions of one GPU's encoder, a QSV device.
A task is a chain of stages, each on one lane or on any of several. `Board` decides, and knows
nothing of threads; `LaneExecutor` runs.

A free slot takes the task with the longest expected work left, and a slot that ends a stage goes
straight on with the next one if that is on its lane. What other lanes have handed over waits its
turn by the same rule, but is taken first once there is much of it, and a lane that hands over
pauses when there is far too much: its results take disk space. A device that refuses a session has
fewer slots than thought: the lane shrinks, and the stage is done again, not failed.
"""

from __future__ import annotations

import itertools
import queue
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from vmaftune.errors import Interrupted

CPU = "cpu"
# Results of other lanes that wait for a lane, per slot of it: beyond the first they go before new
# tasks, beyond the second nobody makes more.
MANY, TOO_MANY = 2, 16
# A lane's last slot that is refused waits for other programs to let go: this often, this long.
RETRIES, RETRY_S = 6, 10.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Stage:
    """One step of a task: `run` gets what the step before it returned (None for the first).
    `cost_s` is expected seconds.

    `others` are further lanes that can do it, each with its own `run`. `refused` tells an error
    that means "no session was free" from one that is the task's own.
    """

    name: str
    lane: str
    cost_s: float
    run: Callable[[Any], Any]
    others: Mapping[str, Callable[[Any], Any]] = field(default_factory=dict)
    refused: Callable[[Exception], bool] | None = None

    def on(self, lane: str) -> Callable[[Any], Any]:
        """What to call on `lane`."""
        return self.run if lane == self.lane else self.others[lane]

    def fits(self, lane: str) -> bool:
        """True when `lane` can do it."""
        return lane == self.lane or lane in self.others


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


class Board:
    """What waits, what runs, and what may start next. Not thread-safe: its user holds a lock.

    `slots` is how many jobs each lane may run at once; `refuse` lowers it.
    """

    def __init__(self, tasks: Sequence[Task], lanes: Mapping[str, int]) -> None:
        self.slots = dict(lanes)
        self.running: Counter[str] = Counter()
        self._ready: list[Job] = []
        self._handed_over: Counter[str] = Counter()
        self._waiting = {t.id: (t, set(t.after)) for t in tasks if t.after}
        self._order = itertools.count()
        for task in tasks:
            if not task.after:
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


class Executor(Protocol):
    """The seam between a sweep and whatever runs it."""

    def run(self, tasks: Sequence[Task]) -> Iterator[Started | Ended]:
        """Run all tasks; yield what happens as it happens. Closing the iterator stops new stages
        from starting.
        """


class LaneExecutor:
    """Runs tasks on this machine: `lanes` maps a lane's name to its number of slots."""

    def __init__(self, lanes: Mapping[str, int]) -> None:
        self._lanes = dict(lanes)

    def run(self, tasks: Sequence[Task]) -> Iterator[Started | Ended]:
        """See Executor.run. Raises ValueError for a stage on a lane that does not exist."""
        from joblib import Parallel, delayed

        unknown = {lane for t in tasks for s in t.stages for lane in (s.lane, *s.others)} - set(
            self._lanes
        )
        if unknown:
            raise ValueError(f"no lane is called {', '.join(sorted(unknown))}")
        crew = _Crew(Board(tasks, self._lanes))
        slots = [lane for lane, count in self._lanes.items() for _ in range(count)]
        # Never 1: joblib would then run the slot in this thread, and only when its result is asked
        # for.
        pool = Parallel(
            n_jobs=max(2, len(slots)),
            backend="threading",
            batch_size=1,
            pre_dispatch="all",
            return_as="generator_unordered",
        )
        ended = pool(delayed(crew.work)(lane) for lane in slots)
        try:
            left = len(tasks)
            while left:
                event = crew.events.get()
                left -= isinstance(event, Ended)
                yield event
        finally:
            crew.close()
            for _ in ended:  # every slot has returned before the iterator ends
                pass


class _Crew:
    """The slots' threads around one board."""

    def __init__(self, board: Board) -> None:
        self.events: queue.SimpleQueue[Started | Ended] = queue.SimpleQueue()
        self._board = board
        self._changed = threading.Condition()
        self._closed = threading.Event()

    def close(self) -> None:
        self._closed.set()
        with self._changed:
            self._changed.notify_all()

    def work(self, lane: str) -> None:
        """One slot's life: take the best job of the lane, run it, go on."""
        while True:
            with self._changed:
                job = None
                while not self._closed.is_set() and (job := self._board.take(lane)) is None:
                    self._changed.wait()
            if job is None:
                return
            while job:
                job = self._step(job)

    def _step(self, job: Job) -> Job | None:
        """Run one stage; the next one of the same task if this slot goes on with it."""
        self.events.put(Started(task=job.task, stage=job.stage))
        try:
            if self._closed.is_set():
                raise Interrupted("stopped")
            value = job.stage.on(job.lane)(job.value)
        except Exception as error:
            self._fail(job, error)
            return None
        if job.step + 1 == len(job.task.stages):
            self.events.put(Ended(task=job.task, value=value))
        with self._changed:
            following = self._board.done(job, value)
            self._changed.notify_all()
        return following

    def _fail(self, job: Job, error: Exception) -> None:
        wait_s = None
        if job.stage.refused and job.stage.refused(error):
            with self._changed:
                wait_s = self._board.refuse(job)
        if wait_s is None:
            self.events.put(Ended(task=job.task, error=error))
        else:
            self._closed.wait(wait_s)
        with self._changed:
            if wait_s is None:
                self._board.end(job)
            else:
                self._board.put_back(job)
            self._changed.notify_all()
