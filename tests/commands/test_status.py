"""`vmaf-tune status`: one folder, all folders, damaged ones."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import msgspec
import pytest
from vmaftune.commands import status
from vmaftune.engine import crew
from vmaftune.engine.crew import Pace
from vmaftune.errors import UsageError

ROOT = Path(__file__).parents[2]
SOFTWARE = ROOT / "runs/phase_a/software"


@pytest.fixture
def runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with two sweeps in runs/, and a third whose plan is damaged."""
    monkeypatch.chdir(tmp_path)
    for name in ("old", "new", "broken"):
        folder = tmp_path / "runs/phase_a" / name
        folder.mkdir(parents=True)
        shutil.copy(SOFTWARE / "sweep.json", folder)
        shutil.copy(SOFTWARE / "frames.parquet", folder)
    lines = (SOFTWARE / "cells.jsonl").read_text().splitlines()
    last = json.loads(lines[3]) | {"finished_at": "2030-01-01T00:00:00Z"}
    (tmp_path / "runs/phase_a/old/cells.jsonl").write_text("\n".join(lines[:2]) + "\n")
    (tmp_path / "runs/phase_a/new/cells.jsonl").write_text(json.dumps(last) + "\n")
    (tmp_path / "runs/phase_a/broken/sweep.json").write_text("[]")
    return tmp_path


def test_the_committed_sweep_is_done() -> None:
    found = status.read(SOFTWARE)
    assert (found.num_cells, found.num_done, found.num_failed, found.num_left) == (1428, 1428, 0, 0)
    assert found.expected_s == 0


def test_without_a_folder_all_sweeps_are_listed_the_newest_first(
    runs: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    status.status(None)
    shown = capsys.readouterr()
    names = [line.split()[0] for line in shown.out.splitlines() if line.strip().startswith("runs")]
    assert names == [os.path.join("runs", "phase_a", name) for name in ("new", "old")]
    assert "2030-01-01T00:00" in shown.out
    assert "broken" in shown.err
    status.status(None, as_json=True)
    document = json.loads(capsys.readouterr().out)
    assert [(run["num_done"], run["num_left"]) for run in document["runs"]] == [
        (1, 1427),
        (2, 1426),
    ]
    assert all(run["expected_s"] > 1 for run in document["runs"])


def test_where_no_sweep_is_it_says_how_to_begin_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    status.status(None)
    assert "vmaf-tune corpus" in capsys.readouterr().err


def test_what_is_left_is_foretold_with_the_frames_around_windows(runs: Path) -> None:
    folder = runs / "runs/phase_a/old"
    before = status.read(folder).expected_s
    plan = json.loads((folder / "sweep.json").read_text())
    measured = json.loads((folder / "cells.jsonl").read_text().splitlines()[0])["src"]
    for source in plan["sources"]:
        if source["name"] != measured:  # those say how fast this machine is
            source["pads"] = [source["expected_frames"], source["expected_frames"]]
    (folder / "sweep.json").write_text(json.dumps(plan))
    assert 2 * before < status.read(folder).expected_s < 3 * before


def test_watching_ends_when_nothing_is_left_and_shows_the_workers(
    runs: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = runs / "runs/phase_a/old"
    lines = (SOFTWARE / "cells.jsonl").read_text().splitlines()
    pace = Pace(name="far", host="there", cells=2, frames=200, seconds=10.0)
    (folder / crew.FILE).write_bytes(msgspec.json.encode([pace]))
    looks = iter((lines[:4], lines))

    def sleep(seconds: float) -> None:
        (folder / "cells.jsonl").write_text("\n".join(next(looks)) + "\n")

    monkeypatch.setattr(status.time, "sleep", sleep)
    status.status(folder, watch=True)
    shown = capsys.readouterr().err.splitlines()
    assert [line.split()[0] for line in shown[::2]] == ["2/1428", "4/1428", "1428/1428"]
    assert shown[1].split() == ["far", "2", "cells", "20.0", "frames/s"]
    status.status(folder, watch=True, as_json=True)
    seen = json.loads(capsys.readouterr().out)
    assert (seen["num_done"], seen["workers"][0]["frames_per_s"]) == (1428, 20.0)
    with pytest.raises(UsageError, match="looks at one folder"):
        status.status(None, watch=True)
