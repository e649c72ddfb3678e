"""The flag --class-weight: "balanced", or a TOML or JSON file of numbers by the classes' names."""

import argparse
import json
import reprlib
from pathlib import Path
from typing import Any

from dist_dnn.errors import InputError
from dist_dnn.hyperparameters import BALANCED, ClassWeight, parse_toml, read_file, what_must_be


def class_weight(text: str) -> ClassWeight:
    """What the flag says, with the content of its file in the place of the name.

    Raises:
        ArgumentTypeError: the file cannot be read, or holds something else.
    """
    if text == BALANCED:
        return BALANCED
    values = _read(text)
    items = values.items() if isinstance(values, dict) else ()
    wrong = next((each for each in items if what_must_be("class_weight", dict([each]))), None)
    if wrong is not None:
        raise argparse.ArgumentTypeError(
            f"{text}: the weight of class {wrong[0]!r} must be a number not below 0 that fits "
            f"float32, not {reprlib.repr(wrong[1])}"
        )
    if not items:
        raise argparse.ArgumentTypeError(
            f'{text}: must hold lines like "class" = 2.5, or as JSON {{"class": 2.5}}'
        )
    weights: ClassWeight = values
    return weights


def _read(path: str) -> Any:
    """What the file says.

    Raises:
        ArgumentTypeError: it cannot be read, or is no TOML, or no JSON where it is called so.
    """
    try:
        content = read_file(path, "give 'balanced', or a TOML or JSON file")
        return json.loads(content) if Path(path).suffix == ".json" else parse_toml(content, path)
    except InputError as error:
        raise argparse.ArgumentTypeError(str(error)) from None
    except (ValueError, RecursionError) as error:
        raise argparse.ArgumentTypeError(f"{path}: is no valid JSON: {error}") from None
