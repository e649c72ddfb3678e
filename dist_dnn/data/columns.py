"""Which columns of a table fill X, and what becomes of each."""

import difflib
from collections.abc import Iterable, Sequence
from typing import Any, Literal, NamedTuple

import pyarrow as pa

from dist_dnn.data.sources import type_name
from dist_dnn.errors import InputError
from dist_dnn.target_names import named

types: Any = pa.types

Kind = Literal[
    "boolean",
    "integer",
    "floating",
    "decimal",
    "date",
    "timestamp",
    "time",
    "duration",
    "null",
    "text",
]

Treatment = Literal["standardise", "passthrough", "category"]

KINDS: dict[Kind, Any] = {
    "boolean": types.is_boolean,
    "integer": types.is_integer,
    "floating": types.is_floating,
    "decimal": types.is_decimal,
    "date": types.is_date,
    "timestamp": types.is_timestamp,
    "time": types.is_time,
    "duration": types.is_duration,
    "null": types.is_null,
    "text": lambda type_: types.is_string(type_) or types.is_large_string(type_),
}
"""What tells the types of each kind; string views have become strings already."""

CATEGORY_KINDS = ("text", "boolean", "integer", "floating", "date", "null")
"""Values of these kinds can be categories."""

ALIKE: tuple[set[str], ...] = (
    {"boolean", "integer", "floating", "decimal"},
    {"date", "timestamp"},
)
"""Numbers of these kinds stand for each other; so do categories of integer and floating."""


class Column(NamedTuple):
    """A column of a table that fills rows of X with values of one kind.

    Attributes:
        width: how many values it has in a row of the table: 1, or the length of its lists.
        treatment: "standardise" and "passthrough" are for numbers, "category" for what is not.
    """

    name: str
    width: int
    kind: Kind
    treatment: Treatment = "standardise"

    @property
    def is_category(self) -> bool:
        return self.treatment == "category"


def choose_columns(
    schema: pa.Schema,
    targets: tuple[str, ...],
    requested: Sequence[str] | None = None,
    where: str = "the data",
    exclude: Sequence[str] = (),
    categorical: Sequence[str] = (),
    passthrough: Sequence[str] = (),
) -> tuple[Column, ...]:
    """The features of a table, in the order requested, or all but the targets in its own order.

    Args:
        exclude: columns that are no features.
        categorical: features whose values are categories, though they are numbers.
        passthrough: features that are not standardised.

    Raises:
        InputError: one is missing, asked for twice, a target, or of no usable type; or none
            is left.
    """
    found = assess_columns(schema, targets, requested, where, exclude, categorical, passthrough)
    if not found:
        raise InputError(
            f"there is no feature beside the {named(targets)}; give one at least with --features"
        )
    for name, column in found.items():
        if column is None:
            raise unusable(schema.field(name), where, name in categorical, name in passthrough)
    return tuple(column for column in found.values() if column is not None)


def assess_columns(
    schema: pa.Schema,
    targets: tuple[str, ...],
    requested: Sequence[str] | None,
    where: str,
    exclude: Sequence[str],
    categorical: Sequence[str],
    passthrough: Sequence[str],
) -> dict[str, Column | None]:
    """The features by their names, as ``choose_columns`` has them; None for an unusable type.

    Raises:
        InputError: one is missing, asked for twice, or a target.
    """
    names = _chosen_names(schema, targets, requested, where, exclude)
    for flag, listed in (("--categorical", categorical), ("--passthrough", passthrough)):
        _check_features(schema, listed, flag, names, where)
    return {
        name: column_of(schema.field(name), name in categorical or None, name in passthrough)
        for name in names
    }


def _chosen_names(
    schema: pa.Schema,
    targets: tuple[str, ...],
    requested: Sequence[str] | None,
    where: str,
    exclude: Sequence[str],
) -> list[str]:
    """The names of the features, whatever their types."""
    for name in exclude:
        if name not in schema.names:
            raise missing_column(schema, name, where)
        if name in targets:
            raise InputError(
                f"the target {name!r} is no feature anyway; take it out of --exclude, "
                f"or choose another --target"
            )
    if requested is None:
        return [name for name in schema.names if name not in (*targets, *exclude)]
    for position, name in enumerate(requested):
        if name in targets:
            raise InputError(
                f"the target {name!r} is among the features; take it out of --features"
            )
        if name in requested[:position]:
            raise InputError(f"--features has {name!r} more than once; leave one of them")
        if name not in schema.names:
            raise missing_column(schema, name, where)
    return [name for name in requested if name not in exclude]


def _check_features(
    schema: pa.Schema, listed: Iterable[str], flag: str, names: Sequence[str], where: str
) -> None:
    """All that a flag lists are features."""
    for name in listed:
        if name not in schema.names:
            raise missing_column(schema, name, where)
        if name not in names:
            raise InputError(f"{flag} has {name!r}, which is no feature; take it out there")


def column_of(
    field: Any, categorical: bool | None = None, passthrough: bool = False
) -> Column | None:
    """What a column fills X with; None where its type does not allow it.

    Args:
        field: of the table's schema.
        categorical: whether values of a type that could be either are categories, not numbers;
            None: as the type has it by itself, booleans only.
        passthrough: whether it is numbers that are not standardised.
    """
    element, width = field.type, 1
    is_list = types.is_fixed_size_list(element)
    if is_list:
        width, element = element.list_size, element.value_type
    if types.is_dictionary(element):
        categorical, element = True, element.value_type
    kind = next((kind for kind, has in KINDS.items() if has(element)), None)
    if kind is None or width == 0:
        return None
    if categorical is None:
        categorical = kind == "boolean" and not is_list and not passthrough
    if not categorical and kind != "text":
        return Column(field.name, width, kind, "passthrough" if passthrough else "standardise")
    if kind not in CATEGORY_KINDS or is_list or passthrough:
        return None
    return Column(field.name, width, kind, "category")


def unusable(field: Any, where: str, categorical: bool, passthrough: bool) -> InputError:
    """The error for a column that can be no feature as it is asked for."""
    has = f"column {field.name!r} of {where} has type {type_name(field.type)}"
    if passthrough and column_of(field) is not None:
        return InputError(f"{has}, which is no number; take it out of --passthrough")
    if categorical and column_of(field) is not None:
        return InputError(
            f"{has}; categories are text, booleans, numbers and dates: take it out of --categorical"
        )
    return InputError(
        f"{has}; features are numbers, booleans, text, dates, times, dictionaries, and "
        f"fixed-size lists of numbers: leave it out with --exclude"
    )


def is_like(found: Column, trained: Column) -> bool:
    """Whether values of one column can stand for those of another that was trained on."""
    if (found.width, found.is_category) != (trained.width, trained.is_category):
        return False
    if "null" in (found.kind, trained.kind) or found.kind == trained.kind:
        return True
    kinds = {found.kind, trained.kind}
    if trained.is_category:
        return kinds == {"integer", "floating"}
    return any(kinds <= alike for alike in ALIKE)


def missing_column(schema: pa.Schema, name: str, where: str) -> InputError:
    """The error for a column that is not there, with the name that may have been meant."""
    close = difflib.get_close_matches(name, schema.names, n=1)
    if close:
        return InputError(f"{where} has no column {name!r}; did you mean {close[0]!r}?")
    names = ", ".join(repr(name) for name in schema.names[:10])
    rest = ", …" if len(schema.names) > 10 else ""
    return InputError(f"{where} has no column {name!r}; its columns are {names}{rest}")
