"""Targets: the task and classes a column asks for, exact storage, one clear line for the rest."""

import datetime
import json
from collections.abc import Callable
from dataclasses import replace
from decimal import Decimal
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dist_dnn.data.deciding import read_target
from dist_dnn.data.features import Standardisation
from dist_dnn.data.holdout import Rows
from dist_dnn.data.sources import open_source
from dist_dnn.data.targets import Target
from dist_dnn.errors import InputError

NAN, INFINITY = float("nan"), float("inf")


def read(values: Any, task: Any = "auto", rows: Rows | None = None) -> Target:
    array = values if isinstance(values, pa.Array | pa.ChunkedArray) else pa.array(values)
    return read_target(open_source(pa.table({"y": array}), "people.csv"), ("y",), task, rows)


def line_of(call: Callable[[], object]) -> str:
    """The one line with which a call fails."""
    with pytest.raises(InputError) as caught:
        call()
    assert str(caught.value).isprintable()
    return str(caught.value)


def encode(target: Target, values: Any) -> list[Any]:
    array = values if isinstance(values, pa.Array) else pa.array(values)
    encoded = target.encode(batch_of(array), np.arange(len(array)) + 10, "new.csv")
    return encoded.reshape(len(array)).tolist()


def batch_of(*arrays: Any) -> pa.RecordBatch:
    """Columns y, z, … of a source."""
    return pa.record_batch(dict(zip("yzuv", arrays, strict=False)))


def in_unit(target: Target, mean: float, deviation: float) -> Target:
    columns = (replace(each, mean=mean, deviation=deviation) for each in target.columns)
    return replace(target, columns=tuple(columns))


def given_back(target: Target, outputs: list[float]) -> Any:
    [values] = target.given_back(np.array([outputs], np.float32))
    return values


# Two or more classes of each type, in ascending order.
CLASSES: dict[str, Any] = {
    "boolean": pa.array([False, True]),
    "int8": pa.array([-128, 0, 127], pa.int8()),
    "int64": pa.array([-(2**63), 7, 2**63 - 1]),
    "uint64": pa.array([0, 2**64 - 1], pa.uint64()),
    "half": pa.array(np.array([-0.5, 0, 0.1], np.float16)),
    "float": pa.array([-1e-45, 0.1, 3e38], pa.float32()),
    "double": pa.array([-1e300, 0.1, 0.1 + 2**-56, 5e300]),
    "string": pa.array(["", "A", "a", "ä\n", "𝄞"]),
    "large string": pa.array(["no", "yes"], pa.large_string()),
    "binary": pa.array([b"", b"\x00", b"no", b"\xff"]),
    "large binary": pa.array([b"no", b"yes"], pa.large_binary()),
    "fixed binary": pa.array([b"ab", b"\xff\x00"], pa.binary(2)),
    "date32": pa.array([datetime.date(1, 1, 1), datetime.date(2024, 2, 29)]),
    "date64": pa.array([datetime.date(1969, 1, 1), datetime.date(2024, 2, 29)], pa.date64()),
    "time32": pa.array([0, 86_399], pa.time32("s")),
    "time64": pa.array([0, 1, 86_399_999_999_999], pa.time64("ns")),
    "seconds": pa.array([-1, 10**9], pa.timestamp("s")),
    "nanoseconds": pa.array([-1, 10**18 + 7], pa.timestamp("ns")),
    # The same local time twice, at the end of summer time.
    "zone": pa.array([1729987200, 1729990800], pa.timestamp("s", "Europe/Berlin")),
    "UTC": pa.array([1, 10**15 + 7], pa.timestamp("us", "UTC")),
    "duration": pa.array([-5, 7], pa.duration("ns")),
    "decimal32": pa.array([Decimal("-1.50"), Decimal("2.00")], pa.decimal32(5, 2)),
    "decimal64": pa.array([Decimal("-1.50"), Decimal("2.00")], pa.decimal64(10, 2)),
    "decimal128": pa.array([Decimal("-1.50"), Decimal("2.00")], pa.decimal128(10, 2)),
    "decimal256": pa.array([Decimal("-1.50"), Decimal("2.00")], pa.decimal256(60, 2)),
    "hundreds": pa.array([Decimal("-300"), Decimal("200")], pa.decimal128(5, -2)),
}


