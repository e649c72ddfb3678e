"""A trained model: what predicts, and its file; nothing in it is ever unpickled."""

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from dist_dnn.data.features import Features, json_list, json_object
from dist_dnn.data.targets import Target
from dist_dnn.errors import InputError
from dist_dnn.evaluation import predicted_classes
from dist_dnn.hyperparameters import what_must_be
from dist_dnn.nn.activations import Array
from dist_dnn.nn.network import Network, Parameters
from dist_dnn.storage import Unsound, open_folder

LOSS_OF_TASK = {
    "binary": "binary_cross_entropy",
    "multiclass": "cross_entropy",
    "regression": "half_squared_error",
}

MODEL_FILE = "model.safetensors"
FORMAT = 1
"""The version of what the metadata says."""


@dataclass(frozen=True)
class Model:
    """A network with its parameters, and how a table becomes X and Ŷ a prediction.

    Attributes:
        network, parameters: the function.
        features: the columns and their standardisation.
        target: the classes, or the units, of what is predicted.
        shards: S of training; prediction goes through a table by the same shards.
        weight: the column that had the rows' weights, if there was one; prediction needs none.
    """

    network: Network
    parameters: Parameters
    features: Features
    target: Target
    shards: int
    weight: str | None = None

    @property
    def digest(self) -> str:
        """SHA-256 of the little-endian bytes of W1, b1, W2, … in C order."""
        return parameters_digest(self.parameters)

    def predictions(self, A: Array) -> pa.RecordBatch:
        """Ŷ (n[L], m) as m rows: ``prediction``, and for classes ``probability_<class>`` for each.

        Of several targets there is ``prediction_<target>`` for each. A prediction has the target's
        type, but for a regression of integers or decimals float64.
        """
        target = self.target
        if target.task == "regression":
            several = len(target.names) > 1
            names = [f"prediction_{name}" if several else "prediction" for name in target.names]
            return pa.record_batch(dict(zip(names, target.given_back(A), strict=True)))
        classes = np.zeros(A.shape[1], np.int64)
        predicted_classes(A, classes)
        columns = {"prediction": target.values_at(classes)}
        probabilities = [1 - A[0], A[0]] if target.task == "binary" else list(A)
        for name, probability in zip(target.class_names(), probabilities, strict=True):
            columns[f"probability_{name}"] = pa.array(np.ascontiguousarray(probability))
        return pa.record_batch(columns)

    def with_parameters(self, parameters: Parameters) -> "Model":
        """The same model with other parameters."""
        return replace(self, parameters=parameters)

    def detached(self) -> "Model":
        """The same model with parameters of its own, which no training goes on to change."""
        return self.with_parameters(Parameters(self.network, self.parameters.vector.copy()))

    def data_to_json(self) -> dict[str, Any]:
        """How a table becomes X, and Ŷ a prediction."""
        weight = {} if self.weight is None else {"weight": self.weight}
        return {"features": self.features.to_json(), "target": self.target.to_json(), **weight}

    def to_bytes(self) -> bytes:
        """The file: tensors W1 (n[1], n[0]), b1 (n[1], 1), …; the rest in its metadata."""
        from safetensors.numpy import save

        described = {
            "format": FORMAT,
            "network": self.network.arguments(),
            "shards": self.shards,
            **self.data_to_json(),
        }
        return save(dict(_tensors(self.parameters)), {"dist_dnn": json.dumps(described)})

    @classmethod
    def load(cls, run: str | Path) -> "Model":
        """The model of a run directory, by its path or its URI.

        Raises:
            InputError: no run, or a model file that is truncated or not what it should be.
        """
        folder = open_folder(run)
        remedy = "give a run that `dist-dnn train` made"
        if not folder.has(MODEL_FILE):
            raise InputError(f"{folder.name} is no run directory: it has no {MODEL_FILE}; {remedy}")
        try:
            with folder.fetched(MODEL_FILE, compared=True) as path:
                return cls._read(path)
        except Unsound as reason:
            file = folder.name_of(MODEL_FILE)
            raise InputError(f"{file} cannot be used: {reason}; {remedy}") from None

    @classmethod
    def _read(cls, path: Path) -> "Model":
        """From a safetensors file, of which nothing is believed."""
        from safetensors import SafetensorError, safe_open

        try:
            with safe_open(path, framework="numpy") as file:
                return cls._from_file(file)
        except (SafetensorError, OSError) as error:
            raise Unsound(f"it is truncated or no safetensors file: {error}") from None
        except (ValueError, RecursionError) as error:
            raise Unsound(f"it holds no model of dist_dnn: {error}") from None

    @classmethod
    def _from_file(cls, file: Any) -> "Model":
        """From an open safetensors file."""
        described = json.loads((file.metadata() or {}).get("dist_dnn", "null"))
        if not isinstance(described, dict) or described.get("format") != FORMAT:
            raise InputError(f"its metadata is not of format {FORMAT}, which this version reads")
        keys = {"format", "network", "shards", "features", "target"}
        described = json_object(described, "metadata", keys | (described.keys() & {"weight"}))
        weight = described.get("weight")
        if not isinstance(weight, str | None):
            raise InputError(f"its weight {weight!r} is not the name of a column")
        network = _network_from_json(described["network"])
        features = Features.from_json(described["features"])
        target = Target.from_json(described["target"])
        expected = (features.size, target.outputs, LOSS_OF_TASK[target.task])
        if (network.layer_sizes[0], network.layer_sizes[-1], network.loss) != expected:
            raise InputError("its network does not fit its features and target")
        if must := what_must_be("shards", described["shards"]):
            raise InputError(f"its number of shards must be {must}, not {described['shards']!r}")
        parameters, shards = _read_parameters(file, network), described["shards"]
        return cls(network, parameters, features, target, shards, weight)


