"""The weights of classes, given or balanced, and what the rows count in all; by all workers."""

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from dist_dnn.data.dataset import Dataset
from dist_dnn.data.targets import Target
from dist_dnn.errors import InputError
from dist_dnn.hyperparameters import BALANCED, ClassWeight, suggestion
from dist_dnn.rounds import Exchange, Group, Options, ShardTask, Sizes, Vectors


class Totals(ShardTask):
    """One round: adds the weights of the rows of each class; those of a regression as one.

    Options: dataset, target (its JSON). Sums: a total for each class.
    """

    def __init__(
        self, options: Options, datasets: Mapping[str, Dataset], exchange: Exchange
    ) -> None:
        super().__init__(options, datasets, exchange)
        self.dataset = datasets[options["dataset"]]
        self.target = Target.from_json(options["target"])

    @classmethod
    def sizes(cls, options: Options) -> tuple[Sizes, Sizes]:
        target = Target.from_json(options["target"])
        return Sizes(0, 0), Sizes(0, 1 if target.classes is None else len(target.classes))

    def shard_sums(self, shard: int, position: tuple[int, ...], sums: Vectors) -> None:
        totals = sums.double
        totals[:] = 0
        for batch, numbers in self.dataset.pieces(shard):
            places = np.zeros(batch.num_rows, np.int64)
            if self.target.classes is not None:
                places = self.target.encode(batch, numbers, self.dataset.source.name)
            weights = self.dataset.weights(batch, numbers, self.target).training
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
        totals = totals_of(group, dataset, target)
        if not totals.all():
            raise InputError(
                f"class {names[int(totals.argmin())]!r} of the target {column!r} has no "
                f"weight in the rows to train on, so that it cannot be balanced: give "
                f"--class-weight a file, or the class some weight"
            )
        return replace(target, class_weights=tuple(totals.sum() / (len(totals) * totals)))
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


def totals_of(group: Group, dataset: str, target: Target) -> NDArray[np.float64]:
    """The sum of the weights of the rows of each class, or of all rows; float64 (K,) or (1,).

    Raises:
        InputError: a value that cannot be used, with its row.
    """
    rounds = group.open(Totals, {"dataset": dataset, "target": target.to_json()})
    return group.surviving(rounds.run).double.copy()


def check_total(group: Group, dataset: str, target: Target, weight: str | None, where: str) -> None:
    """Raise InputError where no row of a loaded data set has a weight above 0."""
    if weight is None and target.class_weights is None:
        return
    if not totals_of(group, dataset, target).any():
        what = "class_weight" if weight is None else f"weight column {weight!r}"
        raise InputError(
            f"no row of {where} has a weight above 0, by {what}; give some rows weight"
        )
