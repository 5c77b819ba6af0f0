"""Films made of the committed clips: known frames, rate and cuts, with sound."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import pytest

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


@pytest.fixture(scope="session")
def film(
    run_ffmpeg: Callable[..., str], tmp_path_factory: pytest.TempPathFactory
) -> Callable[..., Film]:
    """Make a film once per session: `film("a.mkv", shots=5, loops=2, size="320x180")`.

    Each shot is a clip of 48 frames played `loops` times, forwards and mirrored in turn, so that
    no two shots of one clip are the same pictures. With `swing` every other time it is played
    backwards, so that a long shot has no jump in it.
    """
    folder = tmp_path_factory.mktemp("films")
    made: dict[tuple[object, ...], Film] = {}

    def make(
        name: str,
        *,
        shots: int = 5,
        loops: int = 1,
        size: str = "320x180",
        sound: bool = True,
        swing: bool = False,
        args: Sequence[str] = ("-c:v", "libx264", "-preset", "veryfast", "-qp", "12"),
    ) -> Film:
        recipe = (name, shots, loops, size, sound, swing, tuple(args))
        if recipe not in made:
            place = folder / str(len(made))
            place.mkdir()
            made[recipe] = _write(run_ffmpeg, place / name, shots, loops, size, sound, swing, args)
        return made[recipe]

    return make


def _write(
    run_ffmpeg: Callable[..., str],
    path: Path,
    shots: int,
    loops: int,
    size: str,
    sound: bool,
    swing: bool,
    args: Sequence[str],
) -> Film:
    inputs: list[str | Path] = []
    chains = []
    for i in range(shots):
        clip = CLIPS / f"{NAMES[i % len(NAMES)]}.mp4"
        inputs += ["-i", clip] if swing else ["-stream_loop", str(loops - 1), "-i", clip]
        again = _swung(i, loops) if swing else ""
        look = f"{_look(i)}scale={size},setsar=1{again}"
        chains.append(f"[{i}:v]{look},settb=1/24000,setpts=N*1001[v{i}]")
    joined = "".join(f"[v{i}]" for i in range(shots))
    graph = ";".join(
        [*chains, f"{joined}concat=n={shots},settb=1/24000,setpts=N*1001,fps={RATE}[v]"]
    )
    frames = shots * loops * CLIP_FRAMES
    seconds = float(frames / RATE)
    tone = ["-f", "lavfi", "-i", f"sine=330:sample_rate=48000:duration={seconds:.6f}"]
    heard = ["-map", f"{shots}:a", "-c:a", "aac"] if sound else []
    run_ffmpeg(
        *inputs,
        *(tone if sound else ()),
        "-filter_complex",
        graph,
        "-map",
        "[v]",
        *heard,
        *args,
        "-metadata",
        "title=A film of clips",
        path,
    )
    step = loops * CLIP_FRAMES
    return Film(path=path, num_frames=frames, cuts=tuple(i * step for i in range(shots)))


def _look(shot: int) -> str:
    """What makes the second showing of a clip another picture than the first."""
    turns = shot // len(NAMES)
    mirrored = "hflip," if turns % 2 else ""
    darker = f"eq=brightness=-0.{turns:02d}," if turns else ""
    return mirrored + darker


def _swung(shot: int, loops: int) -> str:
    """What plays a clip forwards and backwards in turn, `loops` times in all, an even number."""
    a, b, back = (f"{name}{shot}" for name in "abc")
    both = f",split[{a}][{b}];[{b}]reverse[{back}];[{a}][{back}]concat=n=2"
    return f"{both},loop=loop={loops // 2 - 1}:size={2 * CLIP_FRAMES}"
