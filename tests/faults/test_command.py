"""The command as a user meets it: odd names, no terminal and a terminal, events, dry runs,
refusals.
"""

from __future__ import annotations

import json
import os
import pty
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

Make = Callable[..., Path]
ONE = ("--encoders", "x264", "--presets", "ultrafast", "--quality", "30")
ODD = [
    "a:b.mkv",
    "it's.mkv",
    "50%d.mkv",
    "a,b.mkv",
    "two words.mkv",
    "-leading.mkv",
    "日本 ü.mkv",
    "[x]*?.mkv",
    "a;b|c&d.mkv",
    "back\\slash.mkv",
    '"quoted".mkv',
    "{src}{ref}{out}.mkv",
    "$HOME.mkv",
]
KEYS = {
    "notice": {"message"},
    "start": {"folder", "num_cells", "num_done", "num_failed", "num_left", "jobs", "expected_s"},
    "prepare": {"src"},
    "stage": {"cell", "stage"},
    "cell": {
        "cell",
        "status",
        "vmaf_score",
        "bitrate_kbps",
        "num_frames",
        "encode_cpu_s",
        "score_cpu_s",
        "encode_wall_s",
        "error",
        "expected_s",
    },
    "end": {"num_ok", "num_failed", "num_done", "num_cells"},
}


def test_names_of_every_kind_inside_folders_of_every_kind(
    clip: Make, tool: Any, read_run: Callable[[Path], Any], tmp_path: Path
) -> None:
    content = clip("odd names.mkv", frames=4).read_bytes()
    for i, name in enumerate(ODD):
        # No two files are the same: each ends with a void element of its own.
        (tmp_path / name).write_bytes(content + b"\xec\x81" + bytes([i]))
    out = tmp_path / "out: 'it' 100%, ü -x"
    tool.process("corpus", *ONE, "--out", out, "--keep-encodes", "--", *ODD)
    rows = read_run(out).rows
    assert {r["src"] for r in rows.values()} == {name[:-4] for name in ODD}
    assert {r["status"] for r in rows.values()} == {"ok"}
    assert len(list((out / "encodes").iterdir())) == len(ODD)
    assert json.loads(tool.run("status", out, "--json").stdout)["num_done"] == len(ODD)


def test_a_newline_in_a_name_is_refused_with_the_way_out(
    clip: Make, tool: Any, tmp_path: Path
) -> None:
    for raw in (b"new\nline.mkv", b"caf\xe9.mkv"):
        place = Path(os.fsdecode(os.path.join(os.fsencode(tmp_path), raw)))
        place.write_bytes(clip("odd names.mkv", frames=4).read_bytes())
        done = tool.run("corpus", place, *ONE, code=2)
        assert "cannot be a source's name" in done.stderr
        assert "rename the file" in done.stderr
        assert "Traceback" not in done.stderr


def test_a_path_that_is_no_utf8_is_refused_before_anything_is_written(
    clip: Make, tool: Any, tmp_path: Path
) -> None:
    odd = os.fsdecode(b"caf\xe9")
    (tmp_path / odd).mkdir()
    (tmp_path / odd / "a.mkv").write_bytes(clip("odd names.mkv", frames=4).read_bytes())
    (tmp_path / "a.mkv").write_bytes((tmp_path / odd / "a.mkv").read_bytes())
    (tmp_path / "p.csv").write_text("reference,distorted\na.mkv,a.mkv\n")
    before = sorted(tmp_path.rglob("*"))
    for args in (
        (odd, *ONE, "--out", "run"),
        ("a.mkv", *ONE, "--out", odd + "2"),
        ("a.mkv", *ONE, "--out", odd + "2", "--dry-run", "--json"),
        (tmp_path / odd / "a.mkv", *ONE),
        ("--pairs", "p.csv", "--out", odd + "2"),
    ):
        done = tool.run("corpus", *args, code=2)
        assert "not UTF-8; rename" in done.stderr and "Traceback" not in done.stderr
    assert sorted(tmp_path.rglob("*")) == before


