"""The run directory: what a run leaves on disk, each file written whole or not at all."""

import json
import os
import shutil
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import tomli_w

from dist_dnn.checkpoint import FOLDER, Surroundings, remove_checkpoints, write_checkpoint
from dist_dnn.errors import InputError, RunError
from dist_dnn.files import (
    append_line,
    beside,
    locked,
    remove_orphan,
    remove_unfinished,
    rename_folder,
    write_atomically,
)
from dist_dnn.model import MODEL_FILE, Model
from dist_dnn.nn.network import Parameters
from dist_dnn.state import PARAMETERS, TrainingState

HYPERPARAMETERS_FILE = "hyperparameters.toml"
METRICS_FILE = "metrics.jsonl"
STATUS_FILE = "status.json"


class CannotWrite(RunError):
    """A file of a run directory cannot be written."""


def check_new(out: str) -> None:
    """Raise InputError unless a run directory can be made at this place."""
    path = Path(out)
    if os.path.lexists(path):
        raise InputError(
            f"{path} exists: choose another --out, move it away, or go on with it by --resume"
        )
    parent = next(each for each in path.absolute().parents if os.path.lexists(each))
    if not os.path.isdir(parent):
        raise _cannot_make(path, f"{parent} is a file, not a folder")
    if not os.access(parent, os.W_OK | os.X_OK):
        raise _cannot_make(path, f"{parent} is not writable")


def _cannot_make(path: Path, reason: str) -> InputError:
    return InputError(f"{path} cannot be made: {reason}; choose another --out")


