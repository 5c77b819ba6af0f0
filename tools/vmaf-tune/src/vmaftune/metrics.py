"""Metrics beside VMAF: which there are, what a frame holds of each, and how frames become one
number. Pure: no file is opened here.

A frame's value of None has no error at all: the two pictures are equal, and a ratio of signal to
noise has no end. So is a mean over frames that are all equal.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from vmaf_train.corpus import pooling

from vmaftune.errors import UsageError

VMAF = "vmaf"
Values = Sequence[float | None]
Columns = Mapping[str, Values]
"""Values of every frame, by column."""

XPSNR_WEIGHTS = (4.0, 1.0, 1.0)
"""What the squared errors of Y, U and V count for: the samples that each has in 4:2:0."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Metric:
    """A metric by its `name`, which is also the column of its value of a frame; `planes` are
    further columns. `mean` pools frames.

    `label` and `unit` are for readers. `is_better_high` is False where more is worse. `digits` are
    shown. Curves that share less than `least_common` units have no BD-rate. `targets` are the
    values that a report looks up, best last. `least` are the shortest long and short side that it
    can be measured on, pixels. `cost` is what it adds to a scoring, as a share.
    """

    name: str
    label: str
    unit: str
    mean: Callable[[Columns], float | None]
    planes: tuple[str, ...] = ()
    is_better_high: bool = True
    digits: int = 2
    least_common: float = 0.5
    least: tuple[int, int] = (0, 0)
    cost: float = 0.2

    @property
    def columns(self) -> tuple[str, ...]:
        """Its columns of a frame row."""
        return (self.name, *self.planes)

    def statistic(self, name: str, columns: Columns, frames_per_second: float) -> float | None:
        """As `pool`; None for a mean that the metric does not have, and of a spread over frames
        without an end.
        """
        if name == "harmonic" and not self.is_better_high:
            return None
        if name == "std":
            values = [v for v in columns[self.name] if v is not None]
            whole = len(values) == len(columns[self.name])
            return pooling.deviation(values) if whole else None
        return self.pool(name, columns, frames_per_second)

    def pool(self, statistic: str, columns: Columns, frames_per_second: float) -> float | None:
        """A statistic over frames; that of `mean` is the metric's own.

        Percentiles and the worst window are of the frames' values, from the worst end: `p5` of a
        metric of which more is worse is its 95th percentile, and `min` its maximum.
        """
        if statistic == "mean":
            return self.mean(columns)
        sign = 1.0 if self.is_better_high else -1.0
        values = [math.inf if v is None else sign * v for v in columns[self.name]]
        if statistic == "harmonic" and sign < 0:
            raise UsageError(f"{self.name} has no harmonic mean: more of it is worse")
        found = pooling.statistic(statistic, values, frames_per_second=frames_per_second)
        return sign * found if math.isfinite(found) else None


def _arithmetic(name: str) -> Callable[[Columns], float | None]:
    def mean(columns: Columns) -> float | None:
        values = [v for v in columns[name] if v is not None]
        return sum(values) / len(values) if values else None

    return mean


def _decibels(error: float) -> float | None:
    """A squared error, as a share of the peak's square, in dB; None for none."""
    return -10 * math.log10(error) if error > 0 else None


def _error(decibels: float | None) -> float:
    return 0.0 if decibels is None else 10 ** (-decibels / 10)


def psnr_mean(columns: Columns) -> float | None:
    """PSNR of the mean squared error over frames, and not the mean of the frames' dB: a few equal
    frames would have no mean. ffmpeg's psnr filter ends with the same number.
    """
    values = columns["psnr"]
    return _decibels(sum(map(_error, values)) / len(values))


def xpsnr_of_frame(planes: Sequence[float | None]) -> float | None:
    """XPSNR of one frame from those of Y, U and V: 4:1:1 of their squared errors, in dB.

    C. R. Helmrich, M. Siekmann, S. Becker, S. Bosse, D. Marpe, T. Wiegand, "XPSNR: A Low-Complexity
    Extension of the Perceptually Weighted Peak Signal-to-Noise Ratio for High-Resolution Video
    Quality Assessment", ICASSP 2020, defines it of a plane; the weights are the planes' samples.
    """
    errors = [weight * _error(v) for weight, v in zip(XPSNR_WEIGHTS, planes, strict=True)]
    return _decibels(sum(errors) / sum(XPSNR_WEIGHTS))


def xpsnr_mean(columns: Columns) -> float | None:
    """XPSNR over frames: of each plane the square of the mean root of its weighted squared error,
    as ffmpeg's xpsnr filter ends with, then the planes as `xpsnr_of_frame`.
    """
    planes = []
    for name in ("xpsnr_y", "xpsnr_u", "xpsnr_v"):
        roots = [math.sqrt(_error(v)) for v in columns[name]]
        planes.append(_decibels((sum(roots) / len(roots)) ** 2))
    return xpsnr_of_frame(planes)


