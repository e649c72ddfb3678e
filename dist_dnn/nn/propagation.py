"""Forward and backward propagation over blocks of examples, in place, as in the lecture.

Examples are columns: A[0] = X has shape (n[0], m). A *stack* holds several blocks of m examples
side by side, and gives each of them the bits that it has by itself. What is elementwise goes over
all of its examples at once. A product makes the very calls of the BLAS that a block by itself would
make, unless ``undivided.py`` has found that one call gives the same bits.
"""

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from dist_dnn.nn.activations import Array
from dist_dnn.nn.losses import output_gradient
from dist_dnn.nn.network import Gradients, Network, Parameters, check_shape

_ALIGNMENT = 16  # numbers; 64 bytes of float32, a line of the cache


class Factors(NamedTuple):
    """What dW[l] and db[l] are products of: A[l] and dZ[l], (n[l], m), and ones, (m, 1)."""

    A: Mapping[int, Array]
    dZ: Mapping[int, Array]
    ones: Array

    def of_blocks(self, blocks: slice) -> "Factors":
        """Those of some blocks of a stack."""
        A = {l: each[blocks] for l, each in self.A.items()}
        return Factors(A, {l: each[blocks] for l, each in self.dZ.items()}, self.ones)


class Product(NamedTuple):
    """What a layer's weights are multiplied with, and where the product goes.

    Both are (..., m), or both (n, m * blocks) where it may run over all blocks at once.
    """

    right: Array
    out: Array


