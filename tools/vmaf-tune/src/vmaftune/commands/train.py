"""`vmaf-tune train`: learn a model from a corpus, with what every fold held out as evidence."""

from __future__ import annotations

import math
import re
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from vmaf_train import prior
from vmaf_train.errors import DependencyError
from vmaf_train.shipping.provenance import run_provenance
from vmaf_train.shipping.registry import REGISTRY, TINY
from vmaf_train.training import recipes
from vmaf_train.training.recipes import Recipe

from vmaftune import console
from vmaftune.commands import prior_runs
from vmaftune.commands.shipped import require_model
from vmaftune.costs import duration
from vmaftune.errors import UsageError
from vmaftune.media.teacher import load_or_reason

if TYPE_CHECKING:
    from vmaf_train.corpus.dataset import Dataset
    from vmaf_train.training.experiment import Experiment

SMOKE_EPOCHS, SMOKE_SEEDS, DEFAULT_SEEDS = 20, 2, 5


def train(
    model: Annotated[
        str,
        typer.Argument(help="fr_regressor_v2, fr_regressor_v1, vmaf_tiny_v2 or quality_prior."),
    ] = "fr_regressor_v2",
    loso: Annotated[
        bool,
        typer.Option(
            "--loso", help="Hold every source out once: the evidence that `ship` asks for."
        ),
    ] = False,
    corpus: Annotated[
        list[Path] | None,
        typer.Option(
            help=(
                "A run folder, cells.jsonl, JSONL or parquet file; repeatable: the same film in two"
                " is one group. Default: the newest complete sweep in runs/."
            )
        ),
    ] = None,
    with_kinds: Annotated[
        str | None,
        typer.Option(
            "--with",
            metavar="KINDS",
            help=(
                "Learn from rows of these kinds as well, such as sizes,options,caps; the model does"
                " not see which. Default: they are left out."
            ),
        ),
    ] = None,
    recipe: Annotated[
        str, typer.Option(help="default, or seed (as the hardware study trained).")
    ] = "default",
    epochs: Annotated[
        int | None, typer.Option(help="Passes over the rows. Default: the recipe's.")
    ] = None,
    batch_size: Annotated[
        int | None, typer.Option(help="Rows per step. Default: the recipe's.")
    ] = None,
    lr: Annotated[
        float | None,
        typer.Option(help="Learning rate (the peak of a cycle). Default: the recipe's."),
    ] = None,
    weight_decay: Annotated[
        float | None, typer.Option(help="Adam's L2 term. Default: the recipe's.")
    ] = None,
    hidden: Annotated[
        int | None, typer.Option(help="Width of the hidden layers. Default: the contract's.")
    ] = None,
    depth: Annotated[
        int | None, typer.Option(help="Number of hidden layers. Default: the contract's.")
    ] = None,
    seeds: Annotated[
        int | None,
        typer.Option(min=1, max=1024, help="Networks per fold, seeds 0..N-1. Default: 5."),
    ] = None,
    kfold: Annotated[
        int | None, typer.Option(help="Grouped folds besides --loso, such as 5 (0: none).")
    ] = None,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:N.")] = "auto",
    teacher_model: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help=(
                "libvmaf's vmaf_v0.6.1.json, for the baseline of the teacher's own function."
                " Default: the one inside the ffmpeg."
            ),
        ),
    ] = None,
    smoke: Annotated[
        bool,
        typer.Option(
            "--smoke", help="A few seconds on a synthetic corpus; the result can never be shipped."
        ),
    ] = False,
    out: Annotated[
        Path | None, typer.Option(help="The run's folder. Default: runs/<model>/<UTC time>.")
    ] = None,
    runs_dir: Annotated[
        Path, typer.Option(help="Where corpora are found and runs are put.")
    ] = Path("runs"),
    as_json: Annotated[
        bool, typer.Option("--json", help="The run's summary as JSON on stdout.")
    ] = False,
) -> None:
    """Train a model on a corpus. With --loso every source, and every encoder, is held out once, for
    each seed.

    Writes the candidate, its held-out predictions and those of the baselines into a run's folder,
    never under model/.

    Example: vmaf-tune train fr_regressor_v2 --loso --corpus runs/phase_a/software
    """
    try:
        import torch  # noqa: F401
    except ImportError as failure:
        raise DependencyError("training needs torch: pip install 'vmaf-tune[train]'") from failure
    require_model(model)
    if model == prior.ID:
        of_networks = (epochs, batch_size, lr, weight_decay, hidden, depth, seeds, kfold)
        if smoke or with_kinds or any(option is not None for option in of_networks):
            raise UsageError(
                f"{prior.ID} has no network and no seeds: --loso, --corpus, --out, --runs-dir and"
                " --json are all that it takes"
            )
        folder = _folder(out, runs_dir, model, smoke)
        prior_runs.train(corpus, folder, runs_dir, loso=loso, as_json=as_json)
        _next(folder, model, loso=loso, smoke=False, moved=out is not None, runs_dir=runs_dir)
        return
    from vmaf_train.training.experiment import plan
    from vmaf_train.training.train import choose_device

    _check(loso, seeds, kfold, device)
    options = {
        "epochs": SMOKE_EPOCHS if smoke and epochs is None else epochs,
        "batch_size": batch_size,
        "lr": lr,
        "weight_decay": weight_decay,
        "hidden": hidden,
        "depth": depth,
        "kfold": kfold,
    }
    wanted = _recipe(model, recipe, options)
    kinds = _kinds(with_kinds)
    folder = _folder(out, runs_dir, model, smoke)
    num_seeds = seeds or (SMOKE_SEEDS if smoke else DEFAULT_SEEDS)
    chosen = choose_device(device)
    data, frames = _corpus(corpus or [], runs_dir, wanted, folder, smoke, kinds)
    if not smoke:
        _check_groups(data, loso=loso)
    wanted = _fit(wanted, data, loso=loso, explicit_kfold=kfold is not None)
    teacher, missing = load_or_reason(teacher_model)
    if missing and loso:
        console.warn(missing)
    if loso and not smoke:
        _tell_gate(len(data.groups), num_seeds)
    experiment = plan(
        wanted,
        data,
        frames,
        loso=loso,
        num_seeds=num_seeds,
        device=chosen,
        smoke=smoke,
        teacher=teacher,
    )
    args = {"recipe": recipe, "loso": loso, "seeds": num_seeds, "with": list(kinds), **options}
    provenance = _provenance(model, experiment, folder, args)
    _run(experiment, folder, provenance)
    _show(folder, experiment, as_json=as_json)
    _next(folder, model, loso=loso, smoke=smoke, moved=out is not None, runs_dir=runs_dir)


