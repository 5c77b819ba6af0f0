"""Joining encodes: every frame of every part once, at the film's own times; sound is copied."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from itertools import pairwise
from pathlib import Path

import av
import pytest
from vmaftune.errors import SourceError, UsageError
from vmaftune.media.containers import Stream, check_streams, companions
from vmaftune.media.failure import CellFailure
from vmaftune.media.ffmpeg import Ffmpeg
from vmaftune.media.join import FilmPart, concat_script, frame_digests, join, measure, stamps

FPS = Fraction(24000, 1001)
LENGTHS = (20, 21, 22)
ENCODERS = {
    "libx264": ("-preset", "veryfast"),
    "libx265": ("-preset", "ultrafast", "-x265-params", "pools=1:frame-threads=1:log-level=none"),
    "libsvtav1": ("-preset", "11", "-svtav1-params", "lp=1"),
    "libvpx-vp9": ("-deadline", "good", "-cpu-used", "8", "-b:v", "0"),
}

Parts = Callable[[str], list[Path]]


@pytest.fixture(scope="session")
def parts(run_ffmpeg: Callable[..., str], tmp_path_factory: pytest.TempPathFactory) -> Parts:
    """Three encodes of consecutive windows with three quality values, as a sweep makes them."""
    folder = tmp_path_factory.mktemp("parts")

    def make(encoder: str) -> list[Path]:
        made = [folder / f"{encoder}-{i}.mkv" for i in range(len(LENGTHS))]
        for i, path in enumerate(made):
            if path.exists():
                continue
            cut = f"trim=start_frame={sum(LENGTHS[:i])}:end_frame={sum(LENGTHS[: i + 1])}"
            run_ffmpeg(
                "-f",
                "lavfi",
                "-i",
                f"testsrc2=size=128x96:rate={FPS},noise=alls=10:allf=t",
                "-vf",
                f"{cut},setpts=PTS-STARTPTS",
                "-c:v",
                encoder,
                *ENCODERS[encoder],
                "-crf",
                str(24 + 6 * i),
                "-threads",
                "1",
                "-fps_mode",
                "passthrough",
                "-fflags",
                "+bitexact",
                "-flags:v",
                "+bitexact",
                "-f",
                "matroska",
                path,
            )
        return made

    return make


@pytest.fixture(scope="session")
def film(run_ffmpeg: Callable[..., str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A film of the parts' length with two sound tracks, a subtitle, chapters and a title."""
    folder = tmp_path_factory.mktemp("film of the parts")
    (folder / "s.srt").write_text("1\n00:00:00,500 --> 00:00:01,500\nHello\n")
    (folder / "c.txt").write_text(
        ";FFMETADATA1\ntitle=A film\n[CHAPTER]\nTIMEBASE=1/1000\nSTART=0\nEND=1000\ntitle=One\n"
    )
    out = folder / "it's a film.mkv"
    run_ffmpeg(
        "-f",
        "lavfi",
        "-i",
        f"testsrc2=size=128x96:rate={FPS}",
        "-f",
        "lavfi",
        "-i",
        "sine=440",
        "-i",
        folder / "s.srt",
        "-i",
        folder / "c.txt",
        "-map",
        "0",
        "-map",
        "1",
        "-map",
        "1",
        "-map",
        "2",
        "-map_metadata",
        "3",
        "-map_chapters",
        "3",
        "-c:v",
        "libx264",
        "-c:a",
        "aac",
        "-c:s",
        "srt",
        "-frames:v",
        str(sum(LENGTHS)),
        "-t",
        str(float(sum(LENGTHS) / FPS)),
        out,
    )
    return out


def times(file: Path) -> list[Fraction]:
    """When each frame is shown, in seconds, in order."""
    with av.open(str(file)) as opened:
        video = opened.streams.video[0]
        base = video.time_base
        assert base is not None
        return sorted(p.pts * base for p in opened.demux(video) if p.size and p.pts is not None)


