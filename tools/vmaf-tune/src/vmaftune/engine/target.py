"""Which cluster `--cluster`, `--workers` and `--insecure` ask for."""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass
from pathlib import Path

from vmaftune.errors import UsageError

LOCAL = "local"


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """Which cluster: an address, a scheduler's file, or `local` with a number of processes."""

    address: str
    num_workers: int | None = None
    is_insecure: bool = False


def check_target(cluster: str | None, workers: int | None, *, insecure: bool) -> Target | None:
    """What `--cluster`, `--workers` and `--insecure` ask for; None for this machine alone.

    Raises UsageError for a plain address that others could reach: whoever reaches a Dask port runs
    code.
    """
    if cluster is None:
        return None if workers is None else Target(address=LOCAL, num_workers=workers)
    if cluster != LOCAL and workers is not None:
        raise UsageError("--workers starts processes here: it goes with --cluster local")
    if "://" in cluster:
        check_address(cluster, insecure=insecure)
    elif cluster != LOCAL and not Path(cluster).is_file():
        raise UsageError(
            f"--cluster takes tls://HOST:PORT, the path of a scheduler's file, or local, not"
            f" {cluster!r}"
        )
    return Target(address=cluster, num_workers=workers, is_insecure=insecure)


def check_address(address: str, *, insecure: bool) -> None:
    match = re.fullmatch(r"(tls|tcp)://(\[[^\]]+\]|[^:/]+):\d+", address)
    if match is None:
        raise UsageError(f"--cluster {address}: an address is tls://HOST:PORT, such as port 8786")
    if match[1] == "tcp" and not insecure and not _is_loopback(match[2]):
        raise UsageError(
            f"--cluster {address} is not encrypted, and whoever reaches a Dask port runs code on"
            " every worker; use tls://, or take the risk with --insecure"
        )


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False
