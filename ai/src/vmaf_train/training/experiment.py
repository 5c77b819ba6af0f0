"""A training run and its folder: every fold and seed trained, their held-out predictions, the
candidate, the evidence.

    Dataset, Recipe --plan--> jobs --train_batched--> networks --held_out--> predictions.parquet
                candidate (all rows, seed 0) --> candidate.onnx, candidate.json

docs/predictions.md is the contract of the folder. `metrics.json` is written last: its presence
makes the run complete.
"""

from __future__ import annotations

import io
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from vmaf_train import files
from vmaf_train.contract import blind_block
from vmaf_train.corpus.dataset import Dataset
from vmaf_train.corpus.folds import LOSO, Fold, kfold_folds, loeo_folds, loso_folds
from vmaf_train.errors import DatasetError
from vmaf_train.model_file.graph import build_onnx
from vmaf_train.model_file.sidecar import build_sidecar, save_candidate, self_test_rows
from vmaf_train.results import run_folder, tables
from vmaf_train.teacher import Teacher
from vmaf_train.training.baselines import ridge, teacher_scores
from vmaf_train.training.batched import train_batched
from vmaf_train.training.recipes import Recipe
from vmaf_train.training.sampling import Pool, TrainingJob
from vmaf_train.training.train import Trained, free_cores, predict

ALL = "all"
Progress = Callable[[int, int, float], None]
"""Called with finished epochs, all epochs, and the root of the mean training loss in VMAF points.
"""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Experiment:
    """Everything one training run depends on. `frames` are the frame rows of `data`'s cells, for
    recipes with windows.
    """

    recipe: Recipe
    data: Dataset
    frames: Dataset | None
    folds: tuple[Fold, ...]
    num_seeds: int
    device: torch.device
    smoke: bool
    teacher: Teacher | None = None


def plan(
    recipe: Recipe,
    data: Dataset,
    frames: Dataset | None,
    *,
    loso: bool,
    num_seeds: int,
    device: torch.device,
    smoke: bool,
    teacher: Teacher | None = None,
) -> Experiment:
    """The experiment: with `loso` all hold-out schemes of the recipe, without it the candidate
    alone.

    `teacher` is the teacher's own function, a baseline where it applies to the corpus. Raises
    DatasetError for a corpus with too few groups, or one whose features are not its teacher's.
    """
    if data.strange_features:
        raise DatasetError(data.strange_features)
    folds: list[Fold] = []
    if loso:
        folds = [*loso_folds(data), *loeo_folds(data)]
        if recipe.kfold:
            folds += kfold_folds(data, recipe.kfold)
    return Experiment(
        recipe=recipe,
        data=data,
        frames=frames,
        folds=tuple(folds),
        num_seeds=num_seeds,
        device=device,
        smoke=smoke,
        teacher=teacher,
    )


def jobs_of(experiment: Experiment) -> list[TrainingJob]:
    """The candidate's job first, then for each fold and seed the model's and, with a codec input,
    the blind baseline's.
    """
    jobs = [TrainingJob(scheme=ALL, fold=ALL, seed=0, rows=np.arange(len(experiment.data)))]
    for fold in experiment.folds:
        for seed in range(experiment.num_seeds):
            for blind in (False, True) if experiment.recipe.has_codec else (False,):
                jobs.append(
                    TrainingJob(
                        scheme=fold.scheme,
                        fold=fold.name,
                        seed=seed,
                        rows=fold.train,
                        codec_blind=blind,
                    )
                )
    return jobs


def train_all(experiment: Experiment, progress: Progress | None = None) -> list[Trained]:
    """Train every job of the experiment in one batched program, in the order of `jobs_of`."""
    recipe = experiment.recipe
    torch.set_num_threads(free_cores())
    pool = Pool(experiment.data, experiment.frames, experiment.device, torch.float32)

    def on_epoch(done: int, loss: float) -> None:
        if progress:
            progress(done, recipe.epochs, float(np.sqrt(loss)))

    return train_batched(recipe, jobs_of(experiment), experiment.data, pool, on_epoch)


