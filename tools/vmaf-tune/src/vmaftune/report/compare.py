"""Two encoder builds, or two option sets, held against each other on the cells that both measured.

    folder A, folder B --same pictures, setting, value--> pairs of cells --> BD-rate by source,
    its interval over films, ratio of encode times, worst cells

B is judged against A: more than 0% = B needs more bits, a ratio above 1 = B is slower.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import fmean, geometric_mean

import numpy as np
from vmaf_train.errors import DatasetError
from vmaf_train.results.tables import bootstrap

from vmaftune.encoders import ENCODERS
from vmaftune.engine.metric_rows import mean_of
from vmaftune.errors import UsageError
from vmaftune.metrics import VMAF, VMAF_SCALE, Scale, scale_of
from vmaftune.report import bdrate
from vmaftune.report.cells import MeasuredCell
from vmaftune.report.frames import FrameScores, read_frames
from vmaftune.report.read import RunFolder, check_teachers, read_folders, same_names
from vmaftune.report.sweep import Curve

MIN_GROUPS = 3
"""Fewer films than this have no interval: a resample of two says nothing."""
NUM_WORST = 5
NO_OPTIONS = "none"
"""What `--a-options` takes for the cells without an option set."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SharedCell:
    """One source with one setting, measured by both."""

    source: str
    curve: Curve
    quality: float
    a: MeasuredCell
    b: MeasuredCell

    @property
    def same_bits(self) -> bool:
        """True when both encodes are equal as far as their rows tell."""
        one, other = self.a.row, self.b.row
        return (one.size_bytes, one.vmaf_score) == (other.size_bytes, other.vmaf_score)

    @property
    def slowdown(self) -> float | None:
        """Time of B over time of A: CPU time, or wall time where a GPU encodes; None = unknown."""
        encoder = ENCODERS.get(self.curve.encoder)
        on_gpu = encoder is not None and encoder.kind is not None
        one, other = self.a.row, self.b.row
        before = one.encode_wall_s if on_gpu else one.encode_cpu_s
        after = other.encode_wall_s if on_gpu else other.encode_cpu_s
        return after / before if before and after else None


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceRate:
    """BD-rate of B against A on one source with one setting; None, and `reason` says why."""

    source: str
    group: str
    setting: str
    percent: float | None
    reason: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class WorstCell:
    """A cell where B costs most: `percent` more bits than A's curve asks for B's own VMAF."""

    source: str
    setting: str
    quality: float
    percent: float
    vmaf_difference: float
    kbps_a: float
    kbps_b: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """B against A. `mean` is over the films that have a BD-rate, `low`..`high` its 95% interval
    from resampling them; None where there is none. `slowdown` is the geometric mean over cells.
    """

    a: str
    b: str
    num_cells: int
    num_same: int
    rates: tuple[SourceRate, ...]
    mean: float | None
    low: float | None
    high: float | None
    num_groups: int
    slowdown: float | None
    worst: tuple[WorstCell, ...]
    tools: tuple[str, ...]
    label: str = VMAF_SCALE.label
    digits: int = VMAF_SCALE.digits

    @property
    def verdict(self) -> str:
        """What the interval says, in a word or two."""
        if self.num_same == self.num_cells:
            return "the same bits"
        if self.low is None or self.high is None:
            return "too few films to tell"
        if self.low > 0:
            return "B needs more bits"
        return "B needs fewer bits" if self.high < 0 else "no difference that these films can tell"


