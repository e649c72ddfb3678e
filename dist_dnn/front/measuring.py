"""How fast one core of this machine computes the steps of a network."""

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np

from dist_dnn.front.api import import_launch
from dist_dnn.front.made_up import made_up_rows
from dist_dnn.front.planning import Core, Work
from dist_dnn.front.timing import medians, timed
from dist_dnn.hyperparameters import Hyperparameters
from dist_dnn.nn.network import Network
from dist_dnn.nn.optimizers import make_optimizer
from dist_dnn.nn.update import Update
from dist_dnn.preparation import prepare
from dist_dnn.products import Products
from dist_dnn.rounds import Group
from dist_dnn.shards import BLOCK_ROWS
from dist_dnn.trainer import Trainer

MOST_PARAMETERS = 10**7
"""Larger networks are measured with fewer units a layer."""

MOST_NUMBERS = 2**25
"""Of made-up rows, and of a step's activations, while measuring."""

MOST_FLOPS = 2e10
"""Of a step that is measured."""

BATCHES = 2


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
        return Trainer(group, prepare(group, table, ("y",), hyperparameters), hyperparameters)


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
    layers = measurable(training.layers)
    if layers != training.layers:
        extrapolated.append(f"from layers {'-'.join(map(str, layers))}")
    network = Network(layers, loss="half_squared_error")
    rows = block_rows(training, layers)
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
        calls: list[Callable[[], float]] = [timed(lambda: products.run(1))]
        calls += [stepping(trainer) for trainer in trainers]
        seconds, *steps = medians(calls)
    flops = rows * work.row_flops / seconds
    core = _fitted(
        Core(flops, 0.0, 0.0, 0.0, addition, update),
        [Work.of(network, point.batch_size, point.shards) for point in points],
        steps,
    )
    return Speed(_enlarged(core, layers, training.layers), extrapolated)


def measurable(layers: tuple[int, ...]) -> tuple[int, ...]:
    """The layers, with fewer units each where there are too many."""
    part = 1.0
    while True:
        smaller = tuple(max(1, int(part * units)) for units in layers)
        parameters = sum((a + 1) * b for a, b in pairwise(smaller))
        if parameters <= MOST_PARAMETERS and smaller[0] * smaller[-1] <= MOST_NUMBERS:
            return smaller
        part *= 0.9


def block_rows(training: Training, layers: tuple[int, ...]) -> int:
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
        return timed(lambda: update(sums, 1.0, 1e-3, 1))()

    addition, updating = medians([timed(lambda: np.add(into, other, out=into)), updated])
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


def stepping(trainer: Trainer) -> Callable[[], float]:
    """What makes a step, and returns its seconds."""
    number = 0

    def step() -> float:
        nonlocal number
        trainer.step(1, number % trainer.batches)
        number += 1
        return trainer.times.step

    return step
