"""`encode` on real films: the file has every frame, its sound, and the score that it claims."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import pytest
from vmaftune import api
from vmaftune.commands.status import read as read_status
from vmaftune.engine.events import ProgressEvent
from vmaftune.errors import UsageError
from vmaftune.media.ffmpeg import Ffmpeg
from vmaftune.media.join import frame_digests
from vmaftune.questions.film import Made
from vmaftune.report.build import build

TARGET = 88.0
RANGE = {"min_quality": 20, "max_quality": 40}


@pytest.fixture(scope="session")
def short(film: Callable[..., Any]) -> Any:
    return film("eight shots.mkv", shots=8, size="128x72")


@pytest.fixture(scope="session")
def minutes(film: Callable[..., Any]) -> Any:
    """Two minutes at 12 frames a second, in eight shots of 16 seconds."""
    # A keyframe every two seconds, so that a window is reached without decoding ten before it.
    args = ("-c:v", "libx264", "-preset", "veryfast", "-qp", "12", "-g", "24")
    slow = Fraction(12000, 1001)
    return film(
        "two minutes.mkv", shots=8, loops=4, size="128x72", swing=True, rate=slow, args=args
    )


def made(short: Any, out: Path, folder: Path, **more: Any) -> Made:
    return api.encode(
        short.path,
        out,
        preset="ultrafast",
        wanted=api.Wanted(target=TARGET, samples=8, sample_seconds=4, **RANGE),
        running=api.Running(out=folder, jobs=2),
        **more,
    )


def check_streams(out: Path, num_frames: int) -> None:
    with av.open(str(out)) as opened:
        assert [s.type for s in opened.streams] == ["video", "audio"]
        assert opened.metadata.get("title") == "A film of clips"
        video = opened.streams.video[0]
        assert sum(1 for p in opened.demux(video) if p.size) == num_frames


@pytest.fixture(scope="session")
def whole(minutes: Any, tmp_path_factory: pytest.TempPathFactory) -> Made:
    folder = tmp_path_factory.mktemp("whole")
    return made(minutes, folder / "out file's.mkv", folder / "run", verify="full")


def test_a_whole_encode_has_the_score_that_it_claims(
    whole: Made, minutes: Any, score: Callable[[Path, Path], list[float]]
) -> None:
    check_streams(whole.out, minutes.num_frames)
    own = score(minutes.path, whole.out)
    assert len(own) == minutes.num_frames == whole.num_frames
    assert whole.score == pytest.approx(sum(own) / len(own), abs=0.15)
    assert whole.is_met == (whole.score >= TARGET)
    assert 1 <= len(whole.attempts) <= 2
    assert whole.attempts[0].foretold is not None


@pytest.fixture(scope="session")
def shots(minutes: Any, tmp_path_factory: pytest.TempPathFactory) -> Made:
    folder = tmp_path_factory.mktemp("shots")
    return made(minutes, folder / "out.mkv", folder / "run", way="shots")


def test_shots_meet_the_target_each_and_join_without_a_change(
    shots: Made, minutes: Any, score: Callable[[Path, Path], list[float]], real: Ffmpeg
) -> None:
    check_streams(shots.out, minutes.num_frames)
    assert sum(shot.num_frames for shot in shots.shots) == minutes.num_frames
    assert all(shot.score >= TARGET for shot in shots.shots)
    assert shots.is_met
    own = score(minutes.path, shots.out)
    assert shots.score == pytest.approx(sum(own) / len(own), abs=0.15)
    assert len(frame_digests(real, shots.out, 60)) == minutes.num_frames


def test_a_film_by_shots_is_a_question_with_its_answer_in_the_report(shots: Made) -> None:
    run = shots.out.parent / "run"
    document = build(run).document()
    (question,) = document["questions"]
    assert question["target"] == TARGET
    (answer,) = question["answers"]
    assert answer["quality"] is None and answer["is_met"]
    assert len(answer["cells"]) == len(shots.shots) <= len(answer["windows"])
    assert f"{len(shots.shots)} shots at" in " ".join(document["summary"])
    (asked,) = read_status(run).questions
    assert (asked.target, asked.statistic, asked.is_met) == (TARGET, "mean", True)


def test_over_the_film_takes_fewer_bits_than_in_each_shot(
    minutes: Any, shots: Made, tmp_path: Path
) -> None:
    over = made(minutes, tmp_path / "out.mp4", tmp_path / "run", way="shots", over_film=True)
    assert over.is_met and over.score >= TARGET
    assert over.size_bytes < shots.size_bytes
    assert not list((tmp_path / "run/encodes").glob("*.mkv")), "probes are removed at the end"


@pytest.mark.parametrize("shift", [5, -5])
def test_an_encode_that_is_off_is_made_again(
    shift: int, film: Callable[..., Any], wrapper: Callable[..., str], tmp_path: Path
) -> None:
    source = film("three shots to mend.mkv", shots=3, size="192x108")
    place = "argv.index('-crf') + 1"
    off = f"argv[{place}] = str(float(argv[{place}]) + {shift})"
    other = wrapper(f"if '-c:v:0' in argv: {off}", only="-c:v:0")
    told: list[Any] = []
    result = api.encode(
        source.path,
        tmp_path / "out.mkv",
        preset="ultrafast",
        verify="full",
        wanted=api.Wanted(target=TARGET, min_quality=10, max_quality=45),
        running=api.Running(out=tmp_path / "run", jobs=2, ffmpeg=other),
        on_event=told.append,
    )
    first, second = result.attempts
    assert first.foretold is not None and abs(first.measured - first.foretold) > 2
    assert (second.quality - first.quality) * shift < 0, "against what the first was off by"
    assert second.measured == pytest.approx(TARGET, abs=3), "the curve was moved, as a whole"
    assert second.foretold == pytest.approx(TARGET, abs=1.5)
    meets = [a for a in result.attempts if a.measured >= TARGET]
    best = min(meets, key=lambda a: a.size_bytes) if meets else second
    assert result.score == best.measured and result.error == 0.0
    steps = [(e.step, e.attempt) for e in told if isinstance(e, ProgressEvent)]
    assert {("encode", 1), ("score", 1), ("score", 2)} <= set(steps)
    last = [e for e in told if isinstance(e, ProgressEvent)][-1]
    assert last.frames == last.num_frames == source.num_frames


def test_a_quality_value_takes_the_place_of_the_search(short: Any, tmp_path: Path) -> None:
    result = made(short, tmp_path / "out.mkv", tmp_path / "run", quality=30)
    assert [a.quality for a in result.attempts] == [30]
    assert result.attempts[0].foretold is None and result.is_met


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({"way": "shots", "quality": 20}, "leave out --quality"),
        ({"encoder": "x264,x265"}, "one encoder"),
        ({"encoder": "vvenc", "way": "shots"}, "VVC"),
        ({"quality": 99}, "out of range"),
    ],
)
def test_what_cannot_be_done_is_refused_before_anything_is_encoded(
    short: Any, tmp_path: Path, more: dict[str, Any], said: str
) -> None:
    if "vvenc" in more.get("encoder", ""):
        preset: str | None = "faster"
    else:
        preset = None
    with pytest.raises(UsageError, match=said):
        api.encode(
            short.path,
            tmp_path / "out.mkv",
            preset=preset,
            wanted=api.Wanted(target=TARGET),
            running=api.Running(out=tmp_path / "run"),
            **more,
        )
    assert not (tmp_path / "run").exists()


def test_a_file_that_exists_and_a_stream_that_does_not_fit_are_refused(
    short: Any, tmp_path: Path
) -> None:
    out = tmp_path / "out.mkv"
    out.write_text("mine")
    with pytest.raises(UsageError, match="--force"):
        made(short, out, tmp_path / "run")
    with pytest.raises(UsageError, match=r"\.webm holds"):
        made(short, tmp_path / "out.webm", tmp_path / "run")
    assert out.read_text() == "mine"


def test_probes_of_another_preset_foretell_nothing(
    clip: Callable[..., Path], tmp_path: Path
) -> None:
    film = clip("two presets.mkv", frames=12, args=("-c:v", "ffv1"))
    kept = api.Running(out=tmp_path / "run", jobs=2)
    wanted = api.Wanted(target=86)
    for preset in ("medium", "ultrafast"):
        result = api.encode(
            film, tmp_path / f"{preset}.mkv", preset=preset, wanted=wanted, running=kept
        )
        for attempt in result.attempts:
            assert attempt.foretold == pytest.approx(attempt.measured, abs=1.5)
    rows = (tmp_path / "run/cells.jsonl").read_text().splitlines()
    ultrafast = [row for row in rows if '"ultrafast"' in row]
    assert result.num_encodes <= len(ultrafast) + len(result.attempts) < len(rows)
