"""What only a GPU can show: training, onnxruntime, decoding and `doctor` on CUDA, against the CPU.

Not yet run on a GPU: the limits are what the arithmetic of float32 allows, with a margin.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from vmaf_train.corpus import dataset
from vmaf_train.corpus.dataset import Dataset
from vmaf_train.corpus.folds import loso_folds
from vmaf_train.shipping import predictor
from vmaf_train.shipping.registry import IDS
from vmaf_train.training import experiment
from vmaf_train.training.batched import train_batched
from vmaf_train.training.recipes import DEFAULT, SEED, Recipe
from vmaf_train.training.sampling import Pool, TrainingJob
from vmaf_train.training.train import Trained, choose_device, predict
from vmaftune.hardware.gpus import nvidia

ROOT = Path(__file__).parents[2]
CLIPS = ROOT / "tests/media/clips"
SAME_TRAINING = 0.1
"""VMAF points that a short training may differ by: another order of sums, amplified by Adam."""
SAME_ANSWER = 1e-3
"""VMAF points that a network's answer may differ by."""
FOLDS, SEEDS = 9, 64
SHORT = {
    "seed": replace(SEED["fr_regressor_v2"], epochs=12),
    "default": replace(DEFAULT["fr_regressor_v2"], epochs=3, samples_per_epoch=150, batch_size=64),
    "tiny": replace(DEFAULT["vmaf_tiny_v2"], epochs=2, samples_per_epoch=500, batch_size=128),
}
needs_cuda_torch = pytest.mark.skipif(
    torch.version.cuda is None, reason="torch is a build for the CPU: pip install its CUDA build"
)


def jobs_of(data: Dataset, folds: int, seeds: int) -> list[TrainingJob]:
    """The first `folds` held-out groups, each with `seeds` networks."""
    return [
        TrainingJob(scheme=fold.scheme, fold=fold.name, seed=seed, rows=fold.train)
        for fold in loso_folds(data)[:folds]
        for seed in range(seeds)
    ]


def trained(
    how: Recipe, data: Dataset, frames: Dataset | None, jobs: list[TrainingJob], device: str
) -> list[Trained]:
    pool = Pool(data, frames, choose_device(device), torch.float32)
    return train_batched(how, jobs, data, pool)


@needs_cuda_torch
@pytest.mark.parametrize("name", SHORT)
def test_training_on_the_gpu_gives_the_networks_of_the_cpu(
    name: str, cells: Dataset, frames: Dataset
) -> None:
    how = SHORT[name]
    data = frames if how.per_frame else cells
    windows = None if how.per_frame or not how.window_share else frames
    jobs = jobs_of(data, 4, 2)
    on_cpu = trained(how, data, windows, jobs, "cpu")
    on_gpu = trained(how, data, windows, jobs, "cuda")
    codec = data.codec if how.has_codec else None
    for one, other in zip(on_cpu, on_gpu, strict=True):
        assert np.array_equal(one.mean, other.mean)
        apart = np.abs(predict(one, data.features, codec) - predict(other, data.features, codec))
        assert apart.max() < SAME_TRAINING


@needs_cuda_torch
def test_nine_folds_of_64_seeds_train_in_one_go(
    record_property: Callable[[str, object], None], capsys: pytest.CaptureFixture[str]
) -> None:
    data = dataset.load(ROOT / "runs/phase_a/software", per_frame=False)
    how = SEED["fr_regressor_v2"]
    jobs = jobs_of(data, FOLDS, SEEDS)
    began = time.monotonic()
    networks = trained(how, data, None, jobs, "cuda")
    torch.cuda.synchronize()
    seconds = time.monotonic() - began
    assert len(networks) == FOLDS * SEEDS
    answers = [predict(network, data.features, data.codec) for network in networks[::SEEDS]]
    assert np.isfinite(answers).all()
    record_property("seconds", round(seconds, 1))
    with capsys.disabled():
        gpu = torch.cuda.get_device_name(0)
        print(f"\n{len(networks)} networks, {how.epochs} epochs on {gpu}: {seconds:.1f} s")


