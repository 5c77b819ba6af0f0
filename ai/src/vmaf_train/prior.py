"""What an encode that nobody made would score: `quality_prior`, with numpy alone.

    load --> Prior --belief(statistic)--> Belief --observe(a measured cell)*--> predict --> Foretold

A content is a Gaussian process around the corpus' mean curves, one mean curve for each encoder and
preset. What the content has of its own is a sum of three levels: what all encoders share, what one
encoder's presets share, what one preset has. Each level is a line and a smooth bend along the mean
curve, for the score and for the bits at once; ln(1 + motion2) of the reference hangs on the content
level, so that a content that moves is expected to fall faster as soon as one encode was scored.

Scores are handled as z = ln((v + 2) / (100 + softness - v)), which spreads both ends of the scale;
bits as ln(bits per pixel). `vmaf_train.training.fit_prior` makes the numbers from run folders.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np

from vmaf_train import locate
from vmaf_train.contract import (
    ALIASES,
    DEFAULT_PRESET,
    QUALITY_MAX,
    QUALITY_SCALE,
    feature_value,
    preset_ordinal,
)
from vmaf_train.errors import ModelError
from vmaf_train.process import (
    KNOT_SHARE,
    MOTION_POINT,
    RATE,
    SCORE,
    WIDENING,
    Floats,
    Hyper,
    Points,
    covariance,
    interpolate,
    join,
    place,
    take,
    variances,
)

ID = "quality_prior"
FORMAT = 1
STATISTICS: Mapping[str, str] = {
    "mean": "vmaf_score",
    "harmonic": "vmaf_harmonic_mean",
    "p5": "vmaf_p5",
    "min": "vmaf_min",
}
"""The statistics that are trained, each with the field of a cell row that holds it."""
STAND_INS: Mapping[str, str] = {"p1": "min", "p10": "p5", "worst-window": "harmonic"}
"""Statistics that are not trained, each with the trained one whose curves are nearest: the lowest
frame of a hundred is nearly the lowest; a worst window is the mean of a content that is dear.
"""
Z80 = 1.2815515655446004
"""Standard deviations on either side that hold 80% of a normal distribution."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """One measured cell of a content. `scores` by statistic in VMAF points; `bits_per_pixel` of the
    window's own size; `motion2` is libvmaf's, of the reference.
    """

    encoder: str
    preset: str
    quality: float
    scores: Mapping[str, float]
    bits_per_pixel: float | None
    motion2: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Curve:
    """The corpus' mean curves of one encoder and preset at its `quality` knots, rising."""

    encoder: str
    preset: str
    quality: Floats
    ln_bpp: Floats
    z: Mapping[str, Floats]

    @property
    def spacing(self) -> float:
        """Mean distance between knots, in quality values."""
        return float(np.ptp(self.quality) / max(len(self.quality) - 1, 1))


@dataclass(frozen=True, slots=True, kw_only=True)
class Foretold:
    """What a belief says about encodes at `quality` (N,). `score`, `low` and `high` in VMAF points:
    median and 80% interval; `z`, `z_sd` the same on the scale where it is normal; `bits_per_pixel`
    is a median, `ln_bpp_sd` its spread.
    """

    quality: Floats
    score: Floats
    low: Floats
    high: Floats
    z: Floats
    z_sd: Floats
    bits_per_pixel: Floats
    ln_bpp_sd: Floats

    def chance(self, z_target: float) -> Floats:
        """Probability (N,) that each encode reaches a target that is given on the z scale."""
        standard = (self.z - z_target) / self.z_sd
        return np.array([0.5 * math.erfc(-s / math.sqrt(2)) for s in standard])


