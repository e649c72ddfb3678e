"""The activations g and their derivatives g', in pairs.

Every pair works elementwise and in place on arrays allocated by the caller. The derivative is
written in terms of A = g(Z), so that Z may be overwritten on the way back.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.floating]

LEAKY_SLOPE = 0.01
"""The slope of leaky_relu for Z < 0 (Maas, Hannun and Ng, 2013)."""


@dataclass(frozen=True)
class Activation:
    """A pair (g, g').

    Attributes:
        name: what hyperparameters call it.
        g: ``g(Z, A)`` writes A = g(Z); Z and A are different arrays of one shape.
        times_derivative: ``times_derivative(dA, A, scratch)`` turns dA into dZ = dA * g'(Z), in
            place, where A = g(Z). ``scratch`` has the shape of dA and is overwritten.
        gain: "he" where about half of the units are silent (relu), else "xavier".
    """

    name: str
    g: Callable[[Array, Array], None]
    times_derivative: Callable[[Array, Array, Array], None]
    gain: str


def sigmoid(Z: Array, A: Array) -> None:
    """A = 1 / (1 + e^-Z), right to the last digits of the type for any Z."""
    # e^-Z would overflow for very negative Z; beyond the limit A is as good as 0.
    limit = np.log(np.finfo(Z.dtype).max) - 1
    np.negative(Z, out=A)
    np.minimum(A, limit.astype(Z.dtype), out=A)
    np.exp(A, out=A)
    np.add(A, 1, out=A)
    np.reciprocal(A, out=A)


def _sigmoid_times_derivative(dA: Array, A: Array, scratch: Array) -> None:
    """g'(Z) = A (1 − A)."""
    np.subtract(1, A, out=scratch)
    np.multiply(scratch, A, out=scratch)
    np.multiply(dA, scratch, out=dA)


def _tanh(Z: Array, A: Array) -> None:
    np.tanh(Z, out=A)


def _tanh_times_derivative(dA: Array, A: Array, scratch: Array) -> None:
    """g'(Z) = 1 − A²."""
    np.multiply(A, A, out=scratch)
    np.subtract(1, scratch, out=scratch)
    np.multiply(dA, scratch, out=dA)


def _relu(Z: Array, A: Array) -> None:
    # The maximum of two arrays runs on vector instructions; that with a scalar does not.
    A.fill(0)
    np.maximum(Z, A, out=A)


def _relu_times_derivative(dA: Array, A: Array, scratch: Array) -> None:
    """g'(Z) = 1 where Z > 0, else 0 (at Z = 0 the course's choice is free; this is 0)."""
    np.greater(A, 0, out=scratch)
    np.multiply(dA, scratch, out=dA)


def _leaky_relu(Z: Array, A: Array) -> None:
    np.multiply(Z, LEAKY_SLOPE, out=A)
    np.maximum(Z, A, out=A)


def _leaky_relu_times_derivative(dA: Array, A: Array, scratch: Array) -> None:
    """g'(Z) = 1 where Z > 0, else the slope."""
    np.greater(A, 0, out=scratch)
    np.maximum(scratch, LEAKY_SLOPE, out=scratch)
    np.multiply(dA, scratch, out=dA)


def _identity(Z: Array, A: Array) -> None:
    np.copyto(A, Z)


def _identity_times_derivative(dA: Array, A: Array, scratch: Array) -> None:
    """g'(Z) = 1."""


ACTIVATIONS = {
    activation.name: activation
    for activation in (
        Activation("relu", _relu, _relu_times_derivative, "he"),
        Activation("leaky_relu", _leaky_relu, _leaky_relu_times_derivative, "he"),
        Activation("tanh", _tanh, _tanh_times_derivative, "xavier"),
        Activation("sigmoid", sigmoid, _sigmoid_times_derivative, "xavier"),
        Activation("identity", _identity, _identity_times_derivative, "xavier"),
    )
}
