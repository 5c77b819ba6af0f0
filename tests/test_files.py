"""Files appear whole, or stay as they were."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from vmaf_train import files


def test_each_writer_replaces_the_file_and_leaves_nothing_beside_it(tmp_path: Path) -> None:
    target = tmp_path / "a.json"
    target.write_text("old")
    files.write_json(target, {"name": "Größe", "n": 1})
    assert json.loads(target.read_text(encoding="utf-8")) == {"name": "Größe", "n": 1}
    assert target.read_bytes() == files.json_bytes({"name": "Größe", "n": 1})
    files.write_text(target, "one\r\ntwo\n")
    assert target.read_bytes() == b"one\r\ntwo\n"
    files.write_bytes(target, b"\x00\x01")
    assert target.read_bytes() == b"\x00\x01"
    assert list(tmp_path.iterdir()) == [target]


def test_an_error_while_writing_leaves_the_old_file(tmp_path: Path) -> None:
    target = tmp_path / "a.bin"
    target.write_bytes(b"old")
    with pytest.raises(KeyboardInterrupt), files.whole(target) as file:
        file.write(b"half")
        raise KeyboardInterrupt
    assert target.read_bytes() == b"old"
    with pytest.raises(ValueError, match="JSON"):
        files.write_json(target, float("nan"))
    assert target.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [target]


def test_a_target_that_cannot_be_replaced_keeps_nothing_beside_it(tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    with pytest.raises(OSError, match="directory|denied"):
        files.write_bytes(folder, b"x")
    assert list(tmp_path.iterdir()) == [folder]
    with pytest.raises(FileNotFoundError):
        files.write_bytes(tmp_path / "gone" / "a", b"x")
