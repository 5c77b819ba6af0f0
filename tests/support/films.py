"""Films made of the committed clips: known frames, rate and cuts, with sound."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import pytest
from filelock import FileLock

CLIPS = Path(__file__).parents[1] / "media/clips"
NAMES = ("bbb", "acrobat", "city_night", "vizdoom_game", "blender_screencast")
RATE = Fraction(24000, 1001)
CLIP_FRAMES = 48


@dataclass(frozen=True, slots=True, kw_only=True)
class Film:
    """A made film: its file, its frames, and the first frame of every shot."""

    path: Path
    num_frames: int
    cuts: tuple[int, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """How a film is made; two with the same recipe are the same film."""

    name: str
    shots: int
    loops: int
    size: str
    sound: bool
    swing: bool
    rate: Fraction
    frames: int
    args: tuple[str, ...]

    @property
    def num_frames(self) -> int:
        return self.shots * self.loops * self.frames

    @property
    def seconds(self) -> float:
        return float(self.num_frames / self.rate)


@pytest.fixture(scope="session")
def film(run_ffmpeg: Callable[..., str], shared_by_workers: Path) -> Callable[..., Film]:
    """Make a film once per run of the tests: `film("a.mkv", shots=5, loops=2, size="320x180")`.

    Each shot is a clip of 48 frames (or its first `frames`) played `loops` times, forwards and
    mirrored in turn, so that no two shots of one clip are the same pictures. With `swing` every
    other time it is played backwards, so that a long shot has no jump in it.
    """
    folder = shared_by_workers / "films"
    folder.mkdir(exist_ok=True)

    def make(
        name: str,
        *,
        shots: int = 5,
        loops: int = 1,
        size: str = "320x180",
        sound: bool = True,
        swing: bool = False,
        rate: Fraction = RATE,
        frames: int = CLIP_FRAMES,
        args: Sequence[str] = ("-c:v", "libx264", "-preset", "veryfast", "-qp", "12"),
    ) -> Film:
        recipe = Recipe(
            name=name,
            shots=shots,
            loops=loops,
            size=size,
            sound=sound,
            swing=swing,
            rate=rate,
            frames=frames,
            args=tuple(args),
        )
        place = folder / hashlib.sha256(repr(recipe).encode()).hexdigest()[:12]
        path = place / name
        with _alone(place):
            if not path.exists():
                _write(run_ffmpeg, recipe, folder, path)
        step = loops * frames
        return Film(
            path=path, num_frames=recipe.num_frames, cuts=tuple(i * step for i in range(shots))
        )

    return make


def _alone(place: Path) -> FileLock:
    """One worker at a time makes what belongs at `place`."""
    return FileLock(f"{place}.lock")


def _small(run_ffmpeg: Callable[..., str], clip: str, size: str, frames: int, folder: Path) -> Path:
    """A committed clip at the size of a film, without loss: it is decoded once for all films."""
    path = folder / f"{clip} {size} {frames}.mkv"
    with _alone(path):
        if not path.exists():
            part = path.with_name(f"part {path.name}")
            # One colour space and range for all: else they would be converted again to be joined.
            same = "format=pix_fmts=yuv420p:color_spaces=unknown:color_ranges=tv"
            raw = ("-frames:v", str(frames), "-c:v", "rawvideo", "-fps_mode", "passthrough")
            graph = f"scale={size},setsar=1,{same}"
            run_ffmpeg("-i", CLIPS / f"{clip}.mp4", "-lavfi", graph, *raw, part)
            part.replace(path)
    return path


def _write(run_ffmpeg: Callable[..., str], recipe: Recipe, folder: Path, path: Path) -> None:
    shots, loops, swing = recipe.shots, recipe.loops, recipe.swing
    inputs: list[str | Path] = []
    chains = []
    for i in range(shots):
        clip = _small(run_ffmpeg, NAMES[i % len(NAMES)], recipe.size, recipe.frames, folder)
        inputs += ["-i", clip] if swing else ["-stream_loop", str(loops - 1), "-i", clip]
        again = _swung(i, loops, recipe.frames) if swing else ""
        chains.append(f"[{i}:v]{_look(i)}null{again},{_stamps(recipe.rate)}[v{i}]")
    joined = "".join(f"[v{i}]" for i in range(shots))
    graph = ";".join(
        [*chains, f"{joined}concat=n={shots},{_stamps(recipe.rate)},fps={recipe.rate}[v]"]
    )
    sine = f"sine=330:sample_rate=48000:duration={recipe.seconds:.6f}"
    tone = ("-f", "lavfi", "-i", sine) if recipe.sound else ()
    heard = ("-map", f"{shots}:a", "-c:a", "aac") if recipe.sound else ()
    path.parent.mkdir(exist_ok=True)
    part = path.with_name(f"part {path.name}")
    named = ("-metadata", "title=A film of clips")
    run_ffmpeg(
        *inputs, *tone, "-filter_complex", graph, "-map", "[v]", *heard, *recipe.args, *named, part
    )
    part.replace(path)


def _stamps(rate: Fraction) -> str:
    """What gives frames the times of a constant rate."""
    return f"settb=1/{rate.numerator},setpts=N*{rate.denominator}"


def _look(shot: int) -> str:
    """What makes the second showing of a clip another picture than the first."""
    turns = shot // len(NAMES)
    mirrored = "hflip," if turns % 2 else ""
    darker = f"eq=brightness=-0.{turns:02d}," if turns else ""
    return mirrored + darker


def _swung(shot: int, loops: int, frames: int) -> str:
    """What plays a clip forwards and backwards in turn, `loops` times in all, an even number."""
    a, b, back = (f"{name}{shot}" for name in "abc")
    both = f",split[{a}][{b}];[{b}]reverse[{back}];[{a}][{back}]concat=n=2"
    return f"{both},loop=loop={loops // 2 - 1}:size={2 * frames}"