def compare_folders(
    a: Path,
    b: Path,
    a_options: str | None = None,
    b_options: str | None = None,
    *,
    metric: str = VMAF,
) -> Comparison:
    """B against A on the cells they share; bits are for the same VMAF, or for the same value of
    another metric that both measured.

    `a_options` and `b_options` choose one option set of each (`none` = the cells without one); when
    not given, sets of the same name are compared. Raises UsageError for one folder twice without
    them, DatasetError for folders that share no cell or were scored by different VMAF models.
    """
    if a.resolve() == b.resolve() and a_options == b_options:
        raise UsageError(
            f"{a} is compared with itself; name two folders, or two option sets with --a-options"
            " and --b-options"
        )
    runs = same_names(read_folders([a, b]))
    check_teachers(runs)
    named = a_options is not None or b_options is not None
    before = _chosen(runs[0], a_options, named)
    after = _chosen(runs[1], b_options, named)
    shared = [_shared(at, before[at], after[at]) for at in before if at in after]
    scale = scale_of(metric)
    if shared and scale.name != VMAF:
        shared = [cell for cell in shared if _has(cell.a, scale) and _has(cell.b, scale)]
        if not shared:
            raise UsageError(
                f"{a} and {b} share no cell that both measured with {scale.name}; measure it with"
                f" `vmaf-tune corpus --metrics {scale.name}`"
            )
    if not shared:
        raise DatasetError(
            f"{a} and {b} share no cell: no source with the same pictures was encoded with the"
            " same encoder, preset and quality value in both"
        )
    return _compared(runs, sorted(shared, key=_place), scale)


_At = tuple[str, Curve, float]


def _chosen(run: RunFolder, options: str | None, named: bool) -> dict[_At, MeasuredCell]:
    """The run's finished cells by what both sides must share."""
    found: dict[_At, MeasuredCell] = {}
    wanted = None if options in (None, NO_OPTIONS) else options
    for cell in run.cells:
        if not cell.drawable or cell.quality is None:
            continue
        if named and cell.curve.options != wanted:
            continue
        name = None if named else cell.curve.options
        curve = replace(cell.curve, options=name, arguments=(), knob="")
        found[cell.src, curve, cell.quality] = cell
    if named and not found:
        raise UsageError(f"{run.folder} holds no finished cell with the option set {options}")
    return found


def _shared(at: _At, a: MeasuredCell, b: MeasuredCell) -> SharedCell:
    return SharedCell(source=at[0], curve=at[1], quality=at[2], a=a, b=b)


def _place(cell: SharedCell) -> tuple[str, str, float]:
    return cell.source, cell.curve.label, cell.quality


def _has(cell: MeasuredCell, scale: Scale) -> bool:
    return _score(cell, scale) is not None


def _score(cell: MeasuredCell, scale: Scale) -> float | None:
    """The cell's value on a scale; VMAF as the corpus holds it."""
    if scale.name == VMAF:
        return cell.row.vmaf_score
    held = mean_of(cell.row.metrics, scale.name)
    return held.mean if held is not None else None


def _compared(runs: Sequence[RunFolder], shared: Sequence[SharedCell], scale: Scale) -> Comparison:
    frames = [
        read_frames(runs[0].folder, {cell.a.row.key for cell in shared}),
        read_frames(runs[1].folder, {cell.b.row.key for cell in shared}),
    ]
    curves: dict[tuple[str, Curve], list[SharedCell]] = defaultdict(list)
    for cell in shared:
        curves[cell.source, cell.curve].append(cell)
    rates = [_rate(cells, frames, scale) for cells in curves.values()]
    means = _group_means(rates)
    low, high = _interval(means)
    times = [cell.slowdown for cell in shared if cell.slowdown]
    worst = [found for cells in curves.values() for found in _excesses(cells, scale)]
    worst.sort(key=lambda cell: cell.percent, reverse=True)
    return Comparison(
        a=runs[0].label,
        b=runs[1].label,
        num_cells=len(shared),
        num_same=sum(cell.same_bits for cell in shared),
        rates=tuple(rates),
        mean=fmean(means) if means else None,
        low=low,
        high=high,
        num_groups=len(means),
        slowdown=geometric_mean(times) if times else None,
        worst=tuple(worst[:NUM_WORST]),
        tools=_tools(shared),
        label=scale.label,
        digits=scale.digits,
    )


def _rate(
    cells: Sequence[SharedCell], frames: Sequence[Mapping[str, FrameScores]], scale: Scale
) -> SourceRate:
    first = cells[0]
    found = bdrate.compare(
        bdrate.rate_curve(_points((cell.b for cell in cells), frames[1], scale)),
        bdrate.rate_curve(_points((cell.a for cell in cells), frames[0], scale)),
        scale,
    )
    return SourceRate(
        source=first.source,
        group=first.a.row.group,
        setting=first.curve.label,
        percent=found.percent,
        reason=found.reason,
    )


