"""How many encodes a target takes: the search of this project against the rules of others.

    python tools/vmaf-tune/dev/bench_find.py [--corpus RUN ...] [--dense RUN] [--statistic mean]

Replays every search on two sets of curves. `held out`: each group of the corpus with a prior fitted
on the others, through its measured values (a curve without jitter, which flatters every rule that
foretells a neighbour). `dense`: every integer quality value measured, on clips that no prior is
fitted on; there also every statistic, and encoders and presets that the prior was fitted without
and borrows a curve for. A target counts where it is met somewhere and not everywhere in the range.
CPU seconds are those of the rows (encode and score), a search on average; on a held-out curve they
are interpolated. Needs torch; no encode is made, so a busy machine changes nothing but the waiting.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import peers
from vmaf_train.corpus import contents
from vmaf_train.corpus.contents import Content
from vmaf_train.prior import Prior
from vmaf_train.results import choosing, foretelling
from vmaf_train.results.foretelling import Dense, Replay, Rule
from vmaf_train.training import fit_prior

ROOT = Path(__file__).resolve().parents[3]
SOFTWARE, DENSE = ROOT / "runs/phase_a/software", ROOT / "runs/phase_a/dense"

RULES: dict[str, Callable[[Prior, str], Rule]] = {
    "bisection, proven": lambda prior, s: peers.bisection(),
    "bisection, tolerance 0.5": lambda prior, s: peers.bisection(0.5),
    "ab-av1's rule, its tolerance": lambda prior, s: peers.ab_av1(peers.doubling),
    "ab-av1's rule, proven": lambda prior, s: peers.ab_av1(peers.never),
    "Av1an's rule, 4 probes": lambda prior, s: peers.av1an(),
    "plain prior, proven": peers.plain_prior,
    "find, proven": lambda prior, s: foretelling.search_rule(prior, "proven", s),
    "find, confident": lambda prior, s: foretelling.search_rule(prior, "confident", s),
    "find, tolerance=0.5": lambda prior, s: foretelling.search_rule(prior, "tolerance=0.5", s),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Curves:
    """Curves of one content with the prior that may be used on them."""

    prior: Prior
    curves: Sequence[Dense]


def main() -> None:
    """Print the tables: rules, choices between encoders, statistics, borrowed curves."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=_Raw)
    parser.add_argument("--corpus", action="append", type=Path, help="run folder to fit on")
    parser.add_argument("--dense", type=Path, default=DENSE)
    parser.add_argument("--statistic", default="mean", choices=list(fit_prior.STATISTICS))
    asked = parser.parse_args()
    paths, statistic = asked.corpus or [SOFTWARE], asked.statistic
    known, held = contents.read(paths), contents.read([asked.dense])
    seconds = cpu_seconds([*paths, asked.dense])
    folds = {g: _fit_without(known, g, statistic) for g in sorted({c.group for c in known})}
    whole = fit_prior.fit(known, statistics=[statistic])
    usual = foretelling.usual_settings([c.cells for c in known])
    sets = {
        f"held out: {len(known)} contents of {len(folds)} groups": [
            _curves(folds[c.group], c, usual, statistic, seconds) for c in known
        ],
        f"dense: {len(held)} contents": [_curves(whole, c, None, statistic, seconds) for c in held],
    }
    for name, members in sets.items():
        show(name, members, statistic)
    if statistic == "mean":
        show_choice(sets, [_curves(whole, c, None, statistic, seconds) for c in held])
        show_statistics(known, held, seconds)
        show_borrowed(known, held, whole, seconds)


class _Raw(argparse.RawDescriptionHelpFormatter):
    pass


def _fit_without(known: Sequence[Content], group: str, statistic: str) -> Prior:
    return fit_prior.fit([c for c in known if c.group != group], statistics=[statistic])


def cpu_seconds(paths: Sequence[Path]) -> dict[tuple[str, str, str, float], float]:
    """CPU seconds of encode and score by source, encoder, preset and quality value."""
    found = {}
    for path in paths:
        for line in (path / "cells.jsonl").read_text(encoding="utf-8").splitlines():
            row = json.loads(line)
            if row["status"] == "ok":
                name = (row["src"], row["encoder"], row["preset"], float(row["crf"]))
                found[name] = row["encode_cpu_s"] + row["score_cpu_s"]
    return found


def _curves(
    prior: Prior,
    content: Content,
    only: set[tuple[str, str]] | None,
    statistic: str,
    seconds: dict[tuple[str, str, str, float], float],
) -> Curves:
    cells = [c for c in content.cells if only is None or (c.encoder, c.preset) in only]
    cost = [seconds[content.name, c.encoder, c.preset, c.quality] for c in cells]
    return Curves(
        prior=prior,
        curves=foretelling.dense_curves(content.name, cells, statistic, cost),
    )


def replays(make: Callable[[Prior, str], Rule], members: Sequence[Curves], s: str) -> list[Replay]:
    """Every normal target on every curve by one rule."""
    done = []
    for member in members:
        rule = make(member.prior, s)
        for curve in member.curves:
            wanted = [t for t in foretelling.TARGETS if curve.is_normal(t)]
            done += [foretelling.replay(rule, curve, target) for target in wanted]
    return done


