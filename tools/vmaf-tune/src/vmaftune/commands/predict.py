"""`vmaf-tune predict`: VMAF points from a shipped model, for one encode on the command line or for
rows of JSONL.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from vmaf_train import locate, prior
from vmaf_train.contract import (
    FEATURE_BOX,
    FEATURES,
    ORDINARY_FEATURES,
    codec_block,
    feature_set,
    feature_value,
)
from vmaf_train.corpus.rows import CELLS, checked, parse, settings
from vmaf_train.errors import DatasetError, ModelError
from vmaf_train.teacher import Teacher

from vmaftune import console
from vmaftune.commands import prior_runs
from vmaftune.commands.options import ModelFolder
from vmaftune.commands.shipped import require_model
from vmaftune.encoders import find
from vmaftune.errors import UsageError
from vmaftune.media.teacher import load_teacher

if TYPE_CHECKING:
    from vmaf_train.shipping.predictor import Predictor

_SHOWN = ("cell", "key", "src", "encoder", "preset", "crf", "frame_index")
Located = tuple[str, dict[str, Any]]
"""Where a row was read, for messages, and the row."""
_MEASURED = ("vmaf_score", "vmaf")
FLOAT32 = 3.4028234e38
"""The largest number that a model takes."""


def predict(
    model: Annotated[
        str, typer.Argument(help="Model id in the registry, such as fr_regressor_v2.")
    ],
    encoder: Annotated[
        str | None, typer.Option(help="Encoder of the encode: a full name or an alias.")
    ] = None,
    preset: Annotated[
        str | None, typer.Option(help="Its preset; the encoder's default without it.")
    ] = None,
    quality: Annotated[
        float | None, typer.Option(help="Its quality value: CRF, CQ, QP or ICQ.")
    ] = None,
    adm2: Annotated[
        float | None, typer.Option(help="Mean of libvmaf's adm2 over the encode.")
    ] = None,
    vif_scale0: Annotated[
        float | None, typer.Option("--vif-scale0", help="Mean of vif_scale0.")
    ] = None,
    vif_scale1: Annotated[
        float | None, typer.Option("--vif-scale1", help="Mean of vif_scale1.")
    ] = None,
    vif_scale2: Annotated[
        float | None, typer.Option("--vif-scale2", help="Mean of vif_scale2.")
    ] = None,
    vif_scale3: Annotated[
        float | None, typer.Option("--vif-scale3", help="Mean of vif_scale3.")
    ] = None,
    motion2: Annotated[float | None, typer.Option(help="Mean of motion2.")] = None,
    jsonl: Annotated[
        str | None,
        typer.Option(help="File of rows, one JSON object a line, such as cells.jsonl; - is stdin."),
    ] = None,
    self_test: Annotated[
        bool,
        typer.Option(
            "--self-test", help="Predict the rows stored with the model again and compare."
        ),
    ] = False,
    exact: Annotated[
        bool,
        typer.Option(
            "--exact",
            help=(
                "Evaluate the teacher's own function as well, and the phone model's: for a frame"
                " these are libvmaf's scores."
            ),
        ),
    ] = False,
    teacher_model: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="libvmaf's vmaf_v0.6.1.json, for --exact. Default: the one inside the ffmpeg.",
        ),
    ] = None,
    device: Annotated[str, typer.Option(help="auto, cpu or cuda.")] = "auto",
    model_dir: ModelFolder = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object per row.")] = False,
) -> None:
    """Predict VMAF from the features of a scored encode. They are libvmaf's six, so the encode must
    be finished; `vmaf-tune find` foretells encodes that are not. fr_regressor_v2 takes the
    encoder's settings as well.

    Give the features as flags, or rows with --jsonl: flat, or with per_frame_features as in
    cells.jsonl. Leave out --encoder for the codec-blind answer.

    Example: vmaf-tune predict fr_regressor_v2 --jsonl runs/phase_a/software/cells.jsonl --json
    """
    require_model(model)
    flags = dict(
        adm2=adm2,
        vif_scale0=vif_scale0,
        vif_scale1=vif_scale1,
        vif_scale2=vif_scale2,
        vif_scale3=vif_scale3,
        motion2=motion2,
    )
    if device not in ("auto", "cpu", "cuda"):
        raise UsageError(f"no device is called {device!r}; use auto, cpu or cuda")
    settings = {"encoder": encoder, "preset": preset, "quality": quality}
    given = any(value is not None for value in (*settings.values(), *flags.values()))
    if given and (jsonl is not None or self_test):
        raise UsageError(
            "--jsonl and --self-test bring their own settings and features; leave out the other"
            " flags"
        )
    rows: list[Located] = []
    if not self_test and model != prior.ID:
        rows = (
            _finished(jsonl)
            if jsonl is not None
            else [("the command line", _row(encoder, preset, quality, flags))]
        )
    if model == prior.ID:
        prior_runs.self_test(locate.to_read(model_dir), as_json=as_json, asked=self_test)
        return
    from vmaf_train.shipping import predictor

    place = locate.to_read(model_dir)
    loaded = predictor.load(model, place, device)  # type: ignore[arg-type]  # checked above
    console.say(f"{model} runs {loaded.provider_note}")
    if self_test:
        _self_test(loaded, place, as_json)
        return
    answers = _answers(loaded, rows)
    if exact:
        _add_exact(load_teacher(teacher_model), rows, answers)
    if as_json:
        for answer in answers:
            console.json_line(answer)
    else:
        _show(model, answers)


def _row(
    encoder: str | None,
    preset: str | None,
    quality: float | None,
    features: dict[str, float | None],
) -> dict[str, Any]:
    """One row from the flags, checked as a sweep would. Raises UsageError for what is missing or
    not a setting.
    """
    missing = [f"--{name.replace('_', '-')}" for name, value in features.items() if value is None]
    if missing:
        raise UsageError(
            f"a prediction needs all six features; missing: {', '.join(missing)} (or give --jsonl)"
        )
    if encoder is None:
        if preset is not None or quality is not None:
            raise UsageError("--preset and --quality belong to an encoder; name it with --encoder")
        return {"per_frame_features": features}

    known = find(encoder)
    if quality is None:
        raise UsageError(f"{known.name} needs its quality value: --quality")
    settings = {
        "preset": known.check_preset(preset or known.default_preset),
        "crf": known.check_quality(quality),
    }
    return {"encoder": known.name, **settings, "per_frame_features": features}


def _finished(name: str) -> list[Located]:
    """Rows of a file without those of failed cells, which have no features; as `_read`."""
    from vmaf_train.corpus.ledger import require_sound_folder

    if Path(name).name == CELLS and Path(name).is_file():
        require_sound_folder(Path(name).parent)
    found = list(_read(name))
    measured = [(where, row) for where, row in found if row.get("status") != "failed"]
    if len(measured) < len(found):
        console.warn(f"left out {len(found) - len(measured)} failed cells")
    return measured


def _read(name: str) -> Iterator[Located]:
    """Rows of a JSONL file or of stdin. Raises DatasetError with the line for one that is not a
    JSON object.
    """

    try:
        lines = (
            sys.stdin.readlines()
            if name == "-"
            else Path(name).read_text(encoding="utf-8").splitlines()
        )
    except OSError as failure:
        raise UsageError(f"{name} cannot be read: {failure.strerror}") from failure
    except UnicodeDecodeError as failure:
        raise UsageError(f"{name} cannot be read as text: it is no UTF-8") from failure
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        where = f"line {number} of {'stdin' if name == '-' else name}"
        try:
            row = parse(line)
            if "schema_version" in row:
                checked(row)
        except (ValueError, DatasetError) as failure:
            raise DatasetError(f"{where}: {failure}") from failure
        yield where, row


def _answers(loaded: Predictor, rows: list[Located]) -> list[dict[str, Any]]:
    """Each row's own identity, what was measured (if anything), `predicted` in VMAF points, and a
    `note` where due.
    """
    import numpy as np

    if not rows:
        raise DatasetError("there are no rows to predict")
    has_codec = loaded.contract.has_codec
    _tell_teachers(loaded, rows)
    inputs = [_inputs(where, row, has_codec) for where, row in rows]
    _tell_strange([where for where, _ in rows], [features for features, _, _ in inputs])
    notes = [loaded.notes(*settings) for _, _, settings in inputs]
    for note in dict.fromkeys(note for of_row in notes for note in of_row):
        console.warn(note)
    if not has_codec and any(encoder for _, _, (encoder, _) in inputs):
        console.warn(f"{loaded.contract.id} does not look at encoder, preset and quality")
    if loaded.contract.unit == "frame" and any("per_frame_features" in row for _, row in rows):
        console.warn(
            f"{loaded.contract.id} learned from single frames; these rows hold means over an encode"
        )
    blocks = np.array([block for _, block, _ in inputs]) if has_codec else None
    predicted = loaded.predict(np.array([features for features, _, _ in inputs]), blocks)
    parts = zip(rows, inputs, predicted, notes, strict=True)
    return [
        _answer(row, settings[0], float(value), of_row)
        for (_, row), (_, _, settings), value, of_row in parts
    ]


def _tell_strange(places: list[str], rows: list[list[float]]) -> None:
    """Say where the first features are that no encode has."""
    for where, features in zip(places, rows, strict=True):
        for name, value, (low, high) in zip(FEATURES, features, FEATURE_BOX, strict=True):
            if not low <= value <= high:
                console.warn(
                    f"{where}: {name} is {value:g}, and encodes have {low:g} to {high:g}; the"
                    " answer means nothing"
                )
                return


def _tell_teachers(loaded: Predictor, rows: list[Located]) -> None:
    """Say where a row's score or features are not those that the model learned."""
    ours = str(loaded.sidecar.get("teacher"))
    for where, row in rows:
        theirs = row.get("teacher")
        features = row.get("features_of") or ORDINARY_FEATURES
        if theirs is not None and theirs != ours:
            console.warn(
                f"{where} and others hold scores of {theirs}; {loaded.contract.id} imitates {ours}"
            )
            return
        if features != feature_set(ours):
            console.warn(
                f"{where} and others hold features of {features}; {loaded.contract.id} learned"
                f" those of {feature_set(ours)}"
            )
            return


