"""Option sets, bounds on the bitrate and fractions of quality values, against the real ffmpeg: what
the encoder table lets through is taken by the encoder, and what it promises holds.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import cache
from itertools import accumulate
from pathlib import Path

import pytest
from vmaftune.encoders import ENCODERS, Encoder
from vmaftune.errors import UsageError
from vmaftune.media.ffmpeg import find_ffmpeg
from vmaftune.media.process import Runner

FFMPEG = find_ffmpeg()
RUNNER = Runner()
BUILT = [name for name in ENCODERS if not name.endswith("videotoolbox")]
SOFTWARE = [name for name, row in ENCODERS.items() if row.kind is None]
CAPPED = ["libx264", "libx265", "libsvtav1"]
# What an encoder says of a key that it does not know, or does not take.
UNKNOWN = re.compile(
    r"unknown option|error parsing option|failed to set|invalid|not found|could not|unable"
    r"|unrecognized|has not been used",
    re.IGNORECASE,
)
# A value for every key of a dictionary; 1 where none is said.
VALUES = {
    "aq-strength": "0.8",
    "b-pyramid": {"libx264": "normal", "libx265": "1"},
    "deblock": {"libx264": "1,1", "libx265": "-1"},
    "direct": "auto",
    "me": {"libx264": "hex", "libx265": "hex"},
    "merange": "16",
    "partitions": "all",
    "psy-rd": {"libx264": "0.8", "libx265": "1.5"},
    "psy-rdoq": "1.0",
    "keyint": "30",
    "min-keyint": "2",
    "ctu": "32",
    "min-cu-size": "8",
    "qg-size": "32",
    "rc-lookahead": "20",
    "lookahead": "20",
    "bframes": "2",
    "film-grain": "8",
    "hierarchical-levels": "3",
    "qm-min": "4",
    "qm-max": "12",
    "chroma-qm-min": "4",
    "chroma-qm-max": "12",
    "variance-octile": "5",
    "variance-boost-strength": "2",
    "IntraPeriod": "32",
    "GOPSize": "16",
    "sb-size": "64",
    "tune-content": "film",
    "min-gf-interval": "4",
}


@cache
def help_of(topic: str) -> str:
    return RUNNER.run([FFMPEG, "-hide_banner", "-h", topic], timeout_s=60).stdout.decode()


@pytest.fixture(scope="module")
def noisy(clip: Callable[..., Path]) -> Path:
    return clip("option sets.mkv", frames=60, size="192x128")


def encode(row: Encoder, source: Path, out: Path, quality: float, *extra: str) -> str:
    """Encode with the row's fastest preset; the log."""
    arguments = row.arguments(row.presets[0], quality, 1, extra=extra, num_frames=60)
    argv = [FFMPEG, "-nostdin", "-hide_banner", "-nostats", "-v", "info", "-y", "-i", str(source)]
    argv += ["-pix_fmt", row.pix_fmts[0], *arguments, "-f", "matroska", str(out)]
    done = RUNNER.run(argv, timeout_s=300)
    assert done.returncode == 0, done.stderr
    return done.stderr


@pytest.mark.parametrize("name", BUILT)
def test_options_of_the_table_are_in_the_help(name: str) -> None:
    row = ENCODERS[name]
    every = help_of("full").partition("AVCodecContext AVOptions:")[2].partition("AVOptions:")[0]
    for option in (*row.options, *([row.params.removeprefix("-")] if row.params else [])):
        line = re.compile(rf"^  -{re.escape(option)} +<.*E\.\.V", re.MULTILINE)
        assert line.search(help_of(f"encoder={name}")) or line.search(every), option


def of_key(row: Encoder, key: str) -> str:
    value = VALUES.get(key, "1")
    return value[row.name] if isinstance(value, dict) else value


def complaints(log: str) -> list[str]:
    return [line for line in log.splitlines() if UNKNOWN.search(line)]


@pytest.mark.parametrize("name", [n for n in SOFTWARE if ENCODERS[n].params])
def test_keys_of_dictionaries_are_taken_by_the_encoder(
    name: str, noisy: Path, tmp_path: Path
) -> None:
    """All keys in one encode; where that is refused, one encode for each says which of them is."""
    row, out = ENCODERS[name], tmp_path / "out.mkv"
    assert row.params
    texts = {key: f"{row.params} {key}={of_key(row, key)}" for key in sorted(row.params_keys)}
    sets = {key: row.check_options(text).args for key, text in texts.items()}
    every = tuple(arg for args in sets.values() for arg in args)
    if complaints(encode_or_say(row, noisy, out, every)):
        said = {key: encode_or_say(row, noisy, out, args) for key, args in sets.items()}
        assert {key: complaints(log)[0] for key, log in said.items() if complaints(log)} == {}
    assert complaints(encode_or_say(row, noisy, out, (row.params, "no-such-key=1")))


