"""The files of a ladder: aligned, scored inside, played by a player, and whole or not there."""

from __future__ import annotations

import re
import shlex
import shutil
import signal
import subprocess
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import av
import pytest
from vmaftune import api
from vmaftune.engine.events import CellEvent, LadderFilesEvent
from vmaftune.errors import UsageError
from vmaftune.media.keyframes import keyframes
from vmaftune.questions.rungs import PART, check_folder

MODEL = Path(__file__).parents[2] / "model"
GOP = 24


def asked(out: Path, **changes: Any) -> api.LadderWanted:
    wanted = api.LadderWanted(
        sizes="144,96,72", top=92, bottom=45, step=8, gop_s=1, num_rungs=3, encode=out
    )
    return replace(wanted, **changes)


@pytest.fixture(scope="module")
def ladder(laddered: Any, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """The ladder of the measured film again, and its files."""
    out = tmp_path_factory.mktemp("files") / "it's 100% a ladder, #1"
    told: list[Any] = []
    result = api.ladder(
        laddered.source.path,
        preset="ultrafast",
        wanted=asked(out),
        running=api.Running(out=laddered.result.folder, model_dir=MODEL, jobs=2),
        on_event=told.append,
    )
    return laddered.source, result, told


def test_every_file_has_its_keyframes_at_the_same_frames(ladder: Any) -> None:
    source, result, _ = ladder
    assert len(result.files.files) == len(result.rungs) == 3
    for file in result.files.files:
        assert keyframes(file.path) == tuple(range(0, source.num_frames, GOP))
        assert file.num_keyframes == source.num_frames // GOP
        assert file.codec.startswith("avc1.")


def test_the_score_is_that_of_the_file(ladder: Any, score: Callable[..., list[float]]) -> None:
    source, result, _ = ladder
    for file in (result.files.files[0], result.files.files[-1]):
        own = score(source.path, file.path, "256:144")
        assert len(own) == source.num_frames
        assert file.score == pytest.approx(sum(own) / len(own), abs=0.15)


def test_a_player_plays_every_variant_with_its_sound(
    ladder: Any, run_ffmpeg: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    source, result, _ = ladder
    folder = result.files.playlist.parent
    text = result.files.playlist.read_text()
    named = re.findall(r"^[^#\n].*$", text, re.M) + re.findall(r'URI="(.*?)"', text)
    assert {path.name for path in folder.iterdir()} == {
        "main.m3u8",
        *named,
        *(name.replace(".m3u8", ".mp4") for name in named),
    }
    for index in range(len(result.rungs)):
        said = run_ffmpeg("-i", "main.m3u8", "-map", f"0:p:{index}", "-f", "null", "-", cwd=folder)
        assert f"frame={source.num_frames:5d}" in said.replace("\r", "\n")
    monkeypatch.chdir(folder)  # ffmpeg takes the # of the folder's name for a part of an address
    with av.open("main.m3u8") as opened:
        starts = {s.type: float(s.start_time * s.time_base) for s in opened.streams}
    assert starts["video"] == pytest.approx(starts["audio"], abs=0.03)


def test_bandwidths_are_those_of_the_files(ladder: Any) -> None:
    _, result, _ = ladder
    text = result.files.playlist.read_text()
    told = [
        tuple(map(int, m)) for m in re.findall(r"BANDWIDTH=(\d+),AVERAGE-BANDWIDTH=(\d+)", text)
    ]
    (sound,) = result.files.sounds
    seconds = ladder[0].num_frames / (24000 / 1001)
    heard = sound.stat().st_size * 8 / seconds
    for (peak, mean), file in zip(told, result.files.files, strict=True):
        assert peak >= mean
        assert mean == pytest.approx(file.size_bytes * 8 / seconds + heard, rel=0.05)
        assert file.kbps == pytest.approx(file.rung.kbps, rel=0.25)


def test_the_files_are_told_and_kept_for_the_report(ladder: Any) -> None:
    _, result, told = ladder
    files = [event for event in told if isinstance(event, LadderFilesEvent)]
    assert told[-1] is files[0] and len(files) == 1
    assert [f.path for f in files[0].files] == [str(f.path) for f in result.files.files]
    kept = (result.folder / "questions.jsonl").read_text()
    assert '"ladder_files"' in kept
    assert not list((result.folder / "encodes").glob("film-*")), "nothing is left behind"


def test_a_folder_in_use_is_refused_and_force_takes_its_place(ladder: Any, tmp_path: Path) -> None:
    source, result, _ = ladder
    out = tmp_path / "again"
    shutil.copytree(result.files.playlist.parent, out)
    (out / "mine.txt").write_text("mine")
    (out / "999x999_1k.mp4").write_text("of a ladder before")
    how = api.Running(out=result.folder, model_dir=MODEL, jobs=2)
    with pytest.raises(UsageError, match="--force"):
        api.ladder(source.path, preset="ultrafast", wanted=asked(out), running=how)
    told: list[Any] = []
    api.ladder(
        source.path,
        preset="ultrafast",
        wanted=asked(out, num_rungs=1, force=True),
        running=how,
        on_event=told.append,
    )
    left = {path.name for path in out.iterdir()}
    assert "mine.txt" in left and "999x999_1k.mp4" not in left
    assert sum(name.endswith("k.mp4") for name in left) == 1
    assert not [event for event in told if isinstance(event, CellEvent) and "x264" in event.cell]


def test_by_shots_a_rung_has_its_score_over_the_film(
    laddered: Any, tmp_path: Path, score: Callable[..., list[float]]
) -> None:
    source, out = laddered.source, tmp_path / "shots"
    result = api.ladder(
        source.path,
        preset="ultrafast",
        wanted=asked(out, num_rungs=2, shots=True),
        running=api.Running(out=laddered.result.folder, model_dir=MODEL, jobs=2),
    )
    assert result.files is not None and len(result.files.files) == 2
    starts = [keyframes(file.path) for file in result.files.files]
    assert starts[0] == starts[1] and set(source.cuts) <= set(starts[0])
    for file in result.files.files:
        own = score(source.path, file.path, "256:144")
        assert len(own) == source.num_frames
        assert file.score == pytest.approx(sum(own) / len(own), abs=0.15)
        assert file.score >= file.rung.score - 0.01 and file.error == 0
    assert not list((laddered.result.folder / "encodes").glob("*")), "probes are removed"


def test_sound_keeps_its_distance_and_what_hls_does_not_play_lies_apart(
    laddered: Any,
    run_ffmpeg: Callable[..., str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    film, source = tmp_path / "late.mkv", laddered.source.path
    maps = ("-map", "0:v", "-map", "1:a", "-map", "1:a", "-c", "copy", "-c:a:1", "pcm_s16le")
    named = ("-metadata:s:a:0", "language=fre")
    run_ffmpeg("-itsoffset", "0.5", "-i", source, "-i", source, *maps, *named, film)
    result = api.ladder(
        film,
        preset="ultrafast",
        wanted=asked(tmp_path / "out", sizes="72", num_rungs=1),
        running=api.Running(out=tmp_path / "run", model_dir=MODEL, jobs=2),
    )
    assert result.files is not None
    assert [path.name for path in result.files.sounds] == ["audio-1.mp4", "audio-2.mka"]
    assert "audio-2.mka is pcm_s16le" in result.files.sentences[0]
    text = result.files.playlist.read_text()
    assert 'NAME="1 fre",LANGUAGE="fre"' in text and "audio-2" not in text
    monkeypatch.chdir(tmp_path / "out")
    with av.open("main.m3u8") as opened:
        starts = {s.type: float(s.start_time * s.time_base) for s in opened.streams}
    assert starts["video"] - starts["audio"] == pytest.approx(0.5, abs=0.03)


def test_a_command_that_is_pasted_gives_what_was_shown(
    ladder: Any, tmp_path: Path, ffmpeg: str
) -> None:
    source, result, _ = ladder
    for rung, file in zip(result.rungs, result.files.files, strict=True):
        *argv, out = shlex.split(result.command(rung))
        made = tmp_path / out
        done = subprocess.run([ffmpeg, "-v", "error", *argv[1:], made], capture_output=True)
        assert done.returncode == 0, done.stderr
        assert keyframes(made) == keyframes(file.path)
        with av.open(str(made)) as opened:
            video = opened.streams.video[0]
            assert (video.width, video.height) == rung.size
        assert num_bytes(made) == pytest.approx(num_bytes(file.path), rel=0.02)
        seconds = source.num_frames / (24000 / 1001)
        kbps = num_bytes(made) * 8 / 1000 / seconds
        assert kbps == pytest.approx(rung.kbps, rel=0.05), "of a film that was measured whole"


def num_bytes(file: Path) -> int:
    """Bytes of the pictures alone."""
    with av.open(str(file)) as opened:
        return sum(packet.size for packet in opened.demux(opened.streams.video[0]))


@pytest.fixture(scope="module")
def half_rate(
    laddered: Any, run_ffmpeg: Callable[..., str], tmp_path_factory: pytest.TempPathFactory
) -> Any:
    """A film of 50 frames a second, and its ladder whose small size has every second one."""
    folder = tmp_path_factory.mktemp("half")
    film = folder / "fifty frames.mkv"
    look = ("-vf", "setpts=N/(50*TB)", "-r", "50", "-frames:v", "72")
    run_ffmpeg("-i", laddered.source.path, *look, "-c:v", "libx264", "-qp", "10", "-an", film)
    return film, api.ladder(
        film,
        preset="ultrafast",
        wanted=asked(folder / "files", sizes="144,96", top=94, bottom=30, half_rate=96),
        running=api.Running(out=folder / "run", model_dir=MODEL, jobs=2),
    )


def test_at_half_rate_every_second_frame_is_encoded_and_scored(
    half_rate: Any,
    run_ffmpeg: Callable[..., str],
    score: Callable[..., list[float]],
    tmp_path: Path,
) -> None:
    film, result = half_rate
    every = tmp_path / "every second.mkv"
    run_ffmpeg("-i", film, "-vf", "framestep=2", "-c:v", "ffv1", every)
    halved = [file for file in result.files.files if file.rung.size[1] == 96]
    assert halved and len(halved) < len(result.files.files)
    for file in result.files.files:
        frames = 36 if file in halved else 72
        gop = 25 if file in halved else 50
        assert keyframes(file.path) == tuple(range(0, frames, gop))
        assert file.rung.frame_rate == (25 if file in halved else 50)
        own = score(every if file in halved else film, file.path, "256:144")
        assert len(own) == frames
        assert file.score == pytest.approx(sum(own) / len(own), abs=0.15)
    text = result.files.playlist.read_text()
    assert "FRAME-RATE=50.000" in text and "FRAME-RATE=25.000" in text
    assert "-vf framestep=2,scale=170:96" in result.command(halved[0].rung)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"half_rate": 40}, "no size has 40 lines"),
        ({"half_rate": 96, "shots": True}, "do not go together"),
    ],
)
def test_half_rate_says_what_it_goes_with(
    half_rate: Any, tmp_path: Path, changes: dict[str, Any], said: str
) -> None:
    running = api.Running(out=tmp_path / "run")
    with pytest.raises(UsageError, match=said):
        api.ladder(half_rate[0], wanted=asked(tmp_path / "out", **changes), running=running)


