"""Numerical against analytic gradients."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from dist_dnn.nn.activations import Array
from dist_dnn.nn.network import Gradients, Network, Parameters
from dist_dnn.nn.propagation import Arrays, backward, forward, gradients, losses


@dataclass(frozen=True)
class GradientCheck:
    """How far numerical and analytic gradients lie apart.

    Attributes:
        relative_error: ‖numerical − analytic‖₂ / (‖numerical‖₂ + ‖analytic‖₂) over all
            parameters; below 1e-7 is right, above 1e-3 is wrong, as the course has it.
        layer_errors: the same by layer, over W[l] and b[l].
    """

    relative_error: float
    layer_errors: Mapping[int, float]

    @property
    def worst_layer(self) -> int:
        """The number of the layer with the greatest error."""
        return max(self.layer_errors, key=self.layer_errors.__getitem__)


def gradient_check(
    network: Network,
    parameters: Array,
    X: Array,
    Y: Array,
    epsilon: float = 1e-5,
    w: Array | None = None,
) -> GradientCheck:
    """Compare two-sided differences of the mean loss with dW/m and db/m, in float64.

    With weights, m is their sum.

    The error of a two-sided difference is of order epsilon², that of its rounding 1e-16 / epsilon.
    Where a Z[l] lies within about epsilon of the kink of relu or leaky_relu the difference is no
    derivative; biases that are all 0 can put it there exactly.

    Args:
        network: what to check.
        parameters: the flat vector, (P,); left as it is.
        X: (n[0], m).
        Y: (n[L], m).
        epsilon: how far each parameter is moved to either side.
        w: the weights of the examples, (1, m); None where all count alike.

    Raises:
        ValueError: an array is not float64.
        DimensionError: an array has another shape than the network demands.
    """
    for name, array in (("parameters", parameters), ("X", X), ("Y", Y), ("w", w)):
        if array is not None and array.dtype != np.float64:
            raise ValueError(f"{name} must be float64 for a gradient check, not {array.dtype}")
    moved = Parameters(network, parameters.copy())
    arrays = Arrays.of(network, X, Y, w)
    m: float = X.shape[1] if w is None else w.sum()

    def mean_loss() -> float:
        forward(moved, arrays)
        return losses(arrays).item() / m

    analytic = np.empty(network.parameter_count)
    forward(moved, arrays)
    backward(moved, arrays)
    gradients(arrays.factors, Gradients(network, analytic))
    analytic /= m
    numerical = numerical_gradient(mean_loss, moved.vector, epsilon)
    return GradientCheck(
        relative_error(numerical, analytic),
        {
            layer.number: relative_error(
                numerical[layer.start : layer.stop], analytic[layer.start : layer.stop]
            )
            for layer in network.layers
        },
    )


def numerical_gradient(J: Callable[[], float], theta: Array, epsilon: float) -> Array:
    """(J(θ + ε) − J(θ − ε)) / 2ε for one number of θ after the other.

    Args:
        J: the cost for what theta holds when it is called.
        theta: (P,), moved in place and put back.
        epsilon: ε.

    Returns:
        (P,).
    """
    gradient = np.empty_like(theta)
    for i, here in enumerate(theta.copy()):
        theta[i] = here + epsilon
        above = J()
        theta[i] = here - epsilon
        below = J()
        theta[i] = here
        gradient[i] = (above - below) / (2 * epsilon)
    return gradient


def relative_error(numerical: Array, analytic: Array) -> float:
    """‖numerical − analytic‖₂ / (‖numerical‖₂ + ‖analytic‖₂); 0 where both are 0."""
    scale = float(np.linalg.norm(numerical) + np.linalg.norm(analytic))
    return float(np.linalg.norm(numerical - analytic)) / scale if scale > 0 else 0.0
