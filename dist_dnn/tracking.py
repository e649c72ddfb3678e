"""The run directory: what a run leaves on disk, each file written whole or not at all."""

import json
import os
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import tomli_w

from dist_dnn.arithmetic import environment
from dist_dnn.errors import InputError, RunError
from dist_dnn.hyperparameters import Hyperparameters
from dist_dnn.model import MODEL_FILE, Model

METRICS_FILE = "metrics.jsonl"


def check_new(out: str) -> None:
    """Raise InputError unless a run directory can be made at this place."""
    path = Path(out)
    if os.path.lexists(path):
        raise InputError(f"{path} exists: choose another --out, or move it away")
    parent = next(each for each in path.absolute().parents if os.path.lexists(each))
    if not os.path.isdir(parent):
        raise _cannot_make(path, f"{parent} is a file, not a folder")
    if not os.access(parent, os.W_OK | os.X_OK):
        raise _cannot_make(path, f"{parent} is not writable")


def _cannot_make(path: Path, reason: str) -> InputError:
    return InputError(f"{path} cannot be made: {reason}; choose another --out")


def write_atomically(path: Path, content: bytes) -> None:
    """Write a file whole or not at all: beside it first, then renamed."""
    beside = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with beside.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        beside.replace(path)
    finally:
        beside.unlink(missing_ok=True)


class RunDirectory:
    """One run's files; as a context, its status says how the run ended.

    Args:
        out: a place where nothing is yet; folders above it are made.
        settings: what the status says of how the run is done: backend, workers, …

    Raises:
        InputError: it cannot be made.
        RunError: it cannot be written.
    """

    def __init__(self, out: str, settings: dict[str, Any]) -> None:
        self.path = Path(out)
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
        try:
            self.path.mkdir(parents=True)
        except OSError as error:
            raise _cannot_make(self.path, error.strerror or str(error)) from error

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if error is None:
            self._write_status(state="completed")
            return
        state = "failed" if isinstance(error, Exception) else "stopped"
        with suppress(RunError):  # the error that ended the run says more
            self._write_status(
                state=state, error=" ".join(f"{error}".split()) or type(error).__name__
            )

    def begin(self, target: str, hyperparameters: Hyperparameters, model: Model) -> None:
        """Write what stands before the training begins, the initial model too."""
        experiment = {"target": target, **hyperparameters.to_mapping()}
        self._write("hyperparameters.toml", tomli_w.dumps(experiment).encode())
        self._write_json("features.json", model.data_to_json())
        self._write_json("environment.json", environment())
        self._write(MODEL_FILE, model.to_bytes())
        self._write(METRICS_FILE, b"")
        self._write_status()

    def epoch(self, metrics: dict[str, Any], model: Model) -> None:
        """Write what an epoch has given: the model, its metrics, and the status."""
        self._write(MODEL_FILE, model.to_bytes())
        path = self.path / METRICS_FILE
        try:
            with path.open("a", encoding="utf-8") as file:
                file.write(json.dumps(metrics, allow_nan=False) + "\n")
        except OSError as error:
            raise _cannot_write(path, error) from error
        self._write_status(epoch=metrics["epoch"], step=metrics["step"])

    def _write_status(self, **changes: Any) -> None:
        self._status |= changes | {"updated": _now()}
        if self._status["state"] != "running":
            self._status["ended"] = self._status["updated"]
        self._write_json("status.json", self._status)

    def _write_json(self, name: str, content: dict[str, Any]) -> None:
        self._write(name, (json.dumps(content, indent=2, allow_nan=False) + "\n").encode())

    def _write(self, name: str, content: bytes) -> None:
        try:
            write_atomically(self.path / name, content)
        except OSError as error:
            raise _cannot_write(self.path / name, error) from error


def _cannot_write(path: Path, error: OSError) -> RunError:
    return RunError(f"{path} cannot be written: {error.strerror}")


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds")
