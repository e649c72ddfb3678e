"""What a run's files say of it to somebody else: how it stands, or what is wrong with them."""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from math import isfinite
from reprlib import repr as shortened
from sys import float_info
from typing import Any, NoReturn, TypeGuard

from dist_dnn.data.sources import printable
from dist_dnn.errors import InputError
from dist_dnn.hyperparameters import parse_toml
from dist_dnn.liveness import is_dead
from dist_dnn.recorder import Every
from dist_dnn.run_states import BROKEN, DEAD, FAILED, RUNNING, SILENT, WRITTEN
from dist_dnn.storage import Folder
from dist_dnn.tracking import (
    ENVIRONMENT_FILE,
    HYPERPARAMETERS_FILE,
    METRICS_FILE,
    STATUS_FILE,
    resume_command,
)

MARKS = {STATUS_FILE, HYPERPARAMETERS_FILE, METRICS_FILE}
"""A folder that has one of these files holds a run, perhaps a broken one."""

SILENCE_SECONDS = 120.0
"""So much longer than it takes it to write thrice may a run be silent, before that is said."""

Epochs = list[dict[str, Any]]
"""The metrics of the epochs that are done."""


class Broken(ValueError):
    """A file of a run is not what it should be; says which, and why."""


@dataclass(frozen=True)
class Look:
    """What was seen of a run.

    Attributes:
        name: what messages call it.
        state: one of STATES.
        status: what ``status.json`` says.
        epochs: what ``metrics.jsonl`` says.
        experiment: the target and the hyperparameters.
        age: the seconds since it last wrote; None where that cannot be told.
        problem: what there is to say of it in one line, where something is wrong.
    """

    name: str
    state: str
    status: dict[str, Any] = field(default_factory=dict)
    epochs: Epochs = field(default_factory=list)
    experiment: dict[str, Any] = field(default_factory=dict)
    age: float | None = None
    problem: str | None = None


def look_at(folder: Folder) -> Look:
    """Look at a run, whatever state it is in; an unsound file makes it a broken one."""
    try:
        if not folder.is_there():
            raise Broken("its first files are being written, or what did so was killed")
        look = _with_state(folder, read_status(folder))
        return replace(look, experiment=read_experiment(folder))
    except (Broken, InputError) as error:
        return Look(folder.name, BROKEN, problem=printable(str(error)))


def _with_state(folder: Folder, status: dict[str, Any]) -> Look:
    """What is known but for the experiment.

    Raises:
        Broken: a file is not what it should be.
    """
    is_gone = is_dead(folder, status) if status["state"] == RUNNING else False
    if is_gone:
        status = read_status(folder)  # it may have ended just now, as it should
    epochs, age, state = read_epochs(folder), age_of(status), status["state"]
    if state == RUNNING and is_gone:
        state = DEAD
    elif state == RUNNING and is_gone is None and is_silent(status, epochs, age):
        state = SILENT
    problem = _problem(folder.name, state, status)
    return Look(folder.name, state, status, epochs, age=age, problem=problem)


# What is said of it


def age_of(status: Mapping[str, Any]) -> float | None:
    """The seconds since a run last wrote its status, by this machine's clock."""
    try:
        updated = datetime.fromisoformat(status["updated"])
        return max(0.0, (datetime.now(UTC) - updated).total_seconds())
    except (KeyError, TypeError, ValueError):
        return None


def is_silent(status: Mapping[str, Any], epochs: Epochs, age: float | None) -> bool:
    """Whether a run should have written again by now.

    It writes when an epoch ends, and between, if its checkpoints are made by the clock.
    """
    spans = [float(epochs[-1]["seconds"])] if epochs else []
    try:
        every = Every.parse(str(status.get("checkpoint_every")))
    except InputError:
        every = Every()
    if every.seconds is not None:
        spans.append(every.seconds)
    return bool(spans) and age is not None and age > 3 * min(spans) + SILENCE_SECONDS


def _problem(name: str, state: str, status: Mapping[str, Any]) -> str | None:
    """What there is to say of a run that has not simply gone on or come to its end."""
    process = status.get("process")
    where = f"process {process.get('pid')} on {process.get('host')}" if process else "its process"
    if status.get("job") is not None:
        where += f", of job {status['job']},"
    remedy = f"go on with `{resume_command(name)}`"
    if state == FAILED:
        return printable(f"{status.get('error')}")
    if state == DEAD:
        return printable(f"{where} is gone, and last wrote after step {status['step']}: {remedy}")
    if state == SILENT:
        return printable(f"{where} has not written for long, and cannot be looked for from here")
    return None


