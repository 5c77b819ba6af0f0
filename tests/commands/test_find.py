"""`vmaf-tune find` as a user types it: NDJSON, exit codes, a dry run, a folder of films."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from vmaftune.commands.find import serves

ASKED = ("--preset", "ultrafast", "--min-quality", "22", "--max-quality", "36", "--jobs", "2")


@pytest.fixture(scope="session")
def short(film: Callable[..., Any]) -> Path:
    made: Path = film("four shots.mkv", shots=4, size="128x72").path
    return made


def lines_of(done: Any) -> list[dict[str, Any]]:
    return [json.loads(line) for line in done.stdout.splitlines()]


def test_json_is_ndjson_and_the_last_line_the_answer(short: Path, tool: Any) -> None:
    encoders = ("--encoders", "x264,x265", "--target", "86", "--out", "run", "--json")
    told = lines_of(tool.run("find", short, *ASKED, *encoders))
    kinds = [line["event"] for line in told if line["event"] != "notice"]
    assert kinds[-2:] == ["answer", "answer"]
    assert set(kinds[:-2]) == {"probe"}
    other, best = told[-2:]
    assert best["is_met"] and best["kbps"] <= other["kbps"]
    probe = next(
        line
        for line in told
        if line["event"] == "probe"
        and (line["encoder"], line["quality"]) == (best["encoder"], best["quality"])
    )
    assert probe["score"] == best["score"] >= 86
    assert f"-crf {best['quality']:g}" in best["command"]
    assert {q for q, _, _ in best["measured"]} >= {best["quality"]}


def test_a_target_that_cannot_be_met_is_exit_code_7(short: Path, tool: Any) -> None:
    done = tool.run("find", short, *ASKED, "--target", "99.9", "--out", "run", code=7)
    assert "is not met" in done.stderr and "the best is" in done.stderr
    assert "Traceback" not in done.stderr
    told = lines_of(
        tool.run("find", short, *ASKED, "--target", "99.9", "--out", "run", "--json", code=7)
    )
    assert told[-1]["event"] == "answer" and not told[-1]["is_met"]
    assert told[-1]["quality"] == 22


def test_a_dry_run_measures_nothing(short: Path, tool: Any, tmp_path: Path) -> None:
    done = tool.run("find", short, *ASKED, "--target", "93", "--dry-run")
    assert "192 frames" in done.stdout and "runs/find/" in done.stdout
    assert not (tmp_path / "runs").exists()


def test_a_folder_of_films_is_a_catalogue(
    short: Path, film: Callable[..., Any], tool: Any, tmp_path: Path
) -> None:
    films = tmp_path / "films"
    films.mkdir()
    shutil.copy(short, films / "one.mkv")
    other = film("five shots.mkv", shots=5, size="128x72").path
    shutil.copy(other, films / "two.mkv")
    done = tool.run("find", "films", *ASKED, "--target", "80")
    assert "2 films at VMAF 80" in done.stdout
    assert "one.mkv" in done.stdout and "two.mkv" in done.stdout
    assert "meets 80 on 90% of the films" in done.stderr
    assert len(list((tmp_path / "runs/find").iterdir())) == 2
    refused = tool.run("find", "films", *ASKED, "--out", "run", code=2)
    assert "--out names one folder" in refused.stderr


def answers(*values: float | None) -> list[Any]:
    """Films with one answer each; None where the target was not met."""
    return [
        SimpleNamespace(
            found=[
                SimpleNamespace(
                    candidate=SimpleNamespace(name="libx264 medium"),
                    is_met=value is not None,
                    quality=value,
                )
            ]
        )
        for value in values
    ]


def test_the_value_for_90_percent_leaves_out_no_more_than_a_tenth() -> None:
    ten = answers(*range(20, 30))
    assert serves(ten, "libx264 medium", 0.9) == 21
    assert serves(ten, "libx264 medium", 1.0) == 20
    assert serves(answers(30), "libx264 medium", 0.9) == 30
    assert serves(answers(30, None), "libx264 medium", 0.9) is None
    assert serves(ten, "libx265 medium", 0.9) is None


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (("--encoder", "x264", "--encoders", "x264,x265"), "give one of the two"),
        (("--samples", "few"), "--samples takes"),
        (("--within", "soon"), "--within takes a time"),
        (("--max-size", "12"), "--max-size takes a share"),
        (("--stop", "never"), "use confident, proven or tolerance"),
    ],
)
def test_what_makes_no_sense_is_said_in_a_sentence(
    short: Path, tool: Any, flags: tuple[str, ...], said: str
) -> None:
    done = tool.run("find", short, *flags, code=2)
    assert said in done.stderr and "Traceback" not in done.stderr


def test_all_films_that_are_unfit_are_named_before_any_is_measured(
    clip: Callable[..., Path], tool: Any, tmp_path: Path
) -> None:
    (tmp_path / "a film.mkv").write_bytes(clip("two unfit.mkv", frames=4).read_bytes())
    (tmp_path / "empty.mkv").touch()
    (tmp_path / "text.mkv").write_text("no film")
    said = tool.run("find", tmp_path, "--preset", "ultrafast", code=2).stderr
    assert "2 of 3 films are refused; mend them, or leave them out:" in said
    assert "empty.mkv is empty" in said and "text.mkv cannot be read as a video" in said
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize("command", ["find", "ladder"])
def test_an_empty_name_of_an_encoder_is_refused(
    command: str, clip: Callable[..., Path], tool: Any
) -> None:
    said = tool.run(command, clip("two unfit.mkv", frames=4), "--encoders", "", code=2).stderr
    assert "--encoders is empty; leave it out, or give it a value" in said
