"""The JSON that stands beside an ONNX file: how it is made, and whether it belongs to the file."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from vmaf_train import files
from vmaf_train.contract import (
    CODEC_BLOCK,
    CODEC_DIM,
    FEATURES,
    NUM_FEATURES,
    PRESET_ORDINALS,
    PRESET_SCALE,
    QUALITY_MAX,
    QUALITY_SCALE,
    VOCABULARY,
    ModelContract,
)
from vmaf_train.errors import ModelError
from vmaf_train.model_file.graph import (
    IR_VERSION,
    OPSET,
    TOP_SCORE,
    check_scaler,
    contract_of,
    ordered,
)
from vmaf_train.model_file.inspect import Artifact

SIDECAR_VERSION = 1
SELF_TEST_ROWS = 64


def build_sidecar(
    *,
    model_id: str,
    onnx_bytes: bytes,
    feature_mean: ArrayLike,
    feature_std: ArrayLike,
    trained_encoders: Sequence[str],
    teacher: str | None,
    recipe: Mapping[str, Any],
    corpus: Mapping[str, Any],
    loso: Mapping[str, Any] | None,
    self_test: Mapping[str, Any],
    run_provenance: Mapping[str, Any],
    clip: bool = False,
    smoke: bool = False,
) -> dict[str, Any]:
    """The JSON that stands beside an ONNX file (docs/registry.md lists every field).

    `corpus`: at least `digest` (of the rows that trained), `path` (relative), `num_rows`,
    `num_groups`. `loso`: the table of held-out figures, None where the run had no LOSO.
    `self_test`: from `self_test_rows`. `run_provenance`: from `provenance.run_provenance`. Pass
    scaler and `clip` exactly as given to `build_onnx`. Raises ValueError for a missing field.
    """
    contract = contract_of(model_id)
    mean, std = check_scaler(feature_mean, feature_std)
    _check_corpus(corpus)
    return {
        **contract_fields(contract, clip=clip),
        "sha256": hashlib.sha256(onnx_bytes).hexdigest(),
        "smoke": smoke,
        "feature_mean": mean.tolist(),
        "feature_std": std.tolist(),
        "trained_encoders": ordered(trained_encoders),
        "teacher": teacher,
        "recipe": dict(recipe),
        "corpus": dict(corpus),
        "loso": dict(loso) if loso is not None else None,
        "self_test": dict(self_test),
        "run_provenance": dict(run_provenance),
    }


def _check_corpus(corpus: Mapping[str, object]) -> None:
    missing = {"digest", "path", "num_rows", "num_groups"} - set(corpus)
    if missing:
        raise ValueError(f"the sidecar's corpus needs {', '.join(sorted(missing))}")


def contract_fields(contract: ModelContract, *, clip: bool) -> dict[str, Any]:
    """The fields of a sidecar that its model's contract decides alone.

    `clip`: answers are held in 0..100.
    """
    features = [
        {"name": "features", "shape": ["N", NUM_FEATURES], "standardised_by": contract.scaler}
    ]
    codec = [{"name": "codec", "shape": ["N", CODEC_DIM]}] if contract.has_codec else []
    return {
        "schema_version": SIDECAR_VERSION,
        "id": contract.id,
        "kind": "fr",
        "opset": OPSET,
        "ir_version": IR_VERSION,
        "inputs": features + codec,
        "output": {
            "name": contract.output,
            "shape": ["N"],
            "unit": "VMAF points",
            "row": contract.unit,
            "range": [0.0, TOP_SCORE] if clip else None,
        },
        "features": list(FEATURES),
        **(_codec_layout() if contract.has_codec else {}),
    }


def self_test_rows(
    features: ArrayLike, codec: ArrayLike | None, score: ArrayLike
) -> dict[str, Any]:
    """Real rows with the answers torch gave, spread evenly over what is passed (at most 64).

    `features` (N, 6) RAW, `codec` (N, 14) or None, `score` (N,) = the exported network's output in
    VMAF points, from torch. The gate and every later check run the ONNX file on these rows and
    compare.
    """
    x, y = np.asarray(features, np.float64), np.asarray(score, np.float64).reshape(-1)
    if x.shape != (len(y), NUM_FEATURES) or len(y) == 0:
        raise ValueError(
            f"self-test rows need features (N, 6) and score (N,), got {x.shape} and {y.shape}"
        )
    keep = np.unique(np.linspace(0, len(y) - 1, SELF_TEST_ROWS).round().astype(int))
    blocks = None if codec is None else np.asarray(codec, np.float64)[keep].tolist()
    return {"features": x[keep].tolist(), "codec": blocks, "score": y[keep].tolist()}


def save_candidate(folder: Path, onnx_bytes: bytes, sidecar: Mapping[str, Any]) -> None:
    """Write `candidate.onnx` and `candidate.json` into a run's folder, each whole or not at all."""
    files.write_bytes(folder / "candidate.onnx", onnx_bytes)
    files.write_json(folder / "candidate.json", sidecar)


def _codec_layout() -> dict[str, Any]:
    return {
        "vocabulary": list(VOCABULARY),
        "codec_block": list(CODEC_BLOCK),
        "preset_ordinals": {
            name: dict(table) for name, table in PRESET_ORDINALS.items() if name in VOCABULARY
        },
        "preset_scale": PRESET_SCALE,
        "quality_max": {name: value for name, value in QUALITY_MAX.items() if name in VOCABULARY},
        "quality_scale": QUALITY_SCALE,
    }


def check_sidecar(artifact: Artifact, sidecar: Mapping[str, Any]) -> None:
    """Raise ModelError unless `sidecar` belongs to `artifact` and says the same as its metadata."""
    contract = artifact.contract
    expected: dict[str, Any] = {
        "schema_version": SIDECAR_VERSION,
        "id": contract.id,
        "sha256": artifact.sha256,
        "smoke": artifact.smoke,
        "features": list(FEATURES),
        "trained_encoders": list(artifact.trained_encoders),
    }
    if contract.has_codec:
        expected |= {"vocabulary": list(VOCABULARY), "codec_block": list(CODEC_BLOCK)}
    for name, value in expected.items():
        if sidecar.get(name) != value:
            raise ModelError(
                f"{contract.id}: the sidecar's {name} is not the model's; ship the model again"
            )
    for name, values in (
        ("feature_mean", artifact.feature_mean),
        ("feature_std", artifact.feature_std),
    ):
        if sidecar.get(name) != values.tolist():
            raise ModelError(
                f"{contract.id}: {name} differs between the ONNX metadata and the sidecar, so the"
                " features cannot be scaled as the model expects; ship the model again"
            )
