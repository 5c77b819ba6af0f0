"""Two builds or option sets against each other: on made-up folders, and on real encodes."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from forged import edit_folder, read_jsonl
from vmaf_train.errors import DatasetError
from vmaftune.errors import UsageError
from vmaftune.report.compare import Comparison, compare_folders, missed

Rows = list[dict[str, Any]]


@pytest.fixture(scope="module")
def before(synthetic: ModuleType, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Five films, two encoders, ten frames a cell."""
    names = ["a", "b", "c", "d", "e"]
    folder: Path = synthetic.write(
        tmp_path_factory.mktemp("before") / "main",
        names=names,
        encoders=("libx264", "libsvtav1"),
        num_frames=10,
        failed=1,
    )
    return folder


@pytest.fixture
def changed(before: Path, tmp_path: Path) -> Callable[..., Path]:
    """A copy of the folder after `change` has been at its rows (None = without the row)."""

    def make(change: Callable[[dict[str, Any]], dict[str, Any] | None]) -> Path:
        folder = shutil.copytree(before, tmp_path / "patched")
        return edit_folder(folder, change)

    return make


def scaled(bits: float, seconds: float) -> Callable[[dict[str, Any]], dict[str, Any]]:
    """A change that multiplies what an encode weighs and takes."""

    def change(row: dict[str, Any]) -> dict[str, Any]:
        if row["bitrate_kbps"]:
            row["bitrate_kbps"] *= bits
            row["size_bytes"] = int(row["size_bytes"] * bits)
        row["encode_cpu_s"] *= seconds
        return row

    return change


def test_more_bits_and_more_time_are_measured(before: Path, changed: Callable[..., Path]) -> None:
    found = compare_folders(before, changed(scaled(1.02, 1.5)))
    assert found.num_cells == 5 * 6 * 6 - 1 and found.num_groups == 5
    assert found.mean == pytest.approx(2, abs=1e-6) and found.slowdown == pytest.approx(1.5)
    assert found.low == pytest.approx(2, abs=1e-6) and found.verdict == "B needs more bits"
    assert len(found.worst) == 5 and found.worst[0].percent == pytest.approx(2, abs=0.1)
    assert missed(found, 2.5, 1.6) == []
    assert missed(found, 1, 1.1) == [
        "B needs +2.00% bits, the limit is +1%",
        "B takes 1.50 times as long, the limit is 1.1 times",
    ]


def test_noise_is_not_called_a_difference(before: Path, changed: Callable[..., Path]) -> None:
    factors = {"a": 0.97, "b": 1.03, "c": 0.98, "d": 1.02, "e": 1.001}
    found = compare_folders(before, changed(lambda row: scaled(factors[row["src"]], 1)(row)))
    assert found.verdict == "no difference that these films can tell"
    assert found.low is not None and found.high is not None and found.low < 0 < found.high


def test_the_same_pictures_are_one_source_whatever_their_name(
    before: Path, changed: Callable[..., Path]
) -> None:
    def renamed(row: dict[str, Any]) -> dict[str, Any]:
        name = "new " + row["src"]
        return row | {"src": name, "group": name, "cell": "new " + row["cell"]}

    folder = changed(renamed)
    plan = json.loads((folder / "sweep.json").read_text(encoding="utf-8"))
    for source in plan["sources"]:
        source["name"] = "new " + source["name"]
    (folder / "sweep.json").write_text(json.dumps(plan), encoding="utf-8")
    found = compare_folders(before, folder)
    assert found.verdict == "the same bits" and found.mean == 0
    assert {rate.source for rate in found.rates} == set("abcde")


def test_the_same_name_of_other_pictures_is_another_source(
    before: Path, changed: Callable[..., Path]
) -> None:
    folder = changed(lambda row: row | {"src_sha256": "f" * 64} if row["src"] == "a" else row)
    assert {rate.source for rate in compare_folders(before, folder).rates} == set("bcde")


