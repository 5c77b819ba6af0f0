"""The registry: what it accepts, how it changes, and that no kill leaves it between two states."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from vmaf_train.errors import ModelError
from vmaf_train.files import json_bytes
from vmaf_train.shipping import registry

ROOT = Path(__file__).resolve().parents[2]
SCHEMA = json.loads((ROOT / "model/tiny/registry.schema.json").read_text())
FR = "fr_regressor_v2"


def promote(project: Any, model_id: str = FR, seed: int = 0) -> registry.Entry:
    parts = project.parts(model_id, seed=seed)
    entry = registry.new_entry(model_id, parts.onnx, description="d", notes="n")
    registry.promote(project.model_dir, entry, parts.onnx, parts.sidecar)
    return entry


def files(project: Any) -> set[str]:
    return {p.name for p in (project.model_dir / "tiny").iterdir()} - {"registry.json"}


def test_the_registry_of_this_repository_is_in_order() -> None:
    shipped = registry.load(ROOT / "model")
    jsonschema.validate(json.loads((shipped.folder / "registry.json").read_text()), SCHEMA)
    named = {name for e in shipped.entries for name in (e.onnx, e.sidecar)}
    assert named <= {p.name for p in shipped.folder.iterdir()}


def test_entries_are_sorted_and_fit_the_schema(project: Any) -> None:
    for model_id in ("vmaf_tiny_v2", FR, "fr_regressor_v1"):
        promote(project, model_id)
    value = json.loads(project.registry.read_text())
    jsonschema.validate(value, SCHEMA)
    assert [e["id"] for e in value["entries"]] == [
        "fr_regressor_v1",
        "fr_regressor_v2",
        "vmaf_tiny_v2",
    ]
    for e in value["entries"]:
        assert e["onnx"] == f"{e['id']}-{e['sha256'][:8]}.onnx"


def test_the_previous_pair_is_kept_until_the_next_promotion(project: Any) -> None:
    first, second = promote(project, seed=1), promote(project, seed=2)
    assert files(project) == {first.onnx, first.sidecar, second.onnx, second.sidecar}
    third = promote(project, seed=3)
    assert files(project) == {second.onnx, second.sidecar, third.onnx, third.sidecar}
    other = promote(project, "vmaf_tiny_v2")
    assert files(project) == {
        second.onnx,
        second.sidecar,
        third.onnx,
        third.sidecar,
        other.onnx,
        other.sidecar,
    }


def test_rollback_restores_the_whole_entry(project: Any) -> None:
    first = promote(project, seed=1)
    before = project.registry.read_bytes()
    second = promote(project, seed=2)
    assert registry.load(project.model_dir).entry(FR) == second
    assert registry.rollback(project.model_dir, FR).entry(FR) == first
    assert project.registry.read_bytes() == before
    with pytest.raises(ModelError, match="nothing to roll back to"):
        registry.rollback(project.model_dir, FR)
    assert promote(project, seed=2) == second  # and forward again
    assert registry.rollback(project.model_dir, FR).entry(FR) == first


def test_rollback_needs_the_previous_pair(project: Any) -> None:
    first, second = promote(project, seed=1), promote(project, seed=2)
    (project.model_dir / "tiny" / first.onnx).write_bytes(b"damaged")
    with pytest.raises(ModelError, match="sha256"):
        registry.rollback(project.model_dir, FR)
    (project.model_dir / "tiny" / first.onnx).unlink()
    with pytest.raises(ModelError, match="no longer kept"):
        registry.rollback(project.model_dir, FR)
    assert registry.load(project.model_dir).entry(FR) == second


def test_the_same_bytes_again_change_nothing(project: Any) -> None:
    promote(project, seed=1)
    promote(project, seed=2)
    before = project.snapshot()
    promote(project, seed=2)
    assert project.snapshot() == before


def entry_of(value: dict[str, Any]) -> dict[str, Any]:
    return value["entries"][0]


BY_HAND: list[tuple[Callable[[dict[str, Any]], Any], str]] = [
    (lambda v: entry_of(v).update(sha256="0" * 64), "first 8 of sha256"),
    (
        lambda v: entry_of(v).update(sha256=entry_of(v)["sha256"][:8] + "0" * 56),
        "sha256 of its registry entry",
    ),
    (lambda v: entry_of(v).update(sha256=entry_of(v)["sha256"].upper()), "first 8 of sha256"),
    (lambda v: entry_of(v).update(onnx="../tiny/" + entry_of(v)["onnx"]), "in that folder"),
    (lambda v: entry_of(v).update(onnx="/etc/passwd"), "in that folder"),
    (lambda v: entry_of(v).update(colour="blue"), "colour"),
    (lambda v: entry_of(v).pop("license"), "license"),
    (lambda v: entry_of(v).update(opset="17"), "wrong type"),
    (lambda v: entry_of(v).update(smoke=0), "wrong type"),
    (lambda v: entry_of(v).update(smoke=True), "smoke false"),
    (lambda v: entry_of(v).update(opset=18), "opset 17"),
    (lambda v: entry_of(v).update(kind="nr"), "kind fr"),
    (lambda v: entry_of(v).update(quant_mode="int8"), "quant_mode fp32"),
    (lambda v: entry_of(v).update(id="my_model"), "not one of"),
    (
        lambda v: entry_of(v).update(description="the best"),
        "not the one that was promoted: description changed",
    ),
    (lambda v: entry_of(v).update(notes="", license="MIT"), "license, notes changed"),
    (lambda v: v.update(schema_version=True), "schema_version True"),
    (lambda v: v["entries"].reverse(), "sorted"),
    (lambda v: v["entries"].append(v["entries"][1]), "once"),
    (lambda v: v["entries"].append("x"), "unknown or missing fields"),
    (lambda v: v.update(schema_version=2), "schema_version"),
    (lambda v: v.update(extra=1), "nothing else"),
    (lambda v: v.update(entries={}), "list of entries"),
]


@pytest.mark.parametrize(("edit", "sentence"), BY_HAND)
def test_a_registry_edited_by_hand_is_refused(
    project: Any, edit: Callable[[Any], Any], sentence: str
) -> None:
    promote(project)
    promote(project, "vmaf_tiny_v2")
    value = json.loads(project.registry.read_text())
    edit(value)
    project.registry.write_bytes(json_bytes(value))
    before = project.snapshot()
    with pytest.raises(ModelError, match=sentence):
        registry.load(project.model_dir)
    with pytest.raises(ModelError, match=sentence):
        promote(project, seed=4)
    assert project.snapshot() == before


@pytest.mark.parametrize(
    "text", ["", "{", "[]", '{"schema_version": 1, "schema_version": 1, "entries": []}']
)
def test_a_registry_that_is_no_json_object_is_refused(project: Any, text: str) -> None:
    project.registry.write_text(text)
    with pytest.raises(ModelError, match=r"registry\.json"):
        registry.load(project.model_dir)


def test_files_that_are_not_the_entrys_are_refused(project: Any, tmp_path: Path) -> None:
    entry = promote(project)
    onnx, sidecar = (project.model_dir / "tiny" / name for name in (entry.onnx, entry.sidecar))
    data, text = onnx.read_bytes(), sidecar.read_bytes()

    onnx.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    with pytest.raises(ModelError, match="does not have the sha256"):
        registry.load(project.model_dir)
    (tmp_path / "outside.onnx").write_bytes(data)
    onnx.unlink()
    with pytest.raises(ModelError, match="does not exist"):
        registry.load(project.model_dir)
    onnx.symlink_to(tmp_path / "outside.onnx")
    with pytest.raises(ModelError, match="leads out of"):
        registry.load(project.model_dir)
    onnx.unlink()
    onnx.write_bytes(data)
    sidecar.write_text(json.dumps({**json.loads(text), "sha256": "0" * 64}))
    with pytest.raises(ModelError, match="another model"):
        registry.load(project.model_dir)


def test_a_sidecar_edited_by_hand_is_refused(project: Any) -> None:
    sidecar = project.model_dir / "tiny" / promote(project).sidecar
    value = json.loads(sidecar.read_text())
    registry.load(project.model_dir)
    ordinals = value["preset_ordinals"]
    for change, sentence in (
        (
            {"preset_ordinals": ordinals | {"libx264": ordinals["libx264"] | {"slow": 9}}},
            "another preset_ordinals",
        ),
        ({"vocabulary": value["vocabulary"][::-1]}, "another vocabulary"),
        ({"promotion": None}, "does not hold the entry"),
        ({"promotion": [1]}, "does not hold the entry"),
    ):
        sidecar.write_text(json.dumps(value | change))
        with pytest.raises(ModelError, match=sentence):
            registry.load(project.model_dir)


def test_unknown_models_and_folders_get_a_sentence(project: Any, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="none yet"):
        registry.load(project.model_dir).entry(FR)
    with pytest.raises(ModelError, match="--model-dir"):
        registry.rollback(tmp_path / "nowhere", FR)


def test_a_candidate_that_changes_while_it_is_judged_is_refused(project: Any) -> None:
    parts = project.parts(FR)
    entry, before = registry.new_entry(FR, parts.onnx, description="", notes=""), project.snapshot()
    for onnx, sidecar in (
        (parts.onnx + b" ", parts.sidecar),
        (parts.onnx, {**parts.sidecar, "sha256": "0" * 64}),
    ):
        with pytest.raises(ModelError, match="changed while it was judged"):
            registry.promote(project.model_dir, entry, onnx, sidecar)
    assert project.snapshot() == before


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such locks")
def test_two_promotions_at_once_are_refused(project: Any) -> None:
    import fcntl

    descriptor = os.open(project.model_dir / "tiny", os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        with pytest.raises(ModelError, match="another promotion"):
            promote(project)
    finally:
        os.close(descriptor)
    promote(project)


KILLER = """
import os, shutil, signal, sys
from pathlib import Path
from vmaf_train import export, registry

