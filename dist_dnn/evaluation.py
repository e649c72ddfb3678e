"""Evaluation: the loss and the score of a model over a data set, summed over its shards."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dist_dnn.data.dataset import Dataset
from dist_dnn.data.features import Features
from dist_dnn.data.targets import Target
from dist_dnn.nn.activations import Array
from dist_dnn.nn.network import Network, Parameters
from dist_dnn.nn.propagation import Arrays, forward, losses
from dist_dnn.rounds import Exchange, Group, Options, ShardTask, Sizes, Vectors
from dist_dnn.shards import CHUNK_ROWS

LOSS, COUNT, SCORE = range(3)
"""The places of the sums in the float64 vector; the score counts right classes, or squares."""


def predicted_classes(A: Array) -> NDArray[Any]:
    """The class of each column of Ŷ (n[L], m): the most probable, the lower one of equals."""
    classes: NDArray[Any] = A[0] > 0.5 if len(A) == 1 else A.argmax(axis=0)
    return classes


class Evaluation(ShardTask):
    """One round: takes the parameters, sums the losses, the examples and the score.

    Options: dataset, network (the arguments of Network), features and target (their JSON).
    """

    def __init__(
        self, options: Options, datasets: Mapping[str, Dataset], exchange: Exchange
    ) -> None:
        super().__init__(options, datasets, exchange)
        self.dataset = datasets[options["dataset"]]
        self.features = Features.from_json(options["features"])
        self.target = Target.from_json(options["target"])
        self.network = Network(**options["network"])
        self.parameters = Parameters(self.network, exchange.broadcast.single)
        self.memory = np.zeros(Arrays.size(self.network, CHUNK_ROWS), np.float32)
        self.arrays: dict[int, Arrays] = {}
        for leaf in exchange.additions.leaves:  # bad rows are found now, not in a round
            self.dataset.shard(leaf.shard, self.features, self.target)

    @classmethod
    def sizes(cls, options: Options) -> tuple[Sizes, Sizes]:
        return Sizes(Network(**options["network"]).parameter_count, 0), Sizes(0, 3)

    def shard_sums(self, shard: int, position: tuple[int, ...], sums: Vectors) -> None:
        rows = self.dataset.shard(shard, self.features, self.target)
        sums.double[:] = 0
        for first in range(0, rows.rows, CHUNK_ROWS):
            chosen = np.arange(first, min(first + CHUNK_ROWS, rows.rows))
            arrays = self._arrays(len(chosen))
            rows.gather(chosen, arrays.X)
            rows.encode(rows.truth[chosen], arrays.Y)
            A = forward(self.parameters, arrays)
            loss = losses(arrays).item()
            sums.double[:] += (loss, len(chosen), self._score(A, arrays.Y))

    def _arrays(self, m: int) -> Arrays:
        if m not in self.arrays:
            self.arrays[m] = Arrays(self.network, m, memory=self.memory)
        return self.arrays[m]

    def _score(self, A: Array, Y: Array) -> float:
        if self.target.task == "regression":
            difference = (A - Y).astype(np.float64)
            return float((difference * difference).sum())
        return float(np.count_nonzero(predicted_classes(A) == predicted_classes(Y)))


@dataclass(frozen=True)
class Scores:
    """What a model makes of a data set.

    Attributes:
        m: the number of examples.
        loss: the mean training loss, without the penalty.
        accuracy: for classes, the part that was right.
        rmse: for regression, the root of the mean squared error, in the target's own unit.
    """

    m: int
    loss: float
    accuracy: float | None = None
    rmse: float | None = None

    def to_json(self) -> dict[str, float | int]:
        """Without what does not suit the task."""
        return {name: value for name, value in vars(self).items() if value is not None}


class Evaluator:
    """Evaluates parameters on a loaded data set, on all workers.

    Raises:
        InputError: a value that cannot be used, or a class that training did not see.
    """

    def __init__(
        self, group: Group, dataset: str, network: Network, features: Features, target: Target
    ) -> None:
        self.target = target
        self.group = group
        self.rounds = group.open(
            Evaluation,
            {
                "dataset": dataset,
                "network": network.arguments(),
                "features": features.to_json(),
                "target": target.to_json(),
            },
        )

    def __call__(self, parameters: Parameters) -> Scores:
        np.copyto(self.rounds.broadcast.single, parameters.vector)
        loss, m, score = self.group.surviving(self.rounds.run).double.tolist()
        if self.target.task == "regression":
            rmse = float(np.sqrt(score / m)) * self.target.deviation
            return Scores(int(m), loss / m, rmse=rmse)
        return Scores(int(m), loss / m, accuracy=score / m)
