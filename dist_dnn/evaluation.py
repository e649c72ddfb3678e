"""Evaluation: the loss and the scores of a model over a data set that one round gives."""

import math
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

LOSS, WEIGHT, COUNT, SCORED, SCORE = range(5)
"""The places of the sums in the float64 vector: the losses, and what the examples count in them, as
in training; how many there are; what they count in scores, but 0 where each counts 1; SCORE counts
right classes, or begins the parts."""

PARTS = 2
"""Of a regression, each of so many parts of the sums has a number for each target."""

BY_TARGET = "by_target"
"""The scores of each of several targets, among those of all."""


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

    An example counts in the loss as in training, but in scores as its row's weight alone says.

    For regression these are the absolute and the squared errors of predictions, in each target's
    own unit and in float64. There rounds (MEAN, shard) and SPREAD are about the truth alone: the
    sums of its values, and the first with weight of that shard, if LOSS is 1; then, with their
    means and those broadcast, the sums of their squared deviations from the means, and how many
    differ from the first. Without weights that is the first of all, in shard 0.

    Options: dataset, network (the arguments of Network), features and target (their JSON).
    Broadcast: the parameters; in round SPREAD n[L] means, n[L] values. Sums: LOSS to SCORE, but
    for regression PARTS times n[L] in the place of the last.
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
        self.predicted, self.true = np.zeros((2, CHUNK_ROWS), np.int64)
        self.is_right = np.zeros(CHUNK_ROWS, np.bool_)
        weighted = False
        for leaf in exchange.additions.leaves:  # bad rows are found now, not in a round
            if self.target.task == "regression":
                self.dataset.values(leaf.shard, self.target)
            rows = self.dataset.shard(leaf.shard, self.features, self.target)
            weighted |= rows.weights.training is not None
        self.dataset.rest()
        self.arrays = ArraysByLength(self.network, CHUNK_ROWS, weighted)

    @classmethod
    def sizes(cls, options: Options) -> tuple[Sizes, Sizes]:
        target = Target.from_json(options["target"])
        targets = target.outputs if target.task == "regression" else 0
        parameters = Network(**options["network"]).parameter_count
        return Sizes(parameters, 2 * targets), Sizes(0, SCORE + (PARTS * targets or 1))

    def shard_sums(self, shard: int, position: tuple[int, ...], sums: Vectors) -> None:
        sums.double[:] = 0
        if position[0] != SCORES:
            self._add_truth(shard, position, sums.double)
            return
        rows = self.dataset.shard(shard, self.features, self.target)
        for first in range(0, rows.rows, CHUNK_ROWS):
            m = min(CHUNK_ROWS, rows.rows - first)
            chunk = slice(first, first + m)
            arrays = self.arrays.of(m)
            arrays.read(rows.X[chunk].T)
            rows.encode(rows.truth[chunk], arrays.Y)
            training, w = rows.weights.of(chunk)
            if training is not None and arrays.w is not None:
                np.copyto(arrays.w, training)
            forward(self.parameters, arrays)
            loss, scored = losses(arrays).item(), 0.0 if w is None else w.sum()
            sums.double[:SCORE] += (loss, arrays.weight.item(), m, scored)
            if self.target.task == "regression":
                values = self.dataset.values(shard, self.target)
                self._add_errors(arrays, values[:, chunk], w, sums.double)
            else:
                self._add_classes(arrays, chunk, w, sums.double)

    def _add_errors(
        self,
        arrays: Arrays,
        values: NDArray[np.float64],
        w: NDArray[np.float64] | None,
        sums: NDArray[np.float64],
    ) -> None:
        """Add the errors of a chunk of which these are the true values, (n[L], m), and weights."""
        predicted = self.target.given_back(arrays.A[self.network.L])
        errors = np.stack([to_numpy(each) for each in predicted]) - values
        absolute, squared = _parts(sums)
        absolute += weighted(np.abs(errors), w).sum(axis=1)
        squared += weighted(np.square(errors), w).sum(axis=1)

    def _add_classes(
        self,
        arrays: Arrays,
        chunk: slice,
        w: NDArray[np.float64] | None,
        sums: NDArray[np.float64],
    ) -> None:
        """Add how many classes of a chunk of the shard's rows are right; w is their weights."""
        m = chunk.stop - chunk.start
        predicted, true, is_right = self.predicted[:m], self.true[:m], self.is_right[:m]
        predicted_classes(arrays.A[self.network.L], predicted)
        predicted_classes(arrays.Y, true)
        np.equal(predicted, true, out=is_right)
        sums[SCORE] += np.count_nonzero(is_right) if w is None else w[is_right].sum()

    def _add_truth(self, shard: int, position: tuple[int, ...], sums: NDArray[np.float64]) -> None:
        """What rounds MEAN and SPREAD add."""
        means, values_0 = self.exchange.broadcast.double.reshape(2, -1, 1)
        values = self.dataset.values(shard, self.target)
        weights = self.dataset.shard(shard, self.features, self.target).weights
        sums[COUNT] = values.shape[1]
        parts = _parts(sums)
        for first in range(0, values.shape[1], CHUNK_ROWS):
            chunk = values[:, first : first + CHUNK_ROWS]
            _, w = weights.of(slice(first, first + CHUNK_ROWS))
            counts = np.ones(chunk.shape[1], np.bool_) if w is None else w > 0
            if position == (SPREAD,):
                parts[0] += weighted(np.square(chunk - means), w).sum(axis=1)
                parts[1] += np.count_nonzero((chunk != values_0) & counts, axis=1)
                continue
            sums[SCORED] += 0 if w is None else w.sum()
            parts[0] += weighted(chunk, w).sum(axis=1)
            if position == (MEAN, shard) and not sums[LOSS] and counts.any():
                sums[LOSS], parts[1] = 1, chunk[:, counts.argmax()]


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
        self._spread: NDArray[np.float64] | None = None

    def __call__(self, parameters: Parameters) -> Scores:
        """``size_and_loss``, and ``accuracy``, or ``rmse``, ``mae`` and ``r2``.

        Where there are several targets the last three are the means over them, and ``by_target``
        has those of each.
        """
        if self.target.task == "regression" and self._spread is None:
            self._spread = self.group.surviving(lambda: _spread(self.rounds, self.group.shards))
        np.copyto(self.rounds.broadcast.single, parameters.vector)
        sums = self.group.surviving(lambda: self.rounds.run(SCORES)).double
        if self._spread is None:
            return class_scores(sums)
        return regression_scores(self.target, sums, self._spread)


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
    return {**size_and_loss(sums), "accuracy": float(sums[SCORE]) / _size(sums)}


