"""Commands that prepare and encode, as texts; and what is read from the log of an encode."""

from __future__ import annotations

import pickle
import shlex
from dataclasses import replace
from pathlib import Path

import pytest
from vmaf_train.corpus.rows import FailureKind
from vmaftune.cell import Cell, Color, Setting, Window
from vmaftune.encoders import ENCODERS
from vmaftune.media.encode import (
    check,
    encode_argv,
    encode_sar,
    fill,
    parse_encoder_version,
    parse_frame_count,
    paste,
    telling_line,
)
from vmaftune.media.failure import CellFailure
from vmaftune.media.process import Finished

PLAIN = {
    "name": "clip",
    "group": "clip",
    "path": "clip.mp4",
    "sha256": "",
    "size_bytes": 1,
    "start_frame": 0,
    "num_frames": None,
    "expected_frames": 10,
    "crop": None,
    "scale": None,
    "deinterlace": False,
    "width": 640,
    "height": 360,
    "pix_fmt": "yuv420p",
    "fps": "25",
    "sar": "1",
    "color": Color(),
    "stream_index": 0,
    "raw": None,
}
THREADS = {
    "libx264": "-threads 3",
    "libx265": "-x265-params pools=3:frame-threads=1",
    "libsvtav1": "-svtav1-params lp=3",
    "libvvenc": "-threads 3",
    "libvpx-vp9": "-threads 3 -row-mt 0",
    "libaom-av1": "-threads 3 -row-mt 0",
}


def source(**changes: object) -> Window:
    return Window(**{**PLAIN, **changes})  # type: ignore[arg-type]


def finished(stderr: str, returncode: int = 0, timed_out: bool = False) -> Finished:
    return Finished(
        argv=("ffmpeg",),
        returncode=returncode,
        timed_out=timed_out,
        wall_s=3,
        cpu_s=1,
        stdout=b"",
        stderr=stderr,
    )


def test_the_encode_command_in_full() -> None:
    cell = Cell(
        window=source(),
        setting=Setting(encoder=ENCODERS["libx264"], preset="slow", quality=22.5),
    )
    assert (
        shlex.join(encode_argv(cell))
        == "-nostdin -hide_banner -nostats -v info -y -filter_threads 1 -protocol_whitelist file -f"
        " rawvideo -pixel_format yuv420p -video_size 640x360 -framerate 25 -threads 1 -i"
        " 'file:{ref}' -map 0:v:0 -vf"
        " setparams=range=unknown:color_primaries=unknown:color_trc=unknown:colorspace=unknown,setsar=1,format=yuv420p"  # noqa: E501
        " -c:v libx264 -preset slow -crf 22.5 -threads 1 -fps_mode passthrough -fflags +bitexact"
        " -flags:v +bitexact -f matroska 'file:{out}'"
    )


@pytest.mark.parametrize("name", THREADS)
def test_threads_are_set_the_way_the_encoder_obeys(name: str) -> None:
    row = ENCODERS[name]
    cell = Cell(
        window=source(),
        setting=Setting(encoder=row, preset=row.default_preset, quality=30),
        threads=3,
    )
    assert THREADS[name] in shlex.join(encode_argv(cell)).partition("-c:v")[2]


def test_paths_are_put_in_as_they_are() -> None:
    odd = Path("/tmp/{ref} it's: 50%, -x.mkv")
    assert fill(["-i", "file:{src}", "{src}", "file:{ref}"], src=odd, ref="r") == [
        "-i",
        f"file:{odd}",
        "{src}",
        "file:r",
    ]
    text = paste("/an ffmpeg", ["-i", "file:{src}"], ["-y", "file:{out}"], src=odd, out="o.mkv")
    first, second = text.split(" && ")
    assert shlex.split(first) == ["/an ffmpeg", "-i", f"file:{odd}"]
    assert shlex.split(second) == ["/an ffmpeg", "-y", "file:o.mkv"]


