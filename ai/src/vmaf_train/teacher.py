"""The teacher itself: the function of libvmaf's model vmaf_v0.6.1 on its six features, in numpy.

    find(ffmpeg) or read(model file) --> Teacher --score(features)--> VMAF points, as libvmaf clips

A nu-support-vector regression with a radial kernel on 211 vectors (libsvm's, which libvmaf links).
For one frame it gives what libvmaf gives, as near as the six digits of libvmaf's log allow. The
model without enhancement gain (NEG) is the same function on other features. No process is started:
an ffmpeg is read as a file, once, and what was found is kept under the digest of that file.
"""

from __future__ import annotations

import hashlib
import json
import mmap
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import msgspec
import platformdirs

from vmaf_train import files
from vmaf_train.contract import FEATURES, NEG_FEATURES, ORDINARY_FEATURES, feature_set
from vmaf_train.errors import ModelError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import ArrayLike, NDArray

    Floats = NDArray[np.float64]

MODELS = (ORDINARY_FEATURES, NEG_FEATURES)
"""libvmaf's models whose score this function is, each on its own features."""
FRAME_ERROR = 2e-4
"""VMAF points: what six digits a feature leave of a frame's score (measured: 1.7e-4)."""
_NAMES = tuple(f"VMAF_integer_feature_{name}_score" for name in FEATURES)
# The slopes of the score and of adm2: what tells vmaf_v0.6.1 from its sisters in one file.
_SLOPES = (0.0120207, 2.8098)
_START = re.compile(rb'\{\s*"param_dict"\s*:')
_LONGEST = 200_000  # bytes of one model's JSON: those of libvmaf have about 20,000
_CHUNK = 16_384  # rows at a time: 16,384 x 211 distances are 28 MB


@dataclass(frozen=True, slots=True, kw_only=True)
class _Transform:
    """score -> p0 + p1 score + p2 score^2; with `out_gte_in` at least the score itself."""

    p0: float = 0.0
    p1: float = 1.0
    p2: float = 0.0
    out_gte_in: Literal["true", "false"] = "false"


@dataclass(frozen=True, slots=True, kw_only=True)
class _ModelDict:
    """The part of libvmaf's model JSON that its score depends on."""

    model_type: Literal["LIBSVMNUSVR"]
    model: str
    feature_names: list[str]
    slopes: list[float]
    intercepts: list[float]
    norm_type: Literal["linear_rescale"]
    score_clip: tuple[float, float]
    score_transform: _Transform
    feature_opts_dicts: list[Mapping[str, object]] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class _ModelFile:
    model_dict: _ModelDict


@dataclass(frozen=True, kw_only=True, eq=False)
class Teacher:
    """The function. `origin` says where its numbers were read, `digest` is that of the numbers."""

    origin: str
    digest: str
    _model: _ModelDict

    def applies_to(self, teacher: str | None, features_of: str | None) -> bool:
        """True where this function on rows of `features_of` is the score of `teacher`."""
        return teacher in MODELS and (features_of or ORDINARY_FEATURES) == feature_set(str(teacher))

    def score(self, features: ArrayLike) -> Floats:
        """VMAF points (N,) in 0..100 of raw features (N, 6) in the order of `contract.FEATURES`.

        Raises ValueError for another shape or values that are not finite.
        """
        import numpy as np

        clipped: Floats = np.clip(self.unclipped(features), *self._model.score_clip)
        return clipped

    def unclipped(self, features: ArrayLike) -> Floats:
        """The same before clipping; may leave 0..100."""
        import numpy as np

        rows = np.asarray(features, np.float64)
        if rows.ndim != 2 or rows.shape[1] != len(FEATURES) or not np.isfinite(rows).all():
            raise ValueError(
                f"features must be finite and of shape (N, {len(FEATURES)}), got {rows.shape}"
            )
        machine = self._machine
        rows = rows * machine.slopes + machine.intercepts
        parts = [machine.decide(rows[at : at + _CHUNK]) for at in range(0, len(rows), _CHUNK)]
        answers = np.concatenate(parts) if parts else np.empty(0)
        scores: Floats = (answers - self._model.intercepts[0]) / self._model.slopes[0]
        return scores

    def phone(self, unclipped: ArrayLike) -> Floats:
        """The score of the phone model (N,) in 0..100 from unclipped scores (N,).

        libvmaf's own polynomial (`score_transform` of the model, asked for by `phone_model`).
        """
        import numpy as np

        scores = np.asarray(unclipped, np.float64)
        how = self._model.score_transform
        moved = how.p0 + how.p1 * scores + how.p2 * scores**2
        if how.out_gte_in == "true":
            moved = np.maximum(moved, scores)
        clipped: Floats = np.clip(moved, *self._model.score_clip)
        return clipped

    @cached_property
    def _machine(self) -> _Machine:
        return _machine(self._model)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Machine:
    """Support vectors (M, 6), their coefficients (M,), and the rescaling of the six features."""

    vectors: Floats
    coefficients: Floats
    gamma: float
    rho: float
    slopes: Floats
    intercepts: Floats

    def decide(self, rows: Floats) -> Floats:
        """The regression's answers (N,) for rescaled features (N, 6)."""
        import numpy as np

        squares = (rows**2).sum(axis=1)[:, None] + (self.vectors**2).sum(axis=1)
        distances = np.maximum(squares - 2 * rows @ self.vectors.T, 0.0)
        answers: Floats = np.exp(-self.gamma * distances) @ self.coefficients - self.rho
        return answers


