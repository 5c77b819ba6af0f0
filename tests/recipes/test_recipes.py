"""The recipes of docs/recipes do what they say: every command and every Python block of each page
runs, in order, on tiny clips; so do the cells of the notebook.
"""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import yaml
from vmaftune.cli import main

ROOT = Path(__file__).parents[2]
RECIPES = ROOT / "docs/recipes"
PAGES = sorted(page.name for page in RECIPES.glob("*.md") if page.name != "README.md")
FENCE = re.compile(r"^```(sh|python|yaml)\n(.*?)^```", re.MULTILINE | re.DOTALL)
# What a page asks of another machine, and what stands for it here: less of it, or this ffmpeg.
HERE = {
    "1080,720,540,360": "120,80",
    "nvenc,qsv": "x264 --presets ultrafast",
    "x264,svtav1": "x264",
    "/data/runs/release": "runs/phase_a/main",
    "--max-slowdown 1.1": "--max-slowdown 9",
    "x264=20:38:6;svtav1=23,33,43,53": "x264=20:38:6",
    "--loso --corpus runs/phase_a/hardware": (
        "--loso --corpus runs/phase_a/hardware --epochs 3 --seeds 1"
    ),
}
# Two clips are too few for the gate: it says hold.
CODES = {"ship": 6}


@pytest.fixture(scope="module")
def films(clip: Callable[..., Path]) -> dict[str, Path]:
    """Two short films and one of two shots, in the places where the recipes look."""
    cut = "negate=enable=gte(n\\,24)"
    return {
        "films/one.mkv": clip("recipe one.mkv", frames=24),
        "films/two.mkv": clip("recipe two.mkv", frames=24, vf="hflip"),
        "film.mkv": clip("recipe film.mkv", frames=48, size="160x120", vf=cut),
        "clips/a.mkv": clip("recipe a.mkv", frames=8),
        "clips/b.mkv": clip("recipe b.mkv", frames=8, vf="negate"),
    }


@pytest.fixture
def place(films: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with films, clips, features and the shipped models, which is the current one."""
    for name, film in films.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).symlink_to(film)
    (tmp_path / "model").symlink_to(ROOT / "model")
    row = dict.fromkeys(("adm2", "vif_scale0", "vif_scale1", "vif_scale2", "vif_scale3"), 0.9)
    (tmp_path / "features.jsonl").write_text(json.dumps(row | {"motion2": 3.0}) + "\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MPLBACKEND", "Agg")
    return tmp_path


def blocks(page: str) -> Iterator[tuple[str, str]]:
    """The language and the text of every block of a page that can be run."""
    for match in FENCE.finditer((RECIPES / page).read_text(encoding="utf-8")):
        yield match[1], match[2]


def typed(written: str) -> Iterator[str]:
    """The commands of a shell script, one a line, without where their output goes."""
    for line in written.replace("\\\n", " ").splitlines():
        yield line.partition(" > ")[0]


def steps(pipeline: str) -> Iterator[str]:
    """The commands of a CI pipeline, but for its installation."""
    for job in yaml.safe_load(pipeline)["jobs"].values():
        for step in job["steps"]:
            lines = typed(step.get("run", ""))
            yield from (line for line in lines if not line.startswith("pip "))


def type_in(line: str, ffmpeg: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """One command of a recipe, as it stands for this machine; it must end well."""
    line = re.sub(r"--ffmpeg \S+", f"--ffmpeg {shlex.quote(ffmpeg)}", line)
    argv = shlex.split(line)
    assert argv[0] == "vmaf-tune"
    monkeypatch.setattr("sys.argv", argv)
    with pytest.raises(SystemExit) as leave:
        main()
    assert (leave.value.code or 0) == CODES.get(argv[1], 0), line


@pytest.mark.real
@pytest.mark.parametrize("page", PAGES)
def test_a_recipe_does_what_it_says(
    page: str, place: Path, ffmpeg: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = list(blocks(page))
    assert found
    for language, written in found:
        text = written
        for there, here in HERE.items():
            text = text.replace(there, here)
        if language == "python":
            exec(compile(text, page, "exec"), {"__name__": "__main__"})
            continue
        for line in steps(text) if language == "yaml" else typed(text):
            type_in(line, ffmpeg, monkeypatch)


@pytest.mark.real
def test_the_notebook_runs_and_holds_no_outputs(place: Path) -> None:
    file = RECIPES / "corpus_to_curve.ipynb"
    book = json.loads(file.read_text(encoding="utf-8"))
    names: dict[str, object] = {}
    for cell in book["cells"]:
        if cell["cell_type"] == "code":
            assert cell["outputs"] == []
            exec(compile("".join(cell["source"]), file.name, "exec"), names)
    assert names["chosen"] is not None
