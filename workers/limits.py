"""How long a driver waits for workers."""

SHORTEST_TIMEOUT = 30.0
"""How long a worker may be stopped, or a round take, unless a timeout is given."""

TIMES_THE_LONGEST = 10
"""A round that takes so many times the longest of its task before hangs."""

FADING = 0.99
"""How much of the longest round is remembered after each further one."""

UNMEASURED_SECONDS = 3600.0
"""How long a worker may read data, or the first round of a task take."""

TOGETHER_SECONDS = 0.05
"""What is lost within this time is lost together."""

TOGETHER_PART = 0.9
"""A worker that was silent for so much of the timeout is lost with those silent for all of it."""


class RoundLimit:
    """How long a round of one task may take: what was asked for, or what those before suggest.

    Args:
        step_timeout: the seconds that are asked for.
    """

    def __init__(self, step_timeout: float) -> None:
        self._step_timeout = step_timeout
        self._longest = 0.0

    @property
    def seconds(self) -> float:
        """The limit of the next round."""
        if self._longest == 0.0:
            return UNMEASURED_SECONDS
        return max(self._step_timeout, TIMES_THE_LONGEST * self._longest)

    def took(self, seconds: float) -> None:
        """Take note of a round."""
        self._longest = max(FADING * self._longest, seconds)
