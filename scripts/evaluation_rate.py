"""Measure evaluation and prediction against their matrix products: one JSON object is printed."""

import argparse
import sys
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from time import perf_counter
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import pyarrow.parquet as parquet
from comparisons import ratio
from measuring_command import layers, printed

from dist_dnn.data.sources import open_source
from dist_dnn.evaluation import Evaluator
from dist_dnn.front.made_up import made_up_rows
from dist_dnn.front.predict import write_parquet
from dist_dnn.hyperparameters import Hyperparameters
from dist_dnn.model import Model
from dist_dnn.prediction import predictions
from dist_dnn.preparation import prepare
from dist_dnn.products import ForwardProducts
from dist_dnn.rounds import Group
from dist_dnn.shards import CHUNK_ROWS
from dist_dnn.trainer import TRAINING, Trainer
from workers import launch
from workers.group import Reach


def main() -> int:
    """Measure what the command line asks for; returns the exit status."""
    chosen = _parser().parse_args()
    settings = launch.Settings(chosen.backend, chosen.workers)
    return printed(lambda: launch.run(settings, lambda reach: measure(reach, chosen)))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description="Measure evaluation and prediction against their matrix products alone.",
        epilog="example: python scripts/evaluation_rate.py --layers 1024,2048,2048,1024,10",
    )
    parser.add_argument("--layers", required=True, type=layers, metavar="N,N,…")
    parser.add_argument("--workers", type=int, metavar="N", help="default 2, or all ranks of MPI")
    parser.add_argument("--backend", default="local", metavar="NAME")
    parser.add_argument("--shards", type=int, default=8, metavar="S")
    parser.add_argument("--rows", type=int, metavar="M", help="default: 4 chunks a shard")
    parser.add_argument(
        "--row-groups", type=int, default=1, metavar="N", help="of the Parquet file; default 1"
    )
    parser.add_argument("--turns", type=int, default=7, metavar="N", help="default 7")
    return parser


def measure(reach: Reach, chosen: argparse.Namespace) -> dict[str, Any]:
    """Let products, evaluation and prediction take turns in one group of workers."""
    rows = chosen.rows or 4 * chosen.shards * CHUNK_ROWS
    hyperparameters = Hyperparameters(hidden=chosen.layers[1:-1], shards=chosen.shards)
    with TemporaryDirectory() as folder, reach.group(chosen.shards) as group:
        table = Path(folder, "rows.parquet")
        made_up = made_up_rows(chosen.layers[0], chosen.layers[-1], rows)
        parquet.write_table(made_up, table, row_group_size=-(-rows // chosen.row_groups))
        experiment = prepare(group, str(table), ("y",), hyperparameters)
        trainer = Trainer(group, experiment, hyperparameters)
        model = experiment.model(trainer.parameters, chosen.shards)
        works = _works(group, model, table, rows)
        for work in works.values():
            work()  # reads, and makes its arrays
        times: dict[str, list[float]] = {name: [] for name in works}
        for _ in range(chosen.turns):
            for name, work in works.items():
                times[name].append(_seconds(work))
    return {
        "rows": rows,
        "row_groups": chosen.row_groups,
        "turns": chosen.turns,
        **_fraction("evaluation", times),
        **_fraction("prediction", times),
    }


def _works(group: Group, model: Model, table: Path, rows: int) -> dict[str, Callable[[], object]]:
    """What takes turns: each goes through all rows once."""
    products = group.open(ForwardProducts, {"network": model.network.arguments(), "rows": rows})
    evaluate = Evaluator(group, TRAINING, model.network, model.features, model.target)
    out = table.with_name("predictions.parquet")
    return {
        "products": products.run,
        "evaluation": lambda: evaluate(model.parameters),
        "prediction": lambda: write_parquet(
            out, predictions(group, model, open_source(str(table)), out.parent)
        ),
    }


def _seconds(work: Callable[[], object]) -> float:
    began = perf_counter()
    work()
    return perf_counter() - began


def _fraction(name: str, times: dict[str, list[float]]) -> dict[str, Any]:
    """The products' time over that of the whole work, turn by turn, with its interval."""
    estimate = ratio(times["products"], times[name])
    return {
        f"{name}_fraction": estimate.median,
        f"{name}_interval": [estimate.low, estimate.high],
    }


if __name__ == "__main__":
    sys.exit(main())