def show(name: str, members: Sequence[Curves], statistic: str) -> None:
    """One table, a line for each rule."""
    print(f"\n{name}, {statistic}")
    print(
        f"{'rule':30} {'targets':>7} {'encodes':>7} {'most':>4} {'exact %':>7} {'below':>5}"
        f" {'bits lost %':>11} {'p95':>5} {'CPU s':>6}"
    )
    for label, make in RULES.items():
        done = replays(make, members, statistic)
        made = [r.num_encodes for r in done]
        lost = [100 * r.bits_lost for r in done if not r.below]
        print(
            f"{label:30} {len(done):7} {np.mean(made):7.2f} {max(made):4}"
            f" {100 * np.mean([r.exact for r in done]):7.1f} {sum(r.below for r in done):5}"
            f" {np.mean(lost):11.2f} {np.percentile(lost, 95):5.1f}"
            f" {np.mean([r.cpu_s for r in done]):6.2f}",
            flush=True,
        )


def show_choice(sets: dict[str, list[Curves]], held: Sequence[Curves]) -> None:
    """What choosing an encoder by two probes costs in bits."""
    print("\nfewest bits at a target among several encoders: bits over the true best")
    print(f"{'curves':44} {'candidates':>10} {'plan':30} {'right %':>7} {'lost %':>6} {'p95':>5}")
    logo = next(iter(sets.values()))
    cheap = [("libx264", "veryfast"), ("libsvtav1", "10"), ("libvpx-vp9", "realtime")]
    for label, members, only, probes in (
        ("held out, 13 settings", logo, None, choosing.PROBES),
        ("held out, the three fastest", logo, cheap, choosing.PROBES),
        ("dense", held, None, (("libx264", "medium"), ("libsvtav1", "8"))),
    ):
        for plan, searched in (("two probes", 0), ("two probes, best two searched", 2)):
            picked = [
                choosing.choose(m.prior, m.curves, target, probes, num_searched=searched, only=only)
                for m in members
                for target in foretelling.TARGETS[:5]
            ]
            done = [p for p in picked if p is not None]
            lost = [100 * p.bits_lost for p in done]
            print(
                f"{label:44} {done[0].num_candidates:10} {plan:30}"
                f" {100 * np.mean([p.right for p in done]):7.1f} {np.mean(lost):6.2f}"
                f" {np.percentile(lost, 95):5.1f}",
                flush=True,
            )


COLUMNS = f"{'targets':>7} {'encodes':>7} {'most':>4} {'exact %':>7} {'below':>5}"
STOPS = ("proven", "confident")


def _figures(done: Sequence[Replay]) -> str:
    made = [r.num_encodes for r in done]
    exact = 100 * float(np.mean([r.exact for r in done]))
    below = sum(r.below for r in done)
    return f"{len(done):7} {np.mean(made):7.2f} {max(made):4} {exact:7.1f} {below:5}"


def show_statistics(
    known: Sequence[Content],
    held: Sequence[Content],
    seconds: dict[tuple[str, str, str, float], float],
) -> None:
    """What a target of each statistic takes on the dense curves."""
    print(f"\ndense, every statistic\n{'statistic':10} {'rule':24} {COLUMNS}")
    for statistic in fit_prior.STATISTICS:
        prior = fit_prior.fit(known, statistics=[statistic])
        members = [_curves(prior, c, None, statistic, seconds) for c in held]
        for label in ("find, proven", "find, confident", "ab-av1's rule, proven"):
            done = replays(RULES[label], members, statistic)
            print(f"{statistic:10} {label:24} {_figures(done)}", flush=True)


BORROWED = (
    (("libx265", None), ("libx265", "veryfast")),
    (("libvpx-vp9", None), ("libvpx-vp9", "realtime")),
    (("libx265", "veryfast"), ("libx265", "veryfast")),
    (("libx264", "medium"), ("libx264", "medium")),
    (("libsvtav1", "8"), ("libsvtav1", "8")),
    (("libvpx-vp9", "realtime"), ("libvpx-vp9", "realtime")),
)
"""What the prior is fitted without (preset None: the whole encoder), and the setting searched."""


def show_borrowed(
    known: Sequence[Content],
    held: Sequence[Content],
    whole: Prior,
    seconds: dict[tuple[str, str, str, float], float],
) -> None:
    """Encodes for a target where the prior borrows another setting's curve, on dense curves."""
    print("\ndense, mean: an encoder or a preset that the prior was fitted without")
    print(f"{'fitted without':22} {'borrows':22} {'rule':22} {COLUMNS}")
    for (encoder, preset), setting in BORROWED:
        rest = [_without(content, encoder, preset) for content in known]
        prior = fit_prior.fit(rest, statistics=["mean"])
        lent = prior.curves[prior.relative(*setting).curve]
        for name, used, told in (
            (f"{encoder} {preset or '(all)'}", prior, f"{lent.encoder} {lent.preset}"),
            ("-", whole, "its own"),
        ):
            members = [_curves(used, c, {setting}, "mean", seconds) for c in held]
            for stop in STOPS:
                done = replays(RULES[f"find, {stop}"], members, "mean")
                print(f"{name:22} {told:22} {'find, ' + stop:22} {_figures(done)}", flush=True)
        done = replays(RULES["ab-av1's rule, proven"], members, "mean")
        print(f"{'-':22} {'-':22} {'ab-av1, proven':22} {_figures(done)}", flush=True)


def _without(content: Content, encoder: str, preset: str | None) -> Content:
    kept = [c for c in content.cells if c.encoder != encoder or preset not in (None, c.preset)]
    return replace(content, cells=tuple(kept))


if __name__ == "__main__":
    main()