root = Path(sys.argv[1])
onnx = (root / "new.onnx").read_bytes()
sidecar = __import__("json").loads((root / "new.json").read_text())
entry = registry.new_entry("fr_regressor_v2", onnx, description="d", notes="n")
# waiting for the disk is what makes hundreds of promotions slow; a kill does not need it
os.fsync = lambda _: None
files = {registry.__file__, export.__file__}
readers = {"load", "read_pair", "_read", "_parse", "_entry", "_json", "_no_twins", "find", "sidecar"}

def child(model_dir, last):
    count = 0
    def trace(frame, event, _):
        nonlocal count
        if frame.f_code.co_filename not in files or frame.f_code.co_name in readers:
            return None
        if event == "line":
            count += 1
            if count == last:
                os.kill(os.getpid(), signal.SIGKILL)
        return trace
    sys.settrace(trace)
    registry.promote(model_dir, entry, onnx, sidecar)
    sys.settrace(None)
    os._exit(0)

old, kills, states, seen = registry.load(root / "model"), 0, [], None
while True:
    model_dir = root / "trial"
    shutil.rmtree(model_dir, ignore_errors=True)
    shutil.copytree(root / "model", model_dir)
    pid = os.fork()
    if pid == 0:
        child(model_dir, kills + 1)
    _, status = os.waitpid(pid, 0)
    now = registry.load(model_dir).entries
    state = "old" if now == old.entries else "new" if now == (entry,) else "torn"
    states.append(state)
    if state == "torn":
        break
    left = sorted((f.name, f.stat().st_size) for f in (model_dir / "tiny").iterdir())
    if left != seen:  # whatever the kill left behind, the next promotion and the way back work
        assert registry.promote(model_dir, entry, onnx, sidecar).entries == (entry,)
        assert registry.rollback(model_dir, "fr_regressor_v2").entries == old.entries
        seen = left
    if os.WIFEXITED(status):
        assert os.WEXITSTATUS(status) == 0
        break
    kills += 1
# Old, old, ..., new, new: there is one commit.
print(kills, states.count("old"), states.count("new"), states.count("torn"), states == sorted(states, reverse=True))
"""  # noqa: E501


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no fork")
def test_a_kill_at_any_line_of_a_promotion_leaves_the_old_registry_or_the_new_one(
    project: Any,
) -> None:
    promote(project, seed=1)
    promote(project, seed=2)  # so that the promotion under test also removes a pair
    parts = project.parts(FR, seed=3)
    (project.root / "new.onnx").write_bytes(parts.onnx)
    (project.root / "new.json").write_bytes(json_bytes(parts.sidecar))
    argv = [sys.executable, "-c", KILLER, str(project.root)]
    done = subprocess.run(argv, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    kills, old, new, torn, one_commit = done.stdout.split()
    assert torn == "0" and one_commit == "True", done.stdout
    assert int(kills) > 40 and int(old) > 30 and int(new) > 5
