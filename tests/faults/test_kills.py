"""The tool as a process, killed, interrupted, doubled and starved: finished cells are kept and no
child lives on.
"""

from __future__ import annotations

import ctypes
import json
import os
import resource
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from typed import typed

Make = Callable[..., Path]
GRID = ("--encoders", "x264,x265", "--presets", "ultrafast", "--quality", "x264=28:38:2;x265=30")
HANGS = "if ENCODE and '{}' in argv: time.sleep(600)"


def children_in(folder: Path) -> list[int]:
    """Processes whose working folder or command line lies in a run folder, other than this one."""
    found = []
    for place in Path("/proc").iterdir():
        if not place.name.isdigit() or int(place.name) == os.getpid():
            continue
        try:
            command = (place / "cmdline").read_bytes().split(b"\0")
            cwd = os.readlink(place / "cwd")
            state = (place / "stat").read_text().rpartition(")")[2].split()[0]
        except OSError:
            continue
        if (
            state != "Z"
            and b"vmaftune" not in command
            and (str(folder) in cwd or any(str(folder).encode() in a for a in command))
        ):
            found.append(int(place.name))
    return found


def num_lines(path: Path) -> int:
    return path.read_bytes().count(b"\n") if path.exists() else 0


@pytest.fixture(scope="module")
def unbroken(
    clip: Make, tmp_path_factory: pytest.TempPathFactory, read_run: Callable[[Path], Any]
) -> Any:
    """The rows of a run that nothing disturbed."""
    folder = tmp_path_factory.mktemp("unbroken")
    done = typed("corpus", clip("kill.mkv", frames=12), *GRID, "--out", "run", cwd=folder)
    assert done.returncode == 0, done.stderr
    return read_run(folder / "run")


@pytest.mark.parametrize("moment", ["begin", "frames", "row", "encode", "late"])
def test_kill_9_loses_no_finished_cell_and_leaves_no_child(
    moment: str,
    clip: Make,
    tool: Any,
    unbroken: Any,
    until: Callable[..., None],
    read_run: Callable[[Path], Any],
    without_times: Callable[[Any], Any],
    tmp_path: Path,
) -> None:
    source, run = clip("kill.mkv", frames=12), tmp_path / "run"
    reached: dict[str, Callable[[], bool]] = {
        "begin": lambda: (run / "tmp").exists(),
        "frames": lambda: num_lines(run / "frames.jsonl") > num_lines(run / "cells.jsonl") * 12,
        "row": lambda: num_lines(run / "cells.jsonl") == 1,
        "encode": lambda: any((run / "tmp").glob("*/*/out.mkv")),
        "late": lambda: num_lines(run / "cells.jsonl") >= 5,
    }
    child = tool.start("corpus", source, *GRID, "--out", run)
    end = time.monotonic() + 60
    while not reached[moment]() and child.poll() is None and time.monotonic() < end:
        # The window between frames and row is short, and missing it is a kill at another instant:
        # no pause once it may come.
        if moment != "frames" or not (run / "frames.jsonl").exists():
            time.sleep(0.001)
    child.kill()
    child.wait()
    until(lambda: not children_in(run), "the end of the children")
    before = (
        [line for line in (run / "cells.jsonl").read_bytes().splitlines(keepends=True)]
        if (run / "cells.jsonl").exists()
        else []
    )
    whole = [line for line in before if line.endswith(b"\n")]
    again = tool.events(source, *GRID, "--out", run)
    assert next(e for e in again if e["event"] == "start")["num_done"] == len(whole)
    assert (run / "cells.jsonl").read_bytes().startswith(b"".join(whole))
    after = read_run(run)
    assert without_times(after) == without_times(unbroken)
    assert len(after.frames) == len(unbroken.frames)
    assert not (run / "tmp").exists()


