"""Scoring on a GPU: the command, which cells go there, the comparison with the CPU, and the ways
back to the CPU.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from made_up import window_of_film
from vmaftune.cell import Cell, Setting, Tools
from vmaftune.encoders import find
from vmaftune.errors import ToolError, UsageError
from vmaftune.hardware.cuda import choose_scorer, works
from vmaftune.hardware.gpus import Gpu, Gpus, Nvidia
from vmaftune.media.failure import CellFailure
from vmaftune.media.ffmpeg import Ffmpeg, find_ffmpeg
from vmaftune.media.process import Finished, Runner
from vmaftune.media.score import score_argv
from vmaftune.media.score_cuda import GpuScorer, eligible, first_frames_argv, gpu_score_argv

SOURCE = replace(
    window_of_film(0),
    name="bbb",
    group="bbb",
    path="bbb.mp4",
    sha256="00",
    size_bytes=1,
    num_frames=12,
    expected_frames=12,
    fps="25",
    sar="1/1",
)
CELL = Cell(window=SOURCE, setting=Setting(encoder=find("h264_nvenc"), preset="p4", quality=25))
TOOLS = Tools(ffmpeg="ffmpeg", ffmpeg_version="n9", ffmpeg_sha256="ab" * 32, libvmaf_version="3")


def test_the_command_decodes_and_scores_on_the_gpu() -> None:
    tags = "setparams=range=unknown:color_primaries=unknown:color_trc=unknown:colorspace=unknown"
    assert gpu_score_argv(CELL, "1") == [
        "-nostdin",
        "-hide_banner",
        "-nostats",
        "-v",
        "verbose",
        "-y",
        "-filter_threads",
        "1",
        "-filter_complex_threads",
        "1",
        "-init_hw_device",
        "cuda=gpu:1",
        "-filter_hw_device",
        "gpu",
        "-hwaccel",
        "cuda",
        "-hwaccel_device",
        "gpu",
        "-hwaccel_output_format",
        "cuda",
        "-protocol_whitelist",
        "file",
        "-i",
        "file:{out}",
        "-protocol_whitelist",
        "file",
        "-f",
        "rawvideo",
        "-pixel_format",
        "yuv420p",
        "-video_size",
        "640x360",
        "-framerate",
        "25",
        "-threads",
        "1",
        "-i",
        "file:{ref}",
        "-lavfi",
        f"[0:v:0]settb=AVTB,setpts=N*40000,{tags},scale_cuda=format=yuv420p[distorted];"
        f"[1:v:0]settb=AVTB,setpts=N*40000,{tags},format=yuv420p,hwupload_cuda[reference];"
        r"[distorted][reference]libvmaf_cuda=model='version=vmaf_v0.6.1\:name=vmaf|"
        r"version=vmaf_v0.6.1\:name=vmaf_unclipped\:disable_clip=true'"
        ":feature='name=adm_cuda|name=vif_cuda|name=motion_cuda':log_fmt=json:log_path=vmaf.json:shortest=1:repeatlast=0",
        "-fps_mode",
        "passthrough",
        "-f",
        "null",
        "-",
    ]


def test_the_comparison_is_the_cpus_command_cut_short() -> None:
    whole, cut = score_argv(CELL), first_frames_argv(CELL)
    changed = {a: b for a, b in zip(whole, cut, strict=True) if a != b}
    assert len(changed) == 2, "the graph and the name of its last link"
    graph = changed[whole[whole.index("-lavfi") + 1]]
    assert graph.count("]trim=end_frame=9[") == 2


def changed(change: dict[str, Any]) -> Cell:
    """CELL with other fields, its encoder among them."""
    rest = {name: value for name, value in change.items() if name != "encoder"}
    encoder = change.get("encoder", CELL.encoder)
    return replace(CELL, setting=replace(CELL.setting, encoder=encoder), **rest)


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({}, True),
        ({"encoder": find("libx264")}, True),
        ({"encoder": find("libvvenc")}, False),
        ({"teacher": "vmaf_v0.6.1neg"}, False),
        ({"teacher": "vmaf_float_v0.6.1"}, False),
        ({"window": replace(SOURCE, pix_fmt="yuv420p10le")}, False),
        ({"window": replace(SOURCE, pix_fmt="yuv444p")}, False),
        ({"window": replace(SOURCE, num_frames=1)}, False),
    ],
)
def test_which_cells_the_gpu_can_score(change: dict[str, Any], expected: bool) -> None:
    assert eligible(changed(change)) is expected


class Scripted(Runner):
    """Writes libvmaf's log as the GPU, the comparison and the CPU would; `gpu_error` breaks the
    first.
    """

    def __init__(
        self,
        *,
        offset: float = 0.0,
        gpu_error: bool = False,
        gpu_frames: int = 12,
        cpu_error: bool = False,
    ) -> None:
        super().__init__()
        self.offset, self.gpu_error, self.gpu_frames, self.cpu_error = (
            offset,
            gpu_error,
            gpu_frames,
            cpu_error,
        )
        self.ran: list[str] = []

    def run(self, argv: Sequence[str], *, cwd: Path | None = None, **_: Any) -> Finished:
        graph = argv[list(argv).index("-lavfi") + 1]
        where = "gpu" if "libvmaf_cuda" in graph else "compare" if "trim=" in graph else "cpu"
        self.ran.append(where)
        broken = self.gpu_error if where == "gpu" else self.cpu_error
        num = {"gpu": self.gpu_frames, "compare": 9, "cpu": 12}[where]
        if cwd and not broken:
            frames = [self.frame(i, self.offset if where == "gpu" else 0.0) for i in range(num)]
            (cwd / "vmaf.json").write_text(json.dumps({"version": "3.1.0", "frames": frames}))
        pix_fmt = "cuda" if where == "gpu" else "yuv420p"
        log = (
            "  Stream #0:0: Video: h264 (High), 1 reference frame, yuv420p(tv, progressive),"
            " 640x360, 25 fps\n"
        )
        for i in (0, 1):
            kind = pix_fmt if i == 0 else "yuv420p"
            log += f"[graph 0 input from stream {i}:0 @ 0x1] w:640 h:360 pixfmt:{kind} tb:1/25\n"
            log += f"[in#{i} @ 0x1]   Input stream #{i}:0 (video): {num} packets read (900 bytes); "
            log += f"{num} frames decoded; 0 decode errors; \n"
        return Finished(
            argv=tuple(argv),
            returncode=1 if broken else 0,
            timed_out=False,
            wall_s=1,
            cpu_s=0.5,
            stdout=b"",
            stderr="no libcuda\n" if broken else log,
        )

    @staticmethod
    def frame(i: int, offset: float) -> dict[str, Any]:
        names = (
            "integer_adm2",
            "integer_vif_scale0",
            "integer_vif_scale1",
            "integer_vif_scale2",
            "integer_vif_scale3",
        )
        metrics = dict.fromkeys(names, 0.9)
        metrics |= {
            "integer_motion2": 3.0 + offset,
            "vmaf": 90.0 + i,
            "vmaf_unclipped": 90.0 + i + offset,
        }
        return {"frameNum": i, "metrics": metrics}


def using(runner: Runner) -> Ffmpeg:
    return Ffmpeg(identity=TOOLS, runner=runner)


def scored(scorer: GpuScorer, runner: Runner, tmp: Path, cell: Cell = CELL) -> Any:
    return scorer.score(cell, using(runner), tmp / "ref.yuv", tmp / "out.mkv", 12, 60)


def test_a_source_is_compared_once_and_then_trusted(tmp_path: Path) -> None:
    scorer, runner = GpuScorer("0"), Scripted(offset=0.001)
    first = scored(scorer, runner, tmp_path)
    assert (first.scorer, first.difference, len(first.frames), first.distorted.pix_fmt) == (
        "cuda",
        0.001,
        12,
        "yuv420p",
    )
    second = scored(scorer, runner, tmp_path)
    assert (second.scorer, second.difference) == ("cuda", None)
    assert runner.ran == ["gpu", "compare", "gpu"]
    scored(scorer, runner, tmp_path, replace(CELL, window=replace(SOURCE, name="other")))
    assert runner.ran[3:] == ["gpu", "compare"], "each source for itself"


def test_a_source_that_differs_goes_to_the_cpu_and_keeps_the_difference(tmp_path: Path) -> None:
    scorer, runner = (
        GpuScorer("0"),
        Scripted(offset=0.4),
    )  # the motion error of Netflix/vmaf issue 1583
    first = scored(scorer, runner, tmp_path)
    assert (first.scorer, first.difference, first.frames[0].vmaf_unclipped) == ("cpu", 0.4, 90.0)
    assert scored(scorer, runner, tmp_path).scorer == "cpu"
    assert runner.ran == ["gpu", "compare", "cpu", "cpu"], "the GPU is not asked again"


@pytest.mark.parametrize("fault", [{"gpu_error": True}, {"gpu_frames": 11}])
def test_a_fault_of_the_gpu_falls_back_to_the_cpu(fault: dict[str, Any], tmp_path: Path) -> None:
    runner = Scripted(**fault)
    found = scored(GpuScorer("0"), runner, tmp_path)
    assert (found.scorer, found.difference) == ("cpu", None)
    assert runner.ran == ["gpu", "cpu"]


def test_what_fails_on_the_cpu_too_is_the_cells_failure(tmp_path: Path) -> None:
    with pytest.raises(CellFailure, match="the scoring ended with 1"):
        scored(GpuScorer("0"), Scripted(gpu_error=True, cpu_error=True), tmp_path)


def test_cells_that_the_gpu_cannot_score_never_see_it(tmp_path: Path) -> None:
    runner = Scripted()
    found = scored(
        GpuScorer("0"),
        runner,
        tmp_path,
        changed({"encoder": find("libx264"), "teacher": "vmaf_float_v0.6.1"}),
    )
    assert (found.scorer, runner.ran) == ("cpu", ["cpu"])


def machine(*names: str) -> Gpus:
    gpus = tuple(
        Gpu(
            index=i,
            uuid=f"GPU-{i}",
            name=n,
            memory_bytes=None,
            sessions=None,
            encoder_percent=None,
            gpu_percent=None,
        )
        for i, n in enumerate(names)
    )
    return Gpus(nvidia=Nvidia(driver="570.1" if gpus else None, gpus=gpus), nodes=())


def test_the_choice_of_the_scorer() -> None:
    assert choose_scorer("cpu", using(Scripted()), machine("a")) is None
    assert choose_scorer("auto", using(Scripted(gpu_error=True)), machine("a", "b")) is None
    assert choose_scorer("auto", using(Scripted()), machine()) is None
    found = choose_scorer("auto", using(Scripted()), machine("a"))
    assert found is not None and found.gpu == "0"
    for here in (machine(), machine("a")):
        with pytest.raises(ToolError, match="libvmaf_cuda"):
            choose_scorer("cuda", using(Scripted(gpu_error=True)), here)
    with pytest.raises(UsageError, match="auto, cpu or cuda"):
        choose_scorer("gpu", using(Scripted()), machine("a"))


@pytest.mark.real
def test_the_embedded_ffmpeg_cannot_and_says_so_quickly() -> None:
    tools = replace(TOOLS, ffmpeg=find_ffmpeg())
    assert works(Ffmpeg(identity=tools, runner=Runner()), "0") is False
