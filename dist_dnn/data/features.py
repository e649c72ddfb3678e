"""The columns as they fill X, with what was measured of them; stored with the model."""

import sys
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple, get_args

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from dist_dnn.data.categories import Vocabulary
from dist_dnn.data.columns import Column, Kind, Treatment, column_of, is_like, missing_column
from dist_dnn.data.numbers import Numbers, check_finite, column_at
from dist_dnn.data.sources import type_name
from dist_dnn.errors import InputError

LARGEST = float(np.finfo(np.float32).max)
"""The largest number of float32."""


@dataclass(frozen=True, eq=False)
class Standardisation:
    """The mean and the population deviation of each of n numbers of a row, float64 (n,)."""

    mean: NDArray[np.float64]
    deviation: NDArray[np.float64]

    def apply(
        self, numbers: Numbers, out: NDArray[np.float32], missing: NDArray[np.float64] | float = 0
    ) -> bool:
        """Write (x − mean) / deviation to ``out``, and 0 for a constant number.

        Args:
            numbers: of rows that have n each.
            out: (rows,) where n is 1, or (rows, n). What float32 cannot hold becomes infinite.
            missing: what takes the place of a missing number, (n,).

        Returns:
            Whether all is finite.
        """
        is_constant = self.deviation == 0
        divisor = np.where(is_constant, 1, self.deviation)
        is_finite = True
        with np.errstate(over="ignore", invalid="ignore"):
            for slab in numbers.slabs():
                result = slab.values - self.mean
                result /= divisor
                if slab.is_null is not None or not _is_held(result):
                    np.copyto(result, missing, where=slab.missing())
                    if not _is_held(result):
                        is_held = (np.abs(result) <= LARGEST) | is_constant
                        is_finite &= bool(is_held.all()) and not slab.is_infinite()
                if is_constant.any():
                    np.copyto(result, 0, where=is_constant)
                out[slab.first : slab.first + len(result)] = result
        return is_finite


def _is_held(result: NDArray[np.float64]) -> bool:
    """Whether float32 surely holds all numbers, none of which is NaN; for most it does."""
    return bool(np.vdot(result, result) <= LARGEST)


class NumbersAt(NamedTuple):
    """Where a column of numbers is.

    Attributes:
        numbers: among the numbers of a row, each of which has a mean.
        places: in a row of X.
        indicators: (place in a row of X, which number of the column) of each.
    """

    column: Column
    numbers: slice
    places: slice
    indicators: tuple[tuple[int, int], ...]


class Layout(NamedTuple):
    """Where columns are in a row of X.

    Attributes:
        widths: how many rows of X each column fills.
        numbers: where the columns of numbers are.
        categories: where the categories of which column are.
    """

    widths: list[int]
    numbers: list[NumbersAt]
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
    def size(self) -> int:
        """n[0]."""
        return sum(self.layout.widths)

    @cached_property
    def layout(self) -> Layout:
        """Where everything is in a row of X."""
        layout = Layout([], [], [])
        vocabularies = iter(self.vocabularies)
        start = number = 0
        for column in self.columns:
            if column.is_category:
                vocabulary = next(vocabularies)
                width = vocabulary.width
                layout.categories.append((slice(start, start + width), column, vocabulary))
            else:
                own = slice(number, number + column.width)
                with_indicator = [each for each in self.indicators if number <= each < own.stop]
                places = slice(start, start + column.width)
                indicators = tuple(
                    (places.stop + place, each - number)
                    for place, each in enumerate(with_indicator)
                )
                layout.numbers.append(NumbersAt(column, own, places, indicators))
                width, number = column.width + len(indicators), own.stop
            layout.widths.append(width)
            start += width
        return layout

    def fill(
        self,
        rows: pa.RecordBatch | pa.Table,
        row_numbers: NDArray[np.int64],
        where: str,
        out: NDArray[np.float32],
        is_zero: bool = False,
    ) -> None:
        """Write the columns of some rows to ``out`` (rows, n[0]) as X has them.

        Args:
            row_numbers: (rows,), counted from 0 in the whole source, for messages.
            where: what messages call the source.
            is_zero: whether ``out`` is: most of what categories fill needs no touch then.

        Raises:
            InputError: an infinite value, or one that is too large when standardised; of several
                the one in the first row, in the first column there.
        """
        is_finite = True
        for at, (standardisation, missing) in zip(self.layout.numbers, self._applied, strict=True):
            numbers = Numbers(rows.column(at.column.name), at.column.width)
            places = at.places if at.column.width > 1 else at.places.start
            is_finite &= standardisation.apply(numbers, out[:, places], missing)
            if at.indicators:
                _fill_indicators(numbers, at, out)
        for places, column, vocabulary in self.layout.categories:
            if not is_zero:
                out[:, places] = 0
            vocabulary.fill(rows.column(column.name), out[:, places])
        if not is_finite:
            check_finite(rows, self.number_columns, row_numbers, where)
            row, number = np.argwhere(~np.isfinite(out))[0]
            column = column_at(self.columns, self.layout.widths, int(number))
            raise InputError(
                f"column {column.name!r} has a value in row "
                f"{row_numbers[row] + 1} of {where} that is too far from those trained on to "
                f"compute with; correct it or take the row out"
            )

    @cached_property
    def _applied(self) -> list[tuple[Standardisation, NDArray[np.float64]]]:
        """Of each column of numbers: how it is standardised, and what missing ones become.

        What is passed through is left as it is, and a missing number becomes the mean all the same.
        """
        applied = []
        for at in self.layout.numbers:
            mean = self.standardisation.mean[at.numbers]
            deviation = self.standardisation.deviation[at.numbers]
            if at.column.treatment == "passthrough":
                plain = Standardisation(np.zeros(len(mean)), np.ones(len(mean)))
                applied.append((plain, mean))
            else:
                applied.append((Standardisation(mean, deviation), np.zeros(len(mean))))
        return applied

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


def _fill_indicators(numbers: Numbers, at: NumbersAt, out: NDArray[np.float32]) -> None:
    """Write 1 where a number is missing that has an indicator, else 0."""
    for slab in numbers.slabs():
        missing = slab.missing().reshape(len(slab.values), -1)
        for place, number in at.indicators:
            out[slab.first : slab.first + len(missing), place] = missing[:, number]


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
