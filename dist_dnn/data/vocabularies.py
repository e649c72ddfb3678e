"""Which values of the training rows are categories: the frequent ones, found on all workers.

A value that makes up a part of all rows makes up as great a part of one shard's at least. So each
shard names what is frequent in it, of which there cannot be many, and then all are counted.
"""

import json
from collections.abc import Mapping, Sequence
from fractions import Fraction
from math import ceil
from typing import NamedTuple

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from dist_dnn.data.categories import Vocabulary, count, in_order
from dist_dnn.data.columns import Column
from dist_dnn.data.dataset import Dataset
from dist_dnn.gathering import Gathering, gather
from dist_dnn.rounds import Exchange, Group, Options, ShardTask, Sizes, Vectors


class Candidates(Gathering):
    """Names the values that are frequent in a shard: as JSON, a list for each column.

    Options: dataset, names (of the columns), min_frequency.
    """

    def message(self, shard: int) -> bytes:
        dataset = self.datasets[self.options["dataset"]]
        table = dataset.table(shard)
        least = least_count(self.options["min_frequency"], table.num_rows)
        frequent = []
        for name in self.options["names"]:
            texts, counts = count(table.column(name))
            frequent.append(texts.filter(pa.array(counts >= least)).to_pylist())
        return json.dumps(frequent).encode()


class Counts(ShardTask):
    """One round: counts values, and what is missing, in each of some columns.

    Options: dataset, names (of the columns), values (for each column a list of texts).
    Sums: for each column its values' counts, and that of what is missing.
    """

    def __init__(
        self, options: Options, datasets: Mapping[str, Dataset], exchange: Exchange
    ) -> None:
        super().__init__(options, datasets, exchange)
        self.vocabularies = [Vocabulary(tuple(values), True) for values in options["values"]]

    @classmethod
    def sizes(cls, options: Options) -> tuple[Sizes, Sizes]:
        return Sizes(0, 0), Sizes(0, sum(len(values) + 1 for values in options["values"]))

    def shard_sums(self, shard: int, position: tuple[int, ...], sums: Vectors) -> None:
        table = self.datasets[self.options["dataset"]].table(shard)
        done = 0
        for name, vocabulary in zip(self.options["names"], self.vocabularies, strict=True):
            places = vocabulary.places(table.column(name)) + 1  # NONE becomes 0
            counts = np.bincount(places, minlength=vocabulary.width + 1)[1:]
            sums.double[done : done + vocabulary.width] = counts
            done += vocabulary.width


class Found(NamedTuple):
    """What was found in a column of categories.

    Attributes:
        vocabulary: the categories.
        counts: the training rows of each of its values.
        missing: the training rows without a value.
        others: those with a value that is no category of its own.
    """

    vocabulary: Vocabulary
    counts: tuple[int, ...]
    missing: int
    others: int


def least_count(min_frequency: float, rows: int) -> int:
    """How many rows at least make up that part of all; exact, and 1 at least."""
    return max(1, ceil(Fraction(min_frequency) * rows))


def find(
    group: Group,
    dataset: str,
    columns: Sequence[Column],
    m: int,
    min_frequency: float,
    max_categories: int,
) -> list[Found]:
    """The categories of columns over m rows: the most frequent values, of equals the lower ones.

    Args:
        min_frequency: the least part of the rows that have a value that is a category.
        max_categories: how many values are categories at most, in each column.
    """
    if not columns:
        return []
    options = {"dataset": dataset, "names": [column.name for column in columns]}
    messages = gather(group, Candidates, {**options, "min_frequency": min_frequency})
    values = [
        in_order({text for texts in frequent for text in texts}, column.kind)
        for column, *frequent in zip(columns, *map(json.loads, messages), strict=True)
    ]
    rounds = group.open(Counts, {**options, "values": values})
    counts = group.surviving(rounds.run).double.astype(np.int64)
    parts = np.split(counts, np.cumsum([len(each) + 1 for each in values])[:-1])
    least = least_count(min_frequency, m)
    return [
        _found(each, part, m, least, max_categories)
        for each, part in zip(values, parts, strict=True)
    ]


def _found(
    values: tuple[str, ...], counts: NDArray[np.int64], m: int, least: int, most: int
) -> Found:
    *counts_of_values, missing = counts.tolist()
    frequent = [place for place, each in enumerate(counts_of_values) if each >= least]
    frequent.sort(key=lambda place: -counts_of_values[place])  # which leaves equals in order
    chosen = sorted(frequent[:most])
    chosen_counts = tuple(counts_of_values[place] for place in chosen)
    others = m - missing - sum(chosen_counts)
    vocabulary = Vocabulary(tuple(values[place] for place in chosen), missing > 0, others > 0)
    return Found(vocabulary, chosen_counts, missing, others)
