"""What is predicted: a column of classes, or columns of numbers, each in its own unit."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, get_args

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from dist_dnn.data.features import Standardisation, json_list, json_number, json_object
from dist_dnn.data.numbers import Flaw, first_flaw, to_numpy
from dist_dnn.data.sources import type_name
from dist_dnn.data.values import (
    NUMBERS,
    classes_from_json,
    classes_to_json,
    comparable,
    family_of,
    of_one_type,
    texts,
    type_named,
    with_one_zero,
)
from dist_dnn.errors import InputError

types: Any = pa.types

Task = Literal["binary", "multiclass", "regression"]


@dataclass(frozen=True)
class TargetColumn:
    """A column that is predicted.

    Attributes:
        name: of the column.
        type: the pyarrow type of its values.
        mean, deviation: of the training rows, for regression; 0 and 1 until they are known.
    """

    name: str
    type: Any
    mean: float = 0.0
    deviation: float = 1.0

    def check_type(self, type_: pa.DataType, where: str) -> None:
        """Raise InputError unless values can be compared with those trained on, or are null."""
        families = {family_of(type_), family_of(self.type)}
        if len(families) > 1 and not families <= NUMBERS and not types.is_null(type_):
            raise self.mismatch(type_, where)

    def mismatch(self, type_: pa.DataType, where: str) -> InputError:
        """The error for values that cannot be compared with those trained on."""
        return InputError(
            f"column {self.name!r} of {where} has type {type_name(type_)}, but the model was "
            f"trained on {type_name(self.type)}; give data of that type"
        )

    def standardised(self, values: Any) -> NDArray[np.float64]:
        """(y − mean) / deviation of sound values, a pyarrow array (rows,); by 1 for 0."""
        numbers: NDArray[np.float64] = to_numpy(values).astype(np.float64)
        return (numbers - self.mean) / (self.deviation or 1.0)

    def given_back(self, outputs: NDArray[np.float32]) -> Any:
        """The opposite of ``standardised``: a pyarrow array (rows,) in the column's own unit.

        Args:
            outputs: of the network, (rows,).

        Returns:
            Values of the column's type, or float64 for integers and decimals.
        """
        numbers = outputs.astype(np.float64) * self.deviation + self.mean
        size = self.type.bit_width // 8 if types.is_floating(self.type) else 8
        return pa.array(numbers.astype(f"f{size}"))


@dataclass(frozen=True, eq=False)
class Target:
    """What is predicted; stored with the model.

    Attributes:
        task: what kind of prediction.
        columns: one of classes, or n[L] of numbers, for regression.
        classes: all classes in ascending order, a pyarrow array; None for regression.
        class_weights: what an example of each class counts in the loss; None where all count 1.
    """

    task: Task
    columns: tuple[TargetColumn, ...]
    classes: Any = None
    class_weights: tuple[float, ...] | None = None

    @property
    def names(self) -> tuple[str, ...]:
        """Of the columns."""
        return tuple(column.name for column in self.columns)

    @property
    def outputs(self) -> int:
        """n[L]."""
        return len(self.classes) if self.task == "multiclass" else len(self.columns)

    def with_units(self, units: Standardisation) -> "Target":
        """The same target, its columns with these means and deviations.

        Raises:
            InputError: one of them is not finite.
        """
        columns = []
        for column, mean, deviation in zip(
            self.columns, units.mean.tolist(), units.deviation.tolist(), strict=True
        ):
            if not math.isfinite(mean + deviation):
                raise InputError(
                    f"the values of the target {column.name!r} are too large to standardise; "
                    f"scale them"
                )
            columns.append(replace(column, mean=mean, deviation=deviation))
        return replace(self, columns=tuple(columns))

    def in_own_units(self) -> "Target":
        """The same target, of which ``encode`` makes numbers that are not standardised."""
        columns = (replace(column, mean=0.0, deviation=1.0) for column in self.columns)
        return replace(self, columns=tuple(columns))

    def encode(
        self, rows: pa.RecordBatch | pa.Table, row_numbers: NDArray[np.int64], where: str
    ) -> NDArray[Any]:
        """The columns in some rows as numbers.

        Args:
            row_numbers: (rows,), counted from 0 in the whole source, for messages.
            where: what messages call the source.

        Returns:
            int64 places in ``classes`` (rows,), or for regression float64 (rows, n[L]), each
            column standardised.

        Raises:
            InputError: a type that cannot be compared with the one trained on; a null, NaN or
                infinite value, or a class that training did not see: the first of them.
        """
        values = [comparable(rows.column(name)) for name in self.names]
        for column, each in zip(self.columns, values, strict=True):
            column.check_type(each.type, where)
        flawed = first_flawed(self.names, values)
        end = None if flawed is None else flawed[1].row
        sound = [with_one_zero(each[:end]) for each in values]
        encoded: NDArray[Any]
        if self.classes is not None:
            encoded = self._places(sound[0], row_numbers, where)
        else:
            numbers = map(TargetColumn.standardised, self.columns, sound)
            encoded = np.stack(list(numbers), axis=1)
        if flawed is not None:
            raise flaw_error(*flawed, row_numbers, where)
        return encoded

    def values_at(self, places: NDArray[np.int64]) -> Any:
        """The classes at these places: a pyarrow array (rows,) of the column's type."""
        return self.classes.take(pa.array(places)).cast(self.columns[0].type)

    def given_back(self, A: NDArray[np.float32]) -> list[Any]:
        """Ŷ (n[L], m) of a regression in its own units: a pyarrow array (m,) for each column."""
        return [column.given_back(row) for column, row in zip(self.columns, A, strict=True)]

    def class_names(self) -> list[str]:
        """The classes as text, each different: ``false``, ``1.5``, ``2024-12-31 23:59:59Z``."""
        return texts(self.classes)

    def to_json(self) -> dict[str, Any] | list[dict[str, Any]]:
        """An object for a column; a list of them where there are several."""
        described = [self._described(column) for column in self.columns]
        return described if len(described) > 1 else described[0]

    def _described(self, column: TargetColumn) -> dict[str, Any]:
        classes, weights = self.classes, self.class_weights
        return {
            "name": column.name,
            "task": self.task,
            "type": str(column.type),
            "classes": None if classes is None else classes_to_json(classes, column.type),
            "mean": column.mean,
            "deviation": column.deviation,
            **({} if weights is None else {"class_weights": list(weights)}),
        }

    @classmethod
    def from_json(cls, value: object) -> "Target":
        """The target of ``to_json``.

        Raises:
            InputError: it is not what ``to_json`` writes.
        """
        if not isinstance(value, list):
            return cls._from_object(value)
        targets = [cls._from_object(each) for each in value]
        columns = tuple(column for target in targets for column in target.columns)
        if len(columns) < 2 or any(target.task != "regression" for target in targets):
            raise InputError("its list of targets is not one of several for regression")
        if len({column.name for column in columns}) < len(columns):
            raise InputError("its targets are not all different columns")
        return cls("regression", columns)

    @classmethod
    def _from_object(cls, value: object) -> "Target":
        """The target of one column."""
        keys = {"name", "task", "type", "classes", "mean", "deviation"}
        if isinstance(value, dict):
            keys |= value.keys() & {"class_weights"}
        described = json_object(value, "target", keys)
        name, task = described["name"], described["task"]
        if not isinstance(name, str) or task not in get_args(Task):
            raise InputError("its target has a name or a task that is none")
        type_ = type_named(described["type"])
        classes = None
        if task != "regression":
            classes = classes_from_json(json_list(described, "classes"), type_)
            if len(classes) < 2 or (task == "binary" and len(classes) > 2):
                raise InputError(
                    f"its number of classes, {len(classes)}, does not suit the task {task}"
                )
        elif described["classes"] is not None or family_of(type_) not in NUMBERS:
            raise InputError("its target is regression, but not of numbers or with classes")
        mean, deviation = (json_number(described[key], key) for key in ("mean", "deviation"))
        if deviation < 0:
            raise InputError("its target has a negative deviation")
        weights = None
        if "class_weights" in described:
            weights = _class_weights(json_list(described, "class_weights"), classes)
        return cls(task, (TargetColumn(name, type_, mean, deviation),), classes, weights)

    def _places(self, values: Any, row_numbers: NDArray[np.int64], where: str) -> NDArray[np.int64]:
        """The place of each value among the classes."""
        import pyarrow.compute as pc

        [column] = self.columns
        try:
            places: Any = pc.index_in(*of_one_type(values, self.classes))
        except pa.ArrowInvalid:
            raise column.mismatch(values.type, where) from None
        unseen = to_numpy(places.is_null())
        if unseen.any():
            row = int(unseen.argmax())
            [text] = texts(values.slice(row, 1))
            raise InputError(
                f"column {column.name!r} has the class {text!r} in row {row_numbers[row] + 1} of "
                f"{where}, which training did not see; take such rows out, or train with some"
            )
        return to_numpy(places).astype(np.int64)


