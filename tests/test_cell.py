"""Identities of cells. A golden of keys: finished corpora are only found again while these stay the
same.
"""

from __future__ import annotations

from dataclasses import replace

import pytest
from vmaftune.cell import (
    Cell,
    Color,
    Crop,
    Raw,
    Setting,
    Tools,
    Window,
    canonical,
    parse_crop,
    parse_size,
)
from vmaftune.encoders import ENCODERS
from vmaftune.engine.stages import prepare_task
from vmaftune.errors import UsageError
from vmaftune.media.encode import encode_argv

TOOLS = Tools(
    ffmpeg="/x/ffmpeg", ffmpeg_version="9.0.2", ffmpeg_sha256="ab" * 32, libvmaf_version="v3"
)
SOURCE = Window(
    name="clip",
    group="film",
    path="clips/clip.mp4",
    sha256="cd" * 32,
    size_bytes=1000,
    start_frame=48,
    num_frames=132,
    expected_frames=132,
    crop=None,
    scale=(640, 360),
    deinterlace=False,
    width=640,
    height=360,
    pix_fmt="yuv420p",
    fps="24000/1001",
    sar="1",
    color=Color(primaries="bt709", transfer="bt709", matrix="bt709", range="tv"),
    stream_index=0,
    raw=None,
)
KEYS = {
    "libx264": "a7057dd73e08ce621d84848242985c47b9830b99d7509b62090cfab7e0c7c95a",
    "libx265": "32552fe0b790b6932815a05f71c15d67ed2d0045e372072b618ee8828e766956",
    "libsvtav1": "47ba2609fcb232331619642cfd56b855f8cb232c75248557b614525a9f9a6a39",
    "libvvenc": "6733739d563cee7ec71c83a0c1f4335047bd8f9d939dde9b597a9f67093ec59c",
    "libvpx-vp9": "3597393ecd3cd470afeef691f568b0631eefeba73e28b44663176499c64e4ea1",
    "libaom-av1": "3b217e05112e145ae4f370486b7a697319098e8185a0b65f45f8316a9036c2f0",
}


def cell(name: str = "libx264", source: Window = SOURCE) -> Cell:
    row = ENCODERS[name]
    return Cell(
        window=source,
        setting=Setting(encoder=row, preset=row.default_preset, quality=row.default_quality[1]),
    )


def key(one: Cell, tools: Tools = TOOLS) -> str:
    return one.key(encode_argv(one), tools)


@pytest.mark.parametrize("name", KEYS)
def test_keys_stay_what_they_are(name: str) -> None:
    assert key(cell(name)) == KEYS[name]


CHANGES = {
    "content": {"sha256": "ef" * 32},
    "start": {"start_frame": 49},
    "length": {"num_frames": 131},
    "crop": {"crop": Crop(width=64, height=64, x=0, y=0)},
    "scale": {"scale": None},
    "deinterlacing": {"deinterlace": True},
    "depth": {"pix_fmt": "yuv420p10le"},
    "rate": {"fps": "25"},
    "pixel shape": {"sar": "16/11"},
    "colour": {"color": Color()},
    "stream": {"stream_index": 1},
    "raw reading": {"raw": Raw(width=640, height=360, fps="25", pix_fmt="yuv420p")},
}


@pytest.mark.parametrize("change", CHANGES)
def test_whatever_changes_the_reference_changes_the_key(change: str) -> None:
    assert key(cell(source=replace(SOURCE, **CHANGES[change]))) != KEYS["libx264"]


def test_settings_tools_and_teacher_change_the_key() -> None:
    one = cell()
    others = [
        replace(one, setting=replace(one.setting, preset="fast")),
        replace(one, setting=replace(one.setting, quality=27)),
        replace(one, threads=2),
        replace(one, teacher="vmaf_v0.6.1neg"),
    ]
    tools = [
        replace(TOOLS, **{f: "x"}) for f in ("ffmpeg_version", "ffmpeg_sha256", "libvmaf_version")
    ]
    keys = [key(one), *(key(c) for c in others), *(key(one, t) for t in tools)]
    assert len(set(keys)) == len(keys)


def test_names_and_places_do_not_change_the_key() -> None:
    moved = replace(
        SOURCE, name="other", group="g", path="elsewhere.mp4", flags=("vfr",), expected_frames=1
    )
    assert key(cell(source=moved), replace(TOOLS, ffmpeg="/y")) == KEYS["libx264"]


@pytest.mark.parametrize(("quality", "text"), [(23, "23"), (23.0, "23"), (22.5, "22.5"), (0, "0")])
def test_ids_are_readable(quality: float, text: str) -> None:
    one = cell()
    changed = replace(one, setting=replace(one.setting, quality=quality))
    assert changed.id == f"clip/libx264/medium/{text}"


@pytest.mark.parametrize(
    ("pix_fmt", "size", "num_bytes"),
    [
        ("yuv420p", (64, 64), 6144),
        ("yuv422p", (64, 64), 8192),
        ("yuv444p", (64, 64), 12288),
        ("yuv420p10le", (64, 64), 12288),
        ("yuv444p10le", (67, 65), 26130),
        ("yuv420p", (67, 65), 67 * 65 + 2 * 34 * 33),
        ("yuv422p", (67, 65), 67 * 65 + 2 * 34 * 65),
    ],
)
def test_frame_bytes(pix_fmt: str, size: tuple[int, int], num_bytes: int) -> None:
    assert replace(SOURCE, pix_fmt=pix_fmt, width=size[0], height=size[1]).frame_bytes == num_bytes


@pytest.mark.parametrize("text", ["640", "0x360", "640x0", "640*360", "640x360x2", "", "-1x5"])
def test_sizes_that_are_none(text: str) -> None:
    with pytest.raises(UsageError, match="WIDTHxHEIGHT"):
        parse_size(text)


@pytest.mark.parametrize("text", ["96x64", "96x64+1", "0x64+0+0", "96x64+-1+0", "96x64+0+0+0"])
def test_crops_that_are_none(text: str) -> None:
    with pytest.raises(UsageError, match=r"LEFT\+TOP"):
        parse_crop(text)


def test_sizes_and_crops() -> None:
    assert parse_size(" 640x360 ") == (640, 360)
    assert str(parse_crop("968x544+156+88")) == "968x544+156+88"


def test_canonical_json_has_one_form() -> None:
    assert canonical({"b": 1, "a": [1.5, None, "ü"]}) == '{"a":[1.5,null,"ü"],"b":1}'
    with pytest.raises(ValueError, match="JSON"):
        canonical(float("nan"))


def test_frames_around_a_window_are_paid_for() -> None:
    """They are prepared, encoded and scored as well, though no score counts them."""
    padded = replace(SOURCE, pad_before=12, pad_after=6)
    plain, more = cell(), cell(source=padded)
    assert (plain.num_encoded, more.num_encoded) == (132, 150)
    assert more.num_frames == plain.num_frames == 132
    for cost in ("expected_encode_s", "expected_score_s"):
        assert getattr(more, cost) == pytest.approx(getattr(plain, cost) * 150 / 132)
    prepare, longer = (prepare_task(w, "prepare").cost_s for w in (SOURCE, padded))
    assert longer == pytest.approx(prepare * 150 / 132)
