"""`find` with targets on other metrics than VMAF and with guards, on a real film, against every
quality value measured.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from priors import shipped
from vmaf_train.corpus.rows import latest
from vmaftune import api
from vmaftune.asking import finding
from vmaftune.engine.events import CellEvent
from vmaftune.errors import UsageError
from vmaftune.metrics import Goal, goal_of, parse_guards
from vmaftune.questions.find import Finder, Probe
from vmaftune.questions.plain import PlainSearch
from vmaftune.report.read import read
from vmaftune.request.flags import Texts

LOW, HIGH = 22, 31
WANTED = api.Wanted(
    target=34,
    metric="xpsnr",
    min_quality=LOW,
    max_quality=HIGH,
    samples=3,
    sample_seconds=0.5,
    guards=parse_guards("cambi<=99,ssim.p5>=0"),
)


@pytest.fixture(scope="session")
def shots(film: Callable[..., Any]) -> Path:
    made: Path = film("metric shots.mkv", shots=3, size="224x126", sound=False).path
    return made


def ask(shots: Path, out: Path, *told: Any, **changes: Any) -> api.FindResult:
    question = question_of(shots, out, **changes)
    with finding.open_study(question) as study:
        finder = Finder(question.request, study, shipped())
        finding.drive(question, finder.run(), told[0] if told else None)
        return finding.FindResult(
            film=question.request.sample.film,
            folder=question.folder,
            request=question.request,
            found=finder.found,
            probes=tuple(finder.probes),
        )


def question_of(shots: Path, out: Path, **changes: Any) -> finding.Question:
    return finding.find_question(
        Texts(sources=(str(shots),), encoders="x264", presets="ultrafast"),
        replace(WANTED, **changes),
        api.Running(out=out, jobs=2),
    )


@pytest.fixture(scope="session")
def every(shots: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[Probe]]:
    """The film's folder after every quality value was measured, and the probes, finest first."""
    out = tmp_path_factory.mktemp("metrics") / "run"
    found = []
    question = question_of(shots, out)
    with finding.open_study(question) as study:  # which prepares a window once for all values
        for quality in range(LOW, HIGH + 1):
            fixed = replace(question.request.candidates[0], low=quality, high=quality)
            finder = Finder(replace(question.request, candidates=(fixed,)), study, shipped())
            finding.drive(question, finder.run(), None)
            found += [p for p in finder.probes if p.quality == quality]
    assert [p.quality for p in found] == list(range(LOW, HIGH + 1))
    return out, found


@pytest.mark.parametrize("share", [0.2, 0.5, 0.8])
def test_a_target_on_xpsnr_is_that_of_an_exhaustive_sweep(
    shots: Path, every: tuple[Path, list[Probe]], share: float
) -> None:
    out, probes = every
    target = round(probes[-1].score + share * (probes[0].score - probes[-1].score), 2)
    assert 20 < target < 60
    result = ask(shots, out, target=target)
    assert result.is_met
    assert result.best.quality == max(p.quality for p in probes if p.score >= target)
    assert "the prior knows VMAF only" in " ".join(result.best.sentences)


def test_few_encodes_and_what_a_row_holds_is_what_a_probe_says(
    shots: Path, every: tuple[Path, list[Probe]], tmp_path: Path
) -> None:
    _, probes = every
    cells: list[Any] = []
    target = round((probes[3].score + probes[4].score) / 2, 2)

    def told(event: Any) -> None:
        cells.extend([event] if isinstance(event, CellEvent) else [])

    result = ask(shots, tmp_path / "run", told, target=target)
    assert result.best.quality == probes[3].quality
    assert len(cells) == 3 * len(result.probes) and len(result.probes) <= 5
    best = result.best.probe
    assert best is not None
    rows = [
        row
        for row in latest(tmp_path / "run/cells.jsonl").values()
        if row.crf == result.best.quality
    ]
    means = [row.metrics.ssim.mean for row in rows if row.metrics and row.metrics.ssim]
    assert len(means) == 3 and all(mean is not None for mean in means)
    assert best.metrics["ssim"] == pytest.approx(sum(m or 0 for m in means) / 3, abs=1e-9)
    assert best.score == pytest.approx(best.metrics["xpsnr"])
    (question,) = read(tmp_path / "run").questions
    assert question.asked.metric == "xpsnr" and question.asked.guards