@dataclass(frozen=True, slots=True, kw_only=True)
class Relative:
    """Which mean curve stands for a setting: `curve`, whether encoder and preset are known, the
    factor on quality values, and a sentence where it is another's curve.
    """

    curve: int
    knows_encoder: bool
    knows_preset: bool
    factor: float
    note: str | None


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Prior:
    """What is known of any content before its first encode. Made by `load` or `parse`."""

    softness: float
    teacher: str | None
    num_contents: int
    motion_mean: float
    motion_sd: float
    curves: tuple[Curve, ...]
    hyper: Mapping[str, Hyper]
    facts: Mapping[str, object]

    def belief(self, statistic: str = "mean") -> Belief:
        """A fresh belief about one content. Raises ValueError for a statistic without curves."""
        return Belief(self, statistic)

    def to_z(self, score: float) -> float:
        """VMAF points 0..100 on the scale where the process is normal."""
        return math.log((score + 2) / (100 + self.softness - score))

    def to_score(self, z: Floats) -> Floats:
        """VMAF points of z, held in 0..100."""
        grown = np.exp(np.clip(z, -50, 50))
        score: Floats = np.clip(((100 + self.softness) * grown - 2) / (1 + grown), 0, 100)
        return score

    def relative(self, encoder: str, preset: str) -> Relative:
        """The mean curve for a setting: its own, else that of the nearest relative."""
        encoder = ALIASES.get(encoder, encoder)
        known = {curve.encoder for curve in self.curves}
        family = encoder if encoder in known else _family(encoder, known)
        place = preset_ordinal(encoder, preset)
        chosen = min(
            (i for i, c in enumerate(self.curves) if c.encoder == family),
            key=lambda i: _distance(self.curves[i], preset, place),
        )
        curve = self.curves[chosen]
        knows_encoder = encoder == family
        knows_preset = knows_encoder and curve.preset == preset
        note = None
        if not knows_preset:
            note = (
                f"the prior has no {encoder} {preset}; it borrows the curve of {curve.encoder}"
                f" {curve.preset} with wider intervals"
            )
        return Relative(
            curve=chosen,
            knows_encoder=knows_encoder,
            knows_preset=knows_preset,
            factor=quality_max(family) / quality_max(encoder),
            note=note,
        )


def quality_max(encoder: str) -> float:
    """Largest quality value of an encoder's scale, guessed for one outside the contract."""
    return QUALITY_MAX.get(encoder, QUALITY_SCALE if "av1" in encoder else 51.0)


def _family(encoder: str, known: set[str]) -> str:
    """The encoder whose curves stand for one that the prior does not know: of the same format."""
    relatives = (
        (("264", "avc"), "libx264"),
        (("265", "hevc"), "libx265"),
        (("av1",), "libsvtav1"),
        (("vvc", "266"), "libvvenc"),
        (("vp9", "vp8"), "libvpx-vp9"),
    )
    for words, relative in relatives:
        if relative in known and any(word in encoder for word in words):
            return relative
    return "libx264" if "libx264" in known else min(known)


def _distance(curve: Curve, preset: str, place: int) -> tuple[bool, float, str]:
    """Order of relatives: the preset itself, then by distance of the ordinals."""
    away = abs(preset_ordinal(curve.encoder, curve.preset) - place)
    return curve.preset != preset, away, curve.preset


