"""The rows of a run folder as the report needs them: the last of each cell, on its curve."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

from vmaf_train.corpus.ids import parse_id
from vmaf_train.corpus.rows import CELLS, EXTERNAL, SWEEP, CellRow, latest
from vmaf_train.errors import DatasetError

from vmaftune.cell import Setting
from vmaftune.encoders import ENCODERS
from vmaftune.errors import UsageError
from vmaftune.report.sweep import Curve, FailedCell
from vmaftune.request.document import Document, GridEntry, read_document


@dataclass(frozen=True, slots=True, kw_only=True)
class MeasuredCell:
    """A row with the name of its source and its curve, as the report calls them."""

    row: CellRow
    src: str
    curve: Curve

    @property
    def drawable(self) -> bool:
        """True when the cell is a point: finished, with a source, a bitrate and a score."""
        row = self.row
        measured = row.bitrate_kbps is not None and row.vmaf_score is not None
        return row.is_ok and bool(self.src) and measured

    @property
    def quality(self) -> float | None:
        """The encoder's quality value; None where nobody knows it."""
        return None if self.row.crf is None else float(self.row.crf)

    @property
    def num_frames(self) -> int:
        """Frames of the cell, 0 where the row does not say."""
        return self.row.num_frames or 0

    @property
    def fps(self) -> float:
        """Frames per second, 0 where the row does not say."""
        try:
            return float(Fraction(self.row.fps or "0"))
        except (ValueError, ZeroDivisionError):
            return 0.0

    @property
    def picture(self) -> str | None:
        """Width and height of the source as text."""
        row = self.row
        return f"{row.width}x{row.height}" if row.width and row.height else None

    @property
    def command(self) -> str:
        """The command that made the cell, with places for its files."""
        return command_text(self.row.argv or ())

    @property
    def failure(self) -> FailedCell | None:
        """Why the cell has no score; None for a finished one."""
        error = self.row.error
        if self.row.is_ok:
            return None
        if error is None:
            unknown = {"kind": "unknown", "message": "", "stderr": "", "command": ""}
            return FailedCell(cell=self.row.cell, exit_code=None, **unknown)
        return FailedCell(
            cell=self.row.cell,
            kind=error.kind.value,
            message=error.message,
            exit_code=error.exit_code,
            stderr=error.stderr_tail,
            command=error.command,
        )


def read_cells(folder: Path, plan: Document | None) -> list[MeasuredCell]:
    """The last row of each cell of a run folder, in the order of the file.

    Raises UsageError when it is not a run folder, DatasetError when it has no rows or, with its
    line, when one is malformed.
    """
    file = folder / CELLS
    if not file.is_file():
        raise UsageError(
            f"{folder} is not a corpus: it holds no {CELLS}; name the folder that"
            " `vmaf-tune corpus` wrote"
        )
    rows = latest(file).values()
    if not rows:
        raise DatasetError(f"{file} holds no rows yet; let `vmaf-tune corpus` finish a cell first")
    arguments = _arguments(plan.grid if plan else ())
    return [MeasuredCell(row=row, src=row.src, curve=_curve(row, arguments)) for row in rows]


def read_plan(folder: Path) -> Document | None:
    """The plan of the run in `folder`; None for a corpus without one. Raises FolderError."""
    try:
        return read_document(folder / SWEEP)
    except FileNotFoundError:
        return None


def command_text(argv: Sequence[str]) -> str:
    """`argv` as one shell line; the placeholders {ref} and {out} stay bare, to be seen as such."""
    bare = ("{ref}", "{out}")
    words = [a if a.removeprefix("file:") in bare else shlex.quote(a) for a in argv]
    if words and words[0].startswith("-"):
        words.insert(0, "ffmpeg")
    return " ".join(words)


def _curve(row: CellRow, arguments: dict[tuple[str, str | None], tuple[str, ...]]) -> Curve:
    known = parse_id(row.cell)
    encoder = row.encoder or EXTERNAL
    variant = known.options if known else None
    size = (row.encode_width or 0, row.encode_height or 0)
    return Curve(
        encoder=encoder,
        preset=row.preset,
        knob=(row.rate_control or "quality").lower(),
        size=size if all(size) else None,
        options=variant,
        arguments=arguments.get((encoder, variant), ()) if variant else (),
    )


def _arguments(blocks: Sequence[GridEntry]) -> dict[tuple[str, str | None], tuple[str, ...]]:
    """What an option set or a bound on the bitrate adds to a command, by encoder and its name."""
    found: dict[tuple[str, str | None], tuple[str, ...]] = {}
    for block in blocks:
        name = Setting.name_of(block.options, block.maxrate_kbps, block.bufsize_kbps)
        if name and block.encoder in ENCODERS:
            extra = list(block.options.args) if block.options else []
            if block.maxrate_kbps and block.bufsize_kbps:
                row = ENCODERS[block.encoder]
                extra += row.cap_arguments(block.maxrate_kbps, block.bufsize_kbps)
            found[block.encoder, name] = tuple(extra)
    return found
