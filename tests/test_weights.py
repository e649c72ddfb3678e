"""Weights of rows and classes: a row of weight 2 is there twice, one of weight 0 is left out."""

import json
import math
import tomllib
import warnings
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from models import predicted
from runs import After
from sklearn import metrics
from sklearn.exceptions import UndefinedMetricWarning
from sklearn.utils.class_weight import compute_class_weight
from test_fitting import CATEGORICAL, tables
from test_scores import is_close, none_for_nan, passing_on, rows

from dist_dnn import InputError, train
from dist_dnn.arithmetic import quiet_overflow
from dist_dnn.data.class_weights import counted
from dist_dnn.data.columns import choose_columns
from dist_dnn.data.dataset import Dataset
from dist_dnn.data.fitting import Fit, fit
from dist_dnn.data.holdout import Rows
from dist_dnn.data.sources import open_source
from dist_dnn.data.weights import weights_of
from dist_dnn.evaluation import Scores
from dist_dnn.front.cli import run
from dist_dnn.front.scores import print_scores
from dist_dnn.model import Model
from dist_dnn.preparation import load_rows
from dist_dnn.scoring import score
from dist_dnn.stopping import Stopped
from workers.group import WorkerGroup
from workers.in_process import InProcessGroup
from workers.local_processes import LocalGroup

SIZES = [{"shards": 1}, {"shards": 3}, {"shards": 8}]
FULL: dict[str, Any] = {"batch_size": "full", "optimizer": "sgd", "hidden": [6], "epochs": 5}


def people(m: int = 60) -> pa.Table:
    """Numbers, some missing, text, and targets of both kinds, with weights 0, 1, 2 and 3."""
    random = np.random.default_rng(m)
    age, city = random.normal(40, 10, m), random.integers(0, 4, m)
    w = random.integers(0, 4, m)
    age[w == 0] = 1e12
    missing = random.random(m) < 0.2
    city = np.where(w == 0, 9, city)
    return pa.table(
        {
            "age": pa.array(np.where(missing, np.nan, age)),
            "city": pa.array([f"city {c}" for c in city]),
            "height": random.normal(size=m),
            "w": w,
            "kind": pa.array([f"k{k}" for k in random.integers(0, 3, m)]),
            "price": age * 2 + city + random.normal(size=m),
        }
    )


def repeated(table: pa.Table) -> pa.Table:
    """Each row as often as its weight says, and no weights."""
    times = table["w"].to_numpy()
    return table.take(pa.array(np.repeat(np.arange(table.num_rows), times))).drop_columns(["w"])


def learned(table: pa.Table, target: str, given: dict[str, Any], **settings: Any) -> Any:
    other = {"kind": "price", "price": "kind"}[target]
    return train(table.drop_columns([other]), target, given, **{"workers": 0} | settings)


@pytest.mark.parametrize("target", ["kind", "price"])
@pytest.mark.parametrize("shards", SIZES)
def test_a_weight_is_how_often_a_row_is_there(target: str, shards: dict[str, int]) -> None:
    """What is measured, learned and recorded; sums are rounded in another order."""
    table = people()
    given = {**FULL, **shards, "l2": 0.1}
    weighted = learned(table, target, {**given, "weight": "w"}, validation=table.slice(0, 20))
    again = learned(repeated(table), target, given, validation=repeated(table.slice(0, 20)))
    for name in ("train_loss", "validation_loss"):
        found = [each[name] for each in weighted.history]
        assert found == pytest.approx([each[name] for each in again.history], rel=1e-5)
    scores = [name for name in again.history[-1] if name.startswith("validation")]
    for name in scores:
        assert weighted.history[-1][name] == pytest.approx(again.history[-1][name], rel=1e-4)
    features, expected = weighted.model.features, again.model.features
    assert [column.name for column in features.columns] == ["age", "city", "height"]
    assert features.vocabularies == expected.vocabularies
    assert features.indicators == expected.indicators
    for name in ("mean", "deviation"):
        found, wanted = (getattr(each.standardisation, name) for each in (features, expected))
        np.testing.assert_allclose(found, wanted, rtol=1e-12)
    [column], [wanted] = weighted.model.target.columns, again.model.target.columns
    assert column.mean == pytest.approx(wanted.mean, rel=1e-12)
    assert column.deviation == pytest.approx(wanted.deviation, rel=1e-12)
    np.testing.assert_allclose(
        weighted.model.parameters.vector, again.model.parameters.vector, rtol=1e-4, atol=1e-6
    )


