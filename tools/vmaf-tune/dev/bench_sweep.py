"""Measure a sweep against its own CPU limit and against a plain shell loop over the same cells.

    python tools/vmaf-tune/dev/bench_sweep.py [--rounds 2] [--frames 44]

Runs A B A B in one go: A is `vmaf-tune corpus` in a fresh folder, B a shell script that encodes and
scores one cell after the other with default threading and the same scoring filter. Prints for each
round the wall seconds of both, A's wall over its limit (CPU seconds of its children / cores), and
the share of A's own process in the CPU. Run it on an otherwise idle machine: both sides share the
noise, but the limit does not. 44 frames of the clips' 48, because the plain loop would lose clips
of 46 to 49 frames to VVenC (encoders.py).
"""

from __future__ import annotations

import argparse
import json
import os
import shlex
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]
CLIPS = ROOT / "tests/media/clips"
ENCODERS = "x264,x265,svtav1,vvenc,vp9,aom"
PRESETS = "x264=medium;x265=veryfast;svtav1=8;vvenc=faster;vp9=realtime;aom=rt8"
QUALITY = "x264=18:42:8;x265=18:42:8;svtav1=20:56:12;vvenc=22:46:8;vp9=20:56:12;aom=20:56:12"
# Runs the command line and reports its own CPU seconds and its children's on the last line of
# stderr.
TOOL = """
import atexit, resource, sys, time
def tell():
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    sys.stderr.write(f"\\ncpu {time.process_time()} {used.ru_utime + used.ru_stime}\\n")
atexit.register(tell)
sys.argv[0] = "vmaf-tune"
from vmaftune.cli import main
main()
"""


def tool(folder: Path, frames: int, clips: list[Path]) -> tuple[float, float, float]:
    """One sweep in a fresh folder: wall seconds, own CPU seconds, CPU seconds of its children."""
    argv = [
        sys.executable,
        "-c",
        TOOL,
        "corpus",
        *map(str, clips),
        "--encoders",
        ENCODERS,
        "--presets",
        PRESETS,
        "--quality",
        QUALITY,
        "--frames",
        str(frames),
        "--out",
        str(folder),
    ]
    begin = time.monotonic()
    done = subprocess.run(
        argv, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False
    )
    wall = time.monotonic() - begin
    if done.returncode:
        sys.exit(f"the sweep ended with {done.returncode}:\n{done.stderr}")
    own, children = (float(x) for x in done.stderr.strip().splitlines()[-1].split()[1:])
    return wall, own, children


def loop_script(folder: Path, work: Path, frames: int, clips: list[Path]) -> str:
    """The same cells as a plain shell loop, from the rows of a finished sweep: encoder arguments
    without its threads.
    """
    from vmaftune.encoders import ENCODERS as TABLE
    from vmaftune.media.ffmpeg import find_ffmpeg
    from vmaftune.media.score import libvmaf_filter

    ffmpeg = shlex.quote(find_ffmpeg())
    names = {c.stem: c for c in clips}
    lines = ["set -e", f"cd {shlex.quote(str(work))}"]
    for text in (folder / "cells.jsonl").read_text().splitlines():
        row = json.loads(text)
        encoder = TABLE[row["encoder"]]
        args = encoder.arguments(row["preset"], row["crf"], 1)
        threads = [a.replace("{n}", "1") for a in encoder.thread_args]
        args = args[: len(args) - len(threads)] if threads else args
        clip = shlex.quote(str(names[row["src"]]))
        pix_fmt = row["pix_fmt"]
        lines.append(
            f"{ffmpeg} -nostdin -v error -y -i {clip} -frames:v {frames} -an -vf format={pix_fmt}"
            f" {shlex.join(args)} o.mkv"
        )
        clock = f"setpts=N*40000,settb=AVTB,format={pix_fmt}"
        inputs = f"[0:v]{clock}[d];[1:v]{clock}[r];"
        graph = shlex.quote(f"{inputs}[d][r]{libvmaf_filter('version=' + row['teacher'])}")
        lines.append(
            f"{ffmpeg} -nostdin -v error -y -i o.mkv -i {clip} -lavfi {graph} -f null - && test -s"
            " vmaf.json"
        )
    return "\n".join(lines) + "\n"


def main() -> None:
    """Run the rounds and print the ratios."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--frames", type=int, default=44)
    options = parser.parse_args()
    clips = sorted(CLIPS.glob("*.mp4"))
    cores = len(os.sched_getaffinity(0))
    rows = []
    with tempfile.TemporaryDirectory(prefix="vmaf-tune-bench-") as place:
        for i in range(options.rounds):
            folder = Path(place, f"run{i}")
            wall, own, children = tool(folder, options.frames, clips)
            script = loop_script(folder, Path(place), options.frames, clips)
            begin = time.monotonic()
            subprocess.run(
                ["sh", "-c", script],
                stdin=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                check=True,
            )
            loop = time.monotonic() - begin
            num_cells = len((folder / "cells.jsonl").read_text().splitlines())
            limit = children / cores
            rows.append((wall / limit, loop / wall, own / (own + children)))
            print(
                f"round {i + 1}: {num_cells} cells, vmaf-tune {wall:.1f} s (limit {limit:.1f} s:"
                f" {wall / limit:.3f} x; own CPU {100 * own / (own + children):.2f}%), plain loop"
                f" {loop:.1f} s = {loop / wall:.2f} x",
                flush=True,
            )
    wall_over, faster, share = (statistics.median(column) for column in zip(*rows, strict=True))
    print(
        f"median: wall {wall_over:.3f} x its CPU limit, {faster:.2f} x faster than the loop, own"
        f" CPU {100 * share:.2f}%"
    )


if __name__ == "__main__":
    main()
