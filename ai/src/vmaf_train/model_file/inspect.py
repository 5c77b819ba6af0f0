"""What is inside an ONNX file, and whether `contract.MODELS` promises it: the reader of what
`export` writes.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from vmaf_train.contract import (
    CODEC_BLOCK,
    CODEC_DIM,
    FEATURES,
    MODELS,
    NUM_FEATURES,
    ModelContract,
)
from vmaf_train.errors import ModelError
from vmaf_train.model_file.graph import IR_VERSION, OPERATORS, OPSET, import_onnx

if TYPE_CHECKING:
    import onnx


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Artifact:
    """One ONNX file that keeps its contract.

    `widths`: outputs of each dense layer, the last is 1. `layers`: weights (out, in) and biases
    (out,) of each, float32. `feature_mean`, `feature_std` (6,) float64, from the metadata, which
    the file's sha256 covers.
    """

    contract: ModelContract
    sha256: str
    widths: tuple[int, ...]
    layers: tuple[tuple[NDArray[np.float32], NDArray[np.float32]], ...]
    feature_mean: NDArray[np.float64]
    feature_std: NDArray[np.float64]
    trained_encoders: tuple[str, ...]
    smoke: bool


def inspect(data: bytes, model_id: str) -> Artifact:
    """Read the ONNX file `data` as model `model_id`.

    Raises ModelError when it is not an ONNX file, refers to other files, has another opset, IR
    version, operator, input or output than the contract, or when its scaler is missing or not the
    one in its graph.
    """
    if model_id not in MODELS:
        raise ModelError(
            f"no contract is known for model {model_id!r}; known are {', '.join(MODELS)}"
        )
    contract = MODELS[model_id]
    model = _parse(data)
    _check_container(model)
    _check_operators(model)
    _check_interface(model, contract)
    _check_valid(model)
    metadata = _metadata(model, contract)
    constants = {t.name: import_onnx().numpy_helper.to_array(t) for t in model.graph.initializer}
    mean, std = (_six(metadata, name) for name in ("feature_mean", "feature_std"))
    if contract.scaler == "graph":
        _check_graph_scaler(model, constants, mean, std)
    layers = _dense_layers(model, constants)
    return Artifact(
        contract=contract,
        sha256=hashlib.sha256(data).hexdigest(),
        widths=tuple(len(bias) for _, bias in layers),
        layers=layers,
        feature_mean=mean,
        feature_std=std,
        trained_encoders=tuple(metadata["trained_encoders"]),
        smoke=metadata["smoke"] is not False,
    )


def _parse(data: bytes) -> onnx.ModelProto:
    from google.protobuf.message import DecodeError  # type: ignore[import-untyped]

    try:
        return import_onnx().load_model_from_string(data)
    except DecodeError as failure:
        raise ModelError(f"the file is not an ONNX model: {failure}") from failure


def _check_container(model: onnx.ModelProto) -> None:
    onnx = import_onnx()
    attributes = [a for n in model.graph.node for a in n.attribute]
    tensors = [*model.graph.initializer, *(t for a in attributes for t in (a.t, *a.tensors))]
    if any(t.external_data or t.data_location == onnx.TensorProto.EXTERNAL for t in tensors):
        raise ModelError(
            "the ONNX file keeps weights in other files (external data); a shipped model is one"
            " file"
        )
    sparse = [a.name for a in attributes if a.HasField("sparse_tensor") or a.sparse_tensors]
    if model.graph.sparse_initializer or sparse:
        raise ModelError(
            "the ONNX file holds sparse tensors, which may lie in other files; export the model"
            " again"
        )
    opsets = [(o.domain, o.version) for o in model.opset_import]
    if opsets != [("", OPSET)] or model.ir_version != IR_VERSION:
        raise ModelError(
            f"the ONNX file has opset {opsets}, IR {model.ir_version}; expected opset {OPSET}, IR"
            f" {IR_VERSION}"
        )


def _check_valid(model: onnx.ModelProto) -> None:
    onnx = import_onnx()
    try:
        onnx.checker.check_model(model, full_check=True)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as failure:
        raise ModelError(f"the ONNX file is not valid: {str(failure).splitlines()[0]}") from failure


def _check_operators(model: onnx.ModelProto) -> None:
    strange = {
        n.op_type if not n.domain else f"{n.domain}.{n.op_type}" for n in model.graph.node
    } - OPERATORS
    if strange or model.functions:
        names = ", ".join(sorted(strange)) or "functions of its own"
        raise ModelError(f"the ONNX file uses {names}; allowed are {', '.join(sorted(OPERATORS))}")


def _check_interface(model: onnx.ModelProto, contract: ModelContract) -> None:
    wanted = [("features", (None, NUM_FEATURES))]
    if contract.has_codec:
        wanted.append(("codec", (None, CODEC_DIM)))
    inputs, outputs = (
        [_signature(v) for v in side] for side in (model.graph.input, model.graph.output)
    )
    if inputs != wanted or outputs != [(contract.output, (None,))]:
        raise ModelError(
            f"{contract.id} takes {wanted} and gives {contract.output} (N,) as float32; "
            f"the ONNX file has {inputs} and {outputs}"
        )


def _signature(value: onnx.ValueInfoProto) -> tuple[str, tuple[int | None, ...] | str]:
    """(name, shape with None for a dynamic axis); the element type in place of the shape when it is
    not float32.
    """
    onnx = import_onnx()
    tensor = value.type.tensor_type
    if tensor.elem_type != onnx.TensorProto.FLOAT:
        return value.name, str(onnx.TensorProto.DataType.Name(tensor.elem_type))
    return value.name, tuple(
        d.dim_value if d.HasField("dim_value") else None for d in tensor.shape.dim
    )


def _metadata(model: onnx.ModelProto, contract: ModelContract) -> dict[str, Any]:
    try:
        found = {p.key: json.loads(p.value) for p in model.metadata_props}
    except ValueError as failure:
        raise ModelError(f"the metadata of the ONNX file is not JSON: {failure}") from failure
    wanted: dict[str, Any] = {"model_id": contract.id, "features": list(FEATURES)}
    if contract.has_codec:
        wanted["codec_block"] = list(CODEC_BLOCK)
    for name, value in wanted.items():
        if found.get(name) != value:
            raise ModelError(f"the ONNX file says {name} = {found.get(name)!r}, expected {value!r}")
    for name in ("feature_mean", "feature_std", "trained_encoders"):
        if not isinstance(found.get(name), list):
            raise ModelError(f"the metadata of the ONNX file lacks {name}; export the model again")
    found.setdefault("smoke", True)  # a file that does not say what it is counts as a smoke model
    return found


def _six(metadata: Mapping[str, Any], name: str) -> NDArray[np.float64]:
    values = metadata[name]
    numbers = all(isinstance(v, (int, float)) and not isinstance(v, bool) for v in values)
    if not numbers or len(values) != NUM_FEATURES or (name == "feature_std" and min(values) <= 0):
        raise ModelError(
            f"{name} in the metadata of the ONNX file must be {NUM_FEATURES} numbers (deviations"
            " > 0)"
        )
    return np.array(values, np.float64)


def _check_graph_scaler(
    model: onnx.ModelProto,
    constants: Mapping[str, NDArray[Any]],
    mean: NDArray[np.float64],
    std: NDArray[np.float64],
) -> None:
    nodes = model.graph.node
    ops = [n.op_type for n in nodes[:2]]
    chained = (
        ops == ["Sub", "Div"]
        and nodes[0].input[0] == "features"
        and nodes[1].input[0] == nodes[0].output[0]
    )
    if not chained:
        raise ModelError(
            "the graph must scale its features first, as Sub and Div; export the model again"
        )
    for node, values in zip(nodes[:2], (mean, std), strict=True):
        if not np.array_equal(constants.get(node.input[1], np.empty(0)), values.astype(np.float32)):
            raise ModelError(
                "the scaler in the graph is not the one in the ONNX metadata; export the model"
                " again"
            )


def _dense_layers(
    model: onnx.ModelProto, constants: Mapping[str, NDArray[Any]]
) -> tuple[tuple[NDArray[np.float32], NDArray[np.float32]], ...]:
    """Weights (out, in) and biases (out,) of the dense layers, in graph order."""
    layers = []
    for node in model.graph.node:
        weight = constants.get(node.input[1]) if node.op_type in ("Gemm", "MatMul") else None
        if weight is None:
            continue
        transposed = any(a.name == "transB" and a.i == 1 for a in node.attribute)
        weight = np.asarray(weight if transposed else weight.T, np.float32)
        bias = constants.get(node.input[2]) if len(node.input) > 2 else None
        zeros = np.zeros(len(weight), np.float32)
        layers.append((weight, zeros if bias is None else np.asarray(bias, np.float32)))
    if not layers:
        raise ModelError("the ONNX file holds no dense layer")
    return tuple(layers)
