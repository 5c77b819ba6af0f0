"""The command for a whole file: as one would type it, and it works."""

from __future__ import annotations

import shlex
import subprocess
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from made_up import window_of_film
from vmaftune.cell import Raw, Setting, parse_crop
from vmaftune.encoders import ENCODERS
from vmaftune.media.paste import film_command, user_command
from vmaftune.media.probe import probe

SETTINGS = {
    "libx264": ("veryfast", 23.5, "-c:v libx264 -preset veryfast -crf 23.5"),
    "libx265": ("ultrafast", 28, "-c:v libx265 -preset ultrafast -crf 28"),
    "libsvtav1": ("10", 35, "-c:v libsvtav1 -preset 10 -crf 35"),
    "libvvenc": ("faster", 37, "-c:v libvvenc -preset faster -qp 37"),
    "libvpx-vp9": (
        "realtime",
        40,
        "-c:v libvpx-vp9 -deadline realtime -cpu-used 5 -crf 40 -b:v 0",
    ),
    "libaom-av1": ("rt8", 40, "-c:v libaom-av1 -usage realtime -cpu-used 8 -crf 40 -b:v 0"),
}


def test_it_is_what_one_would_type() -> None:
    assert (
        user_command(ENCODERS["libsvtav1"], "8", 28)
        == "ffmpeg -i film.mkv -c:v libsvtav1 -preset 8 -crf 28 -c:a copy out.mkv"
    )
    assert user_command(ENCODERS["hevc_nvenc"], "p4", 25).endswith(
        "-c:v hevc_nvenc -preset p4 -rc vbr -cq 25 -b:v 0 -tune hq -c:a copy out.mkv"
    )
    assert "-preset" not in user_command(ENCODERS["h264_vaapi"], "default", 25)


def test_size_format_and_options_are_in_it() -> None:
    made = user_command(
        ENCODERS["libx264"],
        "fast",
        23,
        source="a b.mp4",
        size=(1280, 720),
        pix_fmt="yuv420p",
        options=("-tune", "film"),
    )
    assert made == (
        "ffmpeg -i 'a b.mp4' -vf scale=1280:720:flags=bicubic -pix_fmt yuv420p"
        " -c:v libx264 -preset fast -crf 23 -tune film -c:a copy out.mkv"
    )


FILM = replace(
    window_of_film(0),
    name="film",
    path="a film.mkv",
    sha256="ab" * 32,
    size_bytes=1,
    num_frames=None,
    expected_frames=10,
    crop=parse_crop("128x72+8+4"),
    scale=(112, 64),
    deinterlace=True,
    width=112,
    height=64,
    fps="25",
)
X264 = ENCODERS["libx264"]


def test_a_film_is_prepared_as_its_windows_were() -> None:
    setting = Setting(
        encoder=X264,
        preset="ultrafast",
        quality=23,
        size=(96, 64),
        options=X264.check_options("-tune film"),
        maxrate_kbps=900,
        bufsize_kbps=1800,
    )
    assert film_command(FILM, setting) == (
        "ffmpeg -i 'a film.mkv'"
        " -vf bwdif=mode=send_frame,crop=128:72:8:4:exact=1,scale=96:64:flags=bicubic"
        " -c:v libx264 -preset ultrafast -crf 23 -tune film -maxrate 900k -bufsize 1800k"
        " -c:a copy out.mkv"
    )
    plain = Setting(encoder=X264, preset="ultrafast", quality=23)
    assert "scale=112:64" in film_command(FILM, plain), "the size that was measured"
    deep = replace(FILM, pix_fmt="yuv422p10le")
    ten = Setting(encoder=ENCODERS["libsvtav1"], preset="8", quality=30)
    assert "-pix_fmt yuv420p10le" in film_command(deep, ten)
    assert "-pix_fmt" not in film_command(FILM, ten)
    raw = replace(FILM, raw=Raw(width=144, height=80, fps="25", pix_fmt="yuv420p"))
    layout = "-f rawvideo -pixel_format yuv420p -video_size 144x80 -framerate 25 -i"
    assert layout in film_command(raw, plain)
    on_gpu = Setting(encoder=ENCODERS["h264_vaapi"], preset="default", quality=25)
    line = film_command(FILM, on_gpu)
    assert line.startswith("ffmpeg -vaapi_device /dev/dri/renderD128 -i 'a film.mkv' -vf bwdif")
    assert ",format=nv12,hwupload -c:v h264_vaapi" in line


def test_a_film_comes_out_in_the_size_that_was_measured(
    ffmpeg: str, clip: Callable[..., Path], tmp_path: Path
) -> None:
    film = clip("pasted whole.mkv", size="144x80")
    (tmp_path / film.name).write_bytes(film.read_bytes())
    setting = Setting(
        encoder=X264, preset="ultrafast", quality=23, maxrate_kbps=900, bufsize_kbps=1800
    )
    line = film_command(replace(FILM, path=film.name), setting)
    argv = [ffmpeg, *shlex.split(line)[1:]]
    subprocess.run(argv, cwd=tmp_path, stdin=subprocess.DEVNULL, capture_output=True, check=True)
    made = probe(tmp_path / "out.mkv")
    assert (made.width, made.height, made.num_packets) == (112, 64, 10)


@pytest.mark.parametrize("encoder", SETTINGS)
def test_it_encodes_the_film_with_its_sound(
    ffmpeg: str, clip: Callable[..., Path], tmp_path: Path, encoder: str
) -> None:
    sound = ("-f", "lavfi", "-i", "sine=d=0.4")
    film = clip("pasted film's 1:2.mkv", before=sound, args=("-c:v", "ffv1", "-c:a", "flac"))
    (tmp_path / film.name).write_bytes(film.read_bytes())
    preset, quality, words = SETTINGS[encoder]
    line = user_command(ENCODERS[encoder], preset, quality, source=film.name)
    assert words in line
    argv = [ffmpeg, *shlex.split(line)[1:]]
    subprocess.run(argv, cwd=tmp_path, stdin=subprocess.DEVNULL, capture_output=True, check=True)
    told = subprocess.run(
        [ffmpeg, "-i", "out.mkv", "-f", "null", "-"], cwd=tmp_path, capture_output=True, text=True
    )
    assert told.returncode == 0, told.stderr
    assert "Audio: flac" in told.stderr and f"Video: {ENCODERS[encoder].codec}" in told.stderr


@pytest.mark.parametrize("name", ["-dash.mkv", "12:30.mkv", "a'b $HOME %d.mkv"])
def test_hostile_names_are_files(
    ffmpeg: str, clip: Callable[..., Path], tmp_path: Path, name: str
) -> None:
    (tmp_path / name).write_bytes(clip("plain.mkv").read_bytes())
    line = user_command(ENCODERS["libx264"], "ultrafast", 30, source=name, out="new " + name)
    stub = tmp_path / "ffmpeg"
    stub.symlink_to(ffmpeg)
    done = subprocess.run(
        ["sh", "-c", line],
        cwd=tmp_path,
        env={"PATH": f"{tmp_path}:/usr/bin:/bin"},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert (tmp_path / ("new " + name)).stat().st_size
