"""What the commands describe, evaluate, predict and digest take on the command line."""

from typing import Any

from dist_dnn.front.arguments import add_data, add_reach, add_run
from dist_dnn.front.experiment import (
    EXPERIMENT,
    add_config,
    add_hyperparameters,
    add_target,
    hyperparameters_of,
)
from dist_dnn.front.parsing import Command, names

DESCRIBE_EXAMPLES = """\
examples:
  dist-dnn describe scripts/data/digits.parquet --target digit
  dist-dnn describe flights.csv --target arr_delay --exclude tailnum --categorical hour,month
  dist-dnn describe flights.csv --target arr_delay,dep_delay --json
"""

PREDICT_EXAMPLES = """\
examples:
  dist-dnn predict runs/digits new.parquet --out predictions.parquet
  dist-dnn predict runs/price new.csv --columns id,date --out prices.parquet
"""


def _add_describe(parser: Any) -> None:
    add_data(parser)
    add_target(parser)
    add_config(parser)
    shared = {name: EXPERIMENT["training"][name] for name in ("seed", "shards")}
    add_hyperparameters(parser.add_argument_group("data"), EXPERIMENT["data"] | shared)
    parser.add_argument("--json", action="store_true", help="print one JSON object instead")
    add_reach(parser, workers=0)


def _describe(chosen: Any) -> None:
    from dist_dnn.front.describe import describe_command

    describe_command(chosen, hyperparameters_of(chosen))


def _add_evaluate(parser: Any) -> None:
    add_run(parser)
    add_data(parser)
    add_reach(parser, workers=0)


def _evaluate(chosen: Any) -> None:
    from dist_dnn.front.evaluate import evaluate_command

    evaluate_command(chosen)


def _add_predict(parser: Any) -> None:
    add_run(parser)
    add_data(parser)
    parser.add_argument("--out", metavar="FILE.parquet", required=True, help="the file to write")
    parser.add_argument(
        "--columns",
        type=names,
        default=(),
        metavar="A,B,…",
        help="columns of DATA that stand before the predictions, with the types that they have",
    )
    add_reach(parser, workers=0)


def _predict(chosen: Any) -> None:
    from dist_dnn.front.predict import predict_command

    predict_command(chosen)


def _digest(chosen: Any) -> None:
    from dist_dnn.model import Model

    print(Model.load(chosen.run).digest)


COMMANDS = {
    "describe": Command(
        _describe,
        "show what training would do with each column of a table, and why",
        DESCRIBE_EXAMPLES,
        _add_describe,
    ),
    "evaluate": Command(
        _evaluate,
        "print a run's loss and scores on a table, as JSON",
        "example:\n  dist-dnn evaluate runs/digits test.parquet",
        _add_evaluate,
    ),
    "predict": Command(
        _predict,
        "write a run's prediction for every row of a table",
        PREDICT_EXAMPLES,
        _add_predict,
    ),
    "digest": Command(
        _digest,
        "print the SHA-256 of a run's parameters",
        "example:\n  dist-dnn digest runs/digits",
        add_run,
    ),
}
"""The commands by their names."""
