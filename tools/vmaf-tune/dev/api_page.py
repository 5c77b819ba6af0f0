"""The page of the Python API, made from the docstrings.

python tools/vmaf-tune/dev/api_page.py > docs/api.md
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from dataclasses import MISSING, Field, fields
from functools import cached_property
from typing import Any

import vmaftune
from sentences import rewrite
from vmaftune import console
from vmaftune.questions.film import Made
from vmaftune.questions.find import Found, Probe
from vmaftune.questions.score import Scored
from vmaftune.request.flags import Texts

CALLS = ("score", "sweep", "find", "ladder", "encode", "read")
ANSWERS = (Found, Probe, Made, Scored)
WIDTH = 80
HEAD = """\
# Python API

Made by `python tools/vmaf-tune/dev/api_page.py > docs/api.md`; do not edit.

```python
import vmaftune

result = vmaftune.find("film.mkv", encoders="svtav1", target=93)
print(result.best.quality, result.best.kbps, result.command())
```

The calls are those that the commands make, with the same run folders: what one has measured the
other does not measure again.
Nothing is printed, and nothing ends the process.
`on_event` is called with every event while it happens: one of the types of
`vmaftune.engine.events`, whose fields are those of [events.md](events.md).
Errors are those of `vmaftune.errors` and `vmaf_train.errors`; every message is one sentence with
the way out.
Ctrl-C comes as `KeyboardInterrupt`: what was finished is kept, children are killed, and the same
call goes on from there.
Importing `vmaftune` loads nothing; a call loads what it needs.
The [recipes](recipes/README.md) use these calls."""


def markdown() -> str:
    """The whole page. What the docstrings say is all that it says."""
    calls = [name for name in CALLS if name in vmaftune.NAMES]
    types = [name for name in vmaftune.NAMES if inspect.isclass(getattr(vmaftune, name))]
    others = sorted(set(vmaftune.NAMES) - {*calls, *types})
    parts = [HEAD, "## Calls"]
    for name in (*calls, *others):
        parts += _call(name, getattr(vmaftune, name))
    parts.append("## What calls take and give")
    for name in types:
        parts += _type(f"vmaftune.{name}", getattr(vmaftune, name))
    parts.append("## Inside of answers, and further flags")
    for kind in (*ANSWERS, Texts):
        parts += _type(f"{kind.__module__}.{kind.__name__}", kind)
    return rewrite("\n\n".join(parts))


def _call(name: str, call: Any) -> Iterator[str]:
    yield f"### vmaftune.{name}"
    yield f"```python\n{_signature(name, call)}\n```"
    yield from _paragraphs(call)


def _type(name: str, kind: Any) -> Iterator[str]:
    yield f"### {name}"
    yield from _paragraphs(kind)
    rows = [_field(field) for field in fields(kind)]
    rows += [_member(name, member) for name, member in vars(kind).items() if _is_shown(name)]
    yield "\n".join(
        ["| name | type | what it is, or its default |", "|---|---|---|", *filter(None, rows)]
    )


def _is_shown(name: str) -> bool:
    return not name.startswith("_")


def _signature(name: str, call: Any) -> str:
    """The call as it is written: on one line, or a line for each parameter."""
    found = inspect.signature(call)
    given = list(found.parameters.values())
    texts = []
    for i, parameter in enumerate(given):
        keyword = parameter.kind is parameter.KEYWORD_ONLY
        before = given[i - 1].kind if i else None
        if keyword and before not in (parameter.KEYWORD_ONLY, parameter.VAR_POSITIONAL):
            texts.append("*")
        texts.append(
            str(parameter).replace("'", "", 2) if "'" in str(parameter) else str(parameter)
        )
    close = f") -> {found.return_annotation}"
    line = f"{name}({', '.join(texts)}{close}"
    if len(line) <= WIDTH:
        return line
    return "\n".join([f"{name}(", *(f"    {text}," for text in texts), close])


def _field(field: Field[Any]) -> str:
    default = ""
    if field.default is not MISSING:
        default = f"default `{_escape(repr(field.default))}`"
    elif field.default_factory is not MISSING:
        default = "has a default"
    return f"| `{field.name}` | `{_escape(str(field.type))}` | {default} |"


def _member(name: str, member: Any) -> str:
    """A property or a method; empty for a field's own slot."""
    if isinstance(member, (property, cached_property)):
        call = member.fget if isinstance(member, property) else member.func
        return f"| `{name}` | `{_escape(_returned(call))}` | {_line(member)} |"
    if inspect.isfunction(member):
        taken = [str(p).replace("'", "") for p in inspect.signature(member).parameters.values()]
        call = f"{name}({', '.join(taken[1:])})"
        return f"| `{_escape(call)}` | `{_escape(_returned(member))}` | {_line(member)} |"
    return ""


def _returned(call: Any) -> str:
    return str(inspect.signature(call).return_annotation)


def _paragraphs(thing: Any) -> Iterator[str]:
    yield from (inspect.getdoc(thing) or "").split("\n\n")


def _line(thing: Any) -> str:
    return _escape(" ".join((inspect.getdoc(thing) or "").split()))


def _escape(text: str) -> str:
    """Text that Markdown shows as it is inside a table."""
    return text.replace("|", r"\|")


if __name__ == "__main__":
    console.out(markdown().rstrip())
