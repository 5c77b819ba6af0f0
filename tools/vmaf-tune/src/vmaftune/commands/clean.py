"""`vmaf-tune clean`: remove what a killed sweep left in its folder."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Annotated

import typer

from vmaftune import console
from vmaftune.cell import TMP
from vmaftune.commands.options import JsonDocument
from vmaftune.engine.hold import lock, stale
from vmaftune.request.document import require_plan


def clean(
    folder: Annotated[Path, typer.Argument(help="A run folder.", metavar="DIR")],
    as_json: JsonDocument = False,
) -> None:
    """Remove temporary folders that a killed sweep left. Rows and kept encodes stay.

    Example: vmaf-tune clean runs/phase_a/demo
    """

    require_plan(folder)
    with lock(folder):
        found = stale(folder)
        size = sum(p.stat().st_size for place in found for p in place.rglob("*") if p.is_file())
        shutil.rmtree(folder / TMP, ignore_errors=True)
    if as_json:
        console.json_document(
            {"folder": str(folder), "removed": [str(p) for p in found], "bytes": size}
        )
    else:
        console.say(
            f"{folder}: {len(found)} stale temporary folders removed, {size / 2**20:.1f} MiB freed"
        )
