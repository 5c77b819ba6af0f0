"""Which encoders work: reading of logs, the rules of groups, the cache, and what a refusal says."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from vmaftune.cell import Tools
from vmaftune.encoders import ENCODERS, select
from vmaftune.errors import ToolError
from vmaftune.hardware import diagnosis, selection
from vmaftune.hardware.diagnosis import Diagnosis, Reason
from vmaftune.hardware.gpus import Device, Gpu, Gpus, Nvidia, RenderNode
from vmaftune.media.encode import rate_control_that_ran
from vmaftune.media.ffmpeg import Ffmpeg
from vmaftune.media.process import Finished, Runner

DATA = Path(__file__).parent / "reports"
REPORTS = tomllib.loads((DATA / "reports.toml").read_text())
TOOLS = Tools(ffmpeg="ffmpeg", ffmpeg_version="n9", ffmpeg_sha256="ab" * 32, libvmaf_version="3")
NOTHING = Gpus(
    nvidia=Nvidia(driver=None, problem="NVML Shared Library Not Found"), nodes=(), platform="linux"
)
INTEL = RenderNode(
    path="/dev/dri/renderD129", vendor="Intel", driver="xe", present=True, access=True
)


def golden(name: str) -> str:
    return (DATA / f"{name}.txt").read_text()


@pytest.mark.parametrize(
    ("name", "reason", "line"),
    [
        ("h264_nvenc", Reason.DRIVER, "Cannot load libcuda.so.1"),
        ("av1_nvenc", Reason.DRIVER, "Cannot load libcuda.so.1"),
        ("h264_qsv", Reason.DEVICE, "Error creating a MFX session: -9"),
        ("av1_qsv", Reason.DEVICE, "Error creating a MFX session: -9"),
        ("qsv_device", Reason.DEVICE, "No VA display found for device /dev/dri/renderD128"),
        ("qsv_windows", Reason.DEVICE, "Device creation failed: -38"),
        ("hevc_amf", Reason.DRIVER, "DLL libamfrt64.so.1 failed to open"),
        ("hevc_vaapi", Reason.DEVICE, "No VA display found for device /dev/dri/renderD128"),
        ("h264_videotoolbox", Reason.MISSING, "Unknown encoder 'h264_videotoolbox'"),
        (
            "option_out_of_range",
            Reason.OPTION,
            "Value 52.000000 for parameter 'cq' out of range [0 - 51]",
        ),
        ("option_unknown_preset", Reason.OPTION, "Undefined constant or missing '(' in 'p9'"),
    ],
)
def test_reading_the_log_of_a_machine_without_the_hardware(
    name: str, reason: Reason, line: str
) -> None:
    assert diagnosis.classify(golden(name)) == Diagnosis(reason=reason, line=line)


def test_an_ignored_option_is_an_option_error_although_the_device_failed_too() -> None:
    found = diagnosis.classify(golden("option_of_another_encoder"))
    assert found.reason is Reason.OPTION and found.line.startswith("Codec AVOption cq")


@pytest.mark.parametrize(
    "report", REPORTS["report"], ids=lambda r: f"{r['encoder']}: {r['reason']}"
)
def test_reading_what_others_published(report: Mapping[str, str]) -> None:
    found = diagnosis.classify(report["text"])
    assert found.reason == report["reason"]
    why, what_to_do = diagnosis.explain(ENCODERS[report["encoder"]], found, NOTHING, "NVIDIA H200")
    assert why and what_to_do and found.line in why or "NVIDIA H200" in why


def test_nothing_to_read() -> None:
    assert diagnosis.classify("", timed_out=True).reason is Reason.TIMEOUT
    assert diagnosis.classify("[a @ 0x1] something new\n") == Diagnosis(
        reason=Reason.OTHER, line="something new"
    )
    assert diagnosis.classify("").reason is Reason.OTHER


@pytest.mark.parametrize("mode", REPORTS["mode"], ids=lambda m: str(m.get("ran")))
def test_the_rate_control_that_ran(mode: Mapping[str, str]) -> None:
    assert rate_control_that_ran(mode["text"]) == mode.get("ran")


def test_no_engine_is_told_apart_from_no_driver() -> None:
    engine = Diagnosis(
        reason=Reason.ENGINE, line="OpenEncodeSessionEx failed: unsupported device (2)"
    )
    why, _ = diagnosis.explain(ENCODERS["h264_nvenc"], engine, NOTHING, "NVIDIA H200")
    assert why == "no NVENC engine on this GPU (NVIDIA H200)"
    driver = diagnosis.classify(golden("h264_nvenc"))
    assert diagnosis.explain(ENCODERS["h264_nvenc"], driver, NOTHING, None)[0].startswith(
        "no NVIDIA driver"
    )


@pytest.mark.parametrize(
    ("nodes", "says"),
    [
        ((), "no Intel GPU"),
        ((INTEL,), "an Intel GPU or its media driver is missing"),
        (
            (
                RenderNode(
                    path="/dev/dri/renderD129",
                    vendor="Intel",
                    driver="xe",
                    present=True,
                    access=False,
                ),
            ),
            "/dev/dri/renderD129 may not be opened",
        ),
        (
            (
                RenderNode(
                    path="/dev/dri/renderD129",
                    vendor="Intel",
                    driver="xe",
                    present=False,
                    access=False,
                ),
            ),
            "/dev/dri/renderD129 of the Intel GPU is not here",
        ),
    ],
)
def test_what_qsv_lacks_is_seen_on_the_render_nodes(
    nodes: tuple[RenderNode, ...], says: str
) -> None:
    here = Gpus(nvidia=NOTHING.nvidia, nodes=nodes, platform="linux")
    why, _ = diagnosis.explain(
        ENCODERS["h264_qsv"], diagnosis.classify(golden("h264_qsv")), here, None
    )
    assert why.startswith(says)


class ScriptedRunner(Runner):
    """Answers trial encodes: encoders in `works` succeed, on the devices named there only; others
    give their golden.
    """

    def __init__(self, works: Mapping[str, str | None], log: str = "") -> None:
        super().__init__()
        self.works, self.log, self.asked = works, log, list[tuple[str, ...]]()

    def run(self, argv: Sequence[str], **_: Any) -> Finished:
        self.asked.append(tuple(argv))
        encoder = argv[argv.index("-c:v") + 1]
        place = self.works.get(encoder, "nowhere")
        good = encoder in self.works and (place is None or any(place in a for a in argv))
        log = (
            f"{self.log}\n[out] 3 frames encoded; 3 packets muxed (9 bytes); \n"
            if good
            else golden(encoder)
        )
        return Finished(
            argv=tuple(argv),
            returncode=0 if good else 1,
            timed_out=False,
            wall_s=0.1,
            cpu_s=0.1,
            stdout=b"",
            stderr=log,
        )


SOFTWARE = dict.fromkeys((n for n, row in ENCODERS.items() if row.group == "software"), None)


def using(runner: Runner) -> Ffmpeg:
    return Ffmpeg(identity=TOOLS, runner=runner)


def resolve(
    runner: Runner, words: str, tmp: Path, *, gpus: Gpus = NOTHING, **options: Any
) -> selection.Resolved:
    cache = selection.Cache(TOOLS, gpus, tmp)
    return selection.choose_encoders(
        select(words.split(",")), using(runner), gpus=gpus, cache=cache, **options
    )


def names(resolved: selection.Resolved) -> list[str]:
    return [row.name for row in resolved.encoders]


def test_a_group_drops_what_cannot_run_with_a_line_each(tmp_path: Path) -> None:
    found = resolve(ScriptedRunner({"h264_nvenc": None, "hevc_nvenc": None}), "nvenc", tmp_path)
    assert names(found) == ["h264_nvenc", "hevc_nvenc"] and found.skipped == ("av1_nvenc",)
    assert found.notices == ("av1_nvenc is left out: no NVIDIA driver (Cannot load libcuda.so.1)",)


def test_a_group_of_which_nothing_is_left_is_refused_even_beside_others(tmp_path: Path) -> None:
    with pytest.raises(ToolError, match="3 of the encoders asked for cannot run"):
        resolve(ScriptedRunner(SOFTWARE), "nvenc,x264", tmp_path)


def test_skip_unusable_goes_on_with_the_rest(tmp_path: Path) -> None:
    found = resolve(ScriptedRunner(SOFTWARE), "nvenc,h264_qsv,x264", tmp_path, skip_unusable=True)
    assert names(found) == ["libx264"]
    assert found.skipped == ("h264_nvenc", "hevc_nvenc", "av1_nvenc", "h264_qsv")
    assert len(found.notices) == 4
    with pytest.raises(ToolError, match="6 of the encoders"):
        resolve(ScriptedRunner(SOFTWARE), "nvenc,qsv", tmp_path, skip_unusable=True)


def test_an_encoder_named_in_full_must_run(tmp_path: Path) -> None:
    with pytest.raises(ToolError, match="av1_nvenc"):
        resolve(ScriptedRunner({**SOFTWARE, "h264_nvenc": None}), "h264_nvenc,av1_nvenc", tmp_path)
    with pytest.raises(ToolError, match="av1_nvenc"):
        resolve(ScriptedRunner({**SOFTWARE, "h264_nvenc": None}), "nvenc,av1_nvenc", tmp_path)


def test_auto_takes_what_works(tmp_path: Path) -> None:
    found = resolve(ScriptedRunner(SOFTWARE), "auto", tmp_path)
    assert names(found) == list(SOFTWARE)
    (notice,) = found.notices
    assert (
        notice.startswith("auto leaves out h264_nvenc, hevc_nvenc") and "vmaf-tune doctor" in notice
    )


def test_the_screen_of_a_refusal_says_why_what_to_do_and_what_can_run(tmp_path: Path) -> None:
    with pytest.raises(ToolError) as refused:
        resolve(ScriptedRunner(SOFTWARE), "nvenc,qsv", tmp_path)
    lines = str(refused.value).splitlines()
    assert lines[0] == "6 of the encoders asked for cannot run on this machine:"
    for name in ("h264_nvenc", "hevc_nvenc", "av1_nvenc"):
        assert any(
            re.match(rf"  {name} +no NVIDIA driver \(Cannot load libcuda", line) for line in lines
        )
    for name in ("h264_qsv", "hevc_qsv", "av1_qsv"):
        assert any(re.match(rf"  {name} +no Intel GPU", line) for line in lines)
    assert any(line.startswith("  nvenc: install NVIDIA's driver") for line in lines)
    assert lines[-1].startswith(
        "can run: libx264, libx265, libsvtav1, libvvenc, libvpx-vp9, libaom-av1;"
    )
    assert len(lines) <= 12


def test_a_success_is_remembered_and_a_failure_tried_again(tmp_path: Path) -> None:
    runner = ScriptedRunner({"libx264": None})
    resolve(runner, "h264_nvenc,x264", tmp_path, skip_unusable=True)
    assert len(runner.asked) == 2
    resolve(runner, "h264_nvenc,x264", tmp_path, skip_unusable=True)
    assert [argv[argv.index("-c:v") + 1] for argv in runner.asked[2:]] == ["h264_nvenc"]
    newer = Gpus(nvidia=Nvidia(driver="570.1"), nodes=(), platform="linux")
    resolve(runner, "x264", tmp_path, gpus=newer)
    assert len(runner.asked) == 4, "another driver, another cache"
    chip = RenderNode(
        path="/dev/dri/renderD128",
        vendor="Intel",
        driver="xe",
        present=True,
        access=True,
        model="0x56a0",
    )
    for i, node in enumerate((chip, replace(chip, model="0xe20b")), 1):
        other = Gpus(nvidia=NOTHING.nvidia, nodes=(node,), platform="linux")
        for _ in range(2):
            resolve(ScriptedRunner({"h264_qsv": None}), "h264_qsv", tmp_path, gpus=other)
        assert len(list(tmp_path.iterdir())) == 2 + i, (
            "another chip behind the same node, another cache"
        )
    for file in tmp_path.iterdir():
        file.write_text("{ torn")
    resolve(runner, "x264", tmp_path)
    assert len(runner.asked) == 5, "a broken cache is no cache"


def test_every_device_is_tried_and_lanes_are_made_of_those_that_work(tmp_path: Path) -> None:
    arc = RenderNode(
        path="/dev/dri/renderD130", vendor="Intel", driver="xe", present=True, access=True
    )
    gpu = Gpu(
        index=0,
        uuid="GPU-0",
        name="GeForce RTX 4090",
        memory_bytes=None,
        sessions=1,
        encoder_percent=0,
        gpu_percent=0,
    )
    here = Gpus(nvidia=Nvidia(driver="570.1", gpus=(gpu,)), nodes=(INTEL, arc), platform="linux")
    runner = ScriptedRunner(
        {"h264_nvenc": "0", "h264_qsv": None, "av1_qsv": "renderD130", "libx264": None}
    )
    found = resolve(runner, "h264_nvenc,h264_qsv,av1_qsv,x264", tmp_path, gpus=here)
    nodes = [f"child_device=/dev/dri/renderD{n},child_device_type=vaapi" for n in (129, 130)]
    assert [d and d.address for d in found.devices["h264_qsv"]] == nodes
    assert [d and d.address for d in found.devices["av1_qsv"]] == nodes[1:]
    assert "libx264" not in found.devices
    assert selection.slots(found, cores=16) == {
        "nvenc:0": 7,
        f"qsv:{nodes[0]}": 1,
        f"qsv:{nodes[1]}": 1,
    }
    assert selection.slots(found, cores=4)["nvenc:0"] == 4


def test_ten_bit_sources_are_tried_at_ten_bit(tmp_path: Path) -> None:
    runner = ScriptedRunner({"hevc_nvenc": None})
    resolve(runner, "hevc_nvenc", tmp_path, pix_fmts=("yuv420p", "yuv420p10le", "yuv422p10le"))
    assert [argv[argv.index("-vf") + 1] for argv in runner.asked] == [
        "format=yuv420p",
        "format=p010le",
    ]


def test_a_driver_that_changes_the_mode_is_noticed(tmp_path: Path) -> None:
    log = "[hevc_qsv @ 0x0] TargetUsage: 4; RateControlMethod: CQP"
    runner = ScriptedRunner({"hevc_qsv": None}, log)
    for _ in range(2):  # fresh, and from the cache
        (notice,) = resolve(runner, "hevc_qsv", tmp_path).notices
        assert notice.startswith("hevc_qsv: the driver runs CQP where ICQ was asked for")
    assert len(runner.asked) == 1


def test_exit_code_zero_without_frames_is_a_failure(tmp_path: Path) -> None:
    class Empty(ScriptedRunner):
        def run(self, argv: Sequence[str], **_: Any) -> Finished:
            return Finished(
                argv=tuple(argv),
                returncode=0,
                timed_out=False,
                wall_s=0,
                cpu_s=0,
                stdout=b"",
                stderr="",
            )

    (trial,) = selection.prove(
        [ENCODERS["libx264"]],
        using(Empty({})),
        pix_fmts=("yuv420p",),
        gpus=NOTHING,
        cache=selection.Cache(TOOLS, NOTHING, tmp_path),
    )
    assert not trial.usable and trial.why == "the trial encode failed: 0 of 3 frames came out"


def test_lane_names_tell_devices_apart() -> None:
    one = Device(kind="nvenc", address="0", name="same")
    other = Device(kind="nvenc", address="1", name="same")
    assert selection.lane_name("nvenc", one) != selection.lane_name("nvenc", other)
    assert selection.lane_name("amf", None) == "amf"
