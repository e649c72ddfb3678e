"""What each example counts: the weight of its row, times that of its class."""

from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from dist_dnn.data.columns import missing_column
from dist_dnn.data.numbers import first_flaw, in_one, to_numpy
from dist_dnn.data.sources import type_name
from dist_dnn.errors import InputError

types: Any = pa.types

LARGEST = float(np.finfo(np.float32).max)
"""A weight is at most what float32 holds."""


class Weights(NamedTuple):
    """What each of some rows counts, float32 (rows,); None where all count 1.

    Each is rounded to float32 once; every sum is made of these very numbers, in float64.

    Attributes:
        training: in the loss, which training makes small: the row's weight times its class's.
        scoring: in all other scores: the row's alone, since those of classes are a means of
            training, and say nothing about the data.
    """

    training: NDArray[np.float32] | None = None
    scoring: NDArray[np.float32] | None = None

    @classmethod
    def room(cls, rows: int, *, of_rows: bool, of_classes: bool) -> "Weights":
        """Those of so many rows, to be written, where rows have weights, or classes have."""
        scoring = np.zeros(rows, np.float32) if of_rows else None
        return cls(np.zeros(rows, np.float32) if of_classes else scoring, scoring)

    def of(self, rows: slice) -> tuple[NDArray[np.float32] | None, NDArray[np.float64] | None]:
        """Those of some rows: for training, and for scoring in float64."""
        training, scoring = (None if each is None else each[rows] for each in self)
        return training, None if scoring is None else scoring.astype(np.float64)

    def write(self, place: slice, weights: "Weights") -> None:
        """Write those of some of the rows."""
        for own, given in zip(self, weights, strict=True):
            if own is not None:
                own[place] = given


ALL_ALIKE = Weights()
"""Each example counts 1."""


def check_weight_column(schema: pa.Schema, name: str, where: str) -> None:
    """Raise InputError where a table has no such column, or one that holds no weights."""
    if name not in schema.names:
        raise missing_column(schema, name, where)
    type_: Any = schema.field(name).type
    is_number = types.is_integer(type_) or types.is_floating(type_) or types.is_decimal(type_)
    if not is_number and not types.is_boolean(type_):
        raise InputError(
            f"weight column {name!r} of {where} has type {type_name(type_)}; give one of numbers, "
            f"or of true and false"
        )


def row_weights(
    values: Any, name: str, row_numbers: NDArray[np.int64], where: str
) -> NDArray[np.float64]:
    """A column of weights, a pyarrow array or chunked array, as numbers (rows,).

    Args:
        name: of the column.
        row_numbers: (rows,), counted from 0 in the whole source, for messages.
        where: what messages call the source.

    Raises:
        InputError: a null, NaN, infinite or negative value, or one that float32 does not hold.
    """
    values = in_one(values)
    flaw = first_flaw(values)
    sound = values if flaw is None else values.slice(0, flaw.row)
    weights = to_numpy(sound.cast(pa.float64(), safe=False))
    is_bad = (weights < 0) | (weights > LARGEST)
    if is_bad.any():
        row = int(is_bad.argmax())
        what = f"the weight {weights[row]:g}"
    elif flaw is not None:
        row, what = flaw.row, flaw.what
    else:
        return weights
    raise InputError(
        f"weight column {name!r} has {what} in row {row_numbers[row] + 1} of {where}; give a "
        f"number from 0 to {LARGEST:.1e}, where 0 leaves the row out"
    )


def weights_of(
    rows: NDArray[np.float64] | None,
    classes: NDArray[np.int64] | None,
    class_weights: tuple[float, ...] | None,
    row_numbers: NDArray[np.int64],
    where: str,
) -> Weights:
    """What each example counts.

    Args:
        rows: the rows' own weights, (rows,); None where there are none.
        classes: the class number of each row, (rows,), where classes have weights.
        class_weights: by class number; None where there are none.

    Raises:
        InputError: a product that float32 does not hold.
    """
    scoring = None if rows is None else rows.astype(np.float32)
    if class_weights is None:
        return Weights(scoring, scoring)
    assert classes is not None
    products = np.array(class_weights)[classes]
    if rows is not None:
        products *= rows
        products[scoring == 0] = 0  # rows that float32 makes 0 are left out
    if products.max(initial=0) > LARGEST:
        row = int(products.argmax())
        raise InputError(
            f"row {row_numbers[row] + 1} of {where} has a weight that, times that of its class, is "
            f"{products[row]:.1e}, more than float32 holds; divide the weights by a number"
        )
    return Weights(products.astype(np.float32), scoring)
