"""Memory that the processes of one machine share, and what lies where in it.

The memory has no name: it lives as long as a process holds it, so nothing is left behind by any
death. Words are written by one process each and read by others; on x86-64 stores become visible
in the order in which they were made, which the protocol relies on.
"""

import mmap
import os
import tempfile
from collections.abc import Callable, Iterator, Sequence
from itertools import chain
from time import monotonic, sleep
from typing import Any

import numpy as np

from dist_dnn.errors import RunError
from dist_dnn.rounds import Sizes, Vectors
from dist_dnn.shards import Additions, complete_subtrees, joining_additions

_LINE = 64  # bytes of a cache line

ORDERED_STORES = ("x86_64", "AMD64")
"""Processors on which stores become visible in their order, which the shared words rely on."""

Address = tuple[int, int]
"""A process and the descriptor of memory that it has open."""


class Segment:
    """Anonymous memory that is passed on by its file descriptor.

    Attributes:
        memory: what it holds.
        descriptor: what another process opens it by; ``close_descriptor`` when it has been sent.
    """

    def __init__(self, descriptor: int, size: int, access: int = mmap.ACCESS_WRITE) -> None:
        self.descriptor = descriptor
        self.memory = mmap.mmap(descriptor, max(size, 1), access=access)

    @classmethod
    def create(cls, size: int) -> "Segment":
        """New memory, all zeros.

        Raises:
            RunError: there is not so much.
        """
        try:
            return cls._create(size)
        except OSError as error:
            raise RunError(f"no {size:,} bytes of shared memory: {error.strerror}") from error

    @classmethod
    def _create(cls, size: int) -> "Segment":
        if hasattr(os, "memfd_create"):
            descriptor = os.memfd_create("dist_dnn")
        else:
            with tempfile.TemporaryFile() as file:
                descriptor = os.dup(file.fileno())
        os.truncate(descriptor, max(size, 1))
        return cls(descriptor, size)

    @classmethod
    def received(cls, descriptor: int, read_only: bool = False) -> "Segment":
        """The memory behind a descriptor that another process sent."""
        access = mmap.ACCESS_READ if read_only else mmap.ACCESS_WRITE
        try:
            return cls(descriptor, os.fstat(descriptor).st_size, access)
        finally:
            os.close(descriptor)

    @classmethod
    def of(cls, address: Address, read_only: bool = False) -> "Segment":
        """The memory at an address of another process of the same user, which keeps it open.

        Raises:
            OSError: it cannot be had: the processes do not see each other, say.
        """
        process, descriptor = address
        if process == os.getpid():
            return cls.received(os.dup(descriptor), read_only)
        mode = (os.O_RDONLY if read_only else os.O_RDWR) | os.O_NONBLOCK  # whatever it may be
        return cls.received(os.open(f"/proc/{process}/fd/{descriptor}", mode), read_only)

    @property
    def address(self) -> Address:
        """By which other processes of this machine have the memory."""
        return os.getpid(), self.descriptor

    def close_descriptor(self) -> None:
        """Let go of the descriptor; the memory stays as long as it is used."""
        os.close(self.descriptor)


class Arena:
    """The slots of one open task, and how its workers' sums are joined; the same on both sides.

    Args:
        held: the shards of each worker.
        shards: S.
        sums: sizes of a slot.
        segment: the memory, as the other side sent it; new memory when None.

    Attributes:
        segment: the memory.
        slots: each worker's.
        joining: pairs (into, other) of workers' subtrees to add, in order.
        totals: where the sums of the complete subtrees that they hold together then are; the
            whole tree's alone when they are all workers.

    Raises:
        RunError: there is not so much memory.
    """

    def __init__(
        self,
        held: Sequence[tuple[int, ...]],
        shards: int,
        sums: Sizes,
        segment: Segment | None = None,
    ) -> None:
        additions = [Additions(each, shards) for each in held]
        counts = [each.slots for each in additions]
        self.segment = segment or Segment.create(sum(_bytes(sums, count) for count in counts))
        self.slots = list(_vectors(self.segment, sums, counts))
        places = {
            subtree: slots.slot(slot)
            for each, slots in zip(additions, self.slots, strict=True)
            for subtree, slot in each.subtrees.items()
        }
        self.joining: list[tuple[Vectors, Vectors]] = []
        self.totals: dict[tuple[int, int], Vectors] = {}
        for first, stop in complete_subtrees(chain.from_iterable(held), shards):
            joining, self.totals[first, stop] = joining_additions(places, first, stop)
            self.joining += joining


