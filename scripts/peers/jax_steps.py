"""JAX: a whole step compiled, the parameters given away to it, all cores."""

import os
from itertools import cycle, islice
from typing import Any

os.environ["JAX_PLATFORMS"] = "cpu"  # before JAX is imported, which looks for other devices

import jax
import jax.numpy as jnp

from peers.steps import Steps
from peers.task import Task

BETA1, BETA2, EPSILON = 0.9, 0.999, 1e-8


class JaxSteps(Steps):
    """The training of a task; steps are dispatched one behind another, and waited for at the end.

    Attributes:
        state: the parameters, and what else the optimiser changes.
    """

    def __init__(self, task: Task) -> None:
        self.X, self.y = jnp.asarray(task.X), jnp.asarray(task.y)
        self.batches = cycle([jnp.asarray(rows) for rows in task.batches])
        parameters = [(jnp.asarray(W), jnp.asarray(b)) for W, b in zip(task.W, task.b, strict=True)]
        init, update = {"sgd": (_init_sgd, _sgd), "adam": (_init_adam, _adam)}[task.optimizer]
        self.state: Any = parameters, init(parameters)

        def step(state: Any, X: Any, y: Any, rows: Any) -> Any:
            parameters, others = state
            loss, gradients = jax.value_and_grad(_loss)(parameters, X[rows], y[rows])
            return update(parameters, others, gradients, task.learning_rate), loss

        self.step = jax.jit(step, donate_argnums=0)

    def run(self, steps: int) -> tuple[int, float]:
        for rows in islice(self.batches, steps):
            self.state, loss = self.step(self.state, self.X, self.y, rows)
        jax.block_until_ready(self.state)
        return steps, float(loss)


def _loss(parameters: Any, X: Any, y: Any) -> Any:
    """The mean cross-entropy of the softmax."""
    *hidden, (W, b) = parameters
    A = X
    for W_hidden, b_hidden in hidden:
        A = jax.nn.relu(A @ W_hidden + b_hidden)
    logarithms = jax.nn.log_softmax(A @ W + b)
    return -jnp.mean(jnp.sum(jax.nn.one_hot(y, len(b)) * logarithms, axis=1))


def _init_sgd(parameters: Any) -> Any:
    return ()


def _sgd(parameters: Any, others: Any, gradients: Any, alpha: float) -> Any:
    """θ ← θ − αg."""
    return jax.tree.map(lambda theta, g: theta - alpha * g, parameters, gradients), others


def _init_adam(parameters: Any) -> Any:
    """Step 0, and the means of g and g²; arrays of their own, since each is given away."""
    means = [jax.tree.map(jnp.zeros_like, parameters) for _ in range(2)]
    return jnp.zeros((), jnp.int32), *means


def _adam(parameters: Any, others: Any, gradients: Any, alpha: float) -> Any:
    """θ ← θ − α m̂ / (√v̂ + ε)."""
    t, m, v = others
    t = t + 1
    m = jax.tree.map(lambda m, g: BETA1 * m + (1 - BETA1) * g, m, gradients)
    v = jax.tree.map(lambda v, g: BETA2 * v + (1 - BETA2) * g * g, v, gradients)
    c1, c2 = 1 - BETA1**t, 1 - BETA2**t

    def moved(theta: Any, m: Any, v: Any) -> Any:
        return theta - alpha * (m / c1) / (jnp.sqrt(v / c2) + EPSILON)

    return jax.tree.map(moved, parameters, m, v), (t, m, v)
