"""The report page in a real browser: loads offline, filters, hovers, keeps hostile names as text,
fits small screens.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from vmaf_train.errors import DatasetError

HOSTILE = "</script><script>alert(1)</script>"
PHONE = {"viewport": {"width": 360, "height": 740}, "has_touch": True}


def test_loads_offline_without_a_word(visit: Any, report_file: Path) -> None:
    for width in (1280, 700, 1280):
        visit.page.set_viewport_size({"width": width, "height": 900})
    visit.page.select_option("#rate-source", "all")
    visit.page.wait_for_timeout(300)
    assert visit.complaints == []
    assert visit.requests == [report_file.as_uri()]


def test_every_figure_is_drawn_and_described(visit: Any) -> None:
    described = (
        "p => [p.id, p.data.length, p.querySelector('svg[role=img]').getAttribute('aria-label')]"
    )
    plots = visit.page.eval_on_selector_all(".plot", f"all => all.map({described})")
    assert len(plots) == 8
    for plot, traces, words in plots:
        assert traces > 0 and len(words) > 40, plot


def test_encoder_filter_selects_traces_everywhere(visit: Any) -> None:
    assert {"libx264 medium", "libaom-av1 4", "convex hull"} <= visit.names("rate-plot")
    visit.page.uncheck("label.encoder:has-text('libaom-av1') input")
    for plot in ("rate-plot", "reach-plot", "speed-plot"):
        left = visit.names(plot)
        assert left and not [name for name in left if "aom" in name], plot
    assert "libaom-av1" not in visit.page.inner_text("#bd-table")
    assert "5 sources, 13 encoder and preset pairs" in visit.page.inner_text("#status")


def test_preset_filter_keeps_the_encoder(visit: Any) -> None:
    visit.page.uncheck("label.preset:has-text('veryfast') input >> nth=0")
    assert "libx264 veryfast" not in visit.names("rate-plot") and "libx264 slow" in visit.names(
        "rate-plot"
    )
    mixed = visit.page.eval_on_selector(
        "label.encoder:has-text('libx264') input", "box => [box.checked, box.indeterminate]"
    )
    assert mixed == [True, True]


def test_source_filter_changes_choices_and_averages(visit: Any) -> None:
    visit.page.click("#filter-sources button:has-text('None')")
    visit.page.check("label.source:has-text('clip_00_1080p') input")
    assert visit.page.eval_on_selector_all(
        "#rate-source option", "all => all.map(o => o.text)"
    ) == [
        "clip_00_1080p",
        "All sources, side by side",
    ]
    assert visit.traces("pair-plot")[0]["points"] == 1
    assert "mean over 1 source," in visit.page.inner_text("#bd-table caption")


def test_nothing_selected_is_no_error(visit: Any) -> None:
    visit.page.click("#filter-encoders button:has-text('None')")
    visit.page.click("#filter-sources button:has-text('None')")
    assert visit.page.inner_text("#status").startswith("Showing 0 of ")
    for plot in visit.page.query_selector_all(".plot:not(#bands-plot)"):
        assert (
            plot.eval_on_selector("svg[role=img]", "svg => svg.getAttribute('aria-label')")
            == "Nothing is selected."
        )
        assert plot.inner_text().strip() == "Nothing is selected."
        assert not plot.evaluate("p => p.data.length")
    visit.page.click("#filter-encoders button:has-text('All')")
    visit.page.click("#filter-sources button:has-text('All')")
    assert visit.complaints == [] and len(visit.names("rate-plot")) == 17


def test_the_matrix_is_what_json_says(visit: Any, document: dict[str, Any]) -> None:
    visit.page.select_option("#bd-presets", "all")
    for pool in ("mean", "median"):
        visit.page.select_option("#bd-pool", pool)
        grid = visit.page.eval_on_selector_all(
            "#bd-table tbody tr", "rows => rows.map(r => [...r.cells].map(c => c.textContent))"
        )
        labels = [row[0] for row in grid]
        shown = {(row[0], labels[i]): text for row in grid for i, text in enumerate(row[1:])}
        assert len(shown) == 16 * 16
        for pair in document["bd_rate"]:
            text = re.sub(r"[†%+].*$", "", shown[pair["test"], pair["anchor"]].lstrip("+")).replace(
                "−", "-"
            )
            assert float(text) == pytest.approx(pair[pool], abs=0.06)


def test_the_hull_is_what_json_says(visit: Any, document: dict[str, Any]) -> None:
    for name in document["sources"]:
        visit.page.select_option("#rate-source", label=name)
        shown = visit.page.evaluate(
            "hull(Number(document.getElementById('rate-source').value)).map(i => cells.kbps[i])"
        )
        assert shown == [round(p["bitrate_kbps"], 2) for p in document["convex_hull"][name]]


def test_quality_table_follows_the_target(visit: Any, document: dict[str, Any]) -> None:
    for target in (93, 80):
        visit.page.fill("#target", str(target))
        visit.page.press("#target", "Enter")
        rows = visit.page.eval_on_selector_all(
            "#reach-table tbody tr", "rows => rows.map(r => [...r.cells].map(c => c.textContent))"
        )
        wanted = {c["curve"]: c["targets"][str(target)] for c in document["quality_for"]}
        assert rows and f"VMAF {target}" in visit.page.inner_text("#reach-table caption")
        for label, _, half, most, *_ in rows:
            assert float(half.lstrip("≥ ")) == wanted[label]["median"]
            assert float(most.lstrip("≥ ")) == wanted[label]["for_90_percent"]


def test_commands_for_a_whole_file_follow_the_target(visit: Any) -> None:
    for target in (93, 80):
        visit.page.fill("#target", str(target))
        visit.page.press("#target", "Enter")
        rows = visit.page.eval_on_selector_all(
            "#reach-table tbody tr", "rows => rows.map(r => [...r.cells].map(c => c.textContent))"
        )
        typed = visit.page.eval_on_selector_all(
            "#reach-commands pre", "all => all.map(e => e.textContent)"
        )
        values = [row[3].lstrip("≥ ") for row in rows if row[3] != "out of reach"]
        assert typed and len(typed) == len(values)
        for value, command in zip(values, typed, strict=True):
            assert command.startswith("ffmpeg -i film.mkv -c:v lib")
            assert f" {value} " in command and command.endswith(" -c:a copy out.mkv")


def test_a_cell_shows_how_to_encode_the_whole_file_so(visit: Any) -> None:
    visit.page.select_option("#frames-curve", label="libx264 slow")
    assert " -preset slow -crf " in visit.page.inner_text("#frames-film-command")


def _mark(visit: Any) -> tuple[float, float]:
    """Screen position of a mark that no other mark covers: the first of the only shown curve."""
    visit.page.click("#filter-encoders button:has-text('None')")
    visit.page.check("label.preset:has(span:text-is('fast')) input")
    place = visit.page.locator("#rate-plot .points path").nth(2).bounding_box()
    return place["x"] + place["width"] / 2, place["y"] + place["height"] / 2


def test_hover_shows_the_command(visit: Any) -> None:
    visit.page.locator("#rate-plot").scroll_into_view_if_needed()
    visit.page.mouse.move(*_mark(visit))
    visit.page.wait_for_selector("#rate-plot .hovertext")
    text = visit.page.locator("#rate-plot .hovertext").text_content()
    assert "ffmpeg -i {ref} -c:v libvvenc -preset fast -qp 32" in text
    assert HOSTILE in text


def test_a_pressed_mark_shows_its_frames(visit: Any) -> None:
    visit.page.locator("#rate-plot").scroll_into_view_if_needed()
    where = _mark(visit)
    visit.page.mouse.move(*where)
    visit.page.wait_for_selector("#rate-plot .hovertext")
    visit.page.mouse.click(*where)
    visit.until("document.getElementById('frames-command').textContent.includes('libvvenc')")
    line, worst = visit.traces("frames-plot")
    assert line["points"] == 60 and 1 <= worst["points"] <= 5
    lines = "document.getElementById('frames-plot').data"
    assert visit.page.evaluate(f"Math.min(...{lines}[0].y) === {lines}[1].y[0]")
    assert HOSTILE in visit.page.inner_text("#frames-table caption")


def test_hostile_names_are_text(visit: Any) -> None:
    assert visit.page.inner_text("h1") == "a 'sweep' & <more>"
    assert visit.page.eval_on_selector_all("script", "all => all.length") == 6
    assert HOSTILE in visit.page.inner_text("#filter-sources")
    visit.page.select_option("#rate-source", "all")
    titles = visit.page.eval_on_selector_all(
        "#rate-plot .annotation-text", "all => all.map(t => t.textContent)"
    )
    assert HOSTILE in titles and "a \"quoted\" & <b>bold</b> 'name'" in titles
    assert visit.page.locator("b, main script").count() == 0
    assert visit.complaints == []


def test_filters_work_from_the_keyboard(visit: Any) -> None:
    visit.page.keyboard.press("Tab")
    assert visit.page.evaluate("document.activeElement.className") == "skip"
    for _ in range(40):
        visit.page.keyboard.press("Tab")
        if visit.page.evaluate("document.activeElement.dataset.filter") == "encoder":
            break
    before = len(visit.names("rate-plot"))
    visit.page.keyboard.press("Space")
    assert len(visit.names("rate-plot")) == before - 3
    assert visit.page.evaluate("document.activeElement.dataset.filter") == "encoder", (
        "the focus stays where it was"
    )
    visit.page.keyboard.press("Space")
    assert len(visit.names("rate-plot")) == before


@pytest.mark.parametrize(
    "visit", [PHONE, {"viewport": {"width": 820, "height": 1100}}], indirect=True
)
def test_small_screens_do_not_scroll_sideways(visit: Any) -> None:
    assert visit.page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
    assert not visit.page.evaluate("document.getElementById('filter-box').open")
    visit.page.click("#filter-box summary")
    visit.page.uncheck("label.encoder:has-text('libx264') input")
    assert "libx264 medium" not in visit.names("rate-plot")
    wide = visit.page.eval_on_selector_all(
        ".plot, .controls, select, figcaption",
        "all => all.filter(e => e.getBoundingClientRect().right > innerWidth + 1).map(e => e.id)",
    )
    assert wide == []


LUMINANCE = """selector => {
  const style = getComputedStyle(document.querySelector(selector));
  const [r, g, b] = style.backgroundColor.match(/\\d+/g).map(Number);
  return (r + g + b) / 765;
}"""


def test_dark_and_light_follow_the_reader(visit: Any) -> None:
    ink = "document.getElementById('rate-plot').layout.font.color"
    assert visit.page.evaluate(LUMINANCE, "section") > 0.9
    light = visit.page.evaluate(ink)
    visit.page.emulate_media(color_scheme="dark")
    visit.until(f"{ink} !== {light!r}")
    assert visit.page.evaluate(LUMINANCE, "section") < 0.2
    visit.page.emulate_media(color_scheme="dark", media="print")
    visit.until(f"{ink} === '#000'")
    assert visit.page.evaluate(LUMINANCE, "section") > 0.9
    assert not visit.page.is_visible("#filters") and visit.page.is_visible("#printed")


def test_model_figures_can_be_coloured_by_group(visit: Any) -> None:
    assert visit.names("scatter-plot") == {"libsvtav1", "libvvenc", "libx264"}
    visit.page.select_option("#scatter-by", "group")
    assert len(visit.names("scatter-plot")) == 9
    assert visit.page.locator("#model td.hold").inner_text() == "hold"


def test_a_curve_on_fewer_sources_is_marked(opened: Callable[..., Any]) -> None:
    def only_two(row: dict[str, Any]) -> dict[str, Any] | None:
        return (
            None
            if row["preset"] == "slow" and row["src"] != HOSTILE and "quoted" not in row["src"]
            else row
        )

    visit = opened(only_two)
    line = visit.page.evaluate(
        "(({x, text, marker}) => [x, text,"
        " marker.symbol])(document.getElementById('speed-plot').data[0])"
    )
    assert line[1][-2:] == [None, "slow<br>2 of 4 sources"] and line[0][-2] is None
    assert line[2] == ["circle", "circle", "circle", "circle-open"]
    assert (
        visit.page.locator("#speed-table tr:has-text('libx264 slow') td").last.text_content()
        == "2 of 4 sources"
    )
    assert visit.complaints == []


def _as_pair(row: dict[str, Any]) -> dict[str, Any] | None:
    unknown = {
        "encoder": "external",
        "preset": None,
        "crf": None,
        "argv": None,
        "rate_control": None,
        "encode_cpu_s": None,
    }
    return (
        {**row, **unknown, "cell": f"{row['src']}/external/take_{row['crf']}"}
        if row["preset"] == "slow"
        else None
    )


def test_a_scored_pair_is_named(opened: Callable[..., Any]) -> None:
    visit = opened(_as_pair)
    assert not visit.page.is_visible("#frames-film"), "nobody knows how to make it again"
    assert "external/take_18 · VMAF" in visit.page.inner_text("#frames-quality")
    assert "/external/take_22<br>" in visit.page.evaluate(
        "document.getElementById('rate-plot').data[1].text.join()"
    )
    assert visit.complaints == []


def test_a_sweep_that_failed_throughout(opened: Callable[..., Any]) -> None:
    error = {
        "class": "encode_failed",
        "message": "no <device>",
        "exit_code": 1,
        "stderr_tail": "",
        "command": "ffmpeg",
    }
    visit = opened(
        lambda row: {
            **row,
            "status": "failed",
            "vmaf_score": None,
            "bitrate_kbps": None,
            "error": error,
        }
    )
    assert "No cell was measured" in visit.page.inner_text("header")
    assert (
        "no <device>" in visit.page.inner_text("#failed")
        and visit.page.locator(".plot").count() == 0
    )
    assert visit.complaints == []


def test_one_curve_has_no_pair(opened: Callable[..., Any]) -> None:
    visit = opened(lambda row: row if row["preset"] == "slow" else None)
    assert visit.traces("pair-plot") == []
    assert (
        visit.page.inner_text("#pair-plot").strip()
        == "The sweep has one curve only: there is nothing to compare it with."
    )
    assert visit.complaints == []


def test_filters_reach_the_model(
    visit: Any, opened: Callable[..., Any], synthetic_run: ModuleType, tmp_path: Path
) -> None:
    visit.page.uncheck("label.encoder:has-text('libsvtav1') input")
    assert visit.names("scatter-plot") == {"libvvenc", "libx264"}
    run = synthetic_run.write(tmp_path / "run")
    grouped = opened(
        lambda row: {**row, "group": "crowd" if row["src"] == HOSTILE else "news"}, run
    )
    before = sum(trace["points"] for trace in grouped.traces("scatter-plot"))
    grouped.page.uncheck(f"label.source:has(span:text-is('{HOSTILE}')) input")
    assert sum(trace["points"] for trace in grouped.traces("scatter-plot")) == before * 8 / 9


def test_curves_are_told_apart_without_colour(visit: Any) -> None:
    looks = visit.page.evaluate(
        "document.getElementById('reach-plot').data.map(t => t.mode + t.marker.symbol +"
        " t.line.dash)"
    )
    assert len(set(looks)) == len(looks) == 6 and all("markers" in look for look in looks)
    form = (
        "s => s.querySelector('polygon').getAttribute('points') +"
        " s.querySelector('line').getAttribute('stroke-dasharray')"
    )
    keys = visit.page.eval_on_selector_all("label.preset svg", f"all => all.map({form})")
    assert len(set(keys)) == len(keys) == 16


def test_names_are_not_markup_in_legends(opened: Callable[..., Any]) -> None:
    preset, encoder, source = (
        "<b>sl</b> %{x} <a href='https://x'>k</a>",
        "ev<i>il</i> %{y}",
        "$a_b$ and %{z}",
    )
    names = {"medium": preset, "slow": "slow"}

    def hostile(row: dict[str, Any]) -> dict[str, Any] | None:
        encoders = {"libx264": "libx264", "libsvtav1": encoder}
        return {
            **row,
            "preset": names.get(row["preset"], "other"),
            "encoder": encoders[row["encoder"]],
            "src": source,
        }

    visit = opened(hostile)
    for plot in ("rate-plot", "reach-plot", "speed-plot"):
        shown = visit.page.eval_on_selector_all(
            f"#{plot} .legendtext", "all => all.map(t => t.textContent)"
        )
        assert any(encoder in text for text in shown), plot
    assert f"libx264 {preset}" in visit.page.eval_on_selector_all(
        "#rate-plot .legendtext", "all => all.map(t => t.textContent)"
    )
    assert visit.page.locator(".plot a").count() == 0
    visit.page.select_option("#rate-source", "all")
    assert source in visit.page.eval_on_selector_all(
        "#rate-plot .annotation-text", "all => all.map(t => t.textContent)"
    )
    assert visit.complaints == []


def test_all_sources_have_a_table(visit: Any) -> None:
    visit.page.select_option("#rate-source", "all")
    assert visit.page.is_visible("#rate-numbers")
    assert visit.page.locator("#rate-table tbody tr").count() == visit.page.evaluate(
        "cells.s.length"
    )
    assert HOSTILE in visit.page.locator("#rate-table tbody tr th").first.text_content()
    assert visit.page.locator("#quality-table tbody tr").count() == 6


def test_print_gives_no_hints_and_keeps_tables_whole(visit: Any) -> None:
    visit.page.emulate_media(media="print")
    assert visit.page.locator(".hint").count() >= 2
    for hint in visit.page.query_selector_all(".hint"):
        assert not hint.is_visible()
    assert (
        visit.page.eval_on_selector("#quality table", "t => getComputedStyle(t).breakInside")
        == "avoid"
    )
    assert "below the figure" not in visit.page.inner_text("#rd") + visit.page.inner_text("#speed")


@pytest.mark.parametrize("visit", [{"viewport": {"width": 390, "height": 844}}], indirect=True)
def test_numbers_and_headings_stay_whole_on_a_phone(visit: Any) -> None:
    lines = "e => e.getBoundingClientRect().height / parseFloat(getComputedStyle(e).lineHeight)"
    assert all(
        height < 1.5
        for height in visit.page.eval_on_selector_all(".tiles dd", f"all => all.map({lines})")
    )
    narrow = visit.page.eval_on_selector_all(
        "#tools table.facts th", "all => all.map(e => e.clientWidth).filter(w => w && w < 100)"
    )
    assert narrow == []


def test_thinned_frames_are_said_to_be(
    opened: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    from vmaftune.report.page import render

    monkeypatch.setattr(render, "MAX_FRAMES", 3000)
    visit = opened(lambda row: row)
    assert re.search(
        r"Each point is the lowest of \d+ frames", visit.page.inner_text("#frames figcaption")
    )
    assert "Lowest VMAF of" in visit.page.evaluate(
        "document.getElementById('frames-plot').layout.yaxis.title.text"
    )
    assert " to " in visit.page.locator("#frames-table tbody th").first.text_content()


def test_a_sweep_that_lost_its_frames_has_no_page(opened: Callable[..., Any]) -> None:
    with pytest.raises(DatasetError, match="has none of its frames"):
        opened(lambda row: row, frames=False)