def held_out(experiment: Experiment, networks: Sequence[Trained]) -> pd.DataFrame:
    """Out-of-fold predictions of every fold and seed: the columns of docs/predictions.md."""
    data, parts = experiment.data, []
    found = {(n.job.scheme, n.job.fold, n.job.seed, n.job.codec_blind): n for n in networks}
    exact = teacher_scores(experiment.teacher, data)
    for fold in experiment.folds:
        test = fold.test
        x = data.features[test]
        linear = ridge(data.features[fold.train], data.y[fold.train], x)
        for seed in range(experiment.num_seeds):
            model = found[fold.scheme, fold.name, seed, False]
            blind = found.get((fold.scheme, fold.name, seed, True))
            parts.append(
                _rows(data, fold, seed)
                | _scores(data, test, model, blind)
                | {tables.RIDGE: linear, tables.TEACHER: exact[test]}
            )
    columns = [*run_folder.COLUMNS, tables.TEACHER, "preset", "crf"]
    if not parts:
        return pd.DataFrame({name: [] for name in columns})
    stacked = {name: np.concatenate([part[name] for part in parts]) for name in columns}
    table = pd.DataFrame(stacked)
    table["frame_index"] = pd.array(
        np.where(table["frame_index"] < 0, None, table["frame_index"]), dtype="Int64"
    )
    for name in ("key", "group", "encoder", "preset", "scheme", "fold"):
        table[name] = table[name].astype("category")
    return table


def _rows(data: Dataset, fold: Fold, seed: int) -> dict[str, Any]:
    test, n = fold.test, len(fold.test)
    return {
        "key": data.key[test],
        "frame_index": np.full(n, -1) if data.frame_index is None else data.frame_index[test],
        "group": data.group[test],
        "encoder": data.encoder[test],
        "preset": data.preset[test],
        "crf": data.crf[test],
        "scheme": np.full(n, fold.scheme, dtype=object),
        "fold": np.full(n, fold.name, dtype=object),
        "seed": np.full(n, seed),
        "y": data.y[test],
    }


def _scores(data: Dataset, test: Any, model: Trained, blind: Trained | None) -> dict[str, Any]:
    x = data.features[test]
    if blind is None:
        gap = np.full(len(x), np.nan)
        return {
            tables.MODEL: predict(model, x, None),
            tables.BLIND_INPUT: gap,
            tables.CODEC_BLIND: gap,
        }
    nothing = np.tile(blind_block(), (len(x), 1))
    return {
        tables.MODEL: predict(model, x, data.codec[test]),
        tables.BLIND_INPUT: predict(model, x, nothing),
        tables.CODEC_BLIND: predict(blind, x, nothing),
    }


def new_folder(runs_dir: Path, model_id: str, smoke: bool) -> Path:
    """An unused folder `runs_dir`/<model>/<UTC time>; a smoke run's name says so."""
    stamp = datetime.now(UTC).strftime("%Y%m%dT%H%M%SZ")
    suffix = run_folder.SMOKE_SUFFIX if smoke else ""
    names = (f"{stamp}{extra}{suffix}" for extra in ("", *(f".{i}" for i in range(1, 100))))
    return next(folder for name in names if not (folder := runs_dir / model_id / name).exists())


