"""Where a process's time goes: one lap after another, each in a phase of the work; always on."""

from time import perf_counter_ns

PHASES = ("waiting", "broadcast", "gather", "forward", "backward", "addition", "other")
WAITING, BROADCAST, GATHER, FORWARD, BACKWARD, ADDITION, OTHER = range(len(PHASES))


class Clock:
    """Adds up the time of each phase.

    Attributes:
        spent: nanoseconds, by phase.
    """

    def __init__(self) -> None:
        self.spent = [0] * len(PHASES)
        self._since = perf_counter_ns()

    def lap(self, phase: int) -> None:
        """The time since the lap before was spent on this phase."""
        now = perf_counter_ns()
        self.spent[phase] += now - self._since
        self._since = now


CLOCK = Clock()
"""That of the worker in this process."""
