"""A member of a site: a worker's part in the rounds of those who share memory with it."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from dist_dnn.account import ACCOUNT, REDUCE, WAITING
from dist_dnn.data.dataset import Dataset
from dist_dnn.rounds import Options, Sizes
from workers.shard_worker import ShardWorker, task_class
from workers.shared_memory import Arena, Board, Segment, broadcast_vectors, doze, wait_until

SLICE_NUMBERS = 1024
"""The slices that workers finish have a multiple of so many numbers."""


class Member:
    """Computes its shards' sums, then finishes its slice of everyone's.

    Args:
        index: of this worker among those who share the memory, from 0.
        held: the shards that each of them holds.
        shards: S.
        board: the words that they tell each other by.
        datasets: those that are loaded.
    """

    def __init__(
        self,
        index: int,
        held: list[tuple[int, ...]],
        shards: int,
        board: Board,
        datasets: dict[str, Dataset],
    ) -> None:
        self.board = board
        self.words = board.workers[index]
        self.index = index
        self.held = held
        self.work = ShardWorker(held[index], shards, datasets)
        self.tasks: dict[int, OpenTask] = {}
        self.done = board.driver[Board.GENERATION]

    def open(
        self, number: int, name: str, options: Options, broadcast: Segment, slots: Segment
    ) -> None:
        """Make a task, by whose number rounds will name it.

        Raises:
            InputError, RunError: as ``ShardWorker.open``.
        """
        self.tasks[number] = OpenTask(self, name, options, broadcast, slots)

    def is_asked(self) -> bool:
        """Whether there is a round to do."""
        return self.board.driver[Board.GENERATION] != self.done

    def round(self) -> int:
        """Do the round that is asked for; returns its generation.

        Raises:
            InputError, RunError: as ``ShardWorker.run``; the others wait until it is given up.
        """
        driver, words = self.board.driver, self.words
        self.done = generation = driver[Board.GENERATION]
        task = self.tasks[driver[Board.TASK]]
        self.work.run(task.name, self.board.position())
        words[Board.COMPUTED] = generation
        if self._await_peers(generation):
            ACCOUNT.lap(WAITING)
            task.finish_slice()
            ACCOUNT.lap(REDUCE)
            words[Board.FINISHED] = generation
        return generation

    def _await_peers(self, generation: int) -> bool:
        """Wait until all have computed; False when the round is given up."""
        driver, workers = self.board.driver, self.board.workers

        def ready() -> bool:
            if driver[Board.ABANDONED] >= generation:
                return True
            return all(words[Board.COMPUTED] >= generation for words in workers)

        wait_until(ready, doze)
        return driver[Board.ABANDONED] < generation


class OpenTask:
    """An open task's memory, and what this worker adds to finish its slice of the sums."""

    def __init__(
        self, member: Member, name: str, options: Options, broadcast: Segment, slots: Segment
    ) -> None:
        self.name = name
        sizes, sums = task_class(name).sizes(options)
        arena = Arena(member.held, member.work.shards, sums, slots)
        own = slice_of(sums, member.index, len(member.held))
        self._additions: list[tuple[NDArray[Any], NDArray[Any]]] = [
            (into.single[own], other.single[own]) for into, other in arena.joining
        ]
        if member.index == 0:
            self._additions += [(into.double, other.double) for into, other in arena.joining]
        vectors = broadcast_vectors(broadcast, sizes)
        member.work.open(name, options, vectors, arena.slots[member.index])

    def finish_slice(self) -> None:
        """Add the workers' subtrees along the tree, for this worker's slice of the vector."""
        for into, other in self._additions:
            np.add(into, other, out=into)


def slice_of(sums: Sizes, index: int, workers: int) -> slice:
    """The slice of the float32 sums that a worker finishes."""
    pieces = -(-sums.single // SLICE_NUMBERS)
    first, stop = pieces * index // workers, pieces * (index + 1) // workers
    return slice(first * SLICE_NUMBERS, min(stop * SLICE_NUMBERS, sums.single))
