"""One step of the driver: divide by m, add the penalty, clip, update; in chunks that fit the cache.

The workers send sums over examples; here they are divided, once for all.
"""

import math
from dataclasses import dataclass

import numpy as np

from dist_dnn.nn.activations import Array
from dist_dnn.nn.network import Network
from dist_dnn.nn.optimizers import Optimizer, State

CHUNK = 32_768
"""Numbers in a chunk, counted from the vector's beginning: five float32 arrays of this length lie
in the second-level cache together. The norm adds up chunk by chunk, so this is part of the
numerics."""


@dataclass(frozen=True)
class _Chunk:
    """A chunk of the flat vector, the views that a step on it needs, and where it has weights."""

    place: slice
    theta: Array
    state: State
    scratch: Array
    weights: tuple[slice, ...]


class Update:
    """The update of a network's parameters from summed gradients, in place.

    Args:
        network: says which parameters are weights.
        parameters: the flat vector, (P,), changed by every call.
        optimizer: what a step does.
        l2: λ >= 0 of the penalty (λ/2m) ‖W‖² on the weights.
        clip_norm: the greatest global norm > 0 of a gradient, penalty included; None: any.

    Attributes:
        state: the optimiser's vectors, (P,) each, by name. To go on from a checkpoint, write into
            them: they are never replaced.
    """

    def __init__(
        self,
        network: Network,
        parameters: Array,
        optimizer: Optimizer,
        *,
        l2: float = 0.0,
        clip_norm: float | None = None,
    ) -> None:
        self.state = optimizer.init(parameters.size, parameters.dtype)
        self._optimizer = optimizer
        self._l2 = l2
        self._clip_norm = clip_norm
        scratch = np.empty(CHUNK, parameters.dtype)
        self._squares = np.empty(CHUNK if clip_norm is not None else 0, np.float64)
        self._chunks = [
            _Chunk(
                place,
                parameters[place],
                {name: vector[place] for name, vector in self.state.items()},
                scratch[: place.stop - place.start],
                _weights_within(network, place),
            )
            for place in (
                slice(start, min(start + CHUNK, parameters.size))
                for start in range(0, parameters.size, CHUNK)
            )
        ]

    def __call__(self, sums: Array, m: float, learning_rate: float, step: int) -> float | None:
        """Make one step.

        Args:
            sums: the gradients summed over the batch, (P,), in the type of the parameters;
                overwritten.
            m: what they are divided by, > 0: the examples of the batch, or the sum of their
                weights.
            learning_rate: α of this step.
            step: its number, from 1.

        Returns:
            The norm of the gradient before it was clipped; None where nothing clips.
        """
        # A NumPy float would make every operation on float32 one on float64.
        m, learning_rate = float(m), float(learning_rate)
        if self._clip_norm is None:
            for chunk in self._chunks:
                g = sums[chunk.place]
                self._divide(chunk, g, m)
                self._apply(chunk, g, learning_rate, step)
            return None

        sum_of_squares = 0.0
        for chunk in self._chunks:
            g = sums[chunk.place]
            self._divide(chunk, g, m)
            sum_of_squares += self._sum_of_squares(g)
        norm = math.sqrt(sum_of_squares)
        for chunk in self._chunks:
            g = sums[chunk.place]
            if norm > self._clip_norm:
                np.multiply(g, self._clip_norm / norm, out=g)
            self._apply(chunk, g, learning_rate, step)
        return norm

    def _divide(self, chunk: _Chunk, g: Array, m: float) -> None:
        """g ← g/m, and g ← g + (λ/m) W where the chunk has weights."""
        np.divide(g, m, out=g)
        if self._l2 > 0:
            for part in chunk.weights:
                penalty = chunk.scratch[part]
                np.multiply(chunk.theta[part], self._l2 / m, out=penalty)
                np.add(g[part], penalty, out=g[part])

    def _sum_of_squares(self, g: Array) -> float:
        """Σ g², in float64."""
        squares = self._squares[: g.size]
        np.copyto(squares, g)
        np.multiply(squares, squares, out=squares)
        return float(np.add.reduce(squares))

    def _apply(self, chunk: _Chunk, g: Array, learning_rate: float, step: int) -> None:
        """The decay where the chunk has weights, and the optimiser's step."""
        decay = self._optimizer.weight_decay
        if decay > 0:
            for part in chunk.weights:
                W = chunk.theta[part]
                np.multiply(W, 1 - learning_rate * decay, out=W)
        self._optimizer.update(chunk.theta, g, chunk.state, learning_rate, step, chunk.scratch)


def _weights_within(network: Network, place: slice) -> tuple[slice, ...]:
    """Where a chunk has weights, counted from its own beginning."""
    parts = []
    for layer in network.layers:
        start = max(layer.weights.start, place.start)
        stop = min(layer.weights.stop, place.stop)
        if start < stop:
            parts.append(slice(start - place.start, stop - place.start))
    return tuple(parts)
