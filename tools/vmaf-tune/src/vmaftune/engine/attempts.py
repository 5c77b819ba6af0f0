"""What a client and its workers say to each other: plain values that Dask carries."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from vmaftune.cell import Tools
from vmaftune.engine.executor import Task
from vmaftune.engine.limits import Limits
from vmaftune.hardware.gpus import Device


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """What a client wants of a bench. `ffmpeg` is its own; `cwd` is where its paths begin."""

    session: str
    ffmpeg: Tools
    teacher: str
    cwd: str
    budget_bytes: int
    limits: Limits
    kinds: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerFacts:
    """What a worker is. `canary` is the digest of a tiny encode by encoder, None for one that
    cannot run there; `devices` are the GPUs that cells of a kind are sent to;
    `problem` says why it cannot be used at all.
    """

    host: str
    cpu: str
    version: str
    package: str
    ffmpeg: Tools | None
    canary: Mapping[str, str | None]
    free_bytes: int
    devices: Mapping[str, Device] = field(default_factory=dict)
    problem: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Attempt:
    """One go at a task on one worker: its stages from `step` up to `end`, on `lane`."""

    number: int
    task: Task
    step: int
    end: int
    lane: str
    value: Any = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """How an attempt ended; `step` is the stage that failed, or the last. `value` is what that
    stage was given, or gave.
    """

    step: int
    value: Any = None
    error: Exception | None = None


class SourceMissing(Exception):
    """A source does not lie where the client has it; the client sends it."""

    def __init__(self, sha256: str) -> None:
        super().__init__(sha256)
        self.sha256 = sha256


class BenchGone(Exception):
    """The worker was started anew since its bench was opened."""
