"""Shapes, the flat vector and its views, initialisation, and what dimension errors say."""

import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dist_dnn.nn.network import DimensionError, Gradients, Network, Parameters
from dist_dnn.nn.propagation import Arrays

LAYER_SIZES = st.lists(st.integers(1, 9), min_size=2, max_size=6)


@given(LAYER_SIZES)
def test_shapes(layer_sizes):
    network = Network(tuple(layer_sizes))
    n = layer_sizes
    parameters = network.initialize(seed=0)
    assert len(n) - 1 == network.L
    assert list(parameters.W) == list(parameters.b) == list(range(1, network.L + 1))
    for l in range(1, network.L + 1):
        assert parameters.W[l].shape == (n[l], n[l - 1])
        assert parameters.b[l].shape == (n[l], 1)
    assert parameters.vector.shape == (network.parameter_count,)
    assert network.parameter_count == sum(n[l] * n[l - 1] + n[l] for l in range(1, network.L + 1))


@given(LAYER_SIZES)
def test_views_cover_the_vector_once(layer_sizes):
    network = Network(tuple(layer_sizes))
    vector = np.zeros(network.parameter_count)
    parameters = Parameters(network, vector)
    for l in range(1, network.L + 1):
        parameters.W[l] += 1
        parameters.b[l] += 1
    np.testing.assert_array_equal(vector, 1)


def test_place_of_a_weight_and_a_bias():
    """In memory, layer by layer: C-contiguous (n[l-1], n[l]) weights, then the biases."""
    parameters = Parameters(Network((3, 2, 4)), np.zeros(20))
    parameters.W[1][1, 0] = 1
    parameters.b[1][0] = 2
    parameters.W[2][2, 1] = 3
    parameters.b[2][3] = 4
    assert {i: parameters.vector[i] for i in np.flatnonzero(parameters.vector)} == {
        0 * 2 + 1: 1,
        3 * 2: 2,
        8 + 1 * 4 + 2: 3,
        8 + 2 * 4 + 3: 4,
    }


@given(LAYER_SIZES, st.integers(0, 99))
def test_round_trip_of_the_flat_vector(layer_sizes, seed):
    network = Network(tuple(layer_sizes))
    vector = np.random.default_rng(seed).standard_normal(network.parameter_count)
    parameters = Parameters(network, vector)
    again = Parameters.from_layers(network, parameters.W, parameters.b)
    np.testing.assert_array_equal(again.vector, vector)
    assert not np.shares_memory(again.vector, vector)


def test_gradients_of_a_stack_of_blocks():
    network = Network((3, 2, 4))
    vectors = np.arange(5 * 20.0).reshape(5, 20)
    stack = Gradients(network, vectors)
    assert stack.dW[1].shape == (5, 2, 3)
    assert stack.db[2].shape == (5, 4, 1)
    for k in range(5):
        block = Gradients(network, vectors[k])
        for l in (1, 2):
            np.testing.assert_array_equal(stack.dW[l][k], block.dW[l])
            np.testing.assert_array_equal(stack.db[l][k], block.db[l])


@pytest.mark.parametrize(
    ("initialization", "activation", "variances"),
    [
        ("he", "tanh", (2 / 400, 2 / 300)),
        ("xavier", "relu", (2 / 700, 2 / 500)),
        ("auto", "relu", (2 / 400, 2 / 500)),
        ("auto", "leaky_relu", (2 / 400, 2 / 500)),
        ("auto", "tanh", (2 / 700, 2 / 500)),
        ("auto", "sigmoid", (2 / 700, 2 / 500)),
        ("auto", "identity", (2 / 700, 2 / 500)),
    ],
)
def test_initialization(initialization, activation, variances):
    """Normal weights of mean 0 and He's or Xavier's variance; biases of 0."""
    network = Network((400, 300, 200), activation, initialization=initialization)
    parameters = network.initialize(seed=1)
    for l, variance in zip((1, 2), variances, strict=True):
        W = parameters.W[l].astype(np.float64) / np.sqrt(variance)
        # 60,000 draws: a deviation of 0.004 for the mean and 0.003 for the deviation.
        assert abs(W.mean()) < 0.02
        assert abs(W.std() - 1) < 0.015
        assert abs(np.mean(np.abs(W) < 1) - 0.6827) < 0.01
        np.testing.assert_array_equal(parameters.b[l], 0)


