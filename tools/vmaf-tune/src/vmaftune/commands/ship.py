"""`vmaf-tune ship`: judge the newest run of a model; promote it, or hold and say why."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated

import typer
from vmaf_train import files, locate
from vmaf_train.errors import DatasetError, ModelError
from vmaf_train.shipping import promotion, registry
from vmaf_train.shipping.candidate import JudgedRun
from vmaf_train.shipping.promotion import Shelf
from vmaf_train.shipping.registry import Entry, FieldChange
from vmaf_train.shipping.verdict import Value, Verdict

from vmaftune import console
from vmaftune.commands import prior_runs
from vmaftune.commands.shipped import require_model
from vmaftune.errors import GateHold, ToolError, UsageError
from vmaftune.media.process import Runner
from vmaftune.media.teacher import load_or_reason

READ_BACK_TIMEOUT_S = 300.0
VERDICT = "verdict.json"
_STYLES = {"pass": "green", "hold": "bold red", "n/a": "dim"}


def ship(
    model: Annotated[str, typer.Argument(help="Model id, such as fr_regressor_v2.")],
    run: Annotated[
        Path | None,
        typer.Option(
            help="Folder of the training run to judge; without it, the newest complete one."
        ),
    ] = None,
    dry_run: Annotated[
        bool,
        typer.Option(
            "--dry-run", help="Judge and show what would change in the registry; write nothing."
        ),
    ] = False,
    rollback: Annotated[
        bool,
        typer.Option("--rollback", help="Put back the model that the last promotion replaced."),
    ] = False,
    retrain_folds: Annotated[
        int | None,
        typer.Option(
            min=1,
            metavar="K",
            help="Train K random folds again, and hold what does not come out again.",
        ),
    ] = None,
    accept_incomparable: Annotated[
        str | None,
        typer.Option(
            metavar="REASON",
            help=(
                "Ship although no source shows which model is better, the new or the shipped one;"
                " the reason is kept in the sidecar."
            ),
        ),
    ] = None,
    teacher_model: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="libvmaf's vmaf_v0.6.1.json. Default: the one inside the ffmpeg.",
        ),
    ] = None,
    model_dir: Annotated[
        Path | None,
        typer.Option(
            help=(
                "Folder that holds tiny/registry.json. Default: VMAF_TUNE_MODELS, else model/ of"
                " the checkout here, else model/ of this folder."
            )
        ),
    ] = None,
    runs_dir: Annotated[Path, typer.Option(help="Folder of the training runs.")] = Path("runs"),
    as_json: Annotated[bool, typer.Option("--json", help="Print the verdict as JSON.")] = False,
) -> None:
    """Judge a training run, and promote its model if it passes. Its held-out predictions
    decide, and all checks must pass before the registry changes.

    A candidate that is held back leaves the registry as it is; the reasons are in verdict.json of
    the run's folder (exit code 6). A promotion is atomic, and read back in a new process before it
    counts.

    Example: vmaf-tune ship fr_regressor_v2 --dry-run
    """
    require_model(model)
    model_dir = locate.to_write(model_dir)
    if rollback:
        if dry_run or run is not None or retrain_folds or accept_incomparable or teacher_model:
            raise UsageError(
                "--rollback puts back the pair before the last promotion at once; leave out"
                " --dry-run and --run, and the flags of the gate"
            )
        _roll_back(model, model_dir, as_json)
        return
    how = Judging(
        retrain_folds=retrain_folds, accepted=accept_incomparable, teacher_model=teacher_model
    )
    folder = _run_folder(run, runs_dir, model)
    with nullcontext() if dry_run else promotion.hold(model_dir) as shelf:
        candidate = _judged(model, folder, model_dir, how)
        changes = registry.difference(registry.load(model_dir), candidate.entry)
        if not as_json:
            _show(candidate.verdict)
        if dry_run and not as_json:
            _show_changes(candidate.entry, changes)
        if shelf is not None:
            _write_verdict(candidate)
        if shelf is not None and candidate.verdict.passed:
            _promote(shelf, candidate)
    if as_json:
        _tell(candidate, changes, dry_run)
    if not candidate.verdict.passed:
        raise GateHold(_sentence(candidate.verdict))
    console.next_command(
        f"vmaf-tune ship {model}" if dry_run else f"vmaf-tune predict {model} --self-test"
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Judging:
    """What the user asked of the gate."""

    retrain_folds: int | None
    accepted: str | None
    teacher_model: Path | None


def _run_folder(run: Path | None, runs_dir: Path, model: str) -> Path:
    """The newest complete run, or, where there are only smoke runs, the newest of those (which the
    gate will hold).
    """
    from vmaf_train.results.run_folder import METRICS_FILE, SMOKE_SUFFIX, newest_run

    if run is not None:
        return run
    try:
        return newest_run(runs_dir, model)
    except DatasetError:
        smoke = sorted(f.parent for f in runs_dir.glob(f"{model}/*{SMOKE_SUFFIX}/{METRICS_FILE}"))
        if not smoke:
            raise
        return smoke[-1]


def _judged(model: str, folder: Path, model_dir: Path, how: Judging) -> JudgedRun:
    """The run in `folder`, judged by the gate of its kind of model."""
    if registry.KIND_OF[model] is registry.PRIOR:
        return prior_runs.judged(folder)
    from vmaf_train.results.run_folder import load_run
    from vmaf_train.shipping import gate

    found = load_run(folder)
    if found.model_id != model:
        raise UsageError(f"{found.path} is a run of {found.model_id}, not of {model}")
    console.say(f"judging {found.path}")
    teacher, missing = load_or_reason(how.teacher_model)
    if missing:
        console.warn(missing)
    verdict = gate.judge(found, model_dir, teacher=teacher, accepted=how.accepted)
    if how.retrain_folds:
        console.say(f"training {how.retrain_folds} folds again")
        again = gate.trained_again(found, how.retrain_folds)
        verdict = replace(verdict, checks=(*verdict.checks, again))
    return gate.candidate(found, verdict, how.accepted)


def _show(verdict: Verdict) -> None:
    rows = [(c.name, _value(c.value), c.limit, c.verdict) for c in verdict.checks]
    console.table(
        f"gate: {verdict.model_id}", ("check", "value", "limit", "verdict"), rows, styles=_STYLES
    )
    for check in verdict.checks:
        if check.note and check.verdict != "pass":
            console.say(f"{check.verdict}: {check.name}: {check.note}")


def _value(value: Value) -> str:
    small = isinstance(value, float) and 0 < abs(value) < 1e-3
    return f"{value:.1e}" if small else console.cell_text(value)


def _show_changes(entry: Entry, changes: list[FieldChange]) -> None:
    if not changes:
        console.say(f"{entry.file} is shipped already; nothing but its sidecar would change")
        return
    rows = [(change.field, change.now, change.then) for change in changes]
    console.table(f"registry entry {entry.id}", ("field", "now", "then"), rows, left=3)


def _tell(candidate: JudgedRun, changes: list[FieldChange], dry_run: bool) -> None:
    facts = {
        "run": str(candidate.folder),
        "dry_run": dry_run,
        "file": candidate.entry.file,
        "changes": {change.field: [change.now, change.then] for change in changes},
    }
    console.json_document({**facts, **candidate.verdict.to_json()})


def _sentence(verdict: Verdict) -> str:
    shown = "; ".join(
        f"{c.name}: {_value(c.value)}, must be {c.limit}" + (f" ({c.note})" if c.note else "")
        for c in verdict.held[:3]
    )
    more = f"; and {len(verdict.held) - 3} more" if len(verdict.held) > 3 else ""
    return (
        f"{verdict.model_id} is held back by {len(verdict.held)} of {len(verdict.checks)} checks:"
        f" {shown}{more}"
    )


def _write_verdict(candidate: JudgedRun) -> None:
    with _writing():
        files.write_json(candidate.folder / VERDICT, candidate.verdict.to_json())


def _promote(shelf: Shelf, candidate: JudgedRun) -> None:
    old = shelf.before.find(candidate.entry.id)
    with _writing():
        entry = shelf.promote(candidate.entry, candidate.data, candidate.sidecar)
    _confirm(shelf, entry)
    with _writing():
        shelf.settle()
    if old is None or old.sha256 != entry.sha256:
        console.say(f"shipped {entry.file}", "green")
    elif old == entry:
        console.say(f"{entry.file} was shipped already; the registry stays", "green")
    else:
        console.say(f"{entry.file} was shipped already; its evidence is renewed", "green")


def _confirm(shelf: Shelf, entry: Entry) -> None:
    """Read the registry's new entry back in a new process; undo it when it is not as it should
    be.
    """
    problem = _read_back(entry, shelf.folder.parent)
    if problem is None:
        return
    with _writing():
        shelf.undo()
    raise ModelError(
        f"{entry.file} did not read back ({problem}), so the registry is as it was before"
    )


@contextmanager
def _writing() -> Iterator[None]:
    """A disk that is full or not ours to write is a sentence, not a bug."""
    try:
        yield
    except OSError as failure:
        what = f"{failure.filename}: " if failure.filename else ""
        raise ToolError(
            f"cannot write {what}{failure.strerror or failure}; mend that and ship again"
        ) from failure


def _read_back(entry: Entry, model_dir: Path) -> str | None:
    """Load the shipped model in a new process and predict the stored rows again; None when all is
    as it should be.
    """
    argv = [sys.executable, "-P", "-m", "vmaftune", "predict", entry.id, "--self-test", "--json"]
    done = Runner().run([*argv, "--model-dir", str(model_dir)], timeout_s=READ_BACK_TIMEOUT_S)
    if done.returncode:
        return (done.tail.splitlines() or [f"exit code {done.returncode}"])[-1]
    found = json.loads(done.stdout)
    if found["sha256"] != entry.sha256:
        return f"the registry gave sha256 {found['sha256'][:8]}"
    console.say(
        f"read back in a new process: {found['rows']} rows within {found['max_difference']:.1e}"
        " VMAF points"
    )
    return None


def _roll_back(model: str, model_dir: Path, as_json: bool) -> None:
    with promotion.hold(model_dir) as shelf:
        now = shelf.before.entry(model)
        with _writing():
            entry = shelf.rollback(model)
        _confirm(shelf, entry)
    if as_json:
        console.json_document({"id": entry.id, "file": entry.file, "replaced": now.file})
    else:
        console.out(f"{model} is {entry.file} again; it was {now.file}")
