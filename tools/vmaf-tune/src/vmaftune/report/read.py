"""Run folders read into one Sweep.

    folders --cells, plan, frames--> the last row of each cell --films--> points on curves

A clip is known by its content: the same pictures in two folders are one source, whatever they are
called. The same setting measured with different tools in two folders makes two curves.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from vmaf_train.contract import VOCABULARY, preset_ordinal
from vmaf_train.corpus.rows import CellRow
from vmaf_train.errors import DatasetError

from vmaftune.costs import counted
from vmaftune.encoders import ENCODERS
from vmaftune.engine.answers import FrameValues, stored_values
from vmaftune.engine.metric_rows import mean_of
from vmaftune.errors import UsageError
from vmaftune.metrics import METRICS, VMAF, VMAF_SCALE, Scale
from vmaftune.report.cells import MeasuredCell, read_cells, read_plan
from vmaftune.report.facts import (
    facts,
    folder_notes,
    grid_lines,
    notes,
    source_lines,
    start_facts,
)
from vmaftune.report.films import PooledCell, pool_windows, score
from vmaftune.report.frames import FrameScores, read_frames
from vmaftune.report.questions import read_ladders, read_questions
from vmaftune.report.sweep import Curve, Point, Sweep
from vmaftune.request.document import Document, SourceEntry


@dataclass(frozen=True, slots=True, kw_only=True)
class RunFolder:
    """One folder as it was read. `label` is the shortest name that tells it from the others."""

    folder: Path
    label: str
    cells: tuple[MeasuredCell, ...]
    plan: Document | None

    def content(self, cell: MeasuredCell) -> tuple[object, ...]:
        """What tells the pictures of a cell's source from others; its name where no digest is."""
        row = cell.row
        if row.src_sha256 is None:
            return (cell.src,)
        sources = self.plan.sources if self.plan else ()
        planned = next((source for source in sources if source.name == row.src), None)
        window = (planned.start_frame, planned.crop) if planned else (0, None)
        return row.src_sha256, row.width, row.height, row.fps, row.num_frames, *window


def read(*folders: Path, scale: Scale = VMAF_SCALE) -> Sweep:
    """The sweep in `folders`, without points when every cell failed. Points are on `scale`: cells
    that were measured without that metric are left out, and a note says how many.

    Raises UsageError when one is not a run folder, DatasetError when one has no rows, a malformed
    one (with its line), or when folders were scored by different VMAF models.
    """
    runs = read_folders(folders)
    if len(runs) > 1:
        check_teachers(runs)
        runs = _with_origins(same_names(runs))
    cells = _newest(runs)
    drawn, without = _on_scale([cell for cell in cells if cell.drawable], scale, folders)
    frames: dict[str, FrameScores] = {}
    wanted = {cell.row.key for cell in drawn}
    for run in runs:
        frames.update(read_frames(run.folder, wanted))
    pooled, num_lacking = pool_windows(drawn, frames)
    values = _further_values(runs, pooled, scale)
    plans = [run.plan for run in runs if run.plan]
    told = [n for run in runs if run.plan for n in folder_notes(run.plan, len(run.cells))]
    return replace(
        _sweep(runs, pooled, scale, values),
        failures=tuple(cell.failure for cell in cells if cell.failure),
        facts=facts(plans, sorted(drawn or cells, key=lambda cell: _order(cell.curve))),
        start_facts=tuple(fact for run in runs for fact in start_facts(run.folder)),
        grid=grid_lines(plans),
        source_lines=source_lines(plans, cells),
        notes=(*notes(told, cells, num_lacking), *without),
        cpu_s=sum(_cpu_s(cell.row) for cell in cells if cell.row.is_ok),
        questions=tuple(q for run in runs for q in read_questions(run.folder, run.cells, frames)),
        ladders=tuple(ladder for run in runs for ladder in read_ladders(run.folder)),
    )


def _on_scale(
    cells: Sequence[MeasuredCell], scale: Scale, folders: Sequence[Path]
) -> tuple[list[MeasuredCell], tuple[str, ...]]:
    """The cells that hold the scale's metric, and a note on those that do not. Raises UsageError
    where none does.
    """
    if scale.name == VMAF:
        return list(cells), ()
    found = [cell for cell in cells if _mean_of(cell.row, scale) is not None]
    missing = len(cells) - len(found)
    if cells and not found:
        raise UsageError(
            f"no cell of {', '.join(map(str, folders))} was measured with {scale.name}; measure it"
            f" with `vmaf-tune corpus --metrics {scale.name}`, or with --rescore where encodes were"
            " kept"
        )
    if not missing:
        return found, ()
    return found, (f"{counted(missing, 'cell')} without a value of {scale.label}, left out.",)


