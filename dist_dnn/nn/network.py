"""Network: layer sizes to shapes and initialisation; Parameters: one flat vector with views."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any

import numpy as np

from dist_dnn.nn.activations import ACTIVATIONS, Activation, Array
from dist_dnn.nn.losses import LOSSES, Loss
from dist_dnn.nn.randomness import Purpose, generator


class DimensionError(ValueError):
    """An array of the wrong shape: names layer, array, the shape it has and the one it needs."""


def check_shape(layer: int, name: str, array: Array, shape: tuple[int, ...]) -> None:
    """Raise DimensionError unless the array has this shape."""
    if array.shape != shape:
        raise DimensionError(
            f"layer {layer}: {name} has shape {array.shape}, but must have shape {shape}"
        )


@dataclass(frozen=True)
class Layer:
    """The place of one layer in the flat vector: (n[l-1], n[l]) weights, then n[l] biases."""

    number: int
    inputs: int
    units: int
    start: int

    @property
    def weights(self) -> slice:
        return slice(self.start, self.start + self.inputs * self.units)

    @property
    def biases(self) -> slice:
        return slice(self.weights.stop, self.stop)

    @property
    def stop(self) -> int:
        return self.start + (self.inputs + 1) * self.units


@dataclass(frozen=True)
class Network:
    """An L-layer fully connected network.

    Args:
        layer_sizes: n[0], n[1], …, n[L], each at least 1; L >= 1.
        activation: g[l] of the hidden layers, a name in ACTIVATIONS.
        loss: a name in LOSSES; it owns the output activation g[L].
        initialization: "he", "xavier", or "auto": he where the layer's activation is relu or
            leaky_relu, else xavier.

    Raises:
        ValueError: a size below 1, fewer than two sizes, or an unknown name.
    """

    layer_sizes: tuple[int, ...]
    activation: str = "relu"
    loss: str = "cross_entropy"
    initialization: str = "auto"

    def __post_init__(self) -> None:
        object.__setattr__(self, "layer_sizes", tuple(self.layer_sizes))
        if len(self.layer_sizes) < 2:
            raise ValueError(f"layer_sizes {self.layer_sizes} must name n[0] and n[L] at least")
        for layer, units in enumerate(self.layer_sizes):
            if units < 1:
                raise ValueError(f"layer {layer} has {units} units; it must have at least 1")
        for value, known in (
            (self.activation, ACTIVATIONS),
            (self.loss, LOSSES),
            (self.initialization, INITIALIZATIONS),
        ):
            if value not in known:
                raise ValueError(f"unknown {value!r}; known are {', '.join(known)}")
        if self.output_loss.one_output and self.layer_sizes[-1] != 1:
            raise ValueError(f"{self.loss} needs n[L] = 1, not {self.layer_sizes[-1]}")

    def arguments(self) -> dict[str, Any]:
        """The arguments that make this network, as JSON can say them."""
        return asdict(self) | {"layer_sizes": list(self.layer_sizes)}

    @property
    def L(self) -> int:
        """The number of layers, the input not counted."""
        return len(self.layer_sizes) - 1

    @property
    def hidden_activation(self) -> Activation:
        return ACTIVATIONS[self.activation]

    @property
    def output_loss(self) -> Loss:
        return LOSSES[self.loss]

    @cached_property
    def layers(self) -> tuple[Layer, ...]:
        """Layers 1 … L with their places in the flat vector."""
        layers: list[Layer] = []
        start = 0
        for number in range(1, self.L + 1):
            inputs, units = self.layer_sizes[number - 1], self.layer_sizes[number]
            layers.append(Layer(number, inputs, units, start))
            start = layers[-1].stop
        return tuple(layers)

    @property
    def parameter_count(self) -> int:
        """The length of the flat vector."""
        return self.layers[-1].stop

    def initialize(self, seed: int, dtype: type[np.floating] = np.float32) -> "Parameters":
        """Parameters drawn for the seed: W[l] normal by He's or Xavier's deviation, b[l] zero.

        The draws of a layer depend on (seed, layer) alone; they are made in float64 in the order
        of W[l] (n[l], n[l-1]) and rounded to ``dtype``.
        """
        parameters = Parameters(self, np.zeros(self.parameter_count, dtype))
        for layer in self.layers:
            draws = generator(seed, Purpose.INITIALISATION, layer=layer.number)
            deviation = _DEVIATIONS[self._initialization(layer)](layer.inputs, layer.units)
            parameters.W[layer.number][:] = deviation * draws.standard_normal(
                (layer.units, layer.inputs)
            )
        return parameters

    def _initialization(self, layer: Layer) -> str:
        if self.initialization != "auto":
            return self.initialization
        return "xavier" if layer.number == self.L else self.hidden_activation.gain


def _he(inputs: int, units: int) -> float:
    """√(2 / n[l-1]) (He, Zhang, Ren and Sun, 2015)."""
    return float(np.sqrt(2 / inputs))


def _xavier(inputs: int, units: int) -> float:
    """√(2 / (n[l-1] + n[l])) (Glorot and Bengio, 2010)."""
    return float(np.sqrt(2 / (inputs + units)))


_DEVIATIONS = {"he": _he, "xavier": _xavier}
INITIALIZATIONS = ("auto", *_DEVIATIONS)


def layer_views(network: Network, vector: Array) -> tuple[dict[int, Array], dict[int, Array]]:
    """Views of a flat vector in the course's shapes, numbered from 1.

    Args:
        network: gives the shapes.
        vector: (..., P) where P is the network's parameter_count; leading axes stay in front.

    Returns:
        The weights, (..., n[l], n[l-1]) each, and the biases, (..., n[l], 1) each. In memory the
        weights of a layer are a C-contiguous (n[l-1], n[l]) block, followed by its biases.

    Raises:
        DimensionError: the vector is not P long.
    """
    if vector.shape[-1] != network.parameter_count:
        raise DimensionError(
            f"layers 1 to {network.L}: the flat vector has shape {vector.shape}, but must have "
            f"shape (..., {network.parameter_count})"
        )
    weights: dict[int, Array] = {}
    biases: dict[int, Array] = {}
    leading = vector.shape[:-1]
    for layer in network.layers:
        stored = vector[..., layer.weights].reshape(*leading, layer.inputs, layer.units)
        weights[layer.number] = stored.mT
        biases[layer.number] = vector[..., layer.biases].reshape(*leading, layer.units, 1)
    return weights, biases


class Parameters:
    """What is learned: W[l] of shape (n[l], n[l-1]) and b[l] (n[l], 1), for l = 1 … L.

    Both are views of ``vector``, so that a step of the optimiser on the vector is one on all of
    them.

    Raises:
        DimensionError: the vector is not as long as the network has parameters.
    """

    def __init__(self, network: Network, vector: Array) -> None:
        self.network = network
        self.vector = vector
        self.W, self.b = layer_views(network, vector)

    @classmethod
    def from_layers(
        cls, network: Network, W: Mapping[int, Array], b: Mapping[int, Array]
    ) -> "Parameters":
        """A copy of arrays given by layer, in the type of W[1].

        Raises:
            DimensionError: a layer is missing, or an array has another shape than its layer's.
        """
        for layer in network.layers:
            for name, arrays, columns in (("W", W, layer.inputs), ("b", b, 1)):
                if layer.number not in arrays:
                    raise DimensionError(f"layer {layer.number}: {name}[{layer.number}] is missing")
                label = f"{name}[{layer.number}]"
                check_shape(layer.number, label, arrays[layer.number], (layer.units, columns))
        parameters = cls(network, np.empty(network.parameter_count, W[1].dtype))
        for layer in network.layers:
            parameters.W[layer.number][:] = W[layer.number]
            parameters.b[layer.number][:] = b[layer.number]
        return parameters


class Gradients:
    """The sums over examples dW[l] (..., n[l], n[l-1]) and db[l] (..., n[l], 1), l = 1 … L.

    Views of ``vector`` (..., P), laid out like the parameters'. A leading axis numbers blocks.

    Raises:
        DimensionError: the vector is not as long as the network has parameters.
    """

    def __init__(self, network: Network, vector: Array) -> None:
        self.network = network
        self.vector = vector
        self.dW, self.db = layer_views(network, vector)

    @classmethod
    def zeros(cls, network: Network, dtype: type[np.floating] = np.float32) -> "Gradients":
        """Gradients with a vector of their own."""
        return cls(network, np.zeros(network.parameter_count, dtype))
