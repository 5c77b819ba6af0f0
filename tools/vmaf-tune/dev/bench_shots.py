"""Which rule finds the cuts of a film: ffmpeg's scdet, the rule of `encode --shots`, PySceneDetect.

    python tools/vmaf-tune/dev/bench_shots.py [--peer SITE_PACKAGES] [--threshold 5 ...]

Seven kinds of film. In three every cut is known, as they are joined here from clips: whole clips,
jumps within one take, and pieces of many takes. Those of four more were marked by looking at their
frames; what fades or dissolves is no cut. The last kind are takes without a cut. The pieces and the
marked films are in `sources/phase_a`; without them the first two kinds are all there is.

A cut counts as found where the very frame is named. `--peer` is the folder of an installed
PySceneDetect (`pip install --target`), which the project does not need.
"""

from __future__ import annotations

import argparse
import random
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from bench_encode import CLIP_FRAMES, CLIPS, FILMS, SHOTS, show, write_film
from vmaftune.media.encode import fill
from vmaftune.media.ffmpeg import find_ffmpeg
from vmaftune.media.shots import cuts, detect_argv, parse_changes

SOURCES = Path(__file__).resolve().parents[3] / "sources/phase_a"
# The first frame of every shot but the first, as a person sees it.
MARKED = {
    "sintel_trailer_720p.mp4": (224, 334, 396, 404, 420, 571, 621, 658, 672, 1140, 1163, 1220),
    "bbb_1080p.mp4": (285, 378, 553),
    "city_night_720x405.mpg": (116,),
    "ocean_wave_720p.mp4": (144,),
}
UNCUT = (
    "marathon_720x400.mp4",
    "city_aerial_1080p.mp4",
    "cg_tour_960x540.mp4",
    "acrobat_994p.mp4",
    "vizdoom_game_640x360_lossless.mp4",
    "cockatoo_720p.mp4",
    "gorilla360_1080p.mp4",
    "treadmill_cam03_portrait_1920p.mp4",
)
TAKES = (
    "acrobat_994p.mp4",
    "blender_screencast_1080p.mp4",
    "cg_tour_960x540.mp4",
    "city_aerial_1080p.mp4",
    "cockatoo_720p.mp4",
    "drawing_hand_1080p.mp4",
    "face_pexels_640x360.mp4",
    "gorilla360_1080p.mp4",
    "hello_screencast_720p.mp4",
    "kb_berries_640x360_lossless.mp4",
    "kb_trees_640x360_lossless.mp4",
    "marathon_720x400.mp4",
    "night_sky_1080p.mp4",
    "opossum_snow_720p.mp4",
    "patchbay_screencast_1440x900.mp4",
    "talking_head_640x480.mp4",
    "vizdoom_game_640x360_lossless.mp4",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Marked:
    """A film, what kind it is, and the frames at which its shots begin."""

    kind: str
    path: Path
    cuts: frozenset[int]


@dataclass(frozen=True, slots=True, kw_only=True)
class Piece:
    """Frames `start` up to `end` of a clip."""

    path: Path
    start: int
    end: int


Rule = Callable[[Path], set[int]]


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=_Raw)
    parser.add_argument("--peer", help="folder of an installed PySceneDetect")
    parser.add_argument("--threshold", type=float, nargs="*", default=[3, 5, 8, 10])
    asked = parser.parse_args()
    if asked.peer:
        sys.path.append(asked.peer)
    rules: dict[str, Rule] = {"encode --shots": ours}
    rules |= {f"scdet, threshold {t:g}": scdet(t) for t in asked.threshold}
    rules |= peers() if asked.peer else {}
    with tempfile.TemporaryDirectory(prefix="vmaf-tune-bench-") as place:
        films = [*joined(Path(place)), *looked_at()]
        kinds = list(dict.fromkeys(film.kind for film in films))
        lines = [line(name, rule, films, kinds) for name, rule in rules.items()]
    show(["rule", "precision", "recall", *kinds], lines)


class _Raw(argparse.RawDescriptionHelpFormatter):
    pass


def joined(place: Path) -> Iterator[Marked]:
    """Films whose cuts are where they were made."""
    whole = place / "clips.mkv"
    write_film(whole, FILMS["all five clips"])
    at = frozenset(CLIP_FRAMES * i for i in range(1, SHOTS))
    yield Marked(kind="clips", path=whole, cuts=at)
    files = [CLIPS / f"{name}.mp4" for name in FILMS["all five clips"]]
    halves = [Piece(path=f, start=a, end=a + 16) for f in files for a in (0, 32)]
    yield write_pieces(place / "jumps.mkv", "jumps", halves)
    if SOURCES.exists():
        yield write_pieces(place / "takes.mkv", "takes", list(drawn()))


