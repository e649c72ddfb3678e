"""Columns of every kind: what is found in them equals plain Python's, by the same bits anywhere."""

import datetime
import math
from collections import Counter
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dist_dnn.data.class_weights import Counted
from dist_dnn.data.columns import choose_columns
from dist_dnn.data.dataset import Dataset
from dist_dnn.data.fitting import Fit, fit
from dist_dnn.data.holdout import Rows
from dist_dnn.data.sources import open_source
from dist_dnn.data.vocabularies import least_weight
from dist_dnn.front.api import train
from dist_dnn.gathering import WINDOW_BYTES
from dist_dnn.model import Model
from dist_dnn.rounds import Group
from workers.in_process import InProcessGroup
from workers.local_processes import LocalGroup

SHARDS = 8

VALUES: dict[str, tuple[Any, st.SearchStrategy[Any]]] = {
    "text": (pa.string(), st.sampled_from(["a", "B", "é", "", "\n", "zz", "z"])),
    "dictionary": (pa.dictionary(pa.int32(), pa.string()), st.sampled_from(["u", "v", "w"])),
    "zip": (pa.int32(), st.sampled_from([-1, 2, 10, 9])),
    "year": (pa.float64(), st.sampled_from([2013.0, 0.0, -0.0, 1e20, 0.1, math.nan])),
    "flag": (pa.bool_(), st.booleans()),
    "number": (pa.float32(), st.sampled_from([1.5, -2.0, 0.0, math.nan])),
    "big": (pa.int64(), st.integers(-(2**40), 2**40)),
    "day": (pa.date32(), st.dates(datetime.date(1900, 1, 1), datetime.date(2100, 1, 1))),
    "time": (pa.timestamp("s"), st.datetimes(datetime.datetime(1950, 1, 1)).map(
        lambda time: time.replace(microsecond=0)
    )),
}  # fmt: skip
"""Columns: their types and values."""

CATEGORICAL = ("zip", "year")
CATEGORIES = ("text", "dictionary", "zip", "year", "flag")
BOOLEANS = {"false": False, "true": True}


@st.composite
def tables(draw: st.DrawFn) -> pa.Table:
    rows = draw(st.integers(1, 40))
    columns = {}
    for name, (type_, values) in VALUES.items():
        whole = draw(st.booleans())
        each = values if whole else st.none() | values
        drawn = draw(st.lists(each, min_size=rows, max_size=rows))
        columns[name] = pa.array(drawn, type_, from_pandas=False)
    return pa.table(columns)


def fitted(
    group: Group, data: Any, least: float = 0.001, most: int = 100, validation: float = 0
) -> tuple[Fit, Dataset]:
    """What a group finds in all columns, and the data set."""
    source = open_source(data)
    categorical = [name for name in CATEGORICAL if name in source.schema.names]
    columns = choose_columns(source.schema, (), None, "x", (), categorical)
    rows = Rows.kept(source.rows, 0, validation) if validation else Rows.all(source.rows)
    dataset = Dataset(source, rows, columns, (), SHARDS)
    group.load("made up", dataset)
    return fit(group, "made up", columns, Counted(rows.count, rows.count), least, most), dataset


def is_missing(value: Any) -> bool:
    return value is None or (isinstance(value, float) and math.isnan(value))


def number_of(value: Any) -> float:
    if isinstance(value, datetime.datetime):
        return value.replace(tzinfo=datetime.UTC).timestamp()
    if isinstance(value, datetime.date):
        return (value - datetime.date(1970, 1, 1)).days * 86_400.0
    return float(value)


def expected_categories(
    values: list[Any], name: str, least: Fraction, most: int
) -> tuple[list[Any], list[list[int]]]:
    """The values that are categories, and the rows of X, as plain Python has them."""
    present = [value + 0 if name == "year" else value for value in values if not is_missing(value)]
    counts = Counter(present)
    frequent = [value for value in sorted(counts) if counts[value] >= least * len(values)]
    kept = sorted(sorted(frequent, key=lambda value: -counts[value])[:most])
    has_null, has_other = len(present) < len(values), set(counts) > set(kept)
    names = [*kept, *(["null"] if has_null else []), *(["other"] if has_other else [])]
    rows = []
    for value in values:
        is_kept = not is_missing(value) and value in kept
        place = kept.index(value) if is_kept else len(kept)
        if not is_missing(value) and not is_kept and has_null:
            place += 1
        rows.append([int(place == each) for each in range(len(names))])
    return kept, rows


