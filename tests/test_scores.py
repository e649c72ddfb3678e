"""Scores: scikit-learn's on the same predictions, for any shards, workers and ties."""

import math
import warnings
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from models import predicted
from numpy.typing import NDArray
from sklearn import metrics
from sklearn.exceptions import UndefinedMetricWarning

from dist_dnn.data.columns import Column
from dist_dnn.data.features import Features, Standardisation
from dist_dnn.data.sources import open_source
from dist_dnn.data.targets import Target, TargetColumn
from dist_dnn.evaluation import Scores
from dist_dnn.front.scores import print_scores
from dist_dnn.model import LOSS_OF_TASK, Model
from dist_dnn.nn.network import Network, Parameters
from dist_dnn.preparation import load_rows
from dist_dnn.scoring import score
from workers.group import WorkerGroup
from workers.in_process import InProcessGroup
from workers.local_processes import LocalGroup

KEYS = ["m", "loss", "accuracy", "log_loss", "auc", "precision", "recall", "f1", "confusion_matrix"]


TARGETS = ("y", "z", "u")
UNITS = ((2.0, 3.0), (0.0, 1000.0), (-1.0, 0.01))


def passing_on(task: Any, width: int, shards: int, *types: Any) -> Model:
    """A model without hidden layers, of which Z[1] is the list x; the types are of targets."""
    classes = pa.array([f"c{number}" for number in range(max(2, width))])
    columns = tuple(
        TargetColumn(name, type_, *unit)
        for name, type_, unit in zip(TARGETS, types, UNITS, strict=False)
    )
    target = (
        Target("regression", columns)
        if task == "regression"
        else Target(task, (TargetColumn("y", pa.string()),), classes)
    )
    features = Features(
        (Column("x", width, "floating"),), Standardisation(np.zeros(width), np.ones(width))
    )
    network = Network((width, width), loss=LOSS_OF_TASK[task])
    parameters = Parameters(network, np.zeros(network.parameter_count, np.float32))
    parameters.W[1][:] = np.eye(width)
    return Model(network, parameters, features, target, shards)


def rows(x: Any, *truth: Any) -> pa.Table:
    """A table of the lists x (m, width) and the truth of each target."""
    x = np.asarray(x, np.float64)
    flat: Any = pa.array(x.ravel())
    columns = {"x": pa.FixedSizeListArray.from_arrays(flat, x.shape[1])}
    return pa.table(columns | dict(zip(TARGETS, truth, strict=False)))


def scored(group: WorkerGroup, model: Model, table: pa.Table) -> Scores:
    load_rows(group, "evaluation", open_source(table), model.features, model.target)
    return score(group, "evaluation", model)


def expected_of_classes(model: Model, table: pa.Table, found: pa.Table) -> Scores:
    """scikit-learn's scores of predictions, None for NaN."""
    names = model.target.class_names()
    truth, guess = table["y"].to_pylist(), found["prediction"].to_pylist()
    p = np.stack([found[f"probability_{name}"].to_numpy() for name in names], axis=1)
    area: dict[str, Any] = {}
    if len(names) > 2:
        area = {"labels": names, "multi_class": "ovr", "average": "macro"}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UndefinedMetricWarning)
        warnings.simplefilter("ignore", UserWarning)
        precision, recall, f1, _ = metrics.precision_recall_fscore_support(
            truth, guess, labels=names, zero_division=np.nan
        )
        scores = {
            "accuracy": metrics.accuracy_score(truth, guess),
            "log_loss": metrics.log_loss(truth, p.astype(np.float64), labels=names),
            "auc": metrics.roc_auc_score(
                np.array(truth) == names[1] if len(names) == 2 else truth,
                p[:, 1] if len(names) == 2 else p,
                **area,
            ),
            "precision": dict(zip(names, precision, strict=True)),
            "recall": dict(zip(names, recall, strict=True)),
            "f1": dict(zip(names, f1, strict=True)),
            "confusion_matrix": metrics.confusion_matrix(truth, guess, labels=names).tolist(),
        }
    return {name: none_for_nan(value) for name, value in scores.items()}


def none_for_nan(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: none_for_nan(each) for name, each in value.items()}
    return None if isinstance(value, float) and np.isnan(value) else value


def check_classes(found: Scores, expected: Scores) -> None:
    assert found["confusion_matrix"] == expected["confusion_matrix"]
    assert found["accuracy"] == expected["accuracy"]
    for name in ("log_loss", "auc"):
        assert is_close(found[name], expected[name]), name
    for name in ("precision", "recall", "f1"):
        assert found[name].keys() == expected[name].keys()
        assert all(is_close(found[name][c], value) for c, value in expected[name].items()), name


def is_close(found: float | None, expected: float | None) -> bool:
    if found is None or expected is None:
        return found is expected
    return math.isclose(found, expected, rel_tol=1e-12, abs_tol=1e-15)


