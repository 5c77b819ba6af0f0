"""Projects for the tests of gate, registry, ship and predict: a corpus, training runs and a model
folder on disk.

The networks are random but real, and torch gives the scores of their self-test rows; out-of-fold
predictions are the scores plus noise, so that a test decides how good a run is.
"""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from typed import Done, typed
from vmaf_train.contract import CODEC_DIM, MODELS, NUM_FEATURES, UNKNOWN, VOCABULARY
from vmaf_train.corpus import dataset
from vmaf_train.corpus.folds import LOSO, loso_folds
from vmaf_train.corpus.synthetic import ENCODERS, write_corpus
from vmaf_train.files import json_bytes
from vmaf_train.model_file.graph import build_onnx
from vmaf_train.model_file.sidecar import build_sidecar, save_candidate, self_test_rows
from vmaf_train.results.tables import summary
from vmaf_train.shipping import provenance, registry
from vmaf_train.training.baselines import ridge

RECIPE = {"name": "test"}
Layers = list[tuple[np.ndarray, np.ndarray]]


def random_layers(
    model_id: str, trained: list[str], seed: int = 0, hidden: tuple[int, ...] | None = None
) -> Layers:
    """Weights that answer in 0..100 roughly; slots that were not trained get the column of
    `unknown`.
    """
    contract, rng = MODELS[model_id], np.random.default_rng(seed)
    widths = [NUM_FEATURES + CODEC_DIM * contract.has_codec, *(hidden or contract.hidden), 1]
    layers = [
        (
            (rng.normal(size=(o, i)) / np.sqrt(i)).astype(np.float32),
            rng.normal(size=o).astype(np.float32),
        )
        for i, o in zip(widths, widths[1:], strict=False)
    ]
    layers[-1] = (layers[-1][0] * np.float32(20), layers[-1][1] + np.float32(50))
    return share_unknown(contract, layers, trained)


def share_unknown(contract: Any, layers: Layers, trained: list[str]) -> Layers:
    """`layers` with the columns of slots that were not trained set to that of `unknown`."""
    if contract.has_codec:
        columns = layers[0][0][:, NUM_FEATURES : NUM_FEATURES + len(VOCABULARY)]
        for i, word in enumerate(VOCABULARY):
            if word not in trained:
                columns[:, i] = columns[:, VOCABULARY.index(UNKNOWN)]
    return layers


FITTED: dict[Any, Layers] = {}
"""By model, seed and widths: the corpus is the same for all tests."""


def fitted(
    model_id: str,
    seed: int,
    hidden: tuple[int, ...] | None,
    trained: list[str],
    data: dataset.Dataset,
    mean: Any,
    std: Any,
) -> Layers:
    """Layers that answer near the corpus's scores, from random ones: L-BFGS on all rows."""
    if found := FITTED.get((model_id, seed, hidden)):
        return [(w.copy(), b.copy()) for w, b in found]
    layers, contract = random_layers(model_id, trained, seed, hidden), MODELS[model_id]
    torch.set_num_threads(1)
    x = torch.from_numpy(((data.features - mean) / std).astype(np.float32))
    if contract.has_codec:
        x = torch.cat([x, torch.from_numpy(data.codec.astype(np.float32))], dim=1)
    y = torch.from_numpy(data.y.astype(np.float32))
    weights = [torch.from_numpy(part.copy()).requires_grad_() for layer in layers for part in layer]
    optimizer = torch.optim.LBFGS(weights, max_iter=150, line_search_fn="strong_wolfe")

    def closure() -> torch.Tensor:
        optimizer.zero_grad()
        h = x
        for i in range(0, len(weights), 2):
            h = torch.nn.functional.linear(h, weights[i], weights[i + 1])
            if i + 2 < len(weights):
                h = torch.nn.functional.gelu(h) if contract.activation == "gelu" else torch.relu(h)
        loss = ((h.squeeze(1) - y) ** 2).mean()
        loss.backward()
        return loss

    optimizer.step(closure)
    done = [w.detach().numpy() for w in weights]
    FITTED[model_id, seed, hidden] = share_unknown(
        contract, list(zip(done[::2], done[1::2], strict=True)), trained
    )
    return fitted(model_id, seed, hidden, trained, data, mean, std)


