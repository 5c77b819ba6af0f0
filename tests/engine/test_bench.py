"""Sources that a client sends to a worker: in pieces, within the budget, checked."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
from vmaftune.cell import Tools, Window
from vmaftune.engine.attempts import Settings, SourceMissing
from vmaftune.engine.bench import BenchWorker
from vmaftune.engine.limits import Limits
from vmaftune.errors import ToolError
from vmaftune.media.ffmpeg import Ffmpeg

BUDGET = 1000
PIECE = 256


@pytest.fixture
def worker(tmp_path: Path) -> BenchWorker:
    tools = Tools(ffmpeg="", ffmpeg_version="", ffmpeg_sha256="", libvmaf_version="")
    settings = Settings(
        session="s",
        ffmpeg=tools,
        teacher="t",
        cwd=str(tmp_path / "client"),
        budget_bytes=BUDGET,
        limits=Limits(),
        kinds=(),
    )
    (tmp_path / "worker").mkdir()
    return BenchWorker(settings, tmp_path / "worker", cast(Ffmpeg, None))


def pieces(content: bytes) -> Iterator[tuple[int, bytes]]:
    for offset in range(0, len(content), PIECE):
        yield offset, content[offset : offset + PIECE]


def send(worker: BenchWorker, content: bytes) -> str:
    sha256 = hashlib.sha256(content).hexdigest()
    for offset, piece in pieces(content):
        worker.take(sha256, len(content), offset, piece)
        assert on_disk(worker) <= BUDGET
    return sha256


def on_disk(worker: BenchWorker) -> int:
    return sum(path.stat().st_size for path in (worker.folder / "sources").iterdir())


def window(sha256: str) -> Any:
    return SimpleNamespace(path="clip.mkv", sha256=sha256, size_bytes=0)


def read(worker: BenchWorker, sha256: str) -> bytes:
    with worker._reading(cast(Window, window(sha256))) as path:
        return path.read_bytes()


def test_sources_in_turn_stay_within_the_budget_and_the_oldest_goes(worker: BenchWorker) -> None:
    first = send(worker, b"1" * 600)
    assert read(worker, first) == b"1" * 600
    second = send(worker, b"2" * 700)
    assert read(worker, second) == b"2" * 700
    with pytest.raises(SourceMissing):
        read(worker, first)
    third = send(worker, b"3" * 200)
    assert {read(worker, second)[0], read(worker, third)[0]} == {ord("2"), ord("3")}


def test_a_source_larger_than_the_budget_is_refused_before_a_byte_of_it(
    worker: BenchWorker,
) -> None:
    with pytest.raises(ToolError, match=r"1,001 bytes .* --scratch-budget \(1,000 bytes\)"):
        worker.take("0" * 64, BUDGET + 1, 0, b"x")
    assert on_disk(worker) == 0


def test_a_source_that_is_read_or_on_its_way_is_not_taken_away(worker: BenchWorker) -> None:
    first = send(worker, b"1" * 600)
    with worker._reading(cast(Window, window(first))) as path:
        second = hashlib.sha256(b"2" * 700).hexdigest()
        worker.take(second, 700, 0, b"2" * PIECE)
        assert path.exists()
    third = hashlib.sha256(b"3" * 500).hexdigest()
    worker.take(third, 500, 0, b"3" * PIECE)
    assert not path.exists()
    for offset, piece in list(pieces(b"2" * 700))[1:]:
        worker.take(second, 700, offset, piece)
    assert read(worker, second) == b"2" * 700


def test_a_source_that_comes_with_other_content_is_refused(worker: BenchWorker) -> None:
    with pytest.raises(ToolError, match="other content than was sent"):
        worker.take("0" * 64, 3, 0, b"abc")
    assert on_disk(worker) == 0