def test_a_run_inside_its_source_folder_goes_on_and_never_sweeps_its_own_files(
    clip: Make, tool: Any, wrapper: Callable[..., str], until: Callable[..., None], tmp_path: Path
) -> None:
    hangs = tmp_path / "hangs"
    slow = wrapper(
        f"if ENCODE and '30' in argv and os.path.exists({str(hangs)!r}): open(argv[-1][5:],"
        " 'w').close(); time.sleep(600)"
    )
    args = (
        "corpus",
        ".",
        "--encoders",
        "x264",
        "--presets",
        "ultrafast",
        "--quality",
        "28,30",
        "--keep-encodes",
        "--ffmpeg",
        slow,
    )
    for i, out in enumerate(((), ("--out", "."), ("--out", "a/run"))):
        place = tmp_path / f"clips{i}"
        run = place / (out[1] if out else "runs")
        (place / "deeper").mkdir(parents=True)
        (place / "deeper/kill.mkv").write_bytes(clip("kill.mkv", frames=12).read_bytes())
        hangs.touch()
        child = tool.start(*args, *out, cwd=place)
        until(
            lambda run=run: (
                any(run.rglob("out.mkv")) and sum(map(num_lines, run.rglob("cells.jsonl"))) == 1
            ),
            "one cell done",
        )
        child.kill()
        child.wait()
        until(lambda run=run: not children_in(run), "the end of the children")
        hangs.unlink()
        for left in (1, 0):
            told = [
                json.loads(line)
                for line in tool.run(*args, *out, "--json", cwd=place).stdout.splitlines()
            ]
            start = next(e for e in told if e["event"] == "start")
            assert (start["num_cells"], start["num_left"]) == (2, left), told


def test_torn_last_lines_are_removed_with_a_notice(
    clip: Make,
    tool: Any,
    unbroken: Any,
    read_run: Callable[[Path], Any],
    without_times: Callable[[Any], Any],
    tmp_path: Path,
) -> None:
    source, run = clip("kill.mkv", frames=12), tmp_path / "run"
    tool.run("corpus", source, *GRID, "--out", run)
    for name, kept in (("cells.jsonl", 4), ("frames.jsonl", 12 * 5 + 5)):
        lines = (run / name).read_bytes().splitlines(keepends=True)
        (run / name).write_bytes(b"".join(lines[:kept]) + lines[kept][:37])
    assert json.loads(tool.run("status", run, "--json").stdout)["num_left"] == 3
    events = tool.events(source, *GRID, "--out", run)
    notices = [e["message"] for e in events if e["event"] == "notice"]
    assert any(n.startswith("cells.jsonl: a torn last line was removed") for n in notices)
    assert any(n.startswith("frames.jsonl: a torn last line was removed") for n in notices)
    assert any(n == "frames.jsonl: 17 frames without a finished cell were removed" for n in notices)
    assert next(e for e in events if e["event"] == "start")["num_left"] == 3
    assert without_times(read_run(run)) == without_times(unbroken)
    assert len(read_run(run).frames) == len(unbroken.frames)


