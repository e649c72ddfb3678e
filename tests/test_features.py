"""Features: the right columns, the right numbers, and one clear line for what cannot be used."""

import json
from collections.abc import Callable
from decimal import Decimal
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dist_dnn.data.categories import Vocabulary
from dist_dnn.data.columns import Column, choose_columns
from dist_dnn.data.features import Features, Standardisation
from dist_dnn.data.numbers import SLAB_NUMBERS, Numbers, check_finite
from dist_dnn.errors import InputError

NUMERIC_TYPES = [
    *(pa.int8(), pa.int16(), pa.int32(), pa.int64()),
    *(pa.uint8(), pa.uint16(), pa.uint32(), pa.uint64()),
    *(pa.float16(), pa.float32(), pa.float64()),
    pa.bool_(),
]

CATEGORY_TYPES = [
    *(pa.string(), pa.large_string(), pa.dictionary(pa.int8(), pa.string())),
    *(pa.dictionary(pa.int8(), pa.int64()), pa.dictionary(pa.int32(), pa.date32()), pa.bool_()),
]

SECONDS = {
    pa.date32(): (2, 172_800.0),
    pa.date64(): (86_400_000, 86_400.0),
    pa.timestamp("us"): (1_500_000, 1.5),
    pa.timestamp("ns", "Europe/Berlin"): (-250_000_000, -0.25),
    pa.time32("s"): (61, 61.0),
    pa.time32("ms"): (61_500, 61.5),
    pa.time64("us"): (61_500_000, 61.5),
    pa.duration("ns"): (2_500_000_000, 2.5),
}
"""What a value of each type is stored as, and what it becomes."""

OTHER_TYPES = [
    *(pa.binary(), pa.binary(3), pa.struct([("a\nb", pa.int64())])),
    *(pa.list_(pa.float64()), pa.large_list(pa.float64()), pa.map_(pa.string(), pa.int64())),
    *(pa.list_(pa.string(), 2), pa.list_(pa.list_(pa.int8(), 2), 2), pa.list_(pa.int8(), 0)),
    *(pa.dictionary(pa.int8(), pa.binary()), pa.list_(pa.dictionary(pa.int8(), pa.string()), 2)),
]


def line_of(call: Callable[[], object]) -> str:
    """The one line with which a call fails."""
    with pytest.raises(InputError) as caught:
        call()
    assert str(caught.value).isprintable()
    return str(caught.value)


# choose_columns


@pytest.mark.parametrize("type_", NUMERIC_TYPES, ids=str)
def test_numbers_and_lists_of_them_are_features(type_: pa.DataType) -> None:
    schema = pa.schema([("y", pa.string()), ("a", type_), ("b", pa.list_(type_, 3))])
    a, b = choose_columns(schema, ("y",), passthrough=["a"])
    assert (a.name, a.width, b.name, b.width) == ("a", 1, "b", 3)
    expected = {"b": "boolean", "i": "integer", "u": "integer"}.get(str(type_)[0], "floating")
    assert a.kind == b.kind == expected


@pytest.mark.parametrize("type_", OTHER_TYPES, ids=lambda type_: " ".join(str(type_).split()))
def test_other_types_are_refused(type_: pa.DataType) -> None:
    schema = pa.schema([("a", pa.int64()), ("bad one", type_), ("y", pa.int64())])
    line = line_of(lambda: choose_columns(schema, ("y",), where="people.csv"))
    assert "'bad one'" in line
    assert "people.csv" in line
    assert " ".join(str(type_).split()) in line
    assert "--exclude" in line
    assert [column.name for column in choose_columns(schema, ("y",), ["a"])] == ["a"]


@pytest.mark.parametrize("type_", CATEGORY_TYPES, ids=str)
def test_text_dictionaries_and_booleans_are_categories(type_: pa.DataType) -> None:
    [column] = choose_columns(pa.schema([("a", type_)]), ("y",))
    assert (column.width, column.treatment) == (1, "category")


