"""`score` on real files: against plain libvmaf, offsets, sizes, what is written, and refusals."""

from __future__ import annotations

import csv
import json
import math
import re
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


def test_further_metrics_are_shown_written_and_kept(
    files: dict[str, Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    given = ["score", files["reference"], files["same.mp4"], "--out", tmp_path / "run"]
    given += ["--metrics", "psnr,ssim"]
    table, frames = tmp_path / "t.csv", tmp_path / "f.parquet"
    assert run_command(monkeypatch, *given, "--csv", table, "--frames", frames) == 0
    shown = capsys.readouterr().out
    assert "PSNR" in shown and "SSIM" in shown
    (row,) = csv.DictReader(table.read_text().splitlines())
    written = parquet.read_table(frames).to_pydict()
    assert len(written["psnr"]) == len(written["vmaf"]) == 96
    errors = [10 ** (-value / 10) for value in written["psnr"]]
    assert float(row["psnr_mean"]) == pytest.approx(-10 * math.log10(sum(errors) / 96), abs=1e-5)
    assert float(row["ssim_mean"]) == pytest.approx(sum(written["ssim"]) / 96, abs=1e-5)
    assert float(row["ssim_min"]) == pytest.approx(min(written["ssim"]), abs=1e-5)
    assert run_command(monkeypatch, *given, "--json") == 0
    last = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert last["metrics"]["psnr"]["mean"] == pytest.approx(float(row["psnr_mean"]), abs=1e-6)
    fewer = [word for word in given if word not in ("--metrics", "psnr,ssim")]
    assert run_command(monkeypatch, *fewer) == 0
    assert len((tmp_path / "run/cells.jsonl").read_text().splitlines()) == 1


def test_a_model_from_a_file_is_named_by_its_digest(
    files: dict[str, Path],
    ffmpeg: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    model = tmp_path / "it's my: model.json"
    binary = Path(ffmpeg).read_bytes()
    starts = [m.start() for m in re.finditer(rb'\{\s*"param_dict"\s*:', binary)]
    texts = [binary[at : at + 200_000].decode("latin-1") for at in starts]
    found = [json.JSONDecoder().raw_decode(text)[0] for text in texts]
    ours = next(one for one in found if abs(one["model_dict"]["slopes"][0] - 0.0120207) < 1e-6)
    model.write_text(json.dumps(ours))
    running = api.Running(out=tmp_path / "file", jobs=2)
    (one,) = api.score(files["reference"], files["same.mp4"], teacher=str(model), running=running)
    (plain,) = api.score(
        files["reference"], files["same.mp4"], running=api.Running(out=tmp_path / "plain", jobs=2)
    )
    assert one.pair.teacher.startswith("it_s_my_model-") and one.row.teacher == one.pair.teacher
    assert one.scores == pytest.approx(plain.scores, abs=1e-6)
    given = ["score", files["reference"], files["same.mp4"], "--out", tmp_path / "bad"]
    for text, code, said in (
        ("{}", 2, "it has no model_dict"),
        ("not json", 2, "it has no model_dict"),
        ('{"model_dict": 3}', 3, "cannot score with"),
    ):
        model.write_text(text)
        assert run_command(monkeypatch, *given, "--vmaf-model", model) == code
        assert said in capsys.readouterr().err
    assert run_command(monkeypatch, *given, "--vmaf-model", tmp_path / "gone.json") == 2
    model.write_text(json.dumps(ours))
    assert run_command(monkeypatch, *given, "--vmaf-model", model, "--neg") == 2
    assert "leave it out beside a model file" in capsys.readouterr().err


def test_odd_files_end_in_a_sentence(
    files: dict[str, Path],
    run_ffmpeg: Callable[..., str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    good = files["same.mp4"]
    made = {"zero.mp4": b"", "cut.mp4": good.read_bytes()[:3000], "it's: [100%] a,b.mp4": None}
    for name, data in made.items():
        (tmp_path / name).write_bytes(good.read_bytes() if data is None else data)
    run_ffmpeg("-f", "lavfi", "-i", "sine=440:duration=1", tmp_path / "sound.m4a")
    fast = ("-vf", "setpts=N/50/TB", "-r", "50", "-frames:v", "96")
    run_ffmpeg("-i", good, *fast, tmp_path / "fast.mp4")
    run_ffmpeg("-i", good, "-frames:v", "1", tmp_path / "one.mp4")
    cases = (
        ("zero.mp4", 2, "is empty (0 bytes)"),
        ("cut.mp4", 2, "cannot be read as a video"),
        ("sound.m4a", 2, "holds no video stream"),
        ("gone.mp4", 2, "there is no file"),
        ("it's: [100%] a,b.mp4", 0, "96 frames"),
        ("fast.mp4", 0, "has 50 frames a second and the reference 23.976"),
        ("one.mp4", 5, "the reference has 96 frames and the distorted file 1"),
    )
    for name, code, said in cases:
        given = [
            "score",
            files["reference"],
            tmp_path / name,
            "--out",
            tmp_path / f"to {code}{name}",
        ]
        assert run_command(monkeypatch, *given) == code, name
        assert said in " ".join(capsys.readouterr().err.split()), name
    given = ["score", tmp_path / "one.mp4", tmp_path / "one.mp4", "--out", tmp_path / "own"]
    assert run_command(monkeypatch, *given) == 0
    assert "is the reference itself, byte for byte" in " ".join(capsys.readouterr().err.split())
