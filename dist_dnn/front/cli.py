"""The command line: what each command takes, and how it ends."""

import argparse
import os
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from io import TextIOWrapper
from itertools import takewhile
from typing import Any, NoReturn

from dist_dnn.errors import InputError, RunError
from dist_dnn.front import looking_commands, quantities
from dist_dnn.front.jobs_command import add_jobs
from dist_dnn.hyperparameters import Hyperparameters, suggestion, what_must_be
from dist_dnn.nn.activations import ACTIVATIONS
from dist_dnn.nn.network import INITIALIZATIONS
from dist_dnn.nn.optimizers import OPTIMIZERS
from dist_dnn.nn.schedules import SCHEDULES
from dist_dnn.notices import complain, is_silent, speak

TRAIN_EXAMPLES = """\
examples:
  dist-dnn train digits.parquet --target digit --out runs/digits
  dist-dnn train data/ --target price --hidden 128,64 --epochs 30 --validation 0.1 --out runs/price
  dist-dnn train rows.parquet --target sold --validation 0.1 --stratify --test later.parquet \\
      --out runs/sold
  dist-dnn train digits.parquet --target digit --hidden none --optimizer sgd --learning-rate 0.1 \\
      --batch-size full --out runs/logistic
  dist-dnn train digits.parquet --config runs/digits/hyperparameters.toml --out runs/again
  dist-dnn train digits.parquet --out runs/digits --resume --epochs 30
  dist-dnn train s3://bucket/digits.parquet --target digit --out s3://bucket/runs/digits
  mpirun -n 4 dist-dnn train digits.parquet --target digit --out runs/digits --backend mpi

The result does not depend on --workers or --backend, to the last bit. It does depend on --shards:
choose it once, at the most workers that will ever be used.
"""

DESCRIBE_EXAMPLES = """\
examples:
  dist-dnn describe scripts/data/digits.parquet --target digit
  dist-dnn describe flights.csv --target arr_delay --exclude tailnum --categorical hour,month
  dist-dnn describe flights.csv --target arr_delay --json
"""

PLAN_EXAMPLES = """\
examples:
  dist-dnn plan 784 512 256 10 --batch-size 8192 --workers 64 --bandwidth 10Gb/s
  dist-dnn plan 784 512 256 10 --batch-size 8192 --workers 64 --bandwidth 1.25GB/s --latency 5us \\
      --flops 90GFLOP/s
  dist-dnn plan 784 512 256 10 --batch-size 512 --workers 2 --verify

the model: P parameters, V = 4P bytes; N workers, S shards, a batch of B rows; F operations of the
matrix products a row; K = ⌈S/N⌉ shards and R rows of them are the busiest worker's; T complete
subtrees of shards are everyone's, at most k one worker's; a message of n bytes takes α + n/β.
  compute    call + blocks·block + R·(F/flops + row) + (K-1)·P·addition
  broadcast  ⌈log2 N⌉·α + min(⌈log2 N⌉·(α + V/β), (⌈log2 N⌉ + N-1)·α + 2·(N-1)/N·V/β)
  reduce     (N-1)·(2 + k)·α + (reports + slices + gathered)/β + (T-1)·(P/N)·addition
  update     P·update
A worker sends k slices of V/N bytes to each other one, and its slice of the total to the driver.
Without --bandwidth, broadcast is the time to begin and end a round, and reduce the additions.
scripts/README.md says more, and where the formulas come from.
"""


