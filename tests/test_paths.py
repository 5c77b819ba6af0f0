"""Pages, build files, programs and tests name only modules and files that exist."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest
import vmaftune

ROOT = Path(__file__).parents[1]
PACKAGES = {
    "vmaftune": ROOT / "tools/vmaf-tune/src/vmaftune",
    "vmaf_train": ROOT / "ai/src/vmaf_train",
}
# Where a path may begin that a text names.
BASES = (ROOT, ROOT / "ai/src", *PACKAGES.values(), ROOT / "tests", ROOT / "tools/vmaf-tune")
EXAMPLES = {
    "vmaftune.a",
    "vmaftune.nothing",
    "vmaftune.__name__",
    "a/b.py",
    "tests/a/test_b.py",
    "tests/a/",
}
TEXTS = ("*.md", "docs/**/*.md", "tests/README.md", "tools/**/*.md", "Makefile", "pyproject.toml")
SOURCES = ("tools/**/*.py", "ai/**/*.py", "tests/**/*.py", ".ci/run")
CODE = ("tools/vmaf-tune/src/**/*.py", "ai/src/**/*.py")
# Names of other versions, and of examples: the changelog and the decisions tell of the past.
PAST = ("CHANGELOG.md", "docs/decisions.md")


def files(patterns: tuple[str, ...]) -> list[Path]:
    found = {file for pattern in patterns for file in ROOT.glob(pattern) if file.is_file()}
    return sorted(f for f in found if str(f.relative_to(ROOT)) not in PAST)


@cache
def names_in(module: Path) -> frozenset[str]:
    """What a module defines or imports at its top."""
    found = set()
    for node in ast.parse(module.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.Import | ast.ImportFrom):
            found |= {alias.asname or alias.name for alias in node.names}
        elif isinstance(node, ast.FunctionDef | ast.ClassDef):
            found.add(node.name)
        else:
            found |= {n.id for n in ast.walk(node) if isinstance(n, ast.Name)}
    return frozenset(found)


def exists(dotted: str) -> bool:
    """True for a module of ours, or a name in one."""
    package, *rest = dotted.split(".")
    place = PACKAGES[package]
    if package == "vmaftune" and rest and rest[0] in vmaftune.NAMES:
        return True
    while rest and (place / rest[0]).is_dir():
        place /= rest.pop(0)
    if not rest:
        return True
    if (place / f"{rest[0]}.py").is_file():
        return len(rest) == 1 or rest[1] in names_in(place / f"{rest[0]}.py")
    init = place / "__init__.py"
    return init.is_file() and rest[0] in names_in(init)


def dotted_names(text: str) -> Iterator[str]:
    for name in re.findall(r"(?<![\w./@-])(vmaf(?:tune|_train)(?:\.\w+)+)", text):
        if not name.endswith((".json", ".toml", ".py")):
            yield name


@pytest.mark.parametrize("file", files(TEXTS + SOURCES), ids=lambda f: str(f.relative_to(ROOT)))
def test_modules_that_are_named_exist(file: Path) -> None:
    text = file.read_text(encoding="utf-8")
    assert {n for n in dotted_names(text) if n not in EXAMPLES and not exists(n)} == set()


def test_the_page_on_the_architecture_names_every_room() -> None:
    page = (ROOT / "docs/architecture.md").read_text(encoding="utf-8")
    rooms = {
        entry.stem
        for place in PACKAGES.values()
        for entry in place.iterdir()
        if entry.suffix == ".py" or (entry / "__init__.py").exists()
    }
    unnamed = {room for room in rooms if f"`{room}`" not in page and f"`{room}/`" not in page}
    assert unnamed == {"__init__", "__main__"}


@pytest.mark.parametrize("file", files((*TEXTS, *CODE)), ids=lambda f: str(f.relative_to(ROOT)))
def test_python_files_that_are_named_exist(file: Path) -> None:
    text = file.read_text(encoding="utf-8")
    named = set(re.findall(r"(?<![\w./*<-])((?:[\w-]+/)+\w+\.py)\b", text)) - EXAMPLES
    bases = (*BASES, file.parent)
    assert {n for n in named if not any((base / n).is_file() for base in bases)} == set()


@pytest.mark.parametrize("file", files((*TEXTS, *CODE)), ids=lambda f: str(f.relative_to(ROOT)))
def test_folders_that_are_named_exist(file: Path) -> None:
    text = file.read_text(encoding="utf-8")
    named = re.findall(r"(?<![\w./*<{-])((?:tests|tools|ai|schemas|docs)/(?:[\w-]+/)+)", text)
    assert {n for n in named if n not in EXAMPLES and not (ROOT / n).is_dir()} == set()
