"""Corpora and training runs to report on, made once per test session."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType

import pytest
import synthetic as corpus_maker
import synthetic_run as run_maker


@pytest.fixture(scope="session")
def synthetic() -> ModuleType:
    """The maker of corpora."""
    return corpus_maker


@pytest.fixture(scope="session")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four sources, three of them with hostile names; three encoders; one failed cell."""
    folder: Path = corpus_maker.write(
        tmp_path_factory.mktemp("corpus") / "small sweep",
        names=corpus_maker.sources(4),
        encoders=("libx264", "libsvtav1", "libvvenc"),
        failed=1,
    )
    return folder


@pytest.fixture(scope="session")
def synthetic_run() -> ModuleType:
    """The maker of training runs."""
    return run_maker


@pytest.fixture(scope="session")
def model_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A complete training run that the gate held."""
    folder: Path = run_maker.write(tmp_path_factory.mktemp("runs") / "fr_regressor_v2")
    return folder
