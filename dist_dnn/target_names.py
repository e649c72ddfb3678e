"""The names of the columns to predict, as people and files give them, and as messages have them."""

from collections.abc import Sequence
from typing import Any

from dist_dnn.errors import InputError


def target_names(given: Any, where: str = "") -> tuple[str, ...]:
    """The names of the columns: a text is one, whatever it contains; a list has several.

    Args:
        where: what messages begin with.

    Raises:
        InputError: it is neither, or a name occurs twice.
    """
    names = (given,) if isinstance(given, str) else given
    is_list = isinstance(names, list | tuple) and len(names) > 0
    if not is_list or not all(isinstance(name, str) and name for name in names):
        raise InputError(
            f"{where}target must be the name of a column, or a list of such names, not {given!r}"
        )
    for position, name in enumerate(names):
        if name in names[:position]:
            raise InputError(f"{where}target has {name!r} more than once; leave one of them")
    return tuple(names)


def as_given(names: Sequence[str]) -> str | list[str]:
    """What ``target_names`` makes the names from, as TOML and JSON can say it."""
    return names[0] if len(names) == 1 else list(names)


def named(names: Sequence[str]) -> str:
    """The columns as messages name them: target 'a', or targets 'a', 'b'."""
    return f"target{'s' if len(names) > 1 else ''} {', '.join(map(repr, names))}"
