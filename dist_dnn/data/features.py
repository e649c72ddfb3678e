"""The columns that fill X: which, checked how, standardised how."""

import difflib
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, get_args

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from dist_dnn.data.sources import type_name
from dist_dnn.errors import InputError

SLAB_NUMBERS = 2**15
"""So many numbers, which fit in a core's cache, are standardised at a time."""

Kind = Literal["boolean", "integer", "floating"]


class Column(NamedTuple):
    """A column of a table that fills ``width`` rows of X with numbers of one kind."""

    name: str
    width: int
    kind: Kind


def choose_columns(
    schema: pa.Schema,
    target: str,
    requested: Sequence[str] | None = None,
    where: str = "the data",
) -> tuple[Column, ...]:
    """The features of a table, in the order requested, or all but the target in its own order.

    Raises:
        InputError: one is missing, asked for twice, the target, or of no usable type; or none
            is left.
    """
    if requested is None:
        requested = [name for name in schema.names if name != target]
    if not requested:
        raise InputError(
            f"there is no feature beside the target {target!r}; give one at least with --features"
        )
    columns: dict[str, Column] = {}
    for name in requested:
        if name == target:
            raise InputError(
                f"the target {name!r} is among the features; take it out of --features"
            )
        if name in columns:
            raise InputError(f"--features has {name!r} more than once; leave one of them")
        column = _column(schema, name, where)
        if column is None:
            raise InputError(
                f"column {name!r} of {where} has type {type_name(schema.field(name).type)}; "
                f"features are numbers, booleans and fixed-size lists of them: "
                f"leave it out with --features"
            )
        columns[name] = column
    return tuple(columns.values())


def _column(schema: pa.Schema, name: str, where: str) -> Column | None:
    """The column as a feature; None where its type cannot be one."""
    if schema.get_field_index(name) < 0:
        raise missing_column(schema, name, where)
    element: Any = schema.field(name).type
    width = 1
    if pa.types.is_fixed_size_list(element):
        width, element = element.list_size, element.value_type
    kind = _kind_of(element)
    return Column(name, width, kind) if width and kind else None


def _kind_of(element: pa.DataType) -> Kind | None:
    if pa.types.is_boolean(element):
        return "boolean"
    if pa.types.is_integer(element):
        return "integer"
    return "floating" if pa.types.is_floating(element) else None


def missing_column(schema: pa.Schema, name: str, where: str) -> InputError:
    """The error for a column that is not there, with the name that may have been meant."""
    close = difflib.get_close_matches(name, schema.names, n=1)
    if close:
        return InputError(f"{where} has no column {name!r}; did you mean {close[0]!r}?")
    names = ", ".join(repr(name) for name in schema.names[:10])
    rest = ", …" if len(schema.names) > 10 else ""
    return InputError(f"{where} has no column {name!r}; its columns are {names}{rest}")


def to_matrix(
    batch: pa.RecordBatch,
    columns: Sequence[Column],
    row_numbers: NDArray[np.int64],
    where: str,
) -> NDArray[np.float64]:
    """The columns side by side as float64 (rows, n), C-contiguous.

    Args:
        row_numbers: (rows,), counted from 0 in the whole source, for messages.
        where: what messages call the source.

    Raises:
        InputError: a null, NaN or infinite value; of several the one in the first row, in the
            first column there.
    """
    matrix = np.empty((batch.num_rows, sum(column.width for column in columns)))
    flaws = []
    start = 0
    for column in columns:
        values: Any = batch.column(column.name)
        stop = start + column.width
        if flaw := first_flaw(values):
            flaws.append((flaw.row, column.name, flaw.what))
        elif pa.types.is_fixed_size_list(values.type):
            matrix[:, start:stop] = to_numpy(values.flatten()).reshape(-1, column.width)
        else:
            matrix[:, start] = to_numpy(values)
        start = stop
    if flaws:
        row, name, what = min(flaws, key=lambda flaw: flaw[0])  # the first of equals
        raise InputError(
            f"column {name!r} has {what} in row {row_numbers[row] + 1} of {where}; "
            f"replace it, or take the row or the column out"
        )
    return matrix


def to_numpy(values: Any) -> NDArray[Any]:
    """A pyarrow array in numpy's type for it; a null becomes NaN."""
    return np.asarray(values.to_numpy(zero_copy_only=False))


class Flaw(NamedTuple):
    """A value that cannot be used: its row in the array, and what it is."""

    row: int
    what: Literal["a null", "a NaN", "an infinite value"]


