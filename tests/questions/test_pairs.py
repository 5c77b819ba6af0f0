"""Pairs scored by the real ffmpeg: scores against plain libvmaf, flags of what is wrong with a
pair, resume, refusals.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from vmaf_train.contract import FEATURES
from vmaf_train.corpus.dataset import load
from vmaftune.cell import parse_size
from vmaftune.engine.events import to_json
from vmaftune.engine.folder import TABLE
from vmaftune.engine.options import Options
from vmaftune.engine.study import Study
from vmaftune.errors import FolderError, SourceError, UsageError
from vmaftune.media.ffmpeg import Ffmpeg
from vmaftune.media.metrics import FULL
from vmaftune.questions import pairs

N = 30
SIZE = "160x96"
RAW = ("-f", "rawvideo", "-pixel_format", "yuv420p", "-video_size", SIZE, "-framerate", "25")
X264 = ("-c:v", "libx264", "-preset", "veryfast", "-crf", "36")
MOVING = f"testsrc2=size={SIZE}:rate=25,noise=alls=8:allf=t"
STILL = f"testsrc2=size={SIZE}:rate=25,trim=end_frame=1,loop=-1:1,setpts=N/25/TB"


@pytest.fixture
def make(run_ffmpeg: Callable[..., str], tmp_path: Path) -> Callable[..., Path]:
    """A file in the test's folder: of a lavfi source, or of frames of a raw file made before."""

    def write(
        name: str,
        source: str | Path,
        *,
        first: int = 0,
        count: int = N,
        vf: str = "null",
        args: Sequence[str] = ("-f", "rawvideo", "-pix_fmt", "yuv420p"),
    ) -> Path:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        given = (
            ("-f", "lavfi", "-i", source)
            if isinstance(source, str)
            else (*RAW, "-i", f"file:{source}")
        )
        cut = f"trim=start_frame={first},setpts=N/25/TB,{vf}"
        run_ffmpeg(*given, "-vf", cut, "-frames:v", str(count), *args, f"file:{path}")
        return path

    return write


@pytest.fixture
def score(real: Ffmpeg, tmp_path: Path, read_run: Callable[..., Any]) -> Callable[..., Any]:
    """Score the pairs of a place in this process; its folder read back."""

    def run(
        place: Path,
        *,
        out: str = "run",
        features: pairs.Features = "six",
        size: str | None = SIZE,
        extend: bool = False,
        select: Sequence[str] = (),
        retry_failed: bool = False,
    ) -> Any:
        plan = pairs.plan_pairs(
            place,
            size=parse_size(size) if size else None,
            fps=None,
            pix_fmt=None,
            allow=(),
            teacher="vmaf_v0.6.1",
            features=features,
            select_globs=select,
        )
        folder = tmp_path / out
        options = Options(jobs=2, retry_failed=retry_failed)
        with Study.open(
            folder, plan, real, options, argv=["vmaf-tune"], extend=extend, part=bool(select)
        ) as study:
            events = [to_json(event) for event in pairs.run(plan, study)]
        return read_run(folder, events)

    return run


@pytest.fixture
def plain(run_ffmpeg: Callable[..., str], tmp_path: Path) -> Callable[..., list[dict[str, float]]]:
    """Frames of plain libvmaf over two files as ffmpeg reads them, paired by their own stamps."""

    def score(
        distorted: Sequence[str], reference: Sequence[str], graph: str = "[0:v][1:v]"
    ) -> list[dict[str, float]]:
        run_ffmpeg(
            *distorted,
            *reference,
            "-lavfi",
            f"{graph}libvmaf=model=version=vmaf_v0.6.1:feature=name=adm|name=vif|name=motion:log_fmt=json:log_path=plain.json",
            "-f",
            "null",
            "-",
            cwd=tmp_path,
        )
        return [f["metrics"] for f in json.loads((tmp_path / "plain.json").read_text())["frames"]]

    return score


