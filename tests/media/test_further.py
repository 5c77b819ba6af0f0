"""Metrics beside VMAF against independent ways to them: each filter run alone, and numpy on the
decoded frames.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from vmaf_train.corpus.rows import Metrics
from vmaftune.cell import Cell
from vmaftune.engine.metric_rows import pool_metrics
from vmaftune.media.encode import encode
from vmaftune.media.failure import CellFailure
from vmaftune.media.ffmpeg import Ffmpeg
from vmaftune.media.further import parse_further, parse_xpsnr
from vmaftune.media.prepare import prepare
from vmaftune.media.score import Score, score
from vmaftune.metrics import METRICS

ALL = tuple(METRICS)
FRAMES = 6
WIDTH, HEIGHT = 256, 180
Plane = NDArray[np.float64]
CASES = {
    "8 bit": ("yuv420p", "25", "x264"),
    "10 bit": ("yuv420p10le", "25", "x265"),
    "4:4:4 at 50 a second": ("yuv444p", "50", "x264"),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """A cell that was scored with all metrics, and once without, and its files."""

    cell: Cell
    score: Score
    plain: Score
    ref: Path
    out: Path
    pix_fmt: str
    rate: str

    def columns(self) -> dict[str, list[float | None]]:
        return {name: [row[name] for row in self.score.further] for name in self.score.further[0]}

    def pooled(self) -> Metrics:
        found = pool_metrics(self.cell.metrics, self.columns())
        assert found is not None
        return found


@pytest.fixture(params=CASES, scope="module")
def case(
    request: pytest.FixtureRequest,
    clip: Callable[..., Path],
    tools: Any,
    tmp_path_factory: pytest.TempPathFactory,
) -> Case:
    from vmaftune.media.process import Runner
    from vmaftune.request.cells import plan_cells
    from vmaftune.request.flags import Texts, parse_flags, request_from
    from vmaftune.request.sources import resolve_sources

    pix_fmt, rate, encoder = CASES[request.param]
    source = clip(
        f"further {pix_fmt}.mkv",
        frames=FRAMES,
        size=f"{WIDTH}x{HEIGHT}",
        rate=rate,
        args=("-c:v", "ffv1", "-pix_fmt", pix_fmt),
    )
    texts = Texts(sources=(str(source),), encoders=encoder, presets="ultrafast", quality="34")
    asked = request_from(parse_flags(texts))
    (cell,) = plan_cells(asked, resolve_sources(asked)[0]).cells
    folder = tmp_path_factory.mktemp("further")
    ref, out = folder / "ref.yuv", folder / "out.mkv"
    real = Ffmpeg(identity=tools, runner=Runner())
    assert prepare(cell.window, real, ref, 60) == FRAMES
    encode(cell, real, ref, out, FRAMES, 60)
    plain = score(cell, real, ref, out, FRAMES, 60)
    cell = replace(cell, metrics=ALL)
    scored = score(cell, real, ref, out, FRAMES, 60)
    return Case(cell=cell, score=scored, plain=plain, ref=ref, out=out, pix_fmt=pix_fmt, rate=rate)


def alone(case: Case, run_ffmpeg: Callable[..., str], graph: str) -> str:
    """What ffmpeg says of one filter alone; `[d]` is the encode and `[r]` the reference."""
    stamps = f"format={case.pix_fmt}"
    return run_ffmpeg(
        "-i",
        case.out,
        "-f",
        "rawvideo",
        "-pixel_format",
        case.pix_fmt,
        "-video_size",
        f"{WIDTH}x{HEIGHT}",
        "-framerate",
        case.rate,
        "-i",
        case.ref,
        "-lavfi",
        f"[0:v]setpts=N/{case.rate}/TB,{stamps}[d];[1:v]setpts=N/{case.rate}/TB,{stamps}[r];{graph}",
        "-f",
        "null",
        "-",
        cwd=case.out.parent,
    )


def decoded(case: Case, run_ffmpeg: Callable[..., str]) -> list[list[tuple[Plane, Plane]]]:
    """Planes (original, encode) of every frame."""
    raw = case.out.with_suffix(".yuv")
    run_ffmpeg("-i", case.out, "-f", "rawvideo", "-pix_fmt", case.pix_fmt, raw)
    kind = np.dtype("<u2" if case.pix_fmt.endswith("10le") else "u1")
    half = (HEIGHT // 2, WIDTH // 2) if "420" in case.pix_fmt else (HEIGHT, WIDTH)
    shapes = [(HEIGHT, WIDTH), half, half]
    both = []
    for file in (case.ref, raw):
        samples = np.fromfile(file, kind).astype(np.float64).reshape(FRAMES, -1)
        ends = np.cumsum([h * w for h, w in shapes])[:-1]
        both.append([np.split(frame, ends) for frame in samples])
    return [
        [(both[0][i][c].reshape(shapes[c]), both[1][i][c].reshape(shapes[c])) for c in range(3)]
        for i in range(FRAMES)
    ]


def test_vmaf_is_not_moved_by_what_is_measured_beside_it(case: Case) -> None:
    assert case.score.frames == case.plain.frames
    assert case.score.distorted == case.plain.distorted
    assert case.plain.further == () and len(case.score.further) == FRAMES
    assert list(case.score.further[0]) == [c for m in METRICS.values() for c in m.columns]


def test_neg_is_plain_libvmafs(case: Case, run_ffmpeg: Callable[..., str]) -> None:
    model = "model=version=vmaf_v0.6.1neg:log_fmt=json:log_path=alone.json"
    alone(case, run_ffmpeg, f"[d][r]libvmaf={model}")
    log = json.loads((case.out.parent / "alone.json").read_text())
    theirs = [frame["metrics"]["vmaf"] for frame in log["frames"]]
    assert case.columns()["neg"] == pytest.approx(theirs, abs=1e-6)
    assert case.pooled().neg.mean == pytest.approx(log["pooled_metrics"]["vmaf"]["mean"], abs=1e-5)  # type: ignore[union-attr]
    assert case.columns()["neg"] != [frame.vmaf for frame in case.score.frames]


def test_psnr_is_that_of_ffmpegs_own_filter_and_of_the_samples(
    case: Case, run_ffmpeg: Callable[..., str]
) -> None:
    said = alone(case, run_ffmpeg, "[d][r]psnr=stats_file=psnr.txt")
    mean = float(re.search(r"PSNR .*average:(\S+)", said)[1])  # type: ignore[index]
    assert case.pooled().psnr.mean == pytest.approx(mean, abs=1e-5)  # type: ignore[union-attr]
    lines = (case.out.parent / "psnr.txt").read_text().splitlines()
    theirs = [float(re.search(r"psnr_avg:(\S+)", line)[1]) for line in lines]  # type: ignore[index]
    assert case.columns()["psnr"] == pytest.approx(theirs, abs=0.006)
    peak = 1023 if case.pix_fmt.endswith("10le") else 255
    errors = []
    for planes in decoded(case, run_ffmpeg):
        squares = [((a - b) ** 2).sum() for a, b in planes]
        errors.append(sum(squares) / sum(a.size for a, _ in planes))
    ours = [10 * math.log10(peak**2 / error) for error in errors]
    assert case.columns()["psnr"] == pytest.approx(ours, abs=1e-5)
    assert case.pooled().psnr.mean == pytest.approx(  # type: ignore[union-attr]
        10 * math.log10(peak**2 / (sum(errors) / FRAMES)), abs=1e-5
    )


def test_xpsnr_is_that_of_ffmpegs_own_filter(case: Case, run_ffmpeg: Callable[..., str]) -> None:
    said = alone(case, run_ffmpeg, "[r][d]xpsnr=stats_file=alone.txt")
    found = re.search(r"XPSNR +y: (\S+) +u: (\S+) +v: (\S+) ", said)
    planes = [float(found[i]) for i in (1, 2, 3)]  # type: ignore[index]
    # 4:1:1 of the squared errors, by hand
    y, u, v = (10 ** (-p / 10) for p in planes)
    assert case.pooled().xpsnr.mean == pytest.approx(  # type: ignore[union-attr]
        -10 * math.log10((4 * y + u + v) / 6), abs=2e-4
    )
    lines = parse_xpsnr((case.out.parent / "alone.txt").read_text(), FRAMES)
    ours = [tuple(row[f"xpsnr_{c}"] for c in "yuv") for row in case.score.further]
    assert ours == lines


def test_xpsnr_is_that_of_the_paper_with_the_original_as_the_original(
    case: Case, run_ffmpeg: Callable[..., str]
) -> None:
    depth = 10 if case.pix_fmt.endswith("10le") else 8
    frames = decoded(case, run_ffmpeg)
    theirs = paper_xpsnr(frames, depth, int(case.rate))
    for row, ours in zip(case.score.further, theirs, strict=True):
        for c, value in zip("yuv", ours, strict=True):
            assert row[f"xpsnr_{c}"] == pytest.approx(value, abs=2e-3)
    swapped = paper_xpsnr([[(b, a) for a, b in f] for f in frames], depth, int(case.rate))
    assert abs(swapped[-1][0] - theirs[-1][0]) > 0.05, "the two would not be told apart"


def paper_xpsnr(
    frames: list[list[tuple[Plane, Plane]]], depth: int, rate: int
) -> list[tuple[float, ...]]:
    """XPSNR of Y, U and V per frame after Helmrich and others (ICASSP 2020), for pictures that are
    not larger than HD, with the weights of small pictures smoothed (ITU Journal 3(1), 2020).
    """
    height, width = frames[0][0][0].shape
    share = width * height / (3840 * 2160)
    block = 4 * int(32 * math.sqrt(share) + 0.5)
    mean_activity = math.sqrt(16 * 2 ** (2 * depth - 9) / math.sqrt(share))
    before = [np.zeros((height, width)), np.zeros((height, width))]
    found = []
    for planes in frames:
        original = planes[0][0]
        if rate <= 32:
            change = np.abs(original - before[-1])
        else:
            change = np.abs(original - 2 * before[-1] + before[-2])
        before = [before[-1], original]
        weights = smoothed(block_weights(original, change, block, depth))
        values = []
        for a, b in planes:
            tall, wide = block * a.shape[0] // height, block * a.shape[1] // width
            errors = tiled((a - b) ** 2, tall, wide)
            error = (errors * weights).sum() * mean_activity
            values.append(10 * math.log10(a.size * (2**depth - 1) ** 2 / round(error)))
        found.append(tuple(values))
    return found


def block_weights(original: Plane, change: Plane, block: int, depth: int) -> Plane:
    """1 / activity of every block: high-passed picture plus twice its change."""
    height, width = original.shape
    padded = np.pad(original, 1)
    high = 12 * original
    for down in (-1, 0, 1):
        for right in (-1, 0, 1):
            if down or right:
                part = padded[1 + down : 1 + down + height, 1 + right : 1 + right + width]
                high = high - (1 if down and right else 2) * part
    inside = np.zeros((height, width))
    inside[1:-1, 1:-1] = 1
    spatial = tiled(np.abs(high) * inside, block, block) / tiled(inside, block, block)
    temporal = tiled(2 * change, block, block) / tiled(np.ones_like(change), block, block)
    weights: Plane = 1 / np.maximum(spatial + temporal, 2 ** (depth - 6))
    return weights


def tiled(values: Plane, tall: int, wide: int) -> Plane:
    """Sums over blocks; those at the right and the bottom may be smaller."""
    rows = np.add.reduceat(values, np.arange(0, values.shape[0], tall), axis=0)
    found: Plane = np.add.reduceat(rows, np.arange(0, values.shape[1], wide), axis=1)
    return found


def smoothed(weights: Plane) -> Plane:
    """Every block's weight held to the larger one of its neighbours to the left, right and top."""
    flat, across = weights.ravel().copy(), weights.shape[1]
    for i in range(len(flat)):
        column = i % across
        if column == 0:
            least = flat[i - 2] if i > 1 else 0.0
        else:
            least = max(flat[i - 2], flat[i]) if column > 1 else flat[i]
        if i > across:
            least = max(least, flat[i - 1 - across])
        if i > 0:
            flat[i - 1] = min(flat[i - 1], least)
        if i == len(flat) - 1 and i > across:
            flat[i] = min(flat[i], max(flat[i - 1], flat[i - across]))
    return flat.reshape(weights.shape)


