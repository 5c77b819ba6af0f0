"""The reference page of the command line, made from the Typer application.

python tools/vmaf-tune/dev/cli_page.py > docs/cli.md
"""

from __future__ import annotations

import inspect
import types
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, Union, get_args, get_origin, get_type_hints

from typer.main import get_command
from vmaftune import console
from vmaftune.cli import app

_WORDS: Mapping[Any, str] = {str: "TEXT", int: "N", float: "NUMBER", Path: "PATH"}
_EXIT_CODES = """\
## Exit codes

| code | meaning |
|---|---|
| 0 | done |
| 1 | a bug of vmaf-tune |
| 2 | wrong usage, bad configuration, no valid source, a folder that is locked or of another plan |
| 3 | a tool, a device or the disk is missing or unfit |
| 4 | the corpus or dataset cannot be used |
| 5 | the sweep ended with failed cells |
| 6 | the gate said hold |
| 7 | a target or a limit is not met |
| 130 | interrupted |
"""


def markdown() -> str:
    """The whole page. What a command's docstring and its options say is all that it says."""
    root: Any = get_command(app)
    parts = [
        "# Command line",
        "Made by `python tools/vmaf-tune/dev/cli_page.py > docs/cli.md`; do not edit.",
        *_body(root),
    ]
    for name in root.commands:
        parts += [f"## vmaf-tune {name}", *_body(root.load(name))]
    return "\n\n".join([*parts, _EXIT_CODES])


def _body(command: Any) -> Iterator[str]:
    """The help text, its example as a block that can be pasted, and one table row per parameter."""
    for paragraph in inspect.cleandoc(command.help).split("\n\n"):
        text = " ".join(paragraph.split())
        if text.startswith("Example: "):
            yield f"```sh\n{text.removeprefix('Example: ')}\n```"
        else:
            yield _escape(text)
    hints = get_type_hints(inspect.unwrap(command.callback), include_extras=True)
    rows = [_row(p, hints[p.name]) for p in command.params if p.name in hints]
    if rows:
        yield "\n".join(["| argument or option | what it says |", "|---|---|", *rows])


def _row(parameter: Any, hint: Any) -> str:
    text = _escape(parameter.help or "")
    if parameter.default not in (None, False) and "Default:" not in text:
        text += f" Default: `{parameter.default}`."
    if parameter.required:
        text += " Required."
    return f"| `{_spelling(parameter, hint)}` | {text} |"


def _spelling(parameter: Any, hint: Any) -> str:
    """`--jobs N`, `-o, --output PATH`, `--select TEXT ...`, `SOURCES ...`."""
    kind = get_args(hint)[0] if get_origin(hint) is Annotated else hint
    if get_origin(kind) in (Union, types.UnionType):
        (kind,) = (member for member in get_args(kind) if member is not type(None))
    repeated = get_origin(kind) is list
    word: str = parameter.metavar or _WORDS.get(
        get_args(kind)[0] if repeated else kind, parameter.name.upper()
    )
    more = " ..." if repeated else ""
    if parameter.param_type_name == "argument":
        named: str = parameter.metavar or parameter.name.upper()
        return named.replace("|", r"\|") + more
    flags = ", ".join([*parameter.opts, *parameter.secondary_opts])
    return flags if kind is bool else f"{flags} {word}{more}"


def _escape(text: str) -> str:
    """Help text that Markdown shows as it is, inside a table as well."""
    return text.replace("|", r"\|").replace("<", "&lt;")


if __name__ == "__main__":
    console.out(markdown().rstrip())