def expected_numbers(values: list[Any]) -> list[list[float]]:
    present = [number_of(value) for value in values if not is_missing(value)]
    mean = math.fsum(present) / max(len(present), 1)
    square = math.fsum((x - mean) ** 2 for x in present) / max(len(present), 1)
    deviation = math.sqrt(square) if len(set(present)) > 1 else math.inf
    rows = [[0.0 if is_missing(x) else (number_of(x) - mean) / deviation] for x in values]
    if 0 < len(present) < len(values):
        rows = [[*row, float(is_missing(x))] for row, x in zip(rows, values, strict=True)]
    return rows


@given(tables(), st.sampled_from([0.001, 0.1, 0.3]), st.integers(1, 5))
@settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.too_slow])
def test_x_is_that_of_plain_python(table: pa.Table, least: float, most: int) -> None:
    found, dataset = fitted(InProcessGroup(SHARDS), table, least, most)
    X = np.empty((table.num_rows, found.features.size), np.float32)
    [batch] = table.combine_chunks().to_batches()
    found.features.fill(batch, np.arange(len(X)), "x", X)
    by_shard = [dataset.table(shard) for shard in range(SHARDS)]
    start = 0
    vocabularies = iter(found.features.vocabularies)
    for name, width in zip(VALUES, found.features.layout.widths, strict=True):
        values = table[name].to_pylist()
        block, start = X[:, start : start + width], start + width
        if name in CATEGORIES:
            kept, rows = expected_categories(values, name, Fraction(least), most)
            vocabulary = next(vocabularies)
            texts = zip(kept, vocabulary.values, strict=True)
            assert [BOOLEANS.get(text, type(value)(text)) for value, text in texts] == kept
            assert block.tolist() == rows
        else:
            expected = np.array(expected_numbers(values))
            assert np.allclose(block, expected, rtol=1e-4, atol=1e-4), name
    shard_rows = [each.num_rows for each in by_shard]
    assert sum(shard_rows) == table.num_rows


@pytest.fixture(scope="module")
def groups() -> Iterator[list[Group]]:
    with (
        LocalGroup(SHARDS, 1) as one,
        LocalGroup(SHARDS, 2) as two,
        LocalGroup(SHARDS, 3) as three,
        LocalGroup(SHARDS, 8) as eight,
    ):
        yield [InProcessGroup(SHARDS), one, two, three, eight]


