"""A training run of `quality_prior`: the candidate, and what priors without a group foretell of it.

plan(corpora) --> Experiment --run--> candidate.json, provenance.json, metrics.json (last)
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec

from vmaf_train import files
from vmaf_train.corpus import contents
from vmaf_train.corpus.contents import Content
from vmaf_train.corpus.dataset import corpus_digest
from vmaf_train.errors import DatasetError
from vmaf_train.prior import ID, STATISTICS, Prior, dump
from vmaf_train.results import foretelling, prior_run
from vmaf_train.results.foretelling import Figures, HeldOut
from vmaf_train.training import fit_prior

Progress = Callable[[str], None]
"""Called before every fit with what it is."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PriorExperiment:
    """What a run learns from."""

    paths: tuple[Path, ...]
    known: tuple[Content, ...]
    teacher: str | None

    @property
    def groups(self) -> list[str]:
        """Names of the groups, sorted."""
        return sorted({content.group for content in self.known})


def plan(paths: Sequence[Path]) -> PriorExperiment:
    """The contents of run folders. Raises DatasetError as `contents.read`."""
    return PriorExperiment(
        paths=tuple(paths), known=tuple(contents.read(paths)), teacher=contents.teacher(paths)
    )


def candidate(experiment: PriorExperiment) -> Prior:
    """The prior of the whole corpus, all statistics."""
    return fit_prior.fit(
        experiment.known,
        teacher=experiment.teacher,
        facts=contents.facts(experiment.paths, experiment.known),
    )


def hold_out(experiment: PriorExperiment, statistic: str, progress: Progress) -> list[HeldOut]:
    """Every content with a prior that was fitted without its group. Raises DatasetError for fewer
    than three groups: of two, one is left to learn from, and nothing varies in it.
    """
    if len(experiment.groups) < 3:
        raise DatasetError("holding a group out of a prior needs three groups or more")
    usual = foretelling.usual_settings([c.cells for c in experiment.known])
    done: list[HeldOut] = []
    for group in experiment.groups:
        progress(f"{statistic} without {group}")
        rest = [c for c in experiment.known if c.group != group]
        prior = fit_prior.fit(rest, statistics=[statistic], teacher=experiment.teacher)
        for content in experiment.known:
            cells = tuple(c for c in content.cells if (c.encoder, c.preset) in usual)
            if content.group == group and cells:
                done.append(HeldOut(name=content.name, group=group, prior=prior, cells=cells))
    return done


def run(
    experiment: PriorExperiment,
    folder: Path,
    provenance: Mapping[str, object],
    progress: Progress,
    *,
    loso: bool,
) -> prior_run.PriorMetrics:
    """Fit, judge on held-out groups (`loso`) and write the run's folder."""
    folder.mkdir(parents=True, exist_ok=True)
    files.write_bytes(folder / prior_run.CANDIDATE, dump(candidate(experiment)))
    files.write_json(folder / prior_run.PROVENANCE, provenance)
    found: dict[str, Figures] = {}
    by_group: dict[str, Figures] = {}
    for statistic in STATISTICS if loso else ():
        held_out = hold_out(experiment, statistic, progress)
        found[statistic] = foretelling.figures(held_out, statistic)
        if statistic == "mean":
            by_group = _by_group(held_out)
    metrics = prior_run.PriorMetrics(
        model_id=ID,
        corpora=tuple(
            prior_run.LearnedFrom(path=str(path), digest=corpus_digest(path))
            for path in experiment.paths
        ),
        groups=tuple(experiment.groups),
        num_contents=len(experiment.known),
        num_cells=sum(len(c.cells) for c in experiment.known),
        teacher=experiment.teacher,
        loso=found,
        by_group=by_group,
    )
    files.write_json(folder / prior_run.METRICS_FILE, msgspec.to_builtins(metrics))
    return metrics


def _by_group(held_out: Sequence[HeldOut]) -> dict[str, Figures]:
    groups = sorted({one.group for one in held_out})
    return {
        group: foretelling.figures(
            [one for one in held_out if one.group == group], "mean", searches=False
        )
        for group in groups
    }