def first_flaw(values: Any) -> Flaw | None:
    """The first null, NaN or infinite value of a pyarrow array, in fixed-size lists too."""
    flaw = _first_flaw_of_scalars(values)
    if not pa.types.is_fixed_size_list(values.type):
        return flaw
    if flaw is not None:
        values = values.slice(0, flaw.row)  # flatten() leaves null lists out
    inner = _first_flaw_of_scalars(values.flatten())
    return flaw if inner is None else Flaw(inner.row // values.type.list_size, inner.what)


def _first_flaw_of_scalars(values: Any) -> Flaw | None:
    is_null = to_numpy(values.is_null()) if values.null_count else np.zeros(len(values), np.bool_)
    is_bad = is_null
    if pa.types.is_floating(values.type):
        numbers = to_numpy(values)
        is_bad = ~np.isfinite(numbers)
    if not is_bad.any():
        return None
    row = int(is_bad.argmax())
    if is_null[row]:
        return Flaw(row, "a null")
    return Flaw(row, "a NaN" if np.isnan(numbers[row]) else "an infinite value")


@dataclass(frozen=True, eq=False)
class Standardisation:
    """The mean and the population deviation of each of n numbers of a row, float64 (n,)."""

    mean: NDArray[np.float64]
    deviation: NDArray[np.float64]

    def apply(self, matrix: NDArray[np.float64], out: NDArray[np.float32]) -> None:
        """Write (x − mean) / deviation to ``out``, and 0 for a constant column.

        Args:
            matrix: (rows, n); it is used as working memory.
            out: (rows, n). What float32 cannot hold becomes infinite in it.
        """
        is_constant = self.deviation == 0
        divisor = np.where(is_constant, 1, self.deviation)
        rows = max(1, SLAB_NUMBERS // len(divisor))
        with np.errstate(over="ignore"):
            for first in range(0, len(matrix), rows):
                slab = matrix[first : first + rows]
                slab -= self.mean
                slab /= divisor
                slab[:, is_constant] = 0
                out[first : first + rows] = slab


@dataclass(frozen=True, eq=False)
class Features:
    """The columns that fill X, and how they are standardised; stored with the model.

    Raises:
        InputError: a mean or deviation that is not finite, as it is where values are too large
            for their squares to be added.
    """

    columns: tuple[Column, ...]
    standardisation: Standardisation

    def __post_init__(self) -> None:
        standardisation = self.standardisation
        finite = np.isfinite(standardisation.mean) & np.isfinite(standardisation.deviation)
        if not finite.all():
            name = self._column_at(int(finite.argmin())).name
            raise InputError(
                f"the values of column {name!r} are too large to standardise; "
                f"scale them, or choose other columns with --features"
            )

    @property
    def size(self) -> int:
        """n[0]."""
        return sum(column.width for column in self.columns)

    def fill(
        self,
        batch: pa.RecordBatch,
        row_numbers: NDArray[np.int64],
        where: str,
        out: NDArray[np.float32],
    ) -> None:
        """Write the standardised columns of a batch to ``out`` (rows, n[0]); see ``to_matrix``.

        Raises:
            InputError: a value that cannot be used, or is too large when standardised.
        """
        self.standardisation.apply(to_matrix(batch, self.columns, row_numbers, where), out)
        finite = np.isfinite(out)
        if not finite.all():
            row, number = np.argwhere(~finite)[0]
            raise InputError(
                f"column {self._column_at(number).name!r} has a value in row "
                f"{row_numbers[row] + 1} of {where} that is too far from those trained on to "
                f"compute with; correct it or take the row out"
            )

    def check_schema(self, schema: pa.Schema, name: str) -> None:
        """Check that another table has the columns.

        Raises:
            InputError: one is missing, of another width, or of no usable type.
        """
        for column in self.columns:
            found = _column(schema, column.name, name)
            if found is None or found.width != column.width:
                has = type_name(schema.field(column.name).type)
                raise InputError(
                    f"column {column.name!r} of {name} has type {has}, but the model was trained "
                    f"with {column.width} {column.kind} value(s) a row there; give such data"
                )

    def to_json(self) -> dict[str, Any]:
        return {
            "columns": [column._asdict() for column in self.columns],
            "mean": self.standardisation.mean.tolist(),
            "deviation": self.standardisation.deviation.tolist(),
        }

    @classmethod
    def from_json(cls, value: object) -> "Features":
        """The features of ``to_json``.

        Raises:
            InputError: it is not what ``to_json`` writes.
        """
        described = json_object(value, "features", {"columns", "mean", "deviation"})
        columns = tuple(_column_from_json(column) for column in json_list(described, "columns"))
        mean, deviation = (
            np.array([json_number(number, key) for number in json_list(described, key)])
            for key in ("mean", "deviation")
        )
        if not columns or len({column.name for column in columns}) < len(columns):
            raise InputError("its features have no columns, or one twice")
        if not len(mean) == len(deviation) == sum(column.width for column in columns):
            raise InputError("its features do not have one mean and one deviation for each number")
        if (deviation < 0).any():
            raise InputError("its features have a negative deviation")
        return cls(columns, Standardisation(mean, deviation))

    def _column_at(self, number: int) -> Column:
        """The column that fills this row of X."""
        ends = np.cumsum([column.width for column in self.columns])
        return self.columns[int(ends.searchsorted(number, side="right"))]


def _column_from_json(value: object) -> Column:
    described = json_object(value, "column", set(Column._fields))
    name, width, kind = described["name"], described["width"], described["kind"]
    if not isinstance(name, str) or type(width) is not int or width < 1:
        raise InputError(f"its column {name!r} has a name or a width that is none")
    if kind not in get_args(Kind):
        raise InputError(f"its column {name!r} is of the unknown kind {kind!r}")
    return Column(name, width, kind)


def json_object(value: object, what: str, keys: set[str]) -> Mapping[str, Any]:
    """A JSON object with exactly these keys.

    Raises:
        InputError: it is not one.
    """
    if not isinstance(value, dict) or set(value) != keys:
        raise InputError(f"its {what} is no JSON object of {', '.join(sorted(keys))}")
    return value


def json_list(described: Mapping[str, Any], key: str) -> list[Any]:
    """The list at ``key``.

    Raises:
        InputError: it is none.
    """
    values = described[key]
    if not isinstance(values, list):
        raise InputError(f"its {key!r} is no list")
    return values


def json_number(value: Any, what: str) -> float:
    """A finite number.

    Raises:
        InputError: it is none.
    """
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    if is_number and abs(value) <= sys.float_info.max:
        return float(value)
    raise InputError(f"its {what!r} has a value that is no finite number")
