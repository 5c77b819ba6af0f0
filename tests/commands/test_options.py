"""An option that commands share is written once."""

from __future__ import annotations

import ast
from collections import Counter
from pathlib import Path

from vmaftune.commands import options

FOLDER = Path(options.__file__).parent


def written_out(file: Path) -> set[str]:
    """The options that a command writes itself: name and type as source text."""
    found = set()
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.arg) and node.annotation:
            text = ast.unparse(node.annotation)
            if text.startswith("Annotated["):
                found.add(f"{node.arg}: {text}")
    return found


def test_no_two_commands_write_one_option() -> None:
    written = Counter(one for file in FOLDER.glob("*.py") for one in written_out(file))
    assert written.total() > 50
    assert [one for one, times in written.items() if times > 1] == []


def test_every_shared_option_has_two_users() -> None:
    texts = [f.read_text(encoding="utf-8") for f in FOLDER.glob("*.py") if f.stem != "options"]
    names = [
        name for name in vars(options) if name[0].isupper() and name not in ("Path", "Annotated")
    ]
    users = {name: sum(f": {name} = " in t or f": {name},\n" in t for t in texts) for name in names}
    assert len(names) > 20
    assert {name for name, times in users.items() if times < 2} == set()
