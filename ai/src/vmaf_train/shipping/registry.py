"""The model registry: `registry.json` and, beside it, one pair of model and sidecar for each id.

    load --> Registry(entries) --entry(id)--> read_pair --> Pair(model bytes, sidecar bytes)

A model file is named `{id}-{first 8 of its sha256}` and a sidecar `{id}-{those 8}-{first 8 of its
own sha256}.json`. Both digests stand in the entry, so replacing `registry.json` is all that a
promotion commits; `promotion.py` writes, and nothing else does. Reading needs no numpy.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import msgspec

from vmaf_train.contract import MODELS, PRESET_ORDINALS, VOCABULARY
from vmaf_train.errors import ModelError, no_model

SCHEMA_VERSION = 2
READ_VERSIONS = (1, SCHEMA_VERSION)
REGISTRY = "registry.json"
TINY = "tiny"
LICENSE = "Apache-2.0"
BY_HAND = "registry.json is written by `vmaf-tune ship` only: restore it from git, or ship again"

EntryFields = Mapping[str, str | int | bool]
"""The fields of an entry as JSON holds them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Kind:
    """What the entries of one kind have in common.

    `ids`: the models there are. `field`: the name of the entry's field that names the model file,
    which ends in `suffix`. `fixed`: further fields, which have one value in all entries.
    """

    name: str
    ids: tuple[str, ...]
    field: str
    suffix: str
    fixed: EntryFields

    @property
    def fields(self) -> tuple[str, ...]:
        """Every field of an entry without its sidecar's digest, in the order they are written."""
        return (
            "id",
            "kind",
            self.field,
            "sha256",
            *self.fixed,
            "license",
            "description",
            "notes",
        )


