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
from functools import partial
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
from vmaftune.engine.carrier import Carrier, Errands, WhenCarried, WorkerLeft
from vmaftune.engine.connection import CONNECT_S, SCHEDULER_GONE, Connection, connect, reason_of
from vmaftune.engine.executor import Ended, Happening, Noticed, Preparing, Started, Task
from vmaftune.engine.floor import Floor, Place, slots_of
from vmaftune.engine.limits import Limits
from vmaftune.engine.members import GONE, Member, gpu_names, unlike
from vmaftune.engine.results import Number, Results
from vmaftune.engine.stages import MeasuredEncode, Worker
from vmaftune.engine.target import Target
from vmaftune.errors import ToolError, VmafTuneError
from vmaftune.media.failure import CellFailure
from vmaftune.media.ffmpeg import Ffmpeg

KINDS = tuple(dict.fromkeys(row.kind for row in ENCODERS.values() if row.kind))
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
        self._over: list[Any] = []
        self._inbox: queue.SimpleQueue[tuple[str, Any]] = queue.SimpleQueue()
        self._results = Results(
            connection.client, lambda found: self._inbox.put(("results", found))
        )
        self._carrier: Carrier | None = None
        self._num_carried = 0
        self._parked: dict[tuple[str, str], list[Attempt]] = {}
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
        errands = Errands(put=bench.put_piece, get=bench.get_piece, clear=bench.clear_place)
        self._carrier = Carrier(self._connection, self._settings.session, errands)
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
            self._fill()  # before the client writes what has ended, not after
            self._release()
            batch, self._told = self._told, []
            if batch:
                yield batch

    def _wait(self) -> None:
        """Take in what has happened; at most LOOK_S until something does."""
        try:
            happened = [self._inbox.get(timeout=LOOK_S / 2)]
        except queue.Empty:
            return
        while not self._inbox.empty():
            happened.append(self._inbox.get())
        ready: dict[str, dict[Number, Any]] = {}
        for kind, what in happened:
            if kind == "end":
                self._sort(what, ready)
            elif kind == "results":
                for number, value in what.items():
                    self._take_in(number, value)
            else:
                self._carried(*what)
        for address, futures in ready.items():
            self._results.want(address, futures)

    def _sort(self, number: Number, ready: dict[str, dict[Number, Any]]) -> None:
        """A task of Dask's has ended: its result is to come; one that failed has none."""
        address, future = self._task_of(number)
        if address is None:
            return
        if future.status == "finished":
            ready.setdefault(address, {})[number] = future
        else:
            self._take_in(number, None)

    def _task_of(self, number: Number) -> tuple[str | None, Any]:
        """The worker and the future of a task of Dask's; None and None when it was given up."""
        if isinstance(number, str):
            address = next((a for a, m in self._members.items() if m.token.key == number), None)
            return address, self._members[address].token if address else None
        if number not in self._futures or number not in self._floor.running:
            return None, None
        return self._floor.running[number][0].name, self._futures[number]

    def _take_in(self, number: Number, value: object) -> None:
        """The result of a task, an exception instead, or None."""
        if isinstance(number, str):
            self._greet(number, value)
        else:
            self._ended(number, value)

    def close(self) -> None:
        """See Executor.close."""
        self._floor.clear()
        self._unfinished.clear()
        futures = [*self._futures.values(), *(m.token for m in self._members.values() if m.token)]
        with suppress(Exception):
            self._connection.client.cancel(futures, force=True)
        self._futures.clear()
        self._members.clear()
        if self._carrier is not None:
            self._carrier.close()
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
        token.add_done_callback(lambda done: self._inbox.put(("end", done.key)))

    def _greet(self, key: str, answer: object) -> None:
        """A worker has said what it is: take it, or say why not."""
        address, token = self._task_of(key)
        if address is None:
            return
        member = self._members[address]
        assert self._mine is not None and self._settings is not None
        if isinstance(answer, WorkerFacts):
            member.facts = answer
            member.problem = unlike(self._mine, answer)
        else:
            failure = answer if isinstance(answer, Exception) else _exception_of(token)
            member.problem = (
                f"it cannot run vmaf-tune ({reason_of(failure)})" if failure else "it left"
            )
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
        self._forget(address)
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
        self._forget(address)
        self._floor.leave(address, is_counted=False)

    def _forget(self, address: str) -> None:
        """Nothing more is waited for from a worker."""
        self._results.forget(address)
        for key in [key for key in self._parked if key[0] == address]:
            del self._parked[key]

    def _check_somebody(self, now: float) -> None:
        """Raise ToolError when nobody has worked for `nobody_s` seconds."""
        if self._floor.running or self._told or self._num_carried or not self._unfinished:
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
        problems = [f"{m.name}: {m.problem or 'no answer'}" for m in self._members.values()]
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
        future.add_done_callback(lambda _: self._inbox.put(("end", attempt.number)))

    def _ended(self, number: int, outcome: object) -> None:
        """An attempt has ended; one that was given up meanwhile is ignored."""
        future = self._futures.pop(number, None)
        if future is None or number not in self._floor.running:
            return
        place, attempt = self._floor.running[number]
        if not isinstance(outcome, Outcome):
            self._broken(attempt, outcome or _exception_of(future))
            return
        self._over.append(future)
        if outcome.error is None:
            self._went_well(place, attempt, outcome)
        else:
            self._went_wrong(place, attempt, outcome)

    def _release(self) -> None:
        """Let Dask forget the attempts that are over.

        After the next ones are on their way: Dask sends at most one message in 10 ms, and a worker
        would wait those for its next attempt.
        """
        for future in self._over:
            future.release()
        self._over.clear()

    def _broken(self, attempt: Attempt, failure: object) -> None:
        """Dask itself could not run it: its worker is going, or the program is wrong."""
        lost = isinstance(failure, (OSError, CancelledError))
        if lost or not isinstance(failure, Exception) or type(failure).__name__ == "KilledWorker":
            self._looked_at = 0.0
            self._floor.again(replace(attempt, step=0) if attempt.step else attempt)
            return
        raise failure

    def _went_well(self, place: Place, attempt: Attempt, outcome: Outcome) -> None:
        if not self._floor.done(attempt, outcome.value):
            return
        value, who = outcome.value, self._who(place.name, attempt)
        if attempt.task.keep and isinstance(value, MeasuredEncode):
            self._fetch(place.name, attempt, value, who)
        else:
            self._finish(attempt.task, value=value, lane=attempt.lane, **who)

    def _went_wrong(self, place: Place, attempt: Attempt, outcome: Outcome) -> None:
        error = outcome.error
        assert error is not None
        stage = attempt.task.stages[outcome.step]
        if isinstance(error, SourceMissing):
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
        """Send an attempt's source to its worker, unless that was done since it began; the attempt
        keeps its slot until it is there.
        """
        window, key = attempt.task.window, (address, sha256)
        assert window is not None
        if attempt.number < self._sent.get(key, -1):
            self._floor.again(attempt)
            return
        if key in self._parked:
            self._parked[key].append(attempt)
            return
        self._parked[key] = [attempt]
        self._told.append(Preparing(window=window))
        assert self._carrier is not None
        told = self._when_carried(partial(self._was_sent, key))
        self._carrier.send(address, Path(window.path), sha256, told)

    def _was_sent(self, key: tuple[str, str], failure: Exception | None) -> None:
        """A source is on a worker, or is not."""
        attempts = self._parked.pop(key, [])
        if not attempts:
            return  # the worker is gone
        if isinstance(failure, VmafTuneError):
            self._leave_out(key[0], str(failure))
            return
        if failure is None:
            self._sent[key] = self._floor.next_number()
        elif isinstance(failure, WorkerLeft):
            self._looked_at = 0.0
        else:
            raise failure
        for attempt in attempts:
            if attempt.number in self._floor.running:
                self._floor.again(attempt)

    def _fetch(
        self, address: str, attempt: Attempt, value: MeasuredEncode, who: Mapping[str, Any]
    ) -> None:
        """Bring a kept encode to this machine's disk."""
        assert self._worker is not None and self._carrier is not None
        task = attempt.task
        path = self._worker.place(task.place) / "out.mkv"
        here = replace(value, made=replace(value.made, path=path))
        told = self._when_carried(partial(self._was_fetched, attempt, here, who))
        self._carrier.fetch(address, value.made.path, path, task.place, told)

    def _was_fetched(
        self,
        attempt: Attempt,
        value: MeasuredEncode,
        who: Mapping[str, Any],
        failure: Exception | None,
    ) -> None:
        """A kept encode is here; if its worker is gone, it is made again."""
        if failure is None:
            self._finish(attempt.task, value=value, lane=attempt.lane, **who)
        elif isinstance(failure, WorkerLeft):
            self._looked_at = 0.0
            self._floor.add([attempt.task])
        else:
            raise failure

    def _when_carried(self, then: WhenCarried) -> WhenCarried:
        """What a carrier tells, so that `then` is called with it on this thread."""
        self._num_carried += 1
        return lambda failure: self._inbox.put(("carried", (then, failure)))

    def _carried(self, then: Callable[[Exception | None], None], failure: Exception | None) -> None:
        self._num_carried -= 1
        then(failure)


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