def _points(
    cells: Iterable[MeasuredCell], frames: Mapping[str, FrameScores], scale: Scale
) -> list[tuple[float, float]]:
    """(kbit/s, value times the scale's sign) of the cells; of VMAF unclipped means, where the
    frames have them.
    """
    found = []
    for cell in cells:
        scores = frames.get(cell.row.key)
        unclipped = scores.unclipped_mean if scores and scale.name == VMAF else None
        value = _score(cell, scale) if unclipped is None else unclipped
        found.append((cell.row.bitrate_kbps or 0.0, scale.sign * (value or 0.0)))
    return found


def _group_means(rates: Sequence[SourceRate]) -> list[float]:
    """Mean BD-rate of each film: its windows and settings are not independent evidence."""
    groups: dict[str, list[float]] = defaultdict(list)
    for rate in rates:
        if rate.percent is not None:
            groups[rate.group].append(rate.percent)
    return [fmean(values) for values in groups.values()]


def _interval(means: Sequence[float]) -> tuple[float | None, float | None]:
    if len(means) < MIN_GROUPS:
        return None, None
    return bootstrap(np.array(means))


def _excesses(cells: Sequence[SharedCell], scale: Scale) -> Iterable[WorstCell]:
    """How many bits more than A's own curve each of B's cells needs for the quality it has."""
    curve = [
        (scale.sign * (_score(cell.a, scale) or 0.0), cell.a.row.bitrate_kbps or 0.0)
        for cell in cells
    ]
    logs = [(value, math.log(kbps)) for value, kbps in sorted(curve, reverse=True) if kbps > 0]
    for cell in cells:
        value, kbps = _score(cell.b, scale) or 0.0, cell.b.row.bitrate_kbps or 0.0
        needed = bdrate.between(logs, scale.sign * value)
        if needed is not None and kbps > 0:
            yield WorstCell(
                source=cell.source,
                setting=cell.curve.label,
                quality=cell.quality,
                percent=100 * math.expm1(math.log(kbps) - needed),
                vmaf_difference=value - (_score(cell.a, scale) or 0.0),
                kbps_a=cell.a.row.bitrate_kbps or 0.0,
                kbps_b=kbps,
            )


def _tools(shared: Sequence[SharedCell]) -> tuple[str, ...]:
    """What differs between the tools of A and B, as sentences' parts."""
    found = []
    for name, words in (
        ("ffmpeg_version", "ffmpeg"),
        ("libvmaf_version", "libvmaf"),
        ("threads", "threads per encode"),
        ("host", "host"),
        ("device", "device"),
    ):
        before = {getattr(cell.a.row, name) for cell in shared}
        after = {getattr(cell.b.row, name) for cell in shared}
        if before != after:
            found.append(f"{words}: {_listed(before)} in A, {_listed(after)} in B")
    for encoder in dict.fromkeys(cell.curve.encoder for cell in shared):
        mine = [cell for cell in shared if cell.curve.encoder == encoder]
        before = {cell.a.row.encoder_version for cell in mine}
        after = {cell.b.row.encoder_version for cell in mine}
        if before != after:
            found.append(f"{encoder}: {_listed(before)} in A, {_listed(after)} in B")
    return tuple(found)


def _listed(values: Iterable[object]) -> str:
    return ", ".join(sorted(str(value) for value in values if value is not None)) or "not known"


def missed(found: Comparison, max_bd_rate: float | None, max_slowdown: float | None) -> list[str]:
    """The limits that B does not keep, a sentence's part each; empty when it keeps all.

    `max_bd_rate` is in percent, `max_slowdown` a ratio. What cannot be judged is not kept.
    """
    parts = []
    if max_bd_rate is not None and found.mean is None:
        parts.append("no source has a BD-rate to hold against --max-bd-rate")
    if max_bd_rate is not None and found.mean is not None and found.mean > max_bd_rate:
        parts.append(f"B needs {found.mean:+.2f}% bits, the limit is {max_bd_rate:+g}%")
    if max_slowdown is not None and found.slowdown is None:
        parts.append("no times are known to hold against --max-slowdown")
    if max_slowdown is not None and found.slowdown is not None and found.slowdown > max_slowdown:
        parts.append(
            f"B takes {found.slowdown:.2f} times as long, the limit is {max_slowdown:g} times"
        )
    return parts
