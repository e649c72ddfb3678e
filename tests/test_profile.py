"""Where the time goes, and memory: what is told, and what workers hold."""

import json
import math
import os
import resource
import signal
from collections.abc import Iterator
from pathlib import Path
from time import perf_counter

import numpy as np
import pyarrow as pa
import pytest

from dist_dnn.account import MEMORY, PHASES
from dist_dnn.front.cli import run
from dist_dnn.hyperparameters import Hyperparameters
from dist_dnn.preparation import prepare
from dist_dnn.profile import added_up
from dist_dnn.trainer import Trainer
from workers.local_processes import LocalGroup

DIGITS = Path(__file__).parents[1] / "scripts" / "data" / "digits.parquet"


def trainer_of(group, **given) -> Trainer:
    random = np.random.default_rng(0)
    m, n = 4000, 20
    x = pa.FixedSizeListArray.from_arrays(pa.array(random.standard_normal(m * n, np.float32)), n)
    table = pa.table({"x": x, "y": pa.array(np.arange(m) % 3)})
    hyperparameters = Hyperparameters.from_mapping(
        {"hidden": (50, 30), "batch_size": m, "optimizer": "adam"} | given, "test"
    )
    return Trainer(group, prepare(group, table, ("y",), hyperparameters), hyperparameters)


@pytest.fixture(scope="module", params=[1, 2, 3])
def local(request) -> Iterator[LocalGroup]:
    with LocalGroup(8, request.param) as group:
        yield group


def test_memory_does_not_grow_over_a_thousand_steps() -> None:
    """The workers hold 3, 3 and 2 shards, in stacks of several lengths."""
    with LocalGroup(8, 3) as group:
        check_memory_stays(trainer_of(group, batch_size=400, shards=8))


def check_memory_stays(trainer: Trainer) -> None:
    for step in range(100):
        trainer.step(1, step % 10)
    before, own = trainer.profile.read(), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for step in range(1000):
        trainer.step(1, step % 10)
    after = trainer.profile.read()
    assert after["steps"] == 1000
    for one, other in zip(before["memory"], after["memory"], strict=True):
        assert other["peak"] - one["peak"] < 2**19
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - own < 2**9


def test_a_workers_memory_is_what_it_must_be(local: LocalGroup) -> None:
    trainer = trainer_of(local, batch_size=400, shards=8)
    memory = trainer.profile.read()["memory"]
    parameters = 4 * trainer.parameters.vector.size
    assert len(memory) == local.workers
    assert sum(each["data"] for each in memory) == 4000 * (
        20 * 4 + 8 + 8 + 8
    )  # X, truth, order, ordered
    for process, each in zip(local.processes, memory, strict=True):
        held = len(process.held)
        assert each["vectors"] <= (3 + math.ceil(math.log2(held))) * parameters
        # A, Z and dZ[L], Y, and as much again as the largest layer, and each one's loss and weight
        rows = held * 400 // 8
        assert each["activations"] <= 4 * rows * (20 + 2 * (50 + 30) + 4 * 3 + 2 + 50) + 64 * 20
        assert each["peak"] > each["data"] + each["vectors"] + each["activations"]


def test_every_phase_is_told_of_the_worker_that_spent_it(local: LocalGroup) -> None:
    trainer = trainer_of(local, batch_size=400, shards=8)
    trainer.profile.read()
    for step in range(10):
        trainer.step(1, step)
    spent = trainer.profile.read()
    assert spent["steps"] == 10
    assert spent["driver"].keys() == {"rounds", "update", "other"}
    assert all(seconds > 0 for seconds in spent["driver"].values())
    assert len(spent["workers"]) == len(spent["memory"]) == local.workers
    for worker in spent["workers"]:
        assert list(worker) == list(PHASES)
        assert all(worker[phase] > 0 for phase in ("gather", "forward", "backward", "addition"))
        # A worker's laps leave nothing out, and the driver waits for all of them.
        assert sum(worker.values()) >= spent["driver"]["rounds"] - worker["waiting"]


def test_who_is_left_spends_nothing_twice() -> None:
    began = perf_counter()
    with LocalGroup(8, 3) as group:
        trainer = trainer_of(group, batch_size=400, shards=8)
        for step in range(50):
            trainer.step(1, step % 10)
        trainer.profile.so_far()
        os.kill(group.processes[0].popen.pid, signal.SIGKILL)
        trainer.step(1, 0)
        spent = trainer.profile.so_far()
    assert len(spent["workers"]) == 3
    assert all(sum(worker.values()) <= perf_counter() - began for worker in spent["workers"])


def test_stretches_add_up() -> None:
    first = {"steps": 2, "driver": {"rounds": 1.0}, "workers": [{"a": 1.0}], "memory": [{"b": 5}]}
    other = {
        "steps": 3,
        "driver": {"rounds": 0.5},
        "workers": [{"a": 2.0}, {"a": 4.0}],
        "memory": [{"b": 4}, {"b": 6}],
    }
    assert added_up([first, other]) == {
        "steps": 5,
        "driver": {"rounds": 1.5},
        "workers": [{"a": 3.0}, {"a": 4.0}],
        "memory": [{"b": 5}, {"b": 6}],
    }


@pytest.mark.parametrize("workers", ["0", "2"])
def test_a_training_tells_where_its_time_went(tmp_path: Path, capsys, workers: str) -> None:
    out = tmp_path / "run"
    flags = ["--target", "digit", "--epochs", "2", "--workers", workers, "--out", str(out)]
    assert run(["train", str(DIGITS), *flags, "--profile", "--progress", "none"]) == 0
    shown = capsys.readouterr()
    assert shown.out == ""
    assert all(name in shown.err for name in ("rounds", *PHASES, *MEMORY))
    profile = json.loads((out / "status.json").read_text())["profile"]
    assert profile["steps"] == 2 * math.ceil(1797 / 256)
    assert len(profile["workers"]) == max(1, int(workers))
    assert all(worker["forward"] > 0 for worker in profile["workers"])
