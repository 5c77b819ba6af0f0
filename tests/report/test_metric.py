"""`report --metric` and `compare --metric` on a small real sweep that measured further metrics."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from vmaf_train.corpus.rows import CellRow, latest
from vmaftune.errors import UsageError
from vmaftune.metrics import METRICS, scale_of
from vmaftune.report.analysis import analyse
from vmaftune.report.bdrate import compare, rate_curve
from vmaftune.report.build import build
from vmaftune.report.compare import compare_folders
from vmaftune.report.read import read

ASKED = "xpsnr,ssim,cambi,ciede2000"


@pytest.fixture(scope="module")
def folder(clip: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two presets at four values on a clip that has room for every metric."""
    from vmaftune import api

    source = clip("report metrics.mkv", frames=4, size="256x180")
    out = tmp_path_factory.mktemp("metric") / "run"
    api.sweep(
        source,
        encoders="x264",
        presets="ultrafast,medium",
        quality="20:44:8",
        texts=api_texts(ASKED),
        running=api.Running(out=out, jobs=2),
    )
    return out


def api_texts(metrics: str | None) -> Any:
    from vmaftune.request.flags import Texts

    return Texts(metrics=metrics)


def points(folder: Path, preset: str, metric: str) -> list[tuple[float, float]]:
    """(kbit/s, mean) of a preset from the rows, more being better."""
    rows: list[CellRow] = [
        row for row in latest(folder / "cells.jsonl").values() if row.preset == preset
    ]
    sign = scale_of(metric).sign
    return [(row.bitrate_kbps or 0.0, sign * getattr(row.metrics, metric).mean) for row in rows]


@pytest.mark.parametrize("metric", ASKED.split(","))
def test_bd_rates_are_those_of_the_metrics_own_curves(folder: Path, metric: str) -> None:
    analysis = analyse(read(folder, scale=scale_of(metric)))
    names = [curve.preset for curve in analysis.sweep.curves]
    test, anchor = names.index("medium"), names.index("ultrafast")
    ours = analysis.bd_rate(0, test, anchor)
    curves = [rate_curve(points(folder, preset, metric)) for preset in ("medium", "ultrafast")]
    theirs = compare(*curves, scale_of(metric))
    assert ours.log_ratio == pytest.approx(theirs.log_ratio)
    if metric in ("xpsnr", "ssim", "ciede2000"):
        assert ours.percent is not None and ours.percent < 0, "the slower preset needs fewer bits"


@pytest.mark.parametrize("metric", ["xpsnr", "cambi"])
def test_the_value_for_a_target_and_the_hull_go_the_metrics_way(folder: Path, metric: str) -> None:
    scale = scale_of(metric)
    analysis = analyse(read(folder, scale=scale))
    curve = 0
    swept = analysis.sweep.points_of(0, curve)
    middle = sorted(point.vmaf for point in swept)[len(swept) // 2]
    target = min(scale.targets, key=lambda value: abs(value - middle))
    found = analysis.quality_for(curve, target)[0]
    if found is not None:
        at = analysis.at(0, curve, found)
        assert at is not None and scale.sign * at[1] >= scale.sign * target - 1e-9
    hull = [scale.sign * point.vmaf for point in analysis.hulls[0]]
    assert hull == sorted(hull) and len(hull) >= 2
    for point in analysis.sweep.points:
        worst = scale.sign * (point.lowest or 0.0)
        assert worst <= scale.sign * point.vmaf + 1e-9


def test_the_command_prints_draws_and_writes(folder: Path, tool: Any, tmp_path: Path) -> None:
    text = tool.run("report", folder, "--metric", "xpsnr", "--text").stdout
    assert "for the same XPSNR" in text and "gives XPSNR 40" in text and "VMAF 93" not in text
    found = json.loads(tool.run("report", folder, "--metric", "cambi", "--json").stdout)
    assert found["metric"] == "cambi" and found["target"] == 5
    lines = tool.run("report", folder, "--metric", "ssim", "--csv").stdout
    rows = list(csv.DictReader(io.StringIO(lines)))
    assert len(rows) == 8 and 0 < float(rows[0]["ssim_mean"]) <= 1 and "vmaf_mean" not in rows[0]
    tool.run("report", folder, "--metric", "cambi", "-o", "page.html", "--png", "pictures")
    page = (tmp_path / "page.html").read_text()
    assert '"label":"CAMBI"' in page and "Which quality value gives CAMBI" in page
    assert any(
        file.name.startswith("quality_for_cambi") for file in (tmp_path / "pictures").iterdir()
    )


def test_what_was_not_measured_is_said(
    folder: Path, clip: Callable[..., Path], swept: Callable[..., Any], tool: Any
) -> None:
    with pytest.raises(UsageError, match=r"no cell of .* was measured with neg; measure it with"):
        build(folder, metric="neg")
    with pytest.raises(UsageError, match="there is no metric 'vif'"):
        build(folder, metric="vif")
    with pytest.raises(UsageError, match=r"--target 93: XPSNR takes 25 to 55"):
        build(folder, metric="xpsnr", target=93)
    source = clip("report some.mkv", frames=2)
    swept(source, quality="20,30,40")
    some = swept(source, quality="20,30", metrics="psnr", extend=True, select=("*/20", "*/30"))
    made = build(some.folder, metric="psnr")
    assert len(made.analysis.sweep.points) == 2
    assert "1 cell without a value of PSNR, left out." in made.analysis.sweep.notes


def test_compare_takes_the_metric_too(
    folder: Path, clip: Callable[..., Path], tmp_path: Path, tool: Any
) -> None:
    from vmaftune import api

    source = clip("report metrics.mkv", frames=4, size="256x180")
    other = tmp_path / "other"
    api.sweep(
        source,
        encoders="x264",
        presets="ultrafast,medium",
        quality="20:44:8",
        options="x264=-aq-mode 0",
        texts=api_texts("xpsnr"),
        running=api.Running(out=other, jobs=2),
    )
    name = next(iter(latest(other / "cells.jsonl").values())).options
    found = compare_folders(folder, other, "none", name, metric="xpsnr")
    assert found.num_cells == 8 and found.label == "XPSNR"
    curves = [rate_curve(points(place, "medium", "xpsnr")) for place in (other, folder)]
    (rate,) = [r for r in found.rates if "medium" in r.setting]
    assert rate.percent == pytest.approx(compare(*curves, scale_of("xpsnr")).percent)
    with pytest.raises(UsageError, match="no cell that both measured with ssim"):
        compare_folders(folder, other, "none", name, metric="ssim")
    done = tool.run(
        "compare",
        folder,
        other,
        "--a-options",
        "none",
        "--b-options",
        str(name),
        "--metric",
        "xpsnr",
    )
    assert "for the same XPSNR" in done.stdout


def test_windows_of_a_film_are_pooled_exactly(
    clip: Callable[..., Path], swept: Callable[..., Any]
) -> None:
    """The mean squared error over all frames, and not the mean of the windows' dB."""
    source = clip("report windows.mkv", frames=20)
    run = swept(source, quality="30", samples=2, sample_seconds="0.2", metrics="psnr,xpsnr")
    assert len(run.rows) == 2
    for name in ("psnr", "xpsnr"):
        (point,) = read(run.folder, scale=scale_of(name)).points
        columns = {c: [f[c] for f in run.frames] for c in METRICS[name].columns}
        assert point.vmaf == pytest.approx(METRICS[name].mean(columns), abs=1e-9)
        assert point.lowest == min(columns[name])
