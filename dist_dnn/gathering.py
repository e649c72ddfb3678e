"""Bytes from every shard, brought to the driver by rounds of sums."""

from abc import abstractmethod
from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from dist_dnn.rounds import Exchange, Group, Options, Rounds, ShardTask, Sizes, Vectors

if TYPE_CHECKING:
    from dist_dnn.data.dataset import Dataset

LENGTHS, WINDOW = range(2)
"""The positions of the rounds: the first asks for lengths, each other one for some bytes."""

WINDOW_BYTES = 2**17
"""A round brings so many bytes of all messages."""


class Gathering(ShardTask):
    """The messages of all shards, end to end, a window at a time.

    Each shard writes what it has in the window and leaves the rest 0, so that the sum is all of it.

    Options: shards.
    Position: (LENGTHS,) or (WINDOW, the window's first byte). Broadcast (round WINDOW): where each
    shard's message begins. Sums: a byte a number; the length of each shard's message.
    """

    def __init__(
        self, options: Options, datasets: Mapping[str, "Dataset"], exchange: Exchange
    ) -> None:
        super().__init__(options, datasets, exchange)
        self.messages: dict[int, bytes] = {}

    @classmethod
    def sizes(cls, options: Options) -> tuple[Sizes, Sizes]:
        return Sizes(0, options["shards"]), Sizes(WINDOW_BYTES, options["shards"])

    @abstractmethod
    def message(self, shard: int) -> bytes:
        """What the shard has to say."""

    def shard_sums(self, shard: int, position: tuple[int, ...], sums: Vectors) -> None:
        sums.single[:] = 0
        sums.double[:] = 0
        if position == (LENGTHS,):
            self.messages[shard] = self.message(shard)
            sums.double[shard] = len(self.messages[shard])
            return
        message = np.frombuffer(self.messages[shard], np.uint8)
        begin = int(self.exchange.broadcast.double[shard]) - position[1]
        inside = slice(max(begin, 0), max(begin + len(message), 0))
        window = sums.single[inside]
        skipped = inside.start - begin
        window[:] = message[skipped : skipped + len(window)]


def gather(group: Group, task: type[Gathering], options: Options) -> list[bytes]:
    """The message of each shard, in their order.

    Raises:
        InputError: a worker met bad data.
        RunError: a worker failed, or too many were lost.
    """
    rounds = group.open(task, {**options, "shards": group.shards})
    return group.surviving(lambda: _gather(rounds))


def _gather(rounds: Rounds) -> list[bytes]:
    lengths = rounds.run(LENGTHS).double.astype(np.int64)
    ends = np.cumsum(lengths)
    rounds.broadcast.double[:] = ends - lengths
    windows = [
        rounds.run(WINDOW, first).single.astype(np.uint8).tobytes()
        for first in range(0, int(ends[-1]), WINDOW_BYTES)
    ]
    together = b"".join(windows)
    return [together[end - length : end] for end, length in zip(ends, lengths, strict=True)]
