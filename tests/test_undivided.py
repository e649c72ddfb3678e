"""A product runs over all blocks at once only where that was seen to give the same bits."""

import numpy as np
import pytest

from dist_dnn.nn import undivided
from dist_dnn.nn.network import Network, Parameters
from dist_dnn.nn.propagation import Arrays, product
from dist_dnn.nn.undivided import undivide

NETWORK = Network((12, 11, 10, 9))
BLOCKS, ROWS = 3, 7


def at_once_after(monkeypatch: pytest.MonkeyPatch, pretended: object) -> tuple[set, set]:
    """The layers whose forward and backward products run at once, by a pretended product."""
    monkeypatch.setattr(undivided, "product", pretended)
    arrays = Arrays(NETWORK, ROWS, BLOCKS)
    weights = Parameters(NETWORK, np.zeros(NETWORK.parameter_count, np.float32)).W
    undivide(arrays, weights, np.random.default_rng(0))
    forward, backward = arrays.at_once
    return (
        {l for l in forward if arrays.forward_products[l] is forward[l]},
        {l for l in backward if arrays.backward_products[l] is backward[l]},
    )


def exact(left: np.ndarray, right: np.ndarray, out: np.ndarray) -> None:
    """The product in float64, whose rounding does not depend on how many rows there are."""
    out[:] = (left.astype(np.float64)[..., :, :, None] * right[..., None, :, :]).sum(axis=-2)


def is_over_all(right: np.ndarray) -> bool:
    return right.ndim == 2


def test_products_that_give_the_same_bits_run_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    assert at_once_after(monkeypatch, exact) == ({1, 2, 3}, {2, 3})


@pytest.mark.parametrize("example", [0, BLOCKS * ROWS - 1])
def test_one_number_of_one_layer_that_differs_keeps_that_layer_divided(
    monkeypatch: pytest.MonkeyPatch, example: int
) -> None:
    def almost(left: np.ndarray, right: np.ndarray, out: np.ndarray) -> None:
        exact(left, right, out)
        if is_over_all(right) and left.shape == (10, 11):  # W[2] A[1]
            out[3, example] = np.nextafter(out[3, example], np.float32(np.inf))

    assert at_once_after(monkeypatch, almost) == ({1, 3}, {2, 3})


def test_a_difference_that_is_seldom_seen_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two orders of addition often round alike: one in 50 numbers differs here."""
    random = np.random.default_rng(1)

    def seldom(left: np.ndarray, right: np.ndarray, out: np.ndarray) -> None:
        exact(left, right, out)
        if is_over_all(right):
            out[random.random(out.shape) < 0.02] *= np.float32(1 + 2**-20)

    assert at_once_after(monkeypatch, seldom) == (set(), set())


def test_what_was_there_before_does_not_count(monkeypatch: pytest.MonkeyPatch) -> None:
    def idle_at_once(left: np.ndarray, right: np.ndarray, out: np.ndarray) -> None:
        if not is_over_all(right):
            product(left, right, out)

    assert at_once_after(monkeypatch, idle_at_once) == (set(), set())


def test_products_for_few_units_are_not_tried() -> None:
    network = Network((9, 7, 1), loss="binary_cross_entropy")
    arrays = Arrays(network, ROWS, BLOCKS)
    weights = Parameters(network, np.zeros(network.parameter_count, np.float32)).W
    before = dict(arrays.forward_products), dict(arrays.backward_products)
    undivide(arrays, weights, np.random.default_rng(0))
    for products, divided in zip(
        (arrays.forward_products, arrays.backward_products), before, strict=True
    ):
        assert all(products[l] is divided[l] for l in divided)
