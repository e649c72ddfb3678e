"""What a peer is given to train, as it goes from process to process: arrays and a few numbers."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

FILE = "task.npz"


@dataclass(frozen=True)
class Task:
    """A net, its rows, and how to train it: relu in the hidden layers, softmax, cross-entropy.

    Attributes:
        X: the rows, float32 (m, n[0]).
        y: their classes, int64 (m,).
        batches: the rows of each batch, int64 (batches, B); steps go through them in circles.
        W, b: the parameters to start from: for each layer float32 (n[l-1], n[l]) and (n[l],).
        optimizer: "sgd" or "adam", with what is usual for β1, β2 and ε.
        learning_rate: α.
        cores: how many may be used.
        processes: how many share the work, where it is shared.
    """

    X: NDArray[np.float32]
    y: NDArray[np.int64]
    batches: NDArray[np.int64]
    W: tuple[NDArray[np.float32], ...]
    b: tuple[NDArray[np.float32], ...]
    optimizer: str
    learning_rate: float
    cores: int
    processes: int

    def save(self, folder: Path) -> None:
        """Write it to a folder, for ``load``."""
        arrays: dict[str, Any] = {
            name: value for name, value in vars(self).items() if name not in ("W", "b")
        }
        for l, (W, b) in enumerate(zip(self.W, self.b, strict=True), 1):
            arrays |= {f"W{l}": W, f"b{l}": b}
        np.savez(folder / FILE, **arrays)

    @classmethod
    def load(cls, folder: Path) -> "Task":
        with np.load(folder / FILE) as stored:
            arrays = dict(stored)
        layers = range(1, 1 + sum(name.startswith("W") for name in arrays))
        return cls(
            X=arrays["X"],
            y=arrays["y"],
            batches=arrays["batches"],
            W=tuple(arrays[f"W{l}"] for l in layers),
            b=tuple(arrays[f"b{l}"] for l in layers),
            optimizer=str(arrays["optimizer"]),
            learning_rate=float(arrays["learning_rate"]),
            cores=int(arrays["cores"]),
            processes=int(arrays["processes"]),
        )
