"""A training's gauges as Ray's own, at the metrics endpoint of the driver's node."""

from time import monotonic
from typing import Any

from ray.util.metrics import Gauge

from dist_dnn.gauges import DESCRIPTIONS, LABEL, PREFIX, Gauges

SECONDS = 1.0
"""How often the gauges of steps are set."""


class RayGauges(Gauges):
    """Sets Ray's gauges; Ray must have been joined.

    Args:
        run: what the label says.
    """

    def __init__(self, run: str) -> None:
        super().__init__()
        self._tags = {LABEL: run}
        self._set_at = 0.0
        self._gauges = {
            name: Gauge(PREFIX + name, description, tag_keys=(LABEL,))
            for name, description in DESCRIPTIONS.items()
        }

    def step(self, rows: int, loss: float | None, seconds: float) -> None:
        super().step(rows, loss, seconds)
        if monotonic() - self._set_at >= SECONDS:
            self._set()

    def end_epoch(self, metrics: dict[str, Any]) -> None:
        super().end_epoch(metrics)
        self._set()

    def _set(self) -> None:
        self._set_at = monotonic()
        for name, value in self.values().items():
            self._gauges[name].set(value, self._tags)