@pytest.mark.parametrize("kind", CLASSES)
def test_classes_of_every_type(kind: str) -> None:
    classes = CLASSES[kind]
    order = [*range(len(classes)), 0][::-1]
    values = classes.take(pa.array(order))
    target = read(values, "multiclass")
    assert target.outputs == len(classes)
    assert encode(target, values) == order
    decoded = target.values_at(np.array(order))
    assert decoded.type == classes.type
    assert decoded.equals(values)
    names = target.class_names()
    assert len(set(names)) == len(classes)
    assert all(isinstance(name, str) for name in names)

    again = Target.from_json(json.loads(json.dumps(target.to_json())))
    assert again.columns == target.columns
    assert again.classes.equals(target.classes)
    assert (again.names, again.task) == (("y",), "multiclass")
    assert encode(again, values) == order


@pytest.mark.parametrize(
    ("kind", "names"),
    [
        ("boolean", ["false", "true"]),
        ("int8", ["-128", "0", "127"]),
        ("double", ["-1e+300", "0.1", "0.10000000000000002", "5e+300"]),
        ("large binary", ["no", "yes"]),
        ("fixed binary", ["6162", "ff00"]),
        ("date32", ["0001-01-01", "2024-02-29"]),
        ("time32", ["00:00:00", "23:59:59"]),
        ("zone", ["2024-10-27 00:00:00Z", "2024-10-27 01:00:00Z"]),
        ("decimal64", ["-1.50", "2.00"]),
    ],
)
def test_class_names(kind: str, names: list[str]) -> None:
    assert read(CLASSES[kind], "multiclass").class_names() == names


def test_dictionaries_are_their_values() -> None:
    values = pa.array(["b", "a", "c", "a"]).dictionary_encode()
    target = read(values)
    assert target.class_names() == ["a", "b", "c"]
    assert encode(target, values) == [1, 0, 2, 0]
    assert encode(target, pa.array(["c", "a"])) == [2, 0]
    assert target.values_at(np.array([2, 0])).equals(pa.array(["c", "a"]))


# The task


@pytest.mark.parametrize(
    ("values", "task", "outputs"),
    [
        ([True, False, True], "binary", 1),
        (["a", "b"], "binary", 1),
        ([5, 3], "binary", 1),
        (["a", "b", "c"], "multiclass", 3),
        (list(range(100)), "multiclass", 100),
        ([0.5, 1.0], "regression", 1),
        (pa.array(np.array([0.5, 1], np.float16)), "regression", 1),
        ([float(n) for n in range(21)], "regression", 1),
        (pa.array([Decimal("1.5"), Decimal("2.5")]), "binary", 1),
        ([datetime.date.fromordinal(n + 1) for n in range(200)], "multiclass", 200),
    ],
)
def test_auto(values: Any, task: str, outputs: int) -> None:
    target = read(values)
    assert (target.task, target.outputs) == (task, outputs)
    assert (target.classes is None) == (task == "regression")


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ([1.0, 2.0, 3.0], ["3 different values", "--task regression", "--task multiclass"]),
        ([1.0, 0.0], ["2 different values", "--task binary"]),
        ([float(n) for n in range(20)], ["20 different values"]),
        (list(range(101)), ["more than 100", "--task regression", "--task multiclass"]),
        ([Decimal(n) for n in range(101)], ["more than 100", "--task"]),
        ([7, 7, 7], ["one class only", "'7'"]),
        (["a\nb"], ["one class only", r"'a\nb'"]),
    ],
)
def test_auto_cannot_decide(values: Any, said: list[str]) -> None:
    line = line_of(lambda: read(values))
    for part in ("column 'y' of people.csv", *said):
        assert part in line


