"""ONNX files: the contract of each model, the same bytes twice, and torch's answers on real-looking
rows.
"""

from __future__ import annotations

import io
import json
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from vmaf_train.contract import CODEC_BLOCK, FEATURES, MODELS, SCORE_RANGE, VOCABULARY
from vmaf_train.corpus import dataset
from vmaf_train.errors import DatasetError
from vmaf_train.files import json_bytes
from vmaf_train.model_file.graph import OPERATORS, PARITY_LIMIT, build_onnx
from vmaf_train.model_file.inspect import inspect
from vmaf_train.model_file.sidecar import SELF_TEST_ROWS, check_sidecar, self_test_rows
from vmaf_train.shipping import registry

ROOT = Path(__file__).resolve().parents[2]
ALL = list(MODELS)
MEAN, STD = np.linspace(0.5, 3, 6), np.linspace(0.1, 2, 6)


def layers_of(
    model_id: str, seed: int = 0, hidden: tuple[int, ...] | None = None
) -> list[tuple[Any, Any]]:
    """Random weights of the contract's widths, in VMAF points."""
    contract, rng = MODELS[model_id], np.random.default_rng(seed)
    widths = [20 if contract.has_codec else 6, *(hidden or contract.hidden), 1]
    return [
        (
            (rng.normal(size=(o, i)) * (20 if o == 1 else 1) / i**0.5).astype(np.float32),
            rng.normal(size=o),
        )
        for i, o in zip(widths, widths[1:], strict=False)
    ]


def build(model_id: str, **changes: Any) -> bytes:
    how = {
        "layers": layers_of(model_id),
        "feature_mean": MEAN,
        "feature_std": STD,
        "trained_encoders": ["libx264"],
    }
    return build_onnx(model_id=model_id, **(how | changes))


def rows_like_real_ones(count: int = 2000) -> tuple[np.ndarray, np.ndarray]:
    """Features over the whole range that real encodes cover, and any codec block."""
    rng = np.random.default_rng(7)
    x = np.concatenate(
        [rng.uniform(0.05, 1.05, (count, 5)), rng.gamma(2.0, 3.0, (count, 1))], axis=1
    )
    codec = np.eye(12)[rng.integers(0, 12, count)]
    return x, np.concatenate([codec, rng.uniform(size=(count, 2))], axis=1)


def module(model_id: str, layers: list[tuple[Any, Any]]) -> torch.nn.Sequential:
    """The same network in torch."""
    parts: list[torch.nn.Module] = []
    for i, (w, b) in enumerate(layers):
        linear = torch.nn.Linear(w.shape[1], w.shape[0])
        linear.load_state_dict(
            {"weight": torch.tensor(w), "bias": torch.tensor(b, dtype=torch.float32)}
        )
        last = torch.nn.GELU() if MODELS[model_id].activation == "gelu" else torch.nn.ReLU()
        parts += [linear, last] if i + 1 < len(layers) else [linear]
    return torch.nn.Sequential(*parts)


def run(data: bytes, feed: dict[str, np.ndarray]) -> np.ndarray:
    session = onnxruntime.InferenceSession(data, providers=["CPUExecutionProvider"])
    return np.asarray(session.run(None, {k: v.astype(np.float32) for k, v in feed.items()})[0])


@pytest.mark.parametrize("model_id", ALL)
@pytest.mark.parametrize("count", [1, 2000])
def test_answers_are_those_of_torch(model_id: str, count: int) -> None:
    contract = MODELS[model_id]
    x, codec = rows_like_real_ones(count)
    scaled = (x - MEAN) / STD
    feed = {"features": x if contract.scaler == "graph" else scaled}
    h = torch.tensor(scaled, dtype=torch.float32)
    if contract.has_codec:
        feed["codec"] = codec
        h = torch.cat([h, torch.tensor(codec, dtype=torch.float32)], dim=1)
    with torch.no_grad():
        expected = module(model_id, layers_of(model_id))(h).squeeze(1).numpy()
    found = run(build(model_id), feed)
    assert found.shape == (count,) and np.ptp(expected) > 1 or count == 1
    assert np.abs(found - expected).max() <= PARITY_LIMIT


