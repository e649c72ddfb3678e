"""Means and deviations of the training rows, in two rounds over the shards, in float64."""

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from dist_dnn.data.columns import Column
from dist_dnn.data.dataset import Dataset
from dist_dnn.data.features import Standardisation
from dist_dnn.data.numbers import to_matrix
from dist_dnn.rounds import Exchange, Group, Options, Rounds, ShardTask, Sizes, Vectors
from dist_dnn.shards import CHUNK_ROWS

SUMS, DEVIATIONS = range(2)
"""The positions of the two rounds."""


class Statistics(ShardTask):
    """Round SUMS adds each column; round DEVIATIONS adds its squared deviations from the mean.

    What is missing counts in neither. Each shard also passes on, in round SUMS, the first value
    that it has of each number, by its bits, of which the driver makes a value. In a constant
    column it is that of all rows; round DEVIATIONS counts the rows that differ from it: where none
    does, the column is constant, whatever rounding makes of its deviation.

    Options: dataset, columns (lists of the values of Column), n numbers in a row.
    Broadcast (round DEVIATIONS): n means, n values. Sums: PARTS times n, or twice.
    """

    PARTS = 5
    """What round SUMS adds: the sums, how many are missing; of the shards that have a first value
    its upper and its lower 32 bits, and how many shards these are."""

    def __init__(
        self, options: Options, datasets: Mapping[str, Dataset], exchange: Exchange
    ) -> None:
        super().__init__(options, datasets, exchange)
        self.dataset = datasets[options["dataset"]]
        self.columns = tuple(Column(*column) for column in options["columns"])

    @classmethod
    def sizes(cls, options: Options) -> tuple[Sizes, Sizes]:
        width = sum(Column(*column).width for column in options["columns"])
        return Sizes(0, 2 * width), Sizes(0, cls.PARTS * width)

    def shard_sums(self, shard: int, position: tuple[int, ...], sums: Vectors) -> None:
        sums.double[:] = 0
        parts = sums.double.reshape(self.PARTS, -1)
        for batch, rows in self.dataset.pieces(shard):
            piece = to_matrix(batch, self.columns, rows, self.dataset.source.name)
            for first in range(0, len(piece), CHUNK_ROWS):
                matrix = piece[first : first + CHUNK_ROWS]
                missing = np.isnan(matrix)
                if position == (SUMS,):
                    _add_sums(matrix, missing, parts)
                else:
                    self._add_deviations(matrix, missing, parts)

    def _add_deviations(
        self, matrix: NDArray[np.float64], missing: NDArray[np.bool_], parts: NDArray[np.float64]
    ) -> None:
        mean, value = np.split(self.exchange.broadcast.double, 2)
        total, differing = parts[:2]
        differing += ((matrix != value) & ~missing).sum(axis=0)
        matrix -= mean
        matrix *= matrix
        matrix[missing] = 0
        total += matrix.sum(axis=0)


def _add_sums(
    matrix: NDArray[np.float64], missing: NDArray[np.bool_], parts: NDArray[np.float64]
) -> None:
    total, absent, upper, lower, shards = parts
    if not shards.all():
        first = missing.argmin(axis=0), np.arange(matrix.shape[1])
        is_new = (shards == 0) & ~missing[first]
        bits = (matrix[first] + 0.0).view(np.uint64)  # −0.0 is no other value than 0.0
        upper[is_new] = (bits >> np.uint64(32))[is_new]
        lower[is_new] = (bits & np.uint64(2**32 - 1))[is_new]
        shards[is_new] = 1
    matrix[missing] = 0
    absent += missing.sum(axis=0)
    total += matrix.sum(axis=0)


class Measured(NamedTuple):
    """What was measured of each number of a row: the standardisation, and how many are missing."""

    standardisation: Standardisation
    missing: NDArray[np.int64]


def measure(group: Group, dataset: str, columns: tuple[Column, ...], m: int) -> Measured:
    """The mean and the population deviation (ddof 0) of every number of a row, over m rows.

    What is missing counts in neither. The deviation of a constant column is 0; the mean too where
    all is missing.

    Raises:
        InputError: a value that cannot be used, with its column and row.
    """
    if not columns:
        return Measured(Standardisation(np.zeros(0), np.zeros(0)), np.zeros(0, np.int64))
    described = [list(column) for column in columns]
    rounds = group.open(Statistics, {"dataset": dataset, "columns": described})
    return group.surviving(lambda: _two_rounds(rounds, m))


def _two_rounds(rounds: Rounds, m: int) -> Measured:
    parts = rounds.run(SUMS).double.reshape(Statistics.PARTS, -1)
    total, missing, upper, lower, shards = parts.copy()
    count = np.maximum(m - missing, 1)
    mean = total / count
    # Where all shards' values are equal, their bits are the sums divided, exactly.
    words = ((each // np.maximum(shards, 1)).astype(np.uint64) for each in (upper, lower))
    value = ((next(words) << np.uint64(32)) | next(words)).view(np.float64)
    rounds.broadcast.double[:] = np.concatenate([mean, value])
    squares, differing = rounds.run(DEVIATIONS).double.reshape(Statistics.PARTS, -1)[:2].copy()
    deviation = np.sqrt(squares / count)
    deviation[differing == 0] = 0
    mean[differing == 0] = value[differing == 0]
    return Measured(Standardisation(mean, deviation), missing.astype(np.int64))
