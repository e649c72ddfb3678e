"""Means and deviations of the training rows, in two rounds over the shards, in float64."""

from collections.abc import Mapping

import numpy as np

from dist_dnn.data.dataset import Dataset
from dist_dnn.data.features import Column, Standardisation, to_matrix
from dist_dnn.rounds import Exchange, Group, Options, Rounds, ShardTask, Sizes, Vectors

SUMS, DEVIATIONS = range(2)
"""The positions of the two rounds."""


class Statistics(ShardTask):
    """Round SUMS adds each column; round DEVIATIONS adds its squared deviations from the mean.

    Options: dataset, and ``width``, the number n of numbers in a row. Round SUMS also passes on
    row 0 of the data set, and round DEVIATIONS counts the rows that differ from it: where none
    does, the column is constant, whatever rounding makes of its deviation.
    Broadcast (round DEVIATIONS): n means, n numbers of row 0. Sums: n and n.
    """

    def __init__(
        self, options: Options, datasets: Mapping[str, Dataset], exchange: Exchange
    ) -> None:
        super().__init__(options, datasets, exchange)
        self.dataset = datasets[options["dataset"]]
        self.columns = tuple(Column(*column) for column in options["columns"])

    @classmethod
    def sizes(cls, options: Options) -> tuple[Sizes, Sizes]:
        width = sum(Column(*column).width for column in options["columns"])
        return Sizes(0, 2 * width), Sizes(0, 2 * width)

    def shard_sums(self, shard: int, position: tuple[int, ...], sums: Vectors) -> None:
        total, other = np.split(sums.double, 2)
        total[:] = other[:] = 0
        mean, row_0 = np.split(self.exchange.broadcast.double, 2)
        for number, (batch, rows) in enumerate(self.dataset.chunks(shard)):
            matrix = to_matrix(batch, self.columns, rows, self.dataset.source.name)
            if position == (SUMS,):
                total += matrix.sum(axis=0)
                if shard == number == 0:
                    other[:] = matrix[0]
            else:
                other += (matrix != row_0).sum(axis=0)
                matrix -= mean
                matrix *= matrix
                total += matrix.sum(axis=0)


def measure(group: Group, dataset: str, columns: tuple[Column, ...], m: int) -> Standardisation:
    """The mean and the population deviation (ddof 0) of every number of a row, over m rows.

    The deviation of a constant column is 0.

    Raises:
        InputError: a value that cannot be used, with its column and row.
    """
    described = [[column.name, column.width, column.kind] for column in columns]
    rounds = group.open(Statistics, {"dataset": dataset, "columns": described})
    return group.surviving(lambda: _two_rounds(rounds, m))


def _two_rounds(rounds: Rounds, m: int) -> Standardisation:
    total, row_0 = np.split(rounds.run(SUMS).double.copy(), 2)
    mean = total / m
    rounds.broadcast.double[:] = np.concatenate([mean, row_0])
    squares, differing = np.split(rounds.run(DEVIATIONS).double.copy(), 2)
    deviation = np.sqrt(squares / m)
    deviation[differing == 0] = 0
    mean[differing == 0] = row_0[differing == 0]
    return Standardisation(mean, deviation)
