"""Loading by registry id, what is refused, and what a prediction is."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from projects import edit_sidecar
from vmaf_train.contract import MODELS, VOCABULARY, blind_block, codec_block
from vmaf_train.errors import DependencyError, ModelError
from vmaf_train.model_file.graph import PARITY_LIMIT
from vmaf_train.model_file.inspect import inspect
from vmaf_train.shipping import predictor, promotion, registry

FR, TINY = "fr_regressor_v2", "vmaf_tiny_v2"


def ship(project: Any, model_id: str) -> Any:
    parts = project.parts(model_id)
    entry = registry.new_entry(model_id, parts.onnx, description="", notes="")
    promotion.promote(project.model_dir, entry, parts.onnx, parts.sidecar)
    return parts


@pytest.mark.parametrize("model_id", list(MODELS))
def test_a_shipped_model_answers_raw_features_as_torch_did(project: Any, model_id: str) -> None:
    parts = ship(project, model_id)
    loaded = predictor.load(model_id, project.model_dir)
    rows = parts.sidecar["self_test"]
    found = loaded.predict(rows["features"], rows["codec"])
    assert found.dtype == np.float64 and found.shape == (len(rows["score"]),)
    assert np.abs(found - rows["score"]).max() <= PARITY_LIMIT
    assert loaded.self_test() <= PARITY_LIMIT
    assert len(loaded.predict(np.empty((0, 6)), np.empty((0, 14)) if rows["codec"] else None)) == 0


def test_the_provider_is_the_one_that_really_runs(
    project: Any, capfd: pytest.CaptureFixture[str]
) -> None:
    ship(project, FR)
    loaded = predictor.load(FR, project.model_dir)
    assert loaded.provider == loaded._session.get_providers()[0]
    assert loaded.provider_note.startswith(
        "on the GPU" if loaded.provider == predictor.CUDA else "on the CPU"
    )
    assert predictor.load(FR, project.model_dir, "cpu").provider == predictor.CPU
    if loaded.provider == predictor.CPU:
        with pytest.raises(DependencyError, match="CUDA"):
            predictor.load(FR, project.model_dir, "cuda")
    assert capfd.readouterr() == ("", "")  # neither we nor onnxruntime print


def test_one_setting_for_all_rows_is_its_codec_block(project: Any) -> None:
    ship(project, FR)
    loaded = predictor.load(FR, project.model_dir)
    x = np.array([[0.9, 0.5, 0.7, 0.8, 0.85, 4.0], [0.7, 0.3, 0.5, 0.6, 0.7, 9.0]])
    block = np.array([codec_block("libx264", "slow", 30)] * 2)
    same = loaded.predict(x, encoder="libx264", preset="slow", quality=30)
    assert same.tolist() == loaded.predict(x, block).tolist()
    assert loaded.predict(x).tolist() == loaded.predict(x, np.array([blind_block()] * 2)).tolist()
    assert loaded.predict(x).tolist() != same.tolist()
    # never trained: answers as an unknown encoder of that preset and quality
    np.testing.assert_allclose(
        loaded.predict(x, encoder="libx265", preset="medium", quality=30),
        loaded.predict(x, encoder="libaom-av1", preset="4", quality=30),
        atol=1e-5,
    )


def test_encoders_that_were_never_trained_are_named(project: Any) -> None:
    ship(project, FR)
    ship(project, TINY)
    loaded = predictor.load(FR, project.model_dir)
    assert loaded.notes("libx264", "slow") == loaded.notes("libx264", None) == []
    assert loaded.notes("libaom-av1", "4")[0].startswith("libaom-av1 is outside the vocabulary")
    assert loaded.notes("libx265", "slow")[0].startswith("libx265 was never in the training data")
    assert loaded.notes("libx264", "nosuch") == [
        "libx264 has no preset 'nosuch': it is read as one of ordinal 5 of 0..9"
    ]
    assert "codec-blind" in loaded.notes(None, None)[0]
    assert predictor.load(TINY, project.model_dir).notes("libx265", "nosuch") == []


@pytest.mark.parametrize(
    ("model_id", "features", "how", "sentence"),
    [
        (FR, np.ones((2, 5)), {}, r"\(N, 6\)"),
        (FR, np.ones(6), {}, r"\(N, 6\)"),
        (FR, np.full((1, 6), np.nan), {}, "finite"),
        (FR, np.ones((2, 6)), {"codec": np.ones((1, 14))}, r"\(2, 14\)"),
        (FR, np.ones((2, 6)), {"codec": np.ones((2, 8))}, r"\(2, 14\)"),
        (FR, np.ones((1, 6)), {"encoder": "libx264"}, "quality"),
        (FR, np.ones((1, 6)), {"quality": 20.0}, "go together"),
        (FR, np.ones((1, 6)), {"preset": "slow"}, "go together"),
        (FR, np.ones((1, 6)), {"encoder": "libx264", "quality": -1.0}, ">= 0"),
        (FR, np.ones((1, 6)), {"encoder": "libx264", "quality": "23"}, "crf.*'23'"),
        (FR, np.ones((1, 6)), {"encoder": [1], "quality": 20.0}, r"encoder is \[1\]"),
        (
            FR,
            np.ones((1, 6)),
            {"encoder": "libx264", "preset": [1], "quality": 20.0},
            r"preset is \[1\]",
        ),
        (TINY, np.ones((1, 6)), {"quality": 20.0}, "takes no codec"),
        (TINY, np.ones((1, 6)), {"encoder": "libx264", "quality": 20.0}, "takes no codec"),
        (TINY, np.ones((1, 6)), {"codec": np.ones((1, 14))}, "takes no codec"),
    ],
)
def test_inputs_that_are_not_the_contracts_are_refused(
    project: Any, model_id: str, features: Any, how: dict[str, Any], sentence: str
) -> None:
    ship(project, model_id)
    with pytest.raises(ValueError, match=sentence):
        predictor.load(model_id, project.model_dir).predict(features, **how)


def set_metadata(model: onnx.ModelProto, key: str, value: Any) -> None:
    next(p for p in model.metadata_props if p.key == key).value = json.dumps(value)


def drop_metadata(model: onnx.ModelProto, key: str) -> None:
    kept = [p for p in model.metadata_props if p.key != key]
    del model.metadata_props[:]
    model.metadata_props.extend(kept)


def external(model: onnx.ModelProto) -> None:
    tensor = model.graph.initializer[0]
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    item = tensor.external_data.add()
    item.key, item.value = "location", "/etc/passwd"


def other_operator(model: onnx.ModelProto) -> None:
    next(n for n in model.graph.node if n.op_type == "Erf").op_type = "Tanh"


def foreign_domain(model: onnx.ModelProto) -> None:
    next(n for n in model.graph.node if n.op_type == "Erf").domain = "com.microsoft"


def own_function(model: onnx.ModelProto) -> None:
    node = helper.make_node("Identity", ["a"], ["b"])
    model.functions.append(
        helper.make_function("mine", "F", ["a"], ["b"], [node], [helper.make_opsetid("", 17)])
    )


def other_opset(model: onnx.ModelProto) -> None:
    model.opset_import[0].version = 18


def other_ir(model: onnx.ModelProto) -> None:
    model.ir_version = 10


def other_name(model: onnx.ModelProto) -> None:
    model.graph.output[0].name = next(n for n in model.graph.node if n.op_type == "Squeeze").output[
        0
    ] = "vmaf"


def fixed_batch(model: onnx.ModelProto) -> None:
    for value in (*model.graph.input, *model.graph.output):
        value.type.tensor_type.shape.dim[0].dim_value = 4


def double(model: onnx.ModelProto) -> None:
    model.graph.input[0].type.tensor_type.elem_type = TensorProto.DOUBLE


def broken_graph(model: onnx.ModelProto) -> None:
    del model.graph.node[3]


def other_order(model: onnx.ModelProto) -> None:
    set_metadata(
        model,
        "features",
        ["motion2", "adm2", "vif_scale0", "vif_scale1", "vif_scale2", "vif_scale3"],
    )


@pytest.mark.parametrize(
    ("model_id", "change", "sentence"),
    [
        (FR, external, "external data"),
        (FR, other_operator, "uses Tanh; allowed are"),
        (FR, foreign_domain, "com.microsoft.Erf"),
        (FR, own_function, "functions of its own"),
        (FR, other_opset, "expected opset 17"),
        (FR, other_ir, "IR 8"),
        (FR, other_name, "gives score"),
        (FR, fixed_batch, "gives score"),
        (FR, double, "DOUBLE"),
        (FR, broken_graph, "not valid"),
        (FR, other_order, "says features"),
        (FR, lambda m: set_metadata(m, "model_id", "fr_regressor_v1"), "says model_id"),
        (FR, lambda m: set_metadata(m, "codec_block", ["x"]), "says codec_block"),
        (FR, lambda m: drop_metadata(m, "feature_mean"), "lacks feature_mean"),
        (FR, lambda m: set_metadata(m, "feature_std", [1, 1, 1, 1, 1, 0]), "must be 6 numbers"),
        (FR, lambda m: set_metadata(m, "feature_mean", ["0"] * 6), "must be 6 numbers"),
        (
            TINY,
            lambda m: set_metadata(m, "feature_mean", [0, 0, 0, 0, 0, 0]),
            "scaler in the graph",
        ),
        (
            TINY,
            lambda m: m.graph.initializer[1].CopyFrom(
                numpy_helper.from_array(np.ones(6, "f"), "feature_std")
            ),
            "scaler",
        ),
    ],
)
def test_files_that_are_not_the_contracts_are_refused(
    project: Any, model_id: str, change: Callable[[onnx.ModelProto], Any], sentence: str
) -> None:
    model = onnx.load_model_from_string(project.parts(model_id).onnx)
    change(model)
    with pytest.raises(ModelError, match=sentence):
        inspect(model.SerializeToString(), model_id)


@pytest.mark.parametrize("data", [b"", b"not a model", b"\x08"])
def test_what_is_no_onnx_file_is_refused(data: bytes) -> None:
    with pytest.raises(ModelError):
        inspect(data, FR)


@pytest.mark.parametrize("model_id", ["fr_regressor_v1", TINY])
def test_a_file_under_another_id_is_refused(project: Any, model_id: str) -> None:
    with pytest.raises(ModelError):
        inspect(project.parts(model_id).onnx, FR)


def test_a_file_that_does_not_say_what_it_is_counts_as_smoke(project: Any) -> None:
    model = onnx.load_model_from_string(project.parts(FR).onnx)
    drop_metadata(model, "smoke")
    assert inspect(model.SerializeToString(), FR).smoke is True


@pytest.mark.parametrize(
    ("edit", "sentence"),
    [
        (lambda s: s["feature_mean"].__setitem__(2, 0.5), "feature_mean differs"),
        (lambda s: s.pop("feature_std"), "feature_std differs"),
        (lambda s: s.update(trained_encoders=list(VOCABULARY)), "trained_encoders"),
        (lambda s: s["vocabulary"].reverse(), "vocabulary"),
        (lambda s: s["codec_block"].pop(), "codec_block"),
        (lambda s: s.update(schema_version=2), "schema_version"),
        (lambda s: s.update(smoke=True), "smoke"),
    ],
)
def test_a_sidecar_that_says_something_else_is_refused(
    project: Any, edit: Callable[[Any], Any], sentence: str
) -> None:
    ship(project, FR)
    edit_sidecar(project.model_dir, FR, edit)
    with pytest.raises(ModelError, match=sentence):
        predictor.load(FR, project.model_dir)


def test_bytes_that_are_swapped_under_a_registry_are_refused(project: Any) -> None:
    parts = ship(project, FR)
    file = project.model_dir / "tiny" / registry.load(project.model_dir).entry(FR).file
    file.write_bytes(project.parts(FR, seed=9).onnx)
    assert hashlib.sha256(parts.onnx).hexdigest() != hashlib.sha256(file.read_bytes()).hexdigest()
    with pytest.raises(ModelError, match="does not have the sha256"):
        predictor.load(FR, project.model_dir)


@pytest.mark.parametrize(
    "rows",
    [None, {}, {"features": [], "codec": [], "score": []}, {"features": [[1]], "score": [1]}],
)
def test_a_sidecar_without_usable_rows_cannot_be_tested(project: Any, rows: Any) -> None:
    parts = project.parts(FR)
    parts.sidecar["self_test"] = rows
    with pytest.raises(ModelError, match="self-test rows"):
        predictor.from_pair(FR, parts.onnx, parts.sidecar).self_test()
