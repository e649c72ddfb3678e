"""AUC: how often an example of a class has a higher probability of it than one of the others.

A round broadcasts a window of examples, in the order of the rows: each one's class, its probability
of that class, and its weight, where rows have weights. Every shard counts, class by class, how many
of its own examples of other classes have a lower probability of it than those, and how many the
same one. That is Mann and Whitney's U, in whole numbers where there are no weights; ties count
half, as under the curve. An example of weight w counts w times, on either side.
"""

import math
from collections.abc import Mapping, Sequence
from fractions import Fraction
from typing import Any, NamedTuple

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

ASKED = 3
"""What is asked about an example: its probability, its class, and its weight, if it has one."""

NOBODY = -1
"""The class of an example that is not asked about."""


class Others(NamedTuple):
    """The examples of a shard that are of other classes than one.

    Attributes:
        probabilities: of that one, ascending; float32 (n,).
        below: what the first 0 … n of them count together, float64 (n + 1,); None where each
            counts 1.
    """

    probabilities: NDArray[np.float32]
    below: NDArray[np.float64] | None

    @classmethod
    def of(cls, probabilities: NDArray[np.float32], w: NDArray[np.float32] | None) -> "Others":
        """Those of probabilities in the order of the rows, which may be sorted in place."""
        if w is None:
            probabilities.sort()
            return cls(probabilities, None)
        order = probabilities.argsort(kind="stable")
        return cls(probabilities[order], np.append(0, w[order].cumsum(dtype=np.float64)))

    def doubled(self, asked: NDArray[np.float32], w: NDArray[np.float32]) -> float:
        """Twice U of examples of the class, given by their ascending probabilities and weights."""
        if not len(self.probabilities):
            return 0.0
        lower = self.probabilities.searchsorted(asked)
        # Few have the same probability as another: only these are looked up again.
        ties = self.probabilities.take(lower, mode="clip") == asked
        not_higher = lower.copy()
        not_higher[ties] = self.probabilities.searchsorted(asked[ties], "right")
        if self.below is None:
            return float(lower.sum() + not_higher.sum())
        return float(((self.below[lower] + self.below[not_higher]) * w).sum())


