"""The fingerprint of a data set: a hash of its rows as they are trained on, made by the workers."""

import hashlib
from collections.abc import Mapping

import numpy as np

from dist_dnn.data.dataset import Dataset
from dist_dnn.data.features import Features
from dist_dnn.data.targets import Target
from dist_dnn.rounds import Exchange, Group, Options, ShardTask, Sizes, Vectors

WORDS = 8
"""SHA-256 as 32-bit words: float64 holds the exact sum of those of 2^16 shards, the most there are,
so that a round can add them like everything else."""


class Fingerprint(ShardTask):
    """One round: adds the hashes of all shards, each of its number, its rows and their weights.

    Options: dataset, features and target (their JSON).
    """

    def __init__(
        self, options: Options, datasets: Mapping[str, Dataset], exchange: Exchange
    ) -> None:
        super().__init__(options, datasets, exchange)
        self.dataset = datasets[options["dataset"]]
        self.features = Features.from_json(options["features"])
        self.target = Target.from_json(options["target"])

    @classmethod
    def sizes(cls, options: Options) -> tuple[Sizes, Sizes]:
        return Sizes(0, 0), Sizes(0, WORDS)

    def shard_sums(self, shard: int, position: tuple[int, ...], sums: Vectors) -> None:
        rows = self.dataset.shard(shard, self.features, self.target)
        digest = hashlib.sha256(f"{shard}:".encode())
        digest.update(rows.X.data)
        digest.update(rows.truth.data)
        for weights in rows.weights:
            if weights is not None:
                digest.update(weights.data)
        sums.double[:] = np.frombuffer(digest.digest(), "<u4")


def content_hash(group: Group, dataset: str, features: Features, target: Target) -> str:
    """The sum of the shards' hashes: the same for the same rows, wherever they come from.

    Returns:
        96 hexadecimal digits.
    """
    options = {"dataset": dataset, "features": features.to_json(), "target": target.to_json()}
    rounds = group.open(Fingerprint, options)
    words = group.surviving(rounds.run).double
    return "".join(f"{int(word):012x}" for word in words)
