"""The column that fills Y: its task, its classes, its unit."""

import re
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, get_args

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from dist_dnn.data.columns import missing_column
from dist_dnn.data.features import json_list, json_number, json_object
from dist_dnn.data.holdout import Rows
from dist_dnn.data.numbers import Flaw, first_flaw, to_numpy
from dist_dnn.data.sources import Source, type_name
from dist_dnn.errors import InputError

types: Any = pa.types

Task = Literal["binary", "multiclass", "regression"]

FEW_FLOATS = 20
"""A floating-point target of at most so many values, all integral, may be one of classes."""

MANY_INTEGERS = 100
"""An integer target of more values may be one of numbers."""

READ_ROWS = 2**18
"""The column is read by so many rows at a time."""


@dataclass(frozen=True, eq=False)
class Target:
    """What is predicted; stored with the model.

    Attributes:
        name: of the column.
        task: what kind of prediction.
        type: the pyarrow type of the column's values.
        classes: all classes in ascending order, a pyarrow array; None for regression.
        mean, deviation: of the training rows, for regression; 0 and 1 until they are known.
    """

    name: str
    task: Task
    type: Any
    classes: Any = None
    mean: float = 0.0
    deviation: float = 1.0

    @property
    def outputs(self) -> int:
        """n[L]."""
        return len(self.classes) if self.task == "multiclass" else 1

    def encode(self, values: Any, row_numbers: NDArray[np.int64], where: str) -> NDArray[Any]:
        """The column, a pyarrow array, as numbers (rows,).

        Args:
            row_numbers: (rows,), counted from 0 in the whole source, for messages.
            where: what messages call the source.

        Returns:
            int64 places in ``classes``, or for regression float64 (y − mean) / deviation, which
            is 0 where the deviation is.

        Raises:
            InputError: a type that cannot be compared with the one trained on; a null, NaN or
                infinite value, or a class that training did not see: the first of them.
        """
        values = _comparable(values)
        self._check_type(values.type, where)
        flaw = first_flaw(values)
        sound = _with_one_zero(values if flaw is None else values.slice(0, flaw.row))
        encoded: NDArray[Any]
        if self.classes is not None:
            encoded = self._places(sound, row_numbers, where)
        else:
            numbers = to_numpy(sound).astype(np.float64)
            encoded = (numbers - self.mean) / (self.deviation or 1.0)
        if flaw is not None:
            raise _flawed(self.name, flaw, row_numbers, where)
        return encoded

    def decode(self, values: NDArray[Any]) -> Any:
        """The opposite of ``encode``: a pyarrow array (rows,) of predictions.

        Args:
            values: places in ``classes`` (rows,), or for regression the network's outputs.

        Returns:
            Values of the target's type; but for regression to integers or decimals float64.
        """
        if self.classes is not None:
            return self.classes.take(pa.array(values.astype(np.int64))).cast(self.type)
        numbers = values.astype(np.float64) * self.deviation + self.mean
        size = self.type.bit_width // 8 if types.is_floating(self.type) else 8
        return pa.array(numbers.astype(f"f{size}"))

    def class_names(self) -> list[str]:
        """The classes as text, each different: ``false``, ``1.5``, ``2024-12-31 23:59:59Z``."""
        return _texts(self.classes)

    def to_json(self) -> dict[str, Any]:
        classes = self.classes
        return {
            "name": self.name,
            "task": self.task,
            "type": str(self.type),
            "classes": None if classes is None else FAMILIES[_family(self.type)].write(classes),
            "mean": self.mean,
            "deviation": self.deviation,
        }

    @classmethod
    def from_json(cls, value: object) -> "Target":
        """The target of ``to_json``.

        Raises:
            InputError: it is not what ``to_json`` writes.
        """
        keys = {"name", "task", "type", "classes", "mean", "deviation"}
        described = json_object(value, "target", keys)
        name, task = described["name"], described["task"]
        if not isinstance(name, str) or task not in get_args(Task):
            raise InputError("its target has a name or a task that is none")
        type_ = _type_named(described["type"])
        if task != "regression":
            classes = _classes_from_json(json_list(described, "classes"), type_, task)
        elif described["classes"] is None and _family(type_) in NUMBERS:
            classes = None
        else:
            raise InputError("its target is regression, but not of numbers or with classes")
        mean, deviation = (json_number(described[key], key) for key in ("mean", "deviation"))
        if deviation < 0:
            raise InputError("its target has a negative deviation")
        return cls(name, task, type_, classes, mean, deviation)

    def _check_type(self, type_: pa.DataType, where: str) -> None:
        """Values can be compared with those trained on; nulls are another error."""
        families = {_family(type_), _family(self.type)}
        if len(families) > 1 and not families <= NUMBERS and not types.is_null(type_):
            raise self._mismatch(type_, where)

    def _mismatch(self, type_: pa.DataType, where: str) -> InputError:
        return InputError(
            f"column {self.name!r} of {where} has type {type_name(type_)}, but the model was "
            f"trained on {type_name(self.type)}; give data of that type"
        )

    def _places(self, values: Any, row_numbers: NDArray[np.int64], where: str) -> NDArray[np.int64]:
        """The place of each value among the classes."""
        import pyarrow.compute as pc

        try:
            places: Any = pc.index_in(*_of_one_type(values, self.classes))
        except pa.ArrowInvalid:
            raise self._mismatch(values.type, where) from None
        unseen = to_numpy(places.is_null())
        if unseen.any():
            row = int(unseen.argmax())
            [text] = _texts(values.slice(row, 1))
            raise InputError(
                f"column {self.name!r} has the class {text!r} in row {row_numbers[row] + 1} of "
                f"{where}, which training did not see; take such rows out, or train with some"
            )
        return to_numpy(places).astype(np.int64)