class Belief:
    """What is known of one content: the prior, conditioned on what was measured of it.

    Every observation adds a row to the inverse of the Cholesky factor (a rank-one update), so a
    step costs well under a millisecond. `notes` says what was borrowed.
    """

    def __init__(self, prior: Prior, statistic: str) -> None:
        trained = STAND_INS.get(statistic, statistic)
        if trained not in prior.hyper:
            known = ", ".join((*prior.hyper, *STAND_INS))
            raise ValueError(f"no statistic {statistic!r}; the prior knows {known}")
        self.prior = prior
        self.statistic = trained
        self.notes: list[str] = []
        if trained != statistic:
            self.notes.append(f"the prior has no curves of {statistic}; it uses those of {trained}")
        self._hyper = prior.hyper[trained]
        # the mean curves are known from as many contents only
        self._widening = WIDENING * (1 + 1 / prior.num_contents)
        self._ids: dict[tuple[str, ...], int] = {}
        self._seen: set[tuple[object, ...]] = set()
        self._points: Points | None = None
        self._inverse: Floats = np.zeros((0, 0))  # of the lower Cholesky factor of the observations
        self._white: Floats = np.zeros(0)  # the inverse applied to what deviates from the mean

    def copy(self) -> Belief:
        """A belief that goes its own way from here."""
        other = Belief(self.prior, self.statistic)
        other.notes = list(self.notes)
        other._ids, other._seen = dict(self._ids), set(self._seen)
        other._points, other._inverse, other._white = self._points, self._inverse, self._white
        return other

    def observe(
        self,
        encoder: str,
        preset: str,
        quality: float,
        score: float | None = None,
        *,
        bits_per_pixel: float | None = None,
        motion2: float | None = None,
    ) -> None:
        """Take in one measured cell of this content: its score (VMAF points of this belief's
        statistic), its bits per pixel, the motion2 of the reference; None = not known. The same
        fact given twice counts once.
        """
        if motion2 is not None:
            value = (math.log1p(motion2) - self.prior.motion_mean) / self.prior.motion_sd
            self._add(MOTION_POINT, 0.0, value, ("motion",))
        z = None if score is None else self.prior.to_z(min(max(score, 0.0), 100.0))
        rate = math.log(bits_per_pixel) if bits_per_pixel else None
        if z is None and rate is None:
            return
        points, means = self._places(encoder, preset, np.array([float(quality)]))
        for output, found in ((SCORE, z), (RATE, rate)):
            if found is not None:
                fact = (output, encoder, preset, float(quality))
                self._add(take(points, [output]), means[output], found, fact)

    def observe_cell(self, cell: Measured) -> None:
        """Take in a measured cell, with the score of this belief's statistic."""
        self.observe(
            cell.encoder,
            cell.preset,
            cell.quality,
            cell.scores.get(self.statistic),
            bits_per_pixel=cell.bits_per_pixel,
            motion2=cell.motion2,
        )

    def predict(self, encoder: str, preset: str, qualities: Sequence[float] | Floats) -> Foretold:
        """Scores and bits of encodes at `qualities` (N,), made or not."""
        quality = np.asarray(qualities, dtype=np.float64)
        points, means = self._places(encoder, preset, quality)
        mean, variance = self._condition(points, means)
        n, sd = len(quality), np.sqrt(variance)
        z, z_sd = mean[:n], sd[:n]
        return Foretold(
            quality=quality,
            score=self.prior.to_score(z),
            low=self.prior.to_score(z - Z80 * z_sd),
            high=self.prior.to_score(z + Z80 * z_sd),
            z=z,
            z_sd=z_sd,
            bits_per_pixel=np.exp(mean[n:]),
            ln_bpp_sd=sd[n:],
        )

    def joint(
        self, settings: Sequence[tuple[str, str, Sequence[float] | Floats]]
    ) -> tuple[Floats, Floats]:
        """Mean (M,) and covariance (M, M) over several (encoder, preset, qualities): for each
        setting first z of the scores, then ln(bits per pixel). For draws that hang together.
        """
        parts = [
            self._places(encoder, preset, np.asarray(quality, dtype=np.float64))
            for encoder, preset, quality in settings
        ]
        points = join([part[0] for part in parts])
        means = np.concatenate([part[1] for part in parts])
        own = self._covariance(points, points)
        own[np.diag_indices(len(points))] += self._hyper.nugget[points.output] ** 2
        if self._points is None:
            return means, own
        weights = self._inverse @ self._covariance(self._points, points)
        return means + weights.T @ self._white, own - weights.T @ weights

    def note_of(self, encoder: str, preset: str) -> str | None:
        """A sentence when this setting's curve is a relative's, else None."""
        return self.prior.relative(encoder, preset).note

    def _number(self, *name: str) -> int:
        return self._ids.setdefault(name, len(self._ids))

    def _places(self, encoder: str, preset: str, quality: Floats) -> tuple[Points, Floats]:
        """Points and prior means, (2N,) each: the scores of `quality`, then the rates."""
        relative = self.prior.relative(encoder, preset)
        curve = self.prior.curves[relative.curve]
        own = ALIASES.get(encoder, encoder)
        if relative.note is not None and relative.note not in self.notes:
            self.notes.append(relative.note)
        along = quality * relative.factor
        z = interpolate(curve.quality, curve.z[self.statistic], along)
        rate = interpolate(curve.quality, curve.ln_bpp, along)
        n = len(quality)
        points = Points(
            output=np.repeat(np.array([SCORE, RATE]), n),
            encoder=np.full(2 * n, self._number(own)),
            preset=np.full(2 * n, self._number(own, preset)),
            w=np.tile(place(z), 2),
            x=np.tile(along / (KNOT_SHARE * curve.spacing), 2),
            odd_encoder=np.full(2 * n, float(not relative.knows_encoder)),
            odd_preset=np.full(2 * n, float(not relative.knows_preset)),
        )
        return points, np.concatenate([z, rate])

    def _covariance(self, left: Points, right: Points) -> Floats:
        result: Floats = self._widening * covariance(self._hyper, left, right, np)
        return result

    def _add(self, point: Points, mean: float, value: float, fact: tuple[object, ...]) -> None:
        if fact in self._seen:
            return
        self._seen.add(fact)
        own = float(self._covariance(point, point)[0, 0])
        own += float(self._hyper.nugget[point.output[0]]) ** 2
        deviation = value - mean
        if self._points is None:
            row = np.zeros(0)
            self._points = point
        else:
            row = self._inverse @ self._covariance(self._points, point)[:, 0]
            self._points = join([self._points, point])
        left = math.sqrt(max(own - float(row @ row), 1e-12))
        n = len(row)
        inverse = np.zeros((n + 1, n + 1))
        inverse[:n, :n] = self._inverse
        inverse[n, :n] = -(row @ self._inverse) / left
        inverse[n, n] = 1 / left
        self._inverse = inverse
        self._white = np.append(self._white, (deviation - float(row @ self._white)) / left)

    def _condition(self, points: Points, means: Floats) -> tuple[Floats, Floats]:
        """Posterior means and variances (jitter included) at `points`."""
        own = self._widening * variances(self._hyper, points)
        own = own + self._hyper.nugget[points.output] ** 2
        if self._points is None:
            return means, own
        weights = self._inverse @ self._covariance(self._points, points)
        return means + weights.T @ self._white, np.maximum(own - (weights**2).sum(axis=0), 1e-10)


