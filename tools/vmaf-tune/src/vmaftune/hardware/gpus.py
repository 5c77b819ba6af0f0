"""The GPUs of this machine: NVIDIA's through NVML, every other through its Linux render node. Quiet
without any.

`--gpu` and every message count NVIDIA GPUs as nvidia-smi does; `Device.address` is what ffmpeg is
given instead.
"""

from __future__ import annotations

import importlib
import os
import re
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

from vmaftune.errors import UsageError

_VENDORS = {"0x8086": "Intel", "0x1002": "AMD", "0x10de": "NVIDIA"}
# NVIDIA's "Video Encode and Decode GPU Support Matrix" lists these with decoders but no NVENC
# engine.
_NO_ENGINE = re.compile(
    r"\b(A100|A800|A30|H100|H800|H200|H20|GH200|B100|B200|B300|GB200|GB300|GT 1030|MX\d{3}|CMP)\b"
)
_CONSUMER = re.compile(r"GeForce|TITAN", re.IGNORECASE)
# Concurrent sessions that a driver allows all consumer GPUs of a system together, newest first: 3
# before March 2023 (driver 531), 5 until January 2024 (551), 8 since (the same matrix). Others are
# bound by memory alone.
_SESSION_LIMITS = ((551, 8), (531, 5), (0, 3))
UNRESTRICTED_SESSIONS = 8
_NODE_VENDORS = {"qsv": ("Intel",), "vaapi": ("Intel", "AMD")}
DEFAULT_NODE = "/dev/dri/renderD128"


@dataclass(frozen=True, slots=True, kw_only=True)
class Gpu:
    """An NVIDIA GPU as NVML describes it; None where the driver does not tell. Utilisation is in
    percent.

    `sessions` are the NVENC sessions of all programs at this moment.
    """

    index: int
    uuid: str
    name: str
    memory_bytes: int | None
    sessions: int | None
    encoder_percent: int | None
    gpu_percent: int | None

    @property
    def engine(self) -> bool:
        """False when the chip is known to have no NVENC engine; only a trial encode proves the
        opposite.
        """
        return not _NO_ENGINE.search(self.name)

    @property
    def consumer(self) -> bool:
        """True when the driver limits the number of concurrent NVENC sessions."""
        return bool(_CONSUMER.search(self.name))


@dataclass(frozen=True, slots=True, kw_only=True)
class Nvidia:
    """The NVIDIA driver and its GPUs, in nvidia-smi's order; `driver` None and a `problem` when
    there is no driver.
    """

    driver: str | None
    gpus: tuple[Gpu, ...] = ()
    problem: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class RenderNode:
    """A GPU's render node on Linux. `present` and `access` tell whether the node exists here and
    may be opened.

    `model` is the maker's number of the chip in hex, None where the kernel does not tell.
    """

    path: str
    vendor: str
    driver: str | None
    present: bool
    access: bool
    model: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Device:
    """One GPU that encoders of `kind` can be sent to. `address` replaces `{device}` in the
    encoder's arguments.
    """

    kind: str
    address: str
    name: str
    driver: str | None = None


def nvidia(module: ModuleType | None = None) -> Nvidia:
    """What NVML tells. `module` is the pynvml to ask, the installed one by default."""
    try:
        pynvml = module or importlib.import_module("pynvml")
    except ImportError:
        return Nvidia(driver=None, problem="the package nvidia-ml-py is not installed")
    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError as failure:
        return Nvidia(driver=None, problem=str(failure))
    try:
        gpus = tuple(_gpu(pynvml, i) for i in range(pynvml.nvmlDeviceGetCount()))
        return Nvidia(driver=_text(pynvml.nvmlSystemGetDriverVersion()), gpus=gpus)
    except pynvml.NVMLError as failure:
        return Nvidia(driver=None, problem=str(failure))
    finally:
        pynvml.nvmlShutdown()


