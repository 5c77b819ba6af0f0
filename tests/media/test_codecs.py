"""CODECS words against bytes that were decoded by hand, and against files of every encoder."""

from __future__ import annotations

import struct
from collections.abc import Callable
from pathlib import Path

import pytest
from vmaftune.media.codecs import codec_word, word_of

VIDEO_HEAD, AUDIO_HEAD = b"\0" * 78, b"\0" * 28


def box(name: bytes, body: bytes) -> bytes:
    return struct.pack(">I4s", 8 + len(body), name) + body


@pytest.mark.parametrize(
    ("entry", "held", "body", "word"),
    [
        # version 1, profile 100 (High), no constraints, level 40 = 4.0
        (b"avc1", b"avcC", "01 64 00 28 ff", "avc1.640028"),
        # profile 66 (Baseline) with constraint_set0 and 1 (Constrained), level 30
        (b"avc1", b"avcC", "01 42 c0 1e ff", "avc1.42C01E"),
        # space 0, tier 0, profile 1 (Main); flags 0x60000000 mirrored are 6; constraints 90 00 ..;
        # level 120 = 4.0
        (b"hvc1", b"hvcC", "01 01 60000000 90 00 00 00 00 00 78", "hvc1.1.6.L120.90"),
        # tier 1 (High), profile 2 (Main 10); flags 0x20000000 mirrored are 4; level 153 = 5.1
        (b"hev1", b"hvcC", "01 22 20000000 b0 00 00 00 00 00 99", "hev1.2.4.H153.B0"),
        # space 1 is the letter A, and constraints may be nothing at all
        (b"hvc1", b"hvcC", "01 41 60000000 00 00 00 00 00 00 5d", "hvc1.A1.6.L93"),
        # profile 0 (Main), level 8 = 4.0; tier 0, 8 bits
        (b"av01", b"av1C", "81 08 0c 00", "av01.0.08M.08"),
        # profile 0, level 13 = 5.1; tier 1, high_bitdepth: 10 bits
        (b"av01", b"av1C", "81 0d cc 00", "av01.0.13H.10"),
        # profile 2, level 8; high_bitdepth and twelve_bit
        (b"av01", b"av1C", "81 48 6c 00", "av01.2.08M.12"),
        # version and flags, profile 0, level 40 = 4.0, 8 bits in the upper half of the next byte
        (b"vp09", b"vpcC", "01 000000 00 28 82 01 01 01 0000", "vp09.00.40.08"),
        (b"vp09", b"vpcC", "01 000000 02 1e a2 01 01 01 0000", "vp09.02.30.10"),
    ],
)
def test_pictures(entry: bytes, held: bytes, body: str, word: str) -> None:
    inside = box(b"pasp", b"\0" * 8) + box(held, bytes.fromhex(body))
    assert word_of(entry, VIDEO_HEAD + inside) == word


@pytest.mark.parametrize(
    ("config", "word"),
    [
        # object 0x40 (MPEG-4 audio), 12 more bytes, then the first five bits of 0x12: 2, AAC LC
        ("40 15 000000 00000000 00000000 05 02 12 10", "mp4a.40.2"),
        # 31 in five bits, then ten in six: 42, xHE-AAC
        ("40 15 000000 00000000 00000000 05 02 f9 40", "mp4a.40.42"),
        # object 0x6b: MP3, which has no audio object type
        ("6b 15 000000 00000000 00000000", "mp4a.6B"),
    ],
)
def test_sound(config: str, word: str) -> None:
    held = bytes.fromhex(config)
    descriptor = bytes([4, 0x80, 0x80, len(held)]) + held  # a length in three bytes
    esds = b"\0" * 4 + bytes([3, 3 + len(descriptor)]) + b"\0\1\0" + descriptor
    assert word_of(b"mp4a", AUDIO_HEAD + box(b"esds", esds)) == word


def test_what_is_not_known_has_no_word(tmp_path: Path) -> None:
    assert word_of(b"Opus", b"") == "opus"
    assert word_of(b"vvc1", VIDEO_HEAD + box(b"vvcC", b"\0" * 8)) is None
    assert word_of(b"mp4a", AUDIO_HEAD) is None
    empty = tmp_path / "none.mp4"
    for held in (b"", b"\0\0\0\1mdat", box(b"ftyp", b"isom"), b"\0\0\0\0moov"):
        empty.write_bytes(held)
        assert codec_word(empty) is None


@pytest.mark.parametrize(
    ("args", "word"),
    [
        (("-c:v", "libx264", "-profile:v", "main", "-level", "3.1"), "avc1.4D401F"),
        (("-c:v", "libx265", "-tag:v", "hvc1", "-preset", "ultrafast"), "hvc1.1.6.L30.90"),
        (("-c:v", "libsvtav1", "-preset", "11"), "av01.0.00M.08"),
        (("-c:v", "libvpx-vp9", "-deadline", "realtime"), "vp09.00.10.08"),
    ],
)
def test_files(args: tuple[str, ...], word: str, clip: Callable[..., Path], tmp_path: Path) -> None:
    made = clip(f"codecs {args[1]}.mp4", frames=4, args=(*args, "-pix_fmt", "yuv420p"))
    assert codec_word(made) == word
