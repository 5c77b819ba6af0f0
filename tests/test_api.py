"""The Python API: what `import vmaftune` hands out, sweeps and tables without a screen."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import vmaftune
from forged import latest_rows
from processes import alive
from vmaf_train.contract import FEATURES
from vmaftune import api
from vmaftune.engine.events import CellEvent, EndEvent, Event, StartEvent
from vmaftune.errors import FolderError, UsageError
from vmaftune.request.flags import Texts

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def done(
    clip: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory
) -> tuple[vmaftune.SweepResult, list[Event]]:
    """A sweep of two cells and what it told."""
    told: list[Event] = []
    result = vmaftune.sweep(
        clip("api a.mkv", frames=8),
        encoders="x264",
        presets="ultrafast",
        quality="20,40",
        running=vmaftune.Running(out=tmp_path_factory.mktemp("api") / "run", jobs=2),
        on_event=told.append,
    )
    return result, told


def test_the_package_hands_out_what_the_api_names() -> None:
    assert set(vmaftune.NAMES) == set(api.__all__)
    for name in vmaftune.NAMES:
        assert getattr(vmaftune, name) is getattr(api, name)
    with pytest.raises(AttributeError, match="nothing"):
        _ = vmaftune.nothing


def test_importing_the_package_loads_nothing() -> None:
    code = "import sys, vmaftune; print([m for m in sys.modules if m.startswith('vmaf')])"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "['vmaftune']"


def test_a_sweep_tells_typed_events_and_keeps_its_rows(
    done: tuple[vmaftune.SweepResult, list[Event]], capfd: pytest.CaptureFixture[str]
) -> None:
    result, told = done
    assert (result.num_cells, result.num_done, result.num_ok, result.num_failed) == (2, 2, 2, 0)
    assert isinstance(told[0], StartEvent)
    assert isinstance(told[-1], EndEvent)
    assert sum(isinstance(event, CellEvent) for event in told) == 2
    assert set(latest_rows(result.folder)) == {
        "api a/libx264/ultrafast/20",
        "api a/libx264/ultrafast/40",
    }


def test_the_same_call_measures_nothing_again_and_prints_nothing(
    done: tuple[vmaftune.SweepResult, list[Event]],
    clip: Callable[..., Path],
    capfd: pytest.CaptureFixture[str],
) -> None:
    again = vmaftune.sweep(
        texts=Texts(sources=(str(clip("api a.mkv", frames=8)),), presets="ultrafast"),
        encoders="x264",
        quality="20,40",
        running=vmaftune.Running(out=done[0].folder),
    )
    assert (again.num_ok, again.num_done) == (0, 2)
    assert capfd.readouterr() == ("", "")


def test_a_folder_of_another_plan_is_refused_and_extended(
    done: tuple[vmaftune.SweepResult, list[Event]], clip: Callable[..., Path], tmp_path: Path
) -> None:
    source = clip("api b.mkv", frames=8, vf="hflip")

    def more(quality: str, flags: vmaftune.SweepFlags) -> vmaftune.SweepResult:
        return vmaftune.sweep(
            source,
            encoders="x264",
            presets="ultrafast",
            quality=quality,
            flags=flags,
            running=vmaftune.Running(out=tmp_path / "grown"),
        )

    more("30,40", vmaftune.SweepFlags(select=("*/30",)))
    assert list(latest_rows(tmp_path / "grown")) == ["api b/libx264/ultrafast/30"]
    with pytest.raises(FolderError, match="--extend"):
        more("50", vmaftune.SweepFlags())
    assert more("50", vmaftune.SweepFlags(extend=True)).num_ok == 1


def test_a_cell_that_fails_is_told_and_no_error(
    clip: Callable[..., Path], wrapper: Callable[..., str], tmp_path: Path
) -> None:
    broken = wrapper("if ENCODE and '35' in argv: sys.exit(9)")
    result = vmaftune.sweep(
        clip("api a.mkv", frames=8),
        encoders="x264",
        presets="ultrafast",
        quality="30,35",
        running=vmaftune.Running(out=tmp_path / "run", ffmpeg=broken),
    )
    assert (result.num_ok, result.num_failed) == (1, 1)
    cells = vmaftune.read(result.folder).cells
    assert set(cells["status"]) == {"ok", "failed"}
    failed = cells[cells["status"] == "failed"].iloc[0]
    assert failed["error"].exit_code == 9


def test_a_corpus_is_read_as_tables(done: tuple[vmaftune.SweepResult, list[Event]]) -> None:
    corpus = vmaftune.read(done[0].folder)
    rows = latest_rows(done[0].folder)
    assert list(corpus.cells["cell"]) == list(rows)
    assert corpus.cells is corpus.cells
    for _, cell in corpus.cells.iterrows():
        row = rows[cell["cell"]]
        assert cell["vmaf_score"] == row["vmaf_score"]
        assert {name: cell[name] for name in FEATURES} == row["per_frame_features"]
    frames = corpus.frames
    assert len(frames) == 16
    assert list(frames["frame_index"]) == [*range(8), *range(8)]
    means = frames.groupby("cell", observed=True)["vmaf"].mean()
    for name, row in rows.items():
        assert means[name] == pytest.approx(row["vmaf_score"], abs=1e-4)


def test_a_packed_corpus_is_read_as_tables() -> None:
    corpus = vmaftune.read(ROOT / "runs/phase_a/software")
    finished = corpus.cells[corpus.cells["status"] == "ok"]
    assert len(corpus.frames) == finished["num_frames"].sum()


def test_a_folder_that_is_no_corpus_is_named(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="is not a corpus"):
        vmaftune.read(tmp_path)


def test_ctrl_c_ends_the_call_kills_its_children_and_leaves_a_folder_that_goes_on(
    clip: Callable[..., Path],
    wrapper: Callable[..., str],
    tmp_path: Path,
    until: Callable[..., None],
) -> None:
    source = clip("api long.mkv", frames=6)
    hold, held = tmp_path / "hold", tmp_path / "held"
    hold.touch()
    # The last encode that is started hangs, however long this machine takes for the others.
    hanging = wrapper(
        f"if ENCODE and '34' in argv and os.path.exists({str(hold)!r}):\n"
        f"    open({str(held)!r}, 'w').write(str(os.getpid()))\n"
        "    time.sleep(600)"
    )
    call = (
        "import vmaftune, pathlib\n"
        f"done = vmaftune.sweep({str(source)!r}, encoders='x264', presets='ultrafast',"
        " quality='30:34:1', running=vmaftune.Running("
        f"out=pathlib.Path('run'), jobs=1, ffmpeg={hanging!r}))\n"
        "print(done.num_done)\n"
    )
    child = subprocess.Popen(
        [sys.executable, "-c", call],
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    cells = tmp_path / "run" / "cells.jsonl"
    until(lambda: cells.is_file() and cells.stat().st_size > 0, "the first row")
    until(lambda: held.is_file() and held.stat().st_size > 0, "the encode that hangs")
    child.send_signal(signal.SIGINT)
    out, err = child.communicate(timeout=120)
    assert child.returncode != 0
    assert "KeyboardInterrupt" in err
    assert out == ""
    kept = len(cells.read_text().splitlines())
    assert not list((tmp_path / "run").glob("tmp*/*"))
    assert not alive(int(held.read_text()))
    hold.unlink()
    done = subprocess.run(
        [sys.executable, "-c", call], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "5"
    rows = [json.loads(line) for line in cells.read_text().splitlines()]
    assert len(rows) == len({row["cell"] for row in rows}) == 5
    assert kept < 5
