"""Values that can be targets: which compare with which, and how text and JSON have them."""

import re
from collections.abc import Callable
from contextlib import suppress
from typing import Any, NamedTuple

import pyarrow as pa

from dist_dnn.data.numbers import first_flaw, in_one, to_numpy
from dist_dnn.data.sources import type_name
from dist_dnn.errors import InputError

types: Any = pa.types


def comparable_type(type_: Any) -> Any:
    """A type with the same values that pyarrow can sort and look up."""
    if types.is_dictionary(type_):
        return comparable_type(type_.value_type)
    if types.is_float16(type_):
        return pa.float32()
    if types.is_decimal(type_) and type_.bit_width < 128:
        return pa.decimal128(type_.precision, type_.scale)
    return type_


def comparable(values: Any) -> Any:
    """The values of an array, or chunked array, in their ``comparable_type``: an array."""
    values = in_one(values)
    if types.is_dictionary(values.type):
        values = values.dictionary_decode()
    type_ = comparable_type(values.type)
    return values if values.type == type_ else values.cast(type_)


def with_one_zero(values: Any) -> Any:
    """To pyarrow, 0.0 and −0.0 would be two classes."""
    return pa.array(to_numpy(values) + 0.0) if types.is_floating(values.type) else values


def of_one_type(values: Any, classes: Any) -> tuple[Any, Any]:
    """Both as the type of one of them, whichever can hold the other's values.

    Raises:
        pa.ArrowInvalid: neither can.
    """
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


def texts(values: Any) -> list[str]:
    """Different text for different values: ``false``, ``1.5``, ``2024-12-31 23:59:59Z``."""
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


def _from_texts(written: list[str], type_: Any) -> Any:
    return pa.array(written, pa.string()).cast(type_)


def _hexadecimals(values: Any) -> list[str]:
    return [value.hex() for value in values.to_pylist()]


def _from_hexadecimals(written: list[str], type_: Any) -> Any:
    return pa.array([bytes.fromhex(text) for text in written], type_)


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
    "decimal": _Family(types.is_decimal, str, texts, _from_texts),
    "text": _Family(_is_text, str, _values, pa.array),
    "bytes": _Family(_is_bytes, str, _hexadecimals, _from_hexadecimals),
    "date": _Family(types.is_date, str, texts, _from_texts),
    "time": _Family(types.is_time, int, _counts, _from_counts),
    "duration": _Family(types.is_duration, int, _counts, _from_counts),
    "local time": _Family(_is_local, str, texts, _from_texts),
    "instant": _Family(_is_instant, str, texts, _from_texts),
}

NUMBERS = {"integer", "floating", "decimal"}
"""These families can be compared with each other, too."""


def family_of(type_: Any) -> str:
    """The name of the family that a type belongs to; empty where it cannot be a target."""
    return next((name for name, family in FAMILIES.items() if family.has(type_)), "")


def classes_to_json(classes: Any, type_: Any) -> list[Any]:
    """Classes of a target's type as JSON has them."""
    return FAMILIES[family_of(type_)].write(classes)


def classes_from_json(values: list[Any], type_: Any) -> Any:
    """The classes of ``classes_to_json``.

    Raises:
        InputError: they are not of that type, finite, and in ascending order.
    """
    family = FAMILIES[family_of(type_)]
    if any(type(value) is not family.json_type for value in values):
        raise InputError(f"its classes are not all of type {type_name(type_)}")
    try:
        classes = family.read(values, comparable_type(type_))
        is_ascending = classes.equals(classes.unique().sort())
    except (pa.ArrowException, ValueError, OverflowError) as error:
        reason = " ".join(str(error).split())
        raise InputError(f"its classes are not all of type {type_name(type_)}: {reason}") from None
    if first_flaw(classes) is not None or not is_ascending:
        raise InputError("its classes are not finite and in ascending order")
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


def type_named(name: object) -> Any:
    """The type that pyarrow writes so.

    Raises:
        InputError: there is none.
    """
    text = str(name)
    if text in PLAIN_TYPES:
        return PLAIN_TYPES[text]
    for pattern, make in TYPES_WITH_ARGUMENTS.items():
        found = re.fullmatch(pattern, text)
        if found:
            with suppress(pa.ArrowException, ValueError, OverflowError, AttributeError):
                return make(*found.groups())
    raise InputError(f"its target is of the unknown type {text!r}")
