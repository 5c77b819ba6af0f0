"""Folders read together, windows of a film pooled, commands and sizes."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from forged import edit_folder
from vmaf_train.corpus.pooling import pooled
from vmaf_train.errors import DatasetError
from vmaftune.report.build import build
from vmaftune.report.read import read
from vmaftune.report.summary import commands
from vmaftune.report.tables import tables

WINDOWS = ("film@00:00:10.000", "film@00:12:30.000")


def change(folder: Path, edit: Callable[[dict[str, Any]], dict[str, Any] | None]) -> Path:
    """The folder after `edit` has been at its cell rows (None = without the row)."""
    return edit_folder(folder, edit)


def retold(folder: Path, old: str, new: str) -> Path:
    """The folder after every `old` in its text is `new`."""
    for file in folder.iterdir():
        file.write_text(file.read_text(encoding="utf-8").replace(old, new), encoding="utf-8")
    return folder


@pytest.fixture
def film(synthetic: ModuleType, tmp_path: Path) -> Path:
    """Two windows of one film, of 10 and 30 frames, and a clip."""
    folder = tmp_path / "film"
    parts = [("film@00:00:10.000", 10), ("film@00:12:30.000", 30), ("clip", 10)]
    texts: dict[str, str] = {"cells.jsonl": "", "frames.jsonl": ""}
    for number, (name, frames) in enumerate(parts):
        made = synthetic.write(
            tmp_path / str(number), names=[name], encoders=("libx264",), num_frames=frames, failed=0
        )
        for file in texts:
            texts[file] += (made / file).read_text(encoding="utf-8")
    folder.mkdir()
    for file, text in texts.items():
        (folder / file).write_text(text, encoding="utf-8")
    return change(folder, lambda row: row | {"group": row["src"].partition("@")[0]})


def test_windows_of_a_film_are_pooled_from_their_frames(film: Path) -> None:
    sweep = read(film)
    assert sweep.sources == ("clip", "film") and sweep.groups == ("clip", "film")
    point = next(p for p in sweep.points if p.source == 1)
    rows = [json.loads(line) for line in (film / "cells.jsonl").read_text().splitlines()]
    mine = [r for r in rows if r["src"] in WINDOWS and r["cell"].endswith("libx264/veryfast/18")]
    lines = (film / "frames.jsonl").read_text().splitlines()
    keys = {row["key"] for row in mine}
    scores = [f["vmaf"] for f in map(json.loads, lines) if f["key"] in keys]
    wanted = pooled(scores)
    assert point.num_frames == len(scores) == 40
    assert point.vmaf == pytest.approx(wanted["vmaf_score"])
    assert point.harmonic == pytest.approx(wanted["vmaf_harmonic_mean"])
    assert point.p5 == pytest.approx(wanted["vmaf_p5"])
    assert point.lowest == min(scores)
    kbps = np.average([r["bitrate_kbps"] for r in mine], weights=[10, 30])
    assert point.kbps == pytest.approx(kbps)
    assert len(sweep.frames[point.key]) == 40


def test_a_setting_that_lacks_a_window_is_not_drawn(film: Path) -> None:
    lost = "film@00:12:30.000/libx264/veryfast/18"
    sweep = read(change(film, lambda row: None if row["cell"] == lost else row))
    assert len(sweep.points) == 2 * 18 - 1
    assert any(note.startswith("1 settings are not drawn") for note in sweep.notes)


def test_one_window_of_a_film_keeps_its_name(film: Path) -> None:
    sweep = read(change(film, lambda row: None if row["src"] == WINDOWS[0] else row))
    assert sweep.sources == ("clip", "film@00:12:30.000")


def test_the_same_pictures_in_two_folders_are_one_source(small: Path, tmp_path: Path) -> None:
    """Same keys: nothing was measured twice, and there is one curve a setting."""
    other = retold(shutil.copytree(small, tmp_path / "other"), "clip_00_1080p", "another name")
    sweep = read(small, other)
    assert sweep.sources == read(small).sources
    assert len(sweep.points) == len(read(small).points)
    assert sweep.name == "small sweep + other"


def test_other_tools_make_a_curve_of_their_own(small: Path, tmp_path: Path) -> None:
    def patched(row: dict[str, Any]) -> dict[str, Any]:
        if row["encoder"] != "libx264" or not row["bitrate_kbps"]:
            return row
        return row | {"key": "new" + row["key"], "bitrate_kbps": row["bitrate_kbps"] * 0.9}

    other = change(shutil.copytree(small, tmp_path / "patched"), patched)
    made = build(small, other)
    labels = [curve.label for curve in made.analysis.sweep.curves]
    assert {"libx264 medium (small sweep)", "libx264 medium (patched)"} <= set(labels)
    assert "libsvtav1 8" in labels
    shown = [labels[c] for c in made.analysis.defaults]
    assert shown[:2] == ["libx264 medium (patched)", "libx264 medium (small sweep)"]
    rates = made.analysis.bd_rates(
        labels.index("libx264 medium (patched)"), labels.index("libx264 medium (small sweep)")
    )
    assert all(rate == pytest.approx(-10) for rate in rates.values())


def test_the_same_name_of_other_pictures_is_two_sources(small: Path, tmp_path: Path) -> None:
    copied = shutil.copytree(small, tmp_path / "other")

    def of_other_pictures(row: dict[str, Any]) -> dict[str, Any]:
        return row | {"src_sha256": "f" + row["src_sha256"][1:], "key": "f" + row["key"]}

    other = change(copied, of_other_pictures)
    sweep = read(small, other)
    assert len(sweep.sources) == 8 and "clip_00_1080p (other)" in sweep.sources


def test_two_vmaf_models_are_refused(small: Path, tmp_path: Path) -> None:
    copied = shutil.copytree(small, tmp_path / "other")
    other = change(copied, lambda row: row | {"teacher": "vmaf_4k_v0.6.1"})
    with pytest.raises(DatasetError, match="different VMAF models"):
        read(small, other)


def test_winners_come_with_a_command_and_a_size(small: Path) -> None:
    made = build(small, target=85)
    found = commands(made.analysis)
    assert found[0][0].startswith("fewest bits, VMAF ") and "GB an hour" in found[0][0]
    assert all(line.startswith("ffmpeg -i film.mkv -c:v lib") for _, line in found)
    document = json.loads(json.dumps(made.document()))
    cost = document["quality_for"][0]["targets"]["85"]["cost"]
    assert cost["gb_per_hour"] == pytest.approx(cost["bitrate_kbps"] * 450_000 / 1e9)
    assert cost["command"].endswith("-c:a copy out.mkv")
    titles = [table.title for table in tables(made.analysis, None)]
    assert "Coarsest quality value for VMAF 85 by source" in titles


def test_what_is_out_of_reach_is_said_to_need_finer_values(small: Path) -> None:
    made = build(small, target=99)
    by_source = next(t for t in tables(made.analysis, None) if t.title.endswith("by source"))
    assert "< 18" in by_source.rows[0]
