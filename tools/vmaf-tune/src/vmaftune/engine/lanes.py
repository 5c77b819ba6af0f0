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

import heapq
import itertools
import queue
import threading
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from vmaftune.cell import Window
from vmaftune.engine.executor import Ended, Happening, Preparing, Stage, Started, Task
from vmaftune.engine.references import reference_bytes, reference_id
from vmaftune.engine.stages import Worker, prepare_task
from vmaftune.errors import Interrupted

# Results of other lanes that wait for a lane, per slot of it: beyond the first they go before new
# tasks, beyond the second nobody makes more.
MANY, TOO_MANY = 2, 16
# A lane's last slot that is refused waits for other programs to let go: this often, this long.
RETRIES, RETRY_S = 6, 10.0
AHEAD_BYTES = 2**29
"""References that are made before any slot needs them: beyond that a window waits until a lane
would run out of tasks, whatever the budget allows.
"""

Kind = tuple[tuple[str, ...], bool, bool, str | None]


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
    def kind(self) -> Kind:
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
        self._heaps: dict[Kind, _Heap] = {}
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


@dataclass(slots=True)
class _Open:
    """A window whose tasks are on the board."""

    window: Window
    num_bytes: int
    num_left: int = 0


@dataclass(slots=True)
class _Waiting:
    """A window that waits for room, with its tasks and the lanes that could begin one."""

    window: Window
    num_bytes: int
    tasks: list[Task] = field(default_factory=list)
    lanes: set[str] = field(default_factory=set)


class Windows:
    """Which windows are worked on: as many as fit the budget, the others wait with their tasks.

    Beyond AHEAD_BYTES a window is opened only for a lane that would run out of tasks. Not
    thread-safe. Like the board it must not slow down with the number of cells, so a search for a
    window that fits ends where none can.
    """

    def __init__(self, budget_bytes: int, slots: Mapping[str, int]) -> None:
        self._budget, self._slots = budget_bytes, dict(slots)
        self._open: dict[str, _Open] = {}
        self._used = 0
        self._waiting: dict[str, _Waiting] = {}
        self._least = 0  # no waiting window is smaller
        self._more: list[tuple[str, Task]] = []  # new tasks of open windows
        self._fresh: Counter[str] = Counter()  # tasks of open windows that no slot has begun
        self._wanted: set[str] = set()  # lanes that begin tasks

    def add(self, tasks: Sequence[Task]) -> None:
        """Let tasks wait for their windows: the window with the longest single task first, so that
        what is left for the end is small.
        """
        groups: dict[str, list[Task]] = {}
        names: dict[int, str] = {}  # the cells of a window share it, and its name takes a digest
        for task in tasks:
            if task.window is None:
                continue
            name = names.get(id(task.window))
            if name is None:
                name = names[id(task.window)] = reference_id(task.window)
            groups.setdefault(name, []).append(task)
        for name in sorted(groups, key=lambda name: -max(t.cost_s for t in groups[name])):
            if name in self._open:
                self._more += [(name, task) for task in groups[name]]
            else:
                self._wait(name, groups[name])

    def _wait(self, name: str, tasks: Sequence[Task]) -> None:
        window = tasks[0].window
        assert window is not None
        found = self._waiting.get(name)
        if found is None:
            found = _Waiting(window=window, num_bytes=reference_bytes(window))
            others = self._least if self._waiting else found.num_bytes
            self._least = min(others, found.num_bytes)
            self._waiting[name] = found
        found.tasks += tasks
        found.lanes.update(lane for task in tasks for lane in task.stages[0].lanes)
        self._wanted |= found.lanes

    def ready(self) -> list[tuple[Window, list[Task]]]:
        """Windows that may be worked on now, each with the tasks that waited for it."""
        found = []
        for name, task in self._more:
            found.append((self._open[name].window, self._put(name, [task])))
        self._more.clear()
        opened = []
        for name, waiting in self._waiting.items():
            if not self._fits(self._least, self._wanted):
                break
            if self._fits(waiting.num_bytes, waiting.lanes):
                opened.append(name)
                self._open[name] = _Open(window=waiting.window, num_bytes=waiting.num_bytes)
                self._used += waiting.num_bytes
                found.append((waiting.window, self._put(name, waiting.tasks)))
        for name in opened:
            del self._waiting[name]
        return found

    def _put(self, name: str, tasks: list[Task]) -> list[Task]:
        self._open[name].num_left += len(tasks)
        for task in tasks:
            self._fresh.update(task.stages[0].lanes)
        return tasks

    def _fits(self, num_bytes: int, lanes: Iterable[str]) -> bool:
        """Whether a window of `num_bytes` may be opened for `lanes`. Alone it always fits: a study
        refuses one that is longer than the budget.
        """
        needed = self._used + num_bytes
        if needed <= min(self._budget, AHEAD_BYTES) or not self._open:
            return True
        return needed <= self._budget and any(self._is_hungry(lane) for lane in lanes)

    def _is_hungry(self, lane: str) -> bool:
        return self._fresh[lane] < self._slots[lane]

    def began(self, task: Task) -> bool:
        """A slot has taken a task; True when another window may have to be opened for its lanes."""
        lanes = task.stages[0].lanes
        self._fresh.subtract(lanes)
        return bool(self._waiting) and any(self._is_hungry(lane) for lane in lanes)

    def put_back(self, task: Task) -> None:
        """A task that was begun waits again: its device had no session."""
        self._fresh.update(task.stages[0].lanes)

    def ended(self, window: Window) -> bool:
        """Count one task of `window` off; True when that was the last one known."""
        name = reference_id(window)
        found = self._open[name]
        found.num_left -= 1
        if found.num_left:
            return False
        del self._open[name]
        self._used -= found.num_bytes
        return True

    def clear(self) -> None:
        """Forget what waits."""
        self._waiting.clear()
        self._more.clear()


