"""The grammar of sweeps: lists, ranges, per-encoder values, sweep files, names and ids."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from made_up import window_of_film
from vmaftune.cell import Tools
from vmaftune.encoders import ENCODERS, select
from vmaftune.errors import UsageError
from vmaftune.request.asked import Clip
from vmaftune.request.cells import default_folder, plan_cells
from vmaftune.request.flags import Texts, parse_flags, request_from
from vmaftune.request.sources import name_clips
from vmaftune.request.sweep_file import read_sweep
from vmaftune.request.values import (
    parse_kbps,
    parse_scale,
    parse_time,
    parse_values,
    read_axis,
)

TOOLS = Tools(ffmpeg="f", ffmpeg_version="9", ffmpeg_sha256="0", libvmaf_version="3")
SIX = select(["software"]).encoders


@pytest.mark.parametrize(
    ("text", "values"),
    [
        ("19,25", ["19", "25"]),
        ("19:37:6", ["19", "25", "31", "37"]),
        ("20:21:0.5", ["20", "20.5", "21"]),
        ("19:36:6", ["19", "25", "31"]),
        ("30", ["30"]),
        ("5:5:1", ["5"]),
        (" 19 , 25 ", ["19", "25"]),
        ("10,20:22:1", ["10", "20", "21", "22"]),
        ("medium,slow", ["medium", "slow"]),
        ("0.1:0.3:0.1", ["0.1", "0.2", "0.3"]),
    ],
)
def test_lists_and_ranges(text: str, values: list[str]) -> None:
    assert parse_values(text, "--quality") == tuple(values)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "empty value"),
        ("19,", "empty value"),
        ("19::6", "START:END:STEP"),
        ("19:37", "START:END:STEP"),
        ("a:b:c", "START:END:STEP"),
        ("37:19:6", "goes upward"),
        ("19:37:0", "goes upward"),
        ("19:37:-6", "goes upward"),
        ("0:1000000:1", "longer than 1000"),
        ("19,25,19", "twice"),
        ("1:2:1/0", "START:END:STEP"),
    ],
)
def test_lists_that_are_none(text: str, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        parse_values(text, "--quality")


def test_values_per_encoder() -> None:
    assert read_axis(None, "--quality").of("libx264") == ()
    assert read_axis("20,30", "--quality").of("libx264") == ("20", "30")
    axis = read_axis("x264=fast,slow;svtav1=10,5", "--presets")
    assert axis.of("libx264") == ("fast", "slow") and axis.of("libsvtav1") == ("10", "5")
    assert axis.of("libx265") == ()
    assert read_axis("software=20:40:10", "--quality").of("libaom-av1") == ("20", "30", "40")
    assert read_axis([20, "30"], "q").of("x") == read_axis("20,30", "q").of("x")
    assert read_axis({"x264": [20, 22.5]}, "q").of("libx264") == ("20", "22.5")
    assert read_axis(50, "q").of("libx264") == ("50",)


def test_values_over_values() -> None:
    file, flag = read_axis("x264=20;x265=30", "q"), read_axis("x264=25", "q")
    assert flag.over(file).of("libx264") == ("25",) and flag.over(file).of("libx265") == ("30",)
    assert read_axis("40", "q").over(file).of("libx265") == ("40",)
    assert flag.over(read_axis("30", "q")).of("libx265") == ("30",)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("20;30", "several lists"),
        ("x264=20;30", "names no encoder"),
        ("nvenc=20", "not among the encoders"),
        ("x999=20", "no encoder is called"),
        ("x264=20;libx264=30", "twice"),
        ("x264=", "empty value"),
        (";", "is empty"),
        ("", "is empty"),
    ],
)
def test_values_per_encoder_that_are_none(text: str, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        read_axis(text, "--quality").check_among({row.name for row in SIX}, "--quality")


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        ({"encoders": "x264,svtav1", "presets": "fast"}, "libsvtav1 has no preset 'fast'"),
        ({"encoders": "svtav1", "presets": "12"}, "bitstream of preset 11"),
        ({"encoders": "aom", "presets": "8"}, "treats it as 6"),
        ({"quality": "52"}, r"crf 52 is out of range; use 0..51"),
        ({"encoders": "svtav1", "presets": "10", "quality": "30.3"}, "steps of 0.25 only"),
        ({"quality": "good"}, "not a number"),
        ({"quality": "nan"}, "out of range"),
        ({"encoders": ","}, "no encoder was named"),
        ({"encoders": ""}, "--encoders is empty"),
        ({"quality": ""}, "--quality is empty"),
        ({"presets": ""}, "--presets is empty"),
        ({"size": "96x64"}, "--size describes raw .yuv sources, and there are none"),
        ({"fps": "25"}, "--fps describes raw"),
        ({"encoders": "x262"}, "no encoder is called 'x262'"),
        ({"select": ["nothing*"]}, "no cell matches --select"),
        ({"threads": 0}, "use 1 to 64"),
        ({"start": "-1"}, "seconds from 0"),
        ({"frames": 0}, "at least 1 frame"),
        ({"crop": "1x"}, "WIDTHxHEIGHT"),
        ({"frames": 10**23}, "at least 1 frame and at most 10000000"),
        ({"allow": "odd"}, "vfr, interlaced, hdr"),
        ({"scale": "100000x100000"}, "sides from 1 to 16384 pixels"),
        ({"scale": "big"}, "640x360, 640x-1 or 360p"),
        ({"start": "1:2:3:4"}, "a time such as 00:12:30"),
        ({"start": "0:99"}, "a time such as 00:12:30"),
        ({"sizes": "1080"}, "would enlarge the sources"),
        ({"sizes": "48x32"}, "at least 64 pixels"),
        ({"sizes": "64,64"}, "twice"),
        ({"maxrate": "fast"}, "kbit/s such as 2000"),
        ({"bufsize": "100"}, "--bufsize needs --maxrate"),
        (
            {"encoders": "vp9", "presets": "good", "maxrate": "100"},
            "libvpx-vp9 takes no --maxrate.*use one of libx264, libx265, libsvtav1",
        ),
        ({"samples": 3, "frames": 4}, "frames and samples both say how a clip is cut"),
        ({"sample_seconds": "3"}, "sample_seconds needs samples"),
        ({"samples": 0}, "use 1 to 1000"),
        ({"chunk": "0"}, "seconds up to 3600"),
        ({"options": "film"}, "write pairs such as -tune film"),
        ({"options": "-tune"}, "write pairs such as -tune film"),
        ({"options": "-tune 'film"}, "open quote"),
        ({"options": "-crf 20"}, "crf cannot be varied"),
        ({"options": "-threads 4"}, "threads cannot be varied"),
        ({"options": "-s 64x64"}, "s cannot be varied"),
        ({"options": "-x264-params crf=20"}, "-x264-params crf cannot be varied"),
        ({"options": "-x264-params aq-mode=2:vbv-maxrate=9"}, "vbv-maxrate cannot be varied"),
        ({"options": "-x264-params aq-mode"}, "aq-mode has no value"),
        ({"options": "-tune zerolatency"}, "changes its threads"),
        ({"options": "-tune film;rm"}, "names no encoder|several lists"),
        ({"options": "-tune $(x)"}, "holds signs that no option needs"),
        ({"options": "x265=-tune grain"}, "not among the encoders"),
    ],
)
def test_commands_that_cannot_be_carried_out(
    flags: dict[str, Any], words: str, planned: Any, clip: Any
) -> None:
    with pytest.raises(UsageError, match=words):
        planned(clip("plan.mkv"), **flags)


def test_defaults_cells_order_and_ids(planned: Any, clip: Any) -> None:
    plan = planned(clip("plan.mkv"), encoders=None, presets=None, quality=None)
    assert [c.id for c in plan.cells] == [
        f"plan/{row.name}/{row.default_preset}/{q}" for row in SIX for q in row.default_quality
    ]
    assert len(plan.cells) == 24
    document = plan.document()
    assert document.num_cells == 24
    chosen = planned(
        clip("plan.mkv"),
        encoders=None,
        presets=None,
        quality=None,
        select=["*/libx26?/*/20", "*/vvenc*", "*/libvvenc/*/43"],
    )
    assert [c.id for c in chosen.cells] == [
        "plan/libx264/medium/20",
        "plan/libx265/medium/20",
        "plan/libvvenc/faster/43",
    ]


def test_names_tell_clips_apart() -> None:
    assert name_clips([Clip(path=Path("a/one.mp4")), Clip(path=Path("a/two.mkv"))]) == [
        "one",
        "two",
    ]
    assert name_clips([Clip(path=Path("/a/one.mp4")), Clip(path=Path("/b/one.mp4"))]) == [
        "a_one",
        "b_one",
    ]
    assert name_clips([Clip(path=Path("/a/one.mp4")), Clip(path=Path("/a/one.mkv"))]) == [
        "a_one.mp4",
        "a_one.mkv",
    ]
    assert name_clips([Clip(path=Path("/a/-x: 50%, it's #1 ü.mp4"))]) == ["-x: 50%, it's #1 ü"]
    with pytest.raises(UsageError, match="name is given twice"):
        name_clips([Clip(path=Path("a.mp4"), name="n"), Clip(path=Path("b.mp4"), name="n")])
    with pytest.raises(UsageError, match="2 sources would be called"):
        name_clips([Clip(path=Path("/a/one.mp4")), Clip(path=Path("/a/one.mp4"))])
    for bad in ("a\nb.mp4", " a.mp4", "a\x1b[1m.mp4", "caf\udce9.mp4"):
        with pytest.raises(UsageError, match="cannot be a source's name"):
            name_clips([Clip(path=Path(bad))])


def sweep_file(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "my sweep.toml"
    path.write_text(text, encoding="utf-8")
    return path


def test_a_sweep_file_with_flags_over_it(tmp_path: Path, clip: Any, planned: Any) -> None:
    for name in ("one", "two"):
        (tmp_path / f"{name}.mkv").write_bytes(
            clip(f"{name} of a sweep.mkv", frames=20 if name == "one" else 18).read_bytes()
        )
    path = sweep_file(
        tmp_path,
        """
        frames = 8
        [[source]]
        path = "one.mkv"
        group = "film"
        start = 0.2
        [[source]]
        path = "two.mkv"
        name = "second"
        frames = 6
        crop = "64x64+2+0"
        [[grid]]
        encoders = ["x264", "svtav1"]
        presets = { x264 = ["ultrafast", "fast"], svtav1 = "10" }
        quality = "20:40:10"
        [[grid]]
        encoders = ["vp9"]
        presets = "realtime"
        quality = [40, 50]
        sources = ["sec*"]
    """,
    )
    flags = {"encoders": None, "presets": None, "quality": None}
    plan = planned(sweep=path, **flags)
    assert plan.name == "my sweep"
    assert len(plan.cells) == 2 * (6 + 3) + 2
    one, two = plan.sources
    assert (one.name, one.group, one.start_frame, one.num_frames, one.width) == (
        "one",
        "film",
        5,
        8,
        96,
    )
    assert (two.name, two.group, two.start_frame, two.num_frames, two.width) == (
        "second",
        "second",
        0,
        6,
        64,
    )
    narrow = planned(sweep=path, **{**flags, "encoders": "vp9,x265"}, frames=4)
    assert {c.encoder.name for c in narrow.cells} == {"libvpx-vp9", "libx265"}
    assert {s.num_frames for s in narrow.sources} == {4}
    assert [c.id for c in narrow.cells if c.encoder.name == "libvpx-vp9"] == [
        "second/libvpx-vp9/realtime/40",
        "second/libvpx-vp9/realtime/50",
    ]


def grid(path: Path, **flags: Any) -> dict[str, list[str]]:
    """preset/quality of every encoder of a sweep file with flags over it."""
    given = {"encoders": None, "presets": None, "quality": None} | flags
    request = request_from(parse_flags(Texts(sweep=str(path), **given)))
    source = replace(
        window_of_film(0),
        name="s",
        group="s",
        path="s",
        sha256="",
        size_bytes=1,
        num_frames=None,
        expected_frames=9,
        width=64,
        height=64,
        fps="25",
    )
    found: dict[str, list[str]] = {}
    for cell in plan_cells(request, [source]).cells:
        found.setdefault(cell.encoder.name, []).append(cell.id.split("/", 2)[2])
    return found


def test_the_top_level_of_a_sweep_file_is_the_default_of_every_block(tmp_path: Path) -> None:
    bare = sweep_file(tmp_path, 'quality = "30,40"\npresets = { x264 = "fast", svtav1 = "10" }')
    assert grid(bare, encoders="x264") == {"libx264": ["fast/30", "fast/40"]}
    assert grid(bare, encoders="x264,x265", quality="35") == {
        "libx264": ["fast/35"],
        "libx265": ["medium/35"],
    }
    assert set(grid(bare)) == {row.name for row in SIX} and grid(bare)["libsvtav1"] == [
        "10/30",
        "10/40",
    ]
    blocks = sweep_file(
        tmp_path,
        """
        quality = "30,40"
        presets = { x264 = "fast", svtav1 = "10" }
        [[grid]]
        encoders = ["x264"]
        [[grid]]
        encoders = ["svtav1"]
        quality = 50
        """,
    )
    assert grid(blocks) == {"libx264": ["fast/30", "fast/40"], "libsvtav1": ["10/50"]}
    assert grid(blocks, encoders="vp9") == {"libvpx-vp9": ["good/30", "good/40"]}


def test_a_flag_for_one_encoder_leaves_the_blocks_of_the_others_alone(tmp_path: Path) -> None:
    path = sweep_file(
        tmp_path,
        """
        [[grid]]
        encoders = ["x264", "x265"]
        presets = "veryfast"
        quality = "20,30"
        [[grid]]
        encoders = ["vp9"]
        presets = "realtime"
        quality = "40"
        """,
    )
    one = {
        "libx264": ["veryfast/25"],
        "libx265": ["veryfast/20", "veryfast/30"],
        "libvpx-vp9": ["realtime/40"],
    }
    assert grid(path, quality="x264=25") == one
    assert grid(path, quality="x264=25", encoders="x264") == {"libx264": ["veryfast/25"]}
    assert grid(path, quality="33") == {
        "libx264": ["veryfast/33"],
        "libx265": ["veryfast/33"],
        "libvpx-vp9": ["realtime/33"],
    }
    for flags in ({"quality": "aom=25"}, {"encoders": "x264", "quality": "vp9=25"}):
        with pytest.raises(UsageError, match="not among the encoders of this sweep"):
            grid(path, **flags)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("quality = ''", "quality is empty"),
        ("[[grid]]\nencoders = ['x264']\nquality = 'vp9=20'", "not among the encoders"),
    ],
)
def test_grids_that_cannot_be_carried_out(text: str, words: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=words):
        grid(sweep_file(tmp_path, text))


def test_names_that_look_like_globs_can_be_named(planned: Any, clip: Any, tmp_path: Path) -> None:
    for name in ("b[1]", "b1"):
        (tmp_path / f"{name}.mkv").write_bytes(
            clip(f"glob {name}.mkv", frames=4 + len(name)).read_bytes()
        )
    path = sweep_file(
        tmp_path,
        "sources = ['.']\n[[grid]]\nencoders = ['x264']\nquality = '30'\nsources = ['b[1]']",
    )
    plan = planned(sweep=path, encoders=None, presets=None, quality=None)
    assert {s.name for s in plan.sources} == {"b[1]", "b1"}
    assert [c.id for c in planned(tmp_path, select=["b[[]1]/*"]).cells] == [
        "b[1]/libx264/ultrafast/30"
    ]
    assert len(planned(tmp_path, select=["b[1]/libx264/ultrafast/30"]).cells) == 2


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("oops", "is not TOML"),
        ("colour = 1", "holds colour, which no sweep knows"),
        ("[[source]]\nname = 'x'", "source 1 has no path"),
        ("[[source]]\npath = 'a.mkv'\nfrmes = 1", "source 1 holds frmes"),
        ("[[grid]]\nqualities = '1'", "grid 1 holds qualities"),
        ("frames = '10'", "frames takes a number of frames"),
        ("frames = true", "frames takes"),
        ("start = 'x'", "start takes seconds"),
        ("options = 5", "options takes a text such as -tune film"),
        ("options = [5]", "5 is not an option set"),
        ("sizes = 'x'", "sizes takes WIDTHxHEIGHT"),
        ("maxrate = true", "maxrate takes kbit/s"),
        ('threads_per_encode = "2"', "takes a whole number from 1 to 64, not '2'"),
        ("threads_per_encode = 65", "is 65; use 1 to 64"),
        ("fps = 'fast'", "fps takes a rate such as 25"),
        ("a = " + "[" * 5000, "is not TOML: it is nested too deeply"),
        ("deinterlace = 1", "deinterlace takes true or false"),
        ("encoders = 5", "takes a list of names"),
        ("allow = ['odd']", "vfr, interlaced, hdr"),
        ("source = 'a.mkv'", "source"),
        ("source = 5", "source"),
        ("grid = ['x']", "grid"),
        ("out = 5", "out"),
        ("out = ''", "out is empty"),
        ("vmaf_model = ''", "vmaf_model is empty"),
        ("encoders = ''", "no encoder was named"),
        (
            "[[grid]]\nencoders = ['x264']\n[[grid]]\nquality = '20'",
            "my sweep.toml, grid 2 names no encoders",
        ),
        ("vmaf_model = 5", "vmaf_model"),
        ("threads_per_encode = true", "threads"),
        ("[[source]]\npath = 'a.mkv'\nname = 5", "name"),
        ("[[source]]\npath = 'a.mkv'\ngroup = 5", "group"),
    ],
)
def test_sweep_files_that_cannot_be_carried_out(text: str, words: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=words):
        request_from(parse_flags(Texts(sweep=str(sweep_file(tmp_path, text)))))


def test_a_missing_sweep_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"none\.toml cannot be read"):
        read_sweep(tmp_path / "none.toml")


@pytest.mark.parametrize(
    "path",
    sorted((Path(__file__).parents[2] / "tools/vmaf-tune/sweeps").glob("*[!s].toml")),
    ids=lambda p: p.stem,
)
def test_the_sweeps_that_ship_are_understood(path: Path) -> None:
    parts = read_sweep(path).parts
    assert parts
    assert all(row.name in ENCODERS for part in parts for row in select(part.words).encoders)


def test_a_byte_order_mark_is_no_mistake_and_a_pipe_is_no_file(tmp_path: Path) -> None:
    path = tmp_path / "notepad.toml"
    path.write_bytes(b'\xef\xbb\xbfencoders = ["x264"]\n')
    assert read_sweep(path).parts[0].words == ("x264",)
    os.mkfifo(tmp_path / "pipe.toml")
    for place in (tmp_path, tmp_path / "pipe.toml"):
        with pytest.raises(UsageError, match="is a folder or a device; give a TOML file"):
            read_sweep(place)


def test_a_mistake_in_a_flag_comes_before_the_clips(planned: Any, tmp_path: Path) -> None:
    """No clip is opened, and not even looked for, before all flags make sense."""
    with pytest.raises(UsageError, match="libx264 has no preset 'medum'; did you mean medium"):
        planned(tmp_path / "missing.mp4", presets="medum")
    with pytest.raises(UsageError, match="out of range"):
        planned(tmp_path / "missing.mp4", quality="99")
    for text in ("20-30", "20..30"):
        with pytest.raises(UsageError, match="a range 20:30:5 with its end and step"):
            planned(tmp_path / "missing.mp4", quality=text)


def test_sizes_are_cells_of_their_own(planned: Any, clip: Any) -> None:
    source = clip("wide.mkv", size="256x144")
    plan = planned(source, sizes="144,108,64x64")
    assert [c.id for c in plan.cells] == [
        f"wide/libx264/ultrafast/30{size}" for size in ("", "@192x108", "@64x64")
    ]
    assert plan.cells[1].encode_size == (192, 108) and plan.cells[0].encode_size == (256, 144)
    assert len({c.key(["x"], TOOLS) for c in plan.cells}) == 2  # the argv tells the sizes apart
    plan = planned(source, clip("plan.mkv"), sizes="144,64")
    assert plan.notices == ("--sizes: 216x144 would enlarge plan; it is left out there",)
    assert [c.id.partition("/")[0] for c in plan.cells] == ["wide", "wide", "plan"]


def test_option_sets_and_bounds_are_cells_of_their_own(planned: Any, clip: Any) -> None:
    plan = planned(
        clip("plan.mkv"),
        encoders="x264,svtav1",
        presets="x264=ultrafast;svtav1=10",
        options="x264=|-tune film -x264-params aq-mode=2:aq-strength=0.8",
        maxrate="1.5M",
    )
    bound = "maxrate=1500k:3000k"
    assert [c.id for c in plan.cells] == [
        f"plan/libx264/ultrafast/30+{bound}",
        f"plan/libx264/ultrafast/30+tune=film,aq-mode=2,aq-strength=0.8,{bound}",
        f"plan/libsvtav1/10/30+{bound}",
    ]
    assert plan.cells[1].setting.arguments(1, 100)[-8:] == (
        ["-tune", "film", "-x264-params", "aq-mode=2:aq-strength=0.8"]
        + ["-maxrate", "1500k", "-bufsize", "3000k"]
    )


def test_option_sets_of_a_sweep_file(tmp_path: Path) -> None:
    path = sweep_file(
        tmp_path,
        """
        [[grid]]
        encoders = ["x264", "x265"]
        quality = 30
        options = { x264 = ["", {name = "film", args = "-tune film"}], x265 = "-tune grain" }
        """,
    )
    assert grid(path) == {
        "libx264": ["medium/30", "medium/30+film"],
        "libx265": ["medium/30+tune=grain"],
    }
    path.write_text(path.read_text().replace('""', '{name = "film", args = "-bf 0"}'))
    with pytest.raises(UsageError, match="two option sets of .* have one name"):
        grid(path)


def test_samples_and_chunks_are_windows_of_one_group(planned: Any, clip: Any) -> None:
    film = clip("planned/film.mkv", frames=100)
    plan = planned(film, samples=3, sample_seconds="0.4")
    assert [(w.name, w.start_frame, w.num_frames) for w in plan.sources] == [
        ("film@00:00:00.480", 12, 10),
        ("film@00:00:01.800", 45, 10),
        ("film@00:00:03.120", 78, 10),
    ]
    assert {w.group for w in plan.sources} == {"film"}
    plan = planned(film, chunk="0:01.2")
    assert [(w.start_frame, w.num_frames) for w in plan.sources] == [(0, 30), (30, 30), (60, 40)]
    plan = planned(film, start="0:00:02", chunk="1")
    assert [(w.start_frame, w.num_frames) for w in plan.sources] == [(50, 25), (75, 25)]


def test_quick_is_two_encoders_five_values_and_two_seconds(planned: Any, clip: Any) -> None:
    film, bare = (
        clip("planned/film.mkv", frames=100),
        {"encoders": None, "presets": None, "quality": None},
    )
    plan = planned(film, quick=True, **bare)
    assert [(w.name, w.num_frames) for w in plan.sources] == [("film@00:00:01.000", 50)]
    assert [c.encoder.name for c in plan.cells] == ["libx264"] * 5 + ["libsvtav1"] * 5
    plan = planned(film, quick=True, frames=10, **{**bare, "encoders": "x265"})
    assert {(c.encoder.name, c.num_frames) for c in plan.cells} == {("libx265", 10)}


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("48x32", (48, 32)),
        ("48:32", (48, 32)),
        ("48x-1", (48, 32)),
        ("48x-2", (48, 32)),
        ("-1x32", (48, 32)),
        ("32p", (48, 32)),
        (" 33p ", (50, 33)),
        ("50x-1", (50, 34)),
    ],
)
def test_sizes_as_users_of_ffmpeg_write_them(text: str, size: tuple[int, int]) -> None:
    assert parse_scale(text).of(96, 64) == size


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("12.5", 12.5), ("00:12:30", 750), ("1:30.25", 90.25), (3, 3), ("01:00:00.001", 3600.001)],
)
def test_times(text: object, seconds: float) -> None:
    assert float(parse_time(text)) == seconds


@pytest.mark.parametrize(("text", "rate"), [("2000", 2000), ("2000k", 2000), ("2.5M", 2500)])
def test_rates(text: str, rate: int) -> None:
    assert parse_kbps(text, "--maxrate") == rate


def test_long_names_of_folders_are_cut(planned: Any, clip: Any, tmp_path: Path) -> None:
    place = tmp_path / ("ü" * 120) / "plan.mkv"
    place.parent.mkdir()
    place.write_bytes(clip("plan.mkv").read_bytes())
    plan = planned(place)
    request = request_from(parse_flags(Texts(sources=(str(place),))))
    assert len(default_folder(request, plan).name.encode()) < 120
