"""A finished encode as HLS: an MP4 in fragments, a playlist of its pieces, the playlist of all.

    rung.mp4 --package--> 1280x720.mp4 + 1280x720.m3u8
    sound    --package--> audio-1.mp4  + audio-1.m3u8      multivariant() --> main.m3u8

Pieces are byte ranges of one file (RFC 8216, 4.3.2.2), so that a rung stays one file. Stamps are
those of the film: nothing shifts a picture against its sound.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from vmaf_train.corpus.rows import FailureKind

from vmaftune.media.encode import COMMON, ONLY_FILES, check, fill
from vmaftune.media.ffmpeg import Ffmpeg

MAIN = "main.m3u8"
_PIECE = re.compile(r"#EXTINF:([\d.]+),.*?#EXT-X-BYTERANGE:(\d+)", re.S)
_TARGET = re.compile(r"#EXT-X-TARGETDURATION:(\d+)")
_TAGS = {"hevc": "hvc1", "av1": "av01", "vp9": "vp09"}
"""Names of sample entries where ffmpeg's own is one that players refuse, or none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rate:
    """Bits of a packaged file in a second: the mean, and the peak as RFC 8216 has it."""

    mean: int
    peak: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Variant:
    """A rung in a multivariant playlist. `codecs` are CODECS words, None where one is not known;
    `rate` is that of the pictures alone.
    """

    playlist: str
    width: int
    height: int
    frame_rate: float
    rate: Rate
    codec: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Sound:
    """A packaged sound in a multivariant playlist."""

    playlist: str
    name: str
    language: str | None
    rate: Rate
    codec: str | None


_ONE_FILE = (
    "-hls_playlist_type",
    "vod",
    "-hls_segment_type",
    "fmp4",
    "-hls_flags",
    "single_file",
)


def package_argv(stream: str, codec: str, piece_s: float) -> list[str]:
    """The command that packages one stream of `{film}` into `{out}`, with its playlist in `{list}`.

    `stream` names it as ffmpeg does (`0:v:0`); pieces begin at the first keyframe after each
    `piece_s` seconds. `-avoid_negative_ts disabled`: B-frames would shift the pictures otherwise.
    """
    tag = ["-tag", _TAGS[codec]] if codec in _TAGS else []
    return [
        *COMMON,
        "-v",
        "error",
        "-y",
        *ONLY_FILES,
        "-copyts",
        "-i",
        "file:{film}",
        "-map",
        stream,
        "-map_metadata",
        "-1",
        "-c",
        "copy",
        *tag,
        "-strict",
        "-2",
        "-avoid_negative_ts",
        "disabled",
        "-f",
        "hls",
        "-hls_time",
        f"{piece_s:.6f}",
        *_ONE_FILE,
        "-hls_segment_filename",
        "{out}",
        "{list}",
    ]


def package(
    film: Path,
    stream: str,
    codec: str,
    out: Path,
    piece_s: float,
    ffmpeg: Ffmpeg,
    timeout_s: float,
) -> Rate:
    """Package one stream into `out` and a playlist beside it; its bitrates.

    Raises CellFailure when ffmpeg fails.
    """
    # In the folder of the result by bare names: ffmpeg reads a `%` in this path as a pattern, and
    # writes what it is given into the playlist.
    argv = fill(package_argv(stream, codec, piece_s), film=film.absolute())
    named = {"{out}": out.name, "{list}": out.with_suffix(".m3u8").name}
    argv = [named.get(word, word) for word in argv]
    done = ffmpeg.run(argv, timeout_s=timeout_s, cwd=out.parent)
    check(done, f"packaging {out.name}", FailureKind.PACKAGE_FAILED)
    return rate_of(out.with_suffix(".m3u8").read_text(encoding="utf-8"))


