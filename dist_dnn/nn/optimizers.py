"""Optimisers as init/update pairs: what one step does to parameters, in place.

θ are the parameters, g is their gradient, α the learning rate and t the step, counted from 1.
Everything is elementwise, so that a step made on pieces of the vectors has the bits of one made on
the whole. Each NumPy call passes once over the piece, so factors that do not differ from number to
number are gathered in one scalar beforehand.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import DTypeLike

from dist_dnn.nn.activations import Array

State = Mapping[str, Array]
Rule = Callable[[Array, Array, State, float, int, Array], None]


@dataclass(frozen=True)
class Optimizer:
    """A pair: ``init`` makes the state, ``update`` is one step.

    Attributes:
        name: what hyperparameters call it.
        vectors: the names of the state's vectors, each as long as the parameters.
        update: ``update(theta, g, state, alpha, t, scratch)`` makes step t, from 1, on theta and
            the state, in place. theta, g, ``scratch`` and the vectors of the state have one
            shape; g and ``scratch`` are overwritten. alpha is a Python float: a NumPy one would
            make every operation on float32 one on float64.
        weight_decay: the decay of weights, beside the gradient and not in it: θ ← θ − α·decay·θ
            before ``update``, for weights and not for biases. ``Update`` does it, since it can
            tell them apart.
    """

    name: str
    vectors: tuple[str, ...]
    update: Rule
    weight_decay: float = 0.0

    def init(self, parameter_count: int, dtype: DTypeLike) -> dict[str, Array]:
        """The state before step 1: for each name a vector of zeros."""
        return {name: np.zeros(parameter_count, dtype) for name in self.vectors}


def sgd() -> Optimizer:
    """θ ← θ − αg (Robbins and Monro, 1951)."""

    def update(theta: Array, g: Array, state: State, alpha: float, t: int, scratch: Array) -> None:
        np.multiply(g, alpha, out=g)
        np.subtract(theta, g, out=theta)

    return Optimizer("sgd", (), update)


def heavy_ball(mu: float) -> Optimizer:
    """v ← μv + g; θ ← θ − αv (Polyak, 1964; with α outside v, as in PyTorch)."""

    def update(theta: Array, g: Array, state: State, alpha: float, t: int, scratch: Array) -> None:
        v = state["velocity"]
        np.multiply(v, mu, out=v)
        np.add(v, g, out=v)
        np.multiply(v, alpha, out=scratch)
        np.subtract(theta, scratch, out=theta)

    return Optimizer("momentum", ("velocity",), update)


def nesterov(mu: float) -> Optimizer:
    """v ← μv + g; θ ← θ − α(g + μv) (Sutskever, Martens, Dahl and Hinton, 2013; as in PyTorch)."""

    def update(theta: Array, g: Array, state: State, alpha: float, t: int, scratch: Array) -> None:
        v = state["velocity"]
        np.multiply(v, mu, out=v)
        np.add(v, g, out=v)
        np.multiply(v, mu, out=scratch)
        np.add(scratch, g, out=scratch)
        np.multiply(scratch, alpha, out=scratch)
        np.subtract(theta, scratch, out=theta)

    return Optimizer("nesterov", ("velocity",), update)


def rmsprop(rho: float, epsilon: float) -> Optimizer:
    """s ← ρs + (1 − ρ)g²; θ ← θ − αg / (√s + ε) (Tieleman and Hinton, 2012, lecture 6.5).

    The state keeps the discounted sum S ← ρS + g², which saves a pass: s = r²S with r = √(1 − ρ),
    and g / (√s + ε) = g / (√S + ε/r) / r.
    """
    r = (1 - rho) ** 0.5

    def update(theta: Array, g: Array, state: State, alpha: float, t: int, scratch: Array) -> None:
        S = state["sum_of_squares"]
        np.multiply(S, rho, out=S)
        np.multiply(g, g, out=scratch)
        np.add(S, scratch, out=S)
        np.sqrt(S, out=scratch)
        np.add(scratch, epsilon / r, out=scratch)
        np.divide(g, scratch, out=scratch)
        np.multiply(scratch, alpha / r, out=scratch)
        np.subtract(theta, scratch, out=theta)

    return Optimizer("rmsprop", ("sum_of_squares",), update)


def adam(beta1: float, beta2: float, epsilon: float) -> Optimizer:
    """θ ← θ − α m̂ / (√v̂ + ε), m̂ and v̂ the bias-corrected means of g and of g².

    Kingma and Ba (2015), algorithm 1. A bias-corrected mean is a discounted sum divided by the sum
    of its discounts: m̂ = M / c1 with M ← β1 M + g and c1 = 1 + β1 + … + β1^(t−1), and v̂ = V / c2.
    The state keeps the sums M and V, which saves two passes.
    """

    def update(theta: Array, g: Array, state: State, alpha: float, t: int, scratch: Array) -> None:
        M, V = state["sum"], state["sum_of_squares"]
        c1 = (1 - beta1**t) / (1 - beta1)
        c2 = (1 - beta2**t) / (1 - beta2)
        np.multiply(M, beta1, out=M)
        np.add(M, g, out=M)
        np.multiply(V, beta2, out=V)
        np.multiply(g, g, out=g)
        np.add(V, g, out=V)
        # α m̂ / (√v̂ + ε) = (α √c2 / c1) M / (√V + ε √c2)
        np.sqrt(V, out=scratch)
        np.add(scratch, epsilon * c2**0.5, out=scratch)
        np.divide(M, scratch, out=scratch)
        np.multiply(scratch, alpha * c2**0.5 / c1, out=scratch)
        np.subtract(theta, scratch, out=theta)

    return Optimizer("adam", ("sum", "sum_of_squares"), update)


def adamw(beta1: float, beta2: float, epsilon: float, weight_decay: float) -> Optimizer:
    """Adam with decoupled weight decay (Loshchilov and Hutter, 2019)."""
    return replace(adam(beta1, beta2, epsilon), name="adamw", weight_decay=weight_decay)


OPTIMIZERS = ("sgd", "momentum", "nesterov", "rmsprop", "adam", "adamw")


def make_optimizer(
    name: str,
    *,
    momentum: float = 0.9,
    decay_rate: float = 0.9,
    beta1: float = 0.9,
    beta2: float = 0.999,
    epsilon: float = 1e-8,
    weight_decay: float = 0.01,
) -> Optimizer:
    """The optimiser of a name in OPTIMIZERS; settings that it does not have are ignored.

    Args:
        momentum: μ of momentum and nesterov, in [0, 1).
        decay_rate: ρ of rmsprop, in [0, 1).
        beta1, beta2: of adam and adamw, in [0, 1).
        epsilon: ε of rmsprop, adam and adamw, > 0.
        weight_decay: of adamw, >= 0.

    Raises:
        ValueError: an unknown name.
    """
    match name:
        case "sgd":
            return sgd()
        case "momentum":
            return heavy_ball(momentum)
        case "nesterov":
            return nesterov(momentum)
        case "rmsprop":
            return rmsprop(decay_rate, epsilon)
        case "adam":
            return adam(beta1, beta2, epsilon)
        case "adamw":
            return adamw(beta1, beta2, epsilon, weight_decay)
    raise ValueError(f"unknown optimizer {name!r}; known are {', '.join(OPTIMIZERS)}")
