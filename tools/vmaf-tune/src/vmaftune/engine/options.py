"""How a study measures."""

from __future__ import annotations

from dataclasses import dataclass

from vmaftune.engine.room import BUDGET_BYTES


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """How a study measures; nothing here changes a result.

    `timeout_s` None derives one from the expected cost. `budget_bytes` is what prepared references
    may take of the disk at a time. `verify` compares all rows of the folder with their frames,
    also what was checked before. `pair_threads` are those of
    one pair.
    """

    jobs: int
    pair_threads: int = 1
    timeout_s: float | None = None
    keep_encodes: bool = False
    retry_failed: bool = False
    verify: bool = False
    budget_bytes: int = BUDGET_BYTES
