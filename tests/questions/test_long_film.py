"""A film of two hours is sampled by seeking, within little disk, and searched in seconds."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest
from bench_film import Disk
from vmaf_train.corpus.rows import CELLS, read_rows
from vmaftune import api
from vmaftune.cell import Window
from vmaftune.media import remembered
from vmaftune.media.encode import fill
from vmaftune.media.ffmpeg import Ffmpeg
from vmaftune.media.join import concat_script, join_argv, measure
from vmaftune.media.prepare import frame_digests, prepare
from vmaftune.media.probe import probe
from vmaftune.media.process import Runner
from vmaftune.request.asked import Clip, Preparation
from vmaftune.request.sources import resolve_clip

HOURS = 2


@dataclass(frozen=True, kw_only=True)
class LongFilm:
    """A film, and the piece that it repeats."""

    path: Path
    num_frames: int
    piece: Path
    piece_frames: int


@pytest.fixture(scope="session")
def long_film(
    film: Callable[..., Any], run_ffmpeg: Callable[..., str], tmp_path_factory: Any
) -> LongFilm:
    """Two hours of a film of clips at 12 frames a second, one copy behind the other."""
    fps = Fraction(12000, 1001)
    args = ("-c:v", "libx264", "-preset", "veryfast", "-qp", "12", "-g", "48")
    one = film("eight silent shots.mkv", shots=8, size="128x72", sound=False, rate=fps, args=args)
    folder = tmp_path_factory.mktemp("long")
    copies = round(HOURS * 3600 / (one.num_frames / fps))
    parts = [measure(one.path, one.num_frames, fps)] * copies
    script, out = folder / "list.ffconcat", folder / "two hours.mkv"
    script.write_text(concat_script(parts, fps))
    argv = fill(join_argv(parts, fps, None, (), out), list=script, out=out)
    run_ffmpeg(*argv)
    long_ago = time.time() - 3600  # of a file that changed just now nothing is remembered
    os.utime(out, (long_ago, long_ago))
    return LongFilm(
        path=out, num_frames=one.num_frames * copies, piece=one.path, piece_frames=one.num_frames
    )


def cpu_seconds() -> float:
    """What this process and the children that it waited for have used: the time on a clock would
    be that of the whole machine.
    """
    used = os.times()
    return used.user + used.system + used.children_user + used.children_system


def test_a_film_of_two_hours_is_searched_without_reading_it(
    long_film: LongFilm, tmp_path: Path
) -> None:
    path, num_frames = long_film.path, long_film.num_frames
    begin = cpu_seconds()
    facts = probe(path, None)
    assert facts.num_packets == num_frames
    first = num_frames // 2
    assert facts.seek(first, 12) is not None, "a window in the middle is reached by seeking"
    runner = Runner()
    with Disk(tmp_path) as disk:
        result = api.find(
            path,
            presets="ultrafast",
            wanted=api.Wanted(target=88, samples=12, sample_seconds=1, min_quality=20),
            running=api.Running(out=tmp_path / "run", jobs=2, runner=runner),
        )
    assert result.is_met
    assert result.best.probe is not None and result.best.probe.num_windows == 12
    assert disk.most < 64 * 2**20, "windows only, never the film"
    assert cpu_seconds() - begin < 60, "the search takes six"


def digests(window: Window, real: Ffmpeg, out: Path) -> list[str]:
    prepare(window, real, out, 300)
    return list(frame_digests(out, window.frame_bytes))


def test_a_film_of_two_hours_is_sampled_and_swept_and_its_frames_are_exact(
    long_film: LongFilm, real: Ffmpeg, tmp_path: Path
) -> None:
    with Disk(tmp_path) as disk:
        result = api.sweep(
            long_film.path,
            encoders="x264,svtav1",
            presets="x264=ultrafast;svtav1=11",
            quality="x264=30;svtav1=45",
            texts=api.Texts(samples=12, sample_seconds="1"),
            running=api.Running(out=tmp_path / "run", jobs=2),
        )
    assert (result.num_cells, result.num_done, result.num_failed) == (24, 24, 0)
    assert disk.most < 64 * 2**20, "windows only, never the film"
    rows = [row for _, row in read_rows(tmp_path / "run" / CELLS)]
    assert {row["num_frames"] for row in rows} == {12}
    assert len({row["src"] for row in rows}) == 12 and len({row["group"] for row in rows}) == 1
    wanted = Preparation(samples=12, sample_seconds=Fraction(1))
    windows = resolve_clip(Clip(path=long_film.path, preparation=wanted), "film").windows
    assert all(window.seek for window in windows)
    (whole,) = resolve_clip(Clip(path=long_film.piece), "piece").windows
    own = digests(whole, real, tmp_path / "piece.yuv")
    for window in windows:
        frames = range(window.start_frame, window.start_frame + 12)
        expected = [own[i % long_film.piece_frames] for i in frames]
        assert digests(window, real, tmp_path / "window.yuv") == expected, window.name


@pytest.mark.skipif(not Path("/proc/self/io").exists(), reason="needs Linux's account of reads")
def test_the_list_of_its_packets_is_read_once(
    long_film: LongFilm, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(remembered, "cache_folder", lambda: tmp_path)  # an empty one

    def num_read() -> int:
        return int(Path("/proc/self/io").read_text().split()[1])

    size = long_film.path.stat().st_size
    assert size > remembered.LEAST_BYTES
    begin = num_read()
    first = probe(long_film.path)
    listed = num_read()
    assert probe(long_film.path) == first
    assert listed - begin > 0.9 * size
    assert num_read() - listed < size / 10