def torch_forward(
    model_id: str, layers: Layers, x: np.ndarray, codec: np.ndarray | None, mean: Any, std: Any
) -> Any:
    """What torch answers for raw features (N, 6): the yardstick of every parity test."""
    h = torch.from_numpy(((x - mean) / std).astype(np.float32))
    if codec is not None:
        h = torch.cat([h, torch.from_numpy(codec.astype(np.float32))], dim=1)
    for i, (w, b) in enumerate(layers):
        h = torch.nn.functional.linear(h, torch.from_numpy(w), torch.from_numpy(b))
        if i + 1 < len(layers):
            h = (
                torch.nn.functional.gelu(h)
                if MODELS[model_id].activation == "gelu"
                else torch.relu(h)
            )
    return h.squeeze(1).double().numpy()


def edit_sidecar(model_dir: Path, model_id: str, edit: Callable[[Any], Any]) -> None:
    """Change fields of a shipped sidecar, and its digest in the registry with them."""
    shelf = registry.load(model_dir)
    entry = shelf.entry(model_id)
    value = json.loads(registry.read_pair(shelf.folder, entry).sidecar)
    edit(value)
    data = json_bytes(value)
    edited = replace(entry, sidecar_sha256=hashlib.sha256(data).hexdigest())
    (shelf.folder / edited.sidecar).write_bytes(data)
    entries = [edited if e.id == model_id else e for e in shelf.entries]
    registry_file = {"schema_version": 2, "entries": [e.to_json() for e in entries]}
    (shelf.folder / "registry.json").write_bytes(json_bytes(registry_file))


@dataclass
class Parts:
    """Everything a run's folder is made of, to be changed before it is written."""

    predictions: pd.DataFrame
    metrics: dict[str, Any]
    sidecar: dict[str, Any]
    onnx: bytes
    recipe: dict[str, Any]


MADE: dict[Path, dict[Any, Parts]] = {}
"""By corpus, model, seed, error and widths."""


