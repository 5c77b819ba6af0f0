"""This process's connection to a Dask scheduler, joined or started here.

The only module that imports Dask on the client's side. Dask has no types; what it gives is typed
here.
"""

from __future__ import annotations

import asyncio
import json
import logging
import shutil
import tempfile
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from vmaf_train.errors import DependencyError

from vmaftune.engine.target import LOCAL, Target, check_address
from vmaftune.errors import ToolError, UsageError
from vmaftune.media.ffmpeg import usable_cores

CONNECT_S = 20.0
ANSWER_S, SILENT_S = 10.0, 60.0
"""How long one answer of the scheduler may take, and how long all of them may."""
SCHEDULER_GONE = (
    "the cluster's scheduler is gone; finished cells are kept, and the same command goes on when it"
    " is back"
)


def connect(target: Target) -> Connection:
    """Join a cluster, or start one here.

    Raises DependencyError without Dask, ToolError when nobody answers or the certificates do not
    fit, UsageError as `check_target`.
    """
    try:
        distributed = _dask()
    except ImportError as failure:
        raise DependencyError(
            "--cluster needs Dask; install it with: pip install 'vmaf-tune[cluster]'"
        ) from failure
    _silence()
    if target.address == LOCAL:
        return _local(target.num_workers or 2)
    address = target.address
    if "://" not in address:
        address = _address_in(Path(address))
    check_address(address, insecure=target.is_insecure)
    seconds = min(CONNECT_S, _configured_s())
    try:
        # First by hand: a client of Dask's that nobody answers cannot be thrown away quietly.
        asyncio.run(_reach(address, seconds))
        client = distributed.Client(address, timeout=seconds, set_as_default=False)
    except (OSError, TimeoutError, TypeError, ValueError, RuntimeError) as failure:
        raise ToolError(
            f"no scheduler answers at {target.address} within {seconds:.0f} s"
            f" ({reason_of(failure)}); is it running, and do its certificates and yours"
            " (DASK_DISTRIBUTED__COMM__TLS__...) belong together?"
        ) from failure
    return Connection(client)


def _silence() -> None:
    """Dask tells of every lost worker in its own words; ours are enough."""
    for name in ("distributed", "tornado", "asyncio", *logging.root.manager.loggerDict):
        if name.partition(".")[0] in ("distributed", "tornado", "asyncio"):
            logging.getLogger(name).setLevel(logging.CRITICAL + 1)


def _address_in(file: Path) -> str:
    """The address in a scheduler's file. Raises UsageError."""
    try:
        return str(json.loads(file.read_text(encoding="utf-8"))["address"])
    except (OSError, ValueError, KeyError, TypeError) as failure:
        raise UsageError(
            f"{file} is not a file that `dask scheduler --scheduler-file` wrote"
        ) from failure


def _configured_s() -> float:
    """How long Dask's configuration lets a connection take, seconds."""
    import dask

    configured: Any = dask.config.get("distributed.comm.timeouts.connect", "30s")
    return float(dask.utils.parse_timedelta(configured))


async def _reach(address: str, seconds: float) -> None:
    """Open a connection to a scheduler and close it. Raises OSError and others."""
    distributed = _dask()
    arguments = distributed.Security().get_connection_args("client")
    comm = await distributed.comm.connect(address, timeout=seconds, **arguments)
    await comm.close()


def _dask() -> Any:
    """Dask's module, which has no types."""
    import distributed

    return distributed


def reason_of(failure: BaseException) -> str:
    text = str(failure.__cause__ or failure).strip() or type(failure).__name__
    return text.splitlines()[0][:200]


def _quieten() -> None:
    """Leave out what Dask watches of itself: a hundred looks a second at each worker took 1 s of
    CPU of each in a sweep of 50 s, and fifty ticks a second of every event loop 6% of a core.
    """
    import dask

    dask.config.set(
        {
            "distributed.worker.profile.enabled": False,
            "distributed.admin.system-monitor.interval": "10s",
            "distributed.admin.tick.interval": "1s",
            "distributed.scheduler.work-stealing": False,  # every task is pinned to its worker
        }
    )


def _local(num_workers: int) -> Connection:
    """Worker processes on this machine, which share its cores."""
    distributed = _dask()
    try:
        security: Any = distributed.Security.temporary()
    except ImportError:  # without the package that makes certificates: loopback only
        security = None
    scratch = tempfile.mkdtemp(prefix="vmaf-tune-")
    _quieten()
    cluster = distributed.LocalCluster(
        n_workers=num_workers,
        threads_per_worker=max(1, usable_cores() // num_workers),
        memory_limit=0,
        local_directory=scratch,
        security=security,
        silence_logs=logging.CRITICAL,
        dashboard_address="127.0.0.1:0",
    )
    client = distributed.Client(cluster, set_as_default=False)
    return Connection(client, cluster, scratch)


class Connection:
    """A client of a cluster, and the cluster itself where this process started it."""

    def __init__(self, client: Any, cluster: Any = None, scratch: str | None = None) -> None:
        self.client, self._cluster, self._scratch = client, cluster, scratch
        self._seen: Mapping[str, Mapping[str, Any]] = {}
        self._heard_at = time.monotonic()

    @property
    def dashboard(self) -> str | None:
        """The address of the scheduler's page; None where it has none."""
        with suppress(LookupError, OSError, ValueError):  # it is gone already
            link = self.client.dashboard_link
            return str(link) if link else None
        return None

    def submit(self, address: str, function: Callable[..., Any], *args: Any, **how: Any) -> Any:
        """Have the worker at `address` call a function; its future. Raises ToolError when the
        scheduler is gone.
        """
        try:
            return self.client.submit(
                function,
                *args,
                workers=[address],
                allow_other_workers=False,
                pure=False,
                **how,
            )
        except Exception as failure:
            if self.is_alive():
                raise
            raise ToolError(SCHEDULER_GONE) from failure

    def look(self) -> Mapping[str, Mapping[str, Any]]:
        """The workers by address, as the scheduler sees them. Raises ToolError when it is gone, or
        has said nothing for a minute.
        """
        # Not `scheduler_info`: a timer of Dask's leaves it without workers every two seconds.
        try:
            found: Mapping[str, Any] = self.client.sync(self._ask, callback_timeout=ANSWER_S)
            self._seen, self._heard_at = found["workers"], time.monotonic()
        # Dask's client loses its parts one by one when its scheduler goes.
        except (OSError, ValueError, RuntimeError, LookupError, AttributeError) as failure:
            if not self.is_alive() or time.monotonic() - self._heard_at > SILENT_S:
                raise ToolError(SCHEDULER_GONE) from failure
        return self._seen

    async def _ask(self) -> Any:
        return await self.client.scheduler.identity()

    def is_alive(self) -> bool:
        """True while the scheduler answers."""
        return str(self.client.status) == "running"

    def close(self) -> None:
        """Leave the cluster; end it if it is ours."""
        with suppress(Exception):
            self.client.close(timeout=3)
        if self._cluster is not None:
            with suppress(Exception):
                self._cluster.close(timeout=5)
        if self._scratch is not None:
            shutil.rmtree(self._scratch, ignore_errors=True)

    @property
    def num_slots(self) -> int:
        """Threads of all workers there are now, at least 1."""
        return max(1, sum(int(info["nthreads"]) for info in self.look().values()))
