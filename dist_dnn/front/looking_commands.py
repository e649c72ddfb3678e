"""What the commands runs and watch take on the command line."""

import argparse
from typing import Any

from dist_dnn.errors import InputError
from dist_dnn.front.arguments import add_progress, add_run
from dist_dnn.front.choosing import HEADINGS, KEYS, SHOWN_DIGITS, Condition, Order
from dist_dnn.front.parsing import Command
from dist_dnn.run_states import STATES

DIFF = "diff"
"""Stands before two runs that are to be compared."""

RUNS_EXAMPLES = f"""\
examples:
  dist-dnn runs runs/
  dist-dnn runs runs/ --state completed --sort -accuracy
  dist-dnn runs runs/ --where learning_rate=0.01 --where 'accuracy>0.9'
  dist-dnn runs s3://bucket/runs --json
  dist-dnn runs diff runs/one runs/other    (a folder called diff is ./diff)
  dist-dnn runs diff runs/one s3://bucket/runs/other --json

the table: train and valid are the losses of the last epoch, accuracy or rmse is that of the
validation, and age is how long ago the run wrote. What is wrong with a run is said below it.
  dead    its state is running, but its process on this machine is gone
  silent  its state is running, it has not written for long, and nobody can tell from here
  broken  its files are not as they should be

--json prints an array of objects with the keys
{chr(10).join(f"  {key:<20} {meaning}".rstrip() for key, meaning in KEYS.items())}
null where there is no value. --sort and --where take these keys, the names of hyperparameters, and
the headings {", ".join(HEADINGS)}; of a digest, the {SHOWN_DIGITS} digits of the table.

runs diff --json prints one object: runs, the two names, and hyperparameters, results and
environment, each with the names that differ and both values.
"""

WATCH_EXAMPLES = """\
examples:
  dist-dnn watch runs/digits
  dist-dnn watch s3://bucket/runs/digits --wait 600

It ends as the run does: with exit status 0 if that is completed, 1 if it failed, was stopped or is
dead. Ctrl-C ends the watching alone. What is done of an epoch is known at checkpoints
(--checkpoint-every of train).
"""


def _runs(chosen: Any) -> None:
    from dist_dnn.front.runs import diff_command, runs_command

    wrong = _what_is_wrong(chosen)
    if wrong:
        raise InputError(f"{wrong} (see dist-dnn runs --help)")
    (diff_command if chosen.places[0] == DIFF else runs_command)(chosen)


def _what_is_wrong(chosen: Any) -> str | None:
    """What does not go together in the arguments of runs."""
    first, *others = chosen.places
    if first != DIFF:
        return (
            f"there is one DIR, or {DIFF} and two runs, not also {others[0]!r}" if others else None
        )
    if len(others) != 2:
        return f"runs {DIFF} takes two runs, by path or URI, not {len(others)}"
    for flag in ("state", "where", "sort"):
        if getattr(chosen, flag):
            return f"--{flag} is for the table, not for runs {DIFF}"
    return None


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
    flags = "[--state STATE,…] [--where KEY=VALUE] [--sort [-]KEY] [--json]"
    parser.usage = f"%(prog)s [-h] {flags} DIR\n       %(prog)s {DIFF} RUN RUN [--json]"
    parser.add_argument(
        "places",
        nargs="+",
        metavar="DIR",
        help="a folder of runs (up to 4 folders deep), by path or URI, or one of them; or the word "
        f"{DIFF} and two runs, to see what they differ in",
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
    parser.add_argument("--json", action="store_true", help="print JSON instead")


def _seconds(text: str) -> float:
    try:
        seconds = float(text.removesuffix("s"))
    except ValueError:
        seconds = -1.0
    if not 0 <= seconds < float("inf"):
        raise argparse.ArgumentTypeError(f"must be a number of seconds, not {text!r}")
    return seconds


def _add_watch(parser: argparse.ArgumentParser) -> None:
    add_run(parser)
    parser.add_argument(
        "--wait",
        type=_seconds,
        default=0.0,
        metavar="SECONDS",
        help="how long the run may take to begin, or to run again once it has ended (default 0)",
    )
    add_progress(parser)


COMMANDS = {
    "runs": Command(
        _runs,
        "print a table of the runs in a folder, or what two runs differ in",
        RUNS_EXAMPLES,
        _add_runs,
    ),
    "watch": Command(
        _watch, "show the progress of a run that goes on elsewhere", WATCH_EXAMPLES, _add_watch
    ),
}
"""The commands by their names."""
