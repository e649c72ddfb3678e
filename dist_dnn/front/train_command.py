"""What the command train takes."""

import argparse
from collections.abc import Sequence
from typing import Any

from dist_dnn.front.arguments import add_progress, add_reach
from dist_dnn.front.experiment import (
    EXPERIMENT,
    add_config,
    add_hyperparameters,
    add_target,
    hyperparameters_of,
)
from dist_dnn.front.parsing import Command, Parser, seconds, whole_number

EXAMPLES = """\
examples:
  dist-dnn train digits.parquet --target digit --out runs/digits
  dist-dnn train data/ --target price --hidden 128,64 --epochs 30 --validation 0.1 --out runs/price
  dist-dnn train weather.csv --target temperature,humidity --exclude day --out runs/weather
  dist-dnn train rows.parquet --target sold --validation 0.1 --stratify --test later.parquet \\
      --out runs/sold
  dist-dnn train rows.parquet --target sold --weight copies --class-weight balanced \\
      --out runs/balanced
  dist-dnn train digits.parquet --target digit --hidden none --optimizer sgd --learning-rate 0.1 \\
      --batch-size full --out runs/logistic
  dist-dnn train digits.parquet --config runs/digits/hyperparameters.toml --out runs/again
  dist-dnn train digits.parquet --out runs/digits --resume --epochs 30
  dist-dnn train s3://bucket/digits.parquet --target digit --out s3://bucket/runs/digits
  mpirun -n 4 dist-dnn train digits.parquet --target digit --out runs/digits --backend mpi

The result does not depend on --workers or --backend, to the last bit. It does depend on --shards:
choose it once, at the most workers that will ever be used.
"""

_RESUME_VALUES: dict[str, bool | str] = {"": True, "auto": "auto"}


def _add(parser: Any) -> None:
    parser.add_argument(
        "data", metavar="DATA", help="a Parquet, Arrow or CSV file, a folder of them, or a URI"
    )
    add_target(parser)
    parser.add_argument(
        "--out",
        metavar="RUN",
        required=True,
        help="the run directory to make, or to resume; a path, or a URI that pyarrow.fs opens",
    )
    add_config(parser)
    for title, flags in EXPERIMENT.items():
        add_hyperparameters(parser.add_argument_group(title), flags)
    add_reach(parser, workers=2)
    survival = parser.add_argument_group("checkpoints and faults (none of these changes a bit)")
    for flag, settings in _SURVIVAL.items():
        survival.add_argument(flag, **settings)
    parser.add_argument(
        "--profile",
        action="store_true",
        help="show at the end where the time of the driver and of each worker went, and workers' "
        "memory (status.json has it too)",
    )
    parser.add_argument(
        "--metrics-port",
        type=whole_number,
        metavar="PORT",
        help="serve the run's gauges to Prometheus at http://127.0.0.1:PORT/metrics while it "
        "trains; 0 takes a free port and says which",
    )
    add_progress(parser)


def _resume(text: str) -> bool | str:
    if text in _RESUME_VALUES:
        return _RESUME_VALUES[text]
    raise argparse.ArgumentTypeError(f"must stand by itself or be --resume=auto, not {text!r}")


_SURVIVAL: dict[str, dict[str, Any]] = {
    "--resume": {
        "nargs": "?",
        "type": _resume,
        "metavar": "auto",
        "default": False,
        "help": "go on with RUN, which knows its target and hyperparameters; --resume=auto starts "
        "it where it is not there, and leaves it as it is when it is complete",
    },
    "--checkpoint-every": {
        "metavar": "N|SECONDSs",
        "default": "60s",
        "help": "steps, or seconds, between checkpoints within an epoch (default %(default)s)",
    },
    "--keep": {
        "type": whole_number,
        "metavar": "N",
        "default": 3,
        "help": "newest checkpoints that stay, beside the best by validation (default %(default)s)",
    },
    "--max-failures": {
        "type": whole_number,
        "metavar": "N",
        "default": 3,
        "help": "how often workers may be lost in one step (default %(default)s)",
    },
    "--step-timeout": {
        "type": seconds,
        "metavar": "SECONDS",
        "help": "after which a silent worker is taken for lost (default 30); never less than ten "
        "times the longest step",
    },
}
"""The flags of what changes no bit: checkpoints, and how faults are survived."""


def parse_train(arguments: Sequence[str]) -> tuple[Any, dict[str, Any]]:
    """The command line of ``train`` with these arguments, and the hyperparameters in it.

    Raises:
        InputError: it is none.
    """
    parser = Parser(prog="dist-dnn train")
    _add(parser)
    chosen = parser.parse_args(arguments)
    return chosen, hyperparameters_of(chosen)


def _run(chosen: Any) -> None:
    from dist_dnn.front.commands import train_command

    train_command(chosen, hyperparameters_of(chosen))


COMMANDS = {"train": Command(_run, "train a network", EXAMPLES, _add)}
"""The command by its name."""
