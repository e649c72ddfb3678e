"""Hyperparameters: the validated, frozen description of an experiment, chosen and not learned."""

import math
import reprlib
import tomllib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, fields
from difflib import get_close_matches
from pathlib import Path
from typing import Any, Final, Literal, get_args

import numpy as np

from dist_dnn.errors import InputError
from dist_dnn.nn.activations import ACTIVATIONS
from dist_dnn.nn.network import INITIALIZATIONS
from dist_dnn.nn.optimizers import OPTIMIZERS
from dist_dnn.nn.schedules import SCHEDULES

Task = Literal["auto", "binary", "multiclass", "regression"]

ClassWeight = Literal["balanced"] | Mapping[str, float]

BALANCED: Final = "balanced"
"""The class weights that let all classes count alike in all."""

OPTIMIZER_SETTINGS = {
    "momentum": ("momentum", "nesterov"),
    "decay_rate": ("rmsprop",),
    "beta1": ("adam", "adamw"),
    "beta2": ("adam", "adamw"),
    "epsilon": ("rmsprop", "adam", "adamw"),
    "weight_decay": ("adamw",),
}
"""Settings of some optimisers alone, with those that have them."""

MOST_SHARDS = 2**16
"""Every worker keeps an account of all shards, even where they have no rows."""

COLUMN_LISTS = ("features", "exclude", "categorical", "passthrough")
"""The hyperparameters that list columns."""

CONTRARY = (
    ("features", "exclude"),
    ("exclude", "categorical"),
    ("exclude", "passthrough"),
    ("categorical", "passthrough"),
)
"""Lists that have no column in common."""

SCHEDULE_SETTINGS = {"schedule_every": ("step",), "schedule_factor": ("step",)}
"""Settings of some schedules alone, with those that have them."""


