"""Why an encoder did not open: ffmpeg's log -> one reason, and a reason -> two sentences for a
person. Pure.

The texts are those of ffmpeg's libavcodec/nvenc.c, qsv.c, qsvenc.c, libavutil/hwcontext_*.c and
fftools; those that a machine without the hardware gives are goldens of the tests.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum

from vmaftune.encoders import Encoder
from vmaftune.hardware.gpus import Gpus


class Reason(StrEnum):
    """What kept an encoder from opening."""

    MISSING = "encoder missing from this build"
    OPTION = "option error"
    SESSIONS = "session limit"
    OLD_DRIVER = "driver too old"
    DRIVER = "no driver"
    ENGINE = "no engine on this GPU"
    UNSUPPORTED = "not offered by this GPU"
    ACCESS = "no access"
    DEVICE = "no device"
    TIMEOUT = "timeout"
    OTHER = "failed"


# First match wins: an option error hides everything after it, and a driver's own words tell more
# than the "No capable devices found" that follows them.
_SIGNS: tuple[tuple[Reason, str], ...] = (
    (
        Reason.MISSING,
        r"Unknown encoder|Unrecognized option 'vaapi_device'|unknown device type|No such filter",
    ),
    (
        Reason.OPTION,
        r"has not been used for any stream|Unable to parse .* option value|out of"
        r" range|Unrecognized option"
        r"|Undefined constant|Error setting option|Option not found|Error applying encoder options",
    ),
    (
        Reason.SESSIONS,
        r"OpenEncodeSessionEx failed: out of memory \(10\)|incompatible client key \(21\)",
    ),
    (Reason.OLD_DRIVER, r"Driver does not support the required nvenc API version"),
    (
        Reason.DRIVER,
        r"Cannot load (libcuda|nvcuda|libnvidia-encode|nvEncodeAPI)|DLL (lib)?amf\S* failed to open"
        r"|vaInitialize failed|Failed to initialise VAAPI connection",
    ),
    (Reason.ENGINE, r"OpenEncodeSessionEx failed: unsupported device \(2\)"),
    (
        Reason.UNSUPPORTED,
        r"Codec not supported|10 bit encode not supported|ratecontrol mode is unsupported|codec"
        r" type is unsupported"
        r"|pixel format is unsupported|profile is unsupported|No usable encoding"
        r" (profile|entrypoint)"
        r"|does not support any RC mode|not supported by the QSV runtime|Error initializing the"
        r" encoder"
        r"|doesn't support required NVENC features|not supported by AMF H264",
    ),
    (Reason.ACCESS, r"Permission denied"),
    (
        Reason.DEVICE,
        r"No VA display found|CUDA_ERROR_NO_DEVICE|No CUDA capable devices found|Requested GPU \d+,"
        r" but only"
        r"|MFX session: -\d+|Error initializing an MFX session|Failed to create .*hardware device"
        r" context"
        r"|Device creation failed|No capable devices found|device failed",
    ),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Diagnosis:
    """A reason and the line of the log that told it, without ffmpeg's prefix."""

    reason: Reason
    line: str


def classify(stderr: str, *, timed_out: bool = False) -> Diagnosis:
    """The reason in ffmpeg's log (any level from `warning` on) of a trial encode that failed."""
    if timed_out:
        return Diagnosis(reason=Reason.TIMEOUT, line="the trial encode did not end in time")
    for reason, pattern in _SIGNS:
        match = re.search(rf"^.*(?:{pattern}).*$", stderr, re.MULTILINE)
        if match:
            return Diagnosis(reason=reason, line=_bare(match[0]))
    lines = [line for line in stderr.strip().splitlines() if line.strip()]
    return Diagnosis(reason=Reason.OTHER, line=_bare(lines[0]) if lines else "ffmpeg said nothing")


def _bare(line: str) -> str:
    return re.sub(r"^(\[[^\]]+\] )+", "", line.strip()).rstrip(".")


def explain(encoder: Encoder, found: Diagnosis, gpus: Gpus, device: str | None) -> tuple[str, str]:
    """Why `encoder` cannot run here and what to do, as two sentences; `device` is the GPU's name,
    where one was tried.
    """
    reason = found.reason
    if reason is Reason.MISSING:
        return (
            f"this ffmpeg is built without {encoder.name}",
            "name an ffmpeg that has it with --ffmpeg or VMAF_TUNE_FFMPEG",
        )
    if reason is Reason.OPTION:
        return (
            f"this ffmpeg refuses the arguments ({found.line})",
            "use ffmpeg 6.1 or newer; the embedded one is",
        )
    if reason in (Reason.TIMEOUT, Reason.OTHER):
        return (
            f"the trial encode failed: {found.line}",
            "run `vmaf-tune doctor --json` and report its `line`",
        )
    family = {"nvenc": _nvenc, "qsv": _qsv, "amf": _amf, "vaapi": _vaapi}.get(encoder.kind or "")
    if family is None:
        return f"{reason}: {found.line}", "use another encoder"
    return family(encoder, found, gpus, device)