def test_option_sets_of_one_folder_are_compared(before: Path, changed: Callable[..., Path]) -> None:
    def with_options(row: dict[str, Any]) -> dict[str, Any]:
        if row["src"] in "ab":
            return row
        return scaled(0.9, 2)(row | {"cell": row["cell"] + "+film", "options": "film"})

    folder = changed(with_options)
    lines = (before / "cells.jsonl").read_text(encoding="utf-8").splitlines()
    rows = [json.loads(line) for line in lines]
    more = [row | {"key": "plain " + row["key"]} for row in rows if row["src"] in "cde"]
    frames = [
        frame | {"key": "plain " + frame["key"]}
        for frame in read_jsonl(before / "frames.jsonl")
        if frame["src"] in "cde"
    ]
    for name, table in (("cells.jsonl", more), ("frames.jsonl", frames)):
        with (folder / name).open("a", encoding="utf-8") as file:
            file.write("".join(json.dumps(row) + "\n" for row in table))
    found = compare_folders(folder, folder, a_options="none", b_options="film")
    assert found.mean == pytest.approx(-10, abs=1e-6) and found.num_groups == 3
    with pytest.raises(UsageError, match="no finished cell with the option set grain"):
        compare_folders(folder, folder, a_options="none", b_options="grain")


@pytest.mark.parametrize(
    ("change", "match"),
    [
        (lambda row: row | {"teacher": "vmaf_4k_v0.6.1"}, "different VMAF models"),
        (lambda row: row | {"src_sha256": "f" * 64}, "share no cell"),
    ],
)
def test_what_cannot_be_compared_is_refused(
    before: Path, changed: Callable[..., Path], change: Callable[..., Any], match: str
) -> None:
    with pytest.raises(DatasetError, match=match):
        compare_folders(before, changed(change))


def test_two_films_have_no_interval(before: Path, changed: Callable[..., Path]) -> None:
    found = compare_folders(
        before, changed(lambda row: scaled(1.1, 1)(row) if row["src"] in "ab" else None)
    )
    assert found.num_groups == 2 and found.low is None
    assert found.verdict == "too few films to tell"


def test_curves_that_do_not_overlap_have_a_reason(
    before: Path, changed: Callable[..., Path]
) -> None:
    def shifted(row: dict[str, Any]) -> dict[str, Any]:
        if row["vmaf_score"] is None:
            return row
        poolings = {n: row[n] / 100 for n in row if n.startswith("vmaf_")}
        return row | poolings

    folder = changed(shifted)
    for name in ("frames.jsonl", "sweep.json"):  # nothing to compare the rows with
        (folder / name).unlink()
    found: Comparison = compare_folders(before, folder)
    assert found.mean is None and all(rate.reason for rate in found.rates)
    assert missed(found, 1, None) == ["no source has a BD-rate to hold against --max-bd-rate"]


def test_the_command_ends_with_7_when_a_limit_is_not_kept(
    run: Callable[..., Any], before: Path, changed: Callable[..., Path]
) -> None:
    folder = changed(scaled(1.02, 1.5))
    kept = run(before, folder, "--max-bd-rate", 3, "--max-slowdown", 2, command="compare")
    assert kept.code == 0 and "+2.00% on average over 5 films" in kept.stdout, kept.stderr
    assert "Where B costs most" in kept.stdout
    broken = run(before, folder, "--max-bd-rate", 1, "--json", command="compare")
    assert broken.code == 7 and "the limit is +1%" in broken.stderr
    document = json.loads(broken.stdout)
    assert document["missed"] and document["mean"] == pytest.approx(2, abs=1e-6)
    assert run(before, before, command="compare").code == 2
    assert run(before, folder, "--max-bd-rate", "nan", command="compare").code == 2


def test_two_real_builds(
    swept: Callable[..., Any],
    wrapper: Callable[..., str],
    clip: Callable[..., Path],
    tmp_path: Path,
) -> None:
    """The second build is the real one without its deblocking filter and B-frames."""
    film = clip("compared builds.mkv", frames=24, size="160x90")
    settings = {"presets": "veryfast", "quality": "22,30,38"}
    one = swept(film, out=tmp_path / "one", **settings)
    again = swept(film, out=tmp_path / "again", **settings)
    assert compare_folders(one.folder, again.folder).verdict == "the same bits"
    worse = wrapper("if ENCODE: argv[-1:-1] = ['-x264-params', 'bframes=0:no-deblock=1']")
    other = swept(film, out=tmp_path / "other", ffmpeg=worse, **settings)
    found = compare_folders(one.folder, other.folder)
    assert found.num_cells == 3 and found.num_same == 0
    assert found.mean is not None and found.mean > 0
    assert found.slowdown is not None and found.slowdown > 0
