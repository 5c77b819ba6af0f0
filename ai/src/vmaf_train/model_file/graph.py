"""Weights to ONNX, and the sidecar beside it.

The graph is written with `onnx.helper` (opset 17, IR 8, one file), because torch's exporter no
longer gives that opset. What a shipped model promises is in `contract.MODELS`; `artifact.inspect`
reads it back.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from vmaf_train import files
from vmaf_train.contract import (
    CODEC_BLOCK,
    CODEC_DIM,
    FEATURES,
    MODELS,
    NUM_FEATURES,
    PRESET_ORDINALS,
    PRESET_SCALE,
    QUALITY_MAX,
    QUALITY_SCALE,
    SCORE_RANGE,
    VOCABULARY,
    ModelContract,
)
from vmaf_train.errors import DependencyError

if TYPE_CHECKING:
    import onnx

OPSET = 17
IR_VERSION = 8
OPERATORS = frozenset(
    (
        "Concat",
        "Gemm",
        "MatMul",
        "Add",
        "Sub",
        "Mul",
        "Div",
        "Erf",
        "Relu",
        "Squeeze",
        "Identity",
        "Constant",
    )
)
"""Operators a shipped graph may hold: the consumers of the seeds accept no others (`Gelu` needs
opset 20).
"""
SIDECAR_VERSION = 1
TOP_SCORE = SCORE_RANGE[1]
SELF_TEST_ROWS = 64
PARITY_LIMIT = 1e-4
"""Largest difference in VMAF points between ONNX and torch on real rows."""

Layers = Sequence[tuple[ArrayLike, ArrayLike]]


def build_onnx(
    *,
    model_id: str,
    layers: Layers,
    feature_mean: ArrayLike,
    feature_std: ArrayLike,
    trained_encoders: Sequence[str] = (),
    clip: bool = False,
    smoke: bool = False,
) -> bytes:
    """The ONNX file of one model; the same arguments give the same bytes.

    `layers`: (W (out, in), b (out,)) of each dense layer in order, the last with one output in VMAF
    points (a trainer that learned on targets / 100 multiplies W and b of the last layer by 100
    first). The first takes 6 inputs, or 20 with the codec block. `feature_mean`, `feature_std`:
    (6,), std > 0: what standardises the raw features. `trained_encoders`: vocabulary words with at
    least one training row. `clip`: hold answers in 0..100, the range of a teacher that clips its
    own. Weights become float32. Raises ValueError for a model id without a contract, or arrays of
    another shape or not finite.
    """
    contract = _contract(model_id)
    weights = _check_layers(contract, layers)
    mean, std = _check_scaler(feature_mean, feature_std)
    graph = _Graph()
    x = "features"
    if contract.scaler == "graph":
        x = graph.node(
            "Sub", [x, graph.constant("feature_mean", mean.astype(np.float32))], "centred"
        )
        x = graph.node(
            "Div", [x, graph.constant("feature_std", std.astype(np.float32))], "standardised"
        )
    if contract.has_codec:
        x = graph.node("Concat", [x, "codec"], "inputs", axis=1)
    for i, (w, b) in enumerate(weights):
        names = [x, graph.constant(f"layer{i}.weight", w), graph.constant(f"layer{i}.bias", b)]
        x = graph.node("Gemm", names, f"layer{i}", transB=1)
        if i + 1 < len(weights):
            x = graph.activation(contract.activation, x, f"layer{i}")
    if clip:
        x = graph.clip(x)
    graph.node(
        "Squeeze", [x, graph.constant("last_axis", np.array([1], np.int64))], contract.output
    )
    metadata = _metadata(contract, mean, std, trained_encoders, smoke)
    return graph.model(contract, metadata)


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
    contract = _contract(model_id)
    mean, std = _check_scaler(feature_mean, feature_std)
    missing = {"digest", "path", "num_rows", "num_groups"} - set(corpus)
    if missing:
        raise ValueError(f"the sidecar's corpus needs {', '.join(sorted(missing))}")
    features = [
        {"name": "features", "shape": ["N", NUM_FEATURES], "standardised_by": contract.scaler}
    ]
    codec = [{"name": "codec", "shape": ["N", CODEC_DIM]}] if contract.has_codec else []
    return {
        "schema_version": SIDECAR_VERSION,
        "id": contract.id,
        "kind": "fr",
        "sha256": hashlib.sha256(onnx_bytes).hexdigest(),
        "smoke": smoke,
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
        "feature_mean": mean.tolist(),
        "feature_std": std.tolist(),
        **(_codec_layout() if contract.has_codec else {}),
        "trained_encoders": _ordered(trained_encoders),
        "teacher": teacher,
        "recipe": dict(recipe),
        "corpus": dict(corpus),
        "loso": dict(loso) if loso is not None else None,
        "self_test": dict(self_test),
        "run_provenance": dict(run_provenance),
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


def import_onnx() -> Any:
    """The `onnx` package. Raises DependencyError with the line that installs it."""
    try:
        import onnx
    except ImportError as failure:
        raise DependencyError(
            "ONNX models need the package onnx: pip install 'vmaf-tune[train]'"
        ) from failure
    return onnx


class _Graph:
    """Nodes and constants of one graph, in the order they are added."""

    def __init__(self) -> None:
        self._onnx = import_onnx()
        self._nodes: list[onnx.NodeProto] = []
        self._constants: dict[str, onnx.TensorProto] = {}

    def constant(self, name: str, value: NDArray[Any]) -> str:
        self._constants[name] = self._onnx.numpy_helper.from_array(value, name)
        return name

    def node(self, op: str, inputs: Sequence[str], output: str, **attributes: Any) -> str:
        self._nodes.append(
            self._onnx.helper.make_node(op, inputs, [output], name=output, **attributes)
        )
        return output

    def activation(self, kind: str, x: str, name: str) -> str:
        """ReLU, or the exact GELU 0.5 x (1 + erf(x / sqrt 2)) in operators of opset 17."""
        if kind == "relu":
            return self.node("Relu", [x], f"{name}.relu")
        root, one, half = (
            self.constant(label, np.array(value, np.float32))
            for label, value in (("sqrt2", math.sqrt(2.0)), ("one", 1.0), ("half", 0.5))
        )
        erf = self.node("Erf", [self.node("Div", [x, root], f"{name}.scaled")], f"{name}.erf")
        gate = self.node("Add", [erf, one], f"{name}.gate")
        return self.node(
            "Mul", [self.node("Mul", [x, gate], f"{name}.gated"), half], f"{name}.gelu"
        )

    def clip(self, x: str) -> str:
        """x in 0..100, as 100 - relu(100 - relu(x)): neither Clip nor Min and Max are on the list
        of operators.
        """
        top = self.constant("top_score", np.array(TOP_SCORE, np.float32))
        room = self.node("Sub", [top, self.node("Relu", [x], "above_bottom")], "room")
        return self.node("Sub", [top, self.node("Relu", [room], "below_top")], "clipped")

    def model(self, contract: ModelContract, metadata: Mapping[str, str]) -> bytes:
        helper, float32 = self._onnx.helper, self._onnx.TensorProto.FLOAT
        inputs = [helper.make_tensor_value_info("features", float32, ["N", NUM_FEATURES])]
        if contract.has_codec:
            inputs.append(helper.make_tensor_value_info("codec", float32, ["N", CODEC_DIM]))
        outputs = [helper.make_tensor_value_info(contract.output, float32, ["N"])]
        graph = helper.make_graph(
            self._nodes, contract.id, inputs, outputs, list(self._constants.values())
        )
        model = helper.make_model(
            graph,
            opset_imports=[helper.make_opsetid("", OPSET)],
            ir_version=IR_VERSION,
            # no version here: the same weights give the same bytes in every release
            producer_name="vmaf-tune",
        )
        helper.set_model_props(model, dict(metadata))
        self._onnx.checker.check_model(model, full_check=True)
        data: bytes = model.SerializeToString(deterministic=True)
        return data


def _contract(model_id: str) -> ModelContract:
    if model_id not in MODELS:
        raise ValueError(f"no model is called {model_id!r}; known are {', '.join(MODELS)}")
    return MODELS[model_id]


def _check_layers(
    contract: ModelContract, layers: Layers
) -> list[tuple[NDArray[np.float32], NDArray[np.float32]]]:
    width = NUM_FEATURES + (CODEC_DIM if contract.has_codec else 0)
    checked = []
    for i, (weight, bias) in enumerate(layers):
        w = np.ascontiguousarray(weight, dtype=np.float32)
        b = np.ascontiguousarray(bias, dtype=np.float32)
        if w.ndim != 2 or w.shape[1] != width or b.shape != w.shape[:1]:
            raise ValueError(
                f"{contract.id}: layer {i} is {w.shape} with {b.shape}, expected (out, {width})"
                " with (out,)"
            )
        if not (np.isfinite(w).all() and np.isfinite(b).all()):
            raise ValueError(f"{contract.id}: layer {i} holds weights that are not finite")
        checked.append((w, b))
        width = w.shape[0]
    if not checked or width != 1:
        raise ValueError(f"{contract.id}: the last layer must exist and have one output")
    return checked


def _check_scaler(
    mean: ArrayLike, std: ArrayLike
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    m, s = np.asarray(mean, np.float64), np.asarray(std, np.float64)
    if m.shape != (NUM_FEATURES,) or s.shape != (NUM_FEATURES,):
        raise ValueError(
            f"feature_mean and feature_std must be ({NUM_FEATURES},), got {m.shape} and {s.shape}"
        )
    if not (np.isfinite(m).all() and np.isfinite(s).all() and (s > 0).all()):
        raise ValueError("feature_mean and feature_std must be finite and feature_std > 0")
    return m, s


def _ordered(encoders: Sequence[str]) -> list[str]:
    strange = set(encoders) - set(VOCABULARY)
    if strange:
        raise ValueError(
            f"trained_encoders holds {', '.join(sorted(strange))}: not in the vocabulary"
        )
    return [name for name in VOCABULARY if name in encoders]


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


def _metadata(
    contract: ModelContract,
    mean: NDArray[np.float64],
    std: NDArray[np.float64],
    encoders: Sequence[str],
    smoke: bool,
) -> dict[str, str]:
    """ONNX metadata: what the sha256 of the registry must cover besides the weights. Values are
    JSON.
    """
    values: dict[str, Any] = {
        "model_id": contract.id,
        "features": list(FEATURES),
        "feature_mean": mean.tolist(),
        "feature_std": std.tolist(),
        "trained_encoders": _ordered(encoders),
        "smoke": smoke,
    }
    if contract.has_codec:
        values["codec_block"] = list(CODEC_BLOCK)
    return {key: json.dumps(value, allow_nan=False) for key, value in sorted(values.items())}
