"""Which blocks of a step are computed together: stacks of blocks with equal rows.

A stack's products still are one call of the BLAS a block, so stacking changes no bit; it saves
calls from Python.
"""

from collections.abc import Iterator
from itertools import groupby
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from dist_dnn.nn.network import Gradients, Network
from dist_dnn.nn.propagation import Arrays, Factors
from dist_dnn.rounds import Exchange, Sizes, Vectors
from dist_dnn.shards import BLOCK_ROWS

STACK_ROWS = BLOCK_ROWS
"""The most rows of a stack, so that its arrays stay small."""


class Block(NamedTuple):
    """Up to BLOCK_ROWS rows of one shard's slice of a batch.

    Attributes:
        leaf: which of the shards held, counted from 0.
        start: where its rows begin within the slice.
        rows: how many; 0 when the batch has no row of the shard.
        slot: where its sums go.
        additions: pairs (into, other) of slots to add afterwards.
    """

    leaf: int
    start: int
    rows: int
    slot: int
    additions: tuple[tuple[int, int], ...]


class GradientCall(NamedTuple):
    """Blocks whose gradients one call computes, with its arguments."""

    blocks: list[Block]
    losses: NDArray[np.float64]
    factors: Factors
    sums: Gradients


class Stack(NamedTuple):
    """Blocks of equal rows, side by side in the arrays of one pass."""

    blocks: list[Block]
    arrays: Arrays
    calls: list[GradientCall]


class Stacks:
    """The stacks of every step of a task, with memory allocated once.

    Args:
        network: gives the shapes.
        exchange: the shards held, and the slots of their sums.
        largest_slice: the most rows that a shard has in a batch.

    Attributes:
        slots: each slot's vectors; behind them, for slices of several blocks, one more.
    """

    def __init__(self, network: Network, exchange: Exchange, largest_slice: int) -> None:
        self.network = network
        self.exchange = exchange
        self.leaves = exchange.additions.leaves
        self.slots = [exchange.slots.slot(slot) for slot in range(exchange.additions.slots)]
        if largest_slice > BLOCK_ROWS:
            sizes = Sizes(network.parameter_count, exchange.slots.double.shape[1])
            self.slots.append(Vectors.zeros(sizes))
        rows = min(largest_slice * len(self.leaves), STACK_ROWS)
        self.memory = np.zeros(Arrays.size(network, rows), np.float32)
        self._known: dict[tuple[int, ...], list[Block | Stack]] = {}

    def of(self, rows: tuple[int, ...]) -> list[Block | Stack]:
        """What to compute, in order, when the shards held have so many rows in the batch.

        A Block by itself has no rows.
        """
        if rows not in self._known:
            self._known[rows] = list(self._plan(rows))
        return self._known[rows]

    def _plan(self, rows: tuple[int, ...]) -> Iterator[Block | Stack]:
        blocks = [block for leaf, count in enumerate(rows) for block in self._blocks(leaf, count)]
        for count, alike in groupby(blocks, key=lambda block: block.rows):
            neighbours = list(alike)
            if count == 0:
                yield from neighbours
                continue
            most = max(1, STACK_ROWS // count)
            for first in range(0, len(neighbours), most):
                yield self._stack(neighbours[first : first + most])

    def _blocks(self, leaf: int, rows: int) -> Iterator[Block]:
        """The slice's blocks: those after the first are added to it from the slot behind all."""
        slot, additions = self.leaves[leaf].slot, self.leaves[leaf].additions
        if rows <= BLOCK_ROWS:
            yield Block(leaf, 0, rows, slot, additions)
            return
        behind = len(self.slots) - 1
        for start in range(0, rows, BLOCK_ROWS):
            last = start + BLOCK_ROWS >= rows
            yield Block(
                leaf,
                start,
                min(BLOCK_ROWS, rows - start),
                behind if start else slot,
                (((slot, behind),) if start else ()) + (additions if last else ()),
            )

    def _stack(self, blocks: list[Block]) -> Stack:
        arrays = Arrays(self.network, blocks[0].rows, len(blocks), self.memory)
        if self._side_by_side(blocks):
            first = blocks[0].slot
            slots = self.exchange.slots.single[first : first + len(blocks)]
            sums = Gradients(self.network, slots)
            return Stack(blocks, arrays, [GradientCall(blocks, arrays.loss, arrays.factors, sums)])
        calls = [
            GradientCall(
                [block],
                arrays.loss[k : k + 1],
                arrays.by_block[k],
                Gradients(self.network, self.slots[block.slot].single),
            )
            for k, block in enumerate(blocks)
        ]
        return Stack(blocks, arrays, calls)

    def _side_by_side(self, blocks: list[Block]) -> bool:
        """Whether every block has a slot of its own, behind that of the block before it."""
        return self.exchange.additions.spread and all(
            block.slot == blocks[0].slot + k and block.start == 0 for k, block in enumerate(blocks)
        )