@needs_cuda_torch
def test_an_experiment_on_the_gpu_writes_a_whole_run(cells: Dataset, tmp_path: Path) -> None:
    plan = experiment.plan(
        SHORT["seed"],
        cells,
        None,
        loso=True,
        num_seeds=2,
        device=choose_device("cuda"),
        smoke=True,
    )
    predictions = experiment.run(plan, tmp_path / "run", {})
    assert np.isfinite(predictions["y_model"]).all()
    assert (tmp_path / "run" / "metrics.json").is_file()


@needs_cuda_torch
@pytest.mark.parametrize("model_id", [name for name in IDS if name != "quality_prior"])
def test_onnxruntime_on_the_gpu_answers_as_on_the_cpu(model_id: str) -> None:
    on_gpu = predictor.load(model_id, ROOT / "model", "cuda")
    on_cpu = predictor.load(model_id, ROOT / "model", "cpu")
    assert on_gpu.provider == predictor.CUDA
    data = dataset.load(ROOT / "runs/phase_a/software", per_frame=False)
    codec = data.codec if on_gpu.contract.has_codec else None
    apart = np.abs(on_gpu.predict(data.features, codec) - on_cpu.predict(data.features, codec))
    assert apart.max() < SAME_ANSWER


@pytest.mark.parametrize("clip_name", ["acrobat.mp4", "bbb.mp4"])
def test_the_gpu_decodes_the_pictures_of_the_cpu(
    clip_name: str, run_ffmpeg: Callable[..., str], tmp_path: Path
) -> None:
    source = CLIPS / clip_name
    # Frames that stay on the GPU cannot come from a decoder of the CPU: there is no falling back.
    gpu = ["-hwaccel", "cuda", "-hwaccel_output_format", "cuda"]
    hashes = []
    for name, flags, graph in (
        ("gpu", gpu, "hwdownload,format=nv12"),
        ("cpu", [], "format=nv12"),
    ):
        out = tmp_path / f"{name}.md5"
        run_ffmpeg(*flags, "-i", source, "-map", "0:v:0", "-vf", graph, "-f", "framemd5", out)
        lines = out.read_text().splitlines()
        hashes.append([line.split(",")[-1].strip() for line in lines if not line.startswith("#")])
    assert hashes[0]
    assert hashes[0] == hashes[1]


def test_nvml_tells_the_driver_and_every_gpu() -> None:
    found = nvidia()
    assert found.driver
    assert found.problem is None
    assert [gpu.index for gpu in found.gpus] == list(range(len(found.gpus)))
    for gpu in found.gpus:
        assert gpu.uuid.startswith("GPU-")
        assert gpu.name
        assert gpu.memory_bytes is None or gpu.memory_bytes > 2**30


def test_doctor_tells_the_gpu_and_why_nvenc_does_not_run(tool: Any) -> None:
    done = tool.process("doctor", "--json")
    found = json.loads(done.stdout)
    gpus = nvidia().gpus
    text = json.dumps(found)
    assert all(gpu.name in text for gpu in gpus)
    trials = [trial for trial in found["encoders"] if trial["encoder"] == "h264_nvenc"]
    assert trials
    assert all(trial["usable"] or trial["reason"] for trial in trials)
    if not any(gpu.engine for gpu in gpus):
        assert not any(trial["usable"] for trial in trials)


def test_a_sweep_fills_the_lanes_of_this_machine(
    tool: Any, clip: Callable[..., Path], read_run: Callable[[Path], Any]
) -> None:
    """Encodes of the GPU run beside those of the CPU where it has an encoder; else each is left
    out with its reason, and the rest is measured."""
    source = clip("gpu lanes.mkv", frames=12)
    wanted = ["--encoders", "x264,h264_nvenc", "--quality", "x264=20,30;h264_nvenc=20,30"]
    done = tool.process("corpus", source, *wanted, "--skip-unusable", "--out", "lanes")
    rows = read_run(tool.cwd / "lanes").rows.values()
    assert {row["status"] for row in rows} == {"ok"}
    by_encoder = {row["encoder"] for row in rows}
    if any(gpu.engine for gpu in nvidia().gpus):
        assert by_encoder == {"libx264", "h264_nvenc"}
        assert all(row["device"] for row in rows if row["encoder"] == "h264_nvenc")
    else:
        assert by_encoder == {"libx264"}
        assert "h264_nvenc" in done.stderr