def agree(run: Any, cell: str, theirs: list[dict[str, float]]) -> None:
    ours = run.frames_of(cell)
    assert len(ours) == len(theirs) == N
    for mine, other in zip(ours, theirs, strict=True):
        assert mine["vmaf"] == pytest.approx(other["vmaf"], abs=1e-6)
        for name in FEATURES:
            assert mine[name] == pytest.approx(other[f"integer_{name}"], abs=1e-6)
    assert run.rows[cell]["vmaf_score"] == pytest.approx(
        sum(f["vmaf"] for f in theirs) / N, abs=1e-6
    )


def write_csv(path: Path, *lines: str) -> Path:
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def test_a_folder_with_odd_names_from_the_command_line(
    make: Callable[..., Path],
    tool: Any,
    plain: Callable[..., Any],
    read_run: Callable[..., Any],
    tmp_path: Path,
) -> None:
    stem = "odd: it's 100% [a]"
    reference = make(f"set, 'one'/ref/{stem}_25fps.yuv", MOVING)
    make(f"set, 'one'/dis/{stem}_30_96_120.yuv", reference, vf="boxblur=1:1")
    make("set, 'one'/ref/unused_25fps.yuv", reference)
    args = ("corpus", "--pairs", "set, 'one'", "--size", SIZE, "--jobs", "1", "--out", "run, 'one'")

    plan = json.loads(tool.run(*args, "--dry-run", "--json").stdout)
    cell = f"{stem}/external/{stem}_30_96_120"
    assert plan["cells"] == [cell] and plan["num_left"] == 1

    first = tool.run(*args)
    assert "unused_25fps.yuv is a reference without distorted files" in first.stderr
    run = read_run(tmp_path / "run, 'one'")
    row = run.rows[cell]
    assert row["status"] == "ok", row["error"]
    assert (row["src"], row["group"], row["encoder"]) == (stem, stem, "external")
    assert [row[n] for n in ("preset", "crf", "argv", "size_bytes")] == [None] * 4
    assert row["bitrate_kbps"] == 120.0, "a raw file's bitrate is the one in its name"
    assert row["flags"] == [] and row["alignment"]["best_offset"] == 0
    dis = tmp_path / f"set, 'one'/dis/{stem}_30_96_120.yuv"
    agree(run, cell, plain((*RAW, "-i", f"file:{dis}"), (*RAW, "-i", f"file:{reference}")))

    status = json.loads(tool.run("status", "run, 'one'", "--json").stdout)
    assert (status["num_cells"], status["num_done"], status["num_left"]) == (1, 1, 0)
    again = [json.loads(line) for line in tool.run(*args, "--json").stdout.splitlines()]
    assert [e["event"] for e in again if e["event"] != "notice"] == ["start", "end"]
    assert len((tmp_path / "run, 'one'/cells.jsonl").read_text().splitlines()) == 1


