"""Regression on several targets at once: one least squares a target, from any number of workers."""

import json
import tomllib
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as parquet
import pytest
from commands import printed, run
from numpy.typing import NDArray
from runs import After, what_is_left
from sklearn.metrics import mean_absolute_error, r2_score, root_mean_squared_error

from dist_dnn import train
from dist_dnn.errors import InputError
from dist_dnn.stopping import Stopped

M = 1203
TARGETS = ["far", "near", "none, at all"]
QUICK = {"hidden": [6], "epochs": 2, "validation": 0.2, "batch_size": 64, "learning_rate": 0.03}


def made_up() -> pa.Table:
    """Targets of different types and units; one has a comma in its name."""
    random = np.random.default_rng(8)
    x = random.standard_normal((M, 3))
    y = x @ random.standard_normal((3, 3)) + 0.3 * random.standard_normal((M, 3))
    return pa.table(
        {
            "far": 1e6 + 1000 * y[:, 0],
            **{f"x{number}": x[:, number] for number in range(3)},
            "near": pa.array((y[:, 1] / 100).astype(np.float32)),
            "none, at all": np.rint(50 * y[:, 2]).astype(np.int16),
        }
    )


@pytest.fixture(scope="module")
def table() -> pa.Table:
    return made_up()


@pytest.fixture(scope="module")
def data(table: pa.Table, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("data") / "data.parquet"
    parquet.write_table(table, path, row_group_size=250)
    return path


@pytest.fixture(scope="module")
def out(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run on all three, by two workers."""
    out = tmp_path_factory.mktemp("out") / "run"
    train(data, TARGETS, QUICK, out=out, workers=2)
    return out


def numbers(table: pa.Table, names: list[str]) -> NDArray[np.float64]:
    return np.stack([table[name].to_numpy().astype(np.float64) for name in names], axis=1)


def test_without_hidden_layers_it_is_the_least_squares_of_each(
    data: Path, table: pa.Table, tmp_path: Path
) -> None:
    given = {"hidden": "none", "optimizer": "sgd", "learning_rate": 0.5, "batch_size": "full"}
    train(data, TARGETS, {**given, "epochs": 60}, out=tmp_path / "run", workers=0)
    printed("predict", tmp_path / "run", data, "--out", tmp_path / "y.parquet")
    found = parquet.read_table(tmp_path / "y.parquet")
    assert found.column_names == [f"prediction_{name}" for name in TARGETS]
    assert found.schema.types == [pa.float64(), pa.float32(), pa.float64()]
    X = np.column_stack([numbers(table, ["x0", "x1", "x2"]), np.ones(M)])
    Y = numbers(table, TARGETS)
    expected = X @ np.linalg.lstsq(X, Y, rcond=None)[0]
    error = (numbers(found, found.column_names) - expected) / Y.std(axis=0)
    assert np.abs(error).max() < 1e-5


def test_evaluate_has_scikit_learns_scores(
    out: Path, data: Path, table: pa.Table, tmp_path: Path
) -> None:
    printed("predict", out, data, "--out", tmp_path / "y.parquet")
    predicted = parquet.read_table(tmp_path / "y.parquet")
    guess = numbers(predicted, predicted.column_names)
    truth = numbers(table, TARGETS)
    found = json.loads(printed("evaluate", out, data))
    assert list(found) == ["m", "loss", "rmse", "mae", "r2", "by_target"]
    assert list(found["by_target"]) == TARGETS
    for name, score in (
        ("rmse", root_mean_squared_error),
        ("mae", mean_absolute_error),
        ("r2", r2_score),
    ):
        assert found[name] == pytest.approx(score(truth, guess), rel=1e-12)
        each = [scores[name] for scores in found["by_target"].values()]
        assert each == pytest.approx(score(truth, guess, multioutput="raw_values"), rel=1e-12)
    described = json.loads((out / "features.json").read_text())["target"]
    deviations = np.array([each["deviation"] for each in described])
    loss = 0.5 * np.square((guess - truth) / deviations).sum(axis=1).mean()
    assert found["loss"] == pytest.approx(loss, rel=1e-5)
    last = json.loads((out / "metrics.jsonl").read_text().splitlines()[-1])
    assert [name for name in last if name.startswith("validation_")] == [
        f"validation_{name}" for name in ("loss", "rmse", "mae", "r2")
    ]
    assert json.loads(printed("evaluate", out, data, "--workers", 3)) == found


def test_workers_change_no_bit(out: Path, data: Path, tmp_path: Path) -> None:
    for workers in (0, 3):
        run = train(data, TARGETS, QUICK, out=tmp_path / f"{workers}", workers=workers)
        assert what_is_left(tmp_path / f"{workers}") == what_is_left(out)
        assert run.history[-1]["validation_r2"] > 0.5


def test_a_list_of_one_is_the_name(data: Path, tmp_path: Path) -> None:
    name = TARGETS[2]  # a text is one column, whatever it contains
    for out, target in (("name", name), ("list", [name])):
        train(data, target, QUICK | {"task": "regression"}, out=tmp_path / out, workers=0)
    left = what_is_left(tmp_path / "name")
    assert what_is_left(tmp_path / "list") == left
    assert config_of(tmp_path / "list")["target"] == name
    assert json.loads(left["features"])["target"]["name"] == name
    assert "by_target" not in json.loads(printed("evaluate", tmp_path / "list", data))
    quick = ("--workers", 0, "--progress", "none", "--config")
    config = tmp_path / "list" / "hyperparameters.toml"
    printed("train", data, "--out", tmp_path / "again", *quick, config)
    assert what_is_left(tmp_path / "again") == left


def config_of(out: Path) -> dict[str, Any]:
    return tomllib.loads((out / "hyperparameters.toml").read_text())


def test_a_run_knows_its_targets(out: Path, data: Path, tmp_path: Path) -> None:
    assert config_of(out)["target"] == TARGETS
    described = json.loads((out / "features.json").read_text())
    assert [each["name"] for each in described["target"]] == TARGETS
    [record] = json.loads(printed("runs", out, "--json"))
    assert record["hyperparameters"]["target"] == TARGETS
    quick = ("--workers", 0, "--progress", "none", "--config", out / "hyperparameters.toml")
    printed("train", data, "--out", tmp_path / "again", *quick)
    assert what_is_left(tmp_path / "again") == what_is_left(out)


def test_resuming(out: Path, data: Path, tmp_path: Path, after: After) -> None:
    again = tmp_path / "run"
    after(6)
    with pytest.raises(Stopped):
        train(data, TARGETS, QUICK, out=again, workers=0)
    after(0)
    with pytest.raises(InputError, match=r"was begun with target \['far', .*'\], not 'far'"):
        train(data, "far", out=again, resume=True, workers=0)
    with pytest.raises(InputError, match=r"not \['near', 'far', "):
        train(data, ["near", "far", TARGETS[2]], out=again, resume=True, workers=0)
    train(data, TARGETS, out=again, resume=True, workers=2)
    assert what_is_left(again) == what_is_left(out)


def test_flags_and_what_they_say(data: Path, tmp_path: Path) -> None:
    flags = ("--target", "near,far", "--features", "x0,x1,x2")
    found = json.loads(printed("describe", data, *flags, "--json"))
    assert [(each["column"], each["treatment"]) for each in found["columns"]] == [
        *((f"x{number}", "standardise") for number in range(3)),
        *(("near", "target"), ("far", "target"), (TARGETS[2], "left out")),
    ]
    out = tmp_path / "run"
    quick = ("--hidden", "none", "--epochs", 1, "--workers", 0, "--test", data)
    status, stdout, stderr = run("train", data, *flags, "--out", out, *quick)
    assert (status, stdout) == (0, "")
    assert config_of(out)["target"] == ["near", "far"]
    scores = json.loads(printed("evaluate", out, data))
    assert json.loads((out / "status.json").read_text())["test"] == scores
    assert f"rmse {scores['rmse']:.4f}  mae {scores['mae']:.4f}" in stderr


def test_several_whole_numbers_need_no_task() -> None:
    few = np.arange(40) % 3
    table = pa.table({"x": np.arange(40.0), "a": few.astype(np.float64), "b": few})
    found = train(table, ["a", "b"], {"epochs": 1, "hidden": [3]}, workers=0)
    assert found.model is not None
    assert found.model.network.layer_sizes == (1, 3, 2)
