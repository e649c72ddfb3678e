"""The round: the one thing that a driver asks of workers, and the tasks that are made of rounds.

In a round the driver broadcasts two vectors, every shard's task returns two vectors of sums, and
the driver gets their total, added along the tree over the shards. A task may take several rounds
and keep state for each shard between them.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from dist_dnn.shards import Additions

if TYPE_CHECKING:
    from dist_dnn.data.dataset import Dataset

Result = TypeVar("Result")

Options = Mapping[str, Any]
"""What a task is to do, as JSON can say it."""


class Sizes(NamedTuple):
    """The lengths of a pair of vectors."""

    single: int
    double: int


class Vectors(NamedTuple):
    """A float32 vector (gradients, parameters) and a float64 vector (losses, counts, statistics).

    For slots both have a leading axis that numbers the slots.
    """

    single: NDArray[np.float32]
    double: NDArray[np.float64]

    @classmethod
    def zeros(cls, sizes: Sizes) -> "Vectors":
        return cls(np.zeros(sizes.single, np.float32), np.zeros(sizes.double, np.float64))

    @classmethod
    def zeros_slots(cls, sizes: Sizes, slots: int) -> "Vectors":
        """Slots, numbered by a leading axis."""
        single = np.zeros((slots, sizes.single), np.float32)
        return cls(single, np.zeros((slots, sizes.double), np.float64))

    def slot(self, number: int) -> "Vectors":
        return Vectors(self.single[number], self.double[number])

    def add(self, other: "Vectors") -> None:
        """Add another pair to this one, in place."""
        np.add(self.single, other.single, out=self.single)
        np.add(self.double, other.double, out=self.double)


@dataclass(frozen=True)
class Exchange:
    """Where a task finds what is broadcast, and where it leaves its shards' sums."""

    additions: Additions
    broadcast: Vectors
    slots: Vectors


class Task(ABC):
    """One kind of work on the shards that a worker holds; the same class in every backend.

    Workers make it from its options. When shards move, it is made anew and starts again from its
    first round: ``Group.surviving`` sees to that.
    """

    def __init__(
        self, options: Options, datasets: Mapping[str, "Dataset"], exchange: Exchange
    ) -> None:
        self.options = options
        self.datasets = datasets
        self.exchange = exchange
        self.shard = -1
        """The shard in work, for messages."""

    @classmethod
    @abstractmethod
    def sizes(cls, options: Options) -> tuple[Sizes, Sizes]:
        """The lengths of what is broadcast, and of the sums."""

    @abstractmethod
    def run(self, position: tuple[int, ...]) -> None:
        """One round, which ``position`` names: leave the sums of the complete subtrees held."""


class ShardTask(Task):
    """A task that computes one shard at a time."""

    @abstractmethod
    def shard_sums(self, shard: int, position: tuple[int, ...], sums: Vectors) -> None:
        """Write all of one shard's sums."""

    def run(self, position: tuple[int, ...]) -> None:
        slots = [self.exchange.slots.slot(slot) for slot in range(self.exchange.additions.slots)]
        for leaf in self.exchange.additions.leaves:
            self.shard = leaf.shard
            self.shard_sums(leaf.shard, position, slots[leaf.slot])
            for into, other in leaf.additions:
                slots[into].add(slots[other])


class Rounds(Protocol):
    """The rounds of one open task."""

    @property
    def broadcast(self) -> Vectors:
        """Written by the driver before a round; workers read it while the round lasts."""

    def run(self, *position: int) -> Vectors:
        """One round; returns the total of the sums, which the driver may change until the next.

        Raises:
            InputError: a worker met bad data.
            RunError: a worker failed, or is gone.
        """


class Group(Protocol):
    """What a driver sees of its workers, whatever the backend."""

    @property
    def shards(self) -> int: ...

    @property
    def workers(self) -> int:
        """How many workers compute; 0 when the driver itself does."""

    def load(self, name: str, dataset: "Dataset") -> None:
        """Make a data set known to all workers under a name; rows are read when needed."""

    def open(self, task: type[Task], options: Options) -> Rounds:
        """Make a task on all workers; the task of that class opened before ends."""

    def keep_in(self, location: str) -> None:
        """Take note of where the run is kept, for the time when its driver is lost."""

    def surviving(self, attempt: Callable[[], Result]) -> Result:
        """Call ``attempt``, and call it again where workers are lost in it.

        Args:
            attempt: rounds of an open task, from its first one on.

        Raises:
            RunError: too many were lost.
        """
