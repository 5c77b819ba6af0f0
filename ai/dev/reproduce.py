"""Train the shipped models again from the committed corpus and compare: `python
ai/dev/reproduce.py`.

Recipe, seeds and corpus come from each model's sidecar. The same machine and packages give the same
figures; another processor rounds otherwise: `vmaf_train.training.retrain` says how far that may go
and what the limits rest on. `--candidate` trains the shipped network alone, without the folds, and
compares what it answers for the rows stored in the sidecar.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from vmaf_train.contract import MODELS
from vmaf_train.corpus import dataset
from vmaf_train.corpus.folds import LOSO
from vmaf_train.errors import ModelError, TrainError
from vmaf_train.results.card import COLUMN_NAMES
from vmaf_train.results.tables import MODEL, summary
from vmaf_train.shipping import registry
from vmaf_train.training.experiment import held_out, train_all
from vmaf_train.training.retrain import Figure, experiment_of, recipe_of, tolerance
from vmaf_train.training.train import predict
from vmaftune.media.teacher import load_or_reason

EXACT = 1e-6
ANSWER_TOLERANCE = 5.0
"""Largest difference of one answer, over the shipped mean RMSE."""
PARTS = ("mean", "worst_mean")


def reproduce(model_id: str, model_dir: Path, *, candidate: bool) -> Iterator[Figure]:
    """Train `model_id` as its sidecar says, and compare.

    Raises ModelError when the model is not shipped or was trained on other rows than its corpus
    holds now.
    """
    shelf = registry.load(model_dir)
    sidecar = json.loads(registry.read_pair(shelf.folder, shelf.entry(model_id)).sidecar)
    recipe = recipe_of(sidecar["recipe"])
    recorded = sidecar["corpus"]
    path = Path(recorded["path"])
    kinds = recorded.get("kinds", ())
    data = dataset.load(path, per_frame=recipe.per_frame, kinds=kinds)
    shipped = sidecar["loso"]["metrics"]
    num_seeds = next(spread["num_seeds"] for spread in shipped[MODEL].values() if spread)
    experiment = experiment_of(recipe, data, loso=not candidate, num_seeds=num_seeds)
    experiment = replace(experiment, teacher=load_or_reason(None)[0])
    frame_digest = (experiment.frames or data).frame_digest
    if data.digest != recorded["digest"] or recorded["frame_digest"] not in (None, frame_digest):
        raise ModelError(
            f"{path} holds other rows than {model_id} was trained on; take both from one commit"
        )
    networks = train_all(experiment)
    if candidate:
        rows = sidecar["self_test"]
        codec = np.array(rows["codec"]) if recipe.has_codec else None
        again = predict(networks[0], np.array(rows["features"]), codec)
        worst = int(np.argmax(np.abs(again - np.array(rows["score"]))))
        limit = ANSWER_TOLERANCE * shipped[MODEL]["rmse"]["mean"]
        yield Figure(
            model_id=model_id,
            name="answer",
            shipped=rows["score"][worst],
            again=float(again[worst]),
            tolerance=limit,
        )
        return
    again_all = summary(held_out(experiment, networks))[LOSO]["metrics"]
    for column, metric, i in figures_of(shipped):
        before, found = shipped[column][metric][PARTS[i]], again_all[column][metric]
        yield Figure(
            model_id=model_id,
            name=f"{COLUMN_NAMES[column]} {metric}{' of the worst source' if i else ''}",
            shipped=before,
            again=found[PARTS[i]] if found else float("nan"),
            tolerance=tolerance(metric, before, i),
        )


def figures_of(shipped: Mapping[str, Any]) -> Iterator[tuple[str, str, int]]:
    """Column, metric and index into PARTS of what is compared: all of the model's, and the RMSE of
    its baselines.
    """
    for column, spreads in shipped.items():
        for metric, spread in spreads.items():
            if spread and (column == MODEL or metric == "rmse"):
                yield from ((column, metric, i) for i in range(len(PARTS)))


def networks(model_dir: Path) -> list[str]:
    """The shipped networks. The prior is no network: its gate fits it again each time it ships."""
    return [e.id for e in registry.load(model_dir).entries if e.kind is registry.FR]


def main(argv: Sequence[str] | None = None) -> int:
    """Print a line per figure. 0: all within tolerance (with --exact: within 1e-6); 1: not, or it
    could not be tried.
    """
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "models", nargs="*", metavar="MODEL", help="ids; all that are shipped without one"
    )
    parser.add_argument(
        "--candidate",
        action="store_true",
        help="the shipped network alone: no folds, a fraction of the time",
    )
    parser.add_argument("--exact", action="store_true", help=f"demand {EXACT:g} of every figure")
    parser.add_argument("--model-dir", type=Path, default=Path("model"))
    options = parser.parse_args(argv)
    held = True
    try:
        ids = options.models or networks(options.model_dir)
        if not ids:
            raise ModelError(
                f"{options.model_dir} holds no model yet: {', '.join(MODELS)} wait for `vmaf-tune"
                " ship`"
            )
        for model_id in ids:
            for figure in reproduce(model_id, options.model_dir, candidate=options.candidate):
                good = figure.difference <= EXACT if options.exact else figure.holds
                held = held and good
                print(
                    f"{figure.model_id} {figure.name}: shipped {figure.shipped:.6f}, again"
                    f" {figure.again:.6f}, difference {figure.difference:.1e} (limit"
                    f" {EXACT if options.exact else figure.tolerance:g}):"
                    f" {'same' if good else 'NOT THE SAME'}",
                    flush=True,
                )
    except TrainError as failure:
        print(f"error: {failure}", file=sys.stderr)
        return 1
    return 0 if held else 1


if __name__ == "__main__":
    sys.exit(main())
