"""What `vmaf-tune doctor` finds: the ffmpeg, its libvmaf, the GPUs, what torch and onnxruntime
compute on, the machine.

Everything is tried, not believed. torch and onnxruntime are asked in a process of their own,
because their imports are slow and print.
"""

from __future__ import annotations

import json
import re
import shutil
import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import asdict
from typing import Any

from vmaftune.cell import Tools
from vmaftune.errors import ToolError
from vmaftune.hardware.gpus import Gpus
from vmaftune.hardware.selection import Trial
from vmaftune.media.ffmpeg import (
    Ffmpeg,
    identify,
    machine,
    packages,
    sha256_file,
    show_version,
    try_model,
    usable_cores,
)
from vmaftune.media.process import Runner

MODELS = (
    "vmaf_v0.6.1",
    "vmaf_v0.6.1neg",
    "vmaf_4k_v0.6.1",
    "vmaf_4k_v0.6.1neg",
    "vmaf_float_v0.6.1",
    "vmaf_float_v0.6.1neg",
    "vmaf_float_4k_v0.6.1",
    "vmaf_v1.0.16_3d0h",
    "vmaf_v1.0.16_5d0h",
)
# Versions whose faults reach a sweep. 3.2.0: https://github.com/Netflix/vmaf/issues/1587.
BAD_LIBVMAF = {
    "3.2.0": (
        "libvmaf 3.2.0 grows in memory with every frame (Netflix/vmaf issue 1587); use 3.1 or newer"
        " than 3.2.0"
    )
}

# A graph of one Identity node (opset 17, IR 8): enough to see which providers a session really
# gets.
_IDENTITY = (
    "08083a370a100a017812017922084964656e746974791201675a0f0a0178120a0a08080112040a020801620f0a0179120a0a0808011204"
    "0a02080142040a001011"
)
_ASK_TORCH = """
import json, torch
cuda = torch.cuda.is_available()
names = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())] if cuda else []
names = names or ["cpu"]
build = torch.version.cuda
print("\\n" + json.dumps({"version": torch.__version__, "cuda_build": build, "devices": names}))
"""
_ASK_ONNXRUNTIME = f"""
import json, onnxruntime as ort
ort.set_default_logger_severity(4)
if hasattr(ort, "preload_dlls"):
    ort.preload_dlls()
listed = ort.get_available_providers()
wanted = [p for p in ("CUDAExecutionProvider", "CPUExecutionProvider") if p in listed]
session = ort.InferenceSession(bytes.fromhex("{_IDENTITY}"), providers=wanted)
used = session.get_providers()
print("\\n" + json.dumps({{"version": ort.__version__, "listed": listed, "providers": used}}))
"""


def inspect(runner: Runner, ffmpeg: str) -> tuple[Ffmpeg, str | None]:
    """The ffmpeg and its libvmaf, and what is wrong with them, if anything. An unfit one is
    described all the same.
    """
    try:
        return identify(runner, ffmpeg), None
    except ToolError as failure:
        version = "unknown"
        with suppress(ToolError):
            version = show_version(runner, ffmpeg)
        unfit = Tools(
            ffmpeg=ffmpeg,
            ffmpeg_version=version,
            ffmpeg_sha256=sha256_file(ffmpeg),
            libvmaf_version="none",
        )
        return Ffmpeg(identity=unfit, runner=runner), str(failure)


def libvmaf_facts(ffmpeg: Ffmpeg) -> dict[str, Any]:
    """Models that load, whether the filter libvmaf_cuda is there, and a known fault of this version
    (None without one).
    """
    listed = ffmpeg.run(["-hide_banner", "-filters"], timeout_s=60)
    filters = listed.stdout.decode("utf-8", "replace")
    with ThreadPoolExecutor(max_workers=usable_cores()) as pool:
        loads = dict(
            zip(
                MODELS,
                pool.map(lambda m: try_model(ffmpeg.runner, ffmpeg.path, m)[0] is not None, MODELS),
                strict=True,
            )
        )
    return {
        "version": ffmpeg.identity.libvmaf_version,
        "models": [m for m in MODELS if loads[m]],
        "models_missing": [m for m in MODELS if not loads[m]],
        "libvmaf_cuda": bool(re.search(r"^ \S+ libvmaf_cuda ", filters, re.MULTILINE)),
        "warning": known_fault(ffmpeg.identity.libvmaf_version),
    }


def known_fault(version: str) -> str | None:
    """A sentence about a libvmaf version that is known to be bad; a build that shows a git hash
    cannot be judged.
    """
    match = re.match(r"v?(\d+\.\d+\.\d+)\b", version)
    return BAD_LIBVMAF.get(match[1]) if match else None


def ask_python(runner: Runner, code: str) -> dict[str, Any] | None:
    """What a Python program prints as its last line of JSON; None when it does not get that far
    (package absent).
    """
    done = runner.run([sys.executable, "-c", code], timeout_s=300)
    lines = done.stdout.decode("utf-8", "replace").strip().splitlines()
    if done.returncode or not lines:
        return None
    answer: dict[str, Any] = json.loads(lines[-1])
    return answer


def runtimes(runner: Runner) -> dict[str, Any]:
    """torch and onnxruntime: versions, and the devices that they really compute on. None for one
    that does not work.
    """
    with ThreadPoolExecutor(max_workers=2) as pool:
        torch, onnxruntime = pool.map(
            lambda code: ask_python(runner, code), (_ASK_TORCH, _ASK_ONNXRUNTIME)
        )
    return {"torch": torch, "onnxruntime": onnxruntime}


def trial_row(trial: Trial) -> dict[str, Any]:
    """One trial as a JSON object."""
    row = asdict(trial)
    row["reason"] = trial.reason.value if trial.reason else None
    return row


def report(
    ffmpeg: Ffmpeg, problem: str | None, trials: tuple[Trial, ...], gpus: Gpus
) -> dict[str, Any]:
    """Everything the doctor knows, as one JSON document."""
    disk = shutil.disk_usage(".")
    installed = packages()
    return {
        "vmaf_tune": installed["vmaf-tune"],
        "ffmpeg": {
            "path": ffmpeg.path,
            "version": ffmpeg.identity.ffmpeg_version,
            "sha256": ffmpeg.identity.ffmpeg_sha256,
            "problem": problem,
        },
        "libvmaf": libvmaf_facts(ffmpeg) if problem is None else None,
        "encoders": [trial_row(t) for t in trials],
        "gpus": {
            "nvidia_driver": gpus.nvidia.driver,
            "nvidia_problem": gpus.nvidia.problem,
            "nvidia": [{**asdict(g), "nvenc_engine": g.engine} for g in gpus.nvidia.gpus],
            "render_nodes": [asdict(n) for n in gpus.nodes],
        },
        "runtimes": runtimes(ffmpeg.runner),
        "machine": {**machine(), "disk_free_bytes": disk.free, "disk_bytes": disk.total},
        "packages": installed,
    }
