"""How fast this machine computes the steps of a network, and what a round costs it."""

import math
import os
import statistics
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import pairwise
from time import perf_counter
from typing import Any, NamedTuple, TypeVar

import numpy as np

from dist_dnn.errors import InputError
from dist_dnn.front.api import import_launch
from dist_dnn.front.made_up import made_up_rows
from dist_dnn.front.planning import Core, Memory, Work
from dist_dnn.hyperparameters import Hyperparameters
from dist_dnn.idling import Idling
from dist_dnn.nn.network import Network
from dist_dnn.nn.optimizers import make_optimizer
from dist_dnn.nn.update import Update
from dist_dnn.preparation import prepare
from dist_dnn.products import Products
from dist_dnn.rounds import Group
from dist_dnn.shards import BLOCK_ROWS
from dist_dnn.trainer import Trainer

Result = TypeVar("Result")

MOST_PARAMETERS = 10**7
"""Larger networks are measured with fewer units a layer."""

MOST_NUMBERS = 2**25
"""Of made-up rows, and of a step's activations, while measuring."""

MOST_FLOPS = 2e10
"""Of a step that is measured."""

SECONDS = 0.15
"""For so long each thing is measured, in turns."""

TURNS = 5
BATCHES = 2
LONGEST_IDLING = 5e-3
LONGEST_STEP = 10.0
"""Steps that a verification may take."""

MEMORY_PART = 0.25
"""Of the machine's memory, that a verification may take."""


class Speed(NamedTuple):
    """A core, and what was not measured but concluded from something smaller."""

    core: Core
    extrapolated: list[str]


@dataclass(frozen=True)
class Training:
    """What a step is of, when it is measured.

    Attributes:
        layers: n[0] … n[L].
        batch_size: B.
        shards: S.
        optimizer: its name.
    """

    layers: tuple[int, ...]
    batch_size: int
    shards: int
    optimizer: str

    @property
    def classes(self) -> int:
        """Of the made-up target: as many outputs as there are, but two classes have one."""
        return 2 if self.layers[-1] == 1 else max(3, self.layers[-1])

    @property
    def rows(self) -> int:
        """Of the made-up table: all classes, and some batches."""
        return max(BATCHES * self.batch_size, self.classes)

    def trainer(self, group: Group) -> Trainer:
        """A training of made-up rows by the group."""
        hyperparameters = Hyperparameters(
            hidden=self.layers[1:-1],
            task="binary" if self.classes == 2 else "multiclass",
            optimizer=self.optimizer,
            batch_size=self.batch_size,
            shards=self.shards,
        )
        table = made_up_rows(self.layers[0], self.classes, self.rows)
        return Trainer(group, prepare(group, table, "y", hyperparameters), hyperparameters)


# A core


def measure_core(training: Training, workers: int) -> Speed:
    """Measure the products, whole steps, additions and updates by themselves, in this process.

    Args:
        training: what is planned; what is too large is measured smaller.
        workers: N, of which the busiest holds ⌈S/N⌉ shards.
    """
    launch = import_launch()
    settings = launch.Settings("local", 0)
    speed: Speed = launch.run(settings, lambda reach: _measure_core(reach, training, workers))
    return speed


