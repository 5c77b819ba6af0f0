"""Time of the plain loop against the batched program: `python ai/dev/bench_training.py [--epochs N]
[--device cpu]`.

216 made-up cells of 9 sources, 9 folds x 5 seeds of the seed recipe, as Research-0067's grid. The
plain loop trains a few of the 45 networks, and its time is taken times 45 / few: they are alike.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from vmaf_train.corpus import dataset
from vmaf_train.corpus.folds import loso_folds
from vmaf_train.corpus.synthetic import write_corpus
from vmaf_train.training.batched import train_batched
from vmaf_train.training.recipes import recipe
from vmaf_train.training.sampling import Pool, TrainingJob
from vmaf_train.training.train import choose_device, train_one


def main() -> None:
    """Print both times, their ratio, and the largest difference between the weights."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--epochs", type=int, default=200)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--plain", type=int, default=3, help="networks that the plain loop trains")
    parser.add_argument("--device", default="cpu")
    args = parser.parse_args()
    torch.set_num_threads(
        1
    )  # the plain loop's matrices are too small for more, and both shall have the same
    with tempfile.TemporaryDirectory() as folder:
        data = dataset.load(write_corpus(Path(folder), num_sources=9), per_frame=False)
    how = recipe("fr_regressor_v2", "seed", epochs=args.epochs)
    pool = Pool(data, None, choose_device(args.device), torch.float32)
    jobs = [
        TrainingJob(scheme=fold.scheme, fold=fold.name, seed=seed, rows=fold.train)
        for fold in loso_folds(data)
        for seed in range(args.seeds)
    ]
    clock = (
        time.process_time if pool.device.type == "cpu" else time.perf_counter
    )  # one thread: what others do is left out
    began = clock()
    together = train_batched(how, jobs, data, pool)
    batched_s = clock() - began
    began = clock()
    alone = [train_one(how, job, data, pool) for job in jobs[: args.plain]]
    plain_s = (clock() - began) * len(jobs) / len(alone)
    apart = max(
        float(np.abs(a - b).max())
        for one, other in zip(alone, together, strict=False)
        for pair in zip(one.layers, other.layers, strict=True)
        for a, b in zip(*pair, strict=True)
    )
    print(
        f"{len(jobs)} networks, {len(data)} cells, {args.epochs} epochs, {torch.get_num_threads()}"
        f" threads, {pool.device}"
    )
    print(f"plain loop {plain_s:.2f} s (from {len(alone)} networks), batched {batched_s:.2f} s")
    print(f"ratio {batched_s / plain_s:.4f} (target 0.125), weights differ by at most {apart:.1e}")


if __name__ == "__main__":
    main()