def ciede_mean(columns: Columns) -> float | None:
    """libvmaf's ciede2000, 45 - 20 log10 of a frame's mean colour difference, of the mean colour
    difference over frames.
    """
    values = columns["ciede2000"]
    differences = [0.0 if v is None else 10 ** ((45 - v) / 20) for v in values]
    total = sum(differences) / len(differences)
    return 45 - 20 * math.log10(total) if total > 0 else None


METRICS: Mapping[str, Metric] = {
    metric.name: metric
    for metric in (
        Metric(
            name="neg",
            label="VMAF NEG",
            unit="points",
            mean=_arithmetic("neg"),
            least_common=1.0,
            cost=0.75,
        ),
        Metric(
            name="xpsnr",
            label="XPSNR",
            unit="dB",
            mean=xpsnr_mean,
            planes=("xpsnr_y", "xpsnr_u", "xpsnr_v"),
        ),
        Metric(
            name="psnr",
            label="PSNR",
            unit="dB",
            mean=psnr_mean,
            planes=("psnr_y", "psnr_cb", "psnr_cr"),
            cost=0.05,
        ),
        Metric(
            name="ssim",
            label="SSIM",
            unit="",
            mean=_arithmetic("ssim"),
            digits=4,
            least_common=0.005,
            cost=1.0,
        ),
        Metric(
            name="ms_ssim",
            label="MS-SSIM",
            unit="",
            mean=_arithmetic("ms_ssim"),
            digits=4,
            least_common=0.005,
            # Five scales, each half of the one before, of at least 11 pixels.
            least=(176, 176),
            cost=2.0,
        ),
        Metric(
            name="cambi",
            label="CAMBI",
            unit="",
            mean=_arithmetic("cambi"),
            is_better_high=False,
            least_common=0.5,
            # Measured: libvmaf refuses pictures with both sides below 216.
            least=(216, 0),
            cost=0.35,
        ),
        Metric(
            name="ciede2000",
            label="CIEDE2000",
            unit="dB",
            mean=ciede_mean,
            cost=3.0,
        ),
    )
}
"""The metrics beside VMAF, by name, in the order in which they are kept."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Scale:
    """What a report's curves are drawn and compared on: VMAF or another metric.

    `targets` are looked up, `usual` is the one of a fresh page. Curves that share less than
    `least_common` have no BD-rate.
    """

    name: str
    label: str
    digits: int
    targets: tuple[float, ...]
    usual: float
    least_common: float = 1.0
    is_better_high: bool = True

    @property
    def sign(self) -> float:
        """1, or -1 where more is worse: what a value is times, so that more is better."""
        return 1.0 if self.is_better_high else -1.0

    @property
    def at_least(self) -> str:
        """The sign between the metric and a target that is met."""
        return "≥" if self.is_better_high else "≤"


_POINTS = tuple(range(60, 100))
_DECIBELS = tuple(range(25, 56))
_SHARES = tuple(round(0.8 + 0.005 * i, 3) for i in range(40))
_BANDING = tuple(range(1, 21))
VMAF_SCALE = Scale(name=VMAF, label="VMAF", digits=2, targets=_POINTS, usual=93)
_TARGETS: Mapping[str, tuple[tuple[float, ...], float]] = {
    "neg": (_POINTS, 93),
    "xpsnr": (_DECIBELS, 40),
    "psnr": (_DECIBELS, 40),
    "ssim": (_SHARES, 0.98),
    "ms_ssim": (_SHARES, 0.98),
    "cambi": (_BANDING, 5),
    "ciede2000": (_DECIBELS, 40),
}


def scale_of(name: str) -> Scale:
    """The scale of a metric. Raises UsageError for one that there is not."""
    check_known("--metric", name, "mean")
    if name == VMAF:
        return VMAF_SCALE
    metric = METRICS[name]
    targets, usual = _TARGETS[name]
    return Scale(
        name=name,
        label=metric.label,
        digits=metric.digits,
        targets=targets,
        usual=usual,
        least_common=metric.least_common,
        is_better_high=metric.is_better_high,
    )


NAMES = (VMAF, *METRICS)
COLUMNS = (VMAF, *(column for metric in METRICS.values() for column in metric.columns))
"""Columns of a frame row that hold scores, VMAF's first."""
STATISTICS = (*pooling.STATISTICS, pooling.WORST_WINDOW)


def parse_metrics(text: str | None, where: str = "--metrics") -> tuple[str, ...]:
    """`xpsnr,vmaf,psnr` as the metrics beside VMAF, each once, in the table's order. VMAF is always
    measured. Raises UsageError.
    """
    asked = [word.strip().lower() for word in (text or "").split(",") if word.strip()]
    if text is not None and not asked:
        raise UsageError(f"{where} is empty; name some of {','.join(NAMES)}")
    unknown = [word for word in asked if word not in NAMES]
    if unknown:
        raise UsageError(
            f"{where}: there is no metric {unknown[0]!r}; those there are: {', '.join(NAMES)}"
        )
    return ordered(asked)


def ordered(names: Sequence[str]) -> tuple[str, ...]:
    """The metrics among `names`, each once, in the table's order."""
    return tuple(name for name in METRICS if name in names)


