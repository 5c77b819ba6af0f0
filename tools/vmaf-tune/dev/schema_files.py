"""Write the JSON Schemas of the files that other programs may read: `python
tools/vmaf-tune/dev/schema_files.py` fills schemas/, `--check` only compares.

They are made from the types that the program reads and writes with, so they cannot drift from it.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import msgspec
from vmaf_train.corpus.frames import FurtherRow
from vmaf_train.corpus.rows import CellRow
from vmaf_train.shipping.verdict import Written
from vmaftune.engine.events import Event, LadderEvent
from vmaftune.report.outline import Outline
from vmaftune.request.document import Document

SCHEMAS = Path(__file__).parents[3] / "schemas"
DRAFT = "https://json-schema.org/draft/2020-12/schema"
TYPES: dict[str, tuple[str, Any]] = {
    "cell-row": ("One line of cells.jsonl; docs/rows.md", CellRow),
    "frame-row": ("One line of frames.jsonl; docs/rows.md", FurtherRow),
    "sweep": ("sweep.json, the plan of a run folder", Document),
    "ladder": ("The last line of `vmaf-tune ladder --json`; docs/events.md", LadderEvent),
    "verdict": ("verdict.json of a training run; docs/predictions.md", Written),
    "report": ("What `vmaf-tune report --json` prints; docs/report.md", Outline),
    "event": ("One line of `vmaf-tune corpus --json`; docs/events.md", Event),
}


def schema(title: str, kind: Any) -> dict[str, Any]:
    """The schema of a type. Fields that a type does not know are allowed, as readers keep them."""
    found = msgspec.json.schema(kind, schema_hook=lambda _: {"description": "anything"})
    for part in found.get("$defs", {}).values():
        part.get("properties", {}).pop("extra", None)
    return {"$schema": DRAFT, "title": title, **found}


def files() -> dict[Path, str]:
    """Path and text of every schema."""
    return {
        SCHEMAS / f"{name}.schema.json": _text(schema(title, kind))
        for name, (title, kind) in TYPES.items()
    }


def _text(document: dict[str, Any]) -> str:
    return json.dumps(document, indent=1, ensure_ascii=False) + "\n"


def main() -> int:
    """Write the schemas, or with `--check` name those that are not as they should be."""
    wrong = [
        path
        for path, text in files().items()
        if not path.is_file() or path.read_text(encoding="utf-8") != text
    ]
    if "--check" in sys.argv[1:]:
        for path in wrong:
            print(f"{path} is not what the types say; run tools/vmaf-tune/dev/schema_files.py")
        return 1 if wrong else 0
    SCHEMAS.mkdir(exist_ok=True)
    for path, text in files().items():
        path.write_text(text, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
