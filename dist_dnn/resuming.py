"""Going on with a run: what it was, and whether what is given now is the same."""

import json
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, fields, replace
from functools import cached_property
from typing import Any

from dist_dnn.arithmetic import difference
from dist_dnn.checkpoint import Checkpoint, Surroundings, newest_checkpoint
from dist_dnn.errors import InputError, RunError
from dist_dnn.hyperparameters import Hyperparameters, parse_toml, shown
from dist_dnn.notices import warn
from dist_dnn.state import TrainingState
from dist_dnn.storage import Folder
from dist_dnn.target_names import as_given, target_names
from dist_dnn.tracking import HYPERPARAMETERS_FILE, METRICS_FILE, STATUS_FILE

FREE = ("epochs", "schedule_epochs")
"""Hyperparameters that may differ, as long as the schedule is the same."""


@dataclass(frozen=True)
class Begun:
    """A run that was begun, as its directory has it.

    Attributes:
        folder: where it is.
        targets, hyperparameters: the experiment.
        status: what ``status.json`` says; nothing where it cannot be read.
    """

    folder: Folder
    targets: tuple[str, ...]
    hyperparameters: Hyperparameters
    status: dict[str, Any]

    @property
    def name(self) -> str:
        """What messages call it."""
        return self.folder.name

    @property
    def is_completed(self) -> bool:
        """Whether nothing is left of the epochs that it is to have."""
        is_done = self.status.get("epoch") == self.hyperparameters.epochs
        return is_done and self.status.get("state") == "completed"

    @property
    def history(self) -> list[dict[str, Any]]:
        """The metrics of a run that is completed.

        Raises:
            InputError: they cannot be read.
        """
        try:
            lines = self.folder.read(METRICS_FILE).decode().splitlines()
            return [json.loads(line) for line in lines]
        except (OSError, ValueError) as error:
            file = self.folder.name_of(METRICS_FILE)
            raise InputError(f"{file} cannot be read: {error}") from None

    @property
    def checkpoint(self) -> Checkpoint:
        """The newest sound one.

        Raises:
            InputError: there is none, or it belongs to another experiment.
        """
        return self._newest[0]

    @cached_property
    def _newest(self) -> tuple[Checkpoint, list[str]]:
        checkpoint, passed_over = newest_checkpoint(self.folder)
        kept = dict(checkpoint.surroundings.experiment)
        targets = target_names(kept.pop("target", None), f"{checkpoint.name}: ")
        what = _first_difference(
            (targets, Hyperparameters.from_mapping(kept, checkpoint.name)),
            (self.targets, self.hyperparameters),
        )
        if what is not None:
            name, was, now = what
            raise InputError(
                f"{checkpoint.name} belongs to another experiment than {HYPERPARAMETERS_FILE} "
                f"beside it: {name} {_shown(was)}, not {_shown(now)}; put back what was changed"
            )
        return checkpoint, passed_over

    def go_on_with(
        self, targets: tuple[str, ...] | None, given: Hyperparameters | Mapping[str, Any]
    ) -> Hyperparameters:
        """The hyperparameters to go on with: the run's own, but perhaps for the epochs.

        Args:
            targets, given: what is asked for now, as far as it is.

        Raises:
            InputError: it is another experiment.
        """
        own = self.hyperparameters
        if not isinstance(given, Hyperparameters):
            values = own.to_mapping() | dict(given)
            given = Hyperparameters.from_mapping(values, f"{self.name} with what is given now")
        elif given.schedule_epochs is None:
            given = replace(given, schedule_epochs=own.schedule_epochs)
        if given.schedule_epochs is None and _has_an_end(own):
            given = replace(given, schedule_epochs=own.epochs)  # the schedule keeps its end
        what = _first_difference((self.targets, own), (targets or self.targets, given))
        if what is not None:
            name, was, now = what
            raise InputError(
                f"{self.name} was begun with {name} {_shown(was)}, not {_shown(now)}: leave that "
                f"out to go on with it, or start another run with another --out"
            )
        return own if given.epochs == own.epochs else given

    def check_epochs(self, epochs: int) -> None:
        """Raise InputError where more epochs are done, or begun, than there are to be."""
        state = self.checkpoint.state
        begun = state.epoch - (state.batch == 0)
        if epochs < begun:
            raise InputError(
                f"{self.name} is in epoch {begun} already: give --epochs {begun} or more"
            )

    def check_same(
        self, now: Surroundings, state: TrainingState, allow_mixed_cpus: bool
    ) -> Surroundings:
        """Raise unless the rows, and the machine, are those that the run was begun with.

        Args:
            now: what the checkpoint's surroundings are compared with.
            state: of the new training, which that of the checkpoint must fit.
            allow_mixed_cpus: only warn of a machine that computes other bits.

        Returns:
            ``now``, with the arithmetic that the run was begun with.

        Raises:
            InputError: the rows are others.
            RunError: the machine computes other bits.
        """
        before = self.checkpoint.surroundings
        for name in sorted(before.data.keys() | now.data.keys()):
            _check_rows(name, before.data.get(name), now.data.get(name))
        vectors = self.checkpoint.state.vectors
        shapes = {name: vector.shape for name, vector in state.vectors.items()}
        if before.model != now.model or shapes != {name: v.shape for name, v in vectors.items()}:
            raise _changed("the columns or their statistics are others")
        what = difference(before.arithmetic, now.arithmetic)
        if what is not None:
            name, was, is_now = what
            message = (
                f"{self.name} was trained on {before.arithmetic['host']} with {name} {was}, but "
                f"here it is {is_now}, so the last bits would differ"
            )
            if not allow_mixed_cpus:
                raise RunError(f"{message}: go on on a like machine, or with --allow-mixed-cpus")
            warn(message)
        for line in self._newest[1]:
            warn(line)
        return replace(now, arithmetic=before.arithmetic)


