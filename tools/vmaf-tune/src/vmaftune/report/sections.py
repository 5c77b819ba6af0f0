"""The sections of the report page as HTML: headings, explanations, controls, and the places that
the scripts fill.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape
from typing import Any

from vmaf_train.results.metrics import METRICS

from vmaftune.report.analysis import DEFAULT_TARGET, TARGETS, Analysis
from vmaftune.report.model_run import ModelRun
from vmaftune.report.read import Sweep


def header(analysis: Analysis, sentences: Sequence[str], model: ModelRun | None) -> str:
    """Title, summary in words, key figures and the page's own links."""
    sweep = analysis.sweep
    tiles = [
        ("sources", len(sweep.sources), ""),
        ("encoders", len({c.encoder for c in sweep.curves}), ""),
        ("encoder presets", len(sweep.curves), ""),
        ("measured cells", len(sweep.points), ""),
        ("failed cells", len(sweep.failures), "bad" if sweep.failures else ""),
        ("frames scored", sum(p.num_frames for p in sweep.points), ""),
    ]
    figures = [
        ("rd", "Rate and quality"),
        ("bd", "BD-rate"),
        ("quality", "Quality values"),
        ("speed", "Speed"),
        ("frames", "Frames"),
    ]
    links = [
        *(figures if sweep.points else []),
        *([("model", "Model")] if model else []),
        ("failed", "Failed cells"),
        ("tools", "Versions"),
    ]
    return (
        '<a class="skip" href="#main">Skip to the figures</a><header><p class="kicker">Encoder'
        f" sweep</p><h1>{escape(sweep.name)}</h1><ul"
        f' class="summary">{"".join(f"<li>{escape(s)}</li>" for s in [*sentences, *sweep.notes])}</ul><dl'  # noqa: E501
        ' class="tiles">'
        + "".join(
            f'<div class="{kind}"><dt>{name}</dt><dd>{number:,}</dd></div>'
            for name, number, kind in tiles
        )
        + '</dl><nav aria-label="On this page"><ul>'
        + "".join(f'<li><a href="#{at}">{text}</a></li>' for at, text in links)
        + "</ul></nav><noscript><p>The figures of this page are drawn by scripts inside it; allow"
        " them, or use <code>vmaf-tune report --text</code>.</p></noscript></header>"
    )


def sweep_sections(analysis: Analysis) -> str:
    """Rate and quality, BD-rate, quality values, speed, frames; nothing where no cell
    was measured.
    """
    blocks = _RATE + _BDRATE + _QUALITY + _SPEED + _FRAMES if analysis.sweep.points else ""
    return (
        blocks.replace("{target}", str(DEFAULT_TARGET))
        .replace("{low}", str(TARGETS[0]))
        .replace("{high}", str(TARGETS[-1]))
    )


def _figure(plot: str, caption: str, below: str = "") -> str:
    return (
        f'<figure><div class="plot" id="{plot}"></div><figcaption>{caption}</figcaption><p'
        f' class="printed"></p></figure>{below}'
    )


def _numbers(identity: str, table: str) -> str:
    return (
        f'<details id="{identity}"><summary>The numbers</summary><div class="scroll"'
        f' id="{table}"></div></details>'
    )


_PRESETS = (
    '<option value="one">one preset per encoder</option><option value="all">every selected'
    " preset</option>"
)

_RATE = (
    '<section id="rd"><h2>Rate and quality</h2><p>How much quality a bitrate buys, by source. Up'
    ' and to the left is better. <span class="hint">Point at a mark for the exact command; press it'
    ' to see its frames.</span></p><div class="controls"><label>Source <select'
    ' id="rate-source"></select></label><label><input type="checkbox" id="rate-hull" checked>'
    " Convex hull</label></div>"
    + _figure(
        "rate-plot",
        "Colour and marker tell the encoder, the dash its preset; the filters show them too. The"
        " broad grey line is the convex hull over everything shown: no mix of these settings does"
        " better.",
        _numbers("rate-numbers", "rate-table"),
    )
    + "</section>"
)

_BDRATE = (
    '<section id="bd"><h2>Bits for the same quality (BD-rate)</h2><p>The average difference in'
    " bitrate at equal VMAF, over the range that both curves reach.</p><div"
    ' class="controls"><label>Curves <select'
    f' id="bd-presets">{_PRESETS}</select></label><label>Over the sources <select'
    ' id="bd-pool"><option>mean</option><option>median</option></select></label></div><div'
    ' class="scroll" id="bd-table"></div><h3>One pair, source by source</h3><div'
    ' class="controls"><label>Bits of <select id="pair-test"></select></label><label>against'
    ' <select id="pair-anchor"></select></label></div>'
    + _figure(
        "pair-plot", "Left of zero: fewer bits than the second.", '<ul id="pair-missing"></ul>'
    )
    + '<p class="how">PCHIP over ln(bitrate) as in the JCT-VC common test conditions, on unclipped'
    " VMAF means, so that frames above 100 do not bend the curves. Curves that share less than"
    " one VMAF point have no figure. † on some source they share less than 10.</p></section>"
)

