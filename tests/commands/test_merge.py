"""Parts of a real sweep, measured apart and joined, are the sweep that one command makes."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from vmaf_train.corpus import dataset
from vmaf_train.corpus.ledger import read_ledger
from vmaftune.request.document import read_document

Make = Callable[..., Path]
GRID = ("--encoders", "x264,x265", "--presets", "ultrafast", "--quality", "30,36")


def test_real_parts_are_joined_to_what_one_command_makes(
    clip: Make,
    tool: Any,
    wrapper: Callable[..., str],
    read_run: Callable[[Path], Any],
    without_times: Callable[[Any], Any],
) -> None:
    clips = [
        clip(f"merged part {i}.mkv", frames=4 + 2 * (i % 2), vf=f"hue=h={60 * i + 7}")
        for i in range(3)
    ]
    parts = {"whole": (), "one": ("--shard", "1/2"), "two": ("--shard", "2/2")}
    for name, more in parts.items():
        tool.run("corpus", *clips, *GRID, *more, "--out", name)
    folders = {name: tool.cwd / name for name in parts}
    whole, one, two = folders.values()
    cells = {name: set(read_run(folder).rows) for name, folder in folders.items()}
    assert cells["one"] | cells["two"] == cells["whole"] and not cells["one"] & cells["two"]
    assert cells["one"] and cells["two"]
    done = tool.run("merge", one, two, "--out", "joined")
    assert "12 of 12 cells" in done.stdout + done.stderr
    joined = tool.cwd / "joined"
    assert without_times(read_run(joined)) == without_times(read_run(whole))
    assert dataset.corpus_digest(joined) == dataset.corpus_digest(whole)
    assert dataset.frame_digest(joined) == dataset.frame_digest(whole)
    assert read_document(joined / "sweep.json").cell_ids == cells["whole"]
    assert not read_ledger(joined, everything=True).damaged
    # The joined folder is a run folder like any other: the same command has nothing left to do.
    again = tool.run("corpus", *clips, *GRID, "--out", "joined", "--dry-run", "--json")
    assert json.loads(again.stdout)["num_left"] == 0
    # A part that another ffmpeg made is refused by the first cell that both have.
    first = read_document(one / "sweep.json").sources[0]
    tool.run("corpus", first.path, *GRID, "--ffmpeg", wrapper("pass"), "--out", "other")
    refused = tool.run("merge", two, one, "other", "--out", "again", code=2)
    cell = next(iter(read_run(tool.cwd / "other").rows))
    assert f"measured {cell} with other tools" in refused.stderr
    assert not (tool.cwd / "again").exists()
