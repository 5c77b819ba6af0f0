"""Score on an NVIDIA GPU where the ffmpeg has libvmaf_cuda: decoded, scaled and measured there,
checked against the CPU.

Pays only with frames that the GPU decodes. Its motion feature has been wrong on some hosts
(Netflix/vmaf issue 1583), so the first frames of every source are scored on the CPU as well; a
source that differs, and a cell that fails, go to the CPU. No machine with such an ffmpeg and GPU
was at hand: the argument list is tested, the GPU's numbers are not.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from vmaf_train.corpus.rows import FailureKind

from vmaftune.cell import Cell
from vmaftune.media.encode import (
    COMMON,
    FILTER_THREADS,
    ONLY_FILES,
    TO_NOWHERE,
    check,
    fill,
    reference_input,
)
from vmaftune.media.failure import CellFailure
from vmaftune.media.ffmpeg import Ffmpeg
from vmaftune.media.libvmaf_log import LOG, Frame, log_text, parse_log
from vmaftune.media.score import Score, parse_inputs, score, score_argv

# Integer models: libvmaf's CUDA extractors are adm_cuda, vif_cuda, motion_cuda with the default
# options.
TEACHERS = ("vmaf_v0.6.1", "vmaf_4k_v0.6.1")
CODECS = ("h264", "hevc", "av1", "vp9")  # what NVDEC decodes
FORMAT = "yuv420p"
CHECKED_FRAMES = 9
LANE, SLOTS = "score:cuda", 2
TOLERANCE_VMAF, TOLERANCE_FEATURE = 0.05, 0.002
_STREAM_FORMAT = re.compile(r"Stream #0:0[^:\n]*: Video: [^\n]*?, (yuvj?4\d\dp\w*)")


def eligible(cell: Cell) -> bool:
    """True when the GPU can decode and score this cell as the CPU would: 8-bit 4:2:0 on both sides,
    an integer model.
    """
    same = cell.decoded_format == cell.window.pix_fmt == FORMAT and cell.setting.size is None
    same = same and not (cell.window.pad_before or cell.window.pad_after)
    same = same and not cell.metrics
    return (
        same and cell.teacher in TEACHERS and cell.encoder.codec in CODECS and cell.num_frames > 1
    )


def gpu_filter(teacher: str) -> str:
    """The libvmaf_cuda filter: like the CPU's, with the extractors of the GPU asked for by name."""
    models = (
        rf"version={teacher}\:name=vmaf|version={teacher}\:name=vmaf_unclipped\:disable_clip=true"
    )
    return (
        f"libvmaf_cuda=model='{models}':feature='name=adm_cuda|name=vif_cuda|name=motion_cuda':log_fmt=json:log_path={LOG}"
        ":shortest=1:repeatlast=0"
    )


def gpu_score_argv(cell: Cell, gpu: str) -> list[str]:
    """The command that scores `{out}` against `{ref}` on CUDA device `gpu` and writes vmaf.json
    into its working folder.

    The distorted frames never leave the GPU: NVDEC gives NV12, scale_cuda makes it planar without
    resizing.
    """
    stamp = f"settb=AVTB,setpts=N*40000,{cell.window.color.filter()}"
    graph = (
        f"[0:v:0]{stamp},scale_cuda=format={FORMAT}[distorted];"
        f"[1:v:0]{stamp},format={FORMAT},hwupload_cuda[reference];[distorted][reference]{gpu_filter(cell.teacher)}"
    )
    return [
        *COMMON,
        "-v",
        "verbose",
        "-y",
        *FILTER_THREADS,
        "-init_hw_device",
        f"cuda=gpu:{gpu}",
        "-filter_hw_device",
        "gpu",
        "-hwaccel",
        "cuda",
        "-hwaccel_device",
        "gpu",
        "-hwaccel_output_format",
        "cuda",
        *ONLY_FILES,
        "-i",
        "file:{out}",
        *reference_input(cell.window),
        "-lavfi",
        graph,
        *TO_NOWHERE,
    ]


def first_frames_argv(cell: Cell, num_frames: int = CHECKED_FRAMES) -> list[str]:
    """The CPU's scoring command, cut to the first frames of both inputs."""
    return score_argv(cell, num_frames)


