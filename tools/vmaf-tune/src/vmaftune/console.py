"""What a person sees. stdout is the product (tables, JSON), stderr the story (progress, notices).

The only module that knows rich. Everything printed from outside data goes through `Text`, so
brackets in a file name are never read as markup.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import IO, Any, Protocol, Self

from rich.box import SIMPLE_HEAD
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from vmaftune.costs import counted, duration


def _console(stream: IO[str]) -> Console:
    # Without a terminal the width is unknown: 80 columns fit a mail, a pager and a log.
    width = None if stream.isatty() or os.environ.get("COLUMNS") else 80
    return Console(file=stream, width=width, highlight=False, soft_wrap=not stream.isatty())


def open_closed_streams() -> None:
    """Give a process that was started without stdout or stderr (`>&-`) ones that lead nowhere.

    Else the next file to be opened would take their number, and what is printed would be in it.
    """
    for number in (0, 1, 2):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest free number: this one
    if sys.stdout is None:
        sys.stdout = os.fdopen(1, "w", encoding="utf-8", closefd=False)
    if sys.stderr is None:
        sys.stderr = os.fdopen(2, "w", encoding="utf-8", closefd=False)


def is_terminal() -> bool:
    """True when the story is read by a person at a terminal."""
    return sys.stderr.isatty()


def say(message: str, style: str = "") -> None:
    """One line of the story on stderr."""
    _console(sys.stderr).print(Text(message, style=style))


def warn(message: str) -> None:
    """One line of the story that should be noticed."""
    say(f"note: {message}", "yellow")


def error(message: str) -> None:
    """The last line of a command that failed."""
    say(f"error: {message}", "bold red")


def next_command(command: str) -> None:
    """The command a user most likely wants after this one."""
    say(f"next: {command}", "cyan")


def out(text: str) -> None:
    """A piece of the product on stdout, as it is."""
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def json_line(value: Any) -> None:
    """One compact JSON value per line on stdout (NDJSON). Raises ValueError for NaN."""
    out(json.dumps(value, ensure_ascii=False, allow_nan=False))


def json_document(value: Any) -> None:
    """One indented JSON document on stdout. Raises ValueError for NaN."""
    out(json.dumps(value, ensure_ascii=False, allow_nan=False, indent=2))


def cell_text(value: Any) -> str:
    """A table cell: None as a dash, floats with 4 significant places."""
    if value is None:
        return "–"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.4f}" if abs(value) < 10 else f"{value:.2f}"
    return str(value)


def reader_left(failure: BaseException) -> bool:
    """True when nobody reads our output any more (`| head`); what is left to print then goes
    nowhere.

    rich and click turn such a BrokenPipeError into SystemExit(1).
    """
    if not isinstance(failure, BrokenPipeError) and not isinstance(
        failure.__context__, BrokenPipeError
    ):
        return False
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return True


def table(
    title: str,
    columns: Sequence[str],
    rows: Iterable[Sequence[object]],
    *,
    left: int = 1,
    styles: Mapping[str, str] | None = None,
    caption: str | None = None,
) -> None:
    """A table on stdout. The first `left` columns are aligned left, the others right; `styles`
    colours a cell by its text.

    It fits the terminal, and 80 columns without one. Words stay whole as long as there is room for
    the longest of every column; then words of the left columns are broken, never a number.
    """
    console, texts = _console(sys.stdout), [[cell_text(value) for value in row] for row in rows]
    parts = [[name, *(row[i] for row in texts)] for i, name in enumerate(columns)]
    words = [max(len(word) for text in part for word in (*text.split(), "")) for part in parts]
    words = _broken(words, left, console.width - 2 * len(words) - 1)
    console.width = max(console.width, sum(words) + 2 * len(words) + 1)
    roomy, snug = console.width - 3 * len(words) - 1, console.width - 2 * len(words) - 1
    tight = roomy < sum(words) <= snug
    grid = Table(
        title=Text(title, style="table.title") if title else None,
        box=SIMPLE_HEAD,
        title_justify="left",
        caption=caption,
        caption_justify="left",
        collapse_padding=tight,
        pad_edge=not tight,
    )
    widths = _widths(words, [max(map(len, part)) for part in parts], snug if tight else roomy)
    for i, name in enumerate(columns):
        grid.add_column(
            Text(name), justify="left" if i < left else "right", overflow="fold", width=widths[i]
        )
    for row in texts:
        grid.add_row(*(Text(t, style=(styles or {}).get(t, "")) for t in row))
    _print_bare(console, grid)


def _print_bare(console: Console, grid: Table) -> None:
    """Print without what rich adds for looks: blanks to the right, empty lines around."""
    with console.capture() as drawn:
        console.print(grid, soft_wrap=False)
    lines = [line.rstrip() for line in drawn.get().splitlines()]
    out("\n".join(line for line in lines if line))


def _broken(words: Sequence[int], left: int, room: int) -> list[int]:
    """Widths of the longest words once those of the first `left` columns are cut, the longest
    first, until all fit `room` or only 8 letters of each are left.
    """
    widths = list(words)
    for _ in range(max(0, sum(widths) - room)):
        widest = max(range(left), key=lambda i: widths[i], default=None)
        if widest is None or widths[widest] <= 8:
            break
        widths[widest] -= 1
    return widths


def _widths(words: Sequence[int], wanted: Sequence[int], room: int) -> list[int | None]:
    """Widths of columns in `room`: their longest word, and from the left what they want; None where
    rich may choose.
    """
    left = room - sum(words)
    if left < 0:
        return list(words)
    if sum(wanted) <= room:
        return [None] * len(words)
    widths: list[int | None] = []
    for word, full in zip(words, wanted, strict=True):
        widths.append(min(full, word + left))
        left -= min(full - word, left)
    return widths


class Steps(AbstractContextManager["Steps"]):
    """A progress bar on a terminal, a plain line every tenth of the way without one.

    `update(done, text)` takes the absolute number of finished steps.
    """

    def __init__(self, title: str, total: float) -> None:
        self._total, self._title, self._tenth = max(total, 1e-9), title, -1
        self._bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TextColumn("{task.fields[note]}", markup=False),
            console=_console(sys.stderr),
            transient=True,
            disable=not is_terminal(),
            refresh_per_second=4,
        )
        self._task = self._bar.add_task(title, total=total, note="")

    def __enter__(self) -> Steps:
        self._bar.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._bar.stop()

    def update(self, done: float, text: str = "") -> None:
        """Show `done` of `total` steps and a short text."""
        self._bar.update(self._task, completed=done, note=text)
        tenth = int(10 * done / self._total)
        if self._bar.disable and tenth > self._tenth:
            self._tenth = tenth
            say(f"{self._title}: {done:g}/{self._total:g} {text}".rstrip())


class _Shown(AbstractContextManager["_Shown"]):
    """What is shown live, while it is entered, where there is a terminal."""

    _live: Live | None

    def __enter__(self) -> Self:
        if self._live:
            self._live.start()
        return self

    def __exit__(self, *exc: object) -> None:
        if self._live:
            self._live.stop()


def _live_panel(panel: Callable[[], RenderableType]) -> Live | None:
    """A panel that is drawn twice a second on a terminal; None without one."""
    if not is_terminal():
        return None
    return Live(
        console=_console(sys.stderr), refresh_per_second=2, transient=True, get_renderable=panel
    )


class Changing(_Shown):
    """Lines that take each other's place on a terminal; without one they are told anew when they
    change.
    """

    def __init__(self) -> None:
        self._live = (
            Live(console=_console(sys.stderr), auto_refresh=False) if is_terminal() else None
        )
        self._last: Sequence[str] = ()

    def show(self, lines: Sequence[str]) -> None:
        """Show `lines` now."""
        if self._live:
            self._live.update(Group(*map(Text, lines)), refresh=True)
        elif lines != self._last:
            say("\n".join(lines))
        self._last = lines


WORKERS_SHOWN = 6


class WorkerPace(Protocol):
    """What a worker of a cluster has done so far."""

    @property
    def name(self) -> str:
        """As the cluster calls it."""

    @property
    def cells(self) -> int:
        """Finished cells."""

    @property
    def frames_per_s(self) -> float:
        """Frames per second of wall time."""


def worker_lines(paces: Sequence[WorkerPace]) -> list[str]:
    """A line for each worker of a cluster, the slowest first as they come, and how many are not
    shown.
    """
    lines = [
        f"  {pace.name:<24.24}{pace.cells:6} cells {pace.frames_per_s:7.1f} frames/s"
        for pace in paces[:WORKERS_SHOWN]
    ]
    if len(paces) > 1:
        lines[0] += "  (the slowest)"
    if len(paces) > WORKERS_SHOWN:
        lines.append(f"  and {len(paces) - WORKERS_SHOWN} faster workers")
    return lines


class SweepView(_Shown):
    """What a running sweep shows: a live panel on a terminal, plain lines without one, NDJSON
    events with `as_json`.

    `feed` takes every event of a sweep. The ETA is the expected cost of what is left, corrected by
    what the finished cells of the same encoder and preset really took. `paces` tells of the workers
    of a cluster, the slowest first.
    """

    def __init__(
        self,
        costs: Mapping[str, tuple[str, float]],
        jobs: int,
        *,
        as_json: bool,
        paces: Callable[[], Sequence[WorkerPace]] = tuple,
    ) -> None:
        self._costs, self._jobs, self._json = dict(costs), jobs, as_json
        self._paces = paces
        # Running sums by group, so that an ETA does not cost more with more cells.
        self._expected: dict[str, float] = {}
        self._measured: dict[str, float] = {}
        self._left: dict[str, float] = {}
        for group, cost in self._costs.values():
            self._left[group] = self._left.get(group, 0.0) + cost
        self._running: dict[str, tuple[str, float]] = {}
        self._ok = self._failed = self._frames = 0
        self._begin = time.monotonic()
        self._said = self._begin
        self._total = len(self._costs)
        self._live = None if as_json else _live_panel(self._panel)

    def feed(self, event: Mapping[str, Any]) -> None:
        """Show one event of a sweep."""
        kind = event["event"]
        if self._json:
            json_line(event)
        if kind == "notice":
            self._print(f"note: {event['message']}", "yellow")
        elif kind == "start" and not self._json:
            self._print(
                f"{event['folder']}: {counted(event['num_cells'], 'cell')},"
                f" {event['num_done']} done, {event['num_failed']} failed,"
                f" {event['num_left']} to do on {counted(event['jobs'], 'slot')},"
                f" about {duration(event['expected_s'])}"
            )
        elif kind == "stage":
            self._running[event["cell"]] = (event["stage"], time.monotonic())
        elif kind == "cell":
            self._count(event)

    def _count(self, event: Mapping[str, Any]) -> None:
        self._running.pop(event["cell"], None)
        group, cost = self._costs.pop(event["cell"], ("", 0.0))
        self._left[group] = self._left.get(group, 0.0) - cost
        if event["status"] == "ok":
            self._ok += 1
            self._frames += event["num_frames"]
            took = (event["encode_cpu_s"] or 0.0) + (event["score_cpu_s"] or 0.0)
            self._expected[group] = self._expected.get(group, 0.0) + cost
            self._measured[group] = self._measured.get(group, 0.0) + took
        else:
            self._failed += 1
            self._print(f"failed: {event['cell']}: {event['error']}", "red")
        now = time.monotonic()
        if not self._live and not self._json and (now - self._said > 10 or not self._costs):
            self._said = now
            say(self._line() + self._slowest())

    def eta_s(self) -> float:
        """Expected seconds of wall time until the last cell is done."""
        if not self._costs:
            return 0.0
        total = sum(self._expected.values())
        overall = sum(self._measured.values()) / total if total else 1.0
        left = 0.0
        for group, cost in self._left.items():
            expected = self._expected.get(group, 0.0)
            left += max(cost, 0.0) * (self._measured[group] / expected if expected else overall)
        # A busy machine gives the slots less than a core each: the pace so far tells, once a few
        # cells are done.
        done, seconds = sum(self._measured.values()), time.monotonic() - self._begin
        pace = done / seconds if self._ok >= 2 * self._jobs and done else self._jobs
        return left / min(pace, self._jobs)

    def _line(self) -> str:
        seconds = max(time.monotonic() - self._begin, 1e-3)
        return (
            f"{self._ok + self._failed}/{self._total} cells, {self._failed} failed,"
            f" {self._frames / seconds:.0f} frames/s, {duration(seconds)} gone,"
            f" {duration(self.eta_s())} left"
        )

    def _panel(self) -> Group:
        done = self._ok + self._failed
        now = time.monotonic()
        lines = [
            Text(f"  {stage:<7}{now - begin:5.0f} s  {cell}", style="dim")
            for cell, (stage, begin) in list(self._running.items())
        ]
        bar = ProgressBar(total=max(self._total, 1), completed=done, width=40)
        return Group(bar, Text(f" {self._line()}"), *map(Text, worker_lines(self._paces())), *lines)

    def _slowest(self) -> str:
        """The slowest worker of a cluster, as the end of a line."""
        slowest = next(iter(self._paces()), None)
        if slowest is None:
            return ""
        return f", the slowest worker is {slowest.name} with {slowest.frames_per_s:.1f} frames/s"

    def _print(self, message: str, style: str = "") -> None:
        if self._live:
            self._live.console.print(Text(message, style=style))
        else:
            say(message, style)


def size(num_bytes: float) -> str:
    """Bytes as people say them: `512 kB`, `34 MB`, `1.25 GB`, of a thousand each."""
    if num_bytes < 1e6:
        return f"{num_bytes / 1e3:.0f} kB"
    if num_bytes < 1e9:
        return f"{num_bytes / 1e6:.0f} MB"
    return f"{num_bytes / 1e9:.2f} GB"


_IN_JSON = frozenset(
    {"notice", "probe", "answer", "made", "progress", "point", "ladder", "ladder_files"}
)


class FindView(_Shown):
    """What a search shows: a line for each probe with its bracket, and on a terminal what is being
    measured now; NDJSON of probes and answers with `as_json`.
    """

    EXPECTED = 3
    """Probes that a search takes on average; only the ETA rests on it."""
    PAUSE_S = 30.0
    """Seconds between two lines of progress where no terminal is."""

    def __init__(self, target: float, *, as_json: bool, expected: int = EXPECTED) -> None:
        self._target, self._json, self._expected = target, as_json, expected
        self._begin = time.monotonic()
        self._cells = self._probes = 0
        self._now = self._far = ""
        self._said = 0.0
        self._live = None if as_json else _live_panel(self._panel)

    def feed(self, told: Mapping[str, Any]) -> None:
        """Show one event of a search."""
        kind = told["event"]
        if self._json and kind in _IN_JSON:
            json_line(told)
        if kind == "notice":
            self._print(f"note: {told['message']}", "yellow")
        elif kind == "stage":
            self._now = f"{told['stage']} {told['cell']}"
        elif kind == "cell":
            self._cells += 1
            if told["status"] != "ok":
                self._print(f"failed: {told['cell']}: {told['error']}", "red")
        elif kind == "progress":
            self._show_progress(told)
        elif kind == "point" and not self._json:
            self._probes += 1
            self._print(_point_line(told))
        elif kind == "probe" and not self._json:
            self._probes += 1
            self._print(_probe_line(told, self._target))

    def _show_progress(self, told: Mapping[str, Any]) -> None:
        """On a terminal a line that changes, else a line each half minute."""
        self._far = _progress_line(told)
        now = time.monotonic()
        if self._live is None and not self._json and now - self._said >= self.PAUSE_S:
            self._said = now
            say(self._far)

    def _panel(self) -> Text:
        seconds = time.monotonic() - self._begin
        left = ""
        if self._far:
            return Text(f" {self._far}, {duration(seconds)} gone  {self._now}")
        if self._probes:
            more = max(1, self._expected - self._probes)
            left = f", about {duration(more * seconds / self._probes)} left"
        return Text(f" {self._cells} cells, {duration(seconds)} gone{left}  {self._now}")

    def _print(self, message: str, style: str = "") -> None:
        if self._live:
            self._live.console.print(Text(message, style=style))
        else:
            say(message, style)


def _progress_line(told: Mapping[str, Any]) -> str:
    doing = {
        "shots": "shots: ",
        "encode": f"encode {told['attempt']} of at most 2: ",
        "score": f"scoring encode {told['attempt']}: ",
    }[told["step"]]
    share = 100 * told["frames"] // max(1, told["num_frames"])
    left = told["expected_s"]
    more = "" if left is None else f", about {duration(left)} left"
    again = ", unless it has to be made again" if more and told["step"] != "shots" else ""
    return f"{doing}{told['frames']} of {told['num_frames']} frames ({share}%){more}{again}"


def _point_line(told: Mapping[str, Any]) -> str:
    what = "rung" if told["is_rung"] else "hull"
    bound = "" if told["maxrate_kbps"] is None else f", bound {told['maxrate_kbps']} kbit/s"
    return (
        f"{what}: {told['width']}x{told['height']} at {told['quality']:g}: {told['statistic']}"
        f" {told['score']:.2f} (+-{told['standard_error']:.2f}), {told['kbps']:.0f} kbit/s{bound}"
    )


def _probe_line(told: Mapping[str, Any], target: float) -> str:
    low, high = told["bracket"]
    metric = "" if told["metric"] == "vmaf" else f" {told['metric']}"
    digits = 4 if "ssim" in told["metric"] else 2
    score = "no error" if told["score"] is None else f"{told['score']:.{digits}f}"
    meets, misses = ("–" if value is None else f"{value:g}" for value in (low, high))
    windows = counted(told["num_windows"], "window")
    return (
        f"{told['encoder']} {told['preset']} at {told['quality']:g}: {told['statistic']}"
        f"{metric} {score} (+-{told['standard_error']:.{digits}f}, {windows}),"
        f" {told['kbps']:.0f} kbit/s; for {target:g}: {meets} meets, {misses} misses"
    )
