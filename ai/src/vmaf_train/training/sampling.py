"""What a network sees in one epoch: rows or runs of frames in a random order, from one generator
per (fold, seed).
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from vmaf_train.contract import blind_block
from vmaf_train.corpus.dataset import Dataset, Floats, Ints
from vmaf_train.training.recipes import Recipe


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class TrainingJob:
    """One network to train: which rows of the dataset, with which seed, and whether it may see the
    codec block.
    """

    scheme: str
    fold: str
    seed: int
    rows: Ints
    codec_blind: bool = False

    def generator(self) -> torch.Generator:
        """The one source of randomness of this network: weights, permutations, windows and dropout
        masks.

        The codec-blind baseline shares it with the model, so both see the same samples in the same
        order.
        """
        name = f"{self.scheme}/{self.fold}/{self.seed}"
        return torch.Generator().manual_seed(
            int.from_bytes(hashlib.sha256(name.encode()).digest()[:7], "big")
        )


class Pool:
    """The rows of a corpus on a device, and the running sums that give the mean of any run of a
    cell's frames.

    `table` (N, 6 + 14 + 1): raw features, codec block, score. With frames, `sums` (F + N, 7)
    float64 holds for each cell the cumulative sums of features and score, starting with a row of
    zeros at `first` (N,); `count` (N,) frames.
    """

    def __init__(
        self, data: Dataset, frames: Dataset | None, device: torch.device, dtype: torch.dtype
    ) -> None:
        table = np.concatenate([data.features, data.codec, data.y[:, None]], axis=1)
        self.table = torch.tensor(table, dtype=dtype, device=device)
        self.blind = torch.tensor(blind_block(), dtype=dtype, device=device)
        self.device, self.dtype, self.sums = device, dtype, None
        self.count = torch.ones(len(data), dtype=torch.int64)
        if frames is not None:
            first, count, sums = _running_sums(data, frames)
            self.first, self.count = torch.from_numpy(first), torch.from_numpy(count)
            self.sums = torch.from_numpy(sums).to(device)

    def inputs(
        self, draw: Draw, mean: Tensor, std: Tensor, *, codec: bool
    ) -> tuple[Tensor, Tensor]:
        """Samples (..., B) as x (..., B, 6 or 20), features standardised by mean, std (..., 1, 6),
        and y (..., B).
        """
        rows = self.table[draw.row.to(self.device)]
        raw, y = rows[..., :6], rows[..., -1]
        if self.sums is not None and draw.begin is not None and draw.end is not None:
            begin, end = draw.begin.to(self.device), draw.end.to(self.device)
            length = (end - begin).unsqueeze(-1)
            means = ((self.sums[end] - self.sums[begin]) / length.clamp(min=1)).to(self.dtype)
            windowed = length > 0
            raw, y = (
                torch.where(windowed, means[..., :6], raw),
                torch.where(windowed[..., 0], means[..., 6], y),
            )
        x = (raw - mean) / std
        if not codec:
            return x, y
        blind = draw.blind.to(self.device).unsqueeze(-1)
        return torch.cat([x, torch.where(blind, self.blind, rows[..., 6:20])], dim=-1), y


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Draw:
    """Samples of one or more networks. `row` (..., B): rows of the pool; `begin`, `end` (..., B):
    rows of the pool's running sums, equal where the whole cell is the sample; `blind` (..., B)
    bool: codec block replaced.
    """

    row: Tensor
    begin: Tensor | None
    end: Tensor | None
    blind: Tensor

    def part(self, where: slice) -> Draw:
        """The samples at `where` of the last axis."""
        cut = (
            None if t is None else t[..., where]
            for t in (self.row, self.begin, self.end, self.blind)
        )
        row, begin, end, blind = cut
        assert row is not None and blind is not None
        return Draw(row=row, begin=begin, end=end, blind=blind)


def samples_per_epoch(recipe: Recipe, job: TrainingJob) -> int:
    """Number of samples that `job` sees in one epoch."""
    return recipe.samples_per_epoch or len(job.rows)


def draw_epoch(recipe: Recipe, job: TrainingJob, pool: Pool, generator: torch.Generator) -> Draw:
    """The samples of one epoch of one network, (n,)."""
    n, rows = samples_per_epoch(recipe, job), torch.from_numpy(job.rows)
    rounds = -(-n // len(rows))
    order = torch.cat([torch.randperm(len(rows), generator=generator) for _ in range(rounds)])[:n]
    row = rows[order]
    begin = end = None
    if recipe.window_share > 0 and pool.sums is not None:
        begin, end = _windows(recipe, pool, row, generator)
    blind = torch.zeros(n, dtype=torch.bool)
    if recipe.codec_dropout > 0:
        blind = torch.rand(n, generator=generator) < recipe.codec_dropout
    return Draw(row=row, begin=begin, end=end, blind=blind | job.codec_blind)


def _windows(
    recipe: Recipe, pool: Pool, row: Tensor, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """Runs of frames: log-uniform in length from one frame to the whole cell, anywhere in it."""
    count, dice = pool.count[row], torch.rand(3, len(row), generator=generator, dtype=torch.float64)
    length = torch.exp(dice[0] * torch.log(count + 1.0)).long().clamp(min=1).minimum(count)
    offset = (dice[1] * (count - length + 1)).long()
    begin = pool.first[row] + offset
    return begin, torch.where(dice[2] < recipe.window_share, begin + length, begin)


def _running_sums(data: Dataset, frames: Dataset) -> tuple[Ints, Ints, Floats]:
    values = np.concatenate([frames.features, frames.y[:, None]], axis=1)
    starts = {
        key: i for i, key in reversed(list(enumerate(frames.key)))
    }  # frames lie sorted by key
    counts = dict(zip(*np.unique(frames.key.astype(str), return_counts=True), strict=True))
    first, count, blocks, at = [], [], [], 0
    for key in data.key:
        n = int(counts.get(key, 0))
        block = values[starts[key] : starts[key] + n] if n else values[:0]
        blocks += [np.zeros((1, values.shape[1])), np.cumsum(block, axis=0)]
        first.append(at)
        count.append(n)
        at += n + 1
    return np.array(first, dtype=np.int64), np.array(count, dtype=np.int64), np.concatenate(blocks)
