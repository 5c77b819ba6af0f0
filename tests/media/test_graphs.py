"""Graphs that ffmpeg-python compiles against the texts that stood there before: same frames, same
scores.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from vmaftune.cell import Cell, scoring_format
from vmaftune.media.encode import encode_argv, fill
from vmaftune.media.ffmpeg import Ffmpeg
from vmaftune.media.graphs import chain, compiled, part, source
from vmaftune.media.libvmaf_log import LOG, parse_log
from vmaftune.media.prepare import prepare
from vmaftune.media.score import libvmaf_filter, pads, score_argv
from vmaftune.request.cells import Plan

FORMATS = ("yuv420p", "yuv422p", "yuv444p", "yuv420p10le", "yuv444p10le")


def old_scoring(cell: Cell) -> str:
    """The scoring graph as version 0.1 wrote it by hand."""
    pix_fmt = scoring_format(cell.window.pix_fmt, cell.decoded_format)
    model = f"version={cell.teacher}"
    return f"{pads(pix_fmt, cell.window.color)};[distorted][reference]{libvmaf_filter(model)}"


def test_inputs_keep_their_numbers_and_values_are_escaped_once() -> None:
    import ffmpeg

    graph = compiled(
        ffmpeg.filter([source(1, "v:0"), source(0, "3")], "overlay", x="a:b", eval="frame")
    )
    assert graph.text.startswith("[1:v:0][0:3]overlay=")
    assert graph.link == "[s0]"
    one = compiled(chain(source(0, "2"), [part("crop", 64, 66, 2, 3, exact=1)]))
    assert one.text == "[0:2]crop=64:66:2:3:exact=1[s0]"


@pytest.mark.parametrize("pix_fmt", FORMATS)
def test_scores_are_those_of_the_old_graph(
    pix_fmt: str,
    clip: Callable[..., Path],
    planned: Callable[..., Plan],
    real: Ffmpeg,
    tmp_path: Path,
) -> None:
    made = clip(f"graphs {pix_fmt}.mkv", frames=6, args=("-c:v", "ffv1", "-pix_fmt", pix_fmt))
    (cell,) = planned(made).cells
    ref, out = tmp_path / "ref.yuv", tmp_path / "out.mkv"
    prepare(cell.window, real, ref, 120)
    assert real.run(fill(encode_argv(cell), ref=ref, out=out), timeout_s=120).returncode == 0
    new = score_argv(cell)
    at = new.index("-lavfi")
    old = [*new[:at], "-lavfi", old_scoring(cell), *new[at + 4 :]]
    logs = []
    for argv in (old, new):
        done = real.run(fill(argv, ref=ref, out=out), timeout_s=120, cwd=tmp_path)
        assert done.returncode == 0, done.tail
        logs.append(parse_log((tmp_path / LOG).read_text(), cell.teacher))
    assert logs[0] == logs[1]
    assert len(logs[0][1]) == 6
