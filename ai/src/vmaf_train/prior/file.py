"""The file of the prior: read from the registry and checked, and written with the same bytes for
the same prior.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import numpy as np

from vmaf_train import locate
from vmaf_train.contract import Fields
from vmaf_train.errors import ModelError
from vmaf_train.prior.model import MeanCurve, Prior
from vmaf_train.prior.process import Floats, Hyper

ID = "quality_prior"
FORMAT = 1


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


def _build(document: Fields) -> Prior:
    def array(value: object) -> Floats:
        return np.array(value, dtype=np.float64)

    return Prior(
        softness=float(document["softness"]),
        teacher=document["teacher"],
        num_contents=int(document["num_contents"]),
        motion_mean=float(document["motion"]["mean"]),
        motion_sd=float(document["motion"]["sd"]),
        curves=tuple(
            MeanCurve(
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

    def plain(array: Floats) -> list[object]:
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
