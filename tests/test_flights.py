"""A real table through our pipeline, and through scikit-learn's, with the same net."""

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
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
"""What is predicted: how long a flight is in the air, in minutes."""

GIVEN = ("carrier", "origin", "dest", "month", "distance", "dep_time", "dep_delay", "tailnum")
"""The features: text, of which some is missing, numbers, of which some are, and a category."""

NET: dict[str, Any] = {
    "hidden": [32, 16],
    "epochs": 4,
    "batch_size": 256,
    "learning_rate": 0.001,
    "features": GIVEN,
    "categorical": ["month"],
    "task": "regression",
}


def parts() -> tuple[pa.Table, pa.Table]:
    """Rows to train on and to test with; every fifth departure is taken to be unknown."""
    table = flights()
    table = table.filter(pa.array(np.asarray(table[TARGET].is_valid())))
    delay = table["dep_delay"].to_numpy().astype(float)
    delay[::5] = np.nan
    place = table.column_names.index("dep_delay")
    table = table.set_column(place, "dep_delay", pa.array(delay))
    is_test = np.random.default_rng(0).random(table.num_rows) < 0.2
    return table.filter(pa.array(~is_test)), table.filter(pa.array(is_test))


def rmse(predicted: NDArray[Any], table: pa.Table) -> float:
    return float(np.sqrt(np.mean((predicted - table[TARGET].to_numpy()) ** 2)))


def ours(training: pa.Table, test: pa.Table, seed: int, workers: int = 2) -> float:
    model = train(training, TARGET, {**NET, "seed": seed}, workers=workers).model
    return rmse(predicted(model, test), test)


def predicted(model: Model | None, table: pa.Table) -> NDArray[Any]:
    assert model is not None
    batches = predictions(InProcessGroup(model.shards), model, open_source(table))
    return pa.Table.from_batches(batches)["prediction"].to_numpy()


def theirs(training: pa.Table, test: pa.Table, seed: int) -> float:
    """scikit-learn's SimpleImputer, StandardScaler and OneHotEncoder before its MLPRegressor."""
    from sklearn.compose import ColumnTransformer, TransformedTargetRegressor
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.impute import SimpleImputer
    from sklearn.neural_network import MLPRegressor
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import OneHotEncoder, StandardScaler

    numbers = ["distance", "dep_time", "dep_delay"]
    categories = ["carrier", "origin", "dest", "month", "tailnum"]
    encoder = OneHotEncoder(
        handle_unknown="infrequent_if_exist", min_frequency=0.001, max_categories=101
    )
    columns = ColumnTransformer(
        [
            ("n", make_pipeline(SimpleImputer(add_indicator=True), StandardScaler()), numbers),
            ("c", encoder, categories),
        ]
    )
    net = MLPRegressor(
        hidden_layer_sizes=tuple(NET["hidden"]),
        alpha=0,
        batch_size=NET["batch_size"],
        max_iter=NET["epochs"],
        random_state=seed,
    )
    pipeline = make_pipeline(columns, TransformedTargetRegressor(net, transformer=StandardScaler()))
    frames = [table.select([*numbers, *categories]).to_pandas() for table in (training, test)]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        pipeline.fit(frames[0], training[TARGET].to_numpy())
    return rmse(pipeline.predict(frames[1]), test)


def test_a_sample_is_learned_and_raw_rows_predicted(tmp_path: Path) -> None:
    training, test = parts()
    sample = training.take(np.arange(0, training.num_rows, 25))
    pq.write_table(sample, tmp_path / "sample.parquet")
    model = train(tmp_path / "sample.parquet", TARGET, NET, workers=0).model
    again = train(tmp_path / "sample.parquet", TARGET, NET, workers=2).model
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
def test_as_good_as_scikit_learn() -> None:
    """On all rows; better, or within the noise of five seeds."""
    training, test = parts()
    assert training.num_rows > 100_000
    our_errors = np.array([ours(training, test, seed) for seed in SEEDS])
    their_errors = np.array([theirs(training, test, seed) for seed in SEEDS])
    noise = np.sqrt((our_errors.var(ddof=1) + their_errors.var(ddof=1)) / len(SEEDS))
    assert our_errors.mean() <= their_errors.mean() + 2 * noise
