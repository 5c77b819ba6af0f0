"""Scores against an independent path: both sides decoded to y4m, scored by plain libvmaf, no code
of ours between.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from vmaf_train.contract import FEATURES
from vmaftune.media.encode import encode
from vmaftune.media.failure import CellFailure
from vmaftune.media.ffmpeg import Ffmpeg
from vmaftune.media.prepare import prepare
from vmaftune.media.score import packet_bytes, score

LOSSLESS_X264 = ("-c:v", "libx264", "-qp", "0", "-pix_fmt", "yuv420p")
FULL_RANGE = ("-c:v", "ffv1", "-pix_fmt", "yuv422p", "-color_range", "pc")
TAGS = ("-colorspace", "bt709", "-color_primaries", "bt709", "-color_trc", "bt709")


@pytest.fixture
def independent(run_ffmpeg: Callable[..., str], tmp_path: Path) -> Callable[..., Any]:
    """libvmaf's log of a distorted file against a source clip, both decoded to y4m first."""

    def score(
        source: Path, distorted: Path, *, pix_fmt: Sequence[str] = (), vf: str = "null"
    ) -> Any:
        y4m = ("-fps_mode", "passthrough", "-strict", "-1", "-f", "yuv4mpegpipe")
        run_ffmpeg("-i", source, "-vf", vf, *pix_fmt, *y4m, tmp_path / "ref.y4m")
        run_ffmpeg("-i", distorted, *pix_fmt, *y4m, tmp_path / "dis.y4m")
        run_ffmpeg(
            "-i",
            "dis.y4m",
            "-i",
            "ref.y4m",
            "-lavfi",
            "[0:v][1:v]libvmaf=model=version=vmaf_v0.6.1:feature=name=adm|name=vif|name=motion"
            ":log_fmt=json:log_path=independent.json",
            "-f",
            "null",
            "-",
            cwd=tmp_path,
        )
        return json.loads((tmp_path / "independent.json").read_text())

    return score


def agree(run: Any, log: Any) -> None:
    """Every frame and every pooled value of a run's only cell is the log's."""
    theirs = [f["metrics"] for f in log["frames"]]
    ours = run.frames_of(run.row["cell"])
    assert [f["frame_index"] for f in ours] == list(range(len(theirs)))
    for mine, other in zip(ours, theirs, strict=True):
        assert mine["vmaf"] == pytest.approx(other["vmaf"], abs=1e-6)
        for name in FEATURES:
            assert mine[name] == pytest.approx(other[f"integer_{name}"], abs=1e-6)
    pooled = log["pooled_metrics"]
    assert run.row["vmaf_score"] == pytest.approx(pooled["vmaf"]["mean"], abs=1e-5)
    assert run.row["vmaf_min"] == pytest.approx(pooled["vmaf"]["min"], abs=1e-6)
    assert run.row["vmaf_harmonic_mean"] == pytest.approx(pooled["vmaf"]["harmonic_mean"], abs=1e-5)
    for name in FEATURES:
        assert run.row["per_frame_features"][name] == pytest.approx(
            pooled[f"integer_{name}"]["mean"], abs=1e-5
        )
    scores = [f["vmaf"] for f in ours]
    assert run.row["vmaf_p5"] == pytest.approx(np.percentile(scores, 5), abs=1e-9)
    assert run.row["vmaf_score"] == pytest.approx(np.mean(scores), abs=1e-9)
    assert 5 < run.row["vmaf_score"] < 99, "a score at an end of the scale would prove nothing"