@settings(deadline=None, max_examples=60)
@given(
    classes=st.integers(2, 5),
    shards=st.integers(1, 9),
    m=st.integers(1, 40),
    spread=st.sampled_from([0, 1, 2, 90, 1000]),
    seed=st.integers(0, 2**32),
    at_once=st.integers(1, 7),
)
def test_ties_absent_classes_and_empty_shards(
    classes: int, shards: int, m: int, spread: int, seed: int, at_once: int
) -> None:
    random = np.random.default_rng(seed)
    width = 1 if classes == 2 else classes
    model = passing_on("binary" if classes == 2 else "multiclass", width, shards)
    occurring = random.choice(classes, random.integers(1, classes + 1), replace=False)
    y = pa.array([f"c{number}" for number in random.choice(occurring, m)])
    table = rows(random.integers(-spread, spread + 1, (m, width)), y)
    with pytest.MonkeyPatch.context() as patch, InProcessGroup(shards) as group:
        patch.setattr("dist_dnn.ranking.WINDOW_ROWS", at_once)
        found = scored(group, model, table)
        assert list(found) == KEYS
        check_classes(found, expected_of_classes(model, table, predicted(group, model, table)))


NUMBERS = [pa.float32(), pa.float64(), pa.int64(), pa.decimal128(20, 3)]


@settings(deadline=None, max_examples=60)
@given(
    shards=st.integers(1, 9),
    m=st.integers(1, 40),
    offset=st.sampled_from([0.0, 0.1, -1e6]),
    spread=st.sampled_from([0, 1e-3, 1, 1000]),
    types=st.lists(st.sampled_from(NUMBERS), min_size=1, max_size=3),
    seed=st.integers(0, 2**32),
)
def test_regression(
    shards: int, m: int, offset: float, spread: float, types: list[Any], seed: int
) -> None:
    random = np.random.default_rng(seed)
    model = passing_on("regression", len(types), shards, *types)
    drawn = [offset + spread * random.standard_normal(m) for _ in types]
    y = [pa.array(each).cast(type_, safe=False) for each, type_ in zip(drawn, types, strict=True)]
    table = rows(random.standard_normal((m, len(types))), *y)
    with InProcessGroup(shards) as group:
        found = scored(group, model, table)
        guess = matrix(predicted(group, model, table).columns)
    truth = matrix(y)
    by_target = found.pop("by_target") if len(types) > 1 else {"y": found}
    assert list(found) == ["m", "loss", "rmse", "mae", "r2"]
    assert list(by_target) == list(TARGETS[: len(types)])
    is_constant = (truth == truth[0]).all(axis=0)
    for name, scikit_learns in (
        ("rmse", metrics.root_mean_squared_error),
        ("mae", metrics.mean_absolute_error),
        ("r2", metrics.r2_score),
    ):
        near = {"rel": 1e-9 if name == "r2" else 1e-12}
        undefined = is_constant & (name == "r2")
        if undefined.any():
            assert found[name] is None
        else:
            assert found[name] == pytest.approx(scikit_learns(truth, guess), **near)
        for target, scores in enumerate(by_target.values()):
            if undefined[target]:
                assert scores[name] is None
            else:
                expected = scikit_learns(truth[:, target], guess[:, target])
                assert scores[name] == pytest.approx(expected, **near)


def matrix(columns: Sequence[Any]) -> NDArray[np.float64]:
    """Columns of pyarrow as numbers, (rows, columns)."""
    numbers = [np.asarray(each.to_numpy(zero_copy_only=False), np.float64) for each in columns]
    return np.stack(numbers, axis=1)


M = 20_003


@pytest.fixture(scope="module")
def in_process() -> Iterator[WorkerGroup]:
    with InProcessGroup(8) as group:
        yield group


def made_up(task: Any) -> tuple[Model, pa.Table]:
    """Rows of several chunks a shard, some predicted well."""
    random = np.random.default_rng(5)
    width = {"binary": 1, "regression": 2, "multiclass": 7}[task]
    model = passing_on(task, width, 8, *[pa.float64()] * width)
    numbers = random.integers(0, max(2, width), M)
    x = random.standard_normal((M, width))
    if task == "regression":
        y = 3 * x + random.standard_normal((M, width))
        return model, rows(x, *map(pa.array, y.T))
    x += 2 * (numbers[:, None] == np.arange(width) + (task == "binary"))
    return model, rows(x, pa.array([f"c{number}" for number in numbers]))


@pytest.mark.parametrize("task", ["binary", "multiclass"])
def test_many_rows(task: str, in_process: WorkerGroup) -> None:
    model, table = made_up(task)
    found = scored(in_process, model, table)
    assert found["auc"] > 0.8
    check_classes(found, expected_of_classes(model, table, predicted(in_process, model, table)))


