"""What was asked for, typed: preparation of clips, clips, blocks of the grid, the whole request.
No file of a source was opened for it.
"""

from __future__ import annotations

from dataclasses import dataclass, field, fields, replace
from fractions import Fraction
from pathlib import Path

from vmaftune.cell import Crop, Setting
from vmaftune.encoders import Selection
from vmaftune.request.values import Size


@dataclass(frozen=True, slots=True, kw_only=True)
class Preparation:
    """How a clip becomes references. Times are in seconds; None or empty means as the clip is.

    `samples` windows of `sample_seconds` are spread over the clip, or windows of `chunk` seconds
    cover it; without either there is one window. `size`, `fps` and `pix_fmt` say how a headerless
    .yuv is read.
    """

    start: Fraction | None = None
    frames: int | None = None
    samples: int | None = None
    sample_seconds: Fraction | None = None
    chunk: Fraction | None = None
    crop: Crop | None = None
    scale: Size | None = None
    size: tuple[int, int] | None = None
    fps: str | None = None
    pix_fmt: str | None = None
    allow: tuple[str, ...] = ()
    deinterlace: bool = False

    def over(self, other: Preparation) -> Preparation:
        """This preparation where it says something, else `other`."""
        own = {f.name: getattr(self, f.name) for f in fields(self)}
        return replace(
            other, **{name: value for name, value in own.items() if value not in (None, (), False)}
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Clip:
    """A source as it was asked for."""

    path: Path
    name: str | None = None
    group: str | None = None
    preparation: Preparation = field(default_factory=Preparation)


@dataclass(frozen=True, slots=True, kw_only=True)
class Block:
    """A part of the grid: settings, each encoder's in a row, for the sources that match the globs.

    `settings` have no size; where there are `sizes`, each setting is encoded at each of them.
    """

    selection: Selection
    settings: tuple[Setting, ...]
    sizes: tuple[Size, ...] = ()
    sources: tuple[str, ...] = ("*",)


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """A sweep file and the flags over it, checked against the encoder table.

    `name` is the sweep file's stem, or empty; `out` the folder that was named, if any. Without
    `clips` the folder sources/ is meant, prepared by `preparation`. `skip_unfit` leaves out clips
    that are refused. `metrics` are measured beside VMAF.
    """

    clips: tuple[Clip, ...]
    blocks: tuple[Block, ...]
    preparation: Preparation
    teacher: str
    threads: int
    name: str = ""
    out: Path | None = None
    skip_unfit: bool = False
    metrics: tuple[str, ...] = ()

    def selection(self) -> Selection:
        """All encoders that the blocks ask for, with which of them were named in full."""
        selections = [block.selection for block in self.blocks]
        rows = {row.name: row for one in selections for row in one.encoders}
        return Selection(
            encoders=tuple(rows.values()),
            named=frozenset().union(*(one.named for one in selections)),
            auto=any(one.auto for one in selections),
        )
