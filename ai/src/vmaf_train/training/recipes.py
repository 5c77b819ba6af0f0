"""How each model is trained: one frozen recipe per model id, and its `seed` variant, which is the
hardware study's.

What was tried on the way to the defaults, and what it gave, is in docs/decisions.md.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

from vmaf_train.contract import MODELS
from vmaf_train.errors import no_model


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """Everything that training a network depends on, besides the rows and the seed.

    One epoch visits every training row once in a new order, or, when `samples_per_epoch` is set,
    draws that many samples (rows in shuffled order, again and again). `schedule` one_cycle: the
    rate rises from lr/25 to lr over the first 30% of the steps and falls to 0, both on a cosine.
    `target_scale`: targets and the last layer live in units of that many VMAF points.
    `window_share`: share of the samples that are the mean of a random run of a cell's frames
    instead of the mean of all (needs frames). `codec_dropout`: share of the samples whose codec
    block is replaced by the codec-blind one. `censored`: a score at the end of 0..100, where the
    teacher clips, asks only that the answer lie there or beyond, since answers are clipped
    likewise. `weight_decay` is Adam's L2 term. `kfold`: grouped folds made besides LOSO (0 = none).
    """

    model_id: str
    name: str
    hidden: tuple[int, ...]
    activation: Literal["gelu", "relu"]
    dropout: float = 0.0
    per_frame: bool
    has_codec: bool
    epochs: int
    batch_size: int
    samples_per_epoch: int | None = None
    lr: float
    schedule: Literal["constant", "one_cycle"] = "constant"
    weight_decay: float = 0.0
    target_scale: float = 1.0
    window_share: float = 0.0
    codec_dropout: float = 0.0
    censored: bool = False
    kfold: int = 0

    def as_json(self) -> dict[str, Any]:
        """The recipe as plain JSON values."""
        return asdict(self) | {"hidden": list(self.hidden)}


def _recipe(model_id: str, name: str, **how: Any) -> Recipe:
    model = MODELS[model_id]
    return Recipe(
        model_id=model_id,
        name=name,
        hidden=model.hidden,
        activation=model.activation,
        per_frame=model.unit == "frame",
        has_codec=model.has_codec,
        **how,
    )


# The hardware study: 200 epochs, Adam 5e-4, batch 32, weight decay 1e-5, no early stopping.
# vmaf_tiny_v2: Adam 1e-3, batch 256, 90 epochs. It gives the network of fr_regressor_v1 and not its
# training: rate and batch are vmaf_tiny_v2's.
SEED: Mapping[str, Recipe] = {
    r.model_id: r
    for r in (
        _recipe("fr_regressor_v2", "seed", epochs=200, batch_size=32, lr=5e-4, weight_decay=1e-5),
        _recipe("fr_regressor_v1", "seed", epochs=30, batch_size=256, lr=1e-3, dropout=0.1),
        _recipe("vmaf_tiny_v2", "seed", epochs=90, batch_size=256, lr=1e-3, kfold=5),
    )
}
DEFAULT: Mapping[str, Recipe] = {
    r.model_id: r
    for r in (
        _recipe(
            "fr_regressor_v2",
            "default",
            epochs=800,
            batch_size=32,
            samples_per_epoch=1024,
            lr=8e-3,
            schedule="one_cycle",
            target_scale=100.0,
            window_share=1.0,
            codec_dropout=0.2,
            censored=True,
        ),
        _recipe(
            "fr_regressor_v1",
            "default",
            epochs=80,
            batch_size=64,
            samples_per_epoch=16_384,
            lr=5e-3,
            schedule="one_cycle",
            target_scale=100.0,
            censored=True,
        ),
        _recipe(
            "vmaf_tiny_v2",
            "default",
            epochs=100,
            batch_size=64,
            samples_per_epoch=16_384,
            lr=1e-2,
            schedule="one_cycle",
            target_scale=100.0,
            censored=True,
            kfold=5,
        ),
    )
}
_VARIANTS = {"default": DEFAULT, "seed": SEED}


def recipe(model_id: str, name: str = "default", **changes: Any) -> Recipe:
    """The recipe `name` (default or seed) of a model, with `changes` that are not None.

    `hidden` (width) and `depth` rebuild the network; any change is told by a `+` after the name.
    Raises ValueError for an unknown model or recipe or a value that makes no sense.
    """
    if name not in _VARIANTS:
        raise ValueError(f"no recipe is called {name!r}; use {' or '.join(_VARIANTS)}")
    if model_id not in _VARIANTS[name]:
        raise ValueError(no_model(model_id, tuple(_VARIANTS[name])))
    base = _VARIANTS[name][model_id]
    wanted = {k: v for k, v in changes.items() if v is not None}
    width, depth = wanted.pop("hidden", None), wanted.pop("depth", None)
    for option, value in {"hidden": width, "depth": depth, **wanted}.items():
        if value is None:
            continue
        low = 0.0 if option in ("weight_decay", "kfold") else 1e-12
        if not low <= value < 1e9 or (option == "kfold" and value == 1):
            raise ValueError(f"--{option.replace('_', '-')} {value} makes no sense for {model_id}")
    if width is not None or depth is not None:
        wanted["hidden"] = (width or base.hidden[0],) * (depth or len(base.hidden))
    changed = replace(base, **wanted)
    return base if changed == base else replace(changed, name=f"{name}+")
