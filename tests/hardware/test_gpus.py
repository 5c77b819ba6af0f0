"""What is known about GPUs, from a pynvml that answers as drivers do and from a made-up /sys."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from vmaftune.errors import UsageError
from vmaftune.hardware import gpus
from vmaftune.hardware.gpus import Gpu, Gpus, Nvidia, RenderNode


class NVMLError(Exception):
    """As pynvml's."""


def fake_nvml(names: list[str], *, driver: str | None = "570.86.10", encoder: bool = True) -> Any:
    def init() -> None:
        if driver is None:
            raise NVMLError("NVML Shared Library Not Found")

    def stats(handle: int) -> list[int]:
        if not encoder:
            raise NVMLError("Not Supported")
        return [2, 60, 1000]

    return SimpleNamespace(
        NVMLError=NVMLError,
        nvmlInit=init,
        nvmlShutdown=lambda: None,
        nvmlDeviceGetCount=lambda: len(names),
        nvmlDeviceGetHandleByIndex=lambda i: i,
        nvmlDeviceGetUUID=lambda h: f"GPU-{h}abc",
        nvmlDeviceGetName=lambda h: names[h].encode(),
        nvmlSystemGetDriverVersion=lambda: driver,
        nvmlDeviceGetMemoryInfo=lambda h: SimpleNamespace(total=24 * 2**30),
        nvmlDeviceGetEncoderStats=stats,
        nvmlDeviceGetEncoderUtilization=lambda h: [7, 1000],
        nvmlDeviceGetUtilizationRates=lambda h: SimpleNamespace(gpu=9),
    )


def test_nvml_facts() -> None:
    found = gpus.nvidia(fake_nvml(["NVIDIA GeForce RTX 4090"]))
    gpu = Gpu(
        index=0,
        uuid="GPU-0abc",
        name="NVIDIA GeForce RTX 4090",
        memory_bytes=24 * 2**30,
        sessions=2,
        encoder_percent=7,
        gpu_percent=9,
    )
    assert found == Nvidia(driver="570.86.10", gpus=(gpu,))
    assert gpu.engine and gpu.consumer


def test_a_data_centre_gpu_without_nvenc_is_no_broken_driver() -> None:
    (gpu,) = gpus.nvidia(fake_nvml(["NVIDIA H200"], encoder=False)).gpus
    assert not gpu.engine and not gpu.consumer
    assert gpu.sessions is None and gpu.encoder_percent == 7


def test_no_driver_is_a_fact_and_no_error() -> None:
    assert gpus.nvidia(fake_nvml([], driver=None)) == Nvidia(
        driver=None, problem="NVML Shared Library Not Found"
    )
    here = gpus.nvidia()  # the real package, with or without a driver
    assert (here.driver is None) == (here.problem is not None)


def node(path: str, vendor: str, *, present: bool = True, access: bool = True) -> RenderNode:
    return RenderNode(path=path, vendor=vendor, driver="i915", present=present, access=access)


def machine(
    *names: str,
    nodes: tuple[RenderNode, ...] = (),
    visible: str | None = None,
    driver: str = "570.1",
) -> Gpus:
    return Gpus(
        nvidia=gpus.nvidia(fake_nvml(list(names), driver=driver)),
        nodes=nodes,
        platform="linux",
        cuda_visible=visible,
    )


def test_render_nodes_of_a_machine_with_two_makers(tmp_path: Path) -> None:
    for name, vendor in (("renderD128", "0x10de"), ("renderD129", "0x8086")):
        (tmp_path / "sys" / name / "device").mkdir(parents=True)
        (tmp_path / "sys" / name / "device" / "vendor").write_text(vendor + "\n")
    (tmp_path / "dev").mkdir()
    (tmp_path / "dev" / "renderD129").touch()
    first, second = gpus.render_nodes(tmp_path / "sys", tmp_path / "dev")
    assert (first.vendor, first.present, first.access) == ("NVIDIA", False, False)
    assert (second.vendor, second.present, second.access) == ("Intel", True, True)
    assert gpus.render_nodes(tmp_path / "nothing") == ()


def test_qsv_goes_to_the_intel_node_and_not_to_the_first_one() -> None:
    here = machine(
        "NVIDIA RTX A2000",
        nodes=(node("/dev/dri/renderD128", "NVIDIA"), node("/dev/dri/renderD129", "Intel")),
    )
    (device,) = here.devices("qsv")
    assert (
        device is not None
        and device.address == "child_device=/dev/dri/renderD129,child_device_type=vaapi"
    )
    assert [d and d.address for d in here.devices("vaapi")] == ["/dev/dri/renderD129"]
    assert [d and d.address for d in here.devices("nvenc")] == ["0"]
    assert here.devices("amf") == here.devices("videotoolbox") == (None,)


