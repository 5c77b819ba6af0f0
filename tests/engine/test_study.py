"""A study takes cells while it runs, answers from its folder, and keeps a plan that may be open."""

from __future__ import annotations

import json
import pickle
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from vmaf_train.corpus.rows import FailureKind
from vmaftune.cell import Cell
from vmaftune.engine.events import CellEvent, PrepareEvent, StageEvent
from vmaftune.engine.executor import Ended, Started
from vmaftune.engine.lanes import LaneExecutor
from vmaftune.engine.limits import Limits
from vmaftune.engine.options import Options
from vmaftune.engine.stages import Worker, cell_task, encode_stage, pair_task, score_stage
from vmaftune.engine.standing import standing
from vmaftune.engine.study import Study
from vmaftune.errors import FolderError, UsageError
from vmaftune.hardware.gpus import Device
from vmaftune.media.failure import CellFailure
from vmaftune.media.ffmpeg import Ffmpeg
from vmaftune.questions import grid
from vmaftune.request.cells import Plan

Make = Callable[..., Path]
ONE = Options(jobs=1)


@pytest.fixture
def cells(clip: Make, planned: Callable[..., Plan]) -> list[Cell]:
    """Six cells of one clip."""
    return list(planned(clip("asked.mkv"), quality="30:40:2").cells)


def nothing_planned(plan: Plan) -> Plan:
    """What a question knows before its first cell: the sources."""
    return replace(plan, cells=())


def quality_of(event: CellEvent) -> str:
    return event.cell.rpartition("/")[2]


def test_cells_are_asked_for_while_others_are_measured(
    cells: list[Cell], clip: Make, planned: Callable[..., Plan], real: Ffmpeg, tmp_path: Path
) -> None:
    plan, folder = nothing_planned(planned(clip("asked.mkv"))), tmp_path / "run"
    seen = []
    with Study.open(folder, plan, real, ONE, open_plan=True) as study:
        study.submit(cells[:1])
        for event in study.events():
            seen.append(event)
            if isinstance(event, StageEvent) and event.stage == "score" and len(seen) < 5:
                study.submit(cells[:2])
            if isinstance(event, CellEvent) and quality_of(event) == "32":
                assert study.result(cells[1]) is not None
                study.submit(cells[2:3])
        row = study.result(cells[2])
        assert row is not None and row.is_ok and row.crf == 34
        assert study.result(cells[3]) is None
        document = json.loads((folder / "sweep.json").read_text())
        assert (document["open"], document["ended_at"], document["num_cells"]) == (True, None, 3)
        study.finish()
        assert list((folder / "tmp").glob("*/ref*.yuv")), "kept for the next cell of the window"
    assert [quality_of(e) for e in seen if isinstance(e, CellEvent)] == ["30", "32", "34"]
    assert len([e for e in seen if isinstance(e, PrepareEvent)]) == 1
    assert json.loads((folder / "sweep.json").read_text())["ended_at"] is not None
    assert not (folder / "tmp").exists()


def test_what_is_measured_is_answered_and_never_measured_again(
    cells: list[Cell], clip: Make, planned: Callable[..., Plan], real: Ffmpeg, tmp_path: Path
) -> None:
    plan, folder = nothing_planned(planned(clip("asked.mkv"))), tmp_path / "run"
    for num_new in (2, 0):
        with Study.open(folder, plan, real, ONE, open_plan=True) as study:
            study.submit(cells[:2])
            study.submit(cells[:1])
            events = list(study.events())
            assert len([e for e in events if isinstance(e, CellEvent)]) == num_new
            rows = [study.result(cell) for cell in cells[:2]]
            assert all(row is not None and row.is_ok for row in rows)
            assert list(study.events()) == []
    assert (folder / "cells.jsonl").read_bytes().count(b"\n") == 2
    assert (folder / "runs.jsonl").read_bytes().count(b"\n") == 1
    found = standing(cells, folder, real)
    assert (len(found.done), len(found.left)) == (2, 4)


def test_a_question_that_has_enough_leaves_at_once(
    cells: list[Cell],
    clip: Make,
    planned: Callable[..., Plan],
    real: Ffmpeg,
    wrapper: Callable[..., str],
    tmp_path: Path,
) -> None:
    slow = wrapper("if ENCODE and '30' not in argv: time.sleep(600)")
    ffmpeg = replace(real, identity=replace(real.identity, ffmpeg=slow))
    plan, folder = nothing_planned(planned(clip("asked.mkv"))), tmp_path / "run"
    begin = time.monotonic()
    with Study.open(folder, plan, ffmpeg, Options(jobs=2), open_plan=True) as study:
        study.submit(cells)
        for event in study.events():
            if isinstance(event, CellEvent):
                break
    assert time.monotonic() - begin < 300, "the other encodes would take ten minutes"
    assert not ffmpeg.runner.stopped, "the command goes on"
    assert real.run(["-version"], timeout_s=60).returncode == 0
    assert not (folder / "tmp").exists()


