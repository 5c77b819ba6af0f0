from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from vmaf_train.contract import NUM_FEATURES, UNKNOWN, VOCABULARY, blind_block
from vmaf_train.corpus.dataset import Dataset
from vmaf_train.corpus.folds import loeo_folds, loso_folds
from vmaf_train.errors import DependencyError
from vmaf_train.training import experiment as rundir
from vmaf_train.training import sampling
from vmaf_train.training.batched import train_batched
from vmaf_train.training.recipes import DEFAULT, SEED, Recipe, recipe
from vmaf_train.training.sampling import Pool, TrainingJob
from vmaf_train.training.train import Trained, choose_device, error, predict, rate, train_one

torch.set_num_threads(1)  # two threads on a loaded machine wait for each other
CPU = torch.device("cpu")


def pool_of(
    data: Dataset, frames: Dataset | None = None, dtype: torch.dtype = torch.float32
) -> Pool:
    return Pool(data, frames, CPU, dtype)


def ragged_jobs(data: Dataset) -> list[TrainingJob]:
    """Jobs of different sizes, in an order that is not theirs by size, one of them codec-blind."""
    rows = [f.train for f in loso_folds(data)]
    cut = [rows[0], rows[1][:33], rows[2][:65], rows[3], rows[3][:5], rows[0]]
    return [
        TrainingJob(scheme="loso", fold=str(i), seed=i, rows=r, codec_blind=i == 3)
        for i, r in enumerate(cut)
    ]


def apart(one: Trained, other: Trained) -> float:
    pairs = [
        (a, b)
        for p, q in zip(one.layers, other.layers, strict=True)
        for a, b in zip(p, q, strict=True)
    ]
    return max(float(np.abs(a - b).max()) for a, b in pairs)


SHORT = {
    "seed": replace(SEED["fr_regressor_v2"], epochs=12),
    "default": replace(DEFAULT["fr_regressor_v2"], epochs=3, samples_per_epoch=150, batch_size=64),
    "dropout": replace(
        SEED["fr_regressor_v2"], epochs=4, dropout=0.3, codec_dropout=0.3, schedule="one_cycle"
    ),
    "frames": replace(SEED["fr_regressor_v1"], epochs=1, batch_size=100, lr=0.01),
    "relu": replace(DEFAULT["vmaf_tiny_v2"], epochs=2, samples_per_epoch=500, batch_size=128),
}


@pytest.mark.parametrize("name", SHORT)
def test_batched_gives_the_weights_of_the_plain_loop(
    name: str, cells: Dataset, frames: Dataset
) -> None:
    how = SHORT[name]
    data = frames if how.per_frame else cells
    pool = pool_of(data, None if how.per_frame else frames)
    jobs = ragged_jobs(data)
    for job, together in zip(jobs, train_batched(how, jobs, data, pool), strict=True):
        alone = train_one(how, job, data, pool)
        assert apart(alone, together) / how.target_scale < 1e-5
        assert alone.job is together.job and np.array_equal(alone.mean, together.mean)


def test_batched_gives_the_same_training_loss(cells: Dataset, frames: Dataset) -> None:
    how, pool, job = SHORT["default"], pool_of(cells, frames), ragged_jobs(cells)[0]
    losses: list[list[float]] = [[], []]
    train_one(how, job, cells, pool, lambda _, loss: losses[0].append(loss))
    train_batched(how, [job], cells, pool, lambda _, loss: losses[1].append(loss))
    assert losses[0] == pytest.approx(
        losses[1], rel=0.2
    )  # the last batch of an epoch is shorter: means of means
    assert losses[0][-1] < losses[0][0]


def test_a_network_depends_on_its_job_alone(cells: Dataset) -> None:
    how, pool, jobs = SHORT["seed"], pool_of(cells), ragged_jobs(cells)
    among, alone = (
        train_batched(how, jobs, cells, pool)[2],
        train_batched(how, jobs[2:3], cells, pool)[0],
    )
    assert apart(among, alone) < 1e-5
    other = train_batched(how, [replace(jobs[2], seed=99)], cells, pool)[0]
    assert apart(other, alone) > 1e-2


