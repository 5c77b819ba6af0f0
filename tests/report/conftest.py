"""Corpora and training runs to report on, made once per test session."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

import pytest
import synthetic as corpus_maker
import synthetic_run as run_maker
from vmaftune import cli


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


@dataclass(frozen=True)
class Done:
    """How a command ended."""

    code: object
    stdout: str
    stderr: str


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Callable[..., Done]:
    """The command line in this process, from the words typed to the exit code."""

    def typed(*words: str | Path, command: str = "report") -> Done:
        monkeypatch.setattr(sys, "argv", ["vmaf-tune", command, *map(str, words)])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        return Done(ended.value.code or 0, *capsys.readouterr())

    return typed
