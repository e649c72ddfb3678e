"""WorkerGroup: the reach of a driver to its workers, and how it fails."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from dist_dnn.arithmetic import difference
from dist_dnn.errors import InputError, RunError
from dist_dnn.notices import warn
from dist_dnn.reporting import Progress
from dist_dnn.rounds import Options, Result, Rounds, Task

if TYPE_CHECKING:
    from dist_dnn.data.dataset import Dataset


class WorkerLost(RunError):
    """A worker is gone: killed, crashed, or out of reach.

    Attributes:
        worker: its number.
        shards: the shards it held.
    """

    def __init__(
        self, worker: int, shards: tuple[int, ...], what: str, noun: str = "worker"
    ) -> None:
        self.worker = worker
        self.shards = shards
        held = ", ".join(map(str, shards))
        super().__init__(f"{noun} {worker} (shards {held}) {what}")


class WorkerGroup(ABC):
    """Workers that hold all logical shards between them.

    Its one primitive is the round of an open task (``dist_dnn.rounds.Rounds``). Used as a context,
    it lets its workers go at the end.

    Attributes:
        shards: S.
        workers: how many; 0 when the driver's own process computes.
        max_failures: how often workers may be lost in one piece of work.
    """

    noun, flag = "worker", "--workers"
    """What messages call a worker, and how their number is given."""

    def __init__(self, shards: int, workers: int, max_failures: int) -> None:
        self.check_workers(shards, workers)
        self.shards = shards
        self.workers = workers
        self.max_failures = max_failures

    @classmethod
    def check_workers(cls, shards: int, workers: int) -> None:
        """Raise InputError where there are more workers than shards."""
        if workers > shards:
            raise InputError(
                f"{workers} {cls.noun}s are more than the {shards} shards of the experiment: use "
                f"{cls.flag} {shards}, or train with --shards {workers} (another experiment)"
            )

    @abstractmethod
    def load(self, name: str, dataset: "Dataset") -> None:
        """Make a data set known to all workers under a name; rows are read when needed."""

    @abstractmethod
    def open(self, task: type[Task], options: Options) -> Rounds:
        """Make a task on all workers; the one of that class opened before ends.

        Raises:
            InputError: a worker met bad data.
            RunError: a worker failed, or too many were lost.
        """

    @abstractmethod
    def settle(self) -> None:
        """See that there are workers for all shards, with all that is loaded and open.

        Raises:
            WorkerLost: one of them is gone.
        """

    @abstractmethod
    def bury(self, loss: WorkerLost) -> list[WorkerLost]:
        """End a lost worker for good, and others that are gone with it; returns all of them."""

    def reports(self) -> list[Progress]:
        """What a training is to report to, for those who watch the backend by its own means."""
        return []

    def keep_in(self, location: str) -> None:  # noqa: B027 - optional
        """Take note of where the run is kept, for the time when its driver is lost."""

    def surviving(self, attempt: Callable[[], Result]) -> Result:
        """Call ``attempt``; where workers are lost in it, replace them and call it again.

        Args:
            attempt: rounds of an open task, from its first one on.

        Raises:
            RunError: workers were lost more than ``max_failures`` times.
        """
        failures = 0
        while True:
            try:
                self.settle()
                return attempt()
            except WorkerLost as loss:
                lost = self.bury(loss)
                failures += 1
                if failures > self.max_failures:
                    raise _too_many(lost, failures, self.max_failures) from None
                for each in lost:
                    warn(
                        f"{each}: its shards go to another, and the step is repeated "
                        f"(failure {failures} of at most {self.max_failures})"
                    )

    @abstractmethod
    def close(self, at_once: bool = False) -> None:
        """Let the workers go; nothing of them is left.

        Args:
            at_once: do not wait for what they have in hand.
        """

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close(at_once=error is not None)


def _too_many(lost: list[WorkerLost], failures: int, most: int) -> RunError:
    whole = "; ".join(map(str, lost))
    if most == 0:
        return RunError(f"{whole}, and --max-failures is 0")
    return RunError(
        f"{whole}: failure {failures} of the same step, and --max-failures is {most}; "
        "look for what ends the workers (is there enough memory?)"
    )


def check_same_arithmetic(
    driver: dict[str, Any], worker: dict[str, Any], name: str, allow_mixed_cpus: bool
) -> None:
    """Raise RunError unless a worker computes with the driver's bits.

    Args:
        driver, worker: what ``arithmetic()`` says on both sides.
        name: the worker's, in messages.
        allow_mixed_cpus: only warn.
    """
    what = difference(driver, worker)
    if what is None:
        return
    part, ours, theirs = what
    error = RunError(
        f"{name} on {worker['host']} has {part} {theirs}, but the driver on "
        f"{driver['host']} has {ours}, so their results would differ in the last bits: "
        f"use like machines, or --allow-mixed-cpus to go without the same bits"
    )
    if not allow_mixed_cpus:
        raise error
    warn(str(error))


def raise_first(errors: dict[int, dict[str, Any]]) -> None:
    """Raise the error of the lowest worker, which holds the lowest rows, if there is one.

    Args:
        errors: of each worker that met one its kind ("input" or "run"), and what it says.
    """
    for number in sorted(errors):
        error = errors[number]
        if error["kind"] == "input":
            raise InputError(error["error"])
        raise RunError(f"worker {number}: {error['error']}")


@dataclass(frozen=True)
class Reach:
    """How the process that drives gets its workers.

    Attributes:
        group: makes them, for so many shards.
        workers: how many there will be.
        library: what passes messages between them, if it is one of the machine's.
        takes_over: another process drove before, which is lost: go on with what it left.
    """

    group: Callable[[int], WorkerGroup]
    workers: int
    library: str = ""
    takes_over: bool = False
