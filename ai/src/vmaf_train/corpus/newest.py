"""Which corpus is meant where none is named: the newest complete sweep that can be used."""

from __future__ import annotations

import json
from collections.abc import Collection, Sequence
from pathlib import Path

from vmaf_train.contract import Fields
from vmaf_train.corpus.dataset import Dataset, load
from vmaf_train.corpus.ids import number_text
from vmaf_train.corpus.rows import Row, cell_name, read_rows
from vmaf_train.errors import DatasetError

NEVER_CHOSEN = ("demo", "dense")
"""Folders of runs/phase_a that are used only when they are named: the demo's own, and the curves
that no model may learn from.
"""


def newest_corpus(runs_dir: Path | str) -> Path:
    """The folder of the newest complete corpus, as `complete_corpora` says. Raises DatasetError
    when there is none.
    """
    return complete_corpora(runs_dir)[0][0]


def newest_usable(
    runs_dir: Path | str, *, per_frame: bool, kinds: Collection[str] = ()
) -> tuple[Dataset, list[str]]:
    """The newest complete corpus that `load` accepts, and sentences on the folders that were passed
    over for it.

    Raises DatasetError, with those sentences, when there is none.
    """
    folders, notes = complete_corpora(runs_dir)
    for folder in folders:
        try:
            return load(folder, per_frame=per_frame, kinds=kinds), notes
        except (DatasetError, OSError) as failure:
            notes.append(f"passed over {folder}: {failure}")
    raise DatasetError(
        f"no corpus under {Path(runs_dir)} can be used: {'; '.join(notes)}; name one with --corpus"
    )


def complete_corpora(runs_dir: Path | str) -> tuple[list[Path], list[str]]:
    """The folders under `runs_dir`/phase_a whose sweep is complete, and sentences on those which
    are broken or are not.

    The first is the newest: its newest row has the greatest `finished_at`. Complete = every cell of
    the plan in `sweep.json` has a row. The folders of NEVER_CHOSEN are never among them. Raises
    DatasetError when there is none.
    """
    complete: list[tuple[str, Path]] = []
    notes: list[str] = []
    for plan_file in sorted(Path(runs_dir).glob("phase_a/*/sweep.json")):
        folder = plan_file.parent
        if folder.name in NEVER_CHOSEN or not (folder / "cells.jsonl").is_file():
            continue
        try:
            rows = [row for _, row in read_rows(folder / "cells.jsonl")]
            num_done, planned = _progress(plan_file, rows)
        except (DatasetError, OSError) as failure:
            notes.append(f"passed over {folder}: {failure}")
            continue
        if num_done == planned:
            complete.append(
                (max((str(row.get("finished_at") or "") for row in rows), default=""), folder)
            )
        else:
            notes.append(f"passed over {folder} ({num_done} of {planned} cells)")
    where = Path(runs_dir) / "phase_a"
    if not complete and notes:
        raise DatasetError(
            f"no complete corpus under {where}: {'; '.join(notes)}; finish the sweep, or name one"
            " with --corpus"
        )
    if not complete:
        raise DatasetError(
            f"no corpus under {where}; run `vmaf-tune corpus`, or name one with --corpus"
        )
    return [folder for _, folder in sorted(complete, reverse=True)], notes


def _progress(plan_file: Path, rows: Sequence[Row]) -> tuple[int, int]:
    """How many cells of a sweep's plan have a row, and how many there are; a plan without a grid
    tells only the number.
    """
    done = {cell_name(row) for row in rows}
    try:
        plan = json.loads(plan_file.read_text(encoding="utf-8"))
        if "grid" not in plan:
            return min(len(done), int(plan["num_cells"])), int(plan["num_cells"])
        if plan.get("open"):  # complete when its question has ended
            return len(done), len(done) + (plan.get("ended_at") is None)
        planned = {str(pair["cell"]) for pair in plan.get("pairs", ())} | {
            f"{source}/{block['encoder']}/{block['preset']}/{number_text(quality)}{_rest_of(block)}"
            for block in plan["grid"]
            for source in block["sources"]
            for quality in block["quality"]
        }
    except (OSError, ValueError, LookupError, TypeError, AttributeError, RecursionError) as failure:
        raise DatasetError(
            f"{plan_file} is not a readable plan ({type(failure).__name__}: {failure})"
        ) from failure
    return len(planned & done), len(planned)


def _rest_of(block: Fields) -> str:
    """What the ids of a block's cells hold after the quality value."""
    size, options, maxrate = (block.get(n) for n in ("size", "options", "maxrate_kbps"))
    names = [str(options["name"])] if options else []
    if maxrate is not None:
        names.append(f"maxrate={maxrate}k:{block['bufsize_kbps']}k")
    text = f"@{size[0]}x{size[1]}" if size else ""
    return text + (f"+{','.join(names)}" if names else "")
