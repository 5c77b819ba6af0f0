"""How long a child process may take."""

from __future__ import annotations

from dataclasses import dataclass

MIN_TIMEOUT_S = 600.0
# A stall is told from slowness by this factor over the expected time of one process.
TIMEOUT_FACTOR = 60.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """Seconds after which a process counts as stalled: `timeout_s`, or None for many times what it
    is expected to take.
    """

    timeout_s: float | None = None

    def of(self, expected_s: float) -> float:
        """For a process that is expected to take `expected_s` seconds."""
        return self.timeout_s or max(MIN_TIMEOUT_S, TIMEOUT_FACTOR * expected_s)
