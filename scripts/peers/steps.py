"""What every peer can do: make training steps."""

from abc import ABC, abstractmethod


class Steps(ABC):
    """A training that goes on from turn to turn, through the batches of its task in circles."""

    @abstractmethod
    def run(self, steps: int) -> tuple[int, float]:
        """Make so many steps, or a few more, to their end.

        Returns:
            How many steps were made, and the last one's loss.
        """

    def close(self) -> None:  # noqa: B027 - optional
        """End what belongs to it."""