class RunDirectory:
    """One run's files.

    Args:
        path: of the directory.
        model: its network, features and target; its parameters are not used.
        surroundings: what checkpoints need beside the state.
        settings: what the status says of how the run is done: backend, workers, …
        keep: how many of the newest checkpoints stay.

    Attributes:
        kept_step: of the last checkpoint that was written.
    """

    def __init__(
        self,
        path: Path,
        model: Model,
        surroundings: Surroundings,
        settings: dict[str, Any],
        keep: int,
    ) -> None:
        self.path = path
        self._model = model
        self._surroundings = surroundings
        self._keep = keep
        self._lines: list[str] = []
        self._abandoned = False
        self.kept_step = -1
        self._status: dict[str, Any] = {
            "state": "running",
            "epoch": 0,
            "step": 0,
            "started": _now(),
            "updated": None,
            "ended": None,
            "error": None,
            "job": None,
            **settings,
        }

    def begin(self, state: TrainingState, stack: ExitStack) -> None:
        """Make the directory at once with all that stands before the training begins.

        Args:
            stack: until it ends, no other process can have the directory.

        Raises:
            InputError: it cannot be made.
            CannotWrite: it cannot be written.
        """
        remove_orphan(self.path)
        made = beside(self.path)
        try:
            with self._making():
                (made / FOLDER).mkdir(parents=True)
                stack.enter_context(locked(made))
            with _writing(self.path, made):
                self._write_whole(made, state)
            if os.path.lexists(self.path):  # renaming would take the place of an empty folder
                raise _cannot_make(self.path, "it exists by now")
            with self._making():
                rename_folder(made, self.path)
        finally:
            shutil.rmtree(made, ignore_errors=True)

    @contextmanager
    def _making(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise _cannot_make(self.path, error.strerror or str(error)) from error

    def go_on(self, state: TrainingState, status: dict[str, Any]) -> None:
        """Bring the directory back to where the state stands.

        Args:
            state: that of its newest checkpoint.
            status: what ``status.json`` says of the run so far.

        Raises:
            CannotWrite: it cannot be written.
        """
        self._status["started"] = status.get("started", self._status["started"])
        self._status["allow_mixed_cpus"] |= status.get("allow_mixed_cpus") is True
        self.remove_unfinished()
        with _writing(self.path):
            self._write_whole(self.path, state)
            remove_checkpoints(self.path / FOLDER, state.history, state.step, keep=None)

    def _write_whole(self, path: Path, state: TrainingState) -> None:
        surroundings = self._surroundings
        write_atomically(
            path / HYPERPARAMETERS_FILE, tomli_w.dumps(surroundings.experiment).encode()
        )
        _write_json(path / "features.json", surroundings.model)
        _write_json(path / "environment.json", surroundings.environment)
        self._lines = [_metrics_line(metrics) for metrics in state.history]
        write_atomically(path / METRICS_FILE, self._metrics().encode())
        if state.batch == 0:
            self._write_model(path, state)
        write_checkpoint(path / FOLDER, state, self._metrics(), surroundings)
        self.kept_step = state.step
        self._write_status(path, state)

    def write_epoch(self, state: TrainingState) -> None:
        """Write what an epoch has given: a checkpoint, the model, its metrics and the status.

        Raises:
            CannotWrite: it cannot be written.
        """
        self._lines.append(_metrics_line(state.history[-1]))
        self.write_checkpoint(state)  # first: the others can be made from it
        with _writing(self.path):
            self._write_model(self.path, state)
            if not self._abandoned:
                append_line(self.path / METRICS_FILE, self._lines[-1])

    def write_checkpoint(self, state: TrainingState) -> None:
        """Write a checkpoint, remove those that it makes needless, and write the status.

        Raises:
            CannotWrite: it cannot be written.
        """
        # What is not finite will be said at the latest when the epoch ends.
        if not state.is_finite or self._abandoned:
            return
        with _writing(self.path):
            write_checkpoint(self.path / FOLDER, state, self._metrics(), self._surroundings)
            self.kept_step = state.step
            remove_checkpoints(self.path / FOLDER, state.history, state.step, self._keep)
            if not self._abandoned:
                self._write_status(self.path, state)

    def end(self, state: TrainingState, error: BaseException | None) -> None:
        """Write how the run ended.

        Raises:
            CannotWrite: it cannot be written, and there was no error, which would say more.
        """
        self._status["state"] = "completed"
        if error is not None:
            self._status["state"] = "failed" if isinstance(error, Exception) else "stopped"
            self._status["error"] = " ".join(f"{error}".split()) or type(error).__name__
        try:
            with _writing(self.path):
                self._write_status(self.path, state)
        except CannotWrite:
            if error is None:
                raise

    def abandon(self) -> None:
        """Begin no further file, in whatever thread."""
        self._abandoned = True

    def remove_unfinished(self) -> None:
        """Remove what was being written when a process, or a thread, was ended."""
        for folder in (self.path, self.path / FOLDER):
            remove_unfinished(folder)

    def _metrics(self) -> str:
        """What metrics.jsonl holds, or is about to."""
        return "".join(f"{line}\n" for line in self._lines)

    def _write_model(self, path: Path, state: TrainingState) -> None:
        parameters = Parameters(self._model.network, state.vectors[PARAMETERS])
        content = self._model.with_parameters(parameters).to_bytes()
        if not self._abandoned:
            write_atomically(path / MODEL_FILE, content)

    def _write_status(self, path: Path, state: TrainingState) -> None:
        self._status |= {"epoch": len(state.history), "step": state.step, "updated": _now()}
        if state.rollbacks:
            self._status["rollbacks"] = state.rollbacks
        if self._status["state"] != "running":
            self._status["ended"] = self._status["updated"]
        _write_json(path / STATUS_FILE, self._status)


@contextmanager
def _writing(path: Path, made: Path | None = None) -> Iterator[None]:
    """Say of which file it was that it cannot be written.

    Args:
        path: of the directory.
        made: where it is until it is whole.
    """
    try:
        yield
    except OSError as error:
        where = str(error.filename or path)
        if made is not None:
            where = where.replace(str(made), str(path))
        raise CannotWrite(f"{where} cannot be written: {error.strerror or error}") from error


def _metrics_line(metrics: dict[str, Any]) -> str:
    return json.dumps(metrics, allow_nan=False)


def _write_json(path: Path, content: dict[str, Any]) -> None:
    write_atomically(path, (json.dumps(content, indent=2, allow_nan=False) + "\n").encode())


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds")
