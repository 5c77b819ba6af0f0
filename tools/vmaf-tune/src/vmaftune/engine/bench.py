"""What runs inside a worker of a cluster: its bench, where attempts of cells are made.

A worker is a plain `dask worker` with vmaf-tune installed; nothing of ours is started on it. The
client opens a bench on it by a task whose result it holds: that result is the token of the bench.
When the client goes away, however it goes, the scheduler lets the token go, and the bench kills its
children and empties its scratch folder.
"""

from __future__ import annotations

import hashlib
import os
import platform
import shutil
import threading
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from importlib import metadata
from pathlib import Path
from typing import Any

import vmaf_train
from vmaf_train.files import sha256_file

import vmaftune
from vmaftune.cell import Tools, Window
from vmaftune.encoders import ENCODERS, Encoder
from vmaftune.engine.attempts import (
    Attempt,
    BenchGone,
    Outcome,
    Settings,
    SourceMissing,
    WorkerFacts,
)
from vmaftune.engine.stages import Worker
from vmaftune.errors import ToolError, VmafTuneError
from vmaftune.hardware.gpus import Device, look
from vmaftune.media.encode import COMMON
from vmaftune.media.failure import CellFailure
from vmaftune.media.ffmpeg import ENV_FFMPEG, Ffmpeg, find_ffmpeg, identify
from vmaftune.media.process import Runner

PREFIX = "vmaf-tune"
CANARY_FRAMES, CANARY_SIZE, CANARY_TIMEOUT_S = 10, "320x180", 120.0


def package_digest() -> str:
    """Digest of the program's own files: an editable install keeps an old version number."""
    digest = hashlib.sha256()
    for package in (vmaftune, vmaf_train):
        top = Path(package.__path__[0])
        for file in sorted(top.rglob("*.py")):
            digest.update(file.relative_to(top).as_posix().encode() + b"\0" + file.read_bytes())
    return digest.hexdigest()


def version() -> str:
    """The installed version."""
    return metadata.version("vmaf-tune")