def copy_stream(film: Path, index: int, out: Path, ffmpeg: Ffmpeg, timeout_s: float) -> None:
    """Copy stream `index` of a film into a Matroska file of its own. Raises CellFailure."""
    reading = [*COMMON, "-v", "error", "-y", *ONLY_FILES, "-copyts", "-i", "file:{film}"]
    writing = ["-map", f"0:{index}", "-c", "copy", "-f", "matroska", "file:{out}"]
    argv = fill([*reading, *writing], film=film.absolute(), out=out.absolute())
    check(
        ffmpeg.run(argv, timeout_s=timeout_s), f"copying stream {index}", FailureKind.PACKAGE_FAILED
    )


def rate_of(playlist: str) -> Rate:
    """The bitrates of a media playlist, from the lengths and bytes of its pieces."""
    pieces = [(float(seconds), int(size)) for seconds, size in _PIECE.findall(playlist)]
    match = _TARGET.search(playlist)
    target = float(match[1]) if match else math.inf
    seconds, size = (sum(column) for column in zip(*pieces, strict=True))
    peak = max(_peaks(pieces, target), default=0.0)
    mean = 8 * size / seconds
    return Rate(mean=math.ceil(mean), peak=math.ceil(max(mean, peak)))


def _peaks(pieces: Sequence[tuple[float, int]], target: float) -> list[float]:
    """Bits in a second of all runs of pieces that last 0.5 to 1.5 target durations (RFC 8216,
    4.1).
    """
    found = []
    for first in range(len(pieces)):
        seconds, size = 0.0, 0
        for length, of_piece in pieces[first:]:
            seconds, size = seconds + length, size + of_piece
            if seconds > 1.5 * target:
                break
            if seconds >= 0.5 * target:
                found.append(8 * size / seconds)
    return found


def variant_line(
    *,
    peak: int,
    mean: int,
    width: int,
    height: int,
    frame_rate: float,
    codecs: Sequence[str | None] = (None,),
    audio: str | None = None,
) -> str:
    """A `#EXT-X-STREAM-INF` line (RFC
    8216, 4.3.4.2). Rates in bits a second; CODECS is left out
    where one of `codecs` is not known.
    """
    known = [word for word in dict.fromkeys(codecs) if word is not None]
    is_complete = None not in codecs
    parts = [
        f"BANDWIDTH={peak}",
        f"AVERAGE-BANDWIDTH={mean}",
        *([f'CODECS="{",".join(known)}"'] if is_complete else []),
        f"RESOLUTION={width}x{height}",
        f"FRAME-RATE={frame_rate:.3f}",
        *([f'AUDIO="{audio}"'] if audio else []),
    ]
    return "#EXT-X-STREAM-INF:" + ",".join(parts)


def multivariant(variants: Sequence[Variant], sounds: Sequence[Sound]) -> str:
    """The playlist of all variants, the best first, with the sounds as one group.

    A variant's rates include the sound with the highest bitrate that may be played with it (RFC
    8216, 4.3.4.2).
    """
    lines = ["#EXTM3U", "#EXT-X-VERSION:7", "#EXT-X-INDEPENDENT-SEGMENTS"]
    lines += [_media_line(sound, is_first=sound is sounds[0]) for sound in sounds]
    heard = max((sound.rate.peak for sound in sounds), default=0)
    heard_mean = max((sound.rate.mean for sound in sounds), default=0)
    for variant in variants:
        line = variant_line(
            peak=variant.rate.peak + heard,
            mean=variant.rate.mean + heard_mean,
            width=variant.width,
            height=variant.height,
            frame_rate=variant.frame_rate,
            codecs=(variant.codec, *(sound.codec for sound in sounds)),
            audio="audio" if sounds else None,
        )
        lines += [line, variant.playlist]
    return "\n".join(lines) + "\n"


def _media_line(sound: Sound, *, is_first: bool) -> str:
    language = f',LANGUAGE="{sound.language}"' if sound.language else ""
    default = "YES" if is_first else "NO"
    return (
        f'#EXT-X-MEDIA:TYPE=AUDIO,GROUP-ID="audio",NAME="{sound.name}"{language}'
        f',DEFAULT={default},AUTOSELECT=YES,URI="{sound.playlist}"'
    )
