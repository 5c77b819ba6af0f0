"""What a client knows of a cluster whose scheduler is slow to answer, or does not."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from types import SimpleNamespace
from typing import Any

import pytest
from vmaftune.engine import connection
from vmaftune.engine.connection import Connection
from vmaftune.errors import ToolError


class Scheduler:
    """One that answers with workers, with nothing, or not."""

    def __init__(self) -> None:
        self.status = "running"
        self.failure: Exception | None = None
        self.scheduler = SimpleNamespace(identity=self.identity)

    async def identity(self) -> dict[str, Any]:
        if self.failure:
            raise self.failure
        return {"workers": {f"tls://h:{n}": {"nthreads": 2, "id": n} for n in range(7)}}

    def scheduler_info(self) -> dict[str, Any]:
        """As Dask's own timer leaves it at times, and older versions do beyond five workers."""
        return {"workers": {}}

    def sync(self, ask: Callable[[], Coroutine[Any, Any, Any]], callback_timeout: float) -> Any:
        return asyncio.run(ask())


def test_all_workers_are_seen_and_stay_while_an_answer_is_missing() -> None:
    client = Scheduler()
    there = Connection(client)
    assert len(there.look()) == 7
    client.failure = OSError("Timed out")
    assert len(there.look()) == 7 and there.num_slots == 14


@pytest.mark.parametrize("gone", ["closed", "silent"])
def test_a_scheduler_that_left_or_says_nothing_for_a_minute_is_gone(
    gone: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = Scheduler()
    there = Connection(client)
    there.look()
    client.failure = TimeoutError()
    if gone == "closed":
        client.status = "closed"
    else:
        monkeypatch.setattr(connection, "SILENT_S", -1.0)
    with pytest.raises(ToolError, match="the cluster's scheduler is gone"):
        there.look()
