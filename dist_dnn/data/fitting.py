"""What the training rows make of the chosen columns: statistics and categories, by all workers."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from dist_dnn.data.class_weights import Counted
from dist_dnn.data.columns import Column
from dist_dnn.data.features import Features, Standardisation
from dist_dnn.data.statistics import measure
from dist_dnn.data.targets import Target, weighing
from dist_dnn.data.vocabularies import Found, find
from dist_dnn.rounds import Group


class Fit(NamedTuple):
    """What was found in the training rows.

    Attributes:
        m: how many they are, without those of weight 0.
        features: how the columns fill X.
        missing: in how many rows each of their numbers is missing, (n,).
        found: in each column of categories.
        others: the standardisation of the numbers that are no features.
    """

    m: int
    features: Features
    missing: NDArray[np.int64]
    found: list[Found]
    others: Standardisation


def fit(
    group: Group,
    dataset: str,
    columns: tuple[Column, ...],
    size: Counted,
    min_frequency: float,
    max_categories: int,
    others: tuple[Column, ...] = (),
    target: Target | None = None,
) -> Fit:
    """Measure the columns of a loaded data set.

    Args:
        size: what its rows count.
        min_frequency, max_categories, target: see ``find``.
        others: columns of numbers that are measured, but are no features.

    Raises:
        InputError: a value that cannot be used, with its column and row.
    """
    categories = [column for column in columns if column.is_category]
    numbers = [column for column in columns if not column.is_category]
    target = weighing(target)
    found = find(group, dataset, categories, size, min_frequency, max_categories, target)
    measured = measure(group, dataset, (*numbers, *others), target)
    mean, deviation = measured.standardisation.mean, measured.standardisation.deviation
    n = sum(column.width for column in numbers)
    missing = measured.missing[:n]
    features = Features(
        columns,
        Standardisation(mean[:n], deviation[:n]),
        tuple(np.flatnonzero((missing > 0) & (missing < size.rows)).tolist()),
        tuple(each.vocabulary for each in found),
    )
    return Fit(size.rows, features, missing, found, Standardisation(mean[n:], deviation[n:]))
