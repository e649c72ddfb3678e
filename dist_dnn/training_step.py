"""The training step of a worker: its shards' rows of one batch, forward, loss and backward."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dist_dnn.account import ACCOUNT, ADDITION, BACKWARD, FORWARD, GATHER
from dist_dnn.data.dataset import Dataset
from dist_dnn.data.features import Features
from dist_dnn.data.targets import Target
from dist_dnn.nn.network import Network, Parameters
from dist_dnn.nn.propagation import backward, forward, gradients, losses
from dist_dnn.rounds import Exchange, Options, Sizes, Task
from dist_dnn.shards import batch_slice, epoch_order
from dist_dnn.stacks import Empty, Stack, Stacks

LOSS, WEIGHT, COUNT = range(3)
"""The places of the sums in the float64 vector."""


class TrainingStep(Task):
    """One round a step: takes the parameters, sums dW and db, the losses, weights and counts.

    Options: dataset, network (the arguments of Network), features and target (their JSON), m,
    batch_size, seed. Position: (epoch from 1, batch of the epoch from 0).
    """

    def __init__(
        self, options: Options, datasets: Mapping[str, Dataset], exchange: Exchange
    ) -> None:
        super().__init__(options, datasets, exchange)
        self.m, self.batch_size, self.seed = options["m"], options["batch_size"], options["seed"]
        self.leaves = exchange.additions.leaves
        dataset = datasets[options["dataset"]]
        features = Features.from_json(options["features"])
        target = Target.from_json(options["target"])
        self.shards = []
        for leaf in self.leaves:
            self.shard = leaf.shard
            self.shards.append(dataset.shard(leaf.shard, features, target))
        dataset.rest()
        network = Network(**options["network"])
        self.parameters = Parameters(network, exchange.broadcast.single)
        # No shard has more rows in a batch than shard 0 in the first.
        first, stop = self._slice(0, 0)
        weighted = any(shard.weights.training is not None for shard in self.shards)
        self.stacks = Stacks(network, exchange, stop - first, weighted)
        self.orders: list[NDArray[np.int64]] = []
        self.truths: list[NDArray[Any]] = []
        self.weights: list[NDArray[np.float32] | None] = []
        self.epoch = 0
        self._account()

    @classmethod
    def sizes(cls, options: Options) -> tuple[Sizes, Sizes]:
        parameters = Network(**options["network"]).parameter_count
        return Sizes(parameters, 0), Sizes(parameters, 3)

    def run(self, position: tuple[int, ...]) -> None:
        epoch, batch = position
        if epoch != self.epoch:
            self._begin(epoch)
        slices = [self._slice(batch, leaf.shard) for leaf in self.leaves]
        for work in self.stacks.of(tuple([stop - first for first, stop in slices])):
            if isinstance(work, Empty):
                work.sums.single.fill(0)
                work.sums.double.fill(0)
                _add(work.additions)
            else:
                self._gather(work, slices)
                self._compute(work)

    def _account(self) -> None:
        """Note what memory this takes."""
        # An epoch has a number of each row, for the order, and a copy of its truth and weight.
        ACCOUNT.data = sum(each.bytes + 8 * each.rows + each.bytes_beside_X for each in self.shards)
        vectors = [self.exchange.broadcast.single, self.exchange.slots.single]
        if self.stacks.behind is not None:
            vectors.append(self.stacks.behind.single)
        ACCOUNT.vectors = sum(each.nbytes for each in vectors)
        ACCOUNT.activations = self.stacks.memory.nbytes

    def _begin(self, epoch: int) -> None:
        """Let each shard's rows have the order of an epoch."""
        self.orders = [
            epoch_order(self.seed, epoch, leaf.shard, shard.rows)
            for leaf, shard in zip(self.leaves, self.shards, strict=True)
        ]
        self.truths = [
            shard.truth[order] for shard, order in zip(self.shards, self.orders, strict=True)
        ]
        self.weights = [
            None if shard.weights.training is None else shard.weights.training[order]
            for shard, order in zip(self.shards, self.orders, strict=True)
        ]
        self.epoch = epoch

    def _slice(self, batch: int, shard: int) -> tuple[int, int]:
        shards = self.exchange.additions.shards
        return batch_slice(batch, self.batch_size, self.m, shard, shards)

    def _gather(self, stack: Stack, slices: list[tuple[int, int]]) -> None:
        """A[0] = X, Y and w of each block, straight into the arrays of the pass."""
        for block, (X, Y, w) in zip(stack.blocks, stack.inputs, strict=True):
            first = slices[block.leaf][0] + block.start
            stop = first + block.rows
            shard = self.shards[block.leaf]
            shard.gather(self.orders[block.leaf][first:stop], X)
            shard.encode(self.truths[block.leaf][first:stop], Y)
            weights = self.weights[block.leaf]
            if weights is not None and w is not None:
                np.copyto(w, weights[first:stop])
        ACCOUNT.lap(GATHER)

    def _compute(self, stack: Stack) -> None:
        forward(self.parameters, stack.arrays)
        losses(stack.arrays)
        ACCOUNT.lap(FORWARD)
        backward(self.parameters, stack.arrays)
        for call in stack.calls:
            gradients(call.factors, call.gradients)
            ACCOUNT.lap(BACKWARD)
            call.sums[:, LOSS] = call.losses[:, 0, 0]
            call.sums[:, WEIGHT] = call.weights[:, 0, 0]
            call.sums[:, COUNT] = call.rows
            _add(call.additions)
            ACCOUNT.lap(ADDITION)


def _add(additions: list[tuple[NDArray[Any], NDArray[Any]]]) -> None:
    for into, other in additions:
        np.add(into, other, out=into)
