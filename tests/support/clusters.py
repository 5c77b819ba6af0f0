"""A Dask cluster of separate processes over TLS, which tests may kill, stop and starve."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

Make = Callable[..., Path]
GRID = ("--encoders", "x264,x265", "--presets", "ultrafast", "--quality", "28:34:2")
NUM_CELLS = 24
TTL_S = 6


def make_authority(folder: Path, name: str) -> Mapping[str, str]:
    """A certificate of its own authority, for every role, as Dask's configuration takes it."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.x509.oid import NameOID

    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(key, hashes.SHA256())
    )
    pem, secret = folder / f"{name}.pem", folder / f"{name}.key"
    pem.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    secret.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    tls = "DASK_DISTRIBUTED__COMM__TLS__"
    roles = {
        f"{tls}{role}__{part}": str(file)
        for role in ("CLIENT", "SCHEDULER", "WORKER")
        for part, file in (("CERT", pem), ("KEY", secret))
    }
    return {f"{tls}CA_FILE": str(pem), **roles}


@pytest.fixture(scope="session")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Mapping[str, str]]:
    """The environment of a certificate authority, by name."""
    folder = tmp_path_factory.mktemp("tls")
    made: dict[str, Mapping[str, str]] = {}
    return lambda name: made.setdefault(name, make_authority(folder, name))


def children_of(pid: int) -> list[int]:
    """Processes whose parent is `pid`."""
    found = []
    for place in Path("/proc").iterdir():
        if place.name.isdigit():
            try:
                stat = (place / "stat").read_text().rpartition(")")[2].split()
            except OSError:
                continue
            if int(stat[1]) == pid and stat[0] != "Z":
                found.append(int(place.name))
    return found


@dataclass(slots=True)
class Processes:
    """A scheduler and its workers; every one of them is gone when the test ends."""

    folder: Path
    tls: Mapping[str, str]
    port: int = 0
    workers: dict[str, subprocess.Popen[str]] = field(default_factory=dict)
    scheduler: subprocess.Popen[str] | None = None

    @property
    def address(self) -> str:
        return f"tls://127.0.0.1:{self.port}"

    @property
    def env(self) -> dict[str, str]:
        return {
            **self.tls,
            "DASK_DISTRIBUTED__SCHEDULER__WORKER_TTL": f"{TTL_S}s",
            "DASK_DISTRIBUTED__COMM__TIMEOUTS__CONNECT": "10s",
            # Dask leaves sockets open when its scheduler dies.
            "PYTHONWARNINGS": "error,ignore::ResourceWarning",
        }

    def _start(self, *args: str, env: Mapping[str, str], cwd: Path) -> subprocess.Popen[str]:
        with (self.folder / f"{args[0]}.log").open("a") as log:
            return subprocess.Popen(
                [sys.executable, "-m", "dask", *args],
                env={**os.environ, **self.env, "PYTHONWARNINGS": "default", **env},
                cwd=cwd,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                text=True,
            )

    def start_scheduler(self) -> None:
        if not self.port:
            with socket.socket() as free:
                free.bind(("127.0.0.1", 0))
                self.port = free.getsockname()[1]
        self.scheduler = self._start(
            "scheduler",
            *("--host", "127.0.0.1", "--port", str(self.port), "--protocol", "tls"),
            *("--dashboard-address", "127.0.0.1:0"),
            env={},
            cwd=self.folder,
        )

    def start_worker(
        self, name: str, *args: str, slots: int = 1, env: Mapping[str, str] | None = None
    ) -> subprocess.Popen[str]:
        """A plain Dask worker in a folder of its own."""
        place = self.folder / name
        place.mkdir(exist_ok=True)
        self.workers[name] = self._start(
            "worker",
            self.address,
            *("--name", name, "--nthreads", str(slots), "--no-nanny", "--memory-limit", "0"),
            *("--local-directory", str(place), "--no-dashboard", "--death-timeout", "60"),
            *args,
            env=env or {},
            cwd=place,
        )
        return self.workers[name]

    def kill(self, name: str) -> None:
        worker = self.workers.pop(name)
        worker.kill()
        worker.wait()

    def encodes(self) -> list[int]:
        """Children of the workers: what they encode and score."""
        return [pid for worker in self.workers.values() for pid in children_of(worker.pid)]

    def scratch(self, of: Sequence[str] = ("*",)) -> list[Path]:
        """What is left of references, sources and encodes on the workers, or on some of them: one
        that was killed cannot clean up.
        """
        left = "dask-scratch-space/*/vmaf-tune-*/*/*"
        return [path for name in of for path in self.folder.glob(f"{name}/{left}")]

    def end(self) -> None:
        for child in [*self.workers.values(), *([self.scheduler] if self.scheduler else [])]:
            child.send_signal(signal.SIGCONT)
            child.kill()
            child.wait()