class Arrays:
    """The arrays of one pass over m examples, or over a stack of blocks of m, allocated once.

    In memory the hidden layers' arrays are rows: (n[l], m) is the transposed view of a C-contiguous
    array, as the products like it. Those of the output layer are columns, since its sums over
    units then run over many examples at a time; only dZ[L], which goes into products, is rows.

    Args:
        network: gives the shapes.
        m: examples in a block, at least 1.
        blocks: None for plain (n[l], m) arrays, else how many blocks.
        memory: a flat array to lay them in, at least ``Arrays.size(network, m * blocks)`` long;
            a new one when None.
        dtype: of new memory.
        weighted: whether each example has a weight, by which its loss is multiplied.

    Attributes:
        X: A[0], (n[0], m), for a stack (blocks, n[0], m); filled by the caller before ``forward``.
        Y: the truth, (n[L], m), for a stack (blocks, n[L], m); filled by the caller before
            ``losses`` and ``backward``.
        w: the weights of the examples, (1, m), filled like Y; None where all count alike.
        Z, A, dZ: by layer, (n[l], m); Z and dZ from l = 1, A from l = 0. For a stack the output
            layer has a leading axis, and the others hold all examples: (n[l], m * blocks). dZ[l]
            of a hidden layer overwrites Z[l], which is not needed by then.
        WA: W[l] A[l-1] by layer, in the shapes of Z. It is Z[l] itself, or dZ[L]'s memory.
        row: (1, m), one number an example: its loss without its weight, after ``losses``.
        weight: Σ w of each block in float64, shaped as ``losses`` gives the sums, after it; where
            there are no weights m, always.
        forward_products, backward_products: by layer, for W[l] A[l-1] and W[l]ᵀ dZ[l].
        at_once: both, over all blocks at once.
        factors: what ``gradients`` needs, of all blocks.
    """

    def __init__(
        self,
        network: Network,
        m: int,
        blocks: int | None = None,
        memory: Array | None = None,
        dtype: type[np.floating] = np.float32,
        weighted: bool = False,
    ) -> None:
        leading = () if blocks is None else (blocks,)
        examples = m * (1 if blocks is None else blocks)
        if memory is None:
            memory = np.zeros(self.size(network, examples), dtype)

        def rows(units: int, start: int) -> Array:
            return memory[start : start + units * examples].reshape(examples, units).T

        def columns(units: int, start: int) -> Array:
            return memory[start : start + units * examples].reshape(*leading, units, m)

        def by_block(array: Array) -> Array:
            return array.T.reshape(*leading, m, len(array)).mT

        n, L = network.layer_sizes, network.L
        starts = iter(self._starts(network, examples))
        self.network = network
        self.A = {l: rows(n[l], next(starts)) for l in range(L)}
        self.Z = {l: rows(n[l], next(starts)) for l in range(1, L)}
        self.dZ = self.Z | {L: rows(n[L], next(starts))}
        A, dZ = ({l: by_block(each) for l, each in layers.items()} for layers in (self.A, self.dZ))
        self.WA = self.Z | {L: dZ[L]}
        self.forward_products = {l: Product(A[l - 1], dZ[l]) for l in range(1, L + 1)}
        self.backward_products = {l: Product(dZ[l], dZ[l - 1]) for l in range(2, L + 1)}
        self.at_once = (
            {l: Product(self.A[l - 1], self.dZ[l]) for l in range(1, L + 1)},
            {l: Product(self.dZ[l], self.dZ[l - 1]) for l in range(2, L + 1)},
        )
        self.Z[L], self.A[L], self.Y = (columns(n[L], next(starts)) for _ in range(3))
        self.dZ[L] = dZ[L]
        self.X = A[0]
        self.row = columns(1, next(starts))
        w = columns(1, next(starts))
        self.w = w if weighted else None
        shared = next(starts)
        self.scratch = {l: rows(n[l], shared) for l in range(1, L)} | {L: columns(n[L], shared)}
        self.row_in_double = np.empty(self.row.shape, np.float64)
        self.ones_in_double = np.ones((m, 1), np.float64)
        self.loss = np.empty((*leading, 1, 1), np.float64)
        self.weight = np.full_like(self.loss, m)
        ones = np.ones((m, 1), memory.dtype)
        self.factors = Factors(A, dZ, ones)

    @classmethod
    def of(cls, network: Network, X: Array, Y: Array, w: Array | None = None) -> "Arrays":
        """Arrays that hold a copy of X (n[0], m), Y (n[L], m) and w (1, m), in the type of X.

        Raises:
            DimensionError: one of them has another shape.
        """
        m = X.shape[-1]
        check_shape(1, "A[0] = X", X, (network.layer_sizes[0], m))
        check_shape(network.L, "Y", Y, (network.layer_sizes[-1], m))
        arrays = cls(network, m, dtype=X.dtype.type, weighted=w is not None)
        arrays.X[:] = X
        arrays.Y[:] = Y
        if arrays.w is not None and w is not None:
            check_shape(network.L, "w", w, (1, m))
            arrays.w[:] = w
        return arrays

    def read(self, X: Array) -> None:
        """Let ``forward`` read A[0] = X (n[0], m) where it is; there is no way back then."""
        self.forward_products[1] = self.forward_products[1]._replace(right=X)

    @classmethod
    def size(cls, network: Network, examples: int) -> int:
        """How many numbers of memory a pass over so many examples needs."""
        return cls._starts(network, examples)[-1]

    @staticmethod
    def _starts(network: Network, examples: int) -> list[int]:
        """Where A[0…L-1], Z[1…L-1], dZ[L], Z[L], A[L], Y, row, w, scratch begin, and all ends."""
        n = network.layer_sizes
        starts = [0]
        for units in (*n[:-1], *n[1:-1], *(n[-1],) * 4, 1, 1, max(n[1:])):
            length = units * examples
            starts.append(starts[-1] + length + -length % _ALIGNMENT)
        return starts


class ArraysByLength:
    """Arrays of passes over up to so many examples, by how many there are, in the same memory."""

    def __init__(self, network: Network, most: int, weighted: bool = False) -> None:
        self._network = network
        self._weighted = weighted
        self._memory = np.zeros(Arrays.size(network, most), np.float32)
        self._known: dict[int, Arrays] = {}

    def of(self, m: int) -> Arrays:
        """Those of a pass over m examples; what the ones before held is overwritten with them."""
        if m not in self._known:
            self._known[m] = Arrays(self._network, m, memory=self._memory, weighted=self._weighted)
        return self._known[m]