def _add_exact(teacher: Teacher, rows: list[Located], answers: list[dict[str, Any]]) -> None:
    """The teacher's own function on each row, and the phone model's, in place.

    Of a frame both are libvmaf's scores; of a cell they are the functions of its mean features.
    """
    strange = 0
    for (_, row), answer in zip(rows, answers, strict=True):
        named = row.get("teacher") or ORDINARY_FEATURES
        if not teacher.applies_to(str(named), row.get("features_of")):
            strange += 1
            continue
        nested = row.get("per_frame_features")
        values = nested if isinstance(nested, dict) else row
        found = [feature_value(values, name) for name in FEATURES]
        features = [[value for value in found if value is not None]]
        unclipped = row.get("vmaf_unclipped")
        measured = teacher.unclipped(features) if unclipped is None else [float(unclipped)]
        answer["exact"] = float(teacher.score(features)[0])
        answer["phone"] = float(teacher.phone(measured)[0])
    if strange:
        console.warn(f"{strange} rows have another teacher or its other features: no exact value")


def _inputs(
    where: str, row: dict[str, Any], has_codec: bool
) -> tuple[list[float], list[float], tuple[str | None, str | None]]:
    """Raw features (6,), codec block (14,), and (encoder, preset) of a row.

    Raises DatasetError for a missing feature, a setting of another type or, with a codec input,
    half of the settings.
    """

    nested = row.get("per_frame_features")
    found = {
        name: feature_value(nested if isinstance(nested, dict) else row, name) for name in FEATURES
    }
    missing = [name for name, value in found.items() if value is None]
    if missing:
        raise DatasetError(
            f"{where}: no finite value of {', '.join(missing)}; a row needs all six features"
        )
    large = [name for name, value in found.items() if value is not None and abs(value) > FLOAT32]
    if large:
        raise DatasetError(
            f"{where}: {', '.join(large)} is beyond the numbers that the model takes (float32)"
        )
    try:
        encoder, preset, quality = settings(row)
    except DatasetError as failure:
        raise DatasetError(f"{where}: {failure}") from failure
    if has_codec and encoder is not None and quality is None:
        raise DatasetError(
            f"{where}: {encoder} needs its quality value (crf); leave out both for the codec-blind"
            " answer"
        )
    if has_codec and encoder is None and (preset is not None or quality is not None):
        raise DatasetError(
            f"{where}: preset and quality value belong to an encoder; name it as well"
        )
    block = codec_block(encoder, preset, quality)
    return [value for value in found.values() if value is not None], block, (encoder, preset)