def _mean_of(row: CellRow, scale: Scale) -> float | None:
    held = mean_of(row.metrics, scale.name)
    return held.mean if held is not None else None


def _further_values(
    runs: Sequence[RunFolder], pooled: Sequence[PooledCell], scale: Scale
) -> Mapping[str, FrameValues]:
    """The metric's columns of the frames of films that are pooled from windows, by key."""
    if scale.name == VMAF:
        return {}
    keys = frozenset(c.row.key for one in pooled if len(one.cells) > 1 for c in one.cells)
    found: dict[str, FrameValues] = {}
    for run in runs if keys else ():
        found |= stored_values(run.folder, keys, METRICS[scale.name].columns)
    return found


def _cpu_s(row: CellRow) -> float:
    return (row.encode_cpu_s or 0.0) + (row.score_cpu_s or 0.0)


def read_folders(folders: Sequence[Path]) -> list[RunFolder]:
    """Rows and plan of each folder, not yet put together. Raises as `read`."""
    from vmaf_train.corpus.ledger import require_sound_folder

    found = []
    for folder, label in zip(folders, _labels(folders), strict=True):
        plan = read_plan(folder)
        cells = tuple(read_cells(folder, plan))
        require_sound_folder(folder)
        found.append(RunFolder(folder=folder, label=label, cells=cells, plan=plan))
    return found


def _labels(folders: Sequence[Path]) -> list[str]:
    names = [folder.resolve().name for folder in folders]
    return names if len(set(names)) == len(names) else [str(folder) for folder in folders]


def check_teachers(runs: Sequence[RunFolder]) -> None:
    """Raises DatasetError for folders whose scores are of different VMAF models."""
    teachers = {run.label: {c.row.teacher for c in run.cells if c.drawable} for run in runs}
    if len(set().union(*teachers.values())) > 1:
        told = "; ".join(f"{k}: {', '.join(map(str, v))}" for k, v in teachers.items())
        raise DatasetError(
            f"the folders were scored by different VMAF models ({told}); use them one by one"
        )


def same_names(runs: Sequence[RunFolder]) -> list[RunFolder]:
    """One name for the same pictures in all folders, and different names for different ones."""
    names: dict[tuple[object, ...], str] = {}
    owner: dict[str, tuple[object, ...]] = {}
    renamed = []
    for run in runs:
        cells = []
        for cell in run.cells:
            content = run.content(cell)
            if content not in names:
                free = cell.src if cell.src not in owner else f"{cell.src} ({run.label})"
                names[content] = free
                owner[free] = content
            cells.append(replace(cell, src=names[content]))
        renamed.append(replace(run, cells=tuple(cells)))
    return renamed


def _with_origins(runs: Sequence[RunFolder]) -> list[RunFolder]:
    """The folder's label on the curves that folders measured with different tools."""
    keys: dict[tuple[str, Curve, float | None], set[str]] = defaultdict(set)
    for run in runs:
        for cell in run.cells:
            if cell.drawable:
                keys[cell.src, cell.curve, cell.quality].add(cell.row.key)
    twice = {curve for (_, curve, _), found in keys.items() if len(found) > 1}
    marked = []
    for run in runs:
        cells = tuple(
            replace(cell, curve=replace(cell.curve, origin=run.label))
            if cell.curve in twice
            else cell
            for cell in run.cells
        )
        marked.append(replace(run, cells=cells))
    return marked


def _newest(runs: Sequence[RunFolder]) -> list[MeasuredCell]:
    """All cells, of those with one key the newest."""
    if len(runs) == 1:
        return list(runs[0].cells)
    found: dict[tuple[str, str | None], MeasuredCell] = {}
    for cell in (cell for run in runs for cell in run.cells):
        at = cell.row.key, cell.curve.origin
        before = found[at].row.finished_at or "" if at in found else ""
        if before <= (cell.row.finished_at or ""):
            found[at] = cell
    return list(found.values())