def product(left: Array, right: Array, out: Array) -> None:
    """out = left right; outer products, which NumPy does not give to the BLAS, elementwise."""
    if left.shape[-1] == 1:
        np.multiply(left, right, out=out)
    else:
        np.matmul(left, right, out=out)


def forward(parameters: Parameters, arrays: Arrays) -> Array:
    """Z[l] = W[l] A[l-1] + b[l] and A[l] = g[l](Z[l]), for l = 1 … L.

    Returns:
        Ŷ = A[L], (n[L], m), a view.
    """
    W, b, WA, Z, A = parameters.W, parameters.b, arrays.WA, arrays.Z, arrays.A
    network = parameters.network
    L, g = network.L, network.hidden_activation.g
    for l in range(1, L + 1):
        product(W[l], *arrays.forward_products[l])  # WA[l] = W[l] A[l-1]
        np.add(WA[l], b[l], out=Z[l])
        if l < L:
            g(Z[l], A[l])
    network.output_loss.output(Z[L], A[L], arrays.row)
    return A[L]


def losses(arrays: Arrays) -> NDArray[np.float64]:
    """Each example's loss, into ``arrays.row``, and their sum Σ w · loss over each block.

    Args:
        arrays: as ``forward`` left them, with Y and w filled.

    Returns:
        The sums in float64, (1, 1), or (blocks, 1, 1) for a stack; overwritten by the next call.
        Those of the weights are in ``arrays.weight``.
    """
    L, w = arrays.network.L, arrays.w
    arrays.network.output_loss.losses(
        arrays.Z[L], arrays.A[L], arrays.Y, arrays.scratch[L], arrays.row
    )
    if w is not None:
        np.copyto(arrays.row_in_double, w)
        np.matmul(arrays.row_in_double, arrays.ones_in_double, out=arrays.weight)
    np.copyto(arrays.row_in_double, arrays.row)
    if w is not None:
        np.multiply(arrays.row_in_double, w, out=arrays.row_in_double)
    return np.matmul(arrays.row_in_double, arrays.ones_in_double, out=arrays.loss)


def backward(parameters: Parameters, arrays: Arrays) -> None:
    """dZ[L] = (A[L] − Y) * w and dZ[l-1] = W[l]ᵀ dZ[l] * g[l-1]'(Z[l-1]), for l = L … 2.

    Args:
        parameters: those of ``forward``.
        arrays: as ``forward`` left them, with Y and w filled; dZ[l] replaces Z[l].
    """
    W, A, dZ = parameters.W, arrays.A, arrays.dZ
    network = parameters.network
    output_gradient(A[network.L], arrays.Y, dZ[network.L])
    if arrays.w is not None:
        np.multiply(dZ[network.L], arrays.w, out=dZ[network.L])
    for l in range(network.L, 1, -1):
        product(W[l].mT, *arrays.backward_products[l])  # dA[l-1] = W[l]ᵀ dZ[l], into dZ[l-1]
        network.hidden_activation.times_derivative(dZ[l - 1], A[l - 1], arrays.scratch[l - 1])


def gradients(factors: Factors, sums: Gradients) -> None:
    """dW[l] = dZ[l] A[l-1]ᵀ and db[l] = the sum of dZ[l] over its columns, for l = L … 1.

    Args:
        factors: of arrays as ``backward`` left them.
        sums: dW and db, written: sums over the m examples, not divided.
    """
    A, dZ, ones = factors
    for l in range(sums.network.L, 0, -1):
        product(dZ[l], A[l - 1].mT, sums.dW[l])
        np.matmul(dZ[l], ones, out=sums.db[l])  # the sum over columns, by the BLAS too
