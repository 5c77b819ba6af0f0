"""`vmaf-tune ship` as a user runs it: promote, hold, dry run, roll back, and a kill at
each write.
"""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

import jsonschema
import pytest
from vmaf_train.files import json_bytes
from vmaf_train.shipping import registry

FR = "fr_regressor_v2"


def pair_of(project: Any, entry: registry.Entry) -> tuple[bytes, dict[str, Any]]:
    """Model bytes and sidecar of a shipped entry."""
    pair = registry.read_pair(project.model_dir / "tiny", entry)
    return pair.data, json.loads(pair.sidecar)


def test_a_good_run_is_promoted_and_read_back(project: Any) -> None:
    folder = project.run(FR)
    done = project.process("ship", FR)
    assert done.returncode == 0, done.stderr
    assert "read back in a new process: 64 rows" in done.stderr
    verdicts = [
        line.split()[-1] for line in done.stdout.splitlines() if " <= " in line or " >= " in line
    ]
    assert len(verdicts) >= 9 and set(verdicts) == {"pass", "n/a"}
    entry = registry.load(project.model_dir).entry(FR)
    assert (
        "10 sources x 3 seeds" in entry.description and "libx264, libsvtav1, unknown" in entry.notes
    )
    data, sidecar = pair_of(project, entry)
    assert data == (folder / "candidate.onnx").read_bytes()
    assert sidecar["gate"]["verdict"] == "pass" and sidecar["promotion"]["previous"] is None
    assert json.loads((folder / "verdict.json").read_text())["verdict"] == "pass"
    told = sidecar
    again = project.cli("ship", FR)
    assert again.returncode == 0 and "its evidence is renewed" in again.stderr
    # The incumbent counts now: the same weights carry the newer verdict, and the promotion that
    # they had.
    newer = pair_of(project, registry.load(project.model_dir).entry(FR))[1]
    assert newer["promotion"] == told["promotion"]
    told = [c["verdict"] for c in newer["gate"]["checks"] if "incumbent" in c["name"]]
    assert told == ["pass", "pass"]


def test_the_newest_run_is_judged_and_rollback_brings_the_one_before_back(project: Any) -> None:
    project.run(FR, "20260101T000000Z", seed=1)
    assert project.cli("ship", FR).returncode == 0
    before = project.registry.read_bytes()
    project.run(FR, "20260102T000000Z", seed=2)
    shipped = json.loads(project.cli("ship", FR, "--json").stdout)
    assert shipped["run"].endswith("20260102T000000Z")
    assert [
        c["verdict"] for c in shipped["checks"] if c["name"] == "mean RMSE minus the incumbent's"
    ] == ["pass"]
    assert registry.load(project.model_dir).entry(FR).file == shipped["file"]
    after = project.snapshot()
    for extra in (("--dry-run",), ("--run", "runs/x")):
        mixed = project.cli("ship", FR, "--rollback", *extra)
        assert mixed.returncode == 2 and "leave out --dry-run and --run" in mixed.stderr
    assert project.snapshot() == after
    back = project.cli("ship", "--rollback", FR)
    assert back.returncode == 0, back.stderr
    assert project.registry.read_bytes() == before
    once_more = project.cli("ship", FR, "--rollback")
    assert once_more.returncode == 4 and "nothing to roll back to" in once_more.stderr


def test_a_hold_changes_no_byte_of_model(project: Any) -> None:
    project.run(FR, "20260101T000000Z", seed=1)
    assert project.cli("ship", FR).returncode == 0
    before = project.snapshot()
    parts = project.parts(FR, seed=2)
    parts.predictions["y_model"] += 2.0
    folder = project.write(parts, "20260102T000000Z")
    held = project.cli("ship", FR)
    assert held.returncode == 6
    assert "mean RMSE: 2.0" in held.stderr and "must be <= 1.5" in held.stderr
    verdict = json.loads((folder / "verdict.json").read_text())
    assert verdict["verdict"] == "hold"
    assert "mean RMSE" in [c["name"] for c in verdict["checks"] if c["verdict"] == "hold"]
    assert project.snapshot() == before


