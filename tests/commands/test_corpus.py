"""`vmaf-tune corpus` as it is typed: what it says before it starts, and sizes, options and windows
of a film from end to end.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

Make = Callable[..., Path]


def test_a_word_before_a_sweep_of_hours(clip: Make, tool: Any) -> None:
    slow = ("--encoders", "aom", "--presets", "0", "--quality", "0:63:1", "--scale", "1280x720")
    said = tool.run("corpus", clip("plan.mkv"), *slow, "--dry-run").stderr
    assert "64 cells take about" in said and "--quick, --samples 4 or --frames 100" in said
    short = tool.run("corpus", clip("plan.mkv"), "--quick", "--dry-run").stderr
    assert "--samples 4" not in short and "10 cells" in short


def test_sizes_options_bounds_and_windows_from_end_to_end(
    clip: Make, tool: Any, tmp_path: Path
) -> None:
    film = clip("film.mkv", frames=100, size="256x144")
    asked = (
        *("--encoders", "x264,svtav1", "--presets", "x264=ultrafast;svtav1=10"),
        *("--quality", "x264=30;svtav1=40.25", "--sizes", "144,72x128", "--maxrate", "2M"),
        *("--options", "x264=|-tune film", "--samples", "2", "--sample-seconds", "0.4"),
    )
    tool.run("corpus", film, *asked, "--out", "run")
    rows = [json.loads(line) for line in (tmp_path / "run/cells.jsonl").read_text().splitlines()]
    assert len(rows) == 12 and {row["status"] for row in rows} == {"ok"}
    assert {row["group"] for row in rows} == {"film"}
    assert {row["src"] for row in rows} == {"film@00:00:00.800", "film@00:00:02.800"}
    found = {row["cell"].partition("/")[2]: row for row in rows}
    bound = "maxrate=2000k:4000k"
    small = found[f"libx264/ultrafast/30@72x128+tune=film,{bound}"]
    assert (small["encode_width"], small["encode_height"]) == (72, 128)
    assert (small["width"], small["height"]) == (256, 144)
    assert (small["options"], small["maxrate_kbps"]) == ("tune=film", 2000)
    own = found[f"libx264/ultrafast/30+{bound}"]
    assert "encode_width" not in own and "options" not in own
    assert own["vmaf_score"] > small["vmaf_score"]
    assert "crf=40.25" in " ".join(found[f"libsvtav1/10/40.25+{bound}"]["argv"])
    again = tool.run("corpus", film, *asked, "--out", "run", "--dry-run", "--json")
    assert json.loads(again.stdout)["num_left"] == 0
    assert json.loads(tool.run("status", "run", "--json").stdout)["num_done"] == 12