def write(
    folder: Path,
    experiment: Experiment,
    networks: Sequence[Trained],
    provenance: Mapping[str, Any],
    wall_s: float,
) -> pd.DataFrame:
    """Write the run's folder, `metrics.json` last, and return the predictions.

    Raises DatasetError when `folder` holds a run already.
    """
    if (folder / run_folder.METRICS_FILE).exists():
        raise DatasetError(f"{folder} holds a complete run already; name another folder with --out")
    folder.mkdir(parents=True, exist_ok=True)
    predictions = held_out(experiment, networks)
    buffer = io.BytesIO()
    predictions.to_parquet(buffer, compression="zstd", index=False)
    files.write_bytes(folder / run_folder.PREDICTIONS, buffer.getvalue())
    summary = tables.summary(predictions)
    _write_candidate(folder, experiment, networks[0], provenance, summary.get(LOSO))
    files.write_json(folder / "recipe.json", experiment.recipe.as_json())
    files.write_json(folder / "provenance.json", provenance)
    metrics = {
        "schema_version": 1,
        "model_id": experiment.recipe.model_id,
        "smoke": experiment.smoke,
        "corpus": corpus_facts(experiment),
        "num_seeds": experiment.num_seeds,
        "num_networks": len(networks),
        "device": str(experiment.device),
        "train_wall_s": round(wall_s, 2),
        "scalers": {
            n.job.fold: {"mean": n.mean.tolist(), "std": n.std.tolist()}
            for n in networks
            if n.job.scheme == LOSO
        },
        "summary": summary,
    }
    files.write_json(folder / run_folder.METRICS_FILE, metrics)
    return predictions


def _write_candidate(
    folder: Path,
    experiment: Experiment,
    network: Trained,
    provenance: Mapping[str, Any],
    loso: Mapping[str, Any] | None,
) -> None:
    recipe, data = experiment.recipe, experiment.data
    codec = data.codec if recipe.has_codec else None
    common: dict[str, Any] = {
        "model_id": recipe.model_id,
        "feature_mean": network.mean,
        "feature_std": network.std,
        "trained_encoders": network.trained_encoders,
        "clip": True,
        "smoke": experiment.smoke,
    }
    onnx_bytes = build_onnx(layers=network.layers, **common)
    sidecar = build_sidecar(
        onnx_bytes=onnx_bytes,
        teacher=data.teacher,
        recipe=recipe.as_json(),
        corpus=corpus_facts(experiment),
        loso=loso,
        self_test=self_test_rows(data.features, codec, predict(network, data.features, codec)),
        run_provenance=provenance,
        **common,
    )
    save_candidate(folder, onnx_bytes, sidecar)


def corpus_facts(experiment: Experiment) -> dict[str, Any]:
    """What a run records of its corpus: digests (that of the frame rows where it learned from
    them), path, counts, notes.
    """
    data, frames = experiment.data, experiment.frames or experiment.data
    paths = [_as_told(path) for path in data.paths]
    facts = {
        "path": ", ".join(paths),
        "digest": data.digest,
        "frame_digest": frames.frame_digest,
        "num_rows": len(data),
        "num_groups": len(data.groups),
        "groups": data.groups,
        "encoders": sorted(set(data.encoder)),
        "teacher": data.teacher,
        "features_of": data.features_of,
        "sources": {group: list(digests) for group, digests in data.sources.items()},
        "notes": list(data.notes),
    }
    if data.kinds:
        facts["kinds"] = list(data.kinds)
    if data.parts:
        frame_digests = [part.frame_digest for part in frames.parts]
        facts["corpora"] = [
            {"path": path, "digest": part.digest, "frame_digest": frame_digest}
            for path, part, frame_digest in zip(paths, data.parts, frame_digests, strict=True)
        ]
    return facts


def _as_told(path: Path) -> str:
    """A path relative to where training was started, when it lies there."""
    whole = path.resolve()
    inside = whole.is_relative_to(Path.cwd())
    return (whole.relative_to(Path.cwd()) if inside else path).as_posix()


def run(
    experiment: Experiment,
    folder: Path,
    provenance: Mapping[str, Any],
    progress: Progress | None = None,
) -> pd.DataFrame:
    """Train, predict what was held out, write `folder`; the predictions."""
    began = time.monotonic()
    networks = train_all(experiment, progress)
    return write(folder, experiment, networks, provenance, time.monotonic() - began)
