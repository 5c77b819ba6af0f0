"""The model registry: `registry.json` and, beside it, one pair `{id}-{sha8}.onnx`, `.json` per
model.

    load --> Registry(entries) --entry(id)--> read_pair --> ONNX bytes, sidecar
    promote: write the new pair, then replace registry.json    rollback: replace registry.json by the entry before

Replacing `registry.json` is the only commit: a promotion that is killed anywhere leaves the old
registry or the new one. The new sidecar keeps the entry itself (`promotion.entry`: an edit by hand
shows) and the one that it replaced (`promotion.previous`), whose pair stays on disk until the next
promotion; that is what `rollback` restores. Nothing else writes these files.
"""  # noqa: E501

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, fields, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from vmaf_train import files
from vmaf_train.contract import MODELS, PRESET_ORDINALS, VOCABULARY
from vmaf_train.errors import ModelError
from vmaf_train.model_file.graph import OPSET

SCHEMA_VERSION = 1
REGISTRY = "registry.json"
TINY = "tiny"
LICENSE = "Apache-2.0"
_BY_HAND = "registry.json is written by `vmaf-tune ship` only: restore it from git, or ship again"


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One shipped model. `onnx` is a file name beside the registry; the sidecar has the
    same stem.
    """

    id: str
    kind: str
    onnx: str
    sha256: str
    opset: int
    smoke: bool
    quant_mode: str
    license: str
    description: str
    notes: str

    @property
    def sidecar(self) -> str:
        """File name of the sidecar."""
        return self.onnx.removesuffix(".onnx") + ".json"


@dataclass(frozen=True, slots=True, kw_only=True)
class Registry:
    """All shipped models, sorted by id."""

    folder: Path
    entries: tuple[Entry, ...]

    def find(self, model_id: str) -> Entry | None:
        """The entry of `model_id`, or None."""
        return next((e for e in self.entries if e.id == model_id), None)

    def entry(self, model_id: str) -> Entry:
        """The entry of `model_id`. Raises ModelError naming the ids there are."""
        found = self.find(model_id)
        if found is None:
            known = ", ".join(e.id for e in self.entries) or "none yet"
            raise ModelError(
                f"{self.folder / REGISTRY} has no model {model_id!r} (it has: {known}); "
                f"make one with `vmaf-tune train {model_id} --loso` and `vmaf-tune ship {model_id}`"
            )
        return found


def load(model_dir: Path) -> Registry:
    """The registry under `model_dir` (its folder `tiny`), checked, files and all.

    Raises ModelError for a missing or malformed registry, an unknown or missing field, ids unsorted
    or twice, a file name that is not `{id}-{sha8}.onnx`, a file outside the folder, or one whose
    sha256 is not the entry's.
    """
    registry = _parse(model_dir / TINY, _read(model_dir / TINY / REGISTRY))
    for entry in registry.entries:
        read_pair(registry, entry)
    return registry


def read_pair(registry: Registry, entry: Entry) -> tuple[bytes, dict[str, Any]]:
    """ONNX bytes and sidecar of `entry`. Raises ModelError when a file is missing, elsewhere, or
    not as it was promoted.
    """
    data = _read(registry.folder / entry.onnx)
    if hashlib.sha256(data).hexdigest() != entry.sha256:
        raise ModelError(f"{entry.onnx} does not have the sha256 of its registry entry; {_BY_HAND}")
    sidecar = _json(registry.folder / entry.sidecar, _read(registry.folder / entry.sidecar))
    if sidecar.get("id") != entry.id or sidecar.get("sha256") != entry.sha256:
        raise ModelError(
            f"{entry.sidecar} is the sidecar of another model than {entry.onnx}; {_BY_HAND}"
        )
    _check_promoted(registry, entry, sidecar)
    return data, sidecar


def _check_promoted(registry: Registry, entry: Entry, sidecar: Mapping[str, Any]) -> None:
    """Raise ModelError unless `ship` wrote this entry, with the tables that the
    contract still has.
    """
    promotion = sidecar.get("promotion")
    written = promotion.get("entry") if isinstance(promotion, dict) else None
    if not isinstance(written, dict):
        raise ModelError(
            f"{entry.sidecar} does not hold the entry that it was promoted with; {_BY_HAND}"
        )
    changed = [name for name, value in asdict(entry).items() if written.get(name) != value]
    if changed:
        raise ModelError(
            f"the entry {entry.id} of {registry.folder / REGISTRY} is not the one that was"
            f" promoted: {', '.join(changed)} changed since; {_BY_HAND}"
        )
    if MODELS[entry.id].has_codec:
        known = {name: dict(table) for name, table in PRESET_ORDINALS.items() if name in VOCABULARY}
        for field_name, value in (("vocabulary", list(VOCABULARY)), ("preset_ordinals", known)):
            if sidecar.get(field_name) != value:
                raise ModelError(
                    f"{entry.sidecar} has another {field_name} than this release's contract;"
                    f" {_BY_HAND}"
                )


def new_entry(model_id: str, onnx_bytes: bytes, *, description: str, notes: str) -> Entry:
    """The entry that a promotion of `onnx_bytes` would write."""
    digest = hashlib.sha256(onnx_bytes).hexdigest()
    return Entry(
        id=model_id,
        kind="fr",
        onnx=f"{model_id}-{digest[:8]}.onnx",
        sha256=digest,
        opset=OPSET,
        smoke=False,
        quant_mode="fp32",
        license=LICENSE,
        description=description,
        notes=notes,
    )


def difference(registry: Registry, entry: Entry) -> dict[str, tuple[Any, Any]]:
    """Fields that promoting `entry` would change, as (now, then); every field of a model that is
    not there yet.
    """
    old = registry.find(entry.id)
    now, then = (asdict(old) if old else {}), asdict(entry)
    return {name: (now.get(name), value) for name, value in then.items() if now.get(name) != value}


def promote(
    model_dir: Path, entry: Entry, onnx_bytes: bytes, sidecar: Mapping[str, Any]
) -> Registry:
    """Make `entry` the shipped model of its id; the caller has judged it. Returns the registry as
    it is afterwards.

    Shipping the bytes that are already shipped renews the evidence in their sidecar, where the
    entry stays the same, and changes nothing else. Raises ModelError when the registry is not in
    order, or entry, bytes and sidecar do not belong together.
    """
    if not hashlib.sha256(onnx_bytes).hexdigest() == entry.sha256 == sidecar.get("sha256"):
        raise ModelError(f"the candidate of {entry.id} changed while it was judged; ship again")
    with _locked(model_dir / TINY) as folder:
        registry = load(model_dir)
        incumbent = registry.find(entry.id)
        if incumbent is not None and incumbent.sha256 == entry.sha256:
            if incumbent == entry:
                promotion = read_pair(registry, entry)[1]["promotion"]
                files.write_json(folder / entry.sidecar, {**sidecar, "promotion": promotion})
            return registry
        promotion = {
            "at": datetime.now(UTC).isoformat(timespec="seconds"),
            "entry": asdict(entry),
            "previous": asdict(incumbent) if incumbent else None,
        }
        files.write_bytes(folder / entry.onnx, onnx_bytes)
        files.write_json(folder / entry.sidecar, {**sidecar, "promotion": promotion})
        after = _commit(registry, entry)
        _sweep(folder, entry, incumbent)
    return after


def rollback(model_dir: Path, model_id: str) -> Registry:
    """Put back the entry that the last promotion of `model_id` replaced; the newer pair stays on
    disk.

    Raises ModelError when there is none, or its pair is gone or damaged.
    """
    with _locked(model_dir / TINY):
        registry = load(model_dir)
        entry = registry.entry(model_id)
        previous = (read_pair(registry, entry)[1].get("promotion") or {}).get("previous")
        if previous is None:
            raise ModelError(
                f"{entry.onnx} replaced no other model, so there is nothing to roll back to"
            )
        earlier = _entry(registry.folder, previous)
        if not (registry.folder / earlier.onnx).exists():
            raise ModelError(
                f"{earlier.onnx} is no longer kept: only the pair before the last promotion is"
            )
        read_pair(registry, earlier)
        return _commit(registry, earlier)


def restore(registry: Registry) -> None:
    """Put `registry` back as it was read, after a promotion that did not read back. Its pairs must
    still be there.
    """
    with _locked(registry.folder):
        _write(registry)


def _commit(registry: Registry, entry: Entry) -> Registry:
    kept = [e for e in registry.entries if e.id != entry.id]
    after = replace(registry, entries=tuple(sorted([*kept, entry], key=lambda e: e.id)))
    _write(after)
    return after


def _write(registry: Registry) -> None:
    value = {"schema_version": SCHEMA_VERSION, "entries": [asdict(e) for e in registry.entries]}
    files.write_json(registry.folder / REGISTRY, value)


def _sweep(folder: Path, entry: Entry, incumbent: Entry | None) -> None:
    """Remove the pairs of this model that are neither the shipped nor the previous one."""
    kept = {name for e in (entry, incumbent) if e for name in (e.onnx, e.sidecar)}
    pair = re.compile(re.escape(entry.id) + r"-[0-9a-f]{8}\.(onnx|json)(\.tmp)?")
    for path in sorted(folder.iterdir()):
        if pair.fullmatch(path.name) and path.name not in kept:
            path.unlink()
    files.sync_folder(folder)


@contextmanager
def _locked(folder: Path) -> Iterator[Path]:
    """Hold the folder against another promotion, where the platform has such locks; no file is made
    for it.
    """
    if not folder.is_dir():
        raise ModelError(
            f"{folder} is not a folder with a {REGISTRY}; name its parent with --model-dir"
        )
    if os.name != "posix":
        yield folder
        return
    import fcntl

    descriptor = os.open(folder, os.O_RDONLY)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as failure:
            raise ModelError(
                f"another promotion is writing {folder}; try again when it is done"
            ) from failure
        yield folder
    finally:
        os.close(descriptor)


def _read(path: Path) -> bytes:
    if path.resolve().parent != path.parent.resolve():
        raise ModelError(f"{path} leads out of {path.parent}; {_BY_HAND}")
    try:
        return path.read_bytes()
    except FileNotFoundError as failure:
        raise ModelError(f"{path} does not exist; {_BY_HAND}") from failure
    except OSError as failure:
        raise ModelError(f"{path} cannot be read: {failure.strerror or failure}") from failure


def _json(path: Path, data: bytes) -> dict[str, Any]:
    try:
        value = json.loads(data, object_pairs_hook=_no_twins)
    except ValueError as failure:
        raise ModelError(f"{path} is not JSON as it should be ({failure}); {_BY_HAND}") from failure
    if not isinstance(value, dict):
        raise ModelError(f"{path} must hold a JSON object; {_BY_HAND}")
    return value


def _no_twins(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    names = [name for name, _ in pairs]
    if len(set(names)) < len(names):
        raise ValueError(
            f"the key {next(n for n in names if names.count(n) > 1)!r} stands twice in one object"
        )
    return dict(pairs)


def _parse(folder: Path, data: bytes) -> Registry:
    value = _json(folder / REGISTRY, data)
    if set(value) != {"schema_version", "entries"} or not isinstance(value["entries"], list):
        raise ModelError(
            f"{folder / REGISTRY} must hold schema_version and a list of entries, nothing else;"
            f" {_BY_HAND}"
        )
    if type(value["schema_version"]) is not int or value["schema_version"] != SCHEMA_VERSION:
        raise ModelError(
            f"{folder / REGISTRY} has schema_version {value['schema_version']!r}; this release"
            f" reads {SCHEMA_VERSION}"
        )
    entries = tuple(_entry(folder, item) for item in value["entries"])
    ids = [e.id for e in entries]
    if ids != sorted(set(ids)):
        raise ModelError(
            f"the ids in {folder / REGISTRY} must be sorted and each there once; {_BY_HAND}"
        )
    return Registry(folder=folder, entries=entries)


def _entry(folder: Path, item: Any) -> Entry:
    where = folder / REGISTRY
    names = {f.name for f in fields(Entry)}
    if not isinstance(item, dict) or set(item) != names:
        odd = sorted(set(item) ^ names) if isinstance(item, dict) else [type(item).__name__]
        raise ModelError(
            f"an entry of {where} has unknown or missing fields ({', '.join(odd)}); {_BY_HAND}"
        )
    types = {"opset": int, "smoke": bool}
    wrong = [name for name in sorted(names) if type(item[name]) is not types.get(name, str)]
    if wrong:
        raise ModelError(
            f"an entry of {where} has {', '.join(wrong)} of the wrong type; {_BY_HAND}"
        )
    entry = Entry(**item)
    if (
        entry.id not in MODELS
        or entry.kind != "fr"
        or entry.opset != OPSET
        or entry.quant_mode != "fp32"
        or entry.smoke
    ):
        raise ModelError(
            f"the entry {entry.id!r} of {where} is not one of {', '.join(MODELS)} with kind fr,"
            f" opset {OPSET}, quant_mode fp32 and smoke false; {_BY_HAND}"
        )
    if (
        not re.fullmatch(r"[0-9a-f]{64}", entry.sha256)
        or entry.onnx != f"{entry.id}-{entry.sha256[:8]}.onnx"
    ):
        raise ModelError(
            f"the entry {entry.id} of {where} must name its file {{id}}-{{first 8 of sha256}}.onnx"
            f" in that folder, not {entry.onnx!r}; {_BY_HAND}"
        )
    return entry
