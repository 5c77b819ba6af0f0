"""Readable cell ids: `source/encoder/preset/quality[@WxH][+options]`. The only place that knows
this grammar.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

_SETTING = re.compile(r"(?P<quality>\d[^@+/]*)(?:@(?P<w>\d+)x(?P<h>\d+))?(?:\+(?P<options>.+))?")


def number(value: float) -> float | int:
    """A quality value as a JSON number: 23, not 23.0, when integral."""
    return int(value) if float(value).is_integer() else float(value)


def number_text(value: float) -> str:
    """A quality value as ids hold it: `23`, `23.5`."""
    return repr(number(value))


@dataclass(frozen=True, slots=True, kw_only=True)
class CellId:
    """The parts of a cell's id. `size` is the encode's where it is not the window's; `options`
    names an option set.
    """

    source: str
    encoder: str
    preset: str
    quality: float
    size: tuple[int, int] | None = None
    options: str | None = None

    def __str__(self) -> str:
        text = f"{self.source}/{self.encoder}/{self.preset}/{number_text(self.quality)}"
        if self.size is not None:
            text += f"@{self.size[0]}x{self.size[1]}"
        return text if self.options is None else f"{text}+{self.options}"


def parse_id(text: str) -> CellId | None:
    """The parts of an id; None for one of another form, as of a scored pair
    (`source/encoder/name of the distorted file`).
    """
    parts = text.split("/", 3)
    match = _SETTING.fullmatch(parts[3]) if len(parts) == 4 else None
    if match is None:
        return None
    try:
        quality = float(match["quality"])
    except ValueError:
        return None
    size = (int(match["w"]), int(match["h"])) if match["w"] else None
    source, encoder, preset, _ = parts
    return CellId(
        source=source,
        encoder=encoder,
        preset=preset,
        quality=quality,
        size=size,
        options=match["options"],
    )
