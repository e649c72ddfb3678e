"""How the rows of a source are split into those to train on and those to validate on."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from dist_dnn.data.columns import missing_column
from dist_dnn.data.holdout import Rows, held_out_by_class
from dist_dnn.data.numbers import first_flaw, to_numpy
from dist_dnn.data.sources import Source, type_name
from dist_dnn.data.targets import READ_ROWS, read_target
from dist_dnn.errors import InputError
from dist_dnn.hyperparameters import Hyperparameters

Split = tuple[Rows, Rows | None]
"""The rows to train on, and those to validate on, unless these come from elsewhere or nowhere."""


def split(
    source: Source, target: str | None, hyperparameters: Hyperparameters, validation: Any
) -> Split:
    """Split the rows as the hyperparameters say.

    Args:
        target: the column to predict; None where the hyperparameters do not stratify.
        validation: the fraction to hold out; anything else is no matter of this source.

    Raises:
        InputError: no row is left on one side, or the columns do not say which are.
    """
    column = hyperparameters.validation_column
    if column is not None:
        rows, held_out = _split_by_column(source, target, column)
        what, remedy = f"column {column!r} marks", "mark some rows, and not all"
    elif isinstance(validation, float):
        rows, held_out = _split_by_hash(source, target, hyperparameters, validation)
        what = f"validation {validation} holds out"
        remedy = "choose a fraction that leaves some for both sides"
    else:
        return Rows.all(source.rows), None
    if rows.count == 0 or held_out.count == 0:
        raise InputError(
            f"{what} {held_out.count} of the {source.rows} rows of {source.name}: {remedy}"
        )
    return rows, held_out


def _split_by_hash(
    source: Source, target: str | None, hyperparameters: Hyperparameters, fraction: float
) -> tuple[Rows, Rows]:
    seed = hyperparameters.seed
    if hyperparameters.stratify:
        assert target is not None
        classes = _read_classes(source, target, hyperparameters)
        return Rows.marked(held_out_by_class(seed, fraction, classes))
    return (
        Rows.kept(source.rows, seed, fraction),
        Rows.held_out(source.rows, seed, fraction),
    )


def _read_classes(
    source: Source, target: str, hyperparameters: Hyperparameters
) -> NDArray[np.int32]:
    """The class number of every row, (rows,)."""
    aim = read_target(source, target, hyperparameters.task)
    if aim.task == "regression":
        raise InputError(
            f"stratify holds out a part of each class, but the target {target!r} is one of "
            f"regression: leave it out, or say --task multiclass"
        )
    classes = np.zeros(source.rows, np.int32)
    for numbers, values in _pieces(source, target):
        classes[numbers] = aim.encode(values, numbers, source.name)
    return classes


def _split_by_column(source: Source, target: str | None, name: str) -> tuple[Rows, Rows]:
    if name not in source.schema.names:
        raise missing_column(source.schema, name, source.name)
    where = f"validation column {name!r} of {source.name}"
    if name == target:
        raise InputError(f"the {where} is the target; give another column")
    type_ = source.schema.field(name).type
    if not pa.types.is_boolean(type_):
        raise InputError(
            f"the {where} has type {type_name(type_)}, not bool; give one that is true in the rows "
            f"to validate on and false in the others"
        )
    mask = np.zeros(source.rows, np.bool_)
    for numbers, values in _pieces(source, name):
        flaw = first_flaw(values)
        if flaw is not None:
            raise InputError(
                f"the {where} has {flaw.what} in row {numbers[flaw.row] + 1}; say true or false"
            )
        mask[numbers] = to_numpy(values)
    return Rows.marked(mask)


def _pieces(source: Source, column: str) -> Iterator[tuple[NDArray[np.int64], Any]]:
    """A column by pieces, with the numbers of their rows."""
    start = 0
    for batch in source.batches([column], 0, source.rows, READ_ROWS):
        stop = start + batch.num_rows
        yield np.arange(start, stop), batch.column(0)
        start = stop