def read_target(
    source: Source,
    name: str,
    task: Literal["auto"] | Task = "auto",
    rows: Rows | None = None,
) -> Target:
    """Read the column through, and decide on its task and classes.

    Args:
        rows: the training rows, which alone are looked at; None stands for all.

    Raises:
        InputError: the column is missing, of a type that cannot be predicted, or does not suit
            the task; "auto" cannot decide; a null, NaN or infinite value.
    """
    if name not in source.schema.names:
        raise missing_column(source.schema, name, source.name)
    if rows is not None and rows.count == 0:
        raise InputError(f"{source.name} has no rows left to train on; hold out fewer")
    where = f"column {name!r} of {source.name}"
    type_: Any = source.schema.field(name).type
    type_ = type_.value_type if types.is_dictionary(type_) else type_
    family = _family(type_)
    if not family and not types.is_null(type_):
        raise InputError(
            f"{where} has type {type_name(type_)}, which cannot be a target; "
            f"give one of numbers, booleans, text, dates or times"
        )
    if task == "regression" and family not in NUMBERS:
        raise InputError(
            f"{where} has type {type_name(type_)}, but --task regression needs numbers; "
            f"leave --task out for classes"
        )
    distinct = _distinct(source, name, type_, rows, _limit(task, family))
    if task == "auto":
        task = _decide(where, family, distinct)
    if task == "regression":
        return Target(name, task, type_)
    return _checked_classes(Target(name, task, type_, distinct.sort()), where)


# Choosing the task


def _limit(task: str, family: str) -> int | None:
    """How many distinct values matter; None for all."""
    if task == "regression":
        return 0
    if task == "auto" and family == "floating":
        return FEW_FLOATS
    return MANY_INTEGERS if task == "auto" and family in NUMBERS else None


def _distinct(source: Source, name: str, type_: Any, rows: Rows | None, limit: int | None) -> Any:
    """The distinct values of a column, all of them sound; None where they are more than limit."""
    distinct: Any = pa.array([], _comparable_type(type_))
    for values in _sound_values(source, name, rows):
        if distinct is not None:
            distinct = pa.chunked_array([distinct, values]).unique()
            if limit is not None and len(distinct) > limit:
                distinct = None
    return distinct


