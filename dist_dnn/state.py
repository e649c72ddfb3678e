"""The state of a training between two steps: all that must be kept to go on to the same bits."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dist_dnn.nn.activations import Array

PARAMETERS = "parameters"
"""The name of the parameters among the vectors."""

EPOCH_START = "epoch_start."
"""What the names of vectors begin with that hold others as they were when the epoch began."""


@dataclass
class TrainingState:
    """Where a training stands.

    Attributes:
        vectors: float32 (P,) each, by name: the parameters, those of the optimiser, and, where
            the training may have to go back to it, their values when the epoch began.
        batches: in an epoch.
        epoch: the one in work, from 1.
        batch: the next of the epoch, from 0.
        sums: of losses, weights and counts over the epoch's batches so far, float64 (3,).
        skipped_batches: those of the epoch so far that had no weight.
        seconds: spent on the epoch so far.
        learning_rate_factor: what the schedule's rate is multiplied by.
        rollbacks: what led to each halving of that factor.
        history: the metrics of the completed epochs.
        profile: where the time went of the epochs that this process completed, as
            ``profile.Spent``; empty before. A checkpoint does not have it.
    """

    vectors: dict[str, Array]
    batches: int
    epoch: int = 1
    batch: int = 0
    sums: NDArray[np.float64] = field(default_factory=lambda: np.zeros(3))
    skipped_batches: int = 0
    seconds: float = 0.0
    learning_rate_factor: float = 1.0
    rollbacks: list[dict[str, Any]] = field(default_factory=list)
    history: list[dict[str, Any]] = field(default_factory=list)
    profile: dict[str, Any] = field(default_factory=dict)

    @property
    def step(self) -> int:
        """How many steps are done."""
        return (self.epoch - 1) * self.batches + self.batch

    @property
    def is_finite(self) -> bool:
        """Whether the parameters are worth keeping."""
        return bool(np.isfinite(self.vectors[PARAMETERS]).all())

    def copy(self) -> "TrainingState":
        """The same in memory of its own."""
        copied = TrainingState(
            {name: vector.copy() for name, vector in self.vectors.items()}, self.batches
        )
        copied.restore(self)
        return copied

    def restore(self, other: "TrainingState") -> None:
        """Become what ``other`` is; the vectors stay where they are."""
        for name, vector in self.vectors.items():
            np.copyto(vector, other.vectors[name])
        self.sums[:] = other.sums
        for name in _PLAIN:
            setattr(self, name, getattr(other, name))
        self.rollbacks, self.history = list(other.rollbacks), list(other.history)
        self.profile = other.profile

    def begin_epoch(self, epoch: int) -> None:
        """Stand before the first batch of an epoch; what is there to go back to is kept."""
        self.epoch, self.batch, self.skipped_batches, self.seconds = epoch, 0, 0, 0.0
        self.sums[:] = 0
        for start, now in self._epoch_starts():
            np.copyto(start, now)

    def go_back(self) -> None:
        """Stand where the epoch began, but for what was recorded."""
        for start, now in self._epoch_starts():
            np.copyto(now, start)
        self.begin_epoch(self.epoch)

    def keep_epoch_starts(self) -> None:
        """From now on keep what ``go_back`` needs."""
        copies = {EPOCH_START + name: vector.copy() for name, vector in self.vectors.items()}
        self.vectors.update(copies)

    def _epoch_starts(self) -> list[tuple[Array, Array]]:
        return [
            (vector, self.vectors[name.removeprefix(EPOCH_START)])
            for name, vector in self.vectors.items()
            if name.startswith(EPOCH_START)
        ]

    def to_json(self) -> dict[str, Any]:
        """All but the vectors and the history."""
        plain = {name: getattr(self, name) for name in (*_PLAIN, "rollbacks")}
        return {"sums": self.sums.tolist(), **plain}

    @classmethod
    def from_json(
        cls, described: Mapping[str, Any], vectors: dict[str, Array], history: list[dict[str, Any]]
    ) -> "TrainingState":
        """The state of ``to_json`` with the rest."""
        described = {"skipped_batches": 0, **described}  # earlier versions wrote none
        plain = {name: described[name] for name in (*_PLAIN, "rollbacks")}
        sums = np.array(described["sums"], np.float64)
        return cls(vectors, sums=sums, history=history, **plain)


_PLAIN = ("batches", "epoch", "batch", "skipped_batches", "seconds", "learning_rate_factor")
"""What is a number."""