def _gpu(pynvml: ModuleType, index: int) -> Gpu:
    handle = pynvml.nvmlDeviceGetHandleByIndex(index)

    def ask(function: str, pick: str | int | None = None) -> int | None:
        try:
            value = getattr(pynvml, function)(handle)
        except pynvml.NVMLError:  # "not supported" on many GPUs
            return None
        if isinstance(pick, str):
            value = getattr(value, pick)
        elif pick is not None:
            value = value[pick]
        return int(value)

    return Gpu(
        index=index,
        uuid=_text(pynvml.nvmlDeviceGetUUID(handle)),
        name=_text(pynvml.nvmlDeviceGetName(handle)),
        memory_bytes=ask("nvmlDeviceGetMemoryInfo", "total"),
        sessions=ask("nvmlDeviceGetEncoderStats", 0),
        encoder_percent=ask("nvmlDeviceGetEncoderUtilization", 0),
        gpu_percent=ask("nvmlDeviceGetUtilizationRates", "gpu"),
    )


def _text(value: str | bytes) -> str:
    return value.decode() if isinstance(value, bytes) else value


def render_nodes(
    drm: Path = Path("/sys/class/drm"), dev: Path = Path("/dev/dri")
) -> tuple[RenderNode, ...]:
    """The render nodes that the kernel knows, in order; none outside Linux."""
    nodes = []
    for entry in sorted(drm.glob("renderD*")):
        try:
            vendor = (entry / "device" / "vendor").read_text().strip()
        except OSError:
            continue
        node = dev / entry.name
        link, chip = entry / "device" / "driver", entry / "device" / "device"
        nodes.append(
            RenderNode(
                path=str(node),
                vendor=_VENDORS.get(vendor, vendor),
                driver=link.resolve().name if link.exists() else None,
                present=node.exists(),
                access=os.access(node, os.R_OK | os.W_OK),
                model=chip.read_text().strip() if chip.is_file() else None,
            )
        )
    return tuple(nodes)


def visible(gpus: Sequence[Gpu], restriction: str | None) -> dict[int, Gpu]:
    """CUDA's index of each GPU under CUDA_VISIBLE_DEVICES: a list of indices or UUIDs, cut at the
    first unknown one.
    """
    if restriction is None:
        return dict(enumerate(gpus))
    chosen: dict[int, Gpu] = {}
    for place, word in enumerate(w.strip() for w in restriction.split(",")):
        same = [
            g
            for g in gpus
            if word == str(g.index) or (word.startswith("GPU-") and g.uuid.startswith(word))
        ]
        if not same:
            break
        chosen[place] = same[0]
    return chosen


