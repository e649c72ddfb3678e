"""Scoring: all that is said of a model on a data set, as scikit-learn says it."""

import math
from fractions import Fraction
from functools import partial

import numpy as np
from numpy.typing import NDArray

from dist_dnn.data.targets import Target
from dist_dnn.evaluation import (
    COUNT,
    LOSS,
    SCORE,
    SCORES,
    Evaluator,
    Scores,
    class_scores,
    weighted,
)
from dist_dnn.model import Model
from dist_dnn.nn.propagation import Arrays
from dist_dnn.ranking import Ranking, auc, doubled, ranked, ranking_options
from dist_dnn.rounds import Group, Options, Sizes

MOST_CLASSES = 1000
"""Of more classes there is no confusion matrix: its K² numbers would travel from each worker."""

LOG_LOSS, COUNTS = SCORE + 1, SCORE + 2
"""The place of the log-loss among the sums, and where the counts begin."""

TRUE, PREDICTED, RIGHT = range(3)
"""The rows of the counts of each class."""


class Scoring(Ranking):
    """A Ranking of K classes in whose evaluation the log-loss and counts are summed, too.

    The counts are of examples by true class, by predicted class, and of those that are right,
    (3, K); and by both, (K, K), unless there are more than MOST_CLASSES. Where rows have weights
    these are added up instead.
    """

    @classmethod
    def sizes(cls, options: Options) -> tuple[Sizes, Sizes]:
        broadcast, sums = super().sizes(options)
        K = len(Target.from_json(options["target"]).classes)
        return broadcast, Sizes(sums.single, sums.double + 1 + 3 * K + _matrix_size(K))

    def _add_classes(
        self,
        arrays: Arrays,
        chunk: slice,
        w: NDArray[np.float64] | None,
        sums: NDArray[np.float64],
    ) -> None:
        super()._add_classes(arrays, chunk, w, sums)
        m = chunk.stop - chunk.start
        predicted, true, is_right = self.predicted[:m], self.true[:m], self.is_right[:m]
        counts, matrix = _counts(sums, len(self.target.classes))
        np.add.at(counts[TRUE], true, 1 if w is None else w)
        np.add.at(counts[PREDICTED], predicted, 1 if w is None else w)
        np.add.at(counts[RIGHT], true[is_right], 1 if w is None else w[is_right])
        if matrix is not None:
            np.add.at(matrix, (true, predicted), 1 if w is None else w)
        logarithms = np.log(self._probabilities_of(arrays, true))
        sums[LOG_LOSS] -= weighted(logarithms, w).sum()

    def _probabilities_of(self, arrays: Arrays, classes: NDArray[np.int64]) -> NDArray[np.float64]:
        """Each example's probability of a class, as float64, not quite 0 or 1."""
        A = arrays.A[self.network.L]
        if self.target.task == "binary":
            A = np.concatenate([1 - A, A])
        chosen = A[classes, np.arange(len(classes))].astype(np.float64)
        epsilon = np.finfo(np.float64).eps
        return chosen.clip(epsilon, 1 - epsilon)


def score(group: Group, dataset: str, model: Model) -> Scores:
    """All scores of a model on a loaded data set.

    Every class counts as scikit-learn counts it: precision is None for one that is never
    predicted, recall for one that does not occur, F1 for one that does neither, AUC where a class
    does not occur; R² where the truth is constant. With more than MOST_CLASSES classes the
    confusion matrix is None.

    Returns:
        ``m``, ``loss``, and for regression what an Evaluator gives, or else ``accuracy``,
        ``log_loss``, ``auc``, ``precision``, ``recall`` and ``f1`` by the class's name, and
        ``confusion_matrix``: for each true class, in ascending order, how many were predicted as
        each class. Where rows have weights ``weight`` is their sum, and they count by them: in
        all scores but the loss the weights of classes do not count.

    Raises:
        InputError: a value that cannot be used, or a class that training did not see.
    """
    if model.target.task == "regression":
        evaluate = Evaluator(group, dataset, model.network, model.features, model.target)
        return evaluate(model.parameters)
    sums, area = _sums_and_area(group, dataset, model)
    scores = class_scores(sums)
    counts, matrix = _counts(sums, len(model.target.classes))
    is_weighted = "weight" in scores
    scores["log_loss"] = float(sums[LOG_LOSS] / scores["weight" if is_weighted else "m"])
    scores["auc"] = area
    scores |= _by_class(model.target, counts)
    scores["confusion_matrix"] = None
    if matrix is not None:
        scores["confusion_matrix"] = (matrix if is_weighted else matrix.astype(int)).tolist()
    return scores


def _sums_and_area(
    group: Group, dataset: str, model: Model
) -> tuple[NDArray[np.float64], float | None]:
    """The sums of a Scoring, and the area under the curve, if there is one."""
    options, target = ranking_options(dataset, model), model.target
    rounds = group.open(Scoring, options)
    np.copyto(rounds.broadcast.single[: len(model.parameters.vector)], model.parameters.vector)

    def attempt(first: int) -> tuple[NDArray[np.float64], list[float], list[Fraction]]:
        total = rounds.run(SCORES, first)
        sums = total.double.copy()
        counts = _counts(sums, len(target.classes))[0][TRUE].tolist()
        if min(counts) == 0 or not math.isfinite(sums[LOSS]):
            return sums, counts, []
        return sums, counts, doubled(rounds, total, options, int(sums[COUNT]))

    groups = []
    for first in ranked(target)[:: options["classes"]]:
        groups.append(group.surviving(partial(attempt, first)))
        if not groups[0][2]:  # there is nothing that could be ranked
            return groups[0][0], None
    sums, counts, _ = groups[0]
    return sums, auc([each for _, _, ranks in groups for each in ranks], counts, target)


def _by_class(target: Target, counts: NDArray[np.float64]) -> Scores:
    """Precision, recall and F1 of each class."""
    true, predicted, right = counts

    def by_class(numerators: NDArray[np.float64], denominators: NDArray[np.float64]) -> Scores:
        pairs = zip(numerators.tolist(), denominators.tolist(), strict=True)
        values = [above / below if below else None for above, below in pairs]
        return dict(zip(target.class_names(), values, strict=True))

    return {
        "precision": by_class(right, predicted),
        "recall": by_class(right, true),
        "f1": by_class(2 * right, true + predicted),
    }


def _matrix_size(K: int) -> int:
    return K * K if K <= MOST_CLASSES else 0


def _counts(
    sums: NDArray[np.float64], K: int
) -> tuple[NDArray[np.float64], NDArray[np.float64] | None]:
    """The counts among the sums, (3, K), and (K, K) if they are there; views."""
    counts = sums[COUNTS : COUNTS + 3 * K].reshape(3, K)
    matrix = sums[COUNTS + 3 * K :][: _matrix_size(K)]
    return counts, matrix.reshape(K, K) if len(matrix) else None
