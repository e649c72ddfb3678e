"""The run directory: what a run leaves on disk, each file written whole or not at all."""

import json
import os
import shlex
import shutil
from collections.abc import Callable
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from threading import Thread
from time import monotonic
from types import TracebackType
from typing import Any, Self

import tomli_w

from dist_dnn.checkpoint import (
    FOLDER,
    Surroundings,
    remove_checkpoints,
    write_checkpoint,
)
from dist_dnn.errors import Diverged, InputError, RunError
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
from dist_dnn.state import PARAMETERS, State
from dist_dnn.stopping import Stopped

HYPERPARAMETERS_FILE = "hyperparameters.toml"
METRICS_FILE = "metrics.jsonl"
ABANDON_SECONDS = 0.3
"""How long a second signal waits for a file that is being written."""

STATUS_FILE = "status.json"


@dataclass(frozen=True)
class Every:
    """When checkpoints are made, beside the ends of epochs: after so many steps, or seconds."""

    steps: int | None = None
    seconds: float | None = None

    @classmethod
    def parse(cls, text: str | int) -> "Every":
        """From "100", for steps, or "30s", for seconds.

        Raises:
            InputError: it is neither.
        """
        number = str(text).removesuffix("s")
        is_seconds = number != str(text)
        try:
            value = float(number) if is_seconds else int(number)
        except ValueError:
            value = 0
        if not 0 < value < float("inf"):
            raise InputError(
                f"checkpoint_every must be a number of steps, like 100, or of seconds, like 30s, "
                f"above 0, not {text!r}"
            )
        return cls(seconds=value) if is_seconds else cls(steps=int(value))


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


class CannotWrite(RunError):
    """A file of the run directory cannot be written."""