@pytest.mark.parametrize("type_", [pa.int8(), pa.float32(), pa.date64()], ids=str)
def test_what_is_asked_of_columns(type_: pa.DataType) -> None:
    schema = pa.schema([("a", type_), ("b", type_), ("c", type_), ("d", type_)])
    chosen = choose_columns(schema, (), None, "x", ["c"], ["b"], ["d"])
    treatments = {column.name: column.treatment for column in chosen}
    assert treatments == {"a": "standardise", "b": "category", "d": "passthrough"}


def test_order_of_the_file_or_of_the_request() -> None:
    schema = pa.schema([(name, pa.int64()) for name in ("c", "a", "y", "b")])
    assert [column.name for column in choose_columns(schema, ("y",))] == ["c", "a", "b"]
    assert [column.name for column in choose_columns(schema, ("y",), ["b", "c"])] == ["b", "c"]


@pytest.mark.parametrize(
    ("requested", "said"),
    [
        (["age", "hieght"], ["'hieght'", "did you mean 'height'", "people.csv"]),
        (["zzz"], ["'zzz'", "'age', 'height', 'y'"]),
        (["age", "y"], ["'y'", "target"]),
        (["age", "height", "age"], ["'age'", "more than once"]),
        ([], ["no feature", "--features"]),
        (["a\nb"], [r"'a\nb'"]),
    ],
)
def test_requests_that_cannot_be_met(requested: list[str], said: list[str]) -> None:
    schema = pa.schema([("age", pa.int64()), ("height", pa.float64()), ("y", pa.bool_())])
    line = line_of(lambda: choose_columns(schema, ("y",), requested, "people.csv"))
    for part in said:
        assert part in line


def test_no_feature_beside_the_target() -> None:
    line = line_of(lambda: choose_columns(pa.schema([("y", pa.int64())]), ("y",)))
    assert "'y'" in line


# Numbers


def matrix_of(rows: pa.RecordBatch | pa.Table, columns: tuple[Column, ...]) -> Any:
    """Columns of numbers side by side, (rows, n), NaN where one is missing."""
    blocks = []
    for column in columns:
        slabs = [*Numbers(rows.column(column.name), column.width).slabs()]
        assert all(slab.values.dtype == np.float64 for slab in slabs)
        assert [slab.first for slab in slabs] == [*range(0, rows.num_rows, len(slabs[0].values))]
        values = [np.where(slab.missing(), np.nan, slab.values) for slab in slabs]
        blocks.append(np.concatenate(values).reshape(rows.num_rows, -1))
    return np.concatenate(blocks, axis=1)


@pytest.mark.parametrize("type_", NUMERIC_TYPES, ids=str)
def test_numbers_are_those_of_numpy(type_: Any) -> None:
    dtype = pa.array([], type_).to_numpy(zero_copy_only=False).dtype
    if np.issubdtype(dtype, np.integer):
        values = np.array([np.iinfo(dtype).min, np.iinfo(dtype).max, 1, 0, 3, 2], dtype)
    else:
        values = np.array([0, 1, 1, 0, 1, 1], dtype)
    arrays = [pa.array(values[:3]), pa.FixedSizeListArray.from_arrays(pa.array(values), 2)]
    batch = pa.record_batch(arrays, ["a", "b"])
    columns = choose_columns(batch.schema, ("y",), passthrough=["a"])
    for start in range(3):
        matrix = matrix_of(batch.slice(start), columns)
        expected = np.column_stack([values[:3], values.reshape(3, 2)]).astype(np.float64)[start:]
        assert np.array_equal(matrix, expected)


@pytest.mark.parametrize(("type_", "stored"), SECONDS.items(), ids=str)
def test_dates_and_times_are_seconds(type_: Any, stored: tuple[int, float]) -> None:
    value, seconds = stored
    integer: Any = pa.int32() if type_.bit_width == 32 else pa.int64()
    values = pa.array([value, None], integer).cast(type_)
    batch = pa.record_batch([values], ["a"])
    matrix = matrix_of(batch, choose_columns(batch.schema, ("y",)))
    assert matrix[0, 0] == seconds
    assert np.isnan(matrix[1, 0])