def _tell_gate(num_groups: int, num_seeds: int) -> None:
    """Say before the work what `ship` would hold in any case."""
    from vmaf_train.shipping.evidence import MIN_GROUPS, MIN_SEEDS

    if num_groups < MIN_GROUPS or num_seeds < MIN_SEEDS:
        console.warn(
            f"`ship` will hold this run: it asks for {MIN_GROUPS} groups and {MIN_SEEDS} seeds or"
            f" more, and this has {num_groups} and {num_seeds}"
        )


def _check(loso: bool, seeds: int | None, kfold: int | None, device: str) -> None:
    """Raise UsageError for flags that contradict each other, before anything is read."""
    if not loso and (seeds is not None or kfold):
        raise UsageError(
            "--seeds and --kfold say how sources are held out; add --loso, or leave them out for a"
            " bare candidate"
        )
    if not re.fullmatch(r"auto|cpu|cuda(:\d+)?", device):
        raise UsageError(f"no device is called {device!r}; use auto, cpu, cuda or cuda:N")


def _recipe(model: str, name: str, options: dict[str, Any]) -> Recipe:

    try:
        wanted = recipes.recipe(model, name, **options)
    except ValueError as failure:
        raise UsageError(str(failure)) from failure
    if wanted.hidden != recipes.recipe(model, name).hidden:
        console.warn(
            f"{model} with layers {wanted.hidden} is not the network of its contract: `ship` will"
            " hold it"
        )
    return wanted


def _kinds(text: str | None) -> tuple[str, ...]:
    """The kinds of rows that --with names. Raises UsageError."""
    from vmaf_train.corpus.dataset import VARIANTS

    named = [name.strip() for name in (text or "").split(",")] if text is not None else []
    unknown = [name for name in named if name not in VARIANTS]
    if unknown:
        raise UsageError(f"--with takes {', '.join(VARIANTS)}, not {unknown[0]!r}")
    return tuple(name for name in VARIANTS if name in named)


def _folder(out: Path | None, runs_dir: Path, model: str, smoke: bool) -> Path:
    from vmaf_train.results.run_folder import METRICS_FILE
    from vmaf_train.training.experiment import new_folder

    folder = out or new_folder(runs_dir, model, smoke)
    whole = folder.resolve()
    shipped = any(
        (place / name).exists()
        for place in (whole, *whole.parents)
        for name in (REGISTRY, f"{TINY}/{REGISTRY}")
    )
    if shipped or whole.is_relative_to(Path("model").resolve()):
        raise UsageError(
            f"{folder} lies under a folder of shipped models, where only `vmaf-tune ship` writes;"
            " name another"
        )
    if (folder / METRICS_FILE).exists():
        raise UsageError(f"{folder} holds a complete run already; name another folder with --out")
    return folder


