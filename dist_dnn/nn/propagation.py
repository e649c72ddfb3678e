"""Forward and backward propagation over blocks of examples, in place, as in the lecture.

Examples are columns: A[0] = X has shape (n[0], m). In memory they are rows: every array here is
the transposed view of a C-contiguous one. Arrays may carry a leading axis that numbers blocks of m
examples, (blocks, n[l], m): a *stack*. Everything is computed block by block, with the very calls
of the BLAS that a block by itself would make, and so with the same bits; a stack only saves calls
from Python.
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


class Arrays:
    """The arrays of one pass over m examples, or over a stack of blocks of m, allocated once.

    Args:
        network: gives the shapes.
        m: examples in a block, at least 1.
        blocks: None for plain (n[l], m) arrays, else the length of the leading axis.
        memory: a flat array to lay them in, at least ``Arrays.size(network, m * blocks)`` long;
            a new one when None.
        dtype: of new memory.

    Attributes:
        X: A[0], (n[0], m), filled by the caller before ``forward``.
        Y: the truth, (n[L], m), filled by the caller before ``losses`` and ``backward``.
        Z, A, dZ: by layer, (n[l], m); Z and dZ from l = 1, A from l = 0. dZ[l] overwrites Z[l],
            which is not needed by then.
        row: (1, m), one number an example: its loss, after ``losses``.
        factors: what ``gradients`` needs of all blocks at once.
        by_block: the same of each block of a stack by itself.
    """

    def __init__(
        self,
        network: Network,
        m: int,
        blocks: int | None = None,
        memory: Array | None = None,
        dtype: type[np.floating] = np.float32,
    ) -> None:
        leading = () if blocks is None else (blocks,)
        examples = m * (1 if blocks is None else blocks)
        if memory is None:
            memory = np.zeros(self.size(network, examples), dtype)

        def columns(units: int, start: int) -> Array:
            return memory[start : start + units * examples].reshape(*leading, m, units).mT

        n, L = network.layer_sizes, network.L
        starts = iter(self._starts(network, examples))
        self.network = network
        self.A = {l: columns(n[l], next(starts)) for l in range(L + 1)}
        self.Z = {l: columns(n[l], next(starts)) for l in range(1, L + 1)}
        self.dZ = self.Z
        self.X = self.A[0]
        self.Y = columns(n[L], next(starts))
        self.row = columns(1, next(starts))
        shared = next(starts)
        self.scratch = {l: columns(n[l], shared) for l in range(1, L + 1)}
        self.row_in_double = np.empty(self.row.shape, np.float64)
        self.ones_in_double = np.ones((m, 1), np.float64)
        self.loss = np.empty((*leading, 1, 1), np.float64)
        ones = np.ones((m, 1), memory.dtype)
        self.factors = Factors(self.A, self.dZ, ones)
        self.by_block = [
            Factors(
                {l: A[k] for l, A in self.A.items()},
                {l: dZ[k] for l, dZ in self.dZ.items()},
                ones,
            )
            for k in range(blocks or 0)
        ]

    @classmethod
    def of(cls, network: Network, X: Array, Y: Array) -> "Arrays":
        """Arrays that hold a copy of X (n[0], m) and Y (n[L], m), in the type of X.

        Raises:
            DimensionError: X or Y has another shape.
        """
        m = X.shape[-1]
        check_shape(1, "A[0] = X", X, (network.layer_sizes[0], m))
        check_shape(network.L, "Y", Y, (network.layer_sizes[-1], m))
        arrays = cls(network, m, dtype=X.dtype.type)
        arrays.X[:] = X
        arrays.Y[:] = Y
        return arrays

    @classmethod
    def size(cls, network: Network, examples: int) -> int:
        """How many numbers of memory a pass over so many examples needs."""
        return cls._starts(network, examples)[-1]

    @staticmethod
    def _starts(network: Network, examples: int) -> list[int]:
        """Where A[0…L], Z[1…L], Y, the row and the scratch begin, and where all ends."""
        n = network.layer_sizes
        starts = [0]
        for units in (*n, *n[1:], n[-1], 1, max(n[1:])):
            length = units * examples
            starts.append(starts[-1] + length + -length % _ALIGNMENT)
        return starts


def forward(parameters: Parameters, arrays: Arrays) -> Array:
    """Z[l] = W[l] A[l-1] + b[l] and A[l] = g[l](Z[l]), for l = 1 … L.

    Returns:
        Ŷ = A[L], (n[L], m), a view.
    """
    W, b, Z, A = parameters.W, parameters.b, arrays.Z, arrays.A
    network = parameters.network
    L = network.L
    for l in range(1, L + 1):
        np.matmul(W[l], A[l - 1], out=Z[l])
        np.add(Z[l], b[l], out=Z[l])
        if l < L:
            network.hidden_activation.g(Z[l], A[l])
    network.output_loss.output(Z[L], A[L], arrays.row)
    return A[L]


def losses(arrays: Arrays) -> NDArray[np.float64]:
    """Each example's loss, into ``arrays.row``, and their sum over each block.

    Args:
        arrays: as ``forward`` left them, with Y filled.

    Returns:
        The sums in float64, (1, 1), or (blocks, 1, 1) for a stack; overwritten by the next call.
    """
    L = arrays.network.L
    arrays.network.output_loss.losses(
        arrays.Z[L], arrays.A[L], arrays.Y, arrays.scratch[L], arrays.row
    )
    np.copyto(arrays.row_in_double, arrays.row)
    return np.matmul(arrays.row_in_double, arrays.ones_in_double, out=arrays.loss)


def backward(parameters: Parameters, arrays: Arrays) -> None:
    """dZ[L] = A[L] − Y and dZ[l-1] = W[l]ᵀ dZ[l] * g[l-1]'(Z[l-1]), for l = L … 2.

    Args:
        parameters: those of ``forward``.
        arrays: as ``forward`` left them, with Y filled; dZ[l] replaces Z[l].
    """
    W, A, dZ = parameters.W, arrays.A, arrays.dZ
    network = parameters.network
    output_gradient(A[network.L], arrays.Y, dZ[network.L])
    for l in range(network.L, 1, -1):
        np.matmul(W[l].mT, dZ[l], out=dZ[l - 1])
        network.hidden_activation.times_derivative(dZ[l - 1], A[l - 1], arrays.scratch[l - 1])


def gradients(factors: Factors, sums: Gradients) -> None:
    """dW[l] = dZ[l] A[l-1]ᵀ and db[l] = the sum of dZ[l] over its columns, for l = L … 1.

    Args:
        factors: of arrays as ``backward`` left them.
        sums: dW and db, written: sums over the m examples, not divided.
    """
    A, dZ, ones = factors
    for l in range(sums.network.L, 0, -1):
        np.matmul(dZ[l], A[l - 1].mT, out=sums.dW[l])
        np.matmul(dZ[l], ones, out=sums.db[l])  # the sum over columns, by the BLAS too
