"""Files between the client of a cluster and its workers: sources there, kept encodes back.

They go in pieces and on threads of their own, so that the client gives out cells meanwhile.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import CancelledError, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vmaftune.engine.attempts import BenchGone
from vmaftune.engine.connection import Connection

PIECE_BYTES = 4 << 20
AT_A_TIME = 4
LOOK_S = 2.0
WhenCarried = Callable[[Exception | None], None]
"""Called with how it went: None, WorkerLeft, or what the worker raised."""


class WorkerLeft(Exception):
    """A worker went away while a file was on its way."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Errands:
    """Functions of a worker: take a piece of a source, give a piece of an encode, remove a cell's
    folder (engine/bench.py).
    """

    put: Callable[[str, str, int, int, bytes], None]
    get: Callable[[str, str, int, int], bytes]
    clear: Callable[[str, str], None]


class Carrier:
    """Carries files to and from workers; `tell` is called on a thread of its own. `there` is what
    it calls on them.
    """

    def __init__(self, connection: Connection, session: str, there: Errands) -> None:
        self._connection, self._session, self._there = connection, session, there
        self._threads = ThreadPoolExecutor(AT_A_TIME, thread_name_prefix="carrier")
        self._is_closed = False

    def send(self, address: str, path: Path, sha256: str, tell: WhenCarried) -> None:
        """Send a source to a worker."""
        self._begin(tell, self._send, address, path, sha256)

    def fetch(
        self,
        address: str,
        there: Path,
        path: Path,
        place: str,
        tell: WhenCarried,
    ) -> None:
        """Fetch the encode of a cell to `path`, and clear the cell's folder on its worker."""
        self._begin(tell, self._fetch, address, there, path, place)

    def close(self) -> None:
        """Carry no more; what is on its way ends with its piece."""
        self._is_closed = True
        self._threads.shutdown(wait=False, cancel_futures=True)

    def _begin(self, tell: WhenCarried, carry: Callable[..., None], *args: object) -> None:
        def run() -> None:
            try:
                carry(*args)
            except Exception as failure:  # the client's thread says what each means
                tell(failure)
            else:
                tell(None)

        self._threads.submit(run)

    def _send(self, address: str, path: Path, sha256: str) -> None:
        size = path.stat().st_size
        with path.open("rb") as file:
            for offset in range(0, size, PIECE_BYTES):
                piece = file.read(PIECE_BYTES)
                self._call(address, self._there.put, sha256, size, offset, piece)

    def _fetch(self, address: str, there: Path, path: Path, place: str) -> None:
        offset = 0
        with path.open("wb") as file:
            while True:
                piece: bytes = self._call(address, self._there.get, str(there), offset, PIECE_BYTES)
                file.write(piece)
                offset += len(piece)
                if len(piece) < PIECE_BYTES:
                    break
        self._call(address, self._there.clear, place)

    def _call(self, address: str, function: Callable[..., Any], *args: object) -> Any:
        """Run something on one worker, and wait for it. Raises WorkerLeft, and what the function
        raises.
        """
        future = self._connection.submit(address, function, self._session, *args, priority=10)
        while not self._is_closed:
            try:
                return future.result(timeout=LOOK_S)
            except TimeoutError:
                if address not in self._connection.look():
                    raise WorkerLeft from None
            except (BenchGone, OSError, CancelledError) as failure:
                raise WorkerLeft from failure
        raise WorkerLeft
