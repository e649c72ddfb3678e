"""The recorder: keeps a run's directory up beside the training, and says how the run ended."""

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from threading import Thread
from time import monotonic
from types import TracebackType
from typing import Self

from dist_dnn.errors import Diverged, InputError, RunError
from dist_dnn.evaluation import Scores
from dist_dnn.state import TrainingState
from dist_dnn.stopping import Stopped
from dist_dnn.tracking import CannotWrite, RunDirectory, resume_command

LEAVE_SECONDS = 0.3
"""How long a second signal waits for a file that is being written."""


@dataclass(frozen=True)
class Every:
    """When checkpoints are made, beside the ends of epochs: after so many steps, or seconds."""

    steps: int | None = None
    seconds: float | None = None

    @property
    def text(self) -> str:
        """What ``parse`` makes the same of."""
        return f"{self.steps}" if self.seconds is None else f"{self.seconds:g}s"

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


class Recorder:
    """Shows a run directory the state of a training when there is something to write.

    A thread writes from a copy of the state; the next copy waits until it has. As a context, it
    ends with a checkpoint where that is worth it, and says how to go on.

    Args:
        directory: where ``state`` is written already.
        state: of the training, as it changes.
        every: when checkpoints are made.
    """

    def __init__(self, directory: RunDirectory, state: TrainingState, every: Every) -> None:
        self._directory = directory
        self._state = state
        self._every = every
        self._copy = state.copy()
        self._kept_at = monotonic()
        self._thread: Thread | None = None
        self._failure: Exception | None = None

    def stepped(self, state: TrainingState) -> None:
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

    def epoch_ended(self, state: TrainingState) -> None:
        """Write what an epoch has given."""
        self._hand_over(self._directory.write_epoch)

    def tested(self, scores: Scores) -> None:
        """Have the status say what the test has given.

        Raises:
            CannotWrite: what was being written could not be.
        """
        self._wait()
        self._directory.add_test(scores)

    def rolled_back(self, state: TrainingState) -> None:
        """Write where the training goes on from."""
        self._hand_over(self._directory.write_checkpoint)

    def _keep_now(self) -> None:
        if self._state.step != self._directory.kept_step:
            self._hand_over(self._directory.write_checkpoint)

    def _hand_over(self, write: Callable[[TrainingState], None]) -> None:
        """Let the thread write a copy of the state."""
        self._wait()
        self._copy.restore(self._state)
        self._kept_at = monotonic()
        self._thread = Thread(target=self._try, args=(write,), daemon=True)
        self._thread.start()

    def _try(self, write: Callable[[TrainingState], None]) -> None:
        try:
            write(self._copy)
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
            raise failure

    # How a run ends

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if isinstance(error, Stopped) and error.at_once:
            self._leave(error)
            return
        try:
            self._end(error)
        except Stopped as second:
            self._leave(second)
            raise

    def _end(self, error: BaseException | None) -> None:
        if error is not None:
            self._end_early(error)
            return
        try:
            self._wait()
            self._directory.end(self._state, None)
        except CannotWrite as failure:
            self._end_early(failure)
            raise

    def _end_early(self, error: BaseException) -> None:
        """End with a checkpoint of where the training stands, unless that may be no good.

        Workers that were lost, a signal and bad data leave the state as it was between two steps.
        """
        with suppress(CannotWrite):
            self._wait()
        is_sound = isinstance(error, Stopped | RunError | InputError)
        if is_sound and not isinstance(error, Diverged | CannotWrite):
            with suppress(CannotWrite):
                self._keep_now()
                self._wait()
        self._directory.end(self._state, error)
        name, step = self._directory.name, self._directory.kept_step
        if isinstance(error, Diverged):
            error.add_note(f"the last good checkpoint, of step {step}, is in {name}")
        else:
            error.add_note(
                f"a checkpoint of step {step} is in {name}: go on with `{resume_command(name)}`"
            )

    def _leave(self, error: Stopped) -> None:
        """End at once and leave nothing half-written, though the thread may be slow to end."""
        self._directory.abandon()
        if self._thread is not None:
            self._thread.join(LEAVE_SECONDS)
        self._directory.remove_unfinished()
        self._directory.end(self._state, error)
