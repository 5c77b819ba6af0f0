"""What a row holds of the metrics beside VMAF."""

from __future__ import annotations

import math
from collections.abc import Sequence

from vmaf_train.corpus import pooling
from vmaf_train.corpus.rows import Metrics, Pooled

from vmaftune.metrics import METRICS, Columns, Metric


def pool_metrics(metrics: Sequence[str], columns: Columns) -> Metrics | None:
    """What a cell row holds of `metrics`, from the columns of its frames; None for no metrics."""
    if not metrics:
        return None
    return Metrics(**{name: _pooled(METRICS[name], columns) for name in metrics})


def _pooled(metric: Metric, columns: Columns) -> Pooled:
    values = sorted(math.inf if v is None else v for v in columns[metric.name])
    found = {
        "min": values[0],
        "p5": pooling.percentile(values, 0.05),
        "p95": pooling.percentile(values, 0.95),
        "max": values[-1],
    }
    ended = {name: v if math.isfinite(v) else None for name, v in found.items()}
    return Pooled(mean=metric.mean(columns), **ended)


def of_row(metrics: Metrics | None) -> tuple[str, ...]:
    """The metrics that a row holds."""
    if metrics is None:
        return ()
    return tuple(name for name in METRICS if getattr(metrics, name) is not None)


def mean_of(metrics: Metrics | None, name: str) -> Pooled | None:
    """What a row holds of one metric; None where it was not measured."""
    found: Pooled | None = getattr(metrics, name) if metrics is not None else None
    return found
