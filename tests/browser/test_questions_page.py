"""The report of a folder that a question measured, in a real browser."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import asked
import pytest
from vmaftune.report.build import build, write_page


@pytest.fixture(scope="module")
def page_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = asked.write(tmp_path_factory.mktemp("runs") / "find", film="films/</script><i>x.mkv")
    return write_page(build(folder), folder / "report.html")


@pytest.fixture
def open_at(chromium: Any, page_file: Path, visit_type: Any) -> Iterator[Callable[..., Any]]:
    contexts = []

    def open_page(width: int = 1280) -> Any:
        contexts.append(
            chromium.new_context(viewport={"width": width, "height": 900}, offline=True)
        )
        visit = visit_type(contexts[-1].new_page())
        visit.page.goto(page_file.as_uri())
        visit.until("document.getElementById('equal-plot')?.data !== undefined")
        return visit

    yield open_page
    for context in contexts:
        context.close()


def test_the_question_that_was_answered_is_drawn(open_at: Callable[..., Any]) -> None:
    visit = open_at()
    visit.page.select_option("#question", "0")
    assert visit.names("told-plot") >= {"80% band", "foretold", "measured"}
    points = {t["name"]: t["points"] for t in visit.traces("bracket-plot")}
    assert points == {"still possible": 3, "meets the target": 2, "misses it": 1}
    assert max(t["points"] for t in visit.traces("window-plot")) == asked.WINDOWS
    assert [t["points"] for t in visit.traces("equal-plot")] == [3]
    assert "27 meets, 28 misses" in visit.page.inner_text("#probe-table")
    assert "150 to 220" in visit.page.inner_text("#answer-table")
    assert visit.page.inner_text("#question-command") == "ffmpeg -i film.mkv out.mkv"
    assert visit.complaints == []


def test_another_encoder_has_its_own_curve_and_bracket(open_at: Callable[..., Any]) -> None:
    visit = open_at()
    visit.page.select_option("#question", "0")
    visit.page.select_option("#question-answer", "1")
    assert {t["name"]: t["points"] for t in visit.traces("told-plot")}["measured"] == 1
    visit.page.select_option("#question-answer", "2")
    said = visit.page.inner_text("#told-plot ~ .printed, #told-plot")
    assert "No curve was foretold" in said
    assert visit.complaints == []


@pytest.mark.parametrize("width", [1280, 360])
def test_a_question_that_was_stopped_says_so(open_at: Callable[..., Any], width: int) -> None:
    visit = open_at(width)
    assert visit.page.input_value("#question") == "1", "the newest comes first"
    assert "stopped before it had an answer" in visit.page.inner_text("#question-said")
    wide = visit.page.evaluate("document.documentElement.scrollWidth")
    assert wide <= width
    assert visit.complaints == []
    assert len(visit.requests) == 1