def test_the_seed_decides():
    network = Network((6, 5, 4))
    vector = network.initialize(seed=3).vector
    assert vector.dtype == np.float32
    np.testing.assert_array_equal(vector, network.initialize(seed=3).vector)
    other = network.initialize(seed=4)
    for l in (1, 2):
        assert not np.any(other.W[l] == network.initialize(seed=3).W[l])


def test_float32_is_float64_rounded():
    network = Network((6, 5, 4))
    exact = network.initialize(seed=3, dtype=np.float64).vector
    np.testing.assert_array_equal(network.initialize(seed=3).vector, exact.astype(np.float32))


def test_a_layers_draws_do_not_depend_on_the_other_layers():
    deep = Network((6, 5, 4, 3), "tanh").initialize(seed=0)
    shallow = Network((6, 5, 4), "tanh").initialize(seed=0)
    np.testing.assert_array_equal(deep.W[1], shallow.W[1])
    np.testing.assert_array_equal(deep.W[2], shallow.W[2])
    square = Network((5, 5, 5), "tanh").initialize(seed=0)
    assert not np.any(square.W[1] == square.W[2])


NETWORK = Network((3, 2, 4))
LAYERS = NETWORK.initialize(seed=0)


@pytest.mark.parametrize(
    ("make", "parts"),
    [
        (
            lambda: Parameters(NETWORK, np.zeros(19)),
            ["layers 1 to 2", "vector", "(19,)", "(..., 20)"],
        ),
        (
            lambda: Gradients(NETWORK, np.zeros((5, 21))),
            ["layers 1 to 2", "vector", "(5, 21)", "(..., 20)"],
        ),
        (
            lambda: Parameters.from_layers(
                NETWORK, LAYERS.W | {2: np.zeros((2, 4), np.float32)}, LAYERS.b
            ),
            ["layer 2", "W[2]", "(2, 4)", "(4, 2)"],
        ),
        (
            lambda: Parameters.from_layers(
                NETWORK, LAYERS.W, LAYERS.b | {1: np.zeros(2, np.float32)}
            ),
            ["layer 1", "b[1]", "(2,)", "(2, 1)"],
        ),
        (
            lambda: Parameters.from_layers(NETWORK, {1: LAYERS.W[1]}, LAYERS.b),
            ["layer 2", "W[2]", "missing"],
        ),
        (
            lambda: Arrays.of(NETWORK, np.zeros((4, 7)), np.zeros((4, 7))),
            ["layer 1", "A[0] = X", "(4, 7)", "(3, 7)"],
        ),
        (
            lambda: Arrays.of(NETWORK, np.zeros((3, 7)), np.zeros((4, 6))),
            ["layer 2", "Y", "(4, 6)", "(4, 7)"],
        ),
    ],
)
def test_dimension_errors_name_layer_array_and_both_shapes(make, parts):
    with pytest.raises(DimensionError) as error:
        make()
    for part in parts:
        assert part in str(error.value)


@pytest.mark.parametrize(
    ("arguments", "part"),
    [
        ({"layer_sizes": (3,)}, "n[0] and n[L]"),
        ({"layer_sizes": (3, 0, 2)}, "layer 1 has 0 units"),
        ({"layer_sizes": (3, 2), "activation": "relux"}, "relux"),
        ({"layer_sizes": (3, 2), "loss": "hinge"}, "hinge"),
        ({"layer_sizes": (3, 2), "initialization": "zeros"}, "zeros"),
        ({"layer_sizes": (3, 2), "loss": "binary_cross_entropy"}, "n[L] = 1"),
    ],
)
def test_impossible_networks(arguments, part):
    with pytest.raises(ValueError, match=re.escape(part)):
        Network(**arguments)
