"""The columns as they fill X, with what was measured of them; stored with the model."""

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple, get_args

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from dist_dnn.data.categories import Vocabulary
from dist_dnn.data.columns import Column, Kind, Treatment, column_of, is_like, missing_column
from dist_dnn.data.numbers import column_at, to_matrix
from dist_dnn.data.sources import type_name
from dist_dnn.errors import InputError

SLAB_NUMBERS = 2**15
"""So many numbers, which fit in a core's cache, are standardised at a time."""


@dataclass(frozen=True, eq=False)
class Standardisation:
    """The mean and the population deviation of each of n numbers of a row, float64 (n,)."""

    mean: NDArray[np.float64]
    deviation: NDArray[np.float64]

    def apply(
        self,
        matrix: NDArray[np.float64],
        out: NDArray[np.float32],
        moves: Sequence[tuple[slice, slice]] = ((slice(None), slice(None)),),
    ) -> None:
        """Write (x − mean) / deviation to ``out``, and 0 for a constant column.

        Args:
            matrix: (rows, n); it is used as working memory.
            out: (rows, n or more). What float32 cannot hold becomes infinite in it.
            moves: which numbers of a row go where in a row of ``out``.
        """
        is_constant = self.deviation == 0
        divisor = np.where(is_constant, 1, self.deviation)
        rows = max(1, SLAB_NUMBERS // max(1, len(divisor)))
        with np.errstate(over="ignore"):
            for first in range(0, len(matrix), rows):
                slab = matrix[first : first + rows]
                slab -= self.mean
                slab /= divisor
                slab[:, is_constant] = 0
                for numbers, places in moves:
                    out[first : first + rows, places] = slab[:, numbers]


class Layout(NamedTuple):
    """Where columns are in a row of X.

    Attributes:
        widths: how many rows of X each column fills.
        moves: which numbers of a row of ``to_matrix`` go where.
        indicators: where it is written which of these numbers are missing.
        categories: where the categories of which column are.
    """

    widths: list[int]
    moves: list[tuple[slice, slice]]
    indicators: list[tuple[int, int]]
    categories: list[tuple[slice, Column, Vocabulary]]


@dataclass(frozen=True, eq=False)
class Features:
    """The columns that fill X, and how: numbers are standardised, categories one row of X each.

    A missing number becomes the mean. Where training had some, there is an indicator: one more row
    of X for this number, after the numbers of its column, which is 1 where it is missing, else 0.

    Args:
        columns: in the order of X.
        standardisation: of the numbers of a row, those of the columns that are no categories.
        indicators: which of these numbers have one, ascending.
        vocabularies: of the columns of categories.

    Raises:
        InputError: a mean or deviation that is not finite, as it is where values are too large
            for their squares to be added.
    """

    columns: tuple[Column, ...]
    standardisation: Standardisation
    indicators: tuple[int, ...] = ()
    vocabularies: tuple[Vocabulary, ...] = ()

    def __post_init__(self) -> None:
        standardisation = self.standardisation
        finite = np.isfinite(standardisation.mean) & np.isfinite(standardisation.deviation)
        if not finite.all():
            widths = [column.width for column in self.number_columns]
            name = column_at(self.number_columns, widths, int(finite.argmin())).name
            raise InputError(
                f"the values of column {name!r} are too large to standardise; "
                f"scale them, or leave the column out with --exclude"
            )

    @cached_property
    def number_columns(self) -> tuple[Column, ...]:
        """The columns that are no categories."""
        return tuple(column for column in self.columns if not column.is_category)

    @cached_property
    def category_columns(self) -> tuple[Column, ...]:
        """The columns of categories."""
        return tuple(column for column in self.columns if column.is_category)

    @cached_property
    def size(self) -> int:
        """n[0]."""
        return sum(self.layout.widths)

    @cached_property
    def layout(self) -> Layout:
        """Where everything is in a row of X."""
        layout = Layout([], [], [], [])
        vocabularies = iter(self.vocabularies)
        start = number = 0
        for column in self.columns:
            if column.is_category:
                vocabulary = next(vocabularies)
                width = vocabulary.width
                layout.categories.append((slice(start, start + width), column, vocabulary))
            else:
                stop = number + column.width
                _add_move(layout.moves, number, start, column.width)
                own = [each for each in self.indicators if number <= each < stop]
                first = start + column.width
                layout.indicators.extend((first + place, each) for place, each in enumerate(own))
                width, number = column.width + len(own), stop
            layout.widths.append(width)
            start += width
        return layout

    def fill(
        self,
        batch: pa.RecordBatch,
        row_numbers: NDArray[np.int64],
        where: str,
        out: NDArray[np.float32],
    ) -> None:
        """Write the columns of a batch to ``out`` (rows, n[0]) as X has them; see ``to_matrix``.

        Raises:
            InputError: a value that cannot be used, or is too large when standardised.
        """
        layout = self.layout
        matrix = to_matrix(batch, self.number_columns, row_numbers, where)
        missing = np.isnan(matrix)
        if missing.any():
            np.copyto(matrix, self.standardisation.mean, where=missing)
        self._applied.apply(matrix, out, layout.moves)
        for place, number in layout.indicators:
            out[:, place] = missing[:, number]
        for places, column, vocabulary in layout.categories:
            vocabulary.fill(batch.column(column.name), out[:, places])
        if not all(np.isfinite(out[:, places]).all() for _, places in layout.moves):
            row, number = np.argwhere(~np.isfinite(out))[0]
            column = column_at(self.columns, layout.widths, int(number))
            raise InputError(
                f"column {column.name!r} has a value in row "
                f"{row_numbers[row] + 1} of {where} that is too far from those trained on to "
                f"compute with; correct it or take the row out"
            )

    @cached_property
    def _applied(self) -> Standardisation:
        """The standardisation that leaves what is passed through as it is."""
        is_plain = np.repeat(
            [column.treatment == "passthrough" for column in self.number_columns],
            [column.width for column in self.number_columns],
        ).astype(np.bool_)
        given = self.standardisation
        return Standardisation(
            np.where(is_plain, 0, given.mean), np.where(is_plain, 1, given.deviation)
        )

    def check_schema(self, schema: pa.Schema, name: str) -> None:
        """Check that another table has the columns.

        Raises:
            InputError: one is missing, of another width, or of no usable type.
        """
        for column in self.columns:
            if column.name not in schema.names:
                raise missing_column(schema, column.name, name)
            found = column_of(schema.field(column.name), column.is_category)
            if found is None or not is_like(found, column):
                has = type_name(schema.field(column.name).type)
                what = "category" if column.is_category else "value(s)"
                raise InputError(
                    f"column {column.name!r} of {name} has type {has}, but the model was trained "
                    f"with {column.width} {column.kind} {what} a row there; give such data"
                )

    def to_json(self) -> dict[str, Any]:
        return {
            "columns": self._columns_to_json(),
            "mean": self.standardisation.mean.tolist(),
            "deviation": self.standardisation.deviation.tolist(),
        }

    def _columns_to_json(self) -> list[dict[str, Any]]:
        """A column that is standardised has no more than its name, width and kind."""
        vocabularies = iter(self.vocabularies)
        number = 0
        described = []
        for column in self.columns:
            each = column._asdict()
            if column.treatment == "standardise":
                del each["treatment"]
            if column.is_category:
                vocabulary = next(vocabularies)
                each["categories"] = list(vocabulary.values)
                each["null"], each["other"] = vocabulary.has_null, vocabulary.has_other
            else:
                own = range(number, number + column.width)
                if indicators := [place for place, n in enumerate(own) if n in self.indicators]:
                    each["indicators"] = indicators
                number += column.width
            described.append(each)
        return described

    @classmethod
    def from_json(cls, value: object) -> "Features":
        """The features of ``to_json``.

        Raises:
            InputError: it is not what ``to_json`` writes.
        """
        described = json_object(value, "features", {"columns", "mean", "deviation"})
        read = [_column_from_json(column) for column in json_list(described, "columns")]
        columns = tuple(column for column, _, _ in read)
        mean, deviation = (
            np.array([json_number(number, key) for number in json_list(described, key)])
            for key in ("mean", "deviation")
        )
        if not columns or len({column.name for column in columns}) < len(columns):
            raise InputError("its features have no columns, or one twice")
        width = sum(column.width for column in columns if not column.is_category)
        if not len(mean) == len(deviation) == width:
            raise InputError("its features do not have one mean and one deviation for each number")
        if (deviation < 0).any():
            raise InputError("its features have a negative deviation")
        indicators: list[int] = []
        number = 0
        for column, own, _ in read:
            indicators += [number + place for place in own]
            number += 0 if column.is_category else column.width
        vocabularies = tuple(vocabulary for _, _, vocabulary in read if vocabulary is not None)
        return cls(columns, Standardisation(mean, deviation), tuple(indicators), vocabularies)


def _add_move(moves: list[tuple[slice, slice]], number: int, place: int, width: int) -> None:
    """Add to what goes where; what follows the last in both is one with it."""
    if moves and (moves[-1][0].stop, moves[-1][1].stop) == (number, place):
        number, place, width = (
            moves[-1][0].start,
            moves[-1][1].start,
            width + moves[-1][0].stop - moves[-1][0].start,
        )
        moves.pop()
    moves.append((slice(number, number + width), slice(place, place + width)))


ColumnRead = tuple[Column, list[int], Vocabulary | None]
"""A column, which of its own numbers have indicators, and its categories."""


def _column_from_json(value: object) -> ColumnRead:
    keys = {"name", "width", "kind"}
    extra = {"treatment": "standardise", "indicators": []}
    if isinstance(value, dict):
        if value.get("treatment") == "category":
            extra = {"treatment": "category"}
            keys |= {"categories", "null", "other"}
        value = extra | value
    described = json_object(value, "column", keys | set(extra))
    name, width, kind, treatment = (described[key] for key in Column._fields)
    if not isinstance(name, str) or type(width) is not int or width < 1:
        raise InputError(f"its column {name!r} has a name or a width that is none")
    for what, each, known in (("kind", kind, Kind), ("treatment", treatment, Treatment)):
        if each not in get_args(known):
            raise InputError(f"its column {name!r} is of the unknown {what} {each!r}")
    column = Column(name, width, kind, treatment)
    if column.is_category:
        return column, [], _vocabulary_from_json(column, described)
    own = json_list(described, "indicators")
    if any(type(place) is not int or not 0 <= place < width for place in own):
        raise InputError(f"its column {name!r} has indicators of numbers that it does not have")
    if own != sorted(set(own)):
        raise InputError(f"its column {name!r} has indicators that do not ascend")
    return column, own, None


def _vocabulary_from_json(column: Column, described: Mapping[str, Any]) -> Vocabulary:
    values = json_list(described, "categories")
    null, other = described["null"], described["other"]
    if not all(isinstance(value, str) for value in values) or len(set(values)) < len(values):
        raise InputError(f"the categories of its column {column.name!r} are no different texts")
    if not isinstance(null, bool) or not isinstance(other, bool):
        raise InputError(f"its column {column.name!r} has a null or other that is no true or false")
    vocabulary = Vocabulary(tuple(values), null, other)
    if column.width != 1 or vocabulary.width == 0:
        raise InputError(f"its column {column.name!r} has no categories, or more than one a row")
    return vocabulary


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
