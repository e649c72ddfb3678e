"""Which blocks of a step are computed together: stacks of blocks with equal rows.

A block in a stack has the bits that it has by itself: stacking changes nothing but speed, since it
saves calls from Python.
"""

from collections.abc import Iterator, Sequence
from itertools import groupby
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from dist_dnn.nn.network import Gradients, Network, Parameters
from dist_dnn.nn.propagation import Arrays, Factors
from dist_dnn.nn.undivided import undivide
from dist_dnn.rounds import Exchange, Sizes, Vectors
from dist_dnn.shards import BLOCK_ROWS

STACK_ROWS = BLOCK_ROWS
"""The most rows of a stack, so that its arrays stay small."""

PIECE = 32_768
"""Vectors are added in pieces of so many numbers: five of them lie in the second-level cache."""

BEHIND = -1
"""The slot behind all others, for slices of several blocks."""


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
    """What one call computes the gradients of, and what to add once they are there.

    Attributes:
        factors, gradients: its arguments.
        losses, weights: the sums of its blocks' losses and weights, (blocks, 1, 1).
        sums: the float64 sums of the blocks, (blocks, …).
        rows: of each block.
        additions: pairs (into, other) of vectors to add afterwards, in order.
    """

    factors: Factors
    gradients: Gradients
    losses: NDArray[np.float64]
    weights: NDArray[np.float64]
    sums: NDArray[np.float64]
    rows: int
    additions: list[tuple[NDArray[Any], NDArray[Any]]]


class Inputs(NamedTuple):
    """A block's X (n[0], rows) and Y (n[L], rows) in the arrays, and its w (1, rows), if any."""

    X: NDArray[np.float32]
    Y: NDArray[np.float32]
    w: NDArray[np.float32] | None


class Stack(NamedTuple):
    """Blocks of equal rows, side by side in the arrays of one pass.

    Attributes:
        blocks, arrays: theirs.
        inputs: of each block.
        calls: what is left after the backward pass.
    """

    blocks: list[Block]
    arrays: Arrays
    inputs: list[Inputs]
    calls: list[GradientCall]


class Empty(NamedTuple):
    """A block without rows: its sums, which are zeros, and what to add afterwards."""

    sums: Vectors
    additions: list[tuple[NDArray[Any], NDArray[Any]]]


class Stacks:
    """The stacks of every step of a task, with memory allocated once.

    Args:
        network: gives the shapes.
        exchange: the shards held, and the slots of their sums.
        largest_slice: the most rows that a shard has in a batch.
        weighted: whether examples have weights.
    """

    def __init__(
        self, network: Network, exchange: Exchange, largest_slice: int, weighted: bool = False
    ) -> None:
        self.network = network
        self.weighted = weighted
        self.leaves = exchange.additions.leaves
        self.slots = exchange.slots
        self.behind: Vectors | None = None
        if largest_slice > BLOCK_ROWS:
            sizes = Sizes(network.parameter_count, exchange.slots.double.shape[1])
            self.behind = Vectors.zeros_slots(sizes, 1)
        rows = min(largest_slice * len(self.leaves), STACK_ROWS)
        self.memory = np.zeros(Arrays.size(network, rows), np.float32)
        self._random = np.random.default_rng(0)
        self._known: dict[tuple[int, ...], list[Empty | Stack]] = {}

    def of(self, rows: tuple[int, ...]) -> list[Empty | Stack]:
        """What to compute, in order, when the shards held have so many rows in the batch.

        Nothing may be in the arrays when new rows are asked for.
        """
        if rows not in self._known:
            self._known[rows] = list(self._plan(rows))
        return self._known[rows]

    def _plan(self, rows: tuple[int, ...]) -> Iterator[Empty | Stack]:
        blocks = [block for leaf, count in enumerate(rows) for block in self._blocks(leaf, count)]
        for count, alike in groupby(blocks, key=lambda block: block.rows):
            neighbours = list(alike)
            if count == 0:
                for block in neighbours:
                    sums = self.slots.slot(block.slot)
                    yield Empty(sums, self._additions(block.additions))
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
        for start in range(0, rows, BLOCK_ROWS):
            last = start + BLOCK_ROWS >= rows
            yield Block(
                leaf,
                start,
                min(BLOCK_ROWS, rows - start),
                BEHIND if start else slot,
                (((slot, BEHIND),) if start else ()) + (additions if last else ()),
            )

    def _stack(self, blocks: list[Block]) -> Stack:
        arrays = Arrays(
            self.network, blocks[0].rows, len(blocks), self.memory, weighted=self.weighted
        )
        if len(blocks) > 1:
            spare = self.slots.single[blocks[0].slot]
            undivide(arrays, Parameters(self.network, spare).W, self._random)
        w = [None] * len(blocks) if arrays.w is None else arrays.w
        inputs = [Inputs(*each) for each in zip(arrays.X, arrays.Y, w, strict=True)]
        calls = [self._call(blocks, arrays, first, stop) for first, stop in _runs(blocks)]
        return Stack(blocks, arrays, inputs, calls)

    def _call(self, blocks: list[Block], arrays: Arrays, first: int, stop: int) -> GradientCall:
        """For the blocks [first, stop) of a stack, whose slots lie behind one another."""
        slots, slot = self._slots(blocks[first].slot)
        taken, chosen = slice(slot, slot + stop - first), slice(first, stop)
        return GradientCall(
            arrays.factors.of_blocks(chosen),
            Gradients(self.network, slots.single[taken]),
            arrays.loss[chosen],
            arrays.weight[chosen],
            slots.double[taken],
            blocks[first].rows,
            self._additions(blocks[stop - 1].additions),
        )

    def _slots(self, slot: int) -> tuple[Vectors, int]:
        """The slots among which one is, and its number there."""
        if slot != BEHIND:
            return self.slots, slot
        assert self.behind is not None
        return self.behind, 0

    def _additions(
        self, pairs: Sequence[tuple[int, int]]
    ) -> list[tuple[NDArray[Any], NDArray[Any]]]:
        """Pairs of slots as pairs of vectors: piece by piece, so that what was added is at hand."""
        places = [[slots.slot(slot) for slots, slot in map(self._slots, pair)] for pair in pairs]
        pieces = [
            slice(start, start + PIECE) for start in range(0, self.network.parameter_count, PIECE)
        ]
        return [
            *(
                (into.single[piece], other.single[piece])
                for piece in pieces
                for into, other in places
            ),
            *((into.double, other.double) for into, other in places),
        ]


def _runs(blocks: Sequence[Block]) -> Iterator[tuple[int, int]]:
    """The blocks [first, stop) that one call takes each: slots in a row, up to an addition."""
    first = 0
    for stop, block in enumerate(blocks, 1):
        if stop == len(blocks) or block.additions or blocks[stop].slot != block.slot + 1:
            yield first, stop
            first = stop
