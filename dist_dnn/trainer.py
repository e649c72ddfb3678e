"""The loop: broadcast, sums, divide, update; it takes a group of workers and knows no backend."""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from time import perf_counter
from typing import Any, Protocol

import numpy as np

from dist_dnn.data.features import Features
from dist_dnn.data.targets import Target
from dist_dnn.errors import RunError
from dist_dnn.evaluation import Evaluator
from dist_dnn.hyperparameters import Hyperparameters
from dist_dnn.model import parameters_digest
from dist_dnn.nn.network import Network, Parameters
from dist_dnn.nn.optimizers import make_optimizer
from dist_dnn.nn.schedules import make_schedule
from dist_dnn.nn.update import Update
from dist_dnn.rounds import Group, Timings
from dist_dnn.shards import batches_in_epoch
from dist_dnn.training_step import COUNT, LOSS, WEIGHT, TrainingStep

TRAINING, VALIDATION = "training", "validation"
"""The names of the data sets that workers have loaded."""


@dataclass(frozen=True)
class Experiment:
    """What is trained: the network, its data as stored with the model, and how many rows.

    Attributes:
        m: training rows.
        batch_size: B, at most m.
        validated: whether there is a data set for validation.
    """

    network: Network
    features: Features
    target: Target
    m: int
    batch_size: int
    validated: bool = False


class Progress(Protocol):
    """What a training reports to while it goes on."""

    def start_epoch(self, epoch: int, epochs: int, m: int) -> None: ...

    def step(self, rows: int, loss: float) -> None: ...

    def end_epoch(self, metrics: dict[str, Any]) -> None: ...


@dataclass
class StepTimes:
    """The seconds of one step, as the driver and the slowest worker saw them."""

    step: float = 0.0
    compute: float = 0.0
    reduce: float = 0.0
    update: float = 0.0


class Trainer:
    """Trains on a group of workers that has the training rows loaded.

    Attributes:
        parameters: W[l] and b[l]; they live in what is broadcast, and change only between rounds.
        times: of the step done last.
    """

    def __init__(
        self, group: Group, experiment: Experiment, hyperparameters: Hyperparameters
    ) -> None:
        self.experiment = experiment
        network = experiment.network
        self.rounds = group.open(TrainingStep, _options(experiment, hyperparameters.seed))
        self.parameters = Parameters(network, self.rounds.broadcast.single)
        self.parameters.vector[:] = network.initialize(hyperparameters.seed).vector
        self.update = Update(
            network,
            self.parameters.vector,
            make_optimizer(hyperparameters.optimizer, **hyperparameters.optimizer_arguments()),
            l2=hyperparameters.l2,
            clip_norm=hyperparameters.clip_norm,
        )
        self.batches = batches_in_epoch(experiment.m, experiment.batch_size)
        self.learning_rate = make_schedule(
            hyperparameters.schedule,
            steps_per_epoch=self.batches,
            **hyperparameters.schedule_arguments(),
        )
        self.times = StepTimes()
        self.validate = _evaluator(group, experiment) if experiment.validated else None

    def step(self, epoch: int, batch: int) -> np.ndarray:
        """One step: broadcast, sums over all shards, one division, one update.

        Args:
            epoch: from 1.
            batch: of the epoch, from 0.

        Returns:
            The batch's sums of losses, weights and counts, float64; good until the next step.
        """
        began = perf_counter()
        sums = self.rounds.run(epoch, batch)
        summed = perf_counter()
        step = self.steps(epoch - 1) + batch + 1
        m = float(sums.double[WEIGHT])
        self.update(sums.single, m, self.learning_rate(step), step)
        ended = perf_counter()
        workers: Timings = self.rounds.timings
        self.times = StepTimes(ended - began, workers.compute, workers.reduce, ended - summed)
        return sums.double

    def epoch(self, epoch: int, progress: Progress) -> float:
        """All batches of one epoch, from 1.

        Returns:
            The mean loss over the epoch's examples as they were trained on, without the penalty.

        Raises:
            RunError: the loss or a parameter is no longer finite.
        """
        total = np.zeros(3)
        for batch in range(self.batches):
            sums = self.step(epoch, batch)
            if not math.isfinite(sums[LOSS]):
                step = self.steps(epoch - 1) + batch + 1
                raise _diverged(f"the loss is {sums[LOSS]} at step {step}")
            total += sums
            progress.step(int(sums[COUNT]), float(sums[LOSS] / sums[WEIGHT]))
        if not np.isfinite(self.parameters.vector).all():
            raise _diverged(f"parameters are not finite after epoch {epoch}")
        return float(total[LOSS] / total[WEIGHT])

    def steps(self, epochs: int) -> int:
        """How many steps so many epochs have."""
        return epochs * self.batches

    def epochs(self, epochs: int, progress: Progress) -> Iterator[dict[str, Any]]:
        """Train epoch by epoch.

        Yields:
            Each epoch's metrics, as they stand in metrics.jsonl.
        """
        for epoch in range(1, epochs + 1):
            began = perf_counter()
            progress.start_epoch(epoch, epochs, self.experiment.m)
            train_loss = self.epoch(epoch, progress)
            trained = perf_counter()
            metrics: dict[str, Any] = {
                "epoch": epoch,
                "step": self.steps(epoch),
                "train_loss": train_loss,
            }
            if self.validate is not None:
                scores = self.validate(self.parameters).to_json()
                del scores["m"]
                if not np.isfinite(list(scores.values())).all():
                    raise _diverged(f"the validation gives {scores} after epoch {epoch}")
                metrics |= {f"validation_{name}": value for name, value in scores.items()}
            metrics |= {
                "examples_per_second": self.experiment.m / (trained - began),
                "seconds": perf_counter() - began,
                "digest": parameters_digest(self.parameters),
            }
            progress.end_epoch(metrics)
            yield metrics


def _diverged(what: str) -> RunError:
    return RunError(
        f"the training diverged: {what}; a lower --learning-rate or --clip-norm usually helps"
    )


def _evaluator(group: Group, experiment: Experiment) -> Evaluator:
    network, features, target = experiment.network, experiment.features, experiment.target
    return Evaluator(group, VALIDATION, network, features, target)


def _options(experiment: Experiment, seed: int) -> dict[str, Any]:
    return {
        "dataset": TRAINING,
        "network": experiment.network.arguments(),
        "features": experiment.features.to_json(),
        "target": experiment.target.to_json(),
        "m": experiment.m,
        "batch_size": experiment.batch_size,
        "seed": seed,
    }