@dataclass(frozen=True, slots=True, kw_only=True)
class Gpus:
    """Everything known about the GPUs here, asked once."""

    nvidia: Nvidia
    nodes: tuple[RenderNode, ...]
    platform: str = sys.platform
    cuda_visible: str | None = None

    def devices(self, kind: str, wanted: Sequence[str] = ()) -> tuple[Device | None, ...]:
        """The devices to try for encoders of `kind`, in order; (None,) leaves the choice to ffmpeg.

        `wanted` restricts them: digits are NVIDIA GPUs as nvidia-smi counts, `/dev/dri/...` render
        nodes of any maker, `d3d11:N` Windows adapters; a word restricts only the kinds it can be
        for. One that is not here is never exchanged for another: UsageError, or where there is no
        driver or node at all, the trial says so.
        """
        words = [w for w in wanted if kind in self.kinds(w)]
        if kind == "nvenc":
            return self._nvidia_devices(words)
        if kind == "qsv":
            return self._qsv_devices(words)
        if kind == "vaapi":
            nodes = self._nodes(_NODE_VENDORS[kind], words)
            found = [
                Device(kind=kind, address=n.path, name=f"{n.vendor} {n.path}", driver=n.driver)
                for n in nodes
            ]
            return tuple(found) or (Device(kind=kind, address=DEFAULT_NODE, name=DEFAULT_NODE),)
        return (None,)

    def kinds(self, word: str) -> tuple[str, ...]:
        """The kinds of encoders that a word of `--gpu` can be for. Raises UsageError for one that
        is no GPU here.
        """
        if word.isdigit():
            self._check_number(int(word))
            return ("nvenc",)
        if re.fullmatch(r"d3d11:\d+", word):
            return ("qsv",)
        if not re.fullmatch(r"/dev/dri/\w+", word):
            raise UsageError(f"--gpu takes numbers, /dev/dri/renderD... or d3d11:N, not {word!r}")
        vendor = next((n.vendor for n in self.nodes if n.path == word), None)
        if vendor is None and self.nodes:
            raise UsageError(
                f"--gpu {word}: no such render node; here are"
                f" {', '.join(n.path for n in self.nodes)}"
            )
        kinds = tuple(
            kind for kind, vendors in _NODE_VENDORS.items() if vendor is None or vendor in vendors
        )
        if not kinds:
            raise UsageError(
                f"--gpu {word}: this is a GPU of {vendor}; NVIDIA's are named by number, as"
                " nvidia-smi counts"
            )
        return kinds

    def _check_number(self, index: int) -> None:
        if self.nvidia.driver is None:
            return  # the trial of each NVENC encoder says that there is no driver, and what to do
        if index not in [g.index for g in self.nvidia.gpus]:
            raise UsageError(
                f"--gpu {index}: no such NVIDIA GPU; the driver shows {len(self.nvidia.gpus)},"
                " counted from 0"
            )
        if index not in [g.index for g in visible(self.nvidia.gpus, self.cuda_visible).values()]:
            raise UsageError(
                f"--gpu {index}: CUDA_VISIBLE_DEVICES={self.cuda_visible} hides this GPU; change"
                " one of the two"
            )

    def _nvidia_devices(self, wanted: Sequence[str]) -> tuple[Device | None, ...]:
        seen = visible(self.nvidia.gpus, self.cuda_visible)
        indices = [int(w) for w in wanted]
        found = [
            Device(kind="nvenc", address=str(place), name=gpu.name, driver=self.nvidia.driver)
            for place, gpu in seen.items()
            if not wanted or gpu.index in indices
        ]
        return tuple(found) or (None,)

    def _nodes(self, vendors: Sequence[str], wanted: Sequence[str]) -> list[RenderNode]:
        """Nodes of these makers, or those of `wanted` alone, whether or not they can be opened: a
        trial tells why not.
        """
        if wanted and not self.nodes:
            return [
                RenderNode(path=w, vendor="GPU", driver=None, present=False, access=False)
                for w in wanted
            ]
        return [
            n
            for n in self.nodes
            if n.vendor in vendors and (n.path in wanted if wanted else n.present)
        ]

    def _qsv_devices(self, wanted: Sequence[str]) -> tuple[Device | None, ...]:
        adapters = [w[6:] for w in wanted if w.startswith("d3d11:")]
        paths = [w for w in wanted if w.startswith("/dev/")]
        nodes = [] if adapters and not paths else self._nodes(_NODE_VENDORS["qsv"], paths)
        found = [
            Device(
                kind="qsv",
                address=f"child_device={n.path},child_device_type=vaapi",
                name=f"{n.vendor} {n.path}",
                driver=n.driver,
            )
            for n in nodes
        ]
        found += [
            Device(
                kind="qsv",
                address=f"child_device={number},child_device_type=d3d11va",
                name=f"Intel adapter {number}",
            )
            for number in adapters
        ]
        return tuple(found) or (None,)


def look() -> Gpus:
    """Ask the machine. Makes CUDA, in this process and its children, count GPUs as NVML and
    nvidia-smi do.
    """
    os.environ.setdefault("CUDA_DEVICE_ORDER", "PCI_BUS_ID")
    return Gpus(
        nvidia=nvidia(), nodes=render_nodes(), cuda_visible=os.environ.get("CUDA_VISIBLE_DEVICES")
    )


def session_slots(found: Nvidia, chosen: Mapping[int, Gpu], cores: int) -> dict[int, int]:
    """NVENC sessions to open at once on each GPU of `chosen` (by CUDA index), at least 1 each.

    Consumer GPUs share the driver's limit, less what other programs use now. No more than `cores`,
    because each session is fed by a decoder on the CPU. A driver that still refuses one makes the
    lane smaller.
    """
    consumers = [place for place, gpu in chosen.items() if gpu.consumer]
    major = int(re.match(r"\d*", found.driver or "")[0] or 0)  # type: ignore[index]
    limit = next(allowed for driver, allowed in _SESSION_LIMITS if major >= driver)
    free = max(limit - sum(g.sessions or 0 for g in found.gpus if g.consumer), 1)
    return {
        place: max(
            1, min(free // len(consumers) if place in consumers else UNRESTRICTED_SESSIONS, cores)
        )
        for place in chosen
    }
