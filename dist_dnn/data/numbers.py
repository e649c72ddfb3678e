"""Columns of a record batch as numbers: what is missing in them, and what cannot be used."""

from collections.abc import Sequence
from typing import Any, Literal, NamedTuple

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from dist_dnn.data.columns import Column
from dist_dnn.errors import InputError

types: Any = pa.types

DAY = 86_400
"""Seconds."""

UNITS = {"s": 1, "ms": 10**3, "us": 10**6, "ns": 10**9}
"""How many of each make a second."""


def to_matrix(
    batch: pa.RecordBatch,
    columns: Sequence[Column],
    row_numbers: NDArray[np.int64],
    where: str,
) -> NDArray[np.float64]:
    """Columns of numbers side by side as float64 (rows, n), C-contiguous; NaN where one is missing.

    Missing is what is null or NaN, and every number of a list that is null. Dates and timestamps
    are seconds since the epoch, times seconds since midnight, durations seconds.

    Args:
        row_numbers: (rows,), counted from 0 in the whole source, for messages.
        where: what messages call the source.

    Raises:
        InputError: an infinite value; of several the one in the first row, in the first column
            there.
    """
    matrix = np.empty((batch.num_rows, sum(column.width for column in columns)))
    start = 0
    for column in columns:
        values: Any = batch.column(column.name)
        block = matrix[:, start : start + column.width]
        if types.is_fixed_size_list(values.type):
            inner = values.values.slice(values.offset * column.width, block.size)
            block[:] = _seconds_or_numbers(inner).reshape(block.shape)
        else:
            block[:, 0] = _seconds_or_numbers(values)
        if values.null_count:
            block[to_numpy(values.is_null())] = np.nan
        start += column.width
    if not np.isfinite(matrix).all():
        _check_infinite(matrix, columns, row_numbers, where)
    return matrix


def _check_infinite(
    matrix: NDArray[np.float64],
    columns: Sequence[Column],
    row_numbers: NDArray[np.int64],
    where: str,
) -> None:
    is_infinite = np.isinf(matrix)
    if is_infinite.any():
        row, number = np.argwhere(is_infinite)[0]
        widths = [column.width for column in columns]
        raise InputError(
            f"column {column_at(columns, widths, number).name!r} has an infinite value in row "
            f"{row_numbers[row] + 1} of {where}; "
            f"replace it, or take the row or the column out"
        )


def column_at(columns: Sequence[Column], widths: Sequence[int], number: int) -> Column:
    """The column that has this number of a row, in which each has as many as its width says."""
    return columns[int(np.cumsum(widths).searchsorted(number, side="right"))]


def _seconds_or_numbers(values: Any) -> NDArray[Any]:
    """Scalars as numbers or seconds; a null becomes NaN."""
    type_ = values.type
    if types.is_null(type_):
        return np.full(len(values), np.nan)
    if types.is_boolean(type_):
        return to_numpy(values.cast(pa.uint8()))
    if types.is_decimal(type_):
        # By way of text each becomes the nearest number; pyarrow's own cast is off by a bit, often.
        return to_numpy(values.cast(pa.string()).cast(pa.float64()))
    if types.is_date32(type_):
        return to_numpy(values.cast(pa.int32())) * float(DAY)
    if types.is_date64(type_):
        return to_numpy(values.cast(pa.int64())) / UNITS["ms"]
    if types.is_timestamp(type_) or types.is_time(type_) or types.is_duration(type_):
        integer = pa.int32() if type_.bit_width == 32 else pa.int64()
        return to_numpy(values.cast(integer)) / UNITS[type_.unit]
    return to_numpy(values)


def to_numpy(values: Any) -> NDArray[Any]:
    """A pyarrow array in numpy's type for it; a null becomes NaN."""
    return np.asarray(values.to_numpy(zero_copy_only=False))


class Flaw(NamedTuple):
    """A value that cannot be used: its row in the array, and what it is."""

    row: int
    what: Literal["a null", "a NaN", "an infinite value"]


def first_flaw(values: Any) -> Flaw | None:
    """The first null, NaN or infinite value of a pyarrow array of scalars."""
    is_null = to_numpy(values.is_null()) if values.null_count else np.zeros(len(values), np.bool_)
    is_bad = is_null
    if types.is_floating(values.type):
        numbers = to_numpy(values)
        is_bad = ~np.isfinite(numbers)
    if not is_bad.any():
        return None
    row = int(is_bad.argmax())
    if is_null[row]:
        return Flaw(row, "a null")
    return Flaw(row, "a NaN" if np.isnan(numbers[row]) else "an infinite value")
