"""The writer of the registry: a model is promoted, or the one before it put back.

    with hold(model_dir) as shelf:      the lock, from reading the registry to the last change
        shelf.promote(...)              new files first, then registry.json: the commit
        shelf.settle() or shelf.undo()  once the new pair was read back, or could not be

A promotion that is killed anywhere leaves the old registry or the new one, each with all its files.
The entry that was replaced, and its files, stay until the next promotion of the same model has
settled: that is what `rollback` puts back.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import filelock
import platformdirs

from vmaf_train import files
from vmaf_train.errors import ModelError
from vmaf_train.shipping import registry
from vmaf_train.shipping.registry import REGISTRY, SCHEMA_VERSION, TINY, Entry, Registry


@contextmanager
def hold(model_dir: Path) -> Iterator[Shelf]:
    """The registry under `model_dir`, held against every other writer while the block runs.

    Raises ModelError when there is no such folder, another promotion holds it, or the registry is
    not in order.
    """
    folder = model_dir / TINY
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as failure:
        raise ModelError(
            f"{folder} cannot be a folder of models ({failure.strerror}); name another with"
            " --model-dir"
        ) from failure
    lock = filelock.FileLock(_lock_file(folder))
    try:
        lock.acquire(timeout=0)
    except filelock.Timeout as failure:
        raise ModelError(
            f"another promotion is writing {folder}; try again when it is done"
        ) from failure
    try:
        yield Shelf(model_dir)
    finally:
        lock.release()


def promote(model_dir: Path, entry: Entry, data: bytes, sidecar: Mapping[str, object]) -> Registry:
    """Make `entry` the shipped model of its id and settle, without reading it back in between."""
    with hold(model_dir) as shelf:
        shelf.promote(entry, data, sidecar)
        shelf.settle()
        return shelf.now


def rollback(model_dir: Path, model_id: str) -> Registry:
    """Put back the entry that the last promotion of `model_id` replaced; it is not read back."""
    with hold(model_dir) as shelf:
        shelf.rollback(model_id)
        return shelf.now


class Shelf:
    """A registry that only this process may write: `before` as it was found, `now` as it is."""

    def __init__(self, model_dir: Path) -> None:
        self.folder = model_dir / TINY
        fresh = registry.is_fresh(self.folder)
        self._text = None if fresh else registry.read_file(self.folder / REGISTRY)
        self.before = self.now = registry.load(model_dir)
        self._made: set[str] = set()

    def promote(self, entry: Entry, data: bytes, sidecar: Mapping[str, object]) -> Entry:
        """Make `entry`, with its model file `data`, the shipped model of its id.

        The caller has judged it. `sidecar` gets the field `promotion`; what is returned has the
        digest of the result. The same bytes again renew description, notes and sidecar, and the
        model before them stays the one to roll back to. Raises ModelError when entry, data and
        sidecar do not belong together.
        """
        digest = hashlib.sha256(data).hexdigest()
        if not digest == entry.sha256 == sidecar.get("sha256"):
            raise ModelError(f"the candidate of {entry.id} changed while it was judged; ship again")
        text = files.json_bytes({**sidecar, "promotion": self._promotion(entry)})
        final = replace(entry, sidecar_sha256=hashlib.sha256(text).hexdigest())
        if final != self.now.find(entry.id):
            self._write(final.file, data)
            self._write(final.sidecar, text)
            self._commit(final)
        return final

    def rollback(self, model_id: str) -> Entry:
        """Put back the entry that the last promotion replaced; the newer pair stays on disk.

        Raises ModelError when there is none, or its pair is gone or damaged.
        """
        entry = self.now.entry(model_id)
        previous = registry.read_pair(self.folder, entry).promotion.previous
        if previous is None:
            raise ModelError(
                f"{entry.file} replaced no other model, so there is nothing to roll back to"
            )
        earlier = registry.parse_entry(self.folder, previous)
        if not (self.folder / earlier.file).exists():
            raise ModelError(
                f"{earlier.file} is no longer kept: only the pair before the last promotion is"
            )
        final = self._with_digest(earlier)
        self._commit(final)
        return final

    def undo(self) -> None:
        """Put the registry back as it was found, and remove the files that were made since."""
        if self._text is None:
            (self.folder / REGISTRY).unlink(missing_ok=True)
        else:
            files.write_bytes(self.folder / REGISTRY, self._text)
        self.now = self.before
        kept = self._kept()
        for name in self._made - kept:
            (self.folder / name).unlink(missing_ok=True)
        files.sync_folder(self.folder)

    def settle(self) -> None:
        """Remove what neither an entry nor the one to roll back to names, torn files included."""
        kept = self._kept()
        names = "|".join(map(re.escape, registry.IDS))
        pair = re.compile(rf"({names})-[0-9a-f]{{8}}(-[0-9a-f]{{8}})?\.(onnx|json)(\.tmp)?")
        for path in sorted(self.folder.iterdir()):
            if pair.fullmatch(path.name) and path.name not in kept:
                path.unlink()
        files.sync_folder(self.folder)

    def _promotion(self, entry: Entry) -> dict[str, object]:
        incumbent = self.now.find(entry.id)
        if incumbent is None:
            return {"at": _now(), "entry": entry.facts(), "previous": None}
        if incumbent.sha256 != entry.sha256:
            return {"at": _now(), "entry": entry.facts(), "previous": incumbent.to_json()}
        told = registry.read_pair(self.folder, incumbent).promotion
        return {"at": told.at, "entry": entry.facts(), "previous": told.previous}

    def _kept(self) -> set[str]:
        """Names of the files of every entry, and of the entry each of them replaced."""
        kept: set[str] = set()
        for entry in self.now.entries:
            kept |= {entry.file, entry.sidecar}
            previous = registry.read_pair(self.folder, entry).promotion.previous
            if previous is not None:
                earlier = registry.parse_entry(self.folder, previous)
                kept |= {earlier.file, earlier.sidecar}
        return kept

    def _commit(self, entry: Entry) -> None:
        others = [self._with_digest(e) for e in self.now.entries if e.id != entry.id]
        entries = tuple(sorted([*others, entry], key=lambda e: e.id))
        self.now = replace(self.now, entries=entries)
        value = {"schema_version": SCHEMA_VERSION, "entries": [e.to_json() for e in entries]}
        files.write_json(self.folder / REGISTRY, value)

    def _with_digest(self, entry: Entry) -> Entry:
        """`entry` as schema version 2 has it; the sidecar of an older one gets its new name."""
        pair = registry.read_pair(self.folder, entry)
        if entry.sidecar_sha256 is not None:
            return entry
        final = replace(entry, sidecar_sha256=hashlib.sha256(pair.sidecar).hexdigest())
        self._write(final.sidecar, pair.sidecar)
        return final

    def _write(self, name: str, data: bytes) -> None:
        if not (self.folder / name).exists():
            self._made.add(name)
        files.write_bytes(self.folder / name, data)


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


def _lock_file(folder: Path) -> Path:
    """Outside the folder of models, so that nothing but models lies there."""
    place = platformdirs.user_cache_path("vmaf-tune") / "locks"
    name = hashlib.sha256(str(folder.resolve()).encode()).hexdigest()[:16]
    try:
        place.mkdir(parents=True, exist_ok=True)
    except OSError as failure:
        raise ModelError(
            f"{place} cannot be made ({failure.strerror}), and the lock of {folder} belongs there;"
            " point XDG_CACHE_HOME to a folder that can be written"
        ) from failure
    return place / f"{name}.lock"