@pytest.mark.parametrize(
    ("encoder", "line", "version"),
    [
        ("libx265", "x265 [info]: HEVC encoder version 4.1+54", "4.1+54"),
        ("libsvtav1", "Svt[info]: SVT [version]:\tSVT-AV1 Encoder Lib v4.0.0", "v4.0.0"),
        ("libvvenc", "[libvvenc @ 0x1] libvvenc version: 1.13.1", "1.13.1"),
        ("libvpx-vp9", "[libvpx-vp9 @ 0x5] v1.15.0", "v1.15.0"),
        ("libaom-av1", "[libaom-av1 @ 0x5] 3.12.0", "3.12.0"),
        ("libx264", "x264 core 164", None),
        ("libx265", "nothing", None),
    ],
)
def test_encoder_versions(encoder: str, line: str, version: str | None) -> None:
    assert parse_encoder_version(ENCODERS[encoder], f"before\n{line}\nafter") == version


def test_the_last_report_counts() -> None:
    assert (
        parse_frame_count("frame=    3 fps=0\rframe=   12 fps=0.0 q=-1.0 Lsize=5\nx264 kb/s") == 12
    )
    assert parse_frame_count("quiet") is None


def test_failures_are_told_apart() -> None:
    cases = {
        "timeout": finished("x", timed_out=True, returncode=-9),
        "disk_full": finished("av: No space left on device", 228),
        "encode_failed": finished(
            "[libx264] Error setting preset no\nError while opening encoder\nConversion failed!",
            234,
        ),
    }
    for kind, done in cases.items():
        with pytest.raises(CellFailure) as caught:
            check(done, "the encode", "encode_failed")
        assert caught.value.kind == kind
        assert caught.value.exit_code == done.returncode
    assert check(finished("fine"), "the encode", "encode_failed").stderr == "fine"


def test_the_first_error_is_the_telling_line() -> None:
    text = (
        "Input #0\nParameter Check Error: width\nError while opening encoder\nExiting with exit"
        " code 1"
    )
    assert telling_line(finished(text)) == "Parameter Check Error: width"
    assert (
        telling_line(finished("30 frames; 0 decode errors; \nlast words\nExiting with exit code 1"))
        == "last words"
    )
    assert telling_line(finished("")) == "it said nothing"


def test_a_failure_travels_between_processes_as_it_is() -> None:
    failure = CellFailure(FailureKind.TIMEOUT, "stopped", finished("the end", returncode=-9))
    other = pickle.loads(pickle.dumps(failure))
    facts = ("kind", "exit_code", "stderr_tail")
    assert [getattr(other, f) for f in facts] == [getattr(failure, f) for f in facts]
    assert str(other) == "stopped"


def test_an_encode_of_another_size_is_scaled_in_words() -> None:
    setting = Setting(encoder=ENCODERS["libx264"], preset="slow", quality=22)
    plain = Cell(window=source(color=Color(range="tv")), setting=setting)
    small = replace(plain, setting=replace(setting, size=(320, 180)))
    before, after = encode_argv(plain), encode_argv(small)
    place = before.index("-vf") + 1
    tags = "setparams=range=tv:color_primaries=unknown:color_trc=unknown:colorspace=unknown"
    assert before[place] == f"{tags},setsar=1,format=yuv420p"
    assert after[place] == f"{tags},scale=320:180:flags=bicubic,setsar=1,format=yuv420p"
    assert [*before[:place], *before[place + 1 :]] == [*after[:place], *after[place + 1 :]]


@pytest.mark.parametrize(
    ("size", "sar", "expected"),
    [
        ((320, 180), "1", "1"),
        ((426, 240), "1", "1"),
        ((320, 360), "1", "2"),
        ((640, 180), "4/3", "2/3"),
    ],
)
def test_another_shape_shows_the_same_picture(
    size: tuple[int, int], sar: str, expected: str
) -> None:
    setting = Setting(encoder=ENCODERS["libx264"], preset="slow", quality=22, size=size)
    assert encode_sar(Cell(window=source(sar=sar), setting=setting)) == expected
