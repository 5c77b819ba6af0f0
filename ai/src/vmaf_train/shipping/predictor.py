"""Quality predictions from a shipped model: raw features in, VMAF points out, through onnxruntime.

    load(model_id, model_dir) --> Predictor --predict(features, codec)--> VMAF points (N,)

Prints nothing: `provider` says where it runs, `notes(...)` what a caller should tell its user.
"""

from __future__ import annotations

import contextlib
import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from vmaf_train.contract import (
    CODEC_DIM,
    DEFAULT_ORDINAL,
    NUM_FEATURES,
    UNKNOWN,
    ModelContract,
    codec_block,
    knows_preset,
    slot,
)
from vmaf_train.errors import DependencyError, ModelError
from vmaf_train.model_file import inspect
from vmaf_train.model_file.inspect import Artifact
from vmaf_train.model_file.sidecar import check_sidecar
from vmaf_train.shipping import registry

CPU, CUDA = "CPUExecutionProvider", "CUDAExecutionProvider"
Device = Literal["auto", "cpu", "cuda"]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Predictor:
    """One loaded model. `provider` is the onnxruntime provider that really runs it, of those
    `device` allows.
    """

    artifact: Artifact
    sidecar: Mapping[str, Any]
    provider: str
    device: Device
    _session: Any

    @property
    def contract(self) -> ModelContract:
        """What the model takes and gives."""
        return self.artifact.contract

    @property
    def provider_note(self) -> str:
        """Where the model runs, as half a sentence for the user."""
        if self.provider == CUDA:
            return "on the GPU (CUDA)"
        return "on the CPU" if self.device == "cpu" else "on the CPU (no CUDA provider works here)"

    def predict(
        self,
        features: ArrayLike,
        codec: ArrayLike | None = None,
        *,
        encoder: str | None = None,
        preset: str | None = None,
        quality: float | None = None,
    ) -> NDArray[np.float64]:
        """VMAF points (N,) for RAW features (N, 6) in the order of `contract.FEATURES`.

        For a model with a codec input give `codec` (N, 14), or one `encoder`, `preset`, `quality`
        for all rows (leave them out for the codec-blind input). Raises ValueError for another
        shape, values that are not finite, settings of another type, half of the settings, or a
        codec given to a model that takes none.
        """
        x = np.asarray(features, np.float64)
        if x.ndim != 2 or x.shape[1] != NUM_FEATURES or not np.isfinite(x).all():
            raise ValueError(
                f"features must be finite and of shape (N, {NUM_FEATURES}), got {x.shape}"
            )
        if self.contract.scaler == "caller":
            x = (x - self.artifact.feature_mean) / self.artifact.feature_std
        feed = {"features": x.astype(np.float32)}
        if self.contract.has_codec:
            feed["codec"] = _codec(len(x), codec, encoder, preset, quality)
        elif any(given is not None for given in (codec, encoder, preset, quality)):
            raise ValueError(
                f"{self.contract.id} takes no codec: leave out codec, encoder, preset and quality"
            )
        score: NDArray[np.float32] = self._session.run([self.contract.output], feed)[0]
        return score.astype(np.float64)

    def notes(self, encoder: str | None, preset: str | None) -> list[str]:
        """Sentences on what the answer for these settings leaves out; None as encoder is the
        codec-blind input.
        """
        if not self.contract.has_codec:
            return []
        if encoder is None:
            return ["no encoder is named: the answer is the codec-blind one"]
        said = []
        if encoder not in self.artifact.trained_encoders:
            why = (
                "is outside the vocabulary of"
                if slot(encoder) == UNKNOWN
                else "was never in the training data of"
            )
            said.append(
                f"{encoder} {why} {self.contract.id}: the answer is the one for an unknown encoder"
            )
        if not knows_preset(encoder, preset):
            said.append(
                f"{encoder} has no preset {preset!r}: it is read as one of ordinal"
                f" {DEFAULT_ORDINAL} of 0..9"
            )
        return said

    def self_test(self) -> float:
        """Largest difference in VMAF points between this file and torch on the real rows stored in
        the sidecar.

        Raises ModelError when the sidecar holds no such rows.
        """
        rows = self.sidecar.get("self_test") or {}
        try:
            expected = np.asarray(rows["score"], np.float64)
            found = self.predict(rows["features"], rows.get("codec"))
            if not len(expected) or expected.shape != found.shape:
                raise ValueError("it needs one score per row")
        except (KeyError, TypeError, ValueError) as failure:
            raise ModelError(
                f"{self.contract.id}: the sidecar's self-test rows cannot be used: {failure}"
            ) from failure
        return float(np.abs(found - expected).max())


