"""What the commands that measure have in common: the layers they take, and how they end."""

import argparse
import json
import sys
from collections.abc import Callable
from typing import Any

from dist_dnn.errors import InputError, RunError


def layers(text: str) -> tuple[int, ...]:
    """The argument n[0],…,n[L], of at least 3 outputs."""
    try:
        units = tuple(int(part) for part in text.split(","))
    except ValueError:
        units = ()
    if len(units) < 2 or min(units) < 1 or units[-1] < 3:
        raise argparse.ArgumentTypeError(f"{text!r} is not n[0],…,n[L] with n[L] at least 3")
    return units


def printed(measure: Callable[[], dict[str, Any] | None]) -> int:
    """Print what is measured as one JSON object, unless another process does; the exit status."""
    try:
        result = measure()
        if result is not None:
            print(json.dumps(result))
    except (InputError, RunError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2 if isinstance(error, InputError) else 1
    return 0