@pytest.mark.parametrize(
    ("name", "line", "text"),
    [
        ("cells.jsonl", 3, '{"cell": "a/b'),
        ("cells.jsonl", 2, "[1, 2]"),
        ("cells.jsonl", 4, '{"cell": "a/b/c/1"}'),
    ],
)
def test_a_bad_line_in_the_middle_is_an_error_with_its_number(
    name: str, line: int, text: str, clip: Make, tool: Any, unbroken: Any, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    run.mkdir()
    for place in unbroken.folder.iterdir():
        (run / place.name).write_bytes(place.read_bytes())
    lines = (run / name).read_text().splitlines()
    lines[line - 1] = text
    (run / name).write_text("\n".join(lines) + "\n")
    content = (run / name).read_bytes()
    done = tool.run("corpus", clip("kill.mkv", frames=12), *GRID, "--out", run, code=4)
    assert f"{name}:{line}: " in done.stderr
    assert "delete that line and run `vmaf-tune corpus " in done.stderr
    assert "Traceback" not in done.stderr
    assert (run / name).read_bytes() == content


@pytest.mark.parametrize(("line", "text"), [(5, "{oops}"), (20, '{"cell": "a"}')])
def test_a_bad_line_among_the_frames_costs_its_cell_alone(
    line: int,
    text: str,
    clip: Make,
    tool: Any,
    unbroken: Any,
    read_run: Callable[[Path], Any],
    without_times: Callable[[Any], Any],
    tmp_path: Path,
) -> None:
    run = tmp_path / "run"
    run.mkdir()
    for place in unbroken.folder.iterdir():
        (run / place.name).write_bytes(place.read_bytes())
    lines = (run / "frames.jsonl").read_text().splitlines()
    lines[line - 1] = text
    (run / "frames.jsonl").write_text("\n".join(lines) + "\n")
    events = tool.events(clip("kill.mkv", frames=12), *GRID, "--out", run)
    notices = [e["message"] for e in events if e["event"] == "notice"]
    assert notices[0] == "frames.jsonl: 1 lines that are not frames were removed"
    assert "the cell has 11 of its 12 frames" in notices[1]
    assert next(e for e in events if e["event"] == "start")["num_left"] == 1
    assert without_times(read_run(run)) == without_times(unbroken)


def test_a_second_process_is_refused(
    clip: Make, tool: Any, wrapper: Callable[..., str], until: Callable[..., None], tmp_path: Path
) -> None:
    args = (
        "corpus",
        clip("kill.mkv", frames=12),
        *GRID,
        "--out",
        tmp_path / "run",
        "--ffmpeg",
        wrapper(HANGS.format("-crf")),
    )
    first = tool.start(*args)
    until(lambda: bool(children_in(tmp_path / "run")), "the first encode")
    for command in (args, ("clean", tmp_path / "run")):
        second = tool.run(*command, code=2)
        assert f"is in use by process {first.pid}" in second.stderr
    assert first.poll() is None
    assert tool.run("status", tmp_path / "run").stdout


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_ends_it_with_130_and_no_child(
    number: signal.Signals,
    clip: Make,
    tool: Any,
    wrapper: Callable[..., str],
    until: Callable[..., None],
    read_run: Callable[[Path], Any],
    tmp_path: Path,
) -> None:
    run = tmp_path / "run"
    slow = wrapper(HANGS.format("-crf"))
    child = tool.start(
        "corpus", clip("kill.mkv", frames=12), *GRID, "--out", run, "--ffmpeg", slow, "--jobs", "3"
    )
    until(lambda: len(children_in(run)) >= 3, "three hanging encodes")
    child.send_signal(number)
    out, err = child.communicate(timeout=120)  # the encodes would take ten minutes
    assert child.returncode == 130, err
    assert "finished cells are kept" in err
    assert "Traceback" not in err
    assert children_in(run) == []
    assert not (run / "tmp").exists()
    assert read_run(run).rows == {}, "an interrupted cell is no failed cell"


def test_a_signal_that_the_main_thread_did_not_notice_ends_it_too(
    clip: Make, tool: Any, wrapper: Callable[..., str], until: Callable[..., None], tmp_path: Path
) -> None:
    """One that comes when the main thread is about to wait does not wake it; here another thread of
    it is hit instead.
    """
    run = tmp_path / "run"
    child = tool.start(
        "corpus",
        clip("kill.mkv", frames=12),
        *GRID,
        "--out",
        run,
        "--ffmpeg",
        wrapper(HANGS.format("-crf")),
    )
    until(lambda: bool(children_in(run)), "the first encode")
    other = next(
        int(t.name) for t in Path(f"/proc/{child.pid}/task").iterdir() if int(t.name) != child.pid
    )
    libc = ctypes.CDLL(None, use_errno=True)
    assert libc.tgkill(child.pid, other, int(signal.SIGTERM)) == 0
    _, err = child.communicate(timeout=120)
    assert child.returncode == 130, err
    assert "finished cells are kept" in err
    assert children_in(run) == []


def test_under_nohup_it_goes_on(
    clip: Make, tool: Any, wrapper: Callable[..., str], until: Callable[..., None], tmp_path: Path
) -> None:
    run = tmp_path / "run"
    slow = wrapper("if ENCODE: time.sleep(1)")
    args = (clip("kill.mkv", frames=12), *GRID[:4], "--quality", "x264=28:32:2;x265=30")
    hears = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        child = tool.start("corpus", *args, "--out", run, "--ffmpeg", slow)
    finally:
        signal.signal(signal.SIGHUP, hears)
    until(lambda: bool(children_in(run)), "the first encode")
    child.send_signal(signal.SIGHUP)
    _, err = child.communicate(timeout=120)
    assert child.returncode == 0, err
    assert num_lines(run / "cells.jsonl") == 4


def test_a_second_signal_leaves_at_once(
    clip: Make, tool: Any, wrapper: Callable[..., str], until: Callable[..., None], tmp_path: Path
) -> None:
    run = tmp_path / "run"
    child = tool.start(
        "corpus",
        clip("kill.mkv", frames=12),
        *GRID,
        "--out",
        run,
        "--ffmpeg",
        wrapper(HANGS.format("-crf")),
    )
    until(lambda: bool(children_in(run)), "the first encode")
    child.send_signal(signal.SIGINT)
    child.send_signal(signal.SIGTERM)
    child.communicate(timeout=120)
    assert child.returncode == 130
    until(lambda: not children_in(run), "the end of the children")


def test_a_stall_and_a_failure_leave_the_rest_alone_and_end_with_5(
    clip: Make, tool: Any, wrapper: Callable[..., str], tmp_path: Path
) -> None:
    run = tmp_path / "run"
    bad = wrapper(
        "if ENCODE and '30' in argv: time.sleep(600)\nif ENCODE and '31' in argv:"
        " argv[argv.index('-preset') + 1] = 'no'"
    )
    args = (
        clip("kill.mkv", frames=12),
        "--encoders",
        "x264",
        "--presets",
        "ultrafast",
        "--quality",
        "29:32:1",
        "--out",
        run,
    )
    done = tool.run("corpus", *args, "--ffmpeg", bad, "--timeout", "6", code=5)
    assert "2 of 4 cells failed" in done.stderr
    assert "--retry-failed" in done.stderr
    rows = {r["crf"]: r for r in map(json.loads, (run / "cells.jsonl").read_text().splitlines())}
    assert {q: r["status"] for q, r in rows.items()} == {
        29: "ok",
        30: "failed",
        31: "failed",
        32: "ok",
    }
    assert rows[30]["error"]["class"] == "timeout"
    assert rows[31]["error"]["exit_code"] not in (0, None)
    status = json.loads(tool.run("status", run, "--json").stdout)
    assert (status["num_cells"], status["num_done"], status["num_failed"], status["num_left"]) == (
        4,
        2,
        2,
        0,
    )
    assert status["expected_s"] == 0
    assert set(status["failed"]) == {rows[30]["cell"], rows[31]["cell"]}
    again = tool.run("corpus", *args, "--ffmpeg", bad, "--timeout", "6", code=5)
    assert "0 to do" in again.stderr
    assert not (run / "tmp").exists()


def test_a_file_that_cannot_grow_keeps_what_is_done_and_ends_with_3(
    clip: Make, tool: Any, read_run: Callable[[Path], Any], tmp_path: Path
) -> None:
    """As on a full disk, the writer's append fails: a limit on file size stands in, because any
    user may set it.
    """
    source, run = clip("kill small.mkv", frames=12, size="64x64"), tmp_path / "run"
    # Room for the reference, not for the frame rows of 28 cells.
    size = 12 * 64 * 64 * 3 // 2 + 10_000

    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))

    many = ("--encoders", "x264", "--presets", "ultrafast", "--quality", "20:33.5:0.5")
    done = tool.process("corpus", source, *many, "--out", run, code=3, preexec_fn=limit)
    assert "make room and run the same command again" in done.stderr
    left = read_run(run)
    assert 0 < len(left.rows) < 28
    assert all(row["status"] == "ok" for row in left.rows.values())
    assert (run / "cells.jsonl").read_bytes().endswith(b"\n")
    assert not (run / "tmp").exists()
    events = tool.events(source, *many, "--out", run)
    assert next(e for e in events if e["event"] == "start")["num_done"] == len(left.rows)
    assert events[-1]["num_done"] == 28