@pytest.fixture
def cluster(authority: Callable[[str], Mapping[str, str]], tmp_path: Path) -> Iterator[Processes]:
    """A scheduler without workers."""
    folder = tmp_path / "cluster"
    folder.mkdir()
    processes = Processes(folder, authority("ours"))
    processes.start_scheduler()
    yield processes
    processes.end()


@pytest.fixture(scope="session")
def clips(clip: Make) -> list[Path]:
    """Three clips of 16 frames."""
    return [clip(f"cluster {i}.mkv", frames=16, vf=f"hue=h={40 * i}") for i in range(3)]


@pytest.fixture(scope="session")
def alone(
    clips: list[Path],
    tmp_path_factory: pytest.TempPathFactory,
    read_run: Callable[[Path], Any],
) -> Any:
    """The rows that this machine makes without a cluster."""
    folder = tmp_path_factory.mktemp("alone")
    argv = [sys.executable, "-m", "vmaftune", "corpus", *map(str, clips), *GRID, "--out", "run"]
    subprocess.run(argv, cwd=folder, check=True, stdin=subprocess.DEVNULL, capture_output=True)
    return read_run(folder / "run")


@dataclass(slots=True)
class Sweep:
    """`corpus --cluster` as a child, its events as they come."""

    child: subprocess.Popen[str]
    events: list[dict[str, Any]] = field(default_factory=list)

    def cells(self, count: int) -> None:
        """Read events until `count` cells are done."""
        assert self.child.stdout is not None
        while sum(e["event"] == "cell" for e in self.events) < count:
            line = self.child.stdout.readline()
            assert line, f"it ended: {self.child.stderr.read() if self.child.stderr else ''}"
            self.events.append(json.loads(line))

    def end(self, code: int = 0, seconds: float = 90) -> str:
        """Wait for its end; stderr."""
        out, err = self.child.communicate(timeout=seconds)
        self.events += [json.loads(line) for line in out.splitlines()]
        assert self.child.returncode == code, f"exit {self.child.returncode}\n{err}"
        return err

    @property
    def notices(self) -> list[str]:
        return [e["message"] for e in self.events if e["event"] == "notice"]

    @property
    def hosts(self) -> list[str]:
        return [e["cell"] for e in self.events if e["event"] == "cell"]


@pytest.fixture
def sweep(tool: Any, cluster: Processes, clips: list[Path]) -> Callable[..., Sweep]:
    """Start a sweep of the clips on the cluster."""

    def start(*args: str | Path, env: Mapping[str, str] | None = None, **more: Any) -> Sweep:
        argv = ("corpus", *clips, *GRID, "--out", "run", "--json", "--cluster", cluster.address)
        return Sweep(tool.start(*argv, *args, env={**cluster.env, **(env or {})}, **more))

    return start


@pytest.fixture
def same(alone: Any, without_times: Callable[[Any], Any]) -> Callable[[Any], None]:
    """Assert that a folder's rows and frames are those of one machine, but for times and host."""

    def strip(run: Any) -> Any:
        return {
            cell: ({k: v for k, v in row.items() if k != "host"}, frames)
            for cell, (row, frames) in without_times(run).items()
        }

    def check(run: Any) -> None:
        assert strip(run) == strip(alone)
        assert len(run.frames) == len(alone.frames) == NUM_CELLS * 16
        assert (run.folder / "cells.jsonl").read_bytes().count(b"\n") == NUM_CELLS

    return check


def settle(condition: Callable[[], bool], seconds: float) -> float:
    """Seconds until `condition` holds; fails after `seconds`."""
    begin = time.monotonic()
    while not condition():
        assert time.monotonic() - begin < seconds
        time.sleep(0.02)
    return time.monotonic() - begin