def test_a_smoke_run_is_held_and_never_chosen_before_a_real_one(project: Any) -> None:
    parts = project.parts(FR)
    parts.metrics["smoke"] = True
    folder = project.write(parts, "20260109T000000Z-smoke")
    held = project.cli("ship", FR)
    assert held.returncode == 6 and "smoke" in held.stderr
    assert json.loads(project.registry.read_text())["entries"] == []
    project.run(FR, "20260101T000000Z")
    assert project.cli("ship", FR, "--dry-run").returncode == 0
    assert project.cli("ship", FR, "--run", str(folder)).returncode == 6


def test_a_dry_run_judges_and_writes_nothing(project: Any) -> None:
    folder = project.run(FR)
    before, files = project.snapshot(), sorted(p.name for p in folder.iterdir())
    done = project.cli("ship", FR, "--dry-run")
    assert done.returncode == 0, done.stderr
    assert "registry entry fr_regressor_v2" in done.stdout and "sha256" in done.stdout
    assert (project.snapshot(), sorted(p.name for p in folder.iterdir())) == (before, files)
    parts = project.parts(FR)
    few = sorted(set(parts.predictions["group"]))[:4]
    parts.predictions = parts.predictions[parts.predictions["group"].isin(few)]
    project.write(parts, "20260102T000000Z")
    held = project.cli("ship", FR, "--dry-run")
    assert held.returncode == 6 and "nine sources" in held.stderr
    assert project.snapshot() == before


def test_what_cannot_be_judged_gets_a_sentence(project: Any) -> None:
    nothing = project.cli("ship", FR)
    assert nothing.returncode == 4 and "train fr_regressor_v2 --loso" in nothing.stderr
    folder = project.run("vmaf_tiny_v2")
    other = project.cli("ship", FR, "--run", str(folder))
    assert other.returncode == 2 and "vmaf_tiny_v2" in other.stderr
    assert project.cli("ship", "no_such_model").returncode == 2
    (folder / "metrics.json").unlink()
    assert project.cli("ship", "vmaf_tiny_v2", "--run", str(folder)).returncode == 4
    project.run(FR)
    (project.model_dir / "tiny" / "registry.json").unlink()
    started = project.cli("ship", FR)
    assert started.returncode == 0 and registry.load(project.model_dir).find(FR)


def test_a_registry_edited_by_hand_stops_ship_with_a_sentence(project: Any) -> None:
    project.run(FR)
    assert project.cli("ship", FR).returncode == 0
    value = json.loads(project.registry.read_text())
    value["entries"][0]["description"], value["entries"][0]["sha256"] = "better", "0" * 64
    project.registry.write_bytes(json_bytes(value))
    before = project.snapshot()
    for args in (("ship", FR), ("ship", FR, "--rollback"), ("predict", FR, "--self-test")):
        done = project.cli(*args)
        assert done.returncode == 4 and "written by `vmaf-tune ship` only" in done.stderr
    assert project.snapshot() == before


def test_a_promotion_that_does_not_read_back_is_taken_back(project: Any) -> None:
    project.run(FR, "20260101T000000Z", seed=1)
    assert project.cli("ship", FR).returncode == 0
    before = project.registry.read_bytes()
    project.run(FR, "20260102T000000Z", seed=2)
    # Another process damages the new file in the moment between the commit and the check.
    script = (
        "import pathlib, vmaf_train.shipping.promotion as p\n"
        "real = p.Shelf.promote\n"
        "def promote(self, *rest):\n"
        "    entry = real(self, *rest)\n"
        "    (self.folder / entry.file).write_bytes(b'damaged')\n"
        "    return entry\n"
        "p.Shelf.promote = promote\n"
        "from vmaftune.cli import main\n"
        "main()\n"
    )
    argv = [sys.executable, "-c", script, "ship", FR]
    done = subprocess.run(argv, cwd=project.root, capture_output=True, text=True, timeout=300)
    assert done.returncode == 4 and "did not read back" in done.stderr
    assert project.registry.read_bytes() == before
    assert project.cli("predict", FR, "--self-test").returncode == 0


