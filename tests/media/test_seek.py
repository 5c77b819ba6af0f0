"""A window reached by seeking has the frames that decoding from the start gives, in every kind of
file; where it cannot, the file is decoded from its start, and the user is told.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path

import pytest
from vmaftune.cell import Color, Window
from vmaftune.media import probe as probing
from vmaftune.media import remembered
from vmaftune.media.ffmpeg import Ffmpeg
from vmaftune.media.prepare import prepare
from vmaftune.media.probe import Facts, probe
from vmaftune.media.process import Runner
from vmaftune.request.asked import Clip, Preparation
from vmaftune.request.sources import resolve_clip

FRAMES, LENGTH = 150, 9
STARTS = (0, 40, 61, 75, 100, 141)


@dataclass(frozen=True, kw_only=True)
class Kind:
    """A kind of file: how it is made, its rate, and whether it can be sought."""

    args: str
    rate: str = "25"
    sought: bool = True


H264 = "-c:v libx264 -preset veryfast -g 20 -bf 3 -pix_fmt yuv420p"
OPEN264 = f"{H264} -x264-params open-gop=1"
X265 = "log-level=none:keyint=20:pools=none:frame-threads=1"
HEVC = f"-c:v libx265 -preset ultrafast -pix_fmt yuv420p -x265-params {X265}"
MPEG2 = "-c:v mpeg2video -q:v 4 -g 15 -bf 2 -pix_fmt yuv420p"
KINDS = {
    "h264.mp4": Kind(args=H264),
    "h264 23976.mp4": Kind(args=H264, rate="24000/1001"),
    "h264 5994.mkv": Kind(args=H264, rate="60000/1001"),
    "h264 open.mkv": Kind(args=OPEN264),
    "h264 open.mp4": Kind(args=OPEN264, rate="30000/1001"),
    "h264.mov": Kind(args=f"{H264} -movflags +faststart"),
    "h264.ts": Kind(args=H264),
    "h264 late.mkv": Kind(args=f"{H264} -output_ts_offset 3.5"),
    "h264 late.ts": Kind(args=f"{OPEN264} -output_ts_offset 7"),
    "hevc closed.mkv": Kind(args=f"{HEVC}:open-gop=0"),
    "hevc open.mkv": Kind(args=f"{HEVC}:open-gop=1"),
    "hevc open.mp4": Kind(args=f"{HEVC}:open-gop=1", rate="24000/1001"),
    "av1.mkv": Kind(args="-c:v libsvtav1 -preset 12 -g 20 -svtav1-params lp=1"),
    "av1.mp4": Kind(args="-c:v libsvtav1 -preset 12 -g 20 -svtav1-params lp=1"),
    "vp9.webm": Kind(args="-c:v libvpx-vp9 -deadline realtime -cpu-used 8 -g 20 -b:v 0 -crf 40"),
    "mpeg2.ts": Kind(args=MPEG2),
    "mpeg2.mpg": Kind(args=f"{MPEG2} -f vob"),
    "mpeg2 open.mkv": Kind(args=f"{MPEG2} -flags -cgop"),
    "prores.mov": Kind(args="-c:v prores_ks -profile:v 0", rate="24000/1001"),
    "ffv1.mkv": Kind(args="-c:v ffv1 -g 1 -pix_fmt yuv420p", rate="60000/1001"),
    "mpeg4.avi": Kind(args="-c:v mpeg4 -q:v 4 -g 20 -bf 0 -pix_fmt yuv420p"),
    "h264 b.avi": Kind(args=H264, sought=False),
}


def window(path: Path, facts: Facts, start: int, length: int = LENGTH) -> Window:
    return Window(
        name=path.stem,
        group=path.stem,
        path=str(path),
        sha256="",
        size_bytes=path.stat().st_size,
        start_frame=start,
        num_frames=length,
        expected_frames=length,
        crop=None,
        scale=None,
        deinterlace=False,
        width=facts.width,
        height=facts.height,
        pix_fmt=facts.pix_fmt,
        fps=facts.fps,
        sar=facts.sar,
        color=Color(),
        stream_index=facts.stream_index,
        raw=None,
        seek=facts.seek(start, length),
    )


def digest(one: Window, used: Ffmpeg, folder: Path) -> str:
    out = folder / "ref.yuv"
    assert prepare(one, used, out, 120) == one.num_prepared
    return hashlib.sha256(out.read_bytes()).hexdigest()


def digests_from_the_start(path: Path, facts: Facts, used: Ffmpeg, folder: Path) -> list[str]:
    """What `digest` says of the windows, cut from the whole file, decoded once."""
    out = folder / "whole.yuv"
    whole = replace(window(path, facts, 0, FRAMES), seek=None)
    assert prepare(whole, used, out, 120) == FRAMES
    decoded = out.read_bytes()
    size, rest = divmod(len(decoded), FRAMES)
    assert rest == 0
    parts = (decoded[start * size : (start + LENGTH) * size] for start in STARTS)
    return [hashlib.sha256(part).hexdigest() for part in parts]


@pytest.fixture
def made(clip: Callable[..., Path]) -> Callable[[str], Path]:
    def make(name: str) -> Path:
        kind = KINDS[name]
        args = tuple(kind.args.split())
        return clip(f"seek/{name}", frames=FRAMES, size="96x64", rate=kind.rate, args=args)

    return make


@pytest.mark.parametrize("name", KINDS)
def test_a_window_by_seeking_has_the_frames_of_decoding_from_the_start(
    name: str, made: Callable[[str], Path], real: Ffmpeg, tmp_path: Path
) -> None:
    path, told = made(name), list[str]()
    used = Ffmpeg(identity=real.identity, runner=Runner(tell=told.append))
    facts = probe(path)
    assert facts.num_packets == FRAMES
    assert bool(facts.unsought) is not KINDS[name].sought
    windows = [window(path, facts, start) for start in STARTS]
    assert bool([w for w in windows if w.seek]) is KINDS[name].sought
    found = [digest(w, used, tmp_path) for w in windows]
    assert found == digests_from_the_start(path, facts, used, tmp_path)
    assert len(set(found)) == len(STARTS)
    assert told == []


def test_an_edit_list_hides_frames_from_both_ways(
    made: Callable[[str], Path],
    run_ffmpeg: Callable[..., str],
    real: Ffmpeg,
    tmp_path: Path,
) -> None:
    cut = tmp_path / "edited.mp4"
    run_ffmpeg("-ss", "1.3", "-i", made("h264.mp4"), "-c", "copy", cut)
    facts = probe(cut)
    windows = [window(cut, facts, start) for start in (50, 77, 90)]
    assert all(w.seek for w in windows)
    for one in windows:
        plain = digest(replace(one, seek=None), real, tmp_path)
        assert digest(one, real, tmp_path) == plain


def test_a_seek_that_gives_other_frames_is_given_up_for_the_whole_file(
    made: Callable[[str], Path], real: Ffmpeg, tmp_path: Path
) -> None:
    source = tmp_path / "lies.mkv"
    source.write_bytes(made("h264 open.mkv").read_bytes())
    told: list[str] = []
    used = Ffmpeg(identity=real.identity, runner=Runner(tell=told.append))
    one = window(source, probe(source), 100)
    assert one.seek is not None
    stamps = tuple(stamp + 1 for stamp in one.seek.stamps)
    wrong = replace(one, seek=replace(one.seek, stamps=stamps))
    plain = digest(replace(one, seek=None), used, tmp_path)
    assert digest(wrong, used, tmp_path) == plain
    assert digest(one, used, tmp_path) == plain
    assert told == [f"{source} cannot be sought exactly; its windows are decoded from its start"]


def test_padding_is_prepared_around_a_window(
    made: Callable[[str], Path], real: Ffmpeg, tmp_path: Path
) -> None:
    path = made("h264 open.mkv")
    facts = probe(path)
    plain = window(path, facts, 96, 17)
    padded = replace(window(path, facts, 100), pad_before=4, pad_after=4, seek=plain.seek)
    assert digest(padded, real, tmp_path) == digest(plain, real, tmp_path)
    assert digest(replace(padded, seek=None), real, tmp_path) == digest(plain, real, tmp_path)
    assert "pads" not in plain.identity()
    assert padded.identity()["pads"] == [4, 4]


@pytest.mark.parametrize("name", KINDS)
def test_the_packets_of_a_large_film_are_listed_once(
    name: str,
    made: Callable[[str], Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    film = tmp_path / f"listed {name}"
    film.write_bytes(made(name).read_bytes())
    plain = probe(film)
    assert "listing" not in capsys.readouterr().err, "a small file is read unnoticed"
    monkeypatch.setattr(remembered, "cache_folder", lambda: tmp_path / "cache")
    monkeypatch.setattr(remembered, "LEAST_BYTES", 1)
    monkeypatch.setattr("vmaftune.media.probe.CHUNK_BYTES", 1)
    long_ago = film.stat().st_mtime_ns - 100 * 10**9
    os.utime(film, ns=(long_ago, long_ago))
    assert probe(film) == plain
    assert f"listing the frames of listed {name} (MB)" in capsys.readouterr().err
    assert probe(film) == plain
    assert "listing" not in capsys.readouterr().err
    os.utime(film, ns=(long_ago + 1, long_ago + 1))
    assert probe(film) == plain
    assert "listing" in capsys.readouterr().err, "a file that changed is listed again"


def test_what_cannot_be_sought_is_said_before_anything_is_decoded(
    made: Callable[[str], Path], run_ffmpeg: Callable[..., str], tmp_path: Path
) -> None:
    guessed = tmp_path / "guessed times.avi"
    guessed.write_bytes(made("h264 b.avi").read_bytes())
    clip = Clip(path=guessed, preparation=Preparation(samples=2, sample_seconds=Fraction(1, 2)))
    assert resolve_clip(clip, "guessed").notices == (
        f"{guessed}: its frames' times are guessed (B-frames in avi), so that no seek into it is"
        " exact; each of its windows is decoded from the file's start, which takes longer the later"
        " it begins",
    )
    assert not resolve_clip(Clip(path=guessed), "guessed").notices, "there is nothing to skip"
    sought = Clip(path=made("h264.ts"), preparation=clip.preparation)
    assert not resolve_clip(sought, "sought").notices


def test_packets_before_the_first_frame_that_decodes_are_no_frames(
    made: Callable[[str], Path], real: Ffmpeg, tmp_path: Path
) -> None:
    """A recording that begins in the middle of a group of pictures."""
    recording = tmp_path / "begins late.ts"
    recording.write_bytes(made("mpeg2.ts").read_bytes()[188 * 40 :])
    facts = probe(recording)
    assert len(facts.shown) < facts.num_packets
    assert "lie before the first frame that decodes" in facts.unsought
    assert window(recording, facts, 100).seek is None


def test_looking_for_interlaced_frames_decodes_little(made: Callable[[str], Path]) -> None:
    """From keyframes inside the window: decoding up to any frame of a long group takes seconds."""
    facts = probe(made("h264 open.mkv"))
    places = probing.places(facts, 30, 150)
    assert 1 < len(places) <= probing.PLACES and set(places) <= set(facts.keys)
    assert probing.places(facts, 0, 10) == [], "the file's first frames were looked at before"
    first = facts.shown[41]
    assert probing.places(facts, 41, 45) in ([first], [k for k in facts.keys if first <= k])