def _sound_values(source: Source, name: str, rows: Rows | None) -> Iterator[Any]:
    """The column by pieces, without nulls, NaN and infinite values."""
    start = 0
    for batch in source.batches([name], 0, source.rows, READ_ROWS):
        stop = start + batch.num_rows
        row_numbers = np.arange(start, stop)
        values = _comparable(batch.column(0))
        if rows is not None:
            mask = rows.mask(start, stop)
            row_numbers, values = row_numbers[mask], values.filter(pa.array(mask))
        flaw = first_flaw(values)
        if flaw is not None:
            raise _flawed(name, flaw, row_numbers, source.name)
        yield _with_one_zero(values)
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
            f"the classes of {where}, of type {type_name(target.type)}, cannot be stored exactly; "
            f"write them as text or as whole numbers"
        )
    return target


def _flawed(name: str, flaw: Flaw, row_numbers: NDArray[np.int64], where: str) -> InputError:
    return InputError(
        f"target column {name!r} has {flaw.what} in row {row_numbers[flaw.row] + 1} of {where}; "
        f"replace it or take the row out"
    )


# Values that can be sorted and compared


def _comparable_type(type_: Any) -> Any:
    """A type with the same values that pyarrow can sort and look up."""
    if types.is_dictionary(type_):
        return _comparable_type(type_.value_type)
    if types.is_float16(type_):
        return pa.float32()
    if types.is_decimal(type_) and type_.bit_width < 128:
        return pa.decimal128(type_.precision, type_.scale)
    return type_


def _comparable(values: Any) -> Any:
    if types.is_dictionary(values.type):
        values = values.dictionary_decode()
    type_ = _comparable_type(values.type)
    return values if values.type == type_ else values.cast(type_)


def _with_one_zero(values: Any) -> Any:
    """To pyarrow, 0.0 and −0.0 would be two classes."""
    return pa.array(to_numpy(values) + 0.0) if types.is_floating(values.type) else values


def _of_one_type(values: Any, classes: Any) -> tuple[Any, Any]:
    """Both as the type of one of them, whichever can hold the other's values."""
    try:
        return values.cast(classes.type), classes
    except pa.ArrowInvalid:
        return values, classes.cast(values.type)


# Text and JSON


def _is_text(type_: Any) -> bool:
    return bool(types.is_string(type_) or types.is_large_string(type_))


def _is_bytes(type_: Any) -> bool:
    is_variable = types.is_binary(type_) or types.is_large_binary(type_)
    return bool(is_variable or types.is_fixed_size_binary(type_))


def _is_local(type_: Any) -> bool:
    return bool(types.is_timestamp(type_) and type_.tz is None)


def _is_instant(type_: Any) -> bool:
    return bool(types.is_timestamp(type_) and type_.tz is not None)


def _texts(values: Any) -> list[str]:
    """Different text for different values."""
    type_ = values.type
    if _is_bytes(type_):
        return _texts_of_bytes(values.to_pylist())
    if _is_instant(type_):
        values = values.cast(pa.timestamp(type_.unit, "UTC"))  # local time can occur twice
    return list(values.cast(pa.string()).to_pylist())


def _texts_of_bytes(values: list[bytes]) -> list[str]:
    try:
        return [value.decode() for value in values]
    except UnicodeDecodeError:
        return [value.hex() for value in values]


def _values(values: Any) -> list[Any]:
    return list(values.to_pylist())


def _from_texts(texts: list[str], type_: Any) -> Any:
    return pa.array(texts, pa.string()).cast(type_)


def _hexadecimals(values: Any) -> list[str]:
    return [value.hex() for value in values.to_pylist()]


def _from_hexadecimals(texts: list[str], type_: Any) -> Any:
    return pa.array([bytes.fromhex(text) for text in texts], type_)


def _counts(values: Any) -> list[int]:
    """In the unit of the type, since pyarrow reads no time or duration from text."""
    return list(values.view(_integer_of(values.type)).to_pylist())


def _from_counts(counts: list[int], type_: Any) -> Any:
    return pa.array(counts, _integer_of(type_)).view(type_)


