"""Measures of the code's shape, so that "simpler" is a number: `python measure_code.py [CHECKOUT]`.

Counted over tools/vmaf-tune/src and ai/src: modules, the depth of the import graph and its arrows,
`Any` per 1,000 lines, syntax nodes per line of a function's body, aliases of our own modules,
nested ternaries, `fmt: skip`, and the functions of more than 40 lines. Functions of flags are left
out, which take an option of the command line or more than ten parameters: their signature is a
list.
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

FOLDERS = ("tools/vmaf-tune/src", "ai/src")
OURS = ("vmaftune", "vmaf_train")
LONG, MANY = 40, 10


@dataclass(frozen=True, kw_only=True, slots=True)
class Module:
    """One file: its dotted name, its text and its syntax tree."""

    name: str
    text: str
    tree: ast.Module

    @property
    def num_lines(self) -> int:
        """Lines, blank ones and comments included."""
        return len(self.text.splitlines())


def modules(root: Path) -> list[Module]:
    """Every module of the product in the checkout `root`."""
    found = []
    for folder in FOLDERS:
        for file in sorted((root / folder).rglob("*.py")):
            name = ".".join(file.relative_to(root / folder).with_suffix("").parts)
            text = file.read_text(encoding="utf-8")
            name = name.removesuffix(".__init__")
            found.append(Module(name=name, text=text, tree=ast.parse(text)))
    return found


def imports(module: Module, names: set[str]) -> set[str]:
    """Our own modules that `module` imports, anywhere in it."""
    found = set()
    for node in ast.walk(module.tree):
        wanted: list[str] = []
        if isinstance(node, ast.Import):
            wanted = [a.name for a in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            wanted = [f"{node.module}.{a.name}" for a in node.names] + [node.module]
        found |= {name for name in wanted if name in names and name not in OURS}
    return found - {module.name}


def depth(arrows: dict[str, set[str]]) -> int:
    """Modules on the longest chain of imports; a circle counts once."""
    known: dict[str, int] = {}

    def floor(name: str, above: frozenset[str]) -> int:
        if name not in known:
            below = arrows.get(name, set()) - above
            known[name] = 1 + max((floor(b, above | {name}) for b in below), default=0)
        return known[name]

    return max(floor(name, frozenset()) for name in arrows)


def functions(found: list[Module]) -> Iterator[tuple[str, ast.FunctionDef | ast.AsyncFunctionDef]]:
    """Every function with its full name, the flag lists left out."""
    for module in found:
        for node in ast.walk(module.tree):
            if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                continue
            arguments = node.args
            is_list = len(arguments.args) + len(arguments.kwonlyargs) > MANY
            if not is_list and "typer." not in ast.unparse(arguments):
                yield f"{module.name}.{node.name}", node


def num_any(found: list[Module]) -> int:
    """Uses of `Any`, imports of it left out."""
    nodes = [node for module in found for node in ast.walk(module.tree)]
    return sum(isinstance(node, ast.Name) and node.id == "Any" for node in nodes)


def aliases(found: list[Module]) -> list[str]:
    """Our own modules that are imported under another name."""
    names = {module.name for module in found}
    told = []
    for module in found:
        for node in ast.walk(module.tree):
            if isinstance(node, ast.Import):
                renamed = [a.name for a in node.names if a.asname and a.name in names]
            elif isinstance(node, ast.ImportFrom):
                whole = [(f"{node.module}.{a.name}", a) for a in node.names]
                renamed = [n for n, a in whole if n in names and a.asname not in (None, a.name)]
            else:
                continue
            told += [f"{module.name}: {name}" for name in renamed]
    return told


def nested_ternaries(found: list[Module]) -> list[str]:
    """Where a conditional expression lies within another, as module:line."""
    return [
        f"{module.name}:{inner.lineno}"
        for module in found
        for node in ast.walk(module.tree)
        if isinstance(node, ast.IfExp)
        for inner in ast.walk(node)
        if isinstance(inner, ast.IfExp) and inner is not node
    ]


def long_functions(found: list[Module]) -> list[tuple[int, str]]:
    """Functions of more than 40 lines, the longest first, as (lines, name)."""
    sized = [((node.end_lineno or 0) - node.lineno + 1, name) for name, node in functions(found)]
    return sorted(((n, name) for n, name in sized if n > LONG), reverse=True)


def density(found: list[Module]) -> float:
    """Syntax nodes per line of a function's body, blank lines and docstrings left out."""
    nodes = lines = 0
    for _, function in functions(found):
        body = function.body[1:] if ast.get_docstring(function) else function.body
        nodes += sum(1 for part in body for _ in ast.walk(part))
        lines += sum((part.end_lineno or part.lineno) - part.lineno + 1 for part in body)
    return nodes / max(lines, 1)


def any_per_1000(found: list[Module]) -> float:
    """`Any` per 1,000 lines."""
    return 1000 * num_any(found) / sum(module.num_lines for module in found)


def report(root: Path) -> str:
    """All measures of the checkout `root`, one per line."""
    found = modules(root)
    arrows = {m.name: imports(m, {x.name for x in found}) for m in found}
    longest = long_functions(found)
    shown = ", ".join(f"{name} {lines}" for lines, name in longest[:3])
    return "\n".join(
        [
            f"modules                    {len(found)}",
            f"lines                      {sum(m.num_lines for m in found)}",
            f"depth of the import graph  {depth(arrows)}",
            f"arrows                     {sum(map(len, arrows.values()))}",
            f"Any per 1,000 lines        {any_per_1000(found):.1f}",
            f"syntax nodes per body line {density(found):.1f}",
            f"aliases of own modules     {len(aliases(found))}",
            f"nested ternaries           {len(nested_ternaries(found))}",
            f"fmt: skip                  {sum(m.text.count('fmt: skip') for m in found)}",
            f"functions over {LONG} lines    {len(longest)} ({shown})",
        ]
    )


if __name__ == "__main__":
    print(report(Path(sys.argv[1] if len(sys.argv) > 1 else ".")))