@pytest.mark.parametrize("model_id", ["fr_regressor_v1", "vmaf_tiny_v2"])
def test_torchs_own_exporter_builds_the_same_network(model_id: str) -> None:
    buffer, layers = io.BytesIO(), layers_of(model_id)
    with warnings.catch_warnings():
        warnings.simplefilter(
            "ignore", DeprecationWarning
        )  # the exporter that still writes opset 17 says it is old
        torch.onnx.export(
            module(model_id, layers),
            (torch.zeros(2, 6),),
            buffer,
            opset_version=17,
            dynamo=False,
            input_names=["x"],
            dynamic_axes={"x": {0: "N"}},
        )
    theirs = onnx.load_model_from_string(buffer.getvalue())
    ours = onnx.load_model_from_string(build(model_id))
    scaler = ["Sub", "Div"] if MODELS[model_id].scaler == "graph" else []
    expected = [
        *scaler,
        *(n.op_type for n in theirs.graph.node if n.op_type != "Constant"),
        "Squeeze",
    ]
    assert [n.op_type for n in ours.graph.node] == expected
    x, _ = rows_like_real_ones(200)
    scaled = (x - MEAN) / STD
    found = run(build(model_id), {"features": x if scaler else scaled})
    assert np.abs(found - run(buffer.getvalue(), {"x": scaled})[:, 0]).max() <= PARITY_LIMIT


@pytest.mark.parametrize("model_id", ALL)
def test_the_file_keeps_its_contract(model_id: str) -> None:
    data, contract = build(model_id), MODELS[model_id]
    model = onnx.load_model_from_string(data)
    assert (model.ir_version, [(o.domain, o.version) for o in model.opset_import]) == (
        8,
        [("", 17)],
    )
    assert {n.op_type for n in model.graph.node} <= OPERATORS
    read = inspect(data, model_id)
    assert read.widths == (*contract.hidden, 1)
    assert read.feature_mean.tolist() == MEAN.tolist() and read.feature_std.tolist() == STD.tolist()
    assert read.trained_encoders == ("libx264",) and read.smoke is False
    assert np.array_equal(read.layers[0][0], layers_of(model_id)[0][0])


def test_vmaf_tiny_v2_has_257_parameters_and_a_scaler() -> None:
    model = onnx.load_model_from_string(build("vmaf_tiny_v2"))
    sizes = {t.name: int(np.prod(t.dims)) for t in model.graph.initializer}
    assert sum(n for name, n in sizes.items() if name.startswith("layer")) == 257
    assert sizes["feature_mean"] == sizes["feature_std"] == 6


@pytest.mark.parametrize("model_id", ALL)
def test_clipped_answers_stay_in_the_teachers_range(model_id: str) -> None:
    contract, (x, codec) = MODELS[model_id], rows_like_real_ones()
    *first, (w, _) = layers_of(model_id)
    feed = {"features": x} | ({"codec": codec} if contract.has_codec else {})
    middle = run(build(model_id, layers=[*first, (w * 30, np.array([0.0]))]), feed).mean()
    layers = [*first, (w * 30, np.array([50.0 - middle]))]
    free, held = (run(build(model_id, layers=layers, clip=clip), feed) for clip in (False, True))
    assert free.min() < 0 and free.max() > 100
    assert held.min() == 0 and held.max() == 100
    assert np.abs(held - np.clip(free, 0, 100)).max() <= PARITY_LIMIT
    inspect(build(model_id, clip=True), model_id)


@pytest.mark.parametrize("model_id", ALL)
def test_the_same_weights_give_the_same_bytes(model_id: str) -> None:
    assert build(model_id) == build(model_id)
    assert build(model_id) != build(model_id, layers=layers_of(model_id, seed=1))
    assert build(model_id) != build(model_id, smoke=True)
    assert build(model_id) != build(model_id, feature_std=STD * (1 + 1e-12))


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"layers": []}, "last layer"),
        ({"layers": layers_of("fr_regressor_v1")}, "layer 0"),
        ({"layers": layers_of("fr_regressor_v2")[:-1]}, "one output"),
        ({"feature_std": [0.0, 1, 1, 1, 1, 1]}, "feature_std > 0"),
        ({"feature_mean": [float("nan"), 1, 1, 1, 1, 1]}, "finite"),
        ({"feature_mean": [1, 1]}, r"must be \(6,\)"),
        ({"trained_encoders": ["libaom-av1"]}, "libaom-av1"),
        ({"model_id": "fr_regressor_v9"}, "fr_regressor_v9"),
    ],
)
def test_what_cannot_be_exported_is_refused(changes: dict[str, Any], sentence: str) -> None:
    how = {
        "layers": layers_of("fr_regressor_v2"),
        "feature_mean": MEAN,
        "feature_std": STD,
        "model_id": "fr_regressor_v2",
    }
    with pytest.raises(ValueError, match=sentence):
        build_onnx(**(how | changes))