def test_containers_are_paired_by_index_and_a_csv_with_settings_can_be_learned_from(
    make: Callable[..., Path], score: Callable[..., Any], plain: Callable[..., Any], tmp_path: Path
) -> None:
    reference = make("film_25fps.yuv", MOVING)
    # Stamps of 1/1000 s at 24000/1001, a start that is not 0: paired by stamps this would be
    # another score.
    encode = make(
        "good.mkv",
        reference,
        vf="settb=1/90000,setpts=N*3753.75+9000",
        args=(*X264, "-fps_mode", "passthrough", "-enc_time_base", "1/90000"),
    )
    make("late.mkv", reference, vf="tpad=start=1:start_mode=clone,trim=end_frame=30", args=X264)
    table = write_csv(
        tmp_path / "pairs of mine.csv",
        "reference, distorted, encoder, preset, crf, note",
        "film_25fps.yuv,good.mkv,x264,veryfast,36,as it should be",
        '"film_25fps.yuv","late.mkv",libx264,veryfast,37,a frame late',
    )
    run = score(table)
    assert any("note" in e["message"] for e in run.events if e["event"] == "notice")
    good, late = run.rows["film/libx264/good"], run.rows["film/libx264/late"]
    assert good["status"] == late["status"] == "ok", (good["error"], late["error"])
    assert (good["encoder"], good["preset"], good["crf"], good["rate_control"]) == (
        "libx264",
        "veryfast",
        36,
        "crf",
    )
    assert good["flags"] == [] and good["size_bytes"] > 0 and good["bitrate_kbps"] > 0
    assert late["flags"] == ["suspect_alignment"] and late["alignment"]["best_offset"] == 1
    stamped = "[0:v]settb=1/25,setpts=N[a];[1:v]settb=1/25,setpts=N[b];[a][b]"
    agree(
        run,
        "film/libx264/good",
        plain(("-i", f"file:{encode}"), (*RAW, "-i", f"file:{reference}"), stamped),
    )

    data = load(run.folder, per_frame=False)
    assert (
        list(data.key) == [good["key"]]
        and list(data.crf) == [36.0]
        and list(data.encoder) == ["libx264"]
    )
    assert any("left out 1 flagged rows (suspect_alignment 1)" in note for note in data.notes)
    assert len(load(run.folder, per_frame=True)) == N


@pytest.mark.parametrize("first", [1, 2])
def test_a_shifted_pair_is_suspect(
    first: int, make: Callable[..., Path], score: Callable[..., Any], tmp_path: Path
) -> None:
    long = make("long.yuv", MOVING, count=N + 2)
    make("film_25fps.yuv", long)
    make("early.yuv", long, first=first, vf="boxblur=1:1")
    run = score(write_csv(tmp_path / "p.csv", "reference,distorted", "film_25fps.yuv,early.yuv"))
    assert run.row["flags"] == ["suspect_alignment"]
    assert run.row["alignment"]["best_offset"] == -first


def test_a_still_picture_tells_no_offset(
    make: Callable[..., Path], score: Callable[..., Any], tmp_path: Path
) -> None:
    reference = make("still_25fps.yuv", STILL)
    make("still.mkv", reference, args=X264)
    run = score(write_csv(tmp_path / "p.csv", "reference,distorted", "still_25fps.yuv,still.mkv"))
    assert run.row["status"] == "ok" and run.row["flags"] == ["alignment_unverifiable"]


def test_swapped_files_are_hinted_at(
    make: Callable[..., Path], score: Callable[..., Any], tmp_path: Path
) -> None:
    make("film_25fps.yuv", MOVING)
    make("soft_25fps.yuv", tmp_path / "film_25fps.yuv", vf="boxblur=2:1")
    table = write_csv(
        tmp_path / "p.csv",
        "reference,distorted",
        "film_25fps.yuv,soft_25fps.yuv",
        "soft_25fps.yuv,film_25fps.yuv",
    )
    run = score(table)
    assert run.rows["film/external/soft_25fps"]["flags"] == []
    assert run.rows["soft/external/film_25fps"]["flags"] == ["possible_swap"]


@pytest.mark.parametrize("suffix", [".yuv", ".mkv"])
def test_a_short_file_fails_with_a_sentence_and_no_score(
    suffix: str, make: Callable[..., Path], tool: Any, read_run: Callable[..., Any], tmp_path: Path
) -> None:
    reference = make("film_25fps.yuv", MOVING)
    make(f"short{suffix}", reference, count=N - 2, **({"args": X264} if suffix == ".mkv" else {}))
    write_csv(tmp_path / "p.csv", "reference,distorted", f"film_25fps.yuv,short{suffix}")
    said = tool.run("corpus", "--pairs", "p.csv", "--size", SIZE, code=5)
    assert "1 of 1 pairs failed" in said.stderr
    row = read_run(tmp_path / "runs/phase_a/p").row
    assert row["status"] == "failed" and row["error"]["class"] == "wrong_frame_count"
    assert "30 frames and the distorted file 28" in row["error"]["message"]
    assert row["vmaf_score"] is None and row["per_frame_features"] is None
    assert not (tmp_path / "runs/phase_a/p/frames.jsonl").exists()
    assert row["error"]["command"].count("file:") == 2


