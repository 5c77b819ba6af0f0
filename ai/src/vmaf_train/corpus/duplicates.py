"""Groups that show the same pictures, found by their motion.

motion2 of a frame depends on the reference alone: it is the same in all encodes of a window, and a
clip that was remuxed, renamed or cut elsewhere keeps it. Two groups of one clip make a held-out
figure worthless, because what one fold holds out another row of its training shows.

Measured on the 18 windows of the committed corpus: unrelated windows share at most 2.6% of their
values.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path

import numpy as np

from vmaf_train.contract import feature_value
from vmaf_train.corpus.dataset import Dataset, Floats, corpus_files
from vmaf_train.corpus.frames import read_frames, to_rows
from vmaf_train.corpus.records import holds_frames
from vmaf_train.corpus.rows import Row, cell_name, read_rows, source

MIN_VALUES = 10
"""Distinct values other than 0 that a window must have to be judged."""
MAX_SHARED = 0.5
"""Share of the smaller window's distinct values that two groups may have in common."""
MAX_CORRELATION = 0.99
MEANS_WITHIN = 0.05
"""Another encode of a clip moves its motion by noise: the means stay within this share."""
MIN_OVERLAP = 0.5
"""Of the shorter window, when one is moved along the other: short overlaps agree by chance."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Twins:
    """Two groups that show the same pictures, by one window of each. `why` is half a sentence."""

    first: str
    second: str
    why: str

    @property
    def sentence(self) -> str:
        """What to tell, and what to do about it."""
        return (
            f"the groups {self.first} and {self.second} show the same pictures ({self.why}): a fold"
            " that holds one out trains on the other; give both the same group"
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Likeness:
    """What was found: `twins`, and the windows (`src`) with too little motion to be judged."""

    twins: tuple[Twins, ...]
    unjudged: tuple[str, ...]

    @property
    def note(self) -> str | None:
        """What was not judged, as a sentence; None where all was."""
        if not self.unjudged:
            return None
        return (
            f"{', '.join(self.unjudged)}: fewer than {MIN_VALUES} different values of motion2, so"
            " nobody can tell whether the pictures are those of another group"
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Windows:
    """The windows of a corpus: the group of each, the mean of its motion2, and the motion2 of its
    frames where the corpus has frames.
    """

    groups: Mapping[str, str]
    means: Mapping[str, float | None]
    series: Mapping[str, Floats] | None


def find_in(data: Dataset) -> Likeness:
    """As `find`, of all the corpora that `data` was read from. Raises as `find`."""
    if not data.parts:
        return find(data.path)
    groups: dict[str, str] = {}
    means: dict[str, float | None] = {}
    series: dict[str, Floats] = {}
    all_have_frames = True
    for part in data.parts:
        found = _windows(part.path)
        names = {name: f"{name} of {part.path}" for name in found.groups}
        groups |= {names[name]: part.groups.get(g, g) for name, g in found.groups.items()}
        means |= {names[name]: mean for name, mean in found.means.items()}
        series |= {names[name]: values for name, values in (found.series or {}).items()}
        all_have_frames &= found.series is not None
    return compare(series, groups) if all_have_frames else _compare_means(means, groups)


def find(path: Path | str) -> Likeness:
    """Compare the windows of different groups in the corpus at `path`, by one cell of each window.

    A corpus without frame rows is compared by the mean of motion2, which finds the same cut of the
    same clip and nothing else. Raises DatasetError for a corpus that cannot be read.
    """
    windows = _windows(path)
    if windows.series is None:
        return _compare_means(windows.means, windows.groups)
    return compare(windows.series, windows.groups)


def _windows(path: Path | str) -> _Windows:
    file, *beside = corpus_files(path)
    table = [row for _, row in read_rows(file)]
    names = [(source(row), row.get("group")) for row in table]
    groups = {src: str(group or src) for src, group in names}
    if not table or holds_frames(table[0]):
        bare = _series(table, source)
        means: dict[str, float | None] = {src: float(v.mean()) for src, v in bare.items()}
        return _Windows(groups=groups, means=means, series=bare)
    chosen = _one_cell_each(table)
    means = {src: _mean(row) for src, row in chosen.items()}
    if not beside:
        return _Windows(groups=groups, means=means, series=None)
    name_of = {str(row["key"]): src for src, row in chosen.items()}
    frames = to_rows(read_frames(beside, frozenset(name_of)))
    series = _series(frames, lambda row: name_of[str(row["key"])])
    none = dict.fromkeys(groups, np.empty(0))
    return _Windows(groups=groups, means=means, series=none | series)


def _one_cell_each(table: Iterable[Row]) -> dict[str, Row]:
    """The ok cell with the smallest key of each source, when it has a key."""
    chosen: dict[str, Row] = {}
    for row in table:
        src, known = source(row), chosen.get(source(row))
        usable = (row.get("status") or "ok") == "ok" and _mean(row) is not None and row.get("key")
        if usable and (known is None or str(row["key"]) < str(known["key"])):
            chosen[src] = row
    return chosen


def _mean(row: Row) -> float | None:
    nested = row.get("per_frame_features")
    return feature_value(nested if isinstance(nested, dict) else row, "motion2")


def _series(rows: Iterable[Row], name_of: Callable[[Row], str]) -> dict[str, Floats]:
    """motion2 by frame of the first key of each name."""
    found: dict[str, dict[str, list[tuple[int, float]]]] = {}
    for at, row in enumerate(rows):
        value = feature_value(row, "motion2")
        if value is None:
            continue
        key = str(row.get("key") or cell_name(row))
        index = row.get("frame_index")
        of_key = found.setdefault(name_of(row), {}).setdefault(key, [])
        of_key.append((at if index is None else int(index), value))
    return {
        name: np.array([value for _, value in sorted(of_name[min(of_name)])])
        for name, of_name in found.items()
    }


def _compare_means(means: Mapping[str, float | None], groups: Mapping[str, str]) -> Likeness:
    known = {name: mean for name, mean in sorted(means.items()) if mean}
    twins = [
        _twins(groups[a], groups[b], "their mean motion2 is exactly the same")
        for a, b in combinations(known, 2)
        if groups[a] != groups[b] and np.isclose(known[a], known[b], rtol=1e-9, atol=0)
    ]
    return Likeness(twins=_each_once(twins), unjudged=tuple(sorted(set(means) - set(known))))


def compare(motion: Mapping[str, Floats], groups: Mapping[str, str]) -> Likeness:
    """`motion`: motion2 of each window's frames in order, by its name; `groups`: whose each is."""
    values = {name: _distinct(series) for name, series in motion.items()}
    judged = sorted(name for name, found in values.items() if len(found) >= MIN_VALUES)
    twins = []
    for a, b in combinations(judged, 2):
        if groups[a] == groups[b]:
            continue
        why = _shared(values[a], values[b]) or _alike(motion[a], motion[b])
        if why:
            twins.append(_twins(groups[a], groups[b], why))
    return Likeness(twins=_each_once(twins), unjudged=tuple(sorted(set(values) - set(judged))))


