"""Optimisers crossed with test functions and with oracles' steps; and the driver's update."""

import math
import tracemalloc

import numpy as np
import pytest
from sklearn.neural_network._stochastic_optimizers import AdamOptimizer, SGDOptimizer

import dist_dnn.nn.update
from dist_dnn.nn.network import Network, Parameters
from dist_dnn.nn.optimizers import OPTIMIZERS, make_optimizer
from dist_dnn.nn.update import Update

MU, RHO, BETA1, BETA2, DECAY = 0.8, 0.95, 0.85, 0.99, 0.3
SETTINGS = {
    "momentum": MU,
    "decay_rate": RHO,
    "beta1": BETA1,
    "beta2": BETA2,
    "weight_decay": DECAY,
}


def unit(parameters):
    """A network with so many parameters: a single unit, the last of them its bias."""
    return Network((parameters - 1, 1), loss="half_squared_error")


# Test functions: the start, the gradient, and where the minimum is.
CONDITION = np.array([1.0, 10.0, 100.0])
FUNCTIONS = {
    "quadratic": ([5.0, -3.0], lambda x: x - [1, 2], [1, 2]),
    "ill-conditioned": ([1.0, -1.0, 1.0], lambda x: CONDITION * x, [0, 0, 0]),
    "rosenbrock": (
        [-1.0, 1.5],
        lambda x: np.array(
            [2 * (x[0] - 1) - 400 * x[0] * (x[1] - x[0] ** 2), 200 * (x[1] - x[0] ** 2)]
        ),
        [1, 1],
    ),
    "quartic": ([1.0, -2.0], lambda x: 4 * x**3, [0, 0]),
}

# The learning rate, and the steps after which the minimum is less than 0.1 away.
TABLE = {
    ("sgd", "quadratic"): (0.1, 100),
    ("sgd", "ill-conditioned"): (0.01, 500),
    ("sgd", "rosenbrock"): (0.001, 10_000),
    ("sgd", "quartic"): (0.02, 2_000),
    ("momentum", "quadratic"): (0.1, 100),
    ("momentum", "ill-conditioned"): (0.01, 150),
    ("momentum", "rosenbrock"): (0.0005, 3_000),
    ("momentum", "quartic"): (0.01, 500),
    ("nesterov", "quadratic"): (0.1, 100),
    ("nesterov", "ill-conditioned"): (0.01, 150),
    ("nesterov", "rosenbrock"): (0.0005, 3_000),
    ("nesterov", "quartic"): (0.01, 500),
    ("rmsprop", "quadratic"): (0.01, 1_000),
    ("rmsprop", "ill-conditioned"): (0.01, 300),
    ("rmsprop", "rosenbrock"): (0.001, 5_000),
    ("rmsprop", "quartic"): (0.01, 500),
    ("adam", "quadratic"): (0.1, 300),
    ("adam", "ill-conditioned"): (0.05, 200),
    ("adam", "rosenbrock"): (0.02, 3_000),
    ("adam", "quartic"): (0.05, 2_000),
    ("adamw", "quadratic"): (0.1, 300),
    ("adamw", "ill-conditioned"): (0.05, 200),
    ("adamw", "rosenbrock"): (0.02, 3_000),
    ("adamw", "quartic"): (0.05, 2_000),
}


def test_the_table_is_complete():
    assert set(TABLE) == {(name, function) for name in OPTIMIZERS for function in FUNCTIONS}


@pytest.mark.parametrize(("name", "function"), TABLE)
def test_convergence(name, function):
    start, gradient, minimum = FUNCTIONS[function]
    alpha, steps = TABLE[name, function]
    theta = np.array(start)
    update = Update(unit(theta.size), theta, make_optimizer(name))
    for t in range(1, steps + 1):
        update(gradient(theta) * 4.0, 4.0, alpha, t)
    assert np.linalg.norm(theta - minimum) < 0.1


# Textbook loops: a number θ (a weight or a bias) and its gradients, one by one.


def textbook_sgd(theta, gs, alpha, epsilon, is_weight):
    for g in gs:
        theta -= alpha * g
    return theta


def textbook_momentum(theta, gs, alpha, epsilon, is_weight):
    v = 0.0
    for g in gs:
        v = MU * v + g
        theta -= alpha * v
    return theta


def textbook_nesterov(theta, gs, alpha, epsilon, is_weight):
    """As Nesterov has it: g is the gradient at the point that the velocity leads to.

    What the package keeps is that point, θ + μv; the textbook's own θ lies behind it.
    """
    v = 0.0
    ahead = theta
    for g in gs:
        theta = ahead - MU * v
        v = MU * v - alpha * g
        theta += v
        ahead = theta + MU * v
    return ahead


def textbook_rmsprop(theta, gs, alpha, epsilon, is_weight):
    s = 0.0
    for g in gs:
        s = RHO * s + (1 - RHO) * g**2
        theta -= alpha * g / (math.sqrt(s) + epsilon)
    return theta