class Broadcast:
    """New memory for what is broadcast to workers, for one task.

    Attributes:
        segment: the memory.
        vectors: what is in it.

    Raises:
        RunError: there is not so much.
    """

    def __init__(self, sizes: Sizes) -> None:
        self.segment = Segment.create(_bytes(sizes, 1))
        self.vectors = broadcast_vectors(self.segment, sizes)

    def close(self) -> None:
        """Let go of the descriptor that was kept for workers to come."""
        self.segment.close_descriptor()


def broadcast_vectors(segment: Segment, sizes: Sizes) -> Vectors:
    """What is broadcast in such memory; only to be read where the memory is."""
    [slots] = _vectors(segment, sizes, [1])
    return slots.slot(0)


def _vectors(segment: Segment, sizes: Sizes, counts: Sequence[int]) -> Iterator[Vectors]:
    """Slots behind one another in memory, so many at a time."""
    place = 0
    for count in counts:
        arrays = []
        for dtype, size in zip((np.float32, np.float64), sizes, strict=True):
            array: Any = np.ndarray((count, size), dtype, segment.memory, place)
            place += _rounded(array.nbytes)
            arrays.append(array)
        yield Vectors(*arrays)


def _bytes(sizes: Sizes, count: int) -> int:
    return _rounded(4 * count * sizes.single) + _rounded(8 * count * sizes.double)


def _rounded(size: int) -> int:
    return size + -size % _LINE


class Board:
    """Words that driver and workers tell each other by: a cache line each, written by its owner.

    The driver's line is line 0, that of worker i is line i + 1.
    """

    # the driver's words
    GENERATION, ABANDONED, TASK, POSITIONS, FIRST_POSITION = 0, 1, 2, 3, 4
    # a worker's words
    COMPUTED, FINISHED, FAILED = 0, 1, 2
    # everyone's
    SLEEPING = 7

    MOST_POSITIONS = SLEEPING - FIRST_POSITION
    _WORDS = _LINE // 8

    def __init__(self, memory: mmap.mmap) -> None:
        words = memoryview(memory).cast("q")
        self.lines = [
            words[start : start + self._WORDS] for start in range(0, len(words), self._WORDS)
        ]
        self.driver = self.lines[0]
        self.workers = self.lines[1:]

    def ask(self, generation: int, task: int, position: Sequence[int]) -> None:
        """The driver's: begin a round of the task of that number."""
        assert len(position) <= self.MOST_POSITIONS
        self.driver[self.TASK] = task
        self.driver[self.POSITIONS] = len(position)
        for word, value in enumerate(position, self.FIRST_POSITION):
            self.driver[word] = value
        self.driver[self.GENERATION] = generation

    def position(self) -> tuple[int, ...]:
        """Of the round in work."""
        stop = self.FIRST_POSITION + self.driver[self.POSITIONS]
        return tuple(self.driver[self.FIRST_POSITION : stop])

    def is_finished(self, generation: int) -> bool:
        """Whether all workers have finished their slices."""
        return all(words[self.FINISHED] == generation for words in self.workers)

    @staticmethod
    def size(workers: int) -> int:
        """The bytes it needs."""
        return _LINE * (1 + workers)


YIELDING_SECONDS = 1e-3
"""How long to wait for another process before it is slept."""


def wait_until(
    ready: Callable[[], bool],
    sleep: Callable[[float], object],
    yielding_seconds: float = YIELDING_SECONDS,
) -> None:
    """Wait for another process: yield the core between two looks, later sleep.

    Who has yielded is in nobody's way, even where processes share a core: the next one to compute,
    or to find what it waited for, has it at once.

    Args:
        ready: whether it has come.
        sleep: returns after a while, or when it may have come; is told for how many seconds it has
            been waited.
        yielding_seconds: for how long to yield.
    """
    began = monotonic()
    while not ready():
        os.sched_yield()
        if monotonic() - began > yielding_seconds:
            break
    while not ready():
        sleep(monotonic() - began)


def doze(waited: float) -> None:
    """Sleep a little, where nobody will ring; longer where it has been waited long."""
    sleep(min(max(100e-6, waited / 20), 2e-3))
