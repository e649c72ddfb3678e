"""Checkpoints: a training's state and its surroundings, one checksummed file for each step kept."""

import hashlib
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields
from functools import cached_property
from typing import Any

import numpy as np

from dist_dnn.errors import InputError
from dist_dnn.nn.activations import Array
from dist_dnn.state import TrainingState
from dist_dnn.storage import CHECKPOINTS, Folder, Unsound

FORMAT = 1
"""The version of what the metadata says."""

STATE, METRICS, SURROUNDINGS, CHECKSUM = (
    f"dist_dnn.{name}" for name in ("state", "metrics", "surroundings", "sha256")
)
"""The names of the texts in the metadata."""


@dataclass(frozen=True)
class Surroundings:
    """What a state belongs to, as JSON can say it.

    Attributes:
        experiment: the target and the hyperparameters.
        model: how a table becomes X, and Ŷ a prediction.
        data: the fingerprint of the rows.
        environment: the machine and its software.
        arithmetic: what of that decides the bits.
    """

    experiment: dict[str, Any]
    model: dict[str, Any]
    data: dict[str, Any]
    environment: dict[str, Any]
    arithmetic: dict[str, Any]

    @cached_property
    def text(self) -> str:
        """As JSON; made once for all checkpoints of a run."""
        return json.dumps({field.name: getattr(self, field.name) for field in fields(self)})


@dataclass(frozen=True)
class Checkpoint:
    """A state with its surroundings, and what messages call its file."""

    name: str
    state: TrainingState
    surroundings: Surroundings


def file_of(step: int) -> str:
    """The file of a step."""
    return f"{CHECKPOINTS}/step-{step:010}.safetensors"


def write_checkpoint(
    folder: Folder, state: TrainingState, metrics: str, surroundings: Surroundings
) -> None:
    """Write a checkpoint whole or not at all, in the place of an older one of the same step.

    Args:
        metrics: the state's history, as it stands in metrics.jsonl.

    Raises:
        OSError: it cannot be written.
    """
    metadata = {
        STATE: json.dumps({"format": FORMAT, **state.to_json()}, allow_nan=False),
        METRICS: metrics,
        SURROUNDINGS: surroundings.text,
    }
    metadata[CHECKSUM] = _checksum(metadata, state.vectors)
    folder.write(file_of(state.step), _safetensors(state.vectors, metadata))


def _safetensors(
    vectors: Mapping[str, Array], metadata: Mapping[str, str]
) -> Iterator[bytes | memoryview]:
    """Vectors in the format of safetensors: the length of a header, the header, the numbers.

    The library copies all numbers once more while no other thread can run, or writes a file of a
    name of its own, which it leaves behind where the process is killed.
    """
    header: dict[str, Any] = {"__metadata__": metadata}
    end = 0
    for name, vector in vectors.items():
        start, end = end, end + vector.nbytes
        header[name] = {"dtype": "F32", "shape": vector.shape, "data_offsets": [start, end]}
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    yield len(text).to_bytes(8, "little") + text
    for vector in vectors.values():
        yield vector.astype("<f4", copy=False).data


def read_checkpoint(folder: Folder, file: str) -> Checkpoint:
    """A checkpoint, of which nothing is believed but what its checksum vouches for.

    Raises:
        Unsound: it is truncated, altered, or no checkpoint.
        InputError: it cannot be reached.
    """
    from safetensors import SafetensorError, safe_open

    with folder.fetched(file) as path:
        try:
            with safe_open(path, framework="numpy") as opened:
                metadata = opened.metadata() or {}
                vectors = {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118
        except (SafetensorError, OSError, ValueError) as error:
            raise Unsound(f"it is truncated or no safetensors file: {error}") from None
    if metadata.pop(CHECKSUM, "") != _checksum(metadata, vectors):
        raise Unsound("its checksum is not that of its content")
    try:
        described = json.loads(metadata[STATE])
        if described.pop("format") != FORMAT:
            raise Unsound(f"it is not of format {FORMAT}, which this version reads")
        history = [json.loads(line) for line in metadata[METRICS].splitlines()]
        state = TrainingState.from_json(described, vectors, history)
        surroundings = Surroundings(**json.loads(metadata[SURROUNDINGS]))
        return Checkpoint(folder.name_of(file), state, surroundings)
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise Unsound(f"it is no checkpoint of dist_dnn: {error}") from None


def newest_checkpoint(folder: Folder) -> tuple[Checkpoint, list[str]]:
    """The newest sound checkpoint of a run, and a line about each newer one that is not.

    Raises:
        InputError: there is none.
    """
    files = checkpoint_files(folder)
    passed_over: list[str] = []
    for file in reversed(files.values()):
        try:
            return read_checkpoint(folder, file), passed_over
        except Unsound as reason:
            passed_over.append(f"{folder.name_of(file)} is passed over: {reason}")
    where = folder.name_of(CHECKPOINTS)
    if not files:
        raise InputError(f"{where} has no checkpoints to resume from; start anew elsewhere")
    raise InputError(
        f"none of the {len(files)} checkpoints in {where} is sound; start anew elsewhere "
        f"({passed_over[0]})"
    )


def checkpoint_files(folder: Folder) -> dict[int, str]:
    """The files of all checkpoints by their steps, oldest first."""
    found = [_STEP.fullmatch(file) for file in folder.checkpoints()]
    return dict(sorted((int(each[1]), each[0]) for each in found if each))


def remove_checkpoints(
    folder: Folder, history: list[dict[str, Any]], last: int, keep: int | None
) -> None:
    """Remove those of steps after ``last``, and all but the newest and the best by validation.

    Args:
        history: the metrics of the epochs.
        last: the newest step that counts.
        keep: how many of the newest stay; None: all.

    Raises:
        OSError: one cannot be removed.
    """
    files = checkpoint_files(folder)
    steps = [step for step in files if step <= last]
    kept = {_best_step(history), *(steps if keep is None else steps[-keep:])}
    for step, file in files.items():
        if step not in kept:
            folder.remove(file)


def _best_step(history: list[dict[str, Any]]) -> int | None:
    """The step after the epoch with the lowest validation loss, the first of equals."""
    losses = {
        each["step"]: each["validation_loss"] for each in history if "validation_loss" in each
    }
    return min(losses, key=lambda step: losses[step], default=None)


_STEP = re.compile(rf"{CHECKPOINTS}/step-(\d+)\.safetensors")


def _checksum(metadata: Mapping[str, str], vectors: Mapping[str, Array]) -> str:
    """SHA-256 of all texts, and of each vector's name, type, shape and bytes."""
    digest = hashlib.sha256()
    for name in sorted(metadata):
        text = metadata[name].encode()
        digest.update(json.dumps([name, len(text)]).encode())
        digest.update(text)
    for name in sorted(vectors):
        vector = np.ascontiguousarray(vectors[name])
        digest.update(json.dumps([name, str(vector.dtype), vector.shape]).encode())
        digest.update(vector.data)
    return digest.hexdigest()