@given(table=tables(), pieces=st.integers(1, 12), files=st.integers(1, 3))
@settings(
    deadline=None,
    max_examples=8,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
def test_the_same_bits_for_any_workers_files_and_row_groups(
    table: pa.Table, pieces: int, files: int, groups: list[Group], tmp_path_factory: Any
) -> None:
    folder = tmp_path_factory.mktemp("data")
    rows = -(-table.num_rows // files)
    for number in range(0, table.num_rows, rows):
        part = table.slice(number, rows)
        pq.write_table(part, folder / f"{number:03}.parquet", row_group_size=pieces)
    expected, _ = fitted(groups[0], table)
    for group in groups:
        found, _ = fitted(group, folder)
        assert found.features.to_json() == expected.features.to_json()
        assert found.missing.tolist() == expected.missing.tolist()
        assert found.found == expected.found


def test_dictionaries_are_text_whatever_they_hold(groups: list[Group]) -> None:
    """Nulls, and in 8 bits the places of more values than these can name together."""
    texts = [[f"a{n}" if n % 9 else None for n in range(100)], [f"b{n}" for n in range(100)]]
    places = pa.array(range(100), pa.int8())
    chunks = [pa.DictionaryArray.from_arrays(places, pa.array(each)) for each in texts]
    in_dictionaries = pa.table({"x": pa.chunked_array(chunks)})
    expected, _ = fitted(groups[0], pa.table({"x": [*texts[0], *texts[1]]}))
    for group in groups[:2]:
        found, _ = fitted(group, in_dictionaries)
        assert found.found == expected.found
        assert found.found[0].missing == 12


def test_the_statistics_are_those_of_the_rows_to_train_on() -> None:
    rows = Rows.kept(100, 0, 0.3)
    kept = rows.numbers(0, rows.count)
    table = pa.table({"text": [f"{n % 7}" for n in range(100)], "number": [*range(99), None]})
    found, _ = fitted(InProcessGroup(SHARDS), table, validation=0.3)
    assert found.m == rows.count
    assert found.found[0].counts == tuple(Counter(int(n) % 7 for n in kept)[k] for k in range(7))


@pytest.mark.parametrize("value", [0.1, -0.0, 1e150, 5e-324, -123456.789])
@pytest.mark.parametrize("missing", [(), (0,), (0, 1, 2, 50, 99)])
def test_a_constant_column_is_known_by_its_bits(value: float, missing: tuple[int, ...]) -> None:
    values = [None if row in missing else value for row in range(100)]
    found, _ = fitted(InProcessGroup(SHARDS), pa.table({"a": values}))
    standardisation = found.features.standardisation
    assert (standardisation.mean[0], standardisation.deviation[0]) == (value, 0)
    values[70] = value / 2 + 1
    other, _ = fitted(InProcessGroup(SHARDS), pa.table({"a": values}))
    assert other.features.standardisation.deviation[0] > 0


@pytest.mark.parametrize(
    ("part", "rows", "least"), [(0.001, 0, 1), (0.001, 1000, 2), (0.25, 8, 2), (0.25, 9, 3)]
)
def test_the_least_count(part: float, rows: int, least: int) -> None:
    assert math.ceil(least_weight(part, rows)) == least


def test_values_that_fill_many_windows(groups: list[Group]) -> None:
    long = WINDOW_BYTES // 20
    table = pa.table({"text": [f"{'é' * long}{n % 50:02}" for n in range(100)]})
    for group in (groups[0], groups[3]):
        found, _ = fitted(group, table)
        assert [value[-2:] for value in found.found[0].vocabulary.values] == [
            f"{n:02}" for n in range(50)
        ]


def test_a_table_of_text_alone(groups: list[Group]) -> None:
    table = pa.table({"text": ["a", "b", "a", None] * 5, "y": ["u", "v"] * 10})
    digests = {train(table, "y", {"hidden": [4], "epochs": 1}, workers=n).digest for n in (0, 2)}
    assert len(digests) == 1
    assert fitted(groups[2], table)[0].features.size == 3 + 2


def test_ids_become_one_row_and_take_no_memory() -> None:
    table = pa.table({"text": [f"id {n}" for n in range(20_000)]})
    found, _ = fitted(InProcessGroup(SHARDS), table)
    assert found.features.size == 1
    assert found.found[0].others == 20_000


def people(m: int) -> pa.Table:
    """Text, categories, missing numbers, a date, and a target that depends on them."""
    random = np.random.default_rng(m)
    city, age = random.integers(0, 5, m), random.normal(40, 10, m)
    is_missing = random.random(m) < 0.1
    return pa.table(
        {
            "city": pa.array([None if c == 4 else f"city {c}" for c in city]),
            "age": pa.array(np.where(is_missing, np.nan, age)),
            "since": pa.array(random.integers(0, 9999, m), pa.int32()).cast(pa.date32()),
            "married": pa.array([[True, False, None][c % 3] for c in city]),
            "y": np.where(is_missing, city % 2, (age > 40).astype(int)),
        }
    )


EXPERIMENT: dict[str, Any] = {"hidden": [8], "batch_size": 32, "epochs": 2, "validation": 0.2}


def test_one_digest_for_any_workers_and_row_groups(tmp_path: Path) -> None:
    table = people(500)
    digests = set()
    for workers in (0, 1, 5):
        pq.write_table(table, tmp_path / "people.parquet", row_group_size=37 * (workers + 1))
        digests.add(train(tmp_path / "people.parquet", "y", EXPERIMENT, workers=workers).digest)
    assert len(digests) == 1
    assert digests == {train(table, "y", EXPERIMENT, workers=2).digest}


def test_a_run_with_categories_goes_on(tmp_path: Path) -> None:
    table = people(300)
    whole = train(table, "y", {**EXPERIMENT, "epochs": 3}, workers=0)
    train(table, "y", EXPERIMENT, workers=0, out=tmp_path / "run")
    again = train(table, "y", {"epochs": 3}, workers=2, out=tmp_path / "run", resume=True)
    assert again.digest == whole.digest
    assert Model.load(tmp_path / "run").features.to_json() == whole.model.features.to_json()  # type: ignore[union-attr]