def _sweep(
    runs: Sequence[RunFolder],
    pooled: Sequence[PooledCell],
    scale: Scale,
    values: Mapping[str, FrameValues],
) -> Sweep:
    sources = tuple(sorted({cell.source for cell in pooled}))
    curves = tuple(sorted({cell.first.curve for cell in pooled}, key=_order))
    place = {curve: i for i, curve in enumerate(curves)}
    at = {source: i for i, source in enumerate(sources)}
    points = [_point(c, at[c.source], place[c.first.curve]) for c in pooled]
    if scale.name != VMAF:
        points = [
            _moved(point, cell, scale, values) for point, cell in zip(points, pooled, strict=True)
        ]
    points.sort(key=lambda p: (p.source, p.curve, p.kbps if p.quality is None else p.quality))
    group_of = {cell.source: cell.first.row.group for cell in pooled}
    return Sweep(
        name=" + ".join(run.folder.resolve().name for run in runs),
        folders=tuple(run.folder for run in runs),
        sources=sources,
        groups=tuple(group_of[source] for source in sources),
        curves=curves,
        points=tuple(points),
        frames={cell.first.row.key: cell.frames.clipped for cell in pooled if cell.frames},
        failures=(),
        facts=(),
        start_facts=(),
        grid=(),
        source_lines=(),
        notes=(),
        cpu_s=0.0,
        of_curve=_by_curve(points),
        film=_one_film(runs),
        scale=scale,
    )


def _one_film(runs: Sequence[RunFolder]) -> SourceEntry | None:
    """A window of the one file that all are of, prepared alike; None for anything else."""
    sources = [source for run in runs for source in (run.plan.sources if run.plan else ())]
    kinds = {(s.path, s.crop, s.scale, s.deinterlace, s.raw) for s in sources}
    return sources[0] if len(kinds) == 1 and all(run.plan for run in runs) else None


def _by_curve(points: Iterable[Point]) -> Mapping[tuple[int, int], tuple[Point, ...]]:
    found: dict[tuple[int, int], list[Point]] = {}
    for point in points:
        found.setdefault((point.source, point.curve), []).append(point)
    return {at: tuple(some) for at, some in found.items()}


def _order(curve: Curve) -> tuple[int, str, int, str, tuple[int, ...], str]:
    """Encoders as the vocabulary has them, presets from fast to slow, then whatever differs."""
    known = [*VOCABULARY, *ENCODERS]
    place = known.index(curve.encoder) if curve.encoder in known else len(known)
    speed = preset_ordinal(curve.encoder, curve.preset)
    return place, curve.encoder, speed, curve.preset or "", curve.size or (), curve.label


def _moved(
    point: Point, cell: PooledCell, scale: Scale, values: Mapping[str, FrameValues]
) -> Point:
    """A point on another scale than VMAF: its mean, and its worst frame and fifth percentile from
    the worse end.
    """
    held = mean_of(cell.first.row.metrics, scale.name)
    assert held is not None
    mean, worst = held.mean, (held.min, held.p5) if scale.is_better_high else (held.max, held.p95)
    if len(cell.cells) > 1:
        metric = METRICS[scale.name]
        joined = {
            column: [v for c in cell.cells for v in values[c.row.key][column]]
            for column in metric.columns
        }
        mean = metric.pool("mean", joined, 1.0)
        worst = metric.pool("min", joined, 1.0), metric.pool("p5", joined, 1.0)
    known = 0.0 if mean is None else mean
    return replace(
        point, vmaf=known, vmaf_unclipped=known, harmonic=None, lowest=worst[0], p5=worst[1]
    )


def _point(cell: PooledCell, source: int, curve: int) -> Point:
    row = cell.first.row
    vmaf = cell.mean([c.row.vmaf_score for c in cell.cells]) or 0.0
    unclipped = cell.frames.unclipped_mean if cell.frames else None
    cpu_s = cell.total([c.row.encode_cpu_s for c in cell.cells])
    size_bytes = cell.total([c.row.size_bytes for c in cell.cells])
    return Point(
        cell=row.cell if len(cell.cells) == 1 else row.cell.replace(row.src, cell.source, 1),
        source=source,
        curve=curve,
        quality=cell.first.quality,
        kbps=cell.mean([c.row.bitrate_kbps for c in cell.cells]) or 0.0,
        vmaf=vmaf,
        vmaf_unclipped=vmaf if unclipped is None else unclipped,
        harmonic=score(cell, row.vmaf_harmonic_mean, "harmonic"),
        lowest=score(cell, row.vmaf_min, "min"),
        p5=score(cell, row.vmaf_p5, "p5"),
        cpu_s=cpu_s / cell.num_frames if cpu_s and cell.num_frames else None,
        size_bytes=None if size_bytes is None else int(size_bytes),
        num_frames=cell.num_frames,
        fps=cell.first.fps,
        command=cell.first.command,
        key=row.key,
    )