@pytest.mark.parametrize(
    ("values", "task", "outputs"),
    [
        ([1.0, 2.0], "binary", 1),
        ([1.0, 2.0], "multiclass", 2),
        ([0.5, 1.5, 2.5], "multiclass", 3),
        (["a", "b"], "multiclass", 2),
        (list(range(500)), "multiclass", 500),
        (list(range(500)), "regression", 1),
        ([1, 1], "regression", 1),
        ([Decimal("1.5"), Decimal("2.5")], "regression", 1),
    ],
)
def test_task_asked_for(values: Any, task: str, outputs: int) -> None:
    target = read(values, task)
    assert (target.task, target.outputs) == (task, outputs)


@pytest.mark.parametrize(
    ("values", "task", "said"),
    [
        (["a", "b", "c"], "binary", ["3 classes", "--task multiclass"]),
        (["a", "a"], "binary", ["one class only"]),
        (["a", "a"], "multiclass", ["one class only"]),
        (["a", "b"], "regression", ["string", "needs numbers"]),
        ([True, False], "regression", ["bool", "needs numbers"]),
        ([datetime.date(2024, 1, 1)], "regression", ["date32", "needs numbers"]),
        ([[1], [2]], "auto", ["list<item: int64>", "cannot be a target"]),
        ([{"a\nb": 1}], "auto", ["struct", "cannot be a target"]),
        (pa.array([[1, 2]], pa.list_(pa.int64(), 2)), "multiclass", ["cannot be a target"]),
        (pa.array([b"0" * 16], pa.uuid()), "auto", ["uuid", "cannot be a target"]),
        (pa.array([(1, 2, 3)], pa.month_day_nano_interval()), "auto", ["cannot be a target"]),
        (pa.array([0, 10**15], pa.timestamp("s")), "auto", ["stored exactly"]),
    ],
)
def test_task_that_does_not_suit(values: Any, task: str, said: list[str]) -> None:
    line = line_of(lambda: read(values, task))
    for part in ("column 'y' of people.csv", *said):
        assert part in line


def test_missing_column() -> None:
    source = open_source(pa.table({"price": [1], "size": [2]}), "people.csv")
    assert "did you mean 'price'?" in line_of(lambda: read_target(source, ("prise",)))
    assert "people.csv has no column 'zzz'" in line_of(lambda: read_target(source, ("zzz",)))


@pytest.mark.parametrize("task", ["auto", "multiclass", "regression"])
@pytest.mark.parametrize(
    ("values", "what", "row"),
    [
        ([0.5, None, NAN], "a null", 2),
        ([0.5, 1.5, NAN, None], "a NaN", 3),
        ([0.5, 1.5, -INFINITY], "an infinite value", 3),
        ([1, 2, 3, None], "a null", 4),
        ([Decimal(1), None], "a null", 2),
    ],
)
def test_values_that_cannot_be_used(values: Any, what: str, row: int, task: str) -> None:
    expected = f"target column 'y' has {what} in row {row} of people.csv; "
    assert line_of(lambda: read(values, task)).startswith(expected)


@pytest.mark.parametrize(
    "values",
    [
        pa.array(["a", "b", None]),
        pa.array([True, False, None]),
        pa.array(["a", "b", None]).dictionary_encode(),
        pa.DictionaryArray.from_arrays(pa.array([0, 1, 2]), pa.array(["a", "b", None])),
    ],
)
def test_null_classes(values: Any) -> None:
    assert "has a null in row 3 of people.csv" in line_of(lambda: read(values))


def test_nothing_but_nulls() -> None:
    assert "has a null in row 1 of people.csv" in line_of(lambda: read([None, None]))