def _nvenc(encoder: Encoder, found: Diagnosis, gpus: Gpus, device: str | None) -> tuple[str, str]:
    where = device or (gpus.nvidia.gpus[0].name if gpus.nvidia.gpus else "the GPU")
    if found.reason is Reason.DRIVER and "cuda" in found.line:
        return (
            f"no NVIDIA driver ({found.line})",
            "install NVIDIA's driver; start a container with --gpus all and"
            " NVIDIA_DRIVER_CAPABILITIES=all",
        )
    if found.reason is Reason.DRIVER:
        return (
            f"the driver's encode library is missing ({found.line})",
            "install libnvidia-encode of the same version; in a container add `video` to"
            " NVIDIA_DRIVER_CAPABILITIES",
        )
    if found.reason is Reason.ENGINE:
        return (
            f"no NVENC engine on this GPU ({where})",
            "use a GPU that encodes: GeForce, RTX, T4, A10, L4, L40",
        )
    if found.reason is Reason.OLD_DRIVER:
        return f"the NVIDIA driver is too old ({found.line})", "update NVIDIA's driver"
    if found.reason is Reason.SESSIONS:
        return (
            f"all NVENC sessions of the driver are in use ({found.line})",
            "close other programs that encode (nvidia-smi shows them) and try again",
        )
    if found.reason is Reason.UNSUPPORTED:
        needs = {"av1": "GeForce RTX 40, L4 or newer", "hevc": "a GPU that lists HEVC"}.get(
            encoder.codec, "another GPU"
        )
        return (
            f"{where} does not offer it ({found.line})",
            f"use {needs}, or leave {encoder.name} out",
        )
    return (
        f"no NVIDIA GPU can be used ({found.line})",
        "see what nvidia-smi and CUDA_VISIBLE_DEVICES say",
    )


def _qsv(encoder: Encoder, found: Diagnosis, gpus: Gpus, device: str | None) -> tuple[str, str]:
    intel = [n for n in gpus.nodes if n.vendor == "Intel"]
    if found.reason is Reason.UNSUPPORTED:
        return (
            f"{device or 'the Intel GPU'} does not offer it ({found.line})",
            (
                "update Intel's media driver (AV1 needs Arc or Core Ultra), or leave"
                f" {encoder.name} out"
            ),
        )
    if closed := _closed(gpus, ("Intel",)):
        return closed
    if gpus.platform == "linux" and not intel:
        return (
            f"no Intel GPU ({found.line})",
            "use a machine with Intel graphics; start a container with --device /dev/dri",
        )
    return (
        f"an Intel GPU or its media driver is missing ({found.line})",
        (
            "install Intel's graphics driver (Debian, Ubuntu: intel-media-va-driver-non-free and"
            " libmfx-gen1.2)"
        ),
    )


def _amf(encoder: Encoder, found: Diagnosis, gpus: Gpus, device: str | None) -> tuple[str, str]:
    if found.reason is Reason.UNSUPPORTED:
        return f"the AMD GPU does not offer it ({found.line})", f"leave {encoder.name} out"
    return (
        f"no AMD GPU with the AMF runtime ({found.line})",
        "install AMD's driver (Linux: amf-amdgpu-pro), or use the vaapi encoders on AMD",
    )


def _vaapi(encoder: Encoder, found: Diagnosis, gpus: Gpus, device: str | None) -> tuple[str, str]:
    if found.reason is Reason.UNSUPPORTED:
        return (
            f"{device or 'the GPU'} does not offer it ({found.line})",
            f"leave {encoder.name} out",
        )
    if closed := _closed(gpus, ("Intel", "AMD")):
        return closed
    if not any(n.vendor in ("Intel", "AMD") for n in gpus.nodes):
        return (
            f"no Intel or AMD GPU ({found.line})",
            "use a machine with one; start a container with --device /dev/dri",
        )
    return (
        f"the GPU's VA-API driver is missing ({found.line})",
        "install mesa-va-drivers or intel-media-va-driver",
    )


def _closed(gpus: Gpus, vendors: tuple[str, ...]) -> tuple[str, str] | None:
    """A GPU that the kernel has and this process may not open."""
    for node in (n for n in gpus.nodes if n.vendor in vendors):
        if not node.present:
            return (
                f"{node.path} of the {node.vendor} GPU is not here",
                "start the container with --device /dev/dri",
            )
        if not node.access:
            return (
                f"{node.path} may not be opened",
                "add yourself to the group `render` and log in again",
            )
    return None
