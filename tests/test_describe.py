"""The command describe, and what a training says of its columns."""

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from dist_dnn.front.cli import run

ROWS = 40


@pytest.fixture
def table(tmp_path: Path) -> Path:
    """A column of every kind."""
    columns: dict[str, Any] = {
        "height": [None if n == 3 else n / 7 for n in range(ROWS)],
        "same": [1] * ROWS,
        "nothing": pa.nulls(ROWS),
        "city": [["Rome", "Oslo", None][n % 3] for n in range(ROWS)],
        "zip": [n % 4 for n in range(ROWS)],
        "day": pa.array(range(ROWS), pa.int32()).cast(pa.date32()),
        "pair": pa.array([[n, 1.0] for n in range(ROWS)], pa.list_(pa.float64(), 2)),
        "flag": [n % 2 == 0 for n in range(ROWS)],
        "bytes": [b"x"] * ROWS,
        "id": [f"{n}" for n in range(ROWS)],
        "kind": [n % 3 for n in range(ROWS)],
    }
    path = tmp_path / "table.parquet"
    pq.write_table(pa.table(columns), path)
    return path


FLAGS = ["--target", "kind", "--categorical", "zip", "--passthrough", "pair", "--exclude", "id"]


def described(capsys: pytest.CaptureFixture[str], *arguments: object) -> dict[str, Any]:
    assert run(["describe", *map(str, arguments), "--json"]) == 0
    stdout, stderr = capsys.readouterr()
    assert stderr == ""
    assert stdout.count("\n") == 1
    found: dict[str, Any] = json.loads(stdout)
    return found


def test_json(table: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = described(capsys, table, *FLAGS)
    columns = {each["column"]: each for each in found["columns"]}
    treatments = {name: (each["treatment"], each["width"]) for name, each in columns.items()}
    assert treatments == {
        "height": ("standardise", 2),
        "same": ("standardise", 1),
        "nothing": ("standardise", 1),
        "city": ("one-hot", 3),
        "zip": ("one-hot", 4),
        "day": ("standardise", 1),
        "pair": ("passthrough", 2),
        "flag": ("one-hot", 2),
        "bytes": ("unusable", 0),
        "kind": ("target", 0),
        "id": ("left out", 0),
    }
    assert (found["rows"], found["m"], found["n"]) == (ROWS, ROWS, 16)
    assert columns["city"]["categories"] == ["Oslo", "Rome"]
    assert columns["city"]["counts"] == [13, 14]
    assert columns["city"]["missing"] == 13
    assert columns["height"]["missing"] == 1
    assert columns["pair"]["mean"] == [19.5, 1.0]
    assert columns["day"]["type"] == "date32[day]"
    assert "--exclude" in columns["bytes"]["why"]


def test_weights_of_classes_stand_by_the_names_that_a_file_has(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """In JSON, even where people are shown them otherwise."""
    path = tmp_path / "table.parquet"
    pq.write_table(pa.table({"x": range(40), "kind": ["a\nb", "c"] * 20}), path)
    flags = (path, "--target", "kind", "--class-weight", "balanced")
    [_, kind] = described(capsys, *flags)["columns"]
    assert kind["class_weights"] == {"a\nb": 1, "c": 1}
    assert run(["describe", *map(str, flags)]) == 0
    assert "2 classes: 'a\\nb', c; their weights 1, 1" in capsys.readouterr().out


def test_workers_change_nothing(table: Path, capsys: pytest.CaptureFixture[str]) -> None:
    alone = described(capsys, table, *FLAGS, "--validation", 0.3)
    assert described(capsys, table, *FLAGS, "--validation", 0.3, "--workers", 2) == alone
    assert alone["m"] < ROWS


def test_a_table_for_people(table: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["describe", str(table), *FLAGS]) == 0
    stdout, stderr = capsys.readouterr()
    assert stderr == ""
    lines = stdout.splitlines()
    assert lines[0].split()[:3] == ["column", "type", "treatment"]
    assert max(map(len, lines)) <= 120
    by_name = {line.split()[0]: line for line in lines[1:-3]}
    assert "2 categories: Oslo, Rome, null (13 rows); text" in by_name["city"]
    assert "4 categories: 0, 1, 2, …; --categorical, or a dictionary" in by_name["zip"]
    assert "2 categories: false, true; boolean" in by_name["flag"]
    assert "missing is the mean, 1 indicator" in by_name["height"]
    assert "constant: fills X with 0" in by_name["same"]
    assert "all is missing" in by_name["nothing"]
    assert "seconds since the epoch" in by_name["day"]
    assert lines[-1] == "40 of 40 rows to train on; X has n[0] = 16 rows"


def test_a_training_says_what_is_not_just_numbers(
    table: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    flags = [*FLAGS[:-1], "bytes,id", "--epochs", "0", "--hidden", "4", "--workers", "0"]
    assert run(["train", str(table), "--out", str(tmp_path / "run"), *flags]) == 0
    stdout, stderr = capsys.readouterr()
    assert stdout == ""
    said = [line for line in stderr.splitlines() if line.startswith("column ")]
    assert said == [
        "column 'height': missing in 1 of 40 rows; missing is the mean, 1 indicator",
        "column 'nothing': missing in 40 of 40 rows; all is missing: fills X with 0",
        "column 'city': 2 categories: Oslo, Rome, null (13 rows)",
        "column 'zip': 4 categories: 0, 1, 2, …",
        "column 'day': dates are seconds since the epoch",
        "column 'flag': 2 categories: false, true",
    ]
    out = tmp_path / "new.parquet"
    rows = pa.table(
        {
            **{name: pa.nulls(2) for name in ("height", "same", "nothing", "day")},
            "city": ["Paris", "Oslo"],
            "zip": [99.0, None],
            "pair": pa.array([[1, 2], None], pa.list_(pa.int8(), 2)),
            "flag": [None, True],
        }
    )
    pq.write_table(rows, tmp_path / "rows.parquet")
    command = ["predict", tmp_path / "run", tmp_path / "rows.parquet", "--out", out]
    assert run(list(map(str, command))) == 0
    assert pq.read_table(out).num_rows == 2
    assert capsys.readouterr() == ("", "")


def test_an_empty_text_is_seen(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pq.write_table(pa.table({"city": ["Oslo", "", ""]}), tmp_path / "rows.parquet")
    assert run(["describe", str(tmp_path / "rows.parquet")]) == 0
    assert "2 categories: '', Oslo; text" in capsys.readouterr().out
