"""How long calls take that take turns."""

import statistics
from collections.abc import Callable, Sequence
from time import perf_counter

SECONDS = 0.15
"""For so long each thing is measured, in turns."""

TURNS = 5


def timed(call: Callable[[], object]) -> Callable[[], float]:
    """What does the call, and returns its seconds."""

    def timed() -> float:
        began = perf_counter()
        call()
        return perf_counter() - began

    return timed


def after(pause: float, call: Callable[[], float]) -> Callable[[], float]:
    """What is busy for some seconds, and makes the call then."""

    def called() -> float:
        end = perf_counter() + pause
        while perf_counter() < end:
            pass
        return call()

    return called


def medians(calls: Sequence[Callable[[], float]]) -> list[float]:
    """The median seconds of each call; they take turns, after one that does not count."""
    for call in calls:
        call()
    seconds: list[list[float]] = [[] for _ in calls]
    for _ in range(TURNS):
        for call, taken in zip(calls, seconds, strict=True):
            began = perf_counter()
            while True:
                taken.append(call())
                if perf_counter() - began > SECONDS / TURNS:
                    break
    return [statistics.median(taken) for taken in seconds]
