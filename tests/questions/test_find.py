"""`find` on real films: the answer is that of an exhaustive sweep, and no encode is made twice."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from priors import shipped
from vmaf_train.prior import dump
from vmaftune import api
from vmaftune.asking import finding
from vmaftune.engine.events import CellEvent, ProbeEvent
from vmaftune.errors import TargetMissed, UsageError
from vmaftune.questions.find import Finder
from vmaftune.report.read import read
from vmaftune.request.flags import Texts

LOW, HIGH = 26, 37


@pytest.fixture(scope="session")
def model_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A registry that holds a prior of the mean, as `ship` writes it."""
    folder = tmp_path_factory.mktemp("models")
    data = dump(shipped())
    name = "quality_prior.json"
    entry = {"id": "quality_prior", "file": name, "sha256": hashlib.sha256(data).hexdigest()}
    (folder / "tiny").mkdir()
    (folder / "tiny" / name).write_bytes(data)
    registry = {"schema_version": 2, "entries": [entry], "models": [entry]}
    (folder / "tiny" / "registry.json").write_text(json.dumps(registry))
    return folder


class Asked:
    """What a question told while it ran."""

    def __init__(self) -> None:
        self.probes: list[ProbeEvent] = []
        self.cells = 0

    def __call__(self, event: Any) -> None:
        if isinstance(event, ProbeEvent):
            self.probes.append(event)
        self.cells += isinstance(event, CellEvent)


@pytest.fixture(scope="session")
def short(film: Callable[..., Any]) -> Any:
    return film("eight shots.mkv", shots=8, size="128x72")


WANTED = api.Wanted(
    target=88, min_quality=LOW, max_quality=HIGH, stop="proven", samples=5, sample_seconds=1
)


@pytest.fixture(scope="session")
def whole_curve(
    short: Any, model_dir: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, dict[float, float]]:
    """The film's folder after every quality value was measured, and the curve."""
    out = tmp_path_factory.mktemp("sweep") / "run"
    running = api.Running(out=out, model_dir=model_dir, jobs=2)
    question = finding.find_question(
        Texts(sources=(str(short.path),), encoders="x264", presets="ultrafast"), WANTED, running
    )
    curve: dict[float, float] = {}
    with finding.open_study(question) as study:  # which prepares a window once for all values
        for quality in range(LOW, HIGH + 1):
            fixed = replace(question.request.candidates[0], low=quality, high=quality)
            finder = Finder(replace(question.request, candidates=(fixed,)), study, shipped())
            finding.drive(question, finder.run(), None)
            curve[quality] = next(p.score for p in finder.probes if p.quality == quality)
    return out, curve


def search(
    short: Any, out: Path, model_dir: Path, told: Asked | None = None, **changes: Any
) -> Any:
    return api.find(
        short.path,
        encoders="x264",
        presets="ultrafast",
        wanted=replace(WANTED, **changes),
        running=api.Running(out=out, model_dir=model_dir, jobs=2),
        on_event=told,
    )


@pytest.mark.parametrize("target", [78, 84, 88])
def test_the_answer_is_that_of_an_exhaustive_sweep(
    short: Any, whole_curve: Any, model_dir: Path, target: float
) -> None:
    out, curve = whole_curve
    result = search(short, out, model_dir, target=target)
    meets = [quality for quality, score in curve.items() if score >= target]
    assert result.best.quality == max(meets)
    assert result.best.score == pytest.approx(curve[max(meets)], abs=1e-9)
    assert result.is_met


@dataclass(frozen=True, slots=True, kw_only=True)
class Searches:
    """A folder in which three searches ran, and what each told."""

    out: Path
    first: Asked
    again: Asked
    other: Asked
    result: Any
    repeated: Any


