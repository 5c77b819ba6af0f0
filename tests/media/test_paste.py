"""The command for a whole file: as one would type it, and it works."""

from __future__ import annotations

import shlex
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from vmaftune.encoders import ENCODERS
from vmaftune.media.paste import user_command

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