@dataclass(frozen=True)
class Hyperparameters:
    """An experiment, but for its data: everything that changes a bit of the result.

    Attributes:
        features: the columns that fill X, in this order; None for all but the target.
        exclude: columns that do not.
        categorical: columns whose values are categories, though they are numbers.
        passthrough: columns of numbers that are not standardised.
        max_categories: how many values of a column are categories at most, the most frequent.
        min_frequency: the least part of the rows that have such a value, in (0, 1).
        task: "auto", "binary", "multiclass" or "regression".
        weight: the column that says what each row counts; None: all 1.
        class_weight: what the rows of each class count in the loss, times that: by the class's
            name, 1 where it is not named; or "balanced", for classes that count alike in all.
        validation: a fraction of the rows to hold out, in (0, 1), or a file of other rows.
        validation_column: instead, a column of booleans, true in the rows to validate on.
        stratify: hold out the fraction of each class, to the nearest row.
        test: a file of rows that are scored once, when the training has ended.
        hidden: units of the hidden layers n[1] … n[L-1]; () for a net without any (L = 1).
        activation: g of the hidden layers.
        initialization: "he", "xavier", or "auto": he where the activation is a relu, else xavier.
        optimizer: "sgd", "momentum", "nesterov", "rmsprop", "adam" or "adamw".
        learning_rate: α > 0.
        momentum, decay_rate, beta1, beta2, epsilon, weight_decay: settings of some optimisers;
            None for the optimiser's default.
        l2: λ >= 0 of the penalty (λ/2m) ‖W‖².
        clip_norm: the greatest global norm of a gradient, > 0; None: any.
        schedule: "constant", "step" or "cosine".
        schedule_every, schedule_factor: of "step": epochs between drops, and the factor of one.
        warmup_steps: steps over which the learning rate rises from 0.
        schedule_epochs: the epochs that the schedule runs to; None: ``epochs``.
        on_divergence: "stop", or "rollback": halve the learning rate and begin the epoch again.
        batch_size: B, rows of a batch; "auto" is min(256, m), "full" is m.
        epochs: how often every training row is used.
        seed: of initialisation, order and held-out rows; 0 … 2^63 − 1.
        shards: S, the logical shards; the most workers that will ever be used; up to MOST_SHARDS.

    Raises:
        InputError: a value that cannot be used, with its name and what it must be.
    """

    features: tuple[str, ...] | None = None
    exclude: tuple[str, ...] | None = None
    categorical: tuple[str, ...] | None = None
    passthrough: tuple[str, ...] | None = None
    max_categories: int = 100
    min_frequency: float = 0.001
    task: Task = "auto"
    weight: str | None = None
    class_weight: ClassWeight | None = None
    validation: float | str | None = None
    validation_column: str | None = None
    stratify: bool = False
    test: str | None = None
    hidden: tuple[int, ...] = (256, 128)
    activation: str = "relu"
    initialization: str = "auto"
    optimizer: str = "adam"
    learning_rate: float = 0.001
    momentum: float | None = None
    decay_rate: float | None = None
    beta1: float | None = None
    beta2: float | None = None
    epsilon: float | None = None
    weight_decay: float | None = None
    l2: float = 0.0
    clip_norm: float | None = None
    schedule: str = "constant"
    schedule_every: int | None = None
    schedule_factor: float | None = None
    warmup_steps: int = 0
    schedule_epochs: int | None = None
    on_divergence: Literal["stop", "rollback"] = "stop"
    batch_size: int | str = "auto"
    epochs: int = 10
    seed: int = 0
    shards: int = 8

    def __post_init__(self) -> None:
        for name in (*COLUMN_LISTS, "hidden"):
            value = getattr(self, name)
            if isinstance(value, list):
                object.__setattr__(self, name, tuple(value))
        hidden: Any = self.hidden
        if hidden == "none":
            object.__setattr__(self, "hidden", ())
        for field in fields(self):
            value = getattr(self, field.name)
            if value is None and field.default is None:
                continue
            must = what_must_be(field.name, value)
            if must:
                raise InputError(f"{field.name} must be {must}, not {shown(value)}")
            if isinstance(value, int) and "float" in str(field.type):
                object.__setattr__(self, field.name, float(value))
        if isinstance(self.class_weight, Mapping):
            weights = {name: float(weight) for name, weight in self.class_weight.items()}
            object.__setattr__(self, "class_weight", weights)
        self._check_columns()
        self._check_other_columns()
        self._check_settings(OPTIMIZER_SETTINGS, "optimizer")
        self._check_settings(SCHEDULE_SETTINGS, "schedule")
        self._check_validation()

    def _check_validation(self) -> None:
        if self.validation is not None and self.validation_column is not None:
            raise InputError("validation and validation_column exclude each other: leave one out")
        if self.stratify and not isinstance(self.validation, float):
            raise InputError(
                "stratify needs a validation that is a fraction: give one like 0.1, or leave it out"
            )

    def _check_columns(self) -> None:
        """No column is asked to be two things."""
        lists = {name: getattr(self, name) or () for name in COLUMN_LISTS}
        for one, other in CONTRARY:
            both = [column for column in lists[one] if column in lists[other]]
            if both:
                raise InputError(
                    f"{one} and {other} have {both[0]!r} in common: take it out of one of them"
                )

    def _check_other_columns(self) -> None:
        """Those of weights and of rows to validate on are no features, and not the same."""
        for name in COLUMN_LISTS:
            for kind in ("weight", "validation_column"):
                column = getattr(self, kind)
                if column in (getattr(self, name) or ()):
                    raise InputError(
                        f"{kind} {column!r} is in {name}, but it is no feature anyway: take it "
                        f"out there"
                    )
        if self.weight is not None and self.weight == self.validation_column:
            raise InputError(
                f"weight and validation_column are both {self.weight!r}: give another column to "
                f"one of them"
            )

    def _check_settings(self, settings: Mapping[str, tuple[str, ...]], chooser: str) -> None:
        chosen = getattr(self, chooser)
        for name, users in settings.items():
            if getattr(self, name) is not None and chosen not in users:
                raise InputError(
                    f"{name} is a setting of {chooser} {' or '.join(users)}, not of {chosen}: "
                    f"leave it out, or choose another {chooser}"
                )

    @classmethod
    def from_mapping(cls, values: Mapping[str, Any], where: str) -> "Hyperparameters":
        """Hyperparameters from names and values, as a TOML file gives them.

        Raises:
            InputError: an unknown name, or a value that cannot be used.
        """
        known = [field.name for field in fields(cls)]
        for name in values:
            if name not in known:
                hint = suggestion(name, [*known, "target"]) or f"; known are {', '.join(known)}"
                raise InputError(f"{where}: unknown key {name!r}{hint}")
        try:
            return cls(**values)
        except InputError as error:
            raise InputError(f"{where}: {error}") from None

    def to_mapping(self) -> dict[str, Any]:
        """Names and values as a TOML file holds them: lists for tuples, nothing for None."""
        return {
            field.name: list(value) if isinstance(value, tuple) else value
            for field in fields(self)
            if (value := getattr(self, field.name)) is not None
        }

    def optimizer_arguments(self) -> dict[str, float]:
        """The optimiser's settings that were chosen."""
        return self._chosen(OPTIMIZER_SETTINGS)

    def schedule_arguments(self) -> dict[str, Any]:
        """The arguments of ``make_schedule``, but for its name and the steps of an epoch."""
        chosen = self._chosen(SCHEDULE_SETTINGS).items()
        return {
            "learning_rate": self.learning_rate,
            "epochs": self.schedule_epochs or self.epochs,
            "warmup_steps": self.warmup_steps,
            **{name.removeprefix("schedule_"): value for name, value in chosen},
        }

    def _chosen(self, names: Iterable[str]) -> dict[str, Any]:
        return {name: value for name in names if (value := getattr(self, name)) is not None}

    def batch_size_of(self, m: int) -> int:
        """B for m training rows.

        Raises:
            InputError: it is above m.
        """
        if self.batch_size == "auto":
            return min(256, m)
        if self.batch_size == "full":
            return m
        if int(self.batch_size) > m:
            raise InputError(
                f"batch_size {self.batch_size} is above the {m} training rows: "
                f"choose at most {m}, or 'full'"
            )
        return int(self.batch_size)


