"""All folds and seeds as one program: parameters stacked along a first axis M, every step one
batched product a layer.

The gradient of these small MLPs is written out, which keeps all parameters of M networks in one (M,
P) tensor: Adam is then a handful of operations however many networks there are. `train.train_one`
is the reference it is tested against.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

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
    error_bounds,
    finish,
    rate,
)

AT_ONCE = 1 << 16
"""Samples of all networks that are made ready together: enough that it costs little, few enough to
lie in a cache.
"""


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

    def first(self, k: int) -> list[tuple[Tensor, Tensor]]:
        """Weights (k, in, out) and biases (k, 1, out) of the first k networks, a pair for each
        layer.
        """
        return [(w[:k], b[:k]) for w, b in zip(self.W, self.b, strict=True)]

    def layers(self, m: int) -> list[tuple[Tensor, Tensor]]:
        """Weights (out, in) and biases (out,) of network `m`, a pair for each layer."""
        return [(w[m].T, b[m, 0]) for w, b in zip(self.W, self.b, strict=True)]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Batch:
    """What k networks see in one step: `x` (k, B, in), `y` (k, B, 1), the bounds of their errors
    where a target is censored, and `weight` (k, B, 1): 2 / (rows of the batch), 0 for padding.
    """

    x: Tensor
    y: Tensor
    bounds: tuple[Tensor, Tensor] | None
    weight: Tensor


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
    # The gradient is written out here: torch need not watch for one.
    with torch.inference_mode():
        return _train(recipe, jobs, data, pool, on_epoch)


def _train(
    recipe: Recipe,
    jobs: Sequence[TrainingJob],
    data: Dataset,
    pool: Pool,
    on_epoch: OnEpoch | None,
) -> list[Trained]:
    order = sorted(range(len(jobs)), key=lambda i: -samples_per_epoch(recipe, jobs[i]))
    ranked = [jobs[i] for i in order]
    sizes = np.array([samples_per_epoch(recipe, job) for job in ranked])
    steps = -(-sizes // recipe.batch_size)
    generators = [job.generator() for job in ranked]
    nets = _initial(recipe, generators, pool)
    state = _Adam(recipe, nets, pool)
    scalers = [fit_scaler(data.features[job.rows]) for job in ranked]
    mean, std = (_one_each(values, pool) for values in zip(*scalers, strict=True))
    weight = _weights(sizes, int(steps[0]), recipe.batch_size, pool)
    present = [int((steps > s).sum()) for s in range(int(steps[0]))]
    for epoch in range(recipe.epochs):
        pairs = zip(ranked, generators, strict=True)
        drawn = [draw_epoch(recipe, job, pool, generator) for job, generator in pairs]
        draw = _stack(drawn, int(steps[0]), recipe.batch_size, pool.device)
        state.begin(epoch, steps)
        loss = torch.zeros((), dtype=pool.dtype, device=pool.device)
        k, parts, grads = 0, nets.first(0), state.grad.first(0)
        for s, batch in enumerate(_batches(recipe, pool, draw, mean, std, weight, present)):
            if k != len(batch.x):
                k = len(batch.x)
                parts, grads = nets.first(k), state.grad.first(k)
            left = sizes[:k] - s * recipe.batch_size
            masks = _masks(recipe, left, generators[:k], batch.x)
            off, g = _gradients(recipe, parts, grads, batch, masks)
            state.step(k, s)
            if on_epoch:
                loss += (g * off).sum() / 2
        if on_epoch:
            on_epoch(epoch + 1, loss.item() / steps.sum() * recipe.target_scale**2)
    done = [finish(recipe, job, data, nets.layers(m), *scalers[m]) for m, job in enumerate(ranked)]
    return [done[order.index(i)] for i in range(len(jobs))]


def _batches(
    recipe: Recipe,
    pool: Pool,
    draw: Draw,
    mean: Tensor,
    std: Tensor,
    weight: Tensor,
    present: Sequence[int],
) -> Iterator[_Batch]:
    """The batches of an epoch, made ready some steps at a time; that of step s holds the first
    `present[s]` networks, which still have samples.
    """
    num_steps, num_models, batch = draw.row.shape
    some = max(1, AT_ONCE // (num_models * batch))
    for begin in range(0, num_steps, some):
        part = _steps(draw, slice(begin, begin + some))
        x, y = pool.inputs(part, mean, std, codec=recipe.has_codec)
        y = (y / recipe.target_scale).unsqueeze(-1)
        bounds = error_bounds(recipe, y)
        for i in range(len(x)):
            k = present[begin + i]
            yield _Batch(
                x=x[i, :k],
                y=y[i, :k],
                bounds=bounds and (bounds[0][i, :k], bounds[1][i, :k]),
                weight=weight[begin + i, :k],
            )


def _one_each(values: Sequence[Floats], pool: Pool) -> Tensor:
    """A vector for each network as a tensor (networks, 1, length)."""
    return torch.tensor(np.array(values)[:, None], dtype=pool.dtype, device=pool.device)


def _gradients(
    recipe: Recipe,
    nets: Sequence[tuple[Tensor, Tensor]],
    grads: Sequence[tuple[Tensor, Tensor]],
    batch: _Batch,
    masks: Sequence[Tensor],
) -> tuple[Tensor, Tensor]:
    """Errors (k, B, 1) of k networks on a batch, and the gradient of their mean square with respect
    to them; that with respect to the parameters goes into `grads`.
    """
    last = len(nets) - 1
    inputs, sums = [batch.x], []
    for i, (w, b) in enumerate(nets):
        z = torch.baddbmm(b, inputs[i], w)  # (k, B, out)
        sums.append(z)
        if i < last:
            a = torch.nn.functional.gelu(z) if recipe.activation == "gelu" else torch.relu(z)
            inputs.append(a * masks[i] if masks else a)
    off = sums[last] - batch.y
    if batch.bounds:
        off = off.clamp(*batch.bounds)
    g = by_error = batch.weight * off
    for i in range(last, -1, -1):
        grads[i][0].copy_(torch.bmm(inputs[i].mT, g))
        grads[i][1].copy_(g.sum(dim=1, keepdim=True))
        if i > 0:
            g = torch.bmm(g, nets[i][0].mT)
            g = g * masks[i - 1] if masks else g
            z = sums[i - 1]
            g = torch.ops.aten.gelu_backward(g, z) if recipe.activation == "gelu" else g * (z > 0)
    return off, by_error


class _Adam:
    """Adam (Kingma and Ba 2015, with the L2 term in the gradient as torch.optim.Adam) on the first
    k networks.
    """

    def __init__(self, recipe: Recipe, nets: Stack, pool: Pool) -> None:
        self.recipe, self.flat, self.pool = recipe, nets.flat, pool
        self.grad = Stack(widths(recipe), len(nets.flat), nets.flat)
        self.m, self.v = torch.zeros_like(nets.flat), torch.zeros_like(nets.flat)

    def begin(self, epoch: int, steps: Ints) -> None:
        """Rates of the steps of an epoch, of which each network makes `steps` (M,)."""
        done = epoch * steps + np.arange(int(steps.max()))[:, None]
        total = self.recipe.epochs * steps
        lr = np.array([[rate(self.recipe, share) for share in row] for row in done / total])
        self.sizes = self._columns(lr / (1 - BETAS[0] ** (done + 1.0)))
        self.roots = self._columns(np.sqrt(1 - BETAS[1] ** (done + 1.0)))

    def step(self, k: int, s: int) -> None:
        """One update of the first k networks, in step `s` of the epoch."""
        p, m, v, g = self.flat[:k], self.m[:k], self.v[:k], self.grad.flat[:k]
        if self.recipe.weight_decay:
            g = g.add(p, alpha=self.recipe.weight_decay)
        m.lerp_(g, 1 - BETAS[0])
        v.mul_(BETAS[1]).addcmul_(g, g, value=1 - BETAS[1])
        spread = v.sqrt().div_(self.roots[s, :k]).add_(EPSILON)
        p.sub_(m.div(spread).mul_(self.sizes[s, :k]))

    def _columns(self, values: Floats) -> Tensor:
        return torch.from_numpy(values).to(self.pool.device, self.pool.dtype).unsqueeze(-1)


def _initial(recipe: Recipe, generators: Sequence[torch.Generator], pool: Pool) -> Stack:
    nets = Stack(widths(recipe), len(generators), pool.table)
    for m, generator in enumerate(generators):
        for i, (w, b) in enumerate(initial_weights(recipe, generator)):
            nets.W[i][m] = w.T.to(pool.table)
            nets.b[i][m, 0] = b.to(pool.table)
    return nets


def _stack(drawn: Sequence[Draw], steps: int, batch: int, device: torch.device) -> Draw:
    """Draws of different lengths as (steps, M, batch), padded with their own first sample, which
    gets no weight.
    """
    width = steps * batch

    def pad(t: Tensor) -> Tensor:
        return t if len(t) == width else torch.cat([t, t[:1].expand(width - len(t))])

    def stack(name: str) -> Tensor | None:
        parts = [getattr(draw, name) for draw in drawn]
        if parts[0] is None:
            return None
        together = torch.stack([pad(t).view(steps, batch) for t in parts], dim=1)
        return together.to(device)

    row, blind = stack("row"), stack("blind")
    assert row is not None and blind is not None
    return Draw(row=row, begin=stack("begin"), end=stack("end"), blind=blind)


def _steps(draw: Draw, which: slice) -> Draw:
    begin = None if draw.begin is None else draw.begin[which]
    end = None if draw.end is None else draw.end[which]
    return Draw(row=draw.row[which], begin=begin, end=end, blind=draw.blind[which])


def _weights(sizes: Ints, steps: int, batch: int, pool: Pool) -> Tensor:
    """(steps, M, batch, 1): 2 / (rows of the batch), 0 for padding."""
    at = np.arange(steps * batch).reshape(steps, 1, batch)
    length = np.clip(sizes[:, None] - at // batch * batch, 1, batch)
    weight = np.where(at < sizes[:, None], 2 / length, 0.0)
    return torch.from_numpy(weight).to(pool.table).unsqueeze(-1)


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
