"""Progress: of a training a bar on a terminal, a line an epoch in a pipe, or nothing."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from dist_dnn.errors import InputError
from dist_dnn.notices import say
from dist_dnn.reporting import Progress

CHOICES = ("auto", "bar", "lines", "none")


def make_progress(choice: str) -> Progress:
    """The progress of that name; "auto" is a bar on a terminal and lines elsewhere.

    Raises:
        InputError: there is none.
    """
    if choice not in CHOICES:
        raise InputError(f"progress must be one of {', '.join(CHOICES)}, not {choice!r}")
    if choice == "auto":
        choice = "bar" if sys.stderr.isatty() else "lines"
    return {"bar": Bar, "lines": Lines, "none": Progress}[choice]()


class Lines(Progress):
    """One line an epoch, on standard error."""

    def __init__(self) -> None:
        self._epochs = 0

    def begin(self, lines: list[str]) -> None:
        for line in lines:
            say(line)

    def resume(self, step: int) -> None:
        say(f"going on after step {step}")

    def start_epoch(self, epoch: int, epochs: int, m: int, done: int) -> None:
        self._epochs = epochs

    def end_epoch(self, metrics: dict[str, Any]) -> None:
        say(describe(metrics, self._epochs))


class Bar(Lines):
    """A bar for each epoch with its loss, examples a second and time left, on standard error."""

    SECONDS = 0.2

    def __init__(self) -> None:
        super().__init__()
        self._bar: Any = None

    def start_epoch(self, epoch: int, epochs: int, m: int, done: int) -> None:
        from tqdm import tqdm

        super().start_epoch(epoch, epochs, m, done)
        self.close()  # an epoch that is begun again
        self._loss, self._rows = 0.0, 0
        self._bar = tqdm(
            total=m,
            initial=done,
            desc=f"epoch {epoch}/{epochs}",
            unit=" examples",
            unit_scale=True,
            leave=False,
            mininterval=self.SECONDS,
            dynamic_ncols=True,
        )

    def step(self, rows: int, loss: float | None, seconds: float) -> None:
        if loss is not None:
            self._loss += loss * rows
            self._rows += rows
        if self._bar.update(rows) and self._rows:
            shown = f"loss {self._loss / self._rows:.4f}"
            self._bar.set_postfix_str(shown, refresh=seconds > self.SECONDS)

    def end_epoch(self, metrics: dict[str, Any]) -> None:
        self.close()
        super().end_epoch(metrics)

    def close(self) -> None:
        if self._bar is not None:
            self._bar.close()


def describe(metrics: dict[str, Any], epochs: int) -> str:
    """An epoch's metrics as a line for people."""
    parts = [f"epoch {metrics['epoch']}/{epochs}", f"train loss {metrics['train_loss']:.4f}"]
    for name in ("validation_loss", "validation_accuracy", "validation_rmse"):
        if name in metrics:
            parts.append(f"{name.replace('_', ' ')} {metrics[name]:.4f}")
    parts.append(f"{metrics['examples_per_second']:,.0f} examples/s")
    return "  ".join(parts)


@contextmanager
def counting(rows: int, what: str) -> Iterator[Callable[[int], object]]:
    """A context that gives what to call with numbers of rows done: a bar, on a terminal only."""
    if not sys.stderr.isatty():
        yield int
        return
    from tqdm import tqdm

    with tqdm(total=rows, desc=what, unit=" rows", unit_scale=True, leave=False) as bar:
        yield bar.update
