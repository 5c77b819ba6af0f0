"""The report of a folder that a ladder measured, in a real browser."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import laddered
import pytest
from vmaftune.report.build import build, write_page


@pytest.fixture(scope="module")
def page_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("runs") / "ladder"
    folder = laddered.write(place, film="films/</script><i>%{x}.mkv")
    return write_page(build(folder), folder / "report.html")


@pytest.fixture
def open_at(chromium: Any, page_file: Path, visit_type: Any) -> Iterator[Callable[..., Any]]:
    contexts = []

    def open_page(width: int = 1280, scheme: str = "light") -> Any:
        size = {"width": width, "height": 900}
        contexts.append(chromium.new_context(viewport=size, offline=True, color_scheme=scheme))
        visit = visit_type(contexts[-1].new_page())
        visit.page.goto(page_file.as_uri())
        visit.until("document.getElementById('hulls-plot')?.data !== undefined")
        return visit

    yield open_page
    for context in contexts:
        context.close()


def test_hull_crossovers_rungs_and_a_fixed_ladder_are_drawn(open_at: Callable[..., Any]) -> None:
    visit = open_at()
    points = {trace["name"]: trace["points"] for trace in visit.traces("ladder-plot")}
    assert points == {
        "cheapest size": 4,
        "1920x1080": 2,
        "1280x720": 2,
        "rungs": 3,
        "fixed ladder": 2,
    }
    script = "() => document.getElementById('ladder-plot').layout.annotations.map(a => a.text)"
    assert visit.page.evaluate(script) == ["1920x1080 from here"]
    assert "libsvtav1 5" in visit.page.inner_text("#rung-table caption"), "the newest comes first"
    assert visit.page.locator("#rung-table tbody tr").count() == 3
    assert "96.11" in visit.page.inner_text("#rung-table"), "what was measured inside the file"
    assert "86.4" in visit.page.inner_text("#crossing-table")
    assert "+53%" in visit.page.inner_text("#fixed-table")
    assert "–" in visit.page.inner_text("#fixed-table tbody tr:last-child")
    assert "12% of the bits" in visit.page.inner_text("#ladder-said")
    assert visit.page.inner_text("#ladder-commands").count("ffmpeg ") == 3
    assert visit.page.inner_text("#ladder-playlist").count("BANDWIDTH") == 3
    assert visit.complaints == []


def test_another_encoder_has_a_ladder_of_its_own(open_at: Callable[..., Any]) -> None:
    visit = open_at()
    assert visit.page.locator("#ladder option").count() == 2, "the last one of each encoder"
    visit.page.select_option("#ladder", "0")
    assert "libx264 slow" in visit.page.inner_text("#rung-table caption")
    assert "inside the file" not in visit.page.inner_text("#rung-table")
    assert visit.names("hulls-plot") == {"libx264 slow", "libsvtav1 5", "rungs"}
    table = visit.page.inner_text("#hulls-table")
    assert "−30.0%" in table and "+42.9%" in table
    assert visit.complaints == []


@pytest.mark.parametrize(("width", "scheme"), [(1280, "dark"), (360, "light")])
def test_it_fits_a_phone_and_the_dark(open_at: Callable[..., Any], width: int, scheme: str) -> None:
    visit = open_at(width, scheme)
    assert visit.page.evaluate("document.documentElement.scrollWidth") <= width
    ink = "getComputedStyle(document.documentElement).getPropertyValue('--ink').trim()"
    script = "() => document.getElementById('ladder-plot').data.find(t => t.name === 'rungs')"
    assert visit.page.evaluate(script)["marker"]["color"] == visit.page.evaluate(ink)
    words = visit.page.get_attribute("#ladder-plot .main-svg", "aria-label")
    assert "Rungs: 1920x1080 with VMAF 96.0" in words
    assert visit.complaints == [] and len(visit.requests) == 1
