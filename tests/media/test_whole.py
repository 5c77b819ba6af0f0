"""A whole film as a file that a person keeps: every frame, its sound, its own times, or no file."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import pytest
from made_up import window_of_film
from vmaftune.cell import Color, Setting, Window
from vmaftune.encoders import ENCODERS
from vmaftune.media.containers import companions
from vmaftune.media.failure import CellFailure
from vmaftune.media.ffmpeg import Ffmpeg
from vmaftune.media.whole import FilmEncode, encode_film, film_argv

X264 = Setting(encoder=ENCODERS["libx264"], preset="ultrafast", quality=30)


def window(path: Path, num_frames: int) -> Window:
    return replace(
        window_of_film(0),
        name="film",
        path=str(path),
        sha256="ab" * 32,
        size_bytes=path.stat().st_size,
        num_frames=None,
        expected_frames=num_frames,
        width=320,
        height=180,
        fps="24000/1001",
        color=Color(primaries="bt709", transfer="bt709", matrix="bt709", range="tv"),
    )


@pytest.mark.parametrize("suffix", [".mkv", ".mp4"])
def test_the_film_comes_out_whole(
    film: Callable[..., Any], real: Ffmpeg, tmp_path: Path, suffix: str
) -> None:
    made = film("two shots.mkv", shots=2)
    wanted = FilmEncode(
        film=window(made.path, made.num_frames),
        setting=replace(X264, size=(160, 90)),
        streams=companions(made.path),
        out=tmp_path / f"it's out{suffix}",
    )
    done = encode_film(wanted, real, 120)
    assert done.num_frames == made.num_frames
    assert [p.name for p in tmp_path.iterdir()] == [wanted.out.name]
    with av.open(str(wanted.out)) as opened:
        video = opened.streams.video[0]
        assert [s.type for s in opened.streams] == ["video", "audio"]
        assert (video.width, video.height) == (160, 90)
        times = sorted(p.pts for p in opened.demux(video) if p.size and p.pts is not None)
        assert len(times) == made.num_frames
        last = Fraction(times[-1] - times[0]) * (video.time_base or Fraction(1))
        assert abs(last - (made.num_frames - 1) * Fraction(1001, 24000)) <= Fraction(1, 1000)


def test_a_film_that_comes_out_shorter_leaves_no_file(
    film: Callable[..., Any], real: Ffmpeg, tmp_path: Path
) -> None:
    made = film("two shots.mkv", shots=2)
    wanted = FilmEncode(
        film=window(made.path, made.num_frames + 1),
        setting=X264,
        streams=(),
        out=tmp_path / "out.mkv",
    )
    with pytest.raises(CellFailure, match="the film has 97 frames and the encode 96"):
        encode_film(wanted, real, 120)
    assert not list(tmp_path.iterdir())


def test_threads_are_left_to_the_encoder_and_tags_are_the_films(tmp_path: Path) -> None:
    source = tmp_path / "film.mkv"
    source.write_bytes(b"")
    wanted = FilmEncode(
        film=window(source, 240), setting=X264, streams=(), out=tmp_path / "out.mkv"
    )
    argv = film_argv(wanted)
    assert "-threads" not in argv
    assert "color_primaries=bt709" in argv[argv.index("-filter:v:0") + 1]
    assert argv[argv.index("-c:v:0") + 1] == "libx264"