def test_another_size_and_depth_is_converted_and_said(
    make: Callable[..., Path], score: Callable[..., Any], plain: Callable[..., Any], tmp_path: Path
) -> None:
    reference = make("film_25fps.yuv", MOVING)
    deep = (
        "-c:v",
        "libx265",
        "-preset",
        "ultrafast",
        "-x265-params",
        "log-level=none",
        "-pix_fmt",
        "yuv422p10le",
    )
    encode = make("small.mkv", reference, vf="scale=80:48", args=deep)
    run = score(write_csv(tmp_path / "p.csv", "reference,distorted", "film_25fps.yuv,small.mkv"))
    row = run.row
    assert row["status"] == "ok", row["error"]
    assert row["flags"][:2] == ["scaled", "converted"] and row["pix_fmt"] == "yuv422p10le"
    assert (row["distorted_width"], row["distorted_height"], row["distorted_pix_fmt"]) == (
        80,
        48,
        "yuv422p10le",
    )
    graph = (
        "[0:v]scale=160:96:flags=bicubic,format=yuv422p10le,settb=1/25,setpts=N[a];"
        "[1:v]format=yuv422p10le,settb=1/25,setpts=N[b];[a][b]"
    )
    agree(
        run, row["cell"], plain(("-i", f"file:{encode}"), (*RAW, "-i", f"file:{reference}"), graph)
    )


def test_full_range_is_compared_as_it_is_and_never_with_limited(
    make: Callable[..., Path], score: Callable[..., Any], plain: Callable[..., Any], tmp_path: Path
) -> None:
    reference = make("film_25fps.yuv", MOVING)
    full = make("full.mkv", reference, args=(*X264, "-color_range", "pc"))
    make("limited.mkv", reference, args=(*X264, "-color_range", "tv"))
    make("cinema.mkv", reference, vf="crop=160:80,scale=160:80", args=X264)
    table = write_csv(
        tmp_path / "p.csv",
        "reference,distorted",
        "film_25fps.yuv,full.mkv",
        "full.mkv,limited.mkv",
        "film_25fps.yuv,cinema.mkv",
    )
    run = score(table)
    raw = plain(
        ("-i", f"file:{full}"),
        (*RAW, "-i", f"file:{reference}"),
        "[0:v]extractplanes=y,format=gray[a];[1:v]extractplanes=y,format=gray[b];[a][b]",
    )
    assert [f["vmaf"] for f in run.frames_of("film/external/full")] == pytest.approx(
        [f["vmaf"] for f in raw], abs=1e-6
    )
    assert run.rows["full/external/limited"]["error"]["class"] == "wrong_color"
    assert run.rows["film/external/cinema"]["error"]["class"] == "wrong_shape"