def read_toml(path: str) -> dict[str, Any]:
    """The keys and values of a TOML file, as --config has it.

    Raises:
        InputError: it cannot be read, or is no TOML.
    """
    return parse_toml(read_file(path, "give --config a TOML file"), path)


def read_file(path: str, remedy: str) -> bytes:
    """What a file holds.

    Args:
        remedy: how the message ends where it cannot be read.

    Raises:
        InputError: it cannot be.
    """
    try:
        return Path(path).read_bytes()
    except (OSError, ValueError) as error:  # a ValueError where the path has a null character
        why = getattr(error, "strerror", error)
        raise InputError(f"{path or repr(path)}: cannot be read: {why}; {remedy}") from None


def parse_toml(content: bytes, name: str) -> dict[str, Any]:
    """The keys and values of what a TOML file holds.

    Raises:
        InputError: it is no TOML.
    """
    try:
        return tomllib.loads(content.decode())
    except UnicodeDecodeError:
        raise InputError(f"{name}: is no text in UTF-8, so no TOML; write it anew") from None
    except (ValueError, RecursionError) as error:  # too long a number is a plain ValueError
        raise InputError(f"{name}: is no valid TOML: {error}; correct it") from None


def suggestion(name: str, known: Iterable[str]) -> str:
    """The end of a message about an unknown name: the known one that looks like it, if any."""
    names = {each.strip("-"): each for each in known}  # dashes do not make flags alike
    close = get_close_matches(name.strip("-"), names, n=1)
    return f"; did you mean {names[close[0]]!r}?" if close else ""


def shown(value: Any) -> str:
    """A hyperparameter's value as messages have it: of many columns, or classes, a few."""
    if value is None:
        return "none"
    return reprlib.repr(list(value) if isinstance(value, tuple) else value)


def what_must_be(name: str, value: Any) -> str | None:
    """What a hyperparameter must be, in words; None when it is so."""
    return _RULES[name](value)


Rule = Callable[[Any], str | None]
"""What a value must be, in words; None when it is so."""


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _number(test: Callable[[float], bool], must: str) -> Rule:
    return lambda value: None if _is_number(value) and test(value) else must


