"""The training loop, for one network, top to bottom. `batched.py` runs the same steps for all folds
and seeds at once.

Same job, same weights: what a network sees depends on its recipe, rows, fold and seed only.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from vmaf_train.contract import SCORE_RANGE, VOCABULARY
from vmaf_train.corpus.dataset import Dataset, Floats, Ints
from vmaf_train.errors import DependencyError
from vmaf_train.training.network import Regressor, initial_weights, share_unknown
from vmaf_train.training.recipes import Recipe
from vmaf_train.training.sampling import Pool, TrainingJob, draw_epoch, samples_per_epoch
from vmaf_train.training.scaler import fit_scaler

BETAS, EPSILON = (0.9, 0.999), 1e-8
WARM_UP = 0.3
OnEpoch = Callable[[int, float], None]
"""Called after every epoch with the number of finished epochs and the mean training loss in VMAF
points squared.
"""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Trained:
    """A trained network: (W (out,in), b (out,)) float32 of each layer, the last in VMAF points, and
    its own scaler.
    """

    job: TrainingJob
    activation: str
    layers: list[tuple[NDArray[np.float32], NDArray[np.float32]]]
    mean: Floats
    std: Floats
    trained_encoders: tuple[str, ...]


def rate(recipe: Recipe, progress: float) -> float:
    """Learning rate when the share `progress` in [0, 1) of all steps is done."""
    if recipe.schedule == "constant":
        return recipe.lr
    if progress < WARM_UP:
        low, high, x = recipe.lr / 25, recipe.lr, progress / WARM_UP
    else:
        low, high, x = recipe.lr, 0.0, (progress - WARM_UP) / (1 - WARM_UP)
    return low + (high - low) * (1 - math.cos(math.pi * x)) / 2


def error(recipe: Recipe, answer: Tensor, target: Tensor) -> Tensor:
    """Answer minus target, both in units of `target_scale`; 0 where a clipped target is met or
    passed (`censored`).
    """
    bounds = error_bounds(recipe, target)
    difference = answer - target
    return difference.clamp(*bounds) if bounds else difference


def error_bounds(recipe: Recipe, target: Tensor) -> tuple[Tensor, Tensor] | None:
    """The lowest and the highest error that counts for each target: a target at an end of the scale
    asks nothing of an answer beyond it. None where every error counts.
    """
    if not recipe.censored:
        return None
    low, high = (end / recipe.target_scale for end in SCORE_RANGE)
    any_error = torch.full_like(target, math.inf)
    return (-any_error).masked_fill(target <= low, 0.0), any_error.masked_fill(target >= high, 0.0)


def dropout_masks(recipe: Recipe, n: int, generator: torch.Generator) -> list[Tensor]:
    """A factor (n, width) of 0 or 1/(1-p) for each hidden layer; none without dropout."""
    if not recipe.dropout:
        return []
    draws = torch.rand(n, sum(recipe.hidden), generator=generator).split(recipe.hidden, dim=1)
    return [(draw >= recipe.dropout) / (1 - recipe.dropout) for draw in draws]


def train_one(
    recipe: Recipe, job: TrainingJob, data: Dataset, pool: Pool, on_epoch: OnEpoch | None = None
) -> Trained:
    """Train the network of one job, one batch after the other."""
    generator = job.generator()
    mean, std = fit_scaler(data.features[job.rows])
    scaler = [torch.tensor(v, dtype=pool.dtype, device=pool.device) for v in (mean, std)]
    net = Regressor(
        recipe,
        [(w.to(pool.dtype), b.to(pool.dtype)) for w, b in initial_weights(recipe, generator)],
    )
    net.to(pool.device)
    adam = torch.optim.Adam(
        net.parameters(), lr=recipe.lr, betas=BETAS, eps=EPSILON, weight_decay=recipe.weight_decay
    )
    n, batch = samples_per_epoch(recipe, job), recipe.batch_size
    total, step = recipe.epochs * -(-n // batch), 0
    for epoch in range(recipe.epochs):
        draw, loss_sum = draw_epoch(recipe, job, pool, generator), 0.0
        for begin in range(0, n, batch):
            x, y = pool.inputs(
                draw.part(slice(begin, begin + batch)), *scaler, codec=recipe.has_codec
            )
            masks = [m.to(x) for m in dropout_masks(recipe, len(y), generator)]
            adam.param_groups[0]["lr"] = rate(recipe, step / total)
            loss = torch.mean(error(recipe, net(x, masks), y / recipe.target_scale) ** 2)
            adam.zero_grad()
            loss.backward()
            adam.step()
            loss_sum += loss.item() * len(y)
            step += 1
        if on_epoch:
            on_epoch(epoch + 1, loss_sum / n * recipe.target_scale**2)
    return finish(recipe, job, data, net.layers(), mean, std)


def finish(
    recipe: Recipe,
    job: TrainingJob,
    data: Dataset,
    layers: Sequence[tuple[Tensor, Tensor]],
    mean: Floats,
    std: Floats,
) -> Trained:
    """Weights as they are used and exported: in VMAF points, untrained encoder columns equal to
    `unknown`'s.
    """
    used = _used_words(data, job.rows)
    arrays = []
    for i, (w, b) in enumerate(layers):
        if i == 0 and recipe.has_codec:
            w = share_unknown(w, [word in used for word in VOCABULARY])
        scale = recipe.target_scale if i == len(layers) - 1 else 1.0
        arrays.append(((w * scale).cpu().float().numpy(), (b * scale).cpu().float().numpy()))
    return Trained(
        job=job,
        activation=recipe.activation,
        layers=arrays,
        mean=mean,
        std=std,
        trained_encoders=used if recipe.has_codec else (),
    )


def predict(trained: Trained, features: Floats, codec: Floats | None) -> Floats:
    """Scores (N,), VMAF points in 0..100, of raw features (N,6) [and codec blocks (N,14)], in
    float32 as ONNX does.
    """
    x = (features - trained.mean) / trained.std
    x = x if codec is None else np.concatenate([x, codec], axis=1)
    a = torch.from_numpy(x).float()
    for i, (w, b) in enumerate(trained.layers):
        a = torch.nn.functional.linear(a, torch.from_numpy(w), torch.from_numpy(b))
        if i + 1 < len(trained.layers):
            a = torch.nn.functional.gelu(a) if trained.activation == "gelu" else torch.relu(a)
    scores: Floats = a.squeeze(-1).clamp(*SCORE_RANGE).double().numpy()
    return scores


def free_cores() -> int:
    """Cores without work of others, at least 1. More threads than that wait for each other and are
    many times slower.
    """
    cores = (
        len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    )
    load = os.getloadavg()[0] if hasattr(os, "getloadavg") else 0.0
    return max(1, cores - round(load))


def choose_device(name: str) -> torch.device:
    """`auto` (CUDA where it works, else the CPU), `cpu`, `cuda` or `cuda:N`. Raises DependencyError
    without it.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.zeros(1, device=device)
    except (RuntimeError, AssertionError) as failure:
        raise DependencyError(
            f"device {name!r} cannot be used here; use auto, cpu, cuda or cuda:N"
        ) from failure
    return device


def _used_words(data: Dataset, rows: Ints) -> tuple[str, ...]:
    counts = data.codec[rows, : len(VOCABULARY)].sum(axis=0)
    return tuple(word for word, count in zip(VOCABULARY, counts, strict=True) if count > 0)
