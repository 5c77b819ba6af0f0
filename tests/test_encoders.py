"""The encoder table: what a cell's arguments are, and what a selection comes to."""

from __future__ import annotations

import pytest
from vmaf_train.contract import PRESET_ORDINALS, QUALITY_MAX, UNKNOWN, VOCABULARY
from vmaftune.encoders import ENCODERS, GROUPS, ONE_PRESET, find, planar, select
from vmaftune.errors import UsageError

SOFTWARE = ("libx264", "libx265", "libsvtav1", "libvvenc", "libvpx-vp9", "libaom-av1")
HARDWARE = tuple(name for name in ENCODERS if name not in SOFTWARE)


def test_the_vocabulary_is_in_the_table_and_software_comes_first() -> None:
    assert tuple(ENCODERS)[:6] == SOFTWARE
    assert {*VOCABULARY} - {UNKNOWN} <= set(ENCODERS)
    assert {row.group for row in ENCODERS.values()} == set(GROUPS)


@pytest.mark.parametrize("name", ENCODERS)
def test_a_row_agrees_with_itself_and_the_model_contract(name: str) -> None:
    row = ENCODERS[name]
    assert row.check_preset(row.default_preset) == row.default_preset
    assert [row.check_quality(q) for q in row.default_quality] == list(row.default_quality)
    assert set(row.presets) <= set(PRESET_ORDINALS.get(name, {ONE_PRESET: 5}))
    assert row.quality_max == QUALITY_MAX.get(name, row.quality_limit)
    with pytest.raises(UsageError, match="out of range"):
        row.check_quality(row.quality_max + 1)
    with pytest.raises(UsageError, match="no preset"):
        row.check_preset("no-such-preset")
    if row.quality_step == 1:
        with pytest.raises(UsageError, match="integers only"):
            row.check_quality(30.5)


ARGUMENTS = {
    ("libx264", "fast", 22.5): "-c:v libx264 -preset fast -crf 22.5 -threads 2",
    (
        "libx265",
        "medium",
        28,
    ): "-c:v libx265 -preset medium -crf 28 -x265-params pools=2:frame-threads=1",
    ("libsvtav1", "8", 35.25): "-c:v libsvtav1 -preset 8 -svtav1-params lp=2:crf=35.25",
    ("libsvtav1", "8", 35): "-c:v libsvtav1 -preset 8 -crf 35 -svtav1-params lp=2",
    ("libvvenc", "faster", 30): "-c:v libvvenc -preset faster -qp 30 -threads 2",
    (
        "libvpx-vp9",
        "good",
        31,
    ): "-c:v libvpx-vp9 -deadline good -cpu-used 3 -crf 31 -b:v 0 -threads 2 -row-mt 0",
    (
        "libaom-av1",
        "rt8",
        31,
    ): "-c:v libaom-av1 -usage realtime -cpu-used 8 -crf 31 -b:v 0 -threads 2 -row-mt 0",
    ("h264_nvenc", "p4", 25.5): "-c:v h264_nvenc -preset p4 -rc vbr -cq 25.5 -b:v 0 -tune hq",
    ("av1_nvenc", "p7", 63): "-c:v av1_nvenc -preset p7 -rc vbr -cq 63 -b:v 0 -tune hq",
    ("hevc_qsv", "veryslow", 19): "-c:v hevc_qsv -preset veryslow -global_quality 19",
    ("h264_amf", "default", 25): "-c:v h264_amf -rc cqp -qp_i 25 -qp_p 25 -qp_b 25",
    ("hevc_amf", "default", 25): "-c:v hevc_amf -rc cqp -qp_i 25 -qp_p 25",
    ("hevc_vaapi", "default", 25): "-c:v hevc_vaapi -rc_mode CQP -qp 25",
    ("av1_vaapi", "default", 110): "-c:v av1_vaapi -rc_mode CQP -global_quality 110",
    ("hevc_videotoolbox", "default", 60): "-c:v hevc_videotoolbox -q:v 60",
}


@pytest.mark.parametrize(("name", "preset", "quality"), ARGUMENTS)
def test_arguments_of_a_cell(name: str, preset: str, quality: float) -> None:
    assert (
        " ".join(ENCODERS[name].arguments(preset, quality, 2)) == ARGUMENTS[name, preset, quality]
    )


