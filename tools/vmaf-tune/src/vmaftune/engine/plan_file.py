"""sweep.json of a folder that is measured into: written once, grown by what is allowed to grow.

A closed plan names all its cells; an open one gains them as a question asks for them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Protocol

from vmaf_train.corpus.rows import CELLS, SWEEP
from vmaf_train.files import write_json

from vmaftune.engine.folder import now
from vmaftune.errors import FolderError
from vmaftune.request.document import Document, agreed, conflict, merge, read_document

ENDED = "ended_at"
"""The field of an open plan that says when its question ended; null while it has not."""


class Planned(Protocol):
    """What a folder is opened for: a plan of cells or of scored pairs, or a question."""

    def document(self) -> Document:
        """The plan as sweep.json holds it."""


def open_folder(
    folder: Path,
    plan: Planned,
    argv: Sequence[str],
    *,
    extend: bool = False,
    part: bool = False,
    skipped: Sequence[str] = (),
    open_plan: bool = False,
) -> Document:
    """Write sweep.json once; later runs must hold the same plan, a `part` of it, or add cells to it
    with `extend`. An open plan takes every cell whose source does not contradict its own.

    The encoders that the latest run left out are noted in it. Raises FolderError as `agreed`.
    """
    new = replace(
        plan.document(), argv=tuple(argv), created_at=now(), skipped_encoders=tuple(skipped)
    )
    path = folder / SWEEP
    has_rows = (folder / CELLS).exists()
    _check_kind(path, open_plan)
    if open_plan:
        document = _reopened(folder, replace(new, open=True), has_rows=has_rows)
    else:
        document = agreed(folder, new, extend=extend, part=part, has_rows=has_rows)
    if skipped:
        document = replace(document, skipped_encoders=tuple(skipped))
    if not path.exists() or document != read_document(path):
        write_json(path, document.to_json())
    return document


def _check_kind(path: Path, open_plan: bool) -> None:
    if not path.exists() or read_document(path).open == open_plan:
        return
    kind = "a sweep" if open_plan else "a question, which asks for cells as it goes"
    raise FolderError(f"{path.parent} holds the plan of {kind}; write elsewhere with --out")


def _reopened(folder: Path, new: Document, *, has_rows: bool) -> Document:
    new = replace(new, extra={**new.extra, ENDED: None})
    if not (folder / SWEEP).exists():
        return agreed(folder, new, extend=False, part=False, has_rows=has_rows)
    return grown(folder, read_document(folder / SWEEP), new)


def grown(folder: Path, old: Document, new: Document) -> Document:
    """An open plan with the cells of `new` as well, whatever their teacher and threads.

    Raises FolderError for a source that is another one under the same name.
    """
    teacher = tuple(sorted({*old.teacher, *new.teacher}))
    threads = tuple(sorted({*old.threads_per_encode, *new.threads_per_encode}))
    old = replace(old, teacher=teacher, threads_per_encode=threads)
    new = replace(new, teacher=teacher, threads_per_encode=threads)
    clash = conflict(old, new)
    if clash is not None:
        raise FolderError(f"{folder} holds other content: {clash}; write elsewhere with --out")
    return replace(merge(old, new), argv=old.argv, created_at=old.created_at)
