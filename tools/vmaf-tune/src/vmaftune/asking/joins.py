"""A film that is encoded by shots: whether its parts can be joined, and where its shots are."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from vmaftune.cell import Window
from vmaftune.encoders import Encoder
from vmaftune.errors import UsageError
from vmaftune.media.ffmpeg import Ffmpeg
from vmaftune.media.join import REFUSED_CODECS
from vmaftune.media.shots import shots
from vmaftune.request.film import Film


def check_joins(film: Film, encoder: Encoder) -> None:
    """Raise UsageError for a film or an encoder whose shots cannot be joined."""
    if "vfr" in film.whole.flags:
        raise UsageError(
            f"{film.whole.path} has a variable frame rate, and its shots cannot be joined; leave"
            " --shots out"
        )
    if encoder.codec in REFUSED_CODECS:
        why = REFUSED_CODECS[encoder.codec]
        raise UsageError(f"{encoder.name} cannot be encoded by shots: {why}")


def shot_windows(film: Film, ffmpeg: Ffmpeg, timeout_s: float) -> tuple[Window, ...]:
    """A window for each shot of the film; decodes it once."""
    spans = shots(Path(film.whole.path), film.facts, ffmpeg, timeout_s)
    whole = replace(film, whole=replace(film.whole, hdr10=film.facts.hdr10))
    return tuple(whole.cut(span.start, span.num_frames) for span in spans)