def _machine(model: _ModelDict) -> _Machine:
    """libsvm's text as arrays, features in our order. Raises ModelError when it is damaged."""
    import numpy as np

    head, _, body = model.model.partition("\nSV\n")
    facts = dict(line.split(" ", 1) for line in head.strip().splitlines())
    order = [model.feature_names.index(name) for name in _NAMES]
    try:
        rows = [line.split() for line in body.strip().splitlines()]
        vectors = np.array([_vector(row[1:]) for row in rows])
        if facts["kernel_type"] != "rbf" or len(rows) != int(facts["total_sv"]):
            raise ValueError(f"{len(rows)} vectors of {facts['total_sv']}, {facts['kernel_type']}")
        return _Machine(
            vectors=vectors[:, order],
            coefficients=np.array([float(row[0]) for row in rows]),
            gamma=float(facts["gamma"]),
            rho=float(facts["rho"]),
            slopes=np.array(model.slopes[1:])[order],
            intercepts=np.array(model.intercepts[1:])[order],
        )
    except (KeyError, ValueError, IndexError) as failure:
        raise ModelError(f"the teacher's support vectors cannot be read: {failure}") from failure


def _vector(cells: Sequence[str]) -> list[float]:
    """One vector of libsvm's sparse text: `3:0.25` is the third number, those left out are 0."""
    vector = [0.0] * len(FEATURES)
    for cell in cells:
        index, _, value = cell.partition(":")
        vector[int(index) - 1] = float(value)
    return vector


def read(file: Path) -> Teacher:
    """The teacher in a model file of libvmaf's, such as vmaf_v0.6.1.json.

    Raises ModelError when it cannot be read or is another model.
    """
    try:
        text = file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as failure:
        raise ModelError(f"{file} cannot be read as text: {failure}") from failure
    found = _convert(text, str(file))
    if found is None:
        raise ModelError(
            f"{file} is not libvmaf's vmaf_v0.6.1: name its vmaf_v0.6.1.json with --teacher-model"
        )
    return found


def find(ffmpeg: Path, sha256: Callable[[Path], str] = files.sha256_file) -> Teacher:
    """The teacher inside an ffmpeg that holds libvmaf with its models built in.

    The file is searched once; later calls read what was kept under its digest, which `sha256`
    tells, in the user's cache. Raises ModelError when it is not there, as where libvmaf is a
    library of its own.
    """
    try:
        kept = platformdirs.user_cache_path("vmaf-tune") / "teacher" / f"{sha256(ffmpeg)}.json"
        known = _kept(kept, ffmpeg)
        if known is not None:
            return known
        with (
            ffmpeg.open("rb") as file,
            mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as binary,
        ):
            for text in _documents(binary):
                found = _convert(text, str(ffmpeg))
                if found is not None:
                    _keep(kept, text)
                    return found
    except (OSError, ValueError) as failure:
        raise ModelError(f"{ffmpeg} cannot be read: {failure}") from failure
    raise ModelError(
        f"{ffmpeg} does not hold libvmaf's model vmaf_v0.6.1; name its file vmaf_v0.6.1.json with"
        " --teacher-model"
    )


def _documents(binary: mmap.mmap) -> Iterator[str]:
    """Every model's JSON in an ffmpeg: text that ends with the object, whatever follows it."""
    decoder = json.JSONDecoder()
    for start in _START.finditer(binary):
        text = binary[start.start() : start.start() + _LONGEST].decode("latin-1")
        with suppress(ValueError):
            _, end = decoder.raw_decode(text)
            yield text[:end]


def _convert(text: str, origin: str) -> Teacher | None:
    """The teacher in `text`, or None when that is another model or nothing of the kind."""
    try:
        model = msgspec.json.decode(text, type=_ModelFile).model_dict
    except (msgspec.ValidationError, msgspec.DecodeError):
        return None
    ours = set(model.feature_names) == set(_NAMES) and model.feature_opts_dicts is None
    near = all(abs(a - b) < 1e-4 for a, b in zip(model.slopes, _SLOPES, strict=False))
    if not ours or not near or not _whole(model.slopes, model.intercepts):
        return None
    digest = hashlib.sha256(msgspec.json.encode(model, order="sorted")).hexdigest()
    return Teacher(origin=origin, digest=digest, _model=model)


def _whole(*lists: Sequence[float]) -> bool:
    return all(len(values) == 1 + len(FEATURES) for values in lists)


def _kept(file: Path, ffmpeg: Path) -> Teacher | None:
    try:
        return _convert(file.read_text(encoding="utf-8"), str(ffmpeg))
    except (OSError, UnicodeDecodeError):
        return None


def _keep(file: Path, text: str) -> None:
    with suppress(OSError):  # a cache that cannot be written costs the next search, nothing else
        file.parent.mkdir(parents=True, exist_ok=True)
        files.write_text(file, text)
