"""Several corpora as one: the same film by content in two of them is one group.

paths --dataset.load--> Datasets --joined--> Dataset
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from vmaf_train.corpus import dataset
from vmaf_train.corpus.dataset import CorpusPart, Dataset
from vmaf_train.errors import DatasetError


def load(paths: Sequence[Path | str], *, per_frame: bool, kinds: Collection[str] = ()) -> Dataset:
    """The corpora at `paths`, each as `dataset.load` reads it, as one.

    Raises DatasetError as `dataset.load`, for two teachers or feature sets, and for a group of one
    corpus that holds the films of two groups of another.
    """
    found = [dataset.load(path, per_frame=per_frame, kinds=kinds) for path in paths]
    return found[0] if len(found) == 1 else joined(found)


def joined(corpora: Sequence[Dataset]) -> Dataset:
    """Corpora as one; a cell that two of them hold counts once, as the first has it.

    Raises as `load`.
    """
    _check_alike(corpora)
    parts = _parts(corpora)
    taken: set[str] = set()
    kept, notes = [], []
    for data, part in zip(corpora, parts, strict=True):
        where = np.array([key not in taken for key in data.key], dtype=bool)
        taken.update(data.key)
        notes += [f"{data.path}: {note}" for note in data.notes]
        if not where.all():
            notes.append(f"left out {(~where).sum()} rows of {data.path}: a corpus before has them")
        kept.append(_taken(data, where, part))
    return _stacked(kept, parts, tuple(notes))


def _check_alike(corpora: Sequence[Dataset]) -> None:
    teachers = {data.teacher: data.name for data in corpora if data.teacher is not None}
    if len(teachers) > 1:
        told = "; ".join(f"{name}: {teacher}" for teacher, name in teachers.items())
        raise DatasetError(f"the corpora hold scores of {len(teachers)} teachers ({told}); use one")
    sets = {data.features_of: data.name for data in corpora}
    if len(sets) > 1:
        told = "; ".join(f"{name}: {features}" for features, name in sets.items())
        raise DatasetError(f"the corpora hold {len(sets)} feature sets ({told}); use one")


def _parts(corpora: Sequence[Dataset]) -> tuple[CorpusPart, ...]:
    """Each corpus with what its groups are called in the whole."""
    group_of: dict[str, str] = {}  # of a source file's digest
    sources: dict[str, set[str]] = {}
    parts = []
    for data in corpora:
        names = {}
        for group in data.groups:
            digests = data.sources.get(group, ())
            names[group] = _name(data, group, digests, group_of, sources)
            sources.setdefault(names[group], set()).update(digests)
            group_of |= dict.fromkeys(digests, names[group])
        parts.append(
            CorpusPart(
                path=data.path, digest=data.digest, frame_digest=data.frame_digest, groups=names
            )
        )
    return tuple(parts)


def _name(
    data: Dataset,
    group: str,
    digests: Sequence[str],
    group_of: dict[str, str],
    sources: dict[str, set[str]],
) -> str:
    """The group that shows the same films, else one of its own."""
    same = sorted({group_of[digest] for digest in digests if digest in group_of})
    if len(same) > 1:
        raise DatasetError(
            f"the group {group} of {data.path} holds films of the groups {' and '.join(same)} of"
            " other corpora, so a fold that holds one out would train on the other; give all of"
            " them one group"
        )
    if same:
        return same[0]
    known = sources.get(group)
    # Without digests on both sides nobody can tell the two apart: held out together at least.
    if known is None or not known or not digests:
        return group
    path = data.path
    return f"{group}@{path.parent.name if path.stem in ('cells', 'frames') else path.stem}"


def _taken(data: Dataset, where: dataset.Mask, part: CorpusPart) -> Dataset:
    """The rows `where`, with the names of the whole for their groups."""
    groups = np.array([part.groups[group] for group in data.group[where]], dtype=object)
    index = None if data.frame_index is None else data.frame_index[where]
    return replace(
        data,
        features=data.features[where],
        codec=data.codec[where],
        y=data.y[where],
        group=groups,
        src=data.src[where],
        encoder=data.encoder[where],
        preset=data.preset[where],
        crf=data.crf[where],
        key=data.key[where],
        frame_index=index,
        sources={part.groups[group]: found for group, found in data.sources.items()},
    )


def _stacked(
    kept: Sequence[Dataset], parts: tuple[CorpusPart, ...], notes: tuple[str, ...]
) -> Dataset:
    sources: dict[str, set[str]] = {}
    for data in kept:
        for group, digests in data.sources.items():
            sources.setdefault(group, set()).update(digests)
    index = [data.frame_index for data in kept if data.frame_index is not None]
    frame_digests = [part.frame_digest for part in parts if part.frame_digest is not None]
    return Dataset(
        features=np.concatenate([data.features for data in kept]),
        codec=np.concatenate([data.codec for data in kept]),
        y=np.concatenate([data.y for data in kept]),
        group=np.concatenate([data.group for data in kept]),
        src=np.concatenate([data.src for data in kept]),
        encoder=np.concatenate([data.encoder for data in kept]),
        preset=np.concatenate([data.preset for data in kept]),
        crf=np.concatenate([data.crf for data in kept]),
        key=np.concatenate([data.key for data in kept]),
        frame_index=np.concatenate(index) if len(index) == len(kept) else None,
        digest=_digest([part.digest for part in parts]),
        frame_digest=_digest(frame_digests) if len(frame_digests) == len(parts) else None,
        path=parts[0].path,
        teacher=next((data.teacher for data in kept if data.teacher is not None), None),
        features_of=kept[0].features_of,
        sources={group: tuple(sorted(found)) for group, found in sorted(sources.items())},
        notes=notes,
        parts=parts,
        kinds=kept[0].kinds,
    )


def _digest(digests: Sequence[str]) -> str:
    """The digest of several corpora: sha256 of theirs in their order, a line each."""
    return hashlib.sha256("\n".join(digests).encode()).hexdigest()
