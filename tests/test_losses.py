"""The losses against formulas in extended precision, also where the plain formulas overflow."""

import numpy as np
import pytest
from scipy.special import expit

from dist_dnn.nn.losses import LOSSES, output_gradient

EXTENDED = np.longdouble
SCALES = (1, 100, 1e4)


def softplus(Z):
    """log(1 + e^Z)."""
    return np.logaddexp(EXTENDED(0), Z)


def log_softmax(Z):
    largest = Z.max(axis=0, keepdims=True)
    return Z - largest - np.log(np.exp(Z - largest).sum(axis=0, keepdims=True))


# By loss: Ŷ, and each example's loss as a sum of terms that do not cancel.
ORACLES = {
    "binary_cross_entropy": (
        expit,
        lambda Z, Y: Y * softplus(-Z) + (1 - Y) * softplus(Z),
    ),
    "cross_entropy": (
        lambda Z: np.exp(log_softmax(Z)),
        lambda Z, Y: -(Y * log_softmax(Z)).sum(axis=0, keepdims=True),
    ),
    "half_squared_error": (
        lambda Z: Z,
        lambda Z, Y: ((Z - Y) ** 2).sum(axis=0, keepdims=True) / 2,
    ),
}


def case(name, scale, dtype, m=60):
    """Z (n[L], m) up to ``scale`` in size and a truth Y (n[L], m) of the loss."""
    rng = np.random.default_rng(0)
    n = 1 if LOSSES[name].one_output else 5
    Z = scale * rng.uniform(-1, 1, (n, m))
    Z[:, :3] = [[-scale, 0, scale]] * n
    Z[0, 3:5] = -scale, scale
    if name == "binary_cross_entropy":
        Y = np.arange(m).reshape(1, m) // 3 % 2
    elif name == "cross_entropy":
        Y = np.eye(n)[:, np.arange(m) % n]
    else:
        Y = rng.standard_normal((n, m))
    return Z.astype(dtype), Y.astype(dtype)


def compute(name, Z, Y):
    """Ŷ (n[L], m), each example's loss (1, m) and dZ[L] (n[L], m), as a pass computes them."""
    Z, A, dZ = Z.copy(), np.full_like(Z, np.nan), np.full_like(Z, np.nan)
    row = np.full_like(Z[:1], np.nan)
    LOSSES[name].output(Z, A, row)
    LOSSES[name].losses(Z, A, Y, np.full_like(Z, np.nan), row)
    output_gradient(A, Y, dZ)
    return A, row, dZ


def test_every_loss_has_an_oracle():
    assert set(ORACLES) == set(LOSSES)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("scale", SCALES)
@pytest.mark.parametrize("name", LOSSES)
def test_outputs_and_losses(name, scale, dtype):
    Z, Y = case(name, scale, dtype)
    A, row, dZ = compute(name, Z, Y)
    output, loss = ORACLES[name]
    exact = Z.astype(EXTENDED)
    eps, tiny = np.finfo(dtype).eps, np.finfo(dtype).tiny
    # e^z has the relative error of z times z; z beyond 104 (float32) or 745 gives 0 here.
    np.testing.assert_allclose(A, output(exact), rtol=1000 * eps, atol=tiny)
    np.testing.assert_allclose(dZ, output(exact) - Y, rtol=8 * eps, atol=200 * eps)
    # The logarithm of a sum near 1 is right to a rounding of 1, not of itself.
    near_one = 4 * eps if name == "cross_entropy" else tiny
    np.testing.assert_allclose(row, loss(exact, Y), rtol=8 * eps, atol=near_one)


def test_soft_truth_of_the_logistic_loss():
    Z, Y = np.array([[-3.0, 0.5, 40.0]]), np.array([[0.2, 0.5, 0.9]])
    _, row, _ = compute("binary_cross_entropy", Z, Y)
    np.testing.assert_allclose(row, ORACLES["binary_cross_entropy"][1](Z, Y), rtol=1e-14)


def test_small_losses_keep_their_digits():
    """A confident and right unit: log(1 + e^-30) beside max(Z, 0) = 30, which must cancel first."""
    Z, Y = np.array([[30.0]], np.float32), np.array([[1.0]], np.float32)
    _, row, _ = compute("binary_cross_entropy", Z, Y)
    np.testing.assert_allclose(row, np.log1p(np.exp(-30.0)), rtol=1e-6)


def test_softmax_does_not_change_when_all_of_a_column_moves():
    Z, Y = case("cross_entropy", 1, np.float64)
    A, row, _ = compute("cross_entropy", Z, Y)
    moved_A, moved_row, _ = compute("cross_entropy", Z + 1e4, Y)
    np.testing.assert_allclose(moved_A, A, rtol=1e-11)
    np.testing.assert_allclose(moved_row, row, rtol=1e-10)