FR = Kind(
    name="fr",
    ids=tuple(MODELS),
    field="onnx",
    suffix=".onnx",
    fixed={"opset": 17, "smoke": False, "quant_mode": "fp32"},
)
PRIOR = Kind(
    name="prior", ids=("quality_prior",), field="file", suffix=".json", fixed={"smoke": False}
)
KINDS: Mapping[str, Kind] = {kind.name: kind for kind in (FR, PRIOR)}
KIND_OF: Mapping[str, Kind] = {model_id: kind for kind in KINDS.values() for model_id in kind.ids}
IDS = tuple(KIND_OF)


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One shipped model. `file` is a file name beside the registry.

    `sidecar_sha256` is None in an entry of schema version 1, whose sidecar has the model's stem.
    """

    id: str
    file: str
    sha256: str
    license: str
    description: str
    notes: str
    sidecar_sha256: str | None = None

    @property
    def kind(self) -> Kind:
        """The kind of model that its id is."""
        return KIND_OF[self.id]

    @property
    def sidecar(self) -> str:
        """File name of the sidecar."""
        stem = f"{self.id}-{self.sha256[:8]}"
        return f"{stem}-{self.sidecar_sha256[:8]}.json" if self.sidecar_sha256 else f"{stem}.json"

    def facts(self) -> dict[str, str | int | bool]:
        """The entry as its own sidecar holds it (`promotion.entry`): without that file's digest."""
        values: dict[str, str | int | bool] = {
            "id": self.id,
            "kind": self.kind.name,
            self.kind.field: self.file,
            "sha256": self.sha256,
            **self.kind.fixed,
            "license": self.license,
            "description": self.description,
            "notes": self.notes,
        }
        return {name: values[name] for name in self.kind.fields}

    def to_json(self) -> dict[str, str | int | bool]:
        """The entry as registry.json holds it."""
        digest = {"sidecar_sha256": self.sidecar_sha256} if self.sidecar_sha256 else {}
        return self.facts() | digest


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
        if found is not None:
            return found
        known = ", ".join(e.id for e in self.entries) or "none yet"
        if model_id not in KIND_OF:
            raise ModelError(f"{no_model(model_id, IDS)}; {self.folder / REGISTRY} has: {known}")
        raise ModelError(
            f"{self.folder / REGISTRY} has no model {model_id!r} (it has: {known}); "
            f"make one with `vmaf-tune train {model_id} --loso` and `vmaf-tune ship {model_id}`,"
            " or name another folder with --model-dir"
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Promotion:
    """How an entry came to be: `at` (UTC), the `entry` as promoted, and the entry it replaced."""

    at: str
    entry: dict[str, str | int | bool]
    previous: dict[str, str | int | bool] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class EntryFiles:
    """The two files of an entry, as they lie on disk and checked against it."""

    entry: Entry
    data: bytes
    sidecar: bytes
    promotion: Promotion


@dataclass(frozen=True, slots=True, kw_only=True)
class _Head:
    """What the registry itself reads of a sidecar; the rest belongs to the kind of model."""

    id: str
    sha256: str
    promotion: Promotion
    vocabulary: list[str] | None = None
    preset_ordinals: dict[str, dict[str, int]] | None = None


def load(model_dir: Path) -> Registry:
    """The registry under `model_dir` (its folder `tiny`), checked, files and all; an empty one
    where nothing has been shipped yet.

    Raises ModelError for a missing or malformed registry, an unknown or missing field, ids unsorted
    or twice, a file name that is not made of the digest, a file outside the folder, or one whose
    sha256 is not the entry's.
    """
    folder = model_dir / TINY
    if is_fresh(folder):
        return Registry(folder=folder, entries=())
    registry = _parse(folder, read_file(folder / REGISTRY))
    for entry in registry.entries:
        read_pair(folder, entry)
    return registry


def is_fresh(folder: Path) -> bool:
    """True where no registry is, nor a model that one might have named."""
    ours = {"registry.schema.json"}
    return not any(f.suffix in (".json", ".onnx") and f.name not in ours for f in folder.glob("*"))


def read_pair(folder: Path, entry: Entry) -> EntryFiles:
    """The files of `entry` in `folder`.

    Raises ModelError when one is missing, elsewhere, or not as it was promoted.
    """
    data = read_file(folder / entry.file)
    if hashlib.sha256(data).hexdigest() != entry.sha256:
        raise ModelError(f"{entry.file} does not have the sha256 of its registry entry; {BY_HAND}")
    text = read_file(folder / entry.sidecar)
    if entry.sidecar_sha256 not in (None, hashlib.sha256(text).hexdigest()):
        raise ModelError(
            f"{entry.sidecar} does not have the sidecar_sha256 of its registry entry; {BY_HAND}"
        )
    head = _head(folder / entry.sidecar, text)
    if (head.id, head.sha256) != (entry.id, entry.sha256):
        raise ModelError(
            f"{entry.sidecar} is the sidecar of another model than {entry.file}; {BY_HAND}"
        )
    _check_promoted(folder, entry, head)
    return EntryFiles(entry=entry, data=data, sidecar=text, promotion=head.promotion)


def _head(path: Path, text: bytes) -> _Head:
    value = _json(path, text)
    told = value.get("promotion")
    if not isinstance(told, dict) or not told.get("entry"):
        raise ModelError(
            f"{path.name} does not hold the entry that it was promoted with; {BY_HAND}"
        )
    try:
        return msgspec.convert(value, _Head)
    except msgspec.ValidationError as failure:
        raise ModelError(f"{path.name} is not a sidecar ({failure}); {BY_HAND}") from failure


def _check_promoted(folder: Path, entry: Entry, head: _Head) -> None:
    """Raise ModelError unless `ship` wrote this entry, with the tables of this release."""
    written = head.promotion.entry
    changed = [name for name, value in entry.facts().items() if written.get(name) != value]
    if changed:
        raise ModelError(
            f"the entry {entry.id} of {folder / REGISTRY} is not the one that was promoted:"
            f" {', '.join(changed)} changed since; {BY_HAND}"
        )
    if entry.id not in MODELS or not MODELS[entry.id].has_codec:
        return
    known = {name: dict(table) for name, table in PRESET_ORDINALS.items() if name in VOCABULARY}
    for name, same in (
        ("vocabulary", head.vocabulary == list(VOCABULARY)),
        ("preset_ordinals", head.preset_ordinals == known),
    ):
        if not same:
            raise ModelError(
                f"{entry.sidecar} has another {name} than this release's contract; {BY_HAND}"
            )


def new_entry(model_id: str, data: bytes, *, description: str, notes: str) -> Entry:
    """The entry that a promotion of the model file `data` would write, without its sidecar."""
    digest = hashlib.sha256(data).hexdigest()
    return Entry(
        id=model_id,
        file=f"{model_id}-{digest[:8]}{KIND_OF[model_id].suffix}",
        sha256=digest,
        license=LICENSE,
        description=description,
        notes=notes,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class FieldChange:
    """A field of an entry that a promotion would change; `now` is None where there is none yet."""

    field: str
    now: str | int | bool | None
    then: str | int | bool


def difference(registry: Registry, entry: Entry) -> list[FieldChange]:
    """The fields that promoting `entry` would change; every field of a model not there yet."""
    old = registry.find(entry.id)
    now = old.facts() if old else {}
    return [
        FieldChange(field=name, now=now.get(name), then=value)
        for name, value in entry.facts().items()
        if now.get(name) != value
    ]


def read_file(path: Path) -> bytes:
    """The bytes of a file of the registry. Raises ModelError when missing or not in its folder."""
    if path.resolve().parent != path.parent.resolve():
        raise ModelError(f"{path} leads out of {path.parent}; {BY_HAND}")
    try:
        return path.read_bytes()
    except FileNotFoundError as failure:
        raise ModelError(f"{path} does not exist; {BY_HAND}") from failure
    except OSError as failure:
        raise ModelError(f"{path} cannot be read: {failure.strerror or failure}") from failure


def parse_entry(folder: Path, item: object) -> Entry:
    """An entry of either schema version, from JSON. Raises ModelError for anything else."""
    where = folder / REGISTRY
    facts = item if isinstance(item, dict) else {}
    kind = KINDS.get(str(facts.get("kind")), FR)
    digest = facts.get("sidecar_sha256")
    odd = sorted((set(facts) - {"sidecar_sha256"}) ^ set(kind.fields))
    if odd or not facts:
        named = ", ".join(odd) or type(item).__name__
        raise ModelError(f"an entry of {where} has unknown or missing fields ({named}); {BY_HAND}")
    wrong = [
        name for name in kind.fields if type(facts[name]) is not type(kind.fixed.get(name, ""))
    ]
    if digest is not None and not isinstance(digest, str):
        wrong.append("sidecar_sha256")
    if wrong:
        raise ModelError(
            f"an entry of {where} has {', '.join(sorted(wrong))} of the wrong type; {BY_HAND}"
        )
    _check_fixed(where, kind, facts)
    entry = Entry(
        id=facts["id"],
        file=facts[kind.field],
        sha256=facts["sha256"],
        license=facts["license"],
        description=facts["description"],
        notes=facts["notes"],
        sidecar_sha256=digest,
    )
    _check_names(where, entry)
    return entry


def _check_fixed(where: Path, kind: Kind, facts: EntryFields) -> None:
    told = {"kind": kind.name, **kind.fixed}
    if facts["id"] in kind.ids and all(facts[name] == value for name, value in told.items()):
        return
    wanted = ", ".join(
        f"{name} {str(value).lower() if isinstance(value, bool) else value}"
        for name, value in told.items()
    )
    raise ModelError(
        f"the entry {facts['id']!r} of {where} is not one of {', '.join(kind.ids)} with {wanted};"
        f" {BY_HAND}"
    )


def _check_names(where: Path, entry: Entry) -> None:
    digests = (entry.sha256, entry.sidecar_sha256 or "0" * 64)
    hexadecimal = all(re.fullmatch(r"[0-9a-f]{64}", digest) for digest in digests)
    if not hexadecimal or entry.file != f"{entry.id}-{entry.sha256[:8]}{entry.kind.suffix}":
        raise ModelError(
            f"the entry {entry.id} of {where} must hold digests in lower case and name its file"
            f" {{id}}-{{first 8 of sha256}}{entry.kind.suffix} in that folder, not {entry.file!r};"
            f" {BY_HAND}"
        )


def _json(path: Path, data: bytes) -> dict[str, object]:
    try:
        value = json.loads(data, object_pairs_hook=_no_twins)
    except (ValueError, RecursionError) as failure:
        raise ModelError(f"{path} is not JSON as it should be ({failure}); {BY_HAND}") from failure
    if not isinstance(value, dict):
        raise ModelError(f"{path} must hold a JSON object; {BY_HAND}")
    return value


def _no_twins(pairs: list[tuple[str, object]]) -> dict[str, object]:
    names = [name for name, _ in pairs]
    twins = (
        [name for name in names if names.count(name) > 1] if len(set(names)) < len(names) else []
    )
    if twins:
        raise ValueError(f"the key {twins[0]!r} stands twice in one object")
    return dict(pairs)


def _parse(folder: Path, data: bytes) -> Registry:
    where = folder / REGISTRY
    value = _json(where, data)
    items = value.get("entries")
    if set(value) != {"schema_version", "entries"} or not isinstance(items, list):
        raise ModelError(
            f"{where} must hold schema_version and a list of entries, nothing else; {BY_HAND}"
        )
    version = value["schema_version"]
    if type(version) is not int or version not in READ_VERSIONS:
        raise ModelError(
            f"{where} has schema_version {version!r}; this release reads"
            f" {' and '.join(map(str, READ_VERSIONS))}"
        )
    entries = tuple(parse_entry(folder, item) for item in items)
    for entry in entries:
        if (entry.sidecar_sha256 is None) != (version == 1):
            raise ModelError(
                f"the entry {entry.id} of {where} has sidecar_sha256 in schema_version 2 alone,"
                f" and must have it there; {BY_HAND}"
            )
    ids = [e.id for e in entries]
    if ids != sorted(set(ids)):
        raise ModelError(f"the ids in {where} must be sorted and each there once; {BY_HAND}")
    return Registry(folder=folder, entries=entries)
