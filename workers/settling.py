"""What groups of workers in other processes have in common: what is loaded and open with them."""

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from dist_dnn.data.dataset import Dataset
from dist_dnn.errors import InputError, RunError
from dist_dnn.rounds import Options, Rounds, Task
from workers.group import WorkerGroup
from workers.limits import SHORTEST_TIMEOUT, RoundLimit
from workers.shard_worker import task_name
from workers.shared_memory import Broadcast


class Reached(Protocol):
    """A worker as the driver sees it.

    Attributes:
        datasets: those it knows.
    """

    datasets: set[str]


@dataclass
class Loaded:
    """A data set that all workers know: what they are told, and a table's bytes, if it is one."""

    description: dict[str, Any]
    table: Any


@dataclass
class Opened:
    """A task that all workers have open.

    Attributes:
        task, options: what it is.
        number: by which a round names it.
        broadcast: what is broadcast; it outlives lost workers.
        limit: how long a round may take.
    """

    task: type[Task]
    options: Options
    number: int
    broadcast: Broadcast
    limit: RoundLimit


class SettlingGroup(WorkerGroup):
    """Workers that are told, when they come and whenever shards move, what all of them must know.

    Args:
        allow_mixed_cpus: go on where workers' arithmetic differs.
        step_timeout: the seconds that a worker may be silent, and a round take, unless the rounds
            before it took a good part of that.
        start_seconds: how long workers may take to start.

    Attributes:
        generation: of the last round.
        in_hand: how long what workers may still have in hand may take.
        loaded, opened: by name, what all workers must know.
        told: the tasks that all workers have open.
    """

    def __init__(
        self,
        shards: int,
        workers: int,
        allow_mixed_cpus: bool,
        max_failures: int,
        step_timeout: float | None,
        start_seconds: float,
    ) -> None:
        super().__init__(shards, workers, max_failures)
        self.allow_mixed_cpus = allow_mixed_cpus
        self.step_timeout = step_timeout or SHORTEST_TIMEOUT
        self.generation = 0
        self.in_hand = start_seconds
        self.loaded: dict[str, Loaded] = {}
        self.opened: dict[str, Opened] = {}
        self.told: set[str] = set()
        self._numbers: dict[str, int] = {}
        self._is_joined = False
        self._is_settled = False

    @property
    @abstractmethod
    def reached(self) -> Sequence[Reached]:
        """The workers there are."""

    @abstractmethod
    def _shared(self, dataset: Dataset) -> Any:
        """A table in memory where workers can have it; None for files."""

    def _forget_table(self, table: Any) -> None:
        """Let go of what was kept of a table for workers to come."""

    @abstractmethod
    def _join(self) -> None:
        """Wait until all workers have started, and tell them who holds what."""

    @abstractmethod
    def _load(self, lacking: Sequence[Any], name: str, loaded: Loaded) -> None:
        """Make a data set known to workers that lack it."""

    @abstractmethod
    def _open(self, name: str, opened: Opened) -> None:
        """Make a task on all workers."""

    @abstractmethod
    def _rounds(self, opened: Opened) -> Rounds:
        """The rounds of a task that is open."""

    def load(self, name: str, dataset: Dataset) -> None:
        loaded = Loaded(dataset.description(), self._shared(dataset))
        if name in self.loaded:
            self._forget_table(self.loaded[name].table)
        self.loaded[name] = loaded
        for worker in self.reached:
            worker.datasets.discard(name)
        self._settle_anew()

    def open(self, task: type[Task], options: Options) -> Rounds:
        name = task_name(task)
        number = self._numbers.setdefault(name, len(self._numbers))
        sizes, _ = task.sizes(options)
        broadcast = Broadcast(sizes)
        self._forget_task(name)
        opened = Opened(task, dict(options), number, broadcast, RoundLimit(self.step_timeout))
        self.opened[name] = opened
        try:
            self._settle_anew()
        except (InputError, RunError):
            self._forget_task(name)  # it cannot be open for those that come later either
            raise
        return self._rounds(opened)

    def _settle_anew(self) -> None:
        self._is_settled = False
        self.surviving(lambda: None)

    def settle(self) -> None:
        if self._is_settled:
            return
        if not self._is_joined:
            self._join()
            self._is_joined, self.told = True, set()
        for name, loaded in self.loaded.items():
            lacking = [each for each in self.reached if name not in each.datasets]
            if lacking:
                self._load(lacking, name, loaded)
            for each in lacking:
                each.datasets.add(name)
        for name, opened in self.opened.items():
            if name not in self.told:
                self._open(name, opened)
                self.told.add(name)
        self._is_settled = True

    def _unsettle(self) -> None:
        """Shards are to move."""
        self._is_joined = self._is_settled = False

    def _forget_task(self, name: str) -> None:
        opened = self.opened.pop(name, None)
        if opened is not None:
            opened.broadcast.close()
        self.told.discard(name)

    def _forget_all(self) -> None:
        """Let go of what was kept for workers to come."""
        for loaded in self.loaded.values():
            self._forget_table(loaded.table)
        self.loaded = {}
        for name in list(self.opened):
            self._forget_task(name)
