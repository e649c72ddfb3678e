"""What a worker's process spends: its time, lap by lap, and its memory; always on."""

import os
import resource
import sys
from time import perf_counter_ns

PHASES = (
    "waiting",
    "broadcast",
    "gather",
    "forward",
    "backward",
    "addition",
    "reduce",
    "other",
)
"""What time goes to: waiting for the driver or other workers; receiving the parameters; copying a
batch's rows into place; forward propagation with the losses; backward propagation with the
gradients; adding up the sums of its own shards; its part in adding up everyone's; other tasks."""

WAITING, BROADCAST, GATHER, FORWARD, BACKWARD, ADDITION, REDUCE, OTHER = range(len(PHASES))

MEMORY = ("data", "vectors", "activations", "peak")
"""What memory holds: rows with their order; parameters and sums; the arrays of a pass. The peak is
the most that the process has ever held, its program included."""


class Account:
    """Adds up what is spent.

    Attributes:
        identity: a number at random above 0, that tells this process from others.
        nanoseconds: by phase.
        data, vectors, activations: bytes of the training, as MEMORY has them.
    """

    def __init__(self) -> None:
        self.identity = 1 + int.from_bytes(os.urandom(6))  # which a float64 holds
        self.nanoseconds = [0] * len(PHASES)
        self.data = self.vectors = self.activations = 0
        self._since = perf_counter_ns()

    def lap(self, phase: int) -> None:
        """The time since the lap before was spent on this phase."""
        now = perf_counter_ns()
        self.nanoseconds[phase] += now - self._since
        self._since = now

    def numbers(self) -> list[int]:
        """The identity, the nanoseconds, then the bytes."""
        usage = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        peak = usage if sys.platform == "darwin" else 1024 * usage
        held = self.data, self.vectors, self.activations
        return [self.identity, *self.nanoseconds, *held, peak]


ACCOUNT = Account()
"""That of this process."""