def weighing(target: Target | None) -> Target | None:
    """A target whose classes have weights; of another nobody need read the columns for these."""
    return None if target is None or target.class_weights is None else target


def to_option(target: Target | None) -> Any:
    """A target, if there is one, as the options of a task have it."""
    return None if target is None else target.to_json()


def from_option(option: Any) -> Target | None:
    """The target of ``to_option``."""
    return None if option is None else Target.from_json(option)


def _class_weights(values: list[Any], classes: Any) -> tuple[float, ...]:
    weights = tuple(json_number(value, "class_weights") for value in values)
    if classes is None or len(weights) != len(classes) or min(weights) < 0:
        raise InputError("its classes do not have one weight each that is not negative")
    return weights


def first_flawed(names: Iterable[str], columns: Sequence[Any]) -> tuple[str, Flaw] | None:
    """The first flaw of columns, by rows, and the name of its column."""
    flaws = [(name, first_flaw(each)) for name, each in zip(names, columns, strict=True)]
    found = [(name, flaw) for name, flaw in flaws if flaw is not None]
    return min(found, key=lambda each: each[1].row, default=None)


def flaw_error(name: str, flaw: Flaw, row_numbers: NDArray[np.int64], where: str) -> InputError:
    """The error for a target's value that cannot be used."""
    return InputError(
        f"target column {name!r} has {flaw.what} in row {row_numbers[flaw.row] + 1} of {where}; "
        f"replace it or take the row out"
    )
