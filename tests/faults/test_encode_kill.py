"""`encode` that is killed, doubled, interrupted or out of disk: what is measured counts, and the
file is there whole or not at all.
"""

from __future__ import annotations

import json
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import av
import pytest

FAST = ("--preset", "ultrafast", "--min-quality", "24", "--max-quality", "34", "--jobs", "2")
ASKED = (*FAST, "--target", "86", "--json", "--run-dir", "run")
# Words by which a stand-in for ffmpeg knows the step that it is asked for.
JOINING = "'concat' in argv"
WHOLE = "'-c:v:0' in argv"
SCORING = "any('encodes/film-' in a for a in argv) and '-c:v:0' not in argv"
NEVER = "False"
# Words without which a command is of another step.
HOLDS = {JOINING: "concat", WHOLE: "-c:v:0", SCORING: "encodes/film-", NEVER: "no such word"}


@pytest.fixture(scope="module")
def short(film: Callable[..., Any]) -> Path:
    made: Path = film("two shots to kill.mkv", shots=2, size="192x108").path
    return made


@pytest.fixture
def held(wrapper: Callable[..., str], tmp_path: Path) -> Callable[[str], tuple[str, Path]]:
    """An ffmpeg that stops in a step while a file lies there, half an output written."""

    def make(step: str) -> tuple[str, Path]:
        flag, reached = tmp_path / "hold", tmp_path / "reached"
        flag.touch()
        return wrapper(
            f"if {step} and os.path.exists({str(flag)!r}):\n"
            "    out = argv[-1].removeprefix('file:')\n"
            "    if out.startswith('/'): open(out, 'wb').write(b'half a film')\n"
            f"    open({str(reached)!r}, 'w').close()\n"
            "    time.sleep(600)",
            only=HOLDS[step],
        ), flag

    return make


def rows(run: Path) -> list[dict[str, Any]]:
    file = run / "cells.jsonl"
    text = file.read_bytes() if file.exists() else b""
    return [json.loads(line) for line in text[: text.rfind(b"\n") + 1].splitlines()]


def check_whole(out: Path, num_frames: int) -> None:
    with av.open(str(out)) as opened:
        assert sum(1 for _ in opened.decode(video=0)) == num_frames
    assert not list(out.parent.glob(".*part*")), "nothing is left beside the file"


def kill_at(step: str, run: Path, reached: Path) -> Callable[[], bool]:
    moments: dict[str, Callable[[], bool]] = {
        "two cells": lambda: len(rows(run)) >= 2,
        "step": reached.exists,
    }
    return moments[step]


@pytest.mark.parametrize(
    ("way", "moment", "step"),
    [
        ("--shots", "two cells", NEVER),
        ("--shots", "step", JOINING),
        ("--whole", "two cells", NEVER),
        ("--whole", "step", WHOLE),
        ("--whole", "step", SCORING),
    ],
)
def test_kill_9_and_the_same_command(
    way: str,
    moment: str,
    step: str,
    short: Path,
    held: Callable[[str], tuple[str, Path]],
    tool: Any,
    until: Callable[..., None],
    tmp_path: Path,
) -> None:
    stopping, flag = held(step)
    run, out = tmp_path / "run", tmp_path / "out.mkv"
    asked = ("encode", short, "-o", out, way, *ASKED, "--ffmpeg", stopping)
    child = tool.start(*asked)
    reached = kill_at(moment, run, tmp_path / "reached")
    until(lambda: reached() or child.poll() is not None, moment)
    child.kill()
    child.wait()
    flag.unlink()
    if moment == "step":
        assert not out.exists()
    before = rows(run)
    out.unlink(missing_ok=True)
    tool.run(*asked)
    after = rows(run)
    assert after[: len(before)] == before
    keys = [row["key"] for row in after]
    assert len(keys) == len(set(keys)), "every cell is measured once"
    check_whole(out, 96)
    kept = out.read_bytes()
    again = tool.run(*asked, code=2)
    assert "--force" in again.stderr and out.read_bytes() == kept
    tool.run(*asked, "--force")
    assert len(rows(run)) == len(after) or way == "--whole"
    check_whole(out, 96)


def test_a_full_disk_while_joining_leaves_no_file(
    short: Path, wrapper: Callable[..., str], tool: Any, tmp_path: Path
) -> None:
    full, out = tmp_path / "full", tmp_path / "out.mp4"
    full.touch()
    body = f"if {JOINING} and os.path.exists({str(full)!r}): argv[-1] = 'file:/dev/full'"
    asked = (
        "encode",
        short,
        "-o",
        out,
        "--shots",
        *ASKED,
        "--ffmpeg",
        wrapper(body, only="concat"),
    )
    said = tool.run(*asked, code=3).stderr
    assert "no space left on the disk" in said and str(out) in said
    assert not out.exists()
    before = rows(tmp_path / "run")
    full.unlink()
    tool.run(*asked)
    assert rows(tmp_path / "run") == before, "only the join was left to do"
    check_whole(out, 96)


def test_two_at_once_and_two_interrupts(
    short: Path,
    held: Callable[[str], tuple[str, Path]],
    tool: Any,
    until: Callable[..., None],
    tmp_path: Path,
) -> None:
    stopping, flag = held(JOINING)
    out = tmp_path / "out.mkv"
    asked = ("encode", short, "-o", out, "--shots", *ASKED, "--ffmpeg", stopping)
    child = tool.start(*asked)
    until((tmp_path / "reached").exists, "the join")
    second = tool.run(*asked, code=2).stderr
    assert "in use by" in second and "--run-dir" in second
    child.send_signal(signal.SIGINT)
    child.send_signal(signal.SIGINT)
    child.wait(timeout=120)
    assert child.returncode == 130
    assert not out.exists()
    flag.unlink()
    before = rows(tmp_path / "run")
    out.write_text("somebody else's")
    assert "--force" in tool.run(*asked, code=2).stderr
    out.unlink()
    tool.run(*asked)
    assert rows(tmp_path / "run") == before
    check_whole(out, 96)


def test_a_file_that_appears_during_the_encode_is_not_lost(
    short: Path, wrapper: Callable[..., str], tool: Any, tmp_path: Path
) -> None:
    out = tmp_path / "out.mkv"
    writes = f"if {JOINING} or {WHOLE}: open({str(out)!r}, 'w').write('mine')"
    for way, words in (("--shots", "concat"), ("--whole", "-c:v:0")):
        meddling = wrapper(writes, only=words)
        asked = ("encode", short, "-o", out, way, *ASKED, "--ffmpeg", meddling)
        assert "appeared while it was made" in tool.run(*asked, code=2).stderr
        assert out.read_text() == "mine"
        out.unlink()


@pytest.mark.parametrize("name", ['-it\'s "one" film.mkv', "ünïcode 100% [a,b];c:d.mkv"])
def test_odd_names(name: str, short: Path, tool: Any, tmp_path: Path) -> None:
    film = tmp_path / name
    film.write_bytes(short.read_bytes())
    for way in ("--shots", "--whole"):
        out = f"-out {way}\nof {name}"
        tool.run("encode", way, *FAST, "--target", "86", f"--out={out}", "--", name)
        check_whole(tmp_path / out, 96)


def test_a_film_with_a_line_break_in_its_name_is_refused(
    short: Path, tool: Any, tmp_path: Path
) -> None:
    (tmp_path / "two\nlines.mkv").write_bytes(short.read_bytes())
    said = tool.run("encode", *FAST, "-o", "out.mkv", "two\nlines.mkv", code=2).stderr
    assert "rename the file" in said and "Traceback" not in said
