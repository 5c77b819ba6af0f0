"""A sweep says where two of its sources are one clip."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path


def test_one_clip_under_two_names_is_noted(
    clip: Callable[..., Path], run_ffmpeg: Callable[..., str], tmp_path: Path
) -> None:
    one, other = clip("twin.mkv", frames=40), tmp_path / "renamed.mkv"
    run_ffmpeg("-i", one, "-c", "copy", "-metadata", "title=another", other)
    argv = [sys.executable, "-P", "-m", "vmaftune", "corpus", str(one), str(other)]
    argv += ["--encoders", "x264", "--presets", "ultrafast", "--quality", "30", "--out", "run"]
    done = subprocess.run(argv, cwd=tmp_path, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert "the groups renamed and twin show the same pictures" in done.stderr
    assert "give both the same group" in done.stderr.replace("\n", " ")
