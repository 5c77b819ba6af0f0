"""Who does what next on several machines: pure, and without Dask.

A place is a worker: lanes with slots, and windows that it has opened. A place stays with its open
windows; without work there it opens the one that the fewest places have. A lost place's tasks go
back; a task that lost its place three times while it ran is given up.
"""

from __future__ import annotations

import heapq
import itertools
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from vmaftune.engine.attempts import Attempt
from vmaftune.engine.executor import CPU, Task
from vmaftune.engine.references import reference_bytes, reference_id

MOST_LOSSES = 3
# Encodes of other lanes that wait for the CPU, per slot of it: beyond that nobody makes more.
TOO_MANY = 16
Rank = tuple[float, int]


@dataclass(slots=True, eq=False)
class _Waiting:
    """A task at one of its stages. The smallest rank goes first: the longest work left."""

    task: Task
    step: int
    value: Any
    rank: Rank

    @property
    def lanes(self) -> tuple[str, ...]:
        """The lanes that its stage can run on."""
        return self.task.stages[self.step].lanes


_Kind = tuple[tuple[str, ...], str | None]


@dataclass(slots=True, eq=False)
class _Pile:
    """The tasks of one window that no place has begun, the best of every kind on top."""

    num_bytes: int
    heaps: dict[_Kind, list[tuple[Rank, _Waiting]]] = field(default_factory=dict)

    def push(self, job: _Waiting) -> None:
        heap = self.heaps.setdefault((job.lanes, job.task.uses), [])
        heapq.heappush(heap, (job.rank, job))

    def best(self, place: Place) -> list[tuple[Rank, _Waiting]] | None:
        """The heap whose top is the best that `place` could begin now; None when it has none."""
        fitting = [
            heap
            for (lanes, uses), heap in self.heaps.items()
            if heap and place.can(uses) and place.free_lane(lanes)
        ]
        return min(fitting, key=lambda heap: heap[0][0], default=None)

    @property
    def is_empty(self) -> bool:
        return not any(self.heaps.values())

    def all(self) -> Iterator[Task]:
        for heap in self.heaps.values():
            for _, job in heap:
                yield job.task


@dataclass(slots=True, eq=False)
class Place:
    """A worker as the floor sees it. `able` are encoders that run there, None for all."""

    name: str
    slots: dict[str, int]
    able: frozenset[str] | None
    budget_bytes: int
    busy: Counter[str] = field(default_factory=Counter)
    open: dict[str, int] = field(default_factory=dict)
    in_use: Counter[str] = field(default_factory=Counter)
    handed_over: list[tuple[Rank, _Waiting]] = field(default_factory=list)
    found_nothing_at: int = -1

    def can(self, uses: str | None) -> bool:
        """True when the encoder `uses` runs there."""
        return uses is None or self.able is None or uses in self.able

    def free_lane(self, lanes: Sequence[str]) -> str | None:
        """A lane of `lanes` with a free slot. Hardware pauses when the CPU cannot follow."""
        crowded = len(self.handed_over) >= TOO_MANY * self.slots[CPU]
        for lane in lanes:
            if self.busy[lane] < self.slots.get(lane, 0) and not (crowded and lane != CPU):
                return lane
        return None

    def has_room(self, num_bytes: int) -> bool:
        """True when one more window fits beside those that are in use."""
        used = sum(size for name, size in self.open.items() if self.in_use[name])
        return not used or used + num_bytes <= self.budget_bytes


