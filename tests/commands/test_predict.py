"""`vmaf-tune predict`: from flags, and from rows on stdin."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pyarrow import parquet
from vmaf_train.contract import FEATURES, codec_block
from vmaf_train.shipping import predictor, promotion, registry

CORPUS = Path(__file__).parents[2] / "runs/phase_a/software"
FR, TINY = "fr_regressor_v2", "vmaf_tiny_v2"
VALUES = (0.9, 0.5, 0.7, 0.8, 0.85, 4.0)
FLAGS = [
    part
    for name, v in zip(FEATURES, VALUES, strict=True)
    for part in (f"--{name.replace('_', '-')}", str(v))
]


def row(**settings: Any) -> str:
    """A line of JSONL with all six features."""
    return json.dumps(settings | dict(zip(FEATURES, VALUES, strict=True)))


@pytest.fixture
def shipped(project: Any) -> Any:
    for model_id in (FR, TINY):
        parts = project.parts(model_id)
        entry = registry.new_entry(model_id, parts.onnx, description="", notes="")
        promotion.promote(project.model_dir, entry, parts.onnx, parts.sidecar)
    return project


def answer(project: Any, model_id: str, block: list[float] | None) -> float:
    loaded = predictor.load(model_id, project.model_dir)
    return float(loaded.predict([VALUES], None if block is None else [block])[0])


def test_flags_are_one_row(shipped: Any) -> None:
    done = shipped.cli(
        "predict", FR, "--encoder", "x264", "--preset", "slow", "--quality", "30", *FLAGS, "--json"
    )
    assert done.returncode == 0, done.stderr
    expected = answer(shipped, FR, codec_block("libx264", "slow", 30))
    assert json.loads(done.stdout) == {
        "encoder": "libx264",
        "preset": "slow",
        "crf": 30,
        "predicted": expected,
    }
    assert done.stderr.count("runs on the") == 1
    table = shipped.cli(
        "predict", FR, "--encoder", "x264", "--preset", "slow", "--quality", "30", *FLAGS
    )
    assert f"{expected:.2f}" in table.stdout
    blind = json.loads(shipped.cli("predict", FR, *FLAGS, "--json").stdout)
    assert blind["predicted"] != expected


def test_an_encoder_that_was_never_trained_is_named(shipped: Any) -> None:
    done = shipped.cli("predict", FR, "--encoder", "x265", "--quality", "30", *FLAGS)
    assert done.returncode == 0 and "libx265 was never in the training data" in done.stderr


def test_rows_from_stdin_in_every_form(shipped: Any) -> None:
    named = dict(zip(FEATURES, VALUES, strict=True))
    rows = [
        {
            "cell": "a",
            "encoder": "libx264",
            "preset": "slow",
            "crf": 30,
            "per_frame_features": named,
            "vmaf_score": 90.5,
        },
        {
            "encoder": "libx264",
            "preset": "slow",
            "cq": 30,
            **{f"integer_{k}": v for k, v in named.items()},
        },
        {"encoder": "libx264", "crf": 30, **{f"{k}_mean": v for k, v in named.items()}},
        named,
    ]
    stdin = "\n".join(json.dumps(row) for row in rows) + "\n\n"
    done = shipped.process("predict", FR, "--jsonl", "-", "--json", stdin=stdin)
    assert done.returncode == 0, done.stderr
    found = [json.loads(line) for line in done.stdout.splitlines()]
    slow, medium = (answer(shipped, FR, codec_block("libx264", p, 30)) for p in ("slow", "medium"))
    blind = answer(shipped, FR, codec_block(None, None, None))
    np.testing.assert_allclose(
        [f["predicted"] for f in found], [slow, slow, medium, blind], atol=1e-5
    )
    assert found[0]["cell"] == "a" and found[0]["vmaf"] == 90.5 and "vmaf" not in found[3]


def test_what_an_answer_leaves_out_is_in_its_note(shipped: Any) -> None:
    given = [
        row(),
        row(encoder="external", preset=None, crf=None),
        row(encoder="x264", preset="nosuch", crf=30),
        row(encoder="x264", preset="slow", crf=30),
        row(encoder="svtav1", preset=8, crf=30),
    ]
    done = shipped.cli("predict", FR, "--jsonl", "-", "--json", stdin="\n".join(given))
    assert done.returncode == 0, done.stderr
    blind, pair, odd, known, number = (json.loads(line) for line in done.stdout.splitlines())
    assert blind["note"] == pair["note"] == "no encoder is named: the answer is the codec-blind one"
    assert (
        odd["note"].startswith("libx264 has no preset 'nosuch'")
        and "note" not in known
        and "note" not in number
    )
    assert done.stderr.count("codec-blind") == 1 and "nosuch" in done.stderr
    assert (known["encoder"], number["preset"]) == ("libx264", 8)
    assert known["predicted"] == pytest.approx(
        answer(shipped, FR, codec_block("libx264", "slow", 30)), abs=1e-5
    )
    assert number["predicted"] == pytest.approx(
        answer(shipped, FR, codec_block("libsvtav1", "8", 30)), abs=1e-5
    )


def test_the_rows_of_a_corpus(shipped: Any) -> None:
    folder = "runs/phase_a/synthetic"
    cells = shipped.cli(
        "predict", FR, "--jsonl", f"{folder}/cells.jsonl", "--json"
    ).stdout.splitlines()
    data = shipped.corpus(FR)
    expected = predictor.load(FR, shipped.model_dir).predict(data.features, data.codec)
    np.testing.assert_allclose(
        [json.loads(line)["predicted"] for line in cells], expected, atol=1e-5
    )
    frames = shipped.cli("predict", TINY, "--jsonl", f"{folder}/frames.jsonl", "--json")
    assert len(frames.stdout.splitlines()) == len(shipped.corpus(TINY))
    assert (
        "does not look at encoder" in frames.stderr and "means over an encode" not in frames.stderr
    )
    assert (
        "means over an encode"
        in shipped.cli("predict", TINY, "--jsonl", f"{folder}/cells.jsonl").stderr
    )


def test_the_stored_rows_are_predicted_again(shipped: Any) -> None:
    done = shipped.cli("predict", FR, "--self-test", "--json")
    assert done.returncode == 0
    found = json.loads(done.stdout)
    assert found["sha256"] == registry.load(shipped.model_dir).entry(FR).sha256
    assert found["rows"] == 64 and found["max_difference"] <= 1e-4


def test_the_teachers_own_function_is_exact_on_frames(shipped: Any) -> None:
    frames = parquet.read_table(CORPUS / "frames.parquet").slice(1000, 40).to_pylist()
    given = "\n".join(json.dumps(frame | {"teacher": "vmaf_v0.6.1"}) for frame in frames)
    done = shipped.cli("predict", TINY, "--jsonl", "-", "--exact", "--json", stdin=given)
    assert done.returncode == 0, done.stderr
    found = [json.loads(line) for line in done.stdout.splitlines()]
    assert max(abs(row["exact"] - row["vmaf"]) for row in found) <= 1.7e-4
    assert all(row["phone"] >= row["exact"] - 1e-3 for row in found)
    neg = json.dumps(frames[0] | {"teacher": "vmaf_v0.6.1neg"})
    other = shipped.cli("predict", TINY, "--jsonl", "-", "--exact", "--json", stdin=neg)
    assert "exact" not in json.loads(other.stdout) and "no exact value" in other.stderr


def test_rows_of_another_teacher_are_told(shipped: Any) -> None:
    done = shipped.cli("predict", TINY, "--jsonl", "-", stdin=row(teacher="vmaf_v0.6.1neg"))
    assert done.returncode == 0
    assert "hold scores of vmaf_v0.6.1neg; vmaf_tiny_v2 imitates" in done.stderr


@pytest.mark.parametrize(
    ("args", "stdin", "code", "sentence"),
    [
        ([FR, "--adm2", "0.9"], "", 2, "--vif-scale0"),
        ([FR, "--encoder", "x264", *FLAGS], "", 2, "--quality"),
        ([FR, "--encoder", "x264", "--quality", "99", *FLAGS], "", 2, "out of range"),
        (
            [FR, "--encoder", "x264", "--preset", "p4", "--quality", "30", *FLAGS],
            "",
            2,
            "no preset",
        ),
        ([FR, "--encoder", "x26", "--quality", "30", *FLAGS], "", 2, "no encoder"),
        ([FR, "--quality", "30", *FLAGS], "", 2, "--encoder"),
        ([FR, "--jsonl", "-", "--adm2", "1"], "{}", 2, "leave out the other flags"),
        ([FR, "--jsonl", "gone.jsonl"], "", 2, "gone.jsonl cannot be read: No such file"),
        ([FR, *FLAGS, "--device", "tpu"], "", 2, "tpu"),
        ([FR, "--jsonl", "-"], "", 4, "no rows"),
        (
            [FR, "--jsonl", "-"],
            '{"adm2": 1}\n',
            4,
            "line 1 of stdin: no finite value of vif_scale0",
        ),
        (
            [FR, "--jsonl", "-", "--preset", "slow", "--quality", "40"],
            "{}",
            2,
            "leave out the other flags",
        ),
        ([FR, "--self-test", "--encoder", "x264"], "", 2, "leave out the other flags"),
        (
            [FR, "--jsonl", "-"],
            "\n" + row(encoder="libx264", crf="23"),
            4,
            "line 2 of stdin: the quality value (crf) is '23'",
        ),
        (
            [FR, "--jsonl", "-"],
            row(encoder="libx264", crf=float("nan")),
            4,
            "NaN is not a finite number",
        ),
        (
            [FR, "--jsonl", "-"],
            row(encoder="libx264", crf=30).replace("30", "1e999"),
            4,
            "1e999 is not a finite number",
        ),
        (
            [FR, "--jsonl", "-"],
            row(encoder="libx264"),
            4,
            "line 1 of stdin: libx264 needs its quality value",
        ),
        (
            [FR, "--jsonl", "-"],
            row(crf=23),
            4,
            "line 1 of stdin: preset and quality value belong to an encoder",
        ),
        ([FR, "--jsonl", "-"], row(encoder=[1], crf=23), 4, "line 1 of stdin: encoder is [1]"),
        (
            [TINY, "--jsonl", "-"],
            row(encoder="x264", preset=[1], crf=23),
            4,
            "line 1 of stdin: preset is [1]",
        ),
        ([FR, "--jsonl", "-"], "{}\n[1]\n", 4, "line 2"),
        ([FR, "--jsonl", "-"], row().replace('"adm2": 0.9', '"adm2": 1e39'), 4, "beyond"),
        ([FR, "--jsonl", "-"], "{\n", 4, "line 1"),
        (["fr_regressor_v1", *FLAGS], "", 4, "has no model 'fr_regressor_v1'"),
    ],
)
def test_what_cannot_be_predicted_gets_a_sentence(
    shipped: Any, args: list[str], stdin: str, code: int, sentence: str
) -> None:
    done = shipped.cli("predict", *args, stdin=stdin)
    assert done.returncode == code, done.stderr
    assert sentence in done.stderr and "Traceback" not in done.stderr


@pytest.mark.parametrize(("adm2", "said"), [("1e30", "1e+30"), ("-3", "-3")])
def test_features_that_no_encode_has_are_told(shipped: Any, adm2: str, said: str) -> None:
    done = shipped.cli("predict", FR, "--adm2", adm2, *FLAGS[2:])
    assert done.returncode == 0
    assert f"the command line: adm2 is {said}, and encodes have 0 to 1.1" in done.stderr
    assert "the answer means nothing" in done.stderr
