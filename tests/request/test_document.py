"""The plan of a folder: written, read back, compared, joined; files that are none are one
sentence.
"""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from vmaftune.cell import Cell, Crop, Raw
from vmaftune.encoders import ENCODERS
from vmaftune.errors import FolderError
from vmaftune.request.document import (
    Document,
    agreed,
    conflict,
    difference,
    is_part,
    merge,
    plan_document,
    read_document,
    source_entry,
    window_of,
)

ROOT = Path(__file__).parents[2]
COMMITTED = ROOT / "runs/phase_a/software/sweep.json"


@pytest.fixture
def document(planned: Any, clip: Any) -> Document:
    plan = planned(clip("plan.mkv"), encoders="x264,svtav1", presets=None, quality="30,40")
    return replace(plan.document(), argv=("vmaf-tune",), created_at="2026-01-01T00:00:00+00:00")


def written(document: Document, path: Path) -> Path:
    path.write_text(json.dumps(document.to_json()))
    return path


def test_a_plan_is_read_as_it_was_written(document: Document, tmp_path: Path) -> None:
    path = written(document, tmp_path / "sweep.json")
    assert read_document(path) == document
    assert document.cell_ids == {
        f"plan/{encoder}/{q}" for encoder in ("libx264/medium", "libsvtav1/8") for q in ("30", "40")
    }
    more = path.read_text().replace('"num_cells"', '"of_a_later_version": 1, "num_cells"')
    path.write_text(more)
    assert read_document(path).to_json()["of_a_later_version"] == 1


@pytest.mark.parametrize("path", sorted(ROOT.glob("runs/phase_a/*/sweep.json")), ids=str)
def test_committed_plans_are_read_and_written_to_the_byte(path: Path) -> None:
    found = read_document(path)
    assert len(found.cell_ids) == found.num_cells
    assert json.dumps(found.to_json(), ensure_ascii=False, indent=1) + "\n" == path.read_text()


def test_ids_hold_size_options_and_bound(document: Document, planned: Any, clip: Any) -> None:
    plan = planned(clip("plan.mkv"))
    (cell,) = plan.cells
    row = ENCODERS["libx264"]
    film = row.check_options("-tune film -x264-params aq-mode=3")
    settings = [
        replace(cell.setting, size=(64, 48)),
        replace(cell.setting, options=film),
        replace(cell.setting, maxrate_kbps=500, bufsize_kbps=1000),
        replace(cell.setting, size=(64, 48), options=film, maxrate_kbps=1, bufsize_kbps=2),
    ]
    cells = [cell, *(replace(cell, setting=setting) for setting in settings)]
    found = plan_document(cells, plan.sources)
    base = "plan/libx264/ultrafast/30"
    assert found.cell_ids == {one.id for one in cells}
    assert found.cell_ids == {
        base,
        f"{base}@64x48",
        f"{base}+tune=film,aq-mode=3",
        f"{base}+maxrate=500k:1000k",
        f"{base}@64x48+tune=film,aq-mode=3,maxrate=1k:2k",
    }


def test_what_two_plans_differ_in(document: Document) -> None:
    fewer = replace(document, grid=document.grid[:1])
    assert difference(document, document) is None
    assert difference(document, fewer) == "2 cells fewer, plan/libsvtav1/8/30 for one"
    assert is_part(document, fewer) and not is_part(fewer, document)
    assert merge(fewer, document).cell_ids == document.cell_ids
    threads = replace(document, threads_per_encode=(2,))
    assert conflict(document, threads) == "threads_per_encode is 2 instead of 1"
    other = replace(document, sources=(replace(document.sources[0], fps="30"),))
    assert conflict(document, other) == "source plan has fps 30 instead of 25"


def test_what_a_folder_has_to_hold(document: Document, tmp_path: Path) -> None:
    fewer = replace(document, grid=document.grid[:1])
    assert agreed(tmp_path, fewer, extend=False, part=False) == fewer
    with pytest.raises(FolderError, match=r"holds rows but no sweep\.json"):
        agreed(tmp_path, fewer, extend=False, part=False, has_rows=True)
    written(fewer, tmp_path / "sweep.json")
    with pytest.raises(FolderError, match="2 cells more.*--extend"):
        agreed(tmp_path, document, extend=False, part=False)
    assert agreed(tmp_path, document, extend=True, part=False).num_cells == 4
    clash = replace(document, teacher=("vmaf_v0.6.1neg",))
    with pytest.raises(FolderError, match="adds cells to .* and changes none: teacher"):
        agreed(tmp_path, clash, extend=True, part=False)


@pytest.mark.parametrize(
    "text",
    [
        "[]",
        "null",
        "{}",
        "",
        "\ufeff{}",
        '{"sources": [{}]}',
        '{"sources": 5, "grid": []}',
        "[" * 100_000,
        '{"sources":' * 3000,
        "\x00",
        COMMITTED.read_text().replace('"num_cells": 1428', '"num_cells": "many"'),
        COMMITTED.read_text().replace('"encoder": "libx264"', '"encoder": null', 1),
    ],
    ids=[str(n) for n in range(12)],
)
def test_files_that_are_no_plan_are_one_sentence(text: str, tmp_path: Path) -> None:
    path = tmp_path / "sweep.json"
    path.write_text(text)
    with pytest.raises(FolderError, match=r"is not the plan of a run \(.+\); restore it"):
        read_document(path)
    path.write_bytes(b"\xff\xfe")
    with pytest.raises(FolderError, match="is not the plan of a run"):
        read_document(path)


def test_a_plan_of_a_later_version_is_refused(document: Document, tmp_path: Path) -> None:
    path = written(replace(document, schema_version=99), tmp_path / "sweep.json")
    with pytest.raises(FolderError, match="schema_version 99, and this version reads 1"):
        read_document(path)


@pytest.mark.parametrize("path", sorted(ROOT.glob("runs/phase_a/*/sweep.json")), ids=str)
def test_windows_and_settings_come_back_from_a_plan(path: Path) -> None:
    found = read_document(path)
    windows = {entry.name: window_of(entry) for entry in found.sources}
    assert tuple(source_entry(window) for window in windows.values()) == found.sources
    ids = {
        Cell(window=windows[source], setting=setting).id
        for block in found.grid
        for source in block.sources
        for setting in block.settings()
    }
    assert ids == found.cell_ids


def test_a_window_comes_back_whole(planned: Any, clip: Any) -> None:
    (window,) = planned(clip("plan.mkv")).sources
    raw = Raw(width=window.width, height=window.height, fps="25/1", pix_fmt="yuv420p")
    crop = Crop(width=64, height=48, x=2, y=4)
    for other in (
        replace(window, every=2, pad_before=3, pad_after=1),
        replace(window, crop=crop, scale=(32, 24), raw=raw, flags=("vfr",)),
    ):
        assert window_of(source_entry(other)) == replace(other, seek=None)
