"""Which values of the training rows are categories: the frequent ones, found on all workers.

A value that makes up a part of all rows makes up as great a part of one shard's at least. So each
shard names what is frequent in it, of which there cannot be many, and then all are counted. Where
rows have weights, a value makes up a part of their sum.
"""

import json
from collections.abc import Mapping, Sequence
from fractions import Fraction
from math import inf, nextafter
from typing import NamedTuple

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from dist_dnn.data.categories import Vocabulary, count, in_order
from dist_dnn.data.class_weights import Counted
from dist_dnn.data.columns import Column
from dist_dnn.data.dataset import Dataset
from dist_dnn.data.targets import Target, from_option, to_option
from dist_dnn.gathering import Gathering, gather
from dist_dnn.rounds import Exchange, Group, Options, ShardTask, Sizes, Vectors


class Candidates(Gathering):
    """Names the values that are frequent in a shard: as JSON, a list for each column.

    Options: dataset, names (of the columns), target (its JSON, or None), min_frequency.
    """

    def message(self, shard: int) -> bytes:
        table, weights = _table_and_weights(self.datasets, self.options, shard)
        whole = table.num_rows if weights is None else float(weights.sum())
        least = least_weight(self.options["min_frequency"], whole)
        frequent = []
        for name in self.options["names"]:
            texts, counts = count(table.column(name), weights)
            frequent.append(texts.filter(pa.array(counts >= least)).to_pylist())
        return json.dumps(frequent).encode()


class Counts(ShardTask):
    """One round: counts values, and what is missing, in each of some columns.

    Options: dataset, names (of the columns), target (its JSON, or None), values (for each column a
    list of texts).
    Sums: for each column the weights of its values, and of what is missing; then how many rows
    with a weight above 0 have these.
    """

    def __init__(
        self, options: Options, datasets: Mapping[str, Dataset], exchange: Exchange
    ) -> None:
        super().__init__(options, datasets, exchange)
        self.vocabularies = [Vocabulary(tuple(values), True) for values in options["values"]]

    @classmethod
    def sizes(cls, options: Options) -> tuple[Sizes, Sizes]:
        return Sizes(0, 0), Sizes(0, 2 * sum(len(values) + 1 for values in options["values"]))

    def shard_sums(self, shard: int, position: tuple[int, ...], sums: Vectors) -> None:
        table, weights = _table_and_weights(self.datasets, self.options, shard)
        totals, rows = sums.double.reshape(2, -1)
        done = 0
        for name, vocabulary in zip(self.options["names"], self.vocabularies, strict=True):
            places = vocabulary.places(table.column(name)) + 1  # NONE becomes 0
            own = slice(done, done + vocabulary.width)
            totals[own] = np.bincount(places, weights, vocabulary.width + 1)[1:]
            rows[own] = totals[own]
            if weights is not None:
                counting = places[weights > 0]
                rows[own] = np.bincount(counting, minlength=vocabulary.width + 1)[1:]
            done = own.stop


def _table_and_weights(
    datasets: Mapping[str, Dataset], options: Options, shard: int
) -> tuple[pa.Table, NDArray[np.float64] | None]:
    """A shard's rows, and what they count in training, if not all alike."""
    dataset, target = datasets[options["dataset"]], from_option(options["target"])
    return dataset.table(shard), dataset.training_weights(shard, target)


class Found(NamedTuple):
    """What was found in a column of categories.

    Attributes:
        vocabulary: the categories.
        counts: the training rows of each of its values.
        missing: the training rows without a value.
        others: those with a value that is no category of its own. Rows without weight count in
            none of these.
    """

    vocabulary: Vocabulary
    counts: tuple[int, ...]
    missing: int
    others: int


def least_weight(min_frequency: float, whole: float) -> float:
    """What makes up that part of a whole at least: the lowest such float64, above 0."""
    least = Fraction(min_frequency) * Fraction(whole)
    nearest = float(least)
    if Fraction(nearest) < least or nearest == 0:
        nearest = nextafter(nearest, inf)
    return nearest


def find(
    group: Group,
    dataset: str,
    columns: Sequence[Column],
    size: Counted,
    min_frequency: float,
    max_categories: int,
    target: Target | None = None,
) -> list[Found]:
    """The categories of columns: the most frequent values, of equals the lower ones.

    Args:
        size: what the rows count.
        min_frequency: the least part of the rows that have a value that is a category, by weight.
        max_categories: how many values are categories at most, in each column.
        target: of which the classes may have weights.
    """
    if not columns:
        return []
    options = {
        "dataset": dataset,
        "names": [column.name for column in columns],
        "target": to_option(target),
    }
    messages = gather(group, Candidates, {**options, "min_frequency": min_frequency})
    values = [
        in_order({text for texts in frequent for text in texts}, column.kind)
        for column, *frequent in zip(columns, *map(json.loads, messages), strict=True)
    ]
    rounds = group.open(Counts, {**options, "values": values})
    counts = group.surviving(rounds.run).double.reshape(2, -1)
    parts = np.split(counts, np.cumsum([len(each) + 1 for each in values])[:-1], axis=1)
    least = least_weight(min_frequency, size.weight)
    return [
        _found(each, part, size.rows, least, max_categories)
        for each, part in zip(values, parts, strict=True)
    ]


def _found(
    values: tuple[str, ...], sums: NDArray[np.float64], m: int, least: float, most: int
) -> Found:
    """Of one column, by its part of the sums of Counts, (2, values + 1)."""
    *weights, _ = sums[0].tolist()
    *rows, missing = map(int, sums[1].tolist())
    frequent = [place for place, each in enumerate(weights) if each >= least]
    frequent.sort(key=lambda place: -weights[place])  # which leaves equals in order
    chosen = sorted(frequent[:most])
    chosen_counts = tuple(rows[place] for place in chosen)
    others = m - missing - sum(chosen_counts)
    vocabulary = Vocabulary(tuple(values[place] for place in chosen), missing > 0, others > 0)
    return Found(vocabulary, chosen_counts, missing, others)