def drawn() -> Iterator[Piece]:
    """Pieces of 26 to 59 frames of every take, twice, in an order that is always the same."""
    rng = random.Random(3)
    for _ in range(2):
        for name in rng.sample(TAKES, len(TAKES)):
            start = rng.randrange(0, 60)
            yield Piece(path=SOURCES / name, start=start, end=start + rng.randrange(26, 60))


def looked_at() -> Iterator[Marked]:
    """Films whose cuts a person marked, and takes that have none."""
    if not SOURCES.exists():
        return
    for name, found in MARKED.items():
        kind = "Sintel" if name.startswith("sintel") else "three films"
        yield Marked(kind=kind, path=SOURCES / name, cuts=frozenset(found))
    for name in UNCUT:
        yield Marked(kind="one take", path=SOURCES / name, cuts=frozenset())


def write_pieces(path: Path, kind: str, pieces: Sequence[Piece]) -> Marked:
    """Join pieces of clips at 640x360 and 24 frames a second."""
    inputs, chains, edges = [], [], [0]
    for i, piece in enumerate(pieces):
        inputs += ["-i", str(piece.path)]
        chains.append(
            f"[{i}:v:0]trim=start_frame={piece.start}:end_frame={piece.end},"
            f"sidedata=delete,scale=640:360,setsar=1,format=yuv420p,settb=1/24,setpts=N[v{i}]"
        )
        edges.append(edges[-1] + piece.end - piece.start)
    links = "".join(f"[v{i}]" for i in range(len(pieces)))
    end = f"{links}concat=n={len(pieces)},settb=1/24,setpts=N,fps=24[v]"
    argv = [find_ffmpeg(), "-nostdin", "-v", "fatal", "-y", *inputs]
    argv += ["-filter_complex", ";".join([*chains, end]), "-map", "[v]"]
    argv += ["-c:v", "libx264", "-preset", "veryfast", "-qp", "12", str(path)]
    subprocess.run(argv, check=True, stdin=subprocess.DEVNULL)
    return Marked(kind=kind, path=path, cuts=frozenset(edges[1:-1]))


def printed(path: Path, argv: Sequence[str]) -> str:
    """What ffmpeg prints on stdout for a film."""
    command = [find_ffmpeg(), *fill(argv, src=path)]
    done = subprocess.run(
        command, check=True, capture_output=True, text=True, stdin=subprocess.DEVNULL
    )
    return done.stdout


def ours(path: Path) -> set[int]:
    """The rule of `encode --shots`."""
    changes = parse_changes(printed(path, detect_argv(0)))
    return set(cuts([change.percent for change in changes])) - {0}


def scdet(threshold: float) -> Rule:
    """scdet's own rule: the change, or its growth where that is less, in percent."""

    def rule(path: Path) -> set[int]:
        changes = parse_changes(printed(path, detect_argv(0)))
        percent = [change.percent for change in changes]
        pairs = zip(percent, [0.0, *percent], strict=False)
        scores = [min(now, abs(now - before)) for now, before in pairs]
        return {i for i, score in enumerate(scores) if score >= threshold} - {0}

    return rule


def peers() -> dict[str, Rule]:
    """PySceneDetect's detectors with their defaults, shots of any length."""
    from scenedetect import SceneManager, detectors, open_video

    def rule(make: Callable[..., object]) -> Rule:
        def found(path: Path) -> set[int]:
            manager = SceneManager()
            manager.add_detector(make(min_scene_len=1))
            manager.detect_scenes(open_video(str(path)))
            return {cut.frame_num for cut in manager.get_cut_list()}

        return found

    return {
        "PySceneDetect, adaptive": rule(detectors.AdaptiveDetector),
        "PySceneDetect, content": rule(detectors.ContentDetector),
        "PySceneDetect, hash": rule(detectors.HashDetector),
    }


def line(name: str, rule: Rule, films: Sequence[Marked], kinds: Sequence[str]) -> list[str]:
    """One rule's line: of each kind the cuts found of those there are, and the false ones."""
    print(name, file=sys.stderr, flush=True)
    right, wrong, there = (dict.fromkeys(kinds, 0) for _ in range(3))
    for film in films:
        found = rule(film.path)
        right[film.kind] += len(found & film.cuts)
        wrong[film.kind] += len(found - film.cuts)
        there[film.kind] += len(film.cuts)
    hits = sum(right.values())
    precision = hits / max(1, hits + sum(wrong.values()))
    recall = hits / sum(there.values())
    columns = [f"{right[k]} of {there[k]}, {wrong[k]} false" for k in kinds]
    return [name, f"{precision:.3f}", f"{recall:.3f}", *columns]


if __name__ == "__main__":
    main()
