"""Where the shipped models are: a folder that is named, the checkout one stands in, the package.

A folder of models holds `tiny/registry.json` and what it names. The wheel carries one; an editable
install has none of its own and falls back to its checkout.
"""

from __future__ import annotations

import os
from pathlib import Path

from vmaf_train.errors import ModelError

ENV_MODELS = "VMAF_TUNE_MODELS"
REGISTRY = Path("tiny", "registry.json")
_PACKAGE = Path(__file__).resolve().parent
_SHIPPED = _PACKAGE / "shipped"
_CHECKOUT = _PACKAGE.parents[2] / "model"


def to_read(named: Path | None = None) -> Path:
    """The folder whose models are used.

    `named` (--model-dir), else VMAF_TUNE_MODELS, else `model` of the checkout around the current
    folder, else what the program came with.
    """
    found = _named(named) or _standing_in()
    if found is not None:
        return found
    return _SHIPPED if (_SHIPPED / REGISTRY).is_file() else _CHECKOUT


def to_write(named: Path | None = None) -> Path:
    """The folder that `ship` changes: as `to_read`, but `model` of the current folder in place of
    what the program came with.

    Raises ModelError for a folder inside the installed package.
    """
    found = _named(named) or _standing_in() or Path("model")
    if found.resolve().is_relative_to(_PACKAGE):
        raise ModelError(
            f"{found} belongs to the installed program; name a folder of your own with --model-dir"
        )
    return found


def _named(named: Path | None) -> Path | None:
    if named is not None:
        return named
    given = os.environ.get(ENV_MODELS)
    return Path(given) if given else None


def _standing_in() -> Path | None:
    """`model` of the nearest folder upwards that has a registry there, relative where it can be."""
    if (Path("model") / REGISTRY).is_file():
        return Path("model")
    here = Path.cwd()
    return next((p / "model" for p in here.parents if (p / "model" / REGISTRY).is_file()), None)