def test_an_open_plan_and_a_closed_one_do_not_mix(
    cells: list[Cell], clip: Make, planned: Callable[..., Plan], real: Ffmpeg, tmp_path: Path
) -> None:
    plan, folder = planned(clip("asked.mkv")), tmp_path / "run"
    with Study.open(folder, nothing_planned(plan), real, ONE, open_plan=True) as study:
        study.submit(cells[:1])
        list(study.events())
    with pytest.raises(FolderError, match="asks for cells as it goes; write elsewhere with --out"):
        Study.open(folder, plan, real, ONE)
    other = planned(clip("asked otherwise.mkv", frames=8))
    renamed = replace(other.sources[0], name="asked", group="asked")
    with pytest.raises(FolderError, match="source asked has sha256"):
        Study.open(folder, replace(other, sources=(renamed,), cells=()), real, ONE, open_plan=True)
    closed = tmp_path / "closed"
    with Study.open(closed, plan, real, ONE) as study:
        list(grid.run(plan, study))
    with pytest.raises(FolderError, match="holds the plan of a sweep; write elsewhere with --out"):
        Study.open(closed, nothing_planned(plan), real, ONE, open_plan=True)


def test_a_kept_encode_is_made_again_when_it_is_gone_and_its_row_is_not_written_twice(
    cells: list[Cell], clip: Make, planned: Callable[..., Plan], real: Ffmpeg, tmp_path: Path
) -> None:
    plan, folder = nothing_planned(planned(clip("asked.mkv"))), tmp_path / "run"
    for _ in range(2):
        with Study.open(folder, plan, real, ONE, open_plan=True) as study:
            study.submit(cells[:1], keep=True)
            assert len([e for e in study.events() if isinstance(e, CellEvent)]) == 1
            study.submit(cells[:1], keep=True)
            assert list(study.events()) == []
            study.kept(cells[0]).unlink()
    assert (folder / "cells.jsonl").read_bytes().count(b"\n") == 1
    assert (folder / "frames.jsonl").read_bytes().count(b"\n") == 10


def test_long_names_of_kept_encodes_fit(
    clip: Make, planned: Callable[..., Plan], real: Ffmpeg, tmp_path: Path
) -> None:
    source = tmp_path / ("l" * 250 + ".mkv")
    source.write_bytes(clip("asked.mkv").read_bytes())
    plan = planned(source)
    with Study.open(tmp_path / "run", plan, real, replace(ONE, keep_encodes=True)) as study:
        assert [e.status for e in grid.run(plan, study) if isinstance(e, CellEvent)] == ["ok"]
        assert study.kept(plan.cells[0]).is_file()


def test_a_window_longer_than_the_budget_is_refused_with_the_numbers(
    clip: Make, planned: Callable[..., Plan], real: Ffmpeg, tmp_path: Path
) -> None:
    plan, folder = planned(clip("asked.mkv")), tmp_path / "run"
    options = replace(ONE, budget_bytes=2**16)
    with (
        pytest.raises(
            UsageError, match=r"takes \d+\.\d\d KiB, and --scratch-budget allows 64\.00 KiB"
        ),
        Study.open(folder, plan, real, options) as study,
    ):
        list(grid.run(plan, study))
    assert not folder.exists()


def test_more_jobs_than_cells_start_no_more_slots(
    clip: Make, planned: Callable[..., Plan], real: Ffmpeg, tmp_path: Path
) -> None:
    plan = planned(clip("asked.mkv"), quality="30,31")
    with Study.open(tmp_path / "run", plan, real, Options(jobs=100_000)) as study:
        assert [e.status for e in grid.run(plan, study) if isinstance(e, CellEvent)] == ["ok"] * 2


def test_stages_and_what_they_return_can_be_pickled(
    cells: list[Cell], real: Ffmpeg, tmp_path: Path
) -> None:
    device = Device(kind="nvenc", address="0", name="GeForce")
    task = cell_task(cells[0], "place", (None, device), gpu_scores=True)
    again = pickle.loads(pickle.dumps(task))
    assert again == task or again.id == task.id
    worker = Worker(tmp_path, real, budget_bytes=10**9, limits=Limits())
    value: Any = None
    for stage in again.stages:
        value = pickle.loads(pickle.dumps(stage.run(worker, value)))
    assert len(value.score.frames) == 10
    pickle.dumps(Ended(task=again, value=value))
    failure = pickle.loads(pickle.dumps(CellFailure(FailureKind.TIMEOUT, "too slow")))
    assert (failure.kind, str(failure)) == ("timeout", "too slow")
    assert callable(encode_stage) and callable(score_stage) and callable(pair_task)


def test_tasks_of_a_window_that_waits_for_room_are_not_lost(
    clip: Make, planned: Callable[..., Plan], real: Ffmpeg, tmp_path: Path
) -> None:
    """Three windows in room for one, submitted one after the other while the first is at work."""
    plan = planned(*(clip(f"room {i}.mkv", frames=4 + i) for i in range(3)), quality="30,40")
    by_window = [[c for c in plan.cells if c.window is w] for w in plan.sources]
    most = max(w.frame_bytes * w.expected_frames for w in plan.sources)
    worker = Worker(tmp_path, real, budget_bytes=most, limits=Limits())
    executor = LaneExecutor({"cpu": 2})
    executor.start(worker)

    def submit(cells: list[Cell]) -> None:
        executor.submit([cell_task(c, c.id.replace("/", " "), gpu_scores=False) for c in cells])

    try:
        started, ended = 0, 0
        submit(by_window[0])
        for batch in executor.events():
            for event in batch:
                ended += isinstance(event, Ended)
                if isinstance(event, Started) and started < 2:
                    started += 1
                    submit(by_window[started])
            assert len(list(tmp_path.glob("ref*.yuv"))) <= 1
    finally:
        executor.close()
    assert ended == 6
