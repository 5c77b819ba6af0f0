"""What is printed: tables, durations, events, and outside text that is never read as markup."""

from __future__ import annotations

import json

import pytest
from vmaftune import console
from vmaftune.costs import duration
from vmaftune.engine.crew import Pace


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.2, "0 s"),
        (89, "89 s"),
        (90, "2 min"),
        (5399, "90 min"),
        (5400, "1 h 30 min"),
        (3 * 3600 + 300, "3 h 05 min"),
    ],
)
def test_durations(seconds: float, text: str) -> None:
    assert duration(seconds) == text


def test_none_is_a_dash_and_zero_a_number(capsys: pytest.CaptureFixture[str]) -> None:
    console.table(
        "a title [x].mkv",
        ("name", "value"),
        [("[red]a[/red]", None), ("b", 0), ("c", 0.0), ("d", 71.53211), ("e", True)],
    )
    shown = capsys.readouterr()
    assert shown.err == ""
    assert "[red]a[/red]" in shown.out and "a title [x].mkv" in shown.out
    for line in ("–\n", " 0\n", "0.0000\n", "71.53\n", "yes\n"):
        assert line in shown.out


@pytest.mark.parametrize(("width", "given"), [(80, None), (100, "100")])
def test_a_table_fits_the_width_and_is_bare(
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    width: int,
    given: str | None,
) -> None:
    monkeypatch.delenv("COLUMNS", raising=False)
    if given:
        monkeypatch.setenv("COLUMNS", given)
    row = ("film/" * 12, "a reason in many words, " * 6, 123456.5, 0.25)
    console.table("", ("cell", "why", "kbit/s", "share"), [row, row], left=2, caption="of " * 50)
    lines = capsys.readouterr().out.splitlines()
    assert width - 8 < max(map(len, lines)) <= width
    assert all(line == line.rstrip() != "" for line in lines)
    assert any("123456.50" in line for line in lines), "a number is never broken"


def test_a_table_of_numbers_is_wider_than_the_screen_rather_than_wrong(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "40")
    console.table("", ["name", *"abcdefgh"], [("x" * 20, *[12345.678] * 8)])
    assert capsys.readouterr().out.count("12345.68") == 8


def test_the_product_and_the_story_go_apart(capsys: pytest.CaptureFixture[str]) -> None:
    console.say("[bold]x[/bold]")
    console.warn("careful")
    console.error("bad")
    console.next_command("vmaf-tune status run")
    console.json_line({"ü": None})
    shown = capsys.readouterr()
    assert shown.err.splitlines() == [
        "[bold]x[/bold]",
        "note: careful",
        "error: bad",
        "next: vmaf-tune status run",
    ]
    assert json.loads(shown.out) == {"ü": None}
    with pytest.raises(ValueError, match="JSON"):
        console.json_line({"x": float("nan")})


def test_steps_without_a_terminal_are_lines(capsys: pytest.CaptureFixture[str]) -> None:
    with console.Steps("work", 100) as steps:
        for done in range(101):
            steps.update(done, "[now]")
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 11
    assert lines[-1] == "work: 100/100 [now]"


def cell(name: str, status: str = "ok", took: float = 1.0) -> dict[str, object]:
    return {
        "event": "cell",
        "cell": name,
        "status": status,
        "num_frames": 10 if status == "ok" else None,
        "encode_cpu_s": took,
        "score_cpu_s": took,
        "error": None if status == "ok" else "why",
    }


def test_the_rest_is_predicted_from_what_was_measured(capsys: pytest.CaptureFixture[str]) -> None:
    costs = {"a": ("fast", 1.0), "b": ("fast", 1.0), "c": ("slow", 10.0), "d": ("slow", 10.0)}
    with console.SweepView(costs, 2, as_json=False) as view:
        assert view.eta_s() == 11
        view.feed(cell("a", took=2.0))  # four times what was expected, and nothing else is known
        assert view.eta_s() == pytest.approx((4 + 40 + 40) / 2)
        view.feed(cell("c", took=5.0))
        assert view.eta_s() == pytest.approx((4 + 10) / 2)
        view.feed(cell("b", status="failed"))
        view.feed(cell("d"))
        assert view.eta_s() == 0
    shown = capsys.readouterr().err
    assert "failed: b: why" in shown
    assert "4/4 cells, 1 failed" in shown


def test_events_as_json_leave_the_screen_alone(capsys: pytest.CaptureFixture[str]) -> None:
    with console.SweepView({"a": ("g", 1.0)}, 1, as_json=True) as view:
        view.feed({"event": "stage", "cell": "a", "stage": "encode"})
        view.feed(cell("a"))
    assert [json.loads(line)["event"] for line in capsys.readouterr().out.splitlines()] == [
        "stage",
        "cell",
    ]


def test_workers_of_a_cluster_are_shown_the_slowest_first(
    capsys: pytest.CaptureFixture[str],
) -> None:
    paces = [
        Pace(name=f"w{i}", host="here", cells=2, frames=20 * (i + 1), seconds=10.0)
        for i in range(8)
    ]
    assert console.worker_lines([]) == []
    lines = console.worker_lines(paces)
    assert len(lines) == console.WORKERS_SHOWN + 1
    assert lines[0].split() == ["w0", "2", "cells", "2.0", "frames/s", "(the", "slowest)"]
    assert lines[-1] == "  and 2 faster workers"
    with console.SweepView({"a": ("g", 1.0)}, 2, as_json=False, paces=lambda: paces) as view:
        view.feed(cell("a"))
    assert "the slowest worker is w0 with 2.0 frames/s" in capsys.readouterr().err


def test_a_probe_is_a_line_with_its_bracket(capsys: pytest.CaptureFixture[str]) -> None:
    told = {
        "event": "probe",
        "encoder": "libx264",
        "preset": "fast",
        "quality": 28.0,
        "statistic": "mean",
        "metric": "vmaf",
        "score": 90.5,
        "standard_error": 0.1,
        "kbps": 300.4,
        "num_windows": 1,
        "bracket": [28.0, 30.5],
    }
    with console.FindView(90, as_json=False) as view:
        view.feed(told)
        view.feed(told | {"num_windows": 8, "bracket": [None, 28]})
    first, second = capsys.readouterr().err.splitlines()
    assert first.endswith("(+-0.10, 1 window), 300 kbit/s; for 90: 28 meets, 30.5 misses")
    assert second.endswith("(+-0.10, 8 windows), 300 kbit/s; for 90: – meets, 28 misses")
