"""A model card in Markdown from a training run: what was measured, on what, and what the model is
and is not for.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import Any

import pandas as pd

from vmaf_train.contract import MODELS
from vmaf_train.corpus.folds import LOEO, LOSO
from vmaf_train.results.metrics import METRICS
from vmaf_train.results.run_folder import Run
from vmaf_train.results.tables import BLIND_INPUT, CODEC_BLIND, MODEL, RIDGE, TEACHER

COLUMN_NAMES = {
    MODEL: "model",
    BLIND_INPUT: "model, codec-blind input",
    CODEC_BLIND: "codec-blind network",
    RIDGE: "ridge on the six features",
    TEACHER: "the teacher's own function, untrained",
}
LIFT_MARGIN = 0.01
"""VMAF points that the interval of a lift must stay clear of zero by: the ends of a bootstrap over
few sources waver by as much.
"""
SLICE_NAMES = {
    "encoder": "encoder",
    "preset": "encoder and preset",
    "quality_band": "quality value / the encoder's maximum",
    "score_band": "VMAF",
}


def markdown(run: Run, evaluation: Mapping[str, Any], plot: str | None = None) -> str:
    """The card of `run`; `evaluation` is `evaluate.evaluation` of its predictions, `plot` the
    residual plot's file name.
    """
    corpus, recipe = run.metrics["corpus"], run.recipe
    unit = MODELS[run.model_id].unit
    parts = [
        f"# {run.model_id}",
        (
            "**Smoke run on a synthetic corpus: the numbers mean nothing, and it is never"
            " shipped.**"
            if run.smoke
            else ""
        ),
        _what(run),
        "## Trained on",
        (
            f"{corpus['num_rows']} {MODELS[run.model_id].unit}s of {corpus['num_groups']} sources"
            f" ({', '.join(corpus['groups'])}), encoders {', '.join(corpus['encoders'])}; teacher"
            f" {corpus['teacher']}. Corpus `{corpus['path']}`, digest `{corpus['digest']}`. Recipe"
            f" `{recipe['name']}`: {_recipe(recipe)}."
        ),
        *_held_out(run, evaluation),
        *(f"{sentence}." for sentence in [teacher_sentence(evaluation, unit)] if sentence),
        *_lift(evaluation),
        *_slices(evaluation),
        *(["## Residuals", f"![residuals]({plot})"] if plot else []),
        _uses(run),
        "## Where the numbers come from",
        (
            f"`{' '.join(_argv(run))}`; then `vmaf-tune eval {run.model_id}` prints them from the"
            " predictions of that run."
        ),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def table(columns: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """A Markdown table; None is a dash, floats have four significant places."""
    lines = [
        columns,
        ["---", *["---:"] * (len(columns) - 1)],
        *([_text(v) for v in row] for row in rows),
    ]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def residual_plot(predictions: pd.DataFrame, scheme: str, file: Path) -> None:
    """Write a PNG: prediction minus score against the score for every held-out row (seeds
    averaged), by encoder.

    Raises ImportError without matplotlib.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    part = predictions[predictions["scheme"] == scheme]
    keys = ["key", "encoder"] + (["frame_index"] if part["frame_index"].notna().any() else [])
    rows = part.groupby(keys, observed=True)[["y", MODEL]].mean().reset_index()
    figure = Figure(figsize=(8, 4.5), dpi=120, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    for encoder, block in rows.groupby("encoder", observed=True):
        size = 9 if len(rows) < 10_000 else 1
        axes.scatter(
            block["y"], block[MODEL] - block["y"], s=size, alpha=0.6, linewidths=0, label=encoder
        )
    axes.axhline(0, color="black", linewidth=0.8)
    axes.set_xlabel("VMAF of the teacher")
    axes.set_ylabel("prediction - teacher, held out (points)")
    axes.legend(fontsize=8, markerscale=3 if len(rows) >= 10_000 else 1.5)
    file.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(file, metadata={"Software": None})


def _what(run: Run) -> str:
    model = MODELS[run.model_id]
    scaled = (
        "standardised by the caller"
        if model.scaler == "caller"
        else "raw (the scaler is in the graph)"
    )
    codec = " and `codec` (N, 14), the codec block," if model.has_codec else ""
    layers = "-".join(str(w) for w in (*model.hidden, 1))
    return (
        f"A small network ({layers}, {model.activation.upper()}) that predicts the teacher's VMAF"
        f" of one {model.unit} from libvmaf's six features. ONNX opset 17: `features` (N, 6)"
        f" float32, {scaled},{codec} to `{model.output}` (N,) in VMAF points, held in 0..100 as the"
        " teacher holds its own."
    )


def _recipe(recipe: Mapping[str, Any]) -> str:
    facts = {
        k: v
        for k, v in recipe.items()
        if k not in ("model_id", "name", "per_frame", "has_codec") and v
    }
    return ", ".join(f"{k} {v}" for k, v in facts.items())


def _held_out(run: Run, evaluation: Mapping[str, Any]) -> list[str]:
    parts: list[str] = []
    for scheme, result in evaluation["summary"].items():
        title = {
            LOSO: "Held out: one source at a time (LOSO)",
            LOEO: "Held out: one encoder at a time, its sources seen (LOEO)",
        }.get(scheme, f"Held out: whole sources in folds ({scheme})")
        parts.append(f"## {title}\n\nMean over {run.metrics['num_seeds']} seeds.")
        if scheme in (LOSO, LOEO):
            parts.append(table((result["held_out"], *MODEL_COLUMNS), model_rows(result)))
            parts += [f"{sentence}." for sentence in [srocc_sentence(result)] if sentence]
        parts.append(table(("predictor", *PREDICTOR_COLUMNS), predictor_rows(result)))
    return parts or ["## Held out", "Nothing: this run was made without `--loso`."]


MODEL_COLUMNS = ("n", "RMSE", "MAE", "1 - PLCC, 1e-4", "SROCC")
PREDICTOR_COLUMNS = ("mean RMSE", "worst RMSE", "mean MAE", "mean 1 - PLCC, 1e-4", "worst")
"""PLCC is told by what it lacks to 1, in units of 1e-4: beside 1.0000 nothing could be seen."""


def figures_of(n: int | None, row: Mapping[str, float | None]) -> tuple[float | int | None, ...]:
    """A row's `MODEL_COLUMNS`."""
    return n, row["rmse"], row["mae"], lack(row["plcc"]), row["srocc"]


def lack(plcc: float | None) -> float | None:
    """What a correlation lacks to 1, in units of 1e-4; None where there is none."""
    return None if plcc is None else (1 - plcc) * 1e4


def model_rows(result: Mapping[str, Any]) -> list[tuple[Any, ...]]:
    """Rows of one scheme's table: each held-out name, then mean, both deviations and the worst."""
    rows = [(row["group"], *figures_of(row["n"], row)) for row in result["table"]]
    own = result["metrics"][MODEL]
    for label, part in (
        ("mean", "mean"),
        ("± over held-out", "std_groups"),
        ("± over seeds", "std_seeds"),
        ("worst", "worst_mean"),
    ):
        parts = {metric: own[metric] and own[metric][part] for metric in METRICS}
        if part.startswith("std") and parts["plcc"] is not None:
            parts["plcc"] = 1 - parts["plcc"]  # a deviation is the same from either end
        rows.append((label, *figures_of(None, parts)))
    return rows


def predictor_rows(result: Mapping[str, Any]) -> list[tuple[Any, ...]]:
    """Rows of one scheme that set the model beside its baselines: name and `PREDICTOR_COLUMNS`."""
    rows = []
    for column, m in result["metrics"].items():
        plcc = m["plcc"] or {"mean": None, "worst_mean": None}
        rows.append(
            (
                COLUMN_NAMES[column],
                m["rmse"]["mean"],
                m["rmse"]["worst_mean"],
                m["mae"]["mean"],
                lack(plcc["mean"]),
                lack(plcc["worst_mean"]),
            )
        )
    return rows


def srocc_sentence(result: Mapping[str, Any]) -> str | None:
    """Which source makes the mean SROCC; None with fewer than two values."""
    known = {row["group"]: row["srocc"] for row in result["table"] if row["srocc"] is not None}
    if len(known) < 2:
        return None
    worst = min(known, key=lambda name: known[name])
    rest = [value for name, value in known.items() if name != worst]
    return (
        f"The mean SROCC is made by {worst} ({known[worst]:.4f}); without it, it is"
        f" {sum(rest) / len(rest):.4f}"
    )


def teacher_sentence(evaluation: Mapping[str, Any], unit: str) -> str | None:
    """What the model is worth beside the teacher's own function; None where the run lacks that."""
    found = evaluation.get("teacher")
    if not found:
        return None
    gains = list(found["by_group"].values())
    of = "mean features of a cell, where it is not exact" if unit == "cell" else "frame, exactly"
    return (
        f"The teacher's own function, untrained, on the {of}: its RMSE minus the model's is"
        f" {found['mean']:.3f} points on average (95% interval over sources {found['low']:.3f} to"
        f" {found['high']:.3f}); it is better on {sum(g < 0 for g in gains)} of {len(gains)}"
        " sources. `vmaf-tune predict --exact` evaluates it"
    )


def lift_sentence(evaluation: Mapping[str, Any]) -> str | None:
    """What the codec block changes, as a sentence; None for a model without one."""
    if not evaluation["lift"]:
        return None
    rmse = evaluation["lift"]["overall"][0]
    gains = list(rmse["by_group"].values())
    verdict = "it may as well be nothing"
    if rmse["low"] > LIFT_MARGIN or rmse["high"] < -LIFT_MARGIN:
        verdict = "a gain" if rmse["mean"] > 0 else "a loss"
    return (
        "RMSE of the codec-blind network minus the model's, on the same folds: mean"
        f" {rmse['mean']:.3f} points (95% interval over sources {rmse['low']:.3f} to"
        f" {rmse['high']:.3f}), median {median(gains):.3f}, above zero on"
        f" {sum(g > 0 for g in gains)} of {len(gains)} sources: {verdict}"
    )


def _lift(evaluation: Mapping[str, Any]) -> list[str]:
    sentence = lift_sentence(evaluation)
    if sentence is None:
        return []
    parts = [
        "## What the codec block changes",
        sentence[0].upper() + sentence[1:] + ".",
        "Of so many slices some lie clear of zero by chance.",
    ]
    for by, name in SLICE_NAMES.items():
        rows = [tuple(row.values()) for row in evaluation["lift"][by]]
        parts.append(table((name, "n", "sources", "RMSE gained", "low", "high"), rows))
    return parts


def _slices(evaluation: Mapping[str, Any]) -> list[str]:
    parts = ["## By encoder, preset, quality and score"] if evaluation["slices"] else []
    for by, rows in evaluation["slices"].items():
        shown = ((row["group"], *figures_of(row["n"], row)) for row in rows)
        parts.append(table((SLICE_NAMES[by], *MODEL_COLUMNS), shown))
    return parts


def _uses(run: Run) -> str:
    per = MODELS[run.model_id].unit
    return (
        f"## For, and not for\n\nFor: VMAF of a {per} from its six libvmaf features, without the"
        " teacher; the inputs of work on encodes that were not made. Not for: replacing libvmaf"
        " where it can run. The teacher is itself a function of these six features, so this model"
        " imitates it: a high correlation says little about viewers. Encoders, resolutions and"
        " content outside the corpus are extrapolation; the LOEO table shows what an unseen"
        " encoder costs."
    )


def _argv(run: Run) -> list[str]:
    argv = [str(a) for a in run.provenance.get("argv", [])]
    return [Path(argv[0]).name, *argv[1:]] if argv else ["unknown"]


def _text(value: object) -> str:
    if value is None:
        return "–"
    if isinstance(value, float):
        return f"{value:.4f}" if abs(value) < 10 else f"{value:.2f}"
    return str(value)
