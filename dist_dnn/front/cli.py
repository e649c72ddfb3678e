"""The command line: its commands, and how one ends."""

import os
import sys
from collections.abc import Sequence
from io import TextIOWrapper

from dist_dnn.errors import InputError, RunError
from dist_dnn.front import (
    data_commands,
    jobs_command,
    looking_commands,
    network_commands,
    train_command,
)
from dist_dnn.front.parsing import Parser
from dist_dnn.notices import complain, is_silent, speak

COMMANDS = (
    train_command.COMMANDS
    | data_commands.COMMANDS
    | network_commands.COMMANDS
    | jobs_command.COMMANDS
    | looking_commands.COMMANDS
)
"""The commands by their names."""


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


def _parser() -> Parser:
    from dist_dnn import __version__

    parser = Parser(
        prog="dist-dnn",
        description="Data-parallel training of deep, fully connected neural networks on CPUs.",
        epilog="`dist-dnn COMMAND --help` describes a command, with examples.",
    )
    parser.add_argument("--version", action="version", version=f"dist_dnn {__version__}")
    commands = parser.add_subparsers(metavar="COMMAND", required=True, parser_class=Parser)
    for name, command in COMMANDS.items():
        command.add_to(commands, name)
    return parser
