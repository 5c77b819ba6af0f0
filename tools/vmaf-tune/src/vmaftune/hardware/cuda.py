"""Which GPU scores: tried, not believed."""

from __future__ import annotations

import tempfile
from pathlib import Path

from vmaftune.errors import ToolError, UsageError
from vmaftune.hardware.gpus import Gpus, visible
from vmaftune.media.encode import COMMON
from vmaftune.media.ffmpeg import Ffmpeg
from vmaftune.media.libvmaf_log import LOG
from vmaftune.media.score_cuda import FORMAT, TEACHERS, GpuScorer, gpu_filter


def works(ffmpeg: Ffmpeg, gpu: str) -> bool:
    """True when this ffmpeg scores three made-up frames on CUDA device `gpu`."""
    upload = f"format={FORMAT},hwupload_cuda"
    graph = f"split[a][b];[a]{upload}[c];[b]{upload}[d];[c][d]{gpu_filter(TEACHERS[0])}"
    argv = [
        *COMMON,
        "-v",
        "error",
        "-init_hw_device",
        f"cuda=gpu:{gpu}",
        "-filter_hw_device",
        "gpu",
        "-f",
        "lavfi",
        "-i",
        "testsrc2=size=640x360:rate=25",
        "-frames:v",
        "3",
        "-lavfi",
        graph,
        "-f",
        "null",
        "-",
    ]
    with tempfile.TemporaryDirectory(prefix="vmaf-tune-") as folder:
        done = ffmpeg.run(argv, timeout_s=120, cwd=Path(folder))
        return done.returncode == 0 and not done.timed_out and Path(folder, LOG).exists()


def choose_scorer(wanted: str, ffmpeg: Ffmpeg, here: Gpus) -> GpuScorer | None:
    """The scorer for `--scorer auto|cpu|cuda` on the first GPU of `here` that works; None is the
    CPU.

    Raises UsageError for another word, ToolError when `cuda` was asked for and does not work here.
    """
    if wanted not in ("auto", "cpu", "cuda"):
        raise UsageError(f"--scorer is auto, cpu or cuda, not {wanted!r}")
    if wanted == "cpu":
        return None
    for gpu in visible(here.nvidia.gpus, here.cuda_visible):
        if works(ffmpeg, str(gpu)):
            return GpuScorer(str(gpu))
    if wanted == "cuda":
        raise ToolError(
            "--scorer cuda needs an NVIDIA GPU and an ffmpeg built with libvmaf_cuda; score on the"
            " CPU with --scorer cpu, or name such an ffmpeg with --ffmpeg"
        )
    return None
