"""The scheduler: what it decides, in virtual time with known costs, and that its threads do what it
decides.
"""

from __future__ import annotations

import heapq
import itertools
import random
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import pytest
from vmaftune.engine.board import RETRIES, RETRY_S, TOO_MANY, Board, Job
from vmaftune.engine.executor import CPU, Ended, Happening, Stage, Started, Task
from vmaftune.engine.lanes import LaneExecutor

Plan = tuple[list[Task], dict[str, int]]


def nothing(_: Any, value: Any) -> Any:
    return value


def run(lanes: Mapping[str, int], tasks: Sequence[Task]) -> Iterator[Happening]:
    """What happens to `tasks` on `lanes`."""
    executor = LaneExecutor(lanes)
    executor.start(None)
    try:
        executor.submit(tasks)
        for batch in executor.events():
            yield from batch
    finally:
        executor.close()


def stage(name: str, lane: str, cost_s: float, *others: str) -> Stage:
    return Stage(
        name=name, lane=lane, cost_s=cost_s, run=nothing, others=dict.fromkeys(others, nothing)
    )


def simulate(
    tasks: Sequence[Task],
    lanes: Mapping[str, int],
    *,
    speed: Mapping[str, float] | None = None,
    sessions: Mapping[str, int] | None = None,
    actual: Callable[[Job], float] = lambda job: job.stage.cost_s,
) -> tuple[float, Board]:
    """Wall time of `tasks` when every stage takes what `actual` says, divided by its lane's
    `speed`.

    `sessions` are what devices really allow: one job more, and it is refused after 0.3 s.
    """
    board = Board(tasks, lanes)
    now, ended, number = 0.0, 0, itertools.count()
    running: list[tuple[float, int, Job, str]] = []

    def start(job: Job) -> None:
        if sessions and board.running[job.lane] > sessions.get(job.lane, 99):
            heapq.heappush(running, (now + 0.3, next(number), job, "refused"))
            return
        heapq.heappush(
            running, (now + actual(job) / (speed or {}).get(job.lane, 1), next(number), job, "done")
        )

    while True:
        for lane in lanes:
            while job := board.take(lane):
                start(job)
        if not running:
            break
        now, _, job, what = heapq.heappop(running)
        if what == "refused":
            assert board.refuse(job) == 0.0
            board.put_back(job)
            continue
        ended += job.step + 1 == len(job.task.stages)
        following = board.done(job, None)
        if following:
            start(following)
    assert ended == len(tasks), "every task ends"
    return now, board


def best_possible(
    tasks: Sequence[Task], lanes: Mapping[str, int], speed: Mapping[str, float] | None = None
) -> float:
    """No schedule is shorter: each lane's work at full use, between the shortest way to it and from
    it; each chain alone.
    """
    speed = speed or {}
    prepares = {t.id: sum(s.cost_s for s in t.stages) for t in tasks}

    def way_to(task: Task, step: int) -> float:
        return max((prepares[a] for a in task.after), default=0.0) + sum(
            s.cost_s for s in task.stages[:step]
        )

    bounds = [
        way_to(t, 0)
        + sum(s.cost_s / max(speed.get(x, 1) for x in (s.lane, *s.others)) for s in t.stages)
        for t in tasks
    ]
    for group in {frozenset((s.lane, *s.others)) for t in tasks for s in t.stages}:
        visits = [
            (t, i) for t in tasks for i, s in enumerate(t.stages) if {s.lane, *s.others} <= group
        ]
        work = sum(t.stages[i].cost_s for t, i in visits)
        power = sum(lanes[lane] * speed.get(lane, 1) for lane in group)
        head = min(way_to(t, i) for t, i in visits)
        tail = min(sum(s.cost_s for s in t.stages[i + 1 :]) for t, i in visits)
        bounds.append(head + work / power + tail)
    return max(bounds)


def sweep(
    sources: int, cells: Sequence[tuple[str, tuple[str, ...], float, float]], prepare_s: float = 1.5
) -> list[Task]:
    """Tasks of a sweep: per source a preparation, and cells of (encoder, lanes, encode seconds,
    scoring seconds).
    """
    chance = random.Random(5)
    tasks = []
    for n in range(sources):
        ready = f"prepare {n}"
        tasks.append(Task(id=ready, first=True, stages=(stage("prepare", CPU, prepare_s),)))
        for i, (encoder, lanes, encode_s, score_s) in enumerate(cells):
            detail = chance.uniform(0.6, 1.6)
            stages = (
                stage("encode", lanes[0], encode_s * detail, *lanes[1:]),
                stage("score", CPU, score_s * detail),
            )
            tasks.append(Task(id=f"{n}/{encoder}/{i}", after=frozenset({ready}), stages=stages))
    return tasks


NVENC, QSV = ("nvenc:0",), ("qsv:0",)