class LaneExecutor:
    """Runs tasks on this machine: `lanes` maps a lane's name to its number of slots. See Executor.

    A window that several tasks need is prepared by a task of its own, before them.
    """

    def __init__(self, lanes: Mapping[str, int]) -> None:
        self._lanes = dict(lanes)
        self._board = Board((), lanes)
        self._changed = threading.Condition()
        self._closed = threading.Event()
        self._happened: queue.SimpleQueue[Happening | Exception] = queue.SimpleQueue()
        self._unfinished = 0
        self._slots: Iterator[None] | None = None
        self._worker: Worker | None = None
        self._keep = False
        self._windows = Windows(0, lanes)

    @property
    def is_here(self) -> bool:
        """See Executor.is_here."""
        return True

    def workers(self) -> list[dict[str, object]]:
        """See Executor.workers."""
        return []

    def start(self, worker: Worker | None, *, keep_references: bool = False) -> None:
        """See Executor.start; without a worker no task may name a window."""
        self._worker, self._keep = worker, keep_references
        if worker is not None:
            self._windows = Windows(worker.references.budget_bytes, self._lanes)

    def submit(self, tasks: Sequence[Task]) -> None:
        """See Executor.submit."""
        asked = {lane for task in tasks for stage in task.stages for lane in stage.lanes}
        unknown = sorted(asked - set(self._lanes))
        if unknown:
            raise ValueError(f"no lane is called {', '.join(unknown)}")
        with self._changed:
            self._unfinished += len(tasks)
            self._board.add(task for task in tasks if task.window is None)
            self._windows.add(tasks)
            self._open_windows()
            self._changed.notify_all()
        self._start_slots()

    def events(self) -> Iterator[list[Happening]]:
        """See Executor.events."""
        while self._unfinished:
            found = [self._happened.get()]
            while not self._happened.empty():
                found.append(self._happened.get())
            batch: list[Happening] = []
            for event in found:
                if isinstance(event, Exception):
                    raise event
                batch.append(event)
            self._unfinished -= sum(isinstance(event, Ended) for event in batch)
            yield batch

    def close(self) -> None:
        """See Executor.close."""
        self._closed.set()
        with self._changed:
            self._board.clear()
            self._windows.clear()
            self._changed.notify_all()
        for _ in self._slots or ():  # every slot has returned before this does
            pass
        self._slots, self._unfinished = None, 0

    def _start_slots(self) -> None:
        if self._slots is not None:
            return
        from joblib import Parallel, delayed

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
        self._slots = pool(delayed(self._work)(lane) for lane in slots)

    def _open_windows(self) -> None:
        """Put what may start now on the board, with a preparation before it where one is due. Its
        caller holds the lock.
        """
        for window, tasks in self._windows.ready():
            name = f"prepare {reference_id(window)}"
            if not (self._worker and self._worker.references.has(window)):
                self._board.add([prepare_task(window, name)])
            self._board.add(replace(task, after=task.after | {name}) for task in tasks)

    def _work(self, lane: str) -> None:
        """One slot's life: take the best job of the lane, run it, go on."""
        while True:
            with self._changed:
                job = None
                while not self._closed.is_set() and (job := self._board.take(lane)) is None:
                    self._changed.wait()
            if job is None:
                return
            if _is_begun(job):
                self._begin(job.task)
            while job:
                job = self._step(job)

    def _begin(self, task: Task) -> None:
        """A slot has taken a task of a window: a lane may run out of them soon."""
        with self._changed:
            if self._windows.began(task):
                self._open_windows()
                self._changed.notify_all()

    def _step(self, job: Job) -> Job | None:
        """Run one stage; the next one of the same task if this slot goes on with it."""
        task, stage = job.task, job.stage
        if not task.first:
            self._happened.put(Started(task=task, stage=stage))
        elif task.window is not None:
            self._happened.put(Preparing(window=task.window))
        try:
            if self._closed.is_set():
                raise Interrupted("stopped")
            value = stage.on(job.lane)(self._worker, job.value)
        except Exception as error:
            self._fail(job, error)
            return None
        if job.step + 1 < len(task.stages):
            with self._changed:
                following = self._board.done(job, value)
                self._changed.notify_all()
            return following
        self._end(job)
        if not task.first:
            self._happened.put(Ended(task=task, value=value, lane=job.lane))
        return None

    def _fail(self, job: Job, error: Exception) -> None:
        wait_s = None
        if job.stage.refused and job.stage.refused(error):
            with self._changed:
                wait_s = self._board.refuse(job)
        if wait_s is not None:
            self._closed.wait(wait_s)
            with self._changed:
                self._board.put_back(job)
                if _is_begun(job):
                    self._windows.put_back(job.task)
                self._changed.notify_all()
            return
        self._end(job)
        failed = Ended(task=job.task, value=job.value, error=error, lane=job.lane)
        self._happened.put(error if job.task.first else failed)

    def _end(self, job: Job) -> None:
        """A task has ended, well or not: its window may be done with, and others may start."""
        task = job.task
        unused = None
        with self._changed:
            if task.window is not None and not task.first and self._windows.ended(task.window):
                unused = task.window
        if unused is not None and self._worker and not self._keep:
            self._worker.references.drop(unused)
        with self._changed:
            self._board.end(job)
            self._open_windows()
            self._changed.notify_all()


def _is_begun(job: Job) -> bool:
    """True for the first stage of a task that has a window, and is not its preparation."""
    return job.step == 0 and not job.task.first and job.task.window is not None
