"""Check 3a of the gate: the candidate against what is shipped, on sources that neither has seen.

On one corpus both have held-out figures of the same rows. On two, each model is put to the groups
of the other's corpus that it was not trained on, told by the digests of their source files, and
compared with what the other gave for them held out.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from vmaf_train.corpus import several
from vmaf_train.corpus.dataset import Dataset
from vmaf_train.errors import DatasetError, ModelError
from vmaf_train.results import tables
from vmaf_train.results.run_folder import CANDIDATE
from vmaf_train.shipping import predictor, registry
from vmaf_train.shipping.case import Case, CorpusFacts, Means, facts_of, find_corpus
from vmaf_train.shipping.predictor import Predictor
from vmaf_train.shipping.verdict import Check, at_most, must, told

MAX_RMSE_LOSS = 0.1
NAME = "mean RMSE minus the incumbent's"


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Incumbent:
    """The shipped model of the candidate's id. `corpus` is None where it is not here unchanged."""

    file: str
    data: bytes
    sidecar: Mapping[str, Any]
    facts: CorpusFacts
    corpus: Dataset | None

    @property
    def sources(self) -> frozenset[str] | None:
        """Digests of the source files that it was trained on; None where nobody knows."""
        found = self.facts.sources or (self.corpus.sources if self.corpus else None)
        return _digests(found) if found else None

    def by_group(self) -> dict[str, float]:
        """Its held-out RMSE of each group of its own corpus, as its sidecar tells it."""
        rows = (self.sidecar.get("loso") or {}).get("table") or []
        return {str(row["group"]): float(row["rmse"]) for row in rows}


def against(case: Case, model_dir: Path, means: Means, accepted: str | None) -> Iterator[Check]:
    """The checks that compare `case` with the model it would replace."""
    found = _incumbent(case, model_dir)
    if found is None:
        yield told(3, NAME, None, "no model of this id is shipped yet", f"<= {MAX_RMSE_LOSS:g}")
        return
    theirs, ours = found.sidecar.get("teacher"), case.run.sidecar.get("teacher")
    problem = f"{found.file} imitates {theirs}, this one {ours}: another model, under its name"
    yield must(3, "the incumbent's teacher", None if theirs == ours else problem)
    if _same_rows(found.facts, case.told):
        yield _same_corpus(found, means)
        return
    yield from _other_corpus(case, found, means, accepted)


def _incumbent(case: Case, model_dir: Path) -> Incumbent | None:
    shipped = registry.load(model_dir)
    entry = shipped.find(case.contract.id)
    if entry is None:
        return None
    pair = registry.read_pair(shipped.folder, entry)
    sidecar: dict[str, Any] = json.loads(pair.sidecar)
    facts = facts_of(sidecar)
    return Incumbent(
        file=entry.file,
        data=pair.data,
        sidecar=sidecar,
        facts=facts,
        corpus=_its_corpus(facts, case, model_dir),
    )


def _same_rows(theirs: CorpusFacts, ours: CorpusFacts) -> bool:
    return theirs.digest == ours.digest and set(theirs.kinds) == set(ours.kinds)


def _its_corpus(facts: CorpusFacts, case: Case, model_dir: Path) -> Dataset | None:
    """The incumbent's corpus, where it is here with the rows it was trained on."""
    if _same_rows(facts, case.told):
        return case.data
    try:
        paths = [find_corpus(path, model_dir / "tiny") for path in facts.paths]
        per_frame = case.contract.unit == "frame"
        data = several.load(paths, per_frame=per_frame, kinds=facts.kinds)
    except DatasetError:
        return None
    return data if data.digest == facts.digest else None


def _same_corpus(found: Incumbent, means: Means) -> Check:
    theirs = ((found.sidecar.get("gate") or {}).get("figures") or {}).get("rmse")
    ours = means.mean(tables.MODEL, "rmse")
    if theirs is None or ours is None:
        return must(3, NAME, f"{found.file} has no recorded held-out RMSE, or this run has none")
    return at_most(3, NAME, ours - theirs, MAX_RMSE_LOSS, f"{found.file}: {theirs:.4f}")


def _other_corpus(
    case: Case, found: Incumbent, means: Means, accepted: str | None
) -> Iterator[Check]:
    compared = [*_on_ours(case, found, means), *_on_theirs(case, found)]
    if compared:
        yield from compared
        return
    why = f"{found.file} has another corpus, and there is no group that only one of them has seen"
    if accepted:
        yield told(3, NAME, None, f"{why}; accepted: {accepted}", f"<= {MAX_RMSE_LOSS:g}")
    else:
        yield must(3, NAME, f'{why}; --accept-incomparable "reason" ships it all the same')


def _on_ours(case: Case, found: Incumbent, means: Means) -> Iterator[Check]:
    """The incumbent on this corpus's groups that it has not seen, against this run held out."""
    if case.data is None or found.sources is None:
        return
    groups = _unseen(case.data, found.sources)
    if not groups:
        return
    model = _model(case.contract.id, found.data, found.sidecar)
    theirs = _errors(model, case.data, groups)
    mine = means.by_group()
    ours = [mine[group] for group in groups if group in mine]
    if model is None or len(ours) != len(groups):
        return
    yield _difference("on groups new to it", float(np.mean(ours)) - theirs, groups, found.file)


def _on_theirs(case: Case, found: Incumbent) -> Iterator[Check]:
    """The candidate on the incumbent's groups that it has not seen, against the incumbent's."""
    if case.data is None or found.corpus is None:
        return
    groups = _unseen(found.corpus, _digests(case.data.sources))
    known = found.by_group()
    if not groups or not set(groups) <= set(known):
        return
    model = _candidate(case)
    if model is None:
        return
    ours = _errors(model, found.corpus, groups)
    theirs = float(np.mean([known[group] for group in groups]))
    yield _difference("on its own groups", ours - theirs, groups, found.file)


def _difference(where: str, value: float, groups: list[str], file: str) -> Check:
    note = f"{file}, {len(groups)} groups that only one has seen: {', '.join(groups)}"
    return at_most(3, f"{NAME} {where}", value, MAX_RMSE_LOSS, note)


def _unseen(data: Dataset, sources: frozenset[str]) -> list[str]:
    """Groups of `data` of which every source file is known and none is among `sources`."""
    return [
        group for group, digests in data.sources.items() if digests and not set(digests) & sources
    ]


def _digests(sources: Mapping[str, tuple[str, ...]]) -> frozenset[str]:
    return frozenset(digest for found in sources.values() for digest in found)


def _candidate(case: Case) -> Predictor | None:
    try:
        data = (case.run.path / CANDIDATE).read_bytes()
    except OSError:
        return None
    return _model(case.contract.id, data, case.run.sidecar)


def _model(model_id: str, data: bytes, sidecar: Mapping[str, Any]) -> Predictor | None:
    try:
        return predictor.from_pair(model_id, data, sidecar, "cpu")
    except ModelError:
        return None


def _errors(model: Predictor | None, data: Dataset, groups: list[str]) -> float:
    """Mean over groups of the RMSE; NaN, which no limit lets pass, without a model."""
    if model is None:
        return float("nan")
    answers = model.predict(data.features, data.codec if model.contract.has_codec else None)
    off = (answers - data.y) ** 2
    return float(np.mean([np.sqrt(off[data.group == group].mean()) for group in groups]))
