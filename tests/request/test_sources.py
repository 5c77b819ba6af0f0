"""Clips of every awkward kind: what is worked with, and what is refused with a sentence that names
the way out.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest
from vmaf_train.files import sha256_file
from vmaftune.errors import SourceError, UsageError
from vmaftune.media.probe import probe
from vmaftune.request.cells import Plan

Make = Callable[..., Path]
X264 = ("-c:v", "libx264", "-crf", "12", "-pix_fmt", "yuv420p")
INTERLACED = (*X264, "-flags", "+ildct+ilme", "-x264-params", "tff=1", "-field_order", "tt")


def stream_of(path: Path) -> Any:
    import av

    with av.open(str(path)) as box:
        stream = box.streams.video[0]
        frame = next(box.decode(video=0))
        return stream.sample_aspect_ratio, frame


def kept(run: Any) -> Path:
    (made,) = (run.folder / "encodes").iterdir()
    return Path(made)


def refused(planned: Callable[..., Plan], path: Path, *words: str, **flags: Any) -> None:
    with pytest.raises(UsageError) as caught:
        planned(path, **flags)
    for word in (path.name, *words):
        assert word in str(caught.value), str(caught.value)


@pytest.mark.parametrize("suffix", ["mp4", "mkv", "mov", "webm", "avi", "mpg", "y4m"])
def test_every_container_gives_the_frames_it_holds(
    suffix: str, clip: Make, swept: Callable[..., Any]
) -> None:
    codecs = {
        "webm": ("libvpx-vp9", "-cpu-used", "8"),
        "avi": ("mpeg4", "-q:v", "3"),
        "mpg": ("mpeg2video", "-q:v", "3"),
        "y4m": ("rawvideo",),
    }
    name, *more = codecs.get(suffix, ("libx264", "-bf", "2"))
    source = clip(f"box.{suffix}", frames=14, args=("-c:v", name, *more, "-pix_fmt", "yuv420p"))
    run = swept(source)
    assert run.row["status"] == "ok", run.row["error"]
    assert (run.row["num_frames"], run.row["fps"], len(run.frames)) == (14, "25", 14)


@pytest.mark.parametrize(
    "rate", ["12", "24000/1001", "25", "30000/1001", "50", "60000/1001", "120", "25/2", "10001/500"]
)
@pytest.mark.parametrize("suffix", ["mkv", "mp4"])
def test_odd_frame_rates(rate: str, suffix: str, clip: Make) -> None:
    facts = probe(clip(f"rate {rate.replace('/', '-')}.{suffix}", rate=rate, frames=30, args=X264))
    assert abs(Fraction(facts.fps) / Fraction(rate) - 1) < Fraction(1, 1000)
    if Fraction(rate).denominator in (1, 2, 1001):
        assert Fraction(facts.fps) == Fraction(rate)
    assert facts.vfr_at is None
    assert facts.num_packets == 30


def test_rotation_is_applied_as_players_do(
    clip: Make, run_ffmpeg: Callable[..., str], swept: Callable[..., Any], tmp_path: Path
) -> None:
    flat = clip("flat.mp4", size="128x80", args=X264)
    turned = tmp_path / "turned.mp4"
    run_ffmpeg("-display_rotation", "90", "-i", flat, "-c", "copy", turned)
    run_ffmpeg("-i", turned, tmp_path / "upright.y4m")
    run = swept(turned, tmp_path / "upright.y4m")
    by_name = {r["src"]: r for r in run.rows.values()}
    assert (by_name["turned"]["width"], by_name["turned"]["height"]) == (80, 128)
    assert by_name["turned"]["vmaf_score"] == by_name["upright"]["vmaf_score"]
    assert by_name["turned"]["size_bytes"] == by_name["upright"]["size_bytes"]


def test_pixels_that_are_not_square_stay_so_in_the_encode(
    clip: Make, run_ffmpeg: Callable[..., str], swept: Callable[..., Any], tmp_path: Path
) -> None:
    source = clip("anamorphic.mp4", vf="setsar=16/11", args=X264)
    assert probe(source).sar == "16/11"
    assert stream_of(kept(swept(source, out=tmp_path / "a", keep_encodes=True)))[0] == Fraction(
        16, 11
    )
    turned = tmp_path / "turned.mp4"
    run_ffmpeg("-display_rotation", "90", "-i", source, "-c", "copy", turned)
    assert probe(turned).sar == "11/16"
    assert stream_of(kept(swept(turned, out=tmp_path / "b", keep_encodes=True)))[0] == Fraction(
        11, 16
    )


@pytest.mark.parametrize(
    "encoder",
    ["x264=ultrafast", "x265=ultrafast", "svtav1=10", "vvenc=faster", "vp9=realtime", "aom=rt8"],
)
def test_colour_tags_reach_the_encode(encoder: str, clip: Make, swept: Callable[..., Any]) -> None:
    tags = (
        "-color_primaries",
        "smpte170m",
        "-color_trc",
        "smpte170m",
        "-colorspace",
        "smpte170m",
        "-color_range",
        "tv",
    )
    name, _, preset = encoder.partition("=")
    run = swept(
        clip("tagged.mkv", frames=4, args=(*X264, *tags)),
        encoders=name,
        presets=preset,
        keep_encodes=True,
    )
    assert run.row["status"] == "ok", run.row["error"]
    frame = stream_of(kept(run))[1]
    assert (int(frame.colorspace), int(frame.color_range)) == (6, 1)


def test_audio_pictures_and_a_second_video_stream_are_left_alone(
    clip: Make,
    run_ffmpeg: Callable[..., str],
    planned: Callable[..., Plan],
    swept: Callable[..., Any],
    tmp_path: Path,
) -> None:
    one, other = clip("one.mp4", args=X264), clip("other.mp4", frames=6, size="64x64", args=X264)
    cover = tmp_path / "cover.png"
    run_ffmpeg("-i", other, "-frames:v", "1", cover)
    busy = tmp_path / "busy.mp4"
    run_ffmpeg(
        "-i",
        cover,
        "-f",
        "lavfi",
        "-i",
        "sine=duration=1",
        "-i",
        one,
        "-i",
        other,
        "-map",
        "0:v",
        "-map",
        "1:a",
        "-map",
        "2:v",
        "-map",
        "3:v",
        "-c:v",
        "copy",
        "-c:a",
        "aac",
        "-disposition:v:0",
        "attached_pic",
        busy,
    )
    plan = planned(busy)
    assert plan.notices == (f"{busy} has 2 video streams; the first is used",)
    run = swept(one, busy)
    plain, mixed = run.rows.values()
    assert mixed["vmaf_score"] == plain["vmaf_score"]
    assert mixed["num_frames"] == 10


def test_a_start_that_is_not_zero(
    clip: Make, run_ffmpeg: Callable[..., str], swept: Callable[..., Any], tmp_path: Path
) -> None:
    source = clip("begin.mp4", args=X264)
    for name in ("late.mkv", "late.mp4"):
        run_ffmpeg("-itsoffset", "3.7", "-i", source, "-c", "copy", tmp_path / name)
    run = swept(source, tmp_path / "late.mkv", tmp_path / "late.mp4")
    assert (
        len(
            {
                (r["vmaf_score"], r["size_bytes"], r["num_frames"], r["fps"])
                for r in run.rows.values()
            }
        )
        == 1
    )


def test_an_edit_list_hides_frames(
    clip: Make, run_ffmpeg: Callable[..., str], swept: Callable[..., Any], tmp_path: Path
) -> None:
    long = clip("long.mp4", frames=40, args=(*X264, "-g", "10", "-bf", "2"))
    cut, seen = tmp_path / "cut.mp4", tmp_path / "seen.y4m"
    run_ffmpeg("-ss", "0.6", "-i", long, "-c", "copy", cut)
    run_ffmpeg("-i", cut, "-fps_mode", "passthrough", seen)
    run = swept(cut, seen)
    edited, shown = run.rows.values()
    assert edited["status"] == shown["status"] == "ok", edited["error"]
    assert edited["num_frames"] == shown["num_frames"] < 40
    assert edited["vmaf_score"] == shown["vmaf_score"]
    assert probe(cut).num_packets == edited["num_frames"]


@pytest.mark.parametrize("size", ["95x64", "96x65", "97x67"])
def test_odd_sizes_are_refused_with_the_crop(
    size: str, clip: Make, planned: Callable[..., Plan]
) -> None:
    source = clip(
        f"odd {size}.mkv", size="98x68", vf=f"format=yuv420p,crop={size.replace('x', ':')}:exact=1"
    )
    width, height = (int(n) - int(n) % 2 for n in size.split("x"))
    refused(planned, source, f"--crop {width}x{height}+0+0", "--scale", "even")
    assert planned(source, crop=f"{width}x{height}+0+0").sources[0].width == width
    assert planned(source, scale="64x64").sources[0].height == 64


def test_an_odd_444_source_is_no_trouble(clip: Make, swept: Callable[..., Any]) -> None:
    source = clip(
        "odd 444.mkv", size="98x68", vf="format=yuv444p,crop=97:67:exact=1", args=("-c:v", "ffv1")
    )
    run = swept(source)
    assert run.row["status"] == "ok", run.row["error"]
    assert (run.row["width"], run.row["height"], run.row["pix_fmt"]) == (97, 67, "yuv444p")


def test_too_small_is_refused(clip: Make, planned: Callable[..., Plan]) -> None:
    refused(planned, clip("small.mkv", size="64x48"), "64x48", "64x64")


def test_interlaced_is_refused_then_woven_or_converted(
    clip: Make, planned: Callable[..., Plan], swept: Callable[..., Any], tmp_path: Path
) -> None:
    source = clip(
        "fields.mkv", rate="50", vf="tinterlace=interleave_top,fieldorder=tff", args=INTERLACED
    )
    assert probe(source).interlaced
    refused(planned, source, "interlaced", "--deinterlace", "--allow interlaced")
    woven = swept(source, out=tmp_path / "a", allow="interlaced")
    assert (woven.row["status"], woven.row["flags"]) == ("ok", ["interlaced"])
    progressive = swept(source, out=tmp_path / "b", deinterlace=True)
    assert (progressive.row["status"], progressive.row["flags"]) == ("ok", ["deinterlaced"])
    assert progressive.row["num_frames"] == woven.row["num_frames"] == 10
    assert progressive.row["vmaf_score"] != woven.row["vmaf_score"]


def test_deinterlacing_leaves_progressive_clips_alone(
    clip: Make, planned: Callable[..., Plan]
) -> None:
    source = clip("progressive.mkv", args=X264)
    plain, asked = planned(source).sources[0], planned(source, deinterlace=True).sources[0]
    assert plain == asked


def test_variable_frame_rate_is_refused_then_paired_by_index(
    clip: Make,
    planned: Callable[..., Plan],
    swept: Callable[..., Any],
    run_ffmpeg: Callable[..., str],
    tmp_path: Path,
) -> None:
    source = clip(
        "vfr.mkv",
        frames=20,
        vf="setpts='(N+if(gt(N,11),3,0))/25/TB'",
        args=("-fps_mode", "passthrough", *X264),
    )
    assert probe(source).vfr_at == 12
    refused(planned, source, "variable frame rate (frame 12)", "--allow vfr")
    run = swept(source, out=tmp_path / "a", allow="vfr")
    assert (run.row["status"], run.row["flags"], run.row["num_frames"]) == ("ok", ["vfr"], 20)
    before = swept(source, out=tmp_path / "b", frames=10)  # a window without the gap
    assert (before.row["status"], before.row["flags"]) == ("ok", [])


def test_the_constant_part_of_a_variable_clip_is_named(
    clip: Make, planned: Callable[..., Plan]
) -> None:
    """What the sentence offers can be pasted, and gives a window without the flag."""
    gap = "setpts='(N+if(gt(N,{at}),3,0))/25/TB'"
    rest = {"frames": 20, "args": ("-fps_mode", "passthrough", *X264)}
    early = clip("early gap.mkv", vf=gap.format(at=3), **rest)
    refused(planned, early, "frames 4 to 19 are constant: --start 0.28 --frames 16 takes them")
    (window,) = planned(early, start="0.28", frames=16).sources
    assert (window.start_frame, window.flags) == (4, ())
    late = clip("late gap.mkv", vf=gap.format(at=11), **rest)
    refused(planned, late, "frames 0 to 11 are constant: --start 0 --frames 12 takes them")
    (window,) = planned(late, start="0", frames=12).sources
    assert (window.start_frame, window.flags) == (0, ())


def test_all_unfit_clips_are_in_one_message_and_can_be_left_out(
    clip: Make, planned: Callable[..., Plan], tmp_path: Path
) -> None:
    odd = "format=yuv420p,crop=95:65:exact=1"
    names = {"fit": clip("fit.mkv"), "odd": clip("odd.mkv", size="98x68", vf=odd)}
    woven = "tinterlace=interleave_top,fieldorder=tff"
    names["woven"] = clip("woven.mkv", rate="50", vf=woven, args=INTERLACED)
    vfr = "setpts='(N+if(gt(N,11),3,0))/25/TB'"
    names["vfr"] = clip(
        "two rates.mkv", frames=20, vf=vfr, args=("-fps_mode", "passthrough", *X264)
    )
    places = []
    for name, path in names.items():
        (tmp_path / f"{name}.mkv").write_bytes(path.read_bytes())
        places.append(tmp_path / f"{name}.mkv")
    (tmp_path / "text.mkv").write_text("no video")
    with pytest.raises(SourceError) as caught:
        planned(*places, tmp_path / "text.mkv")
    said = str(caught.value).splitlines()
    assert said[0] == ("4 of 5 clips are refused; mend them, or leave them out with --skip-unfit:")
    flags = ("--crop 94x64+0+0", "--deinterlace", "--allow vfr", "cannot be read as a video")
    assert all(flag in line for flag, line in zip(flags, said[1:], strict=True))
    plan = planned(*places, skip_unfit=True)
    assert [w.name for w in plan.sources] == ["fit"]
    assert sum(notice.startswith("left out: ") for notice in plan.notices) == 3
    with pytest.raises(SourceError, match="2 of 2 clips are refused"):
        planned(*places[1:3], skip_unfit=True)


@pytest.mark.parametrize("suffix", ["mkv", "mp4"])
def test_a_constant_window_of_a_variable_clip_has_its_own_rate(
    suffix: str, clip: Make, planned: Callable[..., Plan], swept: Callable[..., Any]
) -> None:
    gaps = (  # without frames 5 to 8, and a longer gap later
        "setpts='round((N+if(gt(N,4),4,0)+if(gt(N,30),7,0))/25/TB)'"
    )
    source = clip(f"gaps.{suffix}", frames=50, vf=gaps, args=("-fps_mode", "passthrough", *X264))
    run = swept(source, frames=4)
    assert (run.row["fps"], run.row["flags"]) == ("25", [])
    assert run.row["bitrate_kbps"] == pytest.approx(run.row["size_bytes"] * 8 / 1000 / (4 / 25))
    (middle,) = planned(
        source, start="0.4", frames=20
    ).sources  # 10 intervals of 1/25 s, of which the clip has 6
    assert (middle.start_frame, middle.fps) == (6, "25")
    (end,) = planned(source, start="2").sources
    assert (end.start_frame, end.expected_frames, end.fps) == (39, 11, "25")
    refused(planned, source, "variable frame rate (frame 5)", frames=6)
    refused(
        planned, source, "variable frame rate", start="0.4"
    )  # the first gap is not in it, the second is
    refused(planned, source, "begins at frame 50", start="1000")
    assert planned(source, allow="vfr").sources[0].flags == ("vfr",)


@pytest.mark.parametrize(("transfer", "word"), [("smpte2084", "PQ"), ("arib-std-b67", "HLG")])
def test_hdr_is_refused_then_marked(
    transfer: str, word: str, clip: Make, planned: Callable[..., Plan], swept: Callable[..., Any]
) -> None:
    source = clip(
        f"{word}.mkv",
        args=(
            "-c:v",
            "libx265",
            "-x265-params",
            f"log-level=error:colorprim=bt2020:transfer={transfer}:colormatrix=bt2020nc",
            "-pix_fmt",
            "yuv420p10le",
            "-color_primaries",
            "bt2020",
            "-color_trc",
            transfer,
            "-colorspace",
            "bt2020nc",
        ),
    )
    refused(planned, source, f"HDR ({word})", "--allow hdr")
    run = swept(source, allow="hdr", encoders="x265", keep_encodes=True)
    assert (run.row["status"], run.row["flags"], run.row["pix_fmt"]) == (
        "ok",
        ["hdr"],
        "yuv420p10le",
    )
    assert probe(kept(run)).color.transfer == transfer


def test_broken_files_say_what_they_are(
    clip: Make, planned: Callable[..., Plan], tmp_path: Path, run_ffmpeg: Callable[..., str]
) -> None:
    whole = clip("whole.mp4", frames=40, args=(*X264, "-movflags", "+faststart"))
    y4m = clip("whole.y4m", args=("-pix_fmt", "yuv420p"))
    text = "ffconcat version 1.0\nfile whole.mp4\n"
    files = {
        "empty.mp4": (b"", "0 bytes"),
        "text.mp4": (b"hello, this is text\n" * 50, "cannot be read as a video"),
        "cut.mp4": (whole.read_bytes()[:-3000], "truncated"),
        "cut.y4m": (y4m.read_bytes()[:-5], "truncated"),
        "script.mp4": (text.encode(), "concat"),
        "list.mp4": (
            b"#EXTM3U\n#EXT-X-TARGETDURATION:2\n#EXTINF:2,\nwhole.mp4\n#EXT-X-ENDLIST\n",
            "cannot be read",
        ),
    }
    (tmp_path / "whole.mp4").write_bytes(whole.read_bytes())
    for name, (content, word) in files.items():
        (tmp_path / name).write_bytes(content)
        refused(planned, tmp_path / name, word)
    run_ffmpeg("-f", "lavfi", "-i", "sine=duration=0.2", tmp_path / "sound.mp4")
    refused(planned, tmp_path / "sound.mp4", "no video stream")
    refused(planned, tmp_path / "missing.mp4", "there is no", "sources/")
    (tmp_path / "notes.txt").write_text("no clip")
    refused(planned, tmp_path / "notes.txt", ".mp4 .mkv")
    (tmp_path / "bare").mkdir()
    refused(planned, tmp_path / "bare", "holds no video", ".y4m")


def test_a_cut_off_mkv_is_refused(clip: Make, planned: Callable[..., Plan], tmp_path: Path) -> None:
    whole = clip("whole.mkv", frames=40, args=(*X264, "-bf", "0"))
    cut = tmp_path / "cut.mkv"
    cut.write_bytes(whole.read_bytes()[: whole.stat().st_size // 2])
    with pytest.raises(SourceError, match=r"cut\.mkv is truncated: \d+ frames or fewer are whole"):
        planned(cut)


def test_damaged_frames_give_failed_rows(
    clip: Make, swept: Callable[..., Any], tmp_path: Path
) -> None:
    content = bytearray(clip("for damage.mp4", frames=40, args=X264).read_bytes())
    middle = len(content) // 2
    content[middle : middle + 300] = bytes(b ^ 0x5A for b in content[middle : middle + 300])
    (tmp_path / "damaged.mp4").write_bytes(content)
    run = swept(tmp_path / "damaged.mp4")
    assert (run.row["status"], run.row["error"]["class"]) == ("failed", "source_broken")
    assert "frames do not decode" in run.row["error"]["message"]


def test_windows_outside_the_clip_are_refused(clip: Make, planned: Callable[..., Plan]) -> None:
    source = clip("short.mkv", frames=10)
    refused(planned, source, "10 frames", "0 to 10", frames=11)
    refused(planned, source, "10 frames", "begins at frame 10", start="0.4")
    refused(planned, source, "begins at frame 25000", start="1000")
    assert planned(source, start="0.2", frames=5).sources[0].start_frame == 5
    refused(planned, source, "frames 5 to 10", start="0.2", frames=6)
    refused(planned, source, "does not fit", crop="96x64+2+0")


def test_raw_yuv_by_flags_and_by_name(
    clip: Make,
    run_ffmpeg: Callable[..., str],
    planned: Callable[..., Plan],
    swept: Callable[..., Any],
    tmp_path: Path,
) -> None:
    y4m = clip(
        "raw.y4m", frames=8, rate="30000/1001", args=("-pix_fmt", "yuv420p10le", "-strict", "-1")
    )
    raw = tmp_path / "bare.yuv"
    run_ffmpeg("-i", y4m, "-f", "rawvideo", raw)
    refused(planned, raw, "--size", "_<fps>fps.yuv")
    refused(planned, raw, "whole number", size="100x64", fps="29.97")
    refused(planned, raw, "one of yuv420p", size="96x64", fps="29.97", pix_fmt="rgb24")
    run = swept(y4m, raw, size="96x64", fps="29.97", pix_fmt="yuv420p10le")
    headed, bare = run.rows.values()
    assert bare["fps"] == headed["fps"] == "30000/1001"
    assert (bare["vmaf_score"], bare["size_bytes"]) == (headed["vmaf_score"], headed["size_bytes"])
    named = tmp_path / "BigBuckBunny_25fps.yuv"
    named.write_bytes(bytes(1920 * 1080 * 3 // 2))
    source = planned(named).sources[0]
    assert (source.width, source.height, source.fps, source.expected_frames) == (
        1920,
        1080,
        "25",
        1,
    )


def test_the_digest_is_that_of_the_content(clip: Make, planned: Callable[..., Plan]) -> None:
    source = clip("digest.mkv")
    assert planned(source).sources[0].sha256 == sha256_file(source)


def test_two_names_of_one_clip_are_refused(
    clip: Make, planned: Callable[..., Plan], tmp_path: Path
) -> None:
    copy = tmp_path / "copy.mkv"
    copy.write_bytes(clip("digest.mkv").read_bytes())
    with pytest.raises(SourceError, match="digest and copy are the same clip"):
        planned(clip("digest.mkv"), copy)


def test_facts_do_not_depend_on_the_name(clip: Make, tmp_path: Path) -> None:
    source = clip("named.mkv")
    odd = tmp_path / "-x: 50%d, it's [here] #1 ü.mkv"
    odd.write_bytes(source.read_bytes())
    assert replace(probe(odd)) == probe(source)
