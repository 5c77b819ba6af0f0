"""Weights to ONNX.

The graph is written with `onnx.helper` (opset 17, IR 8, one file), because torch's exporter no
longer gives that opset. What a shipped model promises is in `contract.MODELS`; `inspect.inspect`
reads it back.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from vmaf_train.contract import (
    CODEC_BLOCK,
    CODEC_DIM,
    FEATURES,
    MODELS,
    NUM_FEATURES,
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
"""Operators a shipped graph may hold: the programs that use our models accept no others (`Gelu`
needs opset 20).
"""
TOP_SCORE = SCORE_RANGE[1]
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
    contract = contract_of(model_id)
    weights = _check_layers(contract, layers)
    mean, std = check_scaler(feature_mean, feature_std)
    graph = _Graph()
    x = "features"
    if contract.scaler == "graph":
        x = graph.standardised(x, mean, std)
    if contract.has_codec:
        x = graph.node("Concat", [x, "codec"], "inputs", axis=1)
    for i, (w, b) in enumerate(weights):
        names = [x, graph.constant(f"layer{i}.weight", w), graph.constant(f"layer{i}.bias", b)]
        x = graph.node("Gemm", names, f"layer{i}", transB=1)
        if i + 1 < len(weights):
            x = graph.activation(contract.activation, x, f"layer{i}")
    if clip:
        x = graph.clip(x)
    axis = graph.constant("last_axis", np.array([1], np.int64))
    graph.node("Squeeze", [x, axis], contract.output)
    metadata = _metadata(contract, mean, std, trained_encoders, smoke)
    return graph.model(contract, metadata)


def import_onnx() -> Any:
    """The `onnx` package. Raises DependencyError with the line that installs it."""
    try:
        import onnx
    except ImportError as failure:
        raise DependencyError(
            "ONNX models need the package onnx: pip install 'vmaf-tune[predict]'"
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

    def standardised(self, x: str, mean: NDArray[np.float64], std: NDArray[np.float64]) -> str:
        """`x` less its mean, by its standard deviation, (6,) each."""
        centre = self.constant("feature_mean", mean.astype(np.float32))
        x = self.node("Sub", [x, centre], "centred")
        return self.node(
            "Div", [x, self.constant("feature_std", std.astype(np.float32))], "standardised"
        )

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


def contract_of(model_id: str) -> ModelContract:
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


def check_scaler(
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


def ordered(encoders: Sequence[str]) -> list[str]:
    strange = set(encoders) - set(VOCABULARY)
    if strange:
        raise ValueError(
            f"trained_encoders holds {', '.join(sorted(strange))}: not in the vocabulary"
        )
    return [name for name in VOCABULARY if name in encoders]


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
        "trained_encoders": ordered(encoders),
        "smoke": smoke,
    }
    if contract.has_codec:
        values["codec_block"] = list(CODEC_BLOCK)
    return {key: json.dumps(value, allow_nan=False) for key, value in sorted(values.items())}