def test_a_film_of_24_is_not_halved(laddered: Any, tmp_path: Path) -> None:
    running = api.Running(out=tmp_path / "run")
    with pytest.raises(UsageError, match="48 frames a second or more"):
        api.ladder(
            laddered.source.path, wanted=asked(tmp_path / "out", half_rate=96), running=running
        )


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"encode": None}, "--encode"),
        ({"statistic": "p5"}, "holds the mean"),
        ({"encode": None, "shots": False, "force": True}, "--force is about"),
    ],
)
def test_shots_say_what_they_go_with(
    laddered: Any, tmp_path: Path, changes: dict[str, Any], said: str
) -> None:
    with pytest.raises(UsageError, match=said):
        api.ladder(
            laddered.source.path,
            wanted=asked(tmp_path / "out", **{"shots": True, **changes}),
            running=api.Running(out=tmp_path / "run"),
        )


def test_what_cannot_be_made_is_refused_before_anything_is_measured(
    laddered: Any, tmp_path: Path
) -> None:
    file = tmp_path / "file"
    file.write_text("")
    with pytest.raises(UsageError, match="that is a file"):
        check_folder(file, force=True)
    (tmp_path / "half" / PART).mkdir(parents=True)
    check_folder(tmp_path / "half", force=False)
    with pytest.raises(UsageError, match="libvvenc"):
        api.ladder(
            laddered.source.path,
            encoder="vvenc",
            wanted=asked(tmp_path / "out"),
            running=api.Running(out=tmp_path / "run"),
        )
    assert not (tmp_path / "run").exists() and not (tmp_path / "out").exists()


