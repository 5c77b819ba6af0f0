"""`vmaf-tune ship`: judge the newest run of a model; promote it, or hold and say why."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from vmaftune import console
from vmaftune.errors import GateHold, ToolError, UsageError

if TYPE_CHECKING:
    from vmaf_train.results.run_folder import Run
    from vmaf_train.shipping.gate import Verdict
    from vmaf_train.shipping.registry import Entry, Registry

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
    model_dir: Annotated[Path, typer.Option(help="Folder that holds tiny/registry.json.")] = Path(
        "model"
    ),
    runs_dir: Annotated[Path, typer.Option(help="Folder of the training runs.")] = Path("runs"),
    as_json: Annotated[bool, typer.Option("--json", help="Print the verdict as JSON.")] = False,
) -> None:
    """Judge a training run by its held-out predictions, and promote its model into the registry
    only if all checks pass.

    A candidate that is held back leaves the registry as it is; the reasons are in verdict.json of
    the run's folder (exit code 6). A promotion is atomic, and read back in a new process before it
    counts.

    Example: vmaf-tune ship fr_regressor_v2 --dry-run
    """
    if rollback:
        if dry_run or run is not None:
            raise UsageError(
                "--rollback puts back the pair before the last promotion at once; leave out"
                " --dry-run and --run"
            )
        _roll_back(model, model_dir, as_json)
        return
    from vmaf_train.results.run_folder import load_run
    from vmaf_train.shipping import gate

    candidate = load_run(run or _newest(runs_dir, model))
    if candidate.model_id != model:
        raise UsageError(f"{candidate.path} is a run of {candidate.model_id}, not of {model}")
    console.say(f"judging {candidate.path}")
    verdict = gate.judge(candidate, model_dir)
    entry, changes = _proposal(candidate, verdict, model_dir)
    if not as_json:
        _show(verdict)
        if dry_run:
            _show_changes(entry, changes)
    if not dry_run:
        _write_verdict(candidate, verdict)
    if verdict.passed and not dry_run:
        _promote(candidate, verdict, entry, model_dir)
        console.say(
            (
                f"shipped {entry.onnx}"
                if changes
                else f"{entry.onnx} was shipped already; the registry stays"
            ),
            "green",
        )
    if as_json:
        facts = {
            "run": str(candidate.path),
            "dry_run": dry_run,
            "onnx": entry.onnx,
            "changes": changes,
        }
        console.json_document({**facts, **verdict.to_json()})
    if not verdict.passed:
        raise GateHold(_sentence(verdict))
    console.next_command(
        f"vmaf-tune ship {model}" if dry_run else f"vmaf-tune predict {model} --self-test"
    )


def _newest(runs_dir: Path, model: str) -> Path:
    """The newest complete run, or, where there are only smoke runs, the newest of those (which the
    gate will hold).
    """
    from vmaf_train.errors import DatasetError
    from vmaf_train.results.run_folder import METRICS_FILE, SMOKE_SUFFIX, newest_run

    try:
        return newest_run(runs_dir, model)
    except DatasetError:
        smoke = sorted(f.parent for f in runs_dir.glob(f"{model}/*{SMOKE_SUFFIX}/{METRICS_FILE}"))
        if not smoke:
            raise
        return smoke[-1]


def _proposal(candidate: Run, verdict: Verdict, model_dir: Path) -> tuple[Entry, dict[str, Any]]:
    """The registry entry that a promotion would write, and {field: [now, then]} where
    it differs.
    """
    from vmaf_train.shipping import registry

    onnx = candidate.path / "candidate.onnx"
    data = onnx.read_bytes() if onnx.is_file() else b""
    entry = registry.new_entry(
        candidate.model_id,
        data,
        description=_description(candidate, verdict),
        notes=_notes(candidate),
    )
    changes = registry.difference(registry.load(model_dir), entry)
    return entry, (
        {name: list(pair) for name, pair in changes.items()} if "sha256" in changes else {}
    )


def _description(candidate: Run, verdict: Verdict) -> str:
    from vmaf_train.contract import MODELS

    contract, figures = MODELS[candidate.model_id], verdict.figures
    inputs = "six libvmaf features" + (" and the codec block" if contract.has_codec else "")
    held_out = candidate.predictions[candidate.predictions["scheme"] == "loso"]
    said = f"VMAF of one {contract.unit} from {inputs}"
    if not figures:
        return said
    return (
        f"{said}. Leave-one-source-out over {held_out['group'].nunique()} sources x"
        f" {held_out['seed'].nunique()} seeds: PLCC {figures.get('plcc', 0):.4f}, SROCC"
        f" {figures.get('srocc', 0):.4f}, RMSE {figures['rmse']:.3f}, MAE {figures['mae']:.3f} VMAF"
        " points."
    )


def _notes(candidate: Run) -> str:
    corpus = candidate.sidecar.get("corpus") or {}
    trained = ", ".join(candidate.sidecar.get("trained_encoders") or ()) or "not an input"
    return (
        f"Teacher {candidate.sidecar.get('teacher')}; corpus {corpus.get('path')}, digest"
        f" {str(corpus.get('digest'))[:8]}; encoders seen in training: {trained}."
    )


def _show(verdict: Verdict) -> None:
    rows = [(c.name, _value(c.value), c.limit, c.verdict) for c in verdict.checks]
    console.table(
        f"gate: {verdict.model_id}", ("check", "value", "limit", "verdict"), rows, styles=_STYLES
    )
    for check in verdict.checks:
        if check.note and check.verdict != "pass":
            console.say(f"{check.verdict}: {check.name}: {check.note}")


def _value(value: float | int | str | None) -> str:
    small = isinstance(value, float) and 0 < abs(value) < 1e-3
    return f"{value:.1e}" if small else console.cell_text(value)


def _show_changes(entry: Entry, changes: dict[str, Any]) -> None:
    if not changes:
        console.say(f"{entry.onnx} is shipped already; nothing would change")
        return
    rows = [(name, now, then) for name, (now, then) in changes.items()]
    console.table(f"registry entry {entry.id}", ("field", "now", "then"), rows, left=3)


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


def _write_verdict(candidate: Run, verdict: Verdict) -> None:
    from vmaf_train import files

    with _writing():
        files.write_json(candidate.path / VERDICT, verdict.to_json())


def _promote(candidate: Run, verdict: Verdict, entry: Entry, model_dir: Path) -> None:
    from vmaf_train.shipping import registry

    before = registry.load(model_dir)
    sidecar = {**candidate.sidecar, "gate": verdict.to_json()}
    with _writing():
        registry.promote(
            model_dir, entry, (candidate.path / "candidate.onnx").read_bytes(), sidecar
        )
    _confirm(entry, before, model_dir)


def _confirm(entry: Entry, before: Registry, model_dir: Path) -> None:
    """Read the registry's new entry back in a new process; put `before` back when it is not as it
    should be.
    """
    from vmaf_train.errors import ModelError
    from vmaf_train.shipping import registry

    problem = _read_back(entry, model_dir)
    if problem:
        with _writing():
            registry.restore(before)
        raise ModelError(
            f"{entry.onnx} did not read back ({problem}), so the registry is as it was before"
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
    from vmaftune.media.process import Runner

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
    from vmaf_train.shipping import registry

    before = registry.load(model_dir)
    with _writing():
        entry = registry.rollback(model_dir, model).entry(model)
    _confirm(entry, before, model_dir)
    if as_json:
        console.json_document(
            {"id": entry.id, "onnx": entry.onnx, "replaced": before.entry(model).onnx}
        )
    else:
        console.out(f"{model} is {entry.onnx} again; it was {before.entry(model).onnx}")
