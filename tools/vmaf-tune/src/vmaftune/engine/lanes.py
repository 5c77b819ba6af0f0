"""A small scheduler of stages over lanes; joblib runs the lanes' slots as threads (the work is in
child processes).

A lane is a resource with a number of slots: `cpu`, the sessions of one GPU's encoder, a QSV device.
A task is a chain of stages, each on one lane or on any of several. `Board` (engine/board.py)
decides, and knows nothing of threads; `LaneExecutor` runs.

A free slot takes the task with the longest expected work left, and a slot that ends a stage goes
straight on with the next one if that is on its lane. What other lanes have handed over waits its
turn by the same rule, but is taken first once there is much of it, and a lane that hands over
pauses when there is far too much: its results take disk space. A device that refuses a session has
fewer slots than thought: the lane shrinks, and the stage is done again, not failed.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

from vmaftune.engine.board import Board, Job
from vmaftune.engine.executor import Ended, Happening, Preparing, Started, Task
from vmaftune.engine.references import reference_id
from vmaftune.engine.stages import Worker, prepare_task
from vmaftune.engine.windows import Windows
from vmaftune.errors import Interrupted


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
