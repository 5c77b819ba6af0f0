"""A film of two hours in 1080p, sampled and swept: what it takes of the disk, and what reads it.

    make bench-film
    python tools/vmaf-tune/dev/bench_film.py [--folder KEEP] [--hours 2] [--windows 12]

The film is made of the test clips: scaled, encoded once with B-frames, and joined to its length by
copying packets. `vmaf-tune corpus FILM --samples 12` then measures two encoders at two values.
Meanwhile the run's folder and the user's cache are watched; each ffmpeg runs under a stand-in that
notes how many bytes it read. At the end each window is prepared once more, and its frames are
compared with those of the piece that the film was joined from.

Leaves with 1 when the disk was to take 2 GiB or more, a frame is another one, or an ffmpeg read
much of the film. Needs Linux, for /proc.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from fractions import Fraction
from itertools import product
from pathlib import Path

from vmaf_train.corpus.rows import CELLS, read_rows
from vmaftune.media.encode import fill
from vmaftune.media.ffmpeg import Ffmpeg, find_ffmpeg, identify
from vmaftune.media.join import concat_script, join_argv, measure
from vmaftune.media.prepare import digest_argv, frame_digests, prepare
from vmaftune.media.probe import probe
from vmaftune.media.process import Runner
from vmaftune.media.remembered import SETTLED_S
from vmaftune.request.asked import Clip, Preparation
from vmaftune.request.sources import resolve_clip

ROOT = Path(__file__).resolve().parents[3]
CLIPS = ROOT / "tests/media/clips"
FPS = Fraction(24000, 1001)
TURNS = ("null", "hflip", "vflip", "hflip,vflip")
MOST_BYTES = 2 * 2**30
MOST_SHARE = 0.1
"""Of the film that one ffmpeg may read: a window's own bytes, and the groups of pictures before."""
STAND_IN = """#!{python} -IS
import os, sys
pid = os.fork()
if not pid:
    os.execv({ffmpeg!r}, [{ffmpeg!r}, *sys.argv[1:]])
os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
told = open("/proc/%d/io" % pid).read()
with open({log!r}, "a") as log:
    log.write("%s %d\\n" % (told.split()[1], {film!r} in sys.argv))
code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
sys.exit(code if code >= 0 else 128 - code)
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Film:
    """A film, the piece that it repeats, and the frames of both."""

    path: Path
    piece: Path
    num_frames: int
    piece_frames: int


class Disk:
    """The most bytes that some folders held together, looked at while a program runs."""

    def __init__(self, *folders: Path) -> None:
        self.folders, self.most, self._ended = folders, 0, threading.Event()
        self._thread = threading.Thread(target=self._watch)

    def __enter__(self) -> Disk:
        self._thread.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._ended.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._ended.wait(0.05):
            self.most = max(self.most, sum(map(_bytes_in, self.folders)))


def _bytes_in(folder: Path) -> int:
    total = 0
    for place, _, names in os.walk(folder):
        for name in names:
            with suppress(OSError):  # it may have gone meanwhile
                total += os.path.getsize(os.path.join(place, name))
    return total


def make_film(folder: Path, hours: float, width: int, height: int) -> Film:
    """The film in `folder`; one that lies there is taken."""
    piece, out = folder / "piece.mkv", folder / "film.mkv"
    if not piece.exists():
        _make_piece(piece, width, height)
    piece_frames = probe(piece).num_packets
    copies = round(hours * 3600 * FPS / piece_frames) | 1  # odd: no two windows are the same
    if not out.exists():
        parts = [measure(piece, piece_frames, FPS)] * copies
        script = folder / "list.ffconcat"
        script.write_text(concat_script(parts, FPS), encoding="utf-8")
        _ffmpeg(*fill(join_argv(parts, FPS, None, (), out), list=script, out=out))
        time.sleep(SETTLED_S + 1)  # of a file that changed just now nothing is remembered
    return Film(path=out, piece=piece, num_frames=copies * piece_frames, piece_frames=piece_frames)


def _make_piece(out: Path, width: int, height: int) -> None:
    """All clips, then mirrored in three ways, one behind the other."""
    clips = sorted(CLIPS.glob("*.mp4"))
    inputs, chains, names = [], [], ""
    for number, (turned, clip) in enumerate(product(TURNS, clips)):
        inputs += ["-i", str(clip)]
        scaled = f"scale={width}:{height}:flags=bicubic,setsar=1,format=yuv420p,{turned}"
        chains.append(f"[{number}:v:0]{scaled},setpts=N/({FPS})/TB[v{number}]")
        names += f"[v{number}]"
    whole = f"{names}concat=n={len(chains)},settb=1/24000,setpts=N*1001[out]"
    graph = ";".join([*chains, whole])
    encode = ["-c:v", "libx264", "-preset", "ultrafast", "-crf", "30", "-g", "96", "-bf", "2"]
    passing = ["-fps_mode", "passthrough", str(out)]
    _ffmpeg(*inputs, "-filter_complex", graph, "-map", "[out]", *encode, *passing)


def _ffmpeg(*args: str) -> None:
    argv = [find_ffmpeg(), "-nostdin", "-hide_banner", "-v", "error", "-y", *args]
    done = subprocess.run(argv, stdin=subprocess.DEVNULL, capture_output=True, text=True)
    if done.returncode:
        sys.exit(done.stderr)


@dataclass(frozen=True, slots=True, kw_only=True)
class Swept:
    """A sweep: the most bytes on the disk, those that vmaf-tune itself read and those of each
    ffmpeg that opened the film, and wall seconds.
    """

    most: int
    own: int
    reads: tuple[int, ...]
    wall_s: float


def sweep(film: Film, folder: Path, args: argparse.Namespace) -> Swept:
    """Sample and sweep the film."""
    run, cache, log = folder / "run", folder / "cache", folder / "reads.txt"
    log.write_text("", encoding="utf-8")
    stand_in = folder / "ffmpeg that counts"
    names = {"python": sys.executable, "ffmpeg": find_ffmpeg(), "log": str(log)}
    stand_in.write_text(STAND_IN.format(**names, film=f"file:{film.path}"), encoding="utf-8")
    stand_in.chmod(0o755)
    argv = [sys.executable, "-m", "vmaftune", "corpus", str(film.path)]
    argv += ["--samples", str(args.windows), "--sample-seconds", str(args.seconds)]
    argv += ["--encoders", "x264,svtav1", "--presets", "x264=ultrafast;svtav1=11"]
    values = [("26", "36", "31")[: args.values], ("35", "55", "45")[: args.values]]
    quality = f"x264={','.join(values[0])};svtav1={','.join(values[1])}"
    argv += ["--quality", quality, "--out", str(run), "--ffmpeg", str(stand_in)]
    argv += ["--jobs", str(args.jobs)]
    begin = time.monotonic()
    with Disk(run, cache) as disk:
        num_read = _run(argv)
    wall_s = time.monotonic() - begin
    lines = [line.split() for line in log.read_text(encoding="utf-8").splitlines()]
    return Swept(
        most=disk.most,
        own=num_read - sum(int(count) for count, _ in lines),
        reads=tuple(int(count) for count, is_film in lines if is_film == "1"),
        wall_s=wall_s,
    )


def _run(argv: Sequence[str]) -> int:
    """Run a program to its end: the bytes that it and its children read."""
    child = subprocess.Popen(argv, stdin=subprocess.DEVNULL)
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
    num_read = int(Path(f"/proc/{child.pid}/io").read_text().split()[1])
    if child.wait():
        sys.exit(f"vmaf-tune ended with {child.returncode}")
    return num_read


def wrong_frames(film: Film, args: argparse.Namespace, folder: Path) -> tuple[int, int, int]:
    """Frames of the windows that are not those of the piece, of how many, and the windows that were
    reached by seeking.
    """
    ffmpeg = Ffmpeg(identity=identify(Runner(), find_ffmpeg()).identity, runner=Runner())
    wanted = Preparation(samples=args.windows, sample_seconds=Fraction(args.seconds))
    windows = resolve_clip(Clip(path=film.path, preparation=wanted), "film").windows
    out = folder / "window.yuv"
    own = _piece_digests(film.piece)
    wrong = total = 0
    for window in windows:
        prepare(window, ffmpeg, out, 3600)
        found = frame_digests(out, window.frame_bytes)
        first = window.start_frame
        expected = [own[(first + i) % film.piece_frames] for i in range(window.expected_frames)]
        wrong += sum(a != b for a, b in zip(found, expected, strict=True))
        total += len(found)
    out.unlink()
    return wrong, total, sum(window.seek is not None for window in windows)


def _piece_digests(piece: Path) -> list[str]:
    """md5 of each frame of the piece, decoded from its start."""
    (whole,) = resolve_clip(Clip(path=piece), "piece").windows
    argv = [find_ffmpeg(), *fill(digest_argv(whole), src=str(piece))]
    done = subprocess.run(argv, capture_output=True, text=True, check=True)
    lines = [line for line in done.stdout.splitlines() if not line.startswith("#")]
    return [line.split(",")[-1].strip() for line in lines]


def report(film: Film, folder: Path, args: argparse.Namespace) -> bool:
    """Measure and print; whether all is as it should be."""
    size = film.path.stat().st_size
    print(f"film: {film.num_frames} frames, {float(film.num_frames / FPS) / 3600:.2f} h, {size} B")
    first = sweep(film, folder, args)
    rows = [row for _, row in read_rows(folder / "run" / CELLS)]
    frames = sorted({row["num_frames"] for row in rows})
    print(
        f"sweep: {len(rows)} cells of {len({row['src'] for row in rows})} windows, frames a window"
        f" {frames}, {sum(row['status'] == 'ok' for row in rows)} ok, {first.wall_s:.0f} s"
    )
    print(f"disk: at most {first.most / 2**30:.2f} GiB beside the film")
    print(
        f"reading: vmaf-tune {first.own / size:.2f} x the film (its hash and the list of its"
        f" packets are 2), {len(first.reads)} times ffmpeg, at most"
        f" {max(first.reads) / size:.4f} x"
    )
    again = sweep(film, folder, args)
    print(
        f"again, nothing to do: vmaf-tune {again.own / size:.4f} x the film,"
        f" {len(again.reads)} times ffmpeg, {again.wall_s:.1f} s"
    )
    wrong, total, num_sought = wrong_frames(film, args, folder)
    print(f"frames: {wrong} of {total} differ; {num_sought} windows were reached by seeking")
    expected = round(Fraction(args.seconds) * FPS)
    return (
        first.most < MOST_BYTES
        and frames == [expected]
        and wrong == 0
        and max(first.reads) < MOST_SHARE * size
        and again.own < MOST_SHARE * size
    )


def main() -> int:
    """Make the film, measure, print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--folder", type=Path, help="where film and run stay; default: nowhere")
    parser.add_argument("--hours", type=float, default=2)
    parser.add_argument("--windows", type=int, default=12)
    parser.add_argument("--seconds", type=int, default=4)
    parser.add_argument("--values", type=int, default=2, help="of each encoder, up to 3")
    parser.add_argument("--jobs", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--size", default="1920x1080")
    args = parser.parse_args()
    width, height = map(int, args.size.split("x"))
    with tempfile.TemporaryDirectory(prefix="vmaf-tune-film-") as place:
        folder = (args.folder or Path(place)).absolute()
        folder.mkdir(parents=True, exist_ok=True)
        os.environ["XDG_CACHE_HOME"] = str(folder / "cache")  # also of the child
        (folder / "cache").mkdir(exist_ok=True)
        film = make_film(folder, args.hours, width, height)
        good = report(film, folder, args)
    print(json.dumps({"ok": good}))
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
