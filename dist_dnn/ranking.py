"""AUC: how often an example of a class has a higher probability of it than one of the others.

A round broadcasts a window of examples, in the order of the rows: each one's class, and its
probability of that class. Every worker counts, class by class, how many of its own examples of
other classes have a lower probability of it than those, and how many the same one. That is
Mann and Whitney's U, in whole numbers, whatever the shards; ties count half, as under the curve.
"""

import math
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from dist_dnn.data.dataset import Dataset, Shard
from dist_dnn.data.features import Features
from dist_dnn.data.targets import Target
from dist_dnn.evaluation import evaluation_options
from dist_dnn.model import Model
from dist_dnn.nn.network import Network, Parameters
from dist_dnn.nn.propagation import ArraysByLength, forward
from dist_dnn.rounds import Exchange, Group, Options, Rounds, Sizes, Task, Vectors
from dist_dnn.shards import CHUNK_ROWS, shard_range

WINDOW_ROWS = 2**16
"""A round is about so many examples: float64 counts what they make with 2^36 others exactly."""

NOBODY = -1
"""The class of an example that is not asked about."""


class Ranking(Task):
    """Rounds about the classes [first, first + count) of one group, window by window.

    Window 0 computes the probabilities; each window counts for the examples that are broadcast,
    but for window 0, and adds those of the next window. A worker keeps one number a row for each
    class of the group.

    Options: those of Evaluation, ``classes``, how many are in a group, and ``window``, the rows.
    Broadcast: the parameters, then the window's probabilities and classes. Sums: the next
    window's probabilities and classes, and twice U for each class of the group.
    Position: (first class, window).
    """

    def __init__(
        self, options: Options, datasets: Mapping[str, Dataset], exchange: Exchange
    ) -> None:
        super().__init__(options, datasets, exchange)
        self.dataset = datasets[options["dataset"]]
        self.features = Features.from_json(options["features"])
        self.target = Target.from_json(options["target"])
        self.classes, self.window = options["classes"], options["window"]
        self.network = Network(**options["network"])
        count = self.network.parameter_count
        self.parameters = Parameters(self.network, exchange.broadcast.single[:count])
        self.asked = exchange.broadcast.single[count:].reshape(2, self.window)
        self.arrays = ArraysByLength(self.network, CHUNK_ROWS)
        self.own: dict[int, NDArray[np.float32]] = {}
        """Each shard's probabilities and classes, (2, rows)."""
        self.others: list[NDArray[np.float32]] = []
        """For each class of the group, the others' probabilities of it, ascending."""

    @classmethod
    def sizes(cls, options: Options) -> tuple[Sizes, Sizes]:
        parameters, window = Network(**options["network"]).parameter_count, options["window"]
        return Sizes(parameters + 2 * window, 0), Sizes(2 * window, options["classes"])

    def run(self, position: tuple[int, ...]) -> None:
        first, window = position
        slots = self.exchange.slots
        slots.single.fill(0)
        slots.double.fill(0)
        if window == 0:
            self._compute(range(first, min(first + self.classes, _classes(self.target).stop)))
        else:
            self._count(slots.double[0])
        for (begin, stop), slot in self.exchange.additions.subtrees.items():
            for self.shard in range(begin, stop):
                self._show(window, slots.single[slot].reshape(2, self.window))

    def _compute(self, group: range) -> None:
        """Every example's probability of each class of the group."""
        shards = {
            leaf.shard: self.dataset.shard(leaf.shard, self.features, self.target)
            for leaf in self.exchange.additions.leaves
        }
        truths = {shard: _class_numbers(rows) for shard, rows in shards.items()}
        examples = sum(len(truth) for truth in truths.values())
        own = [sum(np.count_nonzero(truth == c) for truth in truths.values()) for c in group]
        self.others = []  # what is there goes before there is more
        self.others = [np.zeros(examples - each, np.float32) for each in own]
        done = [0] * len(group)
        for self.shard, rows in shards.items():
            truth = truths[self.shard]
            self.own[self.shard] = np.full((2, rows.rows), NOBODY, np.float32)
            for start in range(0, rows.rows, CHUNK_ROWS):
                chunk = slice(start, min(start + CHUNK_ROWS, rows.rows))
                A = self._probabilities(rows, chunk)
                for place, c in enumerate(group):
                    probabilities = A[c - _classes(self.target).start]
                    is_own = truth[chunk] == c
                    self.own[self.shard][0, chunk][is_own] = probabilities[is_own]
                    self.own[self.shard][1, chunk][is_own] = place
                    others = probabilities[~is_own]
                    self.others[place][done[place] : done[place] + len(others)] = others
                    done[place] += len(others)
        for each in self.others:
            each.sort()

    def _probabilities(self, rows: Shard, chunk: slice) -> NDArray[np.float32]:
        """Ŷ of a chunk, (n[L], m)."""
        arrays = self.arrays.of(chunk.stop - chunk.start)
        arrays.read(rows.X[chunk].T)
        return forward(self.parameters, arrays)

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


def auc(group: Group, dataset: str, model: Model, counts: Sequence[int]) -> float | None:
    """The area under the curve of a loaded data set, exactly: for several classes their mean.

    What is ranked is the probability as ``predict`` writes it; each class against all others.

    Args:
        counts: the examples of each class.

    Returns:
        None where a class has none, or all of them.
    """
    target, m = model.target, sum(counts)
    if not all(0 < count < m for count in counts):
        return None
    at_once = classes_at_once(model)
    window = min(WINDOW_ROWS, m)
    options = evaluation_options(dataset, model.network, model.features, target)
    rounds = group.open(Ranking, {**options, "classes": at_once, "window": window})
    np.copyto(rounds.broadcast.single[: -2 * window], model.parameters.vector)
    doubled: list[int] = []
    for first in _classes(target)[::at_once]:
        doubled += group.surviving(lambda first=first: _doubled(rounds, first, m, window))  # type: ignore[misc]
    areas = [
        doubled[place] / (2 * counts[c] * (m - counts[c]))
        for place, c in enumerate(_classes(target))
    ]
    return math.fsum(areas) / len(areas)


def classes_at_once(model: Model) -> int:
    """How many classes are in a group: what is kept of them takes no more memory than X."""
    return min(len(_classes(model.target)), model.features.size)


def _doubled(rounds: Rounds, first: int, m: int, window: int) -> list[int]:
    """Twice U of each class of the group that begins with ``first``, over all windows."""
    total: Vectors = rounds.run(first, 0)
    doubled = [0] * len(total.double)
    for number in range(1, -(-m // window) + 1):
        asked = rounds.broadcast.single[-2 * window :]
        np.copyto(asked, total.single)
        asked[window + m - (number - 1) * window :] = NOBODY  # the last window may be short
        total = rounds.run(first, number)
        doubled = [a + int(b) for a, b in zip(doubled, total.double, strict=True)]
    return doubled


def _classes(target: Target) -> range:
    """The classes that have a row of Ŷ, which is that of the first of them."""
    return range(len(target.classes) - target.outputs, len(target.classes))


def _class_numbers(rows: Shard) -> NDArray[np.int64]:
    """The class of each row, (rows,)."""
    return rows.truth.reshape(rows.rows).astype(np.int64)
