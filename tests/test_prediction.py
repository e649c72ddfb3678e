"""Prediction by workers: the order of rows, the bits, lost workers, and what is left of files."""

import errno
import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as parquet
import pytest
from models import (
    SHARDS,
    TASKS,
    bits,
    expected_predictions,
    made_up_model,
    made_up_table,
    predicted,
)

from dist_dnn.data.dataset import Dataset, Reader
from dist_dnn.data.features import Standardisation
from dist_dnn.data.holdout import Rows
from dist_dnn.data.sources import open_source
from dist_dnn.errors import InputError, RunError
from dist_dnn.front.predict import write_parquet
from dist_dnn.nn.network import Parameters
from workers.group import WorkerGroup
from workers.in_process import InProcessGroup
from workers.local_processes import LocalGroup

M = 20_003
"""Shards of several chunks, of which the last ones are short."""


@pytest.fixture(scope="module")
def group() -> Iterator[WorkerGroup]:
    with LocalGroup(SHARDS, 3) as made:
        yield made


@pytest.fixture
def small_rounds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dist_dnn.prediction.ROUND_CHUNKS", 2)


@pytest.mark.parametrize("task", TASKS)
def test_many_rounds_give_the_rows_in_order(
    task: str, group: WorkerGroup, small_rounds: None, tmp_path: Path
) -> None:
    model, table = made_up_model(task), made_up_table(M)
    parquet.write_table(table, tmp_path / "x.parquet", row_group_size=1777)
    expected = expected_predictions(model, table)
    reported: list[int] = []
    for data in (table, tmp_path / "x.parquet"):
        found = predicted(group, model, data, report=reported.append)
        assert bits(found) == bits(expected)
    assert sum(reported) == 2 * M


@pytest.mark.parametrize("m", [1, 5, SHARDS, SHARDS * 1024 + 1])
def test_few_rows(m: int, group: WorkerGroup) -> None:
    model, table = made_up_model("multiclass"), made_up_table(m)
    assert bits(predicted(group, model, table)) == bits(expected_predictions(model, table))


def test_predictions_come_by_so_many_rows(
    group: WorkerGroup, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dist_dnn.prediction.GROUP_NUMBERS", 3 * 900)
    model, table = made_up_model("multiclass"), made_up_table(2000)
    found = predicted(group, model, table)
    assert [len(chunk) for chunk in found["prediction"].chunks] == [900, 900, 200]
    assert bits(found) == bits(expected_predictions(model, table))


def test_no_zero_is_negative(group: WorkerGroup) -> None:
    model, table = made_up_model("regression"), made_up_table(100)
    zeros = Parameters(model.network, -np.zeros(model.network.parameter_count, np.float32))
    unit = Standardisation(np.array([-0.0]), np.array([2.0]))
    model = replace(model.with_parameters(zeros), target=model.target.with_units(unit))
    for each in (group, InProcessGroup(SHARDS)):
        found = predicted(each, model, table)["prediction"].to_numpy()
        assert not found.any()
        assert not np.signbit(found).any()


def test_lost_workers_change_no_bit(small_rounds: None, capsys: pytest.CaptureFixture[str]) -> None:
    model, table = made_up_model("multiclass"), made_up_table(M)
    losses = iter(((), (1,), (), (0, 2)))
    with LocalGroup(SHARDS, 3, max_failures=3) as group:

        def lose(_: int) -> None:
            for number in next(losses, ()):
                group.processes[number].popen.kill()

        assert bits(predicted(group, model, table, report=lose)) == bits(
            expected_predictions(model, table)
        )
    assert capsys.readouterr().err.count("its shards go to another") == 3


def test_a_bad_value_is_named_by_column_and_row(group: WorkerGroup) -> None:
    table = made_up_table(M)
    x = table["x"].to_numpy().copy()
    x[17_000] = -np.inf
    table = table.set_column(2, "x", pa.array(x))
    with pytest.raises(
        InputError, match=r"^column 'x' has an infinite value in row 17001 of DATA; "
    ):
        predicted(group, made_up_model("binary"), table)


def test_nothing_is_left_where_the_disk_is_full(tmp_path: Path) -> None:
    def batches() -> Iterator[pa.RecordBatch]:
        yield pa.record_batch({"prediction": [1]})
        raise OSError(errno.ENOSPC, "No space left on device")

    out = tmp_path / "y.parquet"
    with pytest.raises(RunError, match=r"y\.parquet cannot be written: No space left on device$"):
        write_parquet(out, batches())
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("selected", [Rows.all(5000), Rows.held_out(5000, 3, 0.5)])
def test_a_reader_goes_anywhere(selected: Rows, tmp_path: Path) -> None:
    parquet.write_table(made_up_table(5000), tmp_path / "x.parquet", row_group_size=999)
    source = open_source(tmp_path / "x.parquet")
    x = parquet.read_table(tmp_path / "x.parquet")["x"].to_numpy()
    chosen = np.flatnonzero(selected.mask(0, 5000))
    reader = Reader(Dataset(source, selected, made_up_model("binary").features.columns, (), 8))
    for first, stop in ((0, 10), (10, 11), (11, 2000), (5, 6), (1000, 1024), (1024, 2048), (3, 4)):
        batch, numbers = reader.read(first, stop)
        assert numbers.tolist() == chosen[first:stop].tolist()
        assert batch.column("x").to_pylist() == x[numbers].tolist()


def test_a_source_that_gives_fewer_rows_than_it_said_is_named() -> None:
    source = open_source(made_up_table(100))
    reader = Reader(Dataset(source, Rows.all(200), made_up_model("binary").features.columns, (), 8))
    with pytest.raises(InputError, match=f"{source.name} has fewer rows than when it was opened"):
        reader.read(0, 150)
