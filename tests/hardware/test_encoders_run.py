"""Every software encoder, really run: its thread argument holds, its frames repeat, its presets
differ and work.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from vmaf_train.contract import FEATURES
from vmaftune.cell import Cell, Setting
from vmaftune.encoders import ENCODERS, GROUPS, select
from vmaftune.media.encode import encode
from vmaftune.media.ffmpeg import Ffmpeg
from vmaftune.media.prepare import prepare
from vmaftune.request.cells import Plan

Make = Callable[..., Path]
FAST = {
    "libx264": ("ultrafast", "medium"),
    "libx265": ("ultrafast", "medium"),
    "libsvtav1": ("11", "8"),
    "libvvenc": ("faster", "fast"),
    "libvpx-vp9": ("realtime", "good"),
    "libaom-av1": ("rt8", "6"),
}


def test_the_software_group_is_all_six() -> None:
    assert GROUPS[0] == "software"
    assert {row.name for row in select(["software"]).encoders} == set(FAST)


@pytest.mark.parametrize("name", FAST)
def test_one_thread_is_one_thread(
    name: str, clip: Make, planned: Callable[..., Plan], real: Ffmpeg, tmp_path: Path
) -> None:
    """CPU over wall seconds of the child; a busy machine only makes it smaller."""
    source = planned(
        clip("threads.mkv", frames=30, size="320x180"),
        encoders=name,
        presets=FAST[name][1],
        quality="40",
    ).sources[0]
    cell = Cell(
        window=source,
        setting=Setting(encoder=ENCODERS[name], preset=FAST[name][1], quality=40),
    )
    ref = tmp_path / "ref.yuv"
    num_frames = prepare(source, real, ref, 100)
    made = encode(cell, real, ref, tmp_path / "out.mkv", num_frames, 300)
    assert made.cpu_s is not None
    assert made.cpu_s <= 1.15 * made.wall_s + 0.1, (
        f"{made.cpu_s:.2f} s of CPU in {made.wall_s:.2f} s"
    )
    if name != "libx264":
        assert made.encoder_version


@pytest.mark.parametrize("name", FAST)
def test_two_runs_and_two_presets(
    name: str,
    clip: Make,
    swept: Callable[..., Any],
    without_times: Callable[[Any], Any],
    tmp_path: Path,
) -> None:
    flags = {"encoders": name, "presets": ",".join(FAST[name]), "quality": "44"}
    source = clip("twice.mkv", frames=8, size="64x64")
    one = swept(source, out=tmp_path / "one", **flags)
    two = swept(source, out=tmp_path / "two", jobs=1, **flags)
    assert [r["status"] for r in one.rows.values()] == ["ok", "ok"]
    assert without_times(one) == without_times(two)
    fast, slow = (
        one.frames_of(cell)
        for cell in sorted(one.rows, key=lambda c: FAST[name].index(c.split("/")[2]))
    )
    assert [tuple(f[n] for n in FEATURES) for f in fast] != [
        tuple(f[n] for n in FEATURES) for f in slow
    ]


def test_a_worse_quality_value_gives_a_worse_picture(clip: Make, swept: Callable[..., Any]) -> None:
    quality = ";".join(f"{name}=20,50" for name in FAST)
    presets = ";".join(f"{name}={pair[0]}" for name, pair in FAST.items())
    run = swept(
        clip("twice.mkv", frames=8, size="64x64"),
        encoders="software",
        presets=presets,
        quality=quality,
    )
    for name in FAST:
        good, bad = sorted(
            (r for r in run.rows.values() if r["encoder"] == name), key=lambda r: r["crf"]
        )
        assert good["vmaf_score"] > bad["vmaf_score"], name
        assert good["size_bytes"] > bad["size_bytes"], name