def fitted(table: pa.Table, weight: str | None, least: float, most: int) -> Fit:
    """What 8 shards find in all columns but the weights."""
    source, group = open_source(table), InProcessGroup(8)
    schema = table.drop_columns([weight] if weight else []).schema
    columns = choose_columns(schema, (), None, "x", (), CATEGORICAL)
    dataset = Dataset(source, Rows.all(source.rows), columns, (), 8, weight)
    group.load("made up", dataset)
    size = counted(group, "made up", dataset, None, "x")
    return fit(group, "made up", columns, size, least, most)


@settings(deadline=None, max_examples=40, suppress_health_check=[HealthCheck.too_slow])
@given(tables(), st.integers(0, 2**32), st.sampled_from([0.001, 0.1, 0.3]), st.integers(1, 5))
def test_what_is_found_is_that_of_rows_as_often_as_they_weigh(
    table: pa.Table, seed: int, least: float, most: int
) -> None:
    w = np.random.default_rng(seed).integers(0, 4, table.num_rows)
    w[-1] = 1
    table = table.append_column("w", pa.array(w))
    found = fitted(table, "w", least, most)
    expected = fitted(repeated(table), None, least, most)
    assert found.features.vocabularies == expected.features.vocabularies
    assert found.features.indicators == expected.features.indicators
    for name in ("mean", "deviation"):
        one, other = (getattr(each.features.standardisation, name) for each in (found, expected))
        np.testing.assert_allclose(one, other, rtol=1e-9, atol=1e-3)
        if name == "deviation":
            np.testing.assert_array_equal(one == 0, other == 0)
    rows = fitted(table.filter(pa.array(w > 0)).drop_columns(["w"]), None, least, most)
    assert found.m == rows.m
    assert found.missing.tolist() == rows.missing.tolist()


def test_pieces_of_a_table_change_no_bit_of_what_is_measured() -> None:
    """A list is null in one of them alone, and the weights' sum is no round number."""
    random, m = np.random.default_rng(5), 20_000
    values = pa.array(random.normal(size=(m, 2)).tolist(), pa.list_(pa.float64(), 2))
    values = pa.chunked_array([pa.nulls(1, values.type), values.slice(1)])
    w = pa.array(np.exp(random.normal(size=m) * 9))
    in_pieces = pa.table({"x": values, "w": w, "y": random.normal(size=m)})
    given = {"weight": "w", "epochs": 0, "shards": 1}
    whole = in_pieces.combine_chunks()
    one, other = (train(each, "y", given, workers=0).model for each in (in_pieces, whole))
    assert one is not None
    assert other is not None
    assert one.features.to_json() == other.features.to_json()


EXPERIMENT: dict[str, Any] = {"hidden": [8], "batch_size": 16, "epochs": 2, "validation": 0.3}


@pytest.mark.parametrize("target", ["kind", "price"])
def test_weights_of_1_change_no_bit(target: str) -> None:
    table = people(200)
    table = table.set_column(3, "w", pa.array([1.0] * 200))
    weighted = learned(table, target, {**EXPERIMENT, "weight": "w"})
    alike = learned(table.drop_columns(["w"]), target, EXPERIMENT)
    assert weighted.digest == alike.digest
    for one, other in zip(weighted.history, alike.history, strict=True):
        timed = ("seconds", "examples_per_second")
        assert {k: v for k, v in one.items() if k not in timed} == {
            k: v for k, v in other.items() if k not in timed
        }


def test_weights_of_classes_are_weights_of_their_rows() -> None:
    table = people(200)
    weights = {"k0": 0.3, "k2": 7.0}
    column = pa.array([weights.get(kind, 1.0) for kind in table["kind"].to_pylist()])
    by_row = table.set_column(3, "w", column)
    expected = learned(by_row, "kind", {**EXPERIMENT, "weight": "w"})
    found = learned(table.drop_columns(["w"]), "kind", {**EXPERIMENT, "class_weight": weights})
    assert found.digest == expected.digest
    assert found.model.target.class_weights == (0.3, 1.0, 7.0)
    assert found.history[-1]["train_loss"] == expected.history[-1]["train_loss"]
    assert found.history[-1]["validation_loss"] == expected.history[-1]["validation_loss"]
    both = learned(table, "kind", {**EXPERIMENT, "class_weight": weights, "weight": "w"})
    product = pa.array(np.array(table["w"]) * column.to_numpy())
    once = learned(table.set_column(3, "w", product), "kind", {**EXPERIMENT, "weight": "w"})
    assert both.digest == once.digest


