"""A peer as a contender: the other end of its process's pipes."""

import json
import os
import select
import subprocess
import sys
from collections.abc import Iterable
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryFile
from types import TracebackType
from typing import Any, Self

from dist_dnn.arithmetic import ONE_THREAD
from dist_dnn.errors import InputError, RunError
from peers.task import Task

LIBRARIES = {"torch": "torch", "ddp": "torch", "jax": "jax", "sklearn": "sklearn"}
"""The peers, and the module that each needs."""

OPTIMIZERS = ("sgd", "adam")
"""Those that all peers have."""

PEER = Path(__file__).resolve().parents[1] / "peer.py"
ANSWER_SECONDS = 600.0
"""A peer that does not answer for so long hangs."""

END_SECONDS = 10.0
"""How long a peer may take to end when it is let go."""


def check_peers(names: Iterable[str]) -> None:
    """Raise InputError unless all these peers are known, and what they need is here."""
    for name in names:
        if name not in LIBRARIES:
            raise InputError(f"--against takes peers among {', '.join(LIBRARIES)}, not {name!r}")
        if find_spec(LIBRARIES[name]) is None:
            raise InputError(
                f"the peer {name} needs {LIBRARIES[name]}, which is not here: "
                f"pip install '.[peers]'"
            )


class Peer:
    """A peer's process. Used as a context, it is ended with it.

    Args:
        name: among LIBRARIES.
        folder: one of its own, where its task is put.

    Attributes:
        loss: the last step's.
    """

    def __init__(self, name: str, folder: Path, task: Task) -> None:
        self.name = name
        self.loss = float("nan")
        task.save(folder)
        self._errors = TemporaryFile()  # noqa: SIM115 - closed with the process
        threads = dict.fromkeys(ONE_THREAD, str(task.cores))
        self.process: Any = subprocess.Popen(  # noqa: S603 - our own module, no shell
            [sys.executable, str(PEER), name, str(folder)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            env=os.environ | threads,
            text=True,
            encoding="utf-8",
        )

    def __enter__(self) -> Self:
        try:
            self._answer()
        except BaseException:
            self._end(at_once=True)
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._end(at_once=error is not None)

    def turn(self, steps: int) -> float:
        """Have so many steps made, or a few more; returns the seconds of one on average.

        Raises:
            RunError: the process has ended, or does not answer.
        """
        try:
            print(json.dumps({"steps": steps}), file=self.process.stdin, flush=True)
        except BrokenPipeError:
            raise self._ended() from None
        answer = self._answer()
        self.loss = answer["loss"]
        return float(answer["seconds"] / answer["steps"])

    def _answer(self) -> dict[str, float]:
        ready, _, _ = select.select([self.process.stdout], [], [], ANSWER_SECONDS)
        if not ready:
            raise RunError(f"the peer {self.name} did not answer for {ANSWER_SECONDS:.0f} seconds")
        line = self.process.stdout.readline()
        if not line:
            raise self._ended()
        answer: dict[str, float] = json.loads(line)
        return answer

    def _ended(self) -> RunError:
        """What is to be said of a process that closed its pipes, with the last line it wrote."""
        status = self.process.wait(END_SECONDS)
        self._errors.seek(0)
        lines = self._errors.read().decode(errors="replace").split("\n")
        said = [line.strip() for line in lines if line.strip()]
        last = f": {said[-1]}" if said else ""
        return RunError(f"the peer {self.name} ended with exit status {status}{last}")

    def _end(self, at_once: bool) -> None:
        """End the process; one that does not end by itself is killed."""
        with self._errors, self.process:
            if at_once:
                self.process.kill()
            try:
                self.process.communicate(timeout=END_SECONDS)
            except (subprocess.TimeoutExpired, BrokenPipeError):
                self.process.kill()
