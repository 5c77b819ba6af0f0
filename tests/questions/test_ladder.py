"""Ladders: the policy on measured grids, and the whole question on a real film."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator
from priors import shipped
from vmaftune import api
from vmaftune.asking import laddering
from vmaftune.asking.laddered import crossovers, ladder_event
from vmaftune.cli import main
from vmaftune.engine.events import CellEvent, PointEvent
from vmaftune.errors import UsageError
from vmaftune.media.keyframes import keyframes
from vmaftune.questions.hull import EACH, HullSearch, SizePoint
from vmaftune.request.flags import Texts, parse_flags, request_from
from vmaftune.request.sources import resolve_film
from vmaftune.request.template import read_template

SCHEMAS = Path(__file__).parents[2] / "schemas"
MODEL = Path(__file__).parents[2] / "model"
SIZES = ((1920, 1080), (1280, 720), (960, 540), (640, 360))


def measured(size: tuple[int, int], quality: float, softness: float) -> SizePoint:
    """A made film: the score falls with the quality value, and a small size has a ceiling."""
    share = size[1] / 1080
    ceiling = 100 - softness * (1 - share) ** 2
    score = ceiling / (1 + math.exp((quality - 38 - 3 * (1 - share)) / 5))
    kbps = 60000 * math.exp(-quality / 7.2) * share**1.6
    return SizePoint(size=size, quality=quality, score=score, kbps=kbps, motion2=5.0)


def search(softness: float, **changes: Any) -> tuple[HullSearch, list[SizePoint]]:
    made = HullSearch(
        shipped(),
        encoder="libx264",
        preset="medium",
        display=SIZES[0],
        sizes=SIZES,
        frame_rates=dict.fromkeys(SIZES, 24.0),
        qualities=range(52),
        low=50,
        high=95,
        **changes,
    )
    while (wanted := made.ask()) is not None:
        made.tell(measured(*wanted, softness))
    return made, made.points


@pytest.mark.parametrize("softness", [20, 60, 110])
def test_the_cheapest_size_is_found_at_every_score(softness: float) -> None:
    """The size that is believed to be the cheapest costs hardly more than the one that is."""
    made, points = search(softness)
    assert len(points) <= EACH * len(SIZES)
    assert len({(p.size, p.quality) for p in points}) == len(points)
    lost = []
    for score in range(55, 95, 5):
        cheapest = math.inf
        for size in SIZES:
            reach = [measured(size, q / 10, softness) for q in range(0, 520)]
            cheapest = min([cheapest, *(p.kbps for p in reach if p.score >= score)])
        chosen = min(SIZES, key=lambda s: made.curve(s).ln_kbps_for(score))
        fine = [measured(chosen, q / 10, softness) for q in range(0, 520)]
        lost.append(min((p.kbps for p in fine if p.score >= score), default=9e9) / cheapest - 1)
    assert sum(lost) / len(lost) < 0.02
    assert max(lost) < 0.08


def test_a_size_that_cannot_help_costs_next_to_nothing() -> None:
    _, points = search(160)
    counts = {size: sum(p.size == size for p in points) for size in SIZES}
    assert counts[SIZES[-1]] <= 4 < counts[SIZES[0]]


def test_bitrates_out_of_bounds_are_not_asked_for() -> None:
    _, points = search(60, max_kbps=2000)
    assert sum(p.kbps > 2600 for p in points) <= len(SIZES)


def test_rungs_keep_the_rules(laddered: Any) -> None:
    result, told = laddered.result, laddered.told
    rungs = result.rungs
    assert len(rungs) >= 3
    for above, below in zip(rungs, rungs[1:], strict=False):
        assert above.kbps / below.kbps >= 1.3
        assert above.score > below.score
        assert above.size[1] >= below.size[1]
    assert all(rung.setting.maxrate_kbps for rung in rungs)
    assert rungs[-1].score >= 40
    points = [event for event in told if isinstance(event, PointEvent)]
    shown = {(p.score, p.kbps) for p in points if p.is_rung}
    assert {(round(r.score, 4), round(r.kbps, 3)) for r in rungs} <= shown
    assert len(result.points) <= EACH * 3
    assert len(points) == len(result.points) + result.num_rung_encodes


def test_it_says_how_to_make_and_serve_the_rungs(laddered: Any) -> None:
    source, result = laddered.source, laddered.result
    event = ladder_event(result)
    assert event.num_encodes == len(result.points) and len(event.rungs) == len(result.rungs)
    first = event.rungs[0]
    assert f"-crf {first.quality:g} " in first.command
    assert f"-maxrate {first.maxrate_kbps}k -bufsize {first.bufsize_kbps}k" in first.command
    assert source.path.name in first.command
    assert f"BANDWIDTH={first.maxrate_kbps}000," in first.playlist
    assert f"RESOLUTION={first.width}x{first.height}," in first.playlist
    scores = [point.score for point in event.hull]
    assert scores == sorted(scores)
    assert len(crossovers(result)) == len(event.crossings) >= 1
    assert [score for _, score in event.curve] == sorted(score for _, score in event.curve)
    assert [kbps for kbps, _ in event.curve] == sorted(kbps for kbps, _ in event.curve)


def test_the_same_ladder_again_costs_nothing(laddered: Any) -> None:
    source, result = laddered.source, laddered.result
    told: list[Any] = []
    again = api.ladder(
        source.path,
        preset="ultrafast",
        wanted=api.LadderWanted(sizes="144,96,72", top=92, bottom=45, step=8, gop_s=1),
        running=api.Running(out=result.folder, model_dir=MODEL, jobs=2),
        on_event=told.append,
    )
    assert again.rungs == result.rungs
    assert not [event for event in told if isinstance(event, CellEvent)]


def test_the_command_shows_draws_and_counts(
    laddered: Any,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    source, result = laddered.source, laddered.result
    given = ["vmaf-tune", "ladder", str(source.path), "--preset", "ultrafast", "--out"]
    given += [str(result.folder), "--sizes", "144,96,72", "--top", "92", "--bottom", "45"]
    given += ["--step", "8", "--gop", "1", "--model-dir", str(MODEL)]
    picture = tmp_path / "new" / "ladder.png"
    shown = run(monkeypatch, capsys, [*given, "--plot", str(picture)])
    assert "256x144" in shown and "#EXT-X-STREAM-INF" in shown
    assert picture.read_bytes().startswith(b"\x89PNG")
    lines = run(monkeypatch, capsys, [*given, "--json"]).splitlines()
    told = [json.loads(line) for line in lines]
    for one in told:
        validator("event").validate(one)
    last = told[-1]
    validator("ladder").validate(last)
    assert last["event"] == "ladder" and len(last["rungs"]) == len(result.rungs)
    few = run(monkeypatch, capsys, [*given, "--rungs", "2", "--json"])
    assert len(json.loads(few.splitlines()[-1])["rungs"]) == 2
    both = ["ultrafast,superfast" if word == "ultrafast" else word for word in given]
    shown = run(monkeypatch, capsys, [*both, "--sizes", "144", "--rungs", "1"])
    said = " ".join(shown.split())
    assert "vs libx264 superfast" in said and "points on the joint hull" in said
    few = run(monkeypatch, capsys, [*both, "--sizes", "144", "--rungs", "1", "--json"])
    told = json.loads(few.splitlines()[-1])
    assert told["event"] == "ladders" and len(told["joint"]) == len(told["joint_encoders"])
    first, second = (one["bd_rates"] for one in told["encoders"])
    assert first[0] == second[1] == 0 and second[0] < 0
    assert (1 + first[1]) * (1 + second[0]) == pytest.approx(1, abs=0.001)
    assert "at most 15 encodes" in run(monkeypatch, capsys, [*given, "--dry-run"])


def validator(name: str) -> Draft202012Validator:
    return Draft202012Validator(json.loads((SCHEMAS / f"{name}.schema.json").read_text()))


def run(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], argv: list[str]
) -> str:
    monkeypatch.setattr("sys.argv", argv)
    with pytest.raises(SystemExit) as leave:
        main()
    shown = capsys.readouterr()
    assert not leave.value.code, shown.err
    return shown.out


def test_it_is_held_against_a_fixed_ladder(laddered: Any, tmp_path: Path) -> None:
    source, result = laddered.source, laddered.result
    fixed = tmp_path / "fixed.toml"
    kbps = result.rungs[0].kbps
    entries = [(2160, 9000), (144, kbps), (72, kbps / 4)]
    fixed.write_text("".join(f"[[rung]]\nlines = {a}\nkbps = {b}\n" for a, b in entries))
    again = api.ladder(
        source.path,
        preset="ultrafast",
        wanted=api.LadderWanted(
            sizes="144,96,72", top=92, bottom=45, step=8, gop_s=1, template=str(fixed)
        ),
        running=api.Running(out=result.folder, model_dir=MODEL, jobs=2),
    )
    assert again.rungs == result.rungs and again.points == result.points
    first, second = again.against
    assert first.fixed.size == (256, 144) and first.fixed.setting.maxrate_kbps is None
    assert second.fixed.size == (128, 72)
    assert math.log(first.fixed.kbps / kbps) == pytest.approx(0, abs=0.25)
    assert first.saved == pytest.approx(0, abs=0.06)
    assert second.saved is not None and second.saved > -0.05
    said = ladder_event(again).sentences
    assert f"{len(result.rungs)} renditions and not 2" in said[-1]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "no \\[\\[rung\\]\\]"),
        ("rung", "not a readable TOML"),
        ("[[rung]]\nlines = 720\n", "rung 1: it takes lines"),
        ("[[rung]]\nlines = 720\nkbps = -4\n", "rung 1: it takes lines"),
    ],
)
def test_a_template_that_makes_no_sense_is_refused(text: str, said: str, tmp_path: Path) -> None:
    file = tmp_path / "t.toml"
    file.write_text(text)
    with pytest.raises(UsageError, match=said):
        read_template(str(file))
    with pytest.raises(UsageError, match="no such file"):
        read_template("appel")
    assert len(read_template("apple")) == 9


def test_sizes_follow_the_film(film: Callable[..., Any]) -> None:
    source = film("two for a ladder.mkv", shots=2, size="256x144", frames=36)
    whole = resolve_film(request_from(parse_flags(Texts(sources=(str(source.path),)))))[0].whole
    sizes, left_out = laddering.ladder_sizes(whole, "1080,144,72")
    assert sizes == ((256, 144), (128, 72))
    assert len(left_out) == 1 and "larger" in left_out[0]
    with pytest.raises(UsageError, match="none fits"):
        laddering.ladder_sizes(whole, "1080")
    with pytest.raises(UsageError, match="64 lines"):
        laddering.ladder_sizes(whole, "144,40")
    large = replace(whole, width=1920, height=1080)
    assert [s[1] for s in laddering.ladder_sizes(large, None)[0]] == [1080, 720, 540, 360]
    upright = replace(whole, width=1080, height=1920)
    assert laddering.ladder_sizes(upright, "1080,720")[0] == ((1080, 1920), (720, 1280))
    wide = replace(whole, width=1998, height=836)
    assert laddering.ladder_sizes(wide, "720,360")[0] == ((1720, 720), (860, 360))
    old = replace(whole, width=768, height=576)
    assert laddering.ladder_sizes(old, "576,360")[0] == ((768, 576), (480, 360))


def test_a_top_that_is_out_of_reach_is_said(laddered: Any) -> None:
    result = again(laddered, sizes="72", top=99.5, num_rungs=1)
    assert result.rungs and result.rungs[0].score < 97
    assert "the top rung is at" in result.sentences[0] and "not 99.5" in result.sentences[0]


def test_no_rung_within_the_limits_is_said(laddered: Any) -> None:
    result = again(laddered, min_kbps=90_000, max_kbps=100_000)
    assert result.rungs == () and "no rung meets the limits" in result.sentences[-1]
    assert ladder_event(result).curve is not None


def again(laddered: Any, **changes: Any) -> api.LadderResult:
    """Another ladder of the measured film."""
    wanted = api.LadderWanted(sizes="144,96,72", top=92, bottom=45, step=8, gop_s=1)
    return api.ladder(
        laddered.source.path,
        preset="ultrafast",
        wanted=replace(wanted, **changes),
        running=api.Running(out=laddered.result.folder, model_dir=MODEL, jobs=2),
    )


@pytest.mark.parametrize(
    ("name", "size", "sizes", "made"),
    [
        ("upright ladder.mkv", "96x160", "96,64", {(96, 160), (64, 106)}),
        ("four thirds ladder.mkv", "130x98", "98,64", {(130, 98), (84, 64)}),
    ],
)
def test_a_film_of_another_shape(
    clip: Callable[..., Path],
    tmp_path: Path,
    name: str,
    size: str,
    sizes: str,
    made: set[tuple[int, int]],
) -> None:
    film = clip(name, frames=8, size=size)
    result = api.ladder(
        film,
        encoder="vp9",
        preset="realtime",
        wanted=api.LadderWanted(
            sizes=sizes, top=90, bottom=20, num_rungs=2, gop_s=0.2, encode=tmp_path / "out"
        ),
        running=api.Running(out=tmp_path / "run", model_dir=MODEL, jobs=2),
    )
    assert {point.size for point in result.points} == made
    assert "takes no bound on its bitrate" in result.sentences[0]
    assert result.files is not None and result.rungs[0].setting.maxrate_kbps is None
    for file in result.files.files:
        assert keyframes(file.path) == (0, 5) and file.codec.startswith("vp09.00.")


def test_a_picture_of_an_unknown_kind_is_refused_first(
    laddered: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    given = ["vmaf-tune", "ladder", str(laddered.source.path), "--plot", "a.xyz"]
    monkeypatch.setattr("sys.argv", given)
    with pytest.raises(SystemExit) as leave:
        main()
    assert leave.value.code == 2 and "must end in one of .png" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"bottom": 96}, "bottom lies below the top"),
        ({"step": 0}, "--step is 0"),
        ({"num_rungs": 0}, "--rungs is 0"),
        ({"min_kbps": 500, "max_kbps": 400}, "--min-kbps 500 is not below"),
        ({"statistic": "std"}, "--stat std"),
    ],
)
def test_what_makes_no_sense_is_refused(changes: dict[str, Any], said: str) -> None:
    with pytest.raises(UsageError, match=said):
        laddering.ladder_question(Texts(), api.LadderWanted(**changes), api.Running())


def test_metrics_of_each_rung(film: Callable[..., Any], tmp_path: Path) -> None:
    source = film("ladder metrics.mkv", shots=2, size="128x72", sound=False)
    result = api.ladder(
        source.path,
        preset="ultrafast",
        wanted=api.LadderWanted(
            sizes="72", top=80, bottom=60, num_rungs=1, samples=2, sample_seconds=0.5
        ),
        running=api.Running(out=tmp_path / "run", model_dir=MODEL, jobs=2),
        texts=Texts(metrics="psnr,ssim"),
    )
    (rung,) = result.rungs
    assert rung.metrics.keys() == {"psnr", "ssim"} and 15 < (rung.metrics["psnr"] or 0) < 60
    assert ladder_event(result).rungs[0].metrics == dict(rung.metrics)
