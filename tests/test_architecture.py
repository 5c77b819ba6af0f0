"""Who may import whom: the import-linter contracts of pyproject.toml, and rules that a contract
cannot say.
"""

from __future__ import annotations

import ast
import json
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest
from vmaftune.cli import EXIT_CODES

ROOT = Path(__file__).parents[1]
PACKAGES = (ROOT / "tools/vmaf-tune/src/vmaftune", ROOT / "ai/src/vmaf_train")
HEAVY = (
    "torch",
    "pandas",
    "joblib",
    "av",
    "plotly",
    "numpy",
    "pyarrow",
    "scipy",
    "onnx",
    "onnxruntime",
    "ffmpeg",
    "matplotlib",
)


def modules() -> Iterator[tuple[str, ast.Module]]:
    for package in PACKAGES:
        for file in sorted(package.rglob("*.py")):
            yield (
                file.relative_to(package.parent).as_posix(),
                ast.parse(file.read_text(encoding="utf-8")),
            )


def importers(wanted: str) -> set[str]:
    """Modules that import `wanted` or a part of it, anywhere in them."""
    found = set()
    for name, tree in modules():
        for node in ast.walk(tree):
            names = [a.name for a in node.names] if isinstance(node, ast.Import) else []
            if isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
                names = [node.module]
            if any(n == wanted or n.startswith(wanted + ".") for n in names):
                found.add(name)
    return found


def run_python(code: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, timeout=120
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_import_contracts_hold() -> None:
    command = [
        sys.executable,
        "-c",
        "from importlinter.cli import lint_imports_command as main; main()",
        "--no-cache",
    ]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    assert re.search(r"\b[1-9]\d* kept, 0 broken", done.stdout)


def test_every_room_has_its_layer() -> None:
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"][
        "contracts"
    ]
    placed = {
        name
        for c in contracts
        for layer in c.get("layers", ())
        for name in re.split(r"\s*\|\s*", layer)
    }
    made = {
        f"{package.name}.{entry.stem}"
        for package in PACKAGES
        for entry in package.iterdir()
        if entry.suffix == ".py" or (entry / "__init__.py").exists()
    }
    outside = {"vmaftune.__init__", "vmaf_train.__init__", "vmaftune.__main__"}
    assert made - outside == placed, (
        "a room and the layers of pyproject.toml do not name each other"
    )


@pytest.mark.parametrize(
    ("library", "module"),
    [
        ("subprocess", "vmaftune/media/process.py"),
        ("rich", "vmaftune/console.py"),
        ("multiprocessing", None),
    ],
)
def test_one_module_knows_the_library(library: str, module: str | None) -> None:
    assert importers(library) == ({module} if module else set())


def test_no_process_is_started_through_os() -> None:
    started = {
        name
        for name, tree in modules()
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute)
        and isinstance(node.value, ast.Name)
        and node.value.id == "os"
        and re.match(r"system$|popen$|fork|spawn|exec|posix_spawn", node.attr)
    }
    assert not started


def test_only_the_command_line_ends_the_process_with_a_code() -> None:
    ends = set()
    for name, tree in modules():
        imported = [
            node
            for node in tree.body
            if "__name__ == '__main__'" not in ast.unparse(node).partition("\n")[0]
        ]
        for node in (inner for top in imported for inner in ast.walk(top)):
            if isinstance(node, ast.Call):
                callee = ast.unparse(node.func)
                with_code = callee in ("typer.Exit", "Exit") and (node.args or node.keywords)
                # os._exit is no answer: it ends a forked child, and a run whose user pressed Ctrl-C
                # twice.
                if callee in ("sys.exit", "exit", "SystemExit") or with_code:
                    ends.add(name)
    assert ends == {"vmaftune/cli.py", "vmaftune/__main__.py"}
    assert {code for _, code in EXIT_CODES} == {2, 3, 4, 5, 6, 7, 130}


def test_a_name_has_one_type() -> None:
    homes: dict[str, list[str]] = {}
    for name, tree in modules():
        for node in tree.body:
            if isinstance(node, ast.ClassDef):
                homes.setdefault(node.name, []).append(name)
    assert {name: of for name, of in homes.items() if len(of) > 1} == {}


def test_help_imports_nothing_heavy() -> None:
    loaded = run_python(
        "import json, sys\n"
        "from vmaftune import cli\n"
        "sys.argv = ['vmaf-tune', 'corpus', '--help']\n"
        "try:\n"
        "    cli.main()\n"
        "except SystemExit as end:\n"
        "    assert not end.code, end.code\n"
        f"print(json.dumps(sorted(set({HEAVY!r}) & set(sys.modules))))\n"
    )
    assert "Usage:" in loaded
    assert json.loads(loaded.splitlines()[-1]) == []