def test_a_row_that_float32_makes_0_is_left_out_whatever_its_class() -> None:
    found = weights_of(np.array([1e-46, 2]), np.zeros(2, np.int64), (1e30,), np.arange(2), "x")
    assert [each.tolist() for each in found if each is not None] == [
        [0, np.float32(2e30)],
        [0, 2],
    ]


@pytest.mark.parametrize("weight", [None, "w"])
def test_balanced_is_scikit_learns(weight: str | None) -> None:
    table = people(300)
    w = np.array(table["w"]) if weight else np.ones(300)
    given = {**EXPERIMENT, "validation": None, "class_weight": "balanced", "weight": weight}
    found = learned(table, "kind", given)
    kinds = table["kind"].to_pylist()
    expected = compute_class_weight(
        "balanced", classes=np.unique(kinds), y=np.array(kinds), sample_weight=w
    )
    np.testing.assert_allclose(found.model.target.class_weights, expected, rtol=1e-14)
    again = {**given, "class_weight": dict(zip(np.unique(kinds).tolist(), expected, strict=True))}
    assert learned(table, "kind", again).digest == found.digest


@pytest.mark.parametrize("target", ["kind", "price"])
def test_no_bit_depends_on_the_workers(target: str, tmp_path: Path) -> None:
    table = people(300).set_column(3, "w", pa.array(np.random.default_rng(0).random(300) ** 4))
    given = {**EXPERIMENT, "weight": "w"}
    if target == "kind":
        given["class_weight"] = "balanced"
    left = []
    for workers in (0, 2, 3):
        out = tmp_path / str(workers)
        found = learned(table, target, given, workers=workers, out=out, test=table)
        files = [(out / name).read_text() for name in ("hyperparameters.toml", "features.json")]
        losses = [(each["train_loss"], each["validation_loss"]) for each in found.history]
        left.append([found.digest, *files, losses, found.test])
    assert left[0] == left[1] == left[2]
    config = tomllib.loads((tmp_path / "0" / "hyperparameters.toml").read_text())
    assert config["weight"] == "w"
    assert "weight" in found.test
    assert Model.load(tmp_path / "0").weight == "w"


# Batches without weight


