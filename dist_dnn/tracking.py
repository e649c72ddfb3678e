"""The run directory: what a run leaves behind, each file written whole or not at all."""

import json
import shlex
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime
from math import isfinite
from typing import Any

import tomli_w

from dist_dnn.checkpoint import Surroundings, remove_checkpoints, write_checkpoint
from dist_dnn.errors import RunError
from dist_dnn.evaluation import Scores
from dist_dnn.model import MODEL_FILE, Model
from dist_dnn.nn.network import Parameters
from dist_dnn.run_states import COMPLETED, FAILED, RUNNING, STOPPED
from dist_dnn.state import PARAMETERS, TrainingState
from dist_dnn.storage import Folder
from dist_dnn.training_step import COUNT, LOSS, WEIGHT

HYPERPARAMETERS_FILE = "hyperparameters.toml"
ENVIRONMENT_FILE = "environment.json"
METRICS_FILE = "metrics.jsonl"
STATUS_FILE = "status.json"


class CannotWrite(RunError):
    """A file of a run directory cannot be written."""


class RunDirectory:
    """One run's files.

    Args:
        folder: where they are.
        model: its network, features and target; its parameters are not used.
        surroundings: what checkpoints need beside the state.
        settings: what the status says of how the run is done: backend, workers, …
        keep: how many of the newest checkpoints stay.

    Attributes:
        name: what messages call it.
        kept_step: of the last checkpoint that was written.
    """

    def __init__(
        self,
        folder: Folder,
        model: Model,
        surroundings: Surroundings,
        settings: dict[str, Any],
        keep: int,
    ) -> None:
        self._folder = folder
        self._model = model
        self._surroundings = surroundings
        self._keep = keep
        self._lines: list[str] = []
        self._abandoned = False
        self.name = folder.name
        self.kept_step = -1
        self._status: dict[str, Any] = {
            "state": RUNNING,
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
        with self._writing(), self._folder.made(stack):
            self._write_whole(state)

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
        with self._writing():
            self._folder.remove_unnamed()
            self._write_whole(state)
            remove_checkpoints(self._folder, state.history, state.step, keep=None)

    def _write_whole(self, state: TrainingState) -> None:
        surroundings = self._surroundings
        self._write(HYPERPARAMETERS_FILE, tomli_w.dumps(surroundings.experiment))
        self._write_json("features.json", surroundings.model)
        self._write_json(ENVIRONMENT_FILE, surroundings.environment)
        self._lines = [_metrics_line(metrics) for metrics in state.history]
        self._write(METRICS_FILE, self._metrics())
        if state.batch == 0:
            self._write_model(state)
        write_checkpoint(self._folder, state, self._metrics(), surroundings)
        self.kept_step = state.step
        self._write_status(state)

    def write_epoch(self, state: TrainingState) -> None:
        """Write what an epoch has given: a checkpoint, the model, its metrics and the status.

        Raises:
            CannotWrite: it cannot be written.
        """
        self._lines.append(_metrics_line(state.history[-1]))
        self.write_checkpoint(state)  # first: the others can be made from it
        with self._writing():
            self._write_model(state)
            if not self._abandoned:
                self._folder.append(METRICS_FILE, self._lines[-1])

    def write_checkpoint(self, state: TrainingState) -> None:
        """Write a checkpoint, remove those that it makes needless, and write the status.

        Raises:
            CannotWrite: it cannot be written.
        """
        # What is not finite will be said at the latest when the epoch ends.
        if not state.is_finite or self._abandoned:
            return
        with self._writing():
            write_checkpoint(self._folder, state, self._metrics(), self._surroundings)
            self.kept_step = state.step
            remove_checkpoints(self._folder, state.history, state.step, self._keep)
            if not self._abandoned:
                self._write_status(state)

    def add_test(self, scores: Scores) -> None:
        """Let the status, when it is written next, have the scores of the test."""
        self._status["test"] = scores

    def end(self, state: TrainingState, error: BaseException | None) -> None:
        """Write how the run ended.

        Raises:
            CannotWrite: it cannot be written, and there was no error, which would say more.
        """
        self._status["state"] = COMPLETED
        if error is not None:
            self._status["state"] = FAILED if isinstance(error, Exception) else STOPPED
            self._status["error"] = " ".join(f"{error}".split()) or type(error).__name__
        try:
            with self._writing():
                self._write_status(state)
        except CannotWrite:
            if error is None:
                raise

    def abandon(self) -> None:
        """Begin no further file, in whatever thread."""
        self._abandoned = True

    def remove_unfinished(self) -> None:
        """Remove what was being written when a process, or a thread, was ended."""
        self._folder.remove_unfinished()

    def _metrics(self) -> str:
        """What metrics.jsonl holds, or is about to."""
        return "".join(f"{line}\n" for line in self._lines)

    def _write_model(self, state: TrainingState) -> None:
        parameters = Parameters(self._model.network, state.vectors[PARAMETERS])
        content = self._model.with_parameters(parameters).to_bytes()
        if not self._abandoned:
            self._folder.write(MODEL_FILE, [content])

    def _write_status(self, state: TrainingState) -> None:
        self._status |= {"epoch": len(state.history), "step": state.step, "updated": _now()}
        rows, weight = int(state.sums[COUNT]), float(state.sums[WEIGHT])
        loss = float(state.sums[LOSS]) / weight if weight and isfinite(state.sums[LOSS]) else None
        self._status["in_epoch"] = {"rows": rows, "loss": loss}
        if state.rollbacks:
            self._status["rollbacks"] = state.rollbacks
        if state.profile:
            self._status["profile"] = state.profile
        if self._status["state"] != RUNNING:
            self._status["ended"] = self._status["updated"]
        self._write_json(STATUS_FILE, self._status)

    def _write_json(self, file: str, content: dict[str, Any]) -> None:
        self._write(file, json.dumps(content, indent=2, allow_nan=False) + "\n")

    def _write(self, file: str, text: str) -> None:
        self._folder.write(file, [text.encode()])

    @contextmanager
    def _writing(self) -> Iterator[None]:
        """Have all that is written count together, and say of which file it cannot be."""
        try:
            yield
            self._folder.commit()
        except OSError as error:
            where, why = error.filename or self.name, error.strerror or error
            raise CannotWrite(f"{where} cannot be written: {why}") from error


def resume_command(name: str) -> str:
    """What goes on with a run, as messages say it."""
    return f"dist-dnn train DATA --out {shlex.quote(name)} --resume"


def _metrics_line(metrics: dict[str, Any]) -> str:
    return json.dumps(metrics, allow_nan=False)


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds")
