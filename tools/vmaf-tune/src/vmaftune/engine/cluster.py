"""Cells measured on many machines through Dask: the client's side.

The client decides and is the only writer; a worker measures; Dask carries. A worker is taken only
if its vmaf-tune, its ffmpeg, its libvmaf and a tiny encode by every encoder equal the client's. One
task of Dask is one attempt at one cell, pinned to a worker that has the cell's reference
(engine/floor.py decides); what runs on the worker is engine/bench.py.
"""

from __future__ import annotations

import os
import queue
import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import CancelledError
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from vmaf_train.corpus.rows import FailureKind

from vmaftune.encoders import ENCODERS
from vmaftune.engine import bench
from vmaftune.engine.attempts import (
    Attempt,
    BenchGone,
    Outcome,
    Settings,
    SourceMissing,
    WorkerFacts,
)
from vmaftune.engine.board import RETRIES, RETRY_S
from vmaftune.engine.connection import CONNECT_S, SCHEDULER_GONE, Connection, connect, reason_of
from vmaftune.engine.executor import Ended, Happening, Noticed, Preparing, Started, Task
from vmaftune.engine.floor import Floor, Place, slots_of
from vmaftune.engine.limits import Limits
from vmaftune.engine.members import GONE, Member, gpu_names, unlike
from vmaftune.engine.stages import MeasuredEncode, Worker
from vmaftune.engine.target import Target
from vmaftune.errors import ToolError
from vmaftune.media.failure import CellFailure
from vmaftune.media.ffmpeg import Ffmpeg

KINDS = tuple(dict.fromkeys(row.kind for row in ENCODERS.values() if row.kind))
PIECE_BYTES = 4 << 20
LOOK_S = 1.0
NOBODY_S = 60.0