def test_a_sweep_that_needs_more_room_than_there_is_leaves_no_plan(
    clip: Make, tool: Any, tmp_path: Path
) -> None:
    source, long = clip("odd names.mkv", frames=4), clip("long.mkv", frames=5000, size="16x16")
    (tmp_path / "there").mkdir()
    for out in ("new", "there"):
        done = tool.run("corpus", long, *ONE, "--scale", "16384x16384", "--out", out, code=3)
        assert "GiB free" in done.stderr
        tool.run("corpus", source, *ONE, "--out", out)


def test_events_are_json_with_the_keys_of_the_contract(
    clip: Make, tool: Any, wrapper: Callable[..., str], tmp_path: Path
) -> None:
    bad = wrapper("if ENCODE and '31' in argv: sys.exit(3)")
    args = (
        clip("odd names.mkv", frames=4),
        *ONE[:4],
        "--quality",
        "30,31",
        "--out",
        "run",
        "--ffmpeg",
        bad,
    )
    events = tool.events(*args, code=5)
    for event in events:
        assert set(event) - {"event"} == KEYS[event["event"]], event
    assert {e["event"] for e in events} == set(KEYS) - {"notice"}
    assert events[0]["event"] == "start"
    assert events[-1] == {
        "event": "end",
        "num_ok": 1,
        "num_failed": 1,
        "num_done": 1,
        "num_cells": 2,
    }
    assert [e["stage"] for e in events if e["event"] == "stage" and e["cell"].endswith("/30")] == [
        "encode",
        "score",
    ]
    (failed,) = (e for e in events if e.get("status") == "failed")
    assert failed["vmaf_score"] is None
    assert failed["error"]
    frames = tmp_path / "run/frames.jsonl"
    frames.write_bytes(frames.read_bytes() + b'{"torn')
    again = tool.events(*args, code=5)
    assert [e["event"] for e in again] == ["notice", "start", "end"]
    assert set(again[0]) == {"event", "message"}


def test_without_a_terminal_there_are_plain_lines(clip: Make, tool: Any) -> None:
    done = tool.process("corpus", clip("odd names.mkv", frames=4), *ONE, "--out", "run")
    assert "\x1b" not in done.stdout + done.stderr
    assert "1 cell, 0 done, 0 failed, 1 to do" in done.stderr
    assert "1/1 cells, 0 failed" in done.stderr
    assert done.stderr.rstrip().endswith("next: vmaf-tune report run")
    assert "libx264" in done.stdout
    assert "ultrafast" in done.stdout


@pytest.mark.parametrize("columns", ["40", "120"])
def test_on_a_terminal_the_live_view_runs_to_its_end(
    columns: str, clip: Make, wrapper: Callable[..., str], tmp_path: Path
) -> None:
    bad = wrapper("if ENCODE and '31' in argv: sys.exit(3)\nif ENCODE: time.sleep(0.6)")
    screen, other = pty.openpty()
    argv = [
        sys.executable,
        "-m",
        "vmaftune",
        "corpus",
        str(clip("odd names.mkv", frames=4)),
        *ONE[:4],
        "--quality",
        "30:33:1",
        "--out",
        "run",
        "--ffmpeg",
        bad,
    ]
    env = {**os.environ, "TERM": "xterm-256color", "COLUMNS": columns, "PYTHONWARNINGS": "error"}
    child = subprocess.Popen(argv, stdin=other, stdout=other, stderr=other, cwd=tmp_path, env=env)
    os.close(other)
    seen = b""
    while True:
        try:
            part = os.read(screen, 65536)
        except OSError:  # Linux says so when the last writer has gone
            break
        if not part:
            break
        seen += part
    os.close(screen)
    assert child.wait(60) == 5, seen.decode()
    text = seen.decode()
    assert "Traceback" not in text
    assert "\x1b[" in text
    assert "failed:" in text
    assert columns == "40" or "/4 cells" in text


