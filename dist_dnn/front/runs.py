"""The command runs: a table of the runs in a folder, and what two of them differ in."""

import json
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any

from dist_dnn.data.sources import printable
from dist_dnn.errors import InputError
from dist_dnn.finding import Found, find_runs
from dist_dnn.front.choosing import KEYS, SHOWN_DIGITS, Record, text_of
from dist_dnn.front.tables import print_table
from dist_dnn.looking import METRICS, Broken, look_at, read_environment
from dist_dnn.notices import say
from dist_dnn.run_states import BROKEN
from dist_dnn.storage import open_folder

RESULTS = (
    *("state", "epoch", "step", "train_loss", "validation_loss", "validation_accuracy"),
    *("validation_rmse", "examples_per_second", "digest"),
)
"""The keys that `runs diff` compares as results."""

ENVIRONMENT = (
    *("backend", "workers", "host", "platform", "machine", "cpus", "python", "numpy", "pyarrow"),
    *("dist_dnn", "blas", "probe"),
)
"""And as surroundings."""


def runs_command(chosen: Any) -> None:
    """Print the table of runs, and on standard error what is wrong with some.

    Args:
        chosen: the command line.

    Raises:
        InputError: there is no such folder.
    """
    records = [record_of(found) for found in find_runs(chosen.places[0])]
    shown = [record for record in records if _is_chosen(record, chosen)]
    if chosen.sort is not None:
        shown = chosen.sort(shown)
    if chosen.json:
        print(json.dumps(shown, allow_nan=False))
    elif shown:
        _print(shown)
    if not shown:
        name = open_folder(chosen.places[0]).name
        of_all = f"none of the {len(records)} runs in {name} is like that"
        say(of_all if records else f"there are no runs in {name}")
    elif not chosen.json:
        for record in shown:
            if record["problem"]:
                say(f"{printable(record['name'])}: {record['state']}: {record['problem']}")


def _is_chosen(record: Record, chosen: Any) -> bool:
    if chosen.state is not None and record["state"] not in chosen.state:
        return False
    return all(condition(record) for condition in chosen.where)


def record_of(found: Found) -> Record:
    """A run as --json has it, with all of its keys."""
    look = found.look
    last = {key: look.epochs[-1].get(key) for key in METRICS} if look.epochs else {}
    known = look.status | last | {"name": found.name, "location": look.name, "age": look.age}
    known |= {"state": look.state, "problem": look.problem, "hyperparameters": look.experiment}
    # The epoch is that of the other metrics: the status is written before them.
    known |= {"step": look.status.get("step"), "epochs": look.experiment.get("epochs")}
    return {key: known.get(key) for key in KEYS}


# The table

NOTHING = "-"
"""Stands where there is no value, so that every line has as many columns."""


def _loss(value: float) -> str:
    return f"{value:.4f}" if abs(value) < 1000 else f"{value:.3e}"


def age_text(seconds: float) -> str:
    """Seconds in the largest unit of which there is one."""
    for unit, length in (("d", 86_400), ("h", 3_600), ("m", 60)):
        if seconds >= length:
            return f"{seconds / length:.0f}{unit}"
    return f"{seconds:.0f}s"


_NUMBERS: dict[str, tuple[str, Callable[[Any], str]]] = {
    "train": ("train_loss", _loss),
    "valid": ("validation_loss", _loss),
    "accuracy": ("validation_accuracy", lambda value: f"{value:.4f}"),
    "rmse": ("validation_rmse", lambda value: f"{value:.5g}"),
    "examples/s": ("examples_per_second", lambda value: f"{value:,.0f}"),
}
"""The columns of numbers: the key of each, and how it is written."""


def _print(records: list[Record]) -> None:
    headings = ["run", "state", "epoch", *_headings(records), "digest", "age"]
    lines = [headings, *([_cell(record, each) for each in headings] for record in records)]
    numbers = {"epoch", *_NUMBERS, "age"}
    print_table(lines, right=[i for i, each in enumerate(headings) if each in numbers])


def _headings(records: list[Record]) -> list[str]:
    """The columns of numbers of which there are some."""
    return [
        heading
        for heading, (key, _) in _NUMBERS.items()
        if heading == "train" or any(record[key] is not None for record in records)
    ]


def _cell(record: Record, heading: str) -> str:
    if heading in _NUMBERS:
        key, write = _NUMBERS[heading]
        return NOTHING if record[key] is None else write(record[key])
    if heading == "epoch":
        done = [record[key] for key in ("epoch", "epochs")]
        return "/".join(NOTHING if number is None else printable(str(number)) for number in done)
    if heading == "age":
        return NOTHING if record["age"] is None else age_text(record["age"])
    value = printable(str(record[{"run": "name"}.get(heading, heading)] or NOTHING))
    return value[:SHOWN_DIGITS] if heading == "digest" else value


# What two differ in

Side = dict[str, dict[str, Any]]
"""Of a run, the hyperparameters, the results and the environment."""

SHORT = 24
"""So many characters of a value are shown in the table."""


def diff_command(chosen: Any) -> None:
    """Print what two runs differ in: hyperparameters, results, and where they ran.

    Args:
        chosen: the command line.

    Raises:
        InputError: one of them is no run.
    """
    names, sides = zip(*(_side(location) for location in chosen.places[1:]), strict=True)
    differences = {part: _differences(sides[0][part], sides[1][part]) for part in sides[0]}
    if chosen.json:
        print(json.dumps({"runs": names, **differences}, allow_nan=False))
        return
    rows: list[tuple[str, ...]] = []
    for part, found in differences.items():
        title = part if found else f"{part}: the same"
        rows += [
            (title, "", ""),
            *((f"  {printable(name)}", *map(_short, found[name])) for name in found),
        ]
    print_table([(side, printable(name)) for side, name in zip("AB", names, strict=True)], right=())
    print_table([("", *"AB"), *rows], right=())


def _side(location: str) -> tuple[str, Side]:
    folder = open_folder(location)
    if not folder.is_there():
        raise InputError(f"there is no run {folder.name}; give two that `dist-dnn train` made")
    look = look_at(folder)
    if look.state == BROKEN:
        raise InputError(f"{folder.name} cannot be compared: {look.problem}")
    record = record_of(Found(folder.name, look))
    with suppress(Broken):  # it says nothing, then
        record |= read_environment(folder)
    return folder.name, {
        "hyperparameters": look.experiment,
        "results": {name: record[name] for name in RESULTS},
        "environment": {name: record.get(name) for name in ENVIRONMENT},
    }


def _differences(one: Mapping[str, Any], other: Mapping[str, Any]) -> dict[str, list[Any]]:
    """Both values of each name that does not have the same ones."""
    both = {name: [one.get(name), other.get(name)] for name in [*one, *other]}
    return {name: values for name, values in both.items() if values[0] != values[1]}


def _short(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.6g}"
    text = printable(text_of(value))
    return text if len(text) <= SHORT else f"{text[: SHORT - 1]}…"
