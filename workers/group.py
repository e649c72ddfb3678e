"""WorkerGroup: the reach of a driver to its workers, and how it fails."""

from abc import ABC, abstractmethod
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from dist_dnn.errors import InputError, RunError
from dist_dnn.rounds import Options, Rounds, Task

if TYPE_CHECKING:
    from dist_dnn.data.dataset import Dataset


class WorkerLost(RunError):
    """A worker is gone: killed, crashed, or out of reach.

    Attributes:
        worker: its number.
        shards: the shards it held.
    """

    def __init__(self, worker: int, shards: tuple[int, ...], what: str) -> None:
        self.worker = worker
        self.shards = shards
        held = ", ".join(map(str, shards))
        super().__init__(f"worker {worker} (shards {held}) {what}")


class WorkerGroup(ABC):
    """Workers that hold all logical shards between them.

    Its one primitive is the round of an open task (``dist_dnn.rounds.Rounds``). Used as a context,
    it lets its workers go at the end.

    Attributes:
        shards: S.
        workers: how many; 0 when the driver's own process computes.
    """

    def __init__(self, shards: int, workers: int) -> None:
        if workers > shards:
            raise InputError(
                f"{workers} workers are more than the {shards} shards of the experiment: "
                f"use --workers {shards} at most"
            )
        self.shards = shards
        self.workers = workers

    @abstractmethod
    def load(self, name: str, dataset: "Dataset") -> None:
        """Make a data set known to all workers under a name; rows are read when needed."""

    @abstractmethod
    def open(self, task: type[Task], options: Options) -> Rounds:
        """Make a task on all workers; the one of that class opened before ends.

        Raises:
            InputError: a worker met bad data.
            RunError: a worker failed, or is gone.
        """

    @abstractmethod
    def close(self) -> None:
        """Let the workers go; nothing of them is left."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()


def check_same_arithmetic(driver: dict[str, Any], worker: dict[str, Any], number: int) -> None:
    """Raise RunError unless a worker computes with the driver's bits.

    Args:
        driver, worker: what ``arithmetic()`` says on both sides.
        number: the worker's.
    """
    for name in sorted(driver.keys() - {"host"}):
        value = driver[name]
        if worker[name] != value:
            raise RunError(
                f"worker {number} on {worker['host']} has {name} {worker[name]}, but the driver on "
                f"{driver['host']} has {value}, so their results would differ in the last bits: "
                f"use like machines, or --allow-mixed-cpus to go without the same bits"
            )
