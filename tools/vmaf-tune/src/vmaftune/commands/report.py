"""`vmaf-tune report`: a page of sweeps and a training that one would send to colleagues; tables,
CSV, JSON, PNG.
"""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from vmaf_train.contract import MODELS

from vmaftune import console
from vmaftune.errors import UsageError

if TYPE_CHECKING:
    from vmaftune.report.build import Report


def report(
    folders: Annotated[
        list[Path] | None,
        typer.Argument(
            metavar="[FOLDER]...",
            help=(
                "Folders of sweeps, as `vmaf-tune corpus` wrote them; the newest complete one in"
                " runs/ when none is given."
            ),
        ),
    ] = None,
    target: Annotated[
        float | None,
        typer.Option(
            "--target",
            help=(
                "VMAF (60 to 99) that quality values, sizes and commands are looked up for."
                " Default: the newest question's, else 93."
            ),
        ),
    ] = None,
    metric: Annotated[
        str,
        typer.Option(
            "--metric",
            help="Curves, tables and BD-rates on another metric that was measured: xpsnr, cambi...",
        ),
    ] = "vmaf",
    model_run: Annotated[
        Path | None,
        typer.Option(
            "--model-run",
            metavar="RUN",
            help="Folder of a training run to report on as well, or a model for its newest run.",
        ),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option(
            "-o",
            "--output",
            help=(
                "The page to write; when not given, report.html in FOLDER, or here for several"
                " folders."
            ),
        ),
    ] = None,
    text: Annotated[
        bool, typer.Option("--text", help="Print the tables instead of writing the page.")
    ] = False,
    csv: Annotated[
        bool, typer.Option("--csv", help="Print one CSV line per cell instead of writing the page.")
    ] = False,
    json_output: Annotated[
        bool, typer.Option("--json", help="Print all figures as JSON instead of writing the page.")
    ] = False,
    png: Annotated[
        Path | None,
        typer.Option("--png", metavar="DIR", help="Write the figures as PNG files into DIR."),
    ] = None,
) -> None:
    """Show what sweeps found, as a page, tables or figures. It holds rate-quality curves, BD-rates,
    quality values and sizes for a VMAF target, speed and worst frames.

    Writes one HTML file that needs no network, and prints its path. With --text, --csv, --json or
    --png the page is written only when -o names it. The same clip in two folders is one source,
    whatever it is called; a setting that two folders measured with different tools is two curves.

    Example: vmaf-tune report runs/phase_a/demo -o report.html
    """
    if text + csv + json_output > 1:
        raise UsageError("--text, --csv and --json all print on stdout; choose one")
    from vmaftune.report.build import build

    chosen = folders or [_newest()]
    made = build(*chosen, training=_run_folder(model_run), target=target, metric=metric)
    printed = text or csv or json_output
    _print(made, text=text, csv=csv, json_output=json_output)
    if png is not None:
        _draw(made, png)
    if output is not None or not (printed or png):
        _write_page(made, chosen, output, printed=printed)
    if model_run is None and not printed and len(chosen) == 1:
        _say_next(made, chosen[0])


def _newest() -> Path:
    from vmaf_train.corpus.newest import newest_corpus

    folder = newest_corpus("runs")
    console.say(f"sweep: {folder}")
    return folder


def _run_folder(named: Path | None) -> Path | None:
    from vmaf_train.results.run_folder import newest_run

    return newest_run("runs", str(named)) if named and str(named) in MODELS else named


def _print(made: Report, *, text: bool, csv: bool, json_output: bool) -> None:
    from vmaftune.report.tables import cells_csv

    if text:
        _print_tables(made)
    if csv:
        console.out(cells_csv(made.analysis))
    if json_output:
        console.json_document(made.document())


def _print_tables(made: Report) -> None:
    from vmaftune.report.summary import commands, summary
    from vmaftune.report.tables import tables

    for sentence in [*summary(made.analysis), *made.analysis.sweep.notes]:
        console.out(sentence)
    for reason, command in commands(made.analysis):
        console.out(f"\nTo encode a whole file ({reason}):\n  {command}")
    for table in tables(made.analysis, made.model):
        console.out("")
        console.table(
            table.title, table.columns, table.rows, left=table.left, caption=table.caption
        )


def _draw(made: Report, folder: Path) -> None:
    from vmaftune.report.figures import write

    files = write(made.analysis, made.model, folder)
    console.say(f"{len(files)} figures are in {folder}")


def _write_page(made: Report, folders: list[Path], output: Path | None, *, printed: bool) -> None:
    from vmaftune.report.build import page_of, write_page

    page = write_page(made, output or page_of(folders))
    if printed:
        console.say(f"the page is {page}")
    else:
        console.out(str(page))


def _say_next(made: Report, folder: Path) -> None:
    """The film is next where one was asked about, else learning, where the settings are known."""
    questions = made.analysis.sweep.questions
    best = questions[-1].answers[0].told if questions and questions[-1].answers else None
    if best is not None:
        console.next_command(
            f"vmaf-tune encode {shlex.quote(best.film)} -o out.mkv --encoder {best.encoder}"
            f" --preset {best.preset} --target {best.target:g}"
        )
        return
    if any(point.quality is not None for point in made.analysis.sweep.points):
        console.next_command(f"vmaf-tune train --loso --corpus {shlex.quote(str(folder))}")
