"""Matrix products by themselves, to compare a whole training step, or an evaluation, with."""

from collections.abc import Mapping

import numpy as np

from dist_dnn.data.dataset import Dataset
from dist_dnn.nn.network import Gradients, Network, Parameters
from dist_dnn.nn.propagation import Arrays
from dist_dnn.rounds import Exchange, Options, Sizes, Task
from dist_dnn.shards import CHUNK_ROWS, batch_slice, shard_range


class Products(Task):
    """Computes W[l] A[l-1], dZ[l] A[l-1]ᵀ and W[l]ᵀ dZ[l], all rows of a worker at once.

    Options: network (the arguments of Network), batch_size. Position: (repetitions,).
    """

    def __init__(
        self, options: Options, datasets: Mapping[str, Dataset], exchange: Exchange
    ) -> None:
        super().__init__(options, datasets, exchange)
        batch_size, additions = options["batch_size"], exchange.additions
        slices = [
            batch_slice(0, batch_size, batch_size, leaf.shard, additions.shards)
            for leaf in additions.leaves
        ]
        network = Network(**options["network"])
        count = network.parameter_count
        draws = np.random.default_rng(0)
        self.parameters = Parameters(network, draws.standard_normal(count, np.float32))
        self.sums = Gradients(network, np.zeros(count, np.float32))
        self.arrays = Arrays(network, sum(stop - first for first, stop in slices))
        for array in (*self.arrays.A.values(), *self.arrays.dZ.values()):
            array[:] = draws.standard_normal(array.shape, np.float32)
        self.results = Arrays(network, self.arrays.X.shape[-1])

    @classmethod
    def sizes(cls, options: Options) -> tuple[Sizes, Sizes]:
        return Sizes(0, 0), Sizes(0, 1)

    def run(self, position: tuple[int, ...]) -> None:
        W, dW = self.parameters.W, self.sums.dW
        A, dZ = self.arrays.A, self.arrays.dZ
        for _ in range(position[0]):
            for layer in W:
                np.matmul(W[layer], A[layer - 1], out=self.results.WA[layer])
                np.matmul(dZ[layer], A[layer - 1].mT, out=dW[layer])
                if layer > 1:
                    np.matmul(W[layer].mT, dZ[layer], out=self.results.dZ[layer - 1])
        self.exchange.slots.double[:] = 1


class ForwardProducts(Task):
    """Computes W[l] A[l-1] for as many chunks as a data set of ``rows`` rows has.

    Options: network (the arguments of Network), rows. Position: none.
    """

    def __init__(
        self, options: Options, datasets: Mapping[str, Dataset], exchange: Exchange
    ) -> None:
        super().__init__(options, datasets, exchange)
        additions = exchange.additions
        ranges = [shard_range(options["rows"], x.shard, additions.shards) for x in additions.leaves]
        self.chunks = [
            min(CHUNK_ROWS, stop - start)
            for first, stop in ranges
            for start in range(first, stop, CHUNK_ROWS)
        ]
        network = Network(**options["network"])
        draws = np.random.default_rng(0)
        self.parameters = Parameters(
            network, draws.standard_normal(network.parameter_count, np.float32)
        )
        memory = draws.standard_normal(Arrays.size(network, CHUNK_ROWS), np.float32)
        self.arrays = {m: Arrays(network, m, memory=memory) for m in set(self.chunks)}

    @classmethod
    def sizes(cls, options: Options) -> tuple[Sizes, Sizes]:
        return Sizes(0, 0), Sizes(0, 1)

    def run(self, position: tuple[int, ...]) -> None:
        for rows in self.chunks:
            arrays = self.arrays[rows]
            for l, W in self.parameters.W.items():
                np.matmul(W, arrays.A[l - 1], out=arrays.WA[l])
        self.exchange.slots.double[:] = 1
