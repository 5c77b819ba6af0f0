"""Errors of the learning side.

TrainError               a sentence that names the thing, the limit and the way out
├── DatasetError         a corpus, parquet table or run folder cannot be used
├── ModelError           a model file or registry entry is refused
└── DependencyError      an optional package (torch, onnx, onnxruntime) is missing or unfit
"""

from __future__ import annotations


class TrainError(Exception):
    """Base of all errors of this package that a user can act on."""


class DatasetError(TrainError):
    """A corpus, table or run folder cannot be used."""


class ModelError(TrainError):
    """A model file, its sidecar or its registry entry does not hold what it must."""


class DependencyError(TrainError):
    """An optional package or device is missing or unfit."""