@pytest.mark.parametrize("make", [pa.decimal32, pa.decimal64, pa.decimal128, pa.decimal256])
def test_decimals(make: Callable[[int, int], Any]) -> None:
    values = pa.array([Decimal("1.50"), None, Decimal("-0.07")], pa.decimal128(5, 2))
    batch = pa.record_batch([values.cast(make(5, 2))], ["a"])
    matrix = matrix_of(batch, choose_columns(batch.schema, ("y",)))
    assert matrix[::2, 0].tolist() == [1.5, -0.07]
    assert np.isnan(matrix[1, 0])


@given(st.lists(st.decimals(-(10**20), 10**20, places=10, allow_nan=False), min_size=1))
def test_decimals_become_the_nearest_numbers(values: list[Decimal]) -> None:
    batch = pa.record_batch([pa.array(values, pa.decimal128(38, 10))], ["a"])
    columns = choose_columns(batch.schema, ("y",))
    matrix = matrix_of(batch, columns)
    assert matrix[:, 0].tolist() == [float(value) for value in values]


@pytest.mark.parametrize(
    ("values", "type_", "expected"),
    [
        ([1, None], pa.int64(), [1, np.nan]),
        ([True, None, False], pa.bool_(), [1, np.nan, 0]),
        ([[1, 2], None, [None, 3]], pa.list_(pa.int64(), 2), [1, 2, np.nan, np.nan, np.nan, 3]),
        ([[1, 2], [3, float("nan")]], pa.list_(pa.float32(), 2), [1, 2, 3, np.nan]),
        ([[True, None], None], pa.list_(pa.bool_(), 2), [1, np.nan, np.nan, np.nan]),
        ([[1.5], None, [None]], pa.list_(pa.float32(), 1), [1.5, np.nan, np.nan]),
        ([np.float16(1), None], pa.float16(), [1, np.nan]),
        ([None, None], pa.null(), [np.nan, np.nan]),
    ],
)
def test_what_is_missing_is_nan(values: list[Any], type_: pa.DataType, expected: list[Any]) -> None:
    batch = pa.record_batch([pa.array(values, type_)], ["x"])
    columns = choose_columns(batch.schema, ("y",), passthrough=["x"])
    rows = np.array(expected, float).reshape(len(values), -1)
    for start in range(len(values)):
        matrix = matrix_of(batch.slice(start), columns)
        assert np.array_equal(matrix, rows[start:], equal_nan=True)


FLAWS = {"a null": None, "a NaN": float("nan"), "an infinite value": -float("inf")}


def flawed_batch(rows: int, flaws: list[tuple[int, int, str]]) -> pa.RecordBatch:
    """Columns a, and b of 2 numbers, and c; flaws are (row, number of the row, what)."""
    numbers: list[list[float | None]] = [[float(n), 0.0, 1.0, 2.0] for n in range(rows)]
    for row, number, what in flaws:
        numbers[row][number] = FLAWS[what]
    pairs = pa.array([each[1:3] for each in numbers], pa.list_(pa.float32(), 2))
    columns = [
        pa.array([each[0] for each in numbers], pa.float64()),
        pairs,
        pa.array(
            [None if each[3] is None else np.float16(each[3]) for each in numbers], pa.float16()
        ),
    ]
    return pa.record_batch(columns, ["a", "b", "c"])


@given(
    flaws=st.lists(
        st.tuples(st.integers(0, 19), st.integers(0, 3), st.sampled_from(list(FLAWS))),
        min_size=1,
        max_size=6,
        unique_by=lambda flaw: flaw[:2],
    ),
    chunk=st.integers(1, 20),
)
def test_the_first_infinite_value_is_named_whatever_the_chunks(
    flaws: list[tuple[int, int, str]], chunk: int
) -> None:
    batch = flawed_batch(20, flaws)
    columns = choose_columns(batch.schema, ("y",))
    row_numbers = np.arange(20) * 10

    def read() -> None:
        for start in range(0, 20, chunk):
            chosen = slice(start, start + chunk)
            check_finite(batch.slice(start, chunk), columns, row_numbers[chosen], "people.csv")

    infinite = [flaw for flaw in flaws if flaw[2] == "an infinite value"]
    if not infinite:
        read()
        return
    row, number, what = min(infinite)
    expected = f"column {'abbc'[number]!r} has {what} in row {row * 10 + 1} of people.csv; "
    assert line_of(read).startswith(expected)