def test_the_scaler_does_not_leak(cells: Dataset) -> None:
    """A held-out source with absurd features must change nothing in the fold that holds it out."""
    fold = loso_folds(cells)[0]
    strange = cells.features.copy()
    strange[fold.test] *= 1000
    spoiled = replace(cells, features=strange, y=np.where(cells.group == fold.name, 0.0, cells.y))
    job = TrainingJob(scheme=fold.scheme, fold=fold.name, seed=0, rows=fold.train)
    for how in (SHORT["seed"], SHORT["default"]):
        clean = train_batched(how, [job], cells, pool_of(cells))[0]
        dirty = train_batched(how, [job], spoiled, pool_of(spoiled))[0]
        assert np.array_equal(clean.mean, cells.features[fold.train].mean(axis=0))
        assert np.array_equal(clean.std, cells.features[fold.train].std(axis=0))
        assert np.array_equal(clean.mean, dirty.mean) and np.array_equal(clean.std, dirty.std)
        assert apart(clean, dirty) == 0


def test_frames_of_a_held_out_source_are_never_seen(cells: Dataset, frames: Dataset) -> None:
    fold = loso_folds(cells)[0]
    spoiled = replace(frames, y=np.where(frames.group == fold.name, 1e6, frames.y))
    job = TrainingJob(scheme=fold.scheme, fold=fold.name, seed=0, rows=fold.train)
    trained = [
        train_batched(SHORT["default"], [job], cells, pool_of(cells, f))[0]
        for f in (frames, spoiled)
    ]
    assert apart(*trained) == 0


def test_windows_are_means_of_runs_of_frames(cells: Dataset, frames: Dataset) -> None:
    how = replace(SHORT["default"], window_share=1.0, codec_dropout=0.0)
    pool, job = (
        pool_of(cells, frames, torch.float64),
        TrainingJob(scheme="all", fold="all", seed=0, rows=np.arange(96)),
    )
    draw = sampling.draw_epoch(how, job, pool, job.generator())
    zero, one = torch.zeros(6, dtype=torch.float64), torch.ones(6, dtype=torch.float64)
    x, y = pool.inputs(draw, zero, one, codec=True)
    assert draw.begin is not None and draw.end is not None
    lengths = (draw.end - draw.begin).tolist()
    assert min(lengths) == 1 and max(lengths) > 6
    for i in range(20):
        row = int(draw.row[i])
        own = np.flatnonzero(frames.key == cells.key[row])
        runs = [own[a : a + lengths[i]] for a in range(len(own) - lengths[i] + 1)]
        assert any(
            np.allclose(frames.features[r].mean(axis=0), x[i, :6])
            and np.isclose(frames.y[r].mean(), y[i])
            for r in runs
        )
        assert x[i, 6:].tolist() == cells.codec[row].tolist()


def test_codec_dropout_gives_the_blind_block(cells: Dataset) -> None:
    how = replace(SHORT["default"], codec_dropout=0.5, samples_per_epoch=1000)
    pool, job = pool_of(cells), TrainingJob(scheme="all", fold="all", seed=0, rows=np.arange(96))
    draw = sampling.draw_epoch(how, job, pool, job.generator())
    x, _ = pool.inputs(draw, torch.zeros(6), torch.ones(6), codec=True)
    blind = (x[:, 6:] == torch.tensor(blind_block())).all(dim=1)
    assert 400 < int(blind.sum()) < 600
    draw = sampling.draw_epoch(how, replace(job, codec_blind=True), pool, job.generator())
    assert bool(draw.blind.all())


def test_a_slot_without_rows_answers_as_unknown(cells: Dataset) -> None:
    fold = next(f for f in loeo_folds(cells) if f.name == "libx264")
    job = TrainingJob(scheme=fold.scheme, fold=fold.name, seed=0, rows=fold.train)
    trained = train_batched(SHORT["default"], [job], cells, pool_of(cells))[0]
    assert trained.trained_encoders == ("libsvtav1", UNKNOWN)
    columns = trained.layers[0][0][:, NUM_FEATURES : NUM_FEATURES + len(VOCABULARY)]
    for word, column in zip(VOCABULARY, columns.T, strict=True):
        assert np.array_equal(column, columns[:, VOCABULARY.index(UNKNOWN)]) == (
            word != "libsvtav1"
        )


def test_censored_targets_ask_no_more_than_their_end() -> None:
    how = replace(DEFAULT["vmaf_tiny_v2"], target_scale=100.0)
    answer, target = (
        torch.tensor([1.2, 0.9, 1.2, -0.1, 0.1, -0.1]),
        torch.tensor([1.0, 1.0, 0.9, 0.0, 0.0, 0.1]),
    )
    assert error(how, answer, target).tolist() == pytest.approx([0.0, -0.1, 0.3, 0.0, 0.1, -0.2])
    assert error(replace(how, censored=False), answer, target).tolist() == pytest.approx(
        (answer - target).tolist()
    )


