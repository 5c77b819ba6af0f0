"""Preparing a reference: commands as texts, what must agree, and windows reached by seeking."""

from __future__ import annotations

import hashlib
import re
import shlex
import struct
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from vmaftune.cell import Color, Crop, Pair, Raw, Window
from vmaftune.errors import SourceError
from vmaftune.media.encode import fill
from vmaftune.media.failure import CellFailure
from vmaftune.media.ffmpeg import Ffmpeg
from vmaftune.media.prepare import prepare, prepare_argv
from vmaftune.media.probe import probe
from vmaftune.media.score_pair import score_pair

PLAIN = {
    "name": "clip",
    "group": "clip",
    "path": "clip.mp4",
    "sha256": "",
    "size_bytes": 1,
    "start_frame": 0,
    "num_frames": None,
    "expected_frames": 10,
    "crop": None,
    "scale": None,
    "deinterlace": False,
    "width": 640,
    "height": 360,
    "pix_fmt": "yuv420p",
    "fps": "25",
    "sar": "1",
    "color": Color(),
    "stream_index": 0,
    "raw": None,
}


def source(**changes: object) -> Window:
    return Window(**{**PLAIN, **changes})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("changes", "filters"),
    [
        ({}, "LOOK;format=yuv420p|yuvj420p"),
        (
            {"start_frame": 5, "num_frames": 8},
            "trim=end_frame=13:start_frame=5;LOOK;format=yuv420p|yuvj420p",
        ),
        ({"start_frame": 5}, "trim=start_frame=5;LOOK;format=yuv420p|yuvj420p"),
        (
            {
                "deinterlace": True,
                "crop": Crop(width=64, height=66, x=2, y=3),
                "scale": (640, 360),
                "pix_fmt": "yuv422p10le",
            },
            "LOOK;bwdif=mode=send_frame;crop=64:66:2:3:exact=1;scale=640:360:flags=bicubic;format=yuv422p10le",
        ),
    ],
)
def test_preparation_filters_are_in_order(changes: dict[str, object], filters: str) -> None:
    argv = prepare_argv(source(**changes))
    graph = argv[argv.index("-lavfi") + 1]
    steps = [re.sub(r"\[[^\]]+\]", "", step) for step in graph.split(";")]
    assert steps == filters.replace("LOOK", "showinfo=checksum=0").split(";")
    assert graph.startswith("[0:0]") and graph.endswith(argv[argv.index("-map") + 1])
    assert ("-frames:v" in argv) == ("num_frames" in changes)


def test_raw_sources_are_told_what_they_are() -> None:
    argv = prepare_argv(
        source(raw=Raw(width=96, height=64, fps="29.97", pix_fmt="yuv420p"), fps="30000/1001")
    )
    assert (
        shlex.join(argv[argv.index("-f") : argv.index("-i")])
        == "-f rawvideo -pixel_format yuv420p -video_size 96x64 -framerate 30000/1001"
    )


def old_prepare_argv(window: Window) -> list[str]:
    """The command as version 0.1 wrote it by hand: decoded from the start, filters as `-vf`."""
    steps = []
    if window.start_frame or window.num_frames is not None:
        end = window.start_frame + (window.num_frames or 0)
        tail = f":end_frame={end}" if window.num_frames is not None else ""
        steps.append(f"trim=start_frame={window.start_frame}{tail}")
    if window.deinterlace:
        steps.append("bwdif=mode=send_frame")
    if window.crop:
        crop = window.crop
        steps.append(f"crop={crop.width}:{crop.height}:{crop.x}:{crop.y}:exact=1")
    if window.scale:
        steps.append(f"scale={window.scale[0]}:{window.scale[1]}:flags=bicubic")
    full = "" if window.pix_fmt.endswith("le") else f"|{window.pix_fmt.replace('yuv', 'yuvj')}"
    steps.append(f"format={window.pix_fmt}{full}")
    whole = ["-nostdin", "-v", "error", "-y", "-i", "file:{src}"]
    out = ["-fps_mode", "passthrough", "-f", "rawvideo", "file:{ref}"]
    return [*whole, "-map", f"0:{window.stream_index}", "-vf", ",".join(steps), *out]


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def both_ways(window: Window, real: Ffmpeg, folder: Path) -> tuple[str, str]:
    """Digests of the reference prepared now, and of the one that version 0.1 prepared."""
    new, old = folder / "new.yuv", folder / "old.yuv"
    prepare(window, real, new, 120)
    argv = fill(old_prepare_argv(window), src=window.path, ref=old)
    done = real.run(argv, timeout_s=120)
    assert done.returncode == 0, done.tail
    return sha256(new), sha256(old)


