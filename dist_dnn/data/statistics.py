"""Means and deviations of the training rows, in two rounds over the shards, in float64."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from dist_dnn.data.columns import Column
from dist_dnn.data.dataset import Dataset
from dist_dnn.data.features import Standardisation
from dist_dnn.data.numbers import Numbers, Slab, check_finite
from dist_dnn.data.targets import Target, from_option, to_option
from dist_dnn.rounds import Exchange, Group, Options, Rounds, ShardTask, Sizes, Vectors

SUMS, DEVIATIONS = range(2)
"""The positions of the two rounds."""


class Statistics(ShardTask):
    """Round SUMS adds each column; round DEVIATIONS adds its squared deviations from the mean.

    What is missing counts in neither. Where rows have weights, each counts as often as its weight
    says, and what is in one of weight 0 is as if it were not there. Each shard also passes on, in
    round SUMS, the first value that it has of each number, by its bits, of which the driver makes a
    value. In a constant column it is that of all rows; round DEVIATIONS counts the rows that differ
    from it: where none does, the column is constant, whatever rounding makes of its deviation. What
    is added does not depend on where the shard's rows were read from: each column goes by slabs of
    fixed rows.

    Options: dataset, columns (lists of the values of Column), n numbers in a row, target (its JSON
    where its classes have weights, else None).
    Broadcast (round DEVIATIONS): n means, n values. Sums: PARTS times n, or twice.
    """

    PARTS = 6
    """What round SUMS adds: the sums, the weights of what is there, how many are missing; of
    the shards that have a first value its upper and its lower 32 bits, and how many these are."""

    def __init__(
        self, options: Options, datasets: Mapping[str, Dataset], exchange: Exchange
    ) -> None:
        super().__init__(options, datasets, exchange)
        self.dataset = datasets[options["dataset"]]
        self.columns = tuple(Column(*column) for column in options["columns"])
        self.target = from_option(options["target"])

    @classmethod
    def sizes(cls, options: Options) -> tuple[Sizes, Sizes]:
        width = sum(Column(*column).width for column in options["columns"])
        return Sizes(0, 2 * width), Sizes(0, cls.PARTS * width)

    def shard_sums(self, shard: int, position: tuple[int, ...], sums: Vectors) -> None:
        sums.double[:] = 0
        parts = sums.double.reshape(self.PARTS, -1)
        means, values = np.split(self.exchange.broadcast.double, 2)
        weights = self.dataset.training_weights(shard, self.target)
        done = 0
        for table, rows in self.dataset.pieces(shard):
            start = 0
            of_piece = None if weights is None else weights[done : done + len(rows)]
            done += len(rows)
            for column in self.columns:
                own = slice(start, start + column.width)
                start = own.stop
                for slab in Numbers(table.column(column.name), column.width).slabs():
                    counted, w = _counted(slab, of_piece)
                    if position == (SUMS,):
                        if not _add_sums(counted, w, parts[:, own]):
                            check_finite(table, self.columns, rows, self.dataset.source.name)
                    else:
                        _add_deviations(counted, w, means[own], values[own], parts[:2, own])


SlabWeights = NDArray[np.float64] | None
"""Of the rows of a slab, (rows,) or (rows, 1), as its values need it; None where all count 1."""


def _counted(slab: Slab, of_piece: SlabWeights) -> tuple[Slab, SlabWeights]:
    """The rows of a slab with a weight above 0, and their weights, of those of its piece."""
    if of_piece is None:
        return slab, None
    w = of_piece[slab.first : slab.first + len(slab.values)]
    counts = w > 0
    is_null = None if slab.is_null is None else slab.is_null[counts]
    w = w[counts].reshape(-1, *(1,) * (slab.values.ndim - 1))
    return slab._replace(values=slab.values[counts], is_null=is_null), w


def _add_sums(slab: Slab, w: SlabWeights, parts: NDArray[np.float64]) -> bool:
    """Add what round SUMS is about; whether the sums are finite."""
    total, weight, absent, upper, lower, shards = parts
    sums, missing = _sum_present(slab, slab.values, w)
    total += sums
    gone = 0 if missing is None else missing.sum(axis=0)
    absent += gone
    if w is None:
        weight += len(slab.values) - gone
    else:  # the same additions whether or not something is missing
        present = np.broadcast_to(w, slab.values.shape).copy()
        if missing is not None:
            present[missing] = 0
        weight += present.sum(axis=0)
    if not shards.all() and len(slab.values):
        values = slab.values.reshape(len(slab.values), -1)
        first = np.zeros(len(shards), np.int64)
        is_new = shards == 0
        if missing is not None:
            is_there = ~missing.reshape(values.shape)
            first, is_new = is_there.argmax(axis=0), is_new & is_there.any(axis=0)
        bits = (values[first, np.arange(len(shards))] + 0.0).view(np.uint64)  # −0.0 is 0.0
        upper[is_new] = (bits >> np.uint64(32))[is_new]
        lower[is_new] = (bits & np.uint64(2**32 - 1))[is_new]
        shards[is_new] = 1
    return bool(np.isfinite(sums).all())


def _add_deviations(
    slab: Slab,
    w: SlabWeights,
    mean: NDArray[np.float64],
    value: NDArray[np.float64],
    parts: NDArray[np.float64],
) -> None:
    """Add what round DEVIATIONS is about."""
    total, differing = parts
    squares = slab.values - mean
    squares *= squares
    sums, missing = _sum_present(slab, squares, w)
    total += sums
    if not differing.all():
        differs = slab.values != value
        differing += (differs if missing is None else differs & ~missing).sum(axis=0)


def _sum_present(
    slab: Slab, terms: NDArray[np.float64], w: SlabWeights
) -> tuple[Any, NDArray[np.bool_] | None]:
    """The sum over the rows of what is computed of a slab but where it is missing, and where."""
    if w is not None:
        terms = terms * w
    if slab.is_null is None:
        sums = terms.sum(axis=0)
        if np.isfinite(sums).all():  # so that no NaN is among them
            return sums, None
    missing = slab.missing()
    return np.where(missing, 0, terms).sum(axis=0), missing


class Measured(NamedTuple):
    """What was measured of each number of a row: the standardisation, and how many are missing."""

    standardisation: Standardisation
    missing: NDArray[np.int64]


def measure(
    group: Group, dataset: str, columns: tuple[Column, ...], target: Target | None = None
) -> Measured:
    """The mean and the population deviation (ddof 0) of every number of a row, by weight.

    What is missing counts in neither. The deviation of a constant column is 0; the mean too where
    all is missing.

    Args:
        target: of which the classes have weights, if there is such.

    Raises:
        InputError: a value that cannot be used, with its column and row.
    """
    if not columns:
        return Measured(Standardisation(np.zeros(0), np.zeros(0)), np.zeros(0, np.int64))
    described = [list(column) for column in columns]
    options = {"dataset": dataset, "columns": described, "target": to_option(target)}
    rounds = group.open(Statistics, options)
    return group.surviving(lambda: _two_rounds(rounds))


def _two_rounds(rounds: Rounds) -> Measured:
    parts = rounds.run(SUMS).double.reshape(Statistics.PARTS, -1)
    total, weight, missing, upper, lower, shards = parts.copy()
    weight[weight == 0] = 1
    mean = total / weight
    # Where all shards' values are equal, their bits are the sums divided, exactly.
    words = ((each // np.maximum(shards, 1)).astype(np.uint64) for each in (upper, lower))
    value = ((next(words) << np.uint64(32)) | next(words)).view(np.float64)
    rounds.broadcast.double[:] = np.concatenate([mean, value])
    squares, differing = rounds.run(DEVIATIONS).double.reshape(Statistics.PARTS, -1)[:2].copy()
    deviation = np.sqrt(squares / weight)
    deviation[differing == 0] = 0
    mean[differing == 0] = value[differing == 0]
    return Measured(Standardisation(mean, deviation), missing.astype(np.int64))