def test_only_the_training_rows_are_looked_at() -> None:
    total, seed, fraction = 300_000, 3, 0.25
    kept = Rows.kept(total, seed, fraction)
    labels = np.where(kept.mask(0, total), np.arange(total) % 3, 99).tolist()
    labels[int(Rows.held_out(total, seed, fraction).numbers(0, 1)[0])] = None
    assert read(labels, rows=kept).class_names() == ["0", "1", "2"]
    number = int(kept.numbers(270_000 * 3 // 4, kept.count)[0])
    labels[number] = None
    assert f"in row {number + 1} of" in line_of(lambda: read(labels, rows=kept))


def test_no_rows_left_to_train_on() -> None:
    seed = next(seed for seed in range(100) if Rows.kept(1, seed, 0.5).count == 0)
    assert "no rows left" in line_of(lambda: read([1], rows=Rows.kept(1, seed, 0.5)))


# Coding


def test_zero_has_one_class() -> None:
    target = read([0.0, -0.0, 1.0, -0.0], "binary")
    assert target.class_names() == ["0", "1"]
    assert encode(target, [-0.0, 1.0, 0.0]) == [0, 1, 0]


@pytest.mark.parametrize(
    ("trained_on", "given_values", "expected"),
    [
        (pa.array([0, 1], pa.int8()), pa.array([1, 0]), [1, 0]),
        (pa.array([0, 1]), pa.array([1.0, 0.0]), [1, 0]),
        (pa.array([0.5, 1.0]), pa.array([1]), [1]),
        (pa.array(["a", "b"]), pa.array(["b"], pa.large_string()), [1]),
        (pa.array([1, 2]), pa.array([Decimal("2.0")]), [1]),
        (pa.array([0, 1], pa.timestamp("s")), pa.array([10**9], pa.timestamp("ns")), [1]),
        (pa.array([0, 1], pa.date32()), pa.array([86_400_000], pa.date64()), [1]),
    ],
)
def test_other_types_of_the_same_kind(
    trained_on: Any, given_values: Any, expected: list[int]
) -> None:
    assert encode(read(trained_on, "multiclass"), given_values) == expected


@pytest.mark.parametrize(
    ("trained_on", "given_values", "said"),
    [
        ([0, 1], ["0", "1"], ["string", "int64"]),
        (["0", "1"], [0, 1], ["int64", "string"]),
        ([False, True], [0, 1], ["int64", "bool"]),
        ([0, 1], [None, "x"], ["string", "int64"]),
        (pa.array([0, 1], pa.timestamp("s")), pa.array([0], pa.timestamp("s", "UTC")), ["tz=UTC"]),
        (pa.array([-1, 1]), pa.array([2**64 - 1], pa.uint64()), ["uint64"]),
        ([0, 1], [[0], [1]], ["list"]),
    ],
)
def test_types_that_cannot_be_compared(trained_on: Any, given_values: Any, said: list[str]) -> None:
    line = line_of(lambda: encode(read(trained_on), given_values))
    for part in ("column 'y' of new.csv", *said):
        assert part in line


@pytest.mark.parametrize(
    ("trained_on", "given_values", "unseen"),
    [
        (["a", "b"], ["a", "x\ny", "z"], r"'x\ny'"),
        (pa.array([0, 1], pa.int8()), [0, 300], "'300'"),
        ([0, 1], [0.0, 1.5], "'1.5'"),
        (
            [datetime.date(2024, 1, 1), datetime.date(2024, 1, 2)],
            [datetime.date(2024, 1, 1)] * 1 + [datetime.date(2025, 1, 1)],
            "'2025-01-01'",
        ),
        ([b"a", b"b"], [b"a", b"\xff"], "'ff'"),
    ],
)
def test_a_class_that_training_did_not_see(trained_on: Any, given_values: Any, unseen: str) -> None:
    line = line_of(lambda: encode(read(trained_on), given_values))
    assert f"column 'y' has the class {unseen} in row 12 of new.csv" in line


@given(
    values=st.lists(st.sampled_from([0.0, 1.0, 2.0, NAN, INFINITY, None]), min_size=1),
    chunk=st.integers(1, 10),
    task=st.sampled_from(["binary", "regression"]),
)
def test_the_first_flaw_is_named_whatever_the_chunks(
    values: list[float | None], chunk: int, task: str
) -> None:
    target = read([0.0, 1.0], task)
    good = [0.0, 1.0] if task == "binary" else [0.0, 1.0, 2.0]
    array = pa.array(values, pa.float64())

    def in_chunks() -> list[Any]:
        return [
            number
            for start in range(0, len(array), chunk)
            for number in target.encode(
                batch_of(array.slice(start, chunk)), np.arange(start, start + chunk), "new.csv"
            ).ravel()
        ]

    bad = [row for row, value in enumerate(values) if value not in good]
    if bad:
        assert f" in row {bad[0] + 1} of new.csv" in line_of(in_chunks)
    else:
        assert in_chunks() == values


# Regression


def test_regression_is_standardised_and_given_back() -> None:
    target = read([0.5, 1.5, 4.0])
    assert encode(target, [0.5, 4.0]) == [0.5, 4.0]
    target = in_unit(target, 2.0, 4.0)
    assert encode(target, [0.5, 4.0]) == [-0.375, 0.5]
    assert given_back(target, [-0.375, 0.5]).to_pylist() == [0.5, 4.0]
    constant = in_unit(target, 2.0, 0.0)
    assert encode(constant, [2.0]) == [0.0]
    assert given_back(constant, [0.3]).to_pylist() == [2.0]


@pytest.mark.parametrize(
    ("type_", "predicted"),
    [
        (pa.float16(), pa.float16()),
        (pa.float32(), pa.float32()),
        (pa.float64(), pa.float64()),
        (pa.int32(), pa.float64()),
        (pa.uint64(), pa.float64()),
        (pa.decimal128(5, 1), pa.float64()),
    ],
)
def test_types_of_regression(type_: Any, predicted: pa.DataType) -> None:
    values = pa.array([1, 2, 3]).cast(pa.float64()).cast(type_)
    target = read(values, "regression")
    assert encode(target, values) == [1.0, 2.0, 3.0]
    decoded = given_back(target, [0.5, 1.5])
    assert decoded.type == predicted
    assert decoded.to_pylist() == [0.5, 1.5]


def test_large_integers_become_floats_as_in_numpy() -> None:
    target = read([2**53 + 1, 5], "regression")
    assert encode(target, [2**53 + 1]) == [float(2**53)]


# Several columns


def read_several(task: Any = "auto", **columns: Any) -> Target:
    return read_target(open_source(pa.table(columns), "people.csv"), tuple(columns), task)


def test_several_columns_are_numbers_each_in_its_own_unit() -> None:
    small, whole = pa.array([0.5, 1.0], pa.float32()), pa.array([7, 9], pa.uint8())
    target = read_several(y=small, z=whole, u=pa.array([Decimal(1), Decimal(2)]))
    assert (target.task, target.names, target.outputs) == ("regression", ("y", "z", "u"), 3)
    target = target.with_units(Standardisation(np.array([0.5, 8, 0]), np.array([2.0, 1, 0])))
    batch = batch_of(small, whole, pa.array([0.0, 5.0]))
    encoded = target.encode(batch, np.arange(2), "new.csv")
    assert encoded.tolist() == [[0.0, -1.0, 0.0], [0.25, 1.0, 5.0]]
    A = np.array([[0, 0.25], [-1, 1], [0.5, 1.5]], np.float32)
    given_back = target.given_back(A)
    assert [each.to_pylist() for each in given_back] == [[0.5, 1.0], [7.0, 9.0], [0.0, 0.0]]
    assert [each.type for each in given_back] == [pa.float32(), pa.float64(), pa.float64()]
    again = Target.from_json(json.loads(json.dumps(target.to_json())))
    assert again.columns == target.columns
    assert target.in_own_units().encode(batch, np.arange(2), "new.csv").tolist() == [
        [0.5, 7.0, 0.0],
        [1.0, 9.0, 5.0],
    ]


def test_of_several_columns_the_flaw_in_the_first_row_is_named() -> None:
    flawed = {"y": [0.5, 1.5, None], "z": [1.0, NAN, 2.0], "u": [3, None, 5]}
    line = line_of(lambda: read_several(**flawed))
    assert line.startswith("target column 'z' has a NaN in row 2 of people.csv; ")
    target = read_several(y=[0.5], z=[1.0], u=[3])
    batch = batch_of(*map(pa.array, flawed.values()))
    line = line_of(lambda: target.encode(batch, np.arange(3) + 10, "new.csv"))
    assert line.startswith("target column 'z' has a NaN in row 12 of new.csv; ")


@pytest.mark.parametrize(
    ("values", "task", "said"),
    [
        (["a", "b"], "auto", ["column 'z'", "string", "several targets", "numbers"]),
        ([True, False], "regression", ["column 'z'", "bool", "out of --target"]),
        ([datetime.date(2024, 1, 1)] * 2, "auto", ["column 'z'", "date32"]),
        ([[1], [2]], "auto", ["column 'z'", "cannot be a target"]),
        ([1, 2], "binary", ["--task binary", "one column", "targets 'y', 'z'"]),
        ([1, 2], "multiclass", ["--task multiclass", "leave --task out"]),
    ],
)
def test_several_columns_that_are_none(values: Any, task: str, said: list[str]) -> None:
    line = line_of(lambda: read_several(task, y=[0.5, 1.5], z=values))
    for part in said:
        assert part in line


# JSON


def test_one_column_is_stored_as_ever() -> None:
    assert in_unit(read([0.5, 1.5]), 2.0, 4.0).to_json() == {
        "name": "y",
        "task": "regression",
        "type": "double",
        "classes": None,
        "mean": 2.0,
        "deviation": 4.0,
    }


@given(
    st.one_of(
        st.lists(st.text(), min_size=2, unique=True),
        st.lists(st.integers(-(2**63), 2**63 - 1), min_size=2, unique=True),
        st.lists(st.floats(allow_nan=False, allow_infinity=False), min_size=2, unique=True),
        st.lists(st.binary(), min_size=2, unique=True),
        st.lists(st.dates(), min_size=2, unique=True),
        st.lists(st.datetimes(), min_size=2, unique=True),
    )
)
def test_json_round_trip_of_classes(values: list[Any]) -> None:
    target = read(values, "multiclass")
    again = Target.from_json(json.loads(json.dumps(target.to_json())))
    assert again.classes.equals(target.classes)
    assert again.class_names() == target.class_names()
    assert target.values_at(np.array(encode(again, values))).equals(pa.array(values))


@given(st.floats(allow_nan=False, allow_infinity=False), st.floats(0, 1e308))
def test_json_round_trip_of_regression(mean: float, deviation: float) -> None:
    target = in_unit(read([0.5, 1.5]), mean, deviation)
    again = Target.from_json(json.loads(json.dumps(target.to_json())))
    assert vars(again) == vars(target)


def hostile(values: Any, task: str, change: Callable[[Any], object]) -> Any:
    described = json.loads(json.dumps(read(values, task).to_json()))
    changed = change(described)
    return described if changed is None else changed


HOSTILE: dict[str, tuple[Any, str, Callable[[Any], object]]] = {
    "no object": (["a", "b"], "auto", lambda d: [1]),
    "key missing": (["a", "b"], "auto", lambda d: d.pop("type") and d),
    "key too many": (["a", "b"], "auto", lambda d: d.update(more=1)),
    "name": (["a", "b"], "auto", lambda d: d.update(name=None)),
    "task": (["a", "b"], "auto", lambda d: d.update(task="auto")),
    "task list": (["a", "b"], "auto", lambda d: d.update(task=[])),
    "type": (["a", "b"], "auto", lambda d: d.update(type="__import__('os')")),
    "type list": (["a", "b"], "auto", lambda d: d.update(type=["a\nb"])),
    "type nested": (["a", "b"], "auto", lambda d: d.update(type="list<item: int64>")),
    "decimal": (["a", "b"], "auto", lambda d: d.update(type="decimal128(999, 2)")),
    "decimal huge": (
        ["a", "b"],
        "auto",
        lambda d: d.update(type="decimal128(9" + "9" * 30 + ", 2)"),
    ),
    "width huge": (["a", "b"], "auto", lambda d: d.update(type="fixed_size_binary[99999999999]")),
    "zone": ([0, 1], "auto", lambda d: d.update(type="timestamp[us, tz=a]")),
    "classes missing": (["a", "b"], "auto", lambda d: d.update(classes=None)),
    "classes object": (["a", "b"], "auto", lambda d: d.update(classes={"a": 1})),
    "no classes": (["a", "b"], "auto", lambda d: d.update(classes=[])),
    "one class": (["a", "b"], "auto", lambda d: d.update(classes=["a"])),
    "three classes": (["a", "b"], "auto", lambda d: d.update(classes=["a", "b", "c"])),
    "descending": (["a", "b"], "auto", lambda d: d.update(classes=["b", "a"])),
    "twins": (["a", "b"], "auto", lambda d: d.update(classes=["a", "a"])),
    "null": (["a", "b"], "auto", lambda d: d.update(classes=["a", None])),
    "kind": (["a", "b"], "auto", lambda d: d.update(classes=["a", 1])),
    "truth": ([0, 1], "auto", lambda d: d.update(classes=[0, True])),
    "overflow": ([0, 1], "auto", lambda d: d.update(classes=[0, 2**70])),
    "overflow of the type": ([0, 1], "auto", lambda d: d.update(type="int8", classes=[0, 300])),
    "NaN": ([0.5, 1.5], "binary", lambda d: d.update(classes=[0.5, NAN])),
    "infinite": ([0.5, 1.5], "binary", lambda d: d.update(classes=[0.5, INFINITY])),
    "float32": ([0.5, 1.5], "binary", lambda d: d.update(type="float", classes=[0.5, 1e300])),
    "no date": (
        [datetime.date(1, 1, 1), datetime.date(2, 1, 1)],
        "auto",
        lambda d: d.update(classes=["0001-01-01", "x\ny"]),
    ),
    "no hexadecimals": ([b"a", b"b"], "auto", lambda d: d.update(classes=["61", "6x"])),
    "surrogate": (["a", "b"], "auto", lambda d: d.update(classes=["a", "\ud800"])),
    "mean": ([0.5, 1.5], "auto", lambda d: d.update(mean="1")),
    "mean NaN": ([0.5, 1.5], "auto", lambda d: d.update(mean=NAN)),
    "deviation": ([0.5, 1.5], "auto", lambda d: d.update(deviation=-1.0)),
    "regression to text": ([0.5, 1.5], "auto", lambda d: d.update(type="string")),
    "regression to classes": ([0.5, 1.5], "auto", lambda d: d.update(classes=[0.5, 1.5])),
    "list of none": ([0.5, 1.5], "auto", lambda d: []),
    "list of one": ([0.5, 1.5], "auto", lambda d: [d]),
    "list of the same": ([0.5, 1.5], "auto", lambda d: [d, d]),
    "list with classes": (["a", "b"], "auto", lambda d: [d, {**d, "name": "z"}]),
    "list in a list": ([0.5, 1.5], "auto", lambda d: [[d], {**d, "name": "z"}]),
}


@pytest.mark.parametrize(("values", "task", "change"), HOSTILE.values(), ids=HOSTILE)
def test_hostile_json(values: Any, task: str, change: Callable[[Any], object]) -> None:
    line_of(lambda: Target.from_json(hostile(values, task, change)))