def seeds_grid() -> Plan:
    """216 cells on an RTX and an Arc with 16 cores: the Arc's one lane decides."""
    cells = [("nvenc", NVENC, e, 10.0) for e in (0.9, 1.2, 2.2) for _ in range(4)]
    cells += [("qsv", QSV, e, 10.0) for e in (1.5, 2.4, 4.0) for _ in range(4)]
    return sweep(9, cells), {CPU: 16, "nvenc:0": 8, "qsv:0": 1}


def scoring_decides() -> Plan:
    """A GPU far faster than four cores can score."""
    cells = [("nvenc", NVENC, 0.6, 9.0)] * 12 + [("x264", (CPU,), 14.0, 9.0)] * 4
    return sweep(6, cells), {CPU: 4, "nvenc:0": 3}


def one_long_cell() -> Plan:
    """A slow software cell that must begin early, beside a stream of short scorings."""
    tasks = sweep(4, [("nvenc", NVENC, 1.0, 4.0)] * 20 + [("x264", (CPU,), 6.0, 4.0)] * 6)
    long = Task(
        id="slow",
        after=frozenset({"prepare 0"}),
        stages=(stage("encode", CPU, 110.0), stage("score", CPU, 5.0)),
    )
    return [*tasks, long], {CPU: 4, "nvenc:0": 4}


def hardware_decides() -> Plan:
    """Slow AV1 on one lane beside long software cells that keep every core busy: the lane must
    never wait.
    """
    cells = [("av1_qsv", QSV, 6.0, 3.0)] * 10 + [("vvenc", (CPU,), 60.0, 3.0)] * 2
    return sweep(5, cells), {CPU: 4, "qsv:0": 1}


def two_gpus() -> Plan:
    """Cells that either of two unequal GPUs can take, and AV1 that only the newer one has."""
    cells = [("h264", ("nvenc:0", "nvenc:1"), 4.0, 1.0)] * 16 + [
        ("av1", ("nvenc:0",), 5.0, 1.0)
    ] * 6
    return sweep(6, cells), {CPU: 8, "nvenc:0": 3, "nvenc:1": 2}


@pytest.mark.parametrize(
    "plan", [seeds_grid, scoring_decides, one_long_cell, hardware_decides, two_gpus]
)
def test_makespan_is_within_5_percent_of_the_best_possible(plan: Callable[[], Plan]) -> None:
    tasks, lanes = plan()
    speed = {"nvenc:1": 0.5} if plan is two_gpus else None
    took, _ = simulate(tasks, lanes, speed=speed)
    best = best_possible(tasks, lanes, speed)
    assert best <= took <= 1.05 * best, took / best


def test_costs_that_were_guessed_wrong_cost_little() -> None:
    """Expected costs are off by up to a factor of three each way."""
    tasks, lanes = scoring_decides()
    chance = random.Random(1)
    wrong = {t.id: chance.uniform(0.33, 3.0) for t in tasks}
    real = [
        Task(
            id=t.id,
            after=t.after,
            first=t.first,
            stages=tuple(stage(s.name, s.lane, s.cost_s * wrong[t.id]) for s in t.stages),
        )
        for t in tasks
    ]
    took, _ = simulate(tasks, lanes, actual=lambda job: job.stage.cost_s * wrong[job.task.id])
    assert took <= 1.15 * best_possible(real, lanes)


def test_a_refused_session_shrinks_the_lane_and_fails_no_cell() -> None:
    tasks = sweep(3, [("nvenc", NVENC, 5.0, 1.0)] * 12)
    took, board = simulate(tasks, {CPU: 4, "nvenc:0": 8}, sessions={"nvenc:0": 3})
    assert board.slots["nvenc:0"] == 3
    assert took <= 1.05 * best_possible(tasks, {CPU: 4, "nvenc:0": 3})


def test_what_hardware_makes_is_bounded_when_scoring_cannot_follow() -> None:
    tasks = sweep(1, [("nvenc", NVENC, 0.1, 60.0)] * 300)
    waiting = 0

    def watch(job: Job) -> float:
        nonlocal waiting
        waiting += 1 if job.stage.name == "encode" else -1 if job.stage.name == "score" else 0
        most.append(waiting)
        return job.stage.cost_s

    most: list[int] = []
    simulate(tasks, {CPU: 2, "nvenc:0": 3}, actual=watch)
    assert max(most) <= TOO_MANY * 2 + 3 + 1


def test_the_last_slot_waits_and_gives_up_in_the_end() -> None:
    board = Board([Task(id="a", stages=(stage("encode", "nvenc:0", 1.0),))], {"nvenc:0": 2})
    for _ in range(RETRIES):
        job = board.take("nvenc:0")
        assert job and board.refuse(job) == RETRY_S
        assert board.take("nvenc:0") is None, "nobody else tries meanwhile"
        board.put_back(job)
    job = board.take("nvenc:0")
    assert job and board.refuse(job) is None
    assert board.slots == {"nvenc:0": 1}