def test_a_plan_that_cannot_be_written_ends_with_3_and_leaves_nothing(
    clip: Make, tool: Any, tmp_path: Path
) -> None:
    """The plan of 511 cells is longer than every file that a trial of the tools writes: the limit
    hits it alone.
    """
    size = 5_000

    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))

    many = ("--encoders", "x264", "--presets", "ultrafast", "--quality", "0:51:0.1")
    done = tool.process(
        "corpus", clip("kill.mkv", frames=12), *many, "--out", "run", code=3, preexec_fn=limit
    )
    assert "File too large" in done.stderr and "Traceback" not in done.stderr
    assert not list(tmp_path.iterdir())
    kept = tmp_path / "kept"
    kept.mkdir()
    tool.process(
        "corpus", clip("kill.mkv", frames=12), *many, "--out", "kept", code=3, preexec_fn=limit
    )
    assert [p.name for p in kept.iterdir()] == [".lock"]


def test_clean_removes_what_a_kill_left(
    clip: Make, tool: Any, wrapper: Callable[..., str], until: Callable[..., None], tmp_path: Path
) -> None:
    run = tmp_path / "run"
    child = tool.start(
        "corpus",
        clip("kill.mkv", frames=12),
        *GRID,
        "--out",
        run,
        "--ffmpeg",
        wrapper(HANGS.format("-crf")),
    )
    size = 12 * 96 * 64 * 3 // 2
    until(
        lambda: any(p.stat().st_size == size for p in (run / "tmp").glob("*/ref*.yuv")),
        "a prepared reference",
    )
    child.kill()
    child.wait()
    until(lambda: not children_in(run), "the end of the children")
    said = json.loads(tool.run("clean", run, "--json").stdout)
    assert len(said["removed"]) == 1
    assert said["bytes"] >= size
    assert not (run / "tmp").exists()
    assert json.loads(tool.run("clean", run, "--json").stdout) == {
        "folder": str(run),
        "removed": [],
        "bytes": 0,
    }
    tool.run("clean", tmp_path, code=2)
    tool.run("status", tmp_path, code=2)