def gaussian(picture: Plane) -> Plane:
    """A picture under the window of the SSIM paper: 11 x 11, deviation 1.5, whole windows only."""
    taps = np.exp(-0.5 * ((np.arange(11) - 5) / 1.5) ** 2)
    taps /= taps.sum()
    rows = np.apply_along_axis(np.convolve, 0, picture, taps, "valid")
    found: Plane = np.apply_along_axis(np.convolve, 1, rows, taps, "valid")
    return found


def test_ssim_is_that_of_its_paper_and_near_ffmpegs_own_filter(
    case: Case, run_ffmpeg: Callable[..., str]
) -> None:
    scale = 4.0 if case.pix_fmt.endswith("10le") else 1.0
    ours = []
    for planes in decoded(case, run_ffmpeg):
        a, b = (plane / scale for plane in planes[0])
        mean_a, mean_b = gaussian(a), gaussian(b)
        spread_a, spread_b = gaussian(a * a) - mean_a**2, gaussian(b * b) - mean_b**2
        shared = gaussian(a * b) - mean_a * mean_b
        c1, c2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2
        light = (2 * mean_a * mean_b + c1) / (mean_a**2 + mean_b**2 + c1)
        ours.append(float((light * (2 * shared + c2) / (spread_a + spread_b + c2)).mean()))
    assert case.columns()["ssim"] == pytest.approx(ours, abs=1e-3)
    assert case.pooled().ssim.mean == pytest.approx(sum(ours) / FRAMES, abs=1e-3)  # type: ignore[union-attr]
    said = alone(case, run_ffmpeg, "[d][r]ssim")
    luma = float(re.search(r"SSIM Y:(\S+)", said)[1])  # type: ignore[index]
    assert case.pooled().ssim.mean == pytest.approx(luma, abs=0.06)  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("name", "extractor", "logged"),
    [
        ("ms_ssim", "float_ms_ssim", "float_ms_ssim"),
        ("cambi", "cambi", "cambi"),
        ("ciede2000", "ciede", "ciede2000"),
    ],
)
def test_libvmafs_own_are_those_of_its_extractor_alone(
    name: str, extractor: str, logged: str, case: Case, run_ffmpeg: Callable[..., str]
) -> None:
    alone(
        case,
        run_ffmpeg,
        f"[d][r]libvmaf=feature=name={extractor}:log_fmt=json:log_path={name}.json",
    )
    log = json.loads((case.out.parent / f"{name}.json").read_text())
    theirs = [frame["metrics"][logged] for frame in log["frames"]]
    assert case.columns()[name] == pytest.approx(theirs, abs=1e-6)
    pooled = getattr(case.pooled(), name)
    if name != "ciede2000":
        assert pooled.mean == pytest.approx(np.mean(theirs), abs=1e-6)
    else:  # of the mean colour difference
        apart = np.mean([10 ** ((45 - value) / 20) for value in theirs])
        assert pooled.mean == pytest.approx(45 - 20 * math.log10(apart), abs=1e-6)
    assert (pooled.min, pooled.max) == pytest.approx((min(theirs), max(theirs)), abs=1e-6)
    assert pooled.p5 == pytest.approx(np.percentile(theirs, 5), abs=1e-6)
    assert pooled.p95 == pytest.approx(np.percentile(theirs, 95), abs=1e-6)