class Floor:
    """What waits, where, and what each place may begin next. Not thread-safe."""

    def __init__(self) -> None:
        self.places: dict[str, Place] = {}
        self.running: dict[int, tuple[Place, Attempt]] = {}
        self._piles: dict[str, _Pile] = {}
        self._losses: Counter[str] = Counter()
        self._order = itertools.count()
        self._numbers = itertools.count()
        self._version = 0

    def add(self, tasks: Iterable[Task]) -> None:
        """Take tasks."""
        for task in tasks:
            self._put(task)

    def clear(self) -> None:
        """Forget what nobody has begun."""
        self._piles.clear()
        for place in self.places.values():
            place.handed_over.clear()

    def join(self, place: Place) -> None:
        """A place is there to work."""
        self.places[place.name] = place

    def leave(self, name: str, *, is_counted: bool = True) -> list[Task]:
        """A place is gone: what it had goes back. Returns tasks that are given up."""
        place = self.places.pop(name, None)
        if place is None:
            return []
        lost = [a for p, a in self.running.values() if p is place]
        for attempt in lost:
            del self.running[attempt.number]
        given_up = []
        for attempt in lost:
            self._losses[attempt.task.id] += is_counted
            if self._losses[attempt.task.id] >= MOST_LOSSES:
                given_up.append(attempt.task)
            else:
                self._put(attempt.task)
        for _, job in place.handed_over:
            self._put(job.task)
        return given_up

    def wanted(self) -> set[str]:
        """What the waiting tasks use: their encoders, else their lanes."""
        tasks = (task for pile in self._piles.values() for task in pile.all())
        return {task.uses or task.stages[0].lane for task in tasks}

    def next_number(self) -> int:
        """A number that no attempt has, higher than all there are."""
        return next(self._numbers)

    def _put(self, task: Task) -> None:
        self._version += 1
        name = reference_id(task.window) if task.window else ""
        if name not in self._piles:
            size = reference_bytes(task.window) if task.window else 0
            self._piles[name] = _Pile(num_bytes=size)
        self._piles[name].push(self._job(task, 0, None))

    def _job(self, task: Task, step: int, value: Any) -> _Waiting:
        left = sum(stage.cost_s for stage in task.stages[step:])
        return _Waiting(task, step, value, (-left, next(self._order)))

    def take(self, name: str) -> Attempt | None:
        """What a place begins now; None when it has no free slot, or nothing fits."""
        place = self.places[name]
        if place.found_nothing_at == self._version or not place.free_lane(tuple(place.slots)):
            return None
        job = self._handed_over(place) or self._of_open(place) or self._of_new(place)
        if job is None:
            place.found_nothing_at = self._version
            return None
        lane = place.free_lane(job.lanes)
        assert lane is not None
        attempt = Attempt(
            number=next(self._numbers),
            task=job.task,
            step=job.step,
            end=self._end(job, lane),
            lane=lane,
            value=job.value,
        )
        place.busy[lane] += 1
        place.in_use[self._window(job.task)] += 1
        self.running[attempt.number] = (place, attempt)
        return attempt

    @staticmethod
    def _window(task: Task) -> str:
        return reference_id(task.window) if task.window else ""

    @staticmethod
    def _end(job: _Waiting, lane: str) -> int:
        """How many stages the same slot can go on with."""
        end = job.step + 1
        while end < len(job.task.stages) and job.task.stages[end].fits(lane):
            end += 1
        return end

    def _handed_over(self, place: Place) -> _Waiting | None:
        """What another lane of the place has handed over: before anything new."""
        for i, (_, job) in enumerate(place.handed_over):
            if place.free_lane(job.lanes):
                place.handed_over.pop(i)
                heapq.heapify(place.handed_over)
                return job
        return None

    def _of_open(self, place: Place) -> _Waiting | None:
        heaps = (self._piles[name].best(place) for name in place.open if name in self._piles)
        best = min((heap for heap in heaps if heap), key=lambda heap: heap[0][0], default=None)
        return self._pop(best)

    def _of_new(self, place: Place) -> _Waiting | None:
        """The best task of the window that the fewest places have open; it is open here then."""
        having = Counter(name for other in self.places.values() for name in other.open)
        best: tuple[tuple[int, Rank], str, list[tuple[Rank, _Waiting]]] | None = None
        for name, pile in self._piles.items():
            if name in place.open or not place.has_room(pile.num_bytes):
                continue
            heap = pile.best(place)
            if heap and (best is None or (having[name], heap[0][0]) < best[0]):
                best = ((having[name], heap[0][0]), name, heap)
        if best is None:
            return None
        _, name, heap = best
        place.open[name] = self._piles[name].num_bytes
        return self._pop(heap)

    def _pop(self, heap: list[tuple[Rank, _Waiting]] | None) -> _Waiting | None:
        if heap is None:
            return None
        _, job = heapq.heappop(heap)
        name = self._window(job.task)
        if self._piles[name].is_empty:
            del self._piles[name]
        return job

    def done(self, attempt: Attempt, value: Any) -> bool:
        """An attempt has ended well; True when that was its task's end."""
        place = self._free(attempt)
        if attempt.end == len(attempt.task.stages):
            return True
        job = self._job(attempt.task, attempt.end, value)
        heapq.heappush(place.handed_over, (job.rank, job))
        return False

    def end(self, attempt: Attempt) -> None:
        """An attempt's task has failed."""
        self._free(attempt)

    def again(self, attempt: Attempt) -> None:
        """An attempt goes back to where it began, at the same place or, from the first stage, at
        any.
        """
        place = self._free(attempt)
        if attempt.step:
            job = self._job(attempt.task, attempt.step, attempt.value)
            heapq.heappush(place.handed_over, (job.rank, job))
        else:
            self._put(attempt.task)

    def shrink(self, attempt: Attempt) -> int:
        """A device had no session: its lane keeps as many slots as run without it. Returns how many
        others run.
        """
        place, _ = self.running[attempt.number]
        others = place.busy[attempt.lane] - 1
        place.slots[attempt.lane] = max(1, others)
        return others

    def _free(self, attempt: Attempt) -> Place:
        place, _ = self.running.pop(attempt.number)
        place.busy[attempt.lane] -= 1
        place.found_nothing_at = -1
        name = self._window(attempt.task)
        place.in_use[name] -= 1
        if name not in self._piles and not place.in_use[name]:
            place.open.pop(name, None)
        return place


def slots_of(num_threads: int, resources: Mapping[str, float]) -> dict[str, int]:
    """A worker's lanes: its resources, and of its threads what they leave for the CPU."""
    hardware = {name: int(count) for name, count in resources.items() if int(count) > 0}
    return {CPU: max(1, num_threads - sum(hardware.values())), **hardware}
