"""The registry: what it accepts, how it changes, and that no kill leaves it between two states."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from vmaf_train.errors import ModelError
from vmaf_train.files import json_bytes
from vmaf_train.shipping import promotion, registry

ROOT = Path(__file__).resolve().parents[2]
SCHEMA = json.loads((ROOT / "model/tiny/registry.schema.json").read_text())
FR = "fr_regressor_v2"


def promote(project: Any, model_id: str = FR, seed: int = 0) -> registry.Entry:
    parts = project.parts(model_id, seed=seed)
    entry = registry.new_entry(model_id, parts.onnx, description="d", notes="n")
    return promotion.promote(project.model_dir, entry, parts.onnx, parts.sidecar).entry(model_id)


def files(project: Any) -> set[str]:
    return {p.name for p in (project.model_dir / "tiny").iterdir()} - {"registry.json"}


def test_the_registry_of_this_repository_is_in_order() -> None:
    shipped = registry.load(ROOT / "model")
    jsonschema.validate(json.loads((shipped.folder / "registry.json").read_text()), SCHEMA)
    named = {name for e in shipped.entries for name in (e.file, e.sidecar)}
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
        sidecar = f"{e['id']}-{e['sha256'][:8]}-{e['sidecar_sha256'][:8]}.json"
        data = (project.model_dir / "tiny" / sidecar).read_bytes()
        assert hashlib.sha256(data).hexdigest() == e["sidecar_sha256"]


def test_the_previous_pair_is_kept_until_the_next_promotion(project: Any) -> None:
    first, second = promote(project, seed=1), promote(project, seed=2)
    assert files(project) == {first.file, first.sidecar, second.file, second.sidecar}
    third = promote(project, seed=3)
    assert files(project) == {second.file, second.sidecar, third.file, third.sidecar}
    other = promote(project, "vmaf_tiny_v2")
    assert files(project) == {
        second.file,
        second.sidecar,
        third.file,
        third.sidecar,
        other.file,
        other.sidecar,
    }


def test_rollback_restores_the_whole_entry(project: Any) -> None:
    first = promote(project, seed=1)
    before = project.registry.read_bytes()
    second = promote(project, seed=2)
    assert registry.load(project.model_dir).entry(FR) == second
    assert promotion.rollback(project.model_dir, FR).entry(FR) == first
    assert project.registry.read_bytes() == before
    with pytest.raises(ModelError, match="nothing to roll back to"):
        promotion.rollback(project.model_dir, FR)
    assert promote(project, seed=2).file == second.file  # and forward again
    assert promotion.rollback(project.model_dir, FR).entry(FR) == first


def test_rollback_needs_the_previous_pair(project: Any) -> None:
    first, second = promote(project, seed=1), promote(project, seed=2)
    (project.model_dir / "tiny" / first.file).write_bytes(b"damaged")
    with pytest.raises(ModelError, match="sha256"):
        promotion.rollback(project.model_dir, FR)
    (project.model_dir / "tiny" / first.file).unlink()
    with pytest.raises(ModelError, match="no longer kept"):
        promotion.rollback(project.model_dir, FR)
    assert registry.load(project.model_dir).entry(FR) == second


def test_the_same_bytes_again_change_nothing(project: Any) -> None:
    promote(project, seed=1)
    parts = project.parts(FR, seed=2)
    entry = registry.new_entry(FR, parts.onnx, description="d", notes="n")
    promotion.promote(project.model_dir, entry, parts.onnx, parts.sidecar)
    before = project.snapshot()
    promotion.promote(project.model_dir, entry, parts.onnx, parts.sidecar)
    assert project.snapshot() == before


def test_newer_evidence_of_the_same_bytes_is_a_new_sidecar(project: Any) -> None:
    """The registry commits it, and the model before stays the one to roll back to."""
    first, parts = promote(project, seed=1), project.parts(FR, seed=2)
    entry = registry.new_entry(FR, parts.onnx, description="d", notes="n")
    old = promotion.promote(project.model_dir, entry, parts.onnx, parts.sidecar).entry(FR)
    newer = {**parts.sidecar, "gate": {"verdict": "pass"}}
    new = promotion.promote(project.model_dir, entry, parts.onnx, newer).entry(FR)
    assert new.file == old.file and new.sidecar != old.sidecar
    assert files(project) == {first.file, first.sidecar, new.file, new.sidecar}
    assert promotion.rollback(project.model_dir, FR).entry(FR) == first


def as_version_1(project: Any) -> None:
    """The registry as release 0.1.0 wrote it: a sidecar has the model's stem, and no digest."""
    folder = project.model_dir / "tiny"
    value = json.loads(project.registry.read_text())
    for item in value["entries"]:
        entry = registry.parse_entry(folder, dict(item))
        text = json.loads((folder / entry.sidecar).read_text())
        (folder / entry.sidecar).unlink()
        if text["promotion"]["previous"]:
            old = registry.parse_entry(folder, dict(text["promotion"]["previous"]))
            del text["promotion"]["previous"]["sidecar_sha256"]
            (folder / old.sidecar).rename(folder / f"{old.file[:-5]}.json")
        (folder / f"{entry.file[:-5]}.json").write_bytes(json_bytes(text))
        del item["sidecar_sha256"]
    project.registry.write_bytes(json_bytes({**value, "schema_version": 1}))