class RunDirectory:
    """One run's files, kept up beside the training; as a context, says how the run ended.

    Files are written by a thread from a copy of the state; the next copy waits until they are.

    Args:
        path: of the directory.
        model: its network, features and target; its parameters are not used.
        surroundings: what checkpoints need beside the state.
        settings: what the status says of how the run is done: backend, workers, …
        every: when checkpoints are made.
        keep: how many of the newest checkpoints stay.
    """

    def __init__(
        self,
        path: Path,
        model: Model,
        surroundings: Surroundings,
        settings: dict[str, Any],
        every: Every,
        keep: int,
    ) -> None:
        self.path = path
        self._model = model
        self._surroundings = surroundings
        self._every = every
        self._keep = keep
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
        self._lines: list[str] = []
        self._state: State | None = None
        self._copy: State | None = None
        self._thread: Thread | None = None
        self._failure: Exception | None = None
        self._abandoned = False
        self._kept_step = -1
        self._kept_at = monotonic()
        self._lock = ExitStack()

    # How a run begins and ends

    def begin(self, state: State) -> None:
        """Make the directory with all that stands before the training begins, at once.

        Raises:
            InputError: it cannot be made.
            RunError: it cannot be written.
        """
        self._state, self._copy = state, state.copy()
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise _cannot_make(self.path, error.strerror or str(error)) from error
        remove_orphan(self.path)
        made = beside(self.path)
        try:
            (made / FOLDER).mkdir(parents=True)
            self._lock.enter_context(locked(made))
            self._write_whole(made, self._copy)
            if os.path.lexists(self.path):  # renaming would take the place of an empty folder
                raise InputError(f"{self.path} exists: choose another --out")
            rename_folder(made, self.path)
        except OSError as error:
            raise _cannot_write(self.path, error) from error
        finally:
            shutil.rmtree(made, ignore_errors=True)

    def resume(self, state: State, status: dict[str, Any]) -> None:
        """Go on in a directory, which is brought back to where the state stands.

        Args:
            state: that of its newest checkpoint.
            status: what ``status.json`` says of the run so far.

        Raises:
            InputError: another process writes there.
            RunError: it cannot be written.
        """
        self._state, self._copy = state, state.copy()
        self._status["started"] = status.get("started", self._status["started"])
        try:
            for folder in (self.path, self.path / FOLDER):
                remove_unfinished(folder)
            self._write_whole(self.path, self._copy)
            remove_checkpoints(self.path / FOLDER, state.history, state.step, keep=None)
        except OSError as error:
            raise _cannot_write(self.path, error) from error

    def _write_whole(self, path: Path, state: State) -> None:
        surroundings = self._surroundings
        _write_toml(path / HYPERPARAMETERS_FILE, surroundings.experiment)
        _write_json(path / "features.json", surroundings.model)
        _write_json(path / "environment.json", surroundings.environment)
        self._lines = [_metrics_line(metrics) for metrics in state.history]
        write_atomically(path / METRICS_FILE, self._metrics().encode())
        if state.batch == 0:
            self._write_model(path, state)
        write_checkpoint(path / FOLDER, state, self._metrics(), surroundings)
        self._kept_step = state.step
        self._write_status(path, state)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        with self._lock:
            if isinstance(error, Stopped) and error.at_once:
                self._abandon()
            elif error is None:
                self._wait()
            else:
                self._keep_what_can_be(error)
            self._end(error)

    def _keep_what_can_be(self, error: BaseException) -> None:
        """A checkpoint of where the training stands, unless that may be no good; say where it is.

        Workers that were lost, a signal and bad data leave the state as it was between two steps.
        """
        is_sound = isinstance(error, Stopped | RunError | InputError)
        if is_sound and not isinstance(error, Diverged | CannotWrite):
            with suppress(CannotWrite):
                self._keep_now()
        with suppress(CannotWrite):
            self._wait()
        if isinstance(error, Diverged):
            error.add_note(
                f"the last good checkpoint, of step {self._kept_step}, is in {self.path}"
            )
        else:
            error.add_note(
                f"a checkpoint of step {self._kept_step} is in {self.path}: go on with "
                f"`dist-dnn train DATA --out {shlex.quote(str(self.path))} --resume`"
            )

    def _end(self, error: BaseException | None) -> None:
        state = "completed"
        if error is not None:
            state = "failed" if isinstance(error, Exception) else "stopped"
            self._status["error"] = " ".join(f"{error}".split()) or type(error).__name__
        self._status["state"] = state
        try:
            self._write_status(self.path, self._state)
        except OSError as reason:
            if error is None:  # otherwise the error that ended the run says more
                raise _cannot_write(self.path / STATUS_FILE, reason) from reason

    # What a training shows its state to

    def stepped(self, state: State) -> None:
        """Make a checkpoint if one is due."""
        if self._failure is not None:
            self._wait()
        every = self._every
        if every.steps is not None:
            is_due = state.step % every.steps == 0
        else:
            assert every.seconds is not None
            is_due = monotonic() - self._kept_at >= every.seconds
        if is_due:
            self._keep_now()

    def epoch_ended(self, state: State) -> None:
        """Write what an epoch has given: the model, its metrics, a checkpoint and the status."""
        self._hand_over(self._write_epoch)

    def rolled_back(self, state: State) -> None:
        """Write where the training goes on from, and take away what it went back behind."""
        self._hand_over(self._write_checkpoint)

    # Writing

    def _keep_now(self) -> None:
        assert self._state is not None
        if self._state.step != self._kept_step:
            self._hand_over(self._write_checkpoint)

    def _hand_over(self, write: Callable[[State], None]) -> None:
        """Let the thread write a copy of the state."""
        self._wait()
        assert self._copy is not None
        assert self._state is not None
        self._copy.restore(self._state)
        self._kept_at = monotonic()
        self._thread = Thread(target=self._try, args=(write, self._copy), daemon=True)
        self._thread.start()

    def _try(self, write: Callable[[State], None], state: State) -> None:
        try:
            write(state)
            if not self._abandoned:
                self._write_status(self.path, state)
        except Exception as error:
            self._failure = error

    def _wait(self) -> None:
        """Wait until everything is written.

        Raises:
            CannotWrite: it could not be.
        """
        if self._thread is not None:
            self._thread.join()
            self._thread = None
        if self._failure is not None:
            failure, self._failure = self._failure, None
            if isinstance(failure, OSError):
                raise _cannot_write(Path(failure.filename or self.path), failure) from failure
            raise failure

    def _abandon(self) -> None:
        """Leave nothing half-written, though the thread may be slow to end."""
        self._abandoned = True
        if self._thread is not None:
            self._thread.join(ABANDON_SECONDS)
        for folder in (self.path, self.path / FOLDER):
            remove_unfinished(folder)

    def _write_epoch(self, state: State) -> None:
        self._lines.append(_metrics_line(state.history[-1]))
        self._write_checkpoint(state)  # first: the others can be made from it
        if not self._abandoned:
            self._write_model(self.path, state)
        if not self._abandoned:
            append_line(self.path / METRICS_FILE, self._lines[-1])

    def _write_checkpoint(self, state: State) -> None:
        """Write the checkpoint, and remove those that it makes needless."""
        if state.is_finite:  # otherwise that will be said at the latest when the epoch ends
            write_checkpoint(self.path / FOLDER, state, self._metrics(), self._surroundings)
            self._kept_step = state.step
            remove_checkpoints(self.path / FOLDER, state.history, state.step, self._keep)

    def _metrics(self) -> str:
        """What metrics.jsonl holds, or is about to."""
        return "".join(f"{line}\n" for line in self._lines)

    def _write_model(self, path: Path, state: State) -> None:
        parameters = Parameters(self._model.network, state.vectors[PARAMETERS])
        write_atomically(path / MODEL_FILE, self._model.with_parameters(parameters).to_bytes())

    def _write_status(self, path: Path, state: State | None) -> None:
        if state is not None:
            self._status |= {"epoch": len(state.history), "step": state.step}
            if state.rollbacks:
                self._status["rollbacks"] = state.rollbacks
        self._status["updated"] = _now()
        if self._status["state"] != "running":
            self._status["ended"] = self._status["updated"]
        _write_json(path / STATUS_FILE, self._status)


def _metrics_line(metrics: dict[str, Any]) -> str:
    return json.dumps(metrics, allow_nan=False)


def _write_toml(path: Path, content: dict[str, Any]) -> None:
    write_atomically(path, tomli_w.dumps(content).encode())


def _write_json(path: Path, content: dict[str, Any]) -> None:
    write_atomically(path, (json.dumps(content, indent=2, allow_nan=False) + "\n").encode())


def _cannot_write(path: Path, error: OSError) -> CannotWrite:
    return CannotWrite(f"{path} cannot be written: {error.strerror or error}")


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds")
