"""`vmaf-tune merge`: join run folders."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from vmaftune import console
from vmaftune.cell import check_utf8
from vmaftune.commands.options import JsonDocument
from vmaftune.commands.running import next_report
from vmaftune.engine.merge import merge_folders


def merge(
    folders: Annotated[
        list[Path],
        typer.Argument(help="Run folders with parts of one plan.", metavar="DIR..."),
    ],
    out: Annotated[Path, typer.Option("--out", help="The folder to write; it must be new.")],
    as_json: JsonDocument = False,
) -> None:
    """Join run folders by key. The result is the folder that a single run would have made. Folders
    that measured one cell differently are refused.

    Example: vmaf-tune merge runs/part-1 runs/part-2 runs/part-3 --out runs/phase_a/whole
    """
    check_utf8(*sys.argv)
    done = merge_folders(folders, out)
    if as_json:
        counts = {"cells": done.num_cells, "rows": done.num_rows, "failed": done.num_failed}
        console.json_document({"folder": str(out), **{f"num_{k}": v for k, v in counts.items()}})
        return
    console.say(
        f"{out}: {done.num_rows} of {done.num_cells} cells from {len(folders)} folders,"
        f" {done.num_failed} failed"
    )
    next_report(out)
