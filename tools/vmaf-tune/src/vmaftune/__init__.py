"""Measure what quality an encoder setting gives, and choose it.

`vmaftune.find`, `vmaftune.encode` and the other names of `vmaftune.api` are handed out when they
are asked for, so that importing the package stays free.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

NAMES = (
    "Corpus",
    "EncodeJob",
    "FindResult",
    "Keep",
    "LadderResult",
    "LadderWanted",
    "Running",
    "SweepFlags",
    "SweepResult",
    "Wanted",
    "encode",
    "find",
    "ladder",
    "read",
    "score",
    "sweep",
)


def __getattr__(name: str) -> Any:
    if name not in NAMES:
        raise AttributeError(f"module 'vmaftune' has no attribute {name!r}")
    return getattr(import_module("vmaftune.api"), name)
