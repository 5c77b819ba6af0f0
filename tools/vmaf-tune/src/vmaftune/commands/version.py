"""`vmaf-tune --version`: the program in one line, then every tool that shapes a result."""

from __future__ import annotations

import platform

from vmaftune import console
from vmaftune.errors import VmafTuneError
from vmaftune.media.ffmpeg import find_ffmpeg, identify, packages
from vmaftune.media.process import Runner

Line = tuple[str, str | None]


def show() -> None:
    """Print `vmaf-tune VERSION` and a table of tools on stdout; a missing ffmpeg is a note."""
    found = packages()
    console.out(f"vmaf-tune {found.pop('vmaf-tune') or '(not installed)'}")
    tools: list[Line] = [("python", platform.python_version()), *_ffmpeg(), *found.items()]
    console.table("", ("tool", "version"), tools, left=2)


def _ffmpeg() -> list[Line]:
    try:
        tools = identify(Runner(), find_ffmpeg()).identity
    except VmafTuneError as failure:
        console.warn(str(failure))
        return [("ffmpeg", None), ("libvmaf", None)]
    return [
        ("ffmpeg", tools.ffmpeg_version),
        ("ffmpeg sha256", tools.ffmpeg_sha256[:16]),
        ("ffmpeg path", tools.ffmpeg),
        ("libvmaf", tools.libvmaf_version),
    ]
