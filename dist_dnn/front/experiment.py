"""The flags of an experiment: of what changes the result of a training."""

import argparse
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from dist_dnn.front.class_weight import class_weight
from dist_dnn.front.parsing import names
from dist_dnn.hyperparameters import Hyperparameters, what_must_be
from dist_dnn.nn.activations import ACTIVATIONS
from dist_dnn.nn.network import INITIALIZATIONS
from dist_dnn.nn.optimizers import OPTIMIZERS
from dist_dnn.nn.schedules import SCHEDULES

Flags = dict[str, tuple[Callable[[str], Any], str, str]]
"""Of each hyperparameter: how its flag is read, its stand-in in the help, and the help."""


def _numbers(text: str) -> tuple[int, ...]:
    return tuple(int(part) for part in text.split(","))


EXPERIMENT: dict[str, Flags] = {
    "data": {
        "features": (names, "A,B,…", "columns that fill X, in this order (default: all others)"),
        "exclude": (names, "A,B,…", "columns that do not"),
        "categorical": (names, "A,B,…", "columns of numbers whose values are categories"),
        "passthrough": (names, "A,B,…", "columns of numbers that are not standardised"),
        "max_categories": (int, "N", "values of a column that are categories, the most frequent"),
        "min_frequency": (float, "X", "part of the rows that such a value makes up at least"),
        "task": (str, "TASK", "auto, binary, multiclass or regression"),
        "weight": (str, "COLUMN", "what each row counts; 0 leaves it out (default: all count 1)"),
        "class_weight": (
            class_weight,
            "balanced|FILE",
            "what rows of each class count in the loss: balanced, so that classes count alike, or "
            'as a TOML or JSON file of "class" = number says; times --weight',
        ),
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
"""By the headings of their groups."""


def add_target(parser: Any) -> None:
    """The flag of the columns to predict."""
    parser.add_argument(
        "--target",
        type=names,
        metavar="COLUMN[,…]",
        help="the column to predict; or several, for regression on all of them",
    )


def add_config(parser: Any) -> None:
    """--config."""
    parser.add_argument(
        "--config", metavar="FILE.toml", help="hyperparameters; flags override those of the file"
    )


def add_hyperparameters(group: Any, flags: Flags) -> None:
    """Add the flags of hyperparameters to a group of arguments."""
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


def hyperparameters_of(chosen: Any) -> dict[str, Any]:
    """The hyperparameters that flags name.

    Args:
        chosen: the command line.
    """
    return {
        name: value
        for flags in EXPERIMENT.values()
        for name in flags
        if (value := getattr(chosen, name, None)) is not None
    }


def _flag(name: str) -> str:
    return "--" + name.replace("_", "-")