@pytest.fixture(scope="module")
def searches(short: Any, model_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Searches:
    """A search, the same again, and one for another target, in a new folder."""
    out = tmp_path_factory.mktemp("searches") / "run"
    first, again, other = Asked(), Asked(), Asked()
    result = search(short, out, model_dir, first)
    repeated = search(short, out, model_dir, again)
    search(short, out, model_dir, other, target=82)
    return Searches(
        out=out, first=first, again=again, other=other, result=result, repeated=repeated
    )


def test_few_encodes_and_none_twice(searches: Searches) -> None:
    first = searches.first
    assert 2 <= len(first.probes) <= 5
    assert first.cells == 5 * len(first.probes)
    assert searches.repeated.best.quality == searches.result.best.quality
    assert searches.repeated.best.score == searches.result.best.score
    assert searches.again.cells == 0, "what was measured is not measured again"
    assert searches.other.cells < first.cells, "a second target builds on the first"


def test_the_folder_keeps_what_was_asked_and_the_report_shows_it(searches: Searches) -> None:
    first, again, other = read(searches.out).questions
    assert [q.asked.target for q in (first, again, other)] == [88, 88, 82]
    assert [p.quality for p in first.probes] == [p.quality for p in searches.first.probes]
    answer = first.answers[0]
    assert answer.told.quality == searches.result.best.quality and answer.told.curve is not None
    assert {q for q, _, _ in answer.told.measured} == {p.quality for p in first.probes}
    means = [w.mean for w in answer.windows]
    assert len(means) == 5
    assert sum(means) / 5 == pytest.approx(searches.result.best.score, abs=0.01)
    knows = {q for q, _, _ in other.answers[0].told.measured}
    assert knows >= {p.quality for p in first.probes}, "a later question knows the earlier ones"


def test_a_target_out_of_reach_is_an_answer(short: Any, whole_curve: Any, model_dir: Path) -> None:
    out, curve = whole_curve
    result = search(short, out, model_dir, target=100)
    assert not result.is_met
    assert result.best.quality == LOW
    assert result.best.score == pytest.approx(max(curve.values()))
    assert "the best is" in result.best.sentences[0]


def test_a_limit_on_the_bitrate_gives_the_best_within_it(
    short: Any, whole_curve: Any, model_dir: Path
) -> None:
    out, _ = whole_curve
    free = search(short, out, model_dir, target=92)
    limit = free.best.kbps * 0.8
    result = search(short, out, model_dir, target=92, max_kbps=limit)
    assert not result.is_met
    assert result.best.kbps <= limit
    assert result.best.quality > free.best.quality
    finer = [p.kbps for p in result.probes if p.quality == result.best.quality - 1]
    assert finer and finer[0] > limit


def test_a_limit_that_no_value_keeps_is_said_with_the_least_there_is(
    short: Any, whole_curve: Any, model_dir: Path
) -> None:
    out, _ = whole_curve
    result = search(short, out, model_dir, target=92, max_kbps=1)
    least = min(p.kbps for p in result.probes)
    assert not result.is_met and result.best.quality is None
    assert f"even {HIGH}, the coarsest, takes {least:.0f}" in result.best.sentences[1]


def test_an_encoder_that_is_slower_than_allowed_is_not_searched(
    short: Any, whole_curve: Any, model_dir: Path
) -> None:
    out, _ = whole_curve
    with pytest.raises(TargetMissed, match="0.0001 CPU seconds .* raise --max-cpu"):
        search(short, out, model_dir, max_cpu=0.0001)
    assert search(short, out, model_dir, max_cpu=50).is_met


def test_time_that_is_too_short_for_the_whole_film_is_refused(
    short: Any, tmp_path: Path, model_dir: Path
) -> None:
    with pytest.raises(UsageError, match="the whole film is expected to take"):
        search(short, tmp_path / "run", model_dir, full=True, within_s=0.01)


def test_the_command_encodes_the_whole_film(short: Any, whole_curve: Any, model_dir: Path) -> None:
    out, _ = whole_curve
    result = search(short, out, model_dir)
    line = result.command(result.best)
    assert f"-crf {result.best.quality:g}" in line
    assert "-c:a copy" in line and short.path.name in line
    assert result.size_bytes(result.best) == pytest.approx(
        result.best.kbps * 125 * short.num_frames * 1001 / 24000, rel=1e-6
    )


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"target": 0}, "--target"),
        ({"statistic": "avg"}, "--stat avg"),
        ({"min_quality": 40, "max_quality": 20}, "above --max-quality"),
        ({"max_quality": 99}, "out of range"),
        ({"sample_seconds": 0}, "--sample-seconds"),
    ],
)
def test_what_makes_no_sense_is_refused_before_anything_runs(
    short: Any, tmp_path: Path, changes: dict[str, Any], said: str
) -> None:
    with pytest.raises(UsageError, match=said):
        search(short, tmp_path / "run", tmp_path, **changes)
    assert not (tmp_path / "run").exists()


def test_windows_are_added_until_the_score_is_known_well_enough(
    film: Callable[..., Any], model_dir: Path, tmp_path: Path
) -> None:
    restless = film("twenty shots.mkv", shots=20, size="128x72")
    told = Asked()
    wanted = api.Wanted(
        target=85, min_quality=24, max_quality=26, sample_seconds=0.5, within_points=0.3
    )
    running = api.Running(out=tmp_path / "run", model_dir=model_dir, jobs=2)
    result = api.find(
        restless.path, presets="ultrafast", wanted=wanted, running=running, on_event=told
    )
    probe = result.best.probe
    assert probe is not None and probe.num_windows > 8
    most = len(result.request.sample.windows)
    assert probe.error <= 0.3 or probe.num_windows == most
    assert {p.num_windows for p in told.probes} == {probe.num_windows}


def test_several_encoders_asked_again_cost_nothing_and_the_rest_is_foretold(
    film: Callable[..., Any], model_dir: Path, tmp_path: Path
) -> None:
    one = film("one shot.mkv", shots=1, size="160x90")
    first, again = Asked(), Asked()

    def ask(told: Asked) -> Any:
        return api.find(
            one.path,
            encoders="x264,x265,svtav1",
            presets="x264=ultrafast;x265=ultrafast;svtav1=10",
            wanted=api.Wanted(target=85),
            running=api.Running(out=tmp_path / "run", model_dir=model_dir, jobs=2),
            on_event=told,
        )

    result, repeated = ask(first), ask(again)
    assert again.cells == 0 and again.probes == []
    assert [f.candidate.name for f in repeated.found] == [f.candidate.name for f in result.found]
    assert [f.quality for f in repeated.found] == [f.quality for f in result.found]
    (foretold,) = [f for f in result.found if f.probe is None]
    low, high = foretold.kbps_interval
    assert low < foretold.kbps < high and foretold.sentences[0] == "foretold, not measured"
    for found in result.found[:2]:
        borrowed = [said for said in found.sentences if "borrows" in said]
        assert all(found.candidate.name in said for said in borrowed), "others' notes are not its"