def test_one_cycle_rises_and_falls() -> None:
    how = recipe("fr_regressor_v2", "default", lr=0.01)
    rates = [rate(how, i / 1000) for i in range(1000)]
    assert (
        rates[0] == pytest.approx(0.01 / 25)
        and max(rates) == pytest.approx(0.01)
        and rates[-1] < 1e-6
    )
    assert rates.index(max(rates)) == 300
    assert rate(SEED["fr_regressor_v2"], 0.9) == 5e-4


def test_the_seed_recipe_is_research_0067() -> None:
    how = recipe("fr_regressor_v2", "seed")
    assert (how.epochs, how.batch_size, how.lr, how.weight_decay, how.hidden) == (
        200,
        32,
        5e-4,
        1e-5,
        (32, 32, 32),
    )
    assert (how.schedule, how.samples_per_epoch, how.window_share, how.codec_dropout) == (
        "constant",
        None,
        0,
        0,
    )
    tiny = recipe("vmaf_tiny_v2", "seed")
    assert (tiny.epochs, tiny.batch_size, tiny.lr, tiny.activation, tiny.kfold) == (
        90,
        256,
        1e-3,
        "relu",
        5,
    )
    assert 6 * 16 + 16 + 16 * 8 + 8 + 8 + 1 == 257 and tiny.hidden == (16, 8)


@pytest.mark.parametrize("name", ["default", "seed"])
@pytest.mark.parametrize("model", list(DEFAULT))
def test_both_recipes_of_a_model_have_its_network(model: str, name: str) -> None:
    how = recipe(model, name)
    assert how.hidden == recipe(model, "seed").hidden and how.name == name
    assert recipe(model, name, epochs=how.epochs) == how
    assert recipe(model, name, epochs=how.epochs + 1).name == f"{name}+"


@pytest.mark.parametrize(
    "changes",
    [
        {"epochs": 0},
        {"lr": -1.0},
        {"lr": float("nan")},
        {"batch_size": 0},
        {"kfold": 1},
        {"depth": 0},
    ],
)
def test_senseless_settings_are_refused(changes: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=next(iter(changes)).replace("_", "-")):
        recipe("fr_regressor_v2", **changes)


def test_unknown_devices_are_refused() -> None:
    assert choose_device("cpu") == CPU
    for name in ("cuda:99", "gpu"):
        with pytest.raises(DependencyError, match=name):
            choose_device(name)


def experiment(how: Recipe, data: Dataset, frames: Dataset | None = None) -> rundir.Experiment:
    return rundir.plan(how, data, frames, loso=True, num_seeds=2, device=CPU, smoke=True)


def test_every_row_is_held_out_once_per_scheme_and_seed(cells: Dataset) -> None:
    plan = experiment(replace(SHORT["seed"], epochs=1, kfold=2), cells)
    table = rundir.held_out(plan, rundir.train_all(plan))
    assert len(table) == 3 * 2 * len(cells) and not table["y_model"].isna().any()
    for _, block in table.groupby(["scheme", "seed"], observed=True):
        assert sorted(block["key"]) == sorted(cells.key)
    loeo = table[table["scheme"] == "loeo"]
    assert (loeo["fold"].astype(str) == loeo["encoder"].astype(str)).all()


def test_predictions_are_those_of_the_fold_that_held_the_row_out(cells: Dataset) -> None:
    plan = experiment(SHORT["default"], cells)
    networks = rundir.train_all(plan)
    table = rundir.held_out(plan, networks)
    for job, net in zip(rundir.jobs_of(plan), networks, strict=True):
        if job.scheme != "loso" or job.seed != 1:
            continue
        test = np.setdiff1d(np.arange(len(cells)), job.rows)
        blind = np.tile(blind_block(), (len(test), 1))
        expected = predict(
            net, cells.features[test], blind if job.codec_blind else cells.codec[test]
        )
        rows = table[
            (table["scheme"] == "loso") & (table["fold"] == job.fold) & (table["seed"] == 1)
        ]
        column = "y_codec_blind" if job.codec_blind else "y_model"
        assert rows.set_index("key").loc[cells.key[test], column].to_numpy() == pytest.approx(
            expected
        )


def test_the_same_run_twice_gives_the_same_bytes(tmp_path: Path, frames: Dataset) -> None:
    plan = experiment(replace(SHORT["relu"], kfold=2), frames)
    for name in ("a", "b"):
        rundir.run(plan, tmp_path / name, {"schema": "test"})
    for file in ("predictions.parquet", "candidate.onnx", "candidate.json", "recipe.json"):
        assert (tmp_path / "a" / file).read_bytes() == (tmp_path / "b" / file).read_bytes()
    metrics = json.loads((tmp_path / "a" / "metrics.json").read_text())
    assert set(metrics["scalers"]) == set(frames.groups)