class ClusterExecutor:
    """Runs tasks on the workers of a cluster. See Executor."""

    def __init__(self, connection: Connection, *, nobody_s: float = NOBODY_S) -> None:
        self._connection, self._nobody_s = connection, nobody_s
        self._floor = Floor()
        self._members: dict[str, Member] = {}
        self._gone: dict[str, Member] = {}
        self._futures: dict[int, Any] = {}
        self._inbox: queue.SimpleQueue[tuple[str, Any]] = queue.SimpleQueue()
        self._told: list[Happening] = []
        self._unfinished: set[str] = set()
        self._refusals: dict[str, int] = {}
        self._later: list[tuple[float, Attempt]] = []
        self._sent: dict[tuple[str, str], int] = {}
        self._mine: WorkerFacts | None = None
        self._settings: Settings | None = None
        self._worker: Worker | None = None
        self._looked_at = 0.0
        self._nobody_since = time.monotonic()

    @property
    def is_here(self) -> bool:
        """See Executor.is_here."""
        return False

    @property
    def num_slots(self) -> int:
        """Slots of all workers there are now."""
        return self._connection.num_slots

    def prepare(self, ffmpeg: Ffmpeg, teacher: str, *, budget_bytes: int, limits: Limits) -> None:
        """Say what this client is, and look at the workers there are."""
        tools = ffmpeg.identity
        self._settings = Settings(
            session=uuid.uuid4().hex[:12],
            ffmpeg=tools,
            teacher=teacher,
            cwd=os.getcwd(),
            budget_bytes=budget_bytes,
            limits=limits,
            kinds=(),
        )
        self._mine = bench.facts_of(self._settings, ffmpeg, Path.cwd())

    def start(self, worker: Worker, *, keep_references: bool) -> None:
        """See Executor.start. A reference on a worker stays while there is room."""
        self._worker = worker
        if self._settings is None:
            self.prepare(
                worker.ffmpeg,
                "vmaf_v0.6.1",
                budget_bytes=worker.references.budget_bytes,
                limits=worker.limits,
            )
        if self._connection.dashboard:
            self._told.append(Noticed(message=f"the cluster's page: {self._connection.dashboard}"))
        self.survey(is_enough=lambda: bool(self._floor.places))

    def workers(self) -> list[dict[str, object]]:
        """See Executor.workers."""
        found = {**self._gone, **{member.name: member for member in self._members.values()}}
        return [
            {
                "name": member.name,
                "host": member.facts.host if member.facts else None,
                "slots": member.num_threads,
                "resources": dict(member.resources),
                "gpus": gpu_names(member),
                "problem": member.problem,
            }
            for member in found.values()
        ]

    def survey(self, is_enough: Callable[[], bool] = lambda: False) -> list[Member]:
        """Ask every worker what it is, until that is enough; a minute at most for the slowest."""
        self._look(time.monotonic())
        end = time.monotonic() + 3 * CONNECT_S
        while time.monotonic() < end and not is_enough():
            silent = [m for m in self._members.values() if not (m.facts or m.problem)]
            if self._members and not silent:
                break
            self._wait()
            self._look(time.monotonic())
        return list(self._members.values())

    def submit(self, tasks: Sequence[Task]) -> None:
        """See Executor.submit."""
        self._unfinished.update(task.id for task in tasks)
        self._floor.add(tasks)

    def events(self) -> Iterator[list[Happening]]:
        """See Executor.events. Raises ToolError when the scheduler is gone, or nobody has worked
        for a minute.
        """
        while self._unfinished:
            self._look(time.monotonic())
            self._fill()
            self._wait()
            batch, self._told = self._told, []
            if batch:
                yield batch

    def _wait(self) -> None:
        """Take in what has happened; at most LOOK_S until something does."""
        try:
            kind, what = self._inbox.get(timeout=LOOK_S / 2)
        except queue.Empty:
            return
        while True:
            self._take_in(kind, what)
            if self._inbox.empty():
                return
            kind, what = self._inbox.get()

    def _take_in(self, kind: str, what: Any) -> None:
        if kind == "token":
            self._greet(what)
        else:
            self._ended(what)

    def close(self) -> None:
        """See Executor.close."""
        self._floor.clear()
        self._unfinished.clear()
        futures = [*self._futures.values(), *(m.token for m in self._members.values() if m.token)]
        with suppress(Exception):
            self._connection.client.cancel(futures, force=True)
        self._futures.clear()
        self._members.clear()
        self._connection.close()

    # -- who is there ---------------------------------------------------------------------------

    def _look(self, now: float) -> None:
        """Compare the scheduler's list of workers with ours, once a second."""
        if now - self._looked_at < LOOK_S:
            return
        self._looked_at = now
        if not self._connection.is_alive():
            raise ToolError(SCHEDULER_GONE)
        found = self._connection.look()
        for address, member in list(self._members.items()):
            if address not in found or str(found[address].get("id")) != member.id:
                self._lose(address)
        for address, info in found.items():
            if address not in self._members:
                self._invite(address, info)
        self._put_back(now)
        self._check_somebody(now)

    def _invite(self, address: str, info: Mapping[str, Any]) -> None:
        """Ask a new worker what it is; the future of that answer keeps its bench open."""
        assert self._settings is not None
        resources = {k: float(v) for k, v in dict(info.get("resources") or {}).items()}
        kinds = tuple(kind for kind in KINDS if kind in resources)
        token = self._connection.submit(
            address,
            bench.open_bench,
            replace(self._settings, kinds=kinds),
            key=bench.token_of(self._settings.session, address) + f"-{uuid.uuid4().hex[:6]}",
        )
        self._members[address] = Member(
            name=str(address if info.get("name") is None else info["name"]),
            token=token,
            id=str(info.get("id")),
            num_threads=int(info["nthreads"]),
            resources=resources,
        )
        token.add_done_callback(lambda done: self._inbox.put(("token", (address, done))))

    def _greet(self, answer: tuple[str, Any]) -> None:
        """A worker has said what it is: take it, or say why not."""
        address, token = answer
        member = self._members.get(address)
        if member is None or member.token.key != token.key:
            return
        assert self._mine is not None and self._settings is not None
        if member.token.status != "finished":
            failure = _exception_of(member.token)
            member.problem = (
                f"it cannot run vmaf-tune ({reason_of(failure)})" if failure else "it left"
            )
        else:
            member.facts = member.token.result()
            member.problem = unlike(self._mine, member.facts)
        if member.problem or member.facts is None:
            self._told.append(
                Noticed(message=f"worker {member.name} is left out: {member.problem}")
            )
            return
        able = frozenset(name for name, digest in member.facts.canary.items() if digest)
        place = Place(
            name=address,
            slots=slots_of(member.num_threads, member.resources),
            able=able,
            budget_bytes=self._settings.budget_bytes,
        )
        self._floor.join(place)

    def _lose(self, address: str) -> None:
        """A worker is gone: its cells go back, or are given up."""
        member = self._members.pop(address)
        self._gone[member.name] = replace(member, token=None, problem=member.problem or GONE)
        lost = [n for n, (place, _) in self._floor.running.items() if place.name == address]
        given_up = self._floor.leave(address)
        for number in lost:
            future = self._futures.pop(number, None)
            if future is not None:
                future.release()
        if lost and member.problem is None:
            self._told.append(
                Noticed(
                    message=f"worker {member.name} is gone; its {len(lost)} cells go on elsewhere"
                )
            )
        for task in given_up:
            self._finish(
                task,
                error=CellFailure(
                    FailureKind.WORKER_LOST,
                    "its worker was lost three times while it ran; see its machine",
                ),
            )

    def _leave_out(self, address: str, why: str) -> None:
        """Use a worker no more, without blaming its cells."""
        member = self._members[address]
        member.problem = why
        self._told.append(Noticed(message=f"worker {member.name} is left out: {why}"))
        for number, (place, _) in list(self._floor.running.items()):
            if place.name == address:
                future = self._futures.pop(number, None)
                if future is not None:
                    future.release()
        self._floor.leave(address, is_counted=False)

    def _check_somebody(self, now: float) -> None:
        """Raise ToolError when nobody has worked for `nobody_s` seconds."""
        if self._floor.running or self._told or not self._unfinished:
            self._nobody_since = now
            return
        if now - self._nobody_since < self._nobody_s:
            return
        if self._floor.places:
            raise ToolError(
                "no worker of the cluster can run what is left"
                f" ({', '.join(sorted(self._floor.wanted()))}); `vmaf-tune doctor --cluster` shows"
                " what each of them has"
            )
        problems = [f"{m.name}: {m.problem}" for m in self._members.values() if m.problem]
        raise ToolError(
            f"the cluster has had no usable worker for {self._nobody_s:.0f} s"
            f" ({'; '.join(problems) or 'none has joined'}); finished cells are kept, and the same"
            " command goes on"
        )

    # -- what they do ---------------------------------------------------------------------------

    def _fill(self) -> None:
        """Give every free slot an attempt."""
        for name in list(self._floor.places):
            while name in self._floor.places and (attempt := self._floor.take(name)):
                self._submit(name, attempt)

    def _submit(self, address: str, attempt: Attempt) -> None:
        assert self._settings is not None
        session = self._settings.session
        future = self._connection.submit(
            address,
            bench.run_attempt,
            session,
            attempt,
            key=f"{bench.PREFIX}-{session}-{attempt.number}",
        )
        self._futures[attempt.number] = future
        stage = attempt.task.stages[attempt.step]
        self._told.append(
            Started(task=attempt.task, stage=stage, worker=self._members[address].name)
        )
        future.add_done_callback(lambda _: self._inbox.put(("attempt", attempt.number)))

    def _ended(self, number: int) -> None:
        """An attempt has ended; one that was given up meanwhile is ignored."""
        future = self._futures.pop(number, None)
        if future is None or number not in self._floor.running:
            return
        place, attempt = self._floor.running[number]
        if future.status != "finished":
            self._broken(place, attempt, future)
            return
        outcome: Outcome = future.result()
        future.release()
        if outcome.error is None:
            self._went_well(place, attempt, outcome)
        else:
            self._went_wrong(place, attempt, outcome)

    def _broken(self, place: Place, attempt: Attempt, future: Any) -> None:
        """Dask itself could not run it: its worker is going, or the program is wrong."""
        failure = _exception_of(future)
        lost = isinstance(failure, (OSError, CancelledError))
        if failure is None or lost or type(failure).__name__ == "KilledWorker":
            self._looked_at = 0.0
            self._floor.again(replace(attempt, step=0) if attempt.step else attempt)
            return
        raise failure

    def _went_well(self, place: Place, attempt: Attempt, outcome: Outcome) -> None:
        if not self._floor.done(attempt, outcome.value):
            return
        value = outcome.value
        if attempt.task.keep and isinstance(value, MeasuredEncode):
            value = self._fetched(place.name, attempt.task, value)
            if value is None:
                self._floor.add([attempt.task])
                return
        self._finish(attempt.task, value=value, lane=attempt.lane, **self._who(place.name, attempt))

    def _went_wrong(self, place: Place, attempt: Attempt, outcome: Outcome) -> None:
        error = outcome.error
        assert error is not None
        stage = attempt.task.stages[outcome.step]
        if isinstance(error, SourceMissing):
            self._floor.again(attempt)
            self._send(place.name, attempt, error.sha256)
        elif isinstance(error, BenchGone):
            self._lose(place.name)
        elif isinstance(error, CellFailure) and error.kind == FailureKind.DISK_FULL:
            self._leave_out(place.name, "the disk of its scratch folder is full")
        elif stage.refused and stage.refused(error) and self._refused(attempt):
            return
        else:
            self._floor.end(attempt)
            self._finish(
                attempt.task,
                error=error,
                value=outcome.value,
                lane=attempt.lane,
                **self._who(place.name, attempt),
            )

    def _refused(self, attempt: Attempt) -> bool:
        """A device had no session: fewer at a time there, and this one again. False when its last
        slot was refused too often.
        """
        others = self._floor.shrink(attempt)
        if others:
            self._floor.again(attempt)
            return True
        count = self._refusals[attempt.task.id] = self._refusals.get(attempt.task.id, 0) + 1
        if count > RETRIES:
            return False
        self._later.append((time.monotonic() + RETRY_S, attempt))
        return True

    def _put_back(self, now: float) -> None:
        due = [attempt for when, attempt in self._later if when <= now]
        self._later = [(when, attempt) for when, attempt in self._later if when > now]
        for attempt in due:
            if attempt.number in self._floor.running:
                self._floor.again(attempt)

    def _finish(self, task: Task, **how: Any) -> None:
        self._unfinished.discard(task.id)
        self._told.append(Ended(task=task, **how))

    def _who(self, address: str, attempt: Attempt) -> dict[str, Any]:
        """Machine and name of a worker, and its GPU for the attempt's lane."""
        member = self._members.get(address)
        if member is None or member.facts is None:
            return {}
        facts = member.facts
        device = facts.devices.get(attempt.lane)
        return {"host": facts.host, "worker": member.name, "device": device}

    # -- files ----------------------------------------------------------------------------------

    def _send(self, address: str, attempt: Attempt, sha256: str) -> None:
        """Send an attempt's source to its worker in pieces, unless that was done since it began."""
        window = attempt.task.window
        assert window is not None
        if attempt.number < self._sent.get((address, sha256), -1):
            return
        self._told.append(Preparing(window=window))
        path = Path(window.path)
        size = path.stat().st_size
        try:
            with path.open("rb") as file:
                for offset in range(0, size, PIECE_BYTES):
                    piece = file.read(PIECE_BYTES)
                    is_last = offset + len(piece) >= size
                    self._call(address, bench.put_piece, sha256, offset, piece, is_last)
        except _Left:
            return  # its cells go on elsewhere
        self._sent[address, sha256] = self._floor.next_number()

    def _fetched(self, address: str, task: Task, value: MeasuredEncode) -> MeasuredEncode | None:
        """A kept encode on this machine's disk; None when its worker is gone."""
        assert self._worker is not None
        path = self._worker.place(task.place) / "out.mkv"
        there, offset = str(value.made.path), 0
        try:
            with path.open("wb") as file:
                while True:
                    piece: bytes = self._call(address, bench.get_piece, there, offset, PIECE_BYTES)
                    file.write(piece)
                    offset += len(piece)
                    if len(piece) < PIECE_BYTES:
                        break
            self._call(address, bench.clear_place, task.place)
        except _Left:
            return None
        return replace(value, made=replace(value.made, path=path))

    def _call(self, address: str, function: Callable[..., Any], *args: Any) -> Any:
        """Run something on one worker now, and wait for it. Raises _Left when the worker is gone,
        and what the function raises.
        """
        assert self._settings is not None
        session = self._settings.session
        future = self._connection.submit(address, function, session, *args, priority=10)
        while True:
            try:
                return future.result(timeout=2 * LOOK_S)
            except TimeoutError:
                if address not in self._connection.look():
                    raise _Left from None
            except (BenchGone, OSError, CancelledError) as failure:
                raise _Left from failure


class _Left(Exception):
    """A worker is gone."""


def _exception_of(future: Any) -> BaseException | None:
    with suppress(Exception):
        found: BaseException | None = future.exception(timeout=1)
        return found
    return None


def join(
    target: Target, ffmpeg: Ffmpeg, teacher: str, *, budget_bytes: int, limits: Limits
) -> ClusterExecutor:
    """An executor on the cluster that was asked for. Raises as `connect`."""
    executor = ClusterExecutor(connect(target))
    try:
        executor.prepare(ffmpeg, teacher, budget_bytes=budget_bytes, limits=limits)
    except BaseException:
        executor.close()
        raise
    return executor


def survey(connection: Connection, ffmpeg: Ffmpeg, teacher: str) -> list[Member]:
    """What every worker of a cluster is, and why it would be left out."""
    executor = ClusterExecutor(connection)
    executor.prepare(ffmpeg, teacher, budget_bytes=2**30, limits=Limits())
    return executor.survey()