_QUALITY = (
    '<section id="quality"><h2>Which quality value gives VMAF <span'
    ' id="target-shown">{target}</span>?</h2><p>The encoder\'s own knob against VMAF, and for how'
    ' much of the content a value is enough.</p><div class="controls"><label>Target VMAF <input'
    ' type="number" id="target" min="{low}" max="{high}" step="1"'
    ' value="{target}"></label><label>Encoder and preset <select'
    ' id="quality-curve"></select></label></div>'
    + _figure(
        "quality-plot",
        "Grey lines are single sources; the band is one standard deviation over sources.",
        _numbers("quality-numbers", "quality-table"),
    )
    + '<h3>For how much of the content?</h3><div class="controls">'
    f'<label>Curves <select id="reach-presets">{_PRESETS}</select></label></div>'
    + _figure(
        "reach-plot",
        "Share of the sources that still reach the target at a quality value, interpolated between"
        " the measured ones.",
        '<div class="scroll" id="reach-table"></div>',
    )
    + '<p class="how">≥ marks the coarsest value swept: coarser ones may do as well. Nothing is'
    " extrapolated.</p></section>"
)

_SPEED = (
    '<section id="speed"><h2>Speed against efficiency</h2>'
    "<p>What the bits saved cost in CPU time. Each line is one encoder, each mark a preset.</p>"
    '<div class="controls"><label>Bits against <select id="speed-anchor"></select></label></div>'
    + _figure(
        "speed-plot",
        "CPU time: geometric mean over sources and quality values of the CPU seconds of the encode,"
        " per frame. A mark's time and bits are over the same sources. An open mark covers fewer of"
        " them than the curve it is compared with: do not hold it against the others. Encodes on a"
        " GPU use little CPU time and are not comparable here.",
        _numbers("speed-numbers", "speed-table"),
    )
    + "</section>"
)

_FRAMES = (
    '<section id="frames"><h2>Frame by frame</h2><p>Where one encode is at its worst.</p>'
    '<div class="controls"><label>Source <select id="frames-source"></select></label>'
    '<label>Encoder and preset <select id="frames-curve"></select></label>'
    '<label>Cell <select id="frames-quality"></select></label></div>'
    + _figure("frames-plot", "Circles mark the worst frames.")
    + '<div class="scroll" id="frames-table"></div><h3>Command</h3><pre'
    ' id="frames-command"></pre></section>'
)


def _model_figures(run: ModelRun) -> str:
    drawn = len(run.scatter["y"])
    thinned = (
        f" {drawn:,} of the {run.num_rows:,} rows are drawn, evenly picked."
        if drawn < run.num_rows
        else ""
    )
    bands = [
        (b["band"], f"{b['n']:,}", *(f"{q:.2f}" for q in b["quantiles"]), number(b["rmse"]))
        for b in run.bands
    ]
    return (
        '<h3>Predicted against measured</h3><div class="controls"><label>Colour by <select'
        ' id="scatter-by"><option value="encoder">encoder</option><option value="group">source'
        " group</option></select></label></div>"
        + _figure(
            "scatter-plot",
            "Each mark is one held-out row, mean over seeds: exact on the diagonal, and at zero on"
            f" the right.{thinned}",
        )
        + "<h3>Where it errs</h3>"
        + _figure(
            "bands-plot",
            "Predicted minus measured VMAF by band of the measured score: box from the 25th to the"
            " 75th percentile, whiskers from the 5th to the 95th. Over all held-out rows, whatever"
            " the filters say.",
        )
        + "<details><summary>The numbers</summary>"
        + table(
            "Predicted minus measured, VMAF points",
            ("Measured", "Rows", "5%", "25%", "Median", "75%", "95%", "RMSE"),
            bands,
        )
        + "</details>"
    )


def table(
    caption: str,
    head: Sequence[str],
    rows: Iterable[Sequence[str]],
    *,
    text: int = 1,
    kind: str = "",
) -> str:
    """An HTML table of escaped texts; the first `text` columns are aligned left, the first one is
    the row's heading.
    """

    def line(cells: Sequence[str]) -> str:
        marks = [' class="text"' if i < text else "" for i in range(len(cells))]
        first = f'<th scope="row">{escape(cells[0])}</th>'
        return first + "".join(f"<td{marks[i]}>{escape(c)}</td>" for i, c in enumerate(cells) if i)

    top = "".join(
        f'<th scope="col"{" class=text" if i < text else ""}>{escape(h)}</th>'
        for i, h in enumerate(head)
    )
    body = "".join(f"<tr>{line(row)}</tr>" for row in rows)
    return (
        f'<div class="scroll"><table class="{kind}"><caption>{escape(caption)}</caption>'
        + (f"<thead><tr>{top}</tr></thead>" if head else "")
        + f"<tbody>{body}</tbody></table></div>"
    )