@pytest.mark.parametrize("pix_fmt", ["yuv420p", "yuv420p10le", "yuv422p10le", "yuv444p"])
@pytest.mark.parametrize(
    "flags",
    [{}, {"start": "0.2", "frames": 5}, {"crop": "64x48+8+4", "scale": "128x96"}],
    ids=["whole", "window", "crop and scale"],
)
def test_a_reference_is_the_one_that_version_0_1_prepared(
    planned: Callable[..., Any],
    clip: Callable[..., Path],
    real: Ffmpeg,
    tmp_path: Path,
    pix_fmt: str,
    flags: dict[str, Any],
) -> None:
    args = ("-c:v", "ffv1", "-pix_fmt", pix_fmt)
    film = clip(f"both ways {pix_fmt}.mkv", frames=12, args=args)
    (window,) = planned(film, **flags).sources
    new, old = both_ways(window, real, tmp_path)
    assert new == old


def with_aperture(clip: Path, new: Path, width: int, height: int) -> Path:
    """A copy of an mp4 with a clean aperture (`clap`) of `width` x `height`, centred."""
    data = bytearray(clip.read_bytes())
    box = struct.pack(">I4s8I", 40, b"clap", width, 1, height, 1, 0, 1, 0, 1)
    entry = data.find(b"avc1", data.find(b"stsd")) - 4
    (size,) = struct.unpack_from(">I", data, entry)
    data[entry + size : entry + size] = box
    parents = [data.find(name) - 4 for name in (b"moov", b"trak", b"mdia", b"minf", b"stbl")]
    for at in (*parents, data.find(b"stsd") - 4, entry):
        struct.pack_into(">I", data, at, struct.unpack_from(">I", data, at)[0] + len(box))
    new.write_bytes(data)
    return new


X264 = ("-c:v", "libx264", "-preset", "ultrafast", "-pix_fmt", "yuv420p")


@pytest.fixture
def mp4(clip: Callable[..., Path]) -> Path:
    return clip("plain.mp4", frames=24, size="160x96", args=X264)


@pytest.mark.parametrize(("width", "height"), [(80, 96), (160, 64)])
def test_a_clean_aperture_is_what_is_measured(
    width: int,
    height: int,
    mp4: Path,
    swept: Callable[..., Any],
    run_ffmpeg: Callable[..., str],
    tmp_path: Path,
) -> None:
    cut = with_aperture(mp4, tmp_path / "clap.mp4", width, height)
    run = swept(cut)
    assert run.row["status"] == "ok", run.row["error"]
    assert (run.row["width"], run.row["height"], run.row["num_frames"]) == (width, height, 24)
    plain = tmp_path / "cropped.mkv"
    place = f"crop={width}:{height}:{(160 - width) // 2}:{(96 - height) // 2}"
    run_ffmpeg("-i", mp4, "-vf", place, "-c:v", "ffv1", plain)
    same = swept(plain, out=tmp_path / "other")
    assert run.row["vmaf_score"] == same.row["vmaf_score"]
    few = swept(cut, out=tmp_path / "few", frames=12, scale="128x96")
    assert (few.row["status"], few.row["num_frames"]) == ("ok", 12)


def test_only_quarter_turns_can_be_measured(
    mp4: Path,
    swept: Callable[..., Any],
    planned: Callable[..., Any],
    run_ffmpeg: Callable[..., str],
    tmp_path: Path,
) -> None:
    for angle in (45, 90, 180):
        run_ffmpeg(
            "-display_rotation", str(angle), "-i", mp4, "-c", "copy", tmp_path / f"{angle}.mp4"
        )
    with pytest.raises(SourceError, match="turned by 45 degrees"):
        planned(tmp_path / "45.mp4")
    run = swept(tmp_path / "90.mp4", tmp_path / "180.mp4")
    sizes = {r["src"]: (r["status"], r["width"], r["height"]) for r in run.rows.values()}
    assert sizes == {"90": ("ok", 96, 160), "180": ("ok", 160, 96)}


