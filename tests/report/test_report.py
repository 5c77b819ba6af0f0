"""The report of a sweep: what is read, what it says, and that hostile names stay text."""

from __future__ import annotations

import csv
import io
import json
import re
import shutil
import sys
from collections.abc import Callable
from dataclasses import dataclass
from html.parser import HTMLParser
from pathlib import Path
from types import ModuleType

import pandas as pd
import pytest
from forged import measured
from vmaf_train.corpus.dataset import corpus_digest
from vmaf_train.errors import DatasetError
from vmaf_train.results.run_folder import load_run
from vmaf_train.results.tables import MODEL, slice_table
from vmaftune import cli
from vmaftune.errors import UsageError
from vmaftune.report import figures
from vmaftune.report.build import Report, build, write_page
from vmaftune.report.figures import write
from vmaftune.report.page import render
from vmaftune.report.read import read
from vmaftune.report.summary import summary
from vmaftune.report.tables import CSV_COLUMNS, cells_csv, tables

from schemas import validator


@pytest.fixture(autouse=True)
def coarse(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pictures of few pixels: no test here looks at them."""
    monkeypatch.setattr(figures, "_DPI", 40)


@pytest.fixture(scope="module")
def made(small: Path) -> Report:
    return build(small)


def rows(folder: Path) -> list[dict[str, object]]:
    return [
        json.loads(line)
        for line in (folder / "cells.jsonl").read_text(encoding="utf-8").splitlines()
    ]


def embedded(page: str) -> dict[str, object]:
    found = re.search(r'<script type="application/json" id="data">(.*?)</script>', page, re.DOTALL)
    assert found
    value: dict[str, object] = json.loads(found[1])
    return value


def test_every_finished_cell_is_a_point(small: Path, made: Report) -> None:
    sweep, ok = made.analysis.sweep, [r for r in rows(small) if r["status"] == "ok"]
    assert len(sweep.points) == len(ok) == 4 * (3 + 3 + 2) * 6 - 1
    assert [c.label for c in sweep.curves] == [
        "libx264 veryfast",
        "libx264 medium",
        "libx264 slow",
        "libsvtav1 10",
        "libsvtav1 8",
        "libsvtav1 5",
        "libvvenc faster",
        "libvvenc fast",
    ]
    point = next(p for p in sweep.points if p.key == ok[0]["key"])
    assert point.vmaf == ok[0]["vmaf_score"] and point.kbps == ok[0]["bitrate_kbps"]
    assert point.command.startswith("ffmpeg -i {ref} -c:v libx264 ")
    assert [f.kind for f in sweep.failures] == ["encode_failed"]


def test_bd_rates_are_those_the_corpus_was_made_with(made: Report) -> None:
    labels = [c.label for c in made.analysis.sweep.curves]
    found = made.analysis.bd_rates(labels.index("libx264 veryfast"), labels.index("libx264 medium"))
    assert len(found) == 4 and all(28 < rate < 32 for rate in found.values())
    back = made.analysis.bd_rates(labels.index("libx264 medium"), labels.index("libx264 veryfast"))
    assert all((1 + found[s] / 100) * (1 + back[s] / 100) == pytest.approx(1) for s in found)


def test_unclipped_scores_are_compared(small: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(small, tmp_path / "c")
    lines = [
        json.loads(line)
        for line in (folder / "frames.jsonl").read_text(encoding="utf-8").splitlines()
    ]
    key = lines[0]["key"]
    best = {"vmaf": 100, "vmaf_unclipped": 107}
    text = "".join(json.dumps({**r, **best} if r["key"] == key else r) + "\n" for r in lines)
    (folder / "frames.jsonl").write_text(text, encoding="utf-8")
    pooled = dict.fromkeys(("vmaf_score", "vmaf_harmonic_mean", "vmaf_min", "vmaf_p5"), 100)
    table = ({**row, **pooled} if row["key"] == key else row for row in rows(folder))
    (folder / "cells.jsonl").write_text("".join(json.dumps(row) + "\n" for row in table))
    point = next(p for p in read(folder).points if p.key == key)
    assert (point.vmaf, point.vmaf_unclipped) == (100, pytest.approx(107))


def test_parquet_frames_are_the_same(small: Path, tmp_path: Path, made: Report) -> None:
    folder = shutil.copytree(small, tmp_path / "c")
    lines = (folder / "frames.jsonl").read_text(encoding="utf-8").splitlines()
    pd.DataFrame(map(json.loads, lines)).to_parquet(folder / "frames.parquet")
    (folder / "frames.jsonl").unlink()
    found = read(folder)
    assert {k: list(v) for k, v in found.frames.items()} == {
        k: list(v) for k, v in made.analysis.sweep.frames.items()
    }


def test_torn_lines_and_replaced_rows(small: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(small, tmp_path / "c")
    cell = next(row["cell"] for row in rows(folder) if row["src"].startswith("clip"))
    again, frames = measured(cell, [12.5], key="new")
    with (folder / "cells.jsonl").open("a", encoding="utf-8") as file:
        file.write(json.dumps(again) + '\n{"cell": "torn')
    with (folder / "frames.jsonl").open("a", encoding="utf-8") as file:
        file.write(json.dumps(frames[0]) + '\n{"key": "n')
    sweep = read(folder)
    point = next(p for p in sweep.points if p.key == "new")
    assert point.vmaf == 12.5 and list(sweep.frames["new"]) == [12.5]
    assert len(sweep.frames) == len(sweep.points)


def test_a_corpus_without_frames_or_plan_is_reported(small: Path, tmp_path: Path) -> None:
    folder = tmp_path / "bare"
    folder.mkdir()
    shutil.copy(small / "cells.jsonl", folder)
    page = render.render(build(folder).analysis, None)
    assert set(embedded(page)["frames"]["count"]) == {0}  # type: ignore[index]


def test_scored_pairs_without_encoder_are_drawn(small: Path, tmp_path: Path) -> None:
    folder = tmp_path / "pairs"
    folder.mkdir()
    unknown = {
        "encoder": "external",
        "preset": None,
        "crf": None,
        "argv": None,
        "rate_control": None,
        "encode_cpu_s": None,
    }
    lines = [
        json.dumps({**row, **unknown, "cell": str(i)})
        for i, row in enumerate(rows(small))
        if row["status"] == "ok"
    ]
    (folder / "cells.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
    made = build(folder)
    assert [c.label for c in made.analysis.sweep.curves] == ["external"]
    assert summary(made.analysis)[0].startswith("4 sources, 1 encoder, 1 encoder and preset pair")
    render.render(made.analysis, None)
    assert [line["cell"] for line in csv.DictReader(io.StringIO(cells_csv(made.analysis)))] == [
        p.cell for p in made.analysis.sweep.points
    ]
    write(made.analysis, None, tmp_path / "png")  # a warning would be an error


def test_only_a_corpus_with_quality_values_is_offered_to_train(
    run: Callable[..., Done], small: Path, tmp_path: Path
) -> None:
    pairs = [{**row, "encoder": "external", "preset": None, "crf": None} for row in rows(small)]
    (tmp_path / "cells.jsonl").write_text(
        "".join(json.dumps(r) + "\n" for r in pairs), encoding="utf-8"
    )
    assert "next:" not in run(tmp_path).stderr


@pytest.mark.parametrize("names", [[], ["report.html"]])
def test_a_folder_that_is_no_corpus(tmp_path: Path, names: list[str]) -> None:
    for name in names:
        (tmp_path / name).write_text("x", encoding="utf-8")
    with pytest.raises(UsageError, match="is not a corpus"):
        build(tmp_path)


def test_a_corpus_without_a_measured_cell(
    run: Callable[..., Done], small: Path, model_run: Path, tmp_path: Path
) -> None:
    failed = [json.dumps(r) for r in rows(small) if r["status"] == "failed"]
    (tmp_path / "cells.jsonl").write_text("\n".join(failed) + "\n", encoding="utf-8")
    done = run(tmp_path, "-o", tmp_path / "page.html", "--model-run", model_run)
    assert done.code == 0 and "next:" not in done.stderr
    page = (tmp_path / "page.html").read_text(encoding="utf-8")
    assert (
        "No cell was measured: 1 failed." in page
        and "Error opening &lt;encoder&gt;" in page
        and 'id="rd"' not in page
    )
    text = run(tmp_path, "--text").stdout
    assert "No cell was measured" in text and "Conversion" in text
    assert json.loads(run(tmp_path, "--json").stdout)["failed"][0]["class"] == "encode_failed"
    assert run(tmp_path, "--csv", "--png", tmp_path / "png").stdout == ",".join(CSV_COLUMNS) + "\n"


def test_a_corpus_without_rows(run: Callable[..., Done], tmp_path: Path) -> None:
    (tmp_path / "cells.jsonl").write_text("", encoding="utf-8")
    done = run(tmp_path)
    assert done.code == 4 and "holds no rows yet" in done.stderr


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("vmaf_score", "NaN"),
        ("vmaf_score", '"abc"'),
        ("num_frames", '"x"'),
        ("flags", "5"),
        ("bitrate_kbps", "-3"),
        ("bitrate_kbps", "0"),
        ("encode_cpu_s", "true"),
        ("vmaf_min", "[]"),
        ("argv", '"ffmpeg"'),
        ("size_bytes", "1e400"),
    ],
)
def test_a_malformed_row_is_named(
    run: Callable[..., Done], small: Path, tmp_path: Path, field: str, value: str
) -> None:
    folder = shutil.copytree(small, tmp_path / "c")
    lines = (folder / "cells.jsonl").read_text(encoding="utf-8").splitlines(keepends=True)
    lines[6] = json.dumps({**json.loads(lines[6]), field: "HERE"}).replace('"HERE"', value) + "\n"
    (folder / "cells.jsonl").write_text("".join(lines), encoding="utf-8")
    done = run(folder)
    assert done.code == 4 and "Traceback" not in done.stderr
    assert "cells.jsonl:7: " in done.stderr and (
        value in ("NaN", "1e400") or f"{field} is " in done.stderr
    )


def change_plan(folder: Path, **fields: object) -> None:
    file = folder / "sweep.json"
    plan = json.loads(file.read_text(encoding="utf-8"))
    file.write_text(json.dumps({**plan, **fields}), encoding="utf-8")


def test_the_plan_is_told(small: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(small, tmp_path / "c")
    sources = json.loads((folder / "sweep.json").read_text(encoding="utf-8"))["sources"]
    sources[0] |= {"start_frame": 286, "crop": "968x544+156+88", "scale": [640, 360]}
    names = [source["name"] for source in sources[:2]]
    block = {"encoder": "libx264", "preset": "slow", "quality": [18, 22.5], "sources": names}
    skipped = ["h264_nvenc", "hevc_nvenc"]
    change_plan(folder, sources=sources, grid=[block], skipped_encoders=skipped)
    made = build(folder)
    page = render.render(made.analysis, None)
    assert "from frame 286, crop 968x544+156+88, scaled to 640x360" in page
    assert (
        '<th scope="row">libx264</th><td class="text">slow</td><td class="text">18,'
        " 22.5</td><td>2</td>" in page
    )
    assert (
        "Left out of the sweep, as they cannot run on its machine: h264_nvenc, hevc_nvenc." in page
    )


def test_frames_that_are_not_json(small: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(small, tmp_path / "c")
    (folder / "frames.jsonl").write_text("{]\n", encoding="utf-8")
    with pytest.raises(DatasetError, match="frames.jsonl:1: no frame row"):
        build(folder)


def test_missing_comparisons_have_a_reason(synthetic: ModuleType, tmp_path: Path) -> None:
    folder = synthetic.write(
        tmp_path / "c", names=["a", "b"], encoders=("libx264", "libsvtav1"), failed=0
    )

    def kept(row: dict[str, object]) -> bool:
        if row["src"] == "a":
            return row["encoder"] == "libx264"
        return (row["encoder"] == "libx264") == (float(str(row["vmaf_score"])) > 90)

    lines = [json.dumps(row) for row in rows(folder) if kept(row)]
    (folder / "cells.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
    document = build(folder).document()
    pair = next(
        p
        for p in document["bd_rate"]
        if (p["test"], p["anchor"]) == ("libsvtav1 8", "libx264 medium")
    )
    assert pair["mean"] is None and pair["per_source"] == {"a": None, "b": None}
    assert pair["reasons"]["a"] == "libsvtav1 8 not measured on this source"
    assert pair["reasons"]["b"].startswith("the curves do not overlap: VMAF ")


@pytest.fixture
def partial(small: Path, tmp_path: Path) -> Path:
    """The small sweep with one preset on two of its four sources, the expensive ones to encode."""
    folder = shutil.copytree(small, tmp_path / "partial")
    names = sorted({str(r["src"]) for r in rows(folder)})
    lines = []
    for row in rows(folder):
        if (row["preset"], row["src"]) in {("slow", names[0]), ("slow", names[1])}:
            continue
        if row["preset"] in ("slow", "medium") and row["src"] == names[2] and row["encode_cpu_s"]:
            row["encode_cpu_s"] = 10 * float(str(row["encode_cpu_s"]))
        lines.append(json.dumps(row))
    (folder / "cells.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return folder


def test_time_and_bits_of_a_curve_are_over_the_same_sources(partial: Path, tmp_path: Path) -> None:
    made = build(partial)
    slow = next(s for s in made.document()["speed"] if s["curve"] == "libx264 slow")
    assert slow["num_sources"] == 2 and slow["cpu_s_per_frame"] == pytest.approx(0.036 * 10**0.5)
    speeds = next(t for t in tables(made.analysis, None) if t.title.startswith("Speed"))
    assert [r[3] for r in speeds.rows if r[0] in ("libx264 slow", "libx264 medium")] == [
        "4",
        "2 of 4 sources",
    ]
    assert not any("libx264 slow" in s for s in summary(made.analysis))
    write(made.analysis, None, tmp_path / "png")


def test_a_curve_is_not_compared_with_itself_where_it_was_not_measured(partial: Path) -> None:
    analysis = build(partial).analysis
    slow = [c.label for c in analysis.sweep.curves].index("libx264 slow")
    assert len(analysis.bd_rates(slow, slow)) == 2


def test_two_thousand_cells_fit_the_size(synthetic: ModuleType, tmp_path: Path) -> None:
    folder = synthetic.write(tmp_path / "big", names=synthetic.sources(21), num_frames=100)
    made = build(folder)
    assert len(made.analysis.sweep.points) > 2000
    page = write_page(made, tmp_path / "deeper" / "page.html")
    assert page.stat().st_size < 8_000_000


def test_a_corpus_of_long_clips_keeps_the_lowest_frames(
    small: Path, made: Report, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(render, "MAX_FRAMES", 2000)
    frames = render.page_data(made.analysis, None)["frames"]
    total = sum(len(s) for s in made.analysis.sweep.frames.values())
    assert frames["block"] == -(-total // 2000) and sum(frames["count"]) <= total / frames[
        "block"
    ] + len(frames["count"])


class Collector(HTMLParser):
    """Elements and attributes of a page, as a browser would parse it."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += attrs


def test_hostile_names_are_text_and_nothing_is_loaded(
    made: Report, model_run: Path, small: Path
) -> None:
    whole = build(small, training=model_run)
    page = render.render(whole.analysis, whole.model)
    plotly = re.search(r"<script>(/\*\*?\n\* plotly\.js.*?)</script>", page, re.DOTALL)
    assert plotly, "plotly.js is not in the page"
    parsed = Collector()
    parsed.feed(page.replace(plotly[1], ""))
    assert (
        parsed.tags.count("script") == 6
    )  # data, plotly and four of ours: none comes out of a name
    assert "b" not in parsed.tags
    assert not [
        (k, v)
        for k, v in parsed.attributes
        if k in ("src", "onload", "onerror") or (v or "").startswith("http")
    ]
    assert "&lt;/script&gt;&lt;script&gt;alert(2)&lt;/script&gt;" in page
    assert embedded(page)["sources"] == list(whole.analysis.sweep.sources)


def test_the_page_names_its_figures_and_tables(made: Report) -> None:
    page = render.render(made.analysis, None)
    assert page.count('class="plot"') == page.count("<figcaption>") == 6
    assert page.count("<table") == page.count("<caption>")
    assert re.findall(r"<h1>(.*?)</h1>", page) == ["small sweep"]


def test_an_unfinished_sweep_says_so(small: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(small, tmp_path / "c")
    change_plan(folder, num_cells=1000)
    assert "The sweep is not finished: 192 of 1,000 planned cells have a row." in read(folder).notes


def test_little_evidence_is_said_to_be_little(
    synthetic: ModuleType, small: Path, tmp_path: Path
) -> None:
    def warned(folder: Path) -> bool:
        return any(note.startswith("This proves little: ") for note in read(folder).notes)

    few = synthetic.write(tmp_path / "few", names=["a", "b"], encoders=("libx264",))
    assert warned(few) and "2 films or clips, windows of about 2.0 s" in " ".join(read(few).notes)
    names = list("abcde")
    assert warned(
        synthetic.write(tmp_path / "short", names=names, encoders=("libx264",), num_frames=16)
    )
    assert not warned(synthetic.write(tmp_path / "fair", names=names, encoders=("libx264",)))


def test_csv_holds_every_cell(made: Report) -> None:
    lines = list(csv.DictReader(io.StringIO(cells_csv(made.analysis))))
    assert tuple(lines[0]) == CSV_COLUMNS and len(lines) == len(made.analysis.sweep.points)
    assert {line["source"] for line in lines} == set(made.analysis.sweep.sources)
    hull = sum(len(points) for points in made.analysis.hulls.values())
    assert sum(line["on_convex_hull"] == "1" for line in lines) == hull


def test_model_run(small: Path, model_run: Path) -> None:
    made = build(small, training=model_run)
    assert made.model is not None
    assert (
        len(made.model.groups) == 9
        and made.model.num_rows == 9 * 3 * 12
        and made.model.num_seeds == 3
    )
    assert made.model.overall["rmse"].mean == pytest.approx(0.58, abs=0.05)
    assert all(0.2 < band.bias < 0.8 for band in made.model.bands)
    assert sum(band.n for band in made.model.bands) == made.model.num_rows
    validator("report").validate(json.loads(json.dumps(made.document(), allow_nan=False)))
    teachers = made.model.baselines["the teacher's own function, untrained"]
    assert teachers == pytest.approx(0.25)
    assert [c.verdict for c in made.model.gate] == ["pass", "hold", "n/a"]
    page = render.render(made.analysis, made.model)
    assert '<td class="hold">hold</td><td class="text">group &lt;crowd&gt;</td>' in page


def test_a_model_says_what_it_was_trained_on(
    synthetic_run: ModuleType, small: Path, model_run: Path, tmp_path: Path
) -> None:
    other = build(small, training=model_run)
    assert other.model is not None and other.model.same_corpus is False
    own = build(
        small, training=synthetic_run.write(tmp_path / "run", corpus_digest=corpus_digest(small))
    )
    for made, warned in ((other, True), (own, False)):
        page = render.render(made.analysis, made.model)
        caption = (
            next(
                t.caption
                for t in tables(made.analysis, made.model)
                if t.title.startswith("fr_regressor_v2")
            )
            or ""
        )
        for text in (page, caption):
            assert "Recipe default, trained on runs/phase_a/other/cells.jsonl (digest " in text
            assert ("Trained on another corpus" in text) is warned


def test_thinned_marks_are_said_to_be(
    small: Path, model_run: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    made = build(small, training=model_run)
    assert "evenly picked" not in render.render(made.analysis, made.model)
    monkeypatch.setattr("vmaftune.report.model_run.MAX_DRAWN", 100)
    made = build(small, training=model_run)
    assert "81 of the 324 rows are drawn, evenly picked." in render.render(
        made.analysis, made.model
    )
    write(made.analysis, made.model, tmp_path)


def test_score_bands_are_spelled_as_in_the_evaluation(small: Path, model_run: Path) -> None:
    made = build(small, training=model_run)
    table = slice_table(load_run(model_run).predictions, MODEL, "score_band")
    assert made.model is not None and {b.band for b in made.model.bands} == set(table["group"])


def test_incomplete_model_run(small: Path, tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="not a complete run"):
        build(small, training=tmp_path)


@dataclass(frozen=True)
class Done:
    """How a command ended."""

    code: object
    stdout: str
    stderr: str


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Callable[..., Done]:
    """The command line in this process, from the words typed to the exit code."""

    def typed(*words: str | Path) -> Done:
        monkeypatch.setattr(sys, "argv", ["vmaf-tune", "report", *map(str, words)])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        return Done(ended.value.code or 0, *capsys.readouterr())

    return typed


def test_command_writes_the_page_into_the_folder(
    run: Callable[..., Done], small: Path, tmp_path: Path
) -> None:
    folder = shutil.copytree(small, tmp_path / "c")
    done = run(folder)
    assert done.code == 0, done.stderr
    assert done.stdout == f"{folder / 'report.html'}\n" and (folder / "report.html").is_file()
    assert "next: vmaf-tune train --loso --corpus" in done.stderr
    assert not list(folder.glob("*.tmp"))


def test_command_prints_json_csv_and_text(
    run: Callable[..., Done], small: Path, model_run: Path
) -> None:
    document = json.loads(run(small, "--json", "--model-run", model_run).stdout)
    assert document["num_cells"] == 191 and document["model_run"]["verdict"] == "hold"
    assert len(run(small, "--csv").stdout.splitlines()) == 192
    text = run(small, "--text", "--model-run", model_run).stdout
    assert (
        "BD-rate" in text
        and "Failed cells" in text
        and "fr_regressor_v2, held out one source group" in text
    )
    assert "</script><script>alert(1)</script>" in text
    assert not (small / "report.html").exists()


@pytest.mark.parametrize("width", [72, 80, 100])
def test_words_of_the_tables_stay_whole(
    run: Callable[..., Done],
    synthetic: ModuleType,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    width: int,
) -> None:
    encoders = ("libx264", "libx265", "libsvtav1", "libvpx-vp9", "libaom-av1")
    folder = synthetic.write(
        tmp_path / "c", names=["one", "two"], encoders=encoders, num_frames=5, failed=0
    )
    monkeypatch.setenv("COLUMNS", str(width))
    text = run(folder, "--text").stdout
    tables = text.split("BD-rate: ")[1]
    words = {word for line in tables.splitlines() for word in line.split()}
    assert (
        {*encoders, "veryfast", "realtime", "reach", "sources"} <= words
        and "vp9" not in words
        and "v1" not in words
    )
    assert all(len(line) <= width for line in tables.splitlines() if line.startswith(" "))


def test_command_takes_the_newest_run_of_a_model(
    run: Callable[..., Done],
    synthetic_run: ModuleType,
    small: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for time in ("20261121T050000Z", "20261121T060000Z"):
        synthetic_run.write(tmp_path / "runs" / "fr_regressor_v2" / time)
    monkeypatch.chdir(tmp_path)
    document = json.loads(run(small, "--json", "--model-run", "fr_regressor_v2").stdout)
    assert document["model_run"]["run"] == "runs/fr_regressor_v2/20261121T060000Z"
    assert run(small, "--json", "--model-run", "vmaf_tiny_v2").code == 4


def test_command_draws_png(
    run: Callable[..., Done], small: Path, model_run: Path, tmp_path: Path
) -> None:
    done = run(small, "--png", tmp_path / "figures", "--model-run", model_run)
    assert done.code == 0, done.stderr
    files = sorted(p.name for p in (tmp_path / "figures").iterdir())
    assert len(files) == 4 + 3 + 2 and all(
        (tmp_path / "figures" / f).read_bytes().startswith(b"\x89PNG") for f in files
    )
    assert not (small / "report.html").exists()


def test_command_refuses(run: Callable[..., Done], small: Path, tmp_path: Path) -> None:
    wrong = run(tmp_path)
    assert wrong.code == 2 and "is not a corpus" in wrong.stderr
    assert run(small, "--text", "--json").code == 2
    assert run(small, "--model-run", tmp_path).code == 4
    (tmp_path / "file").write_text("", encoding="utf-8")
    into = run(small, "-o", tmp_path)
    assert into.code == 2 and "is a folder; name a file" in into.stderr
    assert not list(tmp_path.parent.glob("*.tmp"))
    unwritable = run(small, "-o", tmp_path / "file" / "page.html")
    assert unwritable.code == 3 and "name another file" in unwritable.stderr
