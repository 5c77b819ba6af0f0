"""What of a film its encode would lose: refused or said before the encode."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from vmaftune.cell import Window
from vmaftune.encoders import Encoder, planar
from vmaftune.errors import UsageError
from vmaftune.media.ffmpeg import Ffmpeg
from vmaftune.media.hdr10_trial import kept_by_cells, kept_whole
from vmaftune.media.probe import HDR_TRANSFERS
from vmaftune.media.whole import FilmEncode
from vmaftune.questions.film import EncodeRequest


def check_depth(film: Window, encoder: Encoder) -> None:
    """Raise UsageError where HDR of 10 bits would be encoded at 8, which shows as bands."""
    if film.color.transfer not in HDR_TRANSFERS or not film.pix_fmt.endswith("10le"):
        return
    if not planar(encoder.pix_fmt_for(film.pix_fmt)).endswith("10le"):
        raise UsageError(
            f"{film.path} is HDR at 10 bits and {encoder.name} encodes 8 here, which shows as"
            " bands; take an encoder of 10 bits, such as x265 or svtav1"
        )


def lost(request: EncodeRequest, ffmpeg: Ffmpeg) -> Iterator[str]:
    """Sentences on what the encode will not keep of the film's light. Tries it on a few frames."""
    facts, find = request.film.facts, request.find
    way = "by shots" if request.shots else "whole"
    if facts.dynamic:
        names = " and ".join(facts.dynamic)
        yield (
            f"{request.film.whole.path} has {names} metadata of each frame: it is lost by shots,"
            " and in a whole encode kept only where the encoder takes it from ffmpeg, which is not"
            " checked"
        )
    if facts.hdr10 is None:
        return
    candidate = find.candidates[0]
    quality = request.quality if request.quality is not None else candidate.low
    setting = find.setting(candidate, quality)
    whole = replace(request.film.whole, hdr10=facts.hdr10)
    if request.shots:
        is_kept = kept_by_cells(whole, setting, ffmpeg)
    else:
        wanted = FilmEncode(film=whole, setting=setting, streams=(), out=request.out)
        is_kept = kept_whole(wanted, ffmpeg)
    if not is_kept:
        yield (
            f"{candidate.encoder.name} encoded {way} with this ffmpeg does not keep the film's"
            " HDR10 metadata (mastering display, content light level); the colour tags are kept"
        )
