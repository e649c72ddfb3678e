"""Which products of a stack may run over all its blocks at once: those that give the same bits.

One call of the BLAS for all blocks is faster than one for each, but it may add up a number's terms
in another order, which depends on the library, the shapes and the places in memory. So it is
tried, bit for bit, in these very arrays, with numbers at random; a product that fails stays
divided. Either way the results are the same: nothing but speed depends on it.
"""

from collections.abc import Mapping

import numpy as np

from dist_dnn.nn.activations import Array
from dist_dnn.nn.propagation import Arrays, Product, product

NUMBERS = 256
"""So many numbers of every example are compared: two orders of addition often round alike."""

FEWEST_UNITS = 8
"""Products for fewer units stay divided: they would be tried long, and cost little."""


def undivide(arrays: Arrays, W: Mapping[int, Array], random: np.random.Generator) -> None:
    """Let the products of a stack run over all its blocks at once where that changes no bit.

    Args:
        arrays: of the stack, float32; overwritten.
        W: weights of the parameters' shapes and strides, overwritten with numbers at random.
    """
    forward_at_once, backward_at_once = arrays.at_once
    for l, weights in W.items():
        _randomise(weights.T, random)
        _try(arrays.forward_products, l, weights, forward_at_once[l], random)
        if l > 1:
            _try(arrays.backward_products, l, weights.mT, backward_at_once[l], random)


def _try(
    products: dict[int, Product],
    l: int,
    weights: Array,
    at_once: Product,
    random: np.random.Generator,
) -> None:
    """Take the product at once in the place of the one by block, if it gives the same bits."""
    if len(at_once.out) < FEWEST_UNITS:
        return
    for _ in range(-(-NUMBERS // len(at_once.out))):
        _randomise(at_once.right.T, random)
        product(weights, *products[l])
        by_block = at_once.out.T.copy()
        at_once.out.fill(np.nan)
        product(weights, *at_once)
        if not np.array_equal(by_block.view(np.int32), at_once.out.T.view(np.int32)):
            return
    products[l] = at_once


def _randomise(array: Array, random: np.random.Generator) -> None:
    """Fill a C-contiguous array with numbers in [−½, ½)."""
    random.random(out=array, dtype=np.float32)
    np.subtract(array, 0.5, out=array)