def test_a_registry_of_version_1_is_read_and_written_as_version_2(project: Any) -> None:
    first, second = promote(project, seed=1), promote(project, seed=2)
    tiny = promote(project, "vmaf_tiny_v2")
    as_version_1(project)
    old = registry.load(project.model_dir)
    assert [e.sidecar for e in old.entries] == [f"{e.file[:-5]}.json" for e in (second, tiny)]
    back = promotion.rollback(project.model_dir, FR).entry(FR)
    assert (back.file, back.sidecar_sha256) == (first.file, first.sidecar_sha256)
    third = promote(project, seed=3)
    value = json.loads(project.registry.read_text())
    jsonschema.validate(value, SCHEMA)
    kept = registry.load(project.model_dir).entries
    assert files(project) == {first.file, first.sidecar} | {
        name for e in kept for name in (e.file, e.sidecar)
    }
    assert kept[0] == third


def test_a_pair_that_did_not_read_back_goes_and_the_one_to_roll_back_to_stays(
    project: Any,
) -> None:
    first, second = promote(project, seed=1), promote(project, seed=2)
    before, parts = project.snapshot(), project.parts(FR, seed=3)
    entry = registry.new_entry(FR, parts.onnx, description="d", notes="n")
    with promotion.hold(project.model_dir) as shelf:
        third = shelf.promote(entry, parts.onnx, parts.sidecar)
        assert registry.load(project.model_dir).entry(FR) == third
        assert {first.file, first.sidecar, second.file} <= files(project)
        shelf.undo()
    assert project.snapshot() == before
    assert promotion.rollback(project.model_dir, FR).entry(FR) == first


def test_a_prior_is_an_entry_with_a_file(project: Any) -> None:
    """The registry does not know what is in it: the kind's own code reads and judges that."""
    data = b'{"weights": [1, 2]}'
    entry = registry.new_entry("quality_prior", data, description="d", notes="n")
    sidecar = {"id": "quality_prior", "sha256": entry.sha256, "kind": "prior"}
    promotion.promote(project.model_dir, entry, data, sidecar)
    promote(project)
    value = json.loads(project.registry.read_text())
    jsonschema.validate(value, SCHEMA)
    prior = value["entries"][1]
    assert prior["file"] == f"quality_prior-{entry.sha256[:8]}.json" and prior["kind"] == "prior"
    assert not {"onnx", "opset", "quant_mode"} & set(prior)
    shelf = registry.load(project.model_dir)
    assert registry.read_pair(shelf.folder, shelf.entry("quality_prior")).data == data
    newer = b'{"weights": [3]}'
    other = registry.new_entry("quality_prior", newer, description="d", notes="n")
    promotion.promote(project.model_dir, other, newer, {**sidecar, "sha256": other.sha256})
    assert (
        promotion.rollback(project.model_dir, "quality_prior").find("quality_prior").file
        == (prior["file"])
    )


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
    (lambda v: entry_of(v).update(kind="nr"), "unknown or missing|kind fr"),
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
    (lambda v: v.update(schema_version=3), "reads 1 and 2"),
    (lambda v: v.update(schema_version=1), "schema_version 2 alone"),
    (lambda v: entry_of(v).pop("sidecar_sha256"), "schema_version 2 alone"),
    (lambda v: entry_of(v).update(sidecar_sha256="0" * 64), "does not exist"),
    (lambda v: entry_of(v).update(sidecar_sha256=7), "sidecar_sha256 of the wrong type"),
    (
        lambda v: entry_of(v).update(sidecar_sha256=entry_of(v)["sidecar_sha256"][:8] + "0" * 56),
        "sidecar_sha256 of its registry entry",
    ),
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
    onnx, sidecar = (project.model_dir / "tiny" / name for name in (entry.file, entry.sidecar))
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
    with pytest.raises(ModelError, match="sidecar_sha256"):
        registry.load(project.model_dir)
    as_edited(project, entry, {**json.loads(text), "sha256": "0" * 64})
    with pytest.raises(ModelError, match="another model"):
        registry.load(project.model_dir)


