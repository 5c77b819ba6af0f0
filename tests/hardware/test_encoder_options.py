"""Every option of every row of the encoder table, against the real ffmpeg: its help, and trial
encodes.

Software must encode. Hardware must fail at the device and not at an option, on a machine without
it; where the machine has it, the trial must succeed. Either way no option may be one that ffmpeg
does not use.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from vmaftune.encoders import ENCODERS, Encoder
from vmaftune.hardware import diagnosis
from vmaftune.hardware.diagnosis import Reason
from vmaftune.hardware.gpus import Device, look
from vmaftune.hardware.selection import SIZE, TIMEOUT_S, trial_argv, try_encoder
from vmaftune.media.ffmpeg import find_ffmpeg, identify
from vmaftune.media.process import Finished, Runner

DATA = Path(__file__).parent / "reports"
FFMPEG = find_ffmpeg()
RUNNER = Runner()
USED = identify(RUNNER, FFMPEG)
# Options of ffmpeg itself; the rest must be in the encoder's help or in that of every codec.
FFMPEG_OWN = {"-c:v", "-q:v"}
GENERIC = {"-b:v": "-b", "-threads": "-threads", "-global_quality": "-global_quality"}
NAMED = {"INT_MIN": -(2**31), "INT_MAX": 2**31, "I64_MAX": 2**63, "FLT_MAX": 3e38}
BUILT = [name for name in ENCODERS if not name.endswith("videotoolbox")]
HERE = look()


@cache
def help_of(topic: str) -> str:
    return RUNNER.run([FFMPEG, "-hide_banner", "-h", topic], timeout_s=60).stdout.decode()


def option_block(text: str, option: str) -> str | None:
    """The help of one option: its line and the constants below it."""
    match = re.search(rf"^  {re.escape(option)} +<.*\n(?:     .*\n)*", text, re.MULTILINE)
    return match[0] if match else None


def bounds(block: str) -> tuple[float, float] | None:
    match = re.search(r"\(from (\S+) to (\S+)\)", block.splitlines()[0])
    if not match:
        return None
    low, high = (float(NAMED.get(word, word)) for word in match.groups())
    return low, high


def pairs(row: Encoder, preset: str, quality: float) -> Iterator[tuple[str, str]]:
    arguments = row.arguments(preset, quality, 1)
    yield from zip(arguments[::2], arguments[1::2], strict=True)


@pytest.mark.parametrize("name", BUILT)
def test_options_values_and_ranges_are_those_of_the_help(name: str) -> None:
    row, text = ENCODERS[name], help_of(f"encoder={name}")
    every = help_of("full").partition("AVCodecContext AVOptions:")[2]
    for preset in row.presets:
        for quality in (row.quality_min, row.quality_max):
            for option, value in pairs(row, preset, quality):
                if option in FFMPEG_OWN:
                    continue
                block = option_block(text, option) or (
                    option_block(every, GENERIC[option]) if option in GENERIC else None
                )
                assert block, f"{name} has no option {option}"
                constants = re.findall(r"^     (\S+)", block, re.MULTILINE)
                limits = bounds(block)
                if (
                    value in constants
                    or "<string>" in block
                    or "<dictionary>" in block
                    or "<boolean>" in block
                ):
                    continue
                assert limits and limits[0] <= float(value) <= limits[1], (
                    f"{name} {option} {value}: {limits}"
                )


@pytest.mark.parametrize(
    ("name", "option", "low", "high"),
    [
        ("h264_nvenc", "-cq", 0, 51),
        ("hevc_nvenc", "-cq", 0, 51),
        ("av1_nvenc", "-cq", 0, 63),
        ("libsvtav1", "-crf", 0, 63),
        ("libvvenc", "-qp", -1, 63),
        ("libvpx-vp9", "-crf", -1, 63),
        ("libaom-av1", "-crf", -1, 63),
        ("h264_amf", "-qp_i", -1, 51),
        ("av1_amf", "-qp_i", -1, 255),
    ],
)
def test_the_largest_quality_value_is_the_encoders_own(
    name: str, option: str, low: float, high: float
) -> None:
    block = option_block(help_of(f"encoder={name}"), option)
    assert block and bounds(block) == (low, high)
    assert ENCODERS[name].quality_max == high


@pytest.mark.parametrize("name", [n for n in BUILT if ENCODERS[n].kind in ("nvenc", "qsv")])
def test_preset_names_are_in_the_help(name: str) -> None:
    block = option_block(help_of(f"encoder={name}"), "-preset")
    assert block and set(ENCODERS[name].presets) <= set(
        re.findall(r"^     (\S+)", block, re.MULTILINE)
    )


@pytest.mark.parametrize("name", BUILT)
def test_pixel_formats_are_in_the_help(name: str) -> None:
    row = ENCODERS[name]
    line = re.search(r"Supported pixel formats: (.*)", help_of(f"encoder={name}"))
    assert line and (set(row.pix_fmts) <= set(line[1].split()) or row.upload_filter), name


def trial(row: Encoder, preset: str, quality: float, pix_fmt: str, *more: str) -> Finished:
    """A trial at `-v warning` and a tiny size. Without a device; frames for VAAPI are not uploaded,
    because a filter without its device fails before ffmpeg looks for options that nothing uses.
    """
    return RUNNER.run(
        [
            FFMPEG,
            "-nostdin",
            "-hide_banner",
            "-nostats",
            "-v",
            "warning",
            "-f",
            "lavfi",
            "-i",
            f"testsrc2=size={'64x64' if row.kind is None else SIZE}:rate=25",
            "-frames:v",
            "3",
            "-vf",
            f"format={pix_fmt}",
            *row.arguments(preset, quality, 1),
            *more,
            "-f",
            "null",
            "-",
        ],
        timeout_s=300,
    )


def variants(kind_is_software: bool) -> list[tuple[str, str, float, str]]:
    """Every preset, the ends of the quality scale, and every pixel format of every row."""
    chosen = []
    for row in (ENCODERS[n] for n in BUILT):
        if (row.kind is None) is kind_is_software:
            middle = row.default_quality[1]
            chosen += [(row.name, preset, middle, row.pix_fmts[0]) for preset in row.presets]
            chosen += [
                (row.name, row.default_preset, q, row.pix_fmts[0])
                for q in (row.quality_min, row.quality_max)
            ]
            chosen += [(row.name, row.default_preset, middle, f) for f in row.pix_fmts[1:]]
    return chosen


@pytest.mark.parametrize(("name", "preset", "quality", "pix_fmt"), variants(True))
def test_software_encodes_with_every_preset_end_and_format(
    name: str, preset: str, quality: float, pix_fmt: str
) -> None:
    done = trial(ENCODERS[name], preset, quality, pix_fmt)
    assert done.returncode == 0, done.tail
    assert "has not been used for any stream" not in done.stderr
    assert "Incompatible pixel format" not in done.stderr


@pytest.mark.parametrize(("name", "preset", "quality", "pix_fmt"), variants(False))
def test_hardware_fails_at_the_device_and_not_at_an_option(
    name: str, preset: str, quality: float, pix_fmt: str
) -> None:
    done = trial(ENCODERS[name], preset, quality, pix_fmt)
    assert "has not been used for any stream" not in done.stderr
    assert "Incompatible pixel format" not in done.stderr
    if ENCODERS[name].upload_filter:  # got as far as the frames, which are not on the GPU
        assert done.returncode and "Impossible to convert between the formats" in done.stderr
    elif done.returncode:
        found = diagnosis.classify(done.stderr)
        assert found.reason not in (
            Reason.OPTION,
            Reason.MISSING,
            Reason.OTHER,
            Reason.TIMEOUT,
        ), found


@pytest.mark.parametrize("name", [n for n in BUILT if ENCODERS[n].kind])
def test_the_two_checks_above_can_fail(name: str) -> None:
    row = ENCODERS[name]
    for wrong in (
        ("-crf", "20"),
        ("-profile:v", "no-such-profile"),
    ):  # another encoder's option, a bad value
        done = trial(row, row.default_preset, row.default_quality[0], row.pix_fmts[0], *wrong)
        assert diagnosis.classify(done.stderr).reason is Reason.OPTION, done.tail


@pytest.mark.parametrize("name", [n for n in ENCODERS if ENCODERS[n].kind])
def test_failure_texts_are_still_those_of_the_goldens(name: str) -> None:
    row = ENCODERS[name]
    device = HERE.devices(row.kind or "")[0]
    done = RUNNER.run([FFMPEG, *trial_argv(row, row.pix_fmts[0], device)], timeout_s=TIMEOUT_S)
    if done.returncode == 0 or HERE.nvidia.driver or HERE.nodes:
        assert try_encoder(USED, row, row.pix_fmts[0], device, HERE).reason is not Reason.OPTION
        return
    assert diagnosis.classify(done.stderr) == diagnosis.classify((DATA / f"{name}.txt").read_text())


@pytest.mark.parametrize(
    ("name", "address"),
    [
        ("hevc_qsv", "child_device=/dev/dri/renderD199,child_device_type=vaapi"),
        ("av1_vaapi", "/dev/dri/renderD199"),
    ],
)
def test_device_arguments_reach_the_device(name: str, address: str) -> None:
    row = ENCODERS[name]
    device = Device(kind=row.kind or "", address=address, name="none")
    done = RUNNER.run([FFMPEG, *trial_argv(row, row.pix_fmts[0], device)], timeout_s=TIMEOUT_S)
    found = diagnosis.classify(done.stderr)
    assert (found.reason, found.line) == (
        Reason.DEVICE,
        "No VA display found for device /dev/dri/renderD199",
    )


def test_the_gpu_number_of_nvenc_is_an_option_of_the_encoder() -> None:
    for name in ("h264_nvenc", "hevc_nvenc", "av1_nvenc"):
        option, value = ENCODERS[name].gpu_arguments("1")
        block = option_block(help_of(f"encoder={name}"), option)
        assert value == "1" and block and bounds(block) == (-2, 2.0**31)


def test_software_is_proven_here_at_every_format() -> None:
    row = ENCODERS["libx264"]
    trials = [try_encoder(USED, row, f, None, HERE) for f in row.pix_fmts]
    assert all(t.usable for t in trials), [t.why for t in trials]


@pytest.mark.parametrize("num_frames", [46, 47, 48, 49, 60])
def test_vvenc_loses_no_short_clip(
    num_frames: int, clip: Callable[..., Path], swept: Callable[..., Any]
) -> None:
    """Without its arguments for short clips, this build loses all packets of 46 and 47 frames in
    every run.
    """
    made = swept(
        clip(f"short{num_frames}.mkv", frames=num_frames, size="64x64"),
        encoders="vvenc",
        presets="faster",
        quality="40",
    )
    assert (made.row["status"], made.row["num_frames"]) == ("ok", num_frames)
    assert ("maxparallelframes=0" in made.row["argv"]) == (num_frames < 60)