def test_of_cambi_less_is_better(shots: Path, every: tuple[Path, list[Probe]]) -> None:
    out, probes = every
    values = [p.metrics["cambi"] for p in probes]
    known = [value for value in values if value is not None]
    target = sorted(known)[len(known) // 2]
    result = ask(shots, out, metric="cambi", target=target)
    meets = [p.quality for p in probes if (p.metrics["cambi"] or 0) <= target]
    assert result.is_met and result.best.quality in meets
    assert result.best.score is not None and result.best.score <= target


def test_a_guard_moves_the_answer_to_the_coarsest_value_that_keeps_it(
    shots: Path, every: tuple[Path, list[Probe]]
) -> None:
    out, probes = every
    target = round(probes[-2].score - 0.01, 2)
    free = ask(shots, out, target=target)
    assert free.best.quality == probes[-2].quality
    ssims = [p.metrics["ssim"] or 0 for p in probes]
    limit = (ssims[3] + ssims[4]) / 2
    guards = (Goal(metric="ssim", limit=limit), *WANTED.guards)
    held = ask(shots, out, target=target, guards=guards)
    assert held.is_met and held.best.quality == probes[3].quality
    said = " ".join(held.best.sentences)
    assert "does not keep ssim>=" in said and "is the coarsest that does" in said
    broken = ask(shots, out, target=target, guards=(Goal(metric="ssim", limit=2), *WANTED.guards))
    assert not broken.is_met and broken.best.quality == free.best.quality
    assert f"no finer value down to {LOW} does" in " ".join(broken.best.sentences)


def test_a_guard_beside_a_vmaf_target(shots: Path, every: tuple[Path, list[Probe]]) -> None:
    out, probes = every
    limit = round((probes[2].score + probes[3].score) / 2, 3)
    guards = (Goal(metric="xpsnr", limit=limit), *WANTED.guards)
    result = ask(shots, out, metric="vmaf", target=40, guards=guards, stop="proven")
    assert result.is_met and result.best.quality == probes[2].quality
    assert result.request.measured == ("xpsnr", "ssim", "cambi")


def test_a_target_out_of_reach_names_the_best(shots: Path, every: tuple[Path, list[Probe]]) -> None:
    out, probes = every
    result = ask(shots, out, target=90)
    assert not result.is_met and result.best.quality == LOW
    assert result.best.score == pytest.approx(probes[0].score)
    assert "no value from 22 to 31 gives xpsnr>=90" in result.best.sentences[0]


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"metric": "ssim", "target": 40}, "it goes from 0 to 1"),
        ({"metric": "vif"}, "no metric 'vif'"),
        ({"metric": "cambi", "statistic": "harmonic"}, "no harmonic mean"),
        ({"metric": "ms_ssim", "target": 0.9}, "sides of at least 176 pixels"),
        ({"metric": "xpsnr", "target": -3}, "must be above 0"),
    ],
)
def test_what_makes_no_sense_is_refused(
    shots: Path, tmp_path: Path, changes: dict[str, Any], said: str
) -> None:
    with pytest.raises(UsageError, match=said):
        ask(shots, tmp_path / "run", **changes)
    assert not (tmp_path / "run").exists()


def test_exit_code_7_with_a_sentence(shots: Path, tool: Any) -> None:
    flags = ("--preset", "ultrafast", "--min-quality", "30", "--max-quality", "31", "--jobs", "2")
    few = ("--samples", "1", "--sample-seconds", "0.5", "--out", "run")
    done = tool.run(
        "find", shots, *flags, *few, "--target", "psnr=20", "--guard", "ssim>=1.5", code=7
    )
    assert "mean PSNR 20 with ssim>=1.5 is not met" in done.stderr
    assert "no finer value down to 30 does" in done.stderr
    table = tool.run("find", shots, *flags, *few, "--target", "psnr=20", "--metrics", "ssim")
    assert "PSNR" in table.stdout and "SSIM" in table.stdout


def curve(quality: float) -> float:
    """A smooth made-up one."""
    return 60 - 0.6 * quality


@pytest.mark.parametrize("limit", [31.0, 38.4, 45.0, 59.9, 60.0])
def test_the_plain_search_finds_what_all_values_say(limit: float) -> None:
    values = [float(q) for q in range(52)]
    search = PlainSearch(name="made up", goal=goal_of("xpsnr", limit, "mean"), values=values)
    asked = 0
    while (quality := search.ask()) is not None:
        asked += 1
        assert asked < 12
        search.tell(quality, curve(quality))
    assert search.answer.quality == max(q for q in values if curve(q) >= limit)
    assert asked <= 7 and search.answer.stop == "proven" and search.answer.num_encodes == asked


def test_the_plain_search_ends_on_any_curve() -> None:
    """Not monotone, flat, infinite: what it answers was measured and meets the target."""
    values = [float(q) for q in range(64)]
    shapes: list[Callable[[float], float]] = [
        lambda q: 50.0,
        lambda q: 10.0,
        lambda q: 40.0 + (q * 7919 % 13),
        lambda q: float("inf") if q < 9 else 41.0 - q,
    ]
    for shape in shapes:
        search = PlainSearch(name="odd", goal=goal_of("psnr", 45, "mean"), values=values)
        asked: list[float] = []
        while (quality := search.ask()) is not None:
            assert quality not in asked and len(asked) < 16
            asked.append(quality)
            search.tell(quality, shape(quality))
        answer = search.answer
        if answer.kind == "met":
            assert answer.quality in asked and shape(answer.quality or 0) >= 45


def test_the_plain_search_stops_near_enough_where_asked() -> None:
    values = [float(q) for q in range(52)]
    goal = goal_of("xpsnr", 40, "mean")
    search = PlainSearch(name="near", goal=goal, values=values, stop="tolerance=3")
    while (quality := search.ask()) is not None:
        search.tell(quality, curve(quality))
    assert search.answer.stop == "tolerance" and 40 <= (search.answer.score or 0) < 43
