"""A candidate as `ship` takes it, whatever its kind: what was judged, and would be promoted."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from vmaf_train.shipping.registry import Entry
from vmaf_train.shipping.verdict import Verdict


@dataclass(frozen=True, slots=True, kw_only=True)
class JudgedRun:
    """A judged training run.

    `folder` is the run's, where the verdict is put. `data` are the bytes of the model file as they
    were judged, `sidecar` what will stand beside it, without `promotion`; `entry` names both.
    """

    folder: Path
    entry: Entry
    data: bytes
    sidecar: Mapping[str, object]
    verdict: Verdict
