"""What pyproject.toml declares is what the code imports, and a missing extra is one sentence."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterable, Mapping
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
EXTRAS: Mapping[str, list[str]] = PROJECT["optional-dependencies"]
PRODUCT = ("tools/vmaf-tune/src", "ai/src")
OURS = {"vmaftune", "vmaf_train"}
# Packages whose modules have another name.
MODULES = {
    "ffmpeg-python": {"ffmpeg"},
    "imageio-ffmpeg": {"imageio_ffmpeg"},
    "nvidia-ml-py": {"pynvml"},
    "protobuf": {"google"},
    "pillow": {"PIL"},
    "onnxruntime-gpu": {"onnxruntime"},
    "jinja2": {"jinja2", "markupsafe"},
    "pyyaml": {"yaml"},
}
# Extras whose modules the product may import inside a function that says what to install.
PRODUCT_EXTRAS = ("predict", "train", "report", "cluster")
# What a bench compares with, from a folder that its --peer names.
PEERS = {"scenedetect"}
# Loaded by name, so that a machine without a driver starts too.
BY_NAME = {"pynvml"}


def modules(requirements: Iterable[str]) -> set[str]:
    names = [re.split(r"[\[><=;~ ]", r)[0] for r in requirements]
    return {m for name in names if name != "vmaf-tune" for m in MODULES.get(name, {name})}


@cache
def imported(*folders: str) -> dict[str, set[str]]:
    """The files that import each foreign module, by its first name."""
    found: dict[str, set[str]] = {}
    for file in (f for folder in folders for f in (ROOT / folder).rglob("*.py")):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            names = [a.name for a in node.names] if isinstance(node, ast.Import) else []
            if isinstance(node, ast.ImportFrom) and not node.level:
                names = [node.module or ""]
            for name in {n.partition(".")[0] for n in names}:
                found.setdefault(name, set()).add(str(file.relative_to(ROOT)))
    return {n: files for n, files in found.items() if n not in sys.stdlib_module_names | OURS}


def test_the_base_holds_what_is_imported_and_nothing_else() -> None:
    base, extra = modules(PROJECT["dependencies"]), modules(sum(EXTRAS.values(), []))
    used = set(imported(*PRODUCT)) | BY_NAME
    assert used - base - extra == set(), "imported and not declared"
    assert base - used == set(), "declared and not imported"


@pytest.mark.parametrize("extra", PRODUCT_EXTRAS)
def test_an_extra_holds_nothing_that_is_not_imported(extra: str) -> None:
    assert modules(EXTRAS[extra]) - set(imported(*PRODUCT)) == set()


def test_nothing_of_an_extra_is_imported_at_the_top_of_a_module() -> None:
    optional = modules(r for name in PRODUCT_EXTRAS for r in EXTRAS[name])
    torch_rooms = ("ai/src/vmaf_train/training/",)
    for folder in PRODUCT:
        for file in (ROOT / folder).rglob("*.py"):
            if str(file.relative_to(ROOT)).startswith(torch_rooms):
                continue
            for node in ast.parse(file.read_text(encoding="utf-8")).body:
                names = [a.name for a in node.names] if isinstance(node, ast.Import) else []
                if isinstance(node, ast.ImportFrom):
                    names = [node.module or ""]
                assert not {n.partition(".")[0] for n in names} & optional, file


def test_tests_and_tools_import_what_dev_holds() -> None:
    everything = modules(PROJECT["dependencies"]) | modules(sum(EXTRAS.values(), []))
    folders = ("tests/support", "ai/dev", "tools/vmaf-tune/dev")
    helpers = {file.stem for folder in folders for file in (ROOT / folder).glob("*.py")}
    used = imported("tests", "ai/dev", "tools/vmaf-tune/dev", "tools/vmaf-tune/sweeps")
    assert {n: f for n, f in used.items() if n not in everything | helpers | PEERS} == {}


def test_every_pin_is_of_a_declared_package() -> None:
    pins = {
        line.split("==")[0]
        for line in (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
        if line and not line.startswith("#")
    }
    declared = {re.split(r"[\[><=;~ ]", r)[0] for r in PROJECT["dependencies"]} | {
        re.split(r"[\[><=;~ ]", r)[0] for extra in EXTRAS.values() for r in extra
    }
    assert pins <= declared
    assert declared - pins <= {"vmaf-tune", "onnxruntime"}


@pytest.mark.parametrize(
    ("missing", "args", "extra"),
    [
        ("onnxruntime", ["predict", "vmaf_tiny_v2", "--self-test"], "predict"),
        ("torch", ["train", "fr_regressor_v2", "--loso"], "train"),
        ("plotly", ["report", "runs/phase_a/software", "-o", "page.html"], "report"),
    ],
)
def test_a_missing_extra_is_one_sentence_with_the_line_that_installs_it(
    missing: str, args: list[str], extra: str
) -> None:
    code = (
        f"import sys; sys.modules[{missing!r}] = None; sys.argv = ['vmaf-tune', *{args!r}]\n"
        "from vmaftune.cli import main; main()"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, timeout=120
    )
    assert done.returncode == 3
    assert "Traceback" not in done.stderr
    assert f"pip install 'vmaf-tune[{extra}]'" in done.stderr.splitlines()[-1]
