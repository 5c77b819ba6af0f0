"""A sweep over real clips: rows, resume by key, plans in folders, and encodes that are not what was
asked for.
"""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from vmaftune.engine.events import to_json
from vmaftune.engine.lanes import LaneExecutor
from vmaftune.engine.options import Options
from vmaftune.engine.study import Study
from vmaftune.errors import FolderError, ToolError
from vmaftune.media.ffmpeg import Ffmpeg
from vmaftune.questions import grid
from vmaftune.request.cells import Plan

Make = Callable[..., Path]
WRONG = {
    "short": (
        "argv[-1:-1] = ['-frames:v', '7']",
        "wrong_frame_count",
        "10 frames and the encode 7",
    ),
    "long": (
        "f = argv.index('-vf') + 1; argv[f] += ',tpad=stop=3'",
        "wrong_frame_count",
        "10 frames and the encode 13",
    ),
    "doubled": (
        (
            "f = argv.index('-vf') + 1; argv[f] += ',fps=50'; argv[argv.index('-fps_mode') + 1] ="
            " 'cfr'"
        ),
        "wrong_frame_count",
        "10 frames and the encode 20",
    ),
    "one more": (
        "f = argv.index('-vf') + 1; argv[f] += ',tpad=stop=1'",
        "wrong_frame_count",
        "10 frames and the encode 11",
    ),
    "lost afterwards": (
        (
            "import subprocess; subprocess.check_call([REAL, *argv]); os.rename(argv[-1][5:],"
            " 'whole.mkv'); argv = ['-v', 'error', '-i', 'whole.mkv', '-c', 'copy', '-frames:v',"
            " '8', '-f', 'matroska', argv[-1]]"
        ),
        "wrong_frame_count",
        "encode 8, scored",
    ),
    "small": (
        "f = argv.index('-vf') + 1; argv[f] += ',scale=64:64'",
        "wrong_size",
        "64x64, not 96x64",
    ),
    "chroma": (
        "f = argv.index('-vf') + 1; argv[f] += ',format=yuv444p'",
        "wrong_format",
        "yuv444p, not yuv420p",
    ),
    "depth": (
        "f = argv.index('-vf') + 1; argv[f] += ',format=yuv420p10le'",
        "wrong_format",
        "yuv420p10le, not yuv420p",
    ),
    "empty": ("open(argv[-1][5:], 'w').close(); sys.exit(0)", "score_failed", "Invalid data"),
    "none": ("sys.exit(0)", "encode_failed", "the encode wrote no file"),
    "ignored": ("argv[-1:-1] = ['-cq', '3']", "option_ignored", "did not use one"),
    "refused": ("argv[argv.index('-preset') + 1] = 'nonsense'", "encode_failed", "nonsense"),
    "full": ("argv[-1] = 'file:/dev/full'", None, "disk"),
}


@pytest.mark.parametrize("case", [name for name in WRONG if WRONG[name][1]])
def test_an_encode_that_is_not_what_was_asked_for_is_an_error_row(
    case: str, clip: Make, swept: Callable[..., Any], wrapper: Callable[..., str]
) -> None:
    body, kind, words = WRONG[case]
    run = swept(clip("asked.mkv"), ffmpeg=wrapper(f"if ENCODE:\n  {body}"), quality="30,31")
    assert len(run.rows) == 2
    for row in run.rows.values():
        assert (row["status"], row["error"]["class"]) == ("failed", kind), row["error"]
        assert words in row["error"]["message"]
        assert all(
            row[name] is None
            for name in ("vmaf_score", "bitrate_kbps", "per_frame_features", "num_frames")
        )
        assert row["error"]["exit_code"] is not None
        assert row["error"]["stderr_tail"] or case in ("none", "empty")
    assert run.frames == []
    assert run.events[-1]["num_failed"] == 2


def test_scores_with_a_hole_are_an_error_row(
    clip: Make, swept: Callable[..., Any], wrapper: Callable[..., str]
) -> None:
    body = (
        "if SCORE:\n"
        "  import subprocess\n"
        "  code = subprocess.call([REAL, *argv])\n"
        "  text = open('vmaf.json').read()\n"
        "  open('vmaf.json', 'w').write({})\n"
        "  sys.exit(code)"
    )
    for i, (change, kind) in enumerate(
        {
            "text[:len(text) // 2]": "score_unreadable",
            "text.replace('integer_adm2', 'integer_adm9')": "score_incomplete",
            'text.replace(\'"vmaf": \', \'"vmaf": NaN, "x": \')': "score_incomplete",
        }.items()
    ):
        run = swept(
            clip("asked.mkv"),
            out=clip("asked.mkv").parent / f"hole{i}",
            ffmpeg=wrapper(body.format(change)),
        )
        assert (run.row["status"], run.row["error"]["class"]) == ("failed", kind)
        assert run.frames == []


