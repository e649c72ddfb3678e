"""Deciding what a target is, from its columns and the training rows: its task, its classes."""

from collections.abc import Iterable, Iterator
from typing import Any, Literal

import numpy as np
import pyarrow as pa

from dist_dnn.data.columns import missing_column
from dist_dnn.data.holdout import Rows
from dist_dnn.data.numbers import to_numpy
from dist_dnn.data.sources import Source, type_name
from dist_dnn.data.targets import Target, TargetColumn, Task, first_flawed, flaw_error
from dist_dnn.data.values import NUMBERS, comparable, comparable_type, family_of, with_one_zero
from dist_dnn.errors import InputError
from dist_dnn.target_names import named

types: Any = pa.types

FEW_FLOATS = 20
"""A floating-point target of at most so many values, all integral, may be one of classes."""

MANY_INTEGERS = 100
"""An integer target of more values may be one of numbers."""

READ_ROWS = 2**18
"""Columns are read by so many rows at a time."""


def read_target(
    source: Source,
    names: tuple[str, ...],
    task: Literal["auto"] | Task = "auto",
    rows: Rows | None = None,
) -> Target:
    """Read the columns through, and decide on their task and classes.

    Several columns are predicted by regression.

    Args:
        names: of the columns, in the order of the outputs.
        rows: the training rows, which alone are looked at; None stands for all.

    Raises:
        InputError: a column is missing, of a type that cannot be predicted, or does not suit
            the task; "auto" cannot decide; a null, NaN or infinite value.
    """
    for name in names:
        if name not in source.schema.names:
            raise missing_column(source.schema, name, source.name)
    if rows is not None and rows.count == 0:
        raise InputError(f"{source.name} has no rows left to train on; hold out fewer")
    if len(names) > 1 and task in ("binary", "multiclass"):
        raise InputError(
            f"--task {task} predicts one column, but there are the {named(names)}; "
            f"leave --task out to predict several by regression"
        )
    columns = tuple(_column(source, name) for name in names)
    values = _sound_values(source, names, rows)
    if len(names) > 1 or task == "regression":
        for column in columns:
            _check_numbers(column, source, len(names))
        for _ in values:  # which finds their flaws
            pass
        return Target("regression", columns)
    [column] = columns
    where, family = _where(source, column), family_of(column.type)
    distinct = _distinct((each for [each] in values), column.type, _limit(task, family))
    if task == "auto":
        task = _decide(where, family, distinct)
    if task == "regression":
        return Target(task, columns)
    return _checked_classes(Target(task, columns, distinct.sort()), where)


def _where(source: Source, column: TargetColumn) -> str:
    return f"column {column.name!r} of {source.name}"


def _column(source: Source, name: str) -> TargetColumn:
    """A column of a type that can be predicted, or of nulls, which are another error."""
    type_: Any = source.schema.field(name).type
    column = TargetColumn(name, type_.value_type if types.is_dictionary(type_) else type_)
    if not family_of(column.type) and not types.is_null(column.type):
        raise InputError(
            f"{_where(source, column)} has type {type_name(column.type)}, which cannot be a "
            f"target; give one of numbers, booleans, text, dates or times"
        )
    return column


def _check_numbers(column: TargetColumn, source: Source, targets: int) -> None:
    """Raise InputError unless the column can be predicted by regression."""
    if family_of(column.type) in NUMBERS:
        return
    has = f"{_where(source, column)} has type {type_name(column.type)}"
    if targets > 1:
        raise InputError(
            f"{has}, but several targets are predicted by regression, which needs numbers; "
            f"take it out of --target"
        )
    raise InputError(f"{has}, but --task regression needs numbers; leave --task out for classes")


def _limit(task: str, family: str) -> int | None:
    """How many distinct values matter; None for all."""
    if task == "auto" and family == "floating":
        return FEW_FLOATS
    return MANY_INTEGERS if task == "auto" and family in NUMBERS else None


def _distinct(pieces: Iterable[Any], type_: Any, limit: int | None) -> Any:
    """The distinct values of a column; None where they are more than the limit."""
    distinct: Any = pa.array([], comparable_type(type_))
    for values in pieces:
        if distinct is not None:
            distinct = pa.chunked_array([distinct, values]).unique()
            if limit is not None and len(distinct) > limit:
                distinct = None
    return distinct


def _sound_values(source: Source, names: tuple[str, ...], rows: Rows | None) -> Iterator[list[Any]]:
    """The columns by pieces, without nulls, NaN and infinite values."""
    start = 0
    for batch in source.batches(names, 0, source.rows, READ_ROWS):
        stop = start + batch.num_rows
        row_numbers = np.arange(start, stop)
        columns = [comparable(batch.column(name)) for name in names]
        if rows is not None and rows.part != "all":
            mask = rows.mask(start, stop)
            row_numbers = row_numbers[mask]
            columns = [values.filter(pa.array(mask)) for values in columns]
        flawed = first_flawed(names, columns)
        if flawed is not None:
            raise flaw_error(*flawed, row_numbers, source.name)
        yield [with_one_zero(values) for values in columns]
        start = stop


def _decide(where: str, family: str, distinct: Any) -> Task:
    """The task that "auto" stands for."""
    if family == "floating":
        if distinct is not None and (to_numpy(distinct) % 1 == 0).all():
            classes = "binary" if len(distinct) == 2 else "multiclass"
            raise InputError(
                f"{where} has {len(distinct)} different values, all whole but stored as floating "
                f"point; say --task regression, or --task {classes} if they are classes"
            )
        return "regression"
    if distinct is None:
        raise InputError(
            f"{where} has more than {MANY_INTEGERS} different numbers; "
            f"say --task regression, or --task multiclass if they are classes"
        )
    return "binary" if len(distinct) == 2 else "multiclass"


def _checked_classes(target: Target, where: str) -> Target:
    """There are as many as the task needs, and they can be stored."""
    count = len(target.classes)
    if count == 1:
        raise InputError(
            f"{where} has one class only, {target.class_names()[0]!r}, in the rows to train on; "
            f"give rows of two classes or more"
        )
    if target.task == "binary" and count != 2:
        raise InputError(
            f"{where} has {count} classes, but --task binary needs 2; say --task multiclass"
        )
    try:
        is_stored = Target.from_json(target.to_json()).classes.equals(target.classes)
    except (InputError, pa.ArrowException):
        is_stored = False
    if not is_stored:
        raise InputError(
            f"the classes of {where}, of type {type_name(target.columns[0].type)}, cannot be "
            f"stored exactly; write them as text or as whole numbers"
        )
    return target
