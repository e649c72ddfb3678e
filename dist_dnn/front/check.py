"""The command check: gradients against differences, and the workers' against serial ones."""

from typing import Any

import numpy as np
import pyarrow as pa

from dist_dnn.arithmetic import blas_libraries
from dist_dnn.errors import RunError
from dist_dnn.front.api import import_launch
from dist_dnn.front.tables import print_table
from dist_dnn.hyperparameters import Hyperparameters
from dist_dnn.nn.activations import ACTIVATIONS, Array
from dist_dnn.nn.gradient_check import gradient_check
from dist_dnn.nn.losses import LOSSES
from dist_dnn.nn.network import Network
from dist_dnn.preparation import prepare
from dist_dnn.trainer import Trainer

BOUND = 1e-7
"""The greatest relative error of a right gradient in float64, as the course has it."""

DEPTHS = range(1, 5)
STEPS = 3


def check(settings: Any) -> None:
    """Print what was checked on this machine and backend, and what came of it.

    Args:
        settings: of the workers, as ``workers.launch.Settings``.

    Raises:
        RunError: a gradient is wrong.
    """
    import_launch().run(settings, lambda reach: _check(settings.backend, reach))


def _check(backend: str, reach: Any) -> None:
    _check_workers(backend, reach)  # before any line: a flag may be wrong
    for library in blas_libraries():
        print(f"BLAS: {library['library']} {library['version']}, core {library['core']}")
    if reach.library:
        print(f"{backend.upper()}: {reach.library}")
    worst = _check_gradients()
    print(f"{backend}, {reach.workers} workers: {STEPS} steps give the bits of serial ones")
    if worst >= BOUND:
        raise RunError(f"a gradient is wrong: its relative error is {worst:.1e}, above {BOUND:.0e}")


def _check_gradients() -> float:
    """Every activation, loss and depth; returns the worst relative error."""
    rows = [("activation", "loss", "relative error, worst of depths 1–4")]
    worst = 0.0
    for activation in ACTIVATIONS:
        for loss in LOSSES:
            error = max(_relative_error(activation, loss, depth) for depth in DEPTHS)
            rows.append((activation, loss, f"{error:.1e}"))
            worst = max(worst, error)
    print_table(rows)
    return worst


def _relative_error(activation: str, loss: str, depth: int) -> float:
    outputs = 1 if LOSSES[loss].one_output else 3
    network = Network((4, *(5, 3, 4)[: depth - 1], outputs), activation, loss)
    random = np.random.default_rng(depth)
    parameters = network.initialize(depth, np.float64).vector
    parameters += random.normal(0, 0.1, parameters.shape)
    X = random.normal(size=(4, 7))
    Y = random.normal(size=(outputs, 7))
    if loss != "half_squared_error":
        Y = np.eye(max(outputs, 2))[random.integers(0, max(outputs, 2), 7)].T[-outputs:]
    return gradient_check(network, parameters, X, Y).relative_error


def _check_workers(backend: str, reach: Any) -> None:
    """The sums of gradients of some steps, by workers and serially, must have the same bits."""
    launch = import_launch()
    shards = max(8, reach.workers)
    hyperparameters = Hyperparameters(hidden=(32, 16), batch_size=101, shards=shards)
    by_workers = _sums(reach, hyperparameters)
    serial = launch.Settings("local", 0)
    serially = launch.run(serial, lambda own: _sums(own, hyperparameters))
    different = int((by_workers != serially).sum())
    if different:
        raise RunError(
            f"{different} of {serially.size} sums of gradients of {reach.workers} {backend} "
            "workers differ from those computed serially"
        )


def _sums(reach: Any, hyperparameters: Hyperparameters) -> Array:
    with reach.group(hyperparameters.shards) as group:
        trainer = Trainer(
            group, prepare(group, _made_up(), ("y",), hyperparameters), hyperparameters
        )
        sums: Array = group.surviving(
            lambda: np.concatenate(
                [trainer.rounds.run(1, batch).single.copy() for batch in range(STEPS)]
            )
        )
        return sums


def _made_up() -> pa.Table:
    random = np.random.default_rng(0)
    x = random.normal(size=(500, 6))
    table = pa.table({f"x{i}": column for i, column in enumerate(x.T)})
    return table.append_column(
        "y", pa.array((x[:, 0] * x[:, 1] > x[:, 2]).astype(int) + (x[:, 3] > 1))
    )
