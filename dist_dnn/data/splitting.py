"""How the rows of a source are split into those to train on and those to validate on."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from dist_dnn.data.columns import missing_column
from dist_dnn.data.deciding import READ_ROWS, read_target
from dist_dnn.data.holdout import Rows, held_out_by_class
from dist_dnn.data.numbers import first_flaw, to_numpy
from dist_dnn.data.sources import Source, type_name
from dist_dnn.errors import InputError
from dist_dnn.hyperparameters import Hyperparameters
from dist_dnn.target_names import named

Split = tuple[Rows, Rows | None]
"""The rows to train on, and those to validate on, unless these come from elsewhere or nowhere."""


def split(
    source: Source, targets: tuple[str, ...], hyperparameters: Hyperparameters, validation: Any
) -> Split:
    """Split the rows as the hyperparameters say.

    Args:
        targets: the columns to predict; none are needed where the hyperparameters do not stratify.
        validation: the fraction to hold out; anything else is no matter of this source.

    Raises:
        InputError: no row is left on one side, or the columns do not say which are.
    """
    column = hyperparameters.validation_column
    if column is not None:
        rows, held_out = _split_by_column(source, targets, column)
        what, remedy = f"column {column!r} marks", "mark some rows, and not all"
    elif isinstance(validation, float):
        rows, held_out = _split_by_hash(source, targets, hyperparameters, validation)
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
    source: Source, targets: tuple[str, ...], hyperparameters: Hyperparameters, fraction: float
) -> tuple[Rows, Rows]:
    seed = hyperparameters.seed
    if hyperparameters.stratify:
        classes = _read_classes(source, targets, hyperparameters)
        return Rows.marked(held_out_by_class(seed, fraction, classes))
    return (
        Rows.kept(source.rows, seed, fraction),
        Rows.held_out(source.rows, seed, fraction),
    )


def _read_classes(
    source: Source, targets: tuple[str, ...], hyperparameters: Hyperparameters
) -> NDArray[np.int32]:
    """The class number of every row, (rows,)."""
    target = read_target(source, targets, hyperparameters.task)
    if target.task == "regression":
        remedy = "leave it out" if len(targets) > 1 else "leave it out, or say --task multiclass"
        raise InputError(
            f"stratify holds out a part of each class, but regression to the {named(targets)} has "
            f"no classes: {remedy}"
        )
    classes = np.zeros(source.rows, np.int32)
    for numbers, batch in _pieces(source, target.names):
        classes[numbers] = target.encode(batch, numbers, source.name)
    return classes


def _split_by_column(source: Source, targets: tuple[str, ...], name: str) -> tuple[Rows, Rows]:
    if name not in source.schema.names:
        raise missing_column(source.schema, name, source.name)
    where = f"validation column {name!r} of {source.name}"
    if name in targets:
        raise InputError(f"the {where} is a target; give another column")
    type_ = source.schema.field(name).type
    if not pa.types.is_boolean(type_):
        raise InputError(
            f"the {where} has type {type_name(type_)}, not bool; give one that is true in the rows "
            f"to validate on and false in the others"
        )
    mask = np.zeros(source.rows, np.bool_)
    for numbers, batch in _pieces(source, (name,)):
        values = batch.column(0)
        flaw = first_flaw(values)
        if flaw is not None:
            raise InputError(
                f"the {where} has {flaw.what} in row {numbers[flaw.row] + 1}; say true or false"
            )
        mask[numbers] = to_numpy(values)
    return Rows.marked(mask)


def _pieces(
    source: Source, columns: tuple[str, ...]
) -> Iterator[tuple[NDArray[np.int64], pa.RecordBatch]]:
    """Columns by pieces, with the numbers of their rows."""
    start = 0
    for batch in source.batches(columns, 0, source.rows, READ_ROWS):
        stop = start + batch.num_rows
        yield np.arange(start, stop), batch
        start = stop