class Ranking(Evaluation):
    """An Evaluation of classes whose probabilities are kept for a group of classes, and ranked.

    Round (SCORES, first class of the group) evaluates. Round (WINDOW, w) counts for the examples
    that are broadcast. Each adds a window of examples, the first of them or those of w, which the
    driver broadcasts next. A worker keeps one number a row for each class of the group, and where
    rows have weights what they add up to.

    Options: those of Evaluation, ``classes``, how many are in a group, and ``window``, the rows.
    Broadcast: the parameters, then a window's probabilities, classes and weights. Sums: such a
    window; an Evaluation's, and at the end twice U for each class of the group.
    """

    def __init__(
        self, options: Options, datasets: Mapping[str, Dataset], exchange: Exchange
    ) -> None:
        super().__init__(options, datasets, exchange)
        self.classes, self.window = options["classes"], options["window"]
        self.asked = exchange.broadcast.single[-ASKED * self.window :].reshape(ASKED, self.window)
        self.group = range(0)
        self.own: dict[int, NDArray[np.float32]] = {}
        """Each shard's probabilities and classes, (2, rows)."""
        self.others: dict[int, list[Others]] = {}
        """By shard, for each class of the group."""
        self.unsorted: list[NDArray[np.float32]] = []
        """Of the shard in work, for each class of the group, the others' probabilities …"""
        self.filled: list[int] = []
        """… and how many of them are there."""
        self.sorted: list[tuple[NDArray[np.float32], NDArray[np.float32]]] = []
        """The probabilities, ascending, and weights that are asked about, for each class."""

    @classmethod
    def sizes(cls, options: Options) -> tuple[Sizes, Sizes]:
        broadcast, sums = super().sizes(options)
        asked = ASKED * options["window"]
        return (
            Sizes(broadcast.single + asked, broadcast.double),
            Sizes(asked, sums.double + options["classes"]),
        )

    def run(self, position: tuple[int, ...]) -> None:
        what, number = position
        if what == SCORES:
            self.group = range(number, min(number + self.classes, ranked(self.target).stop))
            self.others = {}  # what is there goes before there is more
        else:
            self._sort_asked()
        self.exchange.slots.single.fill(0)
        super().run(position)
        window = number if what == WINDOW else 0
        for (begin, stop), slot in self.exchange.additions.subtrees.items():
            for self.shard in range(begin, stop):
                self._show(window, self.exchange.slots.single[slot].reshape(ASKED, self.window))

    def shard_sums(self, shard: int, position: tuple[int, ...], sums: Vectors) -> None:
        if position[0] == WINDOW:
            sums.double[:] = 0
            doubled = sums.double[-self.classes :]
            for place, others in enumerate(self.others[shard]):
                doubled[place] = others.doubled(*self.sorted[place])
            return
        rows = self.dataset.shard(shard, self.features, self.target)
        self.own[shard] = np.zeros((2, rows.rows), np.float32)
        self.unsorted = [
            np.zeros(np.count_nonzero(rows.truth != c), np.float32) for c in self.group
        ]
        self.filled = [0] * len(self.group)
        super().shard_sums(shard, (SCORES,), sums)
        w = rows.weights.scoring
        self.others[shard] = [
            Others.of(probabilities, None if w is None else w[rows.truth.ravel() != c])
            for c, probabilities in zip(self.group, self.unsorted, strict=True)
        ]
        self.unsorted = []

    def _add_classes(
        self,
        arrays: Arrays,
        chunk: slice,
        w: NDArray[np.float64] | None,
        sums: NDArray[np.float64],
    ) -> None:
        super()._add_classes(arrays, chunk, w, sums)
        A, true = arrays.A[self.network.L], self.true[: chunk.stop - chunk.start]
        own, classes = self.own[self.shard][:, chunk]
        classes[:] = NOBODY
        for place, c in enumerate(self.group):
            probabilities, is_own = A[c - ranked(self.target).start], true == c
            own[is_own], classes[is_own] = probabilities[is_own], place
            others, filled = probabilities[~is_own], self.filled[place]
            self.unsorted[place][filled : filled + len(others)] = others
            self.filled[place] += len(others)

    def _sort_asked(self) -> None:
        """Sort the examples that are broadcast, class by class: neighbours are found quickly."""
        probabilities, places, w = self.asked
        order = np.lexsort((probabilities, places))
        bounds = places[order].searchsorted(np.arange(len(self.group) + 1))
        by_class = np.split(order, bounds)[1:-1]
        self.sorted = [(probabilities[chosen], w[chosen]) for chosen in by_class]

    def _show(self, window: int, total: NDArray[np.float32]) -> None:
        """The shard's examples in the window: their probabilities, classes and weights."""
        begin, end = shard_range(self.dataset.rows.count, self.shard, self.dataset.shards)
        first = window * self.window
        start, stop = max(begin, first), min(end, first + self.window)
        if start < stop:
            place, chosen = slice(start - first, stop - first), slice(start - begin, stop - begin)
            total[:2, place] = self.own[self.shard][:, chosen]
            w = self.dataset.shard(self.shard, self.features, self.target).weights.scoring
            if w is not None:
                total[2, place] = w[chosen]


def ranking_options(dataset: str, model: Model) -> dict[str, Any]:
    """The options of a Ranking."""
    options = evaluation_options(dataset, model.network, model.features, model.target)
    return {**options, "classes": classes_at_once(model), "window": WINDOW_ROWS}


def classes_at_once(model: Model) -> int:
    """How many classes are in a group: what is kept of them takes no more memory than X.

    Where rows have weights, with what these add up to, it takes thrice as much at most.
    """
    return min(len(ranked(model.target)), model.features.size)


def ranked(target: Target) -> range:
    """The classes that have a row of Ŷ, which is that of the first of them."""
    return range(len(target.classes) - target.outputs, len(target.classes))


def doubled(rounds: Rounds, total: Vectors, options: Options, m: int) -> list[Fraction]:
    """Twice U of each class of the group that has just been evaluated.

    Args:
        total: what that round gave.
        m: the number of examples.
    """
    window, classes = options["window"], options["classes"]
    sums = [Fraction()] * classes
    for number in range(1, -(-m // window) + 1):
        asked = rounds.broadcast.single[-ASKED * window :]
        np.copyto(asked, total.single)
        asked[window + m - (number - 1) * window : 2 * window] = NOBODY  # it may be short
        total = rounds.run(WINDOW, number)
        sums = [a + Fraction(b) for a, b in zip(sums, total.double[-classes:], strict=True)]
    return sums


def auc(doubled: Sequence[Fraction], counts: Sequence[float], target: Target) -> float:
    """The area under the curve; for several classes the mean of each against all others.

    Args:
        doubled: twice U of each class that is ranked.
        counts: the examples of each class, or the sum of their weights, none of which is 0.
    """
    whole = sum(map(Fraction, counts))
    areas = []
    for place, c in enumerate(ranked(target)):
        own = Fraction(counts[c])
        area = doubled[place] / (2 * own * (whole - own))
        areas.append(min(float(area), 1.0))  # sums of weights are rounded
    return math.fsum(areas) / len(areas)
