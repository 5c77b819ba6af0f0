"""Corpora and training runs to report on, made once per test session."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest

HERE = Path(__file__).parent


def _beside(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"report_{name}", HERE / f"{name}.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def synthetic() -> ModuleType:
    """The maker of corpora."""
    return _beside("synthetic")


@pytest.fixture(scope="session")
def small(synthetic: ModuleType, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four sources, three of them with hostile names; three encoders; one failed cell."""
    folder: Path = synthetic.write(
        tmp_path_factory.mktemp("corpus") / "small sweep",
        names=synthetic.sources(4), encoders=("libx264", "libsvtav1", "libvvenc"), failed=1,
    )  # fmt: skip
    return folder


@pytest.fixture(scope="session")
def synthetic_run() -> ModuleType:
    """The maker of training runs."""
    return _beside("synthetic_run")


@pytest.fixture(scope="session")
def model_run(synthetic_run: ModuleType, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A complete training run that the gate held."""
    folder: Path = synthetic_run.write(tmp_path_factory.mktemp("runs") / "fr_regressor_v2")
    return folder