def load(model_id: str, model_dir: Path, device: Device = "auto") -> Predictor:
    """The shipped model `model_id` of the registry under `model_dir`.

    `device`: auto = the GPU where onnxruntime's CUDA provider really works, else the CPU; cuda =
    nothing but the GPU. Raises ModelError for a registry, file or sidecar that is refused (see
    `registry.load`, `artifact.inspect`, `artifact.check_sidecar`), DependencyError when onnx or
    onnxruntime is missing or the wanted device does not work.
    """
    shipped = registry.load(model_dir)
    pair = registry.read_pair(shipped.folder, shipped.entry(model_id))
    return from_pair(model_id, pair.data, json.loads(pair.sidecar), device)


def from_pair(
    model_id: str, onnx_bytes: bytes, sidecar: Mapping[str, Any], device: Device = "auto"
) -> Predictor:
    """A model that is not (or not yet) in a registry, such as a candidate. Raises as
    `load` does.
    """
    inspected = inspect.inspect(onnx_bytes, model_id)
    check_sidecar(inspected, sidecar)
    session = _session(onnx_bytes, device)
    provider = session.get_providers()[0]
    return Predictor(
        artifact=inspected, sidecar=sidecar, provider=provider, device=device, _session=session
    )


def _codec(
    count: int,
    codec: ArrayLike | None,
    encoder: str | None,
    preset: str | None,
    quality: float | None,
) -> NDArray[np.float32]:
    if codec is None:
        if (encoder is None) != (quality is None) or (encoder is None and preset is not None):
            raise ValueError(
                "encoder and quality value go together, and a preset with them; leave all out for"
                " codec-blind"
            )
        block: Sequence[float] = codec_block(encoder, preset, quality)
        return np.tile(np.asarray(block, np.float32), (count, 1))
    blocks = np.asarray(codec, np.float32)
    if blocks.shape != (count, CODEC_DIM) or not np.isfinite(blocks).all():
        raise ValueError(
            f"codec must be finite and of shape ({count}, {CODEC_DIM}), got {blocks.shape}"
        )
    return blocks


def _session(onnx_bytes: bytes, device: Device) -> Any:
    try:
        import onnxruntime as ort
    except ImportError as failure:
        raise DependencyError(
            "predictions need onnxruntime: pip install 'vmaf-tune[predict]'"
        ) from failure
    # A GPU build without a GPU logs errors while it falls back; `get_providers` says what really
    # happened.
    ort.set_default_logger_severity(4)
    options = ort.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = 1
    providers: list[Any] = [CPU]
    if device != "cpu" and CUDA in ort.get_available_providers():
        with contextlib.redirect_stdout(io.StringIO()):  # it prints every library it does not find
            ort.preload_dlls()
        providers.insert(
            0, (CUDA, {"use_tf32": "0"})
        )  # TF32 keeps 10 bits: too few for parity with torch
    session = ort.InferenceSession(onnx_bytes, options, providers=providers)
    if device == "cuda" and session.get_providers()[0] != CUDA:
        raise DependencyError(
            "onnxruntime's CUDA provider does not work here; use --device cpu or auto"
        )
    return session