def _corpus(
    paths: list[Path],
    runs_dir: Path,
    wanted: Recipe,
    folder: Path,
    smoke: bool,
    kinds: tuple[str, ...],
) -> tuple[Dataset, Dataset | None]:
    """The rows to train on and, for a recipe with windows, their frames; says which corpus it is
    before anything else.
    """
    from vmaf_train.corpus import dataset, several
    from vmaf_train.corpus.newest import newest_usable

    how = "named by --corpus"
    passed_over: list[str] = []
    if smoke:
        paths, how = [_made_up(paths, folder)], "synthetic: this is a smoke run"
    if not paths:
        data, passed_over = newest_usable(runs_dir, per_frame=wanted.per_frame, kinds=kinds)
        how = f"the newest complete one in {runs_dir}"
    else:
        data = several.load(paths, per_frame=wanted.per_frame, kinds=kinds)
    unit = "frames" if wanted.per_frame else "cells"
    console.say(
        f"corpus: {data.name} ({how}): {len(data)} {unit} of {len(data.groups)} groups,"
        f" {data.digest[:12]}"
    )
    for note in (*passed_over, *data.notes):
        console.warn(note)
    if wanted.per_frame or not wanted.window_share:
        return data, None
    if all(dataset.has_frames(path) for path in data.paths):
        return data, several.load(data.paths, per_frame=True, kinds=kinds)
    console.warn(
        "this corpus has no frame rows, so the recipe's frame windows are ignored: whole cells only"
    )
    return data, None


def _made_up(paths: list[Path], folder: Path) -> Path:
    """A smoke run's own corpus; says that those that were named are not used."""
    from vmaf_train.corpus.synthetic import write_corpus

    if paths:
        named = ", ".join(map(str, paths))
        console.warn(f"--corpus {named} is ignored: a smoke run makes its own")
    return write_corpus(folder / "corpus")


def _check_groups(data: Dataset, *, loso: bool) -> None:
    """Raise DatasetError where two groups show the same pictures and one is to be held out."""
    from vmaf_train.corpus import duplicates
    from vmaf_train.errors import DatasetError

    found = duplicates.find_in(data)
    if found.note:
        console.warn(found.note)
    if found.twins and loso:
        raise DatasetError(f"{data.name}: {found.twins[0].sentence}")
    for twins in found.twins:
        console.warn(twins.sentence)


def _fit(wanted: Recipe, data: Dataset, *, loso: bool, explicit_kfold: bool) -> Recipe:
    """The recipe as this corpus allows it; a setting that is ignored is told."""

    if not loso:
        return replace(wanted, kfold=0)
    if wanted.kfold > len(data.groups) and not explicit_kfold:
        console.warn(
            f"{wanted.kfold} grouped folds are left out: the corpus has {len(data.groups)} groups"
        )
        return replace(wanted, kfold=0)
    return wanted


def _provenance(
    model: str, experiment: Experiment, folder: Path, args: dict[str, Any]
) -> dict[str, Any]:
    from vmaf_train.corpus.dataset import corpus_files

    return run_provenance(
        entry_point="vmaf-tune train",
        argv=sys.argv,
        args={"model": model, **args, "device": str(experiment.device)},
        inputs=[file for path in experiment.data.paths for file in corpus_files(path)],
        outputs=[folder],
    )


def _run(experiment: Experiment, folder: Path, provenance: dict[str, Any]) -> None:
    from vmaf_train.training.experiment import jobs_of, run

    networks = len(jobs_of(experiment))
    console.say(
        f"{experiment.recipe.model_id}, recipe {experiment.recipe.name}: {networks} networks at"
        f" once on {experiment.device}, {experiment.recipe.epochs} epochs"
    )
    began = time.monotonic()
    with console.Steps("training", experiment.recipe.epochs) as steps:

        def progress(done: int, total: int, loss: float) -> None:
            left = (time.monotonic() - began) / done * (total - done)
            shown = f"{loss:.3f}" if math.isfinite(loss) else "not finite"
            steps.update(done, f"training RMSE {shown}, {duration(left)} left")

        run(experiment, folder, provenance, progress)


def _show(folder: Path, experiment: Experiment, *, as_json: bool) -> None:
    from vmaf_train.corpus.folds import LOSO
    from vmaf_train.results import card
    from vmaf_train.results.run_folder import load_run

    run = load_run(folder)
    summary = run.metrics["summary"].get(LOSO)
    if as_json:
        console.json_document({"run": str(folder), **run.metrics})
        return
    if summary is None:
        console.say(f"{folder}: a candidate without held-out evidence")
        return
    rows = card.model_rows(summary)
    smoke = "SMOKE RUN, numbers mean nothing: " if run.smoke else ""
    title = f"{smoke}{run.model_id}, leave one source out, {experiment.num_seeds} seeds"
    console.table(title, ("held out", *card.MODEL_COLUMNS), rows)


def _next(
    folder: Path, model: str, *, loso: bool, smoke: bool, moved: bool, runs_dir: Path
) -> None:
    elsewhere = moved or runs_dir != Path("runs")
    if smoke:
        console.next_command(f"vmaf-tune eval {folder}")
    elif not loso:
        console.next_command(f"vmaf-tune train {model} --loso")
    else:
        console.next_command(f"vmaf-tune ship {model}" + (f" --run {folder}" if elsewhere else ""))