def difference(gpu: Sequence[Frame], cpu: Sequence[Frame]) -> tuple[float, float]:
    """Largest differences over frames that both have: in VMAF points (unclipped), and of any
    feature.

    The last frame of `cpu` is left out: its motion2 looks at a frame that was cut off.
    """
    pairs = list(zip(gpu, cpu[:-1], strict=False))
    vmaf = max(abs(a.vmaf_unclipped - b.vmaf_unclipped) for a, b in pairs)
    feature = max(abs(x - y) for a, b in pairs for x, y in zip(a.features, b.features, strict=True))
    return vmaf, feature


class GpuScorer:
    """Scores on one GPU what it can, and on the CPU the rest; knows which sources the
    two agree on.
    """

    def __init__(self, gpu: str) -> None:
        self.gpu = gpu
        self._lock = threading.Lock()
        self._agrees: dict[str, bool] = {}

    def score(
        self,
        cell: Cell,
        ffmpeg: Ffmpeg,
        ref: Path,
        out: Path,
        num_frames: int,
        timeout_s: float,
    ) -> Score:
        """Like `score.score`. Raises CellFailure only for what fails on the CPU too."""
        name, found = cell.window.name, None
        if eligible(cell) and self._agrees.get(name, True):
            try:
                found = self._on_gpu(cell, ffmpeg, ref, out, num_frames, timeout_s)
                if name not in self._agrees:
                    found = self._compared(cell, found, ffmpeg, ref, out, timeout_s)
            except CellFailure:
                found = None  # the CPU says whether it is the GPU or the encode
        if found and self._agrees[name]:
            return found
        on_cpu = score(cell, ffmpeg, ref, out, num_frames, timeout_s)
        return replace(on_cpu, difference=found.difference) if found else on_cpu

    def _compared(
        self,
        cell: Cell,
        found: Score,
        ffmpeg: Ffmpeg,
        ref: Path,
        out: Path,
        timeout_s: float,
    ) -> Score:
        """`found` with its difference from the CPU on the first frames, which decides for the whole
        source.
        """
        log = out.parent / LOG
        log.unlink(missing_ok=True)
        argv = fill(first_frames_argv(cell), ref=ref, out=out)
        done = check(
            ffmpeg.run(argv, timeout_s=timeout_s, cwd=out.parent),
            "the comparison on the CPU",
            FailureKind.SCORE_FAILED,
        )
        if not log.exists():
            raise CellFailure(FailureKind.SCORE_FAILED, "libvmaf wrote no log", done)
        _, frames = parse_log(log_text(log), cell.teacher)
        vmaf, feature = difference(found.frames, frames)
        with self._lock:
            self._agrees[cell.window.name] = vmaf <= TOLERANCE_VMAF and feature <= TOLERANCE_FEATURE
        return replace(found, difference=round(vmaf, 6))

    def _on_gpu(
        self,
        cell: Cell,
        ffmpeg: Ffmpeg,
        ref: Path,
        out: Path,
        num_frames: int,
        timeout_s: float,
    ) -> Score:
        log = out.parent / LOG
        log.unlink(missing_ok=True)
        argv = fill(gpu_score_argv(cell, self.gpu), ref=ref, out=out)
        done = ffmpeg.run(argv, timeout_s=timeout_s, cwd=out.parent)
        check(done, "the scoring on the GPU", FailureKind.SCORE_FAILED)
        if not log.exists():
            raise CellFailure(FailureKind.SCORE_FAILED, "libvmaf_cuda wrote no log", done)
        version, frames = parse_log(log_text(log), cell.teacher)
        inputs, stream = parse_inputs(done.stderr), _STREAM_FORMAT.search(done.stderr)
        if set(inputs) != {0, 1} or stream is None:
            raise CellFailure(
                FailureKind.SCORE_UNREADABLE, "ffmpeg's log does not say what it decoded", done
            )
        first = inputs[0]
        facts = first.width, first.height, stream[1].replace("yuvj", "yuv"), first.num_errors
        counts = {num_frames, first.num_frames, inputs[1].num_frames, len(frames)}
        if facts != (cell.window.width, cell.window.height, FORMAT, 0) or len(counts) != 1:
            raise CellFailure(
                FailureKind.WRONG_FRAME_COUNT,
                "the GPU decoded or scored something else than was asked for",
                done,
            )
        return Score(
            frames=frames,
            distorted=replace(first, pix_fmt=FORMAT),
            cpu_s=done.cpu_s,
            libvmaf_version=version,
            scorer="cuda",
        )
