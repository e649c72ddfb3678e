"""Gauges: numbers of a training that is under way, by name, for those who collect them."""

from typing import Any

from dist_dnn.reporting import Progress

PREFIX = "dist_dnn_"
"""What the names of all gauges begin with; before it, Ray puts ``ray_``."""

LABEL = "run"
"""The label that tells one run's numbers from another's."""

OF_STEPS = {
    "loss": "the mean loss of the last batch",
    "examples_per_second": "examples a second in the last step",
    "step_seconds": "the seconds of the last step",
}

OF_EPOCHS = {
    "epoch": "the epochs that are done",
    "step": "the steps that were done when the last epoch ended",
    "train_loss": "the mean loss of the last epoch's examples as they were trained on",
    "validation_loss": "the mean loss of the validation after the last epoch",
    "validation_accuracy": "the part of the validation that was right after the last epoch",
    "validation_rmse": "the root of the mean squared error of the validation after the last epoch",
}
"""The numbers of ``metrics.jsonl`` that are gauges, under the same names."""

DESCRIPTIONS = OF_STEPS | OF_EPOCHS
"""What each gauge tells, by its name without the prefix."""


class Gauges(Progress):
    """Remembers what there is to tell of a training.

    A step costs it an assignment: whoever asks does the rest, in a thread of his own.
    """

    def __init__(self) -> None:
        self._step: tuple[int, float | None, float] | None = None
        self._epoch: dict[str, float] = {}

    def step(self, rows: int, loss: float | None, seconds: float) -> None:
        self._step = rows, loss, seconds

    def end_epoch(self, metrics: dict[str, Any]) -> None:
        self._epoch = {name: metrics[name] for name in OF_EPOCHS if name in metrics}

    def values(self) -> dict[str, float]:
        """The gauges that have a value by now."""
        found: dict[str, float] = {}
        if self._step is not None:
            rows, loss, seconds = self._step
            found = {} if loss is None else {"loss": loss}
            found |= {"examples_per_second": rows / seconds, "step_seconds": seconds}
        return found | self._epoch
