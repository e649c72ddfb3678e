"""A trained model: what predicts, and its file; nothing in it is ever unpickled."""

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from dist_dnn.data.features import Features
from dist_dnn.data.sources import Source
from dist_dnn.data.targets import Target
from dist_dnn.errors import InputError
from dist_dnn.evaluation import predicted_classes
from dist_dnn.nn.activations import Array
from dist_dnn.nn.network import DimensionError, Network, Parameters
from dist_dnn.nn.propagation import Arrays, forward
from dist_dnn.shards import CHUNK_ROWS, shard_range

MODEL_FILE = "model.safetensors"
FORMAT = 1
"""The version of what the metadata says."""


@dataclass(frozen=True)
class Model:
    """A network with its parameters, and how a table becomes X and Ŷ a prediction.

    Attributes:
        network, parameters: the function.
        features: the columns and their standardisation.
        target: the classes, or the unit, of what is predicted.
        shards: S of training; prediction goes through a table by the same shards.
    """

    network: Network
    parameters: Parameters
    features: Features
    target: Target
    shards: int

    @property
    def digest(self) -> str:
        """SHA-256 of the little-endian bytes of W1, b1, W2, … in C order."""
        return parameters_digest(self.parameters)

    def predict(self, source: Source) -> Iterator[pa.RecordBatch]:
        """Predictions for a source's rows, in order.

        Yields:
            Up to CHUNK_ROWS rows: ``prediction`` in the target's type, and for classes
            ``probability_<class>`` for each.

        Raises:
            InputError: the features are not in the source, or a value cannot be used.
        """
        self.features.check_schema(source.schema, source.name)
        names = [column.name for column in self.features.columns]
        for shard in range(self.shards):
            start, stop = shard_range(source.rows, shard, self.shards)
            for batch, first in _chunks(source, names, start, stop):
                arrays = Arrays(self.network, batch.num_rows)
                rows = np.arange(first, first + batch.num_rows)
                self.features.fill(batch, rows, source.name, arrays.X.T)
                yield self._predictions(forward(self.parameters, arrays))

    def _predictions(self, A: Array) -> pa.RecordBatch:
        """Ŷ (n[L], m) as a table of m rows."""
        if self.target.task == "regression":
            return pa.record_batch({"prediction": self.target.decode(A[0])})
        columns = {"prediction": self.target.decode(predicted_classes(A).astype(np.int64))}
        probabilities = [1 - A[0], A[0]] if self.target.task == "binary" else list(A)
        for name, probability in zip(self.target.class_names(), probabilities, strict=True):
            columns[f"probability_{name}"] = pa.array(np.ascontiguousarray(probability))
        return pa.record_batch(columns)

    def detached(self) -> "Model":
        """The same model with parameters of its own, which no training goes on to change."""
        return replace(self, parameters=Parameters(self.network, self.parameters.vector.copy()))

    def data_to_json(self) -> dict[str, Any]:
        """How a table becomes X, and Ŷ a prediction."""
        return {"features": self.features.to_json(), "target": self.target.to_json()}

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
    def load(cls, run: str) -> "Model":
        """The model of a run directory.

        Raises:
            InputError: no run, or a model file that is truncated or not what it should be.
        """
        path = Path(run) / MODEL_FILE
        if not path.is_file():
            raise InputError(f"{run} is no run directory: it has no {MODEL_FILE}")
        metadata, tensors = _read(path)
        try:
            return cls._from_parts(json.loads(metadata["dist_dnn"]), tensors)
        except (InputError, DimensionError, ValueError, KeyError, TypeError) as error:
            what = f"{error}" if isinstance(error, InputError | ValueError) else repr(error)
            raise InputError(f"{path} holds no model of dist_dnn: {what}") from None

    @classmethod
    def _from_parts(cls, described: dict[str, Any], tensors: dict[str, Array]) -> "Model":
        if described["format"] != FORMAT:
            raise InputError(f"its format is {described['format']!r}; this version reads {FORMAT}")
        network = Network(**described["network"])
        features = Features.from_json(described["features"])
        target = Target.from_json(described["target"])
        if (features.size, target.outputs) != (network.layer_sizes[0], network.layer_sizes[-1]):
            raise InputError("its layers do not fit its features and target")
        expected = {f"{name}{layer}" for name in "Wb" for layer in range(1, network.L + 1)}
        if set(tensors) != expected:
            raise InputError(f"its tensors are not {', '.join(sorted(expected))}")
        for name, tensor in tensors.items():
            if tensor.dtype != np.float32:
                raise InputError(f"its tensor {name} is {tensor.dtype}, not float32")
            if not np.isfinite(tensor).all():
                raise InputError(f"its tensor {name} has values that are not finite")
        parameters = Parameters.from_layers(
            network,
            {layer: tensors[f"W{layer}"] for layer in range(1, network.L + 1)},
            {layer: tensors[f"b{layer}"] for layer in range(1, network.L + 1)},
        )
        shards = described["shards"]
        if type(shards) is not int or shards < 1:
            raise InputError(f"its number of shards is {shards!r}")
        return cls(network, parameters, features, target, shards)


def parameters_digest(parameters: Parameters) -> str:
    """SHA-256 of the little-endian bytes of W1, b1, W2, … in C order, as 64 hexadecimal digits."""
    digest = hashlib.sha256()
    for _, tensor in _tensors(parameters):
        digest.update(tensor.astype("<f4", copy=False).data)
    return digest.hexdigest()


def _tensors(parameters: Parameters) -> Iterator[tuple[str, Array]]:
    for layer in range(1, parameters.network.L + 1):
        yield f"W{layer}", np.ascontiguousarray(parameters.W[layer])
        yield f"b{layer}", np.ascontiguousarray(parameters.b[layer])


def _read(path: Path) -> tuple[dict[str, str], dict[str, Array]]:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="numpy") as file:
            return file.metadata() or {}, {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - no mapping
    except (SafetensorError, OSError, ValueError, TypeError, AttributeError, KeyError) as error:
        what = " ".join(str(error).split())
        raise InputError(f"{path} is truncated or no safetensors file: {what}") from None


def _chunks(
    source: Source, names: list[str], start: int, stop: int
) -> Iterator[tuple[pa.RecordBatch, int]]:
    """Rows [start, stop) in chunks of CHUNK_ROWS, with the number of each one's first row."""
    waiting: list[pa.RecordBatch] = []
    for batch in source.batches(names, start, stop, batch_rows=CHUNK_ROWS):
        waiting.append(batch)
        if sum(each.num_rows for each in waiting) >= CHUNK_ROWS:
            table = pa.Table.from_batches(waiting)
            yield _one_batch(table.slice(0, CHUNK_ROWS)), start
            start += CHUNK_ROWS
            waiting = table.slice(CHUNK_ROWS).to_batches()
    if waiting:
        yield _one_batch(pa.Table.from_batches(waiting)), start


def _one_batch(table: pa.Table) -> pa.RecordBatch:
    [batch] = table.combine_chunks().to_batches()
    return batch