def canary_argv(encoder: Encoder, device: Device | None = None) -> list[str]:
    """The command that encodes some made-up frames and prints the digest of its packets."""
    address = device.address if device else None
    quality = encoder.default_quality[len(encoder.default_quality) // 2]
    upload = f",{encoder.upload_filter}" if encoder.upload_filter else ""
    source = f"testsrc2=size={CANARY_SIZE}:rate=25"
    return [
        *(*COMMON, "-v", "error", "-filter_threads", "1"),
        *encoder.input_arguments(address),
        *("-f", "lavfi", "-i", source, "-frames:v", str(CANARY_FRAMES)),
        *("-vf", f"format={encoder.pix_fmts[0]}{upload}"),
        *encoder.arguments(encoder.default_preset, quality, 1, num_frames=CANARY_FRAMES),
        *encoder.gpu_arguments(address),
        *("-fflags", "+bitexact", "-flags:v", "+bitexact"),
        *("-f", "streamhash", "-hash", "sha256", "-"),
    ]


def canaries(
    ffmpeg: Ffmpeg, kinds: tuple[str, ...], devices: Mapping[str, Device]
) -> dict[str, str | None]:
    """Digest of a tiny encode by encoder: all software ones, and hardware of `kinds`."""
    found: dict[str, str | None] = {}
    for name, row in ENCODERS.items():
        if row.kind is not None and row.kind not in kinds:
            continue
        device = devices.get(row.kind) if row.kind else None
        done = ffmpeg.run(canary_argv(row, device), timeout_s=CANARY_TIMEOUT_S)
        fine = done.returncode == 0 and not done.timed_out
        text = done.stdout.decode("utf-8", "replace").strip()
        found[name] = text if fine and text else None
    return found


def facts_of(settings: Settings, ffmpeg: Ffmpeg | None, scratch: Path) -> WorkerFacts:
    """What this machine is, to be compared with the client's own."""
    devices = devices_of(settings.kinds)
    return WorkerFacts(
        host=platform.node(),
        cpu=platform.processor() or platform.machine(),
        version=version(),
        package=package_digest(),
        ffmpeg=ffmpeg.identity if ffmpeg else None,
        canary=canaries(ffmpeg, settings.kinds, devices) if ffmpeg else {},
        free_bytes=shutil.disk_usage(scratch).free,
        devices=devices,
    )


def devices_of(kinds: Sequence[str]) -> dict[str, Device]:
    """The GPU that cells of each kind are sent to: the first that is here. None is named where the
    machine does not tell; ffmpeg chooses then.
    """
    if not kinds:
        return {}
    gpus = look()
    first = {kind: gpus.devices(kind)[0] for kind in kinds}
    return {kind: device for kind, device in first.items() if device is not None}


def ffmpeg_like(wanted: Tools, teacher: str, runner: Runner) -> Ffmpeg:
    """The one that this worker was told to use; else the same binary as the client's, if it lies in
    the same place; else its own. Raises ToolError.
    """
    path = Path(wanted.ffmpeg)
    if (
        not os.environ.get(ENV_FFMPEG)
        and os.access(path, os.X_OK)
        and sha256_file(path) == wanted.ffmpeg_sha256
    ):
        return identify(runner, str(path), teacher)
    return identify(runner, find_ffmpeg(), teacher)


class BenchWorker(Worker):
    """A worker whose sources may lie elsewhere than the client's."""

    def __init__(self, settings: Settings, folder: Path, ffmpeg: Ffmpeg) -> None:
        super().__init__(folder, ffmpeg, budget_bytes=settings.budget_bytes, limits=settings.limits)
        self._cwd = settings.cwd
        self._sources = folder / "sources"
        self._sources.mkdir()
        self._known: dict[tuple[str, int, int], str] = {}
        self._sizes: dict[str, int] = {}
        self._in_use: Counter[str] = Counter()
        self._coming: set[str] = set()
        self._lock = threading.Lock()

    def _make(self, window: Window, path: Path) -> int:
        with self._reading(window) as source:
            return super()._make(replace(window, path=str(source)), path)

    @contextmanager
    def _reading(self, window: Window) -> Iterator[Path]:
        """The source's file: where the client has it, if the content is the same, else what the
        client has sent, which stays meanwhile. Raises SourceMissing.
        """
        shared = Path(self._cwd, window.path)
        if shared.is_file() and self._digest(shared, window.size_bytes) == window.sha256:
            yield shared
            return
        with self._lock:
            sent = self._sources / window.sha256
            if not sent.exists():
                raise SourceMissing(window.sha256)
            self._in_use[window.sha256] += 1
        try:
            yield sent
        finally:
            with self._lock:
                self._in_use[window.sha256] -= 1

    def _digest(self, path: Path, num_bytes: int) -> str | None:
        found = path.stat()
        if found.st_size != num_bytes:
            return None
        key = (str(path), found.st_size, found.st_mtime_ns)
        with self._lock:
            if key not in self._known:
                self._known[key] = sha256_file(path)
            return self._known[key]

    def take(self, sha256: str, num_bytes: int, offset: int, piece: bytes) -> None:
        """Write a piece of a source of `num_bytes` that the client sends; the last one is checked.

        Raises ToolError for a source that has no room, or that came otherwise than it was sent.
        """
        part = self._sources / f"{sha256}.part"
        try:
            if not offset:
                self._make_room(sha256, num_bytes)
            with part.open("r+b" if offset else "wb") as file:
                file.seek(offset)
                file.write(piece)
        except OSError as failure:  # a worker that leaves looks like one to the client
            raise ToolError(f"a source cannot be written there ({failure.strerror})") from failure
        if offset + len(piece) < num_bytes:
            return
        if sha256_file(part) != sha256:
            part.unlink()
            raise ToolError("a source arrived with other content than was sent")
        part.rename(self._sources / sha256)
        with self._lock:
            self._coming.discard(sha256)

    def _make_room(self, sha256: str, num_bytes: int) -> None:
        """Sent sources stay within the budget: the oldest goes first, and may be sent again. Those
        that are read or on their way stay.
        """
        budget = self.references.budget_bytes
        if num_bytes > budget:
            raise ToolError(
                f"a source of {num_bytes:,} bytes that does not lie there is larger than"
                f" --scratch-budget ({budget:,} bytes); let the worker see it, or allow more"
            )
        with self._lock:
            self._sizes[sha256] = num_bytes
            self._coming.add(sha256)
            for name in list(self._sizes):
                if sum(self._sizes.values()) <= budget:
                    return
                if self._in_use[name] or name in self._coming:
                    continue
                (self._sources / name).unlink(missing_ok=True)
                del self._sizes[name]


class Bench:
    """A client's place on this worker."""

    def __init__(self, worker: BenchWorker) -> None:
        self.worker = worker

    def end(self) -> None:
        """Kill what runs, and remove everything."""
        self.worker.ffmpeg.runner.stop()
        shutil.rmtree(self.worker.folder, ignore_errors=True)


_BENCHES: dict[str, Bench] = {}


def token_of(session: str, address: str) -> str:
    """The key of the task whose result holds a bench open."""
    return f"{PREFIX}-token-{session}-{address}"


class Watch:
    """A worker's plugin that ends a bench when its token is let go, or the worker closes.

    No subclass of Dask's: this module is imported where Dask is not installed.
    """

    def __init__(self, session: str, worker: Any) -> None:
        self._session, self._worker = session, worker
        self._prefix = token_of(session, "")
        self.name = f"{PREFIX}-{session}"

    def transition(self, key: object, start: str, finish: str, **_: object) -> None:
        """Called in the worker's event loop, which must not wait."""
        is_ours = isinstance(key, str) and key.startswith(self._prefix)
        if is_ours and start == "memory" and finish in ("released", "forgotten"):
            self._end()

    def teardown(self, worker: Any) -> None:
        """The worker closes."""
        self._end()

    def _end(self) -> None:
        bench = _BENCHES.pop(self._session, None)
        if bench is not None:
            bench.worker.ffmpeg.runner.stop()
            self._worker.loop.add_callback(self._worker.plugins.pop, self.name, None)
            threading.Thread(target=bench.end, daemon=True).start()


def open_bench(settings: Settings) -> WorkerFacts:
    """Make a bench for a client on the worker that runs this, and say what the worker is."""
    from distributed import get_worker

    here = get_worker()
    scratch = Path(here.local_directory, f"{PREFIX}-{settings.session}")
    scratch.mkdir(parents=True, exist_ok=True)
    try:
        ffmpeg = ffmpeg_like(settings.ffmpeg, settings.teacher, Runner())
    except VmafTuneError as failure:
        return replace(facts_of(settings, None, scratch), problem=str(failure))
    found = facts_of(settings, ffmpeg, scratch)
    watch = Watch(settings.session, here)
    # In the event loop, which goes through the plugins.
    here.loop.add_callback(here.plugins.__setitem__, watch.name, watch)
    if settings.session not in _BENCHES:
        place = scratch / str(os.getpid())
        shutil.rmtree(place, ignore_errors=True)
        place.mkdir()
        worker = BenchWorker(settings, place, ffmpeg)
        worker.devices = found.devices
        _BENCHES[settings.session] = Bench(worker)
    return found


def _bench(session: str) -> BenchWorker:
    bench = _BENCHES.get(session)
    if bench is None:
        raise BenchGone(session)
    return bench.worker


def run_attempt(session: str, attempt: Attempt) -> Outcome:
    """Run the stages of an attempt. Errors come back as values: which of them are the cell's own is
    for the client to say.
    """
    step, value = attempt.step, attempt.value
    task = attempt.task
    try:
        worker = _bench(session)
        for step in range(attempt.step, attempt.end):
            value = task.stages[step].on(attempt.lane)(worker, value)
    except (CellFailure, VmafTuneError, SourceMissing, BenchGone) as error:
        return Outcome(step=step, value=value, error=error)
    finally:
        is_over = attempt.end == len(task.stages)
        if is_over and not task.keep and session in _BENCHES:
            _BENCHES[session].worker.clear(task.place)
    return Outcome(step=attempt.end - 1, value=value)


def put_piece(session: str, sha256: str, num_bytes: int, offset: int, piece: bytes) -> None:
    """Take a piece of a source."""
    _bench(session).take(sha256, num_bytes, offset, piece)


def get_piece(session: str, path: str, offset: int, num_bytes: int) -> bytes:
    """Give a piece of an encode that the client wants to keep; less than asked for at its end."""
    _bench(session)
    with open(path, "rb") as file:
        file.seek(offset)
        return file.read(num_bytes)


def clear_place(session: str, place: str) -> None:
    """Remove a cell's folder."""
    _bench(session).clear(place)
