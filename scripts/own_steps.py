"""Our training of made-up rows, as the benchmark and its comparisons measure it."""

from dataclasses import dataclass
from time import perf_counter

import pyarrow as pa

from dist_dnn.front.made_up import made_up_rows
from dist_dnn.hyperparameters import Hyperparameters
from dist_dnn.preparation import prepare
from dist_dnn.rounds import Group
from dist_dnn.trainer import Trainer
from dist_dnn.training_step import LOSS, WEIGHT

BATCHES = 4
"""So many batches of made-up rows are trained on again and again."""


@dataclass(frozen=True)
class Workload:
    """What is trained: n[0], …, n[L], and how; ``hyperparameters.batch_size`` is a number."""

    layers: tuple[int, ...]
    hyperparameters: Hyperparameters

    @property
    def batch_size(self) -> int:
        return int(self.hyperparameters.batch_size)

    def table(self) -> pa.Table:
        """Its rows."""
        return made_up_rows(self.layers[0], self.layers[-1], BATCHES * self.batch_size)

    def trainer(self, group: Group) -> Trainer:
        """Trains it from the beginning."""
        experiment = prepare(group, self.table(), ("y",), self.hyperparameters)
        return Trainer(group, experiment, self.hyperparameters)


class OwnSteps:
    """A contender: the steps of a trainer, always of the first epoch.

    So the rows' order, which an epoch of many more batches makes once, is no part of them. To the
    optimiser, too, the step after the last batch is the first one.

    Attributes:
        loss: the last batch's.
    """

    def __init__(self, trainer: Trainer) -> None:
        self.trainer = trainer
        self.loss = float("nan")
        self._made = 0

    def turn(self, steps: int) -> float:
        """Make so many steps; returns the seconds of one on average."""
        began = perf_counter()
        for _ in range(steps):
            sums = self.trainer.step(1, self._made % BATCHES)
            self.loss = float(sums[LOSS] / sums[WEIGHT])
            self._made += 1
        return (perf_counter() - began) / steps
