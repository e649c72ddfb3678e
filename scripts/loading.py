"""Measure how long loading a table takes beside reading it alone: one JSON object is printed."""

import argparse
import sys
from pathlib import Path
from time import perf_counter
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import pyarrow as pa
import pyarrow.csv as csv
import pyarrow.parquet as parquet
from comparisons import ratio
from measuring_command import printed

from dist_dnn.hyperparameters import Hyperparameters
from dist_dnn.preparation import prepare
from dist_dnn.rounds import Group
from dist_dnn.trainer import Experiment, Trainer
from workers import launch
from workers.group import Reach


def main() -> int:
    """Measure what the command line asks for; returns the exit status."""
    parser = argparse.ArgumentParser(
        description="Measure how long a table takes to load beside pyarrow's reading it alone.",
        epilog="example: python scripts/loading.py flights.parquet --target distance",
    )
    parser.add_argument("data", metavar="DATA", help="a Parquet or CSV file")
    parser.add_argument("--target", required=True, metavar="COLUMN")
    parser.add_argument("--task", default="auto", metavar="TASK")
    parser.add_argument("--features", type=lambda text: text.split(","), metavar="A,B,…")
    parser.add_argument("--workers", type=int, default=2, metavar="N", help="default 2")
    parser.add_argument("--turns", type=int, default=7, metavar="N", help="default 7")
    chosen = parser.parse_args()
    settings = launch.Settings("local", chosen.workers)
    return printed(lambda: launch.run(settings, lambda reach: measure(reach, chosen)))


def measure(reach: Reach, chosen: argparse.Namespace) -> dict[str, Any]:
    """Let both take turns; the workers have started before."""
    hyperparameters = Hyperparameters(features=chosen.features, task=chosen.task, hidden=(1,))
    seconds: dict[str, list[float]] = {"loading": [], "reading": []}
    with reach.group(hyperparameters.shards) as group:
        experiment = _load(group, chosen, hyperparameters)
        names = [*(column.name for column in experiment.features.columns), *experiment.target.names]
        _read(chosen.data, names)  # pyarrow loads its modules when they are used
        for _ in range(chosen.turns):
            began = perf_counter()
            _load(group, chosen, hyperparameters)
            loaded = perf_counter()
            _read(chosen.data, names)
            seconds["loading"].append(loaded - began)
            seconds["reading"].append(perf_counter() - loaded)
    estimate = ratio(seconds["loading"], seconds["reading"])
    return {
        "rows": experiment.m,
        "columns": len(names),
        "n": experiment.features.size,
        "workers": chosen.workers,
        "loading_over_reading": estimate.median,
        "interval": [estimate.low, estimate.high],
    }


def _load(group: Group, chosen: argparse.Namespace, given: Hyperparameters) -> Experiment:
    """From the file to X and Y on the workers, as a training begins."""
    experiment = prepare(group, chosen.data, (chosen.target,), given)
    Trainer(group, experiment, given)
    return experiment


def _read(path: str, names: list[str]) -> pa.Table:
    """The same columns, with all threads."""
    if path.endswith(".csv"):
        return csv.read_csv(path, convert_options=csv.ConvertOptions(include_columns=names))
    return parquet.read_table(path, columns=names)


if __name__ == "__main__":
    sys.exit(main())
