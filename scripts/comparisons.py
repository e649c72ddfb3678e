"""Turns of several contenders, one after the other, and what their ratios are worth."""

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from time import sleep
from typing import Protocol

LEAST_ROUNDS = 7
"""Of so many rounds, those with the least and the greatest ratio bound an interval of 98 %."""

LEAST_STEPS = 3
"""No turn has fewer steps."""

WARM_UP_STEPS = 5
"""So many steps of a contender, in which it may compile, are not counted."""

TURN_SECONDS = 1.0
"""How long a turn is to take, whoever's it is."""

SETTLING_SECONDS = 0.1
"""The pause before a turn: threads of the contender before may still spin, waiting for work."""

CONFIDENCE = 0.95


class Contender(Protocol):
    """Somebody who makes training steps when it is his turn, and else uses no core."""

    def turn(self, steps: int) -> float:
        """Make so many steps, or a few more; returns the seconds of one on average."""


@dataclass(frozen=True)
class Estimate:
    """The median of what the rounds gave, and an interval for the true median."""

    median: float
    low: float
    high: float

    @classmethod
    def of(cls, values: Sequence[float]) -> "Estimate":
        """The interval holds the true median with a probability of at least 95 %.

        It reaches from one of the ordered values to another: each value is below the true median
        with probability ½, so that how many are has a binomial distribution, whatever that of the
        values is. Fewer than 6 values cannot give 95 %; then it reaches from the least to the
        greatest.
        """
        ordered = sorted(values)
        outside = _values_outside(len(ordered))
        low, high = ordered[outside], ordered[len(ordered) - 1 - outside]
        return cls(statistics.median(ordered), low, high)


def _values_outside(count: int) -> int:
    """How many of so many ordered values may be left out at either end of the interval."""
    outside = 0
    missed = 2 / 2**count
    while missed + 2 * math.comb(count, outside + 1) / 2**count <= 1 - CONFIDENCE:
        outside += 1
        missed += 2 * math.comb(count, outside) / 2**count
    return outside


def ratio(numerators: Sequence[float], denominators: Sequence[float]) -> Estimate:
    """The ratio of two series, round by round."""
    return Estimate.of([a / b for a, b in zip(numerators, denominators, strict=True)])


def take_turns(contenders: Sequence[Contender], rounds: int) -> list[list[float]]:
    """Let contenders take turns of about the same time, in this order and in reverse.

    Returns:
        For each of them the seconds of a step, round by round.
    """
    steps = [_steps_of_a_turn(contender) for contender in contenders]
    seconds: list[list[float]] = [[] for _ in contenders]
    order = range(len(contenders))
    for number in range(rounds):
        for which in reversed(order) if number % 2 else order:
            sleep(SETTLING_SECONDS)
            seconds[which].append(contenders[which].turn(steps[which]))
    return seconds


def _steps_of_a_turn(contender: Contender) -> int:
    """How many steps a contender makes in a turn, by ever longer measurements."""
    contender.turn(WARM_UP_STEPS)
    steps = LEAST_STEPS
    while True:
        wanted = math.ceil(TURN_SECONDS / contender.turn(steps))
        if wanted <= 10 * steps:
            return max(LEAST_STEPS, wanted)
        steps *= 10
