"""Tables from out-of-fold predictions: what every part of the tool that tells figures reads.

predictions --group_table--> (group x seed) metrics --spread--> mean, deviation, worst
            --slice_table--> per encoder, preset, quality band, score band
            --paired_lift--> what the model gains over a baseline, with a bootstrap interval
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import pandas as pd

from vmaf_train.contract import QUALITY_MAX, QUALITY_SCALE
from vmaf_train.corpus.dataset import Dataset
from vmaf_train.corpus.folds import LOEO, LOSO
from vmaf_train.errors import DatasetError
from vmaf_train.results.metrics import METRICS, Floats, agreement

MODEL, BLIND_INPUT, CODEC_BLIND = "y_model", "y_blind_input", "y_codec_blind"
RIDGE, TEACHER = "y_ridge", "y_teacher"
PREDICTORS = (MODEL, BLIND_INPUT, CODEC_BLIND, RIDGE, TEACHER)
"""Columns of predictions: the model's, and those it is set beside."""
CORPUS = "corpus"
SLICES = ("encoder", "preset", "quality_band", "score_band")
SCORE_BANDS = (0.0, 30.0, 50.0, 70.0, 80.0, 90.0, 95.0, 100.0)
QUALITY_BANDS = (0.0, 0.25, 0.5, 0.75, 1.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Spread:
    """One metric over groups and seeds. `mean` is the mean over seeds of the mean over groups.

    `std_groups`: population deviation over groups of the seed-mean (the "+-" of the hardware
    study); `std_seeds`: the same over seeds of the group-mean; `seed_means`: that mean for each
    seed, in seed order.
    `worst` is the worst value of any group and seed (the largest error, the smallest correlation);
    `worst_mean` the worst seed-mean, of `worst_group`. `undefined` counts (group, seed) pairs
    without a value, which no mean includes.
    """

    metric: str
    mean: float
    std_groups: float
    std_seeds: float
    seed_means: tuple[float, ...]
    worst: float
    worst_mean: float
    worst_group: str
    num_groups: int
    num_seeds: int
    undefined: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Lift:
    """Error of `baseline` minus error of `model`, paired by group; positive = the model is better.
    VMAF points.

    `low`..`high` is the 95% percentile interval of a bootstrap over groups.
    """

    metric: str
    baseline: str
    mean: float
    low: float
    high: float
    by_group: Mapping[str, float]


def score_table(data: Dataset, scores: Floats, exact: Floats | None = None) -> pd.DataFrame:
    """Predictions of one finished model for every row of a corpus, as a table like a run's, of
    scheme `corpus`. `exact` are those of the teacher's own function.
    """
    return pd.DataFrame(
        {
            "key": data.key,
            "frame_index": data.frame_index,
            "group": data.group,
            "encoder": data.encoder,
            "preset": data.preset,
            "crf": data.crf,
            "scheme": CORPUS,
            "fold": CORPUS,
            "seed": 0,
            "y": data.y,
            MODEL: scores,
            TEACHER: np.full(len(data), np.nan) if exact is None else exact,
        }
    )


def schemes(predictions: pd.DataFrame) -> list[str]:
    """Names of the hold-out schemes in the table: sources first, encoders last."""
    return sorted(
        predictions["scheme"].unique(), key=lambda name: (name != LOSO, name == LOEO, name)
    )


def has(predictions: pd.DataFrame, column: str) -> bool:
    """True when `column` holds predictions (a codec-blind model has no blind input and no
    codec-blind baseline).
    """
    return column in predictions.columns and bool(predictions[column].notna().any())


def group_table(
    predictions: pd.DataFrame, column: str, scheme: str = LOSO, by: str = "group"
) -> pd.DataFrame:
    """Metrics of `column` for each (`by`, seed) of a scheme: columns [group, seed, n, plcc, srocc,
    rmse, mae, reason].

    A correlation without a value is NaN in the frame and `reason` says why. Empty when the scheme
    has no rows. Raises DatasetError when `column` has gaps there.
    """
    read = list(dict.fromkeys((by, "seed", "y", column)))
    part = predictions.loc[predictions["scheme"] == scheme, read]
    rows = []
    for (name, seed), block in part.groupby([by, "seed"], sort=True, observed=True):
        p = block[column].to_numpy(dtype=np.float64)
        if not np.isfinite(p).all():
            raise DatasetError(
                f"{column} lacks predictions for rows of {name}, seed {seed}, scheme {scheme}"
            )
        a = agreement(block["y"].to_numpy(dtype=np.float64), p)
        rows.append(
            (str(name), int(seed), a.n, _nan(a.plcc), _nan(a.srocc), a.rmse, a.mae, a.reason)
        )
    return pd.DataFrame(rows, columns=["group", "seed", "n", *METRICS, "reason"])


def over_seeds(table: pd.DataFrame) -> pd.DataFrame:
    """`group_table` averaged over seeds: one row per group with n and the metrics."""
    means = table.groupby("group", sort=True).agg(
        {"n": "first", **{name: "mean" for name in METRICS}}
    )
    reasons = {
        name: reason for name, reason in zip(table["group"], table["reason"], strict=True) if reason
    }
    means = means.reset_index()
    return means.assign(reason=[reasons.get(name) for name in means["group"]])


def spread(table: pd.DataFrame, metric: str) -> Spread | None:
    """`metric` of a `group_table` over groups and seeds; None when it has no value anywhere."""
    grid = table.pivot(index="group", columns="seed", values=metric).to_numpy(dtype=np.float64)
    names = sorted(table["group"].unique())
    finite = np.isfinite(grid)
    if not finite.any():
        return None
    kept = finite.any(axis=1)
    grid, finite, names = (
        grid[kept],
        finite[kept],
        [n for n, k in zip(names, kept, strict=True) if k],
    )
    group_means = np.nanmean(grid, axis=1)
    seed_means = np.array([np.nanmean(column) for column in grid.T if np.isfinite(column).any()])
    lower_is_worse = metric in ("plcc", "srocc")
    worst = int(np.argmin(group_means) if lower_is_worse else np.argmax(group_means))
    return Spread(
        metric=metric,
        mean=float(seed_means.mean()),
        std_groups=float(group_means.std()),
        std_seeds=float(seed_means.std()),
        seed_means=tuple(float(m) for m in seed_means),
        worst=float(np.nanmin(grid) if lower_is_worse else np.nanmax(grid)),
        worst_mean=float(group_means[worst]),
        worst_group=names[worst],
        num_groups=len(names),
        num_seeds=len(seed_means),
        undefined=int(table[metric].isna().sum()),
    )


def slice_table(
    predictions: pd.DataFrame, column: str, by: str, scheme: str = LOSO
) -> pd.DataFrame:
    """Metrics over the rows of a slice, averaged over seeds. `by`: encoder, preset, quality_band or
    score_band.
    """
    part = predictions[predictions["scheme"] == scheme]
    return over_seeds(group_table(part.assign(slice=_slice(part, by)), column, scheme, by="slice"))


def _slice(part: pd.DataFrame, by: str) -> Any:
    if by == "score_band":
        return _bands(part["y"].to_numpy(dtype=np.float64), SCORE_BANDS)
    if by == "quality_band":
        limit = np.array([QUALITY_MAX.get(e, QUALITY_SCALE) for e in part["encoder"]])
        return _bands(
            np.minimum(part["crf"].to_numpy(dtype=np.float64) / limit, 1.0), QUALITY_BANDS
        )
    if by == "preset":
        return part["encoder"].astype(str) + " " + part["preset"].astype(str)
    return part[by]


def _bands(values: Floats, edges: tuple[float, ...]) -> list[str]:
    """The half-open band [a, b) each value lies in, the last one closed; `none` for NaN."""
    inner = np.searchsorted(np.array(edges[1:-1]), values, side="right")
    names = [f"{a:g}-{b:g}" for a, b in zip(edges, edges[1:], strict=False)]
    return ["none" if np.isnan(v) else names[i] for v, i in zip(values, inner, strict=True)]


def paired_lift(
    predictions: pd.DataFrame, baseline: str = CODEC_BLIND, metric: str = "rmse", scheme: str = LOSO
) -> Lift:
    """What the model gains over the column `baseline` in `metric` (rmse or mae), group by group,
    seeds averaged first.
    """
    ours, theirs = (
        over_seeds(group_table(predictions, c, scheme))[["group", metric]]
        for c in (MODEL, baseline)
    )
    gain = (theirs[metric] - ours[metric]).to_numpy(dtype=np.float64)
    low, high = bootstrap(gain)
    by_group = {str(name): float(value) for name, value in zip(ours["group"], gain, strict=True)}
    return Lift(
        metric=metric,
        baseline=baseline,
        mean=float(gain.mean()),
        low=low,
        high=high,
        by_group=by_group,
    )


def bootstrap(values: Floats, resamples: int = 10_000) -> tuple[float, float]:
    """95% percentile interval of the mean of `values` (N,), resampled with replacement (Efron
    1979), always alike.
    """
    draws = np.random.default_rng(0).integers(0, len(values), size=(resamples, len(values)))
    low, high = np.quantile(values[draws].mean(axis=1), (0.025, 0.975))
    return float(low), float(high)


def lift_slices(predictions: pd.DataFrame, by: str, scheme: str = LOSO) -> list[dict[str, Any]]:
    """`paired_lift` in RMSE within each slice (see `slice_table`): slice, n, groups, lift, low,
    high (VMAF points).
    """
    part = predictions[predictions["scheme"] == scheme]
    part = part.assign(slice=_slice(part, by))
    result = []
    for name, block in part.groupby("slice", sort=True, observed=True):
        lift = paired_lift(block, scheme=scheme)
        n = len(block) // block["seed"].nunique()
        result.append(
            {
                "slice": str(name),
                "n": n,
                "groups": len(lift.by_group),
                "lift": lift.mean,
                "low": lift.low,
                "high": lift.high,
            }
        )
    return result


def evaluation(predictions: pd.DataFrame) -> dict[str, Any]:
    """Everything `eval` tells, as plain JSON values: `summary`, `slices`, and the codec block's
    `lift` where it has one.
    """
    held_out = [scheme for scheme in schemes(predictions) if scheme != LOEO]
    main = LOSO if LOSO in held_out else next(iter(held_out), None)
    result: dict[str, Any] = {
        "scheme": main,
        "summary": summary(predictions),
        "slices": {},
        "lift": None,
        "teacher": None,
    }
    if main is None:
        return result
    result["slices"] = {by: records(slice_table(predictions, MODEL, by, main)) for by in SLICES}
    if has(predictions, TEACHER):
        result["teacher"] = asdict(paired_lift(predictions, TEACHER, scheme=main))
    if has(predictions, CODEC_BLIND):
        result["lift"] = {
            "overall": [
                asdict(paired_lift(predictions, metric=m, scheme=main)) for m in ("rmse", "mae")
            ],
            **{by: lift_slices(predictions, by, main) for by in SLICES},
        }
    return result


def summary(predictions: pd.DataFrame) -> dict[str, Any]:
    """For each scheme: per column the spread of every metric, and the model's table per held-out
    group (or encoder).

    Plain JSON values; a correlation without a value is None, with its reason beside it.
    """
    result: dict[str, Any] = {}
    for scheme in schemes(predictions):
        by = held_out_by(scheme)
        tables = {
            c: group_table(predictions, c, scheme, by) for c in PREDICTORS if has(predictions, c)
        }
        spreads = {
            c: {m: s and asdict(s) for m in METRICS for s in [spread(t, m)]}
            for c, t in tables.items()
        }
        result[scheme] = {
            "held_out": by,
            "metrics": spreads,
            "table": records(over_seeds(tables[MODEL])),
        }
    return result


def held_out_by(scheme: str) -> str:
    """The column whose values a scheme holds out one by one: the encoder in loeo, else
    the group.
    """
    return "encoder" if scheme == LOEO else "group"


def records(table: pd.DataFrame) -> list[dict[str, Any]]:
    """Rows of a table as JSON values: NaN as None, `reason` only where there is one."""
    rows = [{k: _plain(v) for k, v in row.items()} for row in table.to_dict("records")]
    return [{k: v for k, v in row.items() if k != "reason" or v} for row in rows]


def _plain(value: Any) -> Any:
    if isinstance(value, float) and np.isnan(value):
        return None
    return value.item() if isinstance(value, np.generic) else value


def _nan(value: float | None) -> float:
    return float("nan") if value is None else value