def regression_scores(
    target: Target, sums: NDArray[np.float64], spread: NDArray[np.float64]
) -> Scores:
    """What the sums of an evaluation of a regression say.

    Args:
        spread: of the truth, (n[L],).
    """
    size = _size(sums)
    absolute, squared = _parts(sums)
    by_target = {
        name: {
            "rmse": math.sqrt(squares / size),
            "mae": errors / size,
            "r2": 1 - squares / variation if variation > 0 else None,
        }
        for name, errors, squares, variation in zip(
            target.names, absolute.tolist(), squared.tolist(), spread.tolist(), strict=True
        )
    }
    scores = size_and_loss(sums)
    for score in ("rmse", "mae", "r2"):
        values = [each[score] for each in by_target.values()]
        scores[score] = None if None in values else sum(values) / len(values)
    return scores if len(by_target) == 1 else {**scores, BY_TARGET: by_target}


def size_and_loss(sums: NDArray[np.float64]) -> Scores:
    """``m``, the rows; ``weight``, what they count in scores, unless each counts 1; ``loss``."""
    loss, weight, m, scored = sums[:SCORE].tolist()
    return {"m": int(m), **({"weight": scored} if scored else {}), "loss": loss / weight}


def _size(sums: NDArray[np.float64]) -> float:
    """What the examples count together in scores."""
    return float(sums[SCORED] or sums[COUNT])


def weighted(values: NDArray[np.float64], w: NDArray[np.float64] | None) -> NDArray[np.float64]:
    """Values (…, m) times the examples' weights (m,), if there are any; 0 where these are."""
    if w is None:
        return values
    return np.multiply(values, w, out=np.zeros_like(values), where=w > 0)  # ∞ · 0 would be NaN


def _parts(sums: NDArray[np.float64]) -> NDArray[np.float64]:
    """The parts of the sums of a regression, (PARTS, n[L]), a view."""
    return sums[SCORE:].reshape(PARTS, -1)


def _spread(rounds: Rounds, shards: int) -> NDArray[np.float64]:
    """The sums of the squared deviations of the truth from its means; 0 where it is constant."""
    shard = 0
    while not (sums := rounds.run(MEAN, shard).double)[LOSS] and shard < shards - 1:
        shard += 1
    totals, values_0 = _parts(sums)
    rounds.broadcast.double[:] = np.concatenate([totals / _size(sums), values_0])
    squares, differing = _parts(rounds.run(SPREAD).double)
    return np.where(differing > 0, squares, 0)
