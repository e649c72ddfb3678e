"""The slips of the printed slides: each fails where its correction passes.

A tiny network in plain NumPy, columns for examples, that goes back by the lines of the slides, of
which a slip replaces one. Where all sizes differ, most printed lines do not have the right shape;
where all are the same they have, and give wrong gradients. Each layer has its own activation, or
g[l]' in the place of g[l-1]' would change nothing.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

import dist_dnn.nn
from dist_dnn.nn.gradient_check import numerical_gradient, relative_error
from dist_dnn.nn.network import Gradients, Network, Parameters, check_shape


def sigmoid(Z):
    return 1 / (1 + np.exp(-Z))


L = 3
G = {1: np.tanh, 2: lambda Z: Z * sigmoid(Z), 3: sigmoid}
G_PRIME = {
    1: lambda Z: 1 - np.tanh(Z) ** 2,
    2: lambda Z: sigmoid(Z) * (1 + Z * (1 - sigmoid(Z))),
    3: lambda Z: sigmoid(Z) * (1 - sigmoid(Z)),
}


class Pass:
    """W, b, Z, A, dZ and dW of one pass, for the logistic loss summed over the n[L] outputs."""

    def __init__(self, parameters, X, Y):
        self.W, self.b, self.Y = parameters.W, parameters.b, Y
        self.m = X.shape[1]
        self.Z, self.A, self.dZ, self.dW, self.db = {}, {0: X}, {}, {}, {}

    def forward(self):
        for l in range(1, L + 1):
            self.Z[l] = self.W[l] @ self.A[l - 1] + self.b[l]
            self.A[l] = G[l](self.Z[l])
        return -np.sum(self.Y * np.log(self.A[L]) + (1 - self.Y) * np.log(1 - self.A[L])) / self.m

    def backward(self, dZ_before, dW):
        """``dZ_before(p, l)`` gives dZ[l-1] and ``dW(p, l)`` gives dW[l]; shapes are checked."""
        self.dZ[L] = self.A[L] - self.Y
        for l in range(L, 0, -1):
            self.dW[l] = dW(self, l)
            check_shape(l, f"dW[{l}]", self.dW[l], self.W[l].shape)
            self.db[l] = np.sum(self.dZ[l], axis=1, keepdims=True) / self.m
            if l > 1:
                self.dZ[l - 1] = dZ_before(self, l)
                check_shape(l - 1, f"dZ[{l - 1}]", self.dZ[l - 1], self.Z[l - 1].shape)


def right_dZ(p, l):
    return p.W[l].T @ p.dZ[l] * G_PRIME[l - 1](p.Z[l - 1])


def right_dW(p, l):
    return p.dZ[l] @ p.A[l - 1].T / p.m


@dataclass(frozen=True)
class Slip:
    """A printed line: for dZ[l-1] or dW[l], at the layers l where it stands."""

    text: str
    line: str
    layers: tuple[int, ...]
    printed: Callable
    wrong_shape: bool = True

    def backward(self, p):
        p.backward(self._instead_of(right_dZ, "dZ"), self._instead_of(right_dW, "dW"))

    def _instead_of(self, right, line):
        def line_for(p, l):
            return (self.printed if line == self.line and l in self.layers else right)(p, l)

        return line_for


SLIPS = {
    "missing_transpose": Slip(
        "dw = dz · a[l-1]",
        "dW",
        (1, 2, 3),
        lambda p, l: p.dZ[l] @ p.A[l - 1] / p.m,
    ),
    "one_over_n": Slip(
        "1/n for 1/m",
        "dW",
        (1, 2, 3),
        lambda p, l: p.dZ[l] @ p.A[l - 1].T / len(p.A[0]),
        wrong_shape=False,
    ),
    "weights_of_the_next_layer": Slip(
        "dz[l-1] = W[l+1]ᵀ dz[l] * …",
        "dZ",
        (2,),
        lambda p, l: p.W[l + 1].T @ p.dZ[l] * G_PRIME[l - 1](p.Z[l - 1]),
    ),
    "derivative_of_the_same_layer": Slip(
        "dz[l-1] = … * g[l]'(z[l-1])",
        "dZ",
        (2, 3),
        lambda p, l: p.W[l].T @ p.dZ[l] * G_PRIME[l](p.Z[l - 1]),
        wrong_shape=False,
    ),
    "derivative_of_the_next_layer": Slip(
        "dz[l-1] = … * g[l+1]'(z[l-1])",
        "dZ",
        (2,),
        lambda p, l: p.W[l].T @ p.dZ[l] * G_PRIME[l + 1](p.Z[l - 1]),
        wrong_shape=False,
    ),
    "own_activations_in_dW_L": Slip(
        "dW[L] = (1/m) dZ[L] A[L]ᵀ",
        "dW",
        (L,),
        lambda p, l: p.dZ[l] @ p.A[l].T / p.m,
    ),
    "dW_for_W_in_the_last_layer": Slip(
        "dZ[L-1] = dW[L]ᵀ dZ[L] …",
        "dZ",
        (L,),
        lambda p, l: p.dW[l].T @ p.dZ[l] * G_PRIME[l - 1](p.Z[l - 1]),
        wrong_shape=False,
    ),
    "matrix_product_in_the_last_layer": Slip(
        "dZ[L-1] = … dZ[L] g'(Z[L-1]), not elementwise",
        "dZ",
        (L,),
        lambda p, l: p.W[l].T @ p.dZ[l] @ G_PRIME[l - 1](p.Z[l - 1]),
    ),
    "derivative_of_the_last_layer": Slip(
        "dZ[L-1] = … g'[L](Z[L-1])",
        "dZ",
        (L,),
        lambda p, l: p.W[l].T @ p.dZ[l] * G_PRIME[l](p.Z[l - 1]),
        wrong_shape=False,
    ),
    "dW_L_for_W_2": Slip(
        "dZ[1] = dW[L]ᵀ dZ[2] …",
        "dZ",
        (2,),
        lambda p, l: p.dW[L].T @ p.dZ[l] * G_PRIME[l - 1](p.Z[l - 1]),
    ),
    "matrix_product_in_layer_1": Slip(
        "dZ[1] = … dZ[2] g'[1](Z[1]), not elementwise",
        "dZ",
        (2,),
        lambda p, l: p.W[l].T @ p.dZ[l] @ G_PRIME[l - 1](p.Z[l - 1]),
    ),
    "own_activations_in_dW_1": Slip(
        "dW[1] = (1/m) dZ[1] A[1]ᵀ",
        "dW",
        (1,),
        lambda p, l: p.dZ[l] @ p.A[l].T / p.m,
    ),
}

# Layer sizes and m, all different or all the same.
DISTINCT, SQUARE = ((2, 4, 5, 3), 7), ((4, 4, 4, 4), 4)


def gradient_error(sizes, backward):
    """The relative error of the gradients that a way back finds, for layer sizes and m."""
    layer_sizes, m = sizes
    network = Network(layer_sizes)
    rng = np.random.default_rng(0)
    parameters = Parameters(network, rng.standard_normal(network.parameter_count))
    X = rng.standard_normal((layer_sizes[0], m))
    Y = rng.integers(0, 2, (layer_sizes[-1], m))
    p = Pass(parameters, X, Y)
    numerical = numerical_gradient(p.forward, parameters.vector, epsilon=1e-5)
    p.forward()
    backward(p)
    analytic = Gradients(network, np.empty(network.parameter_count))
    for l in range(1, L + 1):
        analytic.dW[l][:], analytic.db[l][:] = p.dW[l], p.db[l]
    return relative_error(numerical, analytic.vector)


@pytest.mark.parametrize("sizes", [DISTINCT, SQUARE])
def test_corrected_lines_pass(sizes):
    assert gradient_error(sizes, lambda p: p.backward(right_dZ, right_dW)) < 1e-7


@pytest.mark.parametrize("slip", SLIPS)
def test_printed_line_fails_the_gradient_check(slip):
    sizes = SQUARE if SLIPS[slip].wrong_shape else DISTINCT
    assert gradient_error(sizes, SLIPS[slip].backward) > 1e-3


@pytest.mark.parametrize("slip", [slip for slip in SLIPS if SLIPS[slip].wrong_shape])
def test_printed_line_fails_the_dimension_check(slip):
    with pytest.raises(ValueError, match=r"must have shape|mismatch in its core dimension"):
        gradient_error(DISTINCT, SLIPS[slip].backward)


def test_the_page_lists_every_slip():
    page = (Path(dist_dnn.nn.__file__).parent / "README.md").read_text(encoding="utf-8")
    assert [slip for slip in SLIPS if f"| `{slip}` |" not in page] == []
