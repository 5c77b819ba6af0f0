"""A training run before the gate: the run, the corpus it names, and what both say."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import pandas as pd

from vmaf_train.contract import MODELS, ModelContract
from vmaf_train.corpus import several
from vmaf_train.corpus.dataset import Dataset
from vmaf_train.corpus.folds import LOSO
from vmaf_train.errors import DatasetError
from vmaf_train.results import tables
from vmaf_train.results.run_folder import Run
from vmaf_train.results.tables import Spread
from vmaf_train.teacher import Teacher


@dataclass(frozen=True, slots=True, kw_only=True)
class PartFacts:
    """What a sidecar says of one of several corpora."""

    path: str
    digest: str
    frame_digest: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class CorpusFacts:
    """What a sidecar says of the corpus. `sources`: sha256 of the source files, by group;
    `corpora`: the single ones, where there are several; `kinds`: the rows with sizes, options or
    caps that were asked for.
    """

    path: str = ""
    digest: str = ""
    frame_digest: str | None = None
    num_rows: int = 0
    num_groups: int = 0
    sources: dict[str, tuple[str, ...]] | None = None
    corpora: tuple[PartFacts, ...] = ()
    kinds: tuple[str, ...] = ()

    @property
    def paths(self) -> tuple[str, ...]:
        """The corpora as the run named them."""
        return tuple(part.path for part in self.corpora) or (self.path,)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Case:
    """`data` are the rows that the model learned from, None where `missing` says why not.

    `cells` and `frames` are the same corpus by cell and by frame; `frames` is None where training
    used none.
    """

    run: Run
    contract: ModelContract
    told: CorpusFacts
    data: Dataset | None
    cells: Dataset | None
    frames: Dataset | None
    missing: str
    teacher: Teacher | None

    @property
    def held_out(self) -> pd.DataFrame:
        """The leave-one-source-out predictions."""
        return self.run.predictions[self.run.predictions["scheme"] == LOSO]


def open_case(run: Run, teacher: Teacher | None) -> Case:
    """`run` with its corpus, wherever that is; what is missing is no error here."""
    contract, told = MODELS[run.model_id], facts_of(run.sidecar)
    data = cells = frames = None
    missing = ""
    try:
        paths = [find_corpus(path, run.path) for path in told.paths]
        wants_frames = contract.unit == "frame" or told.frame_digest is not None
        kinds = told.kinds
        cells = several.load(paths, per_frame=False, kinds=kinds)
        frames = several.load(paths, per_frame=True, kinds=kinds) if wants_frames else None
        data = frames if contract.unit == "frame" else cells
    except DatasetError as failure:
        missing = str(failure)
    return Case(
        run=run,
        contract=contract,
        told=told,
        data=data,
        cells=cells,
        frames=frames,
        missing=missing,
        teacher=teacher,
    )


def facts_of(sidecar: Mapping[str, Any]) -> CorpusFacts:
    """The sidecar's word on its corpus; empty where that has another form."""
    try:
        return msgspec.convert(sidecar.get("corpus") or {}, CorpusFacts)
    except msgspec.ValidationError:
        return CorpusFacts()


def find_corpus(named: str, beside: Path) -> Path:
    """Where the corpus `named` by a run or model lies now.

    Its path is relative to where training was started, which is above the run's folder unless
    --runs-dir moved it. Raises DatasetError when it is not here.
    """
    if not named:
        raise DatasetError("the run does not say which corpus it learned from")
    roots = [Path(), *beside.resolve().parents]
    found = next((root / named for root in roots if (root / named).exists()), None)
    if found is None:
        raise DatasetError(f"the corpus {named} is not here")
    return found


class Means:
    """Held-out metrics of each prediction column, computed once."""

    def __init__(self, held_out: pd.DataFrame) -> None:
        self._held_out = held_out
        self._tables: dict[str, pd.DataFrame] = {}

    def table(self, column: str) -> pd.DataFrame:
        """Metrics of a column for each group and seed."""
        if column not in self._tables:
            self._tables[column] = tables.group_table(self._held_out, column)
        return self._tables[column]

    def spread(self, column: str, metric: str) -> Spread | None:
        """A metric of a column over groups and seeds."""
        return tables.spread(self.table(column), metric)

    def mean(self, column: str, metric: str) -> float | None:
        """None when the column is absent or has gaps."""
        try:
            found = self.spread(column, metric) if column in self._held_out else None
        except DatasetError:
            return None
        return found.mean if found else None

    def by_group(self) -> dict[str, float]:
        """The model's RMSE of each group, seeds averaged."""
        table = tables.over_seeds(self.table(tables.MODEL))
        return {str(g): float(v) for g, v in zip(table["group"], table["rmse"], strict=True)}

    def figures(self) -> dict[str, float]:
        """The model's mean metrics, those that have a value."""
        found = {name: self.mean(tables.MODEL, name) for name in ("plcc", "srocc", "rmse", "mae")}
        return {name: value for name, value in found.items() if value is not None}
