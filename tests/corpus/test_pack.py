"""Packing a corpus for the repository loses nothing, and a damaged one is refused."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from forged import measured
from vmaf_train.corpus import dataset
from vmaf_train.corpus.digests import digest
from vmaf_train.corpus.pack import pack, unpack
from vmaf_train.corpus.rows import read_rows
from vmaf_train.errors import DatasetError
from vmaftune.engine.folder import Writer


@pytest.fixture
def folder(corpus: Path, tmp_path: Path) -> Path:
    copy = tmp_path / "run"
    shutil.copytree(corpus, copy)
    return copy


def test_the_packed_frames_are_the_frames_and_unpack_gives_the_same_bytes_back(
    folder: Path,
) -> None:
    text = (folder / "frames.jsonl").read_bytes()
    before = dataset.load(folder, per_frame=True)
    assert pack(folder) == dataset.frame_digest(folder) == before.frame_digest
    (folder / "frames.jsonl").unlink()
    after = dataset.load(folder, per_frame=True)
    assert after.frame_digest == before.frame_digest
    for name in ("features", "y", "frame_index"):
        assert np.array_equal(getattr(after, name), getattr(before, name)), name
    assert unpack(folder) == before.frame_digest
    assert (folder / "frames.jsonl").read_bytes() == text


def test_frames_of_failed_cells_stay_out(folder: Path) -> None:
    lines = (folder / "cells.jsonl").read_text().splitlines()
    failed = json.loads(lines[0]) | {"status": "failed"}
    (folder / "cells.jsonl").write_text("\n".join([json.dumps(failed), *lines[1:]]) + "\n")
    num_frames = len(dataset.load(folder, per_frame=True))
    pack(folder)
    (folder / "frames.jsonl").unlink()
    unpack(folder)
    assert len((folder / "frames.jsonl").read_text().splitlines()) == num_frames == 95 * 12


def test_a_cell_that_lacks_frames_is_refused_and_the_old_file_stays(folder: Path) -> None:
    pack(folder)
    packed = (folder / "frames.parquet").read_bytes()
    lines = (folder / "frames.jsonl").read_text().splitlines(keepends=True)
    (folder / "frames.jsonl").write_text("".join(lines[1:]))
    with pytest.raises(DatasetError, match="the cell has 11 of its 12 frames"):
        pack(folder)
    assert (folder / "frames.parquet").read_bytes() == packed


def test_unpack_never_overwrites_frames(folder: Path) -> None:
    pack(folder)
    with pytest.raises(DatasetError, match="may hold newer frames"):
        unpack(folder)


def test_the_command_prints_sizes_and_digest_and_says_what_is_wrong(folder: Path) -> None:
    command = [sys.executable, "-m", "vmaf_train.corpus.pack"]
    done = subprocess.run([*command, str(folder)], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip().endswith(str(dataset.frame_digest(folder)))
    done = subprocess.run(
        [*command, str(folder / "nothing")], capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 4
    assert "does not exist" in done.stderr and "Traceback" not in done.stderr


def test_the_committed_corpus_is_what_its_readme_says() -> None:
    folder = Path(__file__).parents[2] / "runs/phase_a/software"
    readme = (folder / "README.md").read_text(encoding="utf-8")
    rows = [json.loads(line) for line in (folder / "cells.jsonl").read_text().splitlines()]
    assert {row["status"] for row in rows} == {"ok"}
    num_frames = sum(row["num_frames"] for row in rows)
    assert f"**{len(rows):,} cells, {num_frames:,} frames, none failed**" in readme
    counts = Counter((row["encoder"], row["preset"]) for row in rows)
    assert len(counts) >= 11
    for (encoder, preset), count in counts.items():
        assert f"| {encoder} | {preset} | {count} | " in readme
    assert f"`{dataset.corpus_digest(folder)}`" in readme
    table = [row for _, row in read_rows(folder / "frames.parquet")]
    assert len(table) == num_frames
    assert f"`{digest(table, 'key', 'frame_index')}`" in readme


def test_sealed_frames_are_unpacked_to_the_lines_they_were(tmp_path: Path) -> None:
    cells = [measured(f"a/libx264/fast/{q}", [90.0 - q, 80.0, 100.0]) for q in range(6)]
    writer = Writer(tmp_path, seal_bytes=2500)
    for cell in cells:
        writer.append(*cell)
    before = dataset.frame_digest(tmp_path)
    assert sorted((tmp_path / "frames").glob("*.parquet"))
    with pytest.raises(DatasetError, match="holds sealed frames"):
        pack(tmp_path)
    assert unpack(tmp_path) == before == dataset.frame_digest(tmp_path)
    assert not sorted((tmp_path / "frames").glob("*.parquet"))
    lines = (tmp_path / "frames.jsonl").read_text()
    assert lines == "".join(json.dumps(frame) + "\n" for _, frames in cells for frame in frames)
