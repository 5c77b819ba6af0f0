"""What a person sees. stdout is the product (tables, JSON), stderr the story (progress, notices).

The only module that knows rich. Everything printed from outside data goes through `Text`, so brackets in a
file name are never read as markup.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import IO, Any

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table
from rich.text import Text


def _console(stream: IO[str]) -> Console:
    # Without a terminal the width is unknown: wide enough that no cell of a table is folded in a log file.
    width = None if stream.isatty() or os.environ.get("COLUMNS") else 160
    return Console(file=stream, width=width, highlight=False, soft_wrap=not stream.isatty())


def is_terminal() -> bool:
    """True when the story is read by a person at a terminal."""
    return sys.stderr.isatty()


def say(message: str, style: str = "") -> None:
    """One line of the story on stderr."""
    _console(sys.stderr).print(Text(message, style=style))


def warn(message: str) -> None:
    """One line of the story that should be noticed."""
    say(f"note: {message}", "yellow")


def error(message: str) -> None:
    """The last line of a command that failed."""
    say(f"error: {message}", "bold red")


def next_command(command: str) -> None:
    """The command a user most likely wants after this one."""
    say(f"next: {command}", "cyan")


def out(text: str) -> None:
    """A piece of the product on stdout, as it is."""
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def json_line(value: Any) -> None:
    """One compact JSON value per line on stdout (NDJSON). Raises ValueError for NaN."""
    out(json.dumps(value, ensure_ascii=False, allow_nan=False))


def json_document(value: Any) -> None:
    """One indented JSON document on stdout. Raises ValueError for NaN."""
    out(json.dumps(value, ensure_ascii=False, allow_nan=False, indent=2))


def cell_text(value: Any) -> str:
    """A table cell: None as a dash, floats with 4 significant places."""
    if value is None:
        return "–"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.4f}" if abs(value) < 10 else f"{value:.2f}"
    return str(value)


def table(
    title: str,
    columns: Sequence[str],
    rows: Iterable[Sequence[Any]],
    *,
    left: int = 1,
    styles: Mapping[str, str] | None = None,
    caption: str | None = None,
) -> None:
    """A table on stdout. The first `left` columns are aligned left, the others right; `styles` colours a cell by its text."""
    grid = Table(title=title or None, box=SIMPLE_HEAD, title_justify="left", caption=caption, caption_justify="left")
    for i, name in enumerate(columns):
        grid.add_column(Text(name), justify="left" if i < left else "right", overflow="fold")
    for row in rows:
        texts = [cell_text(value) for value in row]
        grid.add_row(*(Text(t, style=(styles or {}).get(t, "")) for t in texts))
    _console(sys.stdout).print(grid)


class Steps(AbstractContextManager["Steps"]):
    """A progress bar on a terminal, a plain line every tenth of the way without one.

    `update(done, text)` takes the absolute number of finished steps.
    """

    def __init__(self, title: str, total: float) -> None:
        self._total, self._title, self._tenth = max(total, 1e-9), title, -1
        self._bar = Progress(
            TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(),
            TextColumn("{task.fields[note]}", markup=False),
            console=_console(sys.stderr), transient=True, disable=not is_terminal(), refresh_per_second=4,
        )  # fmt: skip
        self._task = self._bar.add_task(title, total=total, note="")

    def __enter__(self) -> Steps:
        self._bar.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._bar.stop()

    def update(self, done: float, text: str = "") -> None:
        """Show `done` of `total` steps and a short text."""
        self._bar.update(self._task, completed=done, note=text)
        tenth = int(10 * done / self._total)
        if self._bar.disable and tenth > self._tenth:
            self._tenth = tenth
            say(f"{self._title}: {done:g}/{self._total:g} {text}".rstrip())
