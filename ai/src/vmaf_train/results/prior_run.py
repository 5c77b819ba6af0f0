"""A training run of `quality_prior` on disk: `metrics.json` with what it foretold of held-out
groups, `candidate.json`, and its card.

    runs/quality_prior/<UTC time>/{candidate.json, provenance.json, metrics.json}
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import msgspec

from vmaf_train.errors import DatasetError
from vmaf_train.prior import ID
from vmaf_train.results.foretelling import Figures

CANDIDATE, PROVENANCE, METRICS_FILE = "candidate.json", "provenance.json", "metrics.json"
COLUMNS = ("probes", "MAE", "MAE >= 75", "ln(bits) MAE", "80% interval", "95% interval")


class LearnedFrom(msgspec.Struct, frozen=True, kw_only=True):
    """A run folder that was learned from."""

    path: str
    digest: str


class PriorMetrics(msgspec.Struct, frozen=True, kw_only=True):
    """What metrics.json holds. `loso` has the figures of each statistic on groups held out; it is
    empty for a bare candidate. `by_group` has those of the mean for each group.
    """

    model_id: str
    corpora: tuple[LearnedFrom, ...]
    groups: tuple[str, ...]
    num_contents: int
    num_cells: int
    teacher: str | None
    smoke: bool = False
    loso: dict[str, Figures] = {}
    by_group: dict[str, Figures] = {}


@dataclass(frozen=True, slots=True, kw_only=True)
class PriorRun:
    """A complete run. `data` is the candidate file."""

    path: Path
    metrics: PriorMetrics
    data: bytes
    provenance: Mapping[str, object]


def is_prior_run(path: Path) -> bool:
    """True for the folder of a run of `quality_prior`, complete or not."""
    try:
        return bool(json.loads((path / METRICS_FILE).read_bytes())["model_id"] == ID)
    except (OSError, ValueError, KeyError, TypeError):
        return False


def load(path: Path) -> PriorRun:
    """The run in a folder. Raises DatasetError when a file is missing or is not what it must be."""
    try:
        metrics = msgspec.json.decode((path / METRICS_FILE).read_bytes(), type=PriorMetrics)
        provenance = json.loads((path / PROVENANCE).read_bytes())
        data = (path / CANDIDATE).read_bytes()
    except (OSError, ValueError, msgspec.MsgspecError) as failure:
        raise DatasetError(f"{path} is not a complete run of {ID}: {failure}") from failure
    if metrics.model_id != ID:
        raise DatasetError(f"{path} is a run of {metrics.model_id}, not of {ID}")
    return PriorRun(path=path, metrics=metrics, data=data, provenance=provenance)


def table(found: Figures) -> list[tuple[str, ...]]:
    """Rows of COLUMNS from the figures of one statistic."""
    names = {"other_encoder": "1 of x264 veryfast, other encoders"}
    names |= {f"{n}_probes": f"{n} of the same preset" for n in range(4)}
    rows = []
    for name in ("0_probes", "1_probes", "2_probes", "3_probes", "other_encoder"):
        if f"mae_{name}" not in found:
            continue
        rows.append(
            (
                names[name],
                *(_figure(found.get(f"{kind}_{name}")) for kind in ("mae", "mae75", "rate")),
                *(f"{100 * found[f'within_{kind}_{name}']:.1f}%" for kind in (80, 95)),
            )
        )
    return rows


def _figure(value: float | None) -> str:
    return "–" if value is None else f"{value:.2f}"


def sentence(found: Figures) -> str:
    """Encodes for a target, in words."""
    if "encodes_proven" not in found:
        return ""
    return (
        f"A search on held-out groups takes {found['encodes_proven']:.2f} encodes until it is"
        f" proven and {found['encodes_confident']:.2f} until it is confident"
        f" ({100 * found['exact_confident']:.1f}% exact, {found['below_confident']:.0f} below the"
        f" target, {found['num_targets']:.0f} targets)."
    )


def card(run: PriorRun) -> str:
    """The model card in Markdown."""
    metrics = run.metrics
    corpora = ", ".join(f"`{c.path}` (digest `{c.digest}`)" for c in metrics.corpora)
    lines = [
        f"# {ID}",
        "",
        "Foretells encodes that nobody made: for an encoder, preset and quality value the VMAF"
        " (mean, harmonic, p5, min) and the bits per pixel of a content, with intervals, from no,"
        " one or several measured cells of that content, of the same or of other encoders.",
        "The search for a quality value starts from it.",
        "One Gaussian process with three levels (content, encoder, preset) over scores and bits,"
        " with the reference's motion as a third output; a JSON file that numpy alone reads.",
        "",
        "## Trained on",
        "",
        f"{metrics.num_cells} cells of {metrics.num_contents} windows of {len(metrics.groups)}"
        f" sources ({', '.join(metrics.groups)}); teacher {metrics.teacher}.",
        f"Corpus {corpora}.",
        "",
    ]
    for statistic, found in metrics.loso.items():
        lines += [
            f"## Held out, one source at a time: {statistic}",
            "",
            "Mean absolute errors in VMAF points; shares of cells inside the foretold intervals.",
            "",
            *_markdown(COLUMNS, table(found)),
            "",
            *([sentence(found), ""] if sentence(found) else []),
        ]
    if metrics.by_group:
        rows = [(g, *(f"{f[k]:.2f}" for k in _BY_GROUP)) for g, f in metrics.by_group.items()]
        lines += ["## Each source: mean", "", *_markdown(("held out", *_BY_GROUP), rows), ""]
    lines += [*LIMITS, ""]
    return "\n".join(lines)


_BY_GROUP = ("mae_0_probes", "mae_1_probes", "mae_2_probes", "mae_3_probes")
LIMITS = (
    "## Limits",
    "",
    "- It knows 8-bit films of 640x360 (two of 960x540), standard range, CPU encoders at their"
    " default tunings. Other sizes, grain, HDR and hardware encoders are outside: intervals are"
    " wider for an encoder or preset that borrows a curve, and not for the rest.",
    "- Statistics that are not trained use the nearest one's curves: p1 those of min, p10 of p5, a"
    " worst window of harmonic.",
    "- Between neighbouring quality values an encoder's score jitters by up to 0.3 points; no model"
    " foretells that.",
    "- A search holds a bracket of measured values, so a wrong prior costs encodes, not answers.",
)


def _markdown(head: tuple[str, ...], rows: list[tuple[str, ...]]) -> list[str]:
    lines = [f"| {' | '.join(head)} |", f"| --- |{' ---: |' * (len(head) - 1)}"]
    return lines + [f"| {' | '.join(row)} |" for row in rows]