def read_run(folder: Folder) -> Begun:
    """The run in a folder.

    Raises:
        InputError: there is none, or it cannot be gone on with.
    """
    if not folder.is_there():
        raise InputError(
            f"there is no run {folder.name} to resume: leave --resume out to start it, or give "
            f"--resume=auto to do what applies"
        )
    if not folder.has(HYPERPARAMETERS_FILE):
        raise InputError(f"{folder.name} is no run to resume: it has no {HYPERPARAMETERS_FILE}")
    name = folder.name_of(HYPERPARAMETERS_FILE)
    try:
        values = parse_toml(folder.read(HYPERPARAMETERS_FILE), name)
    except OSError as error:
        raise InputError(f"{name} cannot be read: {error.strerror}; put it back") from None
    try:
        targets = target_names(values.pop("target", None))
    except InputError:
        raise InputError(f"{name} names no target; put it back as the run wrote it") from None
    status: Any = None
    with suppress(OSError, ValueError, RecursionError):
        status = json.loads(folder.read(STATUS_FILE))
    hyperparameters = Hyperparameters.from_mapping(values, name)
    return Begun(folder, targets, hyperparameters, status if isinstance(status, dict) else {})


Experiment = tuple[tuple[str, ...], Hyperparameters]
"""The targets and the hyperparameters."""


def _first_difference(one: Experiment, other: Experiment) -> tuple[str, Any, Any] | None:
    """What first makes two experiments give other bits: its name and both values."""
    compared: list[tuple[str, Any, Any]] = [("target", as_given(one[0]), as_given(other[0]))]
    for field in fields(Hyperparameters):
        if field.name not in FREE:
            values = (getattr(each, field.name) for _, each in (one, other))
            compared.append((field.name, *values))
    if one[1].epochs > 0 and other[1].epochs > 0:  # otherwise there is no rate to keep
        compared.append(("schedule_epochs", _end(one[1]), _end(other[1])))
    return next((each for each in compared if each[1] != each[2]), None)


def _shown(value: Any) -> str:
    """A hyperparameter's value as messages have it, names of files whole."""
    return repr(value) if isinstance(value, str) else shown(value)


def _end(hyperparameters: Hyperparameters) -> int | None:
    """The epoch that the schedule runs to; None where that changes nothing."""
    if _has_an_end(hyperparameters) or hyperparameters.schedule_epochs is not None:
        return hyperparameters.schedule_epochs or hyperparameters.epochs
    return None


def _has_an_end(hyperparameters: Hyperparameters) -> bool:
    """Whether the rates depend on how many epochs the schedule has."""
    return hyperparameters.schedule == "cosine" and hyperparameters.epochs > 0


def _check_rows(name: str, before: Mapping[str, Any] | None, now: Mapping[str, Any] | None) -> None:
    if before is None or now is None:
        raise _changed(f"there is {'no ' if now is None else ''}{name} data now")
    was, columns = before["columns"], now["columns"]
    for column in dict.fromkeys([*was, *columns]):
        if was.get(column) != columns.get(column):
            here, there = (each.get(column, "not there") for each in (columns, was))
            raise _changed(f"column {column!r} of the {name} data is {here}, and was {there}")
    if before["rows"] != now["rows"]:
        raise _changed(f"the {name} data has {now['rows']} rows, and had {before['rows']}")
    if before["content"] != now["content"]:
        raise _changed(f"the {name} data has other values")


def _changed(what: str) -> InputError:
    return InputError(
        f"the data has changed since the run was begun: {what}; give the same data to go on, or "
        f"start another run with another --out"
    )