def test_weights_that_are_not_finite_are_refused() -> None:
    layers = layers_of("vmaf_tiny_v2")
    layers[1][1][0] = np.inf
    with pytest.raises(ValueError, match="not finite"):
        build("vmaf_tiny_v2", layers=layers)


@pytest.mark.parametrize("model_id", ALL)
def test_the_sidecar_says_all_a_caller_needs(project: Any, model_id: str) -> None:
    sidecar = project.parts(model_id).sidecar
    text = json_bytes(sidecar)
    assert json.loads(text) == sidecar
    assert sidecar["features"] == list(FEATURES)
    assert sidecar["run_provenance"]["schema"] == "ai-run-provenance-v1"
    assert sidecar["run_provenance"]["inputs"][0]["sha256"]
    if MODELS[model_id].has_codec:
        assert sidecar["vocabulary"] == list(VOCABULARY) and sidecar["codec_block"] == list(
            CODEC_BLOCK
        )
        assert sidecar["trained_encoders"] == ["libx264", "libsvtav1", "unknown"]
    assert 0 < len(sidecar["self_test"]["score"]) <= SELF_TEST_ROWS


def test_self_test_rows_are_spread_over_the_corpus() -> None:
    rows = self_test_rows(np.arange(6000).reshape(1000, 6), None, np.arange(1000))
    assert rows["score"][0] == 0 and rows["score"][-1] == 999 and len(rows["score"]) == 64
    assert len(self_test_rows(np.ones((3, 6)), None, np.ones(3))["score"]) == 3
    with pytest.raises(ValueError, match="self-test rows"):
        self_test_rows(np.ones((0, 6)), None, np.ones(0))


def test_shipped_models_answer_as_torch_does_on_their_whole_corpus() -> None:
    """Torch runs the weights that lie in each shipped file, on every row of the corpus it was
    trained on.
    """
    shipped = registry.load(ROOT / "model")
    for entry in (e for e in shipped.entries if e.kind is registry.FR):
        pair = registry.read_pair(shipped.folder, entry)
        data, sidecar = pair.data, json.loads(pair.sidecar)
        contract, read = MODELS[entry.id], inspect(data, entry.id)
        check_sidecar(read, sidecar)
        try:
            corpus = dataset.load(
                ROOT / sidecar["corpus"]["path"], per_frame=contract.unit == "frame"
            )
        except DatasetError:
            corpus = None  # the corpus need not be here for a model to be used; its stored rows are
        x = np.array(sidecar["self_test"]["features"]) if corpus is None else corpus.features
        codec = np.array(sidecar["self_test"]["codec"]) if corpus is None else corpus.codec
        constants = {
            t.name: onnx.numpy_helper.to_array(t)
            for t in onnx.load_model_from_string(data).graph.initializer
        }
        layers = [
            (constants[f"layer{i}.weight"], constants[f"layer{i}.bias"])
            for i in range(len(read.widths))
        ]
        scaled = (x - read.feature_mean) / read.feature_std
        feed = {"features": x if contract.scaler == "graph" else scaled}
        h = torch.tensor(scaled, dtype=torch.float32)
        if contract.has_codec:
            feed["codec"] = codec
            h = torch.cat([h, torch.tensor(codec, dtype=torch.float32)], dim=1)
        with torch.no_grad():
            free = module(entry.id, layers)(h).squeeze(1).numpy()
        # The range is the sidecar's promise; a graph that does not keep it, or clips elsewhere,
        # fails here.
        assert sidecar["output"]["range"] == list(SCORE_RANGE)
        expected = np.clip(free, *SCORE_RANGE)
        assert np.abs(run(data, feed) - expected).max() <= PARITY_LIMIT, entry.id
