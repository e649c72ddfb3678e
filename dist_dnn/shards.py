"""Logical shards: which rows each holds, its slice of each batch, and the order of addition.

Everything here is a function of the experiment (m, batch size B, shards S, seed), never of how
many workers there are: that is why no bit of a result depends on them.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from dist_dnn.nn.randomness import Purpose, generator

BLOCK_ROWS = 4096
"""A slice of more rows runs as consecutive blocks of so many; part of the numerics."""

NEIGHBOURS = 4
"""So many shards of a subtree have a slot each: ⌈log2 h⌉ + 2 slots suffice for the h neighbours
that ``assign`` gives."""

CHUNK_ROWS = 1024
"""Evaluation and prediction go through a shard in chunks of so many rows."""


def rows_before(position: int, shard: int, shards: int) -> int:
    """c(p, s) = max(0, ⌈(p − s)/S⌉: how many of the positions 0 … p − 1 belong to the shard."""
    return max(0, -((shard - position) // shards))


def shard_range(m: int, shard: int, shards: int) -> tuple[int, int]:
    """The rows [start, stop) of the shard, in the order of the files, among all m."""
    larger, rest = min(shard, m % shards), m // shards
    start = shard * rest + larger
    return start, start + rows_before(m, shard, shards)


def batches_in_epoch(m: int, batch_size: int) -> int:
    """⌈m / B⌉."""
    return -(-m // batch_size)


def batch_slice(batch: int, batch_size: int, m: int, shard: int, shards: int) -> tuple[int, int]:
    """The permuted rows [start, stop) that batch t = 0, 1, … takes from the shard."""
    start, stop = batch * batch_size, min((batch + 1) * batch_size, m)
    return rows_before(start, shard, shards), rows_before(stop, shard, shards)


def epoch_order(seed: int, epoch: int, shard: int, rows: int) -> NDArray[np.int64]:
    """The shard's permutation of its rows in an epoch."""
    return generator(seed, Purpose.ORDER, epoch=epoch, shard=shard).permutation(rows)


def assign(shards: int, workers: int) -> list[tuple[int, ...]]:
    """Which shards each worker holds: neighbours, as evenly as can be."""
    bounds = [shard_range(shards, worker, workers) for worker in range(workers)]
    return [tuple(range(start, stop)) for start, stop in bounds]


def middle(first: int, stop: int) -> int:
    """Where the tree splits the shards [first, stop)."""
    return first + (stop - first + 1) // 2


@dataclass(frozen=True)
class Leaf:
    """One held shard in a worker's additions: its slot, and what to add when it is there.

    Attributes:
        shard: the shard's number.
        slot: where its sums go.
        additions: pairs (into, other) of slots to add, in order, once its sums, and those of the
            leaves before it, are in place.
    """

    shard: int
    slot: int
    additions: tuple[tuple[int, int], ...]


@dataclass
class Additions:
    """How a worker adds the sums of the shards it holds along the fixed binary tree.

    Args:
        held: the shards held, ascending.
        shards: S.

    Attributes:
        leaves: one for each shard held, in the order in which they must be computed.
        subtrees: the complete subtrees held, [first, stop) with the slot of their sum; the largest
            first, as that takes the fewest slots.
        slots: how many slots there are. Larger subtrees use few slots again and again; the shards
            of one with at most NEIGHBOURS lie behind one another, and are added together.
    """

    held: tuple[int, ...]
    shards: int
    leaves: list[Leaf] = field(default_factory=list)
    subtrees: dict[tuple[int, int], int] = field(default_factory=dict)
    slots: int = 0

    def __post_init__(self) -> None:
        subtrees = complete_subtrees(self.held, self.shards)
        for first, stop in sorted(subtrees, key=lambda subtree: subtree[0] - subtree[1]):
            self.subtrees[first, stop] = slot = len(self.subtrees)
            self._visit(first, stop, slot, ())

    def _visit(self, first: int, stop: int, slot: int, after: tuple[tuple[int, int], ...]) -> None:
        if stop - first <= NEIGHBOURS:
            self._neighbours(first, stop, slot, after)
            return
        split = middle(first, stop)
        self._visit(first, split, slot, ())
        self._visit(split, stop, slot + 1, ((slot, slot + 1), *after))

    def _neighbours(
        self, first: int, stop: int, slot: int, after: tuple[tuple[int, int], ...]
    ) -> None:
        slots = {(shard, shard + 1): slot + shard - first for shard in range(first, stop)}
        inside, _ = joining_additions(slots, first, stop)
        for shard in range(first, stop):
            additions = (*inside, *after) if shard == stop - 1 else ()
            self.leaves.append(Leaf(shard, slots[shard, shard + 1], additions))
        self.slots = max(self.slots, slot + len(slots))


def complete_subtrees(held: Iterable[int], shards: int) -> list[tuple[int, int]]:
    """The largest subtrees [first, stop) of the tree whose shards are all held, ascending."""
    remaining = set(held)

    def visit(first: int, stop: int) -> list[tuple[int, int]]:
        inside = sum(shard in remaining for shard in range(first, stop))
        if inside == stop - first:
            return [(first, stop)]
        if inside == 0:
            return []
        split = middle(first, stop)
        return visit(first, split) + visit(split, stop)

    return visit(0, shards)


Place = TypeVar("Place")


def joining_additions(
    subtrees: Mapping[tuple[int, int], Place], first: int, stop: int
) -> tuple[list[tuple[Place, Place]], Place]:
    """How workers' subtrees are added up along the same tree.

    Args:
        subtrees: where the sum of each subtree is; together they cover [first, stop).
        first, stop: the subtree to add up; all of the tree is [0, S).

    Returns:
        Pairs (into, other) of places to add, in order, and the place of the total.
    """
    additions: list[tuple[Place, Place]] = []

    def visit(first: int, stop: int) -> Place:
        if (first, stop) in subtrees:
            return subtrees[first, stop]
        split = middle(first, stop)
        left, right = visit(first, split), visit(split, stop)
        additions.append((left, right))
        return left

    total = visit(first, stop)
    return additions, total