def halves(m: int = 64) -> pa.Table:
    """A table of which one shard has weight, so that batches of 1 have weight now and then."""
    random = np.random.default_rng(m)
    w = (np.arange(m) < m // 8).astype(float)
    return pa.table({"x": random.normal(size=m), "y": random.integers(0, 2, m), "w": w})


SPARSE: dict[str, Any] = {"batch_size": 4, "hidden": [4], "epochs": 3, "weight": "w", "shards": 8}


def test_a_batch_without_weight_is_skipped_and_counted(
    tmp_path: Path, after: After, capsys: pytest.CaptureFixture[str]
) -> None:
    table = halves()
    whole = train(table, "y", SPARSE, workers=0, out=tmp_path / "whole", progress="lines")
    # Each batch has a row each of half of the shards, so that half have one of shard 0.
    assert [each["skipped_batches"] for each in whole.history] == [8, 8, 8]
    assert [each["step"] for each in whole.history] == [16, 32, 48]
    assert all(math.isfinite(each["train_loss"]) for each in whole.history)
    train(table, "y", SPARSE, workers=2, out=tmp_path / "bar", progress="bar")
    assert "train loss" in capsys.readouterr().err
    after(23)
    with pytest.raises(Stopped):
        train(table, "y", SPARSE, workers=0, out=tmp_path / "run")
    after(1000)
    again = train(table, workers=2, out=tmp_path / "run", resume=True)
    assert again.digest == whole.digest
    assert [each["skipped_batches"] for each in again.history] == [8, 8, 8]
    assert "skipped_batches" not in train(table, "y", {**SPARSE, "weight": None}).history[0]


def test_the_flags_are_part_of_the_experiment(tmp_path: Path) -> None:
    table = people()
    given = {**EXPERIMENT, "class_weight": {"k0": 2}, "weight": "w"}
    first = learned(table, "kind", given, out=tmp_path / "run")
    more = learned(table, "kind", {"epochs": 3}, out=tmp_path / "run", resume=True)
    assert more.history[1]["digest"] == first.digest
    for other in ({"class_weight": "balanced"}, {"weight": "height"}):
        with pytest.raises(InputError, match=f"was begun with {next(iter(other))}"):
            learned(table, "kind", other, out=tmp_path / "run", resume=True)
    changed = table.set_column(3, "w", pa.array([1] * 60))
    with pytest.raises(InputError, match="the training data has other values"):
        learned(changed, "kind", {"epochs": 4}, out=tmp_path / "run", resume=True)


# Scores


def expected_of_classes(p: Any, names: list[str], truth: list[str], w: Any) -> Scores:
    """What scikit-learn says of probabilities of each class, with rows of weight w."""
    kept = w > 0
    truth, p, w = np.array(truth)[kept], p[kept], w[kept]
    guess = np.array(names)[p.argmax(axis=1)]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UndefinedMetricWarning)
        by_class = metrics.precision_recall_fscore_support(
            truth, guess, labels=names, sample_weight=w, zero_division=np.nan
        )
        warnings.simplefilter("ignore", UserWarning)  # float32 does not add up to 1
        p = p.astype(np.float64)
        log_loss = metrics.log_loss(truth, p, labels=names, sample_weight=w)
    is_scored = len(set(truth)) == len(names)
    area = math.nan
    if is_scored:
        ones = (truth[:, None] == np.array(names)).astype(int)
        columns = range(1, 2) if len(names) == 2 else range(len(names))
        area = float(
            np.mean([metrics.roc_auc_score(ones[:, c], p[:, c], sample_weight=w) for c in columns])
        )
    scores = {
        "accuracy": metrics.accuracy_score(truth, guess, sample_weight=w),
        "log_loss": log_loss,
        "auc": area,
        **{
            name: dict(zip(names, values.tolist(), strict=True))
            for name, values in zip(("precision", "recall", "f1"), by_class, strict=False)
        },
        "confusion_matrix": metrics.confusion_matrix(truth, guess, labels=names, sample_weight=w),
    }
    return {name: none_for_nan(value) for name, value in scores.items()}


def scored(group: WorkerGroup, model: Model, table: pa.Table) -> Scores:
    source = open_source(table)
    load_rows(group, "evaluation", source, model.features, model.target, model.weight)
    return score(group, "evaluation", model)


def weighted_rows(x: Any, y: Any, w: Any) -> pa.Table:
    return rows(x, y).append_column("w", pa.array(w))


@settings(deadline=None, max_examples=30)
@given(
    classes=st.integers(2, 4),
    shards=st.integers(1, 9),
    m=st.integers(1, 40),
    spread=st.sampled_from([0, 1, 2, 90]),
    seed=st.integers(0, 2**32),
    at_once=st.integers(1, 7),
)
def test_scores_are_scikit_learns(
    classes: int, shards: int, m: int, spread: int, seed: int, at_once: int
) -> None:
    random = np.random.default_rng(seed)
    width = 1 if classes == 2 else classes
    model = passing_on("binary" if classes == 2 else "multiclass", width, shards)
    model = replace(model, weight="w")
    w = (random.integers(0, 4, m) * random.random(m)).astype(np.float32)
    w[0] = 0.5
    truth = [f"c{number}" for number in random.integers(0, classes, m)]
    table = weighted_rows(random.integers(-spread, spread + 1, (m, width)), pa.array(truth), w)
    names = model.target.class_names()
    with pytest.MonkeyPatch.context() as patch, InProcessGroup(shards) as group:
        patch.setattr("dist_dnn.ranking.WINDOW_ROWS", at_once)
        found = scored(group, model, table)
        given = predicted(group, model, table)
    p = np.stack([given[f"probability_{name}"].to_numpy() for name in names], axis=1)
    expected = expected_of_classes(p, names, truth, w.astype(np.float64))
    assert found["m"] == m
    assert found["weight"] == pytest.approx(w.sum(dtype=np.float64))
    matrix = expected.pop("confusion_matrix")
    np.testing.assert_allclose(found["confusion_matrix"], matrix, rtol=1e-12)
    for name, value in expected.items():
        if isinstance(value, dict):
            assert all(is_close(found[name][c], each) for c, each in value.items()), name
        else:
            assert is_close(found[name], value), name


