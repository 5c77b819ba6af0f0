"""Shared by the tests of questions: a measured ladder, and a score by plain libvmaf."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from vmaftune import api
from vmaftune.asking.laddered import LadderResult

MODEL = Path(__file__).parents[2] / "model"


@dataclass(frozen=True, slots=True, kw_only=True)
class Laddered:
    """A film, its ladder, and what was told on the way."""

    source: Any
    result: LadderResult
    told: list[Any]


@pytest.fixture(scope="session")
def laddered(film: Callable[..., Any], tmp_path_factory: pytest.TempPathFactory) -> Laddered:
    """The ladder of a small film of two shots, with sound."""
    source = film("two for a ladder.mkv", shots=2, size="256x144", frames=36)
    told: list[Any] = []
    result = api.ladder(
        source.path,
        preset="ultrafast",
        wanted=api.LadderWanted(sizes="144,96,72", top=92, bottom=45, step=8, gop_s=1),
        running=api.Running(out=tmp_path_factory.mktemp("ladder") / "run", model_dir=MODEL, jobs=2),
        on_event=told.append,
    )
    return Laddered(source=source, result=result, told=told)


@pytest.fixture(scope="session")
def score(
    run_ffmpeg: Callable[..., str], tmp_path_factory: pytest.TempPathFactory
) -> Callable[..., list[float]]:
    """An independent score of two files: plain libvmaf over frames paired by number, the distorted
    one scaled to `size` where it is another.
    """
    folder = tmp_path_factory.mktemp("scores")

    def run(reference: Path, distorted: Path, size: str | None = None) -> list[float]:
        stamps = "settb=AVTB,setpts=N*40000"
        up = f",scale={size}:flags=bicubic" if size else ""
        graph = (
            f"[0:v]{stamps}{up}[d];[1:v]{stamps}[r];[d][r]libvmaf=log_fmt=json:log_path=own.json"
        )
        run_ffmpeg("-i", distorted, "-i", reference, "-lavfi", graph, "-f", "null", "-", cwd=folder)
        found = json.loads((folder / "own.json").read_text())
        return [frame["metrics"]["vmaf"] for frame in found["frames"]]

    return run