def test_the_full_set_is_a_table_and_survives_its_loss(
    make: Callable[..., Path],
    score: Callable[..., Any],
    run_ffmpeg: Callable[..., str],
    tmp_path: Path,
) -> None:
    from pyarrow import parquet

    lossless = ("-c:v", "ffv1", "-pix_fmt", "yuv420p")
    moving = "testsrc2=size=224x176:rate=25,noise=alls=8:allf=t"
    run_ffmpeg("-f", "lavfi", "-i", moving, "-frames:v", "8", *lossless, tmp_path / "a.mkv")
    run_ffmpeg("-i", tmp_path / "a.mkv", *X264, tmp_path / "b.mkv")
    late = "tpad=start=1:start_mode=clone,trim=end_frame=8"
    run_ffmpeg("-i", tmp_path / "a.mkv", "-vf", late, *X264, tmp_path / "late.mkv")
    lines = ("a.mkv,b.mkv,film", "a.mkv,a.mkv,film", "a.mkv,late.mkv,film")
    table = write_csv(tmp_path / "p.csv", "reference,distorted,group", *lines)
    run = score(table, features="full", select=("*/b",))
    found = parquet.read_table(run.folder / TABLE)
    assert found.num_rows == 8
    run = score(table, features="full", extend=True)
    file = run.folder / TABLE
    found = parquet.read_table(file)
    assert parquet.ParquetFile(file).metadata.row_group(0).column(0).compression == "ZSTD"
    assert set(FULL) <= set(found.column_names) and len(FULL) == 19
    rows = found.to_pylist()
    assert [(r["cell"], r["frame_index"]) for r in rows] == [
        (f"a/external/{n}", i) for n in ("a", "b", "late") for i in range(8)
    ]
    assert {r["group"] for r in rows} == {"film"} and {r["dis_basename"] for r in rows} == {
        "a.mkv",
        "b.mkv",
        "late.mkv",
    }
    with pytest.raises(
        FolderError, match="--extend adds cells .* settings of a/external/b are not the same"
    ):
        score(table, features="six", extend=True)
    encoded = [r for r in rows if r["dis_basename"] == "b.mkv"]
    assert all(isinstance(r[name], float) for r in encoded for name in FULL)
    assert all(
        r["psnr_hvs"] is None and r["psnr_y"] == 60.0 for r in rows if r["dis_basename"] == "a.mkv"
    ), "equal frames"
    assert [r["adm2"] for r in encoded] == [f["adm2"] for f in run.frames_of("a/external/b")]
    data = load(file, per_frame=True)
    assert len(data) == 16, "flagged frames are left out"
    assert data.notes == ("left out 8 flagged rows (suspect_alignment 8)",)

    file.unlink()
    again = score(table, features="full")
    assert [e["event"] for e in again.events] == ["start", "end"], "nothing is scored twice"
    assert parquet.read_table(file).to_pylist() == rows


def test_a_changed_file_is_another_plan(
    make: Callable[..., Path], score: Callable[..., Any], tmp_path: Path
) -> None:
    reference = make("film_25fps.yuv", MOVING)
    make("a.mkv", reference, args=X264)
    table = write_csv(tmp_path / "p.csv", "reference,distorted", "film_25fps.yuv,a.mkv")
    score(table)
    make("a.mkv", reference, args=(*X264, "-g", "1"))
    with pytest.raises(FolderError, match="film/external/a are not the same"):
        score(table)
    make("b.mkv", reference, args=X264)
    table = write_csv(tmp_path / "q.csv", "reference,distorted", "film_25fps.yuv,b.mkv")
    with pytest.raises(FolderError, match="another plan"):
        score(table)


def test_what_is_wrong_with_a_folder_is_said(
    make: Callable[..., Path], score: Callable[..., Any], tmp_path: Path
) -> None:
    reference = make("set/ref/film_25fps.yuv", MOVING, count=6)
    with pytest.raises(SourceError, match="there is no .*dis"):
        score(tmp_path / "set")
    (tmp_path / "set/dis").mkdir()
    with pytest.raises(SourceError, match="holds no pair"):
        score(tmp_path / "set")
    other = make("set/dis/movie_30_96_120.yuv", reference, count=6)
    with pytest.raises(
        SourceError, match="movie_30_96_120.yuv matches no reference: .* holds the sources film"
    ):
        score(tmp_path / "set")
    other.rename(tmp_path / "set/dis/film_30_96_120.yuv")
    with pytest.raises(SourceError, match="not a whole number of 1920x1080 yuv420p frames"):
        score(tmp_path / "set", size=None)
    with pytest.raises(SourceError, match="need at least 216x176"):
        score(tmp_path / "set", features="full")
    with pytest.raises(UsageError, match="no pair matches --select nothing"):
        score(tmp_path / "set", select=("nothing",))
    make("set/ref/film_50fps.yuv", reference, count=6)
    with pytest.raises(SourceError, match="both references of film"):
        score(tmp_path / "set")


