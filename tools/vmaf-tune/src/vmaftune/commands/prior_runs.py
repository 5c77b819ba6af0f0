"""What `train`, `eval`, `ship` and `predict` do for `quality_prior`, the model of another kind."""

from __future__ import annotations

import itertools
import json
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from vmaf_train import files
from vmaf_train.errors import ModelError
from vmaf_train.prior import ID, STATISTICS
from vmaf_train.shipping import registry

from vmaftune import console
from vmaftune.errors import UsageError

if TYPE_CHECKING:
    from vmaf_train.results.prior_run import PriorRun
    from vmaf_train.shipping.candidate import JudgedRun
    from vmaf_train.training.prior_experiment import Progress

SELF_TEST_LIMIT = 1e-6


def train(
    corpora: Sequence[Path] | None, folder: Path, runs_dir: Path, *, loso: bool, as_json: bool
) -> None:
    """Fit a prior on run folders, and with `loso` judge it on every source held out."""
    from vmaf_train.corpus import dataset
    from vmaf_train.corpus.newest import newest_corpus
    from vmaf_train.results import prior_run
    from vmaf_train.shipping.provenance import run_provenance
    from vmaf_train.training import prior_experiment

    paths = list(corpora or [newest_corpus(runs_dir)])
    experiment = prior_experiment.plan(paths)
    cells = sum(len(content.cells) for content in experiment.known)
    console.say(
        f"corpus: {', '.join(map(str, paths))}: {cells} cells of {len(experiment.known)} windows,"
        f" {len(experiment.groups)} groups"
    )
    provenance = run_provenance(
        entry_point="vmaf-tune train",
        argv=sys.argv,
        args={"model": ID, "loso": loso},
        inputs=[file for path in paths for file in dataset.corpus_files(path)],
        outputs=[folder],
    )
    with _progress("fitting", len(experiment.groups) * len(STATISTICS)) as progress:
        prior_experiment.run(experiment, folder, provenance, progress, loso=loso)
    _show(prior_run.load(folder), as_json=as_json)


@contextmanager
def _progress(what: str, total: int) -> Iterator[Progress]:
    fits = itertools.count()
    with console.Steps(what, total) as steps:

        def tell(following: str) -> None:
            steps.update(next(fits), following)

        yield tell


def evaluate(folder: Path, card: Path | None, *, as_json: bool) -> None:
    """Show what a run foretold of held-out sources; write its card."""
    from vmaf_train.results import prior_run

    run = prior_run.load(folder)
    _show(run, as_json=as_json)
    if card is not None:
        files.write_text(card, prior_run.card(run))
        console.say(f"wrote {card}")
    if run.metrics.loso:
        console.next_command(f"vmaf-tune ship {ID} --run {folder}")


def _show(run: PriorRun, *, as_json: bool) -> None:
    import msgspec
    from vmaf_train.results import prior_run

    if as_json:
        console.json_document({"run": str(run.path), **msgspec.to_builtins(run.metrics)})
        return
    if not run.metrics.loso:
        console.say(f"{run.path}: a candidate without held-out evidence")
    for statistic, found in run.metrics.loso.items():
        title = f"{ID}, leave one source out: {statistic}, VMAF points"
        console.table(title, prior_run.COLUMNS, prior_run.table(found))
        console.say(prior_run.sentence(found))


def judged(folder: Path) -> JudgedRun:
    """The run in `folder`, judged: every fit is made again."""
    from vmaf_train.results import prior_run
    from vmaf_train.shipping import prior_gate

    run = prior_run.load(folder)
    console.say(f"judging {folder}: fitting every prior again")
    with _progress("fitting again", len(run.metrics.groups)) as progress:
        return prior_gate.judge(run, progress)


def self_test(model_dir: Path, *, as_json: bool, asked: bool) -> None:
    """Ask the shipped prior its stored questions again."""
    from vmaf_train.shipping import prior_gate

    if not asked:
        raise UsageError(
            f"{ID} foretells encodes that were not made, for `vmaf-tune find`; here it takes"
            " --self-test only"
        )
    shipped = registry.load(model_dir)
    pair = registry.read_pair(shipped.folder, shipped.entry(ID))
    cases = json.loads(pair.sidecar)["self_test"]
    difference = prior_gate.self_test(pair.data, cases)
    if not difference <= SELF_TEST_LIMIT:
        raise ModelError(
            f"{ID} answers {len(cases)} stored questions up to {difference:.2e} VMAF points"
            f" differently; the limit is {SELF_TEST_LIMIT:g}"
        )
    facts = {"model": ID, "sha256": pair.entry.sha256, "rows": len(cases)}
    if as_json:
        console.json_line({**facts, "max_difference": difference})
    else:
        console.out(f"{len(cases)} stored questions answered again: at most {difference:.1e} apart")