def test_a_disk_that_cannot_be_written_is_a_sentence(project: Any) -> None:
    project.run(FR)
    onnx = json.loads(project.cli("ship", FR, "--dry-run", "--json").stdout)["file"]
    (
        project.model_dir / "tiny" / f"{onnx}.tmp"
    ).mkdir()  # root may write anywhere, but not a file over a folder
    before = project.registry.read_bytes()
    done = project.cli("ship", FR)
    assert done.returncode == 3 and "cannot write" in done.stderr
    assert project.registry.read_bytes() == before


KILLER = """
import json, os, shutil, signal, sys
from pathlib import Path
# What `ship` imports, once for all forks.
import filelock, imageio_ffmpeg, onnx, onnxruntime, pandas, pyarrow.dataset, pyarrow.parquet
import typer._adapters
from pydantic import TypeAdapter
from vmaf_train import files
from vmaf_train.results import run_folder
from vmaf_train.shipping import gate, registry
from vmaftune import cli
from vmaftune.commands import ship

root = Path(sys.argv[1])
os.chdir(root)

def child(last):
    count = 0
    def write(event, args):
        nonlocal count
        if event == "open":
            path, mode, flags = args
            wanted = bool(flags & (os.O_WRONLY | os.O_RDWR))
        else:
            wanted, path = event in ("os.rename", "os.remove", "os.truncate"), args[0]
        if wanted and isinstance(path, (str, bytes)) and os.path.abspath(os.fsdecode(path)).startswith(str(root)):
            count += 1
            if count == last:
                os.kill(os.getpid(), signal.SIGKILL)
    sys.addaudithook(write)
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    os.dup2(1, 2)
    sys.argv = ["vmaf-tune", "ship", "fr_regressor_v2", "--run", "runs/fr_regressor_v2/new"]
    cli.main()

old = registry.load(Path("model")).entries
shutil.copytree("model", "kept")
states = []
while True:
    shutil.rmtree("model")
    shutil.copytree("kept", "model")
    pid = os.fork()
    if pid == 0:
        try:
            child(len(states) + 1)
        except SystemExit as left:
            os._exit(left.code or 0)
        os._exit(1)
    _, status = os.waitpid(pid, 0)
    entries = registry.load(Path("model")).entries
    states.append("old" if entries == old else "new" if len(entries) == 1 else "torn")
    if os.WIFEXITED(status):
        break
print(json.dumps({"exit": os.WEXITSTATUS(status), "states": states}))
"""  # noqa: E501


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no fork")
def test_a_kill_at_each_write_of_ship_leaves_the_old_registry_or_the_new_one(project: Any) -> None:
    project.run(FR, "older", seed=0)
    project.run(FR, "old", seed=1)
    for name in ("older", "old"):
        assert project.cli("ship", FR, "--run", f"runs/{FR}/{name}").returncode == 0
    project.run(FR, "new", seed=2)
    argv = [sys.executable, "-c", KILLER, str(project.root)]
    done = subprocess.run(argv, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    # verdict.json, the pair and the registry are each opened and renamed; two old files are
    # removed.
    assert found["exit"] == 0 and len(found["states"]) >= 10
    assert found["states"] == ["old"] * found["states"].index("new") + ["new"] * found[
        "states"
    ].count("new")


def test_a_shipped_registry_fits_its_schema(project: Any, request: pytest.FixtureRequest) -> None:
    for model_id in ("vmaf_tiny_v2", FR, "fr_regressor_v1"):
        project.run(model_id)
        assert project.cli("ship", model_id).returncode == 0
    schema = json.loads((request.config.rootpath / "model/tiny/registry.schema.json").read_text())
    jsonschema.validate(json.loads(project.registry.read_text()), schema)
