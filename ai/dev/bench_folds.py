"""Whether the folds of `train --loso` gain from a cluster: `python ai/dev/bench_folds.py`.

All networks of a run on the software corpus are one batched program. Here they are also cut into
parts, a program each, as a cluster would get them, and two parts are run through joblib's Dask
backend on two local processes. CPU seconds of one thread each; what a part takes beyond its share
is what cutting costs. Start is what the processes take before their first step: Python, torch, the
corpus.
"""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from vmaf_train.corpus import dataset
from vmaf_train.corpus.dataset import Dataset
from vmaf_train.training.batched import train_batched
from vmaf_train.training.experiment import jobs_of, plan
from vmaf_train.training.recipes import Recipe, recipe
from vmaf_train.training.sampling import Pool, TrainingJob
from vmaf_train.training.train import Trained

CORPUS = Path(__file__).parents[2] / "runs/phase_a/software"


def train_part(
    how: Recipe, jobs: Sequence[TrainingJob], data: Dataset, frames: Dataset
) -> tuple[float, list[Trained]]:
    """CPU seconds of one program for `jobs`, and its networks."""
    torch.set_num_threads(1)
    before = time.process_time()
    pool = Pool(data, frames, torch.device("cpu"), torch.float32)
    networks = train_batched(how, jobs, data, pool)
    return time.process_time() - before, networks


def apart(some: Sequence[Trained], others: Sequence[Trained]) -> float:
    """The largest difference between two weights of the same networks."""
    return max(
        float(np.abs(a - b).max())
        for one, other in zip(some, others, strict=True)
        for pair in zip(one.layers, other.layers, strict=True)
        for a, b in zip(*pair, strict=True)
    )


def through_dask(
    how: Recipe, parts: Sequence[Sequence[TrainingJob]], data: Dataset, frames: Dataset
) -> None:
    """Two parts on two processes, by joblib's Dask backend."""
    from distributed import Client, LocalCluster
    from joblib import Parallel, delayed, parallel_config

    used = os.times()
    before, begin = used.children_user + used.children_system, time.monotonic()
    with (
        LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None) as cluster,
        Client(cluster),
        parallel_config("dask"),
    ):
        found = Parallel()(delayed(train_part)(how, part, data, frames) for part in parts)
    spent = [seconds for seconds, _ in found]
    wall = time.monotonic() - begin
    used = os.times()
    total = used.children_user + used.children_system - before
    print(
        f"two parts by Dask: {', '.join(f'{s:.1f}' for s in spent)} s CPU in the parts,"
        f" {total - sum(spent):.1f} s of start and transport, {wall:.1f} s of wall"
    )


def main() -> None:
    """Print the figures of docs/decisions.md."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--model", default="fr_regressor_v2")
    args = parser.parse_args()
    data = dataset.load(CORPUS, per_frame=False)
    frames = dataset.load(CORPUS, per_frame=True)
    full = recipe(args.model)
    how = recipe(args.model, epochs=args.epochs)
    experiment = plan(
        how, data, frames, loso=True, num_seeds=5, device=torch.device("cpu"), smoke=False
    )
    jobs = jobs_of(experiment)
    print(f"{args.model}: {len(jobs)} networks, {args.epochs} of {full.epochs} epochs")
    whole, networks = train_part(how, jobs, data, frames)
    print(f"one program: {whole:.1f} s CPU; all epochs {whole * full.epochs / args.epochs:.0f} s")
    for count in (2, 4, 8):
        part, some = train_part(how, jobs[::count], data, frames)
        print(
            f"1 of {count} parts: {part:.1f} s, {count * part / whole:.2f} times its share; weights"
            f" differ by {apart(some, networks[::count]):.1e}"
        )
    through_dask(how, [jobs[::2], jobs[1::2]], data, frames)


if __name__ == "__main__":
    main()