def measured(row: Mapping[str, Any]) -> Measured | None:
    """An ok cell row as a measurement of its content; None for one without encoder or quality value
    or with another size than its window's, options or a capped rate. A missing statistic is left
    out.
    """
    encoder, quality = row.get("encoder"), row.get("crf")
    if row.get("status", "ok") != "ok" or encoder in (None, "external") or quality is None:
        return None
    if any(row.get(name) for name in ("flags", "encode_width", "options", "maxrate_kbps")):
        return None
    found = {name: row.get(field) for name, field in STATISTICS.items()}
    means = row.get("per_frame_features")
    return Measured(
        encoder=ALIASES.get(encoder, encoder),
        preset=str(row.get("preset") or DEFAULT_PRESET),
        quality=float(quality),
        scores={name: float(value) for name, value in found.items() if value is not None},
        bits_per_pixel=_bits_per_pixel(row),
        motion2=feature_value(means, "motion2") if isinstance(means, dict) else None,
    )


def _bits_per_pixel(row: Mapping[str, Any]) -> float | None:
    kbps, fps = row.get("bitrate_kbps"), row.get("fps")
    if not kbps or not fps or not row.get("width") or not row.get("height"):
        return None
    return float(kbps) * 1000 / float(Fraction(str(fps)) * row["width"] * row["height"])


def load(model_dir: Path | str | None = None) -> Prior:
    """The shipped prior: of the registry under `model_dir` (default: see locate.to_read).

    Raises ModelError when there is none, or when the file is not the one that was shipped.
    """
    folder = locate.to_read(Path(model_dir) if model_dir is not None else None) / "tiny"
    try:
        registry = json.loads((folder / "registry.json").read_bytes())
        entry = next((e for e in registry["entries"] if e["id"] == ID), None)
        if entry is None:
            raise ModelError(
                f"{folder / 'registry.json'} has no {ID}; make one with `vmaf-tune train {ID}"
                f" --loso` and `vmaf-tune ship {ID}`"
            )
        data = (folder / entry["file"]).read_bytes()
    except (OSError, ValueError, KeyError, TypeError) as failure:
        raise ModelError(f"no {ID} can be read under {folder}: {failure}") from failure
    if hashlib.sha256(data).hexdigest() != entry["sha256"]:
        raise ModelError(f"{entry['file']} does not have the sha256 of its registry entry")
    return parse(data)


