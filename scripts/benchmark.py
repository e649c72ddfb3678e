"""Measure whole training steps: one JSON object on standard output, a table on standard error."""

import argparse
import json
import resource
import statistics
import sys
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory
from time import perf_counter
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numpy as np
import pyarrow as pa

from dist_dnn.checkpoint import Surroundings
from dist_dnn.errors import InputError, RunError
from dist_dnn.hyperparameters import Hyperparameters
from dist_dnn.preparation import prepare
from dist_dnn.products import Products
from dist_dnn.recorder import Every, Recorder
from dist_dnn.rounds import Group
from dist_dnn.storage import LocalFolder
from dist_dnn.tracking import RunDirectory
from dist_dnn.trainer import Keeper, NoKeeper, Trainer
from workers import launch
from workers.group import Reach

ROUNDS = 7
"""Steps and products take turns so often."""

WARM_UP_STEPS = 5
TURN_SECONDS = 3.0
"""How long steps are made with checkpoints, and without, before the other's turn."""

BATCHES = 4
"""So many batches of made-up rows are trained on again and again."""


def main() -> int:
    """Measure what the command line asks for; returns the exit status."""
    chosen = _parser().parse_args()
    try:
        result = measure(chosen)
        if result is not None:
            print(json.dumps(result))
    except (InputError, RunError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2 if isinstance(error, InputError) else 1
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description="Measure whole training steps against their matrix products alone.",
        epilog="example: python scripts/benchmark.py --layers 784,512,256,10 --batch-size 512 "
        "--workers 2 --shards 2",
    )
    parser.add_argument("--layers", required=True, type=_layers, metavar="N,N,…")
    parser.add_argument("--batch-size", required=True, type=int, metavar="B")
    parser.add_argument("--workers", type=int, metavar="N", help="default 2, or all ranks of MPI")
    parser.add_argument("--backend", default="local", metavar="NAME")
    parser.add_argument("--shards", type=int, default=8, metavar="S")
    parser.add_argument("--optimizer", default="sgd", metavar="NAME")
    parser.add_argument("--steps", type=int, default=70, metavar="N", help="steps to measure")
    parser.add_argument(
        "--beside",
        metavar="NAME",
        help="another backend, whose steps take turns: the ratio of the medians is measured, too",
    )
    parser.add_argument(
        "--checkpoint-every",
        metavar="N|SECONDSs",
        help="measure the rate with such checkpoints over the rate without, too",
    )
    return parser


def _layers(text: str) -> tuple[int, ...]:
    try:
        layers = tuple(int(part) for part in text.split(","))
    except ValueError:
        layers = ()
    if len(layers) < 2 or min(layers) < 1 or layers[-1] < 3:
        raise argparse.ArgumentTypeError(f"{text!r} is not n[0],…,n[L] with n[L] at least 3")
    return layers


def measure(chosen: argparse.Namespace) -> dict[str, float] | None:
    """Alternate steps and products in one group of workers; medians over all of them.

    Returns:
        None in a process that only serves another one.

    Raises:
        InputError, RunError: as training does.
    """
    if chosen.steps < 1:
        raise InputError(f"--steps must be above 0, not {chosen.steps}")
    hyperparameters = Hyperparameters(
        hidden=chosen.layers[1:-1],
        optimizer=chosen.optimizer,
        learning_rate=0.001,
        batch_size=chosen.batch_size,
        shards=chosen.shards,
    )

    def main(reach: Reach) -> dict[str, float]:
        with reach.group(chosen.shards) as group:
            result = _drive(group, chosen, hyperparameters)
            if chosen.beside is not None:
                beside = launch.Settings(chosen.beside, reach.workers)
                compared = launch.run(
                    beside, lambda other: _beside(group, other, chosen, hyperparameters)
                )
                result |= compared or {}
        return result

    settings = launch.Settings(chosen.backend, chosen.workers)
    result = launch.run(settings, main)
    if result is not None:
        _print_table(result)
    return result


def _drive(
    group: Group, chosen: argparse.Namespace, hyperparameters: Hyperparameters
) -> dict[str, float]:
    trainer = _trainer(group, chosen, hyperparameters)
    result = _summary(_times(group, trainer, chosen), chosen.batch_size)
    if chosen.checkpoint_every is not None:
        every = Every.parse(chosen.checkpoint_every)
        result["rate_with_checkpoints"] = _rate_with_checkpoints(trainer, hyperparameters, every)
    return result


def _trainer(group: Group, chosen: argparse.Namespace, hyperparameters: Hyperparameters) -> Trainer:
    table = made_up_rows(chosen.layers[0], chosen.layers[-1], BATCHES * chosen.batch_size)
    return Trainer(group, prepare(group, table, "y", hyperparameters), hyperparameters)


def _beside(
    group: Group, reach: Reach, chosen: argparse.Namespace, hyperparameters: Hyperparameters
) -> dict[str, float]:
    with reach.group(chosen.shards) as other:
        return _compare(group, other, chosen, hyperparameters)


