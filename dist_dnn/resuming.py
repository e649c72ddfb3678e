"""Going on with a run: what it was, and whether what is given now is the same."""

import json
import os
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

from dist_dnn.arithmetic import difference
from dist_dnn.checkpoint import FOLDER, Checkpoint, Surroundings, newest_checkpoint
from dist_dnn.errors import InputError, RunError
from dist_dnn.hyperparameters import Hyperparameters, read_toml
from dist_dnn.state import State
from dist_dnn.tracking import HYPERPARAMETERS_FILE, STATUS_FILE

FREE = ("epochs", "schedule_epochs")
"""The hyperparameters that may differ between the parts of a run."""


@dataclass(frozen=True)
class Begun:
    """A run that was begun, as its directory has it.

    Attributes:
        path: of the directory.
        target, hyperparameters: the experiment.
        status: what ``status.json`` says; nothing where it cannot be read.
        checkpoint: the newest sound one.
    """

    path: Path
    target: str
    hyperparameters: Hyperparameters
    status: dict[str, Any]
    checkpoint: Checkpoint

    @property
    def is_completed(self) -> bool:
        """Whether nothing is left of the epochs that it was begun for."""
        return self.status.get("state") == "completed"

    def go_on_with(
        self, target: str | None, given: Hyperparameters | Mapping[str, Any] | None
    ) -> Hyperparameters:
        """The hyperparameters to go on with: the run's own, but perhaps for the epochs.

        Args:
            target, given: what is asked for now, as far as it is.

        Raises:
            InputError: it is another experiment, or has fewer epochs than are done.
        """
        own = self.hyperparameters
        if not isinstance(given, Hyperparameters):
            values = own.to_mapping() | dict(given or {})
            given = Hyperparameters.from_mapping(values, f"{self.path} with what is given now")
        elif given.schedule_epochs is None:
            given = replace(given, schedule_epochs=own.schedule_epochs)
        if target is not None and target != self.target:
            raise self._another("target", self.target, target)
        for field in fields(Hyperparameters):
            was, now = getattr(own, field.name), getattr(given, field.name)
            if was != now and field.name != "epochs":
                raise self._another(field.name, was, now)
        begun = self.checkpoint.state.epoch - (self.checkpoint.state.batch == 0)
        if given.epochs < begun:
            raise InputError(
                f"{self.path} is in epoch {begun} already: give --epochs {begun} or more"
            )
        if given.epochs != own.epochs and own.schedule_epochs is None:
            # The schedule stays what it was; where it has no end, it needs none.
            ends = own.schedule == "cosine" and own.epochs > 0
            return replace(given, schedule_epochs=own.epochs if ends else None)
        return given

    def _another(self, name: str, was: Any, now: Any) -> InputError:
        return InputError(
            f"{self.path} was begun with {name} {was!r}, not {now!r}: leave that out to go on "
            f"with it, or start another run with another --out"
        )

    def check_same(self, now: Surroundings, state: State, allow_mixed_cpus: bool) -> None:
        """Raise unless the rows, and the machine, are those that the run was begun with.

        Args:
            now: what the checkpoint's surroundings are compared with.
            state: of the new training, which that of the checkpoint must fit.

        Raises:
            InputError: the rows are others.
            RunError: the machine computes other bits.
        """
        before = self.checkpoint.surroundings
        for name, origin in now.data.items():
            _check_rows(name, before.data.get(name, {}), origin)
        vectors = self.checkpoint.state.vectors
        shapes = {name: vector.shape for name, vector in state.vectors.items()}
        if before.model != now.model or shapes != {name: v.shape for name, v in vectors.items()}:
            raise _changed("the columns or their statistics are others")
        what = difference(before.arithmetic, now.arithmetic)
        if what is not None and not allow_mixed_cpus:
            name, was, is_now = what
            raise RunError(
                f"{self.path} was trained on {before.arithmetic['host']} with {name} {was}, but "
                f"here it is {is_now}, so the last bits would differ: go on on a like machine, or "
                f"with --allow-mixed-cpus"
            )


def read_run(out: str) -> Begun:
    """The run in a directory.

    Raises:
        InputError: there is none, or it cannot be gone on with.
    """
    path = Path(out)
    if not os.path.lexists(path):
        raise InputError(
            f"there is no run {path} to resume: leave --resume out to start it, or give "
            f"--resume=auto to do what applies"
        )
    file = path / HYPERPARAMETERS_FILE
    if not file.is_file():
        raise InputError(f"{path} is no run to resume: it has no {HYPERPARAMETERS_FILE}")
    values = read_toml(str(file))
    target = values.pop("target", None)
    if not isinstance(target, str):
        raise InputError(f"{file} names no target; put it back as the run wrote it")
    hyperparameters = Hyperparameters.from_mapping(values, str(file))
    status: dict[str, Any] = {}
    with suppress(OSError, ValueError):
        status = dict(json.loads((path / STATUS_FILE).read_text(encoding="utf-8")))
    checkpoint = newest_checkpoint(path / FOLDER)
    kept = checkpoint.surroundings.experiment
    for name, value in ({"target": target} | hyperparameters.to_mapping()).items():
        if name not in FREE and kept.get(name) != value:
            raise InputError(
                f"{checkpoint.path} belongs to another experiment than {file}: {name} "
                f"{kept.get(name)!r}, not {value!r}; put back what was changed"
            )
    return Begun(path, target, hyperparameters, status, checkpoint)


def _check_rows(name: str, before: Mapping[str, Any], now: Mapping[str, Any]) -> None:
    for what in ("rows", "columns"):
        if before.get(what) != now[what]:
            raise _changed(f"the {name} data has {what} {now[what]}, not {before.get(what)}")
    if before.get("content") != now["content"]:
        raise _changed(f"the {name} data has other values")


def _changed(what: str) -> InputError:
    return InputError(
        f"the data has changed since the run was begun: {what}; give the same data to go on, or "
        f"start another run with another --out"
    )
