"""`vmaf-tune compare`: encoder build or options B against A on the cells they share, with limits
for a pipeline.
"""

from __future__ import annotations

import math
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from vmaftune import console
from vmaftune.costs import counted
from vmaftune.encoders import format_quality
from vmaftune.errors import TargetMissed, UsageError

if TYPE_CHECKING:
    from vmaftune.report.compare import Comparison


def compare(
    a: Annotated[Path, typer.Argument(help="Folder of the sweep to compare with.")],
    b: Annotated[Path, typer.Argument(help="Folder of the sweep to judge.")],
    a_options: Annotated[
        str | None,
        typer.Option(
            "--a-options", metavar="NAME", help="Option set of A; `none` for cells without one."
        ),
    ] = None,
    b_options: Annotated[
        str | None,
        typer.Option(
            "--b-options", metavar="NAME", help="Option set of B; `none` for cells without one."
        ),
    ] = None,
    max_bd_rate: Annotated[
        float | None,
        typer.Option(
            "--max-bd-rate",
            metavar="PERCENT",
            help="Exit code 7 when B needs more bits than A by more than this, on average.",
        ),
    ] = None,
    max_slowdown: Annotated[
        float | None,
        typer.Option(
            "--max-slowdown",
            metavar="RATIO",
            help="Exit code 7 when encoding with B takes more than this many times as long.",
        ),
    ] = None,
    metric: Annotated[
        str,
        typer.Option("--metric", help="BD-rates on another metric that both measured: xpsnr, ..."),
    ] = "vmaf",
    json_output: Annotated[bool, typer.Option("--json", help="Print all figures as JSON.")] = False,
) -> None:
    """Compare one encoder build or option set with another. On the cells that both measured: bits
    for the same VMAF by source, with an interval over films, and time.

    Cells are shared when pictures, encoder, preset, size and quality value are the same; the name
    of a clip does not count. With --a-options or --b-options, two option sets are compared, of one
    folder or of two.

    Example: vmaf-tune compare runs/phase_a/main runs/phase_a/patched --max-bd-rate 1
    """
    limits = {"--max-bd-rate": max_bd_rate, "--max-slowdown": max_slowdown}
    for name, value in limits.items():
        if value is not None and not math.isfinite(value):
            raise UsageError(f"{name} is {value}; give a finite number")
    from vmaftune.report.compare import compare_folders, missed

    found = compare_folders(a, b, a_options, b_options, metric=metric)
    broken = missed(found, max_bd_rate, max_slowdown)
    if json_output:
        console.json_document({**asdict(found), "verdict": found.verdict, "missed": broken})
    else:
        _print(found)
    if broken:
        raise TargetMissed("; ".join(broken))


def _print(found: Comparison) -> None:
    console.out(_bits(found))
    console.out(_time(found))
    for tool in found.tools:
        console.out(f"Different: {tool}.")
    rows = [[r.source, r.setting, _percent(r.percent), r.reason or ""] for r in found.rates]
    explained = any(rate.reason for rate in found.rates)
    columns = ["source", "encoder and preset", "BD-rate", "none because"]
    console.out("")
    console.table(
        f"Bits of B against A for the same {found.label}",
        columns if explained else columns[:3],
        rows if explained else [row[:3] for row in rows],
        left=2,
    )
    if found.num_same < found.num_cells and found.worst:
        _print_worst(found)


def _print_worst(found: Comparison) -> None:
    console.out("")
    console.table(
        "Where B costs most",
        (
            "source",
            "encoder and preset",
            "value",
            "bits",
            found.label,
            "kbit/s of A",
            "kbit/s of B",
        ),
        [
            [
                cell.source,
                cell.setting,
                format_quality(cell.quality),
                _percent(cell.percent),
                f"{cell.vmaf_difference:+.{found.digits}f}",
                f"{cell.kbps_a:,.0f}",
                f"{cell.kbps_b:,.0f}",
            ]
            for cell in found.worst
        ],
        left=2,
        caption="bits: of B, against what A's curve asks for its quality; then B minus A",
    )


def _bits(found: Comparison) -> str:
    cells = f"{found.num_cells:,} shared cells, {found.num_same:,} of them with the same bits"
    if found.mean is None:
        return f"{cells}: no source has a BD-rate."
    films = counted(found.num_groups, "film")
    interval = ""
    if found.low is not None:
        interval = f", 95% interval {_percent(found.low)} to {_percent(found.high)}"
    return (
        f"{cells}. Bits of B against A for the same {found.label}: {_percent(found.mean)} on"
        f" average over {films}{interval}: {found.verdict}."
    )


def _time(found: Comparison) -> str:
    if found.slowdown is None:
        return "No encode times are known."
    return f"Encoding with B takes {found.slowdown:.2f} times as long."


def _percent(value: float | None) -> str:
    return "none" if value is None else f"{value:+.2f}%"
