"""A small synthetic corpus in the form of a sweep's folder, and the command line as a
user runs it.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from typed import Done, typed
from vmaf_train.corpus import dataset
from vmaf_train.corpus.dataset import Dataset
from vmaf_train.corpus.synthetic import write_corpus

RunCli = Callable[..., Done]


@pytest.fixture(scope="session")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four sources, 96 cells, 12 frames each. Read only: tests that change it copy it."""
    return write_corpus(tmp_path_factory.mktemp("corpus") / "phase_a" / "made")


@pytest.fixture(scope="session")
def cells(corpus: Path) -> Dataset:
    return dataset.load(corpus, per_frame=False)


@pytest.fixture(scope="session")
def frames(corpus: Path) -> Dataset:
    return dataset.load(corpus, per_frame=True)


@pytest.fixture
def cli(tmp_path: Path) -> RunCli:
    """Run `vmaf-tune ARGS` in an empty folder."""

    def run(*args: object, cwd: Path = tmp_path) -> Done:
        return typed(*map(str, args), cwd=cwd)

    return run


def doubled(folder: Path) -> Path:
    """The corpus in `folder` with every row of its first source again, as another source."""
    for name in ("cells.jsonl", "frames.jsonl"):
        rows = [json.loads(line) for line in (folder / name).read_text().splitlines()]
        copies = [
            row
            | {
                "src": "copy",
                "group": "copy",
                "key": row["key"] + "c",
                "cell": row["cell"].replace("smoke00", "copy"),
                "src_sha256": "c" * 64,
            }
            for row in rows
            if row["src"] == "smoke00"
        ]
        text = "".join(json.dumps(row) + "\n" for row in rows + copies)
        (folder / name).write_text(text)
    return folder
