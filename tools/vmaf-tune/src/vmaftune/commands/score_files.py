"""What `score` writes beside its table: a CSV, every frame as a table, a picture of quality over
time, and the worst frames as pictures.
"""

from __future__ import annotations

import csv
import os
from collections.abc import Sequence
from pathlib import Path

from vmaf_train.corpus.rows import FailureKind

from vmaftune.cell import Window
from vmaftune.errors import ToolError
from vmaftune.media.encode import COMMON, ONLY_FILES, check, fill
from vmaftune.media.failure import CellFailure
from vmaftune.media.ffmpeg import Ffmpeg
from vmaftune.metrics import METRICS
from vmaftune.questions.score import SHOWN, Scored

_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
FRAME_TIMEOUT_S = 600.0


def write_csv(results: Sequence[Scored], place: Path) -> None:
    """One line for each pair: file, model, frames, kbit/s, the statistics, flags, error."""
    with place.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        head = ("reference", "distorted", "model", "offset", "frames", "kbps")
        metrics = results[0].pair.metrics
        more = [f"{metric}_{name}" for metric in metrics for name in SHOWN]
        writer.writerow((*head, *SHOWN, *more, "flags", "error"))
        for one in results:
            statistics = one.statistics
            writer.writerow(
                (
                    one.pair.reference.path,
                    one.pair.distorted.path,
                    one.pair.teacher,
                    one.pair.offset,
                    len(one.scores),
                    one.row.bitrate_kbps,
                    *(round(statistics[name], 6) if statistics else None for name in SHOWN),
                    *_further(one, metrics),
                    " ".join(one.row.flags),
                    one.row.error.message if one.row.error else None,
                )
            )


def _further(one: Scored, metrics: Sequence[str]) -> list[float | None]:
    """The statistics of further metrics, in the order of the CSV's columns."""
    found: list[float | None] = []
    for metric in metrics:
        statistics = one.statistics_of(metric)
        values = [statistics.get(name) for name in SHOWN]
        found += [None if value is None else round(value, 6) for value in values]
    return found


def write_frames(results: Sequence[Scored], place: Path) -> None:
    """Every frame as a row of a parquet table: distorted, model, frame (of the reference), vmaf,
    and the columns of further metrics.
    """
    import pyarrow
    from pyarrow import parquet

    names: list[str] = []
    models: list[str] = []
    frames: list[int] = []
    scores: list[float] = []
    columns = [name for metric in results[0].pair.metrics for name in METRICS[metric].columns]
    further: dict[str, list[float | None]] = {name: [] for name in columns}
    for one in results:
        first = one.pair.starts[0]
        names += [one.pair.distorted.path] * len(one.scores)
        models += [one.pair.teacher] * len(one.scores)
        frames += range(first, first + len(one.scores))
        scores += one.scores
        for name, values in further.items():
            values += one.values.get(name, [None] * len(one.scores))
    table = {"distorted": names, "model": models, "frame": frames, "vmaf": scores, **further}
    parquet.write_table(pyarrow.table(table), place, compression="zstd")


def plot(results: Sequence[Scored], place: Path, num_worst: int) -> None:
    """Draw the VMAF of every frame over time, and mark the worst. Raises ToolError without
    matplotlib.
    """
    try:
        import matplotlib

        matplotlib.use("Agg")
        from matplotlib.figure import Figure
    except ModuleNotFoundError as failure:
        raise ToolError(
            "--plot needs matplotlib; install it with: pip install 'vmaf-tune[report]'"
        ) from failure
    figure = Figure(figsize=(10, 4), layout="constrained")
    axes = figure.subplots()
    for i, one in enumerate(results):
        colour = _COLOURS[i % len(_COLOURS)]
        rate = float(one.pair.reference.frame_rate)
        seconds = [(one.pair.starts[0] + k) / rate for k in range(len(one.scores))]
        label = f"{Path(one.pair.distorted.path).name} ({one.pair.teacher})"
        axes.plot(seconds, one.scores, color=colour, linewidth=1, label=label)
        worst = one.worst(num_worst)
        marks = [seconds[frame] for frame in worst], [one.scores[frame] for frame in worst]
        axes.plot(*marks, linestyle="none", marker="v", color=colour)
    axes.set_xlabel("seconds")
    axes.set_ylabel("VMAF")
    axes.set_ylim(top=101)
    axes.grid(alpha=0.3)
    if any(one.scores for one in results):
        figure.legend(loc="outside lower center", ncols=3, fontsize="small")
    figure.savefig(place, dpi=200, format=place.suffix.lstrip(".") or "png")


def write_worst(one: Scored, ffmpeg: Ffmpeg, folder: Path, count: int) -> list[Path]:
    """The worst frames as PNG, the reference to the left of the distorted picture, both at the size
    that was scored. Raises ToolError when they cannot be written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    written = []
    first, second = one.pair.starts
    for place, frame in enumerate(one.worst(count), start=1):
        name = f"{one.pair.distorted.name}-{place:02d}-frame{first + frame}.png"
        out = folder / name.replace("/", "_")
        argv = _frame_argv(one, first + frame, second + frame)
        paths = {
            "ref": os.path.abspath(one.pair.reference.path),
            "dis": os.path.abspath(one.pair.distorted.path),
            "out": os.path.abspath(out),
        }
        try:
            done = ffmpeg.run(fill(argv, **paths), timeout_s=FRAME_TIMEOUT_S)
            check(done, "writing a frame", FailureKind.SOURCE_FAILED)
        except CellFailure as failure:
            raise ToolError(f"{out} cannot be written: {failure}") from failure
        written.append(out)
    return written


def _frame_argv(one: Scored, ours: int, theirs: int) -> list[str]:
    width, height = one.pair.size
    cut = f"setpts=PTS-STARTPTS,scale={width}:{height}:flags=bicubic,format=rgb24"
    streams = one.pair.reference.stream_index, one.pair.distorted.stream_index
    graph = (
        f"[0:{streams[0]}]select='eq(n,{ours})',{cut}[r];"
        f"[1:{streams[1]}]select='eq(n,{theirs})',{cut}[d];[r][d]hstack"
    )
    return [
        *COMMON,
        "-v",
        "error",
        "-y",
        *_input(one.pair.reference, "ref"),
        *_input(one.pair.distorted, "dis"),
        "-lavfi",
        graph,
        "-frames:v",
        "1",
        "-update",
        "1",
        "-f",
        "image2",
        "-c:v",
        "png",
        "file:{out}",
    ]


def _input(window: Window, place: str) -> list[str]:
    raw = window.raw
    if raw is None:
        return [*ONLY_FILES, "-i", f"file:{{{place}}}"]
    size = f"{raw.width}x{raw.height}"
    layout = ["-f", "rawvideo", "-pixel_format", raw.pix_fmt, "-video_size", size]
    return [*ONLY_FILES, *layout, "-framerate", window.fps, "-i", f"file:{{{place}}}"]
