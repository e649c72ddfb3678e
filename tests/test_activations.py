"""The activations and their derivatives against formulas in extended precision."""

import numpy as np
import pytest
from scipy.special import expit

from dist_dnn.nn.activations import ACTIVATIONS, LEAKY_SLOPE

EXTENDED = np.longdouble
ORACLES = {
    "relu": (lambda Z: np.where(Z > 0, Z, 0), lambda Z: np.where(Z > 0, 1, 0)),
    "leaky_relu": (
        lambda Z: np.where(Z > 0, Z, EXTENDED(LEAKY_SLOPE) * Z),
        lambda Z: np.where(Z > 0, 1, EXTENDED(LEAKY_SLOPE)),
    ),
    "tanh": (np.tanh, lambda Z: 4 * expit(2 * Z) * expit(-2 * Z)),
    "sigmoid": (expit, lambda Z: expit(Z) * expit(-Z)),
    "identity": (lambda Z: Z, np.ones_like),
}


def values(dtype):
    """(3, m) numbers between -1e4 and 1e4, most of them small, some of them at the limits."""
    Z = np.random.default_rng(0).standard_normal((3, 40)) * np.repeat([1, 5, 30, 1e3], 10)
    Z[:, :6] = [-1e4, -100, -1e-6, 1e-6, 100, 1e4]
    return Z.astype(dtype)


def test_every_activation_has_an_oracle():
    assert set(ORACLES) == set(ACTIVATIONS)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("name", ACTIVATIONS)
def test_g(name, dtype):
    Z = values(dtype)
    before, A = Z.copy(), np.empty_like(Z)
    ACTIVATIONS[name].g(Z, A)
    np.testing.assert_array_equal(Z, before)
    limits = np.finfo(dtype)
    # Below the smallest normal number no digit is promised.
    np.testing.assert_allclose(
        A, ORACLES[name][0](Z.astype(EXTENDED)), rtol=4 * limits.eps, atol=limits.tiny
    )


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("name", ACTIVATIONS)
def test_times_derivative(name, dtype):
    Z = values(dtype)
    A, scratch = np.empty_like(Z), np.full_like(Z, np.nan)
    activation = ACTIVATIONS[name]
    activation.g(Z, A)
    before = A.copy()
    dA = np.random.default_rng(1).uniform(0.5, 2, Z.shape).astype(dtype)
    expected = dA * ORACLES[name][1](Z.astype(EXTENDED))
    activation.times_derivative(dA, A, scratch)
    np.testing.assert_array_equal(A, before)
    # g' comes from A, which lies within a rounding of 1 where g saturates.
    np.testing.assert_allclose(
        dA, expected, rtol=4 * np.finfo(dtype).eps, atol=np.finfo(dtype).eps * 4
    )


def test_relu_at_zero_has_derivative_zero():
    Z = np.zeros((1, 1))
    A, dA = np.empty_like(Z), np.ones_like(Z)
    ACTIVATIONS["relu"].g(Z, A)
    ACTIVATIONS["relu"].times_derivative(dA, A, np.empty_like(Z))
    assert dA[0, 0] == 0
