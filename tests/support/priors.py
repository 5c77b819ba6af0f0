"""The shipped prior and the contents of the committed corpora, read once for a session."""

from __future__ import annotations

from functools import cache
from pathlib import Path

from vmaf_train import prior
from vmaf_train.corpus import contents
from vmaf_train.corpus.contents import Content
from vmaf_train.prior import Prior

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
def shipped() -> Prior:
    """The prior that this project ships, fitted on the software corpus."""
    return prior.load(ROOT / "model")
