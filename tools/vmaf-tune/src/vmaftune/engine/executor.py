"""The seam between a study and what runs its cells: tasks in at any time, what happened out.

A task is a chain of stages, each a module function bound to frozen values, so that a task can be
pickled. `LaneExecutor` (engine/lanes.py) runs them on this machine; a cluster is another executor.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from vmaftune.cell import Window
from vmaftune.hardware.gpus import Device

CPU = "cpu"
# What a stage calls: the worker that runs it, and what the stage before it returned (None for the
# first).
Step = Callable[[Any, Any], Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Stage:
    """One step of a task. `cost_s` is expected seconds.

    `others` are further lanes that can do it, each with its own `run`. `refused` tells an error
    that means "no session was free" from one that is the task's own.
    """

    name: str
    lane: str
    cost_s: float
    run: Step
    others: Mapping[str, Step] = field(default_factory=dict)
    refused: Callable[[Exception], bool] | None = None

    @property
    def lanes(self) -> tuple[str, ...]:
        """Every lane that can do it, its own first."""
        return (self.lane, *self.others)

    def on(self, lane: str) -> Step:
        """What to call on `lane`."""
        return self.run if lane == self.lane else self.others[lane]

    def fits(self, lane: str) -> bool:
        """True when `lane` can do it."""
        return lane == self.lane or lane in self.others


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """A chain of stages that starts once the tasks named in `after` have ended, well or not.

    `window` is what has to be prepared where it runs; None when nothing has to be. `first` puts it
    before every task that is not. `place` names its folder in a worker's scratch, `uses` the
    encoder that it needs, and `keep` says that its files are wanted when it has ended.
    """

    id: str
    stages: tuple[Stage, ...]
    after: frozenset[str] = frozenset()
    first: bool = False
    window: Window | None = None
    place: str = ""
    uses: str | None = None
    keep: bool = False

    @property
    def cost_s(self) -> float:
        """Expected seconds of all its stages."""
        return sum(stage.cost_s for stage in self.stages)


@dataclass(frozen=True, slots=True, kw_only=True)
class Started:
    """A stage has begun. `worker` is the name of the one that runs it, None on this machine."""

    task: Task
    stage: Stage
    worker: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Preparing:
    """A window's reference is being made."""

    window: Window


@dataclass(frozen=True, slots=True, kw_only=True)
class Ended:
    """A task has ended: with the last stage's value, or with the error of the stage that failed.

    After an error, `value` is what that stage was given and `lane` where it ran. `host` is the
    machine, None for this one, `worker` the name of the process there, and `device` its GPU for the
    lane.
    """

    task: Task
    value: Any = None
    error: Exception | None = None
    lane: str = CPU
    host: str | None = None
    worker: str | None = None
    device: Device | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Noticed:
    """A sentence for the user: a worker came, went, or is left out."""

    message: str


Happening = Started | Preparing | Ended | Noticed


class Executor(Protocol):
    """What runs tasks. One thread submits, reads events and closes."""

    @property
    def is_here(self) -> bool:
        """True when references and encodes take this machine's disk."""

    def workers(self) -> list[dict[str, object]]:
        """The machines that it runs on or has run on, for runs.jsonl, by `name`; those that are not
        used (any more) have a `problem`. Empty for this one alone.
        """

    def start(self, worker: Any, *, keep_references: bool) -> None:
        """Called once, before the first task. `worker` is this machine's (engine/stages.py).

        `keep_references` keeps a reference after its last known task, as long as there is room.
        """

    def submit(self, tasks: Sequence[Task]) -> None:
        """Take tasks, also while others run. Raises ValueError for a lane that does not exist."""

    def events(self) -> Iterator[list[Happening]]:
        """What has happened since, as it happens; ends when nothing submitted is unfinished.

        What happened at once comes together, so that it can be written together. Raises the error
        of anything that is not a task's own.
        """

    def close(self) -> None:
        """Start nothing more, wait for what runs, and forget the rest. Safe to call twice."""