def joined(parts: Sequence[Path], new: Path) -> Path:
    """Elementary streams one after the other."""
    new.write_bytes(b"".join(part.read_bytes() for part in parts))
    return new


@pytest.mark.parametrize(
    ("second", "said"),
    [
        ({"size": "320x192"}, "from 160x96 yuv420p to 320x192 yuv420p"),
        (
            {"args": (*X264[:-1], "yuv444p")},
            "from 160x96 yuv420p to 160x96 yuv444p",
        ),
    ],
)
def test_a_clip_that_changes_in_its_middle_is_refused(
    second: dict[str, Any],
    said: str,
    clip: Callable[..., Path],
    swept: Callable[..., Any],
    tmp_path: Path,
) -> None:
    first = {"frames": 10, "size": "160x96", "args": X264}
    name = "b 320.h264" if "size" in second else "b 444.h264"
    parts = [clip("a 160.h264", **first), clip(name, **{**first, **second})]
    run = swept(joined(parts, tmp_path / "changes.mpg"))
    assert run.row["status"] == "failed"
    assert run.row["error"]["class"] == "source_changes"
    assert said in run.row["error"]["message"]


def test_a_pair_whose_file_changes_in_its_middle_is_refused(
    clip: Callable[..., Path], real: Ffmpeg, tmp_path: Path
) -> None:
    first = {"frames": 10, "size": "160x96", "args": X264}
    parts = [clip("a 160.h264", **first), clip("b 320.h264", **{**first, "size": "320x192"})]
    changing = joined(parts, tmp_path / "changes.mpg")
    facts = {"width": 160, "height": 96, "expected_frames": 20}
    pair = Pair(
        reference=source(path=str(changing), **facts),
        distorted=source(path=str(clip("same.mkv", **first)), **facts),
        made=None,
        teacher="vmaf_v0.6.1",
        features="six",
        kbps=None,
    )
    with pytest.raises(CellFailure, match="the reference changes in its middle from 160x96"):
        score_pair(pair, real, tmp_path, 60)


MPEG2 = ("-c:v", "mpeg2video", "-q:v", "2", "-pix_fmt", "yuv420p", "-g", "5")
FIELDS = (*MPEG2, "-flags", "+ildct+ilme", "-field_order", "tt")


@pytest.fixture
def late(clip: Callable[..., Path], run_ffmpeg: Callable[..., str], tmp_path: Path) -> Path:
    """30 progressive frames, then 25 interlaced ones."""
    first = clip("progressive.m2v", frames=30, size="160x96", args=MPEG2)
    second = clip("woven.m2v", frames=25, size="160x96", vf="setfield=tff", args=FIELDS)
    both = joined([first, second], tmp_path / "late.m2v")
    new = tmp_path / "late.mkv"
    run_ffmpeg("-fflags", "+genpts", "-r", "25", "-i", both, "-c", "copy", new)
    return new


@pytest.mark.parametrize("window", [{}, {"start": 1.4, "frames": 12}, {"start": 1.1, "frames": 20}])
def test_frames_that_turn_interlaced_late_are_seen(
    window: dict[str, Any], late: Path, planned: Callable[..., Any]
) -> None:
    with pytest.raises(SourceError, match="is interlaced"):
        planned(late, **window)
    (source,) = planned(late, **window, deinterlace=True).sources
    assert source.deinterlace and source.flags == ("deinterlaced",)


def test_a_progressive_window_before_interlaced_frames_is_measured(
    late: Path, swept: Callable[..., Any]
) -> None:
    run = swept(late, frames=20)
    assert (run.row["status"], run.row["flags"]) == ("ok", []), run.row["error"]


def test_interlaced_frames_between_the_places_looked_at_fail_the_window(
    late: Path, planned: Callable[..., Any], real: Ffmpeg, tmp_path: Path
) -> None:
    (source,) = planned(late, frames=20).sources
    longer = replace(source, num_frames=40, expected_frames=40)
    with pytest.raises(CellFailure, match="10 of the 40 frames of the window are inter") as caught:
        prepare(longer, real, tmp_path / "ref.yuv", 60)
    assert caught.value.kind == "source_interlaced"


