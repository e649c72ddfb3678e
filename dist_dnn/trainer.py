"""The loop: broadcast, sums, divide, update; it takes a group of workers and knows no backend."""

import math
from dataclasses import dataclass, field
from time import perf_counter
from typing import Any, Protocol

import numpy as np

from dist_dnn import stopping
from dist_dnn.data.features import Features
from dist_dnn.data.fitting import Fit
from dist_dnn.data.targets import Target
from dist_dnn.errors import Diverged
from dist_dnn.evaluation import BY_TARGET, Evaluator
from dist_dnn.hyperparameters import Hyperparameters
from dist_dnn.model import Model, parameters_digest
from dist_dnn.nn.network import Network, Parameters
from dist_dnn.nn.optimizers import make_optimizer
from dist_dnn.nn.schedules import make_schedule
from dist_dnn.nn.update import Update
from dist_dnn.notices import warn
from dist_dnn.profile import Profile
from dist_dnn.reporting import Progress
from dist_dnn.rounds import Group
from dist_dnn.shards import batches_in_epoch
from dist_dnn.state import PARAMETERS, TrainingState
from dist_dnn.training_step import COUNT, LOSS, WEIGHT, TrainingStep

TRAINING, VALIDATION, TEST = "training", "validation", "test"
"""The names of the data sets that workers have loaded."""

MOST_ROLLBACKS = 10
"""A training that diverges more often is given up."""


@dataclass(frozen=True)
class Experiment:
    """What is trained: the network, its data as stored with the model, and how many rows.

    Attributes:
        m: training rows.
        batch_size: B, at most m.
        validated: whether there is a data set for validation.
        origins: where the rows of each data set come from, as a checkpoint remembers it.
        fit: what the features come from.
        weight: the column that has the rows' weights, if there is one.
    """

    network: Network
    features: Features
    target: Target
    m: int
    batch_size: int
    validated: bool = False
    origins: dict[str, Any] = field(default_factory=dict)
    fit: Fit | None = None
    weight: str | None = None

    def model(self, parameters: Parameters, shards: int) -> Model:
        """What predicts with these parameters, by the shards of the training."""
        return Model(self.network, parameters, self.features, self.target, shards, self.weight)


class Keeper(Protocol):
    """What a training shows its state to, between two steps."""

    def stepped(self, state: TrainingState) -> None: ...

    def epoch_ended(self, state: TrainingState) -> None: ...

    def rolled_back(self, state: TrainingState) -> None: ...


class NoKeeper:
    """Keeps nothing."""

    def stepped(self, state: TrainingState) -> None:
        pass

    epoch_ended = rolled_back = stepped


@dataclass
class StepTimes:
    """The seconds of one step, and of the driver's part of it."""

    step: float = 0.0
    update: float = 0.0


