"""A real table through our pipeline, and through scikit-learn's, with the same net."""

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from flights import flights
from numpy.typing import NDArray

from dist_dnn.data.sources import open_source
from dist_dnn.front.api import train
from dist_dnn.model import Model
from dist_dnn.prediction import predictions
from workers.in_process import InProcessGroup

SEEDS = range(5)

TARGET = "air_time"
"""What a regression predicts: how long a flight is in the air, in minutes."""

LATE = "late"
"""And what is classified: whether it arrives more than 15 minutes late."""

GIVEN = ("carrier", "origin", "dest", "month", "distance", "dep_time", "dep_delay", "tailnum")
"""The features: text, of which some is missing, numbers, of which some are, and a category.

All are known when it has departed; ``arr_delay`` and the like, which say the rest, are left out.
"""

NET: dict[str, Any] = {
    "hidden": [32, 16],
    "epochs": 4,
    "batch_size": 256,
    "learning_rate": 0.001,
    "features": GIVEN,
    "categorical": ["month"],
}
REGRESSION = {**NET, "task": "regression"}

CLASSES_ROWS = 110_000
"""So many are trained on to classify: as many as there need be."""


def arrived() -> pa.Table:
    """Flights that did, and whether late; every fifth delay of departure is taken as unknown."""
    table = flights()
    table = table.filter(pc.is_valid(table[TARGET]))
    delay = table["dep_delay"].to_numpy().astype(float)
    delay[::5] = np.nan
    place = table.column_names.index("dep_delay")
    table = table.set_column(place, "dep_delay", pa.array(delay))
    return table.append_column(LATE, pc.greater(table["arr_delay"], 15))


def parts() -> tuple[pa.Table, pa.Table]:
    """Rows to train on and to test with."""
    table = arrived()
    is_test = np.random.default_rng(0).random(table.num_rows) < 0.2
    return table.filter(pa.array(~is_test)), table.filter(pa.array(is_test))


def rmse(predicted: NDArray[Any], table: pa.Table) -> float:
    return float(np.sqrt(np.mean((predicted - table[TARGET].to_numpy()) ** 2)))


def ours(training: pa.Table, test: pa.Table, seed: int) -> float:
    model = train(training, TARGET, {**REGRESSION, "seed": seed}, workers=2).model
    return rmse(predicted(model, test), test)


def predicted(model: Model | None, table: pa.Table, column: str = "prediction") -> NDArray[Any]:
    assert model is not None
    batches = predictions(InProcessGroup(model.shards), model, open_source(table))
    return pa.Table.from_batches(batches)[column].to_numpy()


NUMBERS = ["distance", "dep_time", "dep_delay"]
CATEGORIES = ["carrier", "origin", "dest", "month", "tailnum"]


def their_columns() -> Any:
    """scikit-learn's SimpleImputer, StandardScaler and OneHotEncoder, for what we do."""
    from sklearn.compose import ColumnTransformer
    from sklearn.impute import SimpleImputer
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import OneHotEncoder, StandardScaler

    encoder = OneHotEncoder(
        handle_unknown="infrequent_if_exist", min_frequency=0.001, max_categories=101
    )
    numbers = make_pipeline(SimpleImputer(add_indicator=True), StandardScaler())
    return ColumnTransformer([("n", numbers, NUMBERS), ("c", encoder, CATEGORIES)])


def their_net(seed: int) -> dict[str, Any]:
    """The arguments of an MLPRegressor or MLPClassifier that is the same net."""
    return {
        "hidden_layer_sizes": tuple(NET["hidden"]),
        "alpha": 0,
        "batch_size": NET["batch_size"],
        "max_iter": NET["epochs"],
        "random_state": seed,
    }


def fitted(pipeline: Any, training: pa.Table, target: str) -> Any:
    from sklearn.exceptions import ConvergenceWarning

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        return pipeline.fit(frame(training), training[target].to_numpy())


def frame(table: pa.Table) -> Any:
    return table.select([*NUMBERS, *CATEGORIES]).to_pandas()


