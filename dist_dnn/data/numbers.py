"""Columns of numbers: what is missing in them, and what cannot be used."""

from collections.abc import Iterator, Sequence
from typing import Any, Literal, NamedTuple

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from dist_dnn.data.columns import Column
from dist_dnn.errors import InputError

types: Any = pa.types

SLAB_NUMBERS = 2**15
"""So many numbers of a column, which fit in a core's cache, are computed with at a time; part of
the numerics, since a column's sum is that of its slabs' sums."""

DAY = 86_400
"""Seconds."""

UNITS = {"s": 1, "ms": 10**3, "us": 10**6, "ns": 10**9}
"""How many of each make a second."""


class Slab(NamedTuple):
    """Some rows of a column of numbers.

    Attributes:
        first: the first of them.
        values: float64 (rows,), or (rows, width) of lists of more than one number; not to be
            written. What is null is any number.
        is_null: of the same shape; None where nothing is null.
    """

    first: int
    values: NDArray[np.float64]
    is_null: NDArray[np.bool_] | None

    def missing(self) -> NDArray[np.bool_]:
        """What is null or NaN."""
        missing = np.isnan(self.values)
        return missing if self.is_null is None else missing | self.is_null

    def is_infinite(self) -> bool:
        """Whether a value is infinite."""
        return bool((np.isinf(self.values) & ~self.missing()).any())


class Numbers:
    """A column of numbers, of which float64 are read in place, and others by slabs.

    Dates and timestamps are seconds since the epoch, times seconds since midnight, durations
    seconds. Missing is what is null or NaN, and every number of a list that is null.

    Args:
        values: a pyarrow array, or chunked array; its chunks make no difference.
        width: how many numbers its lists have; 1 where there are none.
    """

    def __init__(self, values: Any, width: int = 1) -> None:
        self._rows = len(values)
        self._slab_rows = max(1, SLAB_NUMBERS // width)
        chunks = values.chunks if isinstance(values, pa.ChunkedArray) else [values]
        self._chunks = [_chunk(chunk) for chunk in chunks if len(chunk)]

    def slabs(self) -> Iterator[Slab]:
        """All rows, in order; all slabs but the last have as many."""
        for first in range(0, self._rows, self._slab_rows):
            yield self._slab(first, min(first + self._slab_rows, self._rows))

    def _slab(self, first: int, stop: int) -> Slab:
        parts, start = [], 0
        for chunk in self._chunks:
            if start < stop and first < start + len(chunk.values):
                rows = slice(max(first - start, 0), stop - start)
                parts.append(chunk.part(rows))
            start += len(chunk.values)
        whole = parts[0] if len(parts) == 1 else _joined(parts)
        return Slab(first, whole.values.astype(np.float64, copy=False), whole.is_null)


class _Chunk(NamedTuple):
    """Rows that lie behind one another, of any type of numbers."""

    values: NDArray[Any]
    is_null: NDArray[np.bool_] | None

    def part(self, rows: slice) -> "_Chunk":
        return _Chunk(self.values[rows], None if self.is_null is None else self.is_null[rows])


def _joined(parts: Sequence[_Chunk]) -> _Chunk:
    values = np.concatenate([part.values for part in parts])
    if all(part.is_null is None for part in parts):
        return _Chunk(values, None)
    nulls = [
        np.zeros(part.values.shape, np.bool_) if part.is_null is None else part.is_null
        for part in parts
    ]
    return _Chunk(values, np.concatenate(nulls))


def _chunk(values: Any) -> _Chunk:
    if not types.is_fixed_size_list(values.type):
        return _Chunk(_seconds_or_numbers(values), _nulls(values) if values.null_count else None)
    rows, width = len(values), values.type.list_size
    shape = (rows, width) if width > 1 else (rows,)
    inner = values.values.slice(values.offset * width, rows * width)
    is_null = _nulls(inner).reshape(shape) if inner.null_count else None
    if values.null_count:
        of_lists = np.repeat(_nulls(values), width).reshape(shape)
        is_null = of_lists if is_null is None else is_null | of_lists
    return _Chunk(_seconds_or_numbers(inner).reshape(shape), is_null)


def _nulls(values: Any) -> NDArray[np.bool_]:
    """Which values are null, of which there are some."""
    bits = values.buffers()[0]
    if bits is None:  # of the type null
        return np.ones(len(values), np.bool_)
    first, stop = values.offset, values.offset + len(values)
    packed = np.frombuffer(bits, np.uint8)[first // 8 : -(-stop // 8)]
    is_there = np.unpackbits(packed, bitorder="little")[first % 8 :][: len(values)]
    return ~is_there.view(np.bool_)


def check_finite(
    rows: pa.RecordBatch | pa.Table,
    columns: Sequence[Column],
    row_numbers: NDArray[np.int64],
    where: str,
) -> None:
    """Check that no number of some rows is infinite.

    Args:
        row_numbers: (rows,), counted from 0 in the whole source, for messages.
        where: what messages call the source.

    Raises:
        InputError: one is; of several the one in the first row, in the first column there.
    """
    found = []
    for place, column in enumerate(columns):
        for slab in Numbers(rows.column(column.name), column.width).slabs():
            if slab.is_infinite():
                is_infinite = np.isinf(slab.values) & ~slab.missing()
                row = np.argwhere(is_infinite)[0, 0]
                found.append((slab.first + int(row), place))
                break
    if found:
        row, place = min(found)
        raise InputError(
            f"column {columns[place].name!r} has an infinite value in row "
            f"{row_numbers[row] + 1} of {where}; "
            f"replace it, or take the row or the column out"
        )


def column_at(columns: Sequence[Column], widths: Sequence[int], number: int) -> Column:
    """The column that has this number of a row, in which each has as many as its width says."""
    return columns[int(np.cumsum(widths).searchsorted(number, side="right"))]


def _seconds_or_numbers(values: Any) -> NDArray[Any]:
    """Scalars as numbers or seconds; what is null becomes any number, or NaN."""
    type_ = values.type
    if types.is_null(type_):
        return np.full(len(values), np.nan)
    if types.is_boolean(type_):
        return _in_place(values.cast(pa.uint8()))
    if types.is_decimal(type_):
        # By way of text each becomes the nearest number; pyarrow's own cast is off by a bit, often.
        return _in_place(values.cast(pa.string()).cast(pa.float64()))
    if types.is_date32(type_):
        return _in_place(values.cast(pa.int32())) * float(DAY)
    if types.is_date64(type_):
        return _in_place(values.cast(pa.int64())) / UNITS["ms"]
    if types.is_timestamp(type_) or types.is_time(type_) or types.is_duration(type_):
        integer = pa.int32() if type_.bit_width == 32 else pa.int64()
        return _in_place(values.cast(integer)) / UNITS[type_.unit]
    return _in_place(values)


def _in_place(values: Any) -> NDArray[Any]:
    """Numbers where pyarrow has them; what is null is what happens to be there."""
    if not values.null_count:
        return to_numpy(values)
    dtype = np.dtype(values.type.to_pandas_dtype())
    place = values.offset * dtype.itemsize
    return np.frombuffer(values.buffers()[1], dtype, len(values), place)


def in_one(values: Any) -> Any:
    """A pyarrow array of one, or of a chunked array."""
    if not isinstance(values, pa.ChunkedArray):
        return values
    return values.chunk(0) if values.num_chunks == 1 else values.combine_chunks()


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