@pytest.mark.parametrize(
    ("lines", "sentence"),
    [
        (("reference,encode", "a.mkv,b.mkv"), "has no column distorted"),
        (("reference,distorted",), "lists no pair"),
        (("reference,distorted", "a.mkv,none.mkv"), "line 2: there is no .*none.mkv"),
        (("reference,distorted", "a.mkv,"), "line 2 names no distorted file"),
        (("reference,distorted", "a.mkv,a,b.mkv"), "not as many values"),
        (
            ("reference,distorted,encoder,preset,crf", "a.mkv,b.mkv,x264,,23"),
            "has no preset: give encoder, preset and crf",
        ),
        (
            ("reference,distorted,encoder,preset,crf", "a.mkv,b.mkv,x264,fast,good"),
            "crf 'good' is not a quality value",
        ),
        (
            ("reference,distorted,encoder,preset,crf", "a.mkv,b.mkv,x264,fast,99"),
            "line 2: libx264: .* out of range",
        ),
        (
            ("reference,distorted,encoder,preset,crf", "a.mkv,b.mkv,x264,p4,20"),
            "line 2: libx264 has no preset 'p4'",
        ),
        (("reference,distorted", "a.mkv,b.mkv", "a.mkv,b.mkv"), "line 3 names the pair .* twice"),
        (
            ("reference,distorted,group", "a.mkv,b.mkv,x", "a.mkv,a.mkv,y"),
            "stand in two groups, x and y",
        ),
    ],
)
def test_what_is_wrong_with_a_csv_is_said(
    lines: tuple[str, ...],
    sentence: str,
    clip: Callable[..., Path],
    score: Callable[..., Any],
    tmp_path: Path,
) -> None:
    for name in ("a.mkv", "b.mkv"):
        (tmp_path / name).symlink_to(clip("pair of a csv.mkv", frames=2))
    with pytest.raises(UsageError, match=sentence):
        score(write_csv(tmp_path / "p.csv", *lines))


def test_options_that_pairs_have_no_use_for_are_refused(tool: Any) -> None:
    for option in (("--frames", "5"), ("--encoders", "x264"), ("--keep-encodes",)):
        assert (
            f"{option[0]} does not go with --pairs"
            in tool.run("corpus", "--pairs", "p.csv", *option, code=2).stderr
        )
    assert (
        "--allow takes vfr, interlaced, hdr"
        in tool.run("corpus", "--pairs", "p.csv", "--allow", "all", code=2).stderr
    )
    assert "with --pairs" in tool.run("corpus", "--features", "full", code=2).stderr
    assert "there is no p.csv" in tool.run("corpus", "--pairs", "p.csv", code=2).stderr


def test_a_variable_rate_is_refused_then_flagged(
    make: Callable[..., Path], tool: Any, tmp_path: Path, read_run: Callable[[Path], Any]
) -> None:
    reference = make("film_25fps.yuv", MOVING)
    make("even.mkv", reference, args=X264)
    make(
        "gap.mkv",
        reference,
        vf="setpts='(N+if(gt(N,11),3,0))/25/TB'",
        args=("-fps_mode", "passthrough", *X264),
    )
    write_csv(tmp_path / "p.csv", "reference,distorted", "even.mkv,gap.mkv")
    done = tool.run("corpus", "--pairs", "p.csv", "--out", "run", code=2)
    assert (
        "gap.mkv has a variable frame rate (frame 12)" in done.stderr
        and "--allow vfr" in done.stderr
    )
    tool.run("corpus", "--pairs", "p.csv", "--out", "run", "--allow", "vfr")
    row = read_run(tmp_path / "run").row
    assert (row["status"], row["num_frames"]) == ("ok", N)
    assert "vfr" in row["flags"]