def test_scores_of_several_targets_are_scikit_learns() -> None:
    random = np.random.default_rng(3)
    x, w = random.normal(size=(500, 2)), random.random(500, np.float32).astype(np.float64)
    w[:100] = 0
    y = x * [3, 1000] + random.normal(size=(500, 2))
    y[:100] = 1e300  # of which the square is infinite
    table = weighted_rows(x, pa.array(y[:, 0]), w).append_column("z", pa.array(y[:, 1]))
    model = replace(passing_on("regression", 2, 8, pa.float64(), pa.float64()), weight="w")
    with InProcessGroup(8) as group, quiet_overflow():
        found = scored(group, model, table)
        given = predicted(group, model, table)
    guess = np.stack([given[f"prediction_{name}"].to_numpy() for name in ("y", "z")], axis=1)
    y, guess, w = (each[100:] for each in (y, guess, w))
    mae = metrics.mean_absolute_error(y, guess, sample_weight=w)
    assert found["mae"] == pytest.approx(mae, rel=1e-12)
    rmse = metrics.root_mean_squared_error(y, guess, sample_weight=w)
    assert found["rmse"] == pytest.approx(rmse, rel=1e-12)
    r2 = metrics.r2_score(y, guess, sample_weight=w)
    assert found["r2"] == pytest.approx(r2, rel=1e-12)
    assert found["weight"] == pytest.approx(w.sum())


@settings(deadline=None, max_examples=30)
@given(shards=st.integers(1, 9), m=st.integers(1, 40), seed=st.integers(0, 2**32))
def test_scores_of_numbers_are_scikit_learns(shards: int, m: int, seed: int) -> None:
    random = np.random.default_rng(seed)
    model = replace(passing_on("regression", 1, shards, pa.float64()), weight="w")
    w = random.integers(0, 3, m) + random.integers(0, 2) * 0.25
    w[-1] = 0.5
    y = np.where(random.integers(0, 3) > 0, random.normal(size=m), np.where(w > 0, 0.1, 7))
    table = weighted_rows(random.standard_normal((m, 1)), pa.array(y), w)
    with InProcessGroup(shards) as group:
        found = scored(group, model, table)
        guess = predicted(group, model, table)["prediction"].to_numpy()
    assert found["weight"] == pytest.approx(w.sum())
    assert found["mae"] == pytest.approx(
        metrics.mean_absolute_error(y, guess, sample_weight=w), rel=1e-12
    )
    assert found["rmse"] == pytest.approx(
        metrics.root_mean_squared_error(y, guess, sample_weight=w), rel=1e-5
    )
    if len(set(y[w > 0])) == 1:
        assert found["r2"] is None
    else:
        expected = metrics.r2_score(y, guess, sample_weight=w)
        assert found["r2"] == pytest.approx(expected, rel=1e-9, abs=1e-9)


def test_class_weights_count_in_the_loss_alone() -> None:
    random = np.random.default_rng(0)
    truth = [f"c{number}" for number in random.integers(0, 3, 200)]
    table = rows(random.normal(size=(200, 3)), pa.array(truth))
    model = passing_on("multiclass", 3, 8)
    heavy = replace(model, target=replace(model.target, class_weights=(0.0, 2.0, 5.0)))
    with InProcessGroup(8) as group:
        alike, weighted = scored(group, model, table), scored(group, heavy, table)
    assert weighted["loss"] != pytest.approx(alike["loss"], rel=1e-3)
    assert {**weighted, "loss": alike["loss"]} == alike


@pytest.fixture(scope="module")
def groups() -> Iterator[list[WorkerGroup]]:
    with LocalGroup(8, 2) as two, LocalGroup(8, 3) as three:
        yield [InProcessGroup(8), two, three]