def test_cq_zero_means_automatic_to_nvenc_and_is_refused() -> None:
    with pytest.raises(UsageError, match=r"cq 0 is out of range; use 1\.\.51"):
        find("h264_nvenc").check_quality(0)
    assert find("av1_nvenc").check_quality(63) == 63
    assert find("hevc_nvenc").check_quality(25.5) == 25.5
    assert find("hevc_nvenc").default_quality == find("av1_qsv").default_quality == (19, 25, 31, 37)


@pytest.mark.parametrize(
    ("name", "source", "asked"),
    [
        ("libx264", "yuv444p10le", "yuv444p10le"),
        ("libvvenc", "yuv420p", "yuv420p10le"),
        ("libsvtav1", "yuv422p10le", "yuv420p10le"),
        ("h264_nvenc", "yuv420p10le", "yuv420p"),
        ("hevc_nvenc", "yuv420p", "yuv420p"),
        ("hevc_nvenc", "yuv420p10le", "p010le"),
        ("av1_nvenc", "yuv422p10le", "p010le"),
        ("h264_qsv", "yuv420p", "nv12"),
        ("h264_qsv", "yuv420p10le", "nv12"),
        ("hevc_qsv", "yuv420p10le", "p010le"),
        ("av1_qsv", "yuv444p", "nv12"),
        ("hevc_vaapi", "yuv420p10le", "p010le"),
    ],
)
def test_pixel_format_for_a_source(name: str, source: str, asked: str) -> None:
    assert find(name).pix_fmt_for(source) == asked


def test_hardware_formats_hold_planar_content() -> None:
    assert [planar(f) for f in ("nv12", "p010le", "yuv420p", "yuv444p10le")] == [
        "yuv420p",
        "yuv420p10le",
        "yuv420p",
        "yuv444p10le",
    ]


def test_a_device_is_named_where_the_encoder_takes_it() -> None:
    assert find("h264_nvenc").gpu_arguments("1") == ["-gpu", "1"]
    assert find("h264_nvenc").input_arguments("1") == []
    node = "child_device=/dev/dri/renderD129,child_device_type=vaapi"
    assert find("av1_qsv").input_arguments(node) == ["-init_hw_device", f"qsv=gpu:hw_any,{node}"]
    assert find("h264_vaapi").input_arguments("/dev/dri/renderD128") == [
        "-vaapi_device",
        "/dev/dri/renderD128",
    ]
    assert find("av1_qsv").input_arguments(None) == find("h264_nvenc").gpu_arguments(None) == []


@pytest.mark.parametrize("name", HARDWARE)
def test_a_fact_that_no_trial_proves_names_its_source(name: str) -> None:
    assert ENCODERS[name].sources["quality"]


def test_selection() -> None:
    chosen = select(["nvenc", "x264", "h264_nvenc"])
    assert [row.name for row in chosen.encoders] == [
        "h264_nvenc",
        "hevc_nvenc",
        "av1_nvenc",
        "libx264",
    ]
    assert chosen.named == {"libx264", "h264_nvenc"} and not chosen.auto
    assert len(select(["software"]).encoders) == 6
    assert select(["auto"]).auto and select(["auto"]).encoders == tuple(ENCODERS.values())
    with pytest.raises(
        UsageError,
        match="no encoder is called 'nvec'; did you mean nvenc.*; known are software, nvenc",
    ):
        select(["nvec"])
    with pytest.raises(UsageError, match="no encoder was named"):
        select([" "])


def test_what_is_typed_in_a_hurry_is_understood_or_explained() -> None:
    assert find("X264") is find("libx264") and select(["NVENC"]).encoders[0].kind == "nvenc"
    assert select(["Auto"]).auto
    assert find("libx264").check_preset("Medium") == "medium"
    for word, said in {
        "x246": "did you mean x26[45] or x26[45]; known are",
        "libx26": "did you mean libx26[45]",
        "sofware": "did you mean software",
        "h264": "h264 is a codec.*name one of x264, h264_nvenc, h264_qsv",
        "HEVC": "HEVC is a codec.*name one of x265, hevc_nvenc",
        "h265": "name one of x265, hevc_nvenc",
        "av1": "name one of svtav1, aom, av1_nvenc",
    }.items():
        with pytest.raises(UsageError, match=said):
            find(word)
    with pytest.raises(UsageError, match="no preset 'medum'; did you mean medium; use one of"):
        find("x264").check_preset("medum")


@pytest.mark.parametrize("group", ["nvenc", "software", "AUTO"])
def test_a_group_where_one_encoder_is_wanted_says_which_it_holds(group: str) -> None:
    with pytest.raises(UsageError, match=f"{group} is a group, and this takes one encoder: "):
        find(group)
