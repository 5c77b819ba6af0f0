"""`vmaf-tune eval`: what a training run, or a shipped model on a corpus, is worth.
Needs no torch.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from vmaf_train import files, locate
from vmaf_train.contract import MODELS
from vmaf_train.errors import DatasetError, no_model
from vmaf_train.shipping.registry import IDS

from vmaftune import console
from vmaftune.commands import prior_runs, shipped
from vmaftune.commands.options import ModelFolder
from vmaftune.errors import ToolError, UsageError
from vmaftune.media.teacher import load_or_reason

if TYPE_CHECKING:
    from vmaf_train.corpus.dataset import Dataset
    from vmaf_train.results.run_folder import Run
    from vmaf_train.shipping.predictor import Predictor

DEFAULT = "fr_regressor_v2"


def evaluate(
    target: Annotated[
        str | None,
        typer.Argument(
            help="A run's folder, or a model id. Default: the newest run of fr_regressor_v2.",
            metavar="RUN|MODEL",
        ),
    ] = None,
    corpus: Annotated[
        list[Path] | None,
        typer.Option(
            help="Score the shipped MODEL on this corpus instead of reading a run; repeatable."
        ),
    ] = None,
    card: Annotated[
        Path | None,
        typer.Option(help="Write a Markdown model card here, its residual plot beside it."),
    ] = None,
    teacher_model: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="With --corpus: libvmaf's vmaf_v0.6.1.json. Default: the one inside the ffmpeg.",
        ),
    ] = None,
    runs_dir: Annotated[Path, typer.Option(help="Where runs are found.")] = Path("runs"),
    model_dir: ModelFolder = None,
    as_json: Annotated[bool, typer.Option("--json", help="Everything as JSON on stdout.")] = False,
) -> None:
    """Show held-out figures of a training run. They are given per source and slice, beside the
    baselines, with what the codec block changes. Of a model that was not trained here, those that
    were shipped with it.

    Example: vmaf-tune eval fr_regressor_v2 --card fr_regressor_v2.md
    """
    if corpus is not None:
        if card is not None:
            raise UsageError("--card describes a training run; leave out --corpus")
        _score(
            target or DEFAULT,
            corpus,
            locate.to_read(model_dir),
            teacher_model,
            as_json=as_json,
        )
        return
    from vmaf_train.results import prior_run, run_folder, tables

    folder = _run_folder(target, runs_dir)
    if folder is None:
        _shipped(target or DEFAULT, runs_dir, locate.to_read(model_dir), card, as_json=as_json)
        return
    if prior_run.is_prior_run(folder):
        prior_runs.evaluate(folder, card, as_json=as_json)
        return
    run = run_folder.load_run(folder)
    run_folder.require_facts(run)
    result = tables.evaluation(run.predictions)
    if as_json:
        facts = {k: run.metrics[k] for k in ("model_id", "smoke", "corpus", "num_seeds")}
        console.json_document({"run": str(run.path), **facts, **result})
    else:
        _show_run(run, result)
    if card is not None:
        _write_card(run, result, card)
    if not run.smoke and result["scheme"]:
        console.next_command(f"vmaf-tune ship {run.model_id} --run {run.path}")


def _run_folder(target: str | None, runs_dir: Path) -> Path | None:
    """The folder that `target` names, or the newest run of a model; None where it has none."""
    from vmaf_train.results import run_folder

    word = target or DEFAULT
    if word not in IDS:
        if not Path(word).is_dir():
            raise UsageError(f"there is no run's folder {word}, and {no_model(word, IDS)}")
        return Path(word)
    try:
        return run_folder.newest_run(runs_dir, word)
    except DatasetError:
        return None


def _shipped(
    model: str, runs_dir: Path, model_dir: Path, card: Path | None, *, as_json: bool
) -> None:
    """The card of a shipped model, where no run of it is. Raises DatasetError where neither is."""
    from vmaf_train.results import run_folder

    pair = None if card else shipped.pair_of(model, model_dir)
    if pair is None:
        run_folder.newest_run(runs_dir, model)  # says what is missing
        return
    shipped.show(pair, runs_dir, as_json=as_json)


def _show_run(run: Run, result: dict[str, Any]) -> None:
    from vmaf_train.results import card

    smoke = "SMOKE RUN, numbers mean nothing: " if run.smoke else ""
    corpus = run.metrics["corpus"]
    console.say(
        f"{smoke}{run.path}: {run.model_id}, recipe {run.recipe['name']}, corpus {corpus['path']}"
    )
    if not result["summary"]:
        console.warn(
            "this run was made without --loso: nothing was held out, so there is nothing to tell"
        )
        return
    _show_slices(result)
    for scheme, part in reversed(
        result["summary"].items()
    ):  # what counts most, one source held out, stands last
        console.table(
            f"{scheme}: all predictors",
            ("predictor", *card.PREDICTOR_COLUMNS),
            card.predictor_rows(part),
        )
        rows = card.model_rows(part)
        title = (
            f"{scheme}: one {part['held_out']} held out at a time, mean over"
            f" {run.metrics['num_seeds']} seeds"
        )
        console.table(title, (part["held_out"], *card.MODEL_COLUMNS), rows)
        _reasons(part["table"])
    first = result["summary"][result["scheme"]] if result["scheme"] else None
    told = (
        first and card.srocc_sentence(first),
        card.teacher_sentence(result, MODELS[run.model_id].unit),
        card.lift_sentence(result),
    )
    for sentence in told:
        if sentence:
            console.out(sentence)


def _show_slices(result: dict[str, Any]) -> None:
    from vmaf_train.results import card

    for by, rows in result["slices"].items():
        lifts = {row["slice"]: row for row in (result["lift"] or {}).get(by, [])}
        names = [card.SLICE_NAMES[by], *card.MODEL_COLUMNS]
        body = [[row["group"], *card.figures_of(row["n"], row)] for row in rows]
        if lifts:
            names += ["codec lift", "low", "high"]
            for shown in body:
                lift = lifts.get(str(shown[0]), {})
                shown += [lift.get("lift"), lift.get("low"), lift.get("high")]
        console.table(f"{result['scheme']} by {by}", names, body)


def _reasons(rows: list[dict[str, Any]]) -> None:
    for row in rows:
        if row.get("reason"):
            console.warn(f"{row['group']} has no correlation: {row['reason']}")


def _write_card(run: Run, result: dict[str, Any], file: Path) -> None:
    from vmaf_train.results import card

    plot = None
    if file.is_dir():
        raise UsageError(
            f"--card {file} is a folder; name a file, such as {file}/{run.model_id}.md"
        )
    if result["scheme"]:
        plot = file.with_name(f"{file.stem}-residuals.png")
        try:
            card.residual_plot(run.predictions, result["scheme"], plot)
        except ImportError as failure:
            raise ToolError(
                "the card's plot needs matplotlib: pip install 'vmaf-tune[report]'"
            ) from failure
    file.parent.mkdir(parents=True, exist_ok=True)
    files.write_text(file, card.markdown(run, result, plot.name if plot else None))
    console.say(f"wrote {file}" + (f" and {plot}" if plot else ""))


def _score(
    model_id: str, paths: list[Path], model_dir: Path, teacher_model: Path | None, *, as_json: bool
) -> None:
    """A shipped model on every row of a corpus."""
    from vmaf_train.corpus import several
    from vmaf_train.results import tables
    from vmaf_train.shipping import predictor
    from vmaf_train.shipping.case import facts_of
    from vmaf_train.training.baselines import teacher_scores

    model = predictor.load(model_id, model_dir)
    told = facts_of(model.sidecar)
    data = several.load(paths, per_frame=model.contract.unit == "frame", kinds=told.kinds)
    _refuse_strangers(model, data)
    learned = told.digest
    same = learned in {data.digest, *(part.digest for part in data.parts)}
    answers = model.predict(data.features, data.codec if model.contract.has_codec else None)
    teacher, missing = load_or_reason(teacher_model)
    table = tables.score_table(data, answers, teacher_scores(teacher, data))
    result = tables.evaluation(table)
    notes = [*_notes_on(model, data, same=same), *([missing] if missing else [])]
    if as_json:
        facts = {"corpus": data.name, "in_sample": same, "notes": notes}
        console.json_document({"model_id": model_id, **facts, **result})
        return
    for note in notes:
        console.warn(note)
    label = "in sample" if same else "on another corpus than its own (sources may be in both)"
    _show_scored(f"{model_id} {label}: {data.name}, {model.provider_note}", result)


def _refuse_strangers(model: Predictor, data: Dataset) -> None:
    """Raise DatasetError where a difference from the scores would not be an error of the model."""
    if data.strange_features:
        raise DatasetError(data.strange_features)
    taught = model.sidecar.get("teacher")
    if data.teacher is not None and data.teacher != taught:
        raise DatasetError(
            f"the scores of {data.name} are those of {data.teacher}, and {model.contract.id}"
            f" imitates {taught}: their difference is not an error of the model"
        )


def _notes_on(model: Predictor, data: Dataset, *, same: bool) -> list[str]:
    """What a reader of the figures must know of the corpus."""
    from vmaf_train.corpus import duplicates

    likeness = duplicates.find_in(data)
    notes = [
        *data.notes,
        *([likeness.note] if likeness.note else []),
        *(twins.sentence for twins in likeness.twins),
        *(note for name in sorted(set(data.encoder)) for note in model.notes(name, None)),
    ]
    if same:
        notes.append(
            "the model was trained on these rows: this is agreement with its training data, not"
            " held-out evidence"
        )
    return notes


def _show_scored(title: str, result: dict[str, Any]) -> None:
    """Tables of a finished model on a corpus: nothing was held out, so there is no spread."""
    from vmaf_train.results import card, tables

    part = result["summary"][tables.CORPUS]
    rows = [row for row in card.model_rows(part) if not str(row[0]).startswith("±")]
    console.table(title, ("group", *card.MODEL_COLUMNS), rows)
    _reasons(part["table"])
    console.table(
        "all predictors", ("predictor", *card.PREDICTOR_COLUMNS), card.predictor_rows(part)
    )
    _show_slices(result)
