"""Which windows are worked on: as many as fit the budget, and not far ahead of the work."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from vmaftune.cell import Window
from vmaftune.engine.executor import Task
from vmaftune.engine.references import reference_bytes, reference_id

AHEAD_BYTES = 2**29
"""References that are made before any slot needs them: beyond that a window waits until a lane
would run out of tasks, whatever the budget allows.
"""


@dataclass(slots=True)
class _Open:
    """A window whose tasks are on the board."""

    window: Window
    num_bytes: int
    num_left: int = 0


@dataclass(slots=True)
class _WaitingWindow:
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
        self._waiting: dict[str, _WaitingWindow] = {}
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
            found = _WaitingWindow(window=window, num_bytes=reference_bytes(window))
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
