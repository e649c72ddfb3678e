"""Forward and backward against an autograd, a plain loop, and themselves block by block."""

import math
import tracemalloc
from multiprocessing import shared_memory

import autograd
import autograd.numpy as anp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dist_dnn.nn.activations import ACTIVATIONS, LEAKY_SLOPE
from dist_dnn.nn.losses import LOSSES
from dist_dnn.nn.network import Gradients, Network, Parameters
from dist_dnn.nn.propagation import Arrays, backward, forward, gradients, losses
from dist_dnn.nn.undivided import undivide

HIDDEN = (4, 5, 3)


def case(activation, loss, depth, m, dtype=np.float64):
    """A network, parameters with biases that are not 0, X (n[0], m) and Y (n[L], m)."""
    n_L = 1 if LOSSES[loss].one_output else 3
    network = Network((6, *HIDDEN[: depth - 1], n_L), activation, loss)
    rng = np.random.default_rng(depth)
    parameters = Parameters(network, rng.standard_normal(network.parameter_count).astype(dtype))
    return (
        network,
        parameters,
        rng.standard_normal((6, m)).astype(dtype),
        truth(loss, n_L, m, dtype),
    )


def truth(loss, n_L, m, dtype):
    rng = np.random.default_rng(m)
    if loss == "half_squared_error":
        return rng.standard_normal((n_L, m)).astype(dtype)
    if loss == "binary_cross_entropy":
        return rng.integers(0, 2, (n_L, m)).astype(dtype)
    return np.eye(n_L, dtype=dtype)[:, rng.integers(0, n_L, m)]


def weights_of(m, dtype=np.float64):
    """Weights of m examples, (1, m): some are 0, none is 1."""
    w = np.random.default_rng(m).uniform(0, 5, (1, m)).astype(dtype)
    w[0, ::3] = 0
    return w


def one_pass(parameters, X, Y, w=None):
    """The loss sum, the loss of each example, Ŷ, and the summed gradients as one vector."""
    arrays = Arrays.of(parameters.network, X, Y, w)
    sums = np.empty_like(parameters.vector)
    forward(parameters, arrays)
    loss_sum = losses(arrays).item()
    backward(parameters, arrays)
    gradients(arrays.factors, Gradients(parameters.network, sums))
    return loss_sum, arrays.row, arrays.A[parameters.network.L], sums


every_network = pytest.mark.parametrize(
    ("activation", "loss", "depth"),
    [(g, loss, depth) for g in ACTIVATIONS for loss in LOSSES for depth in (1, 2, 3, 4)],
)

AUTOGRAD_ACTIVATIONS = {
    "relu": lambda Z: anp.maximum(Z, 0),
    "leaky_relu": lambda Z: anp.where(Z > 0, Z, LEAKY_SLOPE * Z),
    "tanh": anp.tanh,
    "sigmoid": lambda Z: 1 / (1 + anp.exp(-Z)),
    "identity": lambda Z: Z,
}


def autograd_loss(W, b, X, Y, activation, loss, w=1.0):
    """The summed loss by the lecture's formulas, in arrays whose columns are the examples."""
    A = X
    for W_l, b_l in zip(W[:-1], b[:-1], strict=True):
        A = AUTOGRAD_ACTIVATIONS[activation](anp.dot(W_l, A) + b_l)
    Z = anp.dot(W[-1], A) + b[-1]
    if loss == "half_squared_error":
        return anp.sum(w * (Z - Y) ** 2) / 2
    if loss == "binary_cross_entropy":
        A = 1 / (1 + anp.exp(-Z))
        return -anp.sum(w * (Y * anp.log(A) + (1 - Y) * anp.log(1 - A)))
    A = anp.exp(Z) / anp.sum(anp.exp(Z), axis=0, keepdims=True)
    return -anp.sum(w * Y * anp.log(A))


@pytest.mark.parametrize("w", [None, weights_of(7)], ids=["alike", "weighted"])
@every_network
def test_loss_and_gradients_equal_autograds(activation, loss, depth, w):
    network, parameters, X, Y = case(activation, loss, depth, m=7)
    W = [parameters.W[l].copy() for l in range(1, depth + 1)]
    b = [parameters.b[l].copy() for l in range(1, depth + 1)]
    expected, (dW, db) = autograd.value_and_grad(
        lambda both: autograd_loss(*both, X, Y, activation, loss, 1.0 if w is None else w)
    )((W, b))
    loss_sum, _, _, sums = one_pass(parameters, X, Y, w)
    computed = Gradients(network, sums)
    assert loss_sum == pytest.approx(expected, rel=1e-12)
    for l in range(1, depth + 1):
        np.testing.assert_allclose(computed.dW[l], dW[l - 1], rtol=1e-9, atol=1e-12)
        np.testing.assert_allclose(computed.db[l], db[l - 1], rtol=1e-9, atol=1e-12)


