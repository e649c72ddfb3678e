"""The gradient check passes for every network, and fails for a wrong gradient."""

import numpy as np
import pytest

import dist_dnn.nn.gradient_check
from dist_dnn.nn.activations import ACTIVATIONS
from dist_dnn.nn.gradient_check import gradient_check, numerical_gradient, relative_error
from dist_dnn.nn.losses import LOSSES
from dist_dnn.nn.network import DimensionError, Network

HIDDEN = (4, 5, 3)


def case(activation="tanh", loss="cross_entropy", depth=3, m=6):
    """A network, its parameters (P,), X (n[0], m) and Y (n[L], m).

    Biases are not 0, and no Z[l] of these seeds lies at a kink of relu.
    """
    n_L = 1 if LOSSES[loss].one_output else 3
    network = Network((6, *HIDDEN[: depth - 1], n_L), activation, loss)
    rng = np.random.default_rng(depth)
    Y = rng.standard_normal((n_L, m))
    if loss == "cross_entropy":
        Y = np.eye(n_L)[:, rng.integers(0, n_L, m)]
    if loss == "binary_cross_entropy":
        Y = (Y > 0).astype(np.float64)
    return network, rng.standard_normal(network.parameter_count), rng.standard_normal((6, m)), Y


WEIGHTS = np.array([[0.5, 0.0, 3.0, 1.0, 0.1, 2.0]])


@pytest.mark.parametrize("w", [None, WEIGHTS], ids=["alike", "weighted"])
@pytest.mark.parametrize("depth", [1, 2, 3, 4])
@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_every_network_passes(activation, loss, depth, w):
    check = gradient_check(*case(activation, loss, depth), w=w)
    assert check.relative_error < 1e-7
    assert list(check.layer_errors) == list(range(1, depth + 1))
    assert check.layer_errors[check.worst_layer] == max(check.layer_errors.values())


def corrupted(name, layer):
    """``gradients`` with one number of a layer's dW or db wrong by a hundredth."""

    def gradients(factors, sums):
        right(factors, sums)
        getattr(sums, name)[layer][-1, -1] *= 1.01

    right = dist_dnn.nn.gradient_check.gradients
    return gradients


@pytest.mark.parametrize("layer", [1, 2, 3])
@pytest.mark.parametrize("name", ["dW", "db"])
def test_a_wrong_gradient_fails_and_its_layer_is_named(name, layer, monkeypatch):
    monkeypatch.setattr(dist_dnn.nn.gradient_check, "gradients", corrupted(name, layer))
    check = gradient_check(*case())
    assert check.relative_error > 1e-5
    assert check.worst_layer == layer
    assert all(check.layer_errors[other] < 1e-7 for other in {1, 2, 3} - {layer})


def test_arrays_stay_as_they_are():
    network, parameters, X, Y = case()
    for array in (parameters, X, Y):
        array.flags.writeable = False
    assert gradient_check(network, parameters, X, Y).relative_error < 1e-7


@pytest.mark.parametrize("which", [1, 2, 3])
def test_float32_is_refused(which):
    arguments = list(case())
    arguments[which] = arguments[which].astype(np.float32)
    with pytest.raises(ValueError, match=r"must be float64 .* not float32"):
        gradient_check(*arguments)


def test_wrong_shapes_are_refused():
    network, parameters, X, Y = case()
    with pytest.raises(DimensionError, match="w"):
        gradient_check(network, parameters, X, Y, w=WEIGHTS.T)
    with pytest.raises(DimensionError, match="layer 1"):
        gradient_check(network, parameters, X[1:], Y)
    with pytest.raises(DimensionError, match="flat vector"):
        gradient_check(network, parameters[1:], X, Y)


def test_numerical_gradient_of_a_cubic():
    """The two-sided difference of x³ is 3x² + ε², exactly."""
    theta = np.array([1.0, -2.0])
    gradient = numerical_gradient(lambda: float(np.sum(theta**3)), theta, epsilon=0.5)
    np.testing.assert_allclose(gradient, [3.25, 12.25], rtol=1e-15)
    np.testing.assert_array_equal(theta, [1, -2])


@pytest.mark.parametrize(
    ("numerical", "analytic", "error"),
    [([3, 4], [3, 4], 0), ([0, 0], [0, 0], 0), ([3, 4], [0, 0], 1), ([3, 4], [-3, -4], 1)],
)
def test_relative_error(numerical, analytic, error):
    assert relative_error(np.array(numerical), np.array(analytic)) == error