class Trainer:
    """Trains on a group of workers that has the training rows loaded.

    Attributes:
        parameters: W[l] and b[l]; they live in what is broadcast, and change only between rounds.
        state: where the training stands; its vectors are those that the steps change.
        times: of the step done last.
        profile: where the time of the steps goes, epoch by epoch.
    """

    def __init__(
        self, group: Group, experiment: Experiment, hyperparameters: Hyperparameters
    ) -> None:
        self.experiment = experiment
        self.group = group
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
        optimizer = {f"optimizer.{name}": each for name, each in self.update.state.items()}
        self.state = TrainingState({PARAMETERS: self.parameters.vector, **optimizer}, self.batches)
        self.rolls_back = hyperparameters.on_divergence == "rollback"
        if self.rolls_back:
            self.state.keep_epoch_starts()
        self.times = StepTimes()
        self.profile = Profile(group)
        self.validate = _evaluator(group, experiment) if experiment.validated else None

    def run(self, epochs: int, progress: Progress, keeper: Keeper) -> None:
        """Train from where the state stands to the end of the epoch of that number.

        Raises:
            Diverged: the loss or a parameter is no longer finite; the state is that before it
                was noticed.
        """
        while self.state.epoch <= epochs:
            try:
                self._epoch(epochs, progress, keeper)
            except Diverged as divergence:
                if not self.rolls_back or len(self.state.rollbacks) == MOST_ROLLBACKS:
                    raise
                self._roll_back(divergence)
                keeper.rolled_back(self.state)

    def step(self, epoch: int, batch: int) -> np.ndarray:
        """One step: broadcast, sums over all shards, one division, one update.

        A batch without weight is skipped: there is nothing to divide, and nothing changes.

        Args:
            epoch: from 1.
            batch: of the epoch, from 0.

        Returns:
            The batch's sums of losses, weights and counts, float64; good until the next step.

        Raises:
            Diverged: the loss is not finite; the parameters are still those before.
        """
        began = perf_counter()
        sums = self.group.surviving(lambda: self.rounds.run(epoch, batch))
        summed = perf_counter()
        step = (epoch - 1) * self.batches + batch + 1
        loss, m = float(sums.double[LOSS]), float(sums.double[WEIGHT])
        if not math.isfinite(loss):
            raise self._diverged(f"the loss is {loss} at step {step}")
        if m > 0:
            learning_rate = self.learning_rate(step) * self.state.learning_rate_factor
            self.update(sums.single, m, learning_rate, step)
        ended = perf_counter()
        self.times = StepTimes(ended - began, ended - summed)
        self.profile.stepped(summed - began, ended - summed)
        return sums.double

    def _epoch(self, epochs: int, progress: Progress, keeper: Keeper) -> None:
        """What is left of the epoch in work, with its metrics."""
        state, m = self.state, self.experiment.m
        progress.start_epoch(state.epoch, epochs, m, int(state.sums[COUNT]))
        began = perf_counter() - state.seconds
        while state.batch < self.batches:
            stopping.check()
            sums = self.step(state.epoch, state.batch)
            state.sums += sums
            state.skipped_batches += int(sums[WEIGHT] == 0)
            state.batch += 1
            state.seconds = perf_counter() - began
            loss = float(sums[LOSS] / sums[WEIGHT]) if sums[WEIGHT] > 0 else None
            progress.step(int(sums[COUNT]), loss, self.times.step)
            if state.batch < self.batches:
                keeper.stepped(state)
        stopping.check()
        if not state.is_finite:
            raise self._diverged(f"parameters are not finite at step {state.step}")
        metrics: dict[str, Any] = {
            "epoch": state.epoch,
            "step": state.step,
            "train_loss": float(state.sums[LOSS] / state.sums[WEIGHT]),
            **self._validation(),
            "examples_per_second": m / state.seconds,
            "seconds": perf_counter() - began,
            "digest": parameters_digest(self.parameters),
        }
        if state.skipped_batches:
            metrics["skipped_batches"] = state.skipped_batches
        if state.learning_rate_factor != 1:
            metrics["learning_rate_factor"] = state.learning_rate_factor
        state.profile = self.profile.so_far()
        state.history.append(metrics)
        state.begin_epoch(state.epoch + 1)
        progress.end_epoch(metrics)
        keeper.epoch_ended(state)

    def _validation(self) -> dict[str, float | None]:
        """The scores of the validation, if there is one, as they stand in the metrics."""
        if self.validate is None:
            return {}
        scores = self.validate(self.parameters)
        for name in ("m", "weight", BY_TARGET):
            scores.pop(name, None)
        if not np.isfinite([each for each in scores.values() if each is not None]).all():
            raise self._diverged(f"the validation gives {scores} at step {self.state.step}")
        return {f"validation_{name}": value for name, value in scores.items()}

    def _diverged(self, what: str) -> Diverged:
        """The divergence, with the layer that shows it most."""
        layers = self.parameters.network.layers
        largest = {
            layer.number: float(np.abs(self.parameters.vector[layer.start : layer.stop]).max())
            for layer in layers
        }
        broken = [number for number, value in largest.items() if not math.isfinite(value)]
        worst = broken[0] if broken else max(largest, key=lambda number: largest[number])
        where = (
            f"layer {worst} has parameters that are not finite"
            if broken
            else f"the largest parameter, {largest[worst]:.1e}, is in layer {worst}"
        )
        return Diverged(
            f"the training diverged: {what} ({where}); "
            f"a lower --learning-rate or --clip-norm usually helps"
        )

    def _roll_back(self, divergence: Diverged) -> None:
        """Go back to where the epoch began, with half the learning rate."""
        state = self.state
        state.rollbacks.append({"epoch": state.epoch, "why": str(divergence)})
        state.learning_rate_factor /= 2
        state.go_back()
        warn(
            f"{divergence}; going back to step {state.step} with the learning rate times "
            f"{state.learning_rate_factor}"
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