def test_a_dry_run_shows_the_plan_and_leaves_nothing(
    clip: Make, tool: Any, wrapper: Callable[..., str], tmp_path: Path
) -> None:
    source = clip("odd names.mkv", frames=4)
    no_encoder = wrapper("if '-c:v' in argv: sys.exit(1)")
    before = sorted(tmp_path.rglob("*"))
    done = tool.run(
        "corpus", source, "--encoders", "nvenc,qsv,x264", "--dry-run", "--ffmpeg", no_encoder
    )
    assert "h264_nvenc" in done.stdout
    assert "28 cells" in done.stderr
    said = json.loads(
        tool.run("corpus", source, *ONE, "--dry-run", "--json", "--out", "nowhere").stdout
    )
    assert (said["num_cells"], said["num_left"], said["folder"]) == (1, 1, "nowhere")
    assert said["cells"] == ["odd names/libx264/ultrafast/30"]
    assert said["expected_s"] >= 0
    assert said["disk_bytes"] > 4 * 96 * 64 * 3 // 2
    assert sorted(tmp_path.rglob("*")) == before
    tool.run("corpus", source, *ONE, "--out", "run")
    assert (
        json.loads(tool.run("corpus", source, *ONE, "--dry-run", "--json", "--out", "run").stdout)[
            "num_done"
        ]
        == 1
    )


def test_a_dry_run_says_what_it_does_not_prove_and_what_would_be_refused(
    clip: Make, tool: Any
) -> None:
    source = clip("odd names.mkv", frames=4)
    assert (
        "a dry run tries no encoder"
        in tool.run("corpus", source, "--encoders", "auto", "--dry-run", "--json").stderr
    )
    tool.run("corpus", source, *ONE, "--out", "run")
    assert tool.run("corpus", source, *ONE, "--out", "run", "--dry-run").stderr.count("note:") == 0
    other = ("corpus", source, *ONE, "--frames", "3", "--out", "run", "--dry-run")
    assert (
        "would be refused: run holds another plan: source odd names has num_frames 3"
        in tool.run(*other).stderr
    )
    assert "would be refused: --extend adds cells" in tool.run(*other, "--extend").stderr
    more = ("corpus", source, *ONE[:4], "--quality", "30,31", "--out", "run", "--dry-run")
    assert "1 cell more" in tool.run(*more).stderr
    assert (
        "refused"
        not in tool.run(*more, "--extend").stderr
        + tool.run(*more, "--select", "*/30", "--extend").stderr
    )


def test_the_next_command_can_be_pasted_and_is_not_given_when_nothing_worked(
    clip: Make, tool: Any, wrapper: Callable[..., str], tmp_path: Path
) -> None:
    source = clip("odd names.mkv", frames=4)
    assert (
        tool.run("corpus", source, *ONE, "--out", "my run")
        .stderr.rstrip()
        .endswith("next: vmaf-tune report 'my run'")
    )
    done = tool.run(
        "corpus", source, *ONE, "--out", "b", "--ffmpeg", wrapper("if ENCODE: sys.exit(3)"), code=5
    )
    assert "next:" not in done.stderr
    (tmp_path / "p.csv").write_text(f"reference,distorted\n{source},{source}\n")
    done = tool.run("corpus", "--pairs", "p.csv", "--out", "my pairs")
    assert done.stderr.rstrip().endswith("next: vmaf-tune report 'my pairs'")
    assert (
        "describes raw .yuv files"
        in tool.run("corpus", "--pairs", "p.csv", "--size", "96x64", code=2).stderr
    )


def test_encodes_of_finished_cells_are_not_kept_and_that_is_said(clip: Make, tool: Any) -> None:
    args = (clip("odd names.mkv", frames=4), *ONE, "--out", "run")
    assert [e["event"] for e in tool.events(*args, "--keep-encodes")][0] == "start"
    (notice,) = (
        e["message"] for e in tool.events(*args, "--keep-encodes") if e["event"] == "notice"
    )
    assert "1 finished cells are not encoded again" in notice


def test_the_default_folder_is_found_again_and_does_not_depend_on_select(
    clip: Make, tool: Any, tmp_path: Path
) -> None:
    (tmp_path / "sources").mkdir()
    (tmp_path / "sources/one.mkv").write_bytes(clip("odd names.mkv", frames=4).read_bytes())
    grid = (*ONE[:4], "--quality", "30,31")
    tool.run("corpus", *grid, "--select", "*/31")
    (folder,) = (tmp_path / "runs/phase_a").iterdir()
    assert folder.name.startswith("sources-")
    events = tool.events(*grid)
    assert next(e for e in events if e["event"] == "start")["num_left"] == 1
    assert events[-1]["num_done"] == 2
    assert [p.name for p in (tmp_path / "runs/phase_a").iterdir()] == [folder.name]
    sweep = tmp_path / "mine.toml"
    sweep.write_text(
        'sources = ["sources"]\nencoders = "x264"\npresets = "ultrafast"\nquality = "40"\n'
    )
    tool.run("corpus", "--sweep", sweep)
    assert (tmp_path / "runs/phase_a/mine/cells.jsonl").exists()