def _answer(
    row: dict[str, Any], encoder: str | None, predicted: float, notes: list[str]
) -> dict[str, Any]:
    measured = next((row[name] for name in _MEASURED if row.get(name) is not None), None)
    answer = {name: row[name] for name in _SHOWN if row.get(name) is not None}
    if encoder is not None:
        answer["encoder"] = encoder
    answer["predicted"] = predicted
    if measured is not None:
        answer["vmaf"] = measured
    return answer | {"note": "; ".join(notes)} if notes else answer


def _show(model: str, answers: list[dict[str, Any]]) -> None:
    names = [
        n
        for n in (*_SHOWN, "vmaf", "predicted", "exact", "phone")
        if n != "key" and any(n in answer for answer in answers)
    ]
    rows = [[answer.get(name) for name in names] for answer in answers]
    numbers = sum(name in ("vmaf", "predicted", "exact", "phone") for name in names)
    console.table(model, names, rows, left=len(names) - numbers)


def _self_test(loaded: Predictor, place: Path, as_json: bool) -> None:
    from vmaf_train.model_file.graph import PARITY_LIMIT

    difference = loaded.self_test()
    rows = len(loaded.sidecar["self_test"]["score"])
    if not difference <= PARITY_LIMIT:
        raise ModelError(
            f"{loaded.contract.id} answers {rows} stored rows up to {difference:.2e} VMAF points"
            f" differently from torch; the limit is {PARITY_LIMIT:g}"
        )
    facts = {
        "model": loaded.contract.id,
        "sha256": loaded.artifact.sha256,
        "model_dir": str(place),
        "provider": loaded.provider,
        "rows": rows,
    }
    if as_json:
        console.json_line({**facts, "max_difference": difference})
    else:
        console.out(
            f"{rows} stored rows predicted again with the model in {place}: at most"
            f" {difference:.1e} VMAF points from torch"
        )
