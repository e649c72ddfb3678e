"""Evaluation: the loss and the scores of a model over a data set that one round gives."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dist_dnn.data.dataset import Dataset
from dist_dnn.data.features import Features
from dist_dnn.data.numbers import to_numpy
from dist_dnn.data.targets import Target
from dist_dnn.nn.activations import Array
from dist_dnn.nn.network import Network, Parameters
from dist_dnn.nn.propagation import Arrays, ArraysByLength, forward, losses
from dist_dnn.rounds import Exchange, Group, Options, Rounds, ShardTask, Sizes, Vectors
from dist_dnn.shards import CHUNK_ROWS

Scores = dict[str, Any]
"""Scores by name, as ``evaluate`` prints them; None for one that is not defined."""

SCORES, MEAN, SPREAD = range(3)
"""The positions of rounds."""

LOSS, COUNT, SCORE, ERROR, SQUARE = range(5)
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
    """Round SCORES takes the parameters, and sums the losses, the examples and the scores.

    For regression that is the squared difference of Ŷ and Y, which are standardised, and the
    absolute and the squared error of predictions, in the target's own unit and in float64. There
    rounds MEAN and SPREAD are about the truth alone: the sum of its values, their number and the
    first of all; then, with their mean and that one broadcast, the sum of their squared deviations
    from the mean, and how many differ from the first.

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
        count = self.network.parameter_count
        self.parameters = Parameters(self.network, exchange.broadcast.single[:count])
        self.arrays = ArraysByLength(self.network, CHUNK_ROWS)
        self.predicted, self.true = np.zeros((2, CHUNK_ROWS), np.int64)
        self.is_right = np.zeros(CHUNK_ROWS, np.bool_)
        self.values: dict[int, NDArray[np.float64]] = {}
        for leaf in exchange.additions.leaves:  # bad rows are found now, not in a round
            self.dataset.shard(leaf.shard, self.features, self.target)
            if self.target.task == "regression":
                self.values[leaf.shard] = self.dataset.values(leaf.shard, self.target)

    @classmethod
    def sizes(cls, options: Options) -> tuple[Sizes, Sizes]:
        is_regression = options["target"]["task"] == "regression"
        sums = 1 + (SQUARE if is_regression else SCORE)
        return Sizes(Network(**options["network"]).parameter_count, 2), Sizes(0, sums)

    def shard_sums(self, shard: int, position: tuple[int, ...], sums: Vectors) -> None:
        sums.double[:] = 0
        if position != (SCORES,):
            self._add_truth(shard, position, sums.double)
            return
        rows = self.dataset.shard(shard, self.features, self.target)
        for first in range(0, rows.rows, CHUNK_ROWS):
            m = min(CHUNK_ROWS, rows.rows - first)
            arrays = self.arrays.of(m)
            arrays.read(rows.X[first : first + m].T)
            rows.encode(rows.truth[first : first + m], arrays.Y)
            forward(self.parameters, arrays)
            loss = losses(arrays).item()
            sums.double[:SCORE] += (loss, m)
            if self.target.task == "regression":
                self._add_errors(arrays, self.values[shard][first : first + m], sums.double)
            else:
                self._add_classes(arrays, slice(first, first + m), sums.double)

    def _add_errors(
        self, arrays: Arrays, values: NDArray[np.float64], sums: NDArray[np.float64]
    ) -> None:
        """Add the squares of a chunk of which these are the true values."""
        A, Y = arrays.A[self.network.L], arrays.Y
        difference, squares = arrays.row, arrays.row_in_double  # whose losses are summed
        np.subtract(A, Y, out=difference)
        np.copyto(squares, difference)
        np.multiply(squares, squares, out=squares)
        errors = to_numpy(self.target.decode(A[0])) - values
        sums[SCORE:] += (squares.sum(), np.abs(errors).sum(), np.square(errors).sum())

    def _add_classes(self, arrays: Arrays, chunk: slice, sums: NDArray[np.float64]) -> None:
        """Add how many classes of a chunk of the shard's rows are right."""
        m = chunk.stop - chunk.start
        predicted, true, is_right = self.predicted[:m], self.true[:m], self.is_right[:m]
        predicted_classes(arrays.A[self.network.L], predicted)
        predicted_classes(arrays.Y, true)
        np.equal(predicted, true, out=is_right)
        sums[SCORE] += np.count_nonzero(is_right)

    def _add_truth(self, shard: int, position: tuple[int, ...], sums: NDArray[np.float64]) -> None:
        """What rounds MEAN and SPREAD add."""
        mean, value_0 = self.exchange.broadcast.double
        values = self.values[shard]
        for first in range(0, len(values), CHUNK_ROWS):
            chunk = values[first : first + CHUNK_ROWS]
            if position == (SPREAD,):
                sums[:2] += np.square(chunk - mean).sum(), np.count_nonzero(chunk != value_0)
                continue
            sums[:2] += chunk.sum(), len(chunk)
            if shard == first == 0:
                sums[2] = chunk[0]


class Evaluator:
    """Evaluates parameters on a loaded data set, on all workers, by one round.

    Raises:
        InputError: a value that cannot be used, or a class that training did not see.
    """

    def __init__(
        self, group: Group, dataset: str, network: Network, features: Features, target: Target
    ) -> None:
        self.target = target
        self.group = group
        self.rounds = group.open(Evaluation, evaluation_options(dataset, network, features, target))
        self._spread: float | None = None

    def __call__(self, parameters: Parameters) -> Scores:
        """``m``, ``loss``, and ``accuracy``, or ``rmse``, ``mae`` and ``r2``."""
        if self.target.task == "regression" and self._spread is None:
            self._spread = self.group.surviving(lambda: _spread(self.rounds))
        np.copyto(self.rounds.broadcast.single, parameters.vector)
        sums = self.group.surviving(lambda: self.rounds.run(SCORES)).double
        if self._spread is None:
            return class_scores(sums)
        loss, m, squares, errors, squared_errors = sums.tolist()
        return {
            "m": int(m),
            "loss": loss / m,
            "rmse": float(np.sqrt(squares / m)) * self.target.deviation,
            "mae": errors / m,
            "r2": 1 - squared_errors / self._spread if self._spread > 0 else None,
        }


def evaluation_options(
    dataset: str, network: Network, features: Features, target: Target
) -> dict[str, Any]:
    """The options of Evaluation."""
    return {
        "dataset": dataset,
        "network": network.arguments(),
        "features": features.to_json(),
        "target": target.to_json(),
    }


def class_scores(sums: NDArray[np.float64]) -> Scores:
    """What the first sums of an evaluation of classes say."""
    loss, m, right = sums[: SCORE + 1].tolist()
    return {"m": int(m), "loss": loss / m, "accuracy": right / m}


def _spread(rounds: Rounds) -> float:
    """The sum of the squared deviations of the truth from its mean; 0 where it is constant."""
    total, m, value_0 = rounds.run(MEAN).double[:3].tolist()
    rounds.broadcast.double[:] = total / m, value_0
    squares, differing, _ = rounds.run(SPREAD).double[:3].tolist()
    return squares if differing else 0.0