def encode_or_say(row: Encoder, source: Path, out: Path, extra: tuple[str, ...]) -> str:
    """The log of a short encode; one that fails says so."""
    arguments = row.arguments(row.presets[0], row.default_quality[1], 1, extra=extra, num_frames=8)
    argv = [FFMPEG, "-nostdin", "-hide_banner", "-nostats", "-v", "info", "-y", "-i", str(source)]
    argv += ["-frames:v", "8", "-pix_fmt", row.pix_fmts[0], *arguments, "-f", "matroska", str(out)]
    done = RUNNER.run(argv, timeout_s=300)
    return done.stderr + (f"invalid: exit {done.returncode}" if done.returncode else "")


def test_a_dictionary_is_one_option() -> None:
    """ffmpeg keeps the last of several: threads would be lost to an option set."""
    x265 = ENCODERS["libx265"].arguments("medium", 28, 1, extra=["-x265-params", "aq-mode=3"])
    assert x265.count("-x265-params") == 1
    assert "pools=1:frame-threads=1:aq-mode=3" in x265
    svt = ENCODERS["libsvtav1"].arguments("8", 35.25, 1, extra=["-svtav1-params", "film-grain=8"])
    assert " ".join(svt) == ("-c:v libsvtav1 -preset 8 -svtav1-params lp=1:crf=35.25:film-grain=8")
    vvc = ENCODERS["libvvenc"].arguments(
        "faster", 30, 1, extra=["-vvenc-params", "ALF=0"], num_frames=10
    )
    assert vvc[-2:] == ["-vvenc-params", "maxparallelframes=0:ALF=0"]


def test_quarter_steps_of_svt_are_encodes_of_their_own(noisy: Path, tmp_path: Path) -> None:
    row, sizes = ENCODERS["libsvtav1"], {}
    for quality in (35, 35.25, 35.5, 35.75, 36):
        out = tmp_path / "out.mkv"
        log = encode(row, noisy, out, quality)
        sizes[quality] = out.stat().st_size
        assert re.search(rf"CRF / {quality:.2f}\b", log) or quality == int(quality)
    assert list(sizes.values()) == sorted(sizes.values(), reverse=True)
    assert len(set(sizes.values())) == 5
    with pytest.raises(UsageError, match=r"steps of 0\.25 only"):
        row.check_quality(35.3)


def packets(path: Path) -> list[tuple[float, int]]:
    """Time and bytes of every packet."""
    import av

    with av.open(str(path)) as box:
        return [
            (float(p.pts * p.time_base), p.size) for p in box.demux(video=0) if p.pts is not None
        ]


@pytest.mark.parametrize("name", CAPPED)
def test_a_bound_on_the_bitrate_bounds_it(
    name: str, clip: Callable[..., Path], tmp_path: Path
) -> None:
    """Noise at a good quality value wants far more than the bound; with it the encode's rate comes
    down to it, over the whole clip and in every second, but for the buffer.
    """
    row = ENCODERS[name]
    source = clip("bound.mkv", frames=150, size="192x128")
    free, bound = tmp_path / "free.mkv", tmp_path / "bound.mkv"
    encode(row, source, free, 20)
    kbps = free.stat().st_size * 8 / 6000 / 4
    maxrate = round(kbps)
    encode(row, source, bound, 20, *row.cap_arguments(maxrate, maxrate))
    found = packets(bound)
    assert len(found) == 150
    seconds = 6 + 1  # the buffer holds a second, and may be full at the beginning
    assert sum(size for _, size in found) * 8 / 1000 <= 1.05 * maxrate * seconds
    sums = list(accumulate((size for _, size in found), initial=0))
    busiest = max(b - a for a, b in zip(sums, sums[25:], strict=False))
    assert busiest * 8 / 1000 <= 2.2 * maxrate  # a second of it, and a full buffer


@pytest.mark.parametrize("name", ["libvpx-vp9", "libaom-av1", "libvvenc", "h264_nvenc"])
def test_other_encoders_refuse_a_bound(name: str) -> None:
    with pytest.raises(UsageError, match=f"{name} takes no --maxrate beside its constant quality"):
        ENCODERS[name].cap_arguments(1000, 2000)
