"""How far a long step is, and how long it takes still, by its own pace."""

from __future__ import annotations

import time
from typing import Literal

from vmaftune.engine.events import ProgressEvent

_SETTLED_S = 2.0
"""Seconds before a pace is believed."""


class Progress:
    """One step of `num_frames`; `after_s` are the seconds that the steps behind it should take."""

    def __init__(
        self,
        step: Literal["shots", "encode", "score"],
        num_frames: int,
        *,
        attempt: int = 1,
        after_s: float = 0.0,
    ) -> None:
        self._step, self._num_frames, self._attempt = step, num_frames, attempt
        self._after_s = after_s
        self._begin = time.monotonic()
        self._last = -1

    def at(
        self, frames: int, *, done: float | None = None, left: float | None = None
    ) -> ProgressEvent | None:
        """The event for `frames` done; None where it would say what the last one did, in percent.

        `done` and `left` are work, where frames alone do not tell it.
        """
        percent = 100 * frames // max(1, self._num_frames)
        if percent == self._last:
            return None
        self._last = percent
        worked = frames if done is None else done
        more = self._num_frames - frames if left is None else left
        seconds = time.monotonic() - self._begin
        known = worked > 0 and seconds > _SETTLED_S
        return ProgressEvent(
            step=self._step,
            frames=frames,
            num_frames=self._num_frames,
            attempt=self._attempt,
            expected_s=round(seconds * more / worked + self._after_s, 1) if known else None,
        )
