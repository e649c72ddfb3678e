"""The same experiment gives the same bits for any number of workers, and another one does not."""

import json
import tomllib
import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as parquet
import pytest

from dist_dnn import Hyperparameters, InputError, train
from dist_dnn.model import Model
from dist_dnn.nn.optimizers import OPTIMIZERS
from dist_dnn.preparation import prepare
from dist_dnn.reporting import Progress
from dist_dnn.trainer import NoKeeper, Trainer
from workers.group import Reach, WorkerGroup
from workers.launch import Settings, run

DIGITS = Path(__file__).parents[1] / "scripts" / "data" / "digits.parquet"

EXPERIMENTS: dict[str, dict[str, Any]] = {
    "batches that no shard count divides": {"batch_size": 101, "validation": 0.13},
    "shards without a row in a batch": {"batch_size": 5, "epochs": 1, "hidden": [7]},
    "full batch": {"batch_size": "full", "optimizer": "nesterov", "clip_norm": 0.5},
    "other shards": {"shards": 11, "batch_size": 100, "l2": 0.01, "schedule": "cosine"},
    "a net whose sums have few slots": {"hidden": [1500, 700], "batch_size": 300, "epochs": 1},
}


def a_training(group: WorkerGroup, given: dict[str, Any]) -> dict[str, Any]:
    """Everything that must not depend on the workers: parameters, optimiser, recorded losses."""
    hyperparameters = Hyperparameters.from_mapping({"epochs": 2} | given, "test")
    trainer = Trainer(group, prepare(group, DIGITS, ("digit",), hyperparameters), hyperparameters)
    losses = []

    class Recorder(Progress):
        def step(self, rows: int, loss: float, seconds: float) -> None:
            losses.append((rows, loss))

        def end_epoch(self, metrics: dict[str, Any]) -> None:
            losses.append(
                {k: v for k, v in metrics.items() if k not in ("seconds", "examples_per_second")}
            )

    trainer.run(hyperparameters.epochs, Recorder(), NoKeeper())
    return {
        "parameters": trainer.parameters.vector.tobytes(),
        "state": {name: vector.tobytes() for name, vector in trainer.update.state.items()},
        "losses": losses,
    }


def trainings(reach: Reach) -> dict[str, dict[str, Any]]:
    """All experiments; those with as many shards have the same group, one after the other."""
    found = {}
    for shards in (8, 11):
        with reach.group(shards) as group:
            for name, given in EXPERIMENTS.items():
                if given.get("shards", 8) == shards:
                    found[name] = a_training(group, given)
    return found


@pytest.fixture(scope="module")
def serial() -> dict[str, dict[str, Any]]:
    return run(Settings(workers=0), trainings)


@pytest.mark.parametrize("workers", [1, 2, 3, pytest.param(5, marks=pytest.mark.slow), 8])
def test_no_bit_depends_on_the_workers(workers: int, serial: dict[str, dict[str, Any]]) -> None:
    found = run(Settings(workers=workers), trainings)
    assert found.keys() == EXPERIMENTS.keys()
    for name, each in serial.items():
        assert len(each["losses"]) > 2
        is_same = found[name] == each  # pytest would show where not, for long
        assert is_same, name


def test_another_seed_or_shard_count_is_another_experiment() -> None:
    digests = {
        train(DIGITS, "digit", {"epochs": 1, **given}, workers=0).digest
        for given in ({}, {"seed": 1}, {"shards": 7}, {"seed": 2**63 - 1})
    }
    assert len(digests) == 4


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_every_optimizer_learns(optimizer: str) -> None:
    rate = {"sgd": 0.1, "momentum": 0.05, "nesterov": 0.05}.get(optimizer, 0.003)
    given = {"optimizer": optimizer, "learning_rate": rate, "hidden": [32], "batch_size": 32}
    history = train(DIGITS, "digit", {**given, "epochs": 4, "validation": 0.2}, workers=0).history
    assert history[-1]["validation_accuracy"] > 0.85


def test_slices_above_a_block_are_added_block_by_block() -> None:
    rows = 2 * 4096 * 2 + 1500
    random = np.random.default_rng(0)
    x = random.normal(size=rows)
    table = pa.table({"x": x, "z": random.normal(size=rows), "y": x > 0.2})
    given = {"shards": 2, "batch_size": "full", "epochs": 3, "hidden": [4]}
    digests = {train(table, "y", given, workers=workers).digest for workers in (0, 1, 2)}
    assert len(digests) == 1


def test_a_step_is_the_gradient_step_of_the_lecture_on_the_whole_batch() -> None:
    """One full-batch step of sgd against float64 formulas written out here."""
    random = np.random.default_rng(3)
    X = random.normal(size=(37, 3))
    y = (X @ [1.0, -2, 0.5] + random.normal(size=37) > 0).astype(int)
    table = pa.table({**{f"x{i}": X[:, i] for i in range(3)}, "y": y})
    given = {
        "hidden": [],
        "optimizer": "sgd",
        "learning_rate": 0.5,
        "batch_size": "full",
        "l2": 0.7,
    }
    before = train(table, "y", {**given, "epochs": 0}, workers=0).model.parameters
    after = train(table, "y", {**given, "epochs": 1}, workers=3).model.parameters
    standardised = ((X - X.mean(0)) / X.std(0)).T
    W, b = before.W[1].astype(float), before.b[1].astype(float)
    A = 1 / (1 + np.exp(-(W @ standardised + b)))
    dZ = A - y
    np.testing.assert_allclose(
        after.W[1], W - 0.5 * (dZ @ standardised.T + 0.7 * W) / 37, rtol=1e-5, atol=1e-7
    )
    np.testing.assert_allclose(after.b[1], b - 0.5 * dZ.mean(1, keepdims=True), rtol=1e-5)