SCALAR_ACTIVATIONS = {
    "relu": (lambda z: max(z, 0.0), lambda z: float(z > 0)),
    "leaky_relu": (
        lambda z: z if z > 0 else LEAKY_SLOPE * z,
        lambda z: 1.0 if z > 0 else LEAKY_SLOPE,
    ),
    "tanh": (math.tanh, lambda z: 1 - math.tanh(z) ** 2),
    "sigmoid": (
        lambda z: 1 / (1 + math.exp(-z)),
        lambda z: math.exp(-z) / (1 + math.exp(-z)) ** 2,
    ),
    "identity": (lambda z: z, lambda z: 1.0),
}


def one_example(W, b, x, y, activation, loss):
    """The loss of one example, and dz[l] and a[l] by layer, number by number."""
    g, derivative = SCALAR_ACTIVATIONS[activation]
    L = len(W)
    a, z = {0: list(x)}, {}
    for l in range(1, L + 1):
        z[l] = [
            sum(W[l][i][j] * a[l - 1][j] for j in range(len(a[l - 1]))) + b[l][i][0]
            for i in range(len(W[l]))
        ]
        a[l] = [g(value) for value in z[l]]
    if loss == "half_squared_error":
        a[L] = z[L]
        cost = sum((p - q) ** 2 for p, q in zip(a[L], y, strict=True)) / 2
    elif loss == "binary_cross_entropy":
        a[L] = [1 / (1 + math.exp(-z[L][0]))]
        cost = math.log1p(math.exp(-z[L][0] if y[0] else z[L][0]))
    else:
        total = sum(math.exp(value) for value in z[L])
        a[L] = [math.exp(value) / total for value in z[L]]
        cost = -sum(q * math.log(p) for p, q in zip(a[L], y, strict=True))
    dz = {L: [p - q for p, q in zip(a[L], y, strict=True)]}
    for l in range(L, 1, -1):
        dz[l - 1] = [
            sum(W[l][i][j] * dz[l][i] for i in range(len(dz[l]))) * derivative(z[l - 1][j])
            for j in range(len(z[l - 1]))
        ]
    return cost, dz, a


@every_network
def test_vectorised_pass_equals_a_loop_over_the_examples(activation, loss, depth):
    m = 5
    network, parameters, X, Y = case(activation, loss, depth, m)
    W = {l: parameters.W[l].tolist() for l in parameters.W}
    b = {l: parameters.b[l].tolist() for l in parameters.b}
    expected = Gradients(network, np.zeros(network.parameter_count))
    costs, outputs = [], []
    for i in range(m):
        cost, dz, a = one_example(W, b, X[:, i].tolist(), Y[:, i].tolist(), activation, loss)
        costs.append(cost)
        outputs.append(a[depth])
        for l in range(1, depth + 1):
            expected.dW[l] += np.outer(dz[l], a[l - 1])
            expected.db[l] += np.reshape(dz[l], (-1, 1))
    loss_sum, row, output, sums = one_pass(parameters, X, Y)
    np.testing.assert_allclose(row[0], costs, rtol=1e-11, atol=1e-14)
    assert loss_sum == pytest.approx(math.fsum(costs), rel=1e-12)
    np.testing.assert_allclose(output.T, outputs, rtol=1e-12)
    np.testing.assert_allclose(sums, expected.vector, rtol=1e-10, atol=1e-13)


def test_weights_add_up_by_blocks():
    network = Network((1, 1), loss="half_squared_error")
    parameters = Parameters(network, np.array([1, 0], np.float32))
    stack = Arrays(network, 5, 3, weighted=True)
    stack.X[:], stack.Y[:] = 2, 0
    stack.w[:] = np.arange(15, dtype=np.float32).reshape(3, 1, 5)
    forward(parameters, stack)
    assert losses(stack).ravel().tolist() == [2 * 10, 2 * 35, 2 * 60]
    assert stack.weight.ravel().tolist() == [10, 35, 60]
    assert np.all(stack.row == 2)
    alike = Arrays(network, 5, 3)
    assert alike.w is None
    assert np.all(alike.weight == 5)


@pytest.mark.parametrize("loss", LOSSES)
def test_weights_of_1_change_no_bit(loss):
    _, parameters, X, Y = case("relu", loss, 3, m=33, dtype=np.float32)
    alike = one_pass(parameters, X, Y)
    weighted = one_pass(parameters, X, Y, np.ones((1, 33), np.float32))
    assert alike[0] == weighted[0]
    assert all(same_bits(a, b) for a, b in zip(alike[1:], weighted[1:], strict=True))


def same_bits(a, b):
    return a.dtype == b.dtype and np.array_equal(
        np.ascontiguousarray(a).view(np.uint8), np.ascontiguousarray(b).view(np.uint8)
    )


def weights_like(parameters):
    """Weights of the same shapes and strides, to be overwritten."""
    return Parameters(parameters.network, np.zeros_like(parameters.vector)).W


