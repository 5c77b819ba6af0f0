"""`corpus --rescore`: kept encodes scored again, and none is made."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from vmaf_train.corpus.rows import CellRow, latest

SWEEP = ("--encoders", "x264", "--presets", "ultrafast", "--quality", "30,40", "--jobs", "2")
NEG = "vmaf_v0.6.1neg"
MADE = (
    "size_bytes",
    "bitrate_kbps",
    "num_frames",
    "encode_wall_s",
    "encode_cpu_s",
    "argv",
    "threads",
    "src_sha256",
    "encoder_version",
    "rate_control",
)


@pytest.fixture
def swept_folder(clip: Callable[..., Path], tool: Any, tmp_path: Path) -> Path:
    """A run of two cells that keeps its encodes, beside its source."""
    source = tmp_path / "source.mkv"
    source.write_bytes(clip("rescore.mkv", frames=5).read_bytes())
    tool.run("corpus", source, *SWEEP, "--keep-encodes", "--out", "run")
    return tmp_path / "run"


def rows(folder: Path) -> dict[str, CellRow]:
    return latest(folder / "cells.jsonl")


def counting(wrapper: Callable[..., str], tmp_path: Path) -> tuple[str, Path]:
    """An ffmpeg that notes every encode and every scoring."""
    log = tmp_path / "calls.txt"
    body = f"open({str(log)!r}, 'a').write('encode\\n' if ENCODE else 'score\\n' if SCORE else '')"
    return wrapper(body), log


def test_another_model_gives_new_rows_of_the_same_cells_without_an_encode(
    swept_folder: Path, tool: Any, wrapper: Callable[..., str], tmp_path: Path
) -> None:
    ffmpeg, log = counting(wrapper, tmp_path)
    asked = ("--vmaf-model", NEG, "--metrics", "psnr", "--jobs", "2", "--ffmpeg", ffmpeg)
    tool.run("corpus", "--rescore", "run", *asked)
    calls = log.read_text().split()
    assert "encode" not in calls and calls.count("score") >= 2
    old, new = rows(swept_folder), rows(tmp_path / f"run-{NEG}-psnr")
    assert old.keys() == new.keys() and len(new) == 2
    for cell, row in new.items():
        assert row.is_ok and row.teacher == row.features_of == NEG
        assert [getattr(row, name) for name in MADE] == [getattr(old[cell], name) for name in MADE]
        assert row.key != old[cell].key
        assert (row.vmaf_score or 0) < (old[cell].vmaf_score or 0)
        assert row.metrics is not None and row.metrics.psnr is not None
        assert row.encode_ffmpeg_version == old[cell].ffmpeg_version
    sums = (swept_folder / "encodes.sha256").read_text()
    assert {row.encode_sha256 for row in new.values()} == {s.split()[0] for s in sums.splitlines()}
    subprocess.run(["sha256sum", "-c", "encodes.sha256"], cwd=swept_folder, check=True)
    # the numbers are those of a sweep that scores with that model at once
    tool.run("corpus", "source.mkv", *SWEEP, "--vmaf-model", NEG, "--out", "direct")
    for cell, row in rows(tmp_path / "direct").items():
        assert row.vmaf_score == new[cell].vmaf_score
        assert row.per_frame_features == new[cell].per_frame_features


def test_the_same_command_measures_nothing_twice(
    swept_folder: Path, tool: Any, tmp_path: Path
) -> None:
    asked = ("corpus", "--rescore", "run", "--metrics", "psnr", "--out", "again")
    plan = json.loads(tool.run(*asked, "--dry-run", "--json").stdout)
    assert (plan["num_cells"], plan["num_left"]) == (2, 2)
    assert not (tmp_path / "again").exists()
    tool.run(*asked)
    first = (tmp_path / "again/cells.jsonl").read_text()
    tool.run(*asked)
    assert (tmp_path / "again/cells.jsonl").read_text() == first
    assert {row.teacher for row in rows(tmp_path / "again").values()} == {"vmaf_v0.6.1"}
    old = rows(swept_folder)
    for cell, row in rows(tmp_path / "again").items():
        assert row.vmaf_score == old[cell].vmaf_score


def test_an_encode_that_changed_is_refused(swept_folder: Path, tool: Any, tmp_path: Path) -> None:
    changed, gone = sorted((swept_folder / "encodes").iterdir())
    changed.write_bytes(changed.read_bytes() + b"\0")
    gone.unlink()
    done = tool.run("corpus", "--rescore", "run", "--vmaf-model", NEG, "--out", "new", code=5)
    assert "2 of 2 cells failed" in done.stderr
    said = {row.error.message for row in rows(tmp_path / "new").values() if row.error}
    assert any("its digest is another one" in text for text in said)
    assert any("cannot be read (No such file" in text for text in said)
    assert {row.error.kind for row in rows(tmp_path / "new").values() if row.error} == {
        "encode_changed"
    }


def test_a_source_that_changed_is_refused(swept_folder: Path, tool: Any, tmp_path: Path) -> None:
    (tmp_path / "source.mkv").write_bytes(b"another film")
    done = tool.run("corpus", "--rescore", "run", "--vmaf-model", NEG, code=2)
    assert "is not the file that was encoded" in done.stderr
    (tmp_path / "source.mkv").unlink()
    done = tool.run("corpus", "--rescore", "run", "--vmaf-model", NEG, code=2)
    assert "cannot be read" in done.stderr and "Traceback" not in done.stderr


def test_what_cannot_be_scored_again_is_a_sentence(
    clip: Callable[..., Path], tool: Any, tmp_path: Path
) -> None:
    source = clip("rescore bare.mkv", frames=3)
    tool.run("corpus", source, *SWEEP, "--out", "bare")
    done = tool.run("corpus", "--rescore", "bare", "--vmaf-model", NEG, code=2)
    assert "bare keeps no encodes with a digest" in done.stderr and "--keep-encodes" in done.stderr
    done = tool.run("corpus", "--rescore", "bare", code=2)
    assert "--rescore needs --vmaf-model or --metrics" in done.stderr
    done = tool.run("corpus", "--rescore", "nowhere", "--vmaf-model", NEG, code=2)
    assert "nowhere is not the folder of a run" in done.stderr
    done = tool.run("corpus", "--rescore", "bare", "--quality", "30", "--vmaf-model", NEG, code=2)
    assert "--quality does not go with --rescore" in done.stderr
    done = tool.run("corpus", source, "--rescore", "bare", "--vmaf-model", NEG, code=2)
    assert "a list of sources does not go with --rescore" in done.stderr