def test_a_full_disk_ends_the_sweep_and_keeps_what_is_done(
    clip: Make,
    swept: Callable[..., Any],
    wrapper: Callable[..., str],
    read_run: Callable[[Path], Any],
    tmp_path: Path,
) -> None:
    stop = wrapper(f"if ENCODE and '34' in argv:\n  {WRONG['full'][0]}")
    with pytest.raises(ToolError, match="is full; make room and run the same command again"):
        swept(clip("asked.mkv"), ffmpeg=stop, quality="30,34", jobs=1)
    left = read_run(tmp_path / "run")
    assert [r["status"] for r in left.rows.values()] in (["ok"], [])
    assert not (tmp_path / "run/tmp").exists()
    after = swept(clip("asked.mkv"), quality="30,34")
    assert [r["status"] for r in after.rows.values()] == ["ok", "ok"]


def test_a_preparation_on_a_full_disk_is_no_failed_cell(
    clip: Make, swept: Callable[..., Any], wrapper: Callable[..., str], tmp_path: Path
) -> None:
    with pytest.raises(ToolError, match="is full"):
        swept(clip("asked.mkv"), ffmpeg=wrapper("if PREPARE: argv[-1] = 'file:/dev/full'"))
    assert not (tmp_path / "run/cells.jsonl").exists()


def test_the_command_of_a_failed_row_gives_the_same_failure(
    clip: Make, swept: Callable[..., Any], tmp_path: Path
) -> None:
    source = clip(
        "odd for vvenc.mkv",
        size="98x68",
        vf="format=yuv444p,crop=97:67:exact=1",
        args=("-c:v", "ffv1"),
    )
    row = swept(source, encoders="vvenc", presets="faster").row
    assert (row["status"], row["error"]["class"]) == ("failed", "encode_failed")
    assert "picture width is not an integer multiple" in row["error"]["message"]
    (tmp_path / "paste").mkdir()
    command = row["error"]["command"].replace("file:../", f"file:{Path.cwd().parent}/")
    again = subprocess.run(
        ["sh", "-c", command], cwd=tmp_path / "paste", capture_output=True, text=True, check=False
    )
    assert again.returncode == row["error"]["exit_code"]
    assert "picture width is not an integer multiple" in again.stderr


def test_a_stall_ends_by_timeout_and_the_rest_goes_on(
    clip: Make, swept: Callable[..., Any], wrapper: Callable[..., str]
) -> None:
    run = swept(
        clip("asked.mkv"),
        ffmpeg=wrapper("if ENCODE and '31' in argv: time.sleep(600)"),
        quality="30:32:1",
        timeout_s=5,
    )
    by_quality = {row["crf"]: row for row in run.rows.values()}
    assert [by_quality[q]["status"] for q in (30, 31, 32)] == ["ok", "failed", "ok"]
    assert by_quality[31]["error"]["class"] == "timeout"
    assert "--timeout" in by_quality[31]["error"]["message"]


def test_a_resumed_sweep_does_nothing_twice_and_failed_cells_only_when_asked(
    clip: Make, swept: Callable[..., Any], wrapper: Callable[..., str], tmp_path: Path
) -> None:
    broken = wrapper("if ENCODE and '32' in argv: sys.exit(3)")
    source = clip("asked.mkv")
    first = swept(source, ffmpeg=broken, quality="30,32")
    assert sorted(r["status"] for r in first.rows.values()) == ["failed", "ok"]
    text = (tmp_path / "run/cells.jsonl").read_bytes()
    again = swept(source, quality="30,32")
    assert (tmp_path / "run/cells.jsonl").read_bytes() == text
    assert [e["event"] for e in again.events] == ["start", "end"]
    assert (again.events[0]["num_left"], again.events[-1]["num_failed"]) == (0, 1)
    retried = swept(source, quality="30,32", retry_failed=True)
    assert [r["status"] for r in retried.rows.values()] == ["ok", "ok"]
    assert retried.events[0]["num_left"] == 1
    assert retried.events[-1] == {
        "event": "end",
        "num_ok": 1,
        "num_failed": 0,
        "num_done": 2,
        "num_cells": 2,
    }
    assert (tmp_path / "run/cells.jsonl").read_bytes().startswith(text)