def test_equal_pictures_have_no_error_and_no_number() -> None:
    frame = dict.fromkeys(("mse_y", "mse_cb", "mse_cr"), 0.0)
    frame |= dict.fromkeys(("psnr_y", "psnr_cb", "psnr_cr"), 60.0)
    log = [{**frame, "ciede2000": None}, {**frame, "ciede2000": 45.0, "mse_y": 6.0}]
    text = (
        "n:    1  XPSNR y: inf  XPSNR u: inf  XPSNR v: inf\n"
        "n:    2  XPSNR y: 40.0000  XPSNR u: inf  XPSNR v: inf\n\n"
        "XPSNR average, 2 frames  y: 43.0103  u: inf  v: inf  (minimum: 43.0103)\n"
    )
    names = ("xpsnr", "psnr", "ciede2000")
    rows = parse_further(log, text, names, "yuv420p")
    assert [row["psnr"] for row in rows] == [None, pytest.approx(10 * math.log10(255**2 / 4))]
    assert [row["xpsnr"] for row in rows] == [None, pytest.approx(40 - 10 * math.log10(4 / 6))]
    columns = {name: [row[name] for row in rows] for name in rows[0]}
    found = pool_metrics(names, columns)
    assert found is not None and found.psnr is not None and found.xpsnr is not None
    assert found.psnr.mean == pytest.approx(10 * math.log10(255**2 / 2))
    assert found.psnr.max is None and found.psnr.min == pytest.approx(rows[1]["psnr"])
    # the mean root of the two errors, squared: a quarter of the one
    assert found.xpsnr.mean == pytest.approx(40 - 10 * math.log10(4 / 6 / 4))
    assert found.ciede2000 is not None
    assert found.ciede2000.mean == pytest.approx(45 + 20 * math.log10(2))
    equal = pool_metrics(names, {name: values[:1] for name, values in columns.items()})
    assert equal is not None and equal.psnr is not None and equal.psnr.mean is None


def test_what_a_log_lacks_is_never_filled_in() -> None:
    with pytest.raises(CellFailure, match="lacks cambi at frame 0"):
        parse_further([{}], None, ("cambi",), "yuv420p")
    with pytest.raises(CellFailure, match="measured 0 frames, and 1 were scored"):
        parse_further([{}], "", ("xpsnr",), "yuv420p")
    with pytest.raises(CellFailure, match="gave no number"):
        parse_xpsnr("n:    1  XPSNR y: nan  XPSNR u: inf  XPSNR v: inf\n", 1)
