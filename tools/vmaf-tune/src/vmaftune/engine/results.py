"""The results of a cluster's tasks, brought to the client in batches and off its deciding thread.

A result travels from its worker through the scheduler on request. To ask for each of them, and to
wait for it, costs a round trip a cell, and all cells wait when a worker hangs, or dies after its
task has ended. So Dask's own thread asks, for all that a worker has ready at once.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from typing import Any

Number = int | str
"""Of an attempt, or the key of the task that opened a worker's bench."""


class Results:
    """One request at a time for each worker: a worker that hangs keeps back its own results alone.

    `tell` is called on Dask's thread with what arrived, by number: the value, or the exception that
    came instead. What a worker never gives, because it is gone, is never told.
    """

    def __init__(self, client: Any, tell: Callable[[Mapping[Number, object]], None]) -> None:
        self._client, self._tell = client, tell
        self._wanted: dict[str, dict[Number, Any]] = {}
        self._asking: dict[str, asyncio.Task[None]] = {}

    def want(self, address: str, futures: Mapping[Number, Any]) -> None:
        """Bring what the futures of tasks that have ended on a worker hold."""
        self._client.loop.add_callback(self._want, address, futures)

    def forget(self, address: str) -> None:
        """A worker is gone: what it has not given does not come."""
        self._client.loop.add_callback(self._forget, address)

    def _want(self, address: str, futures: Mapping[Number, Any]) -> None:
        self._wanted.setdefault(address, {}).update(futures)
        if address not in self._asking:
            self._asking[address] = asyncio.ensure_future(self._bring(address))

    def _forget(self, address: str) -> None:
        self._wanted.pop(address, None)
        task = self._asking.pop(address, None)
        if task is not None:
            task.cancel()

    async def _bring(self, address: str) -> None:
        while futures := self._wanted.pop(address, None):
            found: Mapping[Number, object]
            try:
                found = await self._client.gather(futures, errors="skip", asynchronous=True)
            except Exception as failure:  # the client's thread says what each means
                found = dict.fromkeys(futures, failure)
            self._tell(found)
        del self._asking[address]