def neg_of(teacher: str) -> str:
    """The NEG model that belongs to a model of libvmaf's. Raises UsageError for one that is NEG
    itself, or that came as a file.
    """
    if teacher.endswith("neg"):
        raise UsageError(f"{teacher} is a NEG model already; leave out neg")
    if not teacher.startswith("vmaf_"):
        raise UsageError(f"{teacher} came as a file: no NEG model belongs to it; leave out neg")
    return f"{teacher}neg"


def cost_of(names: Sequence[str]) -> float:
    """How much longer a scoring takes with these metrics, as a factor."""
    return 1 + sum(METRICS[name].cost for name in names)


def check_size(metrics: Sequence[str], width: int, height: int, where: str) -> None:
    """Raise UsageError for a metric that cannot be measured on pictures of this size."""
    longer, shorter = max(width, height), min(width, height)
    for name in metrics:
        least_long, least_short = METRICS[name].least
        if longer < least_long or shorter < least_short:
            need = (
                f"sides of at least {least_short} pixels"
                if least_short
                else f"a side of at least {least_long} pixels"
            )
            raise UsageError(
                f"--metrics {name}: {where} is {width}x{height}, and libvmaf's {name} needs {need};"
                f" leave {name} out, or use a larger --scale"
            )


def label_of(name: str) -> str:
    """What readers call a metric; of one that this version does not know, its name."""
    if name == VMAF:
        return "VMAF"
    return METRICS[name].label if name in METRICS else name


@dataclass(frozen=True, slots=True, kw_only=True)
class Goal:
    """A limit on a statistic of a metric: `xpsnr=40`, `cambi<=5`, `vmaf.p5>=85`."""

    metric: str
    limit: float
    statistic: str = "mean"
    is_least: bool = True

    def holds(self, value: float | None) -> bool:
        """True where a value (None: no error at all) keeps the limit."""
        if value is None:
            value = math.inf
        return value >= self.limit if self.is_least else value <= self.limit

    @property
    def what(self) -> str:
        """What is bounded, for a sentence: `XPSNR`, `p5 VMAF`."""
        label = label_of(self.metric)
        return label if self.statistic == "mean" else f"{self.statistic} {label}"

    def shown(self, value: float | None) -> str:
        """A value of what is bounded, for a reader."""
        if value is None or not math.isfinite(value):
            return "no error at all"
        digits = 2 if self.metric == VMAF else METRICS[self.metric].digits
        unit = "" if self.metric == VMAF else METRICS[self.metric].unit
        return f"{value:.{digits}f}" + (f" {unit}" if unit == "dB" else "")

    def __str__(self) -> str:
        sign = ">=" if self.is_least else "<="
        name = self.metric if self.statistic == "mean" else f"{self.metric}.{self.statistic}"
        return f"{name}{sign}{self.limit:g}"


_GUARD = re.compile(r"([a-z0-9_]+)(?:\.([a-z0-9-]+))?\s*(<=|>=)\s*(-?[0-9.]+(?:e-?\d+)?)")


def parse_guards(text: str | None) -> tuple[Goal, ...]:
    """`cambi<=5,vmaf.p5>=85` as limits. Raises UsageError."""
    return tuple(_guard(word.strip()) for word in (text or "").split(",") if word.strip())


def _guard(text: str) -> Goal:
    match = _GUARD.fullmatch(text.lower())
    number = _number(match[4]) if match else None
    if match is None or number is None:
        raise UsageError(
            f"--guard takes a metric and a limit such as cambi<=5 or vmaf.p5>=85, not {text!r}"
        )
    check_known("--guard", match[1], match[2] or "mean")
    return Goal(
        metric=match[1], limit=number, statistic=match[2] or "mean", is_least=match[3] == ">="
    )


def parse_target(text: str) -> tuple[str, float]:
    """`93` as ("vmaf", 93), `xpsnr=40` as ("xpsnr", 40). Raises UsageError."""
    name, _, number = text.strip().rpartition("=")
    value = _number(number)
    if value is None:
        raise UsageError(f"--target takes VMAF points or a metric such as xpsnr=40, not {text!r}")
    metric = name.strip().lower() or VMAF
    check_known("--target", metric, "mean")
    return metric, value


def goal_of(metric: str, limit: float, statistic: str) -> Goal:
    """The target on a metric: at least `limit`, at most where more of it is worse."""
    is_least = metric == VMAF or METRICS[metric].is_better_high
    return Goal(metric=metric, limit=limit, statistic=statistic, is_least=is_least)


def check_known(flag: str, metric: str, statistic: str) -> None:
    """Raise UsageError for a metric or a statistic that there is not."""
    if metric not in NAMES:
        raise UsageError(
            f"{flag}: there is no metric {metric!r}; those there are: {', '.join(NAMES)}"
        )
    if statistic not in STATISTICS:
        raise UsageError(
            f"{flag}: there is no statistic {statistic!r}; use one of {', '.join(STATISTICS)}"
        )


def _number(text: str) -> float | None:
    try:
        value = float(text)
    except ValueError:
        return None
    return value if math.isfinite(value) else None