@pytest.mark.parametrize("encoder", ENCODERS)
@pytest.mark.parametrize("suffix", [".mkv", ".mp4"])
def test_frames_and_times_are_exact(
    encoder: str, suffix: str, parts: Parts, real: Ffmpeg, tmp_path: Path
) -> None:
    out, made = tmp_path / f"joined{suffix}", parts(encoder)
    assert join(list(zip(made, LENGTHS, strict=True)), FPS, out, real, 120) == sum(LENGTHS)
    found = times(out)
    if suffix == ".mp4":
        assert {b - a for a, b in pairwise(found)} == {1 / FPS}
    else:
        assert max(abs(time - i / FPS) for i, time in enumerate(found)) <= Fraction(1, 1000)
    wanted = [d for path in made for d in frame_digests(real, path, 60)]
    assert list(frame_digests(real, out, 60)) == wanted
    assert len(wanted) == sum(LENGTHS)
    assert not list(tmp_path.glob(".*")), "nothing is left beside the file"


def test_sound_subtitles_chapters_and_title_are_copied(
    parts: Parts, film: Path, real: Ffmpeg, tmp_path: Path
) -> None:
    out = tmp_path / "joined.mkv"
    start = Fraction(1, 8)
    join(
        list(zip(parts("libx264"), LENGTHS, strict=True)),
        FPS,
        out,
        real,
        120,
        film=film,
        streams=companions(film),
        start=start,
    )
    with av.open(str(out)) as opened:
        assert [s.type for s in opened.streams] == ["video", "audio", "audio", "subtitle"]
        assert opened.metadata["title"] == "A film"
        assert [c["metadata"]["title"] for c in opened.chapters()] == ["One"]
    assert abs(times(out)[0] - start) <= Fraction(1, 1000)


def test_a_part_that_is_no_run_of_frames_is_refused(
    parts: Parts, real: Ffmpeg, tmp_path: Path
) -> None:
    with pytest.raises(CellFailure, match="each of its 20 frames"):
        measure(parts("libx264")[0], LENGTHS[0], FPS * 2)
    out = tmp_path / "joined.mkv"
    broken = tmp_path / "broken.mkv"
    broken.write_bytes(parts("libx264")[1].read_bytes()[:-2000])
    with pytest.raises(CellFailure, match="each of its 21 frames"):
        join([(parts("libx264")[0], 20), (broken, 21)], FPS, out, real, 120)
    assert not out.exists()


def test_the_script_quotes_names_and_says_exact_lengths() -> None:
    made = [FilmPart(path=Path("/x/it's.mkv"), num_frames=24, delay=2)]
    assert concat_script(made, FPS) == (
        "ffconcat version 1.0\nfile '/x/it'\\''s.mkv'\nduration 1.001000\n"
    )
    assert stamps(made, FPS, Fraction(1, 2)).endswith(
        "pts=round(PTS/1001)*1001+12000:dts=(N-2)*1001+12000:duration=1001"
    )


@pytest.mark.parametrize(
    ("out", "codec", "stream", "said"),
    [
        ("a.avi", "h264", None, "must end in one of .mkv, .mp4, .webm"),
        ("a.webm", "h264", None, "holds av1, vp8, vp9 and not h264"),
        ("a.mp4", "h264", Stream(index=2, kind="subtitle", codec="subrip"), "--no-subtitles"),
        ("a.webm", "vp9", Stream(index=1, kind="audio", codec="aac"), "--no-audio"),
        ("a.mp4", "hevc", Stream(index=3, kind="attachment", codec="ttf"), "--no-attachments"),
    ],
)
def test_what_a_container_cannot_hold_is_refused_before_the_encode(
    out: str, codec: str, stream: Stream | None, said: str
) -> None:
    with pytest.raises(UsageError, match=said):
        check_streams(Path(out), codec, [stream] if stream else [])


def test_what_it_holds_is_taken(tmp_path: Path, film: Path) -> None:
    found = companions(film)
    assert [(s.kind, s.codec) for s in found] == [
        ("audio", "aac"),
        ("audio", "aac"),
        ("subtitle", "subrip"),
    ]
    check_streams(Path("a.MKV"), "vvc", found)
    check_streams(Path("a.mp4"), "av1", [s for s in found if s.kind == "audio"])
    (tmp_path / "no.mkv").write_bytes(b"nothing")
    with pytest.raises(SourceError, match="cannot be read as a film"):
        companions(tmp_path / "no.mkv")
