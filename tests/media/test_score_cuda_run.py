"""The comparison that decides whether a GPU's scores are trusted, with the real ffmpeg on the CPU's
side.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from vmaftune.media.encode import encode_argv, fill
from vmaftune.media.ffmpeg import Ffmpeg
from vmaftune.media.libvmaf_log import LOG, parse_log
from vmaftune.media.prepare import prepare
from vmaftune.media.score import score
from vmaftune.media.score_cuda import CHECKED_FRAMES, difference, first_frames_argv, gpu_score_argv
from vmaftune.request.cells import Plan


def test_the_first_frames_alone_score_as_in_the_whole(
    clip: Callable[..., Path], planned: Callable[..., Plan], real: Ffmpeg, tmp_path: Path
) -> None:
    (cell,) = planned(clip("compared.mkv", frames=20)).cells
    ref, out = tmp_path / "ref.yuv", tmp_path / "out.mkv"
    assert prepare(cell.window, real, ref, 120) == 20
    assert real.run(fill(encode_argv(cell), ref=ref, out=out), timeout_s=120).returncode == 0
    whole = score(cell, real, ref, out, 20, 120)
    done = real.run(fill(first_frames_argv(cell), ref=ref, out=out), timeout_s=120, cwd=tmp_path)
    assert done.returncode == 0, done.tail
    _, first = parse_log((tmp_path / LOG).read_text(), "vmaf_v0.6.1")
    assert len(first) == CHECKED_FRAMES
    assert first[:-1] == whole.frames[: CHECKED_FRAMES - 1], (
        "all but the last, whose motion looks ahead"
    )
    assert difference(whole.frames, first) == (0.0, 0.0)


def test_the_gpus_command_gets_as_far_as_the_device(
    clip: Callable[..., Path], planned: Callable[..., Plan], real: Ffmpeg, tmp_path: Path
) -> None:
    """This ffmpeg has no libvmaf_cuda: another two-input CUDA filter in its place shows that the
    rest is understood.
    """
    (cell,) = planned(clip("compared.mkv", frames=20)).cells
    ref, out = tmp_path / "ref.yuv", tmp_path / "out.mkv"
    prepare(cell.window, real, ref, 120)
    assert real.run(fill(encode_argv(cell), ref=ref, out=out), timeout_s=120).returncode == 0
    argv = gpu_score_argv(cell, "0")
    place = argv.index("-lavfi") + 1
    argv[place] = argv[place].partition("libvmaf_cuda")[0] + "overlay_cuda"
    done = real.run(fill(argv, ref=ref, out=out), timeout_s=120, cwd=tmp_path)
    assert (
        done.returncode == 0
        or "Cannot load libcuda.so.1" in done.stderr
        or "CUDA_ERROR" in done.stderr
    ), done.tail