def _measure_core(reach: Any, training: Training, workers: int) -> Speed:
    extrapolated = []
    layers = _measurable(training.layers)
    if layers != training.layers:
        extrapolated.append(f"from layers {'-'.join(map(str, layers))}")
    network = Network(layers, loss="half_squared_error")
    rows = _block_rows(training, layers)
    if rows < min(-(-training.batch_size // training.shards), BLOCK_ROWS):
        extrapolated.append(f"from blocks of {rows:,} rows")
    points = [
        Training(layers, held * count, held, training.optimizer)
        for held in _held(training.shards, workers, _most_rows(layers, MOST_FLOPS) // rows)
        for count in sorted({max(1, rows // 4), rows})
    ]
    addition, update = _vectors(network, training.optimizer)
    work = Work.of(network, rows, 1)
    with ExitStack() as stack:
        groups = [stack.enter_context(reach.group(point.shards)) for point in points]
        trainers = [point.trainer(group) for point, group in zip(points, groups, strict=True)]
        products = stack.enter_context(reach.group(1)).open(
            Products, {"network": network.arguments(), "batch_size": rows}
        )
        calls: list[Callable[[], float]] = [_timed(lambda: products.run(1))]
        calls += [_stepping(trainer) for trainer in trainers]
        seconds, *steps = _medians(calls)
    flops = rows * work.row_flops / seconds
    core = _fitted(
        Core(flops, 0.0, 0.0, 0.0, addition, update),
        [Work.of(network, point.batch_size, point.shards) for point in points],
        steps,
    )
    return Speed(_enlarged(core, layers, training.layers), extrapolated)


def _measurable(layers: tuple[int, ...]) -> tuple[int, ...]:
    """The layers, with fewer units each where there are too many."""
    part = 1.0
    while True:
        smaller = tuple(max(1, int(part * units)) for units in layers)
        parameters = sum((a + 1) * b for a, b in pairwise(smaller))
        if parameters <= MOST_PARAMETERS and smaller[0] * smaller[-1] <= MOST_NUMBERS:
            return smaller
        part *= 0.9


def _block_rows(training: Training, layers: tuple[int, ...]) -> int:
    """The rows of the training's blocks, or as many of them as are measured."""
    rows = -(-training.batch_size // training.shards)
    return min(rows, BLOCK_ROWS, _most_rows(layers, MOST_FLOPS / 2))


def _most_rows(layers: tuple[int, ...], flops: float) -> int:
    """How many rows a step may have that is measured."""
    work = Work.of(Network(layers, loss="half_squared_error"), 1, 1)
    return max(1, int(min(flops / work.row_flops, MOST_NUMBERS / (2 * sum(layers)))))


def _held(shards: int, workers: int, most: int) -> list[int]:
    """How many shards to measure steps with: one worker's, and those of the busiest of all."""
    high = min(shards, max(2, most))
    low = min(-(-shards // workers), high)
    return sorted({high, max(1, high // 2) if low == high else low})


def _vectors(network: Network, optimizer: str) -> tuple[float, float]:
    """Seconds a number to add vectors of P numbers, and to update P parameters."""
    count = network.parameter_count
    into, other = np.zeros(count, np.float32), np.zeros(count, np.float32)
    sums, theta = np.ones(count, np.float32), np.ones(count, np.float32)
    update = Update(network, theta, make_optimizer(optimizer))

    def updated() -> float:
        sums.fill(1)  # what an update leaves there may be too small to compute with quickly
        return _timed(lambda: update(sums, 1.0, 1e-3, 1))()

    addition, updating = _medians([_timed(lambda: np.add(into, other, out=into)), updated])
    return addition / count, updating / count


def _fitted(core: Core, works: Sequence[Work], steps: Sequence[float]) -> Core:
    """The core, with what steps take beside products, additions and updates.

    Args:
        core: without it.
        works, steps: what was computed by one worker, and the seconds that it took.
    """
    rest = [
        seconds - core.compute(work, work.shards) - work.parameters * core.update
        for work, seconds in zip(works, steps, strict=True)
    ]
    terms = [[1.0, work.shards, work.batch_size] for work in works]
    weights = 1 / np.array(steps)
    call, block, row = _least_squares(np.array(terms) * weights[:, None], np.array(rest) * weights)
    return Core(core.flops, call, block, row, core.addition, core.update)


def _least_squares(terms: np.ndarray, values: np.ndarray) -> list[float]:
    """The factors, none below 0, with which the terms give the values best."""
    used = list(range(terms.shape[1]))
    factors = np.zeros(terms.shape[1])
    while used:
        found = np.linalg.lstsq(terms[:, used], values, rcond=None)[0]
        if found.min() >= 0:
            factors[used] = found
            break
        del used[int(found.argmin())]
    return [float(factor) for factor in factors]


def _enlarged(core: Core, measured: tuple[int, ...], planned: tuple[int, ...]) -> Core:
    """The core, with the times of a larger network's blocks and rows."""
    small, large = (Network(each, loss="half_squared_error") for each in (measured, planned))
    return Core(
        core.flops,
        core.call,
        core.block * large.parameter_count / small.parameter_count,
        core.row * sum(planned) / sum(measured),
        core.addition,
        core.update,
    )


# Rounds of workers on this machine


def cores() -> int:
    """How many this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def measure_sharing(training: Training, workers: int, compute: float, update: float) -> Memory:
    """Measure what a round of local workers takes beside the computing, and how they crowd.

    Args:
        training: whose products show how workers that compute at once slow each other.
        workers: how many, at most as many as there are cores.
        compute: seconds that they compute: whoever waits for long has to be woken.
        update: seconds that the driver computes between two rounds.
    """
    idle = round(1e9 * min(compute, LONGEST_IDLING))
    pause = min(update, LONGEST_IDLING)
    launch = import_launch()

    def drive(groups: list[Group]) -> Memory:
        [group] = groups
        idling = group.open(Idling, {})
        together = _products(group, training)
        alone = launch.run(
            launch.Settings("local", 0), lambda reach: _products(reach.group(1), training)
        )
        times = math.ceil(LONGEST_IDLING / alone(1))
        seconds, one, all_at_once = _medians(
            [
                _after(pause, _timed(lambda: idling.run(idle))),
                lambda: alone(times),
                lambda: together(times),
            ]
        )
        crowding = max(1.0, all_at_once / one) if workers > 1 else 1.0
        return Memory(max(0.0, seconds - idle * 1e-9), crowding)

    return _beside([workers], workers, drive)


def _products(group: Group, training: Training) -> Callable[[int], float]:
    """What does a block's products so many times in each worker, and returns a time's seconds."""
    layers = _measurable(training.layers)
    rows = _block_rows(training, layers)
    network = Network(layers, loss="half_squared_error")
    options = {"network": network.arguments(), "batch_size": rows * group.shards}
    rounds = group.open(Products, options)
    return lambda times: _timed(lambda: rounds.run(times))() / times


def measure_steps(training: Training, workers: Sequence[int]) -> dict[int, float]:
    """Seconds of a step of so many local workers each; they take turns.

    Raises:
        InputError: they do not fit in a part of the memory.
    """
    needed = sum(_bytes(training, each) for each in workers)
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    if needed > MEMORY_PART * memory:
        raise InputError(
            f"--verify would need {needed:.1e} bytes, more than {MEMORY_PART:.0%} of this "
            f"machine's {memory:.1e}: give a smaller --batch-size, or fewer units"
        )

    def drive(groups: list[Group]) -> list[float]:
        return _medians([_stepping(training.trainer(group)) for group in groups])

    medians = _beside(workers, training.shards, drive)
    return dict(zip(workers, medians, strict=True))


def _bytes(training: Training, workers: int) -> int:
    """About what a training takes: its rows in the table and in the workers, and its vectors."""
    rows = 3 * training.rows * training.layers[0]
    network = Network(training.layers, loss="half_squared_error")
    slots = workers * (1 + training.shards.bit_length())
    return 4 * (rows + network.parameter_count * (4 + slots))


def _beside(workers: Sequence[int], shards: int, drive: Callable[[list[Group]], Result]) -> Result:
    """Call ``drive`` with a local group of each number of workers, all there at once."""
    launch = import_launch()

    def enter(remaining: Sequence[int], groups: list[Group]) -> Any:
        if not remaining:
            return drive(groups)

        def main(reach: Any) -> Any:
            with reach.group(shards) as group:
                return enter(remaining[1:], [*groups, group])

        return launch.run(launch.Settings("local", remaining[0]), main)

    result: Result = enter(workers, [])
    return result


# Time


def _timed(call: Callable[[], object]) -> Callable[[], float]:
    """What does the call, and returns its seconds."""

    def timed() -> float:
        began = perf_counter()
        call()
        return perf_counter() - began

    return timed


def _after(pause: float, call: Callable[[], float]) -> Callable[[], float]:
    """What is busy for some seconds, and makes the call then."""

    def called() -> float:
        end = perf_counter() + pause
        while perf_counter() < end:
            pass
        return call()

    return called


def _stepping(trainer: Trainer) -> Callable[[], float]:
    """What makes a step, and returns its seconds."""
    number = 0

    def step() -> float:
        nonlocal number
        trainer.step(1, number % trainer.batches)
        number += 1
        return trainer.times.step

    return step


def _medians(calls: Sequence[Callable[[], float]]) -> list[float]:
    """The median seconds of each call; they take turns, after one that does not count."""
    for call in calls:
        call()
    seconds: list[list[float]] = [[] for _ in calls]
    for _ in range(TURNS):
        for call, taken in zip(calls, seconds, strict=True):
            began = perf_counter()
            while True:
                taken.append(call())
                if perf_counter() - began > SECONDS / TURNS:
                    break
    return [statistics.median(taken) for taken in seconds]
