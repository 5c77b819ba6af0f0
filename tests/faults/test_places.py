"""Where a file of the user's is written: odd, long and impossible places, and the film itself.

All of it is refused before anything is encoded.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from vmaftune.errors import ToolError, UsageError
from vmaftune.media.output import beside, check_other, check_place

FAST = ("--preset", "ultrafast", "--quality", "40", "--jobs", "1")


def test_a_name_near_the_limit_has_room_for_the_part_beside_it(tmp_path: Path) -> None:
    assert beside(tmp_path / "out.mkv") == tmp_path / ".part-out.mkv"
    for name in ("L" * 251, "é" * 125):
        out = tmp_path / f"{name}.mkv"
        out.touch()
        part = beside(out)
        part.touch()
        assert part.suffix == ".mkv" and part != beside(tmp_path / f"{name[:-1]}x.mkv")
        check_place(out)


def test_places_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(UsageError, match="is too long a name for a file; choose a shorter one"):
        check_place(tmp_path / ("L" * 260 + ".mkv"))
    with pytest.raises(UsageError, match="file is no folder; name another place with -o"):
        check_place(tmp_path / "file/out.mkv")
    with pytest.raises(ToolError, match="cannot be written .*; name another place with -o"):
        check_place(Path("/proc/none/out.mkv"))
    check_place(tmp_path / "not/yet/there.mkv")
    assert [place.name for place in tmp_path.iterdir()] == ["file"]


def test_an_encode_never_takes_the_place_of_its_film(
    clip: Callable[..., Path], tool: Any, tmp_path: Path
) -> None:
    film = tmp_path / "film.mkv"
    film.write_bytes(clip("its own place.mkv", frames=4).read_bytes())
    (tmp_path / "link.mkv").symlink_to(film)
    (tmp_path / "twin.mkv").hardlink_to(film)
    kept = film.read_bytes()
    for name in ("film.mkv", "./film.mkv", "link.mkv", "twin.mkv"):
        said = tool.run("encode", film, "-o", name, *FAST, "--force", code=2).stderr
        assert "is the film itself and would be lost; name another file with -o" in said
        with pytest.raises(UsageError):
            check_other(tmp_path / name, film)
    assert film.read_bytes() == kept
    said = tool.run("encode", film, "-o", "/proc/none/out.mkv", *FAST, code=3).stderr
    assert "/proc/none/out.mkv cannot be written" in said
    assert not (tmp_path / "runs").exists()


def test_the_same_encode_under_another_name_is_scored_in_a_folder_of_its_own(
    clip: Callable[..., Path], tool: Any, tmp_path: Path
) -> None:
    film = clip("scored twice.mkv", frames=4)
    for name in ("one.mkv", "it's two.mkv"):
        (tmp_path / name).write_bytes(film.read_bytes())
        tool.run("score", film, name)
    assert len(list((tmp_path / "runs/score").iterdir())) == 2
