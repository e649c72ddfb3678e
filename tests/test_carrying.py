"""Columns of a table beside the predictions for its rows."""

from collections.abc import Callable
from datetime import date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.feather as feather
import pyarrow.parquet as parquet
import pytest
from models import SHARDS, bits, expected_predictions, made_up_model, made_up_table

from dist_dnn.data.sources import open_source
from dist_dnn.errors import InputError
from dist_dnn.front.carrying import beside, check_columns
from dist_dnn.front.predict import write_parquet
from dist_dnn.prediction import predictions
from workers.in_process import InProcessGroup

M = 5000

COLUMNS: dict[str, tuple[pa.DataType, list[Any]]] = {
    "id": (pa.uint64(), [2**64 - 1, 0, None]),
    "name": (pa.string(), ["a", "", None, "ä\n"]),
    "day": (pa.date32(), [date(1969, 12, 31), None]),
    "instant": (pa.timestamp("us", "Europe/Vienna"), [datetime(2013, 10, 27, 1), None]),
    "price": (pa.decimal128(20, 3), [Decimal("-1.125"), None]),
    "kind": (pa.dictionary(pa.int16(), pa.string()), ["x", "y", None, "z"]),
    "tags": (pa.list_(pa.string()), [["a", None], [], None]),
    "pair": (pa.list_(pa.float32(), 2), [[1, 2], None, [np.nan, None]]),
    "place": (
        pa.struct([("at", pa.list_(pa.int8())), ("kind", pa.dictionary(pa.int8(), pa.string()))]),
        [{"at": [1], "kind": "x"}, {"at": None, "kind": None}, None],
    ),
    "counts": (pa.map_(pa.string(), pa.int32()), [[("a", 1)], [], None]),
    "code": (pa.binary(3), [b"\0\1\2", None]),
    "nothing": (pa.null(), [None]),
    "a.b": (pa.bool_(), [True, False, None]),
}
"""Their types, and values that take turns."""


def table(m: int = M) -> pa.Table:
    """What the made-up models need, and columns of many types."""
    made = made_up_table(m)
    for name, (type_, some) in COLUMNS.items():
        values = (some * (m // len(some) + 1))[:m]
        made = made.append_column(name, pa.array(values, type_))
    return made


def written(data: Any, names: list[str], out: Path) -> pa.Table:
    model, source = made_up_model("multiclass"), open_source(data)
    check_columns(source, names, ["prediction"])
    found = predictions(InProcessGroup(SHARDS), model, source)
    write_parquet(out, beside(source, names, found))
    return parquet.read_table(out)


def rows_of(found: pa.Table) -> list[dict[str, Any]]:
    return [{name: repr(value) for name, value in row.items()} for row in found.to_pylist()]


def to_folder(given: pa.Table, path: Path) -> None:
    path.mkdir()
    parquet.write_table(given.slice(0, 3000), path / "1.parquet", row_group_size=700)
    parquet.write_table(given.slice(3000), path / "2.parquet")


PLACES: dict[str, Callable[[pa.Table, Path], object]] = {
    "x.parquet": lambda given, path: parquet.write_table(given, path, row_group_size=777),
    "x.arrow": lambda given, path: feather.write_feather(
        given, path, compression="uncompressed", chunksize=900
    ),
    "folder": to_folder,
}


@pytest.mark.parametrize("place", PLACES)
def test_columns_of_any_type_stand_first_in_the_order_given(place: str, tmp_path: Path) -> None:
    given = table()
    PLACES[place](given, tmp_path / place)
    names = [*sorted(COLUMNS), "x"]
    for data in (tmp_path / place, f"file://{tmp_path / place}"):
        found = written(data, names, tmp_path / "out.parquet")
        assert found.column_names[: len(names)] == names
        for name in names:
            assert found.schema.field(name).type == given.schema.field(name).type
        assert rows_of(found.select(names)) == rows_of(given.select(names))
        rest = found.drop_columns(names)
        assert bits(rest) == bits(expected_predictions(made_up_model("multiclass"), given))


def test_columns_of_a_table_in_memory(tmp_path: Path) -> None:
    found = written(table(), ["kind", "id"], tmp_path / "out.parquet")
    assert rows_of(found.select(["kind", "id"])) == rows_of(table().select(["kind", "id"]))


def test_columns_are_read_by_pieces(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("dist_dnn.prediction.GROUP_ROWS", 1500)
    monkeypatch.setattr("dist_dnn.front.carrying.GROUP_BYTES", 10_000)
    given = table()
    parquet.write_table(given, tmp_path / "x.parquet")
    source = open_source(tmp_path / "x.parquet")
    found = predictions(InProcessGroup(SHARDS), made_up_model("multiclass"), source)
    parts = list(beside(source, ["id"], found))
    assert [part.num_rows for part in parts] == [1500, 1500, 1500, 500]
    found = predictions(InProcessGroup(SHARDS), made_up_model("multiclass"), source)
    wide = list(beside(source, ["place", "id", "instant"], found))
    assert max(part.num_rows for part in wide) < 1500
    assert len(wide) > len(parts)
    assert pa.concat_tables(wide)["id"].to_pylist() == given["id"].to_pylist()
    together = pa.concat_tables(wide).drop_columns(["place", "instant"])
    assert bits(together) == bits(pa.concat_tables(parts))


@pytest.mark.parametrize(
    ("names", "said"),
    [
        (["id", "nmae"], r"^DATA has no column 'nmae'; did you mean 'name'\?$"),
        (["id", "x", "id"], "^--columns has 'id' more than once; leave one of them$"),
        (["prediction"], "^--columns has 'prediction', which is the name of a column of predictio"),
        (["span"], "^--columns has 'span', whose type month_day_nano_interval cannot be written"),
    ],
)
def test_columns_that_cannot_be(names: list[str], said: str) -> None:
    spans = pa.nulls(M, pa.month_day_nano_interval())
    given = table().append_column("prediction", pa.nulls(M)).append_column("span", spans)
    with pytest.raises(InputError, match=said):
        check_columns(open_source(given), names, ["prediction", "probability_a"])


def test_a_struct_that_forbids_nulls_inside(tmp_path: Path) -> None:
    type_ = pa.struct([pa.field("a", pa.int8(), nullable=False)])
    given = made_up_table(3).append_column("s", pa.array([{"a": 1}] * 3, type_))
    assert written(given, ["s"], tmp_path / "out.parquet")["s"].to_pylist() == [{"a": 1}] * 3


def test_a_source_that_gives_fewer_rows_than_there_are_predictions_is_named() -> None:
    source = open_source(table(5))
    predicted = iter([pa.record_batch({"prediction": [1.0] * 8})])
    with pytest.raises(InputError, match=f"{source.name} has fewer rows than when it was opened"):
        list(beside(source, ["id"], predicted))
