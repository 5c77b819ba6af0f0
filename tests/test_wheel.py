"""The wheel is the product: built, installed in a folder of its own outside any checkout, and used
there. The sources of a release hold no runs and no clips.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import sysconfig
import tarfile
import venv
import zipfile
from dataclasses import dataclass
from pathlib import Path

import pytest
from vmaftune.media.ffmpeg import find_ffmpeg

ROOT = Path(__file__).parents[1]
SHIPPED = "vmaf_train/shipped/tiny/"
WITHOUT_TORCH = """
import sys

class Finder:
    def find_spec(name, path, target=None):
        if name.partition(".")[0] == "torch":
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, Finder)
"""


@dataclass(frozen=True, kw_only=True, slots=True)
class Installed:
    """The wheel in a new environment, `home`; commands run in `place`, which holds one clip."""

    home: Path
    place: Path

    @property
    def package(self) -> Path:
        """Where the models that came with the wheel lie."""
        (found,) = self.home.glob("lib/*/site-packages/vmaf_train/shipped")
        return found

    def names(self) -> set[str]:
        """What lies where the commands run."""
        return {path.name for path in self.place.iterdir()}

    def run(self, *args: object, code: int = 0, python: str = "") -> str:
        """stdout of `vmaf-tune args`, which must end with `code`; `python` runs before it."""
        start = [str(self.home / "bin/vmaf-tune")]
        if python:
            entry = "import sys; sys.argv[0] = 'vmaf-tune'; from vmaftune.cli import main; main()"
            start = [str(self.home / "bin/python"), "-c", f"{python}\n{entry}"]
        kept = {k: v for k, v in os.environ.items() if not k.startswith(("VMAF_TUNE", "PYTHON"))}
        done = subprocess.run(
            [*start, *map(str, args)],
            cwd=self.place,
            env=kept | {"XDG_CACHE_HOME": str(self.home.parent / "c")},
            capture_output=True,
            text=True,
            timeout=300,
        )
        assert done.returncode == code, done.stdout + done.stderr
        return done.stdout


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the sdist, and the wheel made from it."""
    place = tmp_path_factory.mktemp("dist")
    command = [sys.executable, "-m", "build", "--no-isolation", "--outdir", str(place), str(ROOT)]
    named = os.environ | {"VMAF_TUNE_REPOSITORY": "https://example.org/vmaf-tune"}
    done = subprocess.run(command, env=named, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    return place


@pytest.fixture(scope="module")
def wheel(built: Path) -> Path:
    (found,) = built.glob("*.whl")
    return found


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Installed:
    """A stranger's environment. What the wheel needs it borrows from the one that runs the tests:
    a folder that a .pth file names is searched, and its own .pth files, such as the one of the
    checkout, are not."""
    base = tmp_path_factory.mktemp("a stranger's place")
    home, place = base / "new environment", base / "my films"
    venv.create(home, with_pip=False)
    (site,) = home.glob("lib/*/site-packages")
    (site / "borrowed.pth").write_text(sysconfig.get_path("purelib"))
    quiet = ["--quiet", "--no-deps", "--no-index", "--disable-pip-version-check"]
    pip = [sys.executable, "-m", "pip", "--python", str(home), "install", *quiet]
    subprocess.run([*pip, "--ignore-installed", str(wheel)], check=True, timeout=120)
    place.mkdir()
    film = ROOT / "tests/media/clips/vizdoom_game.mp4"
    small = ["-vf", "scale=192:108", "-frames:v", "24", "-preset", "ultrafast", "-crf", "8"]
    cut = [find_ffmpeg(), "-nostdin", "-v", "error", "-i", film, *small, place / "my clip.mp4"]
    subprocess.run(cut, check=True, timeout=120)
    return Installed(home=home, place=place)


@pytest.fixture(scope="module")
def swept(installed: Installed) -> Path:
    """The folder of a sweep of two cells, made by the installed program."""
    grid = [
        "--encoders",
        "x264",
        "--presets",
        "ultrafast",
        "--quality",
        "20,40",
        "--frames",
        "8",
        "--scale",
        "160x90",
    ]
    installed.run("corpus", "my clip.mp4", *grid, "--out=run")
    return installed.place / "run"


def test_the_wheel_carries_what_the_registry_names_and_nothing_else(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
        registry = json.loads(archive.read(SHIPPED + "registry.json"))
    carried = {n.removeprefix(SHIPPED) for n in names if n.startswith(SHIPPED)}
    models = {n for n in carried if not n.startswith("registry.")}
    expected = set()
    for entry in registry["entries"]:
        model = Path(entry.get("onnx") or entry["file"])
        expected |= {model.name, f"{model.stem}-{entry['sidecar_sha256'][:8]}.json"}
    assert models == expected
    assert {"vmaftune/sweeps/phase_a_hw.toml", "vmaftune/py.typed"} <= set(names)
    tops = {n.partition("/")[0] for n in names}
    assert {t for t in tops if not t.endswith(".dist-info")} == {"vmaftune", "vmaf_train"}


def test_the_sources_hold_neither_runs_nor_clips(built: Path) -> None:
    (sources,) = built.glob("*.tar.gz")
    with tarfile.open(sources) as archive:
        names = [n.partition("/")[2] for n in archive.getnames()]
    assert "hatch_build.py" in names
    assert not [n for n in names if n.startswith("runs/") or n.endswith((".mp4", ".mkv", ".jsonl"))]


def test_an_index_finds_the_pictures_and_pages_of_the_readme(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        (name,) = [n for n in archive.namelist() if n.endswith(".dist-info/METADATA")]
        text = archive.read(name).decode()
    links = re.findall(r"]\(([^)]*)\)", text)
    assert [link for link in links if not link.startswith("https://")] == []
    assert "https://example.org/vmaf-tune/raw/main/docs/img/find_search.png" in links
    assert "https://example.org/vmaf-tune/blob/main/docs/find.md" in links


def test_a_release_says_what_an_index_asks_for(built: Path) -> None:
    command = [sys.executable, "-m", "twine", "check", "--strict", *map(str, built.iterdir())]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stdout


def test_it_measures_where_the_user_stands_and_nowhere_else(
    installed: Installed, swept: Path
) -> None:
    before = installed.names()
    assert "libx264" in installed.run("doctor", "--encoders", "x264")
    found = json.loads(installed.run("status", "run", "--json"))
    assert (found["num_done"], found["num_failed"]) == (2, 0)
    assert "libx264" in installed.run("report", "run", "--text")
    assert installed.run("--version").startswith("vmaf-tune ")
    assert installed.names() == before


def test_it_scores_and_finds(installed: Installed, swept: Path) -> None:
    before = installed.names()
    pair = ["my clip.mp4", "my clip.mp4", "--json"]
    scored = json.loads(installed.run("score", *pair).splitlines()[-1])
    assert scored["statistics"]["mean"] > 95
    setting = ["--encoder", "x264", "--preset", "ultrafast", "--full", "--out", "found"]
    lines = installed.run("find", "my clip.mp4", *setting, "--target", "80", "--json").splitlines()
    answer = json.loads(lines[-1])
    assert answer["score"] >= 80
    assert {"found"} <= installed.names() - before <= {"found", "runs"}


def test_it_answers_with_the_models_it_came_with(installed: Installed, swept: Path) -> None:
    shipped = installed.package
    before = sorted(shipped.rglob("*"))
    assert str(shipped) in installed.run("predict", "fr_regressor_v2", "--self-test")
    installed.run("eval", "fr_regressor_v2", "--corpus", "run")
    assert sorted(shipped.rglob("*")) == before


def test_the_shipped_models_answer_without_torch(installed: Installed, swept: Path) -> None:
    installed.run("predict", "fr_regressor_v2", "--self-test", python=WITHOUT_TORCH)
    installed.run("eval", "fr_regressor_v2", "--corpus", "run", python=WITHOUT_TORCH)
    installed.run("train", "fr_regressor_v2", "--smoke", python=WITHOUT_TORCH, code=3)


def test_it_trains_and_judges_and_never_writes_into_the_package(installed: Installed) -> None:
    installed.run("train", "fr_regressor_v2", "--smoke")
    before = sorted(installed.home.rglob("*.json"))
    installed.run("ship", "fr_regressor_v2", "--dry-run", code=6)
    assert not (installed.place / "model").exists()
    installed.run("ship", "fr_regressor_v2", "--model-dir", installed.package, code=4)
    assert sorted(installed.home.rglob("*.json")) == before