def test_gpus_are_chosen_as_nvidia_smi_counts_them() -> None:
    here = machine("a", "b", "c")
    assert [d and d.name for d in here.devices("nvenc", ["2", "0"])] == ["a", "c"]
    with pytest.raises(UsageError, match="--gpu 3: no such NVIDIA GPU; the driver shows 3"):
        here.devices("nvenc", ["3"])
    with pytest.raises(UsageError, match="--gpu takes numbers"):
        here.devices("qsv", ["first"])
    hidden = Gpus(nvidia=here.nvidia, nodes=(), platform="linux", cuda_visible="1")
    assert [d and (d.address, d.name) for d in hidden.devices("nvenc", ["1"])] == [("0", "b")]
    with pytest.raises(UsageError, match="--gpu 0: CUDA_VISIBLE_DEVICES=1 hides this GPU"):
        hidden.devices("nvenc", ["0"])
    (device,) = here.devices("qsv", ["d3d11:1"])
    assert device is not None and device.address == "child_device=1,child_device_type=d3d11va"


def addresses(here: Gpus, kind: str, *wanted: str) -> list[str | None]:
    return [d.address if d else None for d in here.devices(kind, wanted)]


def test_a_gpu_that_is_not_here_is_never_exchanged_for_another() -> None:
    nodes = (
        node("/dev/dri/renderD128", "Intel"),
        node("/dev/dri/renderD129", "AMD"),
        node("/dev/dri/renderD130", "NVIDIA"),
    )
    here = machine("a", nodes=nodes)
    for kind in ("qsv", "vaapi", "nvenc"):
        with pytest.raises(
            UsageError, match="renderD199: no such render node; here are /dev/dri/renderD128, "
        ):
            here.devices(kind, ["/dev/dri/renderD199"])
        with pytest.raises(UsageError, match="renderD130: this is a GPU of NVIDIA; .* by number"):
            here.devices(kind, ["/dev/dri/renderD130"])
    intel = "child_device=/dev/dri/renderD128,child_device_type=vaapi"
    assert addresses(here, "vaapi", "/dev/dri/renderD129") == ["/dev/dri/renderD129"]
    assert addresses(here, "qsv", "/dev/dri/renderD129") == [intel], (
        "a word for VAAPI alone leaves QSV as it is"
    )
    assert addresses(here, "qsv", "0") == [intel] and addresses(
        here, "nvenc", "/dev/dri/renderD128"
    ) == ["0"]
    closed = machine(
        "a",
        nodes=(
            node("/dev/dri/renderD128", "Intel"),
            node("/dev/dri/renderD129", "Intel", present=False),
        ),
    )
    assert addresses(closed, "qsv") == [intel]
    assert addresses(closed, "vaapi", "/dev/dri/renderD129") == ["/dev/dri/renderD129"]
    # With nothing to choose from, the trial fails on what was asked for and says why.
    empty = Gpus(nvidia=Nvidia(driver=None, problem="no NVML"), nodes=(), platform="linux")
    assert addresses(empty, "nvenc", "0") == [None]
    assert addresses(empty, "vaapi", "/dev/dri/renderD199") == ["/dev/dri/renderD199"]
    assert addresses(empty, "qsv", "/dev/dri/renderD199") == [intel.replace("128", "199")]


@pytest.mark.parametrize(
    ("restriction", "seen"),
    [
        (None, {0: "a", 1: "b", 2: "c"}),
        ("2,0", {0: "c", 1: "a"}),
        ("GPU-1,GPU-0abc", {0: "b", 1: "a"}),
        ("1,9,0", {0: "b"}),
    ],
)
def test_cuda_visible_devices_renumbers(restriction: str | None, seen: dict[int, str]) -> None:
    found = gpus.nvidia(fake_nvml(["a", "b", "c"])).gpus
    assert {i: g.name for i, g in gpus.visible(found, restriction).items()} == seen


@pytest.mark.parametrize(
    ("names", "driver", "cores", "expected"),
    [
        (["GeForce RTX 4090"], "570.86", 16, {0: 6}),  # 8 sessions, 2 in use
        (["GeForce RTX 4090"], "570.86", 4, {0: 4}),  # each session needs a core to feed it
        (
            ["GeForce RTX 3080", "GeForce RTX 3080"],
            "535.1",
            16,
            {0: 1, 1: 1},
        ),  # 5 for both together, 4 in use
        (["GeForce GTX 1080"], "470.1", 16, {0: 1}),
        (["NVIDIA L40S", "GeForce RTX 4060"], "570.86", 16, {0: 8, 1: 6}),
    ],
)
def test_sessions_that_a_driver_allows(
    names: list[str], driver: str, cores: int, expected: dict[int, int]
) -> None:
    found = gpus.nvidia(fake_nvml(names, driver=driver))
    assert gpus.session_slots(found, gpus.visible(found.gpus, None), cores) == expected
