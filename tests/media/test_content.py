"""Digests of contents: remembered for a file that is still the same, and for no other."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import pytest
from vmaftune.media import remembered
from vmaftune.media.content import content_sha256


@pytest.fixture
def cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    monkeypatch.setattr(remembered, "cache_folder", lambda: tmp_path / "cache")
    monkeypatch.setattr(remembered, "LEAST_BYTES", 500)
    return tmp_path / "cache" / "content"


def aged(path: Path, data: bytes, age_s: int = 100) -> Path:
    path.write_bytes(data)
    then = path.stat().st_mtime_ns - age_s * 10**9
    os.utime(path, ns=(then, then))
    return path


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def test_a_digest_is_remembered_until_the_file_changes(
    cache: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    film = aged(tmp_path / "film.mkv", b"a" * 1000)
    assert content_sha256(film) == sha256(b"a" * 1000)
    (kept,) = cache.iterdir()
    assert "reading film.mkv" in capsys.readouterr().err
    assert content_sha256(film) == sha256(b"a" * 1000)
    assert "reading" not in capsys.readouterr().err
    aged(film, b"b" * 1000, age_s=50)  # the same size, another time
    assert content_sha256(film) == sha256(b"b" * 1000)
    other = aged(tmp_path / "other.mkv", b"c" * 1000, age_s=50)
    os.utime(other, ns=(film.stat().st_mtime_ns, film.stat().st_mtime_ns))
    os.replace(other, film)  # the same size and time, another file
    assert content_sha256(film) == sha256(b"c" * 1000)
    kept.write_text("{ torn")
    assert content_sha256(film) == sha256(b"c" * 1000)


def test_a_large_file_can_be_read_without_a_word(
    cache: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    program = aged(tmp_path / "ffmpeg", b"a" * 1000)
    assert content_sha256(program, shown=False) == sha256(b"a" * 1000)
    assert capsys.readouterr() == ("", "")
    assert len(list(cache.iterdir())) == 1


def test_small_and_fresh_files_are_read_each_time(cache: Path, tmp_path: Path) -> None:
    small = aged(tmp_path / "small.mkv", b"a" * 100)
    assert content_sha256(small) == sha256(b"a" * 100)
    fresh = tmp_path / "fresh.mkv"
    fresh.write_bytes(b"b" * 1000)
    assert content_sha256(fresh) == sha256(b"b" * 1000)
    assert not cache.exists()
