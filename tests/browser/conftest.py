"""A real Chromium, driven by Playwright, that reads report pages from disk."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import synthetic as corpus_maker
import synthetic_run as run_maker

FLAGS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)


@pytest.fixture(scope="session")
def synthetic_run() -> ModuleType:
    """The maker of training runs."""
    return run_maker


@pytest.fixture(scope="session")
def chromium() -> Iterator[Any]:
    """The browser. Fails with the way out when it or its driver is not installed."""
    place = shutil.which("chromium") or shutil.which("chromium-browser")
    if place is None:
        pytest.fail(
            "the browser tests need Chromium; install it with: apt-get install chromium",
            pytrace=False,
        )
    try:
        from playwright.sync_api import sync_playwright
    except ModuleNotFoundError:
        pytest.fail(
            "the browser tests need Playwright; install it with: pip install playwright",
            pytrace=False,
        )
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=place, args=list(FLAGS))
        yield browser
        browser.close()


@pytest.fixture(scope="session")
def report_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A page of a sweep of five sources with hostile names and of a training run."""
    from vmaftune.report.build import build, write_page

    synthetic = corpus_maker
    folder = synthetic.write(
        tmp_path_factory.mktemp("sweep") / "a 'sweep' & <more>",
        names=synthetic.sources(5),
        failed=2,
    )
    run = run_maker.write(tmp_path_factory.mktemp("run") / "one")
    return write_page(build(folder, training=run), folder / "report.html")


def _follow(
    file: Path,
    before: list[dict[str, Any]],
    after: list[dict[str, Any] | None],
    *,
    kept: bool,
) -> None:
    """Let frame rows have the names of their changed cells; without `kept` there are none."""
    if not kept:
        file.unlink()
        return
    now = {old["key"]: new for old, new in zip(before, after, strict=True)}
    lines = []
    for line in file.read_text(encoding="utf-8").splitlines():
        frame = json.loads(line)
        row = now.get(frame["key"])
        if row is not None and row["status"] == "ok":
            names = {n: row[n] for n in ("key", "cell", "src", "encoder", "preset", "crf")}
            lines.append(json.dumps(frame | names) + "\n")
    file.write_text("".join(lines), encoding="utf-8")


@pytest.fixture
def opened(chromium: Any, tmp_path: Path) -> Iterator[Callable[..., Visit]]:
    """Opens a page of the synthetic sweep after `change` has been at each of its cell rows (None =
    without the row).
    """
    from vmaftune.report.build import build, write_page

    contexts = []

    def open_page(
        change: Callable[[dict[str, Any]], dict[str, Any] | None],
        model_run: Path | None = None,
        frames: bool = True,
        **settings: Any,
    ) -> Visit:
        synthetic = corpus_maker
        folder = synthetic.write(
            tmp_path / "sweep",
            names=synthetic.sources(4),
            encoders=("libx264", "libsvtav1"),
            failed=0,
        )
        cells = folder / "cells.jsonl"
        before = [json.loads(line) for line in cells.read_text(encoding="utf-8").splitlines()]
        changed = [change(dict(row)) for row in before]
        cells.write_text(
            "".join(json.dumps(row) + "\n" for row in changed if row), encoding="utf-8"
        )
        _follow(folder / "frames.jsonl", before, changed, kept=frames)
        page = write_page(build(folder, training=model_run), tmp_path / "page.html")
        contexts.append(
            chromium.new_context(
                **{"viewport": {"width": 1280, "height": 900}, "offline": True, **settings}
            )
        )
        visit = Visit(contexts[-1].new_page())
        visit.page.goto(page.as_uri())
        visit.until("document.readyState === 'complete'")
        return visit

    yield open_page
    for context in contexts:
        context.close()


@pytest.fixture(scope="session")
def document(report_file: Path) -> dict[str, Any]:
    """What `vmaf-tune report --json` says about the same sweep."""
    from vmaftune.report.build import build

    return build(report_file.parent).document()


class Visit:
    """A page that was opened, with all it complained about and asked for."""

    def __init__(self, page: Any) -> None:
        self.page, self.complaints, self.requests = page, [], []
        page.on("console", lambda message: self.complaints.append(message.text))
        page.on("pageerror", lambda error: self.complaints.append(str(error)))
        page.on(
            "dialog",
            lambda dialog: (self.complaints.append(f"dialog {dialog.message}"), dialog.dismiss()),
        )
        page.on("request", lambda request: self.requests.append(request.url))

    def traces(self, plot: str) -> list[dict[str, Any]]:
        """Name and number of points of every trace of a figure."""
        script = (
            "id => document.getElementById(id).data.map(t => ({name: t.name, points: (t.x ||"
            " []).length}))"
        )
        found: list[dict[str, Any]] = self.page.evaluate(script, plot)
        return found

    def until(self, script: str, seconds: float = 30) -> None:
        """Wait for `script` to be true. (Playwright's own waiting needs eval, which the page's
        policy forbids.)
        """
        end = time.monotonic() + seconds
        while not self.page.evaluate(script):
            assert time.monotonic() < end, f"not true after {seconds:g} s: {script}"
            self.page.wait_for_timeout(50)

    def names(self, plot: str) -> set[str]:
        """Names of a figure's traces."""
        return {trace["name"] for trace in self.traces(plot)}


@pytest.fixture(scope="session")
def visit_type() -> type[Visit]:
    """What opens a page, for tests with pages of their own."""
    return Visit


@pytest.fixture
def visit(chromium: Any, report_file: Path, request: pytest.FixtureRequest) -> Iterator[Visit]:
    """The page in a fresh offline context; `@pytest.mark.parametrize("visit", [{...}],
    indirect=True)` sets the context.
    """
    settings = {
        "viewport": {"width": 1280, "height": 900},
        "offline": True,
        **getattr(request, "param", {}),
    }
    context = chromium.new_context(**settings)
    opened = Visit(context.new_page())
    opened.page.goto(report_file.as_uri())
    opened.until(
        "[...document.querySelectorAll('.plot')].every(plot => plot.data &&"
        " plot.querySelector('.main-svg'))"
    )
    yield opened
    context.close()