def test_another_version_of_the_tool_redoes_and_going_back_does_not(
    clip: Make, swept: Callable[..., Any], tmp_path: Path
) -> None:
    source = clip("asked.mkv")
    old = swept(source, version="9.0.2-old")
    new = swept(source, version="9.9.9-new")
    assert old.row["key"] != new.row["key"]
    assert (new.row["ffmpeg_version"], len(new.frames)) == ("9.9.9-new", 20)
    back = swept(source, version="9.0.2-old")
    assert back.events[0]["num_left"] == 0
    assert back.row == old.row
    assert len(back.frames) == 20
    assert len(back.frames_of(back.row["cell"])) == 10


def test_other_content_under_the_same_name_is_another_plan(
    clip: Make, swept: Callable[..., Any], tmp_path: Path
) -> None:
    place = tmp_path / "clip.mkv"
    place.write_bytes(clip("asked.mkv").read_bytes())
    swept(place)
    place.write_bytes(clip("asked otherwise.mkv", frames=8).read_bytes())
    with pytest.raises(FolderError, match="sha256"):
        swept(place)


def test_another_plan_is_refused_by_its_difference_and_extended_when_asked(
    clip: Make, swept: Callable[..., Any], tmp_path: Path
) -> None:
    source = clip("asked.mkv")
    swept(source, quality="30")
    before = (tmp_path / "run/sweep.json").read_bytes()
    for flags, word in (
        ({"quality": "30,33"}, "1 cell more, asked/libx264/ultrafast/33 for one"),
        ({"quality": "33"}, "1 cell more, .* and 1 cell fewer"),
    ):
        with pytest.raises(FolderError, match=f"another plan: .*{word}.* --out.* --extend"):
            swept(source, **{"quality": "30", **flags})
    # What would be other rows of the same cell is never an addition, whether or not other cells are
    # gone.
    for flags, word in (
        ({"frames": 5}, "num_frames 5 instead of None"),
        ({"threads": 2}, "threads_per_encode is 2 instead of 1"),
        ({"teacher": "vmaf_v0.6.1neg"}, "teacher is vmaf_v0.6.1neg instead of vmaf_v0.6.1"),
        ({"crop": "64x64+0+0"}, r"crop 64x64\+0\+0 instead of None"),
    ):
        with pytest.raises(
            FolderError, match=f"another plan: .*{word}; write elsewhere with --out$"
        ):
            swept(source, **{"quality": "30", **flags})
        for values in ("30", "30,33", "33"):
            with pytest.raises(FolderError, match=f"--extend adds cells .*{word}.* --out"):
                swept(source, **{"quality": values, "extend": True, **flags})
    assert (tmp_path / "run/sweep.json").read_bytes() == before
    more = swept(source, quality="33", extend=True)
    assert sorted(more.rows) == ["asked/libx264/ultrafast/30", "asked/libx264/ultrafast/33"]
    document = json.loads((tmp_path / "run/sweep.json").read_text())
    assert document["num_cells"] == 2
    assert swept(source, quality="30,33").events[0]["num_left"] == 0
    other = clip("asked otherwise.mkv", frames=8)
    both = swept(other, quality="30", extend=True)
    assert len(both.rows) == 3


def test_a_part_of_a_plan_may_be_done_first(clip: Make, swept: Callable[..., Any]) -> None:
    source = clip("asked.mkv")
    flags = {"encoders": "x264,x265", "quality": "30"}
    part = swept(source, select=["*/libx265/*"], **flags)
    assert list(part.rows) == ["asked/libx265/ultrafast/30"]
    whole = swept(source, **flags)
    assert sorted(whole.rows) == ["asked/libx264/ultrafast/30", "asked/libx265/ultrafast/30"]
    assert whole.events[0]["num_left"] == 1


