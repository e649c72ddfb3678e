"""The losses with their output activations: loss sums and dZ[L], computed stably from Z[L].

Each loss owns its output activation, so that dZ[L] = A[L] − Y for all three. A loss is a sum over
the examples; it is never divided here.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from dist_dnn.nn.activations import Array, sigmoid


@dataclass(frozen=True)
class Loss:
    """A loss matched with the output activation that makes dZ[L] = A[L] − Y.

    Shapes: Z, A, Y and ``scratch`` (..., n[L], m); ``row`` (..., 1, m), one number an example.

    Attributes:
        name: what hyperparameters call it.
        output: ``output(Z, A, row)`` writes Ŷ = A[L] from Z[L]. Softmax first subtracts each
            column's maximum from Z, in place, which changes no probability, and leaves Σ e^Z
            in ``row``.
        losses: ``losses(Z, A, Y, scratch, row)`` writes each example's loss into ``row``, where
            Z, A and ``row`` are as ``output`` left them; Z may be overwritten.
        one_output: whether n[L] must be 1.
    """

    name: str
    output: Callable[[Array, Array, Array], None]
    losses: Callable[[Array, Array, Array, Array, Array], None]
    one_output: bool = False


def output_gradient(A: Array, Y: Array, dZ: Array) -> None:
    """dZ[L] = A[L] − Y: the gradient of the summed loss by Z[L], for every matched pair."""
    np.subtract(A, Y, out=dZ)


def _logistic(Z: Array, A: Array, row: Array) -> None:
    sigmoid(Z, A)


def _binary_cross_entropy(Z: Array, A: Array, Y: Array, scratch: Array, row: Array) -> None:
    """−Y log σ(Z) − (1 − Y) log(1 − σ(Z)) = max(Z, 0) − Z Y + log(1 + e^-|Z|)."""
    np.absolute(Z, out=scratch)
    np.negative(scratch, out=scratch)
    np.exp(scratch, out=scratch)
    np.log1p(scratch, out=row)
    # max(Z, 0) and Z Y first: where they cancel, the small logarithm keeps all of its digits.
    np.maximum(Z, 0, out=scratch)
    np.multiply(Z, Y, out=Z)
    np.subtract(scratch, Z, out=scratch)
    np.add(row, scratch, out=row)


def _softmax(Z: Array, A: Array, row: Array) -> None:
    """A = e^Z / Σ e^Z by columns; the columns' maxima go first, so that nothing overflows."""
    np.maximum.reduce(Z, axis=-2, keepdims=True, out=row)
    np.subtract(Z, row, out=Z)
    np.exp(Z, out=A)
    np.add.reduce(A, axis=-2, keepdims=True, out=row)
    np.divide(A, row, out=A)


def _cross_entropy(Z: Array, A: Array, Y: Array, scratch: Array, row: Array) -> None:
    """−Σ Y log Ŷ = log Σ e^Z − Σ Y Z, for columns of Y that sum to 1."""
    np.log(row, out=row)
    np.multiply(Z, Y, out=Z)
    sum_of_YZ = scratch[..., :1, :]
    np.add.reduce(Z, axis=-2, keepdims=True, out=sum_of_YZ)
    np.subtract(row, sum_of_YZ, out=row)


def _linear(Z: Array, A: Array, row: Array) -> None:
    np.copyto(A, Z)


def _half_squared_error(Z: Array, A: Array, Y: Array, scratch: Array, row: Array) -> None:
    """½ Σ (A − Y)² by columns."""
    np.subtract(A, Y, out=scratch)
    np.multiply(scratch, scratch, out=scratch)
    np.add.reduce(scratch, axis=-2, keepdims=True, out=row)
    np.multiply(row, 0.5, out=row)


LOSSES = {
    loss.name: loss
    for loss in (
        Loss("binary_cross_entropy", _logistic, _binary_cross_entropy, one_output=True),
        Loss("cross_entropy", _softmax, _cross_entropy),
        Loss("half_squared_error", _linear, _half_squared_error),
    )
}
