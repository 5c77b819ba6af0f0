"""Train the shipped models again from the committed corpus and compare: `python -m vmaf_train.reproduce`.

Recipe, seeds and corpus come from each model's sidecar. The same machine and packages give the same figures; another
processor rounds otherwise, and training amplifies that: TOLERANCE says how far it may go. `--candidate` trains the shipped
network alone, without the folds, and compares what it answers for the rows stored in the sidecar.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from vmaf_train import dataset, evaluate, registry, rundir
from vmaf_train.contract import MODELS
from vmaf_train.dataset import LOSO
from vmaf_train.errors import ModelError, TrainError
from vmaf_train.recipes import Recipe
from vmaf_train.train import choose_device, predict

EXACT = 1e-6
TOLERANCE: Mapping[str, float] = {"plcc": 0.0005, "srocc": 0.005, "rmse": 0.05, "mae": 0.05, "answer": 1.0}
"""Largest difference from the shipped figure: correlations as such, the others in VMAF points. `answer` is one prediction."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """One figure as it was shipped and as it came out again."""

    model_id: str
    name: str
    shipped: float
    again: float
    tolerance: float

    @property
    def difference(self) -> float:
        """Its absolute value."""
        return abs(self.again - self.shipped)

    @property
    def holds(self) -> bool:
        """Within the tolerance; NaN is not."""
        return self.difference <= self.tolerance


def reproduce(model_id: str, model_dir: Path, *, candidate: bool) -> Iterator[Figure]:
    """Train `model_id` as its sidecar says, and compare.

    Raises ModelError when the model is not shipped or was trained on other rows than its corpus holds now.
    """
    shelf = registry.load(model_dir)
    _, sidecar = registry.read_pair(shelf, shelf.entry(model_id))
    recipe = Recipe(**{**sidecar["recipe"], "hidden": tuple(sidecar["recipe"]["hidden"])})
    path = Path(sidecar["corpus"]["path"])
    data = dataset.load(path, per_frame=recipe.per_frame)
    frames = dataset.load(path, per_frame=True) if recipe.window_share and not recipe.per_frame else None
    if data.digest != sidecar["corpus"]["digest"]:
        raise ModelError(f"{path} holds other rows than {model_id} was trained on; take both from one commit")
    shipped = sidecar["loso"]["metrics"][evaluate.MODEL]
    num_seeds = next(spread["num_seeds"] for spread in shipped.values() if spread)
    experiment = rundir.plan(
        recipe, data, frames, loso=not candidate, num_seeds=num_seeds, device=choose_device("cpu"), smoke=False
    )
    networks = rundir.train_all(experiment)
    if candidate:
        rows = sidecar["self_test"]
        codec = np.array(rows["codec"]) if recipe.has_codec else None
        again = predict(networks[0], np.array(rows["features"]), codec)
        worst = int(np.argmax(np.abs(again - np.array(rows["score"]))))
        found = {"answer": (rows["score"][worst], float(again[worst]))}
    else:
        found = dict(_held_out(shipped, rundir.held_out(experiment, networks)))
    for name, (before, after) in found.items():
        yield Figure(model_id=model_id, name=name, shipped=before, again=after, tolerance=TOLERANCE[name])


def _held_out(shipped: Mapping[str, Any], predictions: pd.DataFrame) -> Iterator[tuple[str, tuple[float, float]]]:
    again = evaluate.summary(predictions)[LOSO]["metrics"][evaluate.MODEL]
    for name, spread in shipped.items():
        if spread:
            yield name, (spread["mean"], again[name]["mean"] if again[name] else float("nan"))


def main(argv: Sequence[str] | None = None) -> int:
    """Print a line per figure. 0: all within tolerance (with --exact: within 1e-6); 1: not, or it could not be tried."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="*", metavar="MODEL", help="ids; all that are shipped without one")
    parser.add_argument("--candidate", action="store_true", help="the shipped network alone: no folds, a fraction of the time")
    parser.add_argument("--exact", action="store_true", help=f"demand {EXACT:g} of every figure")
    parser.add_argument("--model-dir", type=Path, default=Path("model"))
    options = parser.parse_args(argv)
    held = True
    try:
        ids = options.models or [entry.id for entry in registry.load(options.model_dir).entries]
        if not ids:
            raise ModelError(f"{options.model_dir} holds no model yet: {', '.join(MODELS)} wait for `vmaf-tune ship`")
        for model_id in ids:
            for figure in reproduce(model_id, options.model_dir, candidate=options.candidate):
                good = figure.difference <= EXACT if options.exact else figure.holds
                held = held and good
                print(
                    f"{figure.model_id} {figure.name}: shipped {figure.shipped:.6f}, again {figure.again:.6f}, "
                    f"difference {figure.difference:.1e} (limit {EXACT if options.exact else figure.tolerance:g}): "
                    f"{'same' if good else 'NOT THE SAME'}",
                    flush=True,
                )
    except TrainError as failure:
        print(f"error: {failure}", file=sys.stderr)
        return 1
    return 0 if held else 1


if __name__ == "__main__":
    sys.exit(main())
