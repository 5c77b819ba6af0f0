"""Facts and notes about a sweep: tools, sources, what is missing, and what proves little."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from statistics import median

from vmaf_train.corpus.rows import RUNS, lines

from vmaftune.report.cells import MeasuredCell, command_text
from vmaftune.report.sweep import Fact, GridLine, SourceLine
from vmaftune.request.document import Document, SourceEntry

# Facts of a start that the page shows elsewhere.
_SAID = frozenset({"argv", "ffmpeg_version", "libvmaf_version"})
FEW_GROUPS, SHORT_S = 5, 1.5
"""Fewer groups of sources, or windows shorter than this many seconds, prove little."""


def facts(plans: Sequence[Document], cells: Sequence[MeasuredCell]) -> tuple[Fact, ...]:
    """Name and value of what made the cells: command, tools, encoders, formats, machine."""
    commands = [command_text(plan.argv) for plan in plans if plan.argv]
    found = [
        *(("Command", command) for command in commands),
        ("ffmpeg", _all(cell.row.ffmpeg_version for cell in cells)),
        ("libvmaf", _all(cell.row.libvmaf_version for cell in cells)),
        ("VMAF model", _all(cell.row.teacher for cell in cells)),
    ]
    for encoder in dict.fromkeys(cell.curve.encoder for cell in cells):
        versions = _all(c.row.encoder_version for c in cells if c.curve.encoder == encoder)
        found.append((encoder, versions or "prints no version"))
    formats = [f"{cell.picture} {cell.row.pix_fmt}" for cell in cells if cell.picture]
    found += [
        ("Picture formats", _all(formats)),
        ("Threads per encode", _all(cell.row.threads for cell in cells)),
        ("GPU and driver", _all(cell.row.device for cell in cells)),
    ]
    return tuple((name, value) for name, value in found if value)


def source_lines(
    plans: Sequence[Document], cells: Sequence[MeasuredCell]
) -> tuple[SourceLine, ...]:
    """A line for each source that has a row, drawn or not."""
    by_name: dict[str, list[MeasuredCell]] = {}
    for cell in cells:
        if cell.src:
            by_name.setdefault(cell.src, []).append(cell)
    return tuple(_source_line(name, plans, by_name[name]) for name in sorted(by_name))


def _source_line(name: str, plans: Sequence[Document], cells: Sequence[MeasuredCell]) -> SourceLine:
    sources = [
        source for plan in plans for source in plan.sources if source.name == cells[0].row.src
    ]
    return SourceLine(
        name=name,
        group=_all(cell.row.group for cell in cells),
        window=_window(sources[0]) if sources else "",
        picture=_all(cell.picture for cell in cells),
        fps=_all(cell.row.fps for cell in cells),
        num_frames=_all(cell.row.num_frames for cell in cells),
        num_cells=str(sum(cell.drawable for cell in cells)),
    )


def _window(source: SourceEntry) -> str:
    """Which part of a file was encoded: `from frame 286, crop 1920x800+0+140, scaled to
    640x360`.
    """
    parts = [
        f"from frame {source.start_frame}" if source.start_frame else "",
        f"crop {source.crop}" if source.crop else "",
        f"scaled to {source.scale[0]}x{source.scale[1]}" if source.scale else "",
    ]
    return ", ".join(filter(None, parts)) or "whole picture from the start"


def grid_lines(plans: Sequence[Document]) -> tuple[GridLine, ...]:
    """The grids of the plans as texts."""
    return tuple(
        GridLine(
            encoder=block.encoder,
            preset=block.preset,
            quality=", ".join(map(str, block.quality)),
            num_sources=str(len(block.sources)),
        )
        for plan in plans
        for block in plan.grid
    )


def start_facts(folder: Path) -> tuple[Fact, ...]:
    """How often the command was started in `folder`, and all that its last start recorded."""
    starts = [row for _, row in lines(folder / RUNS)]
    return (("starts so far", str(len(starts))), *_flat(starts[-1])) if starts else ()


def _flat(value: Mapping[str, object]) -> list[Fact]:
    """A nested record as (readable name, text) lines, without nulls and what is shown elsewhere."""
    found: list[Fact] = []
    for name, part in value.items():
        label = name.replace("_", " ")
        if isinstance(part, Mapping):
            found += _flat(part)
        elif name.endswith("_bytes") and isinstance(part, (int, float)):
            found.append((label.removesuffix(" bytes"), f"{part / 2**30:.1f} GiB"))
        elif part is not None and name not in _SAID:
            found.append((label, str(part)))
    return found


def _all(values: Iterable[object]) -> str:
    """The different values, most frequent first."""
    counted = Counter(str(value) for value in values if value is not None)
    return ", ".join(value for value, _ in counted.most_common())


def notes(
    folder_notes: Sequence[str], cells: Sequence[MeasuredCell], num_lacking: int
) -> tuple[str, ...]:
    """Sentences about cells that are missing or stand out, and about evidence that is thin."""
    drawn = [cell for cell in cells if cell.drawable]
    found = list(folder_notes)
    lost = sum(cell.row.is_ok for cell in cells) - len(drawn)
    if lost:
        found.append(f"{lost} finished cells hold no bitrate or no score and are not drawn.")
    if num_lacking:
        found.append(
            f"{num_lacking} settings are not drawn, as a window of their film has no score yet."
        )
    flags = Counter(flag for cell in drawn for flag in cell.row.flags)
    if flags:
        seen = ", ".join(f"{name} ({count})" for name, count in flags.most_common())
        found.append(f"Some drawn cells carry flags: {seen}.")
    if len({cell.row.teacher for cell in drawn}) > 1:
        found.append(
            "Scores of different VMAF models are mixed in this corpus: do not compare them."
        )
    return (*found, *_thin(drawn))


def folder_notes(plan: Document, num_rows: int) -> list[str]:
    """Sentences about one folder: cells that have no row yet, encoders that were left out."""
    found = []
    if plan.num_cells > num_rows:
        found.append(
            f"The sweep is not finished: {num_rows:,} of {plan.num_cells:,} planned cells have a"
            " row."
        )
    if plan.skipped_encoders:
        found.append(
            "Left out of the sweep, as they cannot run on its machine:"
            f" {', '.join(plan.skipped_encoders)}."
        )
    return found


def _thin(drawn: Sequence[MeasuredCell]) -> list[str]:
    """A warning where so few or so short windows were measured that the figures prove little."""
    groups = {cell.row.group or cell.src for cell in drawn}
    lengths = {cell.src: cell.num_frames / cell.fps for cell in drawn if cell.fps}
    if not groups or not lengths:
        return []
    seconds = median(lengths.values())
    if len(groups) >= FEW_GROUPS and seconds >= SHORT_S:
        return []
    films = "film or clip" if len(groups) == 1 else "films or clips"
    return [
        f"This proves little: {len(groups)} {films}, windows of about {seconds:.1f} s. The figures"
        f" are true of these pictures; of your content only with {FEW_GROUPS} or more different"
        " clips of 2 s or longer."
    ]
