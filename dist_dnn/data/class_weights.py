"""The weights of classes, given or balanced, and what the rows count in all; by all workers."""

from collections.abc import Mapping
from dataclasses import replace
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from dist_dnn.data.dataset import Dataset
from dist_dnn.data.targets import Target, from_option, to_option, weighing
from dist_dnn.errors import InputError
from dist_dnn.hyperparameters import BALANCED, ClassWeight, suggestion
from dist_dnn.rounds import Exchange, Group, Options, ShardTask, Sizes, Vectors


class Counted(NamedTuple):
    """What rows count.

    Attributes:
        rows: how many count at all, with a weight above 0.
        weight: the sum of their weights.
    """

    rows: int
    weight: float


class Totals(ShardTask):
    """One round: adds the weights of the rows of each class, or of all rows.

    Options: dataset, target (its JSON, or None). Sums: how many rows have a weight above 0, and a
    total for each class, or one where there are no classes.
    """

    def __init__(
        self, options: Options, datasets: Mapping[str, Dataset], exchange: Exchange
    ) -> None:
        super().__init__(options, datasets, exchange)
        self.dataset = datasets[options["dataset"]]
        self.target = from_option(options["target"])

    @classmethod
    def sizes(cls, options: Options) -> tuple[Sizes, Sizes]:
        target = from_option(options["target"])
        classes = None if target is None else target.classes
        return Sizes(0, 0), Sizes(0, 1 + (1 if classes is None else len(classes)))

    def shard_sums(self, shard: int, position: tuple[int, ...], sums: Vectors) -> None:
        sums.double[:] = 0
        rows, totals = sums.double[:1], sums.double[1:]
        for batch, numbers in self.dataset.pieces(shard):
            places = np.zeros(batch.num_rows, np.int64)
            if self.target is not None and self.target.classes is not None:
                places = self.target.encode(batch, numbers, self.dataset.source.name)
            weights = self.dataset.weights(batch, numbers, self.target, places).training
            rows += batch.num_rows if weights is None else np.count_nonzero(weights)
            totals += np.bincount(places, weights, minlength=len(totals))


def weight_classes(group: Group, dataset: str, target: Target, given: ClassWeight | None) -> Target:
    """The target with the weights that its classes are given, or that balance them.

    Balanced classes count alike in all: a class of total weight t has the weight T / (K t), where
    T is the total of all K classes. One that is not named among the weights given has 1.

    Args:
        dataset: the rows to train on, loaded.

    Raises:
        InputError: there are no classes, or none of a name that is given; or one without weight is
            to be balanced.
    """
    if given is None:
        return target
    column = target.names[0]
    if target.classes is None:
        raise InputError(
            f"class_weight is for classes, but the target {column!r} is one of regression: "
            f"leave it out, or say --task multiclass"
        )
    names = target.class_names()
    if given == BALANCED:
        _, totals = _totals(group, dataset, target)
        if not totals.all():
            raise InputError(
                f"class {names[int(totals.argmin())]!r} of the target {column!r} has no "
                f"weight in the rows to train on, so that it cannot be balanced: give "
                f"--class-weight a file, or the class some weight"
            )
        balanced = totals.sum() / (len(totals) * totals)
        return replace(target, class_weights=tuple(balanced.tolist()))
    assert isinstance(given, Mapping)
    for name in given:
        if name not in names:
            shown = ", ".join(map(repr, names[:10])) + (", …" if len(names) > 10 else "")
            hint = suggestion(name, names) or f"; its classes are {shown}"
            raise InputError(
                f"class_weight has the class {name!r}, but the target {column!r} has none such in "
                f"the rows to train on{hint}"
            )
    return replace(target, class_weights=tuple(given.get(name, 1.0) for name in names))


def _totals(group: Group, dataset: str, target: Target | None) -> tuple[int, NDArray[np.float64]]:
    """How many rows have a weight above 0, and the sums of the weights: by class, or of all."""
    rounds = group.open(Totals, {"dataset": dataset, "target": to_option(target)})
    rows, *totals = group.surviving(rounds.run).double.tolist()
    return int(rows), np.array(totals)


def counted(
    group: Group, name: str, dataset: Dataset, target: Target | None, where: str
) -> Counted:
    """What the rows of a loaded data set count in training.

    Args:
        name: of the data set.
        where: what messages call its rows.

    Raises:
        InputError: none has a weight above 0; or a value cannot be used, with its row.
    """
    target = weighing(target)
    if dataset.weight is None and target is None:
        return Counted(dataset.rows.count, dataset.rows.count)
    rows, totals = _totals(group, name, target)
    if rows == 0:
        by = "class_weight" if dataset.weight is None else f"weight column {dataset.weight!r}"
        raise InputError(f"no row of {where} has a weight above 0, by {by}; give some rows weight")
    return Counted(rows, float(totals.sum()))