def _integer_of(type_: Any) -> Any:
    return pa.int32() if type_.bit_width == 32 else pa.int64()


class _Family(NamedTuple):
    """Types whose values can be compared, and how these are stored: as JSON of one Python type."""

    has: Callable[[Any], bool]
    json_type: type
    write: Callable[[Any], list[Any]]
    read: Callable[[list[Any], Any], Any]


FAMILIES = {
    "boolean": _Family(types.is_boolean, bool, _values, pa.array),
    "integer": _Family(types.is_integer, int, _values, pa.array),
    "floating": _Family(types.is_floating, float, _values, pa.array),
    "decimal": _Family(types.is_decimal, str, _texts, _from_texts),
    "text": _Family(_is_text, str, _values, pa.array),
    "bytes": _Family(_is_bytes, str, _hexadecimals, _from_hexadecimals),
    "date": _Family(types.is_date, str, _texts, _from_texts),
    "time": _Family(types.is_time, int, _counts, _from_counts),
    "duration": _Family(types.is_duration, int, _counts, _from_counts),
    "local time": _Family(_is_local, str, _texts, _from_texts),
    "instant": _Family(_is_instant, str, _texts, _from_texts),
}

NUMBERS = {"integer", "floating", "decimal"}
"""These families can be compared with each other, too."""


def _family(type_: Any) -> str:
    """The name of the family that a type belongs to; empty where it cannot be a target."""
    return next((name for name, family in FAMILIES.items() if family.has(type_)), "")


def _classes_from_json(values: list[Any], type_: Any, task: str) -> Any:
    family = FAMILIES[_family(type_)]
    if any(type(value) is not family.json_type for value in values):
        raise InputError(f"its classes are not all of type {type_name(type_)}")
    try:
        classes = family.read(values, _comparable_type(type_))
        is_ascending = classes.equals(classes.unique().sort())
    except (pa.ArrowException, ValueError, OverflowError) as error:
        reason = " ".join(str(error).split())
        raise InputError(f"its classes are not all of type {type_name(type_)}: {reason}") from None
    if first_flaw(classes) is not None or not is_ascending:
        raise InputError("its classes are not finite and in ascending order")
    if len(classes) < 2 or (task == "binary" and len(classes) > 2):
        raise InputError(f"its number of classes, {len(classes)}, does not suit the task {task}")
    return classes


PLAIN_TYPES = {
    str(type_): type_
    for type_ in (
        *(pa.bool_(), pa.float16(), pa.float32(), pa.float64()),
        *(pa.int8(), pa.int16(), pa.int32(), pa.int64()),
        *(pa.uint8(), pa.uint16(), pa.uint32(), pa.uint64()),
        *(pa.string(), pa.large_string(), pa.binary(), pa.large_binary()),
        *(pa.date32(), pa.date64()),
        *(pa.time32("s"), pa.time32("ms"), pa.time64("us"), pa.time64("ns")),
        *(pa.timestamp(unit) for unit in ("s", "ms", "us", "ns")),
        *(pa.duration(unit) for unit in ("s", "ms", "us", "ns")),
    )
}

TYPES_WITH_ARGUMENTS: dict[str, Callable[..., Any]] = {
    r"timestamp\[(s|ms|us|ns), tz=([^\]]+)\]": pa.timestamp,
    r"fixed_size_binary\[(\d+)\]": lambda width: pa.binary(int(width)),
    r"(decimal(?:32|64|128|256))\((\d+), (-?\d+)\)": lambda name, precision, scale: getattr(
        pa, name
    )(int(precision), int(scale)),
}


def _type_named(name: object) -> Any:
    """The type that pyarrow writes so."""
    text = str(name)
    if text in PLAIN_TYPES:
        return PLAIN_TYPES[text]
    for pattern, make in TYPES_WITH_ARGUMENTS.items():
        found = re.fullmatch(pattern, text)
        if found:
            with suppress(pa.ArrowException, ValueError, OverflowError, AttributeError):
                return make(*found.groups())
    raise InputError(f"its target is of the unknown type {text!r}")
