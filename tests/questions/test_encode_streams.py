"""Sound, subtitles, fonts, chapters, covers and tags of a film in its encode, both ways; what a
container cannot hold is refused before anything is encoded.
"""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import pytest
from vmaftune import api
from vmaftune.errors import UsageError
from vmaftune.questions.film import Made
from vmaftune.request.flags import Texts

CHAPTERS = ";FFMETADATA1\ntitle=A film\nartist=Someone\n" + "".join(
    f"[CHAPTER]\nTIMEBASE=1/1000\nSTART={i * 1000}\nEND={i * 1000 + 1000}\ntitle=Part {i + 1}\n"
    for i in range(2)
)
FRAMES = 48


@pytest.fixture(scope="session")
def rich(run_ffmpeg: Callable[..., str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two seconds with two sounds, a subtitle, a font, chapters, tags, and a cover."""
    folder = tmp_path_factory.mktemp("rich film")
    (folder / "s.srt").write_text("1\n00:00:00,500 --> 00:00:01,500\nHello\n")
    (folder / "c.txt").write_text(CHAPTERS)
    (folder / "font.ttf").write_bytes(b"a font" * 50)
    run_ffmpeg("-f", "lavfi", "-i", "color=red:size=64x64", "-frames:v", "1", folder / "cover.jpg")
    out = folder / "rich.mkv"
    sources = ["testsrc2=size=160x96:rate=24", "sine=440", "sine=880"]
    lavfi = [word for source in sources for word in ("-f", "lavfi", "-i", source)]
    run_ffmpeg(
        *lavfi,
        *("-i", folder / "s.srt", "-i", folder / "c.txt"),
        *("-map", "0", "-map", "1", "-map", "2", "-map", "3", "-map_chapters", "4"),
        *("-map_metadata", "4", "-c:v", "libx264", "-qp", "10", "-c:a:0", "aac"),
        *("-c:a:1", "libopus", "-c:s", "srt"),
        *("-metadata:s:a:0", "language=ger", "-metadata:s:a:1", "language=eng"),
        *("-metadata:s:s:0", "language=fre", "-disposition:s:0", "forced"),
        *("-attach", folder / "font.ttf", "-metadata:s:t:0", "mimetype=font/ttf"),
        *("-attach", folder / "cover.jpg", "-metadata:s:t:1", "mimetype=image/jpeg"),
        *("-metadata:s:t:1", "filename=cover.jpg", "-t", "2"),
        out,
    )
    return out


def encoded(film: Path, out: Path, way: str, keep: api.Keep, **more: Any) -> Made:
    said = more.pop("said", [])
    return api.encode(
        film,
        out,
        encoder=more.pop("encoder", "x264"),
        preset=more.pop("preset", "ultrafast"),
        way=way,
        quality=30 if way == "whole" else None,
        keep=keep,
        wanted=api.Wanted(target=50, min_quality=30, max_quality=30, **more.pop("wanted", {})),
        running=api.Running(out=out.with_suffix(".run"), jobs=2),
        on_event=lambda event: said.append(getattr(event, "message", "")),
        **more,
    )


@pytest.mark.parametrize("way", ["whole", "shots"])
def test_matroska_holds_all_of_it(rich: Path, tmp_path: Path, way: str) -> None:
    said: list[str] = []
    made = encoded(rich, tmp_path / "out.mkv", way, api.Keep(), said=said)
    with av.open(str(made.out)) as opened, av.open(str(rich)) as film:
        kinds = [s.type for s in opened.streams]
        assert kinds == ["video", "audio", "audio", "subtitle", "attachment"]
        languages = [s.metadata.get("language") for s in opened.streams if s.type != "video"]
        assert languages == ["ger", "eng", "fre", None]
        assert opened.metadata["title"] == "A film" and opened.metadata["ARTIST"] == "Someone"
        assert [c["metadata"]["title"] for c in opened.chapters()] == ["Part 1", "Part 2"]
        font, copied = film.streams[4], opened.streams[4]
        assert copied.type == font.type and copied.metadata["mimetype"] == "font/ttf"
        assert opened.streams[3].disposition == film.streams[3].disposition
    for index in (1, 2, 3):
        assert packets(made.out, index) == packets(rich, index)
    assert any("stream 5 (cover, mjpeg) is left out" in message for message in said)


def packets(file: Path, index: int) -> list[bytes]:
    with av.open(str(file)) as opened:
        return [bytes(p) for p in opened.demux(opened.streams[index]) if p.size]


@pytest.mark.parametrize("way", ["whole", "shots"])
def test_mp4_holds_sound_chapters_and_the_cover(
    rich: Path, covered: Path, tmp_path: Path, way: str
) -> None:
    out = tmp_path / "out.mp4"
    for keep, flag in ((api.Keep(), "--no-subtitles"), (api.Keep(subtitles=False), "attachments")):
        with pytest.raises(UsageError, match=flag):
            encoded(rich, out, way, keep)
    assert not list(tmp_path.iterdir())
    made = encoded(covered, out, way, api.Keep())
    with av.open(str(made.out)) as opened:
        sounds = [s.codec_context.name for s in opened.streams.audio]
        assert sounds == ["aac", "opus"]
        covers = [s for s in opened.streams.video if int(s.disposition) & 0x400]
        assert len(covers) == 1 and len(opened.streams.video) == 2
        assert [c["metadata"]["title"] for c in opened.chapters()] == ["Part 1", "Part 2"]
        assert opened.metadata["title"] == "A film"


@pytest.fixture(scope="session")
def covered(rich: Path, run_ffmpeg: Callable[..., str]) -> Path:
    """The film in an mp4 with its cover, without what that cannot hold."""
    out = rich.with_name("covered.mp4")
    args = ("-map", "0:v", "-map", "0:a", "-c", "copy", "-c:v:0", "libx264", "-qp:v:0", "10")
    run_ffmpeg("-i", rich, *args, "-disposition:v:1", "attached_pic", out)
    return out


def test_webm_holds_opus_and_refuses_aac(rich: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.webm"
    vp9 = {"encoder": "vp9", "preset": "realtime"}
    with pytest.raises(UsageError, match=r"stream 1 .*aac.*--no-audio"):
        encoded(rich, out, "shots", api.Keep(subtitles=False, attachments=False), **vp9)
    assert not list(tmp_path.iterdir())
    silent = api.Keep(audio=False, subtitles=False, attachments=False)
    made = encoded(rich, out, "shots", silent, **vp9)
    with av.open(str(made.out)) as opened:
        assert [s.codec_context.name for s in opened.streams] == ["vp9"]
        assert [c["metadata"]["title"] for c in opened.chapters()] == ["Part 1", "Part 2"]


def test_shots_are_encoded_at_a_size_and_scored_at_the_films(rich: Path, tmp_path: Path) -> None:
    silent = api.Keep(audio=False, subtitles=False, attachments=False)
    made = encoded(rich, tmp_path / "out.mkv", "shots", silent, wanted={"size": "80x48"})
    with av.open(str(made.out)) as opened:
        video = opened.streams.video[0]
        assert (video.width, video.height) == (80, 48)
        assert sum(1 for _ in opened.decode(video)) == FRAMES
    assert 0 < made.score < 95 and made.num_frames == FRAMES


@pytest.fixture(scope="session")
def uneven(run_ffmpeg: Callable[..., str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A film whose frames last twice as long from its middle on."""
    out = tmp_path_factory.mktemp("uneven film") / "uneven.mkv"
    source = "testsrc2=size=160x96:rate=24,settb=1/1000,setpts='(N+max(0,N-24))*1000/24'"
    run_ffmpeg(
        *("-f", "lavfi", "-i", source, "-frames:v", str(FRAMES), "-fps_mode", "passthrough"),
        *("-enc_time_base", "1:1000", "-c:v", "libx264", "-qp", "10", out),
    )
    return out


def times(file: Path) -> list[float]:
    with av.open(str(file)) as opened:
        video = opened.streams.video[0]
        base = video.time_base or Fraction(1)
        return [
            float(p * base) for p in sorted(p.pts for p in opened.demux(video) if p.pts is not None)
        ]


def test_a_variable_rate_takes_one_whole_encode(uneven: Path, tmp_path: Path) -> None:
    allowed = {"texts": Texts(allow="vfr")}
    with pytest.raises(UsageError, match="variable frame rate, and its shots cannot be joined"):
        encoded(uneven, tmp_path / "out.mkv", "shots", api.Keep(), **allowed)
    made = encoded(uneven, tmp_path / "out.mkv", "whole", api.Keep(), verify="full", **allowed)
    assert made.num_frames == FRAMES and made.error == 0.0
    assert times(made.out) == pytest.approx(times(uneven), abs=0.002)
