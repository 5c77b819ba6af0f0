"""What a run tells while it works: one frozen type per event, `--json` prints each as a line.

docs/events.md is their contract: keys may be added, and keep name, type and unit. Seconds are wall
seconds unless the name says `cpu`.
"""

from __future__ import annotations

from typing import Any, Literal

import msgspec


class NoticeEvent(msgspec.Struct, frozen=True, kw_only=True, tag_field="event", tag="notice"):
    """Something was repaired, left out or assumed."""

    message: str


class StartEvent(msgspec.Struct, frozen=True, kw_only=True, tag_field="event", tag="start"):
    """Once, before any work."""

    folder: str
    num_cells: int
    num_done: int
    num_failed: int
    num_left: int
    jobs: int
    expected_s: float


class PrepareEvent(msgspec.Struct, frozen=True, kw_only=True, tag_field="event", tag="prepare"):
    """A window is cut, cropped, scaled."""

    src: str


class StageEvent(msgspec.Struct, frozen=True, kw_only=True, tag_field="event", tag="stage"):
    """A cell begins a stage: `encode` or `score`."""

    cell: str
    stage: str


class CellEvent(msgspec.Struct, frozen=True, kw_only=True, tag_field="event", tag="cell"):
    """A cell's row is on the disk. `expected_s` is what it was expected to take, of one core;
    `error` a sentence, None when all went well.
    """

    cell: str
    status: Literal["ok", "failed"]
    vmaf_score: float | None
    bitrate_kbps: float | None
    num_frames: int | None
    encode_cpu_s: float | None
    score_cpu_s: float | None
    encode_wall_s: float | None
    expected_s: float
    error: str | None


class EndEvent(msgspec.Struct, frozen=True, kw_only=True, tag_field="event", tag="end"):
    """Once, when nothing is left. `num_failed` counts earlier failures that were not retried."""

    num_ok: int
    num_failed: int
    num_done: int
    num_cells: int


Event = NoticeEvent | StartEvent | PrepareEvent | StageEvent | CellEvent | EndEvent


def to_json(event: msgspec.Struct) -> dict[str, Any]:
    """An event as `--json` prints it: `event` names its kind."""
    found: dict[str, Any] = msgspec.to_builtins(event)
    return found
