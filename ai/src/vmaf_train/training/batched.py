"""All folds and seeds as one program: parameters stacked along a first axis M, every step one
batched product a layer.

The gradient of these small MLPs is written out, which keeps all parameters of M networks in one (M,
P) tensor: Adam is then a handful of operations however many networks there are. `train.train_one`
is the reference it is tested against.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from vmaf_train.corpus.dataset import Dataset, Floats, Ints
from vmaf_train.training.network import initial_weights, widths
from vmaf_train.training.recipes import Recipe
from vmaf_train.training.sampling import Draw, Pool, TrainingJob, draw_epoch, samples_per_epoch
from vmaf_train.training.scaler import fit_scaler
from vmaf_train.training.train import (
    BETAS,
    EPSILON,
    OnEpoch,
    Trained,
    dropout_masks,
    error,
    finish,
    rate,
)


class Stack:
    """M networks of one shape: `flat` (M, P) holds all parameters, `W[i]` (M, in, out), `b[i]` (M,
    1, out) are its views.
    """

    def __init__(self, shapes: Sequence[tuple[int, int]], num_models: int, like: Tensor) -> None:
        self.flat = like.new_zeros(num_models, sum(n_in * n_out + n_out for n_in, n_out in shapes))
        self.W: list[Tensor] = []
        self.b: list[Tensor] = []
        at = 0
        for n_in, n_out in shapes:
            self.W.append(self.flat[:, at : at + n_in * n_out].view(num_models, n_in, n_out))
            at += n_in * n_out
            self.b.append(self.flat[:, at : at + n_out].view(num_models, 1, n_out))
            at += n_out

    def layers(self, m: int) -> list[tuple[Tensor, Tensor]]:
        """Weights (out, in) and biases (out,) of network `m`, a pair for each layer."""
        return [(w[m].T, b[m, 0]) for w, b in zip(self.W, self.b, strict=True)]


def train_batched(
    recipe: Recipe,
    jobs: Sequence[TrainingJob],
    data: Dataset,
    pool: Pool,
    on_epoch: OnEpoch | None = None,
) -> list[Trained]:
    """Train the networks of all jobs together; in the order of `jobs`.

    Networks with more rows take more steps in an epoch. Sorted by that number, those that still
    have a batch are always the first k, so a ragged end costs a slice and no masks.
    """
    order = sorted(range(len(jobs)), key=lambda i: -samples_per_epoch(recipe, jobs[i]))
    ranked = [jobs[i] for i in order]
    sizes = np.array([samples_per_epoch(recipe, job) for job in ranked])
    steps = -(-sizes // recipe.batch_size)
    generators = [job.generator() for job in ranked]
    nets = _initial(recipe, generators, pool)
    state = _Adam(recipe, nets, pool)
    scalers = [fit_scaler(data.features[job.rows]) for job in ranked]
    mean, std = (_one_each(values, pool) for values in zip(*scalers, strict=True))
    for epoch in range(recipe.epochs):
        pairs = zip(ranked, generators, strict=True)
        drawn = [draw_epoch(recipe, job, pool, generator) for job, generator in pairs]
        draw = _stack(drawn, int(steps[0]) * recipe.batch_size, pool.device)
        weight = _weights(sizes, int(steps[0]), recipe.batch_size, pool)
        loss = torch.zeros((), dtype=pool.dtype, device=pool.device)
        for s in range(int(steps[0])):
            k = int((steps > s).sum())
            where = slice(s * recipe.batch_size, (s + 1) * recipe.batch_size)
            x, y = pool.inputs(_first(draw, k, where), mean[:k], std[:k], codec=recipe.has_codec)
            masks = _masks(recipe, sizes[:k] - s * recipe.batch_size, generators[:k], x)
            y = y / recipe.target_scale
            losses = _gradients(recipe, nets, state.grad, x, y, weight[:k, where], masks)
            state.step(k, epoch * steps[:k] + s, recipe.epochs * steps[:k])
            loss += losses.sum()
        if on_epoch:
            on_epoch(epoch + 1, loss.item() / steps.sum() * recipe.target_scale**2)
    done = [finish(recipe, job, data, nets.layers(m), *scalers[m]) for m, job in enumerate(ranked)]
    return [done[order.index(i)] for i in range(len(jobs))]


def _one_each(values: Sequence[Floats], pool: Pool) -> Tensor:
    """A vector for each network as a tensor (networks, 1, length)."""
    return torch.tensor(np.array(values)[:, None], dtype=pool.dtype, device=pool.device)


def _gradients(
    recipe: Recipe,
    nets: Stack,
    grad: Stack,
    x: Tensor,
    y: Tensor,
    weight: Tensor,
    masks: Sequence[Tensor],
) -> Tensor:
    """Mean squared error (k,) of the first k networks on x (k,B,in), y (k,B); its gradient goes
    into `grad`.
    """
    k, last = len(x), len(nets.W) - 1
    inputs, sums = [x], []
    for i in range(last + 1):
        z = torch.baddbmm(nets.b[i][:k], inputs[i], nets.W[i][:k])  # (k, B, out)
        sums.append(z)
        if i < last:
            a = torch.nn.functional.gelu(z) if recipe.activation == "gelu" else torch.relu(z)
            inputs.append(a * masks[i] if masks else a)
    off = error(recipe, sums[last], y.unsqueeze(-1))
    g = (
        2 * weight.unsqueeze(-1) * off
    )  # (k, B, 1): `weight` is 1/B, or 0 where a short batch is padded
    for i in range(last, -1, -1):
        grad.W[i][:k] = torch.bmm(inputs[i].transpose(1, 2), g)
        grad.b[i][:k] = g.sum(dim=1, keepdim=True)
        if i > 0:
            g = torch.bmm(g, nets.W[i][:k].transpose(1, 2))
            g = g * masks[i - 1] if masks else g
            z = sums[i - 1]
            g = torch.ops.aten.gelu_backward(g, z) if recipe.activation == "gelu" else g * (z > 0)
    return (weight * off.squeeze(-1) ** 2).sum(dim=1)


class _Adam:
    """Adam (Kingma and Ba 2015, with the L2 term in the gradient as torch.optim.Adam) on the first
    k networks.
    """

    def __init__(self, recipe: Recipe, nets: Stack, pool: Pool) -> None:
        self.recipe, self.flat, self.pool = recipe, nets.flat, pool
        self.grad = Stack(widths(recipe), len(nets.flat), nets.flat)
        self.m, self.v = torch.zeros_like(nets.flat), torch.zeros_like(nets.flat)

    def step(self, k: int, done: Ints, total: Ints) -> None:
        """One update. `done` (k,): steps each network has made before; `total` (k,): steps it will
        make.
        """
        p, m, v, g = self.flat[:k], self.m[:k], self.v[:k], self.grad.flat[:k]
        if self.recipe.weight_decay:
            g = g.add(p, alpha=self.recipe.weight_decay)
        lr = np.array([rate(self.recipe, share) for share in done / total])
        size = self._column(lr / (1 - BETAS[0] ** (done + 1.0)))
        root = self._column(np.sqrt(1 - BETAS[1] ** (done + 1.0)))
        m.lerp_(g, 1 - BETAS[0])
        v.mul_(BETAS[1]).addcmul_(g, g, value=1 - BETAS[1])
        p.sub_(m.div(v.sqrt().div_(root).add_(EPSILON)).mul_(size))

    def _column(self, values: Floats) -> Tensor:
        return torch.from_numpy(values).to(self.pool.device, self.pool.dtype).unsqueeze(1)


def _initial(recipe: Recipe, generators: Sequence[torch.Generator], pool: Pool) -> Stack:
    nets = Stack(widths(recipe), len(generators), pool.table)
    for m, generator in enumerate(generators):
        for i, (w, b) in enumerate(initial_weights(recipe, generator)):
            nets.W[i][m] = w.T.to(pool.table)
            nets.b[i][m, 0] = b.to(pool.table)
    return nets


def _stack(drawn: Sequence[Draw], width: int, device: torch.device) -> Draw:
    """Draws of different lengths as (M, width), padded with their own first sample, which gets no
    weight.
    """

    def pad(t: Tensor) -> Tensor:
        return t if len(t) == width else torch.cat([t, t[:1].expand(width - len(t))])

    def stack(name: str) -> Tensor | None:
        parts = [getattr(draw, name) for draw in drawn]
        return None if parts[0] is None else torch.stack([pad(t) for t in parts]).to(device)

    row, blind = stack("row"), stack("blind")
    assert row is not None and blind is not None
    return Draw(row=row, begin=stack("begin"), end=stack("end"), blind=blind)


def _first(draw: Draw, k: int, where: slice) -> Draw:
    begin = None if draw.begin is None else draw.begin[:k, where]
    end = None if draw.end is None else draw.end[:k, where]
    return Draw(row=draw.row[:k, where], begin=begin, end=end, blind=draw.blind[:k, where])


def _weights(sizes: Ints, steps: int, batch: int, pool: Pool) -> Tensor:
    """(M, steps * batch): 1 / (rows of the batch), 0 for padding."""
    at = np.arange(steps * batch)
    length = np.clip(sizes[:, None] - at // batch * batch, 1, batch)
    return torch.from_numpy(np.where(at < sizes[:, None], 1 / length, 0.0)).to(pool.table)


def _masks(
    recipe: Recipe,
    left: Ints,
    generators: Sequence[torch.Generator],
    x: Tensor,
) -> list[Tensor]:
    """Dropout factors (k, B, width) of each hidden layer; a short batch draws as few as the plain
    loop does.
    """
    if not recipe.dropout:
        return []
    batch = x.shape[1]
    masks = [x.new_zeros(len(x), batch, width) for width in recipe.hidden]
    for m, (n, generator) in enumerate(zip(np.minimum(left, batch), generators, strict=True)):
        for mask, drawn in zip(masks, dropout_masks(recipe, int(n), generator), strict=True):
            mask[m, : int(n)] = drawn.to(x)
    return masks