def test_what_a_log_and_the_bytes_do_not_agree_on_is_a_failure(
    mp4: Path, planned: Callable[..., Any], real: Ffmpeg, tmp_path: Path
) -> None:
    (source,) = planned(mp4).sources
    for wrong, said in (
        ({"width": 320}, "was prepared as 160x96 yuv420p, not 320x96 yuv420p"),
        ({"pix_fmt": "yuv422p", "scale": None}, None),
        ({"expected_frames": 20}, "decodes to 24 frames, and its packets are 20"),
        ({"num_frames": 30}, "has 24 of the 30 frames asked for"),
    ):
        if said:
            with pytest.raises(CellFailure, match=said):
                prepare(replace(source, **wrong), real, tmp_path / "ref.yuv", 60)
    assert prepare(source, real, tmp_path / "ref.yuv", 60) == 24


def test_a_source_that_is_cut_off_after_it_was_planned_gives_no_number(
    clip: Callable[..., Path], planned: Callable[..., Any], real: Ffmpeg, tmp_path: Path
) -> None:
    film = tmp_path / "shrinks.mkv"
    film.write_bytes(clip("whole mpeg2.mkv", frames=25, args=MPEG2).read_bytes())
    (source,) = planned(film).sources
    film.write_bytes(film.read_bytes()[: film.stat().st_size // 2])
    with pytest.raises(CellFailure, match="is truncated") as failure:
        prepare(source, real, tmp_path / "ref.yuv", 60)
    assert failure.value.kind == "source_broken"


def test_files_that_say_they_are_longer_are_truncated(
    clip: Callable[..., Path], tmp_path: Path
) -> None:
    avi = clip("whole.avi", frames=25, args=("-c:v", "mpeg4", "-q:v", "3"))
    ts = clip("whole.ts", frames=25, args=MPEG2)
    mkv = clip("whole mpeg2.mkv", frames=25, args=MPEG2)
    webm = clip("whole.webm", frames=25, args=("-c:v", "libvpx", "-b:v", "200k"))
    for whole, part in ((avi, 0.6), (ts, 0.5), (mkv, 0.9), (webm, 0.5)):
        assert probe(whole).num_packets == 25
        data = whole.read_bytes()
        cut = tmp_path / f"cut{whole.suffix}"
        cut.write_bytes(data[: int(len(data) * part) // 188 * 188 + 100])
        with pytest.raises(SourceError, match="is truncated"):
            probe(cut)


def test_a_live_recording_does_not_say_how_long_it_is(
    clip: Callable[..., Path], tmp_path: Path
) -> None:
    live = clip("live.mkv", frames=25, args=(*MPEG2, "-live", "1"))
    cut = tmp_path / "cut.mkv"
    cut.write_bytes(live.read_bytes()[:-3000])
    assert probe(live).num_packets == 25
    assert 0 < probe(cut).num_packets < 25


def test_a_clip_with_an_alpha_channel_is_noted(
    clip: Callable[..., Path], planned: Callable[..., Any]
) -> None:
    made = clip("alpha.mov", args=("-c:v", "qtrle", "-pix_fmt", "argb"))
    assert any("has an alpha channel, which no score looks at" in n for n in planned(made).notices)
    assert not planned(clip("no alpha.mkv")).notices


@pytest.mark.parametrize("suffix", [".ts", ".m2ts"])
def test_a_transport_stream_is_measured_like_the_file_it_was_copied_from(
    suffix: str,
    clip: Callable[..., Path],
    run_ffmpeg: Callable[..., str],
    swept: Callable[..., Any],
    tmp_path: Path,
) -> None:
    original = clip("broadcast.mp4", frames=12, args=X264)
    copy = tmp_path / f"broadcast{suffix}"
    run_ffmpeg("-i", original, "-c", "copy", copy)
    runs = [swept(file, out=tmp_path / file.suffix[1:]) for file in (original, copy)]
    first, second = ([f["vmaf"] for f in run.frames] for run in runs)
    assert first == second
    assert len(first) == 12
