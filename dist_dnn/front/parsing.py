"""How the command line is read: one parser for all commands, and what reads their values."""

import argparse
from collections.abc import Callable
from itertools import takewhile
from typing import Any, NamedTuple, NoReturn

from dist_dnn.errors import InputError
from dist_dnn.hyperparameters import suggestion


class Command(NamedTuple):
    """A command: what it runs, what its help says, and what adds its arguments."""

    run: Callable[[Any], int | None]
    help: str
    examples: str
    add: Callable[[Any], None]

    def add_to(self, commands: Any, name: str) -> "Parser":
        """Make it one of these commands, by this name."""
        parser: Parser = commands.add_parser(
            name,
            help=self.help,
            description=f"{self.help[0].upper()}{self.help[1:]}.",
            epilog=self.examples,
        )
        parser.set_defaults(command=self.run)
        self.add(parser)
        return parser


class Parser(argparse.ArgumentParser):
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
            # By itself, such a flag would take what stands behind it for its value.
            own = list(takewhile(lambda argument: argument != "--", args))
            own = [f"{each}=" if self._may_stand_alone(each) else each for each in own]
            args = [*own, *args[len(own) :]]
            for flag in own:
                if flag.startswith("--"):
                    self._check_known(flag.partition("=")[0])
        chosen, unknown = super().parse_known_args(args, namespace)
        for argument in unknown:
            self._check_known(argument)
        return chosen, unknown

    def _may_stand_alone(self, argument: str) -> bool:
        """Whether it is a flag that needs no value but may have one, behind a =."""
        action = self._option_string_actions.get(argument)
        return action is not None and action.nargs == argparse.OPTIONAL

    def _parse_optional(self, arg_string: str) -> Any:
        """Have no other flags of one dash than -h: -accuracy is a value, like -1."""
        if not arg_string.startswith("--") and arg_string not in self._option_string_actions:
            return None
        return super()._parse_optional(arg_string)

    def _check_known(self, argument: str) -> None:
        flags = self._option_string_actions
        if argument not in flags:
            self.error(f"unknown argument {argument!r}{suggestion(argument, flags)}{self.advice}")


def names(text: str) -> tuple[str, ...]:
    """Columns of a table, as a flag has them."""
    return tuple(text.split(","))


def whole_number(text: str) -> int:
    try:
        return int(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"must be a whole number, not {text!r}") from None


def number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"must be a number, not {text!r}") from None


def seconds(text: str) -> float:
    try:
        return float(text.removesuffix("s"))
    except ValueError:
        raise argparse.ArgumentTypeError(f"must be a number of seconds, not {text!r}") from None
