"""What a report says about the questions that a folder was measured for."""

from __future__ import annotations

import json
from pathlib import Path

import asked
import pytest
from vmaf_train.errors import DatasetError
from vmaftune.engine.folder import Writer
from vmaftune.report.build import Report, build
from vmaftune.report.page import render
from vmaftune.report.read import read
from vmaftune.report.summary import summary
from vmaftune.report.tables import tables

from schemas import validator


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return asked.write(tmp_path_factory.mktemp("runs") / "find")


@pytest.fixture(scope="module")
def made(folder: Path) -> Report:
    return build(folder)


def test_probes_are_in_order_and_answers_best_first(made: Report) -> None:
    first, stopped = made.analysis.sweep.questions
    assert [p.quality for p in first.probes] == [26, 28, 27, 35]
    assert [a.label for a in first.answers] == ["libx264 fast", "libsvtav1 10", "libx265 slow"]
    assert first.asked.target == 93 and first.film == "b>.mkv"
    assert stopped.asked.target == 99 and stopped.answers == ()


def test_windows_of_an_answer_are_in_the_order_of_the_film(made: Report) -> None:
    answer, _, foretold = made.analysis.sweep.questions[0].answers
    assert [w.start_s for w in answer.windows] == [70.5 + 2 * i for i in range(asked.WINDOWS)]
    assert answer.windows[0].lowest == pytest.approx(92.2)
    assert answer.windows[0].mean == pytest.approx(92.2 + 0.125)
    assert foretold.windows == ()


def test_a_long_window_is_shown_in_stretches(tmp_path: Path) -> None:
    place = tmp_path / "whole"
    place.mkdir()
    from forged import measured

    writer = Writer(place)
    writer.append(*measured("film/libx264/fast/27", [90.0] * 50 + [80.0] * 75))
    writer.note([asked.to_json(asked.question()), asked.to_json(asked.answer(asked.FILM, 2))])
    windows = read(place).questions[0].answers[0].windows
    assert [w.start_s for w in windows] == [0.0, 2.0, 4.0]
    assert [w.mean for w in windows] == [90.0, 80.0, 80.0]


def test_the_report_says_what_was_asked_and_answered(made: Report) -> None:
    said = summary(made.analysis)
    assert said[0].startswith("Asked for mean VMAF 93 on")
    assert "libx264 fast at 27 with 93.20, 200 kbit/s (proven)" in said[0]
    assert "stopped before there was an answer" in said[1]
    titles = [table.title for table in tables(made.analysis, None)]
    assert any(title.startswith("Measured for mean VMAF 93") for title in titles)
    rows = next(t.rows for t in tables(made.analysis, None) if t.title.startswith("Answers"))
    assert [row[-1] for row in rows] == ["proven", "proven", "foretold"]


def test_the_newest_target_is_what_values_are_looked_up_for(folder: Path) -> None:
    assert build(folder).analysis.target in (93, 99)
    assert build(folder, target=80).analysis.target == 80


def test_page_and_document_hold_everything(made: Report) -> None:
    page = render.render(made.analysis, None)
    assert 'id="told-plot"' in page and "drawBracket" in page
    document = made.document()
    validator("report").validate(json.loads(json.dumps(document)))
    questions = json.loads(json.dumps(document["questions"], allow_nan=False))
    assert questions[0]["answers"][0]["curve"]["quality"] == asked.QUALITY
    assert len(questions[0]["answers"][0]["windows"]) == asked.WINDOWS
    assert questions[0]["probes"][1]["bracket"] == [26, 28]


def test_a_folder_without_questions_has_no_such_section(small: Path) -> None:
    page = render.render(build(small).analysis, None)
    assert 'id="told-plot"' not in page and "drawBracket" not in page


def test_half_a_line_is_passed_over_and_mended(tmp_path: Path) -> None:
    folder = asked.write(tmp_path / "find")
    asked.tear(folder)
    assert len(read(folder).questions) == 2
    writer = Writer(folder)
    assert any("questions.jsonl: a torn last line" in notice for notice in writer.notices)
    writer.note([asked.to_json(asked.question(target=80))])
    assert [q.asked.target for q in read(folder).questions] == [93, 99, 80]


def test_a_line_of_another_kind_is_named(tmp_path: Path) -> None:
    folder = asked.write(tmp_path / "find")
    with (folder / "questions.jsonl").open("a") as file:
        file.write('{"event": "probe", "encoder": 3}\n')
    with pytest.raises(
        DatasetError, match=r"questions\.jsonl:11: .*question, probe, answer or ladder"
    ):
        read(folder)