def textbook_adam(theta, gs, alpha, epsilon, is_weight, decay=0.0):
    m = v = 0.0
    for t, g in enumerate(gs, start=1):
        theta -= alpha * decay * theta if is_weight else 0
        m = BETA1 * m + (1 - BETA1) * g
        v = BETA2 * v + (1 - BETA2) * g**2
        m_hat, v_hat = m / (1 - BETA1**t), v / (1 - BETA2**t)
        theta -= alpha * m_hat / (math.sqrt(v_hat) + epsilon)
    return theta


def textbook_adamw(theta, gs, alpha, epsilon, is_weight):
    return textbook_adam(theta, gs, alpha, epsilon, is_weight, DECAY)


TEXTBOOK = {
    "sgd": textbook_sgd,
    "momentum": textbook_momentum,
    "nesterov": textbook_nesterov,
    "rmsprop": textbook_rmsprop,
    "adam": textbook_adam,
    "adamw": textbook_adamw,
}


def start_and_gradients(steps, parameters=7):
    rng = np.random.default_rng(0)
    return rng.standard_normal(parameters), rng.standard_normal((steps, parameters))


def steps_of(name, theta, gs, alpha, **settings):
    """Where the package's optimiser goes from theta by these gradients."""
    theta = theta.copy()
    update = Update(unit(theta.size), theta, make_optimizer(name, **SETTINGS | settings))
    for t, g in enumerate(gs, start=1):
        update(g.copy(), 1.0, alpha, t)
    return theta


@pytest.mark.parametrize("steps", [1, 2, 25])
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_steps_equal_the_textbooks(name, steps):
    """With a large epsilon too, so that its place matters."""
    start, gs = start_and_gradients(steps)
    for epsilon in (1e-8, 0.1):
        expected = [
            TEXTBOOK[name](start[i], gs[:, i], 0.05, epsilon, is_weight=i < start.size - 1)
            for i in range(start.size)
        ]
        theta = steps_of(name, start, gs, 0.05, epsilon=epsilon)
        np.testing.assert_allclose(theta, expected, rtol=1e-12, atol=1e-13)


SKLEARN = {
    "sgd": lambda theta: SGDOptimizer([theta], 0.05, momentum=0, nesterov=False),
    "momentum": lambda theta: SGDOptimizer([theta], 0.05, momentum=MU, nesterov=False),
    "nesterov": lambda theta: SGDOptimizer([theta], 0.05, momentum=MU, nesterov=True),
    # Its epsilon stands beside the √v that is not corrected, so only without one are both equal.
    "adam": lambda theta: AdamOptimizer([theta], 0.05, beta_1=BETA1, beta_2=BETA2, epsilon=1e-30),
}


@pytest.mark.parametrize("name", SKLEARN)
def test_steps_equal_scikit_learns(name):
    start, gs = start_and_gradients(25)
    expected = start.copy()
    oracle = SKLEARN[name](expected)
    for g in gs:
        oracle.update_params([expected], [g])
    theta = steps_of(name, start, gs, 0.05, epsilon=1e-30)
    np.testing.assert_allclose(theta, expected, rtol=1e-12, atol=1e-13)


def test_unknown_optimizer():
    with pytest.raises(ValueError, match="unknown optimizer 'adan'"):
        make_optimizer("adan")


# The driver's update.

NETWORK = Network((5, 4, 3))
M = 12.0


def sums_and_parameters(network=NETWORK, dtype=np.float64):
    rng = np.random.default_rng(1)
    draws = rng.standard_normal((2, network.parameter_count)).astype(dtype)
    return M * draws[0], draws[1]


def weights_of(network):
    """1 where the flat vector has a weight, 0 where it has a bias."""
    mask = Parameters(network, np.zeros(network.parameter_count))
    for W in mask.W.values():
        W += 1
    return mask.vector


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_l2_is_the_gradient_of_the_penalty(name):
    """As if λW had been in the sums; on the weights, not on the biases."""
    sums, start = sums_and_parameters()
    theta, expected = start.copy(), start.copy()
    with_penalty = Update(NETWORK, theta, make_optimizer(name), l2=0.7)
    without = Update(NETWORK, expected, make_optimizer(name))
    for t in (1, 2, 3):
        without(sums + 0.7 * expected * weights_of(NETWORK), M, 0.1, t)
        with_penalty(sums.copy(), M, 0.1, t)
    np.testing.assert_allclose(theta, expected, rtol=1e-10)


def test_l2_in_closed_form():
    sums, start = sums_and_parameters()
    theta = start.copy()
    Update(NETWORK, theta, make_optimizer("sgd"), l2=0.7)(sums.copy(), M, 0.1, 1)
    expected = start - 0.1 * (sums + 0.7 * start * weights_of(NETWORK)) / M
    np.testing.assert_allclose(theta, expected, rtol=1e-14)