def run(arguments: Sequence[str] | None = None) -> int:
    """Run one command.

    Returns:
        The exit status: 0, 1 for a failure, 2 for a mistake, or that of a job.

    Raises:
        Stopped: a signal ended it.
    """
    if isinstance(sys.stdout, TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # not every terminal can write α
    try:
        given = sys.argv[1:] if arguments is None else arguments
        chosen = _parser().parse_args(given)
        status: int | None = chosen.command(chosen)
        print(end="", flush=True)
        return status or 0
    except InputError as error:
        return _failed(error, 2)
    except RunError as error:
        return _failed(error, 1)
    except MemoryError as error:
        return _failed(f"there is not enough memory: {error}", 1)
    except OSError as error:
        if sys.stdout is not None:  # it may be what cannot be written: drop what it holds
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        # Where whoever read standard output has gone, nobody need be told, but of what was noted.
        is_known = isinstance(error, BrokenPipeError) and not hasattr(error, "__notes__")
        return 1 if is_known else _failed(error, 1)


def _failed(what: BaseException | str, status: int) -> int:
    complain(what)
    if is_silent():
        from workers.launched import linger

        alone = linger()
        if alone is not None:  # it is the mistake of this rank's machine alone
            speak()
            complain(f"{alone.name}: {what}")
    return status


_RESUME = "--resume"
_RESUME_VALUES: dict[str, bool | str] = {"": True, "auto": "auto"}


class _Parser(argparse.ArgumentParser):
    """Says mistakes in one line, and knows what was meant.

    Attributes:
        advice: what is added where there is an unknown argument.
    """

    advice = ""

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        self.allow_abbrev = False
        self.formatter_class = argparse.RawDescriptionHelpFormatter

    def error(self, message: str) -> NoReturn:
        raise InputError(f"{message} (see {self.prog} --help)")

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        if self._subparsers is None:  # before what is missing: it may be there, misspelt
            # By itself, the flag would take what stands behind it for its value.
            own = list(takewhile(lambda argument: argument != "--", args))
            own = [f"{_RESUME}=" if each == _RESUME else each for each in own]
            args = [*own, *args[len(own) :]]
            for flag in own:
                if flag.startswith("--"):
                    self._check_known(flag.partition("=")[0])
        chosen, unknown = super().parse_known_args(args, namespace)
        for argument in unknown:
            self._check_known(argument)
        return chosen, unknown

    def _parse_optional(self, arg_string: str) -> Any:
        """Have no other flags of one dash than -h: -accuracy is a value, like -1."""
        if not arg_string.startswith("--") and arg_string not in self._option_string_actions:
            return None
        return super()._parse_optional(arg_string)

    def _check_known(self, argument: str) -> None:
        flags = self._option_string_actions
        if argument not in flags:
            self.error(f"unknown argument {argument!r}{suggestion(argument, flags)}{self.advice}")


def _parser() -> _Parser:
    from dist_dnn import __version__

    parser = _Parser(
        prog="dist-dnn",
        description="Data-parallel training of deep, fully connected neural networks on CPUs.",
        epilog="`dist-dnn COMMAND --help` describes a command, with examples.",
    )
    parser.add_argument("--version", action="version", version=f"dist_dnn {__version__}")
    commands = parser.add_subparsers(metavar="COMMAND", required=True, parser_class=_Parser)
    for add in (
        _add_train,
        _add_describe,
        _add_evaluate,
        _add_predict,
        _add_shapes,
        _add_plan,
        _add_check,
        _add_digest,
        _add_jobs,
    ):
        add(commands)
    for name, command in looking_commands.COMMANDS.items():
        command.add(_add_command(commands, name, command.run, command.help, command.examples))
    return parser


def _add_command(
    commands: Any, name: str, run: Callable[[Any], None], help: str, examples: str
) -> argparse.ArgumentParser:
    parser: argparse.ArgumentParser = commands.add_parser(
        name, help=help, description=help[0].upper() + help[1:] + ".", epilog=examples
    )
    parser.set_defaults(command=run)
    return parser


def _add_reach(parser: Any, workers: int) -> None:
    group = parser.add_argument_group("workers (none of these changes a bit of the result)")
    group.add_argument(
        "--workers",
        type=_whole_number,
        metavar="N",
        help="worker processes; 0 computes in the command's own process "
        f"(default {workers}; not with mpi, whose ranks are the workers)",
    )
    parser.set_defaults(default_workers=workers)
    group.add_argument(
        "--backend",
        default="local",
        metavar="NAME",
        help="local: processes of this machine; ray: actors of a Ray cluster; mpi: the ranks that "
        "mpirun started (default %(default)s)",
    )
    group.add_argument(
        "--address",
        metavar="HOST:PORT|auto",
        help="the Ray cluster to join (default: that of RAY_ADDRESS, or a private one)",
    )
    group.add_argument(
        "--cpus-per-worker",
        type=_number,
        default=1.0,
        metavar="X",
        help="what Ray reserves for each worker; it computes on one (default 1)",
    )
    group.add_argument(
        "--start-timeout",
        type=_seconds,
        default=120.0,
        metavar="SECONDS",
        help="in which Ray must have room for the workers and start them, or all ranks of mpi must "
        "start (default 120)",
    )
    parser.add_argument(
        "--allow-mixed-cpus",
        action="store_true",
        help="go on where workers' arithmetic differs: then the last bits depend on the workers",
    )


def _numbers(text: str) -> tuple[int, ...]:
    return tuple(int(part) for part in text.split(","))


def _names(text: str) -> tuple[str, ...]:
    return tuple(text.split(","))


def _hyperparameter(name: str, convert: Callable[[str], Any]) -> Callable[[str], Any]:
    """What reads a hyperparameter's flag; text that ``convert`` does not take stays text."""

    def read(text: str) -> Any:
        value: Any = text
        with suppress(ValueError):
            value = convert(text)
        must = what_must_be(name, value)
        if must:
            raise argparse.ArgumentTypeError(f"must be {must}, not {text!r}")
        return value

    return read


def _whole_number(text: str) -> int:
    try:
        return int(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"must be a whole number, not {text!r}") from None


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"must be a number, not {text!r}") from None


