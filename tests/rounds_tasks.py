"""Tasks that tests put under every group of workers."""

import os
import signal
import time
from collections.abc import Mapping

import numpy as np

from dist_dnn.data.dataset import Dataset
from dist_dnn.errors import InputError
from dist_dnn.rounds import Exchange, Options, ShardTask, Sizes, Vectors


class Remembering(ShardTask):
    """Three rounds that need what the rounds before have left with each shard.

    Round 0 makes numbers from the shard; round 1 scales them by what is broadcast; round 2 gives
    them back with how many rounds the shard has seen.
    """

    def __init__(
        self, options: Options, datasets: Mapping[str, Dataset], exchange: Exchange
    ) -> None:
        super().__init__(options, datasets, exchange)
        self.numbers: dict[int, np.ndarray] = {}
        self.rounds: dict[int, int] = {}

    @classmethod
    def sizes(cls, options: Options) -> tuple[Sizes, Sizes]:
        return Sizes(options["length"], 1), Sizes(options["length"], 2)

    def shard_sums(self, shard: int, position: tuple[int, ...], sums: Vectors) -> None:
        if position[0] == 0:
            draws = np.random.default_rng(shard).normal(size=self.options["length"])
            self.numbers[shard] = draws.astype(np.float32)
            self.rounds[shard] = 0
        elif position[0] == 1:
            self.numbers[shard] *= self.exchange.broadcast.single
            self.numbers[shard] += np.float32(self.exchange.broadcast.double[0])
        self.rounds[shard] += 1
        sums.single[:] = self.numbers[shard]
        sums.double[:] = self.rounds[shard], shard


class Failing(ShardTask):
    """Fails in the shards of the options, as they say."""

    @classmethod
    def sizes(cls, options: Options) -> tuple[Sizes, Sizes]:
        return Sizes(0, 0), Sizes(3, 1)

    def shard_sums(self, shard: int, position: tuple[int, ...], sums: Vectors) -> None:
        sums.single[:] = 1
        sums.double[:] = 1
        if shard not in self.options["shards"]:
            return
        match self.options["how"]:
            case "input":
                raise InputError(f"shard {shard} has bad data")
            case "bug":
                raise KeyError("nothing of that name")
            case "die":
                os._exit(3)
            case "sleep":
                time.sleep(self.options["seconds"])


class Whereabouts(ShardTask):
    """Says in which process each shard is computed."""

    @classmethod
    def sizes(cls, options: Options) -> tuple[Sizes, Sizes]:
        return Sizes(0, 0), Sizes(0, options["shards"])

    def shard_sums(self, shard: int, position: tuple[int, ...], sums: Vectors) -> None:
        sums.double[:] = 0
        sums.double[shard] = os.getpid()


class Overbearing(ShardTask):
    """Writes what only the driver may write."""

    @classmethod
    def sizes(cls, options: Options) -> tuple[Sizes, Sizes]:
        return Sizes(3, 3), Sizes(0, 1)

    def shard_sums(self, shard: int, position: tuple[int, ...], sums: Vectors) -> None:
        self.exchange.broadcast.single[0] = 1


def once(marker: str) -> bool:
    """True for the first that asks with this marker, a file that is then there."""
    try:
        os.close(os.open(marker, os.O_CREAT | os.O_EXCL))
    except FileExistsError:
        return False
    return True


class Perishing(Remembering):
    """Remembers like the other, but the workers of some shards perish once in some round.

    Options: length, shards, round, how, marker, the beginning of files' names, and spared, a
    process that does not.
    """

    def shard_sums(self, shard: int, position: tuple[int, ...], sums: Vectors) -> None:
        if position[0] == self.options["round"]:
            perish(shard, self.options)
        super().shard_sums(shard, position, sums)


class Stillborn(Remembering):
    """Remembers, but the workers of some shards perish once while they make the task."""

    def __init__(
        self, options: Options, datasets: Mapping[str, Dataset], exchange: Exchange
    ) -> None:
        for leaf in exchange.additions.leaves:
            perish(leaf.shard, options)
        super().__init__(options, datasets, exchange)


def perish(shard: int, options: Options) -> None:
    """End, stop or hang this process as the options say; nothing where it was done before."""
    if os.getpid() == options["spared"]:
        return
    always = options["marker"] is None
    if shard in options["shards"] and (always or once(f"{options['marker']}{shard}")):
        if options["how"] == "hang":
            time.sleep(3600)
        os.kill(os.getpid(), signal.Signals[options["how"]])
        time.sleep(1)  # it may hit another thread, and this one a moment later