@pytest.mark.parametrize(
    ("args", "code", "words"),
    [
        (["nothing.mkv"], 2, "there is no nothing.mkv"),
        ([], 2, "sources"),
        (["a.mkv", "--encoders", "x999"], 2, "no encoder is called"),
        (["a.mkv", "--ffmpeg", "/no/ffmpeg"], 3, "is not an executable file"),
        (["a.mkv", "--vmaf-model", "vmaf_v9"], 3, "vmaf_v9"),
        (["a.mkv", "--ffmpeg", "/bin/true"], 3, "is not an ffmpeg"),
        (["a.mkv", "--out", "a.mkv"], 2, "is a file"),
        (["a.mkv", "--encoders", "h264_amf"], 3, "h264_amf"),
        (["a.mkv", "--jobs", "0"], 2, "jobs"),
        (["a.mkv", "--quality", ""], 2, "--quality is empty"),
        (["a.mkv", "--encoders", ""], 2, "--encoders is empty"),
        (["a.mkv", "--presets", "", "--dry-run"], 2, "--presets is empty"),
        (["a.mkv", "--gpu", ""], 2, "--gpu is empty"),
        (["a.mkv", "--out", ""], 2, "--out is empty"),
        ([""], 2, "a source is empty"),
        (["a.mkv", "--scorer", "foo", "--dry-run"], 2, "auto, cpu or cuda, not 'foo'"),
        (["--pairs", "a.mkv", "--scorer", "foo"], 2, "auto, cpu or cuda, not 'foo'"),
        (["--pairs", "a.mkv", "--scorer", "cuda"], 2, "--scorer cuda does not go with --pairs"),
        (["a.mkv", "--out", "/proc/nothing"], 3, "/proc"),
        (["a.mkv", "--no-such-flag"], 2, "no-such-flag"),
    ],
)
def test_refusals_are_a_sentence_and_a_code(
    args: list[str], code: int, words: str, clip: Make, tool: Any, tmp_path: Path
) -> None:
    (tmp_path / "a.mkv").write_bytes(clip("odd names.mkv", frames=4).read_bytes())
    done = tool.run("corpus", *args, code=code)
    assert words in done.stderr
    assert "Traceback" not in done.stderr
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.mkv"]


def test_a_reader_that_leaves_stops_the_sweep_quietly(
    clip: Make,
    tool: Any,
    wrapper: Callable[..., str],
    read_run: Callable[[Path], Any],
    tmp_path: Path,
) -> None:
    args = (
        clip("odd names.mkv", frames=4),
        *ONE[:4],
        "--quality",
        "20:40:1",
        "--out",
        "run",
        "--json",
        "--jobs",
        "1",
    )
    child = tool.start("corpus", *args, "--ffmpeg", wrapper("if ENCODE: time.sleep(0.1)"))
    assert child.stdout is not None and child.stderr is not None
    assert json.loads(child.stdout.readline())["event"] == "start"
    child.stdout.close()
    said = child.stderr.read()
    assert child.wait(60) == 130, said
    assert (
        said.strip()
        == "error: stopped; finished cells are kept, and the same command goes on from here"
    )
    assert not (tmp_path / "run/tmp").exists()
    assert all(row["status"] == "ok" for row in read_run(tmp_path / "run").rows.values())


def test_a_reader_of_a_table_may_leave_early(clip: Make, tool: Any, tmp_path: Path) -> None:
    tool.run("corpus", clip("odd names.mkv", frames=4), *ONE, "--out", "run")
    for args in (("status", "run", "--json"), ("corpus", "--help")):
        reader, writer = os.pipe()
        os.close(reader)
        child = tool.start(*args, stdout=writer)
        os.close(writer)
        assert child.stderr is not None
        assert (child.stderr.read(), child.wait(60)) == ("", 0)


def test_a_path_that_cannot_be_is_no_bug(tool: Any, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    done = tool.run("train", "--smoke", "--out", "file", code=3)
    assert "file/corpus cannot be used: Not a directory; name another" in done.stderr
    assert "Traceback" not in done.stderr
