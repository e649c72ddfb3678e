"""What a training reports to while it goes on: one, several at once, or nobody."""

from collections.abc import Sequence
from typing import Any


class Progress:
    """What a training reports to while it goes on; by itself it does nothing about it."""

    def begin(self, lines: list[str]) -> None:
        """A new training begins; what there is to say of its columns."""

    def resume(self, step: int) -> None:
        """It goes on after a step that was done before."""

    def start_epoch(self, epoch: int, epochs: int, m: int, done: int) -> None:
        """An epoch begins, or begins again, of whose m rows some are done."""

    def step(self, rows: int, loss: float | None, seconds: float) -> None:
        """A batch of so many rows is done in these seconds; its mean loss, unless it has none."""

    def end_epoch(self, metrics: dict[str, Any]) -> None:
        """An epoch is done; what metrics.jsonl says of it."""

    def close(self) -> None:
        """Nothing more will come."""


def together(reports: Sequence[Progress]) -> Progress:
    """What reports to each of these, in this order."""
    return reports[0] if len(reports) == 1 else _Several(reports)


class _Several(Progress):
    def __init__(self, reports: Sequence[Progress]) -> None:
        self._reports = reports

    def begin(self, lines: list[str]) -> None:
        for each in self._reports:
            each.begin(lines)

    def resume(self, step: int) -> None:
        for each in self._reports:
            each.resume(step)

    def start_epoch(self, epoch: int, epochs: int, m: int, done: int) -> None:
        for each in self._reports:
            each.start_epoch(epoch, epochs, m, done)

    def step(self, rows: int, loss: float | None, seconds: float) -> None:
        for each in self._reports:
            each.step(rows, loss, seconds)

    def end_epoch(self, metrics: dict[str, Any]) -> None:
        for each in self._reports:
            each.end_epoch(metrics)

    def close(self) -> None:
        for each in self._reports:
            each.close()
