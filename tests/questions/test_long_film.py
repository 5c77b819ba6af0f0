"""A film of two hours is sampled by seeking, within little disk, and searched in seconds."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest
from vmaftune import api
from vmaftune.media.encode import fill
from vmaftune.media.join import concat_script, join_argv, measure
from vmaftune.media.probe import probe
from vmaftune.media.process import Runner

HOURS = 2


@pytest.fixture(scope="session")
def long_film(
    film: Callable[..., Any], run_ffmpeg: Callable[..., str], tmp_path_factory: Any
) -> tuple[Path, int]:
    """Two hours of a film of clips, one copy behind the other; its file and its frames."""
    one = film("eight silent shots.mkv", shots=8, size="192x108", sound=False)
    folder = tmp_path_factory.mktemp("long")
    fps = Fraction(24000, 1001)
    copies = round(HOURS * 3600 / (one.num_frames / fps))
    parts = [measure(one.path, one.num_frames, fps)] * copies
    script, out = folder / "list.ffconcat", folder / "two hours.mkv"
    script.write_text(concat_script(parts, fps))
    argv = fill(join_argv(parts, fps, None, (), out), list=script, out=out)
    run_ffmpeg(*argv)
    return out, one.num_frames * copies


class Disk:
    """The most bytes that a run's scratch folder held, looked at while it runs."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.most, self._ended = folder, 0, threading.Event()
        self._thread = threading.Thread(target=self._watch)

    def __enter__(self) -> Disk:
        self._thread.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._ended.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._ended.wait(0.05):
            self.most = max(self.most, self._size())

    def _size(self) -> int:
        total = 0
        for folder, _, names in os.walk(self.folder):
            for name in names:
                with suppress(OSError):  # it may have gone meanwhile
                    total += os.path.getsize(os.path.join(folder, name))
        return total


def test_a_film_of_two_hours_is_searched_without_reading_it(
    long_film: tuple[Path, int], tmp_path: Path
) -> None:
    path, num_frames = long_film
    begin = time.monotonic()
    facts = probe(path, None)
    assert facts.num_packets == num_frames
    first = num_frames // 2
    assert facts.seek(first, 24) is not None, "a window in the middle is reached by seeking"
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
    assert time.monotonic() - begin < 240
