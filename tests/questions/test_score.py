"""`score` on real files: against plain libvmaf, offsets, sizes, what is written, and refusals."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from pyarrow import parquet
from vmaf_train.corpus import pooling
from vmaftune import api
from vmaftune.cli import main
from vmaftune.errors import SourceError, UsageError
from vmaftune.media.ffmpeg import find_ffmpeg, identify
from vmaftune.media.process import Runner
from vmaftune.media.score_pair import score_pair
from vmaftune.questions.score import SHOWN, ScoreRequest, plan_scores
from vmaftune.request.values import Size

SMALL = "192x108"


@pytest.fixture(scope="session")
def files(
    film: Callable[..., Any],
    run_ffmpeg: Callable[..., str],
    tmp_path_factory: pytest.TempPathFactory,
) -> dict[str, Path]:
    """A reference of 96 frames with a cut, and what somebody made of it."""
    folder = tmp_path_factory.mktemp("score")
    reference = film("two shots.mkv", shots=2, size=SMALL, sound=False).path
    encode = ("-c:v", "libx264", "-preset", "veryfast", "-crf", "34")
    made = {
        "same.mp4": "null",
        "late.mp4": "trim=start_frame=5,setpts=PTS-STARTPTS",
        "short.mp4": "trim=end_frame=88",
        "small.mp4": "scale=96:54:flags=bicubic",
        "wide.mp4": "crop=192:60",
    }
    found = {"reference": reference}
    for name, vf in made.items():
        run_ffmpeg("-i", reference, "-vf", vf, *encode, folder / name)
        found[name] = folder / name
    return found


@pytest.fixture(scope="session")
def scored(files: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Any:
    """The results of three files, and what was said on the way."""
    said: list[Any] = []
    names = ("same.mp4", "late.mp4", "small.mp4")
    results = api.score(
        files["reference"],
        *(files[name] for name in names),
        running=api.Running(out=tmp_path_factory.mktemp("out") / "run", jobs=2),
        on_event=said.append,
    )
    return dict(zip(names, results, strict=True)), said


def plain(run_ffmpeg: Callable[..., str], graph: str, distorted: Path, reference: Path) -> Any:
    """Frames of plain libvmaf."""
    folder = distorted.parent
    stamps = "settb=AVTB,setpts=N*40000"
    text = (
        f"[0:v]{stamps}{graph}[d];[1:v]{stamps}[r];[d][r]libvmaf=log_fmt=json:log_path=plain.json"
    )
    run_ffmpeg("-i", distorted, "-i", reference, "-lavfi", text, "-f", "null", "-", cwd=folder)
    log = json.loads((folder / "plain.json").read_text())
    return [frame["metrics"]["vmaf"] for frame in log["frames"]]


def test_scores_are_those_of_plain_libvmaf(
    scored: Any, files: dict[str, Path], run_ffmpeg: Callable[..., str]
) -> None:
    results, _ = scored
    theirs = plain(run_ffmpeg, "", files["same.mp4"], files["reference"])
    assert results["same.mp4"].scores == pytest.approx(theirs, abs=1e-6)
    up = ",scale=192:108:flags=bicubic"
    theirs = plain(run_ffmpeg, up, files["small.mp4"], files["reference"])
    assert results["small.mp4"].scores == pytest.approx(theirs, abs=1e-6)
    assert "scaled" in results["small.mp4"].row.flags


def test_the_statistics_are_those_of_the_frames(scored: Any) -> None:
    one = scored[0]["same.mp4"]
    assert tuple(one.statistics) == SHOWN
    assert one.statistics["mean"] == pytest.approx(one.row.vmaf_score)
    assert one.statistics["p5"] == pytest.approx(one.row.vmaf_p5)
    assert one.statistics["worst-window"] == pytest.approx(pooling.worst_window(one.scores, 24))
    second = one.scores[one.worst_second : one.worst_second + 24]
    assert sum(second) / 24 == pytest.approx(one.statistics["worst-window"])
    assert one.scores[one.worst(1)[0]] == min(one.scores)


def test_an_offset_is_found_said_and_cut_away(scored: Any) -> None:
    results, said = scored
    one = results["late.mp4"]
    assert one.pair.offset == -5
    assert len(one.scores) == 91
    assert "shifted" in one.row.flags and "suspect_alignment" not in one.row.flags
    assert one.statistics["mean"] == pytest.approx(
        pooling.mean(results["same.mp4"].scores[5:]), abs=3
    )
    told = [event.message for event in said if hasattr(event, "message")]
    assert len(told) == 1 and "offset by -5 frames (-0.209 s)" in told[0]
    assert "frame 0 shows what frame 5 of the reference shows" in told[0]


def test_more_threads_change_no_number(
    files: dict[str, Path], scored: Any, ffmpeg: str, tmp_path: Path
) -> None:
    real = identify(Runner(), find_ffmpeg())
    one = scored[0]["late.mp4"]
    again = score_pair(one.pair, real, tmp_path, 100, 3)
    assert tuple(frame.vmaf for frame in again.frames) == one.scores


def test_counts_that_differ_are_refused_and_an_offset_can_be_given(
    files: dict[str, Path], tmp_path: Path
) -> None:
    running = api.Running(out=tmp_path / "a", jobs=2)
    (one,) = api.score(files["reference"], files["short.mp4"], running=running)
    assert one.row.error is not None and "88" in one.row.error.message
    assert one.scores == () and one.statistics == {}
    running = api.Running(out=tmp_path / "b", jobs=2)
    (one,) = api.score(files["reference"], files["same.mp4"], offset=1, running=running)
    assert len(one.scores) == 95
    assert "shifted" in one.row.flags


def test_a_display_size_and_the_model_that_goes_with_it(files: dict[str, Path]) -> None:
    request = ScoreRequest(
        reference=files["reference"],
        distorted=(files["small.mp4"],),
        display=Size(width=None, height=2160),
    )
    (pair,) = plan_scores(request, None).pairs
    assert (pair.display, pair.teacher) == ((3840, 2160), "vmaf_4k_v0.6.1")
    same = replace(request, display=Size(width=None, height=108))
    (pair,) = plan_scores(same, None).pairs
    assert (pair.display, pair.teacher) == (None, "vmaf_v0.6.1")
    with pytest.raises(UsageError, match="64x64"):
        plan_scores(replace(request, display=Size(width=None, height=32)), None)
    with pytest.raises(SourceError, match="no file nothing.mp4"):
        plan_scores(replace(request, distorted=(Path("nothing.mp4"),)), None)


def run_command(monkeypatch: pytest.MonkeyPatch, *args: object) -> int:
    monkeypatch.setattr("sys.argv", ["vmaf-tune", *map(str, args)])
    with pytest.raises(SystemExit) as leave:
        main()
    return int(leave.value.code or 0)


def test_the_command_writes_what_was_asked_for(
    files: dict[str, Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    given = ["score", files["reference"], files["same.mp4"], "--neg", "--out", tmp_path / "run"]
    places = {name: tmp_path / "new" / name for name in ("t.csv", "f.parquet", "p.png", "worst")}
    code = run_command(
        monkeypatch,
        *given,
        "--csv",
        places["t.csv"],
        "--frames",
        places["f.parquet"],
        "--plot",
        places["p.png"],
        "--png",
        places["worst"],
        "--worst",
        1,
    )
    shown = capsys.readouterr()
    assert code == 0, shown.err
    assert "vmaf_v0.6.1neg" in shown.out and "harmonic" in shown.out
    with places["t.csv"].open() as text:
        rows = list(csv.DictReader(text))
    assert [row["model"] for row in rows] == ["vmaf_v0.6.1", "vmaf_v0.6.1neg"]
    assert float(rows[1]["mean"]) <= float(rows[0]["mean"])
    table = parquet.read_table(places["f.parquet"])
    assert table.num_rows == 192 and table.column_names == ["distorted", "model", "frame", "vmaf"]
    for picture in (places["p.png"], *places["worst"].iterdir()):
        assert picture.read_bytes().startswith(b"\x89PNG")
    low = [*given, "--min-vmaf", 10, "--stat", "p1"]
    assert run_command(monkeypatch, *low) == 0
    assert run_command(monkeypatch, *given, "--min-vmaf", 99.5, "--json") == 7
    shown = capsys.readouterr()
    assert "below the 99.5 of --min-vmaf" in shown.err
    last = json.loads(shown.out.splitlines()[-1])
    assert last["event"] == "scored" and last["num_frames"] == 96


def test_a_pair_that_cannot_be_scored_ends_with_5(
    files: dict[str, Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    given = ["score", files["reference"], files["wide.mp4"], "--out", tmp_path / "run"]
    assert run_command(monkeypatch, *given) == 5
    assert "would squeeze the picture" in capsys.readouterr().err
    assert run_command(monkeypatch, *given, "--offset", "two") == 2
    assert run_command(monkeypatch, *given, "--vmaf-model", "vmaf_none") == 3
