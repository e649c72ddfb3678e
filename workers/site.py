"""A site: workers that share memory, as the process that heads them sees it."""

import os
import platform
import secrets
from collections.abc import Sequence

from dist_dnn.rounds import Sizes
from workers.shared_memory import (
    ORDERED_STORES,
    Address,
    Arena,
    Board,
    Segment,
)

Shards = tuple[int, ...]
"""Those that a worker holds."""

Subtree = tuple[int, int]
"""The shards [first, stop) of a complete subtree."""


class Site:
    """The words and the slots of workers that share this process's memory; there may be none.

    Args:
        held: the shards of each.
        shards: S.
        generation: of the last round before.

    Attributes:
        board: the words.
        arenas: the slots of the tasks that are open, by number.
    """

    def __init__(self, held: Sequence[Shards], shards: int, generation: int) -> None:
        self.held = list(held)
        self.shards = shards
        self._segment = Segment.create(Board.size(len(held)))
        self.board = Board(self._segment.memory)
        self.board.driver[Board.GENERATION] = generation
        self.arenas: dict[int, Arena] = {}

    @property
    def address(self) -> Address:
        """Of the words."""
        return self._segment.address

    def open(self, number: int, sums: Sizes) -> Address:
        """Make the slots of a task; returns where they are."""
        self._forget(number)
        self.arenas[number] = arena = Arena(self.held, self.shards, sums)
        return arena.segment.address

    def is_over(self, generation: int) -> bool:
        """Whether the round has ended: all have finished, one has failed, or it is given up."""
        board = self.board
        return (
            board.is_finished(generation)
            or any(words[Board.FAILED] == generation for words in board.workers)
            or board.driver[Board.ABANDONED] >= generation
        )

    def give_up(self, generation: int) -> None:
        """Let all workers end the round without its sums."""
        self.board.driver[Board.ABANDONED] = generation

    def close(self) -> None:
        """Let go of all descriptors; workers that have the memory keep it."""
        for number in list(self.arenas):
            self._forget(number)
        self._segment.close_descriptor()

    def _forget(self, number: int) -> None:
        arena = self.arenas.pop(number, None)
        if arena is not None:
            arena.segment.close_descriptor()


class Probe:
    """Memory with a secret in it: whoever can read it shares memory with this process."""

    BYTES = 16

    def __init__(self) -> None:
        self._segment = Segment.create(self.BYTES)
        self.secret = secrets.token_bytes(self.BYTES)
        self._segment.memory[:] = self.secret

    @property
    def address(self) -> Address:
        return self._segment.address

    def close(self) -> None:
        self._segment.close_descriptor()


def shares_memory(address: Address, secret: bytes) -> bool:
    """Whether this process can have the memory of the one that made a probe."""
    if platform.machine() not in ORDERED_STORES or not os.path.isdir("/proc/self/fd"):
        return False
    try:
        return Segment.of(address, read_only=True).memory[: Probe.BYTES] == secret
    except (OSError, ValueError):
        return False
