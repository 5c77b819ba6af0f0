"""Sweeps with hardware encoders on a machine that may have none: the hardware study's grid, the
refusal, and going on without.
"""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from typed import Done, typed
from vmaftune.hardware.gpus import look
from vmaftune.media.ffmpeg import find_ffmpeg
from vmaftune.media.process import Runner

SWEEP = Path(__file__).parents[2] / "tools" / "vmaf-tune" / "sweeps" / "phase_a_hw.toml"
SEEDS = {
    "BigBuckBunny_25fps": 150,
    "BirdsInCage_30fps": 180,
    "CrowdRun_25fps": 150,
    "ElFuente1_30fps": 180,
    "ElFuente2_30fps": 180,
    "FoxBird_25fps": 150,
    "OldTownCross_25fps": 150,
    "Seeking_25fps": 150,
    "Tennis_24fps": 120,
}
SIX = ("h264_nvenc", "hevc_nvenc", "av1_nvenc", "h264_qsv", "hevc_qsv", "av1_qsv")
WHY = {
    "nvenc": "no NVIDIA driver (Cannot load libcuda.so.1)",
    "qsv": "no Intel GPU (Error creating a MFX session: -9)",
}
pytestmark = pytest.mark.real  # it tries encoders
HERE = look()
no_hardware = pytest.mark.skipif(
    bool(HERE.nvidia.driver or HERE.nodes),
    reason="this machine has a GPU; the test is about one that has none",
)


def vmaf_tune(cwd: Path, *arguments: str) -> Done:
    return typed(*arguments, cwd=cwd)


def make_clip(path: Path, num_frames: int, rate: str = "25", hue: int = 0) -> None:
    argv = [
        find_ffmpeg(),
        "-nostdin",
        "-v",
        "error",
        "-f",
        "lavfi",
        "-i",
        f"testsrc2=size=64x64:rate={rate},hue=h={hue}",
        "-frames:v",
        str(num_frames),
        "-c:v",
        "libx264",
        "-preset",
        "ultrafast",
        "-pix_fmt",
        "yuv420p",
        str(path),
    ]
    done = Runner().run(argv, timeout_s=120)
    assert done.returncode == 0, done.tail


def test_the_seeds_grid_is_216_cells_and_33840_frames(tmp_path: Path) -> None:
    (tmp_path / "sources").mkdir()
    for i, (name, num_frames) in enumerate(SEEDS.items()):
        rate = name.split("_")[1].removesuffix("fps")
        make_clip(tmp_path / "sources" / f"{name}.mp4", num_frames, rate, hue=40 * i)
    done = vmaf_tune(tmp_path, "corpus", "--sweep", str(SWEEP), "--dry-run", "--json")
    assert done.returncode == 0, done.stderr
    plan = json.loads(done.stdout)
    assert (plan["num_cells"], plan["num_frames"], plan["num_left"]) == (216, 33840, 216)
    wanted = {
        f"{source}/{encoder}/{'p4' if 'nvenc' in encoder else 'medium'}/{q}"
        for source in SEEDS
        for encoder in SIX
        for q in (19, 25, 31, 37)
    }
    assert set(plan["cells"]) == wanted
    assert not (tmp_path / "runs").exists()


@no_hardware
@pytest.mark.parametrize("with_sources", [True, False])
def test_the_first_command_explains_itself_and_leaves_nothing(
    tmp_path: Path, with_sources: bool
) -> None:
    if with_sources:
        (tmp_path / "sources").mkdir()
        make_clip(tmp_path / "sources" / "a.mp4", 10)
    before = sorted(p for p in tmp_path.rglob("*") if ".cache" not in p.parts)
    done = vmaf_tune(tmp_path, "corpus", "--encoders", "nvenc,qsv")
    assert done.returncode == 3
    lines = done.stderr.splitlines()
    for name in SIX:
        assert any(
            line.split(maxsplit=1) == [name, WHY[name.partition("_")[2]]] for line in lines
        ), done.stderr
    assert lines[-1].startswith(
        "can run: libx264, libx265, libsvtav1, libvvenc, libvpx-vp9, libaom-av1;"
    )
    assert len(lines) <= 12 and done.stdout == ""
    assert sorted(p for p in tmp_path.rglob("*") if ".cache" not in p.parts) == before


@no_hardware
def test_skip_unusable_runs_the_rest_and_says_so_in_the_folder(tmp_path: Path) -> None:
    make_clip(tmp_path / "a.mp4", 10)
    arguments = (
        "corpus",
        "a.mp4",
        "--encoders",
        "nvenc,x264",
        "--quality",
        "x264=30",
        "--out",
        "run",
    )
    assert vmaf_tune(tmp_path, *arguments).returncode == 3
    assert not (tmp_path / "run").exists()
    done = vmaf_tune(tmp_path, *arguments, "--skip-unusable")
    assert done.returncode == 0, done.stderr
    assert "note: h264_nvenc is left out: no NVIDIA driver" in done.stderr
    document = json.loads((tmp_path / "run" / "sweep.json").read_text())
    assert document["skipped_encoders"] == ["h264_nvenc", "hevc_nvenc", "av1_nvenc"]
    assert [block["encoder"] for block in document["grid"]] == ["libx264"]
    more = vmaf_tune(tmp_path, *arguments[:3], "qsv,x264", *arguments[4:], "--skip-unusable")
    assert more.returncode == 0, more.stderr
    again = json.loads((tmp_path / "run" / "sweep.json").read_text())
    assert again == {**document, "skipped_encoders": ["h264_qsv", "hevc_qsv", "av1_qsv"]}
    rows = [
        json.loads(line) for line in (tmp_path / "run" / "cells.jsonl").read_text().splitlines()
    ]
    assert [(r["cell"], r["status"], r["device"]) for r in rows] == [
        ("a/libx264/medium/30", "ok", None)
    ]


@no_hardware
def test_asking_for_a_gpu_without_a_driver_says_that_there_is_no_driver(tmp_path: Path) -> None:
    for gpu, encoder in (("0", "h264_nvenc"), ("/dev/dri/renderD199", "h264_qsv")):
        done = vmaf_tune(tmp_path, "corpus", "--encoders", encoder, "--gpu", gpu)
        assert done.returncode == 3
        assert re.search(rf"{encoder} +(no NVIDIA driver|no Intel GPU)", done.stderr), done.stderr


def test_a_gpu_that_no_encoder_of_the_sweep_can_use_is_refused(tmp_path: Path) -> None:
    done = vmaf_tune(tmp_path, "corpus", "--encoders", "x264", "--gpu", "d3d11:0")
    assert done.returncode == 2
    assert "--gpu d3d11:0 is for qsv, and no such encoder was asked for" in done.stderr


@no_hardware
def test_a_refusal_names_as_runnable_what_skip_unusable_would_run(tmp_path: Path) -> None:
    done = vmaf_tune(tmp_path, "corpus", "--encoders", "nvenc,x264")
    assert (
        done.stderr.splitlines()[-1]
        == "can run: libx264; go on without the others with --skip-unusable"
    )