def test_the_slabs_are_the_same_whatever_the_chunks() -> None:
    random = np.random.default_rng(0)
    rows = 2 * SLAB_NUMBERS // 3 + 5
    pairs = [None if n % 7 == 0 else [n, None if n % 5 == 0 else n] for n in range(rows)]
    columns: list[Any] = [pa.array(pairs, pa.list_(pa.float64(), 2))]
    columns.append(pa.array(range(rows), pa.int32(), mask=random.random(rows) < 0.1))
    for column, width in zip(columns, (2, 1), strict=True):
        whole = [*Numbers(column, width).slabs()]
        ends = np.sort(random.integers(0, rows, 9))
        pieces = [column.slice(*part) for part in zip([0, *ends], np.diff([0, *ends, rows]))]  # noqa: B905
        for found, expected in zip(
            Numbers(pa.chunked_array(pieces), width).slabs(), whole, strict=True
        ):
            assert found.first == expected.first
            assert np.array_equal(found.missing(), expected.missing())
            is_there = ~expected.missing()
            assert np.array_equal(found.values[is_there], expected.values[is_there])


# Standardisation


def lists(values: list[list[float]]) -> Numbers:
    width = len(values[0])
    return Numbers(pa.array(values, pa.list_(pa.float64(), width)), width)


def test_standardisation() -> None:
    x, out = lists([[1.0, 5.0, -3.0], [3.0, 5.5, 1e6]]), np.empty((2, 3), np.float32)
    deviation = np.array([0.3, 0.0, 7.0])
    Standardisation(np.array([2.0, 5.0, 1.0]), deviation).apply(x, out)
    assert out[:, 1].tolist() == [0, 0]
    assert out[0, 0] == np.float32((1.0 - 2.0) / 0.3)
    assert out[1, 2] == np.float32((1e6 - 1.0) / 7.0)


def test_standardisation_into_a_transposed_view() -> None:
    out = np.zeros((2, 3), np.float32)
    Standardisation(np.zeros(2), np.ones(2)).apply(lists([[0, 1], [2, 3], [4, 5]]), out.T)
    assert out.tolist() == [[0, 2, 4], [1, 3, 5]]


def example_features() -> Features:
    columns = (Column("a", 1, "integer"), Column("b", 2, "floating"))
    return Features(columns, Standardisation(np.array([1, 0.1, 2]), np.array([1 / 3, 0, 1e-300])))


def test_fill_names_what_float32_cannot_hold() -> None:
    features = example_features()
    batch = pa.record_batch(
        {"a": [1, 2], "b": pa.array([[0.1, 2], [9, 3]], pa.list_(pa.float64(), 2))}
    )
    out = np.empty((2, 3), np.float32)
    features.fill(batch.slice(0, 1), np.array([6]), "people.csv", out[:1])
    assert out[0].tolist() == [0, 0, 0]
    line = line_of(lambda: features.fill(batch, np.array([6, 8]), "people.csv", out))
    assert "column 'b'" in line
    assert "row 9 of people.csv" in line


@pytest.mark.parametrize("bad", [np.inf, np.nan])
def test_columns_too_large_for_their_squares(bad: float) -> None:
    columns = example_features().columns
    line = line_of(lambda: Features(columns, Standardisation(np.zeros(3), np.array([1, 2, bad]))))
    assert "'b'" in line


# Features


def test_size_and_schema() -> None:
    features = example_features()
    assert features.size == 3
    features.check_schema(
        pa.schema([("b", pa.list_(pa.int8(), 2)), ("y", pa.string()), ("a", pa.float32())]), "x"
    )