@pytest.mark.parametrize("task", ["binary", "multiclass", "regression"])
def test_no_digit_of_a_score_depends_on_the_workers(
    task: Any, groups: list[WorkerGroup], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dist_dnn.ranking.WINDOW_ROWS", 1000)
    random = np.random.default_rng(5)
    width, m = (5 if task == "multiclass" else 1), 5003
    numbers = random.integers(0, max(2, width), m)
    y = random.normal(size=m) if task == "regression" else [f"c{number}" for number in numbers]
    x = random.standard_normal((m, width)) + (numbers[:, None] == np.arange(width))
    table = weighted_rows(x, pa.array(y), random.random(m) ** 3)
    types = [pa.float64()] if task == "regression" else []
    model = replace(passing_on(task, width, 8, *types), weight="w")
    found = [scored(group, model, table) for group in groups]
    assert found[0] == found[1] == found[2]


def test_a_table_for_people(capsys: pytest.CaptureFixture[str]) -> None:
    table = weighted_rows([[9.0], [9], [-9], [-9]], pa.array(["c0", "c1"] * 2), [0.1, 0.2, 3e6, 0])
    with InProcessGroup(2) as group:
        print_scores(scored(group, replace(passing_on("binary", 1, 2), weight="w"), table))
    by_class, matrix, last = capsys.readouterr().err.split("\n\n")
    head, *lines = by_class.splitlines()
    assert head.split()[-1] == "weight"
    assert [line.split()[-1] for line in lines] == ["3,000,000", "0.2"]
    assert [line.split()[1:] for line in matrix.splitlines()[2:]] == [
        ["3000000", "0.1"],
        ["0", "0.2"],
    ]
    assert last.startswith("4 rows  weight 3,000,000  loss ")


def test_a_perfect_order_has_an_area_of_1() -> None:
    random = np.random.default_rng(1)
    truth = random.integers(0, 2, 999)
    table = weighted_rows(8.0 * truth[:, None] - 4, pa.array([f"c{t}" for t in truth]),
                          random.random(999))  # fmt: skip
    with InProcessGroup(8) as group:
        found = scored(group, replace(passing_on("binary", 1, 8), weight="w"), table)
    assert found["auc"] == pytest.approx(1, rel=1e-14)
    assert found["auc"] <= 1
    assert found["accuracy"] == 1
    assert found["recall"] == found["precision"] == found["f1"] == {"c0": 1, "c1": 1}


# The command line


def printed(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[str, str]:
    assert run(list(map(str, arguments))) == 0
    stdout, stderr = capsys.readouterr()
    return stdout, stderr


def test_flags(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data, out = tmp_path / "people.parquet", tmp_path / "run"
    pq.write_table(people(), data)
    (tmp_path / "weights.toml").write_text('k0 = 2\n"k1" = 0.5\n')
    (tmp_path / "weights.json").write_text('{"k1": 0.5, "k0": 2}')
    quick = ("--workers", 0, "--progress", "none", "--hidden", 4, "--epochs", 1)
    flags = (*quick, "--target", "kind", "--exclude", "price", "--weight", "w")
    weights = "--class-weight"
    printed(capsys, "train", data, *flags, weights, tmp_path / "weights.toml", "--out", out)
    again = ("--config", out / "hyperparameters.toml", "--workers", 0)
    printed(capsys, "train", data, *again, "--out", tmp_path / "again")
    json_too = (*flags, weights, tmp_path / "weights.json")
    printed(capsys, "train", data, *json_too, "--out", tmp_path / "json")
    digests = {Model.load(tmp_path / name).digest for name in ("run", "again", "json")}
    assert len(digests) == 1
    scores, said = printed(capsys, "evaluate", out, data)
    assert json.loads(scores)["weight"] == np.array(people()["w"]).sum()
    assert said == ""
    pq.write_table(people().drop_columns(["w"]), tmp_path / "plain.parquet")
    scores, said = printed(capsys, "evaluate", out, tmp_path / "plain.parquet")
    assert "weight" not in json.loads(scores)
    assert (
        said
        == f"{tmp_path / 'plain.parquet'} has no weight column 'w': each of its rows counts 1\n"
    )
    predictions = tmp_path / "predictions.parquet"
    printed(capsys, "predict", out, tmp_path / "plain.parquet", "--out", predictions)
    described, _ = printed(capsys, "describe", data, *flags[8:], weights, "balanced", "--json")
    columns = {each["column"]: each for each in json.loads(described)["columns"]}
    assert columns["w"]["treatment"] == "weight"
    assert list(columns["kind"]["class_weights"]) == ["k0", "k1", "k2"]
    text, _ = printed(capsys, "describe", data, *flags[8:])
    assert "3 classes: k0, k1, k2; --target" in text
    heavy = np.count_nonzero(np.array(people()["w"]))
    assert f"60 of 60 rows to train on, {heavy} of a weight above 0; X has" in text
    text, _ = printed(capsys, "describe", data, *flags[8:], weights, "balanced")
    assert "3 classes: k0, k1, k2; their weights " in text
