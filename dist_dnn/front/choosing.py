"""Which runs are shown, and in what order: keys and conditions as people type them."""

import argparse
import operator
import re
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass, fields
from typing import Any

from dist_dnn.hyperparameters import Hyperparameters, suggestion
from dist_dnn.run_states import STATES

Record = dict[str, Any]
"""A run as --json has it."""

KEYS = {
    "name": "the run's path below DIR",
    "location": "where it is, as messages say it",
    "state": f"one of {', '.join(STATES)}",
    "epoch": "epochs that are done",
    "epochs": "how many there are to be",
    "step": "steps that were done when it last wrote",
    "train_loss": "of the last epoch; so are the next four",
    "validation_loss": "",
    "validation_accuracy": "",
    "validation_rmse": "",
    "examples_per_second": "",
    "digest": "SHA-256 of the parameters after the last epoch",
    "started": "when; so do updated and ended",
    "updated": "",
    "ended": "",
    "age": "seconds since it last wrote",
    "backend": "local, ray or mpi",
    "workers": "how many it has, or had",
    "job": "of Ray or Slurm, if it is one's",
    "problem": "what is wrong, or why it failed",
    "hyperparameters": "an object: the target and all hyperparameters",
}
"""The keys of a run in --json, and what they mean."""

HEADINGS = {
    "run": "name",
    "train": "train_loss",
    "valid": "validation_loss",
    "accuracy": "validation_accuracy",
    "rmse": "validation_rmse",
    "examples/s": "examples_per_second",
}
"""The headings of the table that are no keys, with the keys that they stand for."""

SHOWN_DIGITS = 8
"""So many of a digest the table shows; --where takes as many, or more."""

_OPERATORS: dict[str, Callable[[float, float], bool]] = {
    "<=": operator.le,
    ">=": operator.ge,
    "<": operator.lt,
    ">": operator.gt,
}


@dataclass(frozen=True)
class Order:
    """How runs are sorted: by what, and whether the greatest comes first."""

    key: str
    is_descending: bool = False

    @classmethod
    def parse(cls, text: str) -> "Order":
        """From "accuracy" or "-accuracy"."""
        return cls(_key(text.removeprefix("-")), text.startswith("-"))

    def __call__(self, records: Iterable[Record]) -> list[Record]:
        """The runs in this order; those that have no such value come last."""
        given: list[Record] = []
        without: list[Record] = []
        for record in records:
            (without if value_of(record, self.key) is None else given).append(record)
        given.sort(key=self._place, reverse=self.is_descending)
        return given + without

    def _place(self, record: Record) -> tuple[bool, float, str]:
        """Numbers stand before texts."""
        value = value_of(record, self.key)
        return (False, value, "") if _is_number(value) else (True, 0.0, text_of(value))


@dataclass(frozen=True)
class Condition:
    """What a run must be like: a key, one of = != < <= > >=, and a value."""

    key: str
    sign: str
    value: str

    @classmethod
    def parse(cls, text: str) -> "Condition":
        """From a text like "validation_accuracy>0.9"."""
        found = re.fullmatch(r"\s*([\w/]+)\s*(!=|<=|>=|=|<|>)\s*(.*?)\s*", text)
        if found is None:
            raise argparse.ArgumentTypeError(
                f"must be like learning_rate=0.01 or 'accuracy>0.9', not {text!r}"
            )
        key, sign, value = found.groups()
        if sign in _OPERATORS and _number(value) is None:
            raise argparse.ArgumentTypeError(f"must have a number after {sign}, not {value!r}")
        return cls(_key(key), sign, value)

    def __call__(self, record: Record) -> bool:
        """Whether a run is so; numbers are compared as numbers, everything else as text.

        Of a digest, what the table shows of it is enough.
        """
        found, wanted = value_of(record, self.key), _number(self.value)
        if self.sign in _OPERATORS:
            assert wanted is not None
            return _is_number(found) and _OPERATORS[self.sign](found, wanted)
        is_same = text_of(found) == self.value
        if _is_number(found) and wanted is not None:
            is_same = found == wanted
        if self.key == "digest" and isinstance(found, str) and len(self.value) >= SHOWN_DIGITS:
            is_same = found.startswith(self.value)
        return is_same == (self.sign == "=")


def value_of(record: Record, key: str) -> Any:
    """A value of a run, or one of its hyperparameters; None where it has none."""
    return record[key] if key in record else record["hyperparameters"].get(key)


def text_of(value: Any) -> str:
    """A value as flags write it: 256,128 for a list, none for nothing; a=2,b=1 for a table."""
    if value is None or value == []:
        return "none"
    if isinstance(value, dict):
        return ",".join(f"{name}={text_of(each)}" for name, each in value.items())
    return ",".join(map(text_of, value)) if isinstance(value, list) else str(value)


def _key(text: str) -> str:
    key = HEADINGS.get(text, text)
    known = [key for key in KEYS if key != "hyperparameters"]
    known += ["target", *(field.name for field in fields(Hyperparameters))]
    if key not in known:
        hint = suggestion(text, [*known, *HEADINGS])
        raise argparse.ArgumentTypeError(
            f"must name a hyperparameter or a key of --json (see --help), not {text!r}{hint}"
        )
    return key


def _number(text: str) -> float | None:
    with suppress(ValueError):
        return float(text)
    return None


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