@settings(max_examples=1000, deadline=None)
@given(
    hidden=st.lists(st.sampled_from([1, 2, 3, 5, 8, 10, 16, 17, 33, 64]), max_size=3),
    inputs=st.sampled_from([1, 2, 7, 16, 33, 64, 100]),
    outputs=st.sampled_from([1, 2, 3, 10, 17]),
    rows=st.integers(1, 70),
    blocks=st.integers(1, 8),
    activation=st.sampled_from(sorted(ACTIVATIONS)),
    loss=st.sampled_from(sorted(LOSSES)),
    at_once=st.booleans(),
    weighted=st.booleans(),
)
def test_a_stack_has_the_bits_of_its_blocks(
    hidden, inputs, outputs, rows, blocks, activation, loss, at_once, weighted
):
    outputs = 1 if LOSSES[loss].one_output else outputs
    network = Network((inputs, *hidden, outputs), activation, loss)
    parameters = network.initialize(seed=rows)
    X = np.random.default_rng(blocks).standard_normal((blocks, inputs, rows), np.float32)
    Y = truth(loss, outputs, blocks * rows, np.float32).reshape(outputs, blocks, rows)
    Y = Y.swapaxes(0, 1)

    w = [None] * blocks
    stack = Arrays(network, rows, blocks, weighted=weighted)
    if weighted:
        w = weights_of(blocks * rows, np.float32).reshape(blocks, 1, rows)
        stack.w[:] = w
    if at_once:
        undivide(stack, weights_like(parameters), np.random.default_rng(0))
    stack.X[:], stack.Y[:] = X, Y
    sums = np.empty((blocks, network.parameter_count), np.float32)
    by_block = np.empty_like(sums)
    forward(parameters, stack)
    loss_sums = losses(stack)
    backward(parameters, stack)
    gradients(stack.factors, Gradients(network, sums))
    for k in range(blocks):
        one = slice(k, k + 1)
        gradients(stack.factors.of_blocks(one), Gradients(network, by_block[one]))

    for k in range(blocks):
        loss_sum, row, output, block_sums = one_pass(parameters, X[k], Y[k], w[k])
        assert same_bits(stack.A[network.L][k], output)
        assert same_bits(stack.row[k], row)
        assert loss_sums[k, 0, 0] == loss_sum
        assert same_bits(sums[k], block_sums)
        assert same_bits(by_block[k], block_sums)


def test_arrays_in_shared_memory_equal_fresh_ones():
    """Whatever the memory held before, and where in it the arrays lie."""
    network, parameters, X, Y = case("tanh", "cross_entropy", 3, m=9, dtype=np.float32)
    fresh = one_pass(parameters, X, Y)
    size = Arrays.size(network, 9)
    segment = shared_memory.SharedMemory(create=True, size=4 * (size + 3))
    try:
        memory = np.frombuffer(segment.buf, np.float32, size + 3)
        memory[:] = np.nan
        arrays = Arrays(network, 9, memory=memory[3:])
        arrays.X[:], arrays.Y[:] = X, Y
        sums = np.empty_like(parameters.vector)
        forward(parameters, arrays)
        loss_sum = losses(arrays).item()
        backward(parameters, arrays)
        gradients(arrays.factors, Gradients(network, sums))
        assert np.shares_memory(arrays.A[3], memory)
        assert loss_sum == fresh[0]
        assert same_bits(arrays.A[3], fresh[2])
        assert same_bits(sums, fresh[3])
    finally:
        del memory, arrays
        segment.close()
        segment.unlink()


def test_arrays_do_not_overlap():
    """But those that are said to: dZ[l] is Z[l], and the scratch of one layer that of another."""
    network = Network((3, 5, 2))
    memory = np.zeros(Arrays.size(network, 7), np.float32)
    arrays = Arrays(network, 7, memory=memory, weighted=True)
    apart = [*arrays.A.values(), *arrays.Z.values(), arrays.dZ[2], arrays.Y, arrays.row]
    apart += [arrays.scratch[1], arrays.w]
    for array in apart:
        array += 1
    assert all(np.all(array == 1) for array in apart)
    assert arrays.dZ[1] is arrays.Z[1]


def test_losses_add_up_in_float64():
    """4,097 float32 losses, of which the second and later would be lost beside the large one."""
    network = Network((1, 1), loss="half_squared_error")
    parameters = Parameters(network, np.array([1, 0], np.float32))
    X = np.ones((1, 4097), np.float32)
    X[0, 0] = 2**13
    loss_sum, *_ = one_pass(parameters, X, np.zeros_like(X))
    assert loss_sum == 2**25 + 4096 / 2


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_a_steady_pass_allocates_no_array(activation, loss, weighted):
    network, parameters, X, Y = case(activation, loss, 3, m=20_000, dtype=np.float32)
    arrays = Arrays.of(network, X, Y, weights_of(20_000, np.float32) if weighted else None)
    sums = Gradients.zeros(network)

    def whole_pass():
        forward(parameters, arrays)
        losses(arrays)
        backward(parameters, arrays)
        gradients(arrays.factors, sums)

    whole_pass()
    tracemalloc.start()
    try:
        whole_pass()
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < arrays.row.nbytes  # the smallest array of a pass
