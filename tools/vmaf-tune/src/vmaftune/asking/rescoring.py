"""A run folder with kept encodes made ready to be scored again: with another model, or for further
metrics. Nothing is encoded.

    sweep.json --> windows, cells;   cells.jsonl --> what each encode took;   encodes/ --> files
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from vmaf_train.corpus.rows import CELLS, SWEEP, CellRow, latest

from vmaftune.asking.grid_question import GridQuestion
from vmaftune.cell import TEACHER, Cell, KeptEncode, check_utf8
from vmaftune.engine.kept import digests_of, kept_file
from vmaftune.engine.options import Options
from vmaftune.engine.room import BUDGET_BYTES
from vmaftune.errors import SourceError, UsageError
from vmaftune.media import further
from vmaftune.media.content import content_sha256
from vmaftune.media.ffmpeg import find_ffmpeg, identify, usable_cores
from vmaftune.media.process import Runner
from vmaftune.metrics import check_size, neg_of
from vmaftune.request.cells import Plan, matches
from vmaftune.request.document import Document, read_document, window_of
from vmaftune.request.flags import Flags, RunFlags

ALLOWED = frozenset({"vmaf_model", "metrics", "out"})
"""The flags of what to measure that go with --rescore."""
ALLOWED_RUN = frozenset(
    {
        "select",
        "jobs",
        "timeout",
        "scratch_budget",
        "retry_failed",
        "verify",
        "dry_run",
        "ffmpeg",
        "as_json",
        "extend",
    }
)


def rescore_question(folder: Path, flags: Flags, run: RunFlags, runner: Runner) -> GridQuestion:
    """Everything that scoring the kept encodes of `folder` again needs.

    Raises UsageError for a folder that keeps none, or a flag that says how to encode, SourceError
    for a source that is not what it was, ToolError as a sweep does.
    """
    _check_flags(flags, run)
    document, rows = _read(folder)
    teacher = flags.teacher or (document.teacher or (TEACHER,))[0]
    metrics = flags.metrics or ()
    if "neg" in metrics:
        neg_of(teacher)
    cells, notices = _cells(folder, document, rows, teacher, metrics)
    _check_sources(cells, metrics)
    ffmpeg = identify(runner, find_ffmpeg(run.ffmpeg), teacher)
    further.require(ffmpeg, metrics)
    out = flags.out or _beside(folder, teacher, metrics)
    if out.resolve() == folder.resolve():
        raise UsageError(f"--rescore writes new rows into a new folder; {out} is the one it reads")
    check_utf8(out)
    whole = _plan(folder, cells, notices)
    chosen = [cell for cell in cells if not run.select or matches(cell.id, run.select)]
    if not chosen:
        raise UsageError(f"no kept encode matches --select {' '.join(run.select)}")
    return GridQuestion(
        plan=_plan(folder, chosen, notices),
        whole=whole,
        folder=out,
        ffmpeg=ffmpeg,
        options=Options(
            jobs=run.jobs or usable_cores(),
            timeout_s=run.timeout,
            retry_failed=run.retry_failed,
            verify=run.verify,
            budget_bytes=run.scratch_budget or BUDGET_BYTES,
        ),
        hardware=None,
        scorer=None,
        extend=run.extend,
    )


def _check_flags(flags: Flags, run: RunFlags) -> None:
    useless = sorted((flags.given - ALLOWED) | (run.given() - ALLOWED_RUN))
    if useless:
        name = useless[0].replace("_", "-")
        raise UsageError(
            f"{'a list of sources' if name == 'sources' else f'--{name}'} does not go with"
            " --rescore: its cells are those of the folder, and nothing is encoded"
        )
    if flags.teacher is None and not flags.metrics:
        raise UsageError("--rescore needs --vmaf-model or --metrics: what to score again with")


def _read(folder: Path) -> tuple[Document, Mapping[str, CellRow]]:
    if not (folder / SWEEP).is_file() or not (folder / CELLS).is_file():
        raise UsageError(f"{folder} is not the folder of a run: it lacks {SWEEP} or {CELLS}")
    document = read_document(folder / SWEEP)
    if document.pairs and not document.grid:
        raise UsageError(
            f"{folder} holds scored pairs, whose files are yours: score them again with"
            " `vmaf-tune corpus --pairs` and another --out"
        )
    return document, latest(folder / CELLS)


def _cells(
    folder: Path,
    document: Document,
    rows: Mapping[str, CellRow],
    teacher: str,
    metrics: tuple[str, ...],
) -> tuple[list[Cell], tuple[str, ...]]:
    """The finished cells of the plan, each with its kept encode; and what is left out."""
    digests = digests_of(folder)
    windows = {entry.name: window_of(entry) for entry in document.sources}
    found, without, unfinished = [], 0, 0
    for block in document.grid:
        for source in block.sources:
            for setting in block.settings():
                cell = Cell(window=windows[source], setting=setting)
                row = rows.get(cell.id)
                if row is None or not row.is_ok:
                    unfinished += 1
                    continue
                file = kept_file(folder, cell.id, row.key)
                if file.name not in digests:
                    without += 1
                    continue
                kept = _kept(file, digests[file.name], row)
                threads = row.threads or cell.threads
                more = replace(cell, teacher=teacher, metrics=metrics, threads=threads, kept=kept)
                found.append(more)
    if not found:
        raise UsageError(
            f"{folder} keeps no encodes with a digest: encode again into another folder, with"
            " --keep-encodes, and score those"
        )
    notices = []
    if unfinished:
        notices.append(f"{unfinished} cells of {folder} are not finished; they are left out")
    if without:
        notices.append(f"{without} cells of {folder} have no kept encode; they are left out")
    return found, tuple(notices)


def _kept(file: Path, sha256: str, row: CellRow) -> KeptEncode:
    return KeptEncode(
        path=str(file),
        sha256=sha256,
        argv=row.argv or (),
        ffmpeg_version=row.ffmpeg_version,
        encoder_version=row.encoder_version,
        rate_control=row.rate_control,
        wall_s=row.encode_wall_s,
        cpu_s=row.encode_cpu_s,
        device=row.device,
        host=row.host,
    )


def _check_sources(cells: Sequence[Cell], metrics: Sequence[str]) -> None:
    """Raise SourceError for a source file that is not the one that was encoded."""
    for window in {cell.window.name: cell.window for cell in cells}.values():
        check_size(metrics, window.width, window.height, window.name)
        try:
            sha256 = content_sha256(window.path)
        except OSError as failure:
            raise SourceError(
                f"the source {window.path} cannot be read ({failure.strerror}); put it back where"
                " the sweep read it"
            ) from failure
        if sha256 != window.sha256:
            raise SourceError(
                f"the source {window.path} is not the file that was encoded: its digest is another"
                " one; put that file back"
            )


def _plan(folder: Path, cells: Sequence[Cell], notices: tuple[str, ...]) -> Plan:
    windows = {cell.window.name: cell.window for cell in cells}
    return Plan(
        cells=tuple(cells),
        sources=tuple(windows.values()),
        name=folder.resolve().name,
        notices=notices,
    )


def _beside(folder: Path, teacher: str, metrics: Sequence[str]) -> Path:
    """A new folder beside the one that is read: its name, the model and the metrics."""
    own = folder.resolve()
    name = "-".join((own.name, teacher, *metrics))
    return folder.parent / re.sub(r"[^A-Za-z0-9._-]+", "_", name)[:200]
