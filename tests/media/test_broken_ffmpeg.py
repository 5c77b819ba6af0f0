"""An ffmpeg that breaks in the middle of its work: the cell fails with a sentence that says how,
and the sweep goes on.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from vmaftune.errors import ToolError
from vmaftune.media.ffmpeg import identify
from vmaftune.media.process import Runner

KILLED = "import signal; signal.signal({0}, signal.SIG_DFL); os.kill(os.getpid(), {0})"
CRASH = "if {0}: " + KILLED.format("signal.SIGSEGV")
TOO_LARGE = "if PREPARE: " + KILLED.format("signal.SIGXFSZ")


@pytest.mark.parametrize(
    ("body", "kind", "said"),
    [
        ("if ENCODE: sys.exit(0)", "encode_failed", "the encode wrote no file"),
        ("if PREPARE: sys.exit(0)", "source_failed", "preparing the reference wrote no file"),
        (
            CRASH.format("ENCODE"),
            "encode_failed",
            "the encode was killed by SIGSEGV: it said nothing",
        ),
        (
            "if ENCODE: sys.stderr.write('[out#0/rawvideo @ 0x1] Starting thread...\\n'); "
            "sys.stderr.flush(); " + KILLED.format("signal.SIGSEGV"),
            "encode_failed",
            "the encode was killed by SIGSEGV: it said nothing of an error",
        ),
        (
            TOO_LARGE,
            "source_failed",
            "preparing the reference was killed by SIGXFSZ (a file grew beyond the limit of this"
            " shell, ulimit -f): it said nothing",
        ),
    ],
)
def test_how_an_ffmpeg_ended_is_said(
    body: str,
    kind: str,
    said: str,
    clip: Callable[..., Path],
    swept: Callable[..., Any],
    wrapper: Callable[..., str],
) -> None:
    run = swept(clip("broken tools.mkv"), ffmpeg=wrapper(body))
    assert (run.row["error"]["class"], run.row["error"]["message"]) == (kind, said)


HALF = "\\\\ud800"
HALVES = (
    f'{{"version": "{HALF}", "frames": []}}',
    f'{{"version": "3", "frames": [{{"frameNum": 0, "metrics": {{"vmaf": "{HALF}"}}}}]}}',
)


@pytest.mark.parametrize("junk", ["{}", "null", "not JSON", "\\xff\\xfe", *HALVES])
def test_a_log_that_is_none_of_libvmafs_fails_its_cell(
    junk: str, clip: Callable[..., Path], swept: Callable[..., Any], wrapper: Callable[..., str]
) -> None:
    body = f"if SCORE: open('vmaf.json', 'wb').write(b'{junk}'); " + (
        "argv = [a.replace('log_path=vmaf.json', 'log_path=other.json') for a in argv]"
    )
    run = swept(clip("broken tools.mkv"), ffmpeg=wrapper(body))
    assert run.row["error"]["class"] == "score_unreadable", run.row["error"]
    assert run.events[-1]["event"] == "end"


@pytest.mark.parametrize("junk", ["[]", "{}", "null", "not JSON", "\\xff", '{"version": 3}'])
def test_a_trial_whose_log_is_none_is_an_unfit_ffmpeg(
    junk: str, wrapper: Callable[..., str]
) -> None:
    body = f"if SCORE: open('vmaf.json', 'wb').write(b'{junk}'); sys.exit(0)"
    with pytest.raises(ToolError, match="cannot score with libvmaf model"):
        identify(Runner(), wrapper(body))


def test_a_trial_that_hangs_obeys_the_users_limit_and_says_what_it_waits_for(
    wrapper: Callable[..., str],
) -> None:
    told: list[str] = []
    hanging = wrapper("if SCORE: time.sleep(600)")
    with pytest.raises(ToolError, match="the trial was stopped after 2 s"):
        identify(Runner(most_s=2, tell=told.append), hanging)
    assert told == ["waiting for a trial of libvmaf with model vmaf_v0.6.1 (at most 2 s)"]
