"""Evaluation: the loss and the score of a model over a data set, summed over its shards."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dist_dnn.data.dataset import Dataset
from dist_dnn.data.features import Features
from dist_dnn.data.targets import Target
from dist_dnn.nn.activations import Array
from dist_dnn.nn.network import Network, Parameters
from dist_dnn.nn.propagation import Arrays, ArraysByLength, forward, losses
from dist_dnn.rounds import Exchange, Group, Options, ShardTask, Sizes, Vectors
from dist_dnn.shards import CHUNK_ROWS

LOSS, COUNT, SCORE = range(3)
"""The places of the sums in the float64 vector; the score counts right classes, or squares."""


def predicted_classes(A: Array, classes: NDArray[np.int64]) -> None:
    """Write the class of each column of Ŷ (n[L], m): the most probable, the lower one of equals.

    Args:
        classes: (m,), written.
    """
    if len(A) == 1:
        np.greater(A[0], 0.5, out=classes)
    else:
        A.argmax(axis=0, out=classes)


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
        self.arrays = ArraysByLength(self.network, CHUNK_ROWS)
        self.predicted, self.true = np.zeros((2, CHUNK_ROWS), np.int64)
        self.is_right = np.zeros(CHUNK_ROWS, np.bool_)
        for leaf in exchange.additions.leaves:  # bad rows are found now, not in a round
            self.dataset.shard(leaf.shard, self.features, self.target)

    @classmethod
    def sizes(cls, options: Options) -> tuple[Sizes, Sizes]:
        return Sizes(Network(**options["network"]).parameter_count, 0), Sizes(0, 3)

    def shard_sums(self, shard: int, position: tuple[int, ...], sums: Vectors) -> None:
        rows = self.dataset.shard(shard, self.features, self.target)
        sums.double[:] = 0
        for first in range(0, rows.rows, CHUNK_ROWS):
            m = min(CHUNK_ROWS, rows.rows - first)
            arrays = self.arrays.of(m)
            arrays.read(rows.X[first : first + m].T)
            rows.encode(rows.truth[first : first + m], arrays.Y)
            forward(self.parameters, arrays)
            loss = losses(arrays).item()
            sums.double[:] += (loss, m, self._score(arrays, m))

    def _score(self, arrays: Arrays, m: int) -> float:
        A, Y = arrays.A[self.network.L], arrays.Y
        if self.target.task == "regression":
            difference, squares = arrays.row, arrays.row_in_double  # whose losses are summed
            np.subtract(A, Y, out=difference)
            np.copyto(squares, difference)
            np.multiply(squares, squares, out=squares)
            return float(squares.sum())
        predicted, true, is_right = self.predicted[:m], self.true[:m], self.is_right[:m]
        predicted_classes(A, predicted)
        predicted_classes(Y, true)
        np.equal(predicted, true, out=is_right)
        return float(np.count_nonzero(is_right))


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
