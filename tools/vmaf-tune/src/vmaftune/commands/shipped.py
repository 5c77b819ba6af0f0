"""What a shipped model has to show of itself: the evidence in its sidecar, for a clone that holds
no training run; and the sentence for a word that is no model.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
from vmaf_train.errors import ModelError, no_model
from vmaf_train.shipping import registry

from vmaftune import console
from vmaftune.errors import UsageError

if TYPE_CHECKING:
    from vmaf_train.shipping.registry import EntryFiles


def require_model(word: str) -> None:
    """Raise UsageError where `word` is the id of no model, with the nearest one."""
    if word not in registry.KIND_OF:
        raise UsageError(no_model(word, registry.IDS))


def pair_of(model: str, model_dir: Path) -> EntryFiles | None:
    """The shipped files of `model`; None where none was shipped. Raises ModelError for damage."""
    try:
        shelf = registry.load(model_dir)
    except ModelError:
        if (model_dir / registry.TINY / registry.REGISTRY).exists():
            raise
        return None
    entry = shelf.find(model)
    return registry.read_pair(shelf.folder, entry) if entry else None


def show(pair: EntryFiles, runs_dir: Path, *, as_json: bool) -> None:
    """The held-out figures that were shipped with the model, as `eval` of its run shows them."""
    sidecar = json.loads(pair.sidecar)
    if as_json:
        facts = {"model_id": pair.entry.id, "sha256": pair.entry.sha256}
        console.json_document({"shipped": pair.entry.file, **facts, "loso": sidecar["loso"]})
        return
    console.say(
        f"no training run of {pair.entry.id} lies under {runs_dir}; this is what was shipped with"
        f" {pair.entry.file} at {pair.promotion.at}"
    )
    if pair.entry.kind is registry.PRIOR:
        _show_prior(sidecar["loso"])
    else:
        _show_network(sidecar["loso"])
    console.out(pair.entry.description)


def _show_network(loso: dict[str, object]) -> None:
    from vmaf_train.results import card

    title = f"one {loso['held_out']} held out at a time"
    console.table(title, (str(loso["held_out"]), *card.MODEL_COLUMNS), card.model_rows(loso))
    columns = ("predictor", *card.PREDICTOR_COLUMNS)
    console.table(f"{title}: all predictors", columns, card.predictor_rows(loso))


def _show_prior(loso: object) -> None:
    from vmaf_train.results import prior_run

    found = msgspec.convert(loso, dict[str, dict[str, float]])
    for statistic, figures in found.items():
        title = f"one source held out at a time: {statistic}, VMAF points"
        console.table(title, prior_run.COLUMNS, prior_run.table(figures))
        console.say(prior_run.sentence(figures))