@dataclass
class Project:
    """A folder with `runs/phase_a/synthetic`, `runs/<model>/<time>` and `model/tiny`."""

    root: Path

    def made_before(self) -> dict[Any, Parts]:
        """What was made of the corpus of all tests, which none of them changes."""
        path = self.root / "runs" / "phase_a" / "synthetic"
        return MADE.setdefault(path.resolve(), {}) if path.is_symlink() else {}

    @property
    def model_dir(self) -> Path:
        return self.root / "model"

    @property
    def registry(self) -> Path:
        return self.model_dir / "tiny" / "registry.json"

    def corpus(self, model_id: str) -> dataset.Dataset:
        path = self.root / "runs" / "phase_a" / "synthetic"
        return dataset.load(path, per_frame=MODELS[model_id].unit == "frame")

    def parts(
        self,
        model_id: str,
        *,
        seed: int = 0,
        error: float = 0.3,
        hidden: tuple[int, ...] | None = None,
    ) -> Parts:
        """Those of a run on the corpus, the caller's own."""
        made, asked = self.made_before(), (model_id, seed, error, hidden)
        if asked not in made:
            made[asked] = self._make(model_id, seed, error, hidden)
        return deepcopy(made[asked])

    def _make(
        self, model_id: str, seed: int, error: float, hidden: tuple[int, ...] | None
    ) -> Parts:
        data, contract = self.corpus(model_id), MODELS[model_id]
        trained = [*ENCODERS, UNKNOWN]
        trained = [w for w in VOCABULARY if w in trained] if contract.has_codec else []
        mean, std = data.features.mean(axis=0), data.features.std(axis=0)
        layers = fitted(model_id, seed, hidden, trained, data, mean, std)
        codec = data.codec if contract.has_codec else None
        onnx = build_onnx(
            model_id=model_id,
            layers=layers,
            feature_mean=mean,
            feature_std=std,
            trained_encoders=trained,
            clip=True,
        )
        answers = torch_forward(model_id, layers, data.features, codec, mean, std).clip(0, 100)
        facts = {
            "path": "runs/phase_a/synthetic/cells.jsonl",
            "digest": data.digest,
            "frame_digest": data.frame_digest,
            "num_rows": len(data),
            "num_groups": len(data.groups),
            "sources": {group: list(found) for group, found in data.sources.items()},
        }
        sidecar = build_sidecar(
            model_id=model_id,
            onnx_bytes=onnx,
            feature_mean=mean,
            feature_std=std,
            trained_encoders=trained,
            teacher=data.teacher,
            clip=True,
            recipe=RECIPE,
            corpus=facts,
            loso=None,
            self_test=self_test_rows(data.features, codec, answers),
            run_provenance=provenance.run_provenance(
                entry_point="test", argv=["test"], args={}, inputs=[data.path], outputs=[]
            ),
        )
        scalers = {
            g: {
                "mean": data.features[data.group != g].mean(axis=0).tolist(),
                "std": data.features[data.group != g].std(axis=0).tolist(),
            }
            for g in data.groups
        }
        metrics = {"model_id": model_id, "smoke": False, "scalers": scalers}
        predictions = _predictions(data, contract.has_codec, error, seed)
        sidecar["loso"] = json.loads(json.dumps(summary(predictions)[LOSO]))
        return Parts(predictions, metrics, sidecar, onnx, dict(RECIPE))

    def write(self, parts: Parts, name: str = "20260101T000000Z") -> Path:
        folder = self.root / "runs" / str(parts.metrics["model_id"]) / name
        folder.mkdir(parents=True)
        parts.predictions.to_parquet(folder / "predictions.parquet")
        save_candidate(folder, parts.onnx, parts.sidecar)
        (folder / "recipe.json").write_text(json.dumps(parts.recipe))
        (folder / "provenance.json").write_text("{}")
        (folder / "metrics.json").write_text(json.dumps(parts.metrics))
        return folder

    def run(
        self, model_id: str = "fr_regressor_v2", name: str = "20260101T000000Z", **how: Any
    ) -> Path:
        """A complete run that passes every check."""
        return self.write(self.parts(model_id, **how), name)

    def cli(self, *args: str, stdin: str = "") -> Done:
        """`vmaf-tune *args` in this folder: the whole command, in this process because a new one
        costs seconds.
        """
        return typed(*args, cwd=self.root, stdin=stdin)

    def process(self, *args: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
        """`vmaf-tune *args` in this folder, as a process of its own."""
        argv = [sys.executable, "-P", "-m", "vmaftune", *args]
        return subprocess.run(
            argv, cwd=self.root, input=stdin, capture_output=True, text=True, timeout=300
        )

    def snapshot(self) -> dict[str, bytes]:
        """Every byte under `model/`."""
        found = {}
        for folder, _, files in os.walk(self.model_dir):
            found.update({os.path.join(folder, f): Path(folder, f).read_bytes() for f in files})
        return found


def _predictions(data: dataset.Dataset, has_codec: bool, error: float, seed: int) -> pd.DataFrame:
    rng, parts = np.random.default_rng(seed), []
    gap, linear = np.full(len(data), np.nan), np.full(len(data), np.nan)
    for fold in loso_folds(data):
        linear[fold.test] = ridge(
            data.features[fold.train], data.y[fold.train], data.features[fold.test]
        )
    for s in range(3):
        table = pd.DataFrame(
            {
                "key": data.key,
                "frame_index": pd.array([pd.NA] * len(data), dtype="Int64"),
                "group": data.group,
                "encoder": data.encoder,
                "scheme": "loso",
                "fold": data.group,
                "seed": s,
                "y": data.y,
                "y_model": data.y + rng.normal(0, error, len(data)),
                "y_blind_input": data.y + rng.normal(0, 0.6, len(data)) if has_codec else gap,
                "y_codec_blind": data.y + rng.normal(0, 0.5, len(data)) if has_codec else gap,
                "y_ridge": linear,
                "y_teacher": gap,
                "preset": data.preset,
                "crf": data.crf,
            }
        )
        if data.frame_index is not None:
            table["frame_index"] = pd.array(data.frame_index, dtype="Int64")
        parts.append(table)
    return pd.concat(parts, ignore_index=True)


@pytest.fixture(scope="session")
def corpus_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A synthetic corpus of ten sources."""
    return write_corpus(
        tmp_path_factory.mktemp("corpus") / "synthetic", num_sources=10, num_frames=4
    )


@pytest.fixture
def make_project(tmp_path: Path, corpus_folder: Path) -> Callable[[str], Project]:
    """Makes a project folder of a given name, with an empty registry."""

    def make(name: str = "project") -> Project:
        root = tmp_path / name
        (root / "runs" / "phase_a").mkdir(parents=True)
        (root / "runs" / "phase_a" / "synthetic").symlink_to(
            corpus_folder, target_is_directory=True
        )
        (root / "model" / "tiny").mkdir(parents=True)
        (root / "model" / "tiny" / "registry.json").write_text(
            '{"schema_version": 1, "entries": []}'
        )
        return Project(root)

    return make


@pytest.fixture
def project(make_project: Callable[[str], Project]) -> Project:
    """One project folder."""
    return make_project("project")
