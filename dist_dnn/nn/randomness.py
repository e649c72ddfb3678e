"""Random generators keyed by integers, so that no draw depends on who makes it or when."""

from enum import IntEnum

import numpy as np


class Purpose(IntEnum):
    """What a generator is for; the numbers are part of the numerics."""

    INITIALISATION = 1
    ORDER = 2


def generator(
    seed: int, purpose: Purpose, *, epoch: int = 0, step: int = 0, shard: int = 0, layer: int = 0
) -> np.random.Generator:
    """The generator of one key (seed, purpose, epoch, step, shard, layer).

    Seeded through SeedSequence (O'Neill's hashing of a sequence of integers); the same key gives
    the same stream everywhere.
    """
    key = (seed, int(purpose), epoch, step, shard, layer)
    return np.random.Generator(np.random.PCG64(np.random.SeedSequence(key)))
