"""`vmaf-tune report`: a page of a sweep and a training that one would send to colleagues; tables,
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
    folder: Annotated[
        Path | None,
        typer.Argument(
            help=(
                "Folder of a sweep, as `vmaf-tune corpus` wrote it; the newest complete one in"
                " runs/ when not given."
            )
        ),
    ] = None,
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
            "-o", "--output", help="The page to write; report.html in FOLDER when not given."
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
    """Show what a sweep found, as a page, tables or figures. It holds rate-quality curves,
    BD-rates, quality values for a VMAF target, speed and worst frames.

    Writes one HTML file that needs no network, and prints its path. With --text, --csv, --json or
    --png the page is written only when -o names it.

    Example: vmaf-tune report runs/phase_a/demo -o report.html
    """
    if text + csv + json_output > 1:
        raise UsageError("--text, --csv and --json all print on stdout; choose one")
    from vmaftune.report.build import PAGE, build, write_page

    if folder is None:
        from vmaf_train.corpus.dataset import newest_corpus

        folder = newest_corpus("runs")
        console.say(f"sweep: {folder}")
    made = build(folder, _run_folder(model_run))
    if text:
        _print_tables(made)
    if csv:
        from vmaftune.report.tables import cells_csv

        console.out(cells_csv(made.analysis))
    if json_output:
        console.json_document(made.document())
    if png is not None:
        from vmaftune.report.figures import write

        files = write(made.analysis, made.model, png)
        console.say(f"{len(files)} figures are in {png}")
    printed = text or csv or json_output
    if output is not None or not (printed or png):
        page = write_page(made, output or folder / PAGE)
        if printed:
            console.say(f"the page is {page}")
        else:
            console.out(str(page))
    if (
        model_run is None
        and not printed
        and any(p.quality is not None for p in made.analysis.sweep.points)
    ):
        console.next_command(f"vmaf-tune train --loso --corpus {shlex.quote(str(folder))}")


def _run_folder(named: Path | None) -> Path | None:
    from vmaf_train.results.run_folder import newest_run

    return newest_run("runs", str(named)) if named and str(named) in MODELS else named


def _print_tables(made: Report) -> None:
    from vmaftune.report.analysis import summary
    from vmaftune.report.tables import tables

    for sentence in [*summary(made.analysis), *made.analysis.sweep.notes]:
        console.out(sentence)
    for table in tables(made.analysis, made.model):
        console.out("")
        console.table(
            table.title, table.columns, table.rows, left=table.left, caption=table.caption
        )
