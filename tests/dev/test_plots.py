"""The pictures beside a corpus."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import matplotlib.image
import numpy as np

CORPUS = Path(__file__).parents[2] / "runs/phase_a/software"
PLOTS = Path(__file__).parents[2] / "ai/dev/plots.py"


def test_three_small_pictures_with_something_in_them(tmp_path: Path) -> None:
    shutil.copy(CORPUS / "cells.jsonl", tmp_path)
    done = subprocess.run(
        [sys.executable, str(PLOTS), str(tmp_path)], capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr
    pictures = sorted((tmp_path / "plots").iterdir())
    assert [p.name for p in pictures] == sorted(p.name for p in (CORPUS / "plots").iterdir())
    assert len(pictures) == len(done.stdout.splitlines()) == 3
    for picture in pictures:
        assert picture.stat().st_size < 150_000
        pixels = matplotlib.image.imread(picture)
        assert pixels.shape[1] >= 900
        assert (pixels[..., :3] < 0.9).any(axis=2).mean() > 0.01, (
            f"{picture.name} is as good as blank"
        )
        assert len(np.unique(pixels.reshape(-1, pixels.shape[2]), axis=0)) >= 8


def test_a_folder_without_cells_is_an_error_in_one_sentence(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, str(PLOTS), str(tmp_path)], capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 4
    assert "does not exist" in done.stderr and "Traceback" not in done.stderr