def test_booleans_of_models_that_have_them_as_numbers() -> None:
    batch = pa.record_batch({"a": [False, None, True]})
    features = Features(
        (Column("a", 1, "boolean"),), Standardisation(np.array([0.5]), np.array([0.25]))
    )
    features.check_schema(batch.schema, "x")
    X = np.empty((3, 1), np.float32)
    features.fill(batch, np.arange(3), "x", X)
    assert X.T.tolist() == [[-2, 0, 2]]


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"a": pa.int64()}, ["no column 'b'"]),
        ({"a": pa.int64(), "b": pa.list_(pa.float32(), 3)}, ["'b'", "[3]", "2 floating"]),
        ({"a": pa.int64(), "b": pa.float32()}, ["'b'", "float", "2 floating"]),
        ({"a": pa.string(), "b": pa.list_(pa.float32(), 2)}, ["'a'", "string", "1 integer"]),
        ({"a": pa.date32(), "b": pa.list_(pa.float32(), 2)}, ["'a'", "date32", "1 integer"]),
    ],
)
def test_schemas_that_do_not_fit(fields: dict[str, pa.DataType], said: list[str]) -> None:
    schema = pa.schema(list(fields.items()))
    line = line_of(lambda: example_features().check_schema(schema, "new.csv"))
    assert "new.csv" in line
    for part in said:
        assert part in line


finite = st.floats(allow_nan=False, allow_infinity=False)


@given(
    st.lists(
        st.tuples(st.text(), st.sampled_from(["boolean", "integer", "floating"]), finite, finite),
        min_size=1,
        unique_by=lambda column: column[0],
    )
)
def test_json_round_trip(described: list[tuple[str, Any, float, float]]) -> None:
    columns = tuple(Column(name, 1, kind) for name, kind, _, _ in described)
    mean = np.array([mean for _, _, mean, _ in described])
    deviation = np.array([abs(deviation) for _, _, _, deviation in described])
    features = Features(columns, Standardisation(mean, deviation))
    again = Features.from_json(json.loads(json.dumps(features.to_json())))
    assert again.columns == columns
    assert again.standardisation.mean.tobytes() == mean.tobytes()
    assert again.standardisation.deviation.tobytes() == deviation.tobytes()


def mixed_features() -> Features:
    """Numbers with and without indicators, categories of every kind, and a list."""
    columns = (
        Column("s", 1, "text", "category"),
        Column("a", 1, "integer"),
        Column("v", 2, "floating", "passthrough"),
        Column("z", 1, "integer", "category"),
        Column("t", 1, "timestamp"),
    )
    standardisation = Standardisation(np.array([1.0, 5, 6, 0]), np.array([2.0, 1, 1, 10]))
    vocabularies = (Vocabulary(("x", "é"), True, True), Vocabulary(("7", "10")))
    return Features(columns, standardisation, (0, 2), vocabularies)


def test_fill_of_every_kind() -> None:
    features = mixed_features()
    assert features.size == 4 + 2 + 3 + 2 + 1
    batch = pa.record_batch(
        {
            "t": pa.array([20, None, 0], pa.timestamp("s")),
            "s": pa.array(["é", None, "unseen"]),
            "a": pa.array([3, None, 1]),
            "v": pa.array([[7, 8], [None, 9], None], pa.list_(pa.float64(), 2)),
            "z": pa.array([10.0, 8, 7]),
        }
    )
    out = np.full((3, features.size), 9, np.float32)
    features.fill(batch, np.arange(3), "x", out)
    assert out.tolist() == [
        [0, 1, 0, 0, 1, 0, 7, 8, 0, 0, 1, 2],
        [0, 0, 1, 0, 0, 1, 5, 9, 0, 0, 0, 0],
        [0, 0, 0, 1, 0, 0, 5, 6, 1, 1, 0, 0],
    ]


