"""What `vmaf-tune doctor` finds: the ffmpeg, its libvmaf, the GPUs, what torch and onnxruntime
compute on, the machine.

Everything is tried, not believed. torch and onnxruntime are asked in a process of their own,
because their imports are slow and print.
"""

from __future__ import annotations

import re
import shutil
import sys
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import asdict, dataclass
from typing import TypeVar

import msgspec
from vmaf_train.files import sha256_file

from vmaftune.cell import Tools
from vmaftune.errors import ToolError
from vmaftune.hardware.gpus import Gpus
from vmaftune.hardware.selection import Trial
from vmaftune.media.ffmpeg import (
    Ffmpeg,
    Machine,
    identify,
    machine,
    packages,
    show_version,
    try_model,
    usable_cores,
)
from vmaftune.media.process import Runner

T = TypeVar("T")

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


@dataclass(frozen=True, slots=True, kw_only=True)
class Libvmaf:
    """libvmaf in an ffmpeg: models that load and that do not, whether the filter libvmaf_cuda is
    there, and a known fault of this version (None without one).
    """

    version: str
    models: list[str]
    models_missing: list[str]
    libvmaf_cuda: bool
    warning: str | None


class Torch(msgspec.Struct, frozen=True, kw_only=True):
    """torch, and the devices that it really computes on."""

    version: str
    cuda_build: str | None
    devices: list[str]


class Onnxruntime(msgspec.Struct, frozen=True, kw_only=True):
    """onnxruntime, the providers that it lists, and those that a session really gets."""

    version: str
    listed: list[str]
    providers: list[str]


def libvmaf_facts(ffmpeg: Ffmpeg) -> Libvmaf:
    """What the libvmaf of an ffmpeg can do."""
    listed = ffmpeg.run(["-hide_banner", "-filters"], timeout_s=60)
    filters = listed.stdout.decode("utf-8", "replace")

    def loads(model: str) -> bool:
        return try_model(ffmpeg.runner, ffmpeg.path, model)[0] is not None

    with ThreadPoolExecutor(max_workers=usable_cores()) as pool:
        found = dict(zip(MODELS, pool.map(loads, MODELS), strict=True))
    return Libvmaf(
        version=ffmpeg.identity.libvmaf_version,
        models=[model for model in MODELS if found[model]],
        models_missing=[model for model in MODELS if not found[model]],
        libvmaf_cuda=bool(re.search(r"^ \S+ libvmaf_cuda ", filters, re.MULTILINE)),
        warning=known_fault(ffmpeg.identity.libvmaf_version),
    )


def known_fault(version: str) -> str | None:
    """A sentence about a libvmaf version that is known to be bad; a build that shows a git hash
    cannot be judged.
    """
    match = re.match(r"v?(\d+\.\d+\.\d+)\b", version)
    return BAD_LIBVMAF.get(match[1]) if match else None


def ask_python(runner: Runner, code: str, kind: type[T]) -> T | None:
    """What a Python program prints as its last line of JSON; None when it does not get that far
    (package absent).
    """
    done = runner.run([sys.executable, "-c", code], timeout_s=300)
    lines = done.stdout.strip().splitlines()
    if done.returncode or not lines:
        return None
    return msgspec.json.decode(lines[-1], type=kind)


@dataclass(frozen=True, slots=True, kw_only=True)
class Checkup:
    """Everything the doctor knows. `problem` is what is wrong with the ffmpeg, if anything; torch
    and onnxruntime are None where they do not work.
    """

    ffmpeg: Ffmpeg
    problem: str | None
    libvmaf: Libvmaf | None
    trials: tuple[Trial, ...]
    gpus: Gpus
    torch: Torch | None
    onnxruntime: Onnxruntime | None
    machine: Machine
    disk_free_bytes: int
    disk_bytes: int
    packages: Mapping[str, object]

    def to_json(self) -> dict[str, object]:
        """The report as one JSON document."""
        used, nvidia = self.ffmpeg.identity, self.gpus.nvidia
        disk = {"disk_free_bytes": self.disk_free_bytes, "disk_bytes": self.disk_bytes}
        return {
            "vmaf_tune": self.packages["vmaf-tune"],
            "ffmpeg": {
                "path": self.ffmpeg.path,
                "version": used.ffmpeg_version,
                "sha256": used.ffmpeg_sha256,
                "problem": self.problem,
            },
            "libvmaf": asdict(self.libvmaf) if self.libvmaf else None,
            "encoders": [_trial(trial) for trial in self.trials],
            "gpus": {
                "nvidia_driver": nvidia.driver,
                "nvidia_problem": nvidia.problem,
                "nvidia": [{**asdict(gpu), "nvenc_engine": gpu.engine} for gpu in nvidia.gpus],
                "render_nodes": [asdict(node) for node in self.gpus.nodes],
            },
            "runtimes": {
                "torch": msgspec.to_builtins(self.torch),
                "onnxruntime": msgspec.to_builtins(self.onnxruntime),
            },
            "machine": {**asdict(self.machine), **disk},
            "packages": dict(self.packages),
        }


def _trial(trial: Trial) -> dict[str, object]:
    return {**asdict(trial), "reason": trial.reason.value if trial.reason else None}


def report(ffmpeg: Ffmpeg, problem: str | None, trials: tuple[Trial, ...], gpus: Gpus) -> Checkup:
    """Look at the rest of this machine: libvmaf, torch and onnxruntime, disk and packages."""
    disk = shutil.disk_usage(".")
    with ThreadPoolExecutor(max_workers=2) as pool:
        torch = pool.submit(ask_python, ffmpeg.runner, _ASK_TORCH, Torch)
        onnxruntime = pool.submit(ask_python, ffmpeg.runner, _ASK_ONNXRUNTIME, Onnxruntime)
    return Checkup(
        ffmpeg=ffmpeg,
        problem=problem,
        libvmaf=libvmaf_facts(ffmpeg) if problem is None else None,
        trials=trials,
        gpus=gpus,
        torch=torch.result(),
        onnxruntime=onnxruntime.result(),
        machine=machine(),
        disk_free_bytes=disk.free,
        disk_bytes=disk.total,
        packages=packages(),
    )
