"""What the commands runs, runs diff and watch take on the command line."""

import argparse
import re
from collections.abc import Callable
from typing import Any, NamedTuple

from dist_dnn.front.choosing import HEADINGS, KEYS, Condition, Order
from dist_dnn.run_states import STATES

RUNS_EXAMPLES = f"""\
examples:
  dist-dnn runs runs/
  dist-dnn runs runs/ --state completed --sort -accuracy
  dist-dnn runs runs/ --where learning_rate=0.01 --where 'accuracy>0.9'
  dist-dnn runs s3://bucket/runs --json
  dist-dnn runs diff runs/one runs/other    (a folder called diff is ./diff)

the table: train and valid are the losses of the last epoch, accuracy or rmse is that of the
validation, and age is how long ago the run wrote. What is wrong with a run is said below it.
  dead    its state is running, but its process on this machine is gone
  silent  its state is running, it has not written for long, and nobody can tell from here
  broken  its files are not as they should be

--json prints an array of objects with the keys
{chr(10).join(f"  {key:<20} {meaning}".rstrip() for key, meaning in KEYS.items())}
null where there is no value. --sort and --where take these keys, the names of hyperparameters, and
the headings {", ".join(HEADINGS)}.
"""

DIFF_EXAMPLES = """\
examples:
  dist-dnn runs diff runs/one runs/other
  dist-dnn runs diff runs/one s3://bucket/runs/other --json

--json prints one object: runs, the two names, and hyperparameters, results and environment, each
with the names that differ and both values.
"""

WATCH_EXAMPLES = """\
examples:
  dist-dnn watch runs/digits
  dist-dnn watch s3://bucket/runs/digits --wait 600

It ends as the run does: with exit status 0 if that is completed, 1 if it failed, was stopped or is
dead. Ctrl-C ends the watching alone. What is done of an epoch is known at checkpoints
(--checkpoint-every of train).
"""


class LookingCommand(NamedTuple):
    """A command: what it runs, what its help says, and what adds its arguments."""

    run: Callable[[Any], None]
    help: str
    examples: str
    add: Callable[[argparse.ArgumentParser], None]


def _runs(chosen: Any) -> None:
    from dist_dnn.front.runs import runs_command

    runs_command(chosen)


def _diff(chosen: Any) -> None:
    from dist_dnn.front.runs import diff_command

    diff_command(chosen)


def _watch(chosen: Any) -> None:
    from dist_dnn.front.watch import watch_command

    watch_command(chosen)


def _states(text: str) -> tuple[str, ...]:
    states = tuple(text.split(","))
    for state in states:
        if state not in STATES:
            raise argparse.ArgumentTypeError(f"must be of {', '.join(STATES)}, not {state!r}")
    return states


def _add_runs(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "folder",
        metavar="DIR",
        help="a folder of runs (up to 4 folders deep), by path or URI, or one of them",
    )
    parser.add_argument(
        "--state", type=_states, metavar="STATE,…", help="only runs in one of these states"
    )
    parser.add_argument(
        "--where",
        type=Condition.parse,
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="only runs that are so; also !=, and for numbers < <= > >=; may be repeated",
    )
    parser.add_argument(
        "--sort",
        type=Order.parse,
        metavar="[-]KEY",
        help="in this order; -KEY: the greatest first (default: by name)",
    )
    parser.add_argument("--json", action="store_true", help="print a JSON array instead")


def _add_diff(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("runs", nargs=2, metavar="RUN", help="a run directory, by path or URI")
    parser.add_argument("--json", action="store_true", help="print one JSON object instead")


def _seconds(text: str) -> float:
    try:
        seconds = float(text.removesuffix("s"))
    except ValueError:
        seconds = -1.0
    if not 0 <= seconds < float("inf"):
        raise argparse.ArgumentTypeError(f"must be a number of seconds, not {text!r}")
    return seconds


def _add_watch(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("run", metavar="RUN", help="a run directory, by path or URI")
    parser.add_argument(
        "--wait",
        type=_seconds,
        default=0.0,
        metavar="SECONDS",
        help="how long the run may take to begin, or to run again once it has ended (default 0)",
    )
    parser.add_argument(
        "--progress",
        default="auto",
        choices=("auto", "bar", "lines", "none"),
        help="on standard error; auto is a bar on a terminal, else lines (default %(default)s)",
    )


RUNS_DIFF = "runs diff"

COMMANDS = {
    "runs": LookingCommand(
        _runs, "print a table of the runs in a folder", RUNS_EXAMPLES, _add_runs
    ),
    RUNS_DIFF: LookingCommand(_diff, "print what two runs differ in", DIFF_EXAMPLES, _add_diff),
    "watch": LookingCommand(
        _watch, "show the progress of a run that goes on elsewhere", WATCH_EXAMPLES, _add_watch
    ),
}
"""The commands by their names."""


def joined(arguments: list[str]) -> list[str]:
    """The command line with "runs diff" as one word, and what --sort takes joined to it.

    ``-accuracy`` by itself would be taken for a flag.
    """
    if arguments[:2] == RUNS_DIFF.split():
        arguments = [RUNS_DIFF, *arguments[2:]]
    if arguments[:1] != ["runs"]:
        return arguments
    whole: list[str] = []
    for each in arguments:
        if whole and whole[-1] == "--sort" and re.match("-[^-]", each):
            whole[-1] += f"={each}"
        else:
            whole.append(each)
    return whole
