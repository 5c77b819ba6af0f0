"""The networks: small MLPs on the canonical 6, with or without the codec block."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from vmaf_train.contract import CODEC_DIM, NUM_FEATURES, UNKNOWN, VOCABULARY
from vmaf_train.training.recipes import Recipe


def widths(recipe: Recipe) -> list[tuple[int, int]]:
    """(inputs, outputs) of each dense layer, the last with one output."""
    sizes = [NUM_FEATURES + (CODEC_DIM if recipe.has_codec else 0), *recipe.hidden, 1]
    return list(zip(sizes, sizes[1:], strict=False))


def initial_weights(recipe: Recipe, generator: torch.Generator) -> list[tuple[Tensor, Tensor]]:
    """(W (out,in), b (out,)) float32 of each layer, uniform in +-1/sqrt(in) as torch's Linear draws
    them.
    """
    layers = []
    for n_in, n_out in widths(recipe):
        bound = 1 / math.sqrt(n_in)
        draw = torch.rand(n_out, n_in + 1, generator=generator) * (2 * bound) - bound
        layers.append((draw[:, :-1].contiguous(), draw[:, -1].contiguous()))
    return layers


class Regressor(nn.Module):  # type: ignore[misc]  # torch is untyped here
    """(N,6) standardised features [+ (N,14) codec] -> (N,) in units of the recipe's
    `target_scale`.
    """

    def __init__(self, recipe: Recipe, layers: Sequence[tuple[Tensor, Tensor]]) -> None:
        super().__init__()
        self.dense = nn.ModuleList(
            nn.Linear(w.shape[1], w.shape[0], dtype=w.dtype) for w, _ in layers
        )
        self.activation = nn.GELU() if recipe.activation == "gelu" else nn.ReLU()
        with torch.no_grad():
            for dense, (w, b) in zip(self.dense, layers, strict=True):
                dense.weight.copy_(w)
                dense.bias.copy_(b)

    def forward(self, x: Tensor, masks: Sequence[Tensor] = ()) -> Tensor:
        """x (N, 6 or 20) -> (N,). `masks`: a factor (N, width) for each hidden layer, when dropout
        is on.
        """
        for i, dense in enumerate(self.dense[:-1]):
            x = self.activation(dense(x))
            if masks:
                x = x * masks[i]
        return self.dense[-1](x).squeeze(-1)

    def layers(self) -> list[tuple[Tensor, Tensor]]:
        """(W (out,in), b (out,)) of each layer, detached."""
        return [(d.weight.detach().clone(), d.bias.detach().clone()) for d in self.dense]


def share_unknown(first: Tensor, trained: Sequence[bool]) -> Tensor:
    """First-layer weights (..., out, 20) with the column of every slot that no row used made equal
    to `unknown`'s.

    `trained`: for each of the 12 words of the vocabulary, whether a training row had it.
    """
    first = first.clone()
    unknown = NUM_FEATURES + VOCABULARY.index(UNKNOWN)
    for i, used in enumerate(trained):
        if not used:
            first[..., NUM_FEATURES + i] = first[..., unknown]
    return first