def _compare(
    group: Group, other: Group, chosen: argparse.Namespace, hyperparameters: Hyperparameters
) -> dict[str, float]:
    """Let the steps of two groups take turns: medians, and how much longer the first one's are."""
    trainers = [_trainer(each, chosen, hyperparameters) for each in (group, other)]
    medians: list[list[float]] = [[], []]
    for trainer in trainers:
        _seconds_of_steps(trainer, WARM_UP_STEPS)
    for number in range(ROUNDS):
        for which in (0, 1) if number % 2 else (1, 0):
            seconds = _seconds_of_steps(trainers[which], -(-chosen.steps // ROUNDS))
            medians[which].append(statistics.median(seconds))
    own, beside = medians
    return {
        "beside_step_ms_median": 1e3 * statistics.median(beside),
        "ratio_to_beside": statistics.median(a / b for a, b in zip(own, beside, strict=True)),
        "ms_more_than_beside": 1e3
        * statistics.median(a - b for a, b in zip(own, beside, strict=True)),
    }


def _seconds_of_steps(trainer: Trainer, steps: int) -> list[float]:
    seconds = []
    for step in range(steps):
        trainer.step(1, step % BATCHES)
        seconds.append(trainer.times.step)
    return seconds


def _times(group: Group, trainer: Trainer, chosen: argparse.Namespace) -> dict[str, list[float]]:
    """The seconds of each step and its parts, and of the products that take turns with them."""
    network = trainer.experiment.network.arguments()
    products = group.open(Products, {"network": network, "batch_size": chosen.batch_size})
    times: dict[str, list[float]] = {
        name: [] for name in ("step", "compute", "reduce", "update", "gemm")
    }
    for number in range(WARM_UP_STEPS):
        trainer.step(1, number % BATCHES)
    repetitions = _repetitions(products)
    for number in range(ROUNDS):
        for step in range(chosen.steps * number // ROUNDS, chosen.steps * (number + 1) // ROUNDS):
            trainer.step(1, step % BATCHES)
            for name, seconds in vars(trainer.times).items():
                times[name].append(seconds)
        began = perf_counter()
        products.run(repetitions)
        times["gemm"].append((perf_counter() - began) / repetitions)
    return times


def _rate_with_checkpoints(
    trainer: Trainer, hyperparameters: Hyperparameters, every: Every
) -> float:
    """Steps a second with checkpoints over those without, taking turns: the median ratio."""
    state = trainer.state
    model = trainer.experiment.model(trainer.parameters, hyperparameters.shards)
    surroundings = Surroundings(hyperparameters.to_mapping(), model.data_to_json(), {}, {}, {})
    with TemporaryDirectory() as folder, ExitStack() as stack:
        directory = RunDirectory(LocalFolder(Path(folder, "run")), model, surroundings, {}, keep=3)
        directory.begin(state, stack)
        with Recorder(directory, state, every) as recorder:
            ratios = []
            for number in range(ROUNDS):
                turns = (NoKeeper(), recorder) if number % 2 else (recorder, NoKeeper())
                rates = {turn: _rate(trainer, turn) for turn in turns}
                ratios.append(rates.pop(recorder) / rates.popitem()[1])
    return statistics.median(ratios)


def _rate(trainer: Trainer, keeper: Keeper) -> float:
    """Steps a second while a keeper is shown the state."""
    began, steps = perf_counter(), 0
    while perf_counter() - began < TURN_SECONDS:
        trainer.step(1, steps % BATCHES)
        trainer.state.epoch += 1  # so that the state stands after another step
        keeper.stepped(trainer.state)
        steps += 1
    return steps / (perf_counter() - began)


def _repetitions(products: Any) -> int:
    """How often to repeat the products, so that starting the round does not count."""
    products.run(1)
    began = perf_counter()
    products.run(3)
    return max(3, int(0.1 / (perf_counter() - began) * 3))


def made_up_rows(features: int, classes: int, m: int) -> pa.Table:
    """A table of m rows: x, a list of float32 numbers, and y, a class."""
    random = np.random.default_rng(0)
    x: Any = pa.array(random.standard_normal(m * features, np.float32))
    y = pa.array(np.arange(m) % classes)
    return pa.table({"x": pa.FixedSizeListArray.from_arrays(x, features), "y": y})


def _summary(times: dict[str, list[float]], batch_size: int) -> dict[str, float]:
    medians = {name: statistics.median(seconds) for name, seconds in times.items()}
    peak = max(
        resource.getrusage(who).ru_maxrss
        for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
    )
    return {
        "examples_per_second": batch_size / medians["step"],
        "step_ms_median": 1e3 * medians["step"],
        "gemm_ms": 1e3 * medians["gemm"],
        "gemm_fraction": medians["gemm"] / medians["step"],
        "compute_ms": 1e3 * medians["compute"],
        "reduce_ms": 1e3 * medians["reduce"],
        "update_ms": 1e3 * medians["update"],
        "peak_rss_mb": peak / (2**20 if sys.platform == "darwin" else 2**10),
    }


def _print_table(result: dict[str, float]) -> None:
    for name, value in result.items():
        print(f"{name:<20} {value:>14,.3f}", file=sys.stderr)


if __name__ == "__main__":
    sys.exit(main())