class Sessions:
    """A device that allows `most` sessions at a time, as the driver does, and remembers where each
    cell ran.
    """

    def __init__(self, most: int) -> None:
        self.most, self.open, self.refusals = most, 0, 0
        self.lock = threading.Lock()
        self.two = threading.Event()

    def encode(self, *_: Any) -> str:
        with self.lock:
            if self.open >= self.most:
                self.refusals += 1
                raise RuntimeError("OpenEncodeSessionEx failed: out of memory (10)")
            self.open += 1
            if self.open == self.most:
                self.two.set()
        self.two.wait(20)
        with self.lock:
            self.open -= 1
        return "encoded"


def test_threads_retry_what_a_device_refuses() -> None:
    device = Sessions(2)
    encode = Stage(
        name="encode",
        lane="nvenc:0",
        cost_s=1,
        run=device.encode,
        refused=lambda e: "memory (10)" in str(e),
    )
    score = Stage(name="score", lane=CPU, cost_s=1, run=lambda _, made: f"{made}, scored")
    tasks = [Task(id=str(i), stages=(encode, score)) for i in range(9)]
    events = list(run({CPU: 2, "nvenc:0": 5}, tasks))
    ended = [e for e in events if isinstance(e, Ended)]
    assert sorted(e.task.id for e in ended) == [str(i) for i in range(9)]
    assert {(e.value, e.error) for e in ended} == {("encoded, scored", None)}
    assert len([e for e in events if isinstance(e, Started)]) == 18 + device.refusals


def test_another_error_fails_its_task_alone_and_frees_what_waits_for_it() -> None:
    def broken(*_: Any) -> Any:
        raise RuntimeError("no such thing")

    tasks = [
        Task(
            id="bad",
            stages=(
                Stage(name="encode", lane=CPU, cost_s=1, run=broken, refused=lambda e: False),
                stage("score", CPU, 1),
            ),
        ),
        Task(
            id="good",
            stages=(stage("encode", CPU, 1), stage("score", CPU, 1)),
            after=frozenset({"bad"}),
        ),
    ]
    ended = [e for e in run({CPU: 2}, tasks) if isinstance(e, Ended)]
    assert [(e.task.id, str(e.error)) for e in ended] == [
        ("bad", "no such thing"),
        ("good", "None"),
    ]


def test_a_stage_runs_where_it_was_taken() -> None:
    ran: list[str] = []
    both = threading.Barrier(2, timeout=120)

    def on(name: str) -> Callable[[Any, Any], None]:
        def note(*_: Any) -> None:
            ran.append(name)
            both.wait()

        return note

    task = Stage(
        name="encode", lane="gpu:0", cost_s=1, run=on("gpu:0"), others={"gpu:1": on("gpu:1")}
    )
    list(run({"gpu:0": 1, "gpu:1": 1}, [Task(id=str(i), stages=(task,)) for i in range(2)]))
    assert sorted(ran) == ["gpu:0", "gpu:1"], "side by side, or the barrier would break"


def test_scoring_goes_on_while_hardware_encodes() -> None:
    scored = threading.Event()

    def long_encode(*_: Any) -> None:
        assert scored.wait(120), "no scoring ran beside this encode"

    def score(*_: Any) -> None:
        scored.set()

    def chain(
        name: str, run: Callable[[Any, Any], Any], cost: float, then: Callable[[Any, Any], Any]
    ) -> Task:
        return Task(
            id=name,
            stages=(
                Stage(name="encode", lane="qsv", cost_s=cost, run=run),
                Stage(name="score", lane=CPU, cost_s=1, run=then),
            ),
        )

    tasks = [chain("first", nothing, 9, score), chain("second", long_encode, 1, nothing)]
    ended = [e for e in run({CPU: 1, "qsv": 1}, tasks) if isinstance(e, Ended)]
    assert [e.error for e in ended] == [None, None]


@pytest.mark.parametrize("slots", [1, 3])
def test_closing_stops_new_stages(slots: int) -> None:
    begun: list[int] = []
    closing = threading.Event()

    def note(*_: Any) -> None:
        begun.append(1)
        assert closing.wait(20)

    tasks = [
        Task(id=str(i), stages=(Stage(name="encode", lane=CPU, cost_s=1, run=note),))
        for i in range(50)
    ]
    happening = run({CPU: slots}, tasks)
    next(happening)
    threading.Timer(0.2, closing.set).start()  # while close() waits for the slots
    happening.close()  # type: ignore[attr-defined]
    assert 0 < len(begun) <= 2 * slots


def test_a_lane_that_does_not_exist_is_our_mistake() -> None:
    with pytest.raises(ValueError, match="no lane is called qsv"):
        list(run({CPU: 1}, [Task(id="a", stages=(stage("encode", CPU, 1, "qsv"),))]))