def _whole(least: int, must: str, most: float = math.inf) -> Rule:
    return lambda value: None if type(value) is int and least <= value <= most else must


def _one_of(known: Iterable[str]) -> Rule:
    names = list(known)

    def rule(value: Any) -> str | None:
        if isinstance(value, str) and value in names:
            return None
        return f"one of {', '.join(names)}"

    return rule


def _columns(value: Any) -> str | None:
    names = isinstance(value, tuple) and value and all(isinstance(v, str) and v for v in value)
    return None if names else "a list of column names"


def _validation(value: Any) -> str | None:
    fits = value != "" if isinstance(value, str) else _is_number(value) and 0 < value < 1
    return None if fits else "a fraction between 0 and 1, or a file"


def _name(value: Any) -> str | None:
    return None if isinstance(value, str) and value else "the name of a column"


def _class_weight(value: Any) -> str | None:
    if value == BALANCED:
        return None
    is_table = isinstance(value, Mapping) and len(value) > 0
    if is_table and all(isinstance(name, str) and _is_weight(value[name]) for name in value):
        return None
    return (
        "'balanced', or a table of numbers not below 0 that fit float32, by the classes' names, "
        "which are text"
    )


def _is_weight(value: Any) -> bool:
    return _is_number(value) and _NOT_NEGATIVE(value) is None


def _file(value: Any) -> str | None:
    return None if isinstance(value, str) and value else "a file"


def _boolean(value: Any) -> str | None:
    return None if isinstance(value, bool) else "true or false"


def _hidden(value: Any) -> str | None:
    units = isinstance(value, tuple) and all(type(v) is int and v >= 1 for v in value)
    return None if units or value == "none" else "a list of whole numbers above 0, or 'none'"


def _batch_size(value: Any) -> str | None:
    fits = value in ("auto", "full") if isinstance(value, str) else _whole(1, "")(value) is None
    return None if fits else "a whole number above 0, 'auto' or 'full'"


_LARGEST = float(np.finfo(np.float32).max)
_POSITIVE = _number(lambda value: 0 < value <= _LARGEST, "a number above 0 that fits float32")
_NOT_NEGATIVE = _number(
    lambda value: 0 <= value <= _LARGEST, "a number not below 0 that fits float32"
)
_BELOW_ONE = _number(lambda value: 0 <= value < 1, "a number from 0 to below 1")
_COUNT = _whole(1, "a whole number above 0")
_COUNT_OR_NONE = _whole(0, "a whole number not below 0")

_RULES: dict[str, Rule] = {
    **dict.fromkeys(COLUMN_LISTS, _columns),
    "max_categories": _COUNT,
    "min_frequency": _number(lambda value: 0 < value < 1, "a fraction between 0 and 1"),
    "task": _one_of(get_args(Task)),
    "weight": _name,
    "class_weight": _class_weight,
    "validation": _validation,
    "validation_column": _name,
    "stratify": _boolean,
    "test": _file,
    "hidden": _hidden,
    "activation": _one_of(ACTIVATIONS),
    "initialization": _one_of(INITIALIZATIONS),
    "optimizer": _one_of(OPTIMIZERS),
    "learning_rate": _POSITIVE,
    "momentum": _BELOW_ONE,
    "decay_rate": _BELOW_ONE,
    "beta1": _BELOW_ONE,
    "beta2": _BELOW_ONE,
    "epsilon": _POSITIVE,
    "weight_decay": _NOT_NEGATIVE,
    "l2": _NOT_NEGATIVE,
    "clip_norm": _POSITIVE,
    "schedule": _one_of(SCHEDULES),
    "schedule_every": _COUNT,
    "schedule_factor": _POSITIVE,
    "warmup_steps": _COUNT_OR_NONE,
    "schedule_epochs": _COUNT,
    "on_divergence": _one_of(("stop", "rollback")),
    "batch_size": _batch_size,
    "epochs": _COUNT_OR_NONE,
    "seed": _whole(0, "a whole number from 0 to 2^63 − 1", most=2**63 - 1),
    "shards": _whole(1, f"a whole number from 1 to {MOST_SHARDS}", most=MOST_SHARDS),
}
