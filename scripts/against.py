"""Our steps against those of other software: ratios of the rates, and which is the fastest."""

import statistics
import sys
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from comparisons import ratio, take_turns
from own_steps import BATCHES, OwnSteps, Workload
from peers.process import Peer
from peers.task import Task

from dist_dnn.data.numbers import Numbers
from dist_dnn.front.measuring_workers import cores
from dist_dnn.rounds import Group
from dist_dnn.shards import batch_slice, epoch_order, shard_range
from dist_dnn.trainer import Trainer


def compare_against(
    names: list[str], group: Group, workers: int, workload: Workload, rounds: int
) -> dict[str, Any]:
    """Let the steps of a group take turns with those of peers.

    Args:
        names: of the peers, which ``check_peers`` has seen.
        workers: as many processes the peers that have several get.

    Returns:
        What each peer gave, and how we compare with the one of the highest median rate.

    Raises:
        RunError: a peer ended or hangs.
    """
    trainer = workload.trainer(group)
    task = task_of(trainer, workload, workers)
    with ExitStack() as stack:
        contenders: list[Any] = [OwnSteps(trainer)]
        for name in names:
            folder = stack.enter_context(TemporaryDirectory(prefix="dist_dnn-peer-"))
            contenders.append(stack.enter_context(Peer(name, Path(folder), task)))
        own, *others = take_turns(contenders, rounds)
    result = _compared(own, dict(zip(names, others, strict=True)), workload.batch_size)
    _print_table(result["against"])
    return result


def task_of(trainer: Trainer, workload: Workload, workers: int) -> Task:
    """What a trainer that has made no step yet trains, for peers: the same rows, batch by batch."""
    table: Any = workload.table()
    hyperparameters, m = workload.hyperparameters, trainer.experiment.m
    X = np.empty((m, workload.layers[0]), np.float32)
    trainer.experiment.features.standardisation.apply(Numbers(table["x"], X.shape[1]), X)
    batches = [
        rows_of_batch(batch, workload.batch_size, m, hyperparameters.shards, hyperparameters.seed)
        for batch in range(BATCHES)
    ]
    parameters = trainer.parameters
    return Task(
        X,
        table["y"].to_numpy().astype(np.int64),
        np.stack(batches),
        W=tuple(W.T.copy() for W in parameters.W.values()),
        b=tuple(b[:, 0].copy() for b in parameters.b.values()),
        optimizer=hyperparameters.optimizer,
        learning_rate=hyperparameters.learning_rate,
        cores=cores(),
        processes=max(1, workers),
    )


def rows_of_batch(batch: int, batch_size: int, m: int, shards: int, seed: int) -> Any:
    """The rows that our workers take for a batch of the first epoch, int64 (B,)."""
    found = []
    for shard in range(shards):
        start, stop = shard_range(m, shard, shards)
        first, last = batch_slice(batch, batch_size, m, shard, shards)
        found.append(start + epoch_order(seed, 1, shard, stop - start)[first:last])
    return np.concatenate(found)


def _compared(own: list[float], peers: dict[str, list[float]], batch_size: int) -> dict[str, Any]:
    """The rates' ratios, ours over each peer's, from the seconds of a step in each round."""
    against = {}
    for name, seconds in peers.items():
        ours = ratio(seconds, own)
        against[name] = {
            "examples_per_second": statistics.median(batch_size / each for each in seconds),
            "ratio": ours.median,
            "ratio_low": ours.low,
            "ratio_high": ours.high,
        }
    best = max(against, key=lambda name: against[name]["examples_per_second"])
    return {
        "against": against,
        "best_peer": best,
        **{
            name.replace("ratio", "ratio_to_best"): against[best][name]
            for name in ("ratio", "ratio_low", "ratio_high")
        },
    }


def _print_table(against: dict[str, dict[str, float]]) -> None:
    print(f"{'peer':<20} {'examples/s':>14} {'our rate over its':>18}", file=sys.stderr)
    for name, each in against.items():
        within = f"({each['ratio_low']:.3f} to {each['ratio_high']:.3f})"
        print(
            f"{name:<20} {each['examples_per_second']:>14,.0f} {each['ratio']:>18.3f} {within}",
            file=sys.stderr,
        )