def model_section(run: ModelRun) -> str:
    """Held-out table, scatter, residuals and gate of one training run."""
    explained = any(g["reason"] for g in run.groups)
    rows = [
        (
            str(g["group"]),
            str(g["n"]),
            *(number(g[m]) for m in METRICS),
            *([str(g["reason"] or "")] if explained else []),
        )
        for g in run.groups
    ]
    for name, label in (
        ("mean", "mean over groups"),
        ("std", "standard deviation"),
        ("worst", "worst group"),
    ):
        rows.append(
            (
                label,
                "",
                *(number(run.overall[m][name]) for m in METRICS),
                *([""] if explained else []),
            )
        )
    head = (
        "Group",
        "Rows",
        "PLCC",
        "SROCC",
        "RMSE",
        "MAE",
        *(["No correlation because"] if explained else []),
    )
    others = "; ".join(f"{name} {number(value)}" for name, value in run.baselines.items())
    smoke = (
        "<p><strong>A smoke run on made-up data: its figures mean nothing.</strong></p>"
        if run.smoke
        else ""
    )
    other = f"<p><strong>{escape(run.warning)}</strong></p>" if run.warning else ""
    return (
        f'<section id="model"><h2>Model {escape(run.model_id)}</h2>{smoke}{other}<p>Every'
        " prediction was made by a model that had not seen the row: each fold holds out"
        f" {run.held_out}. {run.num_rows:,} rows, {run.num_seeds} seeds; run"
        f" {escape(str(run.folder))}. {escape(run.origin)}."
        + (f" RMSE of the baselines on the same folds: {escape(others)}." if others else "")
        + "</p>"
        + table(
            "Held-out agreement with the measured VMAF, mean over seeds. RMSE and MAE in VMAF"
            " points.",
            head,
            rows,
        )
        + _model_figures(run)
        + _gate(run)
        + "</section>"
    )


def number(value: Any) -> str:
    """A figure of a model table: four decimals, a dash for a missing one."""
    return "–" if value is None else f"{value:.4f}"


def _gate(run: ModelRun) -> str:
    if not run.gate:
        return (
            "<h3>Gate</h3><p>This run was not judged yet; <code>vmaf-tune ship --dry-run</code>"
            " does it.</p>"
        )
    rows = "".join(
        "<tr><th"
        f' scope="row">{escape(c["name"])}</th><td>{escape(c["value"])}</td><td>{escape(c["limit"])}</td><td'  # noqa: E501
        f' class="{_CLASSES.get(c["verdict"], "")}">{escape(c["verdict"])}</td><td'
        f' class="text">{escape(c["note"])}</td></tr>'
        for c in run.gate
    )
    return (
        f"<h3>Gate: {escape(run.verdict or 'judged')}</h3><div"
        ' class="scroll"><table><caption>Checks that a model must pass to be'
        ' shipped</caption><thead><tr><th scope="col" class="text">Check</th><th'
        ' scope="col">Value</th><th scope="col">Limit</th><th scope="col">Verdict</th><th'
        f' scope="col" class="text">Note</th></tr></thead><tbody>{rows}</tbody></table></div>'
    )


_CLASSES = {"pass": "pass", "hold": "hold"}


def failed_section(sweep: Sweep) -> str:
    """Cells without a score, each with its reason and a command to try."""
    if not sweep.failures:
        return '<section id="failed"><h2>Failed cells</h2><p>None.</p></section>'
    rows = "".join(
        f'<tr><th scope="row">{escape(f.cell)}</th><td class="text">{escape(f.kind)}</td>'
        f"<td>{'–' if f.exit_code is None else escape(str(f.exit_code))}</td>"
        f'<td class="text">{escape(f.message)}<pre>{escape(f.stderr)}</pre><pre>{escape(f.command)}</pre></td></tr>'  # noqa: E501
        for f in sweep.failures
    )
    return (
        '<section id="failed"><h2>Failed cells</h2><p>These have no score and are in no figure.'
        " <code>vmaf-tune corpus --retry-failed</code> tries them again.</p><div"
        ' class="scroll"><table class="wide"><caption>Failed cells and why</caption><thead><tr><th'
        ' scope="col" class="text">Cell</th><th scope="col" class="text">Reason</th><th'
        ' scope="col">Exit code</th><th scope="col" class="text">Message, end of stderr, and a'
        f" command to paste</th></tr></thead><tbody>{rows}</tbody></table></div></section>"
    )


def tools_section(sweep: Sweep) -> str:
    """What was swept and with which versions."""
    return (
        '<section id="tools"><h2>What was swept, and with which versions</h2>'
        + (
            table(
                "The plan", ("Encoder", "Preset", "Quality values", "Sources"), sweep.grid, text=3
            )
            if sweep.grid
            else ""
        )
        + table("Tools and their versions", (), sweep.facts, text=2, kind="facts")
        + "<details><summary>The last start of the command: time, packages, machine</summary>"
        + table("As runs.jsonl has it", (), sweep.start_facts, text=2, kind="facts")
        + "</details>"
        + "<h3>Sources</h3>"
        + table(
            "Clips as they were encoded",
            (
                "Source",
                "Group",
                "Window",
                "Picture",
                "Frames per second",
                "Frames",
                "Measured cells",
            ),
            sweep.source_facts,
            text=3,
        )
        + "</section>"
    )