def _seconds(text: str) -> float:
    try:
        return float(text.removesuffix("s"))
    except ValueError:
        raise argparse.ArgumentTypeError(f"must be a number of seconds, not {text!r}") from None


_EXPERIMENT: dict[str, dict[str, tuple[Callable[[str], Any], str, str]]] = {
    "data": {
        "features": (_names, "A,B,…", "columns that fill X, in this order (default: all others)"),
        "exclude": (_names, "A,B,…", "columns that do not"),
        "categorical": (_names, "A,B,…", "columns of numbers whose values are categories"),
        "passthrough": (_names, "A,B,…", "columns of numbers that are not standardised"),
        "max_categories": (int, "N", "values of a column that are categories, the most frequent"),
        "min_frequency": (float, "X", "part of the rows that such a value makes up at least"),
        "task": (str, "TASK", "auto, binary, multiclass or regression"),
        "validation": (
            float,
            "FILE_OR_FRACTION",
            "rows to validate on after each epoch: a fraction to hold out, or a file",
        ),
        "validation_column": (
            str,
            "COLUMN",
            "instead of --validation, a boolean column: true in the rows to validate on",
        ),
        "stratify": (bool, "", "hold out the fraction of each class, to the nearest row"),
        "test": (str, "FILE", "rows that training never sees, scored once when it has ended"),
    },
    "network": {
        "hidden": (_numbers, "N,N,…", "units of the hidden layers, or 'none'"),
        "activation": (str, "NAME", f"of the hidden layers: {', '.join(ACTIVATIONS)}"),
        "initialization": (str, "NAME", f"of the weights: {', '.join(INITIALIZATIONS)}"),
    },
    "training": {
        "optimizer": (str, "NAME", ", ".join(OPTIMIZERS)),
        "learning_rate": (float, "α", "of the optimiser"),
        "momentum": (float, "μ", "of momentum and nesterov (default 0.9)"),
        "decay_rate": (float, "ρ", "of rmsprop (default 0.9)"),
        "beta1": (float, "β1", "of adam and adamw (default 0.9)"),
        "beta2": (float, "β2", "of adam and adamw (default 0.999)"),
        "epsilon": (float, "ε", "of rmsprop, adam and adamw (default 1e-8)"),
        "weight_decay": (float, "X", "of adamw (default 0.01)"),
        "l2": (float, "λ", "of the penalty (λ/2m)·‖W‖²"),
        "clip_norm": (float, "X", "the greatest norm of a gradient (default: any)"),
        "schedule": (str, "NAME", f"of the learning rate: {', '.join(SCHEDULES)}"),
        "schedule_every": (int, "N", "of schedule step: epochs between drops (default 10)"),
        "schedule_factor": (float, "X", "of schedule step: the factor of a drop (default 0.5)"),
        "warmup_steps": (int, "N", "over which the learning rate rises from 0"),
        "schedule_epochs": (
            int,
            "N",
            "epochs that the schedule runs to (default: the first run's)",
        ),
        "on_divergence": (
            str,
            "stop|rollback",
            "stop, or begin the epoch again with half the learning rate",
        ),
        "batch_size": (int, "N|auto|full", "rows of a batch; auto is min(256, m)"),
        "epochs": (int, "N", "how often every row is used; 0 stores the initial model"),
        "seed": (int, "N", "of initialisation, order and held-out rows"),
        "shards": (int, "S", "logical shards: the most workers that will ever be used"),
    },
}
"""The flags of an experiment: how each is read, its stand-in in the help, and the help."""


