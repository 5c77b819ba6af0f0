"""Errors of the learning side.

TrainError               a sentence that names the thing, the limit and the way out
├── DatasetError         a corpus, parquet table or run folder cannot be used
├── ModelError           a model file or registry entry is refused
└── DependencyError      an optional package (torch, onnx, onnxruntime) is missing or unfit
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence


class TrainError(Exception):
    """Base of all errors of this package that a user can act on."""


class DatasetError(TrainError):
    """A corpus, table or run folder cannot be used."""


class ModelError(TrainError):
    """A model file, its sidecar or its registry entry does not hold what it must."""


class DependencyError(TrainError):
    """An optional package or device is missing or unfit."""


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """`; did you mean ...` with the nearest known words, two at most; empty where none is near."""
    near = difflib.get_close_matches(word, list(known), n=2, cutoff=0.7)
    return f"; did you mean {' or '.join(near)}" if near else ""


def no_model(word: str, known: Sequence[str]) -> str:
    """The sentence for a word that should have been the id of a model."""
    guess = did_you_mean(word.lower(), known)
    return f"no model is called {word!r}{guess}; known are {', '.join(known)}"
