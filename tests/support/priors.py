"""Priors and dense curves for tests: fitted once for a session, from the committed corpora."""

from __future__ import annotations

from functools import cache
from pathlib import Path

from vmaf_train.corpus import contents
from vmaf_train.corpus.contents import Content
from vmaf_train.prior import Prior
from vmaf_train.training import fit_prior

ROOT = Path(__file__).parents[2]
SOFTWARE, DENSE = ROOT / "runs/phase_a/software", ROOT / "runs/phase_a/dense"


@cache
def known() -> tuple[Content, ...]:
    """The contents of the software corpus."""
    return tuple(contents.read([SOFTWARE]))


@cache
def held() -> tuple[Content, ...]:
    """The contents of the dense curves, which no prior is fitted on."""
    return tuple(contents.read([DENSE]))


@cache
def mean_prior() -> Prior:
    """The prior of the mean, fitted on the software corpus (seconds)."""
    return fit_prior.fit(known(), statistics=["mean"])