@pytest.fixture(scope="module", params=[1, 2, 3, 8])
def local(request: pytest.FixtureRequest) -> Iterator[WorkerGroup]:
    with LocalGroup(8, request.param) as group:
        yield group


@pytest.mark.parametrize("task", ["binary", "multiclass", "regression"])
def test_no_digit_depends_on_the_workers(
    task: str, local: WorkerGroup, in_process: WorkerGroup, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dist_dnn.ranking.WINDOW_ROWS", 5000)
    model, table = made_up(task)
    assert scored(local, model, table) == scored(in_process, model, table)


def test_classes_that_take_turns(in_process: WorkerGroup, monkeypatch: pytest.MonkeyPatch) -> None:
    model, table = made_up("multiclass")
    expected = scored(in_process, model, table)
    monkeypatch.setattr("dist_dnn.ranking.classes_at_once", lambda model: 3)
    assert scored(in_process, model, table) == expected


def test_more_classes_have_no_matrix(
    in_process: WorkerGroup, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, table = made_up("multiclass")
    expected = scored(in_process, model, table)
    monkeypatch.setattr("dist_dnn.scoring.MOST_CLASSES", 6)
    assert scored(in_process, model, table) == expected | {"confusion_matrix": None}


def test_lost_workers_change_no_digit(
    in_process: WorkerGroup, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("dist_dnn.ranking.WINDOW_ROWS", 2000)
    model, table = made_up("multiclass")
    expected = scored(in_process, model, table)
    with LocalGroup(8, 3, max_failures=3) as group:
        settle, settled = group.settle, iter(range(100))

        def lose() -> None:
            if next(settled) in (1, 3):
                group.processes[1].popen.kill()
            settle()

        monkeypatch.setattr(group, "settle", lose)
        assert scored(group, model, table) == expected
    assert "its shards go to another" in capsys.readouterr().err


def test_a_table_for_people(in_process: WorkerGroup, capsys: pytest.CaptureFixture[str]) -> None:
    model, table = made_up("multiclass")
    found = scored(in_process, model, table) | {"auc": None}
    print_scores(found)
    stdout, stderr = capsys.readouterr()
    by_class, matrix, last = stderr.split("\n\n")
    head, *lines = by_class.splitlines()
    assert head.split() == ["class", "precision", "recall", "f1", "examples"]
    assert [line.split()[0] for line in lines] == list(found["recall"])
    assert lines[3].split()[1] == f"{found['precision']['c3']:.4f}"
    _, heads, *counts = matrix.splitlines()
    assert heads.split() == list(found["recall"])
    assert [[int(n) for n in line.split()[1:]] for line in counts] == found["confusion_matrix"]
    assert last.startswith("20,003 rows  loss 0.")
    assert "auc -" in last
    assert stdout == ""
    assert max(map(len, stderr.splitlines())) <= 80


def test_a_table_of_many_classes_is_short(capsys: pytest.CaptureFixture[str]) -> None:
    names = [f"class {number} of a long name that does not end" for number in range(2000)]
    by_class: dict[str, Any] = dict.fromkeys(names)
    given = {"m": 5, "loss": 1.0, "precision": by_class, "recall": by_class, "f1": by_class}
    print_scores(given | {"confusion_matrix": None})
    stderr = capsys.readouterr().err
    assert "… and 1,960 more classes\n" in stderr
    assert len(stderr.splitlines()) < 50
    assert max(map(len, stderr.splitlines())) <= 80


def test_a_name_in_a_table_stays_on_its_line(capsys: pytest.CaptureFixture[str]) -> None:
    by_class: dict[str, Any] = {"a\nb": 0.5, "c": None}
    given = {"m": 5, "loss": 1.0, "precision": by_class, "recall": by_class, "f1": by_class}
    print_scores(given | {"confusion_matrix": [[1, 2], [2, 0]]})
    lines = capsys.readouterr().err.splitlines()
    assert lines[1].split() == [r"'a\nb'", "0.5000", "0.5000", "0.5000", "3"]
    assert lines[5].split() == ["'a\\n…", "c"]
    assert lines[6].split() == [r"'a\nb'", "1", "2"]


def test_a_table_of_targets(capsys: pytest.CaptureFixture[str]) -> None:
    each = {"rmse": 0.000123456, "mae": 123456.7, "r2": None}
    given = {"m": 5, "loss": 1.0, "rmse": 0.5, "mae": 0.25, "r2": None}
    print_scores(given | {"by_target": {f"target\n{number}": each for number in range(45)}})
    head, first, *_, more, empty, last = capsys.readouterr().err.splitlines()
    assert head.split() == ["target", "rmse", "mae", "r2"]
    assert first.endswith("0.00012346  1.2346e+05   -")
    assert (more, empty) == ("… and 5 more targets", "")
    assert last == "5 rows  loss 1.0000  rmse 0.5000  mae 0.2500  r2 -"
