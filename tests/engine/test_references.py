"""Prepared references: shared, bounded, dropped, and failing for everybody who asks."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from vmaf_train.corpus.rows import FailureKind
from vmaftune.cell import Window
from vmaftune.engine.references import References, reference_bytes
from vmaftune.media.failure import CellFailure
from vmaftune.request.cells import Plan


@pytest.fixture
def windows(clip: Callable[..., Path], planned: Callable[..., Plan]) -> list[Window]:
    """Five windows of equal size with other content each."""
    (window,) = planned(clip("asked.mkv")).sources
    return [replace(window, name=str(i), sha256=str(i)) for i in range(5)]


class Maker:
    """Writes references of the right size and counts."""

    def __init__(self) -> None:
        self.made: list[str] = []
        self.gate = threading.Event()
        self.gate.set()

    def __call__(self, window: Window, path: Path) -> int:
        self.made.append(window.name)
        assert self.gate.wait(20)
        path.write_bytes(b"x" * reference_bytes(window))
        return window.expected_frames


def files(folder: Path) -> int:
    return len(list(folder.iterdir()))


def test_one_is_made_for_all_who_ask_at_once(windows: list[Window], tmp_path: Path) -> None:
    make = Maker()
    make.gate.clear()
    references = References(tmp_path, 10**9, make)
    paths: list[Path] = []

    def use() -> None:
        with references.hold(windows[0]) as reference:
            assert reference.path.exists() and reference.num_frames == 10
            paths.append(reference.path)

    threads = [threading.Thread(target=use) for _ in range(5)]
    for thread in threads:
        thread.start()
    make.gate.set()
    for thread in threads:
        thread.join()
    assert len(paths) == 5 and len(set(paths)) == 1
    assert make.made == ["0"]


def test_the_longest_unused_goes_when_there_is_no_room(
    windows: list[Window], tmp_path: Path
) -> None:
    make = Maker()
    references = References(tmp_path, 2 * reference_bytes(windows[0]), make)
    for i in (0, 1, 0, 2, 0, 1):
        with references.hold(windows[i]):
            assert files(tmp_path) <= 2
    assert make.made == ["0", "1", "2", "1"]
    assert references.has(windows[0]) and not references.has(windows[2])


def test_who_finds_no_room_waits_for_it(windows: list[Window], tmp_path: Path) -> None:
    make = Maker()
    references = References(tmp_path, reference_bytes(windows[0]), make)
    begun, done = threading.Event(), threading.Event()

    def use() -> None:
        begun.set()
        with references.hold(windows[1]):
            done.set()

    with references.hold(windows[0]) as held:
        thread = threading.Thread(target=use)
        thread.start()
        assert begun.wait(20)
        assert not done.wait(0.2), "nothing that is in use is evicted"
        assert held.path.exists()
    assert done.wait(20)
    thread.join()
    assert files(tmp_path) == 1


def test_a_drop_waits_for_the_last_user(windows: list[Window], tmp_path: Path) -> None:
    references = References(tmp_path, 10**9, Maker())
    with references.hold(windows[0]) as held:
        references.drop(windows[0])
        assert held.path.exists()
    assert not held.path.exists()
    references.drop(windows[0])  # no error
    with references.hold(windows[0]):
        pass
    references.drop(windows[0])
    assert files(tmp_path) == 0


def test_a_failure_is_told_to_everybody_and_another_error_to_one(
    windows: list[Window], tmp_path: Path
) -> None:
    tries = []

    def fail(window: Window, path: Path) -> int:
        tries.append(window.name)
        if window.name == "0":
            raise CellFailure(FailureKind.SOURCE_BROKEN, "no such frames")
        raise RuntimeError("stopped")

    references = References(tmp_path, 10**9, fail)
    for _ in range(2):
        with pytest.raises(CellFailure, match="no such frames"), references.hold(windows[0]):
            pass
        with pytest.raises(RuntimeError, match="stopped"), references.hold(windows[1]):
            pass
    assert tries == ["0", "1", "1"]