def parameters_digest(parameters: Parameters) -> str:
    """SHA-256 of the little-endian bytes of W1, b1, W2, … in C order, as 64 hexadecimal digits."""
    digest = hashlib.sha256()
    for _, tensor in _tensors(parameters):
        digest.update(tensor.astype("<f4", copy=False).data)
    return digest.hexdigest()


def _tensors(parameters: Parameters) -> Iterator[tuple[str, Array]]:
    """W1 (n[1], n[0]), b1 (n[1], 1), W2, … in C order."""
    return ((name, np.ascontiguousarray(tensor)) for name, tensor in _views(parameters))


def _views(parameters: Parameters) -> Iterator[tuple[str, Array]]:
    for layer in range(1, parameters.network.L + 1):
        yield f"W{layer}", parameters.W[layer]
        yield f"b{layer}", parameters.b[layer]


def _network_from_json(value: object) -> Network:
    described = json_object(value, "network", {field.name for field in fields(Network)})
    sizes = json_list(described, "layer_sizes")
    if any(type(size) is not int for size in sizes):
        raise InputError("its 'layer_sizes' are not all whole numbers")
    if not all(isinstance(each, str) for name, each in described.items() if name != "layer_sizes"):
        raise InputError("its network has a name that is no text")
    return Network(**described)


def _read_parameters(file: Any, network: Network) -> Parameters:
    """The tensors of an open safetensors file, which must be those of the network.

    Their shapes are checked against the file before memory is taken for them.
    """
    shapes = {
        f"{name}{layer.number}": [layer.units, columns]
        for layer in network.layers
        for name, columns in (("W", layer.inputs), ("b", 1))
    }
    if set(file.keys()) != set(shapes):
        raise InputError(f"its tensors are not W1, b1 to W{network.L}, b{network.L}")
    for name, shape in shapes.items():
        stored = file.get_slice(name)
        found = stored.get_dtype(), stored.get_shape()
        if found != ("F32", shape):
            raise InputError(f"its tensor {name} is {found[0]} {found[1]}, not F32 {shape}")
    parameters = Parameters(network, np.empty(network.parameter_count, np.float32))
    for name, tensor in _views(parameters):
        tensor[:] = file.get_tensor(name)
        if not np.isfinite(tensor).all():
            raise InputError(f"its tensor {name} has values that are not finite")
    return parameters