# Files


def read_status(folder: Folder) -> dict[str, Any]:
    """What ``status.json`` says.

    Raises:
        Broken: it is not what a run writes.
    """
    status = _json(_read(folder, STATUS_FILE), STATUS_FILE)
    if status.get("state") not in WRITTEN:
        raise Broken(f"{STATUS_FILE} says that its state is {shortened(status.get('state'))}")
    for name in ("epoch", "step"):
        if not is_count(status.get(name)):
            raise Broken(f"{STATUS_FILE} says that its {name} is {shortened(status.get(name))}")
    if not isinstance(status.get("process", {}), dict):
        raise Broken(f"{STATUS_FILE} says that its process is {shortened(status['process'])}")
    for name in _PLAIN:
        if isinstance(status.get(name), dict | list):
            raise Broken(f"{STATUS_FILE} says that its {name} is {shortened(status[name])}")
    return status


_PLAIN = ("started", "updated", "ended", "error", "job", "backend", "workers")
"""What is one value, a number or a text, in what ``status.json`` says."""


def is_count(value: Any) -> TypeGuard[int]:
    """Whether a value of a file is a whole number from 0 on."""
    return type(value) is int and is_number(value) and value >= 0


def is_number(value: Any) -> TypeGuard[float]:
    """Whether it is a number, and not too long a one for arithmetic."""
    return type(value) in (int, float) and abs(value) <= float_info.max


def read_epochs(folder: Folder) -> Epochs:
    """What ``metrics.jsonl`` says; a line that is being written is left out.

    Raises:
        Broken: it is not what a run writes.
    """
    *lines, _ = _read(folder, METRICS_FILE).split("\n")
    epochs = [_json(line, METRICS_FILE) for line in lines]
    for metrics in epochs:
        for name, is_sound in METRICS.items():
            if not is_sound(metrics.get(name)):
                raise Broken(f"{METRICS_FILE} says that {name} is {shortened(metrics.get(name))}")
    return epochs


METRICS: dict[str, Callable[[Any], bool]] = {
    **dict.fromkeys(("epoch", "step"), is_count),
    **dict.fromkeys(("train_loss", "examples_per_second", "seconds"), is_number),
    **dict.fromkeys(
        ("validation_loss", "validation_accuracy", "validation_rmse"),
        lambda value: value is None or is_number(value),
    ),
    "digest": lambda value: isinstance(value, str),
}
"""Of what kinds the metrics of an epoch are."""


def read_experiment(folder: Folder) -> dict[str, Any]:
    """What ``hyperparameters.toml`` says, which may be that of another version of dist_dnn.

    Returns:
        The target, and the values by their names: numbers, texts, lists and tables of them.

    Raises:
        Broken: it is no TOML.
    """
    text = _read(folder, HYPERPARAMETERS_FILE)
    try:
        values = parse_toml(text.encode(), HYPERPARAMETERS_FILE)
    except InputError as error:
        raise Broken(str(error)) from None
    return {"target": ""} | {name: _plain(value) for name, value in values.items()}


def _plain(value: Any) -> Any:
    """A value of a TOML file; text where JSON has nothing like it."""
    if isinstance(value, list):
        return [_plain(each) for each in value]
    if isinstance(value, dict):
        return {name: _plain(each) for name, each in value.items()}
    is_plain = isinstance(value, str | bool | int) or is_number(value)
    return value if is_plain else str(value)


def read_environment(folder: Folder) -> dict[str, Any]:
    """What ``environment.json`` says.

    Raises:
        Broken: it is not what a run writes.
    """
    return _json(_read(folder, ENVIRONMENT_FILE), ENVIRONMENT_FILE)


def _read(folder: Folder, file: str) -> str:
    try:
        return folder.read(file).decode()
    except FileNotFoundError:
        raise Broken(f"there is no {file}") from None
    except OSError as error:
        raise Broken(f"{file} cannot be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise Broken(f"{file} is no text in UTF-8") from None


def _json(text: str, file: str) -> dict[str, Any]:
    try:
        found = json.loads(text, parse_constant=_refuse, parse_float=_finite)
    except (ValueError, RecursionError):
        raise Broken(f"{file} is no JSON, or cut off") from None
    if not isinstance(found, dict):
        raise Broken(f"{file} holds something else than objects")
    return found


def _refuse(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is no JSON")


def _finite(text: str) -> float:
    number = float(text)
    return number if isfinite(number) else _refuse(text)
