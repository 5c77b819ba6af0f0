"""The CODECS words of a playlist, read from the files that it names.

A player decides by these words whether it can play a variant at all, so they are made from the
parameter sets that stand in the file (RFC 6381) and from nothing that was asked for:

    avc1.640028         ISO 14496-15, avcC: profile, constraints, level
    hvc1.1.6.L120.90    ISO 14496-15 annex E, hvcC: profile, flags, tier and level, constraints
    av01.0.08M.10       AV1 in ISOBMFF 5: profile, level and tier, bit depth
    vp09.00.40.08       VP9 in ISOBMFF: profile, level, bit depth
    mp4a.40.2           ISO 14496-1: object type, audio object type
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from pathlib import Path

_TO_ENTRIES = (b"trak", b"mdia", b"minf", b"stbl", b"stsd")
_STSD_HEAD = 8
"""Bytes of `stsd` before its entries: version, flags, their number."""
_ENTRY_HEAD = {"video": 78, "audio": 28}
"""Bytes of a sample entry before the boxes in it."""
_ES, _DECODER_CONFIG, _SPECIFIC_INFO = 3, 4, 5
"""Tags of the descriptors in `esds`."""
_MPEG4_AUDIO = 0x40
_PLAIN = {b"ac-3": "ac-3", b"ec-3": "ec-3", b"Opus": "opus", b"fLaC": "fLaC", b"alac": "alac"}
"""Sample entries whose name is all that a player needs."""


def codec_word(file: Path) -> str | None:
    """The CODECS word of the only track of an MP4; None where its codec has none that we know."""
    moov = _movie_box(file)
    for entry, body in _entries(moov):
        return word_of(entry, body)
    return None


def word_of(entry: bytes, body: bytes) -> str | None:
    """The word of a sample entry: its four letters, and what follows them in the box."""
    if entry in _PLAIN:
        return _PLAIN[entry]
    if entry == b"mp4a":
        held = dict(_boxes(body[_ENTRY_HEAD["audio"] :]))
        return _of_esds(held[b"esds"]) if b"esds" in held else None
    held = dict(_boxes(body[_ENTRY_HEAD["video"] :]))
    name = entry.decode("ascii", "replace")
    if b"avcC" in held:
        return f"{name}.{held[b'avcC'][1:4].hex().upper()}"
    if b"hvcC" in held:
        return f"{name}.{_of_hvcc(held[b'hvcC'])}"
    if b"av1C" in held:
        return f"{name}.{_of_av1c(held[b'av1C'])}"
    if b"vpcC" in held:
        return f"{name}.{_of_vpcc(held[b'vpcC'])}"
    return None


def _of_hvcc(box: bytes) -> str:
    """`1.6.L120.90`: profile space and number, compatibility flags from the last bit to the first,
    tier and level, constraint bytes without zeros at their end.
    """
    space, tier, profile = box[1] >> 6, box[1] >> 5 & 1, box[1] & 31
    flags = struct.unpack(">I", box[2:6])[0]
    mirrored = int(f"{flags:032b}"[::-1], 2)
    constraints = box[6:12].rstrip(b"\0")
    parts = [
        "ABC"[space - 1 : space] + str(profile),
        f"{mirrored:X}",
        "LH"[tier] + str(box[12]),
        *(f"{byte:X}" for byte in constraints),
    ]
    return ".".join(parts)


def _of_av1c(box: bytes) -> str:
    """`0.08M.10`: profile, level and tier, bit depth."""
    profile, level = box[1] >> 5, box[1] & 31
    is_high_tier, is_deep, is_12_bit = box[2] >> 7, box[2] >> 6 & 1, box[2] >> 5 & 1
    depth = 8 + 2 * is_deep + 2 * (is_deep & is_12_bit)
    return f"{profile}.{level:02d}{'MH'[is_high_tier]}.{depth:02d}"


def _of_vpcc(box: bytes) -> str:
    """`00.40.08`: profile, level, bit depth; behind version and flags."""
    return f"{box[4]:02d}.{box[5]:02d}.{box[6] >> 4:02d}"


def _of_esds(box: bytes) -> str | None:
    """`mp4a.40.2`, from the descriptors behind version and flags."""
    descriptor = _descriptor(box[4:], _ES)
    config = _descriptor(descriptor[3:], _DECODER_CONFIG)
    if not config:
        return None
    if config[0] != _MPEG4_AUDIO:
        return f"mp4a.{config[0]:02X}"
    info = _descriptor(config[13:], _SPECIFIC_INFO)
    return f"mp4a.40.{_audio_object(info)}" if info else None


def _audio_object(info: bytes) -> int:
    """The audio object type: five bits, and six more where these are all ones."""
    kind = info[0] >> 3
    if kind == 31 and len(info) > 1:
        return 32 + ((info[0] & 7) << 3 | info[1] >> 5)
    return kind


def _descriptor(text: bytes, tag: int) -> bytes:
    """What the descriptor at the start of `text` holds; empty where it is another one."""
    if not text or text[0] != tag:
        return b""
    size, place = 0, 1
    while place < len(text):
        size = size << 7 | text[place] & 127
        place += 1
        if not text[place - 1] & 128:
            break
    return text[place : place + size]


def _movie_box(file: Path) -> bytes:
    """The `moov` box, empty where there is none."""
    with file.open("rb") as opened:
        while len(head := opened.read(8)) == 8:
            size, kind = struct.unpack(">I4s", head)
            body = size - 8
            if size == 1:
                body = int.from_bytes(opened.read(8), "big") - 16
            if body < 0:  # the box goes to the end of the file
                break
            if kind == b"moov":
                return opened.read(body)
            opened.seek(body, 1)
    return b""


def _entries(moov: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Every sample entry of a movie."""
    found = [moov]
    for name in _TO_ENTRIES:
        found = [body for box in found for kind, body in _boxes(box) if kind == name]
    for box in found:
        yield from _boxes(box[_STSD_HEAD:])


def _boxes(text: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Name and body of the boxes that stand side by side in `text`."""
    place = 0
    while place + 8 <= len(text):
        size, kind = struct.unpack(">I4s", text[place : place + 8])
        if size < 8:
            return
        yield kind, text[place + 8 : place + size]
        place += size