def as_edited(project: Any, entry: registry.Entry, value: dict[str, Any]) -> None:
    """A sidecar edited by somebody who also wrote its digest into the registry."""
    data = json_bytes(value)
    edited = replace(entry, sidecar_sha256=hashlib.sha256(data).hexdigest())
    (project.model_dir / "tiny" / edited.sidecar).write_bytes(data)
    project.registry.write_bytes(json_bytes({"schema_version": 2, "entries": [edited.to_json()]}))


def test_a_sidecar_edited_by_hand_is_refused(project: Any) -> None:
    entry = promote(project)
    value = json.loads((project.model_dir / "tiny" / entry.sidecar).read_text())
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
        as_edited(project, entry, value | change)
        with pytest.raises(ModelError, match=sentence):
            registry.load(project.model_dir)


def test_unknown_models_and_folders_get_a_sentence(project: Any, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="none yet"):
        registry.load(project.model_dir).entry(FR)
    with pytest.raises(ModelError, match="--model-dir"):
        promotion.rollback(tmp_path / "nowhere", FR)


def test_a_candidate_that_changes_while_it_is_judged_is_refused(project: Any) -> None:
    parts = project.parts(FR)
    entry, before = registry.new_entry(FR, parts.onnx, description="", notes=""), project.snapshot()
    for onnx, sidecar in (
        (parts.onnx + b" ", parts.sidecar),
        (parts.onnx, {**parts.sidecar, "sha256": "0" * 64}),
    ):
        with pytest.raises(ModelError, match="changed while it was judged"):
            promotion.promote(project.model_dir, entry, onnx, sidecar)
    assert project.snapshot() == before


def test_two_promotions_at_once_are_refused(project: Any) -> None:
    with promotion.hold(project.model_dir):
        with pytest.raises(ModelError, match="another promotion"):
            promote(project)
        assert {p.name for p in (project.model_dir / "tiny").iterdir()} == {"registry.json"}
    promote(project)


KILLER = """
import os, shutil, signal, sys
from pathlib import Path
from vmaf_train import files
from vmaf_train.shipping import promotion, registry

root = Path(sys.argv[1])
onnx = (root / "new.onnx").read_bytes()
sidecar = __import__("json").loads((root / "new.json").read_text())
entry = registry.new_entry("fr_regressor_v2", onnx, description="d", notes="n")
# waiting for the disk is what makes hundreds of promotions slow; a kill does not need it
os.fsync = lambda _: None
traced = {promotion.__file__, files.__file__}
readers = {"hold", "_lock_file"}

def child(model_dir, last):
    count = 0
    def trace(frame, event, _):
        nonlocal count
        if frame.f_code.co_filename not in traced or frame.f_code.co_name in readers:
            return None
        if event == "line":
            count += 1
            if count == last:
                os.kill(os.getpid(), signal.SIGKILL)
        return trace
    sys.settrace(trace)
    promotion.promote(model_dir, entry, onnx, sidecar)
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
    state = "old" if now == old.entries else "new" if [e.sha256 for e in now] == [entry.sha256] else "torn"
    states.append(state)
    if state == "torn":
        break
    left = sorted((f.name, f.stat().st_size) for f in (model_dir / "tiny").iterdir())
    if left != seen:  # whatever the kill left behind, the next promotion and the way back work
        assert promotion.promote(model_dir, entry, onnx, sidecar).entry("fr_regressor_v2").sha256 == entry.sha256
        assert promotion.rollback(model_dir, "fr_regressor_v2").entries == old.entries
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