CASES = {
    "x264": ("x264", {}, (), "yuv420p"),
    "x264, tagged": (
        "x264",
        {"args": ("-c:v", "ffv1", "-pix_fmt", "yuv420p", *TAGS, "-color_range", "tv")},
        (),
        "yuv420p",
    ),
    "x264 4:2:2 full range": ("x264", {"args": FULL_RANGE}, (), "yuv422p"),
    "x265 4:2:2 full range": ("x265", {"args": FULL_RANGE}, (), "yuv422p"),
    "x264 4:2:0 full range": (
        "x264",
        {"args": ("-c:v", "mjpeg", "-q:v", "2", "-pix_fmt", "yuvj420p")},
        (),
        "yuv420p",
    ),
    "x264 4:4:4": ("x264", {"args": ("-c:v", "ffv1", "-pix_fmt", "yuv444p")}, (), "yuv444p"),
    "x265 10 bit": (
        "x265",
        {"args": ("-c:v", "ffv1", "-pix_fmt", "yuv420p10le")},
        (),
        "yuv420p10le",
    ),
    "vp9 4:4:4 10 bit": (
        "vp9=realtime",
        {"args": ("-c:v", "ffv1", "-pix_fmt", "yuv444p10le")},
        (),
        "yuv444p10le",
    ),
    "VVenC, an 8-bit source at 10": (
        "vvenc=faster",
        {},
        ("-pix_fmt", "yuv420p10le"),
        "yuv420p10le",
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_scores_are_those_of_plain_libvmaf_over_y4m(
    case: str, clip: Callable[..., Path], swept: Callable[..., Any], independent: Callable[..., Any]
) -> None:
    word, recipe, pix_fmt, encoded = CASES[case]
    encoder, _, preset = word.partition("=")
    source = clip(f"{case}.mkv".replace(":", ""), **recipe)
    run = swept(
        source, encoders=encoder, presets=preset or "ultrafast", quality="36", keep_encodes=True
    )
    assert run.row["status"] == "ok", run.row["error"]
    assert run.row["pix_fmt"] == encoded
    (made,) = (run.folder / "encodes").iterdir()
    agree(run, independent(source, made, pix_fmt=pix_fmt))


def test_a_422_source_goes_to_420_encoders_and_is_scored_at_422(
    clip: Callable[..., Path], swept: Callable[..., Any], independent: Callable[..., Any]
) -> None:
    source = clip("wide chroma.mkv", args=("-c:v", "ffv1", "-pix_fmt", "yuv422p"))
    run = swept(source, encoders="svtav1", presets="10", quality="50", keep_encodes=True)
    assert run.row["pix_fmt"] == "yuv420p"
    (made,) = (run.folder / "encodes").iterdir()
    agree(run, independent(source, made, pix_fmt=("-pix_fmt", "yuv422p")))


@pytest.mark.parametrize("rate", ["24000/1001", "30000/1001", "60000/1001"])
def test_the_container_does_not_change_a_number(
    rate: str,
    clip: Callable[..., Path],
    run_ffmpeg: Callable[..., str],
    swept: Callable[..., Any],
    tmp_path: Path,
) -> None:
    first = clip(f"box {rate.replace('/', '-')}.mp4", rate=rate, frames=24, args=LOSSLESS_X264)
    run_ffmpeg("-i", first, "-c", "copy", tmp_path / "box.mkv")
    run_ffmpeg("-i", first, tmp_path / "box2.y4m")
    run = swept(first, tmp_path / "box.mkv", tmp_path / "box2.y4m", quality="34")
    assert [r["status"] for r in run.rows.values()] == ["ok"] * 3
    assert {r["fps"] for r in run.rows.values()} == {rate}
    own = (
        "cell",
        "key",
        "src",
        "group",
        "src_sha256",
        "encode_wall_s",
        "encode_cpu_s",
        "score_cpu_s",
        "finished_at",
    )
    mp4, mkv, y4m = ({k: v for k, v in r.items() if k not in own} for r in run.rows.values())
    assert mp4 == mkv == y4m
    tables = [
        [{k: v for k, v in f.items() if k not in own} for f in run.frames_of(cell)]
        for cell in run.rows
    ]
    assert tables[0] == tables[1] == tables[2]


def test_unclipped_scores_go_on_where_clipped_ones_stop(
    clip: Callable[..., Path], swept: Callable[..., Any]
) -> None:
    run = swept(clip("near.mkv", frames=20, size="320x180"), quality="4,50")
    pairs = [(f["vmaf"], f["vmaf_unclipped"]) for f in run.frames]
    assert all(
        clipped == pytest.approx(min(max(free, 0), 100), abs=1e-6) for clipped, free in pairs
    )
    assert any(clipped == 100 and free > 100 for clipped, free in pairs)
    assert any(clipped == free for clipped, free in pairs)


def test_a_window_is_the_same_frames_cut_by_hand(
    clip: Callable[..., Path],
    run_ffmpeg: Callable[..., str],
    swept: Callable[..., Any],
    tmp_path: Path,
) -> None:
    whole = clip(
        "window.mp4",
        frames=40,
        rate="30000/1001",
        args=("-c:v", "libx264", "-crf", "12", "-pix_fmt", "yuv420p"),
    )
    run_ffmpeg(
        "-i",
        whole,
        "-vf",
        "select=between(n\\,12\\,23)",
        "-fps_mode",
        "passthrough",
        tmp_path / "by hand.y4m",
    )
    window = swept(whole, out=tmp_path / "a", start=str(12 * 1001 / 30000), frames=12)
    cut = swept(tmp_path / "by hand.y4m", out=tmp_path / "b")
    assert len(window.frames) == len(cut.frames) == 12
    for name in ("vmaf", "vmaf_unclipped", *FEATURES):
        assert [f[name] for f in window.frames] == [f[name] for f in cut.frames]
    assert window.row["size_bytes"] == cut.row["size_bytes"]
    assert window.row["bitrate_kbps"] == cut.row["bitrate_kbps"]


def test_crop_and_scale_make_the_reference(
    clip: Callable[..., Path], swept: Callable[..., Any], independent: Callable[..., Any]
) -> None:
    source = clip("crop.mkv", size="160x120")
    run = swept(source, crop="128x96+9+7", scale="96x72", keep_encodes=True)
    assert (run.row["width"], run.row["height"]) == (96, 72)
    (made,) = (run.folder / "encodes").iterdir()
    agree(run, independent(source, made, vf="crop=128:96:9:7:exact=1,scale=96:72:flags=bicubic"))


def test_size_and_bitrate_are_those_of_the_packets(
    clip: Callable[..., Path], swept: Callable[..., Any]
) -> None:
    import av

    run = swept(clip("packets.mkv", frames=12, rate="12"), keep_encodes=True)
    (made,) = (run.folder / "encodes").iterdir()
    with av.open(str(made)) as box:
        size = sum(p.size for p in box.demux(video=0))
    assert run.row["size_bytes"] == size < made.stat().st_size
    assert run.row["bitrate_kbps"] == pytest.approx(size * 8 / 1000 / 1.0)
    assert run.row["num_frames"] == 12


@pytest.mark.parametrize("pix_fmt", ["yuv420p", "yuv422p", "yuv420p10le"])
def test_an_encode_of_another_size_is_scored_at_the_windows(
    pix_fmt: str,
    clip: Callable[..., Path],
    planned: Callable[..., Any],
    real: Ffmpeg,
    run_ffmpeg: Callable[..., str],
    independent: Callable[..., Any],
    tmp_path: Path,
) -> None:
    args = ("-c:v", "ffv1", "-pix_fmt", pix_fmt)
    source = clip(f"scaled {pix_fmt}.mkv", frames=8, size="192x108", args=args)
    (plain,) = planned(source, quality="26").cells
    cell = replace(plain, setting=replace(plain.setting, size=(96, 54)))
    ref, out = tmp_path / "ref.yuv", tmp_path / "out.mkv"
    num_frames = prepare(cell.window, real, ref, 60)
    encode(cell, real, ref, out, num_frames, 60)
    score_ours = score(cell, real, ref, out, num_frames, 60)
    assert (score_ours.distorted.width, score_ours.distorted.height) == (96, 54)
    up = tmp_path / "up.mkv"
    run_ffmpeg("-i", out, "-vf", "scale=192:108:flags=bicubic", "-c:v", "ffv1", up)
    theirs = [f["metrics"] for f in independent(source, up)["frames"]]
    assert len(theirs) == len(score_ours.frames) == 8
    for mine, other in zip(score_ours.frames, theirs, strict=True):
        assert mine.vmaf == pytest.approx(other["vmaf"], abs=1e-6)
    with pytest.raises(CellFailure, match="the encode is 96x54, not 192x108") as caught:
        score(plain, real, ref, out, num_frames, 60)
    assert caught.value.kind == "wrong_size"


def test_padding_is_encoded_and_not_scored(
    clip: Callable[..., Path],
    planned: Callable[..., Any],
    real: Ffmpeg,
    tmp_path: Path,
) -> None:
    (wide,) = planned(clip("padded.mkv", frames=30, size="192x108"), start=0.2, frames=20).cells
    window = replace(wide.window, start_frame=9, num_frames=10, pad_before=4, pad_after=6)
    padded = replace(wide, window=replace(window, expected_frames=10, seek=None))
    assert wide.window.start_frame == 5 == padded.window.first_frame
    ref, out = tmp_path / "ref.yuv", tmp_path / "out.mkv"
    scores = []
    for cell in (wide, padded):
        assert prepare(cell.window, real, ref, 60) == 20
        encode(cell, real, ref, out, 20, 60)
        scores.append(score(cell, real, ref, out, 20, 60))
    whole, inside = scores
    assert [f.index for f in inside.frames] == list(range(10))
    assert [f.vmaf for f in inside.frames] == [f.vmaf for f in whole.frames[4:14]]
    sizes = packet_bytes(out)
    assert sum(sizes) == whole.distorted.num_bytes and len(sizes) == 20
    assert inside.distorted.num_bytes == sum(sizes[4:14]) and inside.distorted.num_frames == 10