def _add_train(commands: Any) -> None:
    parser = _add_command(commands, "train", _train, "train a network", TRAIN_EXAMPLES)
    parser.add_argument(
        "data", metavar="DATA", help="a Parquet, Arrow or CSV file, a folder of them, or a URI"
    )
    parser.add_argument("--target", metavar="COLUMN", help="the column to predict")
    parser.add_argument(
        "--out",
        metavar="RUN",
        required=True,
        help="the run directory to make, or to resume; a path, or a URI that pyarrow.fs opens",
    )
    parser.add_argument(
        "--config", metavar="FILE.toml", help="hyperparameters; flags override those of the file"
    )
    for title, flags in _EXPERIMENT.items():
        _add_hyperparameters(parser.add_argument_group(title), flags)
    _add_reach(parser, workers=2)
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
        type=_whole_number,
        metavar="PORT",
        help="serve the run's gauges to Prometheus at http://127.0.0.1:PORT/metrics while it "
        "trains; 0 takes a free port and says which",
    )
    parser.add_argument(
        "--progress",
        default="auto",
        choices=("auto", "bar", "lines", "none"),
        help="on standard error; auto is a bar on a terminal, else lines (default %(default)s)",
    )


def _add_hyperparameters(group: Any, flags: dict[str, tuple[Any, str, str]]) -> None:
    defaults = Hyperparameters().to_mapping()
    for name, (convert, metavar, help) in flags.items():
        if convert is bool:
            group.add_argument(
                _flag(name), action="store_true", default=argparse.SUPPRESS, help=help
            )
            continue
        if name in defaults:
            value = defaults[name]
            shown = ",".join(map(str, value)) if isinstance(value, list) else value
            help = f"{help} (default {shown})"
        group.add_argument(
            _flag(name),
            type=_hyperparameter(name, convert),
            default=argparse.SUPPRESS,
            metavar=metavar,
            help=help,
        )


def _add_describe(commands: Any) -> None:
    parser = _add_command(
        commands,
        "describe",
        _describe,
        "show what training would do with each column of a table, and why",
        DESCRIBE_EXAMPLES,
    )
    parser.add_argument("data", metavar="DATA", help="a file, a folder of files, or a URI")
    parser.add_argument("--target", metavar="COLUMN", help="the column to predict")
    parser.add_argument(
        "--config", metavar="FILE.toml", help="hyperparameters; flags override those of the file"
    )
    shared = {name: _EXPERIMENT["training"][name] for name in ("seed", "shards")}
    _add_hyperparameters(parser.add_argument_group("data"), _EXPERIMENT["data"] | shared)
    parser.add_argument("--json", action="store_true", help="print one JSON object instead")
    _add_reach(parser, workers=0)


def _resume(text: str) -> bool | str:
    if text in _RESUME_VALUES:
        return _RESUME_VALUES[text]
    raise argparse.ArgumentTypeError(f"must stand by itself or be --resume=auto, not {text!r}")


_SURVIVAL: dict[str, dict[str, Any]] = {
    _RESUME: {
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
        "type": _whole_number,
        "metavar": "N",
        "default": 3,
        "help": "newest checkpoints that stay, beside the best by validation (default %(default)s)",
    },
    "--max-failures": {
        "type": _whole_number,
        "metavar": "N",
        "default": 3,
        "help": "how often workers may be lost in one step (default %(default)s)",
    },
    "--step-timeout": {
        "type": _seconds,
        "metavar": "SECONDS",
        "help": "after which a silent worker is taken for lost (default 30); never less than ten "
        "times the longest step",
    },
}
"""The flags of what changes no bit: checkpoints, and how faults are survived."""


def _flag(name: str) -> str:
    return "--" + name.replace("_", "-")


def _add_evaluate(commands: Any) -> None:
    parser = _add_command(
        commands,
        "evaluate",
        _evaluate,
        "print a run's loss and scores on a table, as JSON",
        "example:\n  dist-dnn evaluate runs/digits test.parquet",
    )
    _add_run_and_data(parser)
    _add_reach(parser, workers=0)


def _add_predict(commands: Any) -> None:
    parser = _add_command(
        commands,
        "predict",
        _predict,
        "write a run's prediction for every row of a table",
        "example:\n  dist-dnn predict runs/digits new.parquet --out predictions.parquet",
    )
    _add_run_and_data(parser)
    parser.add_argument("--out", metavar="FILE.parquet", required=True, help="the file to write")
    _add_reach(parser, workers=0)


def _add_run_and_data(parser: Any) -> None:
    parser.add_argument("run", metavar="RUN", help="a run directory, by path or URI")
    parser.add_argument("data", metavar="DATA", help="a file, a folder of files, or a URI")


def _add_shapes(commands: Any) -> None:
    parser = _add_command(
        commands,
        "shapes",
        _shapes,
        "print the dimensions of every array of a network",
        "example:\n  dist-dnn shapes 784 512 256 10 --batch-size 512 --workers 4",
    )
    _add_sizes(parser)
    parser.add_argument("--batch-size", type=_whole_number, metavar="M", help="examples in a batch")
    parser.add_argument("--workers", type=_whole_number, default=1, metavar="N", help="default 1")