def _each_once(twins: Iterable[Twins]) -> tuple[Twins, ...]:
    return tuple({(pair.first, pair.second): pair for pair in reversed(list(twins))}.values())


def _twins(a: str, b: str, why: str) -> Twins:
    first, second = sorted((a, b))
    return Twins(first=first, second=second, why=why)


def _distinct(series: Floats) -> frozenset[float]:
    return frozenset(float(value) for value in series if value != 0)


def _shared(a: frozenset[float], b: frozenset[float]) -> str | None:
    share = len(a & b) / min(len(a), len(b))
    return f"{share:.0%} of their motion2 values are the same" if share > MAX_SHARED else None


def _alike(a: Floats, b: Floats) -> str | None:
    """Whether one series, moved along the other, follows it as another encode of the clip would."""
    if len(a) > len(b):
        a, b = b, a
    least = max(MIN_VALUES, int(np.ceil(MIN_OVERLAP * len(a))))
    for offset in range(least - len(a), len(b) - least + 1):
        x = a[max(0, -offset) : len(b) - offset]
        y = b[max(0, offset) : max(0, offset) + len(x)]
        if _follows(x, y):
            return "their motion2 runs alike, as in two encodes of one clip"
    return None


def _follows(x: Floats, y: Floats) -> bool:
    mean_x, mean_y = float(x.mean()), float(y.mean())
    if abs(mean_x - mean_y) > MEANS_WITHIN * max(mean_x, mean_y):
        return False
    x, y = x - mean_x, y - mean_y
    size = float(np.sqrt((x @ x) * (y @ y)))
    return size > 0 and float(x @ y) / size > MAX_CORRELATION