def theirs(training: pa.Table, test: pa.Table, seed: int) -> float:
    from sklearn.compose import TransformedTargetRegressor
    from sklearn.neural_network import MLPRegressor
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    net = MLPRegressor(**their_net(seed))
    target = TransformedTargetRegressor(net, transformer=StandardScaler())
    pipeline = fitted(make_pipeline(their_columns(), target), training, TARGET)
    return rmse(pipeline.predict(frame(test)), test)


def errors_of_classes(probability: NDArray[Any], test: pa.Table) -> list[float]:
    """Log-loss, and what accuracy and AUC lack to 1: the less, the better."""
    from sklearn.metrics import accuracy_score, log_loss, roc_auc_score

    truth = test[LATE].to_numpy()
    probability = probability.astype(np.float64)
    return [
        log_loss(truth, probability),
        1 - accuracy_score(truth, probability > 0.5),
        1 - roc_auc_score(truth, probability),
    ]


def our_classes(training: pa.Table, test: pa.Table, seed: int) -> list[float]:
    model = train(training, LATE, {**NET, "seed": seed}, workers=2).model
    return errors_of_classes(predicted(model, test, "probability_true"), test)


def their_classes(training: pa.Table, test: pa.Table, seed: int) -> list[float]:
    from sklearn.neural_network import MLPClassifier
    from sklearn.pipeline import make_pipeline

    net = MLPClassifier(**their_net(seed))
    pipeline = fitted(make_pipeline(their_columns(), net), training, LATE)
    return errors_of_classes(pipeline.predict_proba(frame(test))[:, 1], test)


def check_as_good(our_errors: NDArray[Any], their_errors: NDArray[Any]) -> None:
    """Better, or within the noise of the seeds, by each error: (seeds,) or (seeds, errors)."""
    variances = our_errors.var(axis=0, ddof=1) + their_errors.var(axis=0, ddof=1)
    noise = np.sqrt(variances / len(SEEDS))
    assert np.all(our_errors.mean(axis=0) <= their_errors.mean(axis=0) + 2 * noise)


def test_a_sample_is_learned_and_raw_rows_predicted(tmp_path: Path) -> None:
    training, test = parts()
    sample = training.take(np.arange(0, training.num_rows, 25))
    pq.write_table(sample, tmp_path / "sample.parquet")
    model = train(tmp_path / "sample.parquet", TARGET, REGRESSION, workers=0).model
    again = train(tmp_path / "sample.parquet", TARGET, REGRESSION, workers=2).model
    assert model is not None
    assert again is not None
    assert model.digest == again.digest
    names = [column.name for column in model.features.columns if column.is_category]
    assert names == ["carrier", "origin", "dest", "month", "tailnum"]
    unseen = test.slice(0, 5000)
    place = unseen.column_names.index("dest")
    unseen = unseen.set_column(place, "dest", pa.array(["XXX"] * 5000))
    spread = test[TARGET].to_numpy().std()
    assert rmse(predicted(model, test.slice(0, 5000)), test.slice(0, 5000)) < spread / 3
    assert np.isfinite(predicted(model, unseen)).all()


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_a_regression_as_good_as_scikit_learn() -> None:
    """On all rows."""
    training, test = parts()
    assert training.num_rows > 100_000
    our_errors = np.array([ours(training, test, seed) for seed in SEEDS])
    their_errors = np.array([theirs(training, test, seed) for seed in SEEDS])
    check_as_good(our_errors, their_errors)


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_classes_as_good_as_scikit_learn() -> None:
    training, test = parts()
    chosen = np.random.default_rng(1).permutation(training.num_rows)[:CLASSES_ROWS]
    training = training.take(np.sort(chosen))
    assert training.num_rows > 100_000
    our_errors = np.array([our_classes(training, test, seed) for seed in SEEDS])
    their_errors = np.array([their_classes(training, test, seed) for seed in SEEDS])
    check_as_good(our_errors, their_errors)
