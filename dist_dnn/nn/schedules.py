"""The learning rate of each step."""

import math
from collections.abc import Callable

SCHEDULES = ("constant", "step", "cosine")


def make_schedule(
    name: str,
    *,
    learning_rate: float,
    steps_per_epoch: int,
    epochs: int,
    warmup_steps: int = 0,
    every: int = 10,
    factor: float = 0.5,
) -> Callable[[int], float]:
    """The schedule of a name in SCHEDULES: a function from the step, counted from 1, to its rate.

    With α = ``learning_rate``, T = ``steps_per_epoch * epochs`` steps in all, and w =
    ``warmup_steps``, the rate of step t is min(1, t/w), the linear warm-up, times

    - constant: α;
    - step: α ``factor``^k in the epochs after the first k times ``every``;
    - cosine: α ½ (1 + cos(π (t − w) / (T − w))) after the warm-up, from α to 0 at step T
      (Loshchilov and Hutter, 2017, without restarts); 0 beyond.

    Args:
        learning_rate: α, > 0.
        steps_per_epoch: at least 1.
        epochs: those of the whole schedule, which may be more than are trained now.
        warmup_steps: w >= 0; 0 is none.
        every: epochs between two drops of "step", at least 1.
        factor: what "step" multiplies the rate by, > 0.

    Raises:
        ValueError: an unknown name.
    """
    steps = steps_per_epoch * epochs

    def constant(step: int) -> float:
        return 1.0

    def drops(step: int) -> float:
        epoch = (step - 1) // steps_per_epoch
        return factor ** (epoch // every)

    def cosine(step: int) -> float:
        if step <= warmup_steps:
            return 1.0
        if step >= steps:
            return 0.0
        return (1 + math.cos(math.pi * (step - warmup_steps) / (steps - warmup_steps))) / 2

    shapes = dict(zip(SCHEDULES, (constant, drops, cosine), strict=True))
    if name not in shapes:
        raise ValueError(f"unknown schedule {name!r}; known are {', '.join(SCHEDULES)}")
    shape = shapes[name]

    def schedule(step: int) -> float:
        warmup = min(1.0, step / warmup_steps) if warmup_steps else 1.0
        return learning_rate * warmup * shape(step)

    return schedule