def test_decay_in_closed_form():
    """Without a gradient Adam stands still and the decay goes on: weights shrink, biases stay."""
    _, start = sums_and_parameters()
    theta = start.copy()
    update = Update(NETWORK, theta, make_optimizer("adamw", weight_decay=0.5))
    for t in (1, 2, 3):
        update(np.zeros_like(theta), M, 0.1, t)
    np.testing.assert_allclose(theta, start * 0.95 ** (3 * weights_of(NETWORK)), rtol=1e-14)


@pytest.mark.parametrize("l2", [0.0, 0.7])
def test_clipping_in_closed_form(l2):
    sums, start = sums_and_parameters()
    g = (sums + l2 * start * weights_of(NETWORK)) / M
    norm = math.sqrt(math.fsum(g**2))
    for clip_norm in (norm / 3, norm * 3):
        theta = start.copy()
        update = Update(NETWORK, theta, make_optimizer("sgd"), l2=l2, clip_norm=clip_norm)
        assert update(sums.copy(), M, 0.1, 1) == pytest.approx(norm, rel=1e-14)
        np.testing.assert_allclose(theta, start - 0.1 * g * min(1, clip_norm / norm), rtol=1e-13)


def test_a_norm_below_the_limit_changes_no_bit():
    sums, start = sums_and_parameters(dtype=np.float32)
    clipped, free = start.copy(), start.copy()
    Update(NETWORK, clipped, make_optimizer("adam"), clip_norm=1e3)(sums.copy(), M, 0.1, 1)
    assert Update(NETWORK, free, make_optimizer("adam"))(sums.copy(), M, 0.1, 1) is None
    np.testing.assert_array_equal(clipped, free)


def test_the_norm_is_summed_in_float64_over_all_chunks():
    """Squares of 1e25 are beyond float32; 80,000 squares added in it would lose digits."""
    network = Network((400, 200))
    assert network.parameter_count > 2 * dist_dnn.nn.update.CHUNK
    sums, theta = sums_and_parameters(network, np.float32)
    update = Update(network, theta, make_optimizer("sgd"), clip_norm=1.0)
    for scale in (1, np.float32(1e25)):
        g = (sums * scale / np.float32(M)).astype(np.float64)
        norm = update(sums * scale, M, 1e-3, 1)
        assert norm == pytest.approx(math.sqrt(math.fsum(g**2)), rel=1e-12)


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_bits_do_not_depend_on_chunks_or_on_the_memory(name, monkeypatch):
    sums, start = sums_and_parameters(dtype=np.float32)

    def three_steps(chunk, offset):
        monkeypatch.setattr(dist_dnn.nn.update, "CHUNK", chunk)
        theta = np.empty(offset + start.size, np.float32)[offset:]
        theta[:] = start
        update = Update(NETWORK, theta, make_optimizer(name), l2=0.7)
        for t in (1, 2, 3):
            update(sums / np.float32(t), M, 0.1, t)
        return [theta, *update.state.values()]

    whole = three_steps(chunk=1_000, offset=0)
    for chunk, offset in ((1, 1), (7, 3), (22, 0), (24, 5)):
        for pieces, expected in zip(three_steps(chunk, offset), whole, strict=True):
            np.testing.assert_array_equal(pieces, expected)


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_numpy_floats_change_no_bit(name):
    sums, start = sums_and_parameters(dtype=np.float32)
    theta, expected = start.copy(), start.copy()
    settings = {"l2": 0.7, "clip_norm": 0.5}
    Update(NETWORK, theta, make_optimizer(name), **settings)(
        sums.copy(), np.float64(M), np.float64(0.1), 1
    )
    Update(NETWORK, expected, make_optimizer(name), **settings)(sums.copy(), M, 0.1, 1)
    np.testing.assert_array_equal(theta, expected)


def test_a_restored_state_goes_on():
    """Written into the vectors of a new update, as from a checkpoint."""
    sums, theta = sums_and_parameters(dtype=np.float32)
    update = Update(NETWORK, theta, make_optimizer("adam"))
    for t in (1, 2):
        update(sums.copy(), M, 0.1, t)
    restored = theta.copy()
    again = Update(NETWORK, restored, make_optimizer("adam"))
    for name, vector in update.state.items():
        again.state[name][:] = vector
    update(sums.copy(), M, 0.1, 3)
    again(sums.copy(), M, 0.1, 3)
    np.testing.assert_array_equal(restored, theta)


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_a_steady_update_allocates_no_array(name):
    network = Network((400, 200))
    sums, theta = sums_and_parameters(network, np.float32)
    update = Update(network, theta, make_optimizer(name), l2=0.7, clip_norm=0.5)
    update(sums, M, 0.1, 1)
    tracemalloc.start()
    try:
        update(sums, M, 0.1, 2)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < dist_dnn.nn.update.CHUNK / 2  # bytes