def parse(data: bytes | str) -> Prior:
    """A Prior from the JSON text of its file. Raises ModelError for anything else."""
    try:
        document = json.loads(data)
        if document["id"] != ID or document["format"] != FORMAT:
            raise ModelError(f"the file is not a {ID} of format {FORMAT}")
        prior = _build(document)
    except (ValueError, KeyError, TypeError, AttributeError, IndexError) as failure:
        raise ModelError(f"the file is no {ID} ({type(failure).__name__}: {failure})") from failure
    _check(prior)
    return prior


def _build(document: Mapping[str, Any]) -> Prior:
    def array(value: object) -> Floats:
        return np.array(value, dtype=np.float64)

    return Prior(
        softness=float(document["softness"]),
        teacher=document["teacher"],
        num_contents=int(document["num_contents"]),
        motion_mean=float(document["motion"]["mean"]),
        motion_sd=float(document["motion"]["sd"]),
        curves=tuple(
            Curve(
                encoder=c["encoder"],
                preset=c["preset"],
                quality=array(c["quality"]),
                ln_bpp=array(c["ln_bpp"]),
                z={name: array(values) for name, values in c["z"].items()},
            )
            for c in document["curves"]
        ),
        hyper={
            name: Hyper(**{field: array(numbers[field]) for field in Hyper.__slots__})
            for name, numbers in document["statistics"].items()
        },
        facts=document.get("facts", {}),
    )


def _check(prior: Prior) -> None:
    """Raise ModelError for numbers that no fit gives."""
    arrays = [c.quality for c in prior.curves] + [c.ln_bpp for c in prior.curves]
    arrays += [values for c in prior.curves for values in c.z.values()]
    arrays += [getattr(h, name) for h in prior.hyper.values() for name in Hyper.__slots__]
    if not all(np.isfinite(a).all() for a in arrays):
        raise ModelError(f"the {ID} holds numbers that are not finite")
    rising = all((np.diff(c.quality) > 0).all() for c in prior.curves)
    whole = all(set(c.z) >= set(prior.hyper) for c in prior.curves)
    if not prior.curves or not prior.hyper or not rising or not whole:
        raise ModelError(f"the {ID} has no curves, or one that is not whole")
    for name, hyper in prior.hyper.items():
        for level in (hyper.content, hyper.encoder, hyper.preset):
            if not np.allclose(level, level.T) or np.linalg.eigvalsh(level).min() < -1e-4:
                raise ModelError(f"the {ID}'s covariance for {name} is none")


def dump(prior: Prior) -> bytes:
    """The prior as JSON text, numbers with seven digits: the same prior, the same bytes."""

    def plain(array: Floats) -> Any:
        return [plain(row) if isinstance(row, np.ndarray) else float(f"{row:.7g}") for row in array]

    document = {
        "id": ID,
        "format": FORMAT,
        "softness": prior.softness,
        "teacher": prior.teacher,
        "num_contents": prior.num_contents,
        "motion": {
            "mean": float(f"{prior.motion_mean:.7g}"),
            "sd": float(f"{prior.motion_sd:.7g}"),
        },
        "curves": [
            {
                "encoder": c.encoder,
                "preset": c.preset,
                "quality": plain(c.quality),
                "ln_bpp": plain(c.ln_bpp),
                "z": {name: plain(values) for name, values in sorted(c.z.items())},
            }
            for c in prior.curves
        ],
        "statistics": {
            name: {field: plain(getattr(hyper, field)) for field in Hyper.__slots__}
            for name, hyper in sorted(prior.hyper.items())
        },
        "facts": prior.facts,
    }
    text = json.dumps(document, separators=(",", ":"), allow_nan=False)
    return (text + "\n").encode()