def _add_sizes(parser: Any) -> None:
    parser.add_argument(
        "sizes",
        metavar="N",
        nargs="+",
        type=_whole_number,
        help="n[0] n[1] … n[L], units of the layers",
    )


def _add_plan(commands: Any) -> None:
    parser = _add_command(
        commands,
        "plan",
        _plan,
        "predict the step time, traffic and efficiency of a network on so many workers",
        PLAN_EXAMPLES,
    )
    _add_sizes(parser)
    parser.add_argument(
        "--batch-size", type=_whole_number, metavar="B", required=True, help="examples in a batch"
    )
    parser.add_argument(
        "--workers", type=_whole_number, metavar="N", default=2, help="default %(default)s"
    )
    parser.add_argument(
        "--bandwidth",
        type=quantities.bandwidth,
        metavar="10Gb/s",
        help="β, of each worker's link to the network, each way: bits (b) or bytes (B) a second "
        "(default: none, the workers are on one machine and read each other's memory)",
    )
    parser.add_argument(
        "--latency",
        type=quantities.latency,
        metavar="50us",
        help="α, of a message over the network (default 50us)",
    )
    parser.add_argument(
        "--shards",
        type=_whole_number,
        metavar="S",
        help="of the experiment (default that of train, or the workers if they are more)",
    )
    parser.add_argument(
        "--optimizer",
        choices=OPTIMIZERS,
        default=Hyperparameters().optimizer,
        help="of the driver's update (default %(default)s)",
    )
    parser.add_argument(
        "--flops",
        type=quantities.rate,
        metavar="90GFLOP/s",
        help="what a worker's core does of matrix products; then nothing is measured "
        "(default: measured here, with what else a step takes, in some seconds)",
    )
    parser.add_argument(
        "--verify",
        action="store_true",
        help="train on made-up rows with 1 and 2 local workers, and print both times",
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object instead")


def _add_check(commands: Any) -> None:
    parser = _add_command(
        commands,
        "check",
        _check,
        "check the gradients on this machine, and the workers' against serial ones",
        "example:\n  dist-dnn check --workers 3",
    )
    _add_reach(parser, workers=2)


def _add_digest(commands: Any) -> None:
    parser = _add_command(
        commands,
        "digest",
        _digest,
        "print the SHA-256 of a run's parameters",
        "example:\n  dist-dnn digest runs/digits",
    )
    parser.add_argument("run", metavar="RUN", help="a run directory, by path or URI")


def _add_jobs(commands: Any) -> None:
    add_jobs(commands, _whole_number)


def parse_train(arguments: Sequence[str]) -> tuple[Any, dict[str, Any]]:
    """The command line of ``train`` with these arguments, and the hyperparameters in it.

    Raises:
        InputError: it is none.
    """
    chosen = _parser().parse_args(["train", *arguments])
    return chosen, _hyperparameters_of(chosen)


def _hyperparameters_of(chosen: Any) -> dict[str, Any]:
    """The hyperparameters that flags name."""
    return {
        name: value
        for flags in _EXPERIMENT.values()
        for name in flags
        if (value := getattr(chosen, name, None)) is not None
    }


def _train(chosen: Any) -> None:
    from dist_dnn.front.commands import train_command

    train_command(chosen, _hyperparameters_of(chosen))


def _describe(chosen: Any) -> None:
    from dist_dnn.front.describe import describe_command

    describe_command(chosen, _hyperparameters_of(chosen))


def _evaluate(chosen: Any) -> None:
    from dist_dnn.front.evaluate import evaluate_command

    evaluate_command(chosen)


def _predict(chosen: Any) -> None:
    from dist_dnn.front.predict import predict_command

    predict_command(chosen)


def _shapes(chosen: Any) -> None:
    from dist_dnn.front.shapes import print_shapes

    print_shapes(tuple(chosen.sizes), chosen.batch_size, chosen.workers)


def _plan(chosen: Any) -> None:
    from dist_dnn.front.api import import_launch

    import_launch()  # so that the package `workers`, which the model asks, is known to be ours
    from dist_dnn.front.plan import plan_command

    plan_command(chosen)


def _check(chosen: Any) -> None:
    from dist_dnn.front.check import check
    from dist_dnn.front.commands import reach_of

    check(reach_of(chosen))


def _digest(chosen: Any) -> None:
    from dist_dnn.model import Model

    print(Model.load(chosen.run).digest)