def test_a_killed_one_goes_on_where_it_ended(
    laddered: Any,
    tool: Any,
    wrapper: Callable[..., str],
    until: Callable[..., None],
    tmp_path: Path,
) -> None:
    log, run, out = tmp_path / "log", tmp_path / "run", tmp_path / "out"
    body = (
        "FILM = '-map_chapters' in argv\n"
        f"open({str(log)!r}, 'a').write('film\\n' if FILM else '')\n"
        f"lines = open({str(log)!r}).read().count('film')\n"
        "if FILM and lines == 2: time.sleep(60)\n"
    )
    given = ["ladder", laddered.source.path, "--preset", "ultrafast", "--sizes", "96,72"]
    given += ["--top", "92", "--bottom", "45", "--step", "8", "--gop", "1", "--rungs", "3"]
    given += [
        "--model-dir",
        MODEL,
        "--out",
        run,
        "--encode",
        out,
        "--ffmpeg",
        wrapper(body, only="-map_chapters"),
    ]
    child = tool.start(*given)
    until(lambda: log.exists() and log.read_text().count("film") == 2, "the second encode")
    child.send_signal(signal.SIGKILL)
    child.wait()
    assert not out.exists() or not list(out.iterdir())
    shown = tool.run(*given)
    assert log.read_text().count("film") == 4, "the first rung was not encoded again"
    assert str(out / "main.m3u8") in shown.stdout
    assert not (out / PART).exists() and (out / "main.m3u8").exists()
