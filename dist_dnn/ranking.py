"""AUC: how often an example of a class has a higher probability of it than one of the others.

A round broadcasts a window of examples, in the order of the rows: each one's class, and its
probability of that class. Every worker counts, class by class, how many of its own examples of
other classes have a lower probability of it than those, and how many the same one. That is
Mann and Whitney's U, in whole numbers, whatever the shards; ties count half, as under the curve.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dist_dnn.data.dataset import Dataset
from dist_dnn.data.targets import Target
from dist_dnn.evaluation import SCORES, SPREAD, Evaluation, evaluation_options
from dist_dnn.model import Model
from dist_dnn.nn.propagation import Arrays
from dist_dnn.rounds import Exchange, Options, Rounds, Sizes, Vectors
from dist_dnn.shards import shard_range

WINDOW_ROWS = 2**16
"""A round is about so many examples: float64 counts what they make with 2^36 others exactly."""

WINDOW = SPREAD + 1
"""The first number of the position of rounds about a window."""

NOBODY = -1
"""The class of an example that is not asked about."""


class Ranking(Evaluation):
    """An Evaluation of classes whose probabilities are kept for a group of classes, and ranked.

    Round (SCORES, first class of the group) evaluates. Round (WINDOW, w) counts for the examples
    that are broadcast. Each adds a window of examples, the first of them or those of w, which the
    driver broadcasts next. A worker keeps one number a row for each class of the group.

    Options: those of Evaluation, ``classes``, how many are in a group, and ``window``, the rows.
    Broadcast: the parameters, then a window's probabilities and classes. Sums: a window's
    probabilities and classes; an Evaluation's, and at the end twice U for each class of the group.
    """

    def __init__(
        self, options: Options, datasets: Mapping[str, Dataset], exchange: Exchange
    ) -> None:
        super().__init__(options, datasets, exchange)
        self.classes, self.window = options["classes"], options["window"]
        self.asked = exchange.broadcast.single[-2 * self.window :].reshape(2, self.window)
        self.group = range(0)
        self.own: dict[int, NDArray[np.float32]] = {}
        """Each shard's probabilities and classes, (2, rows)."""
        self.others: list[NDArray[np.float32]] = []
        """For each class of the group, the others' probabilities of it; ascending at last."""
        self.filled: list[int] = []
        """How many of those there are."""

    @classmethod
    def sizes(cls, options: Options) -> tuple[Sizes, Sizes]:
        broadcast, sums = super().sizes(options)
        asked = 2 * options["window"]
        return (
            Sizes(broadcast.single + asked, broadcast.double),
            Sizes(asked, sums.double + options["classes"]),
        )

    def run(self, position: tuple[int, ...]) -> None:
        what, number = position
        slots, window = self.exchange.slots, 0
        slots.single.fill(0)
        if what == SCORES:
            self._begin(range(number, min(number + self.classes, ranked(self.target).stop)))
            super().run((SCORES,))
            for each in self.others:
                each.sort()
        else:
            window = number
            slots.double.fill(0)
            self._count(slots.double[0, -self.classes :])
        for (begin, stop), slot in self.exchange.additions.subtrees.items():
            for self.shard in range(begin, stop):
                self._show(window, slots.single[slot].reshape(2, self.window))

    def _begin(self, group: range) -> None:
        """Make room for the probabilities of the group's classes."""
        shards = [leaf.shard for leaf in self.exchange.additions.leaves]
        truths = [self.dataset.shard(s, self.features, self.target).truth for s in shards]
        examples = sum(len(truth) for truth in truths)
        self.own = {
            shard: np.zeros((2, len(truth)), np.float32)
            for shard, truth in zip(shards, truths, strict=True)
        }
        self.others = []  # what is there goes before there is more
        self.others = [
            np.zeros(examples - sum(np.count_nonzero(truth == c) for truth in truths), np.float32)
            for c in group
        ]
        self.group, self.filled = group, [0] * len(group)

    def _add_classes(self, arrays: Arrays, chunk: slice, sums: NDArray[np.float64]) -> None:
        super()._add_classes(arrays, chunk, sums)
        A, true = arrays.A[self.network.L], self.true[: chunk.stop - chunk.start]
        own, classes = self.own[self.shard][:, chunk]
        classes[:] = NOBODY
        for place, c in enumerate(self.group):
            probabilities, is_own = A[c - ranked(self.target).start], true == c
            own[is_own], classes[is_own] = probabilities[is_own], place
            others, filled = probabilities[~is_own], self.filled[place]
            self.others[place][filled : filled + len(others)] = others
            self.filled[place] += len(others)

    def _count(self, doubled: NDArray[np.float64]) -> None:
        """Twice U of the examples that are broadcast, by class."""
        probabilities, places = self.asked
        order = np.lexsort((probabilities, places))  # neighbours are looked up quickly
        bounds = places[order].searchsorted(np.arange(len(self.others) + 1))
        for place, others in enumerate(self.others):
            asked = probabilities[order[bounds[place] : bounds[place + 1]]]
            for side in ("left", "right"):  # those that are lower; those that are not higher
                doubled[place] += others.searchsorted(asked, side).sum()

    def _show(self, window: int, total: NDArray[np.float32]) -> None:
        """The shard's examples in the window: their probabilities and classes."""
        begin, end = shard_range(self.dataset.rows.count, self.shard, self.dataset.shards)
        first = window * self.window
        start, stop = max(begin, first), min(end, first + self.window)
        if start < stop:
            own = self.own[self.shard][:, start - begin : stop - begin]
            total[:, start - first : stop - first] = own


def ranking_options(dataset: str, model: Model) -> dict[str, Any]:
    """The options of a Ranking."""
    options = evaluation_options(dataset, model.network, model.features, model.target)
    return {**options, "classes": classes_at_once(model), "window": WINDOW_ROWS}


def classes_at_once(model: Model) -> int:
    """How many classes are in a group: what is kept of them takes no more memory than X."""
    return min(len(ranked(model.target)), model.features.size)


def ranked(target: Target) -> range:
    """The classes that have a row of Ŷ, which is that of the first of them."""
    return range(len(target.classes) - target.outputs, len(target.classes))


def doubled(rounds: Rounds, total: Vectors, options: Options, m: int) -> list[int]:
    """Twice U of each class of the group that has just been evaluated.

    Args:
        total: what that round gave.
        m: the number of examples.
    """
    window, classes = options["window"], options["classes"]
    counts = [0] * classes
    for number in range(1, -(-m // window) + 1):
        asked = rounds.broadcast.single[-2 * window :]
        np.copyto(asked, total.single)
        asked[window + m - (number - 1) * window :] = NOBODY  # the last window may be short
        total = rounds.run(WINDOW, number)
        counts = [a + int(b) for a, b in zip(counts, total.double[-classes:], strict=True)]
    return counts


def auc(doubled: Sequence[int], counts: Sequence[int], target: Target) -> float:
    """The area under the curve; for several classes the mean of each against all others.

    Args:
        doubled: twice U of each class that is ranked.
        counts: the examples of each class, none of which has none.
    """
    m = sum(counts)
    areas = [
        doubled[place] / (2 * counts[c] * (m - counts[c])) for place, c in enumerate(ranked(target))
    ]
    return math.fsum(areas) / len(areas)