def test_nothing_but_nulls_is_missing_in_every_column() -> None:
    features = mixed_features()
    batch = pa.record_batch([pa.nulls(2)] * 4, ["s", "a", "z", "t"])
    pairs = pa.nulls(2, pa.list_(pa.int8(), 2))
    batch = batch.append_column("v", pairs)
    features.check_schema(batch.schema, "x")
    out = np.empty((2, features.size), np.float32)
    features.fill(batch, np.arange(2), "x", out)
    assert out[0].tolist() == [0, 0, 1, 0, 0, 1, 5, 6, 1, 0, 0, 0]


def test_json_of_every_kind() -> None:
    features = mixed_features()
    described = json.loads(json.dumps(features.to_json()))
    again = Features.from_json(described)
    assert again.to_json() == features.to_json()
    assert again.layout == features.layout


MIXED: dict[str, Callable[[Any], object]] = {
    "treatment": lambda columns: columns[1].update(treatment="squared"),
    "category without categories": lambda columns: columns[1].update(treatment="category"),
    "categories of numbers": lambda columns: columns[0].update(categories=[1, 2]),
    "categories twice": lambda columns: columns[0].update(categories=["x", "x"]),
    "categories no list": lambda columns: columns[0].update(categories="x"),
    "null no boolean": lambda columns: columns[0].update(null=1),
    "other no boolean": lambda columns: columns[0].update(other=None),
    "no category": lambda columns: columns[3].update(categories=[]),
    "lists of categories": lambda columns: columns[0].update(width=2),
    "indicators of a category": lambda columns: columns[0].update(indicators=[0]),
    "indicator of no number": lambda columns: columns[2].update(indicators=[2]),
    "indicators twice": lambda columns: columns[2].update(indicators=[1, 1]),
    "indicators no list": lambda columns: columns[2].update(indicators=1),
}


@pytest.mark.parametrize("change", MIXED.values(), ids=MIXED)
def test_hostile_json_of_every_kind(change: Callable[[Any], object]) -> None:
    described = json.loads(json.dumps(mixed_features().to_json()))
    change(described["columns"])
    line_of(lambda: Features.from_json(described))


def hostile(change: Callable[[Any], object]) -> Any:
    described = json.loads(json.dumps(example_features().to_json()))
    return change(described) or described


HOSTILE: dict[str, Callable[[Any], object]] = {
    "no object": lambda d: [1],
    "number": lambda d: 3,
    "key missing": lambda d: d.pop("mean") and None,
    "key too many": lambda d: d.update(more=1),
    "columns no list": lambda d: d.update(columns={}),
    "no columns": lambda d: d.update(columns=[], mean=[], deviation=[]),
    "column no object": lambda d: d.update(columns=[1, 2]),
    "column key": lambda d: d["columns"][0].update(more=1),
    "name": lambda d: d["columns"][0].update(name=3),
    "width 0": lambda d: d["columns"][0].update(width=0),
    "width true": lambda d: d["columns"][0].update(width=True),
    "width real": lambda d: d["columns"][0].update(width=1.0),
    "width huge": lambda d: d["columns"][0].update(width=10**30),
    "kind": lambda d: d["columns"][0].update(kind="a\nb"),
    "kind list": lambda d: d["columns"][0].update(kind=[]),
    "twins": lambda d: d["columns"][1].update(name="a"),
    "lengths": lambda d: d["mean"].append(1.0),
    "NaN": lambda d: d.update(mean=[1.0, float("nan"), 2.0]),
    "infinite": lambda d: d.update(deviation=[1.0, float("inf"), 2.0]),
    "huge": lambda d: d.update(mean=[1.0, 10**400, 2.0]),
    "text": lambda d: d.update(mean=[1.0, "2", 2.0]),
    "true": lambda d: d.update(mean=[1.0, True, 2.0]),
    "nested": lambda d: d.update(mean=[1.0, [1.0], 2.0]),
    "negative": lambda d: d.update(deviation=[1.0, -1.0, 2.0]),
}


@pytest.mark.parametrize("change", HOSTILE.values(), ids=HOSTILE)
def test_hostile_json(change: Callable[[Any], object]) -> None:
    line_of(lambda: Features.from_json(hostile(change)))
