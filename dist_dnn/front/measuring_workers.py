"""What rounds and steps of local workers take on this machine, beside and with their computing."""

import math
import os
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from dist_dnn.errors import InputError
from dist_dnn.front.api import import_launch
from dist_dnn.front.measuring import Training, block_rows, measurable, stepping
from dist_dnn.front.planning import Memory
from dist_dnn.front.timing import after, medians, timed
from dist_dnn.idling import Idling
from dist_dnn.nn.network import Network
from dist_dnn.products import Products
from dist_dnn.rounds import Group

Result = TypeVar("Result")

LONGEST_IDLING = 5e-3
"""Seconds of a measured round of nothing."""

LONGEST_STEP = 10.0
"""Seconds of a step that is measured for a verification."""

MEMORY_PART = 0.25
"""Of the machine's memory, that a verification may take."""


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
        seconds, one, all_at_once = medians(
            [
                after(pause, timed(lambda: idling.run(idle))),
                lambda: alone(times),
                lambda: together(times),
            ]
        )
        crowding = max(1.0, all_at_once / one) if workers > 1 else 1.0
        return Memory(max(0.0, seconds - idle * 1e-9), crowding)

    return _beside([workers], workers, drive)


def _products(group: Group, training: Training) -> Callable[[int], float]:
    """What does a block's products so many times in each worker, and returns a time's seconds."""
    layers = measurable(training.layers)
    rows = block_rows(training, layers)
    network = Network(layers, loss="half_squared_error")
    options = {"network": network.arguments(), "batch_size": rows * group.shards}
    rounds = group.open(Products, options)
    return lambda times: timed(lambda: rounds.run(times))() / times


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
        return medians([stepping(training.trainer(group)) for group in groups])

    seconds = _beside(workers, training.shards, drive)
    return dict(zip(workers, seconds, strict=True))


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