def test_rows_hold_what_the_contract_names(clip: Make, swept: Callable[..., Any]) -> None:
    run = swept(clip("asked.mkv"), quality="30.5,31")
    for row in run.rows.values():
        assert row["schema_version"] == 1
        assert row["argv"][-1] == "file:{out}"
        assert not any("/" in a and "tmp" in a for a in row["argv"])
        assert row["encoder_version"] is None, "x264 prints none"
        assert row["rate_control"] == "crf"
        assert row["encode_wall_s"] > 0
        assert row["score_cpu_s"] >= 0
        assert (row["device"], row["error"], row["flags"]) == (None, None, [])
    assert [r["crf"] for r in sorted(run.rows.values(), key=lambda r: r["crf"])] == [30.5, 31]
    assert '"crf": 31,' in (run.folder / "cells.jsonl").read_text()
    names = {
        "key",
        "cell",
        "src",
        "encoder",
        "preset",
        "crf",
        "frame_index",
        "vmaf",
        "vmaf_unclipped",
        "adm2",
        "vif_scale0",
        "vif_scale1",
        "vif_scale2",
        "vif_scale3",
        "motion2",
    }
    assert {frozenset(f) for f in run.frames} == {frozenset(names)}
    runs = [json.loads(line) for line in (run.folder / "runs.jsonl").read_text().splitlines()]
    assert runs[0]["packages"]["vmaf-tune"]
    assert sorted(p.name for p in run.folder.iterdir()) == [
        ".lock",
        ".verified",
        "cells.jsonl",
        "frames.jsonl",
        "runs.jsonl",
        "sweep.json",
    ]


def test_kept_encodes_never_overwrite_each_other(
    clip: Make, swept: Callable[..., Any], tmp_path: Path
) -> None:
    for name in ("a b.mkv", "a_b.mkv", "日本.mkv", "中国.mkv"):
        frames = 4 + len(list(tmp_path.iterdir()))
        (tmp_path / name).write_bytes(clip(f"keep {frames}.mkv", frames=frames).read_bytes())
    run = swept(*sorted(tmp_path.glob("*.mkv")), keep_encodes=True)
    assert len(list((run.folder / "encodes").iterdir())) == len(run.rows) == 4


class Counting(LaneExecutor):
    """The real executor, which notes how much disk the prepared references take."""

    def __init__(self, folder: Path) -> None:
        super().__init__({"cpu": 2})
        self.folder, self.most = folder, 0

    def events(self) -> Any:
        for batch in super().events():
            self.most = max(self.most, sum(p.stat().st_size for p in self.folder.rglob("ref*.yuv")))
            yield batch


def test_references_are_bounded_and_removed_after_their_last_cell(
    clip: Make,
    planned: Callable[..., Plan],
    real: Ffmpeg,
    tmp_path: Path,
) -> None:
    plan = planned(*(clip(f"bound {i}.mkv", frames=4 + i) for i in range(4)), quality="30,40")
    sizes = [s.frame_bytes * s.expected_frames for s in plan.sources]
    options = Options(jobs=2, budget_bytes=sizes[-1] + sizes[-2])
    folder = tmp_path / "run"
    executor = Counting(folder)
    with Study.open(folder, plan, real, options, executor=executor) as study:
        events = [to_json(event) for event in grid.run(plan, study)]
    assert events[-1]["num_ok"] == 8
    assert 0 < executor.most <= sizes[-1] + sizes[-2]
    assert not (folder / "tmp").exists()


def test_too_little_room_is_said_before_anything_runs(
    clip: Make, planned: Callable[..., Plan], real: Ffmpeg, tmp_path: Path
) -> None:
    plan = planned(clip("asked.mkv"))
    huge = replace(plan.sources[0], expected_frames=10**12)
    plan = replace(plan, sources=(huge,), cells=tuple(replace(c, window=huge) for c in plan.cells))
    with (
        pytest.raises(ToolError, match="GiB free .*--frames"),
        Study.open(tmp_path, plan, real, Options(jobs=1)) as study,
    ):
        list(grid.run(plan, study))
    assert not (tmp_path / "cells.jsonl").exists()


def test_a_task_that_breaks_is_not_taken_for_a_failed_cell(
    clip: Make, swept: Callable[..., Any], tmp_path: Path
) -> None:
    with pytest.raises(ToolError, match="cannot be started"):
        swept(clip("asked.mkv"), ffmpeg=str(tmp_path / "gone"))
    assert not (tmp_path / "run/cells.jsonl").exists()
