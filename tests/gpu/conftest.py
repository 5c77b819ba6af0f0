"""Tests of an NVIDIA GPU: skipped, with one sentence, on a machine without one."""

from __future__ import annotations

from pathlib import Path

import pytest
from vmaftune.hardware.gpus import nvidia

HERE = Path(__file__).parent


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    found = nvidia()
    if found.gpus:
        return
    why = found.problem or "the driver lists none"
    for item in items:
        if item.path.is_relative_to(HERE):
            reason = f"no NVIDIA GPU is here ({why}): nothing was tested"
            item.add_marker(pytest.mark.skip(reason=reason))