def test_recorded_loss_is_the_mean_over_examples_without_the_penalty() -> None:
    given = {"hidden": [], "learning_rate": 1e-12, "l2": 100.0, "batch_size": 1000, "epochs": 1}
    run = train(DIGITS, "digit", given, validation=DIGITS, workers=2)
    [metrics] = run.history
    assert metrics["train_loss"] == pytest.approx(metrics["validation_loss"], rel=1e-6)


def test_a_table_in_memory_gives_the_digest_of_its_file(tmp_path: Path) -> None:
    table = parquet.read_table(DIGITS)
    given = {"epochs": 1, "hidden": [16]}
    by_file = train(DIGITS, "digit", given, workers=2).digest
    assert train(table, "digit", given, workers=3).digest == by_file
    assert train(table, "digit", given, workers=0).digest == by_file


@pytest.mark.parametrize("validation", [0.2, DIGITS])
def test_validation_given_by_argument_is_part_of_the_experiment(
    validation: float | Path, tmp_path: Path
) -> None:
    given = {"epochs": 1, "hidden": [8]}
    run = train(DIGITS, "digit", given, workers=0, out=tmp_path / "run", validation=validation)
    config = tomllib.loads((tmp_path / "run" / "hyperparameters.toml").read_text())
    again = train(DIGITS, config.pop("target"), config, workers=2)
    assert again.digest == run.digest
    assert again.history[0]["validation_loss"] == run.history[0]["validation_loss"]


@pytest.mark.parametrize("validation", [1, 0, -0.1, 1.5, ""])
def test_validation_given_by_argument_is_checked_too(validation: object) -> None:
    with pytest.raises(InputError, match="validation must be a fraction"):
        train(DIGITS, "digit", workers=0, validation=validation)


def test_the_run_directory_holds_the_model_that_was_returned(tmp_path: Path) -> None:
    run = train(DIGITS, "digit", {"epochs": 2, "hidden": [8]}, workers=2, out=tmp_path / "run")
    assert Model.load(str(tmp_path / "run")).digest == run.digest == run.history[-1]["digest"]
    lines = (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()
    assert [json.loads(line) for line in lines] == run.history
    assert json.loads((tmp_path / "run" / "status.json").read_text())["state"] == "completed"


def test_the_steady_state_of_a_step_allocates_no_array() -> None:
    rows, batches = 4_000, 4
    table = pa.table(
        {"x": np.arange(8.0 * rows * batches) % 17, "y": np.arange(8 * rows * batches) % 10}
    )

    def main(reach: Reach) -> int:
        with reach.group(8) as group:
            return drive(group)

    def drive(group: WorkerGroup) -> int:
        given = Hyperparameters(hidden=(64, 32), batch_size=8 * rows)
        trainer = Trainer(group, prepare(group, table, ("y",), given), given)
        for batch in range(batches):
            trainer.step(1, batch)
        tracemalloc.start()
        try:
            trainer.step(1, 0)
            before, _ = tracemalloc.get_traced_memory()
            tracemalloc.reset_peak()
            for batch in range(batches):
                trainer.step(1, batch)
            return tracemalloc.get_traced_memory()[1] - before
        finally:
            tracemalloc.stop()

    smallest_array = 4 * rows * 10  # Ŷ of one block; NumPy's own buffers have up to 8,192 numbers
    assert run(Settings(workers=0), main) < smallest_array


def test_a_column_that_marks_the_rows_to_validate_on(tmp_path: Path) -> None:
    table = parquet.read_table(DIGITS)
    held = np.random.default_rng(0).random(table.num_rows) < 0.2
    parts = [table.filter(pa.array(~held)), table.filter(pa.array(held))]
    marked = table.add_column(3, "held", pa.array(held))
    given = {"epochs": 1, "hidden": [8]}
    expected = train(parts[0], "digit", given, validation=parts[1], workers=0)
    parquet.write_table(marked, tmp_path / "marked.parquet", row_group_size=333)
    given |= {"validation_column": "held"}
    for workers in (0, 3):
        run = train(tmp_path / "marked.parquet", "digit", given, workers=workers)
        assert run.digest == expected.digest
        assert run.history[0]["validation_loss"] == expected.history[0]["validation_loss"]
        assert run.model is not None
        assert "held" not in [column.name for column in run.model.features.columns]
    with pytest.raises(InputError, match="exclude each other"):
        train(marked, "digit", given, validation=parts[1], workers=0)


def test_a_stratified_validation(tmp_path: Path) -> None:
    table = parquet.read_table(DIGITS)
    rare = [0] * 1780 + [1] * 16 + [2]  # the hash would hold out 2, or none, or all of a class
    table = table.set_column(table.num_columns - 1, "digit", pa.array(rare))
    given = {"epochs": 1, "hidden": [8], "validation": 0.25, "stratify": True}
    runs = [
        train(table, "digit", given, out=tmp_path / str(workers), workers=workers)
        for workers in (0, 2)
    ]
    assert runs[0].digest == runs[1].digest
    config = tomllib.loads((tmp_path / "0" / "hyperparameters.toml").read_text())
    assert config["stratify"] is True
    assert train(table, "digit", given | {"stratify": False}, workers=0).digest != runs[0].digest
    more = train(table, resume=True, hyperparameters={"epochs": 2}, out=tmp_path / "0", workers=2)
    assert len(more.history) == 2
